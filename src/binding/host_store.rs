//! A host's own store, for the core: its threads ask, functions on the JavaScript thread answer (see `questions`).
//!
//! A question is a call of one function of `lib/host-store.js`, which hears its number and what is asked; the answer comes by
//! [`NativeAnswers::give`]. When the JavaScript thread ends, threads that still wait hear of it.

use super::questions::{CloseOnDrop, NativeAnswers, OpenQuestions, Silence};
use crate::credential::fields::Fields;
use crate::store::{HostStore, Hosted, NoAnswer};
use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;
use zeroize::Zeroizing;

/// After so long without an answer from a host's function we wait no longer, and the caller gets an error.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// A question: its number, the profile, and of a swap what is expected (nothing: no such profile) and what comes next.
type Question = FnArgs<(u32, String, Option<String>, Option<String>)>;
/// Weak: what keeps the event loop going is the promise of the call that asks.
type Ask = ThreadsafeFunction<Question, (), Question, Status, false, true>;
/// A host's store, for a refresh.
#[napi]
pub struct NativeHostStore {
    store: Hosted,
}

#[napi]
impl NativeHostStore {
    /// `ask` is called with each question, on the thread that calls this. `is_held` and `is_durable`: see [`HostStore`].
    #[napi(constructor)]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands over functions by value")]
    pub fn new(
        name: String,
        is_held: bool,
        is_durable: bool,
        answers: &NativeAnswers,
        ask: Function<'_, Question, ()>,
    ) -> napi::Result<Self> {
        let waiting = Arc::clone(&answers.waiting);
        let open = CloseOnDrop::new(&waiting);
        let ask = ask.build_threadsafe_function::<Question>().weak::<true>().callee_handled::<false>().build_callback(
            move |context| {
                let _ = &open;
                Ok(context.value)
            },
        )?;
        let bridge = Bridge { name, is_held, is_durable, ask, waiting, home: thread::current().id() };
        Ok(Self { store: Hosted::new(Arc::new(bridge)) })
    }
}

impl NativeHostStore {
    pub(super) fn store(&self) -> Hosted {
        self.store.clone()
    }
}

struct Bridge {
    name: String,
    is_held: bool,
    is_durable: bool,
    ask: Ask,
    waiting: Arc<OpenQuestions>,
    /// The thread that answers.
    home: ThreadId,
}

impl Bridge {
    fn ask(&self, profile_id: &str, swap: Option<(Option<&Fields>, &Fields)>) -> Result<Zeroizing<String>, NoAnswer> {
        // No other thread could be started: this one would wait for itself.
        if thread::current().id() == self.home {
            return Err(NoAnswer::Gone);
        }
        let (expected, next) = swap.map_or((None, None), |(expected, next)| (expected, Some(next)));
        let (expected, next) = (expected.map(Fields::to_json), next.map(Fields::to_json));
        let answer = self.waiting.ask(ANSWER_PATIENCE, |number| {
            let question = (number, profile_id.to_owned(), expected, next).into();
            self.ask.call(question, ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok
        });
        match answer {
            Ok(answer) => answer.ok_or(NoAnswer::Failed),
            Err(Silence::Gone) => Err(NoAnswer::Gone),
            Err(Silence::Late) => Err(NoAnswer::Late),
        }
    }
}

impl HostStore for Bridge {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_held(&self) -> bool {
        self.is_held
    }

    fn is_durable(&self) -> bool {
        self.is_durable
    }

    fn load(&self, profile_id: &str) -> Result<Option<Fields>, NoAnswer> {
        let answer = self.ask(profile_id, None)?;
        match answer.as_str() {
            "null" => Ok(None),
            json => Fields::parse(json).map(Some).ok_or(NoAnswer::Nonsense),
        }
    }

    fn compare_and_swap(&self, profile_id: &str, expected: Option<&Fields>, next: &Fields) -> Result<bool, NoAnswer> {
        let answer = self.ask(profile_id, Some((expected, next)))?;
        match answer.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(NoAnswer::Nonsense),
        }
    }
}
