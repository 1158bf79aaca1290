//! How a refresh gets its locks: the key's without a thread that waits, others on the refresh's own thread.

use super::run::{First, Shared};
use super::turn::Step;
use super::{Event, Program, Run, Turn};
use crate::clock::Clock;
use crate::error::Result;
use crate::lock::{self, Acquire, Guard, Target, Woken};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

impl<P: Program> Run<P> {
    /// Takes the key's lock; no thread waits for it. Then `go` is called with it, or with what there is in its place: here, or on a
    /// thread that must not be blocked.
    pub(super) fn begin(mut self, go: impl FnOnce(Self, First<P::Failure>) + Send + 'static) {
        let (base, caller) = (self.call.lock_base.clone(), Arc::clone(&self.caller));
        let target = Target::refresh(&base, &self.call.clock);
        if caller.has_left() || !self.waits {
            let first = self.try_begin(&target);
            return go(self, first);
        }
        let looks = self.looks > 0;
        self.looks = self.looks.saturating_sub(1);
        // The lock may come, or the caller may leave: the first of the two takes this and goes on.
        let (shared, granted) = Shared::new((self, go));
        let of_caller = Arc::clone(&caller);
        let held = lock::acquire_or_look(&target, looks, move |woken| {
            let waiter = granted.take();
            of_caller.end_waiting();
            if let Some((run, go)) = waiter {
                go(
                    run,
                    match woken {
                        Woken::Lock(lock) => lock.into(),
                        Woken::Freed => First::Freed,
                    },
                );
            }
        });
        let first = match held {
            Ok(Acquire::Waiting(ticket)) => {
                shared.with(|(run, _)| run.tell_waiting());
                let left = shared.clone();
                let leave = move || {
                    // If the lock is on its way, it finds no one waiting, and is released there.
                    let _ = ticket.leave();
                    if let Some((run, go)) = left.take() {
                        go(run, Turn::Left.into());
                    }
                };
                return caller.begin_to_wait(&base, || shared.is_taken(), leave);
            }
            Ok(Acquire::Held(lock)) => First::Lock(lock),
            Err(error) => Turn::Refused(error).into(),
        };
        if let Some((run, go)) = shared.take() {
            go(run, first);
        }
    }

    /// Once for each turn.
    fn tell_waiting(&mut self) {
        if !std::mem::replace(&mut self.has_told_waiting, true) {
            self.program.tell(Event::Waiting);
        }
    }

    fn try_begin(&self, target: &Target) -> First<P::Failure> {
        if self.caller.has_left() {
            return Turn::Left.into();
        }
        match lock::try_acquire(target).transpose() {
            Some(lock) => lock.into(),
            None => Turn::Taken(self.call.lock_base.clone()).into(),
        }
    }

    pub(super) fn acquire(
        &mut self,
        base: &Path,
        kind: fn(&Path, &Arc<dyn Clock>) -> Target,
    ) -> Step<Guard, P::Failure> {
        let target = kind(base, &self.call.clock);
        let lock = if self.caller.has_left() {
            None
        } else if self.waits {
            self.wait_for(&target, base)?
        } else {
            Some(lock::try_acquire(&target)?.ok_or_else(|| Turn::Taken(base.to_owned()))?)
        };
        // A lock that came as the caller left is let go.
        let lock = lock.filter(|_| !self.caller.has_left()).ok_or(Turn::Left)?;
        self.program.tell(Event::Acquired(base == self.call.lock_base, &lock.notices()));
        Ok(lock)
    }

    /// `None` if the caller leaves first.
    fn wait_for(&mut self, target: &Target, base: &Path) -> Result<Option<Guard>> {
        let (granted, heard) = channel();
        let left = granted.clone();
        let ticket = match lock::acquire(target, move |lock| drop(granted.send(Some(lock))))? {
            Acquire::Held(lock) => return Ok(Some(lock)),
            Acquire::Waiting(ticket) => ticket,
        };
        self.program.tell(Event::Waiting);
        self.caller.begin_to_wait(base, || false, move || drop(left.send(None)));
        let heard = heard.recv();
        self.caller.end_waiting();
        if let Ok(Some(lock)) = heard {
            return lock.map(Some);
        }
        // If the lock is on its way, no one receives it, and it is released there.
        let _ = ticket.leave();
        Ok(None)
    }
}
