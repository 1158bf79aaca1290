//! A refresh from the lock to what is settled: one task, which blocks a thread of its own. Its caller can leave it, but not cancel
//! it: every call that was sent is settled, even if the caller has left.

use super::retry::{Next, Patience, PauseReason, Retry};
use super::{Caller, Refresh, Sent, Served, Settled};
use crate::error::{Code, Error, Result};
use crate::failure::CallFailure;
use crate::lock::{Guard, Notice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// How often a caller looks, when the owner of the lock lets go of it, before it waits for the lock itself.
const MAX_LOOKS: u8 = 8;

/// Work for another thread.
pub type Work = Box<dyn FnOnce() + Send>;

/// The program that wants the token. The refresh asks and tells it on its own thread.
pub trait Program: Send + 'static {
    /// An error of its own, not of this package.
    type Failure: Send + 'static;

    /// The lock of a slot at the provider, if only so many calls may be under way at once.
    fn slot(&self) -> Option<PathBuf> {
        None
    }

    /// Takes the locks that the owners of its stores have. `false` if the caller left first.
    fn hold(&mut self) -> std::result::Result<bool, Self::Failure> {
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

    /// Does the work on a thread that may be blocked. Says whether there was one to be had.
    fn spawn(work: Work) -> bool;

    /// Does the work likewise, after so many milliseconds of the clock's [`crate::clock::BootMs`].
    fn after(ms: f64, work: Work);

    /// A random number, below 1.
    fn random(&mut self) -> f64;
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
    /// The turn came to nothing, and another one follows after a pause. No lock is held meanwhile.
    Pausing,
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
    /// A call that failed and may work in a moment; and whether a pause is on record for everyone. [`Run::start`] asks again.
    Retry {
        /// How it failed.
        failure: F,
        /// Whether the next turn meets that pause.
        is_on_record: bool,
    },
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

/// What a refresh goes on with.
#[allow(clippy::large_enum_variant, reason = "it is moved once")]
pub(super) enum First<F> {
    /// The key's lock.
    Lock(Guard),
    /// The owner has let go of it: look what it has left.
    Freed,
    /// Why there is no lock.
    End(Box<Turn<F>>),
}

impl<F> From<Turn<F>> for First<F> {
    fn from(turn: Turn<F>) -> Self {
        Self::End(Box::new(turn))
    }
}

impl<F> From<Result<Guard>> for First<F> {
    fn from(lock: Result<Guard>) -> Self {
        lock.map_or_else(|error| Turn::Refused(error).into(), Self::Lock)
    }
}

/// A refresh for one caller.
pub struct Run<P: Program> {
    pub(super) call: Arc<Refresh>,
    pub(super) caller: Arc<Caller>,
    pub(super) program: P,
    pub(super) waits: bool,
    /// How often it still looks, once the owner of the lock lets go of it, before it wants the lock itself.
    pub(super) looks: u8,
    pub(super) has_told_waiting: bool,
    retry: Retry<P::Failure>,
}

impl<P: Program> Run<P> {
    /// What is wanted, the caller that wants it, and the program that it runs in.
    pub fn new(call: Arc<Refresh>, caller: Arc<Caller>, patience: Patience, program: P) -> Self {
        let retry = Retry::new(patience, call.clock.boot_ms());
        // What a host's store holds takes any time to tell.
        let looks = if call.has_host_stores() { 0 } else { MAX_LOOKS };
        Self { call, caller, program, waits: patience.waits, looks, has_told_waiting: false, retry }
    }

    /// Takes turn after turn, until its caller is served, is told why not, or leaves. No thread waits for the key's lock or for a
    /// pause. `end` hears what it came to, here or on another thread.
    pub fn start(self, end: impl FnOnce(&mut P, Turn<P::Failure>) + Send + 'static) {
        self.begin(move |run, first| match first {
            First::Lock(lock) => run.spawn(end, lock, |mut run, lock, end| {
                let turn = caught(|| Ok(run.turn(lock))).unwrap_or_else(Turn::Refused);
                run.go_on(turn, end);
            }),
            First::Freed => run.spawn(end, (), |run, (), end| run.look_and_start(end)),
            First::End(turn) => run.go_on(*turn, end),
        });
    }

    /// Does this work on a thread that may be blocked.
    fn spawn<E, T>(self, end: E, with: T, work: impl FnOnce(Self, T, E) + Send + 'static)
    where
        E: FnOnce(&mut P, Turn<P::Failure>) + Send + 'static,
        T: Send + 'static,
    {
        let (shared, taken) = Shared::new((self, with, end));
        let on_thread = Box::new(move || {
            if let Some((run, with, end)) = taken.take() {
                work(run, with, end);
            }
        });
        if !P::spawn(on_thread)
            && let Some((run, with, end)) = shared.take()
        {
            drop(with);
            let error = Error::new(Code::LockUnavailable, "cannot start a thread for the refresh");
            run.go_on(Turn::Refused(error), end);
        }
    }

    fn go_on(mut self, turn: Turn<P::Failure>, end: impl FnOnce(&mut P, Turn<P::Failure>) + Send + 'static) {
        let (now_ms, random) = (self.call.clock.boot_ms(), self.program.random());
        match self.retry.next(turn, &self.call.lock_base, now_ms, random) {
            Next::End(turn) => end(&mut self.program, turn),
            Next::Again(ms, why) => self.pause(ms, why, end),
        }
    }

    /// The pause may end, or the caller may leave: the first of the two goes on.
    fn pause(mut self, ms: f64, why: Option<PauseReason>, end: impl FnOnce(&mut P, Turn<P::Failure>) + Send + 'static) {
        self.has_told_waiting = false;
        self.program.tell(Event::Pausing);
        let caller = Arc::clone(&self.caller);
        let (of_caller, of_timer) = Shared::new((self, end));
        caller.begin_to_pause(why, move || {
            if let Some((mut run, end)) = of_caller.take() {
                end(&mut run.program, Turn::Left);
            }
        });
        // Only now: the pause may be over before this thread goes on.
        P::after(
            ms,
            Box::new(move || {
                let Some((run, end)) = of_timer.take() else { return };
                run.caller.end_waiting();
                run.look_and_start(end);
            }),
        );
    }

    /// Goes on with what the stores hold by now.
    fn look_and_start(mut self, end: impl FnOnce(&mut P, Turn<P::Failure>) + Send + 'static) {
        match caught(|| self.call.look(None)) {
            Ok(None) => self.start(end),
            Ok(Some(served)) => end(&mut self.program, Turn::Served(served)),
            Err(error) => end(&mut self.program, Turn::Refused(error)),
        }
    }
}

/// A panic of ours as an error: the program is to hear an end.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Error::defect()))
}

/// A value for the first of several that take it.
pub(super) struct Shared<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    pub(super) fn new(value: T) -> (Self, Self) {
        let shared = Self(Arc::new(Mutex::new(Some(value))));
        (shared.clone(), shared)
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What `look` makes of the value, if nobody has taken it.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(look)
    }

    pub(super) fn is_taken(&self) -> bool {
        self.with(|_| ()).is_none()
    }
}
