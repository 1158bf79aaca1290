//! Replacing a file in one step, and finding out beforehand whether that can be done.

use super::fault::{self, point};
#[cfg(not(unix))]
use super::options;
#[cfg(unix)]
use super::rights::Rights;
use super::{Folder, OpenFile, Readers, is_same_file, remove, remove_in, uninterrupted};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait before a refused rename is tried again; doubled each time, up to a second in all.
const FIRST_RENAME_PAUSE: Duration = Duration::from_millis(4);
const LAST_RENAME_PAUSE: Duration = Duration::from_millis(512);

/// A file that has taken another's place. After a power cut the other may be there again, until its directory is synced:
/// [`super::sync_parent`].
#[derive(Debug)]
#[must_use = "its directory is not synced yet"]
pub struct Replaced {
    found: Metadata,
    /// While it is open, no other file has its number.
    _file: File,
}

impl Replaced {
    /// Whether the file at this path is still the one that was put there, unchanged.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let Ok(there) = fs::metadata(path) else { return false };
        let is_as_written = there.len() == self.found.len() && there.modified().ok() == self.found.modified().ok();
        is_as_written && is_same_file(&there, &self.found)
    }
}

/// Replaces the file at `path` in one step: a reader sees the old bytes or the new ones, and a power cut too.
///
/// `path` must not be a symbolic link. A file that is replaced must be this user's; a new one gets 0600. `replaced` is that file if
/// the caller had it open. The caller holds this term of the lock that makes it the only writer, so the temporary file beside it has
/// a fixed name, and one left by a death is replaced. Before it takes its place, `may_go_on` is asked whether a later term has begun.
pub fn replace(
    path: &Path,
    replaced: Option<OpenFile>,
    term: u32,
    bytes: &[u8],
    readers: Readers,
    may_go_on: impl FnOnce() -> bool,
) -> io::Result<Replaced> {
    replace_in(None, path, replaced, term, bytes, readers, may_go_on)
}

/// The same in a directory that is held open, if it is.
pub fn replace_in(
    folder: Option<&Folder>,
    path: &Path,
    replaced: Option<OpenFile>,
    term: u32,
    bytes: &[u8],
    readers: Readers,
    may_go_on: impl FnOnce() -> bool,
) -> io::Result<Replaced> {
    let temporary = temporary_beside(path, term);
    let written = write_temporary(folder, &temporary, path, replaced, bytes, readers).and_then(|file| {
        if may_go_on() {
            let found = file.metadata()?;
            return rename(folder, &temporary, path).map(|()| Replaced { found, _file: file });
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "this process was stuck, and another has taken over"))
    });
    if written.is_err() {
        let _ = remove_in(folder, &temporary);
    }
    written
}

/// Makes sure that a replacement begun in an earlier term never takes place.
pub fn abandon_replacement(path: &Path, term: u32) -> io::Result<()> {
    remove(&temporary_beside(path, term))
}

/// Refuses a file that may not be written to, or a directory that takes no new file, as far as that can be told by looking.
/// `folder` is that directory, if it is there.
#[cfg_attr(not(unix), allow(unused_variables, reason = "only Unix has rights to look at"))]
pub fn refuse_closed(folder: Option<&Folder>, path: &Path) -> io::Result<()> {
    point("probe", path)?;
    #[cfg(unix)]
    {
        use rustix::fs::{Access, AtFlags, accessat};
        let may = |path, rights| {
            let (folder, name) = Folder::at(folder, path);
            accessat(folder, name, rights, AtFlags::empty())
        };
        match may(path, Access::WRITE_OK) {
            // It is made when it is written.
            Err(rustix::io::Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        let parent = path.parent().filter(|_| folder.is_some());
        let directory = parent.or_else(|| path.ancestors().skip(1).find(|directory| directory.exists()));
        if let Some(directory) = directory {
            may(directory, Access::WRITE_OK | Access::EXEC_OK)?;
        }
    }
    Ok(())
}

/// Tests whether so many bytes fit beside `path` as [`replace_in`] would put them there, and removes them again. The caller holds
/// this term of its lock.
pub fn try_replace(folder: Option<&Folder>, path: &Path, term: u32, bytes: u64) -> io::Result<()> {
    if folder.is_none() && !path.parent().is_some_and(Path::exists) {
        return Ok(());
    }
    let temporary = temporary_beside(path, term);
    let tried = create_temporary(folder, &temporary).and_then(|file| reserve(file, &temporary, bytes));
    let removed = remove_in(folder, &temporary);
    tried.and(removed)
}

/// Reserves the space of so many bytes; where the file system can't, by writing them.
fn reserve(file: File, path: &Path, bytes: u64) -> io::Result<()> {
    point("reserve", path)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            reserved => return Ok(reserved?),
        }
    }
    fill(file, path, bytes)
}

/// Writes so many bytes that can't be skipped or compressed, and syncs them: only then does a file system ask its server for
/// room.
fn fill(mut file: File, path: &Path, bytes: u64) -> io::Result<()> {
    let mut noise = [0; 4096];
    let mut left = usize::try_from(bytes).map_err(io::Error::other)?;
    while left > 0 {
        let length = left.min(noise.len());
        getrandom::fill(&mut noise[..length]).map_err(|error| io::Error::other(error.to_string()))?;
        file.write_all(&noise[..length])?;
        left -= length;
    }
    point("sync-reserve", path)?;
    file.sync_data()
}

/// Renames, again and again for a while where another program that has the file open makes it fail (Windows).
#[cfg_attr(not(unix), allow(unused_variables, reason = "only Unix has names in an open directory"))]
fn rename(folder: Option<&Folder>, from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(unix)]
    let rename = || {
        let ((old, from), (new, to)) = (Folder::at(folder, from), Folder::at(folder, to));
        rustix::fs::renameat(old, from, new, to).map_err(io::Error::from)
    };
    #[cfg(not(unix))]
    let rename = || fs::rename(from, to);
    let mut pause = FIRST_RENAME_PAUSE;
    loop {
        let error = match point("rename", to).and_then(|()| rename()) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if !is_busy(&error) || pause > LAST_RENAME_PAUSE {
            return Err(error);
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
}

/// Whether another program has the file open, in a way that keeps us from it for a while.
fn is_busy(error: &io::Error) -> bool {
    /// Windows: `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION`, `ERROR_LOCK_VIOLATION`.
    const BUSY: [i32; 3] = [5, 32, 33];
    let is_held = cfg!(windows) && error.raw_os_error().is_some_and(|code| BUSY.contains(&code));
    is_held || error.kind() == io::ErrorKind::ResourceBusy
}

/// The temporary file by which [`replace`] writes.
#[must_use]
pub fn temporary_beside(path: &Path, term: u32) -> PathBuf {
    let term = if term == 0 { String::new() } else { format!(".t{term}") };
    super::with_suffix(path, &format!(".oauth-refresh-lock{term}.tmp"))
}

/// No other user can open it yet, and no directory's default list of rights gives others any.
fn create_temporary(folder: Option<&Folder>, temporary: &Path) -> io::Result<File> {
    let create = || uninterrupted(|| point("create", temporary).and_then(|()| create_in(folder, temporary)));
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_in(folder, temporary)?;
            create()
        }
        created => created,
    }
}

#[cfg(unix)]
fn create_in(folder: Option<&Folder>, path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};
    let (folder, name) = Folder::at(folder, path);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

#[cfg(not(unix))]
fn create_in(_folder: Option<&Folder>, path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).open(path)
}

#[cfg_attr(not(unix), allow(unused_variables, reason = "only Unix has rights to give"))]
fn write_temporary(
    folder: Option<&Folder>,
    temporary: &Path,
    path: &Path,
    replaced: Option<OpenFile>,
    bytes: &[u8],
    readers: Readers,
) -> io::Result<File> {
    let mut file = create_temporary(folder, temporary)?;
    #[cfg(unix)]
    {
        let rights = match replaced {
            Some((file, found)) => Rights::of_file(&file, found)?,
            None => Rights::of(path)?,
        };
        point("chmod", temporary)?;
        // Before it holds anything: a process that opens it now can read it later.
        rights.give(&file, readers)?;
    }
    let allowed = fault::write("write", temporary, bytes.len())?;
    file.write_all(&bytes[..allowed])?;
    if allowed < bytes.len() {
        return Err(io::ErrorKind::StorageFull.into());
    }
    point("sync", temporary)?;
    file.sync_all()?;
    Ok(file)
}

#[cfg(all(test, feature = "faults"))]
mod tests {
    use super::*;
    use crate::disk::fault::{Fault, on_this_thread};

    #[test]
    fn space_that_cannot_be_promised_is_taken_up_by_bytes_that_no_file_system_leaves_out() {
        const BYTES: usize = 10_000;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("filled");
        let take = || fill(File::create(&path).expect("made"), &path, BYTES as u64);
        take().expect("filled");
        let bytes = fs::read(&path).expect("read");
        assert_eq!(bytes.len(), BYTES);
        for block in bytes.chunks(4096) {
            let values: std::collections::BTreeSet<_> = block.iter().collect();
            assert!(values.len() > 200, "{}", values.len());
        }
        // As NFS does, which has promised nothing until then.
        let (full, operations) = on_this_thread(Some((1, Fault::Errno(28))), take);
        assert_eq!((full.expect_err("full").kind(), operations), (io::ErrorKind::StorageFull, 1));
    }
}
