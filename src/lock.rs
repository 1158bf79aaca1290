//! The kernel lock on a lock file.
//!
//! | | |
//! |---|---|
//! | Linux, macOS, BSD | `flock(2)`: held by the open file, so threads of one process exclude each other too; released by the kernel when the holder dies |
//! | Windows | `LockFileEx` on the whole file, released when the handle is closed; at a process's death that may lag |
//! | NFS, SMB, virtiofs | as good as the file system's own `flock` |
//!
//! The file is created once and never unlinked, truncated or replaced: a lock on a path that can change its file
//! excludes nobody. It is closed on exec, so no child inherits the lock.
//!
//! A free lock is taken on the caller's thread. A taken one is waited for by one thread per lock file, which sleeps in
//! the kernel and serves this process's waiters in the order they came. No other module takes kernel locks.

#![allow(clippy::disallowed_methods, reason = "this is the place they are disallowed in favour of")]

use crate::disk;
use crate::error::{Code, Error, Result};
use crate::holder::Holder;
use fs4::{FileExt, TryLockError};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// The lock, held. Dropping it closes the file, and that releases the lock.
#[derive(Debug)]
pub struct Guard {
    _file: File,
    base: PathBuf,
}

impl Guard {
    fn new(file: File, base: &Path) -> Self {
        // For people only; a lock without a record is a lock all the same.
        let _ = Holder::me().write(&file);
        Self { _file: file, base: base.to_owned() }
    }

    /// The lock file.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }
}

/// What [`acquire`] found.
#[derive(Debug)]
pub enum Acquire {
    /// The lock was free.
    Held(Guard),
    /// Somebody has it. The callback will be called once, unless the ticket is cancelled.
    Waiting(Ticket),
}

/// A place in the line for a lock.
#[derive(Debug)]
pub struct Ticket {
    base: PathBuf,
    number: u64,
}

type Wake = Box<dyn FnOnce(Result<Guard>) + Send>;
type Lines = HashMap<PathBuf, VecDeque<(u64, Wake)>>;

/// This process's waiters by lock file. An entry means that a thread is waiting in the kernel on their behalf.
static LINES: Mutex<Option<Lines>> = Mutex::new(None);
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Takes the lock at `base` if it is free and nobody in this process was first, else stands in line: `wake` is then
/// called with the lock on another thread. Whoever is woken and no longer wants it drops the guard.
pub fn acquire(base: &Path, wake: impl FnOnce(Result<Guard>) + Send + 'static) -> Result<Acquire> {
    if let Some(guard) = try_acquire(base)? {
        return Ok(Acquire::Held(guard));
    }
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut lines = lines();
    let lines = lines.get_or_insert_default();
    if let Some(line) = lines.get_mut(base) {
        line.push_back((number, Box::new(wake)));
    } else {
        let owned = base.to_owned();
        std::thread::Builder::new()
            .name("oauth-lock-wait".to_owned())
            .spawn(move || serve(&owned))
            .map_err(|error| unusable(base, &error))?;
        lines.insert(base.to_owned(), VecDeque::from([(number, Box::new(wake) as Wake)]));
    }
    Ok(Acquire::Waiting(Ticket { base: base.to_owned(), number }))
}

/// Takes the lock at `base` if it is free and nobody in this process was first.
pub fn try_acquire(base: &Path) -> Result<Option<Guard>> {
    if lines().as_ref().is_some_and(|lines| lines.contains_key(base)) {
        return Ok(None);
    }
    let file = open(base)?;
    match FileExt::try_lock(&file) {
        Ok(()) => Ok(Some(Guard::new(file, base))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unusable(base, &error)),
    }
}

/// Takes the lock, blocking this thread for `patience` at most. For threads of ours only, never for Node's.
pub fn acquire_blocking(base: &Path, patience: Duration) -> Result<Guard> {
    let (sender, receiver) = mpsc::channel();
    let ticket = match acquire(base, move |lock| drop(sender.send(lock)))? {
        Acquire::Held(guard) => return Ok(guard),
        Acquire::Waiting(ticket) => ticket,
    };
    receiver.recv_timeout(patience).unwrap_or_else(|_| {
        ticket.cancel();
        Err(timed_out(base))
    })
}

/// The error of a wait that ran out, with what is known of the holder.
#[must_use]
pub fn timed_out(base: &Path) -> Error {
    let holder = Holder::read(base);
    let whom = holder.as_ref().map_or_else(String::new, |holder| {
        format!(", held by process {} for {:.1} s", holder.pid, holder.held_ms() / 1000.0)
    });
    let message = format_args!("timed out waiting for the lock{whom}");
    Error { holder, ..Error::at(Code::FileLockTimeout, base, message) }
}

impl Ticket {
    /// Leaves the line. `false` if the callback has been called or is about to be.
    #[must_use = "a lock that was granted meanwhile is still on its way to the callback"]
    pub fn leave(&self) -> bool {
        let mut lines = lines();
        let Some(line) = lines.as_mut().and_then(|lines| lines.get_mut(&self.base)) else {
            return false;
        };
        let before = line.len();
        line.retain(|(number, _)| *number != self.number);
        line.len() < before
    }

    fn cancel(&self) {
        // If the lock is on its way, the callback's receiver is gone and the guard is dropped there.
        let _ = self.leave();
    }
}

/// The waiting thread: gets the lock, hands it to the first in line, and goes on until nobody is left.
fn serve(base: &Path) {
    loop {
        let lock = wait(base);
        let mut lines = lines();
        let Some(map) = lines.as_mut() else { return };
        // A lock that nobody awaits any more is dropped, and with it freed.
        let Some((_, wake)) = map.get_mut(base).and_then(VecDeque::pop_front) else {
            map.remove(base);
            return;
        };
        let last = map.get(base).is_none_or(VecDeque::is_empty);
        if last {
            map.remove(base);
        }
        drop(lines);
        // A callback that panics must not take the others' thread with it.
        let _ = catch_unwind(AssertUnwindSafe(|| wake(lock)));
        if last {
            return;
        }
    }
}

fn wait(base: &Path) -> Result<Guard> {
    let file = open(base)?;
    loop {
        match FileExt::lock(&file) {
            Ok(()) => return Ok(Guard::new(file, base)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unusable(base, &error)),
        }
    }
}

fn open(base: &Path) -> Result<File> {
    disk::open_permanent(base).map_err(|error| unusable(base, &error))
}

fn unusable(base: &Path, error: &io::Error) -> Error {
    Error::io(Code::LockUnavailable, "use the lock file", base, error)
}

fn lines() -> MutexGuard<'static, Option<Lines>> {
    // No callback runs while it is locked, so a poisoned line is still in order.
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}
