//! The claims of a JSON Web Token (RFC 7519). Nothing is verified: the token is the provider's own answer, from its own host.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The claims of a token; `None` if it is not a JWT.
#[must_use]
pub fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// `exp` (§4.1.4), in milliseconds since the epoch.
#[must_use]
pub fn expiry_ms(token: &str) -> Option<f64> {
    instant_ms(&claims(token)?, "exp")
}

/// From `iat` (§4.1.6) to `exp`, in milliseconds.
#[must_use]
pub fn lifetime_ms(token: &str) -> Option<f64> {
    let claims = claims(token)?;
    Some(instant_ms(&claims, "exp")? - instant_ms(&claims, "iat")?).filter(|lifetime| *lifetime > 0.0)
}

fn instant_ms(claims: &Map<String, Value>, name: &str) -> Option<f64> {
    Some(claims.get(name)?.as_f64()? * 1000.0).filter(|ms| ms.is_finite())
}
