//! A coordinator's engine, for the core: its threads ask, functions on the JavaScript thread answer (see `questions`).

use super::questions::{CloseOnDrop, NativeAnswers, OpenQuestions, Silence};
use super::{Reply, task};
use crate::clock::{BootMs, Clock as _, SystemClock};
use crate::coordinator::{Coordinator, Entry, Row, Unavailable, Watch};
use crate::error::{Code, Error};
use crate::refresh::Refresh;
use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;
use zeroize::Zeroizing;

/// After so long without an answer the engine counts as down; what was asked may still happen. Adapters have limits of their own,
/// but the event loop may be blocked.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// What the engine is asked.
#[napi(string_enum = "camelCase")]
#[derive(Debug)]
pub enum Step {
    /// The entry of a row, as JSON: `version`, `value`, `ageMs`; or `null`.
    Load,
    /// Whether the row is of the version that the question has (none: no row), and then its value instead: the new version, or `null`.
    CompareAndSwap,
    /// To answer once the row is no longer of the version that the question has, at the latest after so many milliseconds.
    Watch,
    /// To watch no longer; the number is that question's.
    EndWatch,
}

/// A question: its number, what is asked, the row, a version, a value, a limit in milliseconds.
type Question = FnArgs<(u32, Step, String, Option<String>, Option<String>, f64)>;
/// Weak: what keeps the event loop going is the promise of the call that asks.
type Ask = ThreadsafeFunction<Question, (), Question, Status, false, true>;

/// What JavaScript answers: what it was asked for, or in `failed` why it can't tell.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told<T> {
    failed: Option<String>,
    told: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToldEntry {
    version: String,
    value: String,
    age_ms: Option<f64>,
}

/// A coordinator, for refreshes.
#[napi]
pub struct NativeCoordinator {
    bridge: Arc<Bridge>,
}

#[napi]
impl NativeCoordinator {
    /// `ask` is called with each question, on the thread that calls this.
    #[napi(constructor)]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands over functions by value")]
    pub fn new(name: String, answers: &NativeAnswers, ask: Function<'_, Question, ()>) -> napi::Result<Self> {
        let waiting = Arc::clone(&answers.waiting);
        let open = CloseOnDrop::new(&waiting);
        let ask = ask.build_threadsafe_function::<Question>().weak::<true>().callee_handled::<false>().build_callback(
            move |context| {
                let _ = &open;
                Ok(context.value)
            },
        )?;
        Ok(Self { bridge: Arc::new(Bridge { name, ask: Arc::new(ask), waiting, home: thread::current().id() }) })
    }
}

impl NativeCoordinator {
    pub(super) fn coordinator(&self) -> Arc<dyn Coordinator> {
        Arc::<Bridge>::clone(&self.bridge)
    }
}

/// What a row's value says, for people, as JSON; refused as a refresh refuses it.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over strings by value")]
#[must_use]
pub fn read_row(value: String) -> Reply {
    match Row::parse(&value) {
        Ok(Row { state, claim, attempts, in_doubt, .. }) => {
            let (host, pid) = claim.map(|claim| (claim.host, claim.pid)).unzip();
            let in_doubt = in_doubt.then_some(true);
            json!({ "state": state, "host": host, "pid": pid, "attempts": attempts, "inDoubt": in_doubt }).into()
        }
        Err(Unavailable(why)) => Error::new(Code::CoordinatorUnavailable, why).into(),
    }
}

struct Bridge {
    name: String,
    ask: Arc<Ask>,
    waiting: Arc<OpenQuestions>,
    /// The thread that answers.
    home: ThreadId,
}

impl Bridge {
    fn put(&self, number: u32, step: Step, row: &str, version: Option<&str>, value: Option<&str>, ms: f64) -> bool {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let question = (number, step, row.to_owned(), owned(version), owned(value), ms).into();
        self.ask.call(question, ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok
    }

    fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        step: Step,
        row: &str,
        version: Option<&str>,
        value: Option<&str>,
    ) -> Result<Option<T>, Unavailable> {
        // No other thread could be started: this one would wait for itself.
        if thread::current().id() == self.home {
            return Err(Unavailable(GONE.to_owned()));
        }
        let put = |number| self.put(number, step, row, version, value, 0.0);
        match self.waiting.ask(ANSWER_PATIENCE, put) {
            Ok(Some(answer)) => read(&answer),
            Ok(None) => Err(Unavailable("its function failed".to_owned())),
            Err(Silence::Late) => {
                Err(Unavailable("it does not answer; is this program's event loop blocked?".to_owned()))
            }
            Err(Silence::Gone) => Err(Unavailable(GONE.to_owned())),
        }
    }
}

const GONE: &str = "it can't be reached any more; the thread that gave it has ended";

fn read<T: for<'a> Deserialize<'a>>(answer: &Zeroizing<String>) -> Result<Option<T>, Unavailable> {
    match serde_json::from_str::<Told<T>>(answer) {
        Ok(Told { failed: Some(why), .. }) => Err(Unavailable(why)),
        Ok(Told { told, .. }) => Ok(told),
        Err(_) => Err(Unavailable("it answered with something else than it was asked for".to_owned())),
    }
}

impl Coordinator for Bridge {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(&self, row: &str) -> Result<Option<Entry>, Unavailable> {
        let told: Option<ToldEntry> = self.ask(Step::Load, row, None, None)?;
        Ok(told.map(|ToldEntry { version, value, age_ms }| Entry { version, value, age_ms }))
    }

    fn compare_and_swap(&self, row: &str, expected: Option<&str>, value: &str) -> Result<Option<String>, Unavailable> {
        self.ask(Step::CompareAndSwap, row, expected, Some(value))
    }

    fn watch(&self, row: &str, version: &str, limit: Duration, changed: Box<dyn FnOnce() + Send>) -> Option<Watch> {
        let ms = limit.as_secs_f64() * 1000.0;
        let number =
            self.waiting.ask_later(changed, |number| self.put(number, Step::Watch, row, Some(version), None, ms))?;
        let (waiting, ask) = (Arc::clone(&self.waiting), Arc::clone(&self.ask));
        Some(Box::new(EndWatch { number, waiting, ask }))
    }

    fn is_gone(&self) -> bool {
        self.waiting.is_closed()
    }
}

/// How long to wait before an engine is told again what it has not heard; doubled each time.
const FIRST_DEBT_PAUSE_MS: f64 = 500.0;
const LAST_DEBT_PAUSE_MS: f64 = 60_000.0;

/// How long a look for debts counts: another process may have died since.
const LOOKED_MS: f64 = 60_000.0;

/// The debts that this process knows of.
#[derive(Default)]
struct Debts {
    /// The keys whose debts it is paying, each with the latest call: of an earlier one the thread that gave the coordinator may have
    /// ended.
    paying: BTreeMap<PathBuf, Arc<Refresh>>,
    /// When it has looked for those of a key.
    seen: BTreeMap<PathBuf, BootMs>,
}

impl Debts {
    fn has_to_look(&self, lock_base: &Path) -> bool {
        let now_ms = SystemClock.boot_ms();
        self.seen.get(lock_base).is_none_or(|at| now_ms - *at > LOOKED_MS)
    }
}

static DEBTS: LazyLock<Mutex<Debts>> = LazyLock::new(Mutex::default);

fn lock_debts() -> MutexGuard<'static, Debts> {
    DEBTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process has to look again whether one that has died owes the coordinator an answer, or is telling it one.
pub(super) fn has_to_look_for_debts(call: &Refresh) -> bool {
    let debts = lock_debts();
    call.hosts.is_some() && (debts.has_to_look(&call.lock_base) || debts.paying.contains_key(&call.lock_base))
}

/// Looks for that, once a minute at most, and tells the coordinator: other hosts wait for it. Blocks this thread; a process of a single
/// call may end right after that.
pub(super) fn look_for_debts(call: &Arc<Refresh>) {
    if call.hosts.is_none() {
        return;
    }
    let mut debts = lock_debts();
    if let Some(paying) = debts.paying.get_mut(&call.lock_base) {
        let earlier = std::mem::replace(paying, Arc::clone(call));
        if earlier.hosts.as_ref().is_some_and(|hosts| hosts.coordinator.is_gone()) {
            // In vain until now, so that the pauses have grown.
            let call = Arc::clone(call);
            drop(debts);
            task::after(0.0, move || {
                if !matches!(call.settle_debts(), Ok(false)) {
                    lock_debts().paying.remove(&call.lock_base);
                }
            });
        }
    } else if debts.has_to_look(&call.lock_base) {
        debts.seen.insert(call.lock_base.clone(), SystemClock.boot_ms());
        drop(debts);
        if call.is_owing() && matches!(call.settle_debts(), Ok(false)) {
            pay_debts(Arc::clone(call));
        }
    }
}

/// Has this process tell the coordinator what it has not heard, whatever the turn that is over came to.
pub(super) fn pay_if_owing(call: &Arc<Refresh>) {
    if call.is_owing() {
        pay_debts(Arc::clone(call));
    }
}

/// Tells the coordinator what it has not heard, again and again, for as long as this process lives.
fn pay_debts(call: Arc<Refresh>) {
    let lock_base = call.lock_base.clone();
    if lock_debts().paying.insert(lock_base.clone(), call).is_none() {
        pay_after(lock_base, FIRST_DEBT_PAUSE_MS);
    }
}

fn pay_after(lock_base: PathBuf, pause_ms: f64) {
    task::after(pause_ms, move || {
        let Some(call) = lock_debts().paying.get(&lock_base).cloned() else { return };
        if matches!(call.settle_debts(), Ok(false)) {
            return pay_after(lock_base, (pause_ms * 2.0).min(LAST_DEBT_PAUSE_MS));
        }
        // A journal that can't be used concerns the next call.
        lock_debts().paying.remove(&lock_base);
    });
}

struct EndWatch {
    number: u32,
    waiting: Arc<OpenQuestions>,
    ask: Arc<Ask>,
}

impl Drop for EndWatch {
    fn drop(&mut self) {
        if self.waiting.forget(self.number) {
            let question = (self.number, Step::EndWatch, String::new(), None, None, 0.0).into();
            self.ask.call(question, ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}
