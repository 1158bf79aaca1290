//! The shapes in which OAuth client libraries hand on what a provider answered, brought into ours.
//!
//! | | |
//! |---|---|
//! | names | `access`, `access_token`, `accessToken`, `AccessToken`: case and underscores don't matter |
//! | where | at the top, or inside what an HTTP client or a library wraps around it: [`WRAPPERS`] |
//! | expiry | milliseconds or seconds since the epoch, a lifetime in seconds, or RFC 3339 (a `Date` in JSON), as number or text |
//!
//! Our own names come before all others.

use super::MAX_DATE_MS;
use crate::ecma;
use crate::fields::Fields;
use serde_json::Value;
use std::time::UNIX_EPOCH;

/// Members inside which an answer is looked for: of google-auth-library (`tokens`, `credentials`), simple-oauth2 (`token`),
/// Supabase (`session`), arctic, axios, got and superagent (`data`, `body`, `text`), Cognito and Slack.
const WRAPPERS: [&str; 9] =
    ["tokens", "credentials", "token", "session", "data", "body", "text", "authenticationresult", "autheduser"];
/// How many of them may be around it, as Withings' `body` in axios' `data`.
const MAX_WRAPPED: usize = 3;

const ACCESS: [&str; 3] = ["access", "accesstoken", BARE];
/// GitHub Copilot's access token; an object of that name is a wrapper.
const BARE: &str = "token";
const REFRESH: [&str; 2] = ["refresh", "refreshtoken"];
const ID_TOKEN: [&str; 1] = ["idtoken"];
/// A lifetime counts from now by our own clock, so it comes before an instant by another's.
const EXPIRES: [&str; 9] = [
    "expires",
    "expiresin",
    "expiresat",
    "expirydate",
    "expireson",
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

/// Whether there is a token in it, whatever the shape.
pub(super) fn holds_token(json: &str) -> bool {
    answer(json, 0).is_some()
}

/// What a result says, in our own names: text for tokens, if they are, and milliseconds since the epoch for expiries. `None` if
/// it is no object.
pub(super) fn understood(json: &str, now_ms: f64) -> Option<Fields> {
    let mut fields = answer(json, 0).or_else(|| Fields::parse(json))?;
    fields.retain(|_, value| !value.is_null());
    let is_own = ["access", "refresh"].iter().any(|own| fields.values().contains_key(*own));
    for (own, aliases) in [("access", &ACCESS[..]), ("refresh", &REFRESH), ("idToken", &ID_TOKEN)] {
        adopt(&mut fields, own, aliases);
    }
    for (own, aliases) in [("expires", &EXPIRES[..]), ("refreshExpires", &REFRESH_EXPIRES)] {
        adopt_expiry(&mut fields, own, aliases, now_ms);
    }
    if !is_own {
        let is_said = |value: &Value| !value.as_str().is_some_and(ecma::is_blank);
        fields.retain(|name, value| {
            is_said(value) && (OF_TOKENS.contains(&name) || (KEPT.contains(&name) && value.is_string()))
        });
    }
    Some(fields)
}

/// The object that has the tokens: this one, or one inside a wrapper.
fn answer(json: &str, wrapped: usize) -> Option<Fields> {
    let fields = Fields::parse(json)?;
    if [&ACCESS[..], &REFRESH].iter().any(|aliases| find(&fields, aliases).is_some()) {
        return Some(fields);
    }
    if wrapped == MAX_WRAPPED {
        return None;
    }
    WRAPPERS.iter().find_map(|wrapper| {
        let name = find(&fields, &[wrapper])?;
        // JSON inside text, or what has text that is no valid Unicode and stands as it is spelled.
        let text = fields.values().get(&name).and_then(Value::as_str);
        answer(text.or_else(|| fields.spelled(&name))?, wrapped + 1)
    })
}

/// The name of the first of these that is given, and not blank.
fn find(fields: &Fields, aliases: &[&str]) -> Option<String> {
    let is_given = |name: &str| match fields.values().get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !ecma::is_blank(text),
        Some(_) => true,
    };
    let is_bare_object = |alias: &str, name: &str| {
        alias == BARE && aliases.len() > 1 && !fields.values().get(name).is_some_and(Value::is_string)
    };
    aliases.iter().find_map(|alias| {
        let mut named = fields.names().filter(|name| is_alias(name, alias) && is_given(name));
        named.find(|name| !is_bare_object(alias, name)).map(str::to_owned)
    })
}

fn is_alias(name: &str, alias: &str) -> bool {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).eq(alias.chars())
}

/// Gives our own name to what is found under another.
fn adopt(fields: &mut Fields, own: &str, aliases: &[&str]) {
    if let Some(name) = find(fields, aliases).filter(|name| name != own) {
        fields.rename(&name, own);
    }
}

/// The same for an expiry. One that is no instant is none.
fn adopt_expiry(fields: &mut Fields, own: &str, aliases: &[&str], now_ms: f64) {
    for alias in aliases {
        let Some(name) = find(fields, &[alias]) else { continue };
        let given = fields.values().get(&name).cloned().unwrap_or_default();
        let Some(ms) = instant_ms(&given, alias.ends_with("in"), now_ms) else { continue };
        fields.rename(&name, own);
        if given.as_f64() != Some(ms) {
            #[allow(clippy::cast_possible_truncation, reason = "an instant has fewer digits")]
            fields.insert(own, &Value::from(ms as i64));
        }
        return;
    }
    fields.retain(|name, _| name != own);
}

fn instant_ms(given: &Value, is_lifetime: bool, now_ms: f64) -> Option<f64> {
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

/// A date and time of RFC 3339. Without an offset it is none: it may be the time of any zone.
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
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: f64 = 1_700_000_000_000.0;

    fn of(value: &Value) -> Value {
        understood(&value.to_string(), NOW).map_or(Value::Null, |fields| Value::Object(fields.values().clone()))
    }

    #[test]
    fn an_answer_in_any_spelling_has_our_names() {
        for given in [
            json!({"access_token":"a","refresh_token":"r","id_token":"i","expires_in":60,"scope":"s","token_type":"b"}),
            json!({"accessToken":"a","refreshToken":"r","idToken":"i","expiresAt":NOW + 60_000.0,"scopes":["s"]}),
            json!({"AccessToken":"a","RefreshToken":"r","IdToken":"i","ExpiresIn":"60"}),
            json!({"access_token":"a","refresh_token":"r","id_token":"i","expiry_date":NOW + 60_000.0}),
            json!({"accessToken":"a","refreshToken":"r","idToken":"i","expiresOn":"2023-11-14T22:14:20.000Z","account":{}}),
        ] {
            let mut found = of(&given);
            assert_eq!(found["expires"].as_f64(), Some(NOW + 60_000.0), "{given}");
            found["expires"] = json!(null);
            assert_eq!(found, json!({"access":"a","refresh":"r","idToken":"i","expires":null}), "{given}");
        }
    }

    #[test]
    fn an_answer_is_found_inside_its_wrappers() {
        let answer = json!({"access_token":"a","refresh_token":"r"});
        for wrapped in [
            json!({"data": answer, "status": 200, "config": {"data": {"refresh_token": "old"}}}),
            json!({"body": answer.to_string()}),
            json!({"data": {"status": 0, "body": answer}}),
            json!({"tokens": answer, "res": {"data": {"access_token": "other"}}}),
            json!({"token": answer}),
            json!({"ok": true, "authed_user": answer}),
        ] {
            assert_eq!(of(&wrapped), json!({"access":"a","refresh":"r"}), "{wrapped}");
        }
        for none in [json!({"config": answer}), json!({"a": answer}), json!({"token": 7}), json!({"data": [answer]})] {
            assert!(!holds_token(&none.to_string()), "{none}");
        }
        let deep = json!({"data": {"data": {"data": {"data": answer}}}});
        assert!(!holds_token(&deep.to_string()));
    }

    #[test]
    fn our_own_names_win_and_keep_what_is_beside_them() {
        let given = json!({"access":"a","access_token":"other","refresh":"r","refreshToken":"other",
            "expires":NOW + 1.0,"expires_in":9,"scope":"s"});
        assert_eq!(of(&given), given);
        let mixed = json!({"access":"a","refresh_token":"r","refresh":"","expires":null,"expires_in":1,"x":1});
        assert_eq!(of(&mixed), json!({"access":"a","refresh":"r","expires":1_700_000_001_000_i64,"x":1}));
    }

    #[test]
    fn an_expiry_is_what_its_size_says() {
        let expires = |value: Value| of(&json!({"access":"a","expires":value}))["expires"].as_f64();
        let hour = Some(NOW + 3_600_000.0);
        for same in [
            json!(NOW + 3_600_000.0),
            json!((NOW + 3_600_000.0) / 1000.0),
            json!(3600),
            json!("3600"),
            json!("1700003600000"),
            json!("2023-11-14T23:13:20.000Z"),
            json!("2023-11-15T01:13:20+02:00"),
            json!("2023-11-14T21:43:20.000000-01:30"),
        ] {
            assert_eq!(expires(same.clone()), hour, "{same}");
        }
        for none in ["NaN", "soon", "", "2023-11-14T23:13:20", "2023-11-14", "+02:00", "Infinity", "é+02:00"] {
            assert_eq!(expires(json!(none)), None, "{none}");
        }
        assert_eq!(expires(json!(true)), None);
        assert_eq!(expires(json!(9e15)), Some(MAX_DATE_MS));
        for past in [NOW - 1.0, 0.0, -5.0] {
            assert_eq!(expires(json!(past)), Some(past));
        }
        assert_eq!(of(&json!({"access_token":"a","expires_in":0})), json!({"access":"a"}));
        let either = json!({"access_token":"a","expires_at":1_700_000_009,"expires_in":5});
        assert_eq!(of(&either), json!({"access":"a","expires":1_700_000_005_000_i64}));
    }

    #[test]
    fn of_another_shape_only_what_we_know_is_kept() {
        let given = json!({"access_token":"a","email":"u@e","accountId":7,"idToken":"","provider":"p","type":"x","expires_in":"?"});
        assert_eq!(of(&given), json!({"access":"a","email":"u@e"}));
    }
}
