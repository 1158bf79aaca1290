//! The gate and the mirror decision, alone.

use crate::credential::Credential;
use crate::{identity, mirror};
use napi_derive::napi;
use serde_json::{Map, Value};

/// See `isSafeToCopyOAuthIdentity` in `index.d.ts`. Takes JSON objects.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn is_safe_to_copy(existing: String, incoming: String) -> bool {
    // What can't be read proves nothing, so it is not safe.
    matches!((object(&existing), object(&incoming)), (Some(existing), Some(incoming)) if identity::is_safe_to_copy(&existing, &incoming))
}

/// See `shouldMirrorRefreshedOAuthCredential` in `index.d.ts`. `null` if `refreshed` is no OAuth credential.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn mirror_decision(existing: Option<String>, refreshed: String) -> Option<MirrorDecision> {
    let refreshed = object(&refreshed).and_then(Credential::from_profile)?;
    let existing = match existing {
        Some(existing) => Some(object(&existing)?),
        None => None,
    };
    let reason = mirror::decide(existing.as_ref(), &refreshed);
    Some(MirrorDecision { mirror: reason.writes(), reason: reason.as_str().to_owned() })
}

/// Whether to write, and why.
#[napi(object, object_from_js = false)]
pub struct MirrorDecision {
    /// Whether to write.
    pub mirror: bool,
    /// See `MirrorReason` in `index.d.ts`.
    pub reason: String,
}

fn object(json: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(json) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}
