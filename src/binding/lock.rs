//! A key's lock, for JavaScript: taken at once if free, else by a promise that can be given up.

use super::{Failure, Reply};
use crate::journal::Journal;
use crate::lock::{self, Acquire, Guard, Notice, Target, Ticket, term};
use napi::JsDeferred;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Deferred = JsDeferred<Reply, Box<dyn FnOnce(Env) -> napi::Result<Reply>>>;

enum State {
    /// Not asked for, given up, or released.
    Idle,
    /// In line. The promise is there once somebody waits for it.
    Waiting(Option<Ticket>, Option<Deferred>),
    Held(Guard),
    Failed(Reply),
}

/// One attempt to hold a lock.
#[napi]
pub struct NativeLock {
    base: PathBuf,
    target: Target,
    state: Arc<Mutex<State>>,
}

#[napi]
impl NativeLock {
    /// For the lock at `base`, an absolute path. Peers may take over from an owner that is stuck if it is held to refresh.
    #[napi(constructor)]
    #[must_use]
    pub fn new(base: String, is_refresh: bool) -> Self {
        let base = PathBuf::from(base);
        let target = if is_refresh { Target::refresh(&base) } else { Target::alone(&base) };
        Self { base, target, state: Arc::new(Mutex::new(State::Idle)) }
    }

    /// Takes the lock if it is free. Otherwise, if `patient`, it stands in line for it: call `wait`.
    #[napi]
    pub fn acquire(&self, patient: bool) -> Reply {
        if !patient {
            return match lock::try_acquire(&self.target) {
                Ok(guard) => {
                    let is_held = guard.is_some();
                    *self.lock() = guard.map_or(State::Idle, State::Held);
                    Reply::from(serde_json::Value::Bool(is_held))
                }
                Err(error) => error.into(),
            };
        }
        *self.lock() = State::Waiting(None, None);
        let state = Arc::clone(&self.state);
        match lock::acquire(&self.target, move |lock| grant(&state, lock)) {
            Ok(Acquire::Held(guard)) => {
                *self.lock() = State::Held(guard);
                Reply::from(serde_json::Value::Bool(true))
            }
            Ok(Acquire::Waiting(ticket)) => {
                if let State::Waiting(place, _) = &mut *self.lock() {
                    *place = Some(ticket);
                }
                Reply::from(serde_json::Value::Bool(false))
            }
            Err(error) => {
                *self.lock() = State::Idle;
                error.into()
            }
        }
    }

    /// Settles when the lock is held, or cannot be, or was given up.
    #[napi]
    pub fn wait<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (deferred, promise): (Deferred, _) = env.create_deferred()?;
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Idle) {
            State::Waiting(ticket, _) => *state = State::Waiting(ticket, Some(deferred)),
            State::Failed(reply) => settle(deferred, reply),
            held_or_idle => {
                *state = held_or_idle;
                settle(deferred, Reply::default());
            }
        }
        Ok(promise)
    }

    /// What people should know of how the lock was got, as JSON.
    #[napi]
    #[must_use]
    pub fn notices(&self) -> Option<String> {
        let state = self.lock();
        let State::Held(guard) = &*state else { return None };
        let notices: Vec<_> = guard.notices().iter().map(shown).collect();
        (!notices.is_empty()).then(|| serde_json::Value::from(notices).to_string())
    }

    /// Releases the lock, or leaves the line for it.
    #[napi]
    pub fn release(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Idle);
        if let State::Waiting(ticket, deferred) = state {
            if let Some(ticket) = ticket {
                // If the lock is on its way already, `grant` finds us idle and drops it.
                let _ = ticket.leave();
            }
            if let Some(deferred) = deferred {
                settle(deferred, Reply::default());
            }
        }
    }

    /// The error of a wait that ran out, with what is known of the holder.
    #[napi]
    #[must_use]
    pub fn timed_out(&self) -> Failure {
        let mut failure = Failure::from(lock::timed_out(&self.base));
        let journal = term::current(&self.base).map(|term| term::journal(&self.base, term));
        if let Ok(Some(record)) = journal.and_then(|journal| Journal::peek(&journal)) {
            failure.message = format!("{} (its refresh: {})", failure.message, record.state.as_str());
            failure.holder_state = Some(record.state.as_str().to_owned());
        }
        failure
    }

    /// Takes back a lock that was handed over and is still needed.
    pub(super) fn holder(&self) -> impl FnOnce(Guard) + Send + 'static {
        let state = Arc::clone(&self.state);
        move |guard| *state.lock().unwrap_or_else(PoisonError::into_inner) = State::Held(guard)
    }

    /// Hands the lock over to the refresh that it guards.
    pub(super) fn take(&self) -> Option<Guard> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Idle) {
            State::Held(guard) => Some(guard),
            other => {
                *state = other;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(notice: &Notice) -> serde_json::Value {
    match notice {
        Notice::Warned(warning) => json!({
            "type": "warned", "code": warning.code, "message": warning.message, "path": warning.path.to_string_lossy(),
        }),
        Notice::Reclaimed(from) => json!({ "type": "reclaimed", "pid": from.pid }),
    }
}

/// Called by the waiting thread, with the lock or with why there is none.
fn grant(state: &Mutex<State>, lock: crate::error::Result<Guard>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    // Given up meanwhile: the guard is dropped, and the lock is free for the next.
    let State::Waiting(_, deferred) = std::mem::replace(&mut *state, State::Idle) else { return };
    let reply = match lock {
        Ok(guard) => {
            *state = State::Held(guard);
            Reply::default()
        }
        Err(error) => {
            let reply = Reply::from(error);
            if deferred.is_none() {
                *state = State::Failed(reply);
                return;
            }
            reply
        }
    };
    if let Some(deferred) = deferred {
        settle(deferred, reply);
    }
}

fn settle(deferred: Deferred, reply: Reply) {
    deferred.resolve(Box::new(move |_| Ok(reply)));
}
