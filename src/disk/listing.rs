//! What lies in a directory, and which of it is this user's.

#[cfg(unix)]
use super::uninterrupted;
use super::{options, point};
#[cfg(unix)]
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// Opens a regular file of this user for reading. `None` if there is none, or something else.
pub fn open_own(path: &Path) -> io::Result<Option<File>> {
    point("open", path)?;
    let mut options = options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        options.custom_flags(flags.bits().cast_signed());
    }
    match options.read(true).open(path) {
        Ok(file) => Ok(is_own(&file.metadata()?).then_some(file)),
        Err(_) if !is_own_file(path) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The regular files of this user in a directory that are wanted. A file that is gone by the time we look is left out.
pub fn own_files(directory: &Path, is_wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    list(directory, |path| is_wanted(path) && is_own_file(path))
}

/// What is in a directory and wanted, by its path.
pub fn list(directory: &Path, is_wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    point("list", directory)?;
    let names = names(directory)?;
    Ok(names.into_iter().map(|name| directory.join(name)).filter(|path| is_wanted(path)).collect())
}

#[cfg(unix)]
fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    use rustix::fs::{Dir, Mode, OFlags, open};
    use std::os::unix::ffi::OsStrExt;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = Dir::new(uninterrupted(|| Ok(open(directory, flags, Mode::empty())?))?)?;
    let name = |entry: rustix::io::Result<rustix::fs::DirEntry>| {
        Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned())
    };
    entries.map(name).filter(|name| !matches!(name, Ok(name) if name == "." || name == "..")).collect()
}

#[cfg(not(unix))]
fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Whether there is a regular file of this user.
#[must_use]
pub fn is_own_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| is_own(&found))
}

fn is_own(found: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        found.is_file() && found.uid() == crate::process::user()
    }
    #[cfg(not(unix))]
    found.is_file()
}
