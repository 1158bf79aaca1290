//! A refresh, for JavaScript: look, decide under the lock, settle.

use super::host_store::NativeHostStore;
use super::lock::{clock, timed_out};
use super::paths::{Surroundings, state_dir};
use super::run::Answers;
use super::{Reply, task};
use crate::credential::Credential;
use crate::credential::fields::Fields;
use crate::error::{Code, Error, Result};
use crate::key::{self, Key};
use crate::lock::file_system;
use crate::refresh::{Caller, DEFAULT_REFRESH_MARGIN_MS, Refresh, Served, Settled, Uncertain, Waits};
use crate::state_dir::{Environment, canonical, normalise};
use crate::store::{FileStore, Hosted, Store};
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
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
    /// Default: the main agent's. Not with a host's own store.
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

/// One caller's refresh. To be opened before anything else is asked of it.
#[napi]
pub struct NativeRefresh {
    pub(super) answers: Answers,
    pub(super) caller: Arc<Caller>,
    request: Arc<Request>,
    call: Arc<OnceLock<Arc<Refresh>>>,
    lock_path: Option<PathBuf>,
    lane: PathBuf,
}

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
    call: Refresh,
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
    #[allow(clippy::too_many_lines, reason = "one step after the other")]
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
        let (state_dir, clock) = (state_dir(given.state_dir.clone(), environment), clock());
        let normal = |given: &String| normalise(Path::new(given));
        let default_base = || key::lock_base(&state_dir, key.provider(), key.profile_id());
        let lock_base = given.lock_path.as_ref().map_or_else(default_base, normal);
        if !may_look_at(&state_dir.join("state")) || !may_look_at(&lock_base) {
            return Ok(None);
        }
        let main_dir = given.main_agent_dir.as_ref().map(normal);
        let (own, main, agent_dir) = if let Some(own) = own {
            let main_file = main_dir.map(|dir| FileStore::new(&dir, &state_dir, &clock).into());
            let main = main.clone().map(Store::from).or(main_file);
            let agent_dir = own.path().to_owned();
            // Two stores of one name are one.
            (Store::from(own.clone()), main.filter(|main| main.path() != agent_dir), agent_dir)
        } else {
            let main_dir = main_dir.unwrap_or_else(|| environment.main_agent_dir(&state_dir));
            let agent_dir = given.agent_dir.as_ref().map_or_else(|| main_dir.clone(), normal);
            let file = |dir| FileStore::new(dir, &state_dir, &clock);
            let (own, main) = (file(&agent_dir), file(&main_dir));
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
        let call = Refresh {
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
            clock,
            state_dir,
            key: key.clone(),
        };
        Ok(Some(Opened { call, agent_dir }))
    }
}

impl Opened {
    /// Makes it the call that is asked from now on.
    fn begin(self, slot: &OnceLock<Arc<Refresh>>) -> Reply {
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

/// See [`Refresh::glance`]. Looks only at files that are known to be local, so it never waits. Leaves nothing behind for
/// Node to collect. With `tells_paths` it says where it looked.
#[napi]
pub fn glance(request: RefreshRequest, tells_paths: bool) -> napi::Result<Option<Glimpse>> {
    // The function that opens it reports a refusal.
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
            answers: Answers::default(),
            caller: Arc::default(),
        })
    }

    /// The key's lock base path, if nothing had to be looked up for it.
    #[napi(getter)]
    #[must_use]
    pub fn lock_path(&self) -> Option<String> {
        self.lock_path.as_deref().map(text)
    }

    /// Looks up what it takes to go on, as JSON: `lockPath`, the key's lock base path, and `key`, the real path of that;
    /// `agentDir`, the calling agent's directory, or a host's store as `host:<name>`; `mainStore`, which this caller
    /// adopts from. Says nothing where that may be slow: then call [`Self::open`].
    #[napi]
    #[must_use]
    pub fn open_now(&self) -> Option<Reply> {
        let opened = self.request.open(file_system::is_known_local).transpose()?;
        Some(opened.map_or_else(Reply::from, |opened| opened.begin(&self.call)))
    }

    /// The same wherever it is; in the order of the calls. With a credential if that is all that is needed: see
    /// [`Refresh::glance`].
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

    /// See [`Refresh::look`]; `peers` is JSON. The reply is empty if the lock is needed.
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

    /// What there is for a caller whose wait is over: as [`Refresh::look`], else what [`Refresh::unexpired`] finds, as `unexpired`.
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

    /// See [`Refresh::last_seen`].
    #[napi]
    #[must_use]
    pub fn last_seen(&self) -> Reply {
        let seen = self.call.get().and_then(|call| call.last_seen());
        seen.as_ref().map_or_else(Reply::default, unexpired)
    }

    /// What to tell a caller that has waited in vain: see [`Refresh::delay`]; else which process holds the lock that it waits for. If
    /// JavaScript knows another reason, `is_known`, empty unless the caller waits for a lock after all.
    #[napi]
    pub fn why_late<'env>(&self, env: &'env Env, is_known: bool) -> napi::Result<Object<'env>> {
        let (call, awaited) = (self.call.get().cloned(), self.caller.awaited());
        task::beside(env, &self.lane, move || {
            if let Some(error) = call.as_ref().and_then(|call| call.delay()) {
                return Err(error);
            }
            let base = call.map(|call| call.lock_base.clone());
            // The key's own lock says less than what JavaScript knows.
            let awaited = awaited.filter(|lock| !is_known || Some(lock) != base.as_ref());
            let awaited = awaited.or_else(|| base.filter(|_| !is_known));
            Ok(awaited.map_or_else(Reply::default, |lock| timed_out(&lock)))
        })
    }

    /// The caller has its result, or has given up. Says whether the refresh ends: nothing that was sent is still to be settled.
    #[napi]
    #[must_use]
    pub fn leave(&self) -> bool {
        self.caller.leave()
    }
}

impl NativeRefresh {
    pub(super) fn call(&self) -> napi::Result<Arc<Refresh>> {
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

pub(super) fn served(by: Served) -> Reply {
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

pub(super) fn settled(settled: Settled) -> Reply {
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

pub(super) fn words(error: &Error) -> Value {
    json!({ "code": error.code.as_str(), "message": error.message })
}

/// The same with the path concerned, for an error that is raised.
pub(super) fn located(error: &Error) -> Value {
    json!({ "code": error.code.as_str(), "message": error.message, "path": error.path.as_deref().map(text) })
}

/// Whether two directories are one, by whatever names.
fn is_same_dir(one: &Path, other: &Path) -> bool {
    one == other || crate::disk::is_same(one, other)
}
