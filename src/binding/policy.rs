//! Rules that JavaScript asks for alone: the gate, the mirror decision, what holds a token, what a failure means.

use crate::credential::fields::Fields;
use crate::credential::identity;
use crate::credential::{self, Credential};
use crate::failure::{self, Evidence, Finding};
use crate::refresh::mirror;
use napi_derive::napi;

/// See `isSafeToCopyOAuthIdentity` in `index.d.ts`. Takes JSON objects.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn is_safe_to_copy(existing: String, incoming: String) -> bool {
    // Fields that can't be read prove nothing, so the copy is not safe.
    matches!((Fields::parse(&existing), Fields::parse(&incoming)), (Some(existing), Some(incoming)) if identity::is_safe_to_copy(existing.values(), incoming.values()))
}

/// See `shouldMirrorRefreshedOAuthCredential` in `index.d.ts`. `null` if `refreshed` is not an OAuth credential.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn mirror_decision(existing: Option<String>, refreshed: String) -> Option<MirrorDecision> {
    let refreshed = Fields::parse(&refreshed).and_then(Credential::from_profile)?;
    let existing = match existing {
        Some(existing) => Some(Fields::parse(&existing)?),
        None => None,
    };
    let reason = mirror::decide(existing.as_ref().map(Fields::values), &refreshed);
    Some(MirrorDecision { mirror: reason.writes(), reason: reason.as_str().to_owned() })
}

/// Whether a refresh function's result, as JSON text, holds a token in any known shape.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned values")]
pub fn holds_token(result: String) -> bool {
    credential::holds_token(&result)
}

/// See `RefreshFailure` in `index.d.ts`: the class of a failed call, by its evidence.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned values")]
pub fn classify_failure(seen: FailureEvidence) -> FailureFinding {
    let status = |status: Option<u32>| status.and_then(|status| u16::try_from(status).ok());
    let bodies: Vec<_> = seen.bodies.iter().filter_map(|body| Fields::parse(body)).collect();
    let Finding { class, pause, is_temporary, .. } = failure::classify(&Evidence {
        status: status(seen.status),
        told_status: status(seen.told_status),
        bodies: bodies.iter().map(Fields::values).collect(),
        messages: seen.messages.iter().map(String::as_str).collect(),
        retry_after_ms: seen.retry_after_ms,
        never_connected: seen.never_connected,
        connection_lost: seen.connection_lost,
        own: None,
    });
    let is_answer = seen.status.is_some();
    FailureFinding { class: class.as_str().to_owned(), is_answer, is_temporary, pause_ms: pause.asked_ms() }
}

/// See [`Evidence`].
#[napi(object, object_to_js = false)]
pub struct FailureEvidence {
    /// The answer's status.
    pub status: Option<u32>,
    /// A status that only words tell.
    pub told_status: Option<u32>,
    /// JSON objects.
    pub bodies: Vec<String>,
    /// What errors say of themselves.
    pub messages: Vec<String>,
    /// For how long the provider wants everyone to wait.
    pub retry_after_ms: Option<f64>,
    /// Whether there never was a connection.
    pub never_connected: bool,
    /// Whether it broke.
    pub connection_lost: bool,
}

/// See `RefreshFailure` in `index.d.ts`.
#[napi(object, object_from_js = false)]
pub struct FailureFinding {
    /// The class.
    pub class: String,
    /// Whether an answer came, even a gateway's.
    pub is_answer: bool,
    /// Whether it may work in a moment.
    pub is_temporary: bool,
    /// If the provider asked for a pause: the one that is made.
    pub pause_ms: Option<f64>,
}

/// Whether to write, and why.
#[napi(object, object_from_js = false)]
pub struct MirrorDecision {
    /// Whether to write.
    pub mirror: bool,
    /// See `MirrorReason` in `index.d.ts`.
    pub reason: String,
}
