//! Whether a refreshed credential may replace what the main store holds (OpenClaw's table, in OpenClaw's order).

use crate::credential::identity::{self, Refusal};
use crate::credential::{Credential, MAX_DATE_MS, is_oauth};
use serde_json::{Map, Value};

/// Why the main store takes a credential or keeps its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Main has no such profile: written.
    NoExistingCredential,
    /// The main store's profile is an API key or a token: kept.
    NonOauthExistingCredential,
    /// Another provider's: kept.
    ProviderMismatch,
    /// Another tenant's: kept.
    TenantMismatch,
    /// Another account's, or one that says less about itself: kept.
    IdentityMismatchOrRegression,
    /// The refreshed credential's expiry is not a valid date: kept.
    InvalidIncomingExpiry,
    /// The main store's credential lives at least as long: kept.
    IncomingNotFresher,
    /// Written.
    IncomingFresher,
    /// The main store held an ancestor of the refreshed credential, which the provider has exchanged for it: written.
    SameGrantSuccessor,
    /// Meanwhile a login or logout replaced the agent's own credential, or a login the main store's; or the credential was received
    /// for an agent with another main store: kept.
    Superseded,
    /// The main store's profile was logged out meanwhile: stays so.
    LoggedOut,
}

impl Reason {
    /// The reason as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoExistingCredential => "no-existing-credential",
            Self::NonOauthExistingCredential => "non-oauth-existing-credential",
            Self::ProviderMismatch => "provider-mismatch",
            Self::TenantMismatch => "tenant-mismatch",
            Self::IdentityMismatchOrRegression => "identity-mismatch-or-regression",
            Self::InvalidIncomingExpiry => "invalid-incoming-expiry",
            Self::IncomingNotFresher => "incoming-not-fresher",
            Self::IncomingFresher => "incoming-fresher",
            Self::SameGrantSuccessor => "same-grant-successor",
            Self::Superseded => "superseded",
            Self::LoggedOut => "logged-out",
        }
    }

    /// Whether the credential is to be written.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::NoExistingCredential | Self::IncomingFresher | Self::SameGrantSuccessor)
    }
}

/// Decides on `incoming` over `existing`.
#[must_use]
pub fn decide(existing: Option<&Map<String, Value>>, incoming: &Credential) -> Reason {
    let Some(existing) = existing else {
        return Reason::NoExistingCredential;
    };
    if !is_oauth(existing) {
        return Reason::NonOauthExistingCredential;
    }
    match identity::check(existing, incoming.fields()) {
        Err(Refusal::Provider) => return Reason::ProviderMismatch,
        Err(Refusal::Tenant) => return Reason::TenantMismatch,
        Err(Refusal::Identity) => return Reason::IdentityMismatchOrRegression,
        Ok(()) => {}
    }
    let Some(incoming_expires) = incoming.expires() else {
        return Reason::InvalidIncomingExpiry;
    };
    let existing_expires =
        existing.get("expires").and_then(Value::as_f64).filter(|expires| expires.abs() <= MAX_DATE_MS);
    if existing_expires.is_some_and(|existing| existing >= incoming_expires) {
        Reason::IncomingNotFresher
    } else {
        Reason::IncomingFresher
    }
}
