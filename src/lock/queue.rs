//! This process's waiters, one line per lock. A thread per line waits in the kernel for the first in line; another, for all
//! lines, sleeps until an owner is stuck ([`watch`]).

mod watch;

use super::kernel::KernelLock;
use super::{Attempt, Guard, Target, term};
use crate::error::{Code, Error, Result};
use crate::lock::sidecar::Sidecar;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often to look whether a foreign sidecar has gone: at first, and at most.
const FIRST_POLL: Duration = Duration::from_millis(2);
const LAST_POLL: Duration = Duration::from_millis(50);
/// How often a thread that waits for a foreign sidecar says that it is not stuck, in milliseconds of the boot's clock.
const SIGN_OF_LIFE_MS: f64 = 10_000.0;

/// What a waiter is woken with.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once")]
pub enum Woken {
    /// The lock, or why it can't be had.
    Lock(Result<Guard>),
    /// The lock was let go of just now, and the waiter is no longer in line: what it wants may be there by now.
    Freed,
}

pub(super) type Wake = Box<dyn FnOnce(Woken) + Send>;

/// A place in the line for a lock.
#[derive(Debug)]
pub struct Ticket {
    base: PathBuf,
    number: u64,
}

struct Waiter {
    number: u64,
    target: Target,
    /// Whether it looks, when the lock is let go of, before it wants it.
    looks: bool,
    wake: Wake,
}

struct Line {
    waiters: VecDeque<Waiter>,
    /// Which thread serves it. One that is stuck in the kernel behind a stuck owner is replaced, and finds that out here.
    server: u64,
    /// The term whose lock file that thread waits for.
    term: u32,
}

#[derive(Default)]
struct Lines {
    by_base: HashMap<PathBuf, Line>,
    /// How often a line began, ended, or was joined again after all had left: a thread that was looking meanwhile looks again.
    changes: u64,
    is_watched: bool,
}

impl Lines {
    /// Its last waiter is served or has left.
    fn end(&mut self, base: &Path) {
        self.by_base.remove(base);
        self.changes += 1;
        CHANGED.notify_all();
    }
}

static LINES: Mutex<Option<Lines>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Whether a caller in this process stands in line.
pub(super) fn is_waited_for(base: &Path) -> bool {
    lines().as_ref().is_some_and(|lines| lines.by_base.contains_key(base))
}

/// Stands in line.
pub(super) fn join(target: &Target, looks: bool, wake: Wake) -> Result<Ticket> {
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    let waiter = Waiter { number, target: target.clone(), looks, wake };
    let mut lines = lines();
    let lines = lines.get_or_insert_default();
    if let Some(line) = lines.by_base.get_mut(&target.base) {
        line.waiters.push_back(waiter);
        // No thread watches the owner for a line that all have left.
        if line.waiters.len() == 1 {
            lines.changes += 1;
            CHANGED.notify_all();
        }
    } else {
        let (server, of_thread) = (number, target.clone());
        spawn("oauth-lock-wait", &target.base, move || serve(&of_thread, server))?;
        let line = Line { waiters: VecDeque::new(), server, term: 0 };
        lines.changes += 1;
        lines.by_base.entry(waiter.target.base.clone()).or_insert(line).waiters.push_back(waiter);
        if !lines.is_watched {
            // Without it we wait as long as it takes.
            lines.is_watched = spawn("oauth-lock-watch", &target.base, watch::watch).is_ok();
        }
        CHANGED.notify_all();
    }
    Ok(Ticket { base: target.base.clone(), number })
}

impl Ticket {
    /// Leaves the line. `false` if the callback has been called or is about to be.
    #[must_use = "a lock that was granted meanwhile is still on its way to the callback"]
    pub fn leave(&self) -> bool {
        let mut lines = lines();
        let Some(line) = lines.as_mut().and_then(|lines| lines.by_base.get_mut(&self.base)) else { return false };
        let at = line.waiters.iter().position(|waiter| waiter.number == self.number);
        let waiter = at.and_then(|at| line.waiters.remove(at));
        drop(lines);
        waiter.is_some()
    }
}

/// What a server has got. The sidecar is released first.
struct Held {
    term: u32,
    sidecar: Option<Sidecar>,
    kernel: KernelLock,
    /// Since when it has the kernel's lock, as the lock file says.
    since: f64,
    /// The waiter that it was signed for.
    signed_for: u64,
}

/// The serving thread: gets the lock, hands it to the first in line, and goes on until the line is empty.
fn serve(target: &Target, server: u64) {
    loop {
        // An error is met again with the lock.
        if is_freed(target, server).unwrap_or(false) {
            if wake_those_who_look(target, server) {
                return;
            }
            continue;
        }
        let held = wait(target, server).transpose();
        let mut guard = lines();
        let Some(lines) = guard.as_mut() else { return };
        let line = lines.by_base.get_mut(&target.base).filter(|line| line.server == server);
        let Some(line) = line else { return };
        let is_for_first = match (&held, line.waiters.front()) {
            (Some(Ok(held)), Some(first)) => first.number == held.signed_for,
            (held, _) => held.is_some(),
        };
        let waiter = if is_for_first { line.waiters.pop_front() } else { None };
        let is_last = line.waiters.is_empty();
        if is_last {
            lines.end(&target.base);
        }
        drop(guard);
        // A lock that no caller awaits any more is dropped, and so freed.
        let (Some(held), Some(waiter)) = (held, waiter) else {
            if is_last {
                return;
            }
            continue;
        };
        let lock = held
            .map(|Held { term, kernel, sidecar, since, .. }| Guard::new(&waiter.target, term, kernel, sidecar, since));
        // A callback that panics must not take the others' thread with it.
        let _ = catch_unwind(AssertUnwindSafe(|| (waiter.wake)(Woken::Lock(lock))));
        if is_last {
            return;
        }
    }
}

/// If the first in line wants to look: waits until the lock is free, and then says whether this thread still serves the line.
fn is_freed(target: &Target, server: u64) -> Result<bool> {
    let first_looks = |line: &Line| line.waiters.front().is_some_and(|first| first.looks);
    if !lines().as_ref().and_then(|lines| lines.by_base.get(&target.base)).is_some_and(first_looks) {
        return Ok(false);
    }
    let term = term::current(&target.base)?;
    if !is_wanted(target, server, Some(term)) {
        return Ok(false);
    }
    Ok(KernelLock::await_free(&term::lock_file(&target.base, term))? && is_wanted(target, server, None))
}

/// Wakes all waiters that want to look. Says whether the line has ended.
fn wake_those_who_look(target: &Target, server: u64) -> bool {
    let mut guard = lines();
    let Some(lines) = guard.as_mut() else { return true };
    let line = lines.by_base.get_mut(&target.base).filter(|line| line.server == server);
    let Some(line) = line else { return true };
    let (looking, rest) = line.waiters.drain(..).partition::<VecDeque<_>, _>(|waiter| waiter.looks);
    line.waiters = rest;
    let is_last = line.waiters.is_empty();
    if is_last {
        lines.end(&target.base);
    }
    drop(guard);
    for waiter in looking {
        let _ = catch_unwind(AssertUnwindSafe(|| (waiter.wake)(Woken::Freed)));
    }
    is_last
}

/// Waits for the current term's lock. `None` if another thread serves the line by now, or no caller waits any more.
fn wait(target: &Target, server: u64) -> Result<Option<Held>> {
    loop {
        let term = term::current(&target.base)?;
        if !is_wanted(target, server, Some(term)) {
            return Ok(None);
        }
        let kernel = KernelLock::take(&term::lock_file(&target.base, term))?;
        if !is_wanted(target, server, None) {
            return Ok(None);
        }
        let since = super::sign_while_publishing(target, &kernel);
        if term::current(&target.base)? == term {
            return publish(target, server, term, kernel, since);
        }
    }
}

/// Publishes the sidecar, as soon as no foreign one is in the way.
fn publish(target: &Target, server: u64, term: u32, kernel: KernelLock, mut since: f64) -> Result<Option<Held>> {
    let mut observer = target.observer();
    let mut signed = target.clock.boot_ms();
    let mut pause = FIRST_POLL;
    loop {
        let now = target.clock.boot_ms();
        if now - signed >= SIGN_OF_LIFE_MS {
            since = super::sign_while_publishing(target, &kernel);
            signed = now;
        }
        let (sidecar, no_room) = match super::try_publish(target, term, &kernel, &mut observer)? {
            Attempt::Held(sidecar) => (sidecar, None),
            Attempt::NoRoom(error) => (None, Some(error)),
            Attempt::InTheWay if !is_wanted(target, server, None) => return Ok(None),
            Attempt::InTheWay => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LAST_POLL);
                continue;
            }
        };
        return sign(target, server, Held { term, sidecar, kernel, since, signed_for: server }, no_room);
    }
}

/// Signs for the first in line. `None` if the line is empty, or if a peer has taken over while we waited for a foreign
/// sidecar: signed before we look, since a peer that begins a term reads afterwards whether we are stuck, and waits if not.
fn sign(target: &Target, server: u64, held: Held, no_room: Option<Error>) -> Result<Option<Held>> {
    let first = {
        let lines = lines();
        let line = lines.as_ref().and_then(|lines| lines.by_base.get(&target.base));
        let first = line.filter(|line| line.server == server).and_then(|line| line.waiters.front());
        first.map(|first| (first.number, first.target.clone()))
    };
    let Some((signed_for, first)) = first else { return Ok(None) };
    if let Some(error) = no_room {
        super::go_without(&first, &held.kernel, error)?;
    }
    super::sign(&first, &held.kernel, held.since)?;
    let is_over = term::has_begun(&target.base, held.term + 1)?;
    Ok((!is_over).then_some(Held { signed_for, ..held }))
}

/// Whether this thread still serves the line and a caller stands in it; if so, notes which term it waits for.
fn is_wanted(target: &Target, server: u64, term: Option<u32>) -> bool {
    let mut lines = lines();
    let line = lines.as_mut().and_then(|lines| lines.by_base.get_mut(&target.base));
    let Some(line) = line.filter(|line| line.server == server) else { return false };
    if let Some(term) = term {
        line.term = term;
    }
    !line.waiters.is_empty()
}

fn spawn(name: &str, base: &Path, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error: io::Error| {
        Error::io(Code::LockUnavailable, "start a thread to wait for the lock", base, &error)
    })
}

fn lines() -> MutexGuard<'static, Option<Lines>> {
    // No callback runs while it is locked, so a poisoned line is still in order.
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}
