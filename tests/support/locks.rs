//! Locks, taken in ways that tell whether somebody else was inside.

use super::clocks::HandClock;
use super::{HUNG, clocks};
use oauth_refresh_lock::error::Result;
use oauth_refresh_lock::lock::{self, Acquire, Guard, Target, Ticket};
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A place in the line, and where the lock will come to.
pub struct Waiter {
    pub ticket: Ticket,
    lock: Receiver<Result<Guard>>,
}

impl Waiter {
    /// Stands in line for a lock that somebody holds.
    pub fn at(base: &Path) -> Self {
        Self::by(&Target::never_taken_over(base, &clocks::system()))
    }

    /// The same, by another clock.
    pub fn by(target: &Target) -> Self {
        match try_or_wait_by(target).expect("a usable lock") {
            Ok(_) => panic!("the lock is free"),
            Err(waiter) => waiter,
        }
    }

    /// Waits for the lock, or for why there is none.
    pub fn result(self) -> Result<Guard> {
        self.lock.recv_timeout(HUNG).expect("an answer to a waiter")
    }

    /// Puts the clock forward, step by step, until the lock is there.
    pub fn lock_as_time_goes_by(self, clock: &HandClock, step: Duration) -> Guard {
        loop {
            match self.lock.recv_timeout(Duration::from_millis(1)) {
                Err(RecvTimeoutError::Timeout) => clock.advance(step),
                answer => return answer.expect("an answer").expect("the lock"),
            }
            assert!(clock.ahead() < Duration::from_secs(3600), "the lock does not come");
        }
    }

    /// Waits for the lock.
    pub fn lock(self) -> Guard {
        self.result().expect("the lock")
    }

    /// Whether the place was given up without an answer.
    pub fn is_forgotten(&self) -> bool {
        matches!(self.lock.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected))
    }
}

/// Takes the lock if it is free, else stands in line.
pub fn try_or_wait(base: &Path) -> Result<Result<Guard, Waiter>> {
    try_or_wait_by(&Target::never_taken_over(base, &clocks::system()))
}

pub fn try_or_wait_by(target: &Target) -> Result<Result<Guard, Waiter>> {
    let (sender, lock) = channel();
    Ok(match lock::acquire(target, move |granted| drop(sender.send(granted)))? {
        Acquire::Held(guard) => Ok(guard),
        Acquire::Waiting(ticket) => Err(Waiter { ticket, lock }),
    })
}

/// Takes the lock, however long that takes.
///
/// Not even a lock that was just dropped is sure to be free at once: until a process that another thread starts at
/// that moment has executed its program, it has all our files open.
pub fn take(base: &Path) -> Guard {
    take_by(&Target::never_taken_over(base, &clocks::system()))
}

/// The same, any lock.
pub fn take_by(target: &Target) -> Guard {
    match try_or_wait_by(target).expect("a usable lock") {
        Ok(guard) => guard,
        Err(waiter) => waiter.lock(),
    }
}

/// What the owner of the next term leaves first: it takes the one that there is for stuck.
pub fn begin_next_term(base: &Path) {
    let name = format!("{}.t1.journal", base.file_name().expect("a name").display());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(base.with_file_name(name)).expect("the first takeover");
}
