//! A refresh, for JavaScript: look, decide under the lock, settle.

use super::lock::NativeLock;
use super::paths::{Surroundings, state_dir};
use super::{Reply, task};
use crate::clock::{Clock, SystemClock};
use crate::credential::{Credential, RefreshedFields};
use crate::error::{Code, Error, Result};
use crate::key::{self, Key};
use crate::refresh::{Call, Claim, DEFAULT_REFRESH_MARGIN_MS, Decision, Served, Settled};
use crate::state_dir::normalise;
use crate::store::Store;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
    /// Default: main's.
    pub agent_dir: Option<String>,
    /// Default: from the surroundings.
    pub main_agent_dir: Option<String>,
    /// In milliseconds.
    pub refresh_margin_ms: Option<f64>,
    /// See `RefreshOptions`.
    pub force_refresh: bool,
    /// See `RefreshOptions`.
    pub rejected_access: Option<String>,
    /// For the defaults.
    pub surroundings: Surroundings,
}

/// One caller's refresh.
#[napi]
pub struct NativeRefresh {
    call: Arc<Call>,
    claim: Arc<Mutex<Option<Claim>>>,
    lock_path: String,
    agent_dir: PathBuf,
}

#[napi]
impl NativeRefresh {
    /// Resolves the paths. Touches no file but to see which state directory exists.
    #[napi(constructor)]
    pub fn new(request: RefreshRequest) -> napi::Result<Self> {
        let invalid = |error: Error| napi::Error::new(napi::Status::InvalidArg, error.message);
        let key = Key::new(&request.provider, &request.profile_id).map_err(invalid)?;
        let environment = request.surroundings.into();
        let state_dir = state_dir(request.state_dir, &environment);
        let main_dir = request
            .main_agent_dir
            .map_or_else(|| environment.main_agent_dir(&state_dir), |given| normalise(Path::new(&given)));
        let agent_dir = request.agent_dir.map_or_else(|| main_dir.clone(), |given| normalise(Path::new(&given)));
        let lock_path = request.lock_path.map_or_else(
            || key::lock_base(&state_dir, key.provider(), key.profile_id()),
            |given| normalise(Path::new(&given)),
        );
        let rejected = OnceLock::new();
        if let Some(access) = request.rejected_access {
            let _ = rejected.set(Zeroizing::new(access));
        }
        let call = Call {
            own: Store::new(&agent_dir, &state_dir),
            main: (!is_same_dir(&agent_dir, &main_dir)).then(|| Store::new(&main_dir, &state_dir)),
            margin_ms: request.refresh_margin_ms.unwrap_or(DEFAULT_REFRESH_MARGIN_MS),
            force: request.force_refresh,
            rejected,
            clock: Arc::new(SystemClock),
            key,
        };
        Ok(Self {
            call: Arc::new(call),
            claim: Arc::default(),
            lock_path: lock_path.to_string_lossy().into_owned(),
            agent_dir,
        })
    }

    /// The key's lock base path.
    #[napi(getter)]
    #[must_use]
    pub fn lock_path(&self) -> String {
        self.lock_path.clone()
    }

    /// The calling agent's directory.
    #[napi(getter)]
    #[must_use]
    pub fn agent_dir(&self) -> String {
        self.agent_dir.to_string_lossy().into_owned()
    }

    /// See [`Call::look`]; `peers` is JSON. The reply is empty if the lock is needed.
    #[napi]
    pub fn look<'env>(&self, env: &'env Env, peers: Option<String>) -> napi::Result<Object<'env>> {
        let call = Arc::clone(&self.call);
        task::promise(env, move || {
            call.refuse_sqlite_era()?;
            let peers = peers.map(Zeroizing::new);
            let peers = peers.and_then(|json| serde_json::from_str(&json).ok()).and_then(Credential::from_profile);
            Ok(call.look(peers.as_ref())?.map_or_else(Reply::default, served))
        })
    }

    /// See [`Call::decide`]. Takes the lock over and keeps it as a claim, or releases it.
    #[napi]
    pub fn decide<'env>(&self, env: &'env Env, lock: &NativeLock) -> napi::Result<Object<'env>> {
        let (call, slot, guard) = (Arc::clone(&self.call), Arc::clone(&self.claim), lock.take());
        task::promise(env, move || {
            let guard = guard.ok_or_else(|| Error::new(Code::Internal, "decided without the lock"))?;
            Ok(decided(call.decide(guard)?, &slot))
        })
    }

    /// See [`Call::settle`]; `fields` is JSON. Ends the claim.
    #[napi]
    pub fn settle<'env>(&self, env: &'env Env, fields: String) -> napi::Result<Object<'env>> {
        let (call, claim) = (Arc::clone(&self.call), take(&self.claim));
        task::promise(env, move || {
            let fields = Zeroizing::new(fields);
            let claim = claim?;
            Ok(settled(call.settle(claim, &RefreshedFields::parse(&fields, SystemClock.now_ms())?)?))
        })
    }

    /// See [`Call::recover`]. The reply is empty if nothing can be done; the claim is over then.
    #[napi]
    pub fn recover<'env>(&self, env: &'env Env, retry: bool) -> napi::Result<Object<'env>> {
        let (call, slot, claim) = (Arc::clone(&self.call), Arc::clone(&self.claim), take(&self.claim));
        task::promise(env, move || {
            Ok(call.recover(claim?, retry)?.map_or_else(Reply::default, |decision| decided(decision, &slot)))
        })
    }

    /// Gives the claim up: the provider had nothing.
    #[napi]
    pub fn abandon(&self) {
        drop(take(&self.claim));
    }
}

fn take(slot: &Mutex<Option<Claim>>) -> Result<Claim> {
    let claim = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    claim.ok_or_else(|| Error::new(Code::Internal, "settled without a claim"))
}

fn decided(decision: Decision, slot: &Mutex<Option<Claim>>) -> Reply {
    match decision {
        Decision::Served(by) => served(by),
        Decision::Claimed(claim) => {
            let reply = json!({ "kind": "claimed", "credential": claim.credential().fields() });
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
            Reply::from(reply)
        }
    }
}

fn served(by: Served) -> Reply {
    Reply::from(match by {
        Served::Absent => json!({ "kind": "absent" }),
        Served::Fresh(credential) => json!({ "kind": "fresh", "credential": credential.fields() }),
        Served::Adopted { credential, not_saved } => json!({
            "kind": "adopted",
            "credential": credential.fields(),
            "notSaved": not_saved.as_ref().map(words),
        }),
    })
}

fn settled(settled: Settled) -> Reply {
    Reply::from(match settled {
        Settled::Refreshed { credential, mirrored } => json!({
            "kind": "refreshed",
            "credential": credential.fields(),
            "mirror": mirrored.map(|mirrored| match mirrored {
                Ok(reason) => json!({ "written": reason.writes(), "reason": reason.as_str() }),
                Err(error) => json!({ "written": false, "reason": "store-error", "error": words(&error) }),
            }),
        }),
        Settled::Superseded(credential) => json!({ "kind": "fresh", "credential": credential.fields() }),
        Settled::LoggedOut => json!({ "kind": "absent" }),
    })
}

fn words(error: &Error) -> Value {
    json!({ "code": error.code.as_str(), "message": error.message })
}

/// Whether two directories are one, by whatever names.
fn is_same_dir(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
