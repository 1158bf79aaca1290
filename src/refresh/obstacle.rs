//! What keeps a caller from asking the provider, in words.

use super::stored::StoreRole;
use super::verdict::Verdict;
use super::{Refresh, Uncertain};
use crate::credential::Credential;
use crate::error::{Code, Error};
use crate::journal::record::{FailureRecord, Outcome};

/// Why the provider is not asked.
pub(super) struct Obstacle {
    pub(super) refresh_error: Error,
    /// After how many milliseconds it may be asked; `None`: not before another refresh token is stored.
    pub(super) wait_ms: Option<f64>,
}

impl Refresh {
    /// What keeps this caller from asking the provider, for now or for good.
    pub(super) fn obstacle(
        &self,
        role: StoreRole,
        held: &Credential,
        verdict: Verdict,
        failure: Option<&FailureRecord>,
    ) -> Option<Obstacle> {
        let (refresh_error, wait_ms) = match (verdict, failure) {
            (Verdict::Spent, _) => (self.is_spent(role), None),
            (Verdict::Free, _) | (_, None) => return None,
            (Verdict::Dead, Some(failure)) => (self.grant_is_dead(failure), None),
            (Verdict::InDoubt(_), Some(failure)) if self.uncertain == Uncertain::Fail => {
                (self.may_not_ask_again(failure), None)
            }
            (Verdict::InDoubt(left), Some(failure)) => {
                // The stored access token is used up first: to ask again may cost it.
                let wait_ms = left.or_else(|| self.may_serve(held).then_some(0.0))?;
                (self.not_known_yet(failure, left), Some(wait_ms))
            }
            (Verdict::BackOff(left), Some(failure)) => (self.backs_off(failure, left), Some(left)),
        };
        Some(Obstacle { refresh_error, wait_ms })
    }

    fn is_spent(&self, role: StoreRole) -> Error {
        let message = "the stored refresh token was used before and its successor is in no store and no journal (was a backup restored, or the same login stored again?); log in again";
        Error::at(Code::RefreshTokenSpent, self.store_at(role).path(), message)
    }

    fn grant_is_dead(&self, failure: &FailureRecord) -> Error {
        let now = self.clock.now_ms();
        let why = match &failure.outcome {
            Outcome::Dead { lost_with: Some(lost) } => format!(
                "; it may have given a new one to {}, which asked {} and lost the answer",
                process(lost.pid, lost.host.as_deref()),
                ago(lost.at, now)
            ),
            _ => String::new(),
        };
        let message = format!(
            "the provider refused the refresh token of {} for good ({}, {}){why}; log in again",
            self.profile(),
            process(failure.pid, failure.host.as_deref()),
            ago(failure.at, now)
        );
        Error::new(Code::GrantDead, message)
    }

    fn not_known_yet(&self, failure: &FailureRecord, left: Option<f64>) -> Error {
        let next = left.map_or_else(
            || "once the stored access token has expired".to_owned(),
            |left| format!("in {} at the earliest", seconds(left)),
        );
        let message = format!("{}; the login is kept, and the provider is asked again {next}", self.in_doubt(failure));
        Error::new(Code::RefreshUncertain, message)
    }

    fn may_not_ask_again(&self, failure: &FailureRecord) -> Error {
        let message = format!(
            "{}; the login is kept, and this call forbids asking again (`uncertain: \"fail\"`): call without that option",
            self.in_doubt(failure)
        );
        Error::new(Code::RefreshUncertain, message)
    }

    fn in_doubt(&self, failure: &FailureRecord) -> String {
        format!(
            "it is not known whether the last refresh of {} used its refresh token ({} sent it first, {}; sent {} so far)",
            self.profile(),
            process(failure.pid, failure.host.as_deref()),
            ago(failure.at, self.clock.now_ms()),
            times(failure.attempts)
        )
    }

    fn backs_off(&self, failure: &FailureRecord, wait_ms: f64) -> Error {
        let message = format!(
            "the last refresh of {} failed without using the refresh token ({}, {}); the login is kept, and the provider is asked again in {} at the earliest",
            self.profile(),
            process(failure.pid, failure.host.as_deref()),
            ago(failure.at, self.clock.now_ms()),
            seconds(wait_ms)
        );
        Error::new(Code::RefreshBackoff, message)
    }

    fn profile(&self) -> String {
        format!("profile \"{}\"", self.key.profile_id().escape_debug())
    }
}

/// Which process, and where if that is another host.
pub(super) fn process(pid: u32, host: Option<&str>) -> String {
    host.map_or_else(|| format!("process {pid}"), |host| format!("process {pid} on host \"{}\"", host.escape_debug()))
}

fn times(number: u32) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

fn seconds(ms: f64) -> String {
    format!("{:.0} s", (ms / 1000.0).ceil())
}

/// How long ago, in words.
fn ago(at: f64, now: f64) -> String {
    let seconds = ((now - at) / 1000.0).max(0.0);
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s ago"),
        _ if seconds < 7200.0 => format!("{:.0} min ago", seconds / 60.0),
        _ => format!("{:.0} h ago", seconds / 3600.0),
    }
}
