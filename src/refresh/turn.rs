//! One turn of a refresh, with the key's lock: decide, ask the provider if that is what is to be done, and settle.

use super::decision::Awaited;
use super::{
    AskResult, Claimed, Decision, Event, Failed, LookedAgain, PauseReason, Program, Run, Sent, Served, Turn, Uncertain,
    Unsettled,
};
use crate::error::Error;
use crate::failure::{Backoff, CallFailure, FailureClass};
use crate::lock::{Guard, Target};
use std::sync::mpsc::channel;

/// How long to wait before another try to save an answer that could be saved nowhere; doubled each time.
const FIRST_SAVE_PAUSE_MS: f64 = 100.0;
const LAST_SAVE_PAUSE_MS: f64 = 10_000.0;
/// How long to wait before another look at what another host is doing; doubled each time. Most engines tell sooner.
const FIRST_LOOK_MS: f64 = 250.0;
const LAST_LOOK_MS: f64 = 5_000.0;

/// How another host is waited for.
struct Looks {
    /// How long until the next look, at most.
    next_ms: f64,
    /// The version at which the engine said that it has changed.
    woken_at: Option<String>,
}

/// What ends a turn early.
pub(super) enum End<F> {
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

pub(super) type Step<T, F> = std::result::Result<T, End<F>>;

impl<P: Program> Run<P> {
    /// Decides, with the key's lock, and asks the provider if that is what is to be done. Blocks this thread.
    pub(super) fn turn(&mut self, lock: Guard) -> Turn<P::Failure> {
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
        // The slot is kept until the end.
        let (decision, _slot) = self.decide(lock)?;
        match decision {
            Decision::Send(claimed) => self.ask(claimed),
            Decision::Served(served) => Ok(Turn::Served(served)),
            Decision::BackOff { wait_ms, error } => Ok(Turn::BackOff(wait_ms, error)),
            Decision::Claimed { wait_ms, error } => Ok(Turn::Claimed(wait_ms, error)),
            Decision::Later(wait_ms) => Ok(Turn::Later(wait_ms)),
            Decision::TakenOver | Decision::Busy { .. } | Decision::Elsewhere { .. } => Err(End::TakenOver),
        }
    }

    /// Decides under the key's lock. Waits for a call that sends the same refresh token under another name.
    fn decide(&mut self, mut lock: Guard) -> Step<(Decision, Option<Guard>), P::Failure> {
        let mut looks = Looks { next_ms: FIRST_LOOK_MS, woken_at: None };
        loop {
            let slot = self.take_slot()?;
            match self.program.hold() {
                Ok(true) => {}
                Ok(false) => return Err(Turn::Left.into()),
                Err(failure) => return Err(Turn::NotHeld(failure).into()),
            }
            match self.call.decide(lock)? {
                Decision::Busy { lock: ours, other } => {
                    // That call may need the slot itself, and the stores.
                    self.program.let_go();
                    drop(slot);
                    drop(self.acquire(&other, Target::refresh)?);
                    lock = ours;
                }
                Decision::Elsewhere { lock: ours, awaited } => {
                    self.program.let_go();
                    drop(slot);
                    lock = self.await_host(ours, awaited, &mut looks)?;
                }
                decision => return Ok((decision, slot)),
            }
        }
    }

    /// Waits until the coordinator's row changes, or for a while: not every engine tells. The key's lock is kept, so that one process
    /// of this host waits for the engine and the others for that.
    fn await_host(&mut self, lock: Guard, awaited: Awaited, looks: &mut Looks) -> Step<Guard, P::Failure> {
        let Some(hosts) = self.call.hosts.clone() else { return Err(Turn::Refused(Error::defect()).into()) };
        let Awaited { row, version, left_ms, error } = awaited;
        if !self.waits {
            return Err(Turn::BackOff(left_ms, error).into());
        }
        self.program.tell(Event::Waiting);
        // An engine that wakes us although nothing has changed is not to be asked all the time.
        let is_in_vain = looks.woken_at.take().is_some_and(|woken_at| woken_at == version);
        let look_ms = if is_in_vain { FIRST_LOOK_MS } else { looks.next_ms };
        let limit = self.call.clock.pause(look_ms.min(left_ms));
        looks.next_ms = (looks.next_ms * 2.0).min(LAST_LOOK_MS);
        let (changed, woken) = channel();
        let left = changed.clone();
        let wake = Box::new(move || _ = changed.send(()));
        let watch = if is_in_vain { None } else { hosts.coordinator.watch(&row, &version, limit, wake) };
        let why = PauseReason { error, ms: None };
        self.caller.begin_to_pause(Some(why), move || _ = left.send(()));
        looks.woken_at = woken.recv_timeout(limit).is_ok().then_some(version);
        self.caller.end_waiting();
        drop(watch);
        lock.heartbeat();
        if self.caller.has_left() { Err(Turn::Left.into()) } else { Ok(lock) }
    }

    /// Takes the slot of this key at the provider, if there are only so many.
    fn take_slot(&mut self) -> Step<Option<Guard>, P::Failure> {
        let Some(slot) = self.program.slot() else { return Ok(None) };
        // A caller that only takes over what a peer got meanwhile needs none.
        match self.call.look(None)? {
            Some(served) => Err(Turn::Served(served).into()),
            None => self.acquire(&slot, Target::slot).map(Some),
        }
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
                    return Ok(self.failed(&failed, failure));
                }
                Ok(Failed::ForGood(Some(dead))) => return Ok(Turn::Failed(failure, Some(dead))),
                // The next turn meets what is in the way; and the provider's own error says more than a disk's.
                Ok(Failed::ForGood(None) | Failed::Instead(_)) | Err(_) => return Ok(self.failed(&failed, failure)),
            }
            is_first = false;
        }
    }

    /// A failed call: retried if the failure is temporary, unless the caller has left or has an unexpired token.
    fn failed(&self, failed: &CallFailure, failure: P::Failure) -> Turn<P::Failure> {
        let may_repeat = match failed.class {
            FailureClass::AnsweredDead => false,
            FailureClass::Uncertain => self.call.uncertain == Uncertain::Probe,
            FailureClass::NotSent | FailureClass::AnsweredUnspent => true,
        };
        let has_token = || matches!(self.call.unexpired(), Ok(Some(_))) || self.call.last_seen().is_some();
        if !failed.is_temporary || !may_repeat || self.caller.has_left() || (self.call.serve_unexpired && has_token()) {
            return Turn::Failed(failure, None);
        }
        Turn::Retry { failure, is_on_record: failed.pause != Backoff::None }
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
