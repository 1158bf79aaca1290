//! A refresh, for JavaScript: how it begins, and what is served without the lock; `run` has the rest.

use super::coordinator::{NativeCoordinator, look_for_debts};
use super::dialogue::Answers;
use super::ending::{back_off, served, unexpired};
use super::host_store::NativeHostStore;
use super::lock::timed_out;
use super::paths::real_lock;
use super::request::{Opened, RefreshRequest, Request};
use super::{Reply, task, text};
use crate::credential::Credential;
use crate::credential::fields::Fields;
use crate::error::{Code, Error, Result};
use crate::lock::file_system;
use crate::refresh::{Caller, PauseReason, Refresh};
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

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

impl Opened {
    /// Makes it the call that is asked from now on.
    fn begin(self, begun: &OnceLock<Arc<Refresh>>) -> Reply {
        let agent_dir = text(&self.agent_dir);
        let call = self.call();
        let reply = Reply::from(json!({
            "lockPath": text(&call.lock_base),
            "key": text(&real_lock(&call.lock_base)),
            "agentDir": agent_dir,
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
    if let (true, Some(Ok(opened))) = (glances, &opened)
        && !opened.may_owe()
        && let Some(credential) = opened.glance()
    {
        let told = |path: &Path| tells_paths.then(|| text(path));
        let (lock_path, agent_dir) = (told(opened.lock_base()), told(&opened.agent_dir));
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
            let credential = opened.glance();
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
            if let Some(error) = call.as_ref().filter(|_| !is_known).and_then(|call| call.engine_delay()) {
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
