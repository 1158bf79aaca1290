//! The kernel lock on a lock file.
//!
//! | | |
//! |---|---|
//! | Linux, macOS, BSD | `flock(2)`: held by the open file, so threads of one process exclude each other too; released by the kernel when the holder dies |
//! | Windows | `LockFileEx` on a byte far behind the record, as locked bytes can't be read; released when the handle is closed, which at a process's death may lag |
//! | NFS, SMB, virtiofs | as good as the file system's own `flock` |
//!
//! The file is created once and never unlinked, truncated or replaced: a lock on a path that can change its file
//! excludes no other. It is closed on exec, so no child inherits the lock. No other module takes kernel locks.

#![allow(clippy::disallowed_methods, reason = "this is the place they are disallowed in favour of")]

use crate::disk::{self, Sharing};
use crate::error::{Code, Error, Result};
use crate::lock::file_system::{self, LockLayer, Trust, Warning};
use crate::lock::holder::{Holder, LockFileContents};
use crate::lock::private_dir;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The kernel's locks, as this host has them.
struct Kernel;

impl LockLayer for Kernel {
    fn try_lock(&self, file: &File) -> io::Result<bool> {
        if disk::lock_lies() {
            return Ok(true);
        }
        system::try_lock(file)
    }
}

#[cfg(unix)]
mod system {
    use fs4::{FileExt, TryLockError};
    use std::fs::File;
    use std::io;

    pub(super) fn try_lock(file: &File) -> io::Result<bool> {
        match FileExt::try_lock(file) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn lock(file: &File) -> io::Result<()> {
        FileExt::lock(file)
    }

    pub(super) fn await_free(file: &File) -> io::Result<()> {
        FileExt::lock_shared(file).and_then(|()| FileExt::unlock(file))
    }

    pub(super) fn is_free(file: &File) -> io::Result<bool> {
        match FileExt::try_lock_shared(file) {
            Ok(()) => FileExt::unlock(file).map(|()| true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(windows)]
mod system {
    use file_guard::Lock;
    use std::fs::File;
    use std::io;
    use std::mem;

    /// The byte that is locked; there need not be one.
    const AT: usize = 1 << 30;

    pub(super) fn try_lock(file: &File) -> io::Result<bool> {
        match file_guard::try_lock(file, Lock::Exclusive, AT, 1) {
            Ok(guard) => {
                // Held until the file is closed.
                mem::forget(guard);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn lock(file: &File) -> io::Result<()> {
        file_guard::lock(file, Lock::Exclusive, AT, 1).map(mem::forget)
    }

    pub(super) fn await_free(file: &File) -> io::Result<()> {
        file_guard::lock(file, Lock::Shared, AT, 1).map(drop)
    }

    pub(super) fn is_free(file: &File) -> io::Result<bool> {
        match file_guard::try_lock(file, Lock::Shared, AT, 1) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The kernel lock, held. Dropping it closes the file, and that releases the lock.
#[derive(Debug)]
pub(super) struct KernelLock {
    file: File,
    sharing: Sharing,
    excludes: bool,
    is_local: bool,
    /// What was in the file before we signed it.
    found: OnceLock<LockFileContents>,
}

/// Warnings not told yet. The first user of a directory may have had to wait, and held nothing.
static UNTOLD: Mutex<Vec<Warning>> = Mutex::new(Vec::new());

fn untold() -> MutexGuard<'static, Vec<Warning>> {
    UNTOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What people should know of this directory's file system, told once.
pub(super) fn take_warning(directory: &Path) -> Option<Warning> {
    let mut untold = untold();
    let at = untold.iter().position(|warning| warning.path == directory)?;
    Some(untold.remove(at))
}

impl KernelLock {
    /// Takes the lock if it is free. Where the kernel's locks exclude no process, or don't exist, it always is.
    pub(super) fn try_take(path: &Path) -> Result<Option<Self>> {
        let lock = Self::open(path)?;
        if !lock.excludes {
            return Ok(Some(lock));
        }
        let taken = Kernel.try_lock(&lock.file).map_err(|error| unusable(path, &error))?;
        Ok(taken.then_some(lock))
    }

    /// Takes the lock, sleeping in the kernel until it is free.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let lock = Self::open(path)?;
        if lock.excludes {
            patiently(|| system::lock(&lock.file)).map_err(|error| unusable(path, &error))?;
        }
        Ok(lock)
    }

    /// Sleeps in the kernel until the lock is free: all that wait so wake up at once. `false` where the kernel's locks exclude no
    /// process.
    pub(super) fn await_free(path: &Path) -> Result<bool> {
        let lock = Self::open(path)?;
        if lock.excludes {
            patiently(|| system::await_free(&lock.file)).map_err(|error| unusable(path, &error))?;
        }
        Ok(lock.excludes)
    }

    fn open(path: &Path) -> Result<Self> {
        let parent = path.parent().unwrap_or(path);
        let directory = private_dir::check(parent)?;
        let file = private_dir::open(path, directory)?;
        let probe = file_system::probe(parent, directory, &Kernel)?;
        let excludes = probe.trust == Trust::Kernel;
        let is_local = probe.file_system.is_some_and(|file_system| file_system.is_local);
        untold().extend(probe.warning);
        Ok(Self { file, sharing: directory.sharing, excludes, is_local, found: OnceLock::new() })
    }

    /// Which users use the lock files of this directory.
    pub(super) fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Whether it excludes other processes, as far as the probe of its file system could tell.
    pub(super) fn excludes(&self) -> bool {
        self.excludes
    }

    /// Whether no process on this host or another can hold it beside us, for sure.
    pub(super) fn is_sole(&self) -> bool {
        self.excludes && self.is_local
    }

    /// Writes the holder into the lock file: for people, and for the age of an owner that is stuck.
    pub(super) fn sign(&self, holder: &Holder) -> io::Result<()> {
        match self.found.get_or_init(|| LockFileContents::in_file(&self.file)) {
            LockFileContents::Contents => Ok(()),
            LockFileContents::Nothing | LockFileContents::Record(_) => holder.write(&self.file),
        }
    }

    /// The holder before us, which holds the lock no more.
    pub(super) fn predecessor(&self) -> Option<&Holder> {
        match self.found.get()? {
            LockFileContents::Record(holder) if self.excludes => Some(holder),
            _ => None,
        }
    }
}

/// Whether no process holds the exclusive lock on an open lock file, by taking the shared one for an instant. Two that look
/// don't see each other; an owner that comes in just this moment waits for it, as it waits for any other.
pub(super) fn is_free(file: &File) -> io::Result<bool> {
    system::is_free(file)
}

/// Waits again after a signal.
fn patiently(wait: impl Fn() -> io::Result<()>) -> io::Result<()> {
    loop {
        match wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::io(Code::LockUnavailable, "use the lock file", path, error)
}
