//! A refresh, for JavaScript: where things lie, and what is served without the lock; `run` has the rest.

use super::coordinator::{NativeCoordinator, has_to_look_for_debts, look_for_debts};
use super::dialogue::Answers;
use super::ending::{back_off, served, unexpired};
use super::host_store::NativeHostStore;
use super::lock::{clock, timed_out};
use super::paths::{Surroundings, real_lock, state_dir};
use super::{Reply, task, text};
use crate::clock::Clock;
use crate::coordinator::{Coordinator, CoordinatorDown, Hosts, LostHost};
use crate::credential::Credential;
use crate::credential::fields::Fields;
use crate::error::{Code, Error, Result};
use crate::key::{self, Key};
use crate::lock::file_system;
use crate::refresh::{Caller, PauseReason, Refresh, Uncertain};
use crate::state_dir::{Environment, normalise};
use crate::store::{FileStore, Hosted, Store};
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
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
    /// `wait` or `probe`.
    pub lost_host: Option<String>,
    /// `refuse` or `alone`.
    pub coordinator_down: Option<String>,
    /// Mixed into the keys of what other hosts are told.
    pub coordinator_keys: Option<Vec<String>>,
    /// What people call this host.
    pub host_name: Option<String>,
    /// For the defaults.
    pub surroundings: Option<Surroundings>,
}

/// One caller's refresh, begun by [`start_refresh`]. To be opened before anything else is asked of it.
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
    hosts: Option<Hosts>,
}

/// A request whose paths are known.
struct Opened {
    call: Refresh,
    /// The calling agent's directory, or what a host's store goes by.
    agent_dir: PathBuf,
}

impl Request {
    fn new(
        mut given: RefreshRequest,
        own: Option<Hosted>,
        main: Option<Hosted>,
        coordinator: Option<Arc<dyn Coordinator>>,
    ) -> napi::Result<Self> {
        let invalid = |error: Error| napi::Error::new(napi::Status::InvalidArg, error.message);
        let key = Key::new(&given.provider, &given.profile_id).map_err(invalid)?;
        let environment = given.surroundings.take().map_or_else(Default::default, Into::into);
        let keys = given.coordinator_keys.take().unwrap_or_default().into_iter().map(Zeroizing::new).collect();
        let hosts = coordinator.map(|coordinator| Hosts {
            coordinator,
            lost_host: if given.lost_host.as_deref() == Some("probe") { LostHost::Probe } else { LostHost::Wait },
            down: match given.coordinator_down.as_deref() {
                Some("alone") => CoordinatorDown::Alone,
                _ => CoordinatorDown::Refuse,
            },
            keys,
            name: given.host_name.take().unwrap_or_default(),
        });
        Ok(Self { given, key, environment, own, main, hosts })
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
        let Self { given, key, environment, .. } = self;
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
        let clock = clock();
        let Some((own, main, agent_dir)) = self.stores(&state_dir, &clock, may_look_at) else { return Ok(None) };
        let mut call = Refresh::new(key.clone(), lock_base, state_dir, own, main, clock);
        call.margin_ms = given.refresh_margin_ms.unwrap_or(call.margin_ms);
        call.serve_unexpired = given.serve_unexpired;
        call.force = given.force_refresh;
        if given.uncertain.as_deref() == Some("fail") {
            call.uncertain = Uncertain::Fail;
        }
        call.hosts.clone_from(&self.hosts);
        if let Some(access) = &given.rejected_access {
            let _ = call.rejected.set(Zeroizing::new(access.clone()));
        }
        Ok(Some(Opened { call, agent_dir }))
    }

    /// The caller's store, the main agent's if that is another, and where the caller is.
    fn stores(
        &self,
        state_dir: &Path,
        clock: &Arc<dyn Clock>,
        may_look_at: impl Fn(&Path) -> bool,
    ) -> Option<(Store, Option<Store>, PathBuf)> {
        let file = |dir: &Path| FileStore::new(dir, state_dir, clock);
        let normal = |given: &String| normalise(Path::new(given));
        let main_dir = self.given.main_agent_dir.as_ref().map(normal);
        if let Some(own) = &self.own {
            let main_file = main_dir.map(|dir| file(&dir).into());
            let main = self.main.clone().map(Store::from).or(main_file);
            let agent_dir = own.path().to_owned();
            // Two stores of one name are one.
            return Some((Store::from(own.clone()), main.filter(|main| main.path() != agent_dir), agent_dir));
        }
        let main_dir = main_dir.unwrap_or_else(|| self.environment.main_agent_dir(state_dir));
        let agent_dir = self.given.agent_dir.as_ref().map_or_else(|| main_dir.clone(), normal);
        let (own, main) = (file(&agent_dir), file(&main_dir));
        if !may_look_at(own.path()) || !may_look_at(main.path()) {
            return None;
        }
        let main = (!is_same_dir(&agent_dir, &main_dir)).then(|| main.into());
        Some((own.into(), main, agent_dir))
    }
}

/// What a request is about, once its paths are looked up: on a thread that may be blocked.
pub(super) fn opened(
    request: RefreshRequest,
    own: Option<&NativeHostStore>,
) -> napi::Result<impl FnOnce() -> Result<Refresh> + Send + 'static> {
    let request = Request::new(request, own.map(NativeHostStore::store), None, None)?;
    Ok(move || {
        let opened = request.open(|path| {
            file_system::learn(path);
            true
        })?;
        Ok(opened.ok_or_else(Error::defect)?.call)
    })
}

impl Opened {
    /// Makes it the call that is asked from now on.
    fn begin(self, begun: &OnceLock<Arc<Refresh>>) -> Reply {
        let Self { call, agent_dir } = self;
        let reply = Reply::from(json!({
            "lockPath": text(&call.lock_base),
            "key": text(&real_lock(&call.lock_base)),
            "agentDir": text(&agent_dir),
            "mainStore": text(call.main_store().path()),
        }));
        let _ = begun.set(Arc::new(call));
        reply
    }
}

/// What [`start_refresh`] came to.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Started {
    /// JSON text of a usable credential: nothing more is to be done, and nothing is left behind for Node to collect.
    pub credential: Option<String>,
    /// The key's lock base path, if nothing had to be looked up for it.
    pub lock_path: Option<String>,
    /// The calling agent's directory, beside a credential.
    pub agent_dir: Option<String>,
    /// The refresh, else.
    pub refresh: Option<NativeRefresh>,
    /// What [`NativeRefresh::open`] would tell, if that could be told at once.
    pub opened: Option<Reply>,
}

/// Begins a refresh; `own` and `main` are a host's stores. Looks only at files that are known to be local, so it never waits. One that
/// `glances` is served at once if its credential is usable: see [`Refresh::glance`]. With `tells_paths` it says where it looked.
#[napi]
pub fn start_refresh(
    request: RefreshRequest,
    own: Option<&NativeHostStore>,
    main: Option<&NativeHostStore>,
    coordinator: Option<&NativeCoordinator>,
    glances: bool,
    tells_paths: bool,
) -> napi::Result<Started> {
    let coordinator = coordinator.map(NativeCoordinator::coordinator);
    let request =
        Request::new(request, own.map(NativeHostStore::store), main.map(NativeHostStore::store), coordinator)?;
    let opened = request.open(file_system::is_known_local).transpose();
    if let (true, Some(Ok(Opened { call, agent_dir }))) = (glances, &opened)
        && !has_to_look_for_debts(call)
        && let Some(credential) = call.glance().and_then(|recent| recent.json.as_deref().cloned())
    {
        let told = |path: &Path| tells_paths.then(|| text(path));
        let (lock_path, agent_dir) = (told(&call.lock_base), told(agent_dir));
        return Ok(Started { credential: Some(credential), lock_path, agent_dir, ..Started::default() });
    }
    let refresh = NativeRefresh {
        lock_path: request.lock_path(),
        lane: request.lane(),
        request: Arc::new(request),
        call: Arc::default(),
        answers: Answers::default(),
        caller: Arc::default(),
    };
    let opened = opened.map(|opened| opened.map_or_else(Reply::from, |opened| opened.begin(&refresh.call)));
    let lock_path = refresh.lock_path.as_deref().map(text);
    Ok(Started { refresh: Some(refresh), opened, lock_path, ..Started::default() })
}

#[napi]
impl NativeRefresh {
    /// Looks up what it takes to go on, as JSON: `lockPath`, the key's lock base path, and `key`, the real path of that;
    /// `agentDir`, the calling agent's directory, or a host's store as `host:<name>`; `mainStore`, which this caller
    /// adopts from. In the order of the calls. With a credential if that is all that is needed: see [`Refresh::glance`].
    #[napi]
    pub fn open<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let (request, call) = (Arc::clone(&self.request), Arc::clone(&self.call));
        task::in_order(env, self.lock_path.as_deref().unwrap_or(&self.lane), move || {
            let opened = request.open(|path| {
                file_system::learn(path);
                true
            })?;
            let opened = opened.ok_or_else(|| Error::new(Code::Internal, "not opened"))?;
            let credential = opened.call.glance().and_then(|recent| recent.json.as_deref().cloned());
            let is_served = credential.is_some();
            let reply = Reply { credential, ..opened.begin(&call) };
            if let Some(call) = call.get().filter(|_| is_served) {
                look_for_debts(call);
            }
            Ok(reply)
        })
    }

    /// See [`Refresh::look`]; `peers` is JSON. The reply is empty if the lock is needed.
    #[napi]
    pub fn look<'env>(&self, env: &'env Env, peers: Option<String>) -> napi::Result<Object<'env>> {
        let call = self.call()?;
        self.promise(env, move || {
            let peers = peers.map(Zeroizing::new);
            let peers = peers.and_then(|json| Fields::parse(&json)).and_then(Credential::from_profile);
            let Some(by) = call.look(peers.as_ref())? else { return Ok(Reply::default()) };
            // Who has to take a turn tells the coordinator then.
            look_for_debts(&call);
            Ok(served(by))
        })
    }

    /// What there is for a caller whose wait is over: as [`Refresh::look`], else what [`Refresh::unexpired`] finds, as `unexpired`.
    #[napi]
    pub fn at_last<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let call = self.call()?;
        self.promise(env, move || {
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
        let call = self.call.get().cloned();
        let (awaited, pausing) = (self.caller.awaited(), self.caller.pausing());
        task::beside(env, &self.lane, move || {
            if let Some(error) = call.as_ref().and_then(|call| call.delay()) {
                return Err(error);
            }
            let base = call.map(|call| call.lock_base.clone());
            // The key's own lock says less than what JavaScript knows.
            let awaited = awaited.filter(|lock| !is_known || Some(lock) != base.as_ref());
            if let Some(PauseReason { error, ms }) = pausing.filter(|_| awaited.is_none() && !is_known) {
                return Ok(back_off(error, ms));
            }
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
        if self.call()?.has_host_stores() { task::asking(env, work) } else { task::promise(env, &self.lane, work) }
    }
}

/// Whether two directories are one, by whatever names.
fn is_same_dir(one: &Path, other: &Path) -> bool {
    one == other || crate::disk::is_same(one, other)
}
