//! A turn of a refresh, for JavaScript. A thread of ours carries it out, and tells and asks one function of JavaScript's.

use super::lock::{lane, shown, timed_out};
use super::refresh::{NativeRefresh, located, served, settled};
use super::{Reply, task};
use crate::clock::{Clock, SystemClock};
use crate::credential::Credential;
use crate::error::{Code, Error};
use crate::refresh::{AskResult, CallFailure, Event, FailureClass, Pause, Program, Run, Sent, Turn};
use crate::store::Store;
use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// A program that is asked so much later to call the provider says so: a peer may have taken over since.
const TIMELY_MS: f64 = 30_000.0;

/// What the function hears, with a [`Reply`].
#[napi(string_enum = "camelCase")]
#[derive(Debug)]
pub enum Told {
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
    /// The turn is over. The value says by its `kind` how.
    Done,
}

pub(super) type Message = FnArgs<(Told, Reply)>;
type Letter = (Told, Reply, f64);
/// Weak: what keeps the event loop going is the timer of the caller.
type Tell = ThreadsafeFunction<Letter, (), Message, Status, false, true>;

/// What is heard from JavaScript.
pub(super) enum Heard {
    Held(bool),
    /// The program's own locks can't be had; JavaScript has the error.
    NotHeld,
    Answered(Zeroizing<String>),
    Failed(CallFailure),
    Nothing,
    Late,
}

/// Where JavaScript answers; `None` if no turn is under way, or JavaScript can't answer any more.
pub(super) type Answers = Arc<Mutex<Option<Sender<Heard>>>>;

/// Held by Node for as long as the function can be called.
struct Open(Answers);

impl Drop for Open {
    fn drop(&mut self) {
        close(&self.0);
    }
}

fn close(answers: &Answers) {
    *answers.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// How a token endpoint is asked: `Err` is how it failed, as JavaScript shows it.
pub(super) struct Endpoint {
    pub(super) place: Option<PathBuf>,
    #[allow(clippy::type_complexity, reason = "said once")]
    pub(super) exchange: Box<dyn Fn(&Credential) -> Result<Zeroizing<String>, (CallFailure, Value)> + Send>,
}

#[napi]
impl NativeRefresh {
    /// Takes the lock, decides, and asks the provider if that is what is to be done: see [`Run::turn`]. A caller that is not
    /// `is_patient` waits for no lock. `is_heard` tells whether anybody wants to know of each step.
    #[napi]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands over functions by value")]
    pub fn turn(&self, tell: Function<'_, Message, ()>, is_patient: bool, is_heard: bool) -> napi::Result<()> {
        self.begin_turn(&tell, is_patient, is_heard, None)
    }

    /// Says whether the locks are held that the stores' owners have.
    #[napi]
    pub fn held(&self, is_held: bool) {
        self.answer(Heard::Held(is_held));
    }

    /// Says that they can't be had.
    #[napi]
    pub fn not_held(&self) {
        self.answer(Heard::NotHeld);
    }

    /// Says what the provider answered: `fields` is JSON.
    #[napi]
    pub fn answered(&self, fields: String) {
        self.answer(Heard::Answered(Zeroizing::new(fields)));
    }

    /// Says that the call failed. `class` is one of `not_sent`, `answered_unspent`, `answered_dead`, `uncertain`; `is_answer` tells
    /// whether an answer came, `passes` whether it may work in a moment.
    #[napi]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
    pub fn failed(&self, class: String, is_answer: bool, passes: bool, retry_after_ms: Option<f64>) {
        let class = match class.as_str() {
            "not_sent" => FailureClass::NotSent,
            "answered_unspent" => FailureClass::AnsweredUnspent,
            "answered_dead" => FailureClass::AnsweredDead,
            _ => FailureClass::Uncertain,
        };
        let pause = Pause::after(class, is_answer, retry_after_ms);
        self.answer(Heard::Failed(CallFailure { class, pause, passes }));
    }

    /// Says that there was nothing to ask: nothing was sent.
    #[napi]
    pub fn nothing(&self) {
        self.answer(Heard::Nothing);
    }

    /// Says that nothing has been asked yet, and that it is late.
    #[napi]
    pub fn late(&self) {
        self.answer(Heard::Late);
    }
}

impl NativeRefresh {
    fn answer(&self, heard: Heard) {
        if let Some(asker) = &*self.answers.lock().unwrap_or_else(PoisonError::into_inner) {
            // The turn may be over.
            let _ = asker.send(heard);
        }
    }

    pub(super) fn begin_turn(
        &self,
        tell: &Function<'_, Message, ()>,
        is_patient: bool,
        is_heard: bool,
        endpoint: Option<Endpoint>,
    ) -> napi::Result<()> {
        let call = self.call()?;
        let (answers, heard) = channel();
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers);
        let open = Open(Arc::clone(&self.answers));
        let tell = tell.build_threadsafe_function::<Letter>().weak::<true>().callee_handled::<false>().build_callback(
            move |context| {
                let _ = &open;
                let (told, reply, at) = context.value;
                let is_late = matches!(told, Told::Ask) && SystemClock.boot_ms() - at > TIMELY_MS;
                Ok((if is_late { Told::AskLate } else { told }, reply).into())
            },
        )?;
        let is_held = call.own.is_held() || call.main.as_ref().is_some_and(Store::is_held);
        let program = Dialogue { tell: Arc::new(tell), heard, is_heard, is_held, endpoint };
        let (tell, answers) = (Arc::clone(&program.tell), Arc::clone(&self.answers));
        let base = call.lock_base.clone();
        let run = Run { call, caller: Arc::clone(&self.caller), is_patient, program };
        task::start(lane(&base), move || {
            run.begin(move |mut run, first| {
                let end = move |program: &Dialogue, turn| {
                    close(&answers);
                    program.say(Told::Done, done(turn));
                };
                let lock = match first {
                    Ok(lock) => lock,
                    Err(turn) => return end(&run.program, *turn),
                };
                let started = task::on_own_thread(move || {
                    let turn = catch_unwind(AssertUnwindSafe(|| run.turn(lock)));
                    end(&run.program, turn.unwrap_or_else(|_| Turn::Refused(task::defect())));
                });
                if started.is_err() {
                    let error = Error::new(Code::LockUnavailable, "cannot start a thread for the refresh");
                    say(&tell, Told::Done, error.into());
                }
            });
        });
        Ok(())
    }
}

/// The program that a refresh runs in.
struct Dialogue {
    tell: Arc<Tell>,
    heard: Receiver<Heard>,
    is_heard: bool,
    /// Whether a store's owner has a lock of its own.
    is_held: bool,
    endpoint: Option<Endpoint>,
}

/// Says whether the function will be called.
fn say(tell: &Tell, told: Told, reply: Reply) -> bool {
    tell.call((told, reply, SystemClock.boot_ms()), ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok
}

impl Dialogue {
    fn say(&self, told: Told, reply: Reply) -> bool {
        say(&self.tell, told, reply)
    }

    fn ask_endpoint(&self, endpoint: &Endpoint, sent: &Sent) -> AskResult<Option<Value>> {
        if !self.say(Told::Dispatched, Reply::default()) {
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

    fn place(&self) -> Option<PathBuf> {
        self.endpoint.as_ref()?.place.clone()
    }

    fn hold(&mut self) -> Result<bool, Self::Failure> {
        if !self.is_held {
            return Ok(true);
        }
        self.say(Told::Hold, Reply::default());
        match self.heard.recv() {
            Ok(Heard::Held(is_held)) => Ok(is_held),
            Ok(Heard::NotHeld) => Err(None),
            _ => Ok(false),
        }
    }

    fn let_go(&mut self) {
        if self.is_held {
            self.say(Told::LetGo, Reply::default());
        }
    }

    fn ask(&mut self, sent: &Sent) -> AskResult<Self::Failure> {
        if let Some(endpoint) = &self.endpoint {
            return self.ask_endpoint(endpoint, sent);
        }
        loop {
            if !self.say(Told::Ask, Reply::from(json!({})).with(sent.credential())) {
                return AskResult::Nothing;
            }
            match self.heard.recv() {
                Ok(Heard::Answered(fields)) => return AskResult::Fields(fields),
                Ok(Heard::Failed(failed)) => return AskResult::Failed(failed, None),
                Ok(Heard::Late) if sent.is_ours() => {}
                Ok(Heard::Late) => return AskResult::TakenOver,
                Ok(Heard::Nothing | Heard::Held(_) | Heard::NotHeld) => return AskResult::Nothing,
                Err(_) => return AskResult::Lost,
            }
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        match event {
            Event::Waiting if self.is_heard => drop(self.say(Told::Waiting, Reply::default())),
            Event::Acquired(is_keys, notices) if self.is_heard || !notices.is_empty() => {
                let notices: Vec<_> = notices.iter().map(shown).collect();
                let told = if is_keys { Told::Acquired } else { Told::Noticed };
                self.say(told, Value::from(notices).into());
            }
            Event::Unsaved(error) => drop(self.say(Told::Unsaved, error.into())),
            Event::Waiting | Event::Acquired(..) => {}
        }
    }
}

fn done(turn: Turn<Option<Value>>) -> Reply {
    match turn {
        Turn::Served(by) => served(by),
        Turn::Settled(how) => settled(how),
        Turn::Failed(failure, dead) => {
            Reply::from(json!({ "kind": "failed", "failure": failure, "dead": dead.map(|dead| dead.message) }))
        }
        Turn::BackOff(wait_ms, error) => {
            let wait_ms = SystemClock.pause(wait_ms).as_secs_f64() * 1000.0;
            Reply::from(json!({ "kind": "backoff", "waitMs": wait_ms, "refreshError": located(&error) }))
        }
        Turn::Claimed(wait_ms, error) => {
            Reply::from(json!({ "kind": "claimed", "waitMs": wait_ms, "refreshError": located(&error) }))
        }
        Turn::Later(wait_ms) => Reply::from(json!({ "kind": "later", "waitMs": wait_ms })),
        Turn::Taken(lock) => timed_out(&lock),
        Turn::Refused(error) => error.into(),
        Turn::NotHeld(_) => Reply::from(json!({ "kind": "notHeld" })),
        Turn::Left => Reply::from(json!({ "kind": "left" })),
    }
}
