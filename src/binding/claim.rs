//! A claim, for JavaScript: held, waited for by way of a [`NativeLock`], and settled.

use super::lock::{NativeLock, clock, lane};
use super::{Reply, task};
use crate::claim::{Claim, ClaimFiles};
use crate::credential::Credential;
use crate::credential::fields::Fields;
use crate::error::{Code, Error, Result};
use crate::lock::Target;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// One claim, by the path of its key's lock and its id.
#[napi]
pub struct NativeClaim {
    files: ClaimFiles,
    held: Arc<Mutex<Option<Claim>>>,
}

#[napi]
impl NativeClaim {
    /// For the lock at `base`, an absolute path.
    #[napi(constructor)]
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
    pub fn new(base: String, id: String) -> Self {
        Self { files: ClaimFiles::new(Path::new(&base), &id), held: Arc::default() }
    }

    /// Where the lock is that its owner holds.
    #[napi]
    #[must_use]
    pub fn lock_path(&self) -> String {
        self.files.lock_file().to_string_lossy().into_owned()
    }

    /// That lock, to be waited for.
    #[napi]
    #[must_use]
    pub fn lock(&self) -> NativeLock {
        NativeLock::of(Target::claim(self.files.lock_file(), &clock()), self.files.lock_file())
    }

    /// Puts a credential, as JSON, on record, and holds the claim.
    #[napi]
    pub fn hold<'env>(
        &self,
        env: &'env Env,
        generation: String,
        credential: String,
        may_probe: bool,
    ) -> napi::Result<Object<'env>> {
        let (files, held) = (self.files.clone(), Arc::clone(&self.held));
        let credential = Zeroizing::new(credential);
        task::promise(env, self.lane(), move || {
            let oauth = Fields::parse(&credential).and_then(Credential::from_profile);
            let no_oauth = || Error::new(Code::InvalidArgument, "credential must be one of type \"oauth\"");
            put(&held, Claim::hold(&files, &generation, oauth.ok_or_else(no_oauth)?, may_probe, &clock())?);
            Ok(Reply::default())
        })
    }

    /// Whether it is on record.
    #[napi]
    pub fn is_on_record<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let files = self.files.clone();
        task::promise(env, self.lane(), move || files.is_on_record().map(|is| Value::Bool(is).into()))
    }

    /// Takes the claim over by its lock, which the caller has waited for: says what is on record. Says nothing if it was settled.
    #[napi]
    pub fn take_over<'env>(&self, env: &'env Env, lock: &NativeLock) -> napi::Result<Object<'env>> {
        let (guard, held) = (lock.take(), Arc::clone(&self.held));
        task::promise(env, self.lane(), move || {
            let Some(left) = guard.map(Claim::left).transpose()?.flatten() else { return Ok(Reply::default()) };
            let reply = Reply::from(json!({ "mayProbe": left.may_probe() })).with(left.credential());
            put(&held, left);
            Ok(reply)
        })
    }

    /// Removes the record and lets go of the claim.
    #[napi]
    pub fn settle<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.end(env, Claim::settle)
    }

    /// Lets go of the claim, whose record stays: the next process that waits for it hears that its owner is gone.
    #[napi]
    pub fn release<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.end(env, |claim| {
            drop(claim);
            Ok(())
        })
    }

    fn end<'env>(&self, env: &'env Env, how: fn(Claim) -> Result<()>) -> napi::Result<Object<'env>> {
        let held = take(&self.held);
        task::promise(env, self.lane(), move || held.map_or(Ok(()), how).map(|()| Reply::default()))
    }

    fn lane(&self) -> &Path {
        lane(self.files.lock_file())
    }
}

impl Drop for NativeClaim {
    fn drop(&mut self) {
        if let Some(claim) = take(&self.held) {
            task::discard(self.lane(), claim);
        }
    }
}

fn put(held: &Mutex<Option<Claim>>, claim: Claim) {
    *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
}

fn take(held: &Mutex<Option<Claim>>) -> Option<Claim> {
    held.lock().unwrap_or_else(PoisonError::into_inner).take()
}
