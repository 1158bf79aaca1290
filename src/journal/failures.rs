//! How provider calls failed, where that binds the next caller.

use crate::clock::{BootMs, Clock};
use crate::credential::Generation;
use crate::failure;
use crate::journal::record::{Progress, Record};
use serde::{Deserialize, Serialize};

/// How many generations' failures are remembered in full: as many as stores.
const MAX_FAILURES: usize = 32;
/// How long every caller waits after the first failure without a `Retry-After`; each further one doubles it.
const FIRST_BACK_OFF_MS: f64 = 1_000.0;
/// The longest such wait.
const LAST_BACK_OFF_MS: f64 = 60_000.0;

/// How the last provider call for a generation failed, where that binds the next caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRecord {
    /// The generation.
    pub generation: Generation,
    /// What is known of it.
    pub outcome: Outcome,
    /// The process that asked.
    pub pid: u32,
    /// The host that it asked on, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// When it asked or was answered, in milliseconds since the epoch.
    pub at: f64,
    /// How often in a row the provider was asked, and no token came.
    pub attempts: u32,
    /// Until when everyone waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseUntil>,
}

/// What is known of a generation after a failed call. The later, the worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The provider has not rotated.
    Unspent,
    /// An agent with a login of its own, perhaps of another client, sent it, and the provider refused. Another agent that holds it
    /// may send it as well.
    NotOurs,
    /// Whether the provider has rotated is unknown. It is asked again, until it says.
    Uncertain,
    /// The provider refused it for good.
    Dead {
        /// The owner that died, or whose call was cut off, before the answer arrived; `None` if none did.
        lost_with: Option<LostCall>,
    },
}

/// A pause that every process keeps before a generation is sent again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PauseUntil {
    /// When it ends.
    pub until: BootMs,
    /// The boot that `until` counts from; in another, the pause is over.
    pub boot: String,
    /// When it began: tells boots apart where `boot` can't.
    pub since: BootMs,
}

impl PauseUntil {
    /// The pause that begins now, after so many failed `attempts` with `generation`.
    #[must_use]
    pub fn begin(clock: &dyn Clock, generation: Generation, attempts: u32, kind: failure::Backoff) -> Option<Self> {
        let ms = match kind {
            failure::Backoff::None => return None,
            failure::Backoff::Growing => back_off_ms(generation, attempts),
            // A provider that asks for no pause is not to be asked all the time.
            failure::Backoff::Asked(ms) => ms.max(doubled_ms(attempts)),
        };
        Some(Self::lasting(clock, ms))
    }

    /// One of so many milliseconds, that begins now.
    #[must_use]
    pub fn lasting(clock: &dyn Clock, ms: f64) -> Self {
        let since = clock.boot_ms();
        Self { until: since + ms, boot: clock.boot_id(), since }
    }

    /// How much of it is left, in milliseconds.
    #[must_use]
    pub fn left_ms(&self, clock: &dyn Clock) -> Option<f64> {
        let left = self.until - clock.boot_ms();
        let is_on = clock.is_of_this_boot(&self.boot, self.since) && left > 0.0 && left <= failure::Backoff::LONGEST_MS;
        is_on.then_some(left)
    }
}

/// 1 s, 2 s, 4 s, … 60 s, and up to a quarter more: how much differs from login to login, so that an outage does not end with
/// all of them at once. Taken from the digest, as all that wait for one login have to come to the same.
fn back_off_ms(generation: Generation, attempts: u32) -> f64 {
    let jitter = f64::from(generation.digest().as_bytes()[0]) / 256.0 / 4.0;
    doubled_ms(attempts) * (1.0 + jitter)
}

fn doubled_ms(attempts: u32) -> f64 {
    let doublings = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
    (FIRST_BACK_OFF_MS * 2f64.powi(doublings)).min(LAST_BACK_OFF_MS)
}

/// The owner whose call's outcome was lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LostCall {
    /// Its process id.
    pub pid: u32,
    /// Its host, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// When it claimed, in milliseconds since the epoch.
    pub at: f64,
}

impl From<&FailureRecord> for LostCall {
    fn from(first: &FailureRecord) -> Self {
        Self { pid: first.pid, host: first.host.clone(), at: first.at }
    }
}

impl FailureRecord {
    /// Whether the provider refused it for good.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.outcome, Outcome::Dead { .. })
    }

    /// Whether it may have used the refresh token up.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.outcome == Outcome::Uncertain
    }

    /// How much is left of the pause, in milliseconds.
    #[must_use]
    pub fn left_ms(&self, clock: &dyn Clock) -> Option<f64> {
        self.pause.as_ref()?.left_ms(clock)
    }

    /// How much stands in the way.
    #[must_use]
    pub fn severity(&self) -> u8 {
        match self.outcome {
            Outcome::Unspent => 0,
            Outcome::NotOurs => 1,
            Outcome::Uncertain => 2,
            Outcome::Dead { .. } => 3,
        }
    }

    /// The same, if a later and no worse one is told of.
    #[must_use]
    pub fn met_again(self, told: Self) -> Self {
        Self { attempts: self.attempts.max(told.attempts), pause: told.pause.or(self.pause), ..self }
    }

    /// What all these records know of a generation, taken together: one may know that a call was cut off, and another that its
    /// repetition was refused. The worst outcome counts, the most attempts, and the longest pause. A failure no longer counts if a
    /// later call under another name was answered and the provider kept the refresh token.
    #[must_use]
    pub fn among<'a>(
        records: impl Iterator<Item = &'a Record> + Clone,
        generation: Generation,
        clock: &dyn Clock,
    ) -> Option<Self> {
        let kept_at = records.clone().filter_map(|record| record.kept_at(generation)).reduce(f64::max);
        let failures = records.filter_map(|record| record.failure_of(generation));
        failures.filter(|failure| kept_at.is_none_or(|kept_at| failure.at > kept_at)).reduce(|one, other| {
            let attempts = one.attempts.max(other.attempts);
            let left = |failure: &Self| failure.left_ms(clock).unwrap_or(0.0);
            let pause = if left(&one) >= left(&other) { one.pause.clone() } else { other.pause.clone() };
            let worst = if other.severity() > one.severity() { other } else { one };
            Self { attempts, pause, ..worst }
        })
    }
}

impl Record {
    /// Notes how the last call for a generation failed; `None` if nothing is in its way any more.
    pub fn set_failure(&mut self, generation: Generation, failure: Option<FailureRecord>) {
        self.failures.retain(|earlier| earlier.generation != generation);
        self.failures.extend(failure);
        while self.failures.len() > MAX_FAILURES {
            // First what the provider will say again, then what the ledger can say as well.
            let worth = |failure: &FailureRecord| match failure.outcome {
                Outcome::Unspent | Outcome::NotOurs => 0,
                Outcome::Dead { .. } => 1,
                Outcome::Uncertain => 2,
            };
            let Some(at) = (0..self.failures.len()).min_by_key(|at| worth(&self.failures[*at])) else { return };
            let gone = self.failures.remove(at);
            if gone.is_dead() {
                self.ledger.bury(gone.generation);
            }
        }
    }

    /// Absorbs how the calls of an earlier term's dead owner ended, including one that its death cut off. A living
    /// owner's call may still turn out not to have been sent.
    pub fn absorb_failures(&mut self, earlier: &Self) {
        let cut_off = earlier.claim.as_ref().and_then(|claim| earlier.failure_of(claim.origin.generation));
        for failure in earlier.failures.iter().cloned().chain(cut_off) {
            let weight = |failure: &FailureRecord| (failure.severity(), failure.attempts);
            let own = self.failure_of(failure.generation).as_ref().map(weight);
            if !self.ledger.is_spent(failure.generation) && own.is_none_or(|own| own < weight(&failure)) {
                self.set_failure(failure.generation, Some(failure));
            }
        }
    }

    /// How calls failed that bind the next caller. The latest come last.
    #[must_use]
    pub fn failures(&self) -> &[FailureRecord] {
        &self.failures
    }

    /// What stands in the way of sending this generation: a failure, or an owner that died while it was asking.
    #[must_use]
    pub fn failure_of(&self, generation: Generation) -> Option<FailureRecord> {
        if let Some(claim) = self.claim.as_ref().filter(|_| self.is_sending(generation)) {
            // The owner that lost the first answer says more than the one that lost the latest.
            let first = self.failure_before(generation).filter(|failure| failure.outcome == Outcome::Uncertain);
            let (pid, at) = first.map_or((claim.pid, claim.at), |first| (first.pid, first.at));
            let host = first.and_then(|first| first.host.clone());
            let (attempts, pause) = (claim.attempts.saturating_add(1), claim.pause.clone());
            return Some(FailureRecord { generation, outcome: Outcome::Uncertain, pid, host, at, attempts, pause });
        }
        self.failure_before(generation).cloned()
    }

    /// What stood in the way of sending this generation before the call that is under way.
    #[must_use]
    pub fn failure_before(&self, generation: Generation) -> Option<&FailureRecord> {
        self.failures.iter().find(|failure| failure.generation == generation)
    }

    /// When this generation was last sent with success and kept by the provider; `None` if the last claim is another's.
    #[must_use]
    pub fn kept_at(&self, generation: Generation) -> Option<f64> {
        let is_done = matches!(self.state, Progress::Received | Progress::Committed);
        let claim = self.claim.as_ref().filter(|claim| is_done && claim.origin.generation == generation)?;
        (!self.ledger.is_spent(generation)).then_some(claim.at)
    }
}
