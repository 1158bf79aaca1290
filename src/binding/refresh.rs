//! A refresh, for JavaScript: look, decide under the lock, settle.

use super::host_store::NativeHostStore;
use super::lock::NativeLock;
use super::paths::{Surroundings, state_dir};
use super::task::Promise;
use super::{Failure, Reply, task};
use crate::clock::{SystemClock, boot_pause};
use crate::credential::Credential;
use crate::error::{Code, Error, Result};
use crate::fields::Fields;
use crate::key::{self, Key};
use crate::refresh::{
    Call, CallFailure, DEFAULT_REFRESH_MARGIN_MS, Decision, Failed, FailureClass, InFlight, Pause, Served, Settled,
    Uncertain, Unsettled,
};
use crate::state_dir::normalise;
use crate::store::{FileStore, Store};
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// A call's arguments, validated by JavaScript. Paths are absolute.
#[napi(object, object_to_js = false)]
pub struct RefreshRequest {
    /// Provider.
    pub provider: String,
    /// Profile id.
    pub profile_id: String,
    /// Default: from the surroundings.
    pub state_dir: Option<String>,
    /// Default: from state directory and key.
    pub lock_path: Option<String>,
    /// Default: main's. Not with a host's own store.
    pub agent_dir: Option<String>,
    /// Default: from the surroundings; with a host's own store, none.
    pub main_agent_dir: Option<String>,
    /// In milliseconds.
    pub refresh_margin_ms: Option<f64>,
    /// See `RefreshOptions`.
    pub force_refresh: bool,
    /// See `RefreshOptions`.
    pub rejected_access: Option<String>,
    /// See `RefreshOptions`.
    pub serve_unexpired: bool,
    /// `probe` or `fail`.
    pub uncertain: Option<String>,
    /// For the defaults.
    pub surroundings: Option<Surroundings>,
}

/// How long to wait before what could be saved nowhere is saved again; doubled each time.
const FIRST_SAVE_RETRY: Duration = Duration::from_millis(100);
const LAST_SAVE_RETRY: Duration = Duration::from_secs(10);

/// One caller's refresh.
#[napi]
pub struct NativeRefresh {
    pub(super) call: Arc<Call>,
    pub(super) flight: Arc<Slot>,
    pub(super) saved: Saved,
    agent_dir: PathBuf,
}

/// What became of an answer that could not be saved at first.
pub(super) type Saved = Arc<Mutex<Option<Reply>>>;

#[napi]
impl NativeRefresh {
    /// Resolves the paths. Touches no file but to see which state directory exists. `own` and `main` are a host's stores.
    #[napi(constructor)]
    pub fn new(
        request: RefreshRequest,
        own: Option<&NativeHostStore>,
        main: Option<&NativeHostStore>,
    ) -> napi::Result<Self> {
        let invalid = |error: Error| napi::Error::new(napi::Status::InvalidArg, error.message);
        let key = Key::new(&request.provider, &request.profile_id).map_err(invalid)?;
        let environment = request.surroundings.map_or_else(Default::default, Into::into);
        let state_dir = state_dir(request.state_dir, &environment);
        let main_dir = request.main_agent_dir.map(|given| normalise(Path::new(&given)));
        let (own, main, agent_dir) = if let Some(own) = own {
            let own = own.store();
            let main_file = main_dir.map(|dir| FileStore::new(&dir, &state_dir).into());
            let main = main.map(|main| Store::from(main.store())).or(main_file);
            let agent_dir = own.path().to_owned();
            // Two stores of one name are one.
            (Store::from(own), main.filter(|main| main.path() != agent_dir), agent_dir)
        } else {
            let main_dir = main_dir.unwrap_or_else(|| environment.main_agent_dir(&state_dir));
            let agent_dir = request.agent_dir.map_or_else(|| main_dir.clone(), |given| normalise(Path::new(&given)));
            let main = (!is_same_dir(&agent_dir, &main_dir)).then(|| FileStore::new(&main_dir, &state_dir).into());
            (FileStore::new(&agent_dir, &state_dir).into(), main, agent_dir)
        };
        let lock_base = request.lock_path.map_or_else(
            || key::lock_base(&state_dir, key.provider(), key.profile_id()),
            |given| normalise(Path::new(&given)),
        );
        let rejected = OnceLock::new();
        if let Some(access) = request.rejected_access {
            let _ = rejected.set(Zeroizing::new(access));
        }
        let call = Call {
            lock_base,
            own,
            main,
            margin_ms: request.refresh_margin_ms.unwrap_or(DEFAULT_REFRESH_MARGIN_MS),
            serve_unexpired: request.serve_unexpired,
            force: request.force_refresh,
            rejected,
            seen: OnceLock::new(),
            last_seen: Mutex::default(),
            uncertain: if request.uncertain.as_deref() == Some("fail") { Uncertain::Fail } else { Uncertain::Probe },
            clock: Arc::new(SystemClock),
            state_dir,
            key,
        };
        Ok(Self { call: Arc::new(call), flight: Arc::default(), saved: Arc::default(), agent_dir })
    }

    /// The key's lock base path.
    #[napi(getter)]
    #[must_use]
    pub fn lock_path(&self) -> String {
        self.call.lock_base.to_string_lossy().into_owned()
    }

    /// The calling agent's directory, or what a host's store goes by.
    #[napi(getter)]
    #[must_use]
    pub fn agent_dir(&self) -> String {
        self.agent_dir.to_string_lossy().into_owned()
    }

    /// Which main store this caller adopts from; what is mirrored there is meant for it too.
    #[napi(getter)]
    #[must_use]
    pub fn main_store(&self) -> String {
        self.call.main_store().path().to_string_lossy().into_owned()
    }

    /// See [`Call::glance`]: the credential's JSON text.
    #[napi]
    #[must_use]
    pub fn glance(&self) -> Option<String> {
        self.call.glance()?.json.as_deref().cloned()
    }

    /// See [`Call::look`]; `peers` is JSON. The reply is empty if the lock is needed.
    #[napi]
    pub fn look<'env>(&self, env: &'env Env, peers: Option<String>) -> napi::Result<Object<'env>> {
        let call = Arc::clone(&self.call);
        self.promise(env, move || {
            call.refuse_sqlite_era()?;
            let peers = peers.map(Zeroizing::new);
            let peers = peers.and_then(|json| Fields::parse(&json)).and_then(Credential::from_profile);
            Ok(call.look(peers.as_ref())?.map_or_else(Reply::default, served))
        })
    }

    /// What there is for a caller whose wait is over: as [`Call::look`], else what [`Call::unexpired`] finds, as `unexpired`.
    #[napi]
    pub fn at_last<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let call = Arc::clone(&self.call);
        self.promise(env, move || {
            call.refuse_sqlite_era()?;
            Ok(match call.look(None)? {
                Some(by) => served(by),
                None => call.unexpired()?.as_ref().map_or_else(Reply::default, unexpired),
            })
        })
    }

    /// See [`Call::last_seen`].
    #[napi]
    #[must_use]
    pub fn last_seen(&self) -> Reply {
        self.call.last_seen().as_ref().map_or_else(Reply::default, unexpired)
    }

    /// See [`Call::delay`].
    #[napi]
    #[must_use]
    pub fn delay(&self) -> Option<Failure> {
        self.call.delay().map(Failure::from)
    }

    /// See [`Call::decide`]. Takes the lock over: it is released with the call's end, or handed back with `busy`.
    #[napi]
    pub fn decide<'env>(&self, env: &'env Env, lock: &NativeLock) -> napi::Result<Object<'env>> {
        let (call, slot) = (Arc::clone(&self.call), Arc::clone(&self.flight));
        let (guard, hand_back) = (lock.take(), lock.holder());
        self.promise(env, move || {
            let guard = guard.ok_or_else(|| Error::new(Code::Internal, "decided without the lock"))?;
            Ok(match call.decide(guard)? {
                Decision::Busy { lock, other } => {
                    hand_back(lock);
                    Reply::from(json!({ "kind": "busy", "lockPath": other.to_string_lossy() }))
                }
                decision => decided(decision, &slot),
            })
        })
    }

    /// See [`InFlight::may_send`]. To be asked at the last moment before the provider is.
    #[napi]
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|flight| flight.may_send())
    }

    /// See [`Call::settle`]; `fields` is JSON. With code `receipt_unsaved` it goes on trying: see [`Self::saved`].
    #[napi]
    pub fn settle<'env>(&self, env: &'env Env, fields: String) -> napi::Result<Object<'env>> {
        let (call, flight, saved) = (Arc::clone(&self.call), take(&self.flight), Arc::clone(&self.saved));
        task::settling(env, move |promise| match flight {
            Ok(flight) => save(&call, flight, &Zeroizing::new(fields), promise, &saved),
            Err(error) => promise.settle(error),
        })
    }

    /// What became of an answer that could not be saved at first; nothing if that is still so.
    #[napi]
    #[must_use]
    pub fn saved(&self) -> Option<Reply> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// See [`Call::fail`]. `class` is one of `not_sent`, `answered_unspent`, `answered_dead`, `uncertain`; `is_answer` tells
    /// whether somebody answered, `passes` whether it
    /// may work in a moment.
    #[napi]
    pub fn fail<'env>(
        &self,
        env: &'env Env,
        class: String,
        is_answer: bool,
        passes: bool,
        retry_after_ms: Option<f64>,
    ) -> napi::Result<Object<'env>> {
        let (call, slot, flight) = (Arc::clone(&self.call), Arc::clone(&self.flight), take(&self.flight));
        task::settling(env, move |promise| {
            let class = match class.as_str() {
                "not_sent" => FailureClass::NotSent,
                "answered_unspent" => FailureClass::AnsweredUnspent,
                "answered_dead" => FailureClass::AnsweredDead,
                _ => FailureClass::Uncertain,
            };
            let pause = Pause::after(class, is_answer, retry_after_ms);
            let failed = flight.and_then(|flight| call.fail(flight, CallFailure { class, pause, passes }));
            promise.settle(match failed {
                // The next turn meets the other owner; this one has its error.
                Ok(
                    Failed::Instead(Decision::Busy { .. } | Decision::BackOff { .. } | Decision::Later(_))
                    | Failed::ForGood(None),
                ) => Reply::default(),
                Ok(Failed::Instead(decision)) => decided(decision, &slot),
                Ok(Failed::ForGood(Some(error))) => Reply::from(json!({ "kind": "dead", "message": error.message })),
                Err(error) => error.into(),
            });
        })
    }

    /// See [`Call::abandon`].
    #[napi]
    pub fn abandon<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (call, flight) = (Arc::clone(&self.call), take(&self.flight));
        task::settling(env, move |promise| {
            let abandoned = flight.and_then(|flight| call.abandon(flight));
            promise.settle(abandoned.map_or_else(Reply::from, |()| Reply::default()));
        })
    }
}

impl NativeRefresh {
    /// Runs what reads stores off Node's thread.
    fn promise<'env>(
        &self,
        env: &'env Env,
        work: impl FnOnce() -> Result<Reply> + Send + 'static,
    ) -> napi::Result<Object<'env>> {
        if self.call.has_hosts() { task::asking(env, work) } else { task::promise(env, work) }
    }
}

/// Saves an answer, and goes on trying for as long as this process lives: nobody else has it. We hold the lock meanwhile,
/// so that nobody sends the spent token; the caller is told at once.
pub(super) fn save(call: &Call, mut flight: Box<InFlight>, fields: &str, promise: Promise, saved: &Saved) {
    let mut promise = Some(promise);
    let mut pause = FIRST_SAVE_RETRY;
    let reply = loop {
        match call.settle(flight, fields) {
            Ok(done) => break settled(done),
            Err(Unsettled { error, retry: None }) => break error.into(),
            Err(Unsettled { error, retry: Some(again) }) => {
                if let Some(promise) = promise.take() {
                    promise.settle(error);
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(LAST_SAVE_RETRY);
                again.sign_of_life();
                flight = again;
            }
        }
    };
    match promise {
        Some(promise) => promise.settle(reply),
        None => *saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply),
    }
}

pub(super) type Slot = Mutex<Option<Box<InFlight>>>;

pub(super) fn take(slot: &Slot) -> Result<Box<InFlight>> {
    let flight = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    flight.ok_or_else(|| Error::new(Code::Internal, "settled without a call"))
}

pub(super) fn put(slot: &Slot, flight: Box<InFlight>) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(flight);
}

pub(super) fn decided(decision: Decision, slot: &Slot) -> Reply {
    match decision {
        Decision::Served(by) => served(by),
        Decision::BackOff { wait_ms, error } => {
            let wait_ms = boot_pause(wait_ms).as_secs_f64() * 1000.0;
            Reply::from(json!({ "kind": "backoff", "waitMs": wait_ms, "refreshError": words(&error) }))
        }
        Decision::Later(wait_ms) => Reply::from(json!({ "kind": "later", "waitMs": wait_ms })),
        Decision::TakenOver => Reply::from(json!({ "kind": "takenOver" })),
        // Handled where the lock can be handed back.
        Decision::Busy { .. } => Reply::default(),
        Decision::Dispatched(flight) => {
            let reply = Reply::from(json!({ "kind": "dispatched" })).with(flight.credential());
            put(slot, flight);
            reply
        }
    }
}

fn served(by: Served) -> Reply {
    let reply = |kind: &str, not_saved: Option<Error>, credential: &Credential| {
        Reply::from(json!({ "kind": kind, "notSaved": not_saved.as_ref().map(words) })).with(credential)
    };
    match by {
        Served::Absent => Reply::from(json!({ "kind": "absent" })),
        Served::Fresh(credential) => reply("fresh", None, &credential),
        Served::Unexpired { credential, refresh_error } => {
            Reply::from(json!({ "kind": "fresh", "refreshError": words(&refresh_error) })).with(&credential)
        }
        Served::Recovered { credential, not_saved } => reply("recovered", not_saved, &credential),
        Served::Adopted { credential, not_saved } => reply("adopted", not_saved, &credential),
    }
}

fn unexpired(credential: &Credential) -> Reply {
    Reply::from(json!({ "kind": "unexpired" })).with(credential)
}

fn settled(settled: Settled) -> Reply {
    match settled {
        Settled::Refreshed { credential, mirrored, not_saved } => Reply::from(json!({
            "kind": "refreshed",
            "notSaved": not_saved.as_ref().map(words),
            "mirror": mirrored.map(|mirrored| match mirrored {
                Ok(reason) => json!({ "written": reason.writes(), "reason": reason.as_str() }),
                Err(error) => json!({ "written": false, "reason": "store-error", "error": words(&error) }),
            }),
        }))
        .with(&credential),
        Settled::Superseded(credential) => served(Served::Fresh(credential)),
        Settled::LoggedOut => served(Served::Absent),
    }
}

fn words(error: &Error) -> Value {
    json!({ "code": error.code.as_str(), "message": error.message })
}

/// Whether two directories are one, by whatever names.
fn is_same_dir(one: &Path, other: &Path) -> bool {
    one == other || crate::disk::is_same(one, other)
}
