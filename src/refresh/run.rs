//! A refresh from the lock to what is settled: one task, which blocks a thread of its own. Its caller can leave it, but not cancel
//! it: every call that was sent is settled, even if the caller has left.

use super::{Caller, Claimed, Decision, Failed, LookedAgain, Refresh, Sent, Served, Settled, Unsettled};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::failure::CallFailure;
use crate::lock::{self, Acquire, Guard, Notice, Target};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long to wait before another try to save an answer that could be saved nowhere; doubled each time.
const FIRST_SAVE_PAUSE_MS: f64 = 100.0;
const LAST_SAVE_PAUSE_MS: f64 = 10_000.0;

/// The program that wants the token. The refresh asks and tells it on its own thread.
pub trait Program {
    /// An error of its own, not of this package.
    type Failure;

    /// The lock of a place at the provider, if only so many calls may be under way at once.
    fn place(&self) -> Option<PathBuf> {
        None
    }

    /// Takes the locks that the owners of its stores have. `false` if the caller left first.
    fn hold(&mut self) -> Result<bool, Self::Failure> {
        Ok(true)
    }

    /// Lets go of those.
    fn let_go(&mut self) {}

    /// Asks the provider for a new token, and waits for the answer.
    fn ask(&mut self, sent: &Sent) -> AskResult<Self::Failure>;

    /// Hears what happens.
    fn tell(&mut self, event: Event<'_>);

    /// Waits.
    fn pause(&mut self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

/// What became of a provider call.
#[derive(Debug)]
pub enum AskResult<F> {
    /// The fields that the provider gave, as JSON.
    Fields(Zeroizing<String>),
    /// The program had nothing to ask with. Nothing was sent.
    Nothing,
    /// A peer took over before the program sent anything: see [`Sent::is_ours`].
    TakenOver,
    /// It failed.
    Failed(CallFailure, F),
    /// The side that answers is gone, as by a death.
    Lost,
}

/// What happens on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// A lock is taken, and is waited for.
    Waiting,
    /// A lock is held; whether it is the key's.
    Acquired(bool, &'a [Notice]),
    /// The provider has answered, and that could not be saved yet. We try again and again with the lock held: only we have it.
    Unsaved(Error),
}

/// The end of a turn.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once")]
pub enum Turn<F> {
    /// A credential without a call.
    Served(Served),
    /// A call that was answered.
    Settled(Settled),
    /// A call that failed; and if the login has ended, what every later caller will be told.
    Failed(F, Option<Error>),
    /// Nothing was asked. After this many milliseconds it may be.
    BackOff(f64, Error),
    /// Nothing was asked: another program is refreshing, as a store says. Look again after this many milliseconds.
    Claimed(f64, Error),
    /// Nothing was asked: a peer of an earlier term still asks. Look again after this many milliseconds.
    Later(f64),
    /// This lock is taken, and the caller does not wait.
    Taken(PathBuf),
    /// It can't be done.
    Refused(Error),
    /// The program's own locks can't be had.
    NotHeld(F),
    /// The caller left before anything was sent, or the thread that asked is gone.
    Left,
}

/// A refresh for one caller.
pub struct Run<P: Program> {
    /// What is wanted.
    pub call: Arc<Refresh>,
    /// The caller that wants it.
    pub caller: Arc<Caller>,
    /// Whether it waits for locks.
    pub is_patient: bool,
    /// The program that it runs in.
    pub program: P,
}

/// The key's lock, or why there is none.
pub type First<F> = std::result::Result<Guard, Box<Turn<F>>>;

/// What ends a turn early.
enum End<F> {
    Turn(Box<Turn<F>>),
    /// A peer has taken over: we are its waiters now.
    TakenOver,
}

impl<F> From<Error> for End<F> {
    fn from(error: Error) -> Self {
        Turn::Refused(error).into()
    }
}

impl<F> From<Turn<F>> for End<F> {
    fn from(turn: Turn<F>) -> Self {
        Self::Turn(Box::new(turn))
    }
}

type Step<T, F> = std::result::Result<T, End<F>>;

impl<P: Program> Run<P> {
    /// Takes the key's lock; no thread waits for it. Then `go` is called with it, or with why there is none: here, or on a thread
    /// that must not be blocked.
    pub fn begin(self, go: impl FnOnce(Self, First<P::Failure>) + Send + 'static)
    where
        P: Send + 'static,
    {
        let (base, caller) = (self.call.lock_base.clone(), Arc::clone(&self.caller));
        let target = Target::refresh(&base, &self.call.clock);
        if caller.has_left() || !self.is_patient {
            let first = self.try_begin(&target);
            return go(self, first);
        }
        // The lock may come, or the caller may leave: the first of the two takes this and goes on.
        let waiting = Arc::new(Mutex::new(Some((self, go))));
        let take = |waiting: &Mutex<Option<_>>| waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (granted, of_caller) = (Arc::clone(&waiting), Arc::clone(&caller));
        let held = lock::acquire(&target, move |lock| {
            let waiter = take(&granted);
            of_caller.end_waiting();
            if let Some((run, go)) = waiter {
                go(run, lock.map_err(|error| Turn::Refused(error).into()));
            }
        });
        let first = match held {
            Ok(Acquire::Waiting(ticket)) => {
                if let Some((run, _)) = &mut *waiting.lock().unwrap_or_else(PoisonError::into_inner) {
                    run.program.tell(Event::Waiting);
                }
                let left = Arc::clone(&waiting);
                caller.begin_to_wait(&base, move || {
                    // If the lock is on its way, it finds no one waiting, and is released there.
                    let _ = ticket.leave();
                    if let Some((run, go)) = take(&left) {
                        go(run, Err(Turn::Left.into()));
                    }
                });
                if waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    caller.end_waiting();
                }
                return;
            }
            Ok(Acquire::Held(lock)) => Ok(lock),
            Err(error) => Err(Turn::Refused(error).into()),
        };
        if let Some((run, go)) = take(&waiting) {
            go(run, first);
        }
    }

    fn try_begin(&self, target: &Target) -> First<P::Failure> {
        if self.caller.has_left() {
            return Err(Turn::Left.into());
        }
        let lock = lock::try_acquire(target).map_err(Turn::Refused)?;
        lock.ok_or_else(|| Turn::Taken(self.call.lock_base.clone()).into())
    }

    /// Decides, with the key's lock, and asks the provider if that is what is to be done. Blocks this thread.
    pub fn turn(&mut self, lock: Guard) -> Turn<P::Failure> {
        self.program.tell(Event::Acquired(true, &lock.notices()));
        let mut lock = Some(lock);
        loop {
            let end = self.try_turn(lock.take());
            self.caller.end_sending();
            self.program.let_go();
            match end {
                Ok(turn) => return turn,
                Err(End::Turn(turn)) => return *turn,
                Err(End::TakenOver) => {}
            }
        }
    }

    fn try_turn(&mut self, lock: Option<Guard>) -> Step<Turn<P::Failure>, P::Failure> {
        let base = self.call.lock_base.clone();
        let lock = lock.map_or_else(|| self.acquire(&base, Target::refresh), Ok)?;
        let lock = match self.call.look_again(lock)? {
            LookedAgain::Not(lock) => lock,
            LookedAgain::Served(served) => return Ok(Turn::Served(served)),
            LookedAgain::InVain => return Err(End::TakenOver),
        };
        // The place is kept until the end.
        let (decision, _place) = self.decide(lock)?;
        match decision {
            Decision::Send(claimed) => self.ask(claimed),
            Decision::Served(served) => Ok(Turn::Served(served)),
            Decision::BackOff { wait_ms, error } => Ok(Turn::BackOff(wait_ms, error)),
            Decision::Claimed { wait_ms, error } => Ok(Turn::Claimed(wait_ms, error)),
            Decision::Later(wait_ms) => Ok(Turn::Later(wait_ms)),
            Decision::TakenOver | Decision::Busy { .. } => Err(End::TakenOver),
        }
    }

    /// Decides under the key's lock. Waits for a call that sends the same refresh token under another name.
    fn decide(&mut self, mut lock: Guard) -> Step<(Decision, Option<Guard>), P::Failure> {
        loop {
            let place = self.take_place()?;
            match self.program.hold() {
                Ok(true) => {}
                Ok(false) => return Err(Turn::Left.into()),
                Err(failure) => return Err(Turn::NotHeld(failure).into()),
            }
            match self.call.decide(lock)? {
                Decision::Busy { lock: ours, other } => {
                    // That call may need a place itself, and the stores.
                    self.program.let_go();
                    drop(place);
                    drop(self.acquire(&other, Target::refresh)?);
                    lock = ours;
                }
                decision => return Ok((decision, place)),
            }
        }
    }

    /// Takes one of the places at the provider, if there are only so many.
    fn take_place(&mut self) -> Step<Option<Guard>, P::Failure> {
        let Some(place) = self.program.place() else { return Ok(None) };
        // A caller that only takes over what a peer got meanwhile needs none.
        match self.call.look(None)? {
            Some(served) => Err(Turn::Served(served).into()),
            None => self.acquire(&place, Target::place).map(Some),
        }
    }

    fn acquire(&mut self, base: &Path, kind: fn(&Path, &Arc<dyn Clock>) -> Target) -> Step<Guard, P::Failure> {
        let target = kind(base, &self.call.clock);
        let lock = if self.caller.has_left() {
            None
        } else if self.is_patient {
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
        self.caller.begin_to_wait(base, move || drop(left.send(None)));
        let heard = heard.recv();
        self.caller.end_waiting();
        if let Ok(Some(lock)) = heard {
            return lock.map(Some);
        }
        // If the lock is on its way, no one receives it, and it is released there.
        let _ = ticket.leave();
        Ok(None)
    }

    /// Asks the provider; once more if the first refresh token turns out to be dead and the stores hold another.
    fn ask(&mut self, mut claimed: Box<Claimed>) -> Step<Turn<P::Failure>, P::Failure> {
        let mut is_first = true;
        loop {
            if !self.caller.begin_to_send() {
                // In vain only if the disk fails; then it is in doubt, as after a death.
                let _ = claimed.give_up();
                return Ok(Turn::Left);
            }
            let sent = claimed.send().map_err(|_| End::TakenOver)?;
            let (failed, failure) = match self.program.ask(&sent) {
                AskResult::Fields(fields) => return Ok(self.settle(sent, &fields)),
                AskResult::Nothing => {
                    self.call.abandon(sent)?;
                    return Ok(Turn::Served(Served::Absent));
                }
                AskResult::TakenOver => {
                    self.call.abandon(sent)?;
                    return Err(End::TakenOver);
                }
                AskResult::Lost => return Ok(Turn::Left),
                AskResult::Failed(failed, failure) => (failed, failure),
            };
            match self.call.fail(sent, failed) {
                Ok(Failed::Instead(Decision::Served(served))) => return Ok(Turn::Served(served)),
                Ok(Failed::Instead(Decision::TakenOver)) => return Err(End::TakenOver),
                Ok(Failed::Instead(Decision::Send(next))) if is_first => claimed = next,
                Ok(Failed::Instead(Decision::Send(next))) => {
                    let _ = next.give_up();
                    return Ok(Turn::Failed(failure, None));
                }
                Ok(Failed::ForGood(dead)) => return Ok(Turn::Failed(failure, dead)),
                // The next turn meets what is in the way; and the provider's own error says more than a disk's.
                Ok(Failed::Instead(_)) | Err(_) => return Ok(Turn::Failed(failure, None)),
            }
            is_first = false;
        }
    }

    /// Saves an answer, and goes on trying for as long as this process lives.
    fn settle(&mut self, mut sent: Box<Sent>, fields: &str) -> Turn<P::Failure> {
        let mut pause_ms = FIRST_SAVE_PAUSE_MS;
        let mut is_told = false;
        loop {
            match self.call.settle(sent, fields) {
                Ok(settled) => return Turn::Settled(settled),
                Err(Unsettled { error, retry: None }) => return Turn::Refused(error),
                Err(Unsettled { error, retry: Some(again) }) => {
                    if !is_told {
                        self.program.tell(Event::Unsaved(error));
                        is_told = true;
                    }
                    self.program.pause(self.call.clock.pause(pause_ms));
                    pause_ms = (pause_ms * 2.0).min(LAST_SAVE_PAUSE_MS);
                    again.heartbeat();
                    sent = again;
                }
            }
        }
    }
}
