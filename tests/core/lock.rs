//! The kernel lock, between real processes and between threads: never two inside, nobody forgotten, nothing left.

mod cost;
mod file;
mod looking;
mod processes;
mod threads;

use crate::support::HUNG;
use crate::support::child::{Child, Role, hear, say, take_umask};
use crate::support::locks::{take, try_or_wait};
use oauth_refresh_lock::lock::{self, Acquire, Target};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tempfile::TempDir;

/// What the waiting threads are called.
const WAITING_THREAD: &str = "oauth-lock-wait";

/// A directory for lock files.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn base(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("locks").join(name)
    }
}

fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("hold a lock", |arguments| holds(Path::new(&arguments[0]))),
    ("count under a lock", |arguments| processes::counts(Path::new(&arguments[0]), &arguments[1..])),
    ("hold a lock and start a child", |arguments| processes::holds_and_starts_a_child(Path::new(&arguments[0]))),
    ("tell what it has open", |arguments| processes::tells_what_it_has_open(Path::new(&arguments[0]))),
    ("look when the lock is free", |arguments| looking::looks(Path::new(&arguments[0]))),
    ("lock under a umask", |arguments| {
        take_umask(&arguments[1]);
        drop(take(Path::new(&arguments[0])));
        drop(take(Path::new(&arguments[0])));
    }),
    #[cfg(target_os = "linux")]
    ("wait in a crowd", |arguments| cost::waits_in_a_crowd(Path::new(&arguments[0]))),
    #[cfg(target_os = "linux")]
    ("wait alone", |arguments| cost::waits_alone(Path::new(&arguments[0]))),
];

/// Takes the lock, tells when it has to wait and when it has it, and lets go on a word.
fn holds(base: &Path) {
    let guard = match try_or_wait(base).unwrap() {
        Ok(guard) => guard,
        Err(waiter) => {
            say("waiting");
            waiter.lock()
        }
    };
    say("holding");
    hear();
    drop(guard);
}

/// Another process that holds the lock.
pub(crate) fn holder_of(base: &Path) -> Child {
    let child = Child::spawn("hold a lock", &[as_str(base)]);
    // It may have to wait for a moment, as `take` says.
    while child.listen() != "holding" {}
    child
}

/// Stands in line and, once it has the lock, tells its name and lets go.
fn stand_in_line(base: &Path, name: usize, told: &mpsc::Sender<usize>) -> lock::Ticket {
    let told = told.clone();
    let wake = move |guard: oauth_refresh_lock::error::Result<lock::Guard>| {
        let guard = guard.expect("the lock");
        told.send(name).unwrap();
        drop(guard);
    };
    match lock::acquire(&Target::never_taken_over(base, &crate::support::clocks::system()), wake).unwrap() {
        Acquire::Waiting(ticket) => ticket,
        Acquire::Held(_) => panic!("the lock is free"),
    }
}

/// The names told, in their order, until nobody is left to tell.
fn all(told: &mpsc::Receiver<usize>) -> Vec<usize> {
    let mut names = Vec::new();
    loop {
        match told.recv_timeout(HUNG) {
            Ok(name) => names.push(name),
            Err(mpsc::RecvTimeoutError::Disconnected) => return names,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("forgotten, after {names:?}"),
        }
    }
}
