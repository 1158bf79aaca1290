//! A key's lock, for JavaScript: taken at once if free, else by a promise that can be given up.

use super::task::{self, Promise};
use super::{Failure, Reply};
use crate::clock::{Clock, SystemClock};
use crate::journal::Journal;
use crate::lock::{self, Acquire, Guard, Notice, Target, Ticket, term};
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

enum State {
    /// Not asked for, given up, or released.
    Idle,
    /// A thread of ours is trying to take it.
    Trying(Promise),
    /// In line. The promise is there once JavaScript waits for it.
    Waiting(Option<Promise>, Ticket),
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
    /// For a key's lock at `base`, an absolute path. No peer takes over from its holder.
    #[napi(constructor)]
    #[must_use]
    pub fn new(base: String) -> Self {
        Self::of(Target::never_taken_over(Path::new(&base), &clock()), base)
    }

    /// Takes the lock if it is free, and says whether. Otherwise it stands in line for it: call `wait`. Says nothing if the
    /// caller gives up meanwhile.
    #[napi]
    pub fn acquire<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (promise, object) = Promise::new(env)?;
        *self.lock() = State::Trying(promise);
        let (state, target) = (Arc::clone(&self.state), self.target.clone());
        task::start(self.lane(), move || attempt(&state, &target));
        Ok(object)
    }

    /// Settles when the lock is held, or cannot be, or was given up.
    #[napi]
    pub fn wait<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (promise, object) = Promise::new(env)?;
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Idle) {
            State::Waiting(_, ticket) => *state = State::Waiting(Some(promise), ticket),
            State::Failed(reply) => promise.settle(reply),
            other => {
                *state = other;
                promise.settle(Reply::default());
            }
        }
        Ok(object)
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

    /// Gives up the wait for it, or releases it; a returned promise settles when that is done.
    #[napi]
    pub fn release<'env>(&self, env: &'env Env) -> napi::Result<Option<Object<'env>>> {
        let state = std::mem::replace(&mut *self.lock(), State::Idle);
        match state {
            State::Held(guard) => {
                let released = move || {
                    drop(guard);
                    Ok(Reply::default())
                };
                return task::promise(env, self.lane(), released).map(Some);
            }
            // Should it be taken all the same, it is dropped.
            State::Trying(promise) => promise.settle(Reply::default()),
            State::Waiting(promise, ticket) => {
                // If the lock is on its way already, `granted` finds us idle and drops it.
                let _ = ticket.leave();
                if let Some(promise) = promise {
                    promise.settle(Reply::default());
                }
            }
            State::Idle | State::Failed(_) => {}
        }
        Ok(None)
    }

    /// The error of a wait that ran out, with what is known of the holder.
    #[napi]
    pub fn timed_out<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let base = self.base.clone();
        task::beside(env, self.lane(), move || Ok(timed_out(&base)))
    }

    pub(super) fn of(target: Target, base: impl Into<PathBuf>) -> Self {
        Self { target, base: base.into(), state: Arc::new(Mutex::new(State::Idle)) }
    }

    /// Hands the lock over.
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
        lock(&self.state)
    }

    fn lane(&self) -> &Path {
        lane(&self.base)
    }
}

impl Drop for NativeLock {
    fn drop(&mut self) {
        if let Some(guard) = self.take() {
            task::discard(self.lane(), guard);
        }
    }
}

/// The clock of everything that JavaScript asks for.
pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Where a lock's files lie.
pub(super) fn lane(base: &Path) -> &Path {
    base.parent().unwrap_or(base)
}

/// The error of a wait that ran out, with what is known of the holder.
pub(super) fn timed_out(base: &Path) -> Reply {
    let mut failure = Failure::from(Target::never_taken_over(base, &clock()).timed_out());
    let journal = term::current(base).map(|term| term::journal(base, term));
    if let Ok(Some(record)) = journal.and_then(|journal| Journal::peek(&journal)) {
        failure.message = format!("{} (its refresh: {})", failure.message, record.state.as_str());
        failure.holder_state = Some(record.state.as_str().to_owned());
    }
    Reply { error: Some(failure), ..Reply::default() }
}

pub(super) fn shown(notice: &Notice) -> Value {
    match notice {
        Notice::Warned(warning) => json!({
            "type": "warned", "code": warning.code, "message": warning.message, "path": warning.path.to_string_lossy(),
        }),
        Notice::Reclaimed(from) => json!({ "type": "reclaimed", "pid": from.pid }),
    }
}

/// Tries to take the lock, unless it has been given up by now.
fn attempt(state: &Arc<Mutex<State>>, target: &Target) {
    if !matches!(*lock(state), State::Trying(_)) {
        return;
    }
    let theirs = Arc::clone(state);
    let (next, reply): (_, Reply) = match lock::acquire(target, move |lock| grant(&theirs, lock)) {
        Ok(Acquire::Held(guard)) => (State::Held(guard), Value::Bool(true).into()),
        Ok(Acquire::Waiting(ticket)) => (State::Waiting(None, ticket), Value::Bool(false).into()),
        Err(error) => (State::Idle, error.into()),
    };
    let mut state = lock(state);
    match std::mem::replace(&mut *state, State::Idle) {
        State::Trying(promise) => {
            *state = next;
            promise.settle(reply);
        }
        other => {
            *state = other;
            drop(state);
            // Given up meanwhile, or granted already. A lock that is on its way is dropped by `grant`.
            if let State::Waiting(_, ticket) = next {
                let _ = ticket.leave();
            }
        }
    }
}

/// Called by the waiting thread, with the lock or with the reason that it has none.
fn grant(state: &Mutex<State>, granted: crate::error::Result<Guard>) {
    let mut state = lock(state);
    let (promise, is_known) = match std::mem::replace(&mut *state, State::Idle) {
        State::Waiting(promise, _) => (promise, true),
        State::Trying(promise) => (Some(promise), false),
        other => {
            *state = other;
            drop(state);
            // Given up meanwhile: the guard is dropped, and the lock is free for the next.
            drop(granted);
            return;
        }
    };
    let reply = match granted {
        Ok(guard) => {
            *state = State::Held(guard);
            if is_known { Reply::default() } else { Value::Bool(true).into() }
        }
        Err(error) => error.into(),
    };
    match promise {
        Some(promise) => promise.settle(reply),
        None if reply.error.is_some() => *state = State::Failed(reply),
        None => {}
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
