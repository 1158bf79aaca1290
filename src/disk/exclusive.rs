//! Small files that exclude by their existence: made in one step by one process, read and removed without following links.

use super::fault::{self, point};
#[cfg(unix)]
use super::misowned;
use super::{Sharing, is_same_file, open_existing, write_at};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Creates a file, 0600 (0660 if it is shared) whatever the umask, with these bytes. `false` if something is there. A file that
/// can't be written to its end is removed again: half of it may name this process, and other programs would respect it.
pub fn create(path: &Path, bytes: &[u8], sharing: Sharing) -> io::Result<bool> {
    point("create", path)?;
    let file = match super::options().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    };
    let filled = fill(file, path, bytes, sharing);
    if filled.is_err() {
        let _ = super::remove(path);
    }
    filled.map(|()| true)
}

#[cfg_attr(not(unix), allow(unused_variables, reason = "only Unix has modes to set"))]
fn fill(mut file: File, path: &Path, bytes: &[u8], sharing: Sharing) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(sharing.mode()))?;
    }
    let allowed = fault::write("write", path, bytes.len())?;
    file.write_all(&bytes[..allowed])?;
    if allowed < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// A file of ours that is kept for its next use.
#[derive(Debug)]
pub struct Kept {
    found: Metadata,
    /// While it is open, no other file has its number.
    _file: File,
}

impl Kept {
    /// Overwrites the file at `path`, which is there; only the caller uses it now. One of another user's, which this user may not be
    /// able to rename, is refused.
    pub fn overwrite(path: &Path, bytes: &[u8], sharing: Sharing) -> io::Result<Self> {
        let (file, found) = open_existing(path, sharing)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            if found.uid() != crate::process::user() {
                return Err(misowned(found.uid()));
            }
        }
        let allowed = fault::write("write", path, bytes.len())?;
        write_at(&file, &bytes[..allowed], 0)?;
        if allowed < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if found.len() > bytes.len() as u64 {
            file.set_len(bytes.len() as u64)?;
        }
        Ok(Self { found, _file: file })
    }

    /// Whether the file at this path is it, for sure.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        cfg!(unix) && fs::symlink_metadata(path).is_ok_and(|there| is_same_file(&there, &self.found))
    }
}

/// Moves a file, in the place of another.
pub fn put_back(from: &Path, to: &Path) -> io::Result<()> {
    point("put-back", to)?;
    fs::rename(from, to)
}

/// What became of a file that was to get a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// It has that name, and no other.
    Moved,
    /// It has that name, or another file has it, or it was removed: the caller looks whose file it is. It may have kept its first
    /// name as well.
    Unknown,
    /// This file system has no such step.
    Unsupported,
}

/// Gives the file at `from` the name `to`, in one step, unless something has it.
pub fn place(from: &Path, to: &Path) -> io::Result<Placement> {
    let moved = point("link", to).and_then(|()| rename(from, to)).map(|()| Placement::Moved);
    match moved.or_else(|error| {
        let is_unknown = is_unsupported(&error) || error.kind() == io::ErrorKind::InvalidInput;
        if is_unknown { fs::hard_link(from, to).map(|()| Placement::Unknown) } else { Err(error) }
    }) {
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            Ok(Placement::Unknown)
        }
        Err(error) if is_unsupported(&error) => Ok(Placement::Unsupported),
        placed => placed,
    }
}

/// It costs half as much as a second name and the removal of the first.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename(_from: &Path, _to: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // ENOTSUP is another number than EOPNOTSUPP on macOS; EACCES is Android's, in a directory that took the first file.
    let unsupported = [Errno::PERM, Errno::ACCESS, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK];
    Errno::from_io_error(error).is_some_and(|errno| unsupported.contains(&errno))
}

#[cfg(not(unix))]
fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
}

/// Reads the first bytes of a regular file, `limit` at most; a symbolic link is not followed. `None` if nothing is there.
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    point("open", path)?;
    let opened = refuse_others(path).and_then(|()| open(path));
    match opened {
        Ok((file, length)) => contents(&file, path, length.min(limit)).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks at what it is before it is opened: to open a device does something, and a failure to open a link says little.
fn refuse_others(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?.file_type();
    if found.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {}, not a file; remove it", super::kind_of(found))))
}

/// Whether a file that was just seen to be one still has these bytes.
pub fn holds(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    point("open", path)?;
    match open(path) {
        Ok((file, length)) if length == bytes.len() as u64 => Ok(contents(&file, path, length)? == bytes),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// So many bytes of a file, or all if it has become shorter.
fn contents(file: &File, path: &Path, length: u64) -> io::Result<Vec<u8>> {
    point("read", path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The file, and how long it is.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.read(true).open(path)?;
    let found = file.metadata()?;
    if found.is_file() { Ok((file, found.len())) } else { Err(super::misplaced(found.file_type())) }
}

/// Makes a directory, whose maker alone may reclaim for a moment. `false` if something is there.
pub fn make_dir(path: &Path) -> io::Result<bool> {
    point("mkdir", path)?;
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes an empty directory; one that is not there is removed already.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    point("rmdir", path)?;
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
