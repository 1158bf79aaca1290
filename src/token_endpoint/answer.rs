//! What a token endpoint answered: the new fields of the credential, or why there are none.

use super::expiry::{ahead_ms, copilot_expiry_ms, instant, lifetime_ms, retry_after_ms};
use super::{Exchange, Failure, TokenEndpoint};
use crate::credential::fields::Fields;
use crate::credential::{Credential, text};
use crate::ecma;
use crate::error::{Code, Error};
use crate::failure::{Backoff, Evidence, FailureClass, Finding, classify, codes};
use serde_json::{Map, Value};
use std::ops::Range;
use zeroize::{Zeroize, Zeroizing};

/// Larger answers are not read: 1 MiB.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

/// An answer, as it came.
pub struct Response {
    /// Its status.
    pub status: u16,
    /// `Retry-After` (RFC 9110 §10.2.3).
    pub retry_after: Option<String>,
    /// Its body, as far as it came.
    pub body: Zeroizing<Vec<u8>>,
    /// Whether that is all of it.
    pub is_whole: bool,
}

/// An access token that has expired on its way here lives for another second.
const SHORTEST_LIFE_MS: f64 = 1_000.0;

const NOT_KNOWN: &str = "it is not known yet whether the refresh token was used; a later call asks again";
const STAYS_GOOD: &str = "the refresh token stays good either way; a later call asks again";

/// The new fields of a credential, as a refresh's settlement takes them.
pub type NewFields = Zeroizing<String>;

impl TokenEndpoint {
    /// Reads an answer to what was asked with `credential`; `call` is when that was sent and when the answer was there.
    pub fn read(&self, credential: &Credential, call: Range<f64>, answer: &Response) -> Result<NewFields, Failure> {
        let body = decoded(&answer.body);
        // Of what was cut off, a JSON object that is there to its closing brace is whole.
        let members = Fields::parse(&body).or_else(|| form(&body).filter(|_| answer.is_whole));
        let Some(members) = members else { return Err(self.refused(credential, answer, call.end, None)) };
        let enveloped = self.enveloped(&members);
        let place = enveloped.as_ref().filter(|place| self.tokens(place).is_any()).unwrap_or(&members);
        if (200..=299).contains(&answer.status) {
            match self.tokens(place) {
                // The old refresh token may be spent, and saving a new one that can't be spelled would end the login.
                Tokens { access: Token::Text(_), refresh: Token::Unusable } => {
                    return Err(self.is_unusable(credential, answer.status, "refresh_token"));
                }
                // Even without an access token: the new refresh token is all that is left of the login.
                Tokens { access: Token::Text(_), .. } | Tokens { refresh: Token::Text(_), .. } => {
                    return self.accept(credential, call, place, members.values());
                }
                _ => {}
            }
        }
        // Where the error stands differs as well.
        let mut all = enveloped.clone().unwrap_or_default();
        all.overlay(&members, |_, value| !value.is_null());
        let failure = self.refused(credential, answer, call.end, Some(&all));
        let is_invalid = failure.error.code == Code::ProviderAnswerInvalid;
        Err(match self.tokens(place) {
            Tokens { access: Token::Unusable, .. } if is_invalid => {
                self.is_unusable(credential, answer.status, self.token_name())
            }
            _ => failure,
        })
    }

    /// What the provider wraps its answer into, if it does.
    fn enveloped(&self, answer: &Fields) -> Option<Fields> {
        let mut names = self.spec.envelope.iter();
        let mut inner = Fields::parse(answer.spelled(names.next()?)?)?;
        for name in names {
            inner = Fields::parse(inner.spelled(name)?)?;
        }
        Some(inner)
    }

    fn tokens<'a>(&self, answer: &'a Fields) -> Tokens<'a> {
        let refresh = match self.spec.exchange {
            Exchange::RefreshToken => Token::of(answer, "refresh_token"),
            Exchange::GithubCopilot => Token::None,
        };
        Tokens { access: Token::of(answer, self.token_name()), refresh }
    }

    /// The answer's token can't be stored as it is, and not in any other way.
    fn is_unusable(&self, credential: &Credential, status: u16, name: &str) -> Failure {
        let host = self.host_for(credential);
        let class = self.class_of(FailureClass::Uncertain);
        let then = Self::then(class);
        let message = format!(
            "{host} answered with status {status} and a {name} that is not valid text; it was not stored; {then}"
        );
        let error = Error::new(Code::ProviderAnswerInvalid, message);
        Failure::after(error, class, Some(status))
    }

    /// What it means for the login that a call may have spent the refresh token, and what to do.
    pub(super) fn then(class: FailureClass) -> &'static str {
        if class == FailureClass::Uncertain { NOT_KNOWN } else { STAYS_GOOD }
    }

    fn token_name(&self) -> &'static str {
        match self.spec.exchange {
            Exchange::RefreshToken => "access_token",
            Exchange::GithubCopilot => "token",
        }
    }

    fn refused(&self, credential: &Credential, answer: &Response, now_ms: f64, members: Option<&Fields>) -> Failure {
        let status = answer.status;
        let bodies: Vec<_> = members.map(Fields::values).into_iter().collect();
        let mut finding = classify(&Evidence {
            status: Some(status),
            bodies: bodies.clone(),
            retry_after_ms: answer.retry_after.as_deref().and_then(|text| retry_after_ms(text, now_ms)),
            own: Some(&self.spec.own_codes),
            ..Evidence::default()
        });
        // GitHub's word for a token that is revoked or unknown; a proxy's 401 says nothing of it.
        if self.spec.exchange == Exchange::GithubCopilot
            && status == 401
            && finding.code.is_none()
            && bodies.iter().any(|body| text(body, "message") == Some("Bad credentials"))
        {
            finding.class = FailureClass::AnsweredDead;
            finding.pause = Backoff::None;
        }
        let is_token =
            |code: &str| credential.refresh().is_some_and(|token| token.contains(code) || code.contains(token));
        let plain = bodies.iter().flat_map(|body| codes(body)).find(|code| is_code(code));
        let known = finding.code.filter(|code| !code.contains(' '));
        let oauth_error = known.or(plain).filter(|code| !is_token(code));
        let finding = Finding { class: self.class_of(finding.class), code: oauth_error, ..finding };
        let error = self.explained(credential, answer, &finding);
        let Finding { class, is_temporary, pause, code: oauth_error } = finding;
        let is_temporary = is_temporary || class.may_work_again();
        Failure { error, class, status: Some(status), oauth_error, is_temporary, pause }
    }

    /// What happened, what that means for the login, and what to do.
    fn explained(&self, credential: &Credential, answer: &Response, finding: &Finding) -> Error {
        let Finding { class, is_temporary, code, .. } = finding;
        let status = answer.status;
        let is_success = (200..=299).contains(&status);
        let is_refusal = code.is_some() || matches!(class, FailureClass::AnsweredDead | FailureClass::AnsweredUnspent);
        let (code, what) = match code {
            _ if is_success && !answer.is_whole => {
                (Code::ProviderAnswerLost, "an answer that was cut off or too large".to_owned())
            }
            _ if is_success && !is_refusal => {
                (Code::ProviderAnswerInvalid, format!("status {status} and no {}", self.token_name()))
            }
            Some(code) => (Code::ProviderRefused, format!("status {status} \"{code}\"")),
            None => (Code::ProviderRefused, format!("status {status}")),
        };
        let then = match class {
            FailureClass::AnsweredDead => "the refresh token is refused for good; log in again",
            FailureClass::AnsweredUnspent if (300..=399).contains(&status) => {
                "redirects are not followed, so the refresh token was not used; correct tokenEndpoint"
            }
            FailureClass::AnsweredUnspent if *is_temporary => {
                "the refresh token was not used; the provider is asked again after a pause"
            }
            FailureClass::AnsweredUnspent => "the refresh token was not used; check tokenEndpoint and the client",
            FailureClass::NotSent if self.spec.is_replay_safe => STAYS_GOOD,
            FailureClass::NotSent => {
                "a gateway did not reach the provider, so the refresh token was not used; a later call asks again"
            }
            FailureClass::Uncertain => NOT_KNOWN,
        };
        Error::new(code, format!("{} answered with {what}; {then}", self.host_for(credential)))
    }

    /// Where asking again never hurts, nothing is uncertain.
    pub(super) fn class_of(&self, class: FailureClass) -> FailureClass {
        match class {
            FailureClass::Uncertain if self.spec.is_replay_safe => FailureClass::NotSent,
            class => class,
        }
    }

    fn accept(
        &self,
        credential: &Credential,
        call: Range<f64>,
        given: &Fields,
        whole: &Map<String, Value>,
    ) -> Result<NewFields, Failure> {
        let answer = given.values();
        let mut fields = Fields::default();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(mut value) = value {
                fields.insert(name, &value);
                if let Value::String(text) = &mut value {
                    text.zeroize();
                }
            }
        };
        let Tokens { access, refresh } = self.tokens(given);
        put("access", access.text().map(Value::from));
        let unit = self.spec.expires_in_unit;
        let expires = match self.spec.exchange {
            Exchange::RefreshToken => lifetime_ms(answer, "expires_in", unit)
                .map(|lifetime| call.start + lifetime)
                .or_else(|| ahead_ms(answer, "expires_at", call.start)),
            Exchange::GithubCopilot => copilot_expiry_ms(answer, call.start),
        };
        // Even if it has expired on its way here, the old one was exchanged for it.
        put("expires", expires.and_then(|expires| instant(expires.max(call.end + SHORTEST_LIFE_MS))));
        if self.spec.exchange == Exchange::RefreshToken {
            put("refresh", refresh.text().map(Value::from));
            put("idToken", Token::of(given, "id_token").text().map(Value::from));
            let names = ["refresh_token_expires_in", "refresh_expires_in"];
            let lifetime = names.iter().find_map(|name| lifetime_ms(answer, name, unit));
            let expires = lifetime.map(|lifetime| call.start + lifetime);
            let expires = expires.or_else(|| ahead_ms(answer, "refresh_token_expires_at", call.start));
            put("refreshExpires", expires.and_then(instant));
        }
        self.identify(credential, given, whole, access.text(), &mut fields)?;
        Ok(Zeroizing::new(fields.to_json()))
    }
}

/// A token in an answer.
#[derive(Clone, Copy)]
pub(super) enum Token<'a> {
    /// Not there, `null` or blank.
    None,
    /// Not text, or text that can't be spelled: with bytes that are not UTF-8, or half a surrogate pair.
    Unusable,
    Text(&'a str),
}

impl<'a> Token<'a> {
    pub(super) fn of(answer: &'a Fields, name: &str) -> Self {
        match answer.values().get(name) {
            None | Some(Value::Null) => Self::None,
            Some(Value::String(text)) if ecma::is_blank(text) => Self::None,
            // Text that is not valid Unicode stands as it is spelled, or has U+FFFD where the bytes made no sense.
            Some(Value::String(text)) if answer.spelled(name) != Some(text) && !text.contains('\u{FFFD}') => {
                Self::Text(text)
            }
            Some(_) => Self::Unusable,
        }
    }

    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::None | Self::Unusable => None,
        }
    }
}

/// The tokens in an answer.
struct Tokens<'a> {
    access: Token<'a>,
    refresh: Token<'a>,
}

impl Tokens<'_> {
    fn is_any(&self) -> bool {
        !matches!((self.access, self.refresh), (Token::None, Token::None))
    }
}

/// JSON is UTF-8 (RFC 8259 §8.1), and tokens are ASCII (RFC 6749 appendix A): a wrong charset costs no token.
fn decoded(body: &[u8]) -> Zeroizing<String> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    Zeroizing::new(String::from_utf8_lossy(body).into_owned())
}

/// A form such as GitHub answers with by default. Content types are not relied on: they are often wrong.
fn form(body: &str) -> Option<Fields> {
    let mut fields = Fields::default();
    for (name, value) in url::form_urlencoded::parse(body.trim().as_bytes()) {
        fields.insert(&name, &Value::from(&*value));
    }
    // Any text is a form, also one that repeats what was asked with.
    let is_answer = ["access_token", "error"].into_iter().any(|name| fields.values().contains_key(name));
    is_answer.then_some(fields)
}

/// Whether it is short and plain enough to be shown to people.
fn is_code(code: &str) -> bool {
    code.len() <= 48 && code.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '-')
}
