//! A host's own store, for the core: its threads ask, functions on the JavaScript thread answer.
//!
//! A question is a call of one function of `lib/host-store.js`, which hears its number and what is asked; the answer comes by
//! [`NativeAnswers::give`]. When the JavaScript thread ends, threads that still wait hear of it.

use crate::credential::fields::Fields;
use crate::store::{HostStore, Hosted, NoAnswer};
use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;
use zeroize::Zeroizing;

/// After so long without an answer from a host's function we wait no longer, and the caller gets an error.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// A question: its number, the profile, and of a swap what is expected (nothing: no such profile) and what comes next.
type Question = FnArgs<(u32, String, Option<String>, Option<String>)>;
/// Weak: what keeps the event loop going is the promise of the call that asks.
type Ask = ThreadsafeFunction<Question, (), Question, Status, false, true>;
/// What JavaScript says to a question.
enum Answer {
    /// The store is busy, and its function is called again.
    Busy,
    /// JSON text; `None` if the host's function failed.
    Given(Option<Zeroizing<String>>),
}

/// The questions that wait for answers; `None` once the JavaScript thread can't give any.
#[derive(Default)]
struct OpenQuestions(Mutex<Option<Questions>>);

#[derive(Default)]
struct Questions {
    last: u32,
    by_number: HashMap<u32, Sender<Answer>>,
}

impl OpenQuestions {
    fn lock(&self) -> MutexGuard<'_, Option<Questions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self) -> Option<(u32, Receiver<Answer>)> {
        let mut waiting = self.lock();
        let questions = waiting.as_mut()?;
        questions.last = questions.last.wrapping_add(1);
        let (sender, receiver) = channel();
        questions.by_number.insert(questions.last, sender);
        Some((questions.last, receiver))
    }

    fn take(&self, number: u32) -> Option<Sender<Answer>> {
        self.lock().as_mut()?.by_number.remove(&number)
    }
}

/// Held by Node for as long as questions can arrive.
struct CloseOnDrop(Arc<OpenQuestions>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// Where answers are given. Holds nothing of Node's, so that the function that asks may hold it.
#[napi]
pub struct NativeAnswers {
    waiting: Arc<OpenQuestions>,
}

#[napi]
impl NativeAnswers {
    /// For one store.
    #[napi(constructor)]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a constructor for JavaScript")]
    pub fn new() -> Self {
        Self { waiting: Arc::new(OpenQuestions(Mutex::new(Some(Questions::default())))) }
    }

    /// Answers a question with JSON text; with nothing if the host's function failed.
    #[napi]
    pub fn give(&self, number: u32, answer: Option<String>) {
        if let Some(asker) = self.waiting.take(number) {
            // The asking thread may have gone.
            let _ = asker.send(Answer::Given(answer.map(Zeroizing::new)));
        }
    }

    /// Says that a question will be answered, but that the store is busy: its patience begins anew. `false` if no thread waits for
    /// the answer any more.
    #[napi]
    #[must_use]
    pub fn is_busy(&self, number: u32) -> bool {
        let waiting = self.waiting.lock();
        let asker = waiting.as_ref().and_then(|waiting| waiting.by_number.get(&number));
        asker.is_some_and(|asker| asker.send(Answer::Busy).is_ok())
    }

    /// Gives no more answers: a thread that waits for one hears so now, one that asks later at once.
    #[napi]
    pub fn close(&self) {
        *self.waiting.lock() = None;
    }
}

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
        let open = CloseOnDrop(Arc::clone(&waiting));
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
        let (number, answer) = self.waiting.add().ok_or(NoAnswer::Gone)?;
        let (expected, next) = swap.map_or((None, None), |(expected, next)| (expected, Some(next)));
        let question = (number, profile_id.to_owned(), expected.map(Fields::to_json), next.map(Fields::to_json)).into();
        if self.ask.call(question, ThreadsafeFunctionCallMode::NonBlocking) != Status::Ok {
            self.waiting.take(number);
            return Err(NoAnswer::Gone);
        }
        loop {
            match answer.recv_timeout(ANSWER_PATIENCE) {
                Ok(Answer::Busy) => {}
                Ok(Answer::Given(answer)) => return answer.ok_or(NoAnswer::Failed),
                Err(RecvTimeoutError::Disconnected) => return Err(NoAnswer::Gone),
                Err(RecvTimeoutError::Timeout) => {
                    self.waiting.take(number);
                    return Err(NoAnswer::Late);
                }
            }
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
