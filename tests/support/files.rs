//! Files: put, looked at, and compared to how they were.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Puts something in a place.
pub type Make = fn(&Path);

/// Writes a file in place, with the directories it needs.
pub fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).unwrap();
    }
    File::create(path).unwrap().write_all(bytes.as_ref()).unwrap();
}

pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The permission bits.
#[cfg(unix)]
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
pub fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).unwrap().ino()
}

#[cfg(unix)]
pub fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[cfg(unix)]
pub fn link(path: &Path, target: impl AsRef<Path>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(target, path).unwrap();
}

/// All there is to see of a file. Two equal ones mean that nobody has even rewritten it.
#[cfg(unix)]
#[derive(Debug, PartialEq)]
pub struct Seen {
    kind: fs::FileType,
    inode: u64,
    mode: u32,
    owner: u32,
    modified: (i64, i64),
    len: u64,
    target: Option<PathBuf>,
    bytes: Option<Vec<u8>>,
}

/// Everything in and under a directory.
#[cfg(unix)]
pub fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Seen> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        // Reading a huge file or a FIFO would take too long; its time of modification tells as well.
        let is_small = metadata.is_file() && metadata.len() < 1 << 20;
        let of_file = Seen {
            kind: metadata.file_type(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            owner: metadata.uid(),
            // A lock file that came and went shows in its directory's times.
            modified: if metadata.is_dir() { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) },
            len: if metadata.is_dir() { 0 } else { metadata.len() },
            target: fs::read_link(&path).ok(),
            bytes: is_small.then(|| fs::read(&path).ok()).flatten(),
        };
        seen.insert(path, of_file);
    }
    seen
}

/// The names in a directory; none if there is no such directory.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}
