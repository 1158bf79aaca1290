//! A credential as `auth-profiles.json` holds it: a JSON object of which we know some fields and keep all.

pub mod account;
pub mod fields;
pub mod identity;
pub mod jwt;
mod mistake;
mod refreshed;
mod shape;

pub use mistake::mistake;
pub use refreshed::{RefreshedFields, Refused};
pub use shape::holds_token;
#[cfg(feature = "token-endpoint")]
pub(crate) use shape::instant_ms;

use crate::credential::account::{Evidence, IdentityClaims};
use crate::credential::fields::Fields;
use crate::digest::Digest;
use crate::ecma;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

/// The largest instant that ECMAScript's `Date` can hold, in milliseconds since the epoch.
pub const MAX_DATE_MS: f64 = 8.64e15;

/// Fields that say something of the tokens beside them, and nothing of others.
pub const OF_TOKENS: [&str; 4] = ["idToken", "issuer", "subject", "refreshExpires"];

/// Fields that say whose a credential is.
const ACCOUNT: [&str; 4] = ["accountId", "email", "displayName", "organizationUuid"];

/// Fields that say how a login is refreshed, for a program that has only its store. They belong together.
pub const REFRESHED_BY: [&str; 3] = ["tokenEndpoint", "clientId", "clientSecretEnv"];

/// One refresh token of a grant, known by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(Digest);

impl Generation {
    /// The generation that this refresh token stands for.
    #[must_use]
    pub fn of(refresh: &str) -> Self {
        Self(Digest::of(&[refresh.as_bytes()]))
    }

    /// The one that stands for this access token, where there is no refresh token.
    fn of_access(access: &str) -> Self {
        Self(Digest::of(&[b"access\0", access.as_bytes()]))
    }

    /// Whether it stands for no token at all: profiles without one have no grant, and none in common.
    #[must_use]
    pub fn is_none(self) -> bool {
        static NONE: LazyLock<Generation> = LazyLock::new(|| Generation::of_access(""));
        self == *NONE
    }

    /// Its name.
    #[must_use]
    pub fn digest(self) -> Digest {
        self.0
    }
}

/// How long an access token lives if neither it nor the provider says: half an hour. Longer than any sensible margin, or each call
/// would refresh.
pub const DEFAULT_LIFETIME_MS: f64 = 1_800_000.0;

/// A credential of type `oauth`. Its `Debug` shows no values, and its memory is wiped on drop.
#[derive(Clone, PartialEq)]
pub struct Credential(Fields);

impl Credential {
    /// Takes a stored profile for what it is: `None` if it is not an OAuth credential.
    #[must_use]
    pub fn from_profile(profile: impl Into<Fields>) -> Option<Self> {
        let profile = profile.into();
        is_oauth(profile.values()).then_some(Self(profile))
    }

    /// A login as somebody stores it: JSON in any shape that a client library gives, with our field names or RFC 6749's. One whose
    /// access token has expired, or is missing, is one that is refreshed first. Whose it is, where it does not say so itself, its
    /// tokens say, and the rest of the JSON.
    pub fn of_login(json: &str, provider: &str, claims: &IdentityClaims, now_ms: f64) -> Result<Self, &'static str> {
        let mut fields = Fields::default();
        fields.insert("type", &Value::from("oauth"));
        fields.insert("provider", &Value::from(provider));
        let blank = Self(fields);
        let given = match RefreshedFields::parse(json, &blank, now_ms) {
            Ok(given) => given,
            Err(refused) => refused.salvaged.ok_or(refused.what)?,
        };
        let mut login = blank.merged_with(&given);
        login.0.retain(|name, value| !(REFRESHED_BY.contains(&name) && value.as_str().is_some_and(ecma::is_blank)));
        let whole = Fields::parse(json).unwrap_or_default();
        let mut named = Fields::default();
        let evidence = Evidence::of(&blank, text(login.fields(), "idToken"), login.access());
        evidence.fill_issuer_and_subject(&mut named);
        evidence.fill_account(claims, [whole.values(), whole.values()], &mut named);
        Ok(login.completed_by(&Self(named)))
    }

    /// The same, with these fields of no meaning to us.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name, &Value::from(value));
        self
    }

    /// All its fields, as they are understood.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        self.0.values()
    }

    /// All its fields, as they are spelled.
    #[must_use]
    pub fn members(&self) -> &Fields {
        &self.0
    }

    /// `provider`.
    #[must_use]
    pub fn provider(&self) -> Option<&str> {
        text(self.0.values(), "provider")
    }

    /// `access`, the access token; blank counts as none.
    #[must_use]
    pub fn access(&self) -> Option<&str> {
        text(self.0.values(), "access").filter(|access| !ecma::is_blank(access))
    }

    /// `refresh`, the refresh token; blank counts as none.
    #[must_use]
    pub fn refresh(&self) -> Option<&str> {
        text(self.0.values(), "refresh").filter(|refresh| !ecma::is_blank(refresh))
    }

    /// The generation of its refresh token. A credential without one has its access token's, or [none](Generation::is_none).
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.refresh().map_or_else(|| Generation::of_access(self.access().unwrap_or_default()), Generation::of)
    }

    /// Whether its access token lives longer than `other`'s.
    #[must_use]
    pub fn outlives(&self, other: &Self) -> bool {
        other.expires().is_none_or(|other| self.expires().is_some_and(|own| own > other))
    }

    /// Whether its access token is valid at `now_ms`, margin or not.
    #[must_use]
    pub fn is_unexpired(&self, now_ms: f64) -> bool {
        self.is_usable(now_ms, 0.0)
    }

    /// `expires` in milliseconds since the epoch, if it is an instant at all.
    #[must_use]
    pub fn expires(&self) -> Option<f64> {
        instant(self.0.values(), "expires")
    }

    /// Whether it has an access token that stays valid for more than `margin_ms` from `now_ms` (OpenClaw's rule).
    #[must_use]
    pub fn is_usable(&self, now_ms: f64, margin_ms: f64) -> bool {
        self.access().is_some()
            && number(self.0.values(), "expires").is_some_and(|expires| expires - now_ms > margin_ms)
    }

    /// `{...self, ...fields, type: "oauth"}`. A blank refresh token or identity in `fields` does not replace one.
    #[must_use]
    pub fn merged_with(&self, fields: &RefreshedFields) -> Self {
        let mut merged = self.overlaid(fields.as_fields(), |_| true);
        merged.0.insert("type", &Value::from("oauth"));
        merged
    }

    /// `{...self, ...other}`: all fields of `other`, and those that only `self` has, except those that belong to its tokens. A
    /// blank identity field does not replace one.
    #[must_use]
    pub fn replaced_by(&self, other: &Self) -> Self {
        self.overlaid(&other.0, |_| true).without_others(other)
    }

    /// A login in the place of this one. What it does not say of its account stays only if it is certainly the same one; what it does
    /// not say of how it is refreshed stays unless that belongs to another endpoint or client.
    #[must_use]
    pub fn replaced_by_login(&self, login: &Self) -> Self {
        let is_same = self.is_same_account(login);
        let is_another = |name: &str| {
            let new = login.fields().get(name);
            new.is_some() && new != self.fields().get(name)
        };
        // What belongs to another endpoint, or to another client, is of no use at this one.
        let dropped = match () {
            () if is_another("tokenEndpoint") => &REFRESHED_BY[..],
            () if is_another("clientId") => &["clientSecretEnv"],
            () => &[],
        };
        let mut replaced = self.replaced_by(login);
        replaced.0.retain(|name, _| {
            let is_dropped = (!is_same && ACCOUNT.contains(&name)) || dropped.contains(&name);
            !is_dropped || login.fields().contains_key(name)
        });
        let email = text(self.fields(), "email").filter(|email| !ecma::is_blank(email));
        if let Some(email) = email.filter(|_| self.evidence(login).is_of_same_person()) {
            // An address may change (OpenID Connect Core §5.7); other stores have this one.
            replaced.0.insert("email", &email.into());
        }
        replaced
    }

    /// Whether a login certainly is this account's.
    #[must_use]
    pub fn is_same_account(&self, login: &Self) -> bool {
        login.generation() == self.generation() || self.evidence(login).is_of_same_subject()
    }

    /// Whether a login certainly is another account's.
    #[must_use]
    pub fn contradicts_login(&self, login: &Self) -> bool {
        let evidence = self.evidence(login);
        let mut fields = self.fields().clone();
        if evidence.is_of_same_person() {
            fields.remove("email");
        }
        identity::contradicts(&fields, login.fields()) || evidence.is_of_another()
    }

    fn evidence(&self, login: &Self) -> Evidence<'_> {
        Evidence::of(self, text(login.fields(), "idToken"), login.access())
    }

    /// Without the fields about tokens that are not those of `of`.
    #[must_use]
    pub fn without_others(mut self, of: &Self) -> Self {
        self.0.retain(|name, _| !OF_TOKENS.contains(&name) || of.fields().contains_key(name));
        self
    }

    /// As [`Credential::replaced_by`], of `other` only the fields of these names: so that what was changed in a store while
    /// the provider was being asked stays changed.
    #[must_use]
    pub fn updated_by(&self, other: &Self, names: &[String]) -> Self {
        let names: HashSet<_> = names.iter().map(String::as_str).collect();
        let mut updated = self.overlaid(&other.0, |name| names.contains(name));
        updated.0.insert("type", &Value::from("oauth"));
        updated
    }

    /// With this expiry, in milliseconds since the epoch.
    #[must_use]
    pub fn expiring_at(mut self, expires: f64) -> Self {
        // An instant in milliseconds, which is an integer.
        #[allow(clippy::cast_possible_truncation, reason = "at most MAX_DATE_MS, by `min`")]
        self.0.insert("expires", &Value::from(expires.clamp(0.0, MAX_DATE_MS) as i64));
        self
    }

    /// With those of `other`'s fields that it lacks.
    #[must_use]
    pub fn completed_by(&self, other: &Self) -> Self {
        self.overlaid(&other.0, |name| !self.fields().contains_key(name))
    }

    fn overlaid(&self, fields: &Fields, wanted: impl Fn(&str) -> bool) -> Self {
        let mut merged = self.0.clone();
        merged.overlay(fields, |name, value| {
            let blank = value.is_null() || value.as_str().is_some_and(ecma::is_blank);
            let is_evidence = matches!(name, "refresh" | "accountId" | "email" | "enterpriseUrl" | "projectId");
            wanted(name) && !(blank && is_evidence)
        });
        Self(merged)
    }

    /// Its JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.0.to_json()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?})", self.0)
    }
}

/// Whether a stored profile is of type `oauth`; older files say `mode` for `type`.
#[must_use]
pub fn is_oauth(profile: &Map<String, Value>) -> bool {
    text(profile, "type").or_else(|| text(profile, "mode")) == Some("oauth")
}

/// A field that is text.
#[must_use]
pub fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name).and_then(Value::as_str)
}

/// A field that is a finite number.
fn number(map: &Map<String, Value>, name: &str) -> Option<f64> {
    map.get(name).and_then(Value::as_f64).filter(|number| number.is_finite())
}

/// A field that is a valid date in milliseconds since the epoch.
fn instant(map: &Map<String, Value>, name: &str) -> Option<f64> {
    number(map, name).filter(|ms| ms.abs() <= MAX_DATE_MS)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn credential(value: Value) -> Credential {
        match value {
            Value::Object(map) => Credential::from_profile(map).expect("an oauth credential"),
            _ => panic!("not an object"),
        }
    }

    #[test]
    fn usable_means_an_access_token_beyond_the_margin() {
        let make = |access: &str, expires: Value| credential(json!({"type":"oauth","access":access,"expires":expires}));
        assert!(make("a", json!(1_300_001)).is_usable(1_000_000.0, 300_000.0));
        assert!(!make("a", json!(1_300_000)).is_usable(1_000_000.0, 300_000.0));
        assert!(!make(" \u{FEFF}", json!(9e12)).is_usable(1_000_000.0, 300_000.0));
        assert!(!make("a", json!(null)).is_usable(1_000_000.0, 300_000.0));
        assert!(!make("a", json!("9000000000000")).is_usable(1_000_000.0, 300_000.0));
    }

    #[test]
    fn merging_keeps_what_the_result_does_not_give() {
        let old = credential(json!({"type":"oauth","refresh":"r1","email":"u@e","x":1.10,"access":"a1","expires":1}));
        let json = r#"{"access":"a2","expires":2000,"refresh":"","email":" ","accountId":null,"y":[2]}"#;
        let merged = old.merged_with(&RefreshedFields::parse(json, &old, 1000.0).expect("valid"));
        let expected =
            json!({"type":"oauth","refresh":"r1","email":"u@e","x":1.10,"access":"a2","expires":2000,"y":[2]});
        assert_eq!(merged.to_json(), expected.to_string());
    }

    #[test]
    fn debug_shows_no_value() {
        let shown = format!("{:?}", credential(json!({"type":"oauth","access":"secret-a","refresh":"secret-r"})));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
