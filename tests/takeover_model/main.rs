//! Model check of the takeover of a stuck owner: every interleaving of a few processes' steps, with up to two
//! takeovers.
//!
//! A process may be slow at any step, so it may be stopped there and go on later; it may stop for good, or die; and
//! the holder of a lock may be found overdue at any moment, whether or not it is stuck. The models are of the protocol, not
//! of the code: a step is one file operation, one kernel lock or the provider call. Not in them: power failure, and a
//! provider that revokes a successor because its predecessor was sent again.
//!
//! | model    | of                                                                                         |
//! | -------- | ------------------------------------------------------------------------------------------ |
//! | `owner`  | the owners of one key, from the lock to the store                                          |
//! | `claims` | the owners of several keys that hold one grant, and the takeover of the lock on the claims |
//! | `store`  | the writers of one store: why a commit is one step in the other two                        |
//!
//! Each rule is broken once as well, so that it shows that the check can fail and the rule is needed.
//! `cargo test --test takeover_model -- --nocapture` prints the histories in which it does.

#![allow(clippy::too_many_lines, reason = "a test tells one story")]
#![allow(unreachable_pub, reason = "a test's modules are its own")]

mod check;
mod claims;
#[path = "../support/interleavings.rs"]
mod interleavings;
mod journal;
mod owner;
mod store;
mod tenure;

use check::Mishaps;
use claims::Claimants;
use interleavings::{breaks, holds};
use owner::Owners;
use store::Writers;
use tenure::{Begin, LAST};

const NONE: Mishaps = Mishaps { deaths: 0, stops: 0, losses: 0 };
const A_DEATH: Mishaps = Mishaps { deaths: 1, ..NONE };
const TWO_DEATHS: Mishaps = Mishaps { deaths: 2, ..NONE };
const A_STOP: Mishaps = Mishaps { stops: 1, ..NONE };
const TWO_STOPS: Mishaps = Mishaps { stops: 2, ..NONE };
const ONE_OF_EACH: Mishaps = Mishaps { deaths: 1, stops: 1, losses: 0 };
const TWO_LOSSES: Mishaps = Mishaps { losses: 2, ..NONE };
const A_DEATH_AND_A_LOSS: Mishaps = Mishaps { deaths: 1, losses: 1, stops: 0 };
const A_STOP_AND_A_LOSS: Mishaps = Mishaps { stops: 1, losses: 1, deaths: 0 };

const fn owners<const N: usize>(mishaps: Mishaps) -> Owners<N> {
    Owners { mishaps, begin: Begin::Marker, broken: None }
}

const fn claimants<const N: usize>(mishaps: Mishaps) -> Claimants<N> {
    Claimants { mishaps, takeovers: LAST, broken: None }
}

const fn writers(mishaps: Mishaps) -> Writers<3> {
    Writers { mishaps, broken: None }
}

#[test]
fn one_generation_is_sent_once_and_nothing_received_is_lost() {
    holds(&owners::<3>(TWO_DEATHS));
    holds(&owners::<3>(TWO_STOPS));
    holds(&owners::<3>(ONE_OF_EACH));
    holds(&owners::<4>(NONE));
}

#[test]
fn no_lost_answer_ends_a_login() {
    holds(&owners::<3>(TWO_LOSSES));
    holds(&owners::<3>(A_DEATH_AND_A_LOSS));
    holds(&owners::<3>(A_STOP_AND_A_LOSS));
    holds(&claimants::<2>(TWO_LOSSES));
    holds(&claimants::<2>(A_DEATH_AND_A_LOSS));
}

/// What this package did at first: it asked once more, and a second outcome that nobody learned was the end.
#[test]
fn a_count_that_buries_a_doubt_ends_a_login_that_lives() {
    use owner::promises::{LIVES_ON, ONLY_THE_PROVIDER_ENDS};
    for promise in [ONLY_THE_PROVIDER_ENDS, LIVES_ON] {
        let broken = Some(owner::Broken::BuriesTheSecondDoubt);
        breaks(&Owners { broken, ..owners::<3>(TWO_LOSSES) }, promise);
    }
    let broken = Some(claims::Broken::BuriesTheSecondDoubt);
    breaks(&Claimants { broken, ..claimants::<3>(TWO_LOSSES) }, claims::ONLY_THE_PROVIDER_ENDS);
}

#[test]
fn each_rule_of_an_owner_is_needed() {
    use owner::Broken;
    use owner::promises::{GRANT_SURVIVES, NEVER_BACK, NO_NEEDLESS_SEND, NOTHING_LOST, ONE_AT_A_TIME, ONE_CALL};
    for (broken, promise) in [
        (Broken::LooksForHigherTermBeforeDispatched, ONE_CALL),
        (Broken::LooksForHigherTermBeforeDispatched, NO_NEEDLESS_SEND),
        (Broken::ReadsJournalsBeforeMarker, ONE_CALL),
        (Broken::ReadsNoOlderJournals, ONE_CALL),
        (Broken::ReadsStoreBeforeJournals, ONE_CALL),
        (Broken::ReadsStoreBeforeJournals, NO_NEEDLESS_SEND),
        (Broken::UndoesToIdle, ONE_CALL),
        (Broken::CommitsWithoutComparing, NEVER_BACK),
        (Broken::ProbesBesideAnyOwner, ONE_AT_A_TIME),
        (Broken::DropsALateAnswer, GRANT_SURVIVES),
        (Broken::EmptiesBeforeItCopies, ONE_CALL),
        (Broken::OverlooksReceived, NOTHING_LOST),
    ] {
        breaks(&Owners { broken: Some(broken), ..owners::<3>(A_DEATH) }, promise);
    }
}

#[test]
fn a_term_is_begun_by_one_and_owned_by_its_lock() {
    breaks(&Owners { begin: Begin::LockAnyMarker, ..owners::<3>(NONE) }, owner::promises::BEGUN_ONCE);
    breaks(&Owners { begin: Begin::AnyMarkerNoLock, ..owners::<3>(NONE) }, owner::promises::BEGUN_ONCE);
    breaks(&Owners { begin: Begin::AnyMarkerNoLock, ..owners::<3>(NONE) }, owner::promises::ONE_OWNER);
}

#[test]
fn a_taker_that_locks_before_it_marks_is_as_safe_but_stops_everybody_if_it_stops() {
    for begin in [Begin::LockCheckMarker, Begin::LockMarker] {
        holds(&Owners { begin, ..owners::<3>(TWO_DEATHS) });
        holds(&Owners { begin, ..owners::<3>(A_STOP) });
        breaks(&Owners { begin, ..owners::<3>(TWO_STOPS) }, owner::promises::NOBODY_WAITS_FOR_EVER);
    }
}

#[test]
fn one_generation_is_sent_once_under_all_its_names() {
    holds(&claimants::<2>(TWO_STOPS));
    holds(&claimants::<2>(ONE_OF_EACH));
    holds(&Claimants { takeovers: 1, ..claimants::<3>(NONE) });
}

#[test]
fn each_rule_of_a_claimant_is_needed() {
    use claims::{Broken, NOBODY_WAITS_FOR_EVER, ONE_AT_A_TIME, ONE_CALL};
    for (broken, promise) in [
        (Broken::LooksAtItsKeyOnly, ONE_CALL),
        (Broken::ProbesBesideAnyOwner, ONE_AT_A_TIME),
        (Broken::WaitsForAnOverdueOwner, NOBODY_WAITS_FOR_EVER),
    ] {
        breaks(&Claimants { broken: Some(broken), ..claimants::<3>(A_STOP) }, promise);
    }
}

#[test]
fn no_write_of_a_store_undoes_another() {
    holds(&writers(A_DEATH));
    holds(&writers(TWO_STOPS));
}

#[test]
fn each_rule_of_a_writer_is_needed() {
    use store::{Broken, NO_CHANGE_LOST};
    for broken in [Broken::LooksForHigherTermBeforeTemporary, Broken::ReadsBeforeUnlinking, Broken::UnlinksNothing] {
        breaks(&Writers { broken: Some(broken), ..writers(NONE) }, NO_CHANGE_LOST);
    }
}
