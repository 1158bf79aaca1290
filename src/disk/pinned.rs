//! Files that can be written to and can't be replaced: mount points, and what is append-only or immutable.

use rustix::fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags, statx};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the directory of a file is called.
pub(super) const DIRECTORY: &str = "its directory";

/// Refuses a file that can't be replaced.
pub(super) fn refuse(path: &Path, file: Attributes) -> io::Result<()> {
    if file.mount_point.unwrap_or_else(|| is_mount_point(path)) {
        return Err(refused(
            "this file is a mount point by itself, so it can't be replaced, and other mounts of it don't share our locks; \
             mount its directory, or the whole state directory",
        ));
    }
    file.refuse("it")
}

/// Refuses a directory that keeps what is in it.
pub(super) fn refuse_directory(path: &Path) -> io::Result<()> {
    Attributes::of(path).refuse("it")
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes {
    /// `None` if the kernel is older than 5.8, which does not tell; or if nothing is there.
    mount_point: Option<bool>,
    append_only: bool,
    immutable: bool,
}

impl Attributes {
    fn of(path: &Path) -> Self {
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
        found.map_or_else(|_| Self::default(), |found| Self::new(&found))
    }

    pub(super) fn new(found: &Statx) -> Self {
        let has = |attribute| found.stx_attributes.contains(attribute);
        let is_told = found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
        Self {
            mount_point: is_told.then(|| has(StatxAttributes::MOUNT_ROOT)),
            append_only: has(StatxAttributes::APPEND),
            immutable: has(StatxAttributes::IMMUTABLE),
        }
    }

    pub(super) fn refuse(self, what: &str) -> io::Result<()> {
        match self {
            Self { immutable: true, .. } => Err(refused(&format!("{what} is immutable; run chattr -i on {what}"))),
            Self { append_only: true, .. } => Err(refused(&format!("{what} is append-only; run chattr -a on {what}"))),
            _ => Ok(()),
        }
    }
}

/// The same, by the list of mounts.
fn is_mount_point(path: &Path) -> bool {
    let Ok(mounts) = fs::read("/proc/self/mountinfo") else { return false };
    let canonical = path.canonicalize();
    canonical.is_ok_and(|path| is_mounted(&mounts, path.as_os_str().as_bytes()))
}

/// Whether the list has this path: in the fifth field, where blanks, line ends and backslashes stand as octal numbers.
fn is_mounted(mounts: &[u8], path: &[u8]) -> bool {
    let mut field = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => field.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            byte => field.push(*byte),
        }
    }
    mounts.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(&field))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_mounts_names_a_mount_point_however_it_is_spelled() {
        let mounts =
            b"36 35 98:0 /mnt1 /a/b rw - ext3 /dev/root rw\n37 35 98:0 /x /a\\040b\\134c rw - ext3 /dev/root rw\n";
        for (path, expected) in [(&b"/a/b"[..], true), (b"/a b\\c", true), (b"/a", false), (b"/mnt1", false)] {
            assert_eq!(is_mounted(mounts, path), expected, "{}", String::from_utf8_lossy(path));
        }
        assert!(is_mount_point(Path::new("/proc")));
    }
}
