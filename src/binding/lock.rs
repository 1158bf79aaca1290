//! A key's lock, for JavaScript: taken at once if free, else by a promise that can be given up.

use super::{Failure, Reply};
use crate::journal::{self, Journal};
use crate::lock::{self, Acquire, Guard, Ticket};
use napi::JsDeferred;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
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
    state: Arc<Mutex<State>>,
}

#[napi]
impl NativeLock {
    /// For the lock file at `base`, an absolute path.
    #[napi(constructor)]
    #[must_use]
    pub fn new(base: String) -> Self {
        Self { base: base.into(), state: Arc::new(Mutex::new(State::Idle)) }
    }

    /// Takes the lock if it is free. Otherwise `null` resolves to a promise: call `wait`.
    #[napi]
    pub fn acquire(&self) -> Reply {
        *self.lock() = State::Waiting(None, None);
        let state = Arc::clone(&self.state);
        match lock::acquire(&self.base, move |lock| grant(&state, lock)) {
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
        if let Ok(Some(record)) = Journal::peek(&journal::path_for(&self.base)) {
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
