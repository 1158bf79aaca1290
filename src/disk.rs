//! The file operations of this crate, each at one place, so that tests can make any of them fail or die.
//!
//! With the `faults` feature every operation passes [`fault::point`] first; without it there is nothing to pass.

#![allow(clippy::disallowed_methods, reason = "this is the place they are disallowed in favour of")]

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
#[cfg(not(unix))]
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub mod exclusive;
#[cfg(feature = "faults")]
pub mod fault;
#[cfg(not(feature = "faults"))]
mod fault {
    #![allow(clippy::unnecessary_wraps, reason = "the real ones fail on order")]

    #[inline]
    pub(super) fn point(_operation: &str, _path: &std::path::Path) -> std::io::Result<()> {
        Ok(())
    }

    #[inline]
    pub(super) fn lock_lies() -> bool {
        false
    }

    #[inline]
    pub(super) fn write(_operation: &str, _path: &std::path::Path, bytes: usize) -> std::io::Result<usize> {
        Ok(bytes)
    }
}
use fault::point;

mod directory;
mod folder;
mod links;
mod listing;
mod lock_file;
pub mod permissions;
mod preallocated;
#[cfg(unix)]
use lock_file::of_another as misowned;
pub use lock_file::{Sharing, open_lock, open_permanent, open_to_look};
use lock_file::{misplaced, open_existing};
#[cfg(any(target_os = "linux", target_os = "android"))]
mod pinned;
mod replace;
pub use directory::{
    create_private_dir, create_private_dirs, real_directory, refuse_closed_directory, refuse_pinned_directory,
    sync_parent, take_unsynced,
};
pub use folder::{Folder, FolderIdentity};
#[cfg(unix)]
pub(crate) use links::MAX_LINKS;
pub use links::{Named, follow_links, links};
pub use listing::{is_own_file, list, open_own, own_files};
pub use permissions::Readers;
pub use preallocated::PreallocatedFile;
pub use replace::{Replaced, abandon_replacement, refuse_closed, replace, replace_in, temporary_beside, try_replace};
#[cfg(unix)]
mod rights;

/// The path of the file beside this one that has its name and this suffix.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn options() -> OpenOptions {
    #[allow(unused_mut, reason = "only Unix has flags to add")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A FIFO must not hang us; for regular files the flag means nothing. std adds CLOEXEC.
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options
}

/// An open file, and what it was when it was opened.
pub type OpenFile = (File, Metadata);

/// Opens something, again if a signal interrupts that, as it may on a network or FUSE file system. So the standard library does.
fn uninterrupted<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match open() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            opened => return opened,
        }
    }
}

/// Opens a regular file for reading, following symbolic links.
pub fn open_regular(path: &Path) -> io::Result<OpenFile> {
    open_regular_in(None, path)
}

/// The same in a directory that is held open, if it is.
#[cfg_attr(not(unix), allow(unused_variables, reason = "only Unix has names in an open directory"))]
pub fn open_regular_in(folder: Option<&Folder>, path: &Path) -> io::Result<OpenFile> {
    #[cfg(unix)]
    let open = || {
        use rustix::fs::{Mode, OFlags, openat};
        let (folder, name) = Folder::at(folder, path);
        // A FIFO must not hang us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(openat(folder, name, flags, Mode::empty())?))
    };
    #[cfg(not(unix))]
    let open = || options().read(true).open(path);
    let file = uninterrupted(|| point("open", path).and_then(|()| open()))?;
    let found = file.metadata()?;
    if found.is_file() { Ok((file, found)) } else { Err(misplaced(found.file_type())) }
}

/// Whether something is at this path, be it a dangling symbolic link.
pub fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether both are of one file, as far as the file system numbers them.
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    #[cfg(unix)]
    use std::os::unix::fs::MetadataExt;
    #[cfg(unix)]
    return (one.dev(), one.ino()) == (other.dev(), other.ino());
    #[cfg(not(unix))]
    return one.created().ok() == other.created().ok();
}

/// Whether both paths lead to one thing that is there.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    return matches!((fs::metadata(one), fs::metadata(other)), (Ok(one), Ok(other)) if is_same_file(&one, &other));
    #[cfg(not(unix))]
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Whether there is a regular file without contents.
#[must_use]
pub fn is_empty(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

/// Overwrites the start of an open lock file.
pub fn sign(file: &File, bytes: &[u8]) -> io::Result<()> {
    point("sign", Path::new("a lock file"))?;
    write_at(file, bytes, 0)
}

/// Creates an empty file, 0600, unless something is there.
pub fn create_once(path: &Path) -> io::Result<()> {
    point("create", path)?;
    match options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Whether tests make the kernel's locks exclude no process.
#[must_use]
pub fn lock_lies() -> bool {
    fault::lock_lies()
}

/// What something is that is not a file, with its article.
#[must_use]
pub fn kind_of(found: fs::FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if found.is_fifo() {
            return "a FIFO";
        } else if found.is_socket() {
            return "a socket";
        } else if found.is_block_device() || found.is_char_device() {
            return "a device";
        }
    }
    if found.is_symlink() {
        "a symbolic link"
    } else if found.is_dir() {
        "a directory"
    } else {
        "a file"
    }
}

/// Reads the whole of an open file, which was `expected` bytes long. `None` if it holds more than `limit` bytes.
pub fn read(mut file: &File, path: &Path, expected: u64, limit: u64) -> io::Result<Option<Vec<u8>>> {
    point("read", path)?;
    if expected > limit {
        return Ok(None);
    }
    let expected = usize::try_from(expected).map_err(io::Error::other)?;
    let mut bytes = vec![0; expected + 1];
    // Where a file system does not tell, there may be more than nothing.
    let found = read_up_to(&mut bytes, expected.max(1), |into, _| file.read(into))?;
    bytes.truncate(found);
    if found > expected {
        // It has grown since.
        file.take(limit + 1 - found as u64).read_to_end(&mut bytes)?;
    }
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

/// Reads bytes of an open file, fewer at its end.
pub fn read_at(file: &File, path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    point("read", path)?;
    let mut bytes = vec![0; length];
    let found = read_up_to(&mut bytes, length, |into, from| read_some_at(file, into, offset + from as u64))?;
    bytes.truncate(found);
    Ok(bytes)
}

/// The start of an open lock file, as [`sign`] writes it.
pub fn signature(file: &File, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let found = read_some_at(file, &mut bytes, 0)?;
    bytes.truncate(found);
    Ok(bytes)
}

/// Reads until there are `enough` bytes, or no more. Says how many.
fn read_up_to(
    bytes: &mut [u8],
    enough: usize,
    mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut found = 0;
    while found < enough {
        match read(&mut bytes[found..], found) {
            Ok(0) => break,
            Ok(more) => found += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(unix)]
fn read_some_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, into, offset)
}

#[cfg(not(unix))]
fn read_some_at(mut file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek(SeekFrom::Start(offset))?;
    file.read(into)
}

/// Removes a file; one that is not there is removed already.
pub fn remove(path: &Path) -> io::Result<()> {
    remove_in(None, path)
}

#[cfg_attr(not(unix), allow(unused_variables, reason = "only Unix has names in an open directory"))]
fn remove_in(folder: Option<&Folder>, path: &Path) -> io::Result<()> {
    point("unlink", path)?;
    #[cfg(unix)]
    let removed = {
        let (folder, name) = Folder::at(folder, path);
        rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::empty()).map_err(io::Error::from)
    };
    #[cfg(not(unix))]
    let removed = fs::remove_file(path);
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What tells a file from another that takes its name later.
pub type Identity = (u64, SystemTime);

/// What is at this path now; `None` if nothing is.
#[must_use]
pub fn identity_of(path: &Path) -> Option<Identity> {
    let found = fs::symlink_metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&found);
    #[cfg(not(unix))]
    let inode = found.len();
    Some((inode, found.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
}

/// Empties a file of ours that stays where it is.
pub fn empty(path: &Path) -> io::Result<()> {
    point("truncate", path)?;
    open_permanent(path)?.0.set_len(0)
}
