//! Logins and logouts, for JavaScript.

use super::host_store::NativeHostStore;
use super::request::{RefreshRequest, opened};
use super::{Reply, task};
use crate::clock::{Clock, SystemClock};
use crate::credential::Credential;
use crate::credential::account::IdentityClaims;
use crate::error::{Code, Error};
use crate::refresh::LoggedIn;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::json;
use zeroize::Zeroizing;

/// A field that is stored beside a login.
#[napi(object, object_to_js = false)]
pub struct StoredField {
    pub name: String,
    pub value: String,
}

/// See `identityClaims` in `index.d.ts`.
#[napi(object, object_to_js = false)]
pub struct StoredClaims {
    pub account_id: Option<Vec<String>>,
    pub email: Option<Vec<String>>,
}

/// Stores a login: see `saveOAuthLogin` in `index.d.ts`. `login` is JSON.
#[napi]
pub fn save_login<'env>(
    env: &'env Env,
    request: RefreshRequest,
    own: Option<&NativeHostStore>,
    login: String,
    beside: Vec<StoredField>,
    claims: StoredClaims,
    replaces_others: bool,
) -> napi::Result<Object<'env>> {
    let call = opened(request, own)?;
    let login = Zeroizing::new(login);
    let claims = IdentityClaims { account_id: claims.account_id, email: claims.email };
    task::asking(env, move || {
        let call = call()?;
        let login = Credential::of_login(&login, call.key.provider(), &claims, SystemClock.now_ms())
            .map_err(|what| Error::new(Code::InvalidArgument, format!("the login {what}; nothing was stored")))?;
        let login = beside.iter().fold(login, |login, field| login.with(&field.name, &field.value));
        let outcome = match call.log_in(&login, replaces_others)? {
            LoggedIn::Added => "added",
            LoggedIn::Replaced => "replaced",
        };
        Ok(Reply::from(json!({ "outcome": outcome, "path": call.own.path().to_string_lossy() })))
    })
}

/// How a login is refreshed, as it was told when it was stored; nothing if there is no login.
#[napi]
pub fn refreshed_by<'env>(
    env: &'env Env,
    request: RefreshRequest,
    own: Option<&NativeHostStore>,
) -> napi::Result<Object<'env>> {
    let call = opened(request, own)?;
    task::asking(env, move || Ok(Reply::from(json!(call()?.refreshed_by()?))))
}

/// Takes a login out: see `removeOAuthLogin` in `index.d.ts`.
#[napi]
pub fn remove_login<'env>(
    env: &'env Env,
    request: RefreshRequest,
    own: Option<&NativeHostStore>,
) -> napi::Result<Object<'env>> {
    let call = opened(request, own)?;
    task::asking(env, move || {
        let call = call()?;
        let removed = call.log_out()?;
        Ok(Reply::from(json!({ "removed": removed, "path": call.own.path().to_string_lossy() })))
    })
}
