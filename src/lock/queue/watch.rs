//! Looks after this process's waiters: one thread, for all lines, sleeps until an owner is stuck, and then has a new thread begin
//! the next term of its lock.

use super::{CHANGED, Line, NEXT_NUMBER, lines, serve, spawn};
use crate::clock::{BootMs, Clock};
use crate::disk;
use crate::error::Result;
use crate::lock::holder::Holder;
use crate::lock::{Target, term};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An old record proves nothing before it has stood still while we looked, for this part of the age that it allows: its writer
/// may be gone, and the present holder about to write its own.
const STANDSTILL: f64 = 1.0 / 18.0;
/// A thread that wakes up so much too late, in milliseconds of the boot's clock, was stopped.
const OVERSLEPT_MS: f64 = 5_000.0;
/// The watching thread looks at least so often, in milliseconds of the boot's clock: a record may say anything.
const LONGEST_PAUSE_MS: f64 = 1e9;

/// The watching thread: sleeps until the first owner that is waited for is older than its record allows. Ends with the
/// last line.
pub(super) fn watch() {
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
type SeenHolders = HashMap<PathBuf, (Option<Holder>, BootMs)>;

/// When to look at a line again, by its clock.
struct Due {
    left_ms: f64,
    at_ms: BootMs,
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
        if !is_still_stuck || target.is_free(*term)? {
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
fn due_ms(holder: Option<&Holder>, seen_ms: BootMs, limit_ms: f64, clock: &dyn Clock) -> Option<BootMs> {
    // A holder that has not signed its new lock file yet will see, once it has, that a peer has taken over.
    let Some(holder) = holder else { return Some(seen_ms + limit_ms) };
    let age_ms = holder.stale_after?;
    if clock.is_of_this_boot(&holder.boot, holder.boot_ms) {
        return Some((holder.boot_ms + age_ms).max(seen_ms + age_ms * STANDSTILL));
    }
    Some(seen_ms + limit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::Boot;
    use std::time::Duration;

    #[test]
    fn a_holder_is_stuck_at_the_age_that_it_allows_once_it_has_stood_still_while_we_looked() {
        let now = Boot("here", 1_000_000.0);
        let holder =
            |boot, boot_ms, stale: Option<u64>| Some(Holder::me(&Boot(boot, boot_ms), stale.map(Duration::from_secs)));
        for (holder, due) in [
            (holder("here", 999_000.0, Some(180)), Some(1_179_000.0)),
            (holder("here", 0.0, Some(180)), Some(1_010_000.0)),
            (holder("here", 999_000.0, None), None),
            // Of these nothing but our own look tells an age.
            (holder("elsewhere", 0.0, Some(180)), Some(1_030_000.0)),
            (None, Some(1_030_000.0)),
        ] {
            assert_eq!(due_ms(holder.as_ref(), now.boot_ms(), 30_000.0, &now), due.map(BootMs), "{holder:?}");
        }
    }
}
