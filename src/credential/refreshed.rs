//! What a refresh function returned: some fields of a credential, or why it can't be used.

use super::shape::{self, Given};
use super::{Credential, DEFAULT_LIFETIME_MS, instant, text};
use crate::credential::fields::Fields;
use crate::credential::jwt;
use crate::ecma;
use crate::error::{Code, Error, Result};
use serde_json::Value;
use zeroize::Zeroizing;

/// A result that is not a credential.
#[derive(Debug)]
pub struct Refused {
    /// Why, as the end of a sentence about it.
    pub what: &'static str,
    /// Why.
    pub error: Error,
    /// The refresh token in it, if the provider gave one for the spent one: the credential is not usable,
    /// but it can be refreshed.
    pub salvaged: Option<RefreshedFields>,
}

/// What a refresh returned: some fields of a credential.
#[derive(Debug)]
pub struct RefreshedFields(Fields);

impl RefreshedFields {
    /// Reads the JSON text of a refresh function's result, in any shape that a client library gives: see [`shape`]. Fields that
    /// are `null`, and expiries that are not instants, count as not given. Without an expiry that is the access token's own if
    /// it is a JWT, else [`DEFAULT_LIFETIME_MS`] from now. What the function was `given` counts where the result says nothing else.
    pub fn parse(json: &str, given: &Credential, now_ms: f64) -> Result<Self, Box<Refused>> {
        let refuse = |what: &'static str, salvaged| {
            let message = format!("the refresh function's result {what}; no store was changed");
            Err(Box::new(Refused { what, error: Error::new(Code::InvalidRefreshResult, message), salvaged }))
        };
        let given = Given::of(&Zeroizing::new(given.to_json()));
        let Some(mut fields) = shape::understood(json, &given, now_ms).map(Self) else {
            return refuse("is not an object of JSON values", None);
        };
        if fields.0.values().contains_key("refresh") && !fields.has_text("refresh") {
            return refuse("has a refresh token that is not well-formed text", None);
        }
        if fields.0.values().get("access").is_none_or(|access| access.as_str().is_some_and(ecma::is_blank)) {
            return refuse("has no access token", fields.salvaged());
        }
        if !fields.has_text("access") {
            return refuse("has an access token that is not well-formed text", fields.salvaged());
        }
        if !fields.0.values().contains_key("expires") {
            let of_token =
                text(fields.0.values(), "access").and_then(jwt::expiry_ms).filter(|expires| *expires > now_ms);
            let expires = of_token.unwrap_or(now_ms + DEFAULT_LIFETIME_MS);
            #[allow(clippy::cast_possible_truncation, reason = "an instant has fewer digits")]
            fields.0.insert("expires", &Value::from(expires as i64));
        }
        if instant(fields.0.values(), "expires").is_none_or(|expires| expires <= now_ms) {
            return refuse("has an expiry in the past", fields.salvaged());
        }
        Ok(fields)
    }

    /// Whether a result is the credential that the function was given, with nothing new: OpenClaw's plugins return that where
    /// they did not refresh. The same tokens with a later expiry are new.
    #[must_use]
    pub fn is_unchanged(json: &str, given: &Credential, now_ms: f64) -> bool {
        let given = Zeroizing::new(given.to_json());
        let new = shape::understood(json, &Given::of(&given), now_ms);
        let (Some(new), Some(old)) = (new, shape::understood(&given, &Given::default(), now_ms)) else { return false };
        let is_same = |name| given_text(&new, name).is_none_or(|new| given_text(&old, name) == Some(new));
        let expires = |fields: &Fields| instant(fields.values(), "expires");
        given_text(&new, "access").is_some()
            && is_same("access")
            && is_same("refresh")
            && expires(&new).is_none_or(|expires_new| Some(expires_new) <= expires(&old))
    }

    /// Whether a field is valid text: U+FFFD stands for bytes that are not.
    fn has_text(&self, name: &str) -> bool {
        let spelled = self.0.spelled(name).and_then(|spelled| serde_json::from_str::<String>(spelled).ok());
        spelled.map(Zeroizing::new).is_some_and(|text| !text.contains(char::REPLACEMENT_CHARACTER))
    }

    /// All of them.
    pub(super) fn as_fields(&self) -> &Fields {
        &self.0
    }

    /// Refresh token and identity, marked as expired.
    fn salvaged(mut self) -> Option<Self> {
        given_text(&self.0, "refresh")?;
        if !self.has_text("access") || given_text(&self.0, "access").is_none() {
            self.0.retain(|name, _| name != "access");
        }
        self.0.insert("expires", &Value::from(0));
        Some(self)
    }

    /// The refresh token alone, marked as expired.
    #[must_use]
    pub fn refresh_token(&self) -> Option<Self> {
        let mut only = Self(self.0.clone());
        only.0.retain(|name, _| name == "refresh");
        only.salvaged()
    }

    /// The names of what was returned.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.names().map(str::to_owned).collect()
    }
}

/// A field that is text, and not blank.
fn given_text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    text(fields.values(), name).filter(|text| !ecma::is_blank(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::tests::credential;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    fn none() -> Credential {
        credential(json!({"type":"oauth"}))
    }

    #[test]
    fn a_result_must_be_a_credential() {
        let refused = [
            "null",
            "[]",
            "\"text\"",
            "{}",
            r#"{"access":""}"#,
            r#"{"access":"a","expires":199999999999}"#,
            r#"{"access":"a","expires":0}"#,
            r#"{"access":7,"expires":2000}"#,
            r#"{"access":"a\ud83d"}"#,
            r#"{"access":"a\ufffd"}"#,
            r#"{"access_token":{"x":"a"}}"#,
            r#"{"access":"a","expires":2000,"refresh":7}"#,
            r#"{"access":"a","refresh":"\ud83d"}"#,
            r#"{"data":{"access_token":"a","refresh_token":"r\ud83d"}}"#,
        ];
        for json in refused {
            let code = RefreshedFields::parse(json, &none(), 200_000_000_000.0)
                .map(|_| ())
                .map_err(|refused| refused.error.code);
            assert_eq!(code, Err(Code::InvalidRefreshResult), "{json}");
        }
        assert!(RefreshedFields::parse(r#"{"access":"a","expires":1001}"#, &none(), 1000.0).is_ok());
    }

    #[test]
    fn the_credential_as_it_was_given_is_nothing_new() {
        let given = credential(json!({"type":"oauth","access":"a","refresh":"r","expires":1_700_000_005_000_i64}));
        let is_unchanged = |json: &str| RefreshedFields::is_unchanged(json, &given, 1_700_000_009_000.0);
        for same in [
            r#"{"type":"oauth","access":"a","refresh":"r","expires":1700000005000}"#,
            r#"{"access":"a"}"#,
            r#"{"data":{"access_token":"a","refresh_token":"r"}}"#,
        ] {
            assert!(is_unchanged(same), "{same}");
        }
        for new in [
            r#"{"access":"b","refresh":"r","expires":1700000005000}"#,
            r#"{"access":"a","refresh":"s"}"#,
            r#"{"access":"a","refresh":"r","expires":1700000009001}"#,
            r#"{"access_token":"a","refresh_token":"r","expires_in":60}"#,
            "null",
            "{}",
        ] {
            assert!(!is_unchanged(new), "{new}");
        }
        let none = credential(json!({"type":"oauth","refresh":"r"}));
        assert!(!RefreshedFields::is_unchanged(r#"{"refresh":"r"}"#, &none, 0.0));
    }

    #[test]
    fn an_answer_spread_over_what_was_given_is_new() {
        let now = 1_700_000_009_000.0;
        let old = json!({"type":"oauth","access":"a","refresh":"r","expires":1_700_000_005_000_i64,"idToken":"i","x":1,
            "tokens":{"access_token":"older","refresh_token":"r"}});
        let given = credential(old.clone());
        let hour = Some(now + 3_600_000.0);
        let half = Some(now + DEFAULT_LIFETIME_MS);
        for (spread, refresh, expires) in [
            (json!({"access_token":"b","refresh_token":"s","expires_in":3600}), "s", hour),
            (json!({"accessToken":"b","refreshToken":"s","expiresIn":3600}), "s", hour),
            (json!({"access":"b","expires":now + 3_600_000.0,"refresh_token":"s"}), "s", hour),
            (json!({"access":"b","expires_at":now + 3_600_000.0}), "r", hour),
            (json!({"access_token":"b","refresh_token":"r","id_token":"j"}), "r", half),
            (json!({"tokens":{"access_token":"b","refresh_token":"s","expires_in":3600}}), "s", hour),
            (json!({"refresh_token":"s","data":{"access_token":"b","expires_in":3600}}), "s", hour),
            (json!({"access":"b"}), "r", half),
            (json!({"token":"b","expires_at":(now + 3_600_000.0) / 1000.0}), "r", hour),
        ] {
            let mut result = old.clone();
            result.as_object_mut().expect("an object").extend(spread.as_object().expect("an object").clone());
            let json = result.to_string();
            assert!(!RefreshedFields::is_unchanged(&json, &given, now), "{json}");
            let merged = given.merged_with(&RefreshedFields::parse(&json, &given, now).expect("valid"));
            let stored = (merged.access(), merged.refresh(), merged.expires());
            assert_eq!(stored, (Some("b"), Some(refresh), expires), "{json}");
        }
        let mut same = old;
        same.as_object_mut().expect("an object").insert("token".to_owned(), json!("csrf"));
        assert!(RefreshedFields::is_unchanged(&same.to_string(), &given, now));
    }

    #[test]
    fn an_expiry_that_nobody_gives_is_the_tokens_own_or_half_an_hour() {
        let expires = |access: &str| {
            let json = json!({"access": access, "expires": null}).to_string();
            instant(RefreshedFields::parse(&json, &none(), 1_000_000.0).expect("valid").0.values(), "expires")
        };
        let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expires(&jwt(r#"{"exp":2000}"#)), Some(2_000_000.0));
        for opaque in ["opaque", "a.b", "a.b.c", &jwt(r#"{"exp":999}"#), &jwt("[]"), &jwt(r#"{"exp":"2000"}"#)] {
            assert_eq!(expires(opaque), Some(1_000_000.0 + DEFAULT_LIFETIME_MS), "{opaque}");
        }
    }

    #[test]
    fn what_is_refused_still_tells_the_new_refresh_token() {
        let salvaged = |json: &str| RefreshedFields::parse(json, &none(), 1000.0).expect_err(json).salvaged;
        let old = credential(json!({"type":"oauth","access":"a1","refresh":"r1","expires":1}));
        for json in [
            r#"{"access":"a2","refresh":"r2","expires":-7}"#,
            r#"{"refresh":"r2","expires":"soon"}"#,
            r#"{"access_token":7,"refresh_token":"r2"}"#,
            r#"{"access":"a\ud83d","refresh":"r2"}"#,
        ] {
            let kept = old.merged_with(&salvaged(json).expect("something"));
            assert_eq!((kept.refresh(), kept.expires()), (Some("r2"), Some(0.0)), "{json}");
            assert!(kept.access().is_some());
        }
        assert!(salvaged(r#"{"access":"a2","expires":-7}"#).is_none());
        assert!(salvaged("[]").is_none());
    }
}
