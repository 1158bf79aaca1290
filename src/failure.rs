//! How a provider call failed, and what the next caller may do.
//!
//! The one question is whether the refresh token may have been spent. What can't be told is [`FailureClass::Uncertain`].

/// How a provider call failed. The class decides what the next caller may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FailureClass {
    /// The provider was not reached: the next caller may try.
    NotSent,
    /// The provider answered and has not rotated: everyone waits, for as long as it asked in milliseconds, if it did.
    AnsweredUnspent(Option<f64>),
    /// The provider refused the refresh token for good.
    AnsweredDead,
    /// Whether the provider has rotated is unknown.
    Uncertain,
}

impl FailureClass {
    /// Its name as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::AnsweredUnspent(_) => "answered_unspent",
            Self::AnsweredDead => "answered_dead",
            Self::Uncertain => "uncertain",
        }
    }
}

/// What is known of a failed call.
#[derive(Debug, Default)]
pub struct Evidence<'a> {
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// The codes in it, such as RFC 6749's `error`.
    pub codes: Vec<&'a str>,
    /// What it says, in lower case.
    pub words: &'a str,
    /// For how long the provider wants everyone to wait, in milliseconds.
    pub retry_after_ms: Option<f64>,
    /// Whether there never was a connection.
    pub never_connected: bool,
}

/// How providers say that a refresh token was used before (OpenClaw's list).
const REUSE_PHRASES: [&str; 3] =
    ["refresh_token_reused", "refresh token has already been used", "already been used to generate a new access token"];

/// Codes by which providers refuse a refresh token for good: RFC 6749 §5.2, OpenAI's, GitHub's.
const DEAD: [&str; 7] = [
    "invalid_grant",
    "refresh_token_reused",
    "refresh_token_expired",
    "refresh_token_invalidated",
    "refresh_token_revoked",
    "bad_refresh_token",
    "app_session_terminated",
];

/// RFC 6749 §5.2, RFC 8628 §3.5, RFC 8707 §2 and GitHub: the request was refused before the refresh token was looked at.
const UNSPENT: [&str; 9] = [
    "invalid_request",
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "temporarily_unavailable",
    "slow_down",
    "incorrect_client_credentials",
];

/// Classifies a failed call.
#[must_use]
pub fn classify(evidence: &Evidence) -> FailureClass {
    let status = evidence.status;
    let has = |codes: &[&str]| evidence.codes.iter().any(|code| codes.contains(code));
    // Who says so in an answer of 500 may have looked, or not.
    let is_refusal = status.is_none_or(|status| status < 500);
    if is_refusal && (says_reused(evidence.words) || has(&DEAD)) {
        return FailureClass::AnsweredDead;
    }
    let is_unspent = match status {
        // 408: it may have read the whole request after all. 303 means: done, look there.
        Some(408) => false,
        Some(301 | 302 | 307 | 308 | 503 | 400..=499) => true,
        _ => false,
    };
    if is_unspent || (is_refusal && has(&UNSPENT)) {
        return FailureClass::AnsweredUnspent(evidence.retry_after_ms);
    }
    if status.is_none() && evidence.never_connected { FailureClass::NotSent } else { FailureClass::Uncertain }
}

/// Whether these words, in lower case, say that the refresh token was used before.
fn says_reused(words: &str) -> bool {
    REUSE_PHRASES.iter().any(|phrase| words.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_follows_status_code_and_words() {
        let class = |status: u16, code: &'static str, words: &'static str| {
            classify(&Evidence {
                status: Some(status).filter(|status| *status > 0),
                codes: vec![code],
                words,
                ..Evidence::default()
            })
        };
        let unspent = FailureClass::AnsweredUnspent(None);
        for (status, code, words, expected) in [
            (400, "invalid_grant", "", FailureClass::AnsweredDead),
            (200, "bad_refresh_token", "", FailureClass::AnsweredDead),
            (0, "refresh_token_expired", "", FailureClass::AnsweredDead),
            (
                401,
                "",
                "your refresh token has already been used to generate a new access token.",
                FailureClass::AnsweredDead,
            ),
            (500, "invalid_grant", "", FailureClass::Uncertain),
            (400, "invalid_request", "", unspent),
            (200, "incorrect_client_credentials", "", unspent),
            (418, "", "", unspent),
            (429, "", "", unspent),
            (503, "", "", unspent),
            (502, "", "", FailureClass::Uncertain),
            (408, "", "", FailureClass::Uncertain),
            (200, "", "", FailureClass::Uncertain),
            (303, "", "", FailureClass::Uncertain),
            (307, "", "", unspent),
            (0, "", "", FailureClass::Uncertain),
        ] {
            assert_eq!(class(status, code, words), expected, "{status} {code} {words}");
        }
        let evidence = Evidence { never_connected: true, ..Evidence::default() };
        assert_eq!(classify(&evidence), FailureClass::NotSent);
    }
}
