//! What a file system is called, and where its locks are kept.

use std::fs::File;
use std::io;
use std::path::Path;

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemType {
    /// As `mount` calls it; `fuse` for all that FUSE serves, virtiofs too; `unknown`.
    pub name: &'static str,
    /// Whether this host's kernel alone decides about its locks.
    pub is_local: bool,
}

impl FileSystemType {
    /// None that we have heard of.
    pub const UNKNOWN: Self = Self { name: "unknown", is_local: false };

    /// Where an open file lies. `None` if the operating system does not tell.
    #[must_use]
    pub fn of(file: &File) -> Option<Self> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        return rustix::fs::fstatfs(file).ok().map(|found| Self::named(&found));
        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        {
            let _ = file;
            None
        }
    }

    /// Where a path lies, symbolic links followed. `None` if the operating system does not tell.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        return Ok(Some(Self::named(&rustix::fs::statfs(path)?)));
        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        {
            let _ = path;
            Ok(None)
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn named(found: &rustix::fs::StatFs) -> Self {
        // Its width and sign differ by architecture; all numbers have 32 bits.
        let number = i128::from(found.f_type) & 0xffff_ffff;
        u32::try_from(number).map_or(Self::UNKNOWN, Self::of_number)
    }

    #[cfg(target_vendor = "apple")]
    fn named(found: &rustix::fs::StatFs) -> Self {
        /// `MNT_LOCAL` of `sys/mount.h`.
        const LOCAL: u32 = 0x1000;
        let name = found.f_fstypename.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
        let name: Vec<u8> = name.collect();
        let known = ["apfs", "hfs", "nfs", "smbfs", "exfat", "msdos", "macfuse", "webdav", "afpfs", "virtiofs"];
        let name = known.into_iter().find(|known| known.as_bytes() == name).unwrap_or(Self::UNKNOWN.name);
        Self { name, is_local: found.f_flags & LOCAL != 0 }
    }

    /// By its number in `statfs(2)` of Linux.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn of_number(number: u32) -> Self {
        let named = |&&(known, _): &&(u32, &str)| known == number;
        if let Some((_, name)) = LOCAL.iter().find(named) {
            return Self { name, is_local: true };
        }
        REMOTE.iter().find(named).map_or(Self::UNKNOWN, |(_, name)| Self { name, is_local: false })
    }
}

/// From `linux/magic.h`, or the file system's own sources.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LOCAL: [(u32, &str); 16] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0x2fc1_2fc1, "zfs"),
    (0xca45_1a4e, "bcachefs"),
    (0x794c_7630, "overlay"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0xf15f, "ecryptfs"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x7366_746e, "ntfs3"),
    (0x3153_464a, "jfs"),
    (0x5265_4973, "reiserfs"),
    (0x2405_1905, "ubifs"),
];

#[cfg(any(target_os = "linux", target_os = "android"))]
const REMOTE: [(u32, &str); 13] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x517b, "smb"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7461_636f, "ocfs2"),
    (0x0116_1970, "gfs2"),
    (0x0bd0_0bd0, "lustre"),
    (0x786f_4256, "vboxsf"),
];

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_name() {
        let mut numbers: Vec<_> = LOCAL.iter().chain(&REMOTE).map(|(number, _)| number).collect();
        numbers.sort();
        let before = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), before);
    }

    #[test]
    fn only_what_this_host_alone_keeps_is_local() {
        for (number, name, is_local) in [
            (0xef53, "ext4", true),
            (0x0102_1994, "tmpfs", true),
            (0x794c_7630, "overlay", true),
            (0x6969, "nfs", false),
            (0xff53_4d42, "cifs", false),
            (0x0102_1997, "9p", false),
            (0x6573_5546, "fuse", false),
            (0x1234, "unknown", false),
        ] {
            assert_eq!(FileSystemType::of_number(number), FileSystemType { name, is_local });
        }
    }

    #[test]
    fn the_system_names_its_own() {
        let proc = File::open("/proc/self/status").expect("a file");
        assert_eq!(FileSystemType::of(&proc), Some(FileSystemType::UNKNOWN));
    }
}
