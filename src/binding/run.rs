//! A refresh, for JavaScript: asks the provider by a function or at a token endpoint, and hears what either answers.

use super::coordinator::pay_if_owing;
use super::dialogue::{Answer, Dialogue, Endpoint, Message, close};
use super::lock::lane;
use super::refresh::NativeRefresh;
use super::task;
use crate::clock::SystemClock;
use crate::refresh::{Backoff, CallFailure, FailureClass, Patience, Run};
use crate::store::Store;
use napi::bindgen_prelude::Function;
use napi_derive::napi;
use std::sync::{Arc, PoisonError};
use zeroize::Zeroizing;

/// See [`Patience`]. Without `asking_ms` the provider is asked again for as long as the caller waits.
#[napi(object, object_to_js = false)]
pub struct GivenPatience {
    pub waits: bool,
    pub ms: f64,
    pub asking_ms: Option<f64>,
}

impl From<GivenPatience> for Patience {
    fn from(GivenPatience { waits, ms, asking_ms }: GivenPatience) -> Self {
        let of_timers = SystemClock::boot_ms_of_timers;
        Self { waits, ms: of_timers(ms), asking_ms: asking_ms.map_or(f64::INFINITY, of_timers) }
    }
}

#[napi]
impl NativeRefresh {
    /// Takes the lock, decides, and asks the provider if that is what is to be done: see [`Run::start`].
    /// `has_subscribers` tells whether anybody wants to know of each step.
    #[napi]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands over functions by value")]
    pub fn turn(
        &self,
        tell: Function<'_, Message, ()>,
        patience: GivenPatience,
        has_subscribers: bool,
    ) -> napi::Result<()> {
        self.begin_turn(&tell, patience, has_subscribers, None)
    }

    /// JavaScript has taken the store owners' locks (`false`: the caller left first).
    #[napi]
    pub fn held(&self, is_held: bool) {
        self.answer(Answer::Held(is_held));
    }

    /// The store owners' locks could not be taken; JavaScript has the error.
    #[napi]
    pub fn not_held(&self) {
        self.answer(Answer::NotHeld);
    }

    /// Says what the provider answered: `fields` is JSON.
    #[napi]
    pub fn answered(&self, fields: String) {
        self.answer(Answer::Fields(Zeroizing::new(fields)));
    }

    /// Says that the call failed. `class` is one of `not_sent`, `answered_unspent`, `answered_dead`, `uncertain`; `is_answer` tells
    /// whether an answer came, `is_temporary` whether it may work in a moment.
    #[napi]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
    pub fn failed(&self, class: String, is_answer: bool, is_temporary: bool, retry_after_ms: Option<f64>) {
        let class = match class.as_str() {
            "not_sent" => FailureClass::NotSent,
            "answered_unspent" => FailureClass::AnsweredUnspent,
            "answered_dead" => FailureClass::AnsweredDead,
            _ => FailureClass::Uncertain,
        };
        let pause = Backoff::after(class, is_answer, retry_after_ms);
        self.answer(Answer::Failed(CallFailure { class, pause, is_temporary }));
    }

    /// Says that there was nothing to ask: nothing was sent.
    #[napi]
    pub fn nothing(&self) {
        self.answer(Answer::Nothing);
    }

    /// Says that nothing has been asked yet, and that it is late.
    #[napi]
    pub fn late(&self) {
        self.answer(Answer::Late);
    }
}

impl NativeRefresh {
    fn answer(&self, heard: Answer) {
        if let Some(asker) = &*self.answers.lock().unwrap_or_else(PoisonError::into_inner) {
            // The turn may be over.
            let _ = asker.send(heard);
        }
    }

    pub(super) fn begin_turn(
        &self,
        tell: &Function<'_, Message, ()>,
        patience: GivenPatience,
        has_subscribers: bool,
        endpoint: Option<Endpoint>,
    ) -> napi::Result<()> {
        let call = self.call()?;
        let is_held = call.own.is_held() || call.main.as_ref().is_some_and(Store::is_held);
        let program = Dialogue::new(tell, &self.answers, &self.caller, has_subscribers, is_held, endpoint)?;
        let answers = Arc::clone(&self.answers);
        let lane = lane(&call.lock_base).to_owned();
        let debtor = Arc::clone(&call);
        let run = Run::new(call, Arc::clone(&self.caller), patience.into(), program);
        task::start(&lane, move || {
            run.start(move |program, turn| {
                close(&answers);
                program.end(turn);
                pay_if_owing(&debtor);
            });
        });
        Ok(())
    }
}
