//! What people write into a store when they write a login by hand.

use super::{is_oauth, text};
use crate::ecma;
use serde_json::{Map, Value};

/// The names of tokens: OpenClaw's, the token endpoint's (RFC 6749 §5.1), and those of client libraries.
const OWN: [&str; 2] = ["access", "refresh"];
const RAW: [&str; 4] = ["access_token", "refresh_token", "accessToken", "refreshToken"];

/// Why a profile that is meant for an OAuth login can't be used, to be put behind "the profile"; `None` if nothing is
/// wrong, or if it is something else, such as an API key.
#[must_use]
pub fn mistake(profile: &Map<String, Value>) -> Option<&'static str> {
    let has = |names: &[&str]| names.iter().any(|name| text(profile, name).is_some_and(|token| !ecma::is_blank(token)));
    if is_oauth(profile) {
        return match () {
            () if !has(&OWN) && has(&RAW) => Some(
                "holds a token answer as the provider gave it (`access_token`, `refresh_token`); a login has \
                 `access`, `refresh` and `expires` (milliseconds since the epoch)",
            ),
            () if !has(&["provider"]) => Some("has no `provider`; set it to the provider that calls name"),
            () => None,
        };
    }
    match profile.get("type").or_else(|| profile.get("mode")) {
        None | Some(Value::Null) if has(&OWN) || has(&RAW) => {
            Some("has no `type`; an OAuth login has \"type\": \"oauth\"")
        }
        Some(Value::String(given)) if is_meant_for_oauth(given) => {
            Some("has a `type` that is not spelled \"oauth\" (all in lower case)")
        }
        _ => None,
    }
}

/// `OAuth`, `oauth2`, `OAuth 2.0`, …
fn is_meant_for_oauth(given: &str) -> bool {
    let letters: String = given.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(letters.to_ascii_lowercase().as_str(), "oauth" | "oauth2" | "oauth20")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(profile: &Value) -> Option<&'static str> {
        mistake(profile.as_object().expect("an object"))
    }

    #[test]
    fn a_login_that_is_written_wrong_is_told_by_what_is_wrong() {
        for (profile, says) in [
            (json!({"provider": "p", "access": "a", "refresh": "r"}), "no `type`"),
            (json!({"type": null, "provider": "p", "refresh_token": "r"}), "no `type`"),
            (json!({"type": "OAuth", "provider": "p", "access": "a"}), "spelled"),
            (json!({"type": "oauth2", "provider": "p"}), "spelled"),
            (json!({"mode": "OAUTH"}), "spelled"),
            (json!({"type": "oauth", "access": "a", "refresh": "r"}), "no `provider`"),
            (json!({"type": "oauth", "provider": " ", "refresh": "r"}), "no `provider`"),
            (json!({"type": "oauth", "provider": "p", "access_token": "a"}), "token answer"),
            (json!({"type": "oauth", "provider": "p", "access": "", "refreshToken": "r"}), "token answer"),
        ] {
            assert!(of(&profile).is_some_and(|why| why.contains(says)), "{profile}: {:?}", of(&profile));
        }
    }

    #[test]
    fn what_openclaw_keeps_is_no_mistake() {
        for profile in [
            json!({"type": "oauth", "provider": "p", "access": "a", "refresh": "r", "expires": 1}),
            json!({"mode": "oauth", "provider": "p", "access": "a"}),
            // Logged out, or never logged in.
            json!({"type": "oauth", "provider": "p", "access": "", "refresh": ""}),
            json!({"type": "oauth", "provider": "p", "access": "a", "access_token": "kept by its owner"}),
            json!({"type": "api_key", "provider": "p", "key": "k"}),
            json!({"mode": "api_key", "provider": "p", "apiKey": "k"}),
            json!({"type": "token", "provider": "p", "token": "t", "access": "a"}),
            json!({"type": "aws-sdk", "provider": "p"}),
            json!({"provider": "p", "key": "k"}),
            json!({}),
        ] {
            assert_eq!(of(&profile), None, "{profile}");
        }
    }
}
