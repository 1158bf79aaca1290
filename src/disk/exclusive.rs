//! Small files that exclude by their existence: made in one step by one process, read and removed without following links.

use super::Sharing;
use super::fault::{self, point};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Creates a file, 0600 (0660 if it is shared) whatever the umask, with these bytes. `false` if something is there. One that
/// can't be written to its end is removed again: half of it may name this process, and so be respected.
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

/// Gives the file at `from` a second name, in one step, unless something has that name. `false` if this file system knows
/// no second names.
pub fn link(from: &Path, to: &Path) -> io::Result<bool> {
    match point("link", to).and_then(|()| fs::hard_link(from, to)) {
        Ok(()) => Ok(true),
        // Somebody has that name, or has removed the first one: the caller looks whose file it is.
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Ok(true),
        Err(error) if is_unsupported(&error) => Ok(false),
        Err(error) => Err(error),
    }
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
    match open(path) {
        Ok(file) => super::read_start(&file, path, limit).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Told by what it is, since opening a link or a device says little, or does something.
    let found = fs::symlink_metadata(path)?.file_type();
    if !found.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {}, not a file; remove it", super::kind_of(found)),
        ));
    }
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        options.custom_flags(flags.bits().cast_signed());
    }
    super::regular(options.read(true).open(path)?)
}

/// Makes a directory, which stands for a short right. `false` if something is there.
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
