//! Questions that our threads ask and the JavaScript thread answers.
//!
//! A question is a call of a function of JavaScript's, which hears its number and what is asked; the answer comes by
//! [`NativeAnswers::give`]. When the JavaScript thread ends, threads that still wait hear of it.

use napi_derive::napi;
use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// What JavaScript says to a question.
enum Answer {
    /// What is asked is busy, and is asked again.
    Busy,
    /// JSON text; `None` if the function failed.
    Given(Option<Zeroizing<String>>),
}

/// Why there is no answer.
pub(super) enum Silence {
    /// It has not come for too long.
    Late,
    /// It can't come any more: the thread that answers has ended.
    Gone,
}

/// Who hears an answer.
enum Asker {
    /// A thread that waits.
    Thread(Sender<Answer>),
    /// Whatever is to be done then.
    Later(Box<dyn FnOnce() + Send>),
}

/// The questions that wait for answers; `None` once the JavaScript thread can't give any.
#[derive(Default)]
pub(super) struct OpenQuestions(Mutex<Option<Questions>>);

#[derive(Default)]
struct Questions {
    last: u32,
    by_number: HashMap<u32, Asker>,
}

impl OpenQuestions {
    fn lock(&self) -> MutexGuard<'_, Option<Questions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, asker: Asker) -> Option<u32> {
        let mut waiting = self.lock();
        let questions = waiting.as_mut()?;
        questions.last = questions.last.wrapping_add(1);
        questions.by_number.insert(questions.last, asker);
        Some(questions.last)
    }

    fn take(&self, number: u32) -> Option<Asker> {
        self.lock().as_mut()?.by_number.remove(&number)
    }

    /// Asks by `put`, which says whether JavaScript will hear the question, and waits.
    pub(super) fn ask(
        &self,
        patience: Duration,
        put: impl FnOnce(u32) -> bool,
    ) -> Result<Option<Zeroizing<String>>, Silence> {
        let (sender, answer) = channel();
        let number = self.add(Asker::Thread(sender)).ok_or(Silence::Gone)?;
        if !put(number) {
            self.take(number);
            return Err(Silence::Gone);
        }
        loop {
            match answer.recv_timeout(patience) {
                Ok(Answer::Busy) => {}
                Ok(Answer::Given(answer)) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(Silence::Gone),
                Err(RecvTimeoutError::Timeout) => {
                    self.take(number);
                    return Err(Silence::Late);
                }
            }
        }
    }

    /// Asks likewise; `then` is called when there is an answer, whatever it is.
    pub(super) fn ask_later(&self, then: Box<dyn FnOnce() + Send>, put: impl FnOnce(u32) -> bool) -> Option<u32> {
        let number = self.add(Asker::Later(then))?;
        if put(number) {
            return Some(number);
        }
        self.take(number);
        None
    }

    /// Whether no answer can come any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_none()
    }

    /// Wants no answer any more. Says whether there was none yet.
    pub(super) fn forget(&self, number: u32) -> bool {
        self.take(number).is_some()
    }
}

/// Held by Node for as long as questions can arrive.
pub(super) struct CloseOnDrop(Arc<OpenQuestions>);

impl CloseOnDrop {
    pub(super) fn new(questions: &Arc<OpenQuestions>) -> Self {
        Self(Arc::clone(questions))
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// Where answers are given. Holds nothing of Node's, so that the function that asks may hold it.
#[napi]
pub struct NativeAnswers {
    pub(super) waiting: Arc<OpenQuestions>,
}

#[napi]
impl NativeAnswers {
    /// For one function that asks.
    #[napi(constructor)]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a constructor for JavaScript")]
    pub fn new() -> Self {
        Self { waiting: Arc::new(OpenQuestions(Mutex::new(Some(Questions::default())))) }
    }

    /// Answers a question with JSON text; with nothing if the function failed.
    #[napi]
    pub fn give(&self, number: u32, answer: Option<String>) {
        match self.waiting.take(number) {
            // The asking thread may have gone.
            Some(Asker::Thread(asker)) => _ = asker.send(Answer::Given(answer.map(Zeroizing::new))),
            Some(Asker::Later(then)) => then(),
            None => {}
        }
    }

    /// Says that a question will be answered, but that what is asked is busy: its patience begins anew. `false` if no thread waits
    /// for the answer any more.
    #[napi]
    #[must_use]
    pub fn is_busy(&self, number: u32) -> bool {
        let waiting = self.waiting.lock();
        match waiting.as_ref().and_then(|waiting| waiting.by_number.get(&number)) {
            Some(Asker::Thread(asker)) => asker.send(Answer::Busy).is_ok(),
            _ => false,
        }
    }

    /// Gives no more answers: a thread that waits for one hears so now, one that asks later at once.
    #[napi]
    pub fn close(&self) {
        *self.waiting.lock() = None;
    }
}
