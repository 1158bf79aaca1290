//! Asking a token endpoint for a new access token: RFC 6749 §6, with resource indicators (RFC 8707), and GitHub Copilot's
//! exchange of a GitHub token.
//!
//! | | |
//! |---|---|
//! | what is sent | [`TokenEndpoint::new`] refuses what can't be sent safely, before anything happens |
//! | how | [`HttpClient`]: HTTPS only but for loopback, no redirect followed, one request per call |
//! | what it means | [`answer`]: the new fields of the credential, or a [`Failure`] whose class says whether the refresh token may have been spent |

mod account;
pub mod answer;
mod cause;
mod client;
mod coding;
mod expiry;
mod request;
mod trust;
mod unsent;

pub use client::{HttpClient, Network};

use crate::credential::Credential;
use crate::credential::account::IdentityClaims;
use crate::credential::identity;
use crate::digest::Digest;
use crate::error::{Code, Error, Result};
use crate::failure::{Backoff, FailureClass, OwnCodes};
use reqwest::Url;
use reqwest::header::HeaderMap;
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How the client authenticates (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_id` in the body, no secret: a public client.
    None,
    /// `Authorization: Basic`.
    Basic,
    /// `client_id` and `client_secret` in the body.
    Post,
}

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-www-form-urlencoded`, as RFC 6749 has it.
    Form,
    /// `application/json`, as some providers want it.
    Json,
}

/// What is exchanged for an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// A refresh token, which the provider may rotate.
    RefreshToken,
    /// A GitHub token that stays as it is, for a short-lived Copilot token.
    GithubCopilot,
}

/// What a lifetime is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds, as RFC 6749 has it.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What a caller says of a token endpoint.
///
/// No `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Spec {
    /// Its URL.
    pub token_endpoint: String,
    /// The same for credentials with an `enterpriseUrl`; `{host}` stands for that host.
    pub enterprise_token_endpoint: Option<String>,
    /// `client_id`.
    pub client_id: Option<String>,
    /// `client_secret`.
    pub client_secret: Option<Zeroizing<String>>,
    /// Default: `Basic` if there is a secret.
    pub client_auth: Option<ClientAuth>,
    /// How the body is written.
    pub encoding: Encoding,
    /// What is exchanged.
    pub exchange: Exchange,
    /// `scope`.
    pub scope: Option<String>,
    /// `resource`, any number.
    pub resource: Vec<String>,
    /// Headers besides ours.
    pub headers: Vec<(String, Zeroizing<String>)>,
    /// Where an identity stands in the answer.
    pub identity_claims: IdentityClaims,
    /// What the provider wraps its answer into: a path of member names, from the outermost. Empty: nothing.
    pub envelope: Vec<String>,
    /// What `expires_in` counts, and the refresh token's lifetime.
    pub expires_in_unit: TimeUnit,
    /// Whether the provider keeps the refresh token as it is, so that asking again never hurts.
    pub is_replay_safe: bool,
    /// What this provider's own codes mean.
    pub own_codes: OwnCodes,
}

/// A token endpoint, ready to be asked. Its `Debug` shows no secret.
pub struct TokenEndpoint {
    url: Url,
    spec: Spec,
    auth: ClientAuth,
    headers: HeaderMap,
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenEndpoint({})", self.url)
    }
}

/// An answer is not wrapped into more: each costs reading it once.
const MAX_ENVELOPES: usize = 8;

impl TokenEndpoint {
    /// Refuses, with [`Code::InvalidArgument`], what can't be sent, or not safely.
    pub fn new(spec: Spec) -> Result<Self> {
        let url = endpoint("tokenEndpoint", &spec.token_endpoint)?;
        if let Some(template) = &spec.enterprise_token_endpoint {
            if !template.contains("{host}") {
                return Err(invalid("enterpriseTokenEndpoint must contain \"{host}\""));
            }
            endpoint("enterpriseTokenEndpoint", &template.replace("{host}", "enterprise.example"))?;
        }
        if spec.envelope.len() > MAX_ENVELOPES {
            return Err(invalid(format!("envelope must name at most {MAX_ENVELOPES} members")));
        }
        for resource in &spec.resource {
            // RFC 8707 §2.
            if Url::parse(resource).is_ok_and(|url| url.fragment().is_none()) {
                continue;
            }
            return Err(invalid("resource must be an absolute URI without a fragment"));
        }
        let default = if spec.client_secret.is_some() { ClientAuth::Basic } else { ClientAuth::None };
        let auth = spec.client_auth.unwrap_or(default);
        match spec.exchange {
            Exchange::RefreshToken => {
                if spec.client_id.is_none() && auth != ClientAuth::None {
                    return Err(invalid("clientAuth needs a clientId"));
                }
                if (auth == ClientAuth::None) != spec.client_secret.is_none() {
                    return Err(invalid("clientAuth \"basic\" and \"post\" need a clientSecret, \"none\" forbids one"));
                }
            }
            Exchange::GithubCopilot => {
                let has_other = spec.client_id.is_some() || spec.client_secret.is_some() || spec.scope.is_some();
                if has_other || !spec.resource.is_empty() {
                    return Err(invalid(
                        "exchange \"github-copilot\" sends no client, scope or resource; leave them out",
                    ));
                }
            }
        }
        let headers = request::headers(&spec)?;
        Ok(Self { url, spec, auth, headers })
    }

    /// The lock of a key's slot at the provider, where at most `count` keys of one client ask at a time: each key has one of
    /// so many locks.
    #[must_use]
    pub fn slot(&self, lock_base: &Path, key: Digest, count: u32) -> PathBuf {
        let client = Digest::of(&[
            self.url.as_str().as_bytes(),
            &[0],
            self.spec.client_id.as_deref().unwrap_or_default().as_bytes(),
        ]);
        let [a, b, c, d, ..] = *key.as_bytes();
        let number = u32::from_be_bytes([a, b, c, d]) % count.max(1);
        lock_base.with_file_name(format!("slot-{:.16}-{count}-{number}", client.to_hex()))
    }

    /// Where the credential's refresh token may be sent: never to another host than its tenant's.
    pub fn url_for(&self, credential: &Credential) -> Result<Url> {
        let Some(tenant) = identity::tenant_host(credential.fields()) else { return Ok(self.url.clone()) };
        // As a host, without its port.
        let tenant = Url::parse(&format!("https://{tenant}/")).ok().filter(|_| !tenant.is_empty());
        let tenant = tenant
            .as_ref()
            .and_then(Url::host_str)
            .ok_or_else(|| invalid("the credential's enterpriseUrl names no host"))?;
        let is_tenants = |url: &Url| {
            let host = url.host_str().unwrap_or_default();
            host == tenant || host.strip_suffix(tenant).is_some_and(|rest| rest.ends_with('.'))
        };
        if is_tenants(&self.url) {
            return Ok(self.url.clone());
        }
        let Some(template) = &self.spec.enterprise_token_endpoint else {
            let message = format!(
                "the credential is for {tenant}, but tokenEndpoint is at another host; give an enterpriseTokenEndpoint"
            );
            return Err(invalid(message));
        };
        let url = endpoint("enterpriseTokenEndpoint", &template.replace("{host}", tenant))?;
        if is_tenants(&url) { Ok(url) } else { Err(invalid(format!("enterpriseTokenEndpoint is not at {tenant}"))) }
    }

    /// The host that a credential's refresh token goes to, for people.
    fn host_for(&self, credential: &Credential) -> String {
        let url = self.url_for(credential).unwrap_or_else(|_| self.url.clone());
        url.host_str().unwrap_or_default().to_owned()
    }
}

/// HTTPS, or plain HTTP that stays on this host. No credentials in it, as they would be in every log.
fn endpoint(name: &str, given: &str) -> Result<Url> {
    let url = Url::parse(given).map_err(|_| invalid(format!("{name} must be an absolute URL")))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(invalid(format!("{name} must have neither user name nor fragment")));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(invalid(format!("{name} must be https (http only on loopback)"))),
    }
}

/// Whether the URL names this host.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, what)
}

/// A call that brought no token.
#[derive(Debug)]
pub struct Failure {
    /// What happened. No word of the provider's is in it but its error code.
    pub error: Error,
    /// What the next caller may do.
    pub class: FailureClass,
    /// The answer's status.
    pub status: Option<u16>,
    /// RFC 6749's `error`, or what stands for it.
    pub oauth_error: Option<String>,
    /// Whether it may work in a moment.
    pub is_temporary: bool,
    /// What everyone keeps before the provider is asked again.
    pub pause: Backoff,
}

impl Failure {
    /// After something may have been sent: `status`, if an answer told one.
    fn after(error: Error, class: FailureClass, status: Option<u16>) -> Self {
        // Where asking again never hurts, it is not to be done all the time.
        Self { error, class, status, oauth_error: None, is_temporary: class.may_work_again(), pause: Backoff::Growing }
    }

    /// Before anything was sent.
    fn not_sent(code: Code, message: impl Into<String>, is_temporary: bool) -> Self {
        let error = Error::new(code, message);
        Self { is_temporary, ..error.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (class, pause) = (FailureClass::NotSent, Backoff::None);
        Self { error, class, status: None, oauth_error: None, is_temporary: false, pause }
    }
}
