//! Directories: made, refused, and synced.

use super::point;
use std::collections::BTreeSet;
use std::fs;
#[cfg(unix)]
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Creates the directory and its missing parents, 0700 each, whatever the umask.
pub fn create_private_dirs(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_private_dirs(parent)?;
    }
    create_private_dir(path)
}

/// Creates one directory, 0700, whatever the umask. If something is there, it is left alone: it may be a directory that
/// another process was faster to make, and its next use will tell.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    point("mkdir", path)?;
    #[allow(unused_mut, reason = "only Unix has modes to set")]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        // From the start, so that it is never open to others.
        builder.mode(0o700);
    }
    match builder.create(path) {
        Ok(()) => {
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                // The umask takes bits away, and a directory above may have given its set-group-id bit.
                if fs::symlink_metadata(path)?.permissions().mode() & 0o7777 != 0o700 {
                    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
                }
            }
            // What is put into it survives a power cut only if it does.
            sync_parent(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The path of a directory, without symbolic links. The kernel tells it in a few calls, however deep it lies, where it shows the
/// process's own files.
pub fn real_directory(path: &Path) -> io::Result<PathBuf> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(real) = told_by_proc(path) {
        return Ok(real);
    }
    path.canonicalize()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn told_by_proc(path: &Path) -> Option<PathBuf> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    told_of(&File::from(open(path, flags, Mode::empty()).ok()?))
}

/// The path of an open directory.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn told_of(directory: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    let told = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
    // One that was removed, or lies beyond what the process can reach, is marked: for the ordinary way to tell.
    (told.is_absolute() && !told.as_os_str().as_encoded_bytes().ends_with(b"(deleted)")).then_some(told)
}

/// Refuses a directory that keeps what is in it: no file could be removed from there.
pub fn refuse_pinned_directory(path: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    super::pinned::refuse_directory(path)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = path;
    Ok(())
}

/// Refuses a directory that this process may not list, or not put files into.
pub fn refuse_closed_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Makes durable that `path` was made in its directory, or took its place there. Where directories can't be synced, as on some
/// network and FUSE file systems, it is as durable as the file system makes it; [`take_unsynced`] tells so once. A failed sync
/// is an error.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        return synced(parent, || File::open(parent)?.sync_all());
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// What came of syncing this directory.
#[cfg(unix)]
pub(super) fn synced(directory: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match point("sync-dir", directory).and_then(|()| sync()) {
        Err(error) if is_not_for_directories(&error) => {
            found_unsynced(directory);
            Ok(())
        }
        done => done,
    }
}

/// Whether an `fsync` was refused, rather than tried and failed; or the opening for it, of a directory that may only be written.
#[cfg(unix)]
fn is_not_for_directories(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [Errno::ACCESS, Errno::INVAL, Errno::BADF, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS];
    error.raw_os_error().is_some_and(|code| refusals.iter().any(|refusal| refusal.raw_os_error() == code))
}

/// Directories that can't be synced, of each file system the first.
struct Unsynced {
    /// Devices.
    known: BTreeSet<u64>,
    untold: Vec<PathBuf>,
}

#[cfg(unix)]
fn found_unsynced(directory: &Path) {
    // Asked before we lock: it may take its time, and Node's thread waits for this lock.
    let device = fs::metadata(directory).map_or(0, |found| std::os::unix::fs::MetadataExt::dev(&found));
    let mut unsynced = unsynced();
    if unsynced.known.insert(device) {
        unsynced.untold.push(directory.to_owned());
    }
}

static UNSYNCED: Mutex<Unsynced> = Mutex::new(Unsynced { known: BTreeSet::new(), untold: Vec::new() });

fn unsynced() -> MutexGuard<'static, Unsynced> {
    UNSYNCED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directories that turned out not to be synced, of each file system one, told once in a process.
#[must_use]
pub fn take_unsynced() -> Vec<PathBuf> {
    std::mem::take(&mut unsynced().untold)
}
