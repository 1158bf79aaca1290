//! What is served without a call, and tokens that were rejected.

use super::{EXPIRED, assert_lock_is_free, forced, fresh, is_absent, rejecting, settled, shown_profile, stores};
use crate::support::assert_names_path_and_no_secret;
use crate::support::files::{names, snapshot};
use crate::support::world::{Agent, HOUR, MINUTE, NOW, World, answer, claimed, credential, oauth, served, shown, with};
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::refresh::Refresh;
use serde_json::json;

// Without the lock

#[test]
fn a_usable_credential_is_served_without_the_lock_and_nothing_is_written() {
    let world = World::new();
    let stored = credential("1", HOUR);
    world.sub().put(&stored);
    world.main().put(&credential("main", 2 * HOUR));
    let before = snapshot(world.root());
    assert_eq!(fresh(world.call_of_sub().look(None).unwrap()), stored);
    assert_eq!(snapshot(world.root()), before);
    // Not even if somebody has the lock.
    let held = world.lock();
    assert_eq!(fresh(world.call_of_sub().look(None).unwrap()), stored);
    drop(held);
}

#[test]
fn a_credential_is_usable_until_the_margin_begins() {
    let world = World::new();
    world.main().put(&credential("1", HOUR));
    let begins = NOW + HOUR - 5 * MINUTE;
    let call = world.call_of_main();
    world.clock.set(begins - 1);
    fresh(call.look(None).unwrap());
    fresh(Some(served(world.decide(&call).unwrap())));
    for now in [begins, begins + 1, NOW + HOUR, NOW + 100 * HOUR] {
        let world = World::new();
        world.main().put(&credential("1", HOUR));
        let call = world.call_of_main();
        world.clock.set(now);
        assert!(call.look(None).unwrap().is_none(), "{now}");
        claimed(world.decide(&call).unwrap()).give_up().unwrap();
    }
    let call = Refresh { margin_ms: 0.0, ..world.call_of_main() };
    world.clock.set(NOW + HOUR - 1);
    fresh(call.look(None).unwrap());
    world.clock.set(NOW + HOUR);
    assert!(call.look(None).unwrap().is_none());
}

#[test]
fn what_cannot_be_used_is_refreshed() {
    for unusable in [
        json!({ "access": null }),
        json!({ "access": "" }),
        json!({ "access": " \u{FEFF}\n" }),
        json!({ "access": 7 }),
        json!({ "expires": null }),
        json!({ "expires": "1900000000000" }),
        json!({ "expires": (NOW + HOUR) / 1000 }),
    ] {
        let world = World::new();
        let stored = with(credential("1", HOUR), &unusable);
        world.main().put(&stored);
        let call = world.call_of_main();
        assert!(call.look(None).unwrap().is_none(), "{unusable}");
        let claim = world.claim(&call);
        assert_eq!(shown(claim.credential()), stored);
    }
}

#[test]
fn where_there_is_no_oauth_profile_nothing_is_served_and_nothing_is_made() {
    let world = World::new();
    for call in [world.call_of_main(), world.call_of_sub()] {
        is_absent(call.look(None).unwrap());
        is_absent(Some(served(world.decide(&call).unwrap())));
    }
    assert_eq!(names(&world.state()), ["locks"]);

    world.main().put_without_profile();
    world.sub().put_without_profile();
    is_absent(world.call_of_sub().look(None).unwrap());

    for profile in [json!({ "type": "api_key", "key": "SECRET" }), json!({ "type": "token" }), json!({})] {
        let world = World::new();
        world.main().put(&profile);
        is_absent(world.call_of_main().look(None).unwrap());
        is_absent(world.call_of_sub().look(None).unwrap());
        // A key of one's own is no reason to inherit.
        world.sub().put(&profile);
        world.main().put(&credential("main", HOUR));
        let before = stores(&world);
        is_absent(world.call_of_sub().look(None).unwrap());
        is_absent(Some(served(world.decide(&world.call_of_sub()).unwrap())));
        assert_eq!(stores(&world), before);
        assert_lock_is_free(&world);
    }
}

#[test]
fn a_profile_of_another_provider_is_not_touched() {
    for provider in [json!("anthropic"), json!("OpenAI-Codex"), json!(null), json!(1)] {
        let world = World::new();
        let other = with(credential("1", HOUR), &json!({ "provider": provider }));
        let check = |call: Refresh, holder: Agent| {
            let before = stores(&world);
            let errors: [Error; 2] = [call.look(None).unwrap_err(), world.decide(&call).unwrap_err()];
            for error in errors {
                assert_eq!(error.code, Code::ProviderMismatch);
                assert_names_path_and_no_secret(&error, &holder.path());
            }
            assert_eq!(stores(&world), before);
            assert_lock_is_free(&world);
        };
        world.main().put(&other);
        check(world.call_of_main(), world.main());
        check(world.call_of_sub(), world.main());
        world.sub().put(&other);
        world.main().put(&credential("main", HOUR));
        check(world.call_of_sub(), world.sub());
    }
}

// Tokens that were rejected

#[test]
fn a_rejected_token_is_refreshed_although_it_has_not_expired() {
    let world = World::new();
    world.main().put(&credential("1", HOUR));
    let call = rejecting(world.call_of_main(), "SECRET-access-1");
    assert!(call.look(None).unwrap().is_none());
    let claim = world.claim(&call);
    settled(world.settle(&call, claim, &with(answer("2"), &json!({ "expires": NOW + 2 * HOUR }))).unwrap());
    // Another caller that reports the same token finds it replaced.
    let call = rejecting(world.call_of_main(), "SECRET-access-1");
    assert_eq!(fresh(call.look(None).unwrap())["access"], "SECRET-access-2");
    assert_eq!(fresh(Some(served(world.decide(&call).unwrap())))["access"], "SECRET-access-2");
}

#[test]
fn a_rejected_token_that_is_not_the_stored_one_changes_nothing() {
    let world = World::new();
    world.main().put(&credential("1", HOUR));
    for rejected in ["SECRET-access-0", "", " SECRET-access-1"] {
        let call = rejecting(world.call_of_main(), rejected);
        assert_eq!(fresh(call.look(None).unwrap()), credential("1", HOUR));
    }
    world.main().put(&credential("1", EXPIRED));
    claimed(world.decide(&rejecting(world.call_of_main(), "SECRET-access-0")).unwrap()).give_up().unwrap();
}

#[test]
fn a_rejected_token_is_not_adopted_either() {
    let world = World::new();
    world.sub().put(&credential("1", EXPIRED));
    world.main().put(&credential("2", HOUR));
    let call = rejecting(world.call_of_sub(), "SECRET-access-2");
    assert!(call.look(Some(&oauth(&credential("2", HOUR)))).unwrap().is_none());
    claimed(world.decide(&call).unwrap()).give_up().unwrap();
    world.sub().assert_holds(&credential("1", EXPIRED));
}

#[test]
fn force_means_the_token_that_the_first_look_found() {
    let world = World::new();
    world.main().put(&credential("1", HOUR));
    let (one, other) = (forced(world.call_of_main()), forced(world.call_of_main()));
    assert!(one.look(None).unwrap().is_none());
    assert!(other.look(None).unwrap().is_none());
    settled(world.settle(&one, world.claim(&one), &answer("2")).unwrap());
    // A caller that asked at the same time is served what the first one got, however often it looks.
    assert_eq!(fresh(other.look(None).unwrap())["access"], "SECRET-access-2");
    assert_eq!(fresh(Some(served(world.decide(&other).unwrap())))["access"], "SECRET-access-2");
    // A caller that asks now means this one.
    assert!(forced(world.call_of_main()).look(None).unwrap().is_none());
}

#[test]
fn force_with_a_rejected_token_means_that_token_only() {
    let world = World::new();
    world.main().put(&credential("2", HOUR));
    let call = forced(rejecting(world.call_of_main(), "SECRET-access-1"));
    assert_eq!(fresh(call.look(None).unwrap()), credential("2", HOUR));
}

#[test]
fn force_works_for_an_inherited_profile() {
    let world = World::new();
    world.main().put(&credential("1", HOUR));
    let call = forced(world.call_of_sub());
    assert!(call.look(None).unwrap().is_none());
    settled(world.settle(&call, world.claim(&call), &answer("2")).unwrap());
    assert_eq!(shown_profile(&world.main())["access"], "SECRET-access-2");
    assert!(!world.sub().directory.exists());
}
