//! What the next call meets that would send a refresh token: the one place that says so. Calls go by it, and so does what `inspect`,
//! `status` and `doctor` tell.

use crate::clock::Clock;
use crate::journal::record::{FailureRecord, Outcome};

/// What the next call with a refresh token meets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// The provider may be asked.
    Free,
    /// The provider has refused it for good.
    Dead,
    /// It was used before.
    Spent,
    /// It is not known whether the last call used it. The provider may be asked again after so many milliseconds; `None`: at once.
    InDoubt(Option<f64>),
    /// The last call left it unused. The provider may be asked again after so many milliseconds.
    BackOff(f64),
}

impl Verdict {
    /// `failure`: how the last call failed, for all that is known in the state directory.
    #[must_use]
    pub fn of(is_spent: bool, failure: Option<&FailureRecord>, clock: &dyn Clock) -> Self {
        let left = failure.and_then(|failure| failure.left_ms(clock));
        match failure.map(|failure| &failure.outcome) {
            Some(Outcome::Dead { .. }) => Self::Dead,
            _ if is_spent => Self::Spent,
            Some(Outcome::Uncertain) => Self::InDoubt(left),
            _ => left.map_or(Self::Free, Self::BackOff),
        }
    }
}
