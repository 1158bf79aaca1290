//! What gateways, outages and fleets do to a login, and that none of it ends one: only the provider's word does.

mod main_first;

use crate::support::files::put;
use crate::support::world::{
    HOUR, MINUTE, NOW, PROFILE, PROVIDER, World, answer, credential, die_asking, served, shown, with,
};
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::journal::record::FailureRecord;
use oauth_refresh_lock::refresh::{Backoff, Decision, FailureClass, Refresh, Served, Settled, Uncertain};
use serde_json::{Value, json};
use std::sync::OnceLock;
use zeroize::Zeroizing;

const EXPIRED: i64 = -MINUTE;
const SECOND: i64 = 1_000;

/// A main agent whose access token expires so many milliseconds from now.
fn world(expires_in: i64) -> (World, Refresh) {
    let world = World::new();
    world.main().put(&credential("1", expires_in));
    let call = world.call_of_main();
    (world, call)
}

fn failure(world: &World) -> FailureRecord {
    world.record().failures()[0].clone()
}

#[track_caller]
fn backs_off(decision: Result<Decision, Error>) -> (f64, Error) {
    match decision {
        Ok(Decision::BackOff { wait_ms, error }) => {
            assert!(error.message.contains("the login is kept") && !error.message.contains("log in"), "{error}");
            (wait_ms, error)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unexpired(decision: Result<Decision, Error>) -> (Value, Error) {
    match decision.map(served) {
        Ok(Served::Unexpired { credential, refresh_error }) => (shown(&credential), refresh_error),
        other => panic!("{other:?}"),
    }
}

// Rule 1: a login ends only by the provider's word

#[test]
fn an_outcome_that_nobody_learned_is_asked_about_again_each_time_after_twice_as_long() {
    let (world, call) = world(EXPIRED);
    let mut now = NOW;
    for attempt in 0..12 {
        assert!(world.fail(&call, world.claim(&call), FailureClass::Uncertain).is_none());
        let shortest = (SECOND << attempt).min(MINUTE);
        #[allow(clippy::cast_possible_truncation, reason = "a minute")]
        let wait = backs_off(world.decide(&call)).0.ceil() as i64;
        assert!(wait >= shortest && wait <= shortest + shortest / 4, "{wait} after {}", attempt + 1);
        world.clock.set(now + wait - 1);
        assert_eq!(backs_off(world.decide(&call)).1.code, Code::RefreshUncertain);
        now += wait;
        world.clock.set(now);
        assert_eq!(failure(&world).attempts, attempt + 1);
    }
    let settled =
        world.settle(&call, world.claim(&call), &with(answer("2"), &json!({ "expires": now + HOUR }))).unwrap();
    assert!(matches!(settled, Settled::Refreshed { not_saved: None, .. }), "{settled:?}");
}

#[test]
fn a_pause_that_the_provider_wants_is_kept_and_bounded() {
    for (wanted, kept) in [(Some(90_000.0), 90_000.0), (Some(1.0), 1_000.0), (Some(1e12), 3_600_000.0)] {
        for class in [FailureClass::AnsweredUnspent, FailureClass::NotSent, FailureClass::Uncertain] {
            let (world, call) = world(EXPIRED);
            let pause = Backoff::after(class, true, wanted);
            assert!(world.fail_and_pause(&call, world.claim(&call), class, pause).is_none());
            let (wait, error) = backs_off(world.decide(&call));
            let in_doubt = class == FailureClass::Uncertain;
            let code = if in_doubt { Code::RefreshUncertain } else { Code::RefreshBackoff };
            assert_eq!((wait, error.code), (kept, code));
        }
    }
}

#[test]
fn a_doubt_outlives_what_says_nothing_of_it() {
    let (world, call) = world(EXPIRED);
    for (class, attempts) in [
        (FailureClass::Uncertain, 1),
        (FailureClass::AnsweredUnspent, 2),
        (FailureClass::NotSent, 2),
        (FailureClass::Uncertain, 3),
    ] {
        assert!(world.fail(&call, world.claim(&call), class).is_none());
        world.clock.set(NOW + i64::from(attempts) * MINUTE + SECOND);
        assert_eq!((failure(&world).attempts, failure(&world).at), (attempts, NOW_MS));
    }
    // The provider's word; the error says which process lost the answer, and when.
    assert!(world.fail(&call, world.claim(&call), FailureClass::AnsweredDead).is_none());
    let error = world.decide(&call).unwrap_err();
    assert_eq!(error.code, Code::GrantDead);
    let lost = format!(
        "it may have given a new one to process {}, which asked 3 min ago and lost the answer",
        std::process::id()
    );
    assert!(error.message.contains(&lost) && error.message.ends_with("log in again"), "{error}");
}

#[allow(clippy::cast_precision_loss, reason = "instants are far below 2^53")]
const NOW_MS: f64 = NOW as f64;

#[test]
fn after_one_death_the_next_owner_goes_on_at_once_and_after_more_it_waits() {
    let (world, call) = world(EXPIRED);
    die_asking(world.claim(&call));
    die_asking(world.claim(&call));
    let (wait, error) = backs_off(world.decide(&call));
    assert!((1_000.0..=1_250.0).contains(&wait), "{wait}");
    assert_eq!(error.code, Code::RefreshUncertain);
    world.clock.set(NOW + 2 * SECOND);
    die_asking(world.claim(&call));
    assert!((2_000.0..=2_500.0).contains(&backs_off(world.decide(&call)).0));
}

#[test]
fn a_caller_that_forbids_repeats_is_told_so_and_costs_others_nothing() {
    let (world, call) = world(EXPIRED);
    assert!(world.fail(&call, world.claim(&call), FailureClass::Uncertain).is_none());
    let strict = Refresh { uncertain: Uncertain::Fail, ..world.call_of_main() };
    for _ in 0..3 {
        world.clock.set(NOW + HOUR);
        let error = world.decide(&strict).unwrap_err();
        assert_eq!(error.code, Code::RefreshUncertain);
        assert!(error.message.contains("`uncertain: \"fail\"`"), "{error}");
    }
    world.claim(&call).give_up().unwrap();
}

#[test]
fn a_credential_that_is_returned_unchanged_is_not_refreshed_and_not_in_doubt() {
    for expires_in in [EXPIRED, 2 * MINUTE] {
        let (world, call) = world(expires_in);
        let error = world.settle(&call, world.claim(&call), &credential("1", expires_in)).unwrap_err();
        assert_eq!(error.code, Code::InvalidRefreshResult);
        assert!(error.message.contains("the credential that it was given"), "{error}");
        assert_eq!(failure(&world).outcome, oauth_refresh_lock::journal::record::Outcome::Unspent);
        world.main().assert_holds(&credential("1", expires_in));
        world.clock.set(NOW + 2 * SECOND);
        assert_eq!(world.claim(&call).credential().refresh(), Some("SECRET-refresh-1"));
    }
}

// Rule 2: a token that is still good is served

#[test]
fn within_the_margin_the_stored_token_is_served_whatever_keeps_it_from_being_refreshed() {
    let stored = credential("1", 2 * MINUTE);
    for (class, code) in [
        (FailureClass::AnsweredUnspent, Code::RefreshBackoff),
        (FailureClass::Uncertain, Code::RefreshUncertain),
        (FailureClass::AnsweredDead, Code::GrantDead),
    ] {
        let (world, call) = world(2 * MINUTE);
        let _ = world.fail(&call, world.claim(&call), class);
        let (credential, error) = unexpired(world.decide(&call));
        assert_eq!((credential, error.code), (stored.clone(), code));
        // A caller that wants the error gets it; and what the resource server has refused is served to nobody.
        let rejected = OnceLock::from(Zeroizing::new("SECRET-access-1".to_owned()));
        let strict = Refresh { serve_unexpired: false, ..world.call_of_main() };
        for call in [strict, Refresh { rejected, ..world.call_of_main() }] {
            match world.decide(&call) {
                Ok(Decision::BackOff { error, .. }) | Err(error) => assert_eq!(error.code, code),
                other => panic!("{other:?}"),
            }
        }
        world.clock.set(NOW + 2 * MINUTE);
        assert!(!matches!(world.decide(&call), Ok(Decision::Served(_))));
    }
}

#[test]
fn in_doubt_the_stored_token_is_used_up_before_the_provider_is_asked_again() {
    let (world, call) = world(2 * MINUTE);
    assert!(world.fail(&call, world.claim(&call), FailureClass::Uncertain).is_none());
    world.clock.set(NOW + MINUTE);
    assert!(unexpired(world.decide(&call)).1.message.contains("once the stored access token has expired"));
    world.clock.set(NOW + 2 * MINUTE);
    world.claim(&call).give_up().unwrap();
}

#[test]
fn the_margin_is_at_most_a_fifth_of_a_tokens_life() {
    for life in [60 * SECOND, 240 * SECOND, 300 * SECOND, 301 * SECOND, HOUR] {
        let (world, call) = world(EXPIRED);
        let fields = with(answer("2"), &json!({ "expires": NOW + life }));
        world.settle(&call, world.claim(&call), &fields).unwrap();
        let margin = (life / 5).min(5 * MINUTE);
        world.clock.set(NOW + life - margin - 1);
        let later = world.call_of_main();
        assert!(matches!(later.look(None), Ok(Some(Served::Fresh(_)))), "{life}");
        world.clock.set(NOW + life - margin);
        assert!(matches!(later.look(None), Ok(None)), "{life}");
        world.claim(&later).give_up().unwrap();
    }
}

#[test]
fn agents_and_names_that_take_a_short_lived_token_over_know_how_long_it_lives() {
    let world = World::new();
    let (main, sub) = (world.main(), world.sub());
    let first = credential("1", EXPIRED);
    sub.put(&first);
    put(&main.path(), json!({ "version": 1, "profiles": { PROFILE: first, "another": first } }).to_string());
    let call = world.call_of_main();
    let fields = with(answer("2"), &json!({ "expires": NOW + 4 * MINUTE }));
    world.settle(&call, world.claim(&call), &fields).unwrap();
    let calls = || [world.call_of_sub(), world.call(PROVIDER, "another", &main, None)];
    for call in calls() {
        let taken = match call.look(None).unwrap() {
            Some(served) => served,
            None => served(world.decide(&call).unwrap()),
        };
        assert!(matches!(taken, Served::Adopted { .. } | Served::Fresh(_)), "{taken:?}");
    }
    for call in calls() {
        assert!(matches!(call.look(None), Ok(Some(Served::Fresh(_)))), "{}", call.key.profile_id());
    }
}
