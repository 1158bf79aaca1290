//! A refresh, for JavaScript: look, decide under the lock, settle.

use super::host_store::NativeHostStore;
use super::lock::{NativeLock, timed_out};
use super::paths::{Surroundings, state_dir};
use super::task::Promise;
use super::{Reply, task};
use crate::clock::{SystemClock, boot_pause};
use crate::credential::Credential;
use crate::error::{Code, Error, Result};
use crate::fields::Fields;
use crate::file_system;
use crate::key::{self, Key};
use crate::refresh::{
    Call, CallFailure, DEFAULT_REFRESH_MARGIN_MS, Decision, Failed, FailureClass, InFlight, LookedAgain, Pause, Served,
    Settled, Uncertain, Unsettled, Waits,
};
use crate::state_dir::{Environment, canonical, normalise};
use crate::store::{FileStore, Hosted, Store};
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

/// One caller's refresh. To be opened before anything else is asked of it.
#[napi]
pub struct NativeRefresh {
    pub(super) flight: Arc<Slot>,
    pub(super) saved: Saved,
    request: Arc<Request>,
    call: Arc<OnceLock<Arc<Call>>>,
    lock_path: Option<PathBuf>,
    lane: PathBuf,
}

/// What became of an answer that could not be saved at first.
pub(super) type Saved = Arc<Mutex<Option<Reply>>>;

/// What a caller asks for, as text: nothing has been looked up yet.
struct Request {
    given: RefreshRequest,
    key: Key,
    environment: Environment,
    own: Option<Hosted>,
    main: Option<Hosted>,
}

/// A request whose paths are known.
struct Opened {
    call: Call,
    /// The calling agent's directory, or what a host's store goes by.
    agent_dir: PathBuf,
}

impl Request {
    fn new(mut given: RefreshRequest, own: Option<Hosted>, main: Option<Hosted>) -> napi::Result<Self> {
        let invalid = |error: Error| napi::Error::new(napi::Status::InvalidArg, error.message);
        let key = Key::new(&given.provider, &given.profile_id).map_err(invalid)?;
        let environment = given.surroundings.take().map_or_else(Default::default, Into::into);
        Ok(Self { given, key, environment, own, main })
    }

    /// The key's lock base path, if nothing has to be looked up for it.
    fn lock_path(&self) -> Option<PathBuf> {
        let given = self.given.lock_path.as_ref().map(|given| normalise(Path::new(given)));
        let is_told = self.given.state_dir.is_some() || self.environment.searched().is_none();
        let default = || {
            let state_dir = state_dir(self.given.state_dir.clone(), &self.environment);
            key::lock_base(&state_dir, self.key.provider(), self.key.profile_id())
        };
        given.or_else(|| is_told.then(default))
    }

    /// Where its files lie.
    fn lane(&self) -> PathBuf {
        let given = self.given.agent_dir.as_ref().or(self.given.main_agent_dir.as_ref()).map(PathBuf::from);
        given.or_else(|| self.lock_path()).unwrap_or_default()
    }

    /// Looks the paths up. `None` if one of them may not be looked at.
    fn open(&self, may_look_at: impl Fn(&Path) -> bool) -> Result<Option<Opened>> {
        let Self { given, key, environment, own, main } = self;
        let searched = environment.searched().filter(|_| given.state_dir.is_none());
        if !searched.iter().flatten().all(|path| may_look_at(path)) {
            return Ok(None);
        }
        if let (None, Some(agent_dir)) = (&given.state_dir, given.agent_dir.as_ref().or(given.main_agent_dir.as_ref()))
        {
            environment.refuse_made_up(&normalise(Path::new(agent_dir)))?;
        }
        let state_dir = state_dir(given.state_dir.clone(), environment);
        let normal = |given: &String| normalise(Path::new(given));
        let default_base = || key::lock_base(&state_dir, key.provider(), key.profile_id());
        let lock_base = given.lock_path.as_ref().map_or_else(default_base, normal);
        if !may_look_at(&state_dir.join("state")) || !may_look_at(&lock_base) {
            return Ok(None);
        }
        let main_dir = given.main_agent_dir.as_ref().map(normal);
        let (own, main, agent_dir) = if let Some(own) = own {
            let main_file = main_dir.map(|dir| FileStore::new(&dir, &state_dir).into());
            let main = main.clone().map(Store::from).or(main_file);
            let agent_dir = own.path().to_owned();
            // Two stores of one name are one.
            (Store::from(own.clone()), main.filter(|main| main.path() != agent_dir), agent_dir)
        } else {
            let main_dir = main_dir.unwrap_or_else(|| environment.main_agent_dir(&state_dir));
            let agent_dir = given.agent_dir.as_ref().map_or_else(|| main_dir.clone(), normal);
            let (own, main) = (FileStore::new(&agent_dir, &state_dir), FileStore::new(&main_dir, &state_dir));
            if !may_look_at(own.path()) || !may_look_at(main.path()) {
                return Ok(None);
            }
            let main = (!is_same_dir(&agent_dir, &main_dir)).then(|| main.into());
            (own.into(), main, agent_dir)
        };
        let rejected = OnceLock::new();
        if let Some(access) = &given.rejected_access {
            let _ = rejected.set(Zeroizing::new(access.clone()));
        }
        let call = Call {
            lock_base,
            own,
            main,
            margin_ms: given.refresh_margin_ms.unwrap_or(DEFAULT_REFRESH_MARGIN_MS),
            serve_unexpired: given.serve_unexpired,
            force: given.force_refresh,
            rejected,
            seen: OnceLock::new(),
            last_seen: Mutex::default(),
            waits: Waits::default(),
            uncertain: if given.uncertain.as_deref() == Some("fail") { Uncertain::Fail } else { Uncertain::Probe },
            clock: Arc::new(SystemClock),
            state_dir,
            key: key.clone(),
        };
        Ok(Some(Opened { call, agent_dir }))
    }
}

impl Opened {
    /// Makes it the call that is asked from now on.
    fn begin(self, slot: &OnceLock<Arc<Call>>) -> Reply {
        let Self { call, agent_dir } = self;
        let reply = Reply::from(json!({
            "lockPath": text(&call.lock_base),
            "key": text(&canonical(&call.lock_base)),
            "agentDir": text(&agent_dir),
            "mainStore": text(call.main_store().path()),
        }));
        let _ = slot.set(Arc::new(call));
        reply
    }
}

/// What [`glance`] found.
#[napi(object, object_from_js = false)]
pub struct Glimpse {
    /// The credential's JSON text.
    pub credential: String,
    /// The key's lock base path, if it was asked for.
    pub lock_path: Option<String>,
    /// The calling agent's directory, likewise.
    pub agent_dir: Option<String>,
}

/// See [`Call::glance`]. Looks only where nothing is waited for: at files that are known to be local. Leaves nothing behind for
/// Node to collect. With `tells_paths` it says where it looked.
#[napi]
pub fn glance(request: RefreshRequest, tells_paths: bool) -> napi::Result<Option<Glimpse>> {
    // What is refused is told by who opens it.
    let opened = Request::new(request, None, None)?.open(file_system::is_known_local);
    let Ok(Some(Opened { call, agent_dir })) = opened else {
        return Ok(None);
    };
    let told = |path: &Path| tells_paths.then(|| text(path));
    Ok(call.glance().and_then(|recent| recent.json.as_deref().cloned()).map(|credential| Glimpse {
        credential,
        lock_path: told(&call.lock_base),
        agent_dir: told(&agent_dir),
    }))
}

#[napi]
impl NativeRefresh {
    /// Touches no file. `own` and `main` are a host's stores.
    #[napi(constructor)]
    pub fn new(
        request: RefreshRequest,
        own: Option<&NativeHostStore>,
        main: Option<&NativeHostStore>,
    ) -> napi::Result<Self> {
        let request = Request::new(request, own.map(NativeHostStore::store), main.map(NativeHostStore::store))?;
        Ok(Self {
            lock_path: request.lock_path(),
            lane: request.lane(),
            request: Arc::new(request),
            call: Arc::default(),
            flight: Arc::default(),
            saved: Arc::default(),
        })
    }

    /// The key's lock base path, if nothing had to be looked up for it.
    #[napi(getter)]
    #[must_use]
    pub fn lock_path(&self) -> Option<String> {
        self.lock_path.as_deref().map(text)
    }

    /// Looks up what it takes to go on, as JSON: `lockPath`, the key's lock base path, and `key`, its one name by whatever links
    /// it is reached; `agentDir`, the calling agent's directory, or what a host's store goes by; `mainStore`, which this caller
    /// adopts from. Says nothing where that may take its time: then it is to be done with [`Self::open`].
    #[napi]
    #[must_use]
    pub fn open_now(&self) -> Option<Reply> {
        let opened = self.request.open(file_system::is_known_local).transpose()?;
        Some(opened.map_or_else(Reply::from, |opened| opened.begin(&self.call)))
    }

    /// The same wherever it is; in the order of the calls. With a credential if that is all that is needed: see
    /// [`Call::glance`].
    #[napi]
    pub fn open<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (request, slot) = (Arc::clone(&self.request), Arc::clone(&self.call));
        task::in_order(env, self.lock_path.as_deref().unwrap_or(&self.lane), move || {
            let opened = request.open(|path| {
                file_system::learn(path);
                true
            })?;
            let opened = opened.ok_or_else(|| Error::new(Code::Internal, "not opened"))?;
            let credential = opened.call.glance().and_then(|recent| recent.json.as_deref().cloned());
            Ok(Reply { credential, ..opened.begin(&slot) })
        })
    }

    /// See [`Call::look`]; `peers` is JSON. The reply is empty if the lock is needed.
    #[napi]
    pub fn look<'env>(&self, env: &'env Env, peers: Option<String>) -> napi::Result<Object<'env>> {
        let call = self.call()?;
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
        let call = self.call()?;
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
        let seen = self.call.get().and_then(|call| call.last_seen());
        seen.as_ref().map_or_else(Reply::default, unexpired)
    }

    /// What to tell a caller that has waited in vain: see [`Call::delay`]; else, if it waited for the lock at `lock_path`, who
    /// holds that. Empty if it waited for neither.
    #[napi]
    pub fn why_late<'env>(&self, env: &'env Env, lock_path: Option<String>) -> napi::Result<Object<'env>> {
        let call = self.call.get().cloned();
        task::beside(env, &self.lane, move || {
            if let Some(error) = call.and_then(|call| call.delay()) {
                return Err(error);
            }
            Ok(lock_path.map_or_else(Reply::default, |path| timed_out(Path::new(&path))))
        })
    }

    /// See [`Call::look_again`]; to be asked before [`Self::decide`]. Empty if the lock is still needed, and held.
    #[napi]
    pub fn look_again<'env>(&self, env: &'env Env, lock: &NativeLock) -> napi::Result<Object<'env>> {
        let call = self.call()?;
        let (guard, hand_back) = (lock.take(), lock.holder());
        self.promise(env, move || {
            let guard = guard.ok_or_else(|| Error::new(Code::Internal, "looked again without the lock"))?;
            Ok(match call.look_again(guard)? {
                LookedAgain::Not(guard) => {
                    hand_back(guard);
                    Reply::default()
                }
                LookedAgain::Served(by) => served(by),
                LookedAgain::InVain => Reply::from(json!({ "kind": "takenOver" })),
            })
        })
    }

    /// See [`Call::decide`]. Takes the lock over: it is released with the call's end, or handed back with `busy`.
    #[napi]
    pub fn decide<'env>(&self, env: &'env Env, lock: &NativeLock) -> napi::Result<Object<'env>> {
        let (call, slot) = (self.call()?, Arc::clone(&self.flight));
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

    /// See [`InFlight::may_send`]: says whether. To be asked at the last moment before the provider is.
    #[napi]
    pub fn may_send<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (slot, flight) = (Arc::clone(&self.flight), take(&self.flight));
        task::settling(env, move |promise| match flight {
            Ok(flight) => {
                let may_send = flight.may_send();
                put(&slot, flight);
                promise.settle(Value::Bool(may_send));
            }
            Err(error) => promise.settle(error),
        })
    }

    /// See [`Call::settle`]; `fields` is JSON. With code `receipt_unsaved` it goes on trying: see [`Self::saved`].
    #[napi]
    pub fn settle<'env>(&self, env: &'env Env, fields: String) -> napi::Result<Object<'env>> {
        let (call, flight, saved) = (self.call()?, take(&self.flight), Arc::clone(&self.saved));
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
        let (call, slot, flight) = (self.call()?, Arc::clone(&self.flight), take(&self.flight));
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
                    Failed::Instead(
                        Decision::Busy { .. }
                        | Decision::BackOff { .. }
                        | Decision::Claimed { .. }
                        | Decision::Later(_),
                    )
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
        let (call, flight) = (self.call()?, take(&self.flight));
        task::settling(env, move |promise| {
            let abandoned = flight.and_then(|flight| call.abandon(flight));
            promise.settle(abandoned.map_or_else(Reply::from, |()| Reply::default()));
        })
    }
}

impl Drop for NativeRefresh {
    fn drop(&mut self) {
        if let Ok(flight) = take(&self.flight) {
            task::discard(&self.lane, flight);
        }
    }
}

impl NativeRefresh {
    pub(super) fn call(&self) -> napi::Result<Arc<Call>> {
        let call = self.call.get().cloned();
        call.ok_or_else(|| napi::Error::new(napi::Status::GenericFailure, "asked before it was opened"))
    }

    /// Runs what reads stores off Node's thread.
    fn promise<'env>(
        &self,
        env: &'env Env,
        work: impl FnOnce() -> Result<Reply> + Send + 'static,
    ) -> napi::Result<Object<'env>> {
        if self.call()?.has_hosts() { task::asking(env, work) } else { task::promise(env, &self.lane, work) }
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
            Reply::from(json!({ "kind": "backoff", "waitMs": wait_ms, "refreshError": located(&error) }))
        }
        Decision::Claimed { wait_ms, error } => {
            Reply::from(json!({ "kind": "claimed", "waitMs": wait_ms, "refreshError": located(&error) }))
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
            Reply::from(json!({ "kind": "fresh", "refreshError": located(&refresh_error) })).with(&credential)
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

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn words(error: &Error) -> Value {
    json!({ "code": error.code.as_str(), "message": error.message })
}

/// The same with the path concerned, for an error that is raised.
fn located(error: &Error) -> Value {
    json!({ "code": error.code.as_str(), "message": error.message, "path": error.path.as_deref().map(text) })
}

/// Whether two directories are one, by whatever names.
fn is_same_dir(one: &Path, other: &Path) -> bool {
    one == other || crate::disk::is_same(one, other)
}
