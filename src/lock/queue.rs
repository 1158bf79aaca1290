//! This process's waiters, one line per lock. A thread per line waits in the kernel for the first in line; another, for all
//! lines, sleeps until an owner is stuck, and then has a new thread begin the next term of its lock.

use super::kernel::KernelLock;
use super::{Attempt, Guard, Target, term};
use crate::clock::Clock;
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::lock::holder::Holder;
use crate::lock::sidecar::Sidecar;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often to look whether a foreign sidecar has gone: at first, and at most.
const FIRST_POLL: Duration = Duration::from_millis(2);
const LAST_POLL: Duration = Duration::from_millis(50);
/// How often a thread that waits for a foreign sidecar says that it is not stuck, in milliseconds of the boot's clock.
const SIGN_OF_LIFE_MS: f64 = 10_000.0;
/// An old record proves nothing before it has stood still while we looked, for this part of the age that it allows: its writer
/// may be gone, and the present holder about to write its own.
const STANDSTILL: f64 = 1.0 / 18.0;
/// A thread that wakes up so much too late, in milliseconds of the boot's clock, was stopped.
const OVERSLEPT_MS: f64 = 5_000.0;
/// The watching thread looks at least so often, in milliseconds of the boot's clock: a record may say anything.
const LONGEST_PAUSE_MS: f64 = 1e9;

pub(super) type Wake = Box<dyn FnOnce(Result<Guard>) + Send>;

/// A place in the line for a lock.
#[derive(Debug)]
pub struct Ticket {
    base: PathBuf,
    number: u64,
}

struct Waiter {
    number: u64,
    target: Target,
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

static LINES: Mutex<Option<Lines>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Whether a caller in this process stands in line.
pub(super) fn is_waited_for(base: &Path) -> bool {
    lines().as_ref().is_some_and(|lines| lines.by_base.contains_key(base))
}

/// Stands in line.
pub(super) fn join(target: &Target, wake: Wake) -> Result<Ticket> {
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    let waiter = Waiter { number, target: target.clone(), wake };
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
            lines.is_watched = spawn("oauth-lock-watch", &target.base, watch).is_ok();
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
            lines.by_base.remove(&target.base);
            lines.changes += 1;
            CHANGED.notify_all();
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
        let _ = catch_unwind(AssertUnwindSafe(|| (waiter.wake)(lock)));
        if is_last {
            return;
        }
    }
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
    super::sign(target, first.own_stale, &held.kernel, held.since)?;
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

/// The watching thread: sleeps until the first owner that is waited for is older than its record allows. Ends with the
/// last line.
fn watch() {
    let mut seen = HashMap::new();
    while let Some((watched, changes)) = watched() {
        seen.retain(|file, _| watched.iter().any(|line| *file == line.lock_file()));
        let next =
            watched.iter().map(|line| line.look(&mut seen)).min_by(|one, other| one.left_ms.total_cmp(&other.left_ms));
        let lines = lines();
        if lines.as_ref().is_some_and(|lines| lines.changes != changes) {
            continue;
        }
        let Some(Due { left_ms, at_ms, clock }) = next else {
            drop(CHANGED.wait(lines));
            continue;
        };
        drop(CHANGED.wait_timeout(lines, clock.pause(left_ms)));
        if clock.boot_ms() - at_ms > OVERSLEPT_MS {
            // We stood still ourselves, and perhaps everybody did: they get the chance to go on that we got.
            seen.clear();
        }
    }
}

/// A line with a waiter, as the watching thread sees it.
struct Watched {
    target: Target,
    server: u64,
    term: u32,
}

/// Since when each holder has been seen, by lock file; or a file without a record.
type SeenHolders = HashMap<PathBuf, (Option<Holder>, f64)>;

/// When to look at a line again, by its clock.
struct Due {
    left_ms: f64,
    at_ms: f64,
    clock: Arc<dyn Clock>,
}

/// The lines that have waiters, and the count of changes at this moment; `None` once the last line has ended.
fn watched() -> Option<(Vec<Watched>, u64)> {
    let mut lines = lines();
    let lines = lines.as_mut()?;
    if lines.by_base.is_empty() {
        lines.is_watched = false;
        return None;
    }
    let watched = |line: &Line| {
        Some(Watched { target: line.waiters.front()?.target.clone(), server: line.server, term: line.term })
    };
    Some((lines.by_base.values().filter_map(watched).collect(), lines.changes))
}

impl Watched {
    fn lock_file(&self) -> PathBuf {
        term::lock_file(&self.target.base, self.term)
    }

    /// Looks at its holder, and takes over from one that is stuck. Says when to look again.
    fn look(&self, seen: &mut SeenHolders) -> Due {
        let clock = &self.target.clock;
        let limit_ms = self.target.foreign_stale.as_secs_f64() * 1000.0;
        let now_ms = clock.boot_ms();
        let file = self.lock_file();
        let holder = Holder::read(&file);
        let (known, since_ms) = seen.entry(file).or_insert_with(|| (holder.clone(), now_ms));
        if *known != holder {
            (*known, *since_ms) = (holder.clone(), now_ms);
        }
        let at_ms = match due_ms(holder.as_ref(), *since_ms, limit_ms, &**clock) {
            Some(due_ms) if due_ms <= now_ms => {
                // Should it fail, it is tried again as often as we look.
                let _ = self.take_over(holder.as_ref());
                now_ms + limit_ms * STANDSTILL
            }
            Some(due_ms) => due_ms,
            // It may be handed over meanwhile.
            None => now_ms + limit_ms,
        };
        let left_ms = (at_ms - now_ms).clamp(0.0, LONGEST_PAUSE_MS);
        Due { left_ms, at_ms, clock: Arc::clone(clock) }
    }

    /// Begins the term after that of a stuck owner, unless it has come to life; then has a new thread wait for its lock, like
    /// any other, in place of the thread that is stuck behind the stuck owner.
    fn take_over(&self, holder: Option<&Holder>) -> Result<()> {
        let Self { target, server, term } = self;
        let file = self.lock_file();
        let is_still_stuck = match holder {
            Some(_) => Holder::read(&file).as_ref() == holder,
            // A file with other contents is never signed, so nothing tells of its holder.
            None => disk::is_empty(&file),
        };
        if !is_still_stuck || super::is_free(&file)? {
            return Ok(());
        }
        term::begin(&target.base, term + 1)?;
        let mut lines = lines();
        let line = lines.as_mut().and_then(|lines| lines.by_base.get_mut(&target.base));
        let Some(line) = line.filter(|line| line.server == *server && line.term == *term) else { return Ok(()) };
        let successor = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let of_thread = target.clone();
        spawn("oauth-lock-wait", &target.base, move || serve(&of_thread, successor))?;
        line.server = successor;
        Ok(())
    }
}

/// When a holder that stands still counts as stuck; `None` if never.
fn due_ms(holder: Option<&Holder>, seen_ms: f64, limit_ms: f64, clock: &dyn Clock) -> Option<f64> {
    // A holder that has not signed its new lock file yet will see, once it has, that a peer has taken over.
    let Some(holder) = holder else { return Some(seen_ms + limit_ms) };
    let age_ms = holder.stale_after?;
    if clock.is_of_this_boot(&holder.boot, holder.boot_ms) {
        return Some((holder.boot_ms + age_ms).max(seen_ms + age_ms * STANDSTILL));
    }
    Some(seen_ms + limit_ms)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock of this boot, stopped.
    #[derive(Debug)]
    struct Stopped(&'static str, f64);

    impl Clock for Stopped {
        fn now_ms(&self) -> f64 {
            0.0
        }

        fn boot_ms(&self) -> f64 {
            self.1
        }

        fn boot_id(&self) -> String {
            self.0.to_owned()
        }
    }

    #[test]
    fn a_holder_is_stuck_at_the_age_that_it_allows_once_it_has_stood_still_while_we_looked() {
        let now = Stopped("here", 1_000_000.0);
        let holder = |boot, boot_ms, stale: Option<u64>| {
            Some(Holder::me(&Stopped(boot, boot_ms), stale.map(Duration::from_secs)))
        };
        for (holder, due) in [
            (holder("here", 999_000.0, Some(180)), Some(1_179_000.0)),
            (holder("here", 0.0, Some(180)), Some(1_010_000.0)),
            (holder("here", 999_000.0, None), None),
            // Of these nothing but our own look tells an age.
            (holder("elsewhere", 0.0, Some(180)), Some(1_030_000.0)),
            (None, Some(1_030_000.0)),
        ] {
            assert_eq!(due_ms(holder.as_ref(), now.boot_ms(), 30_000.0, &now), due, "{holder:?}");
        }
    }
}
