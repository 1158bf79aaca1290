//! A token endpoint, for JavaScript: asked alone, or with everything from dispatch to durable receipt in one native step, so
//! that neither a blocked event loop nor the end of a worker thread costs the answer.

use super::Reply;
use super::dialogue::{Endpoint, Message};
use super::refresh::NativeRefresh;
use super::run::GivenPatience;
use super::task::Promise;
use super::threads;
use crate::clock::SystemClock;
use crate::credential::Credential;
use crate::credential::account::IdentityClaims;
use crate::credential::fields::Fields;
use crate::error::{Code, Error};
use crate::failure::{Backoff, CallFailure, OwnCodes};
use crate::token_endpoint::answer::NewFields;
use crate::token_endpoint::{
    ClientAuth, Encoding, Exchange, Failure, HttpClient, Network, Spec, TimeUnit, TokenEndpoint,
};
use napi::bindgen_prelude::{Env, Function, Object};
use napi_derive::napi;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// See `TokenEndpointRequest` in `index.d.ts`. JavaScript has seen to the types.
#[napi(object, object_to_js = false)]
pub struct TokenEndpointSpec {
    /// URL.
    pub token_endpoint: String,
    /// URL with `{host}`.
    pub enterprise_token_endpoint: Option<String>,
    /// `client_id`.
    pub client_id: Option<String>,
    /// `client_secret`.
    pub client_secret: Option<String>,
    /// `none`, `basic` or `post`.
    pub client_auth: Option<String>,
    /// `form` or `json`.
    pub encoding: Option<String>,
    /// `refresh_token` or `github-copilot`.
    pub exchange: Option<String>,
    /// `scope`.
    pub scope: Option<String>,
    /// `resource`.
    pub resource: Vec<String>,
    /// Pairs of name and value.
    pub headers: Vec<Vec<String>>,
    /// Path of the account id.
    pub account_id_claim: Option<Vec<String>>,
    /// Path of the e-mail address.
    pub email_claim: Option<Vec<String>>,
    /// Path of what the answer is wrapped into.
    pub envelope: Vec<String>,
    /// `s` or `ms`.
    pub expires_in_unit: Option<String>,
    /// Whether asking again never hurts.
    pub is_replay_safe: bool,
    /// The provider's own codes that end a login.
    pub dead_codes: Vec<String>,
    /// Those that leave the refresh token as it is.
    pub unspent_codes: Vec<String>,
    /// `HTTPS_PROXY`, else `ALL_PROXY`.
    pub proxy: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// Absolute paths of files and directories.
    pub extra_roots: Vec<String>,
    /// Whether the system's roots are trusted as well.
    pub has_system_roots: bool,
    /// In milliseconds.
    pub connect_timeout_ms: f64,
}

/// A token endpoint and the way there.
#[napi]
pub struct NativeTokenEndpoint {
    connection: Arc<Connection>,
}

struct Connection {
    endpoint: TokenEndpoint,
    network: Network,
    cancel: Notify,
}

#[napi]
impl NativeTokenEndpoint {
    /// Refuses what can't be sent, or not safely.
    #[napi(constructor)]
    pub fn new(spec: TokenEndpointSpec) -> napi::Result<Self> {
        let network = Network {
            proxy: spec.proxy,
            no_proxy: spec.no_proxy,
            extra_roots: spec.extra_roots.into_iter().map(Into::into).collect(),
            has_system_roots: spec.has_system_roots,
            connect_timeout: milliseconds(spec.connect_timeout_ms),
        };
        let header = |pair: Vec<String>| {
            let mut pair = pair.into_iter();
            (pair.next().unwrap_or_default(), Zeroizing::new(pair.next().unwrap_or_default()))
        };
        let is = |given: &Option<String>, name: &str| given.as_deref() == Some(name);
        let spec = Spec {
            token_endpoint: spec.token_endpoint,
            enterprise_token_endpoint: spec.enterprise_token_endpoint,
            client_id: spec.client_id,
            client_secret: spec.client_secret.map(Zeroizing::new),
            client_auth: spec.client_auth.map(|auth| match auth.as_str() {
                "basic" => ClientAuth::Basic,
                "post" => ClientAuth::Post,
                _ => ClientAuth::None,
            }),
            encoding: if is(&spec.encoding, "json") { Encoding::Json } else { Encoding::Form },
            exchange: if is(&spec.exchange, "github-copilot") {
                Exchange::GithubCopilot
            } else {
                Exchange::RefreshToken
            },
            scope: spec.scope,
            resource: spec.resource,
            headers: spec.headers.into_iter().map(header).collect(),
            identity_claims: IdentityClaims { account_id: spec.account_id_claim, email: spec.email_claim },
            envelope: spec.envelope,
            expires_in_unit: if is(&spec.expires_in_unit, "ms") { TimeUnit::Milliseconds } else { TimeUnit::Seconds },
            is_replay_safe: spec.is_replay_safe,
            own_codes: OwnCodes { dead: spec.dead_codes, unspent: spec.unspent_codes },
        };
        let endpoint =
            TokenEndpoint::new(spec).map_err(|error| napi::Error::new(napi::Status::InvalidArg, error.message))?;
        Ok(Self { connection: Arc::new(Connection { endpoint, network, cancel: Notify::new() }) })
    }

    /// Asks with the refresh token of a credential, given as JSON, once. The reply's value is the new fields, or `{ failure }`.
    #[napi]
    pub fn ask<'env>(&self, env: &'env Env, credential: String, limit_ms: f64) -> napi::Result<Object<'env>> {
        let credential = Zeroizing::new(credential);
        let credential = Fields::parse(&credential)
            .and_then(Credential::from_profile)
            .ok_or_else(|| napi::Error::new(napi::Status::InvalidArg, "this is no credential"))?;
        let (promise, object) = Promise::new(env)?;
        let connection = Arc::clone(&self.connection);
        let promise = Arc::new(Mutex::new(Some(promise)));
        let settle = |promise: &Mutex<Option<Promise>>, reply: Reply| {
            if let Some(promise) = promise.lock().unwrap_or_else(PoisonError::into_inner).take() {
                promise.settle(reply);
            }
        };
        let theirs = Arc::clone(&promise);
        let asking = threads::on_own_thread(move || {
            let reply = match connection.exchange(&credential, limit_ms) {
                Ok(fields) => Reply { credential: Some(fields.to_string()), ..Reply::from(json!({})) },
                Err(failure) => Reply::from(json!({ "failure": shown(&failure) })),
            };
            settle(&theirs, reply);
        });
        if asking.is_err() {
            settle(&promise, Reply::from(json!({ "failure": shown(&no_thread().into()) })));
        }
        Ok(object)
    }

    /// Ends a call of [`Self::ask`] before its time.
    #[napi]
    pub fn cancel(&self) {
        self.connection.cancel.notify_one();
    }
}

impl Connection {
    fn exchange(&self, credential: &Credential, limit_ms: f64) -> Result<NewFields, Failure> {
        let runtime = threads::runtime().ok_or_else(no_thread)?;
        let client = HttpClient::shared(&self.network)?;
        let limit = milliseconds(limit_ms);
        runtime.block_on(client.exchange(&self.endpoint, credential, &SystemClock, limit, &self.cancel))
    }
}

#[napi]
impl NativeRefresh {
    /// As [`NativeRefresh::turn`], asking the token endpoint `at`, which has `limit_ms` to answer; if there are only so many `slots`,
    /// all keys of one client share them.
    #[napi]
    #[allow(
        clippy::too_many_arguments,
        clippy::needless_pass_by_value,
        reason = "JavaScript's own options, as napi hands them over"
    )]
    pub fn exchange(
        &self,
        tell: Function<'_, Message, ()>,
        patience: GivenPatience,
        has_subscribers: bool,
        at: &NativeTokenEndpoint,
        slots: Option<u32>,
        limit_ms: f64,
    ) -> napi::Result<()> {
        let (call, asked) = (self.call()?, Arc::clone(&at.connection));
        let slot = slots.map(|count| asked.endpoint.slot(&call.lock_base, call.key.digest(), count));
        let exchange = Box::new(move |credential: &Credential| {
            asked.exchange(credential, limit_ms).map_err(|failure| {
                let &Failure { class, pause, is_temporary, .. } = &failure;
                (CallFailure { class, pause, is_temporary }, shown(&failure))
            })
        });
        self.begin_turn(&tell, patience, has_subscribers, Some(Endpoint { slot, exchange }))
    }
}

fn no_thread() -> Error {
    Error::new(Code::ProviderUnreachable, "cannot start a thread to ask the provider; nothing was sent")
}

fn shown(failure: &Failure) -> Value {
    json!({
        "code": failure.error.code.as_str(),
        "message": failure.error.message,
        "class": failure.class.as_str(),
        "retryAfterMs": failure.pause.asked_ms(),
        "isTemporary": failure.is_temporary,
        "pauses": failure.pause != Backoff::None,
        "status": failure.status,
        "oauthError": failure.oauth_error,
    })
}

fn milliseconds(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default()
}
