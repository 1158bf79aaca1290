//! What a refresh and JavaScript say to each other while it runs: its thread tells and asks one function, which answers later.

use super::ending::ended;
use super::lock::shown;
use super::{Reply, task};
use crate::clock::{BootMs, Clock, SystemClock};
use crate::credential::Credential;
use crate::error::Error;
use crate::refresh::{AskResult, CallFailure, Caller, Event, Program, Sent, Turn, Work};
use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// If Node's thread handles `Ask` later than this, it answers `Late` instead of calling the function: a peer may have taken over.
const TIMELY_MS: f64 = 30_000.0;

/// What the function is told, with a [`Reply`].
#[napi(string_enum = "camelCase")]
#[derive(Debug)]
pub enum Notification {
    /// A lock is taken, and is waited for.
    Waiting,
    /// The key's lock is held. The value lists what people should know of that, if anything.
    Acquired,
    /// Another lock is held. The value lists the same.
    Noticed,
    /// Take the locks that the stores' owners have, and say [`NativeRefresh::held`].
    Hold,
    /// Let go of those.
    LetGo,
    /// Ask the provider to refresh this credential, and say [`NativeRefresh::answered`], [`NativeRefresh::failed`] or
    /// [`NativeRefresh::nothing`].
    Ask,
    /// The same, but it has waited for this thread for long: say [`NativeRefresh::late`].
    AskLate,
    /// The token endpoint is being asked.
    Dispatched,
    /// The answer could not be saved yet: the error. It is tried again and again.
    Unsaved,
    /// There is a pause, and then another turn. The value has how the token endpoint failed, as `failure`, if that is why.
    Pausing,
    /// The refresh is over. The value says by its `kind` how.
    Done,
}

pub(super) type Message = FnArgs<(Notification, Reply)>;
type Letter = (Notification, Reply, BootMs);
/// Weak: what keeps the event loop going is the timer of the caller.
type Tell = ThreadsafeFunction<Letter, (), Message, Status, false, true>;

/// What JavaScript answers.
pub(super) enum Answer {
    Held(bool),
    /// The program's own locks can't be had; JavaScript has the error.
    NotHeld,
    Fields(Zeroizing<String>),
    Failed(CallFailure),
    Nothing,
    Late,
}

/// Where JavaScript answers; `None` if no turn is under way, or JavaScript can't answer any more.
pub(super) type Answers = Arc<Mutex<Option<Sender<Answer>>>>;

/// Held by Node for as long as the function can be called.
struct CloseOnDrop(Answers, Arc<Caller>);

impl Drop for CloseOnDrop {
    /// The caller's thread has ended, or the refresh has.
    fn drop(&mut self) {
        close(&self.0);
        self.1.leave();
    }
}

pub(super) fn close(answers: &Answers) {
    *answers.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// How a token endpoint is asked: `Err` is how it failed, as JavaScript shows it.
pub(super) struct Endpoint {
    pub(super) slot: Option<PathBuf>,
    #[allow(clippy::type_complexity, reason = "said once")]
    pub(super) exchange: Box<dyn Fn(&Credential) -> Result<Zeroizing<String>, (CallFailure, Value)> + Send>,
}

/// The program that a refresh runs in.
pub(super) struct Dialogue {
    tell: Tell,
    heard: Receiver<Answer>,
    has_subscribers: bool,
    /// Whether a store's owner has a lock of its own.
    is_held: bool,
    endpoint: Option<Endpoint>,
    /// How it failed last, if that has not been told yet.
    failed: Option<Value>,
    has_ended: bool,
}

impl Drop for Dialogue {
    /// By a panic of ours, if it has not ended: JavaScript is to hear an end.
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(Turn::Refused(Error::defect()));
        }
    }
}

impl Dialogue {
    pub(super) fn new(
        tell: &Function<'_, Message, ()>,
        answers: &Answers,
        caller: &Arc<Caller>,
        has_subscribers: bool,
        is_held: bool,
        endpoint: Option<Endpoint>,
    ) -> napi::Result<Self> {
        let (answer, heard) = channel();
        *answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        let open = CloseOnDrop(Arc::clone(answers), Arc::clone(caller));
        let tell = tell.build_threadsafe_function::<Letter>().weak::<true>().callee_handled::<false>().build_callback(
            move |context| {
                let _ = &open;
                let (told, reply, at) = context.value;
                let is_late = matches!(told, Notification::Ask) && SystemClock.boot_ms() - at > TIMELY_MS;
                Ok((if is_late { Notification::AskLate } else { told }, reply).into())
            },
        )?;
        Ok(Self { tell, heard, has_subscribers, is_held, endpoint, failed: None, has_ended: false })
    }

    pub(super) fn end(&mut self, turn: Turn<Option<Value>>) {
        self.has_ended = true;
        self.say(Notification::Done, ended(turn));
    }

    /// Says whether the function will be called.
    fn say(&self, told: Notification, reply: Reply) -> bool {
        self.tell.call((told, reply, SystemClock.boot_ms()), ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok
    }

    fn ask_endpoint(&self, endpoint: &Endpoint, sent: &Sent) -> AskResult<Option<Value>> {
        if !self.say(Notification::Dispatched, Reply::default()) {
            return AskResult::Nothing;
        }
        match (endpoint.exchange)(sent.credential()) {
            Ok(fields) => AskResult::Fields(fields),
            Err((failed, shown)) => AskResult::Failed(failed, Some(shown)),
        }
    }
}

impl Program for Dialogue {
    /// How a token endpoint failed; `None` if JavaScript has the error.
    type Failure = Option<Value>;

    fn slot(&self) -> Option<PathBuf> {
        self.endpoint.as_ref()?.slot.clone()
    }

    fn hold(&mut self) -> Result<bool, Self::Failure> {
        if !self.is_held {
            return Ok(true);
        }
        self.say(Notification::Hold, Reply::default());
        match self.heard.recv() {
            Ok(Answer::Held(is_held)) => Ok(is_held),
            Ok(Answer::NotHeld) => Err(None),
            _ => Ok(false),
        }
    }

    fn let_go(&mut self) {
        if self.is_held {
            self.say(Notification::LetGo, Reply::default());
        }
    }

    fn ask(&mut self, sent: &Sent) -> AskResult<Self::Failure> {
        if let Some(endpoint) = &self.endpoint {
            let asked = self.ask_endpoint(endpoint, sent);
            if let AskResult::Failed(_, shown) = &asked {
                self.failed.clone_from(shown);
            }
            return asked;
        }
        loop {
            if !self.say(Notification::Ask, Reply::from(json!({})).with(sent.credential())) {
                return AskResult::Nothing;
            }
            match self.heard.recv() {
                Ok(Answer::Fields(fields)) => return AskResult::Fields(fields),
                Ok(Answer::Failed(failed)) => return AskResult::Failed(failed, None),
                Ok(Answer::Late) if sent.is_ours() => {}
                Ok(Answer::Late) => return AskResult::TakenOver,
                Ok(Answer::Nothing | Answer::Held(_) | Answer::NotHeld) => return AskResult::Nothing,
                Err(_) => return AskResult::Lost,
            }
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Waiting if self.has_subscribers => drop(self.say(Notification::Waiting, Reply::default())),
            Event::Acquired(is_keys, notices) if self.has_subscribers || !notices.is_empty() => {
                let notices: Vec<_> = notices.iter().map(shown).collect();
                let told = if is_keys { Notification::Acquired } else { Notification::Noticed };
                self.say(told, Value::from(notices).into());
            }
            Event::Unsaved(error) => drop(self.say(Notification::Unsaved, error.into())),
            Event::Pausing => {
                let failed = self.failed.take();
                self.say(Notification::Pausing, json!({ "failure": failed }).into());
            }
            Event::Waiting | Event::Acquired(..) => {}
        }
    }

    fn spawn(work: Work) -> bool {
        task::go_on(work)
    }

    fn after(ms: f64, work: Work) {
        task::after(ms, work);
    }

    fn random(&mut self) -> f64 {
        fastrand::f64()
    }
}
