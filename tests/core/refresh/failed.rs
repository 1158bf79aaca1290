//! After a refresh that failed, or that never began.

use super::{EXPIRED, assert_lock_is_free, fresh, refreshed, settled};
use crate::support::files::put;
use crate::support::locks::Waiter;
use crate::support::world::{HOUR, NOW, World, answer, claimed, credential, die_asking, served, shown, with};
use oauth_refresh_lock::clock::{BootMs, Clock};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::journal::Journal;
use oauth_refresh_lock::journal::record::{Outcome, PauseUntil, Progress};
use oauth_refresh_lock::lock::term;
use oauth_refresh_lock::refresh::{Decision, FailureClass, Refresh, Uncertain};
use serde_json::json;

#[test]
fn after_a_failure_what_is_stored_now_may_serve() {
    let world = World::new();
    let call = world.call_of_main();
    for (number, class) in
        [FailureClass::NotSent, FailureClass::Uncertain, FailureClass::AnsweredDead].into_iter().enumerate()
    {
        let first = |part: &str| credential(&format!("{number}{part}"), EXPIRED);
        world.main().put(&first("a"));
        let claim = world.claim(&call);
        world.main().put(&credential("new", HOUR));
        let decision = world.fail(&call, claim, class).expect("a decision");
        assert_eq!(fresh(Some(served(decision))), credential("new", HOUR));
        assert_lock_is_free(&world);
        world.main().put(&first("b"));
        let claim = world.claim(&call);
        world.main().put_without_profile();
        assert!(!matches!(world.fail(&call, claim, class), Some(Decision::Send(_))));
        assert_lock_is_free(&world);
    }
}

#[test]
fn after_a_failure_the_token_is_claimed_again_by_nobody_in_the_same_turn() {
    let world = World::new();
    for (number, class) in
        [FailureClass::NotSent, FailureClass::Uncertain, FailureClass::AnsweredDead].into_iter().enumerate()
    {
        let own = credential(&number.to_string(), EXPIRED);
        world.main().put(&own);
        let call = world.call_of_main();
        let claim = world.claim(&call);
        // Other fields are no other token.
        world
            .main()
            .put(&with(own.clone(), &json!({ "displayName": "x", "access": "SECRET-other", "expires": NOW - 1 })));
        assert!(world.fail(&call, claim, class).is_none());
        assert_lock_is_free(&world);
    }
}

#[test]
fn after_a_refusal_another_token_that_is_stored_now_is_claimed_under_the_same_lock() {
    let world = World::new();
    let call = world.call_of_main();
    world.main().put(&credential("1", EXPIRED));
    let claim = world.claim(&call);
    world.main().put(&credential("2", EXPIRED));
    let claim = claimed(world.fail(&call, claim, FailureClass::AnsweredDead).expect("a decision"));
    assert_eq!(shown(claim.credential()), credential("2", EXPIRED));
    // The same lock, never let go in between.
    let waiter = Waiter::at(&world.lock_base());
    settled(world.settle(&call, claim, &answer("3")).unwrap());
    drop(waiter.lock());
    world.main().assert_holds(&refreshed(&credential("2", EXPIRED), "3"));
}

/// A host that can't tell its boots apart, so long after its last.
#[derive(Debug)]
struct Nameless(f64);

impl Clock for Nameless {
    fn now_ms(&self) -> f64 {
        0.0
    }

    fn boot_ms(&self) -> BootMs {
        BootMs(self.0)
    }

    fn boot_id(&self) -> String {
        String::new()
    }
}

#[test]
fn a_pause_ends_with_its_boot_also_where_boots_have_no_names() {
    let pause = |since| PauseUntil { until: BootMs(5_000.0), boot: String::new(), since: BootMs(since) };
    assert_eq!(pause(1_000.0).left_ms(&Nameless(2_000.0)), Some(3_000.0));
    assert_eq!(pause(1_000.0).left_ms(&Nameless(5_000.0)), None);
    assert_eq!(pause(1_000.0).left_ms(&Nameless(500.0)), None);
}

#[test]
fn a_call_that_was_given_up_before_the_provider_was_asked_has_never_been() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    // Not on record as asked for.
    let call = Refresh { uncertain: Uncertain::Fail, ..world.call_of_main() };
    for _ in 0..2 {
        world.claim(&call).give_up().unwrap();
        assert_eq!(Journal::open(&world.lock()).unwrap().record().state, Progress::Idle);
    }
    die_asking(world.claim(&call));
    assert_eq!(world.decide(&call).unwrap_err().code, Code::RefreshUncertain);

    // A repetition that was not made does not count either.
    let call = world.call_of_main();
    for _ in 0..2 {
        world.claim(&call).give_up().unwrap();
    }
    die_asking(world.claim(&call));
    assert!(matches!(world.decide(&call), Ok(Decision::BackOff { .. })));
    let failure = Journal::open(&world.lock()).unwrap().record().failures()[0].clone();
    assert_eq!((failure.outcome, failure.attempts), (Outcome::Uncertain, 2));
}

#[test]
fn a_call_that_was_taken_over_from_before_the_provider_was_asked_has_never_been() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let claim = world.claim(&world.call_of_main());
    put(&term::journal(&world.lock_base(), 1), "");
    assert!(claim.send().is_err());
    assert!(world.claim(&Refresh { uncertain: Uncertain::Fail, ..world.call_of_main() }).send().is_ok());
}
