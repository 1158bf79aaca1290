//! Replacing a file in one step, and finding out beforehand whether that can be done.

use super::fault::{self, point};
#[cfg(unix)]
use super::rights::Rights;
use super::{Readers, is_same_file, options, remove};
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
/// the caller has it open. The caller holds this term of the lock that makes it the only writer, so the temporary file beside it has
/// a fixed name, and one left by a death is replaced. Before it takes its place, `may_go_on` is asked whether a later term has begun.
pub fn replace(
    path: &Path,
    replaced: Option<&File>,
    term: u32,
    bytes: &[u8],
    readers: Readers,
    may_go_on: impl FnOnce() -> bool,
) -> io::Result<Replaced> {
    let temporary = temporary_beside(path, term);
    let written = write_temporary(&temporary, path, replaced, bytes, readers).and_then(|file| {
        if may_go_on() {
            let found = file.metadata()?;
            return rename(&temporary, path).map(|()| Replaced { found, _file: file });
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "this process was stuck, and another has taken over"))
    });
    if written.is_err() {
        let _ = remove(&temporary);
    }
    written
}

/// Makes sure that a replacement begun in an earlier term never takes place.
pub fn abandon_replacement(path: &Path, term: u32) -> io::Result<()> {
    remove(&temporary_beside(path, term))
}

/// Refuses a file that may be written to and can't be replaced, or a directory that keeps what is in it: locks and temporary
/// files could not be removed from there.
pub fn refuse_pinned(path: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    super::pinned::refuse(path, path.parent())?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = path;
    Ok(())
}

/// Refuses a file that may not be written to, or a directory that takes no new file, as far as that can be told by looking.
pub fn refuse_closed(path: &Path) -> io::Result<()> {
    point("probe", path)?;
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        let directory = path.ancestors().skip(1).find(|directory| directory.exists());
        match access(path, Access::WRITE_OK) {
            // It is made when it is written.
            Err(rustix::io::Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(directory) = directory {
            access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
        }
    }
    Ok(())
}

/// Tests whether so many bytes fit beside `path`, as [`replace`] would put them there, and removes them again. The caller holds
/// this term of its lock.
pub fn try_replace(path: &Path, term: u32, bytes: u64) -> io::Result<()> {
    if !path.parent().is_some_and(Path::exists) {
        return Ok(());
    }
    let temporary = temporary_beside(path, term);
    let tried = create_temporary(&temporary).and_then(|file| reserve(file, &temporary, bytes));
    let removed = remove(&temporary);
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
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let mut pause = FIRST_RENAME_PAUSE;
    loop {
        let error = match point("rename", to).and_then(|()| fs::rename(from, to)) {
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
fn create_temporary(temporary: &Path) -> io::Result<File> {
    let create = || {
        point("create", temporary)?;
        options().write(true).create_new(true).open(temporary)
    };
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove(temporary)?;
            create()
        }
        created => created,
    }
}

#[cfg_attr(not(unix), allow(unused_variables, reason = "only Unix has rights to give"))]
fn write_temporary(
    temporary: &Path,
    path: &Path,
    replaced: Option<&File>,
    bytes: &[u8],
    readers: Readers,
) -> io::Result<File> {
    let mut file = create_temporary(temporary)?;
    #[cfg(unix)]
    {
        let rights = match replaced {
            Some(file) => Rights::of_file(file)?,
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
