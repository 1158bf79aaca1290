//! Lifetimes and instants, as answers spell them.

use super::TimeUnit;
use crate::credential::{MAX_DATE_MS, instant_ms};
use crate::ecma;
use serde_json::{Map, Value};
use std::time::UNIX_EPOCH;

/// A number, or one in quotes.
fn number(map: &Map<String, Value>, name: &str) -> Option<f64> {
    let value = map.get(name)?;
    let number = value.as_f64().or_else(|| ecma::trim(value.as_str()?).parse().ok())?;
    Some(number).filter(|number| number.is_finite())
}

/// A lifetime in milliseconds. A lifetime of 0, as some providers give for tokens that do not expire, counts as missing.
pub(super) fn lifetime_ms(map: &Map<String, Value>, name: &str, unit: TimeUnit) -> Option<f64> {
    let unit_ms = match unit {
        TimeUnit::Seconds => 1000.0,
        TimeUnit::Milliseconds => 1.0,
    };
    number(map, name).filter(|lifetime| *lifetime > 0.0).map(|lifetime| lifetime * unit_ms)
}

/// An instant by the provider's clock, as Square gives it. One that has passed by ours does not count: the clocks differ.
pub(super) fn ahead_ms(map: &Map<String, Value>, name: &str, asked_ms: f64) -> Option<f64> {
    map.get(name).and_then(|value| instant_ms(value, false, asked_ms)).filter(|ms| *ms > asked_ms)
}

/// `expires_at` is an instant by GitHub's clock; where ours differs, `refresh_in` seconds from now and a minute more.
pub(super) fn copilot_expiry_ms(answer: &Map<String, Value>, asked_ms: f64) -> Option<f64> {
    let by_theirs = number(answer, "expires_at").map(|seconds| seconds * 1000.0).filter(|expires| *expires > asked_ms);
    let by_ours = lifetime_ms(answer, "refresh_in", TimeUnit::Seconds).map(|lifetime| asked_ms + lifetime + 60_000.0);
    match (by_theirs, by_ours) {
        (Some(theirs), Some(ours)) => Some(theirs.min(ours)),
        (theirs, ours) => theirs.or(ours),
    }
}

/// As a credential has it; `None` before 1970.
pub(super) fn instant(ms: f64) -> Option<Value> {
    #[allow(clippy::cast_possible_truncation, reason = "an instant has fewer digits")]
    (ms > 0.0).then(|| Value::from(ms.min(MAX_DATE_MS) as i64))
}

/// Seconds, or a date (RFC 9110 §10.2.3).
pub(super) fn retry_after_ms(value: &str, now_ms: f64) -> Option<f64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit()) {
        return value.parse::<f64>().ok().map(|seconds| seconds * 1000.0);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let at_ms = at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0);
    Some((at_ms - now_ms).max(0.0))
}
