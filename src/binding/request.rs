//! What JavaScript asks a refresh for, and where that lies: its paths, stores and coordinator.

use super::coordinator::has_to_look_for_debts;
use super::host_store::NativeHostStore;
use super::lock::clock;
use super::paths::{Surroundings, state_dir};
use crate::clock::Clock;
use crate::coordinator::{Coordinator, CoordinatorDown, Hosts, LostHost};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::lock::file_system;
use crate::refresh::{Paths, Refresh, Uncertain};
use crate::state_dir::{Environment, normalise};
use crate::store::{FileStore, Hosted, Store};
use napi_derive::napi;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// What a caller asks for, as text: nothing has been looked up yet.
pub(super) struct Request {
    given: RefreshRequest,
    key: Key,
    environment: Environment,
    own: Option<Hosted>,
    main: Option<Hosted>,
    hosts: Option<Hosts>,
}

/// A request whose paths are known.
pub(super) struct Opened {
    call: Refresh,
    /// The calling agent's directory, or what a host's store goes by.
    pub(super) agent_dir: PathBuf,
}

impl Request {
    pub(super) fn new(
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
            keys,
            name: given.host_name.take().unwrap_or_default(),
        });
        Ok(Self { given, key, environment, own, main, hosts })
    }

    /// The key's lock base path, if nothing has to be looked up for it.
    pub(super) fn lock_path(&self) -> Option<PathBuf> {
        let given = self.given.lock_path.as_ref().map(|given| normalise(Path::new(given)));
        let is_told = self.given.state_dir.is_some() || self.environment.searched().is_none();
        let default = || {
            let state_dir = state_dir(self.given.state_dir.clone(), &self.environment);
            self.key.lock_base(&state_dir)
        };
        given.or_else(|| is_told.then(default))
    }

    /// Where its files lie.
    pub(super) fn lane(&self) -> PathBuf {
        let given = self.given.agent_dir.as_ref().or(self.given.main_agent_dir.as_ref()).map(PathBuf::from);
        given.or_else(|| self.lock_path()).unwrap_or_default()
    }

    /// Looks the paths up. `None` if one of them may not be looked at.
    pub(super) fn open(&self, may_look_at: impl Fn(&Path) -> bool) -> Result<Option<Opened>> {
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
        let default_base = || key.lock_base(&state_dir);
        let lock_base = given.lock_path.as_ref().map_or_else(default_base, normal);
        if !may_look_at(&state_dir.join("state")) || !may_look_at(&lock_base) {
            return Ok(None);
        }
        let clock = clock();
        let Some((own, main, agent_dir)) = self.stores(&state_dir, &clock, may_look_at) else { return Ok(None) };
        let mut call = Refresh::new(key.clone(), Paths { lock_base, state_dir }, own, main, clock);
        call.margin_ms = given.refresh_margin_ms.unwrap_or(call.margin_ms);
        call.serve_unexpired = given.serve_unexpired;
        call.force = given.force_refresh;
        if given.uncertain.as_deref() == Some("fail") {
            call.uncertain = Uncertain::Fail;
        }
        if let Some(hosts) = self.hosts.clone() {
            call.share_by(hosts);
        }
        if given.coordinator_down.as_deref() == Some("alone") {
            call.coordinator_down = CoordinatorDown::Alone;
        }
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
        Some((own.into(), (agent_dir != main_dir).then(|| main.into()), agent_dir))
    }
}

impl Opened {
    /// JSON text of its credential, if that can be told to be usable: see [`Refresh::glance`].
    pub(super) fn glance(&self) -> Option<String> {
        self.call.glance()?.json.as_deref().cloned()
    }

    /// Whether its coordinator may have to be told something first.
    pub(super) fn may_owe(&self) -> bool {
        has_to_look_for_debts(&self.call)
    }

    pub(super) fn lock_base(&self) -> &Path {
        &self.call.lock_base
    }

    /// The call, to be asked for more than a glance.
    pub(super) fn call(self) -> Refresh {
        let mut call = self.call;
        // Two directories may be one by two names. A glance need not know.
        call.main = call.main.filter(|main| call.own.is_hosted() || !is_in_same_dir(&call.own, main));
        call
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
        Ok(opened.ok_or_else(Error::defect)?.call())
    })
}

/// Whether the directories of two stores' files are one.
fn is_in_same_dir(one: &Store, other: &Store) -> bool {
    let dirs = (one.path().parent(), other.path().parent());
    matches!(dirs, (Some(one), Some(other)) if crate::disk::is_same(one, other))
}
