//! When a refresh that has not served its caller asks again: after the pause that is on record for everyone, or after one of its own,
//! for as long as its caller is patient.

use super::Turn;
use crate::clock::BootMs;
use crate::error::Error;
use std::path::Path;

/// How long to wait before a provider that was not reached is asked again; doubled each time, give or take a half.
const FIRST_PAUSE_MS: f64 = 500.0;
const LAST_PAUSE_MS: f64 = 10_000.0;
/// Nothing is looked at again and again without a pause, however late it is.
const LEAST_PAUSE_MS: f64 = 50.0;
/// Callers that wait for the same pause wake up at random times, up to this part of it late.
const JITTER: f64 = 0.1;

/// How long a caller waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Whether it waits at all: for a lock, or for a pause.
    pub waits: bool,
    /// For how many milliseconds.
    pub ms: f64,
    /// For how many milliseconds after its first failure the provider is asked again: a function of the program's may have ways of its
    /// own to try again.
    pub asking_ms: f64,
}

/// What a refresh has met so far.
#[derive(Debug)]
pub(super) struct Retry<F> {
    waits: bool,
    /// Until when it goes on.
    until_ms: BootMs,
    asking_ms: f64,
    failures: i32,
    last_failure: Option<F>,
}

/// What follows a turn.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once")]
pub(super) enum Next<F> {
    End(Turn<F>),
    /// Another turn after so many milliseconds. Meanwhile a caller in a hurry is told this, if there is something to tell.
    Again(f64, Option<PauseReason>),
}

/// Why everyone waits before the provider is asked again, and for how many milliseconds if that is known.
#[derive(Debug, Clone)]
pub struct PauseReason {
    /// As the next caller is told it.
    pub error: Error,
    /// How long the pause is.
    pub ms: Option<f64>,
}

impl<F> Retry<F> {
    pub(super) fn new(patience: Patience, now_ms: BootMs) -> Self {
        let Patience { waits, ms, asking_ms } = patience;
        Self { waits, until_ms: now_ms + ms, asking_ms, failures: 0, last_failure: None }
    }

    /// What follows `turn`. `random` is below 1.
    pub(super) fn next(&mut self, turn: Turn<F>, base: &Path, now_ms: BootMs, random: f64) -> Next<F> {
        let (wait_ms, why) = match turn {
            Turn::Retry { failure, is_on_record } => {
                if self.failures == 0 {
                    self.until_ms = self.until_ms.min(now_ms + self.asking_ms);
                }
                let own_ms = (FIRST_PAUSE_MS * 2f64.powi(self.failures)).min(LAST_PAUSE_MS) * (0.5 + random);
                self.failures += 1;
                self.last_failure = Some(failure);
                (if is_on_record { 0.0 } else { own_ms }, None)
            }
            Turn::BackOff(ms, error) => (ms, Some(PauseReason { error, ms: Some(ms) })),
            Turn::Claimed(ms, error) => (ms, Some(PauseReason { error, ms: None })),
            Turn::Later(ms) => (ms, None),
            end => return Next::End(end),
        };
        let left_ms = self.until_ms - now_ms;
        let is_too_long = !self.waits || wait_ms >= left_ms;
        match (self.last_failure.take(), why) {
            // The provider's own words say more.
            (Some(failure), _) if is_too_long => Next::End(Turn::Failed(failure, None)),
            (_, Some(PauseReason { error, ms })) if is_too_long => Next::End(
                ms.map_or_else(|| Turn::Claimed(wait_ms, error.clone()), |ms| Turn::BackOff(ms, error.clone())),
            ),
            (_, None) if !self.waits => Next::End(Turn::Taken(base.to_owned())),
            (failure, why) => {
                self.last_failure = failure;
                let late_ms = (wait_ms * (1.0 + random * JITTER)).min(f64::midpoint(wait_ms, left_ms));
                Next::Again(late_ms.max(wait_ms.min(LEAST_PAUSE_MS)), why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    const NOW_MS: BootMs = BootMs(1_000.0);
    const PATIENT: Patience = Patience { waits: true, ms: 120_000.0, asking_ms: f64::INFINITY };

    fn next(retry: &mut Retry<u32>, turn: Turn<u32>, now_ms: BootMs, random: f64) -> Next<u32> {
        retry.next(turn, Path::new("lock"), now_ms, random)
    }

    fn failed(failure: u32) -> Turn<u32> {
        Turn::Retry { failure, is_on_record: false }
    }

    fn back_off(ms: f64) -> Turn<u32> {
        Turn::BackOff(ms, Error::new(Code::RefreshBackoff, "later"))
    }

    fn pause(next: Next<u32>) -> f64 {
        match next {
            Next::Again(ms, _) => ms,
            Next::End(end) => panic!("it ends: {end:?}"),
        }
    }

    #[test]
    fn pauses_of_its_own_double_and_differ_by_a_half() {
        let mut retry = Retry::new(PATIENT, NOW_MS);
        let pauses: Vec<f64> = (0..7).map(|_| pause(next(&mut retry, failed(1), NOW_MS, 0.5))).collect();
        assert_eq!(pauses, [525.0, 1_050.0, 2_100.0, 4_200.0, 8_400.0, 10_500.0, 10_500.0]);
        for (random, shortest) in [(0.0, 250.0), (0.999, 749.0)] {
            assert!(pause(next(&mut Retry::new(PATIENT, NOW_MS), failed(1), NOW_MS, random)) >= shortest);
        }
    }

    #[test]
    fn a_pause_that_is_on_record_is_looked_up_at_once() {
        let mut retry = Retry::new(PATIENT, NOW_MS);
        let on_record = Turn::Retry { failure: 1, is_on_record: true };
        assert!(pause(next(&mut retry, on_record, NOW_MS, 0.9)) <= 0.0);
        let (ms, error) = match next(&mut retry, back_off(2_000.0), NOW_MS, 0.5) {
            Next::Again(ms, Some(PauseReason { error, ms: Some(_) })) => (ms, error),
            other => panic!("{other:?}"),
        };
        assert!((ms - 2_100.0).abs() < 1.0);
        assert_eq!(error.code, Code::RefreshBackoff);
    }

    #[test]
    fn a_caller_without_patience_hears_the_last_failure_else_why_it_would_wait() {
        let late_ms = NOW_MS + (PATIENT.ms - 10.0);
        let mut retry = Retry::new(PATIENT, NOW_MS);
        pause(next(&mut retry, failed(1), NOW_MS, 0.0));
        pause(next(&mut retry, failed(2), NOW_MS, 0.0));
        assert!(matches!(next(&mut retry, back_off(50.0), late_ms, 0.0), Next::End(Turn::Failed(2, None))));
        let mut retry = Retry::new(PATIENT, NOW_MS);
        assert!(matches!(next(&mut retry, back_off(50.0), late_ms, 0.0), Next::End(Turn::BackOff(50.0, _))));
        let mut retry = Retry::new(PATIENT, NOW_MS);
        let claimed = Turn::Claimed(50.0, Error::new(Code::StoreBusy, "claimed"));
        assert!(matches!(next(&mut retry, claimed, late_ms, 0.0), Next::End(Turn::Claimed(50.0, _))));
    }

    #[test]
    fn one_that_does_not_wait_hears_of_it_at_once() {
        let mut retry = Retry::new(Patience { waits: false, ..PATIENT }, NOW_MS);
        assert!(matches!(next(&mut retry, Turn::Later(1.0), NOW_MS, 0.0), Next::End(Turn::Taken(_))));
        assert!(matches!(next(&mut retry, back_off(1.0), NOW_MS, 0.0), Next::End(Turn::BackOff(..))));
        assert!(matches!(next(&mut retry, failed(1), NOW_MS, 0.0), Next::End(Turn::Failed(1, None))));
    }

    #[test]
    fn a_function_of_the_program_is_asked_again_for_a_while_only() {
        let mut retry = Retry::new(Patience { asking_ms: 10_000.0, ..PATIENT }, NOW_MS);
        // However long it has waited before.
        pause(next(&mut retry, back_off(20_000.0), NOW_MS, 0.0));
        pause(next(&mut retry, failed(1), NOW_MS + 20_000.0, 0.0));
        pause(next(&mut retry, failed(2), NOW_MS + 29_000.0, 0.0));
        assert!(matches!(next(&mut retry, failed(3), NOW_MS + 29_500.0, 0.0), Next::End(Turn::Failed(3, None))));
    }

    #[test]
    fn nobody_wakes_after_the_end_of_its_patience() {
        let mut retry = Retry::new(PATIENT, NOW_MS);
        assert!(pause(next(&mut retry, back_off(119_000.0), NOW_MS, 0.999)) <= 119_500.0);
    }
}
