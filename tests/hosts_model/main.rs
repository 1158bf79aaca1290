//! Model check of the protocol for many hosts: every interleaving of a few hosts' steps.
//!
//! A host is a kernel lock, a durable journal and a store. One process at a time holds the lock; when it dies, the
//! kernel says so, and the next goes on with what the journal says. Between hosts only the engine's compare-and-swap
//! decides. Its answer may be lost, and the write may be done, be done late, or never. A process may be stopped beyond
//! every limit at any step. The models are of the protocol, not of the code.
//!
//! | model         | of                                                                          |
//! | ------------- | --------------------------------------------------------------------------- |
//! | `hosts`       | one generation: who claims it, sends it, and what becomes of a claim        |
//! | `generations` | several, and an engine that is set back to a backup                         |
//! | `terms`       | a stopped process that is taken over from on its own host                   |
//!
//! Not in them: what such a process does to its host's files (`takeover_model`), an engine that loses what it has
//! acknowledged other than by a backup, a disk that is set back or copied, and pauses between calls.
//!
//! A load and the compare-and-swap that rests on it are one step: if it wins, the row was the same all the while.
//! What a process decides by a load alone, which may be stale, is a step of its own.
//!
//! Each rule is broken once as well, so that it shows that the check can fail and the rule is needed.
//! `cargo test --test hosts_model -- --nocapture` prints the histories in which it does.

#![allow(unreachable_pub, reason = "a test's modules are its own")]

mod generations;
mod hosts;
#[path = "../support/interleavings.rs"]
mod interleavings;
mod settling;
mod terms;

use generations::{Generations, LooksAt};
use hosts::promises::{NEVER_BESIDE_AN_ANSWER, NOT_GIVEN_UP, NOT_GIVEN_UP_UNSENT, NOTHING_LOST, REPEATS_ARE_MARKED};
use hosts::{Broken, Hosts, LostHost, Mishaps, Pauses, Repeats};
use interleavings::{breaks, holds};
use settling::find_stuck;
use terms::{Forgotten, SENT_ONCE, Terms};

const NONE: Mishaps = Mishaps { deaths: 0, disks: 0, silences: 0, unanswered: 0, unspent: 0 };
const A_DEATH: Mishaps = Mishaps { deaths: 1, ..NONE };
const TWO_DEATHS: Mishaps = Mishaps { deaths: 2, ..NONE };
const A_SILENCE: Mishaps = Mishaps { silences: 1, ..NONE };
const A_DEATH_AND_A_SILENCE: Mishaps = Mishaps { deaths: 1, ..A_SILENCE };
const A_LOST_ANSWER: Mishaps = Mishaps { unanswered: 1, ..NONE };
const A_DEATH_AND_A_PAUSE: Mishaps = Mishaps { unspent: 1, ..A_DEATH };

const fn hosts<const N: usize>(mishaps: Mishaps) -> Hosts<N> {
    let (lost_host, repeats, pauses) = (LostHost::Wait, Repeats::UntilAnswered, Pauses::Anywhere);
    Hosts { mishaps, lost_host, repeats, pauses, broken: None }
}

const fn probing(mishaps: Mishaps) -> Hosts<2> {
    Hosts { lost_host: LostHost::Probe, pauses: Pauses::OutsideTheCall, ..hosts(mishaps) }
}

const fn generations<const N: usize>(looks_at: LooksAt) -> Generations<N> {
    Generations { set_backs: 1, copies: 0, looks_at, asks_too_much: false }
}

fn holds_and_settles<const N: usize>(model: &Hosts<N>) {
    holds(model);
    assert_eq!(find_stuck(model), None, "{model:?}");
}

#[test]
fn two_hosts_send_a_token_once_and_lose_nothing() {
    holds_and_settles(&hosts::<2>(Mishaps { deaths: 2, silences: 2, ..NONE }));
    holds_and_settles(&hosts::<2>(Mishaps { deaths: 1, silences: 1, unanswered: 1, unspent: 1, ..NONE }));
    holds_and_settles(&hosts::<2>(Mishaps { silences: 1, unanswered: 2, unspent: 1, ..NONE }));
    holds_and_settles(&hosts::<2>(Mishaps { deaths: 2, disks: 1, silences: 1, ..NONE }));
    holds_and_settles(&hosts::<2>(Mishaps { disks: 1, silences: 1, unanswered: 1, unspent: 1, ..NONE }));
}

#[test]
fn three_hosts_send_a_token_once_and_lose_nothing() {
    holds_and_settles(&hosts::<3>(TWO_DEATHS));
    holds_and_settles(&hosts::<3>(Mishaps { unspent: 1, ..A_DEATH_AND_A_SILENCE }));
    holds_and_settles(&hosts::<3>(Mishaps { disks: 1, ..A_DEATH_AND_A_SILENCE }));
    holds_and_settles(&hosts::<3>(Mishaps { silences: 1, ..A_LOST_ANSWER }));
}

#[test]
fn each_rule_of_a_host_is_needed() {
    for (broken, mishaps, promise) in [
        (Broken::JournalsNoDispatch, A_DEATH, REPEATS_ARE_MARKED),
        (Broken::TakesBackNothingGivenUp, A_SILENCE, NOT_GIVEN_UP_UNSENT),
        (Broken::TakesNoAnswerForNoClaim, A_SILENCE, NOT_GIVEN_UP_UNSENT),
        (Broken::ForgetsItsClaimByAStaleLoad, A_SILENCE, NOT_GIVEN_UP_UNSENT),
        (Broken::ForgetsItsCallByAStaleLoad, A_DEATH, NOT_GIVEN_UP),
        (Broken::DropsTheMark, TWO_DEATHS, REPEATS_ARE_MARKED),
        (Broken::DropsTheMark, A_DEATH_AND_A_SILENCE, REPEATS_ARE_MARKED),
        (Broken::DropsTheMarkOfWhatIsFree, A_DEATH_AND_A_PAUSE, REPEATS_ARE_MARKED),
        (Broken::FreesASilentClaim, NONE, NEVER_BESIDE_AN_ANSWER),
        (Broken::FreesASilentClaim, NONE, REPEATS_ARE_MARKED),
        (Broken::CommitsOverItsOwnClaimOnly, NONE, NOTHING_LOST),
        (Broken::ForgetsWhatIsOwed, A_SILENCE, NOTHING_LOST),
        (Broken::DoesNotSayThatItsCallEnded, A_LOST_ANSWER, NOT_GIVEN_UP),
    ] {
        breaks(&Hosts { broken: Some(broken), ..hosts::<2>(mishaps) }, promise);
    }
}

/// Two processes die before they have sent anything, and nobody may ever send it.
#[test]
fn a_count_of_repeats_ends_a_login_that_lives() {
    let once = |mishaps| Hosts { repeats: Repeats::Once, ..hosts::<2>(mishaps) };
    holds(&once(Mishaps { disks: 1, ..A_DEATH_AND_A_SILENCE }));
    breaks(&once(TWO_DEATHS), NOT_GIVEN_UP_UNSENT);
}

/// An operator's choice, for hosts that are lost with their disks. It is safe while a call and its commit end in time.
#[test]
fn a_probe_is_sent_beside_no_answer_that_is_committed_in_time() {
    holds(&probing(Mishaps { disks: 1, unanswered: 1, unspent: 1, ..NONE }));
    for broken in [Broken::ChecksNoDeadline, Broken::ChecksAgainstHalfTheLimit] {
        breaks(&Hosts { broken: Some(broken), ..probing(NONE) }, NEVER_BESIDE_AN_ANSWER);
    }
}

/// From the look at the clock to the commit: a pause, a death, an engine that is out of reach.
#[test]
fn a_probe_may_be_sent_beside_an_answer_that_is_committed_late() {
    breaks(&Hosts { pauses: Pauses::Anywhere, ..probing(NONE) }, NEVER_BESIDE_AN_ANSWER);
    breaks(&probing(A_DEATH), NEVER_BESIDE_AN_ANSWER);
    breaks(&probing(A_SILENCE), NEVER_BESIDE_AN_ANSWER);
}

#[test]
fn an_owner_that_is_taken_over_from_makes_nobody_send_twice() {
    holds(&Terms { forgotten: None });
    for rule in
        [Forgotten::LooksAtNoTermBeforeItClaims, Forgotten::LooksAtNoTermBeforeItSends, Forgotten::GivesBackWhatIsThere]
    {
        breaks(&Terms { forgotten: Some(rule) }, SENT_ONCE);
    }
}

#[test]
fn an_old_login_walks_to_the_newest_even_if_the_engine_was_set_back() {
    let looks_at = LooksAt::AllItKnows;
    holds(&Generations { set_backs: 0, copies: 1, ..generations::<3>(looks_at) });
    for model in
        [Generations { set_backs: 2, ..generations::<2>(looks_at) }, Generations { copies: 1, ..generations(looks_at) }]
    {
        holds(&model);
        assert_eq!(find_stuck(&model), None, "{model:?}");
    }
    holds(&generations::<3>(looks_at));
}

/// What is built: most claims cost one look.
#[test]
fn a_host_that_looks_at_all_only_if_it_notices_a_set_back_does_as_well() {
    let looks_at = LooksAt::AllIfItNotices;
    holds(&Generations { set_backs: 0, copies: 1, ..generations::<3>(looks_at) });
    holds(&Generations { set_backs: 2, ..generations::<2>(looks_at) });
    holds(&Generations { copies: 1, ..generations::<2>(looks_at) });
    holds(&generations::<3>(looks_at));
}

#[test]
fn each_look_at_an_older_row_is_needed() {
    for looks_at in [LooksAt::Nothing, LooksAt::TheOneBefore, LooksAt::AllIfTheOneBeforeIsForgotten] {
        breaks(&generations::<2>(looks_at), generations::NOT_CLAIMED_AGAIN);
    }
    // The backup says that a call is under way, which ended long ago.
    assert!(find_stuck(&generations::<2>(LooksAt::WhatIsAbsent)).is_some());
}

/// The engine is set back after the look; or an old login's claim is there before it, and its call comes after.
#[test]
fn no_look_helps_against_what_happens_beside_it() {
    let model = Generations { asks_too_much: true, ..generations::<2>(LooksAt::AllItKnows) };
    breaks(&model, generations::NOT_CLAIMED_AFTER_AN_OLDER_LOOK);
    breaks(&model, generations::NOT_SENT_AGAIN);
}
