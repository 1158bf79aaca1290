//! The shapes in which OAuth client libraries hand on what a provider answered, brought into ours.
//!
//! | | |
//! |---|---|
//! | names | `access`, `access_token`, `accessToken`, `AccessToken`: case and underscores don't matter |
//! | where | at the top, or inside what an HTTP client or a library wraps around it: [`WRAPPERS`] |
//! | expiry | milliseconds or seconds since the epoch, a lifetime in seconds, or RFC 3339 (a `Date` in JSON), as number or text |
//!
//! Our own names come before all others, and what is new before what the function was given.

use super::MAX_DATE_MS;
use crate::credential::fields::Fields;
use crate::ecma;
use serde_json::Value;
use std::time::UNIX_EPOCH;
use zeroize::Zeroizing;

/// Members inside which an answer is looked for: of google-auth-library (`tokens`, `credentials`), simple-oauth2 (`token`),
/// Supabase (`session`), arctic, axios, got, ofetch and superagent (`data`, `body`, `text`, `response`), Cognito and Slack; and
/// those that a GraphQL mutation or okta-auth-js gives a token's own name.
const WRAPPERS: [&str; 15] = [
    "tokens",
    "credentials",
    "token",
    "session",
    "data",
    "body",
    "text",
    "authenticationresult",
    "autheduser",
    "result",
    "response",
    "refreshtoken",
    "refresh",
    "accesstoken",
    "access",
];
/// How many of them may be around it, as Withings' `body` in axios' `data`.
const MAX_WRAPPED: usize = 3;

const ACCESS: [&str; 2] = ["access", "accesstoken"];
/// GitHub Copilot's and @azure/identity's access token. Many things are called so, so it counts only beside a refresh token or
/// an expiry, and after anything better named.
const BARE: [&str; 1] = ["token"];
const REFRESH: [&str; 2] = ["refresh", "refreshtoken"];
/// What a token is called in an object of its own.
const INNER: [&str; 2] = ["token", "value"];
const ID_TOKEN: [&str; 1] = ["idtoken"];
/// A lifetime counts from now by our own clock, so it comes before an instant by another's.
const EXPIRES: [&str; 10] = [
    "expires",
    "expiresin",
    "expiresat",
    "expirydate",
    "expireson",
    "expiresontimestamp",
    "accesstokenexpiresat",
    "accesstokenexpireson",
    "expiry",
    "expiration",
];
const REFRESH_EXPIRES: [&str; 4] =
    ["refreshexpires", "refreshtokenexpiresin", "refreshexpiresin", "refreshtokenexpiresat"];

/// What an answer says of its tokens, in our own names.
const OF_TOKENS: [&str; 5] = ["access", "refresh", "expires", "idToken", "refreshExpires"];
/// What else is kept of one that is not in our own shape, if it is text.
const KEPT: [&str; 6] = ["accountId", "email", "enterpriseUrl", "projectId", "clientId", "displayName"];

/// From here on a number is milliseconds since the epoch (1973).
const FIRST_MS: f64 = 1e11;
/// From here on it is seconds since the epoch (2001); below it is a lifetime.
const FIRST_SECONDS: f64 = 1e9;

/// What the refresh function was given. Its result may hold that as well, spread over what is new.
#[derive(Default)]
pub(super) struct Given {
    fields: Fields,
    tokens: Vec<Zeroizing<String>>,
}

impl Given {
    /// Of a credential, as JSON text.
    pub(super) fn of(json: &str) -> Self {
        let all = objects(json);
        let names = [&ACCESS[..], &REFRESH, &BARE, &ID_TOKEN];
        let texts = all.iter().flat_map(|fields| names.iter().flat_map(|aliases| texts(fields, aliases)));
        let tokens = texts.map(|(_, text)| Zeroizing::new(text.to_owned())).collect();
        Self { fields: Fields::parse(json).unwrap_or_default(), tokens }
    }

    fn has_token(&self, text: &str) -> bool {
        self.tokens.iter().any(|token| **token == text)
    }

    fn has(&self, name: &str, value: &Value) -> bool {
        self.fields.values().get(name) == Some(value)
    }
}

/// Whether a refresh function's result, as JSON text, holds a token in any shape that we know.
#[must_use]
pub fn holds_token(json: &str) -> bool {
    objects(json).iter().any(is_answer)
}

/// What a result says, in our own names: text for tokens, if they are, and milliseconds since the epoch for expiries. What the
/// function was given counts where there is nothing else. `None` if the result is not an object.
pub(super) fn understood(json: &str, given: &Given, now_ms: f64) -> Option<Fields> {
    let mut fields = answer(json, given).or_else(|| Fields::parse(json))?;
    fields.retain(|_, value| !value.is_null());
    let is_own = ["access", "refresh"].iter().any(|own| fields.values().contains_key(*own));
    let access = access_name(&fields, given);
    let is_new = access.as_ref().is_some_and(|name| is_new(&fields, name, given));
    adopt(&mut fields, "access", access);
    for (own, aliases) in [("refresh", &REFRESH[..]), ("idToken", &ID_TOKEN)] {
        let name = token_name(&fields, aliases, given);
        adopt(&mut fields, own, name);
    }
    for (own, aliases) in [("expires", &EXPIRES[..]), ("refreshExpires", &REFRESH_EXPIRES)] {
        adopt_expiry(&mut fields, own, aliases, given, is_new, now_ms);
    }
    if !is_own {
        let is_said = |value: &Value| !value.as_str().is_some_and(ecma::is_blank);
        fields.retain(|name, value| {
            is_said(value) && (OF_TOKENS.contains(&name) || (KEPT.contains(&name) && value.is_string()))
        });
    }
    Some(fields)
}

/// The object that has the tokens: this one, or one inside a wrapper; the first with a new access token.
fn answer(json: &str, given: &Given) -> Option<Fields> {
    let mut all = objects(json);
    let has_new = |fields: &Fields, aliases: &[&str]| new_name(fields, aliases, given).is_some();
    let best = all
        .iter()
        .position(|fields| has_new(fields, &ACCESS))
        .or_else(|| {
            all.iter().position(|fields| access_name(fields, given).is_some_and(|name| is_new(fields, &name, given)))
        })
        .or_else(|| all.iter().position(|fields| has_new(fields, &REFRESH)))
        .or_else(|| all.iter().position(is_answer))?;
    let mut best = all.swap_remove(best);
    // A refresh token may stand elsewhere than the access token.
    if !has_new(&best, &REFRESH)
        && let Some((other, name)) = all.iter().find_map(|other| Some((other, new_name(other, &REFRESH, given)?)))
    {
        best.overlay(other, |member, _| member == name);
    }
    Some(best)
}

/// Whether a token is given in this object.
fn is_answer(fields: &Fields) -> bool {
    let is_given = |aliases: &[&str]| named(fields, aliases).next().is_some();
    is_given(&ACCESS) || is_given(&REFRESH) || access_name(fields, &Given::default()).is_some()
}

/// The object that this is the text of, and those inside its wrappers.
fn objects(json: &str) -> Vec<Fields> {
    let mut found = Vec::new();
    collect(json, 0, &mut found);
    found
}

fn collect(json: &str, wrapped: usize, found: &mut Vec<Fields>) {
    let json = json.trim_start_matches('\u{FEFF}');
    let Some(fields) = Fields::parse(json) else {
        // JSON as text inside JSON.
        if let Ok(inner) = serde_json::from_str::<String>(json)
            && wrapped < MAX_WRAPPED
        {
            collect(&Zeroizing::new(inner), wrapped + 1, found);
        }
        return;
    };
    found.push(flattened(&fields));
    if wrapped == MAX_WRAPPED {
        return;
    }
    let mut open = |name: &str| {
        // JSON inside text, or a value with text that is not valid Unicode, which stands as it is spelled.
        let text = fields.values().get(name).and_then(Value::as_str);
        if let Some(inner) = text.or_else(|| fields.spelled(name)) {
            collect(inner, wrapped + 1, found);
        }
    };
    for wrapper in WRAPPERS {
        named(&fields, &[wrapper]).for_each(&mut open);
    }
    // A GraphQL mutation has the name that its schema gives it.
    let mut members = fields.names().filter(|name| fields.values().get(*name).is_some_and(|value| !value.is_null()));
    if let (Some(only), None) = (members.next(), members.next())
        && wrapped > 0
        && !WRAPPERS.iter().any(|wrapper| is_alias(only, wrapper))
    {
        open(only);
    }
}

/// With tokens that have an object of their own (`{ access: { token, expires }, refresh: { token } }`) as texts beside each
/// other.
fn flattened(fields: &Fields) -> Fields {
    let mut flat = fields.clone();
    for (own, aliases, expiry) in
        [("access_token", &ACCESS, "expires_at"), ("refresh_token", &REFRESH, "refreshExpires")]
    {
        let Some(name) = named(fields, aliases).find(|name| fields.values().get(*name).is_some_and(Value::is_object))
        else {
            continue;
        };
        let Some(mut inner) = fields.spelled(name).and_then(Fields::parse) else { continue };
        // An answer of its own.
        if texts(&inner, &ACCESS).next().is_some() && texts(&inner, &REFRESH).next().is_some()
            || own == "refresh_token" && texts(&inner, &ACCESS).next().is_some()
        {
            continue;
        }
        let token = texts(&inner, aliases).chain(texts(&inner, &INNER)).next().map(|(name, _)| name.to_owned());
        let Some(token) = token else { continue };
        let expires = named(&inner, &EXPIRES).next().map(str::to_owned);
        let said = flat.names().any(|name| EXPIRES.iter().any(|alias| is_alias(name, alias)));
        inner.rename(&token, own);
        if let Some(expires) = expires {
            inner.rename(&expires, expiry);
        }
        flat.retain(|member, _| member != name);
        flat.overlay(&inner, |member, _| member == own || (member == expiry && !(said && own == "access_token")));
    }
    flat
}

/// The names under which one of these is given and not blank, in the order of the aliases.
fn named<'a>(fields: &'a Fields, aliases: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let is_given = |name: &str| match fields.values().get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !ecma::is_blank(text),
        Some(_) => true,
    };
    aliases.iter().flat_map(move |alias| fields.names().filter(move |name| is_alias(name, alias) && is_given(name)))
}

/// Those of them that are texts, each with its text.
fn texts<'a>(fields: &'a Fields, aliases: &'a [&'a str]) -> impl Iterator<Item = (&'a str, &'a str)> {
    named(fields, aliases).filter_map(|name| Some((name, fields.values().get(name)?.as_str()?)))
}

fn is_new(fields: &Fields, name: &str, given: &Given) -> bool {
    fields.values().get(name).and_then(Value::as_str).is_some_and(|text| !given.has_token(text))
}

/// The name of the first of these that is a text which the function was not given.
fn new_name(fields: &Fields, aliases: &[&str], given: &Given) -> Option<String> {
    texts(fields, aliases).find(|(_, text)| !given.has_token(text)).map(|(name, _)| name.to_owned())
}

/// The same, or else the first of these names that is given.
fn token_name(fields: &Fields, aliases: &[&str], given: &Given) -> Option<String> {
    new_name(fields, aliases, given).or_else(|| named(fields, aliases).next().map(str::to_owned))
}

/// The name of the access token.
fn access_name(fields: &Fields, given: &Given) -> Option<String> {
    let better = token_name(fields, &ACCESS, given);
    if better.as_ref().is_some_and(|name| is_new(fields, name, given)) {
        return better;
    }
    let is_beside_new = new_name(fields, &REFRESH, given).is_some()
        || named(fields, &EXPIRES).any(|name| fields.values().get(name).is_some_and(|value| !given.has(name, value)));
    let is_beside_any =
        better.is_none() && [&REFRESH[..], &EXPIRES].iter().any(|aliases| named(fields, aliases).next().is_some());
    let bare = new_name(fields, &BARE, given).filter(|_| is_beside_new || is_beside_any);
    bare.or(better)
}

fn is_alias(name: &str, alias: &str) -> bool {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).eq(alias.chars())
}

/// Gives our own name to what is found under another.
fn adopt(fields: &mut Fields, own: &str, name: Option<String>) {
    if let Some(name) = name {
        fields.rename(&name, own);
    }
}

/// The same for an expiry: the first that lies ahead and is not the given one. A value that is not an instant does not count,
/// and a given one that has passed says nothing of a new token.
fn adopt_expiry(fields: &mut Fields, own: &str, aliases: &[&str], given: &Given, is_new: bool, now_ms: f64) {
    let mut found = Vec::new();
    for alias in aliases {
        let is_lifetime = alias.ends_with("in");
        for name in named(fields, &[alias]) {
            let Some(value) = fields.values().get(name) else { continue };
            let Some(ms) = instant_ms(value, is_lifetime, now_ms) else { continue };
            found.push((name.to_owned(), ms, is_lifetime || !given.has(name, value)));
        }
    }
    let best = found.iter().find(|(_, ms, is_other)| *is_other && *ms > now_ms);
    let best = best.or_else(|| found.iter().find(|(.., is_other)| *is_other));
    let best = best.or_else(|| found.first().filter(|(_, ms, _)| !is_new || *ms > now_ms));
    let Some((name, ms, _)) = best else { return fields.retain(|name, _| name != own) };
    let is_as_said = fields.values().get(name).and_then(Value::as_f64) == Some(*ms);
    fields.rename(name, own);
    if !is_as_said {
        #[allow(clippy::cast_possible_truncation, reason = "an instant has fewer digits")]
        fields.insert(own, &Value::from(*ms as i64));
    }
}

/// An instant in milliseconds since the epoch, whatever it is spelled as.
pub(crate) fn instant_ms(given: &Value, is_lifetime: bool, now_ms: f64) -> Option<f64> {
    let text = given.as_str().map(ecma::trim);
    let number = given.as_f64().or_else(|| text?.parse().ok()).filter(|number: &f64| number.is_finite());
    let Some(number) = number else { return date_ms(text?) };
    // Some providers say so of tokens that do not expire.
    if is_lifetime && number <= 0.0 {
        return None;
    }
    let ms = match number {
        _ if number > now_ms || number >= FIRST_MS || number <= 0.0 => number,
        _ if number >= FIRST_SECONDS => number * 1000.0,
        _ => now_ms + number * 1000.0,
    };
    Some(ms.min(MAX_DATE_MS))
}

/// A date and time of RFC 3339. Without an offset it does not count: it may be the time of any zone.
fn date_ms(text: &str) -> Option<f64> {
    let (local, sign, offset) = if let Some(local) = text.strip_suffix(['Z', 'z']) {
        (local, 0.0, "00:00")
    } else {
        let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
        (local, if offset.starts_with('-') { 1.0 } else { -1.0 }, offset.strip_prefix(['+', '-'])?)
    };
    let (hours, minutes) = offset.split_once(':')?;
    let minutes = f64::from(hours.parse::<u8>().ok()?) * 60.0 + f64::from(minutes.parse::<u8>().ok()?);
    let at = humantime::parse_rfc3339_weak(local).ok()?;
    let since = at.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    Some((since * 1000.0).round() + sign * minutes * 60_000.0)
}

#[cfg(test)]
mod tests;
