//! Where the successor of a spent refresh token may go, and that its only copy is never given up.

mod main_first;

use crate::support::files::put;
use crate::support::world::{
    Agent, HOUR, MINUTE, NOW, PROFILE, PROVIDER, World, answer, claimed, credential, served, shown, with,
};
use oauth_refresh_lock::disk::fault::{self, Fault};
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::refresh::mirror::Reason;
use oauth_refresh_lock::refresh::{Claimed, Decision, FailureClass, Refresh, Settled};
use oauth_refresh_lock::store::Profile;
use serde_json::{Value, json};

const EXPIRED: i64 = -MINUTE;

fn put_profiles(agent: &Agent, profiles: &Value) {
    put(&agent.path(), json!({ "version": 1, "profiles": profiles }).to_string());
}

/// Dies as soon as the answer is in the journal.
fn receive_and_die(world: &World, call: &Refresh, flight: Box<Claimed>, fields: &Value) {
    let sent = flight.send().unwrap();
    fault::on_this_thread(Some((4, Fault::Crash)), || drop(call.settle(sent, &fields.to_string())));
    assert_eq!(world.record().receipts().len(), 1);
}

#[track_caller]
fn refresh_token(agent: &Agent, profile: &str) -> Option<String> {
    match agent.store().read(profile).unwrap() {
        Profile::Oauth(credential) => credential.refresh().map(str::to_owned),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn mirrored(settled: Result<Settled, Error>) -> Option<Reason> {
    match settled {
        Ok(Settled::Refreshed { mirrored, .. }) => mirrored.map(|reason| reason.unwrap()),
        other => panic!("{other:?}"),
    }
}

// Whose main it is

/// A sub-agent of Alice's that died with an answer on record.
fn alice_died(world: &World) {
    world.sub().put(&credential("alice-1", EXPIRED));
    world.main().put_without_profile();
    let call = world.call_of_sub();
    receive_and_die(world, &call, world.claim(&call), &answer("alice-2"));
}

#[test]
fn what_a_dead_agent_received_does_not_go_to_another_persons_main() {
    let world = World::new();
    let bobs_main = world.agent("main-of-bob");
    bobs_main.put(&credential("bob-1", EXPIRED));
    alice_died(&world);
    let bob = world.call(PROVIDER, PROFILE, &bobs_main, None);
    assert_eq!(shown(claimed(world.decide(&bob).unwrap()).credential()), credential("bob-1", EXPIRED));
    bobs_main.assert_holds(&credential("bob-1", EXPIRED));

    // Nor to one of his that has no such profile.
    let world = World::new();
    let (bobs, bobs_main) = (world.agent("bob"), world.agent("main-of-bob"));
    bobs.put(&credential("bob-1", EXPIRED));
    bobs_main.put_without_profile();
    alice_died(&world);
    claimed(world.decide(&world.call(PROVIDER, PROFILE, &bobs, Some(&bobs_main))).unwrap()).give_up().unwrap();
    assert_eq!(bobs_main.store().read(PROFILE).unwrap(), Profile::Missing);
}

#[test]
fn what_a_dead_agent_received_goes_to_its_own_main() {
    let world = World::new();
    alice_died(&world);
    served(world.decide(&world.call_of_sub()).unwrap());
    assert_eq!(refresh_token(&world.main(), PROFILE).as_deref(), Some("SECRET-refresh-alice-2"));
    assert!(world.record().receipts().is_empty());
}

// The only copy

/// Asserts that another holder of the spent token is brought to its successor.
#[track_caller]
fn assert_served_the_successor(decided: Result<Decision, Error>, agent: &Agent, profile: &str) {
    served(decided.unwrap());
    assert_eq!(refresh_token(agent, profile).as_deref(), Some("SECRET-refresh-2"));
}

#[test]
fn a_login_meanwhile_costs_another_profile_of_the_grant_nothing() {
    for dies in [false, true] {
        let world = World::new();
        let main = world.main();
        let old = credential("1", EXPIRED);
        put_profiles(&main, &json!({ PROFILE: old, "second": old }));
        let call = world.call_of_main();
        let flight = world.claim(&call);
        let log_in = || put_profiles(&main, &json!({ PROFILE: credential("login", EXPIRED), "second": old }));
        if dies {
            receive_and_die(&world, &call, flight, &answer("2"));
            log_in();
            world.claim(&call).give_up().unwrap();
        } else {
            log_in();
            assert_eq!(world.settle(&call, flight, &answer("2")).unwrap_err().code, Code::Superseded);
        }
        assert_eq!(refresh_token(&main, PROFILE).as_deref(), Some("SECRET-refresh-login"));
        let second = world.call(PROVIDER, "second", &main, None);
        assert_served_the_successor(world.decide(&second), &main, "second");
    }
}

#[test]
fn a_backup_over_the_main_store_is_healed_by_an_agent_that_only_adopted() {
    let world = World::new();
    let (main, sub) = (world.main(), world.sub());
    for agent in [&main, &sub] {
        agent.put(&credential("1", EXPIRED));
    }
    let call = world.call_of_main();
    let flight = world.claim(&call);
    world.settle(&call, flight, &answer("2")).unwrap();
    served(world.decide(&world.call_of_sub()).unwrap());
    main.put(&credential("1", EXPIRED));
    assert_served_the_successor(world.decide(&call), &main, PROFILE);
    // With its copy gone as well, there is none.
    for agent in [&main, &sub] {
        agent.put(&credential("1", EXPIRED));
    }
    let Err(error) = world.decide(&world.call_of_main()) else { panic!("a spent token leads to something") };
    assert_eq!(error.code, Code::RefreshTokenSpent);
}

#[test]
fn a_profile_that_is_renamed_meanwhile_keeps_its_grant() {
    let world = World::new();
    let main = world.main();
    let old = credential("1", EXPIRED);
    put_profiles(&main, &json!({ PROFILE: old }));
    let call = world.call_of_main();
    let flight = world.claim(&call);
    put_profiles(&main, &json!({ "renamed": old }));
    assert!(matches!(world.settle(&call, flight, &answer("2")), Ok(Settled::LoggedOut)));
    let renamed = world.call(PROVIDER, "renamed", &main, None);
    assert_served_the_successor(world.decide(&renamed), &main, "renamed");
    // It is no way back in for the name that is gone.
    assert!(matches!(world.decide(&call).unwrap(), Decision::Served(oauth_refresh_lock::refresh::Served::Absent)));
    assert_eq!(main.store().read(PROFILE).unwrap(), Profile::Missing);
}

#[test]
fn a_logout_of_one_agent_meanwhile_costs_another_nothing() {
    let world = World::new();
    let (one, two, main) = (world.agent("one"), world.agent("two"), world.main());
    one.put(&credential("1", EXPIRED));
    two.put(&credential("1", EXPIRED));
    main.put_without_profile();
    let call = world.call(PROVIDER, PROFILE, &one, Some(&main));
    let flight = world.claim(&call);
    one.put_without_profile();
    assert!(matches!(world.settle(&call, flight, &answer("2")), Ok(Settled::LoggedOut)));
    assert_eq!(main.store().read(PROFILE).unwrap(), Profile::Missing);
    assert_served_the_successor(world.decide(&world.call(PROVIDER, PROFILE, &two, Some(&main))), &two, PROFILE);
    assert_eq!(one.store().read(PROFILE).unwrap(), Profile::Missing);
}

// An answer that does not say all

#[test]
fn an_answer_without_a_refresh_token_brings_no_spent_one_back() {
    for main_too in [false, true] {
        let world = World::new();
        let (sub, main) = (world.sub(), world.main());
        let call = || if main_too { world.call_of_sub() } else { world.call_of_main() };
        let old = credential("1", EXPIRED);
        let put_old = || {
            main.put(&old);
            sub.put(&old);
        };
        put_old();
        world.settle(&call(), world.claim(&call()), &answer("2")).unwrap();
        world.clock.set(NOW + 2 * HOUR);
        let flight = world.claim(&call());
        // A backup is restored. The provider keeps its refresh token this time.
        put_old();
        let fields = json!({ "access": "SECRET-access-3", "expires": NOW + 3 * HOUR });
        world.settle(&call(), flight, &fields).unwrap();
        world.clock.set(NOW + 4 * HOUR);
        for call in [call(), world.call_of_main()] {
            let held = shown(world.claim(&call).credential());
            assert_eq!((&held["refresh"], &held["access"]), (&json!("SECRET-refresh-2"), &json!("SECRET-access-3")));
        }
    }
}

#[test]
fn the_refresh_token_of_an_answer_that_is_too_large_is_kept() {
    for beside in [json!({}), json!({ "access": null }), json!({ "expires": 1 })] {
        let world = World::new();
        world.main().put(&credential("1", EXPIRED));
        let call = world.call_of_main();
        let large = with(answer("2"), &json!({ "idToken": "x".repeat(41 << 10) }));
        let error = world.settle(&call, world.claim(&call), &with(large, &beside)).unwrap_err();
        assert_eq!(error.code, Code::InvalidRefreshResult);
        let expected = with(credential("1", EXPIRED), &json!({ "refresh": "SECRET-refresh-2", "expires": 0 }));
        assert_eq!(shown(world.claim(&call).credential()), expected);
    }
}

#[test]
fn of_another_accounts_answer_nothing_is_kept_however_large_it_is() {
    for filler in [1, 41 << 10] {
        let world = World::new();
        let own = with(credential("1", EXPIRED), &json!({ "accountId": "A" }));
        world.main().put(&own);
        let call = world.call_of_main();
        let others = with(answer("2"), &json!({ "accountId": "B", "idToken": "x".repeat(filler) }));
        assert_eq!(world.settle(&call, world.claim(&call), &others).unwrap_err().code, Code::IdentityMismatch);
        world.main().assert_holds(&own);
        assert!(world.record().receipts().is_empty());
        world.clock.set(NOW + 2_000);
        assert_eq!(shown(world.claim(&call).credential()), own);
    }
}

// Profiles without a token

fn blank(provider: &str, more: &Value) -> Value {
    with(json!({ "type": "oauth", "provider": provider, "access": "", "refresh": "", "expires": 0 }), more)
}

#[test]
fn two_profiles_without_a_token_are_not_one_grant() {
    for bobs in [json!({ "email": "bob@example.com" }), json!({})] {
        let world = World::new();
        let (main, bobs_agent) = (world.main(), world.agent("bob"));
        let (alices, bobs) = (blank(PROVIDER, &json!({})), blank(PROVIDER, &bobs));
        put_profiles(&main, &json!({ "alice": alices, "bob": bobs }));
        put_profiles(&bobs_agent, &json!({ "alice": bobs }));
        let alice = world.call(PROVIDER, "alice", &main, None);
        // What was got with no token at all is saved all the same.
        world.settle(&alice, world.claim(&alice), &answer("alice-2")).unwrap();
        assert_eq!(refresh_token(&main, "alice").as_deref(), Some("SECRET-refresh-alice-2"));
        // Another profile, and a profile of the same name in another agent's store.
        let same_name = world.call(PROVIDER, "alice", &bobs_agent, None);
        for bob in [world.call(PROVIDER, "bob", &main, None), same_name] {
            assert_eq!(shown(world.claim(&bob).credential()), bobs);
        }
    }
}

#[test]
fn a_dead_profile_without_a_token_locks_no_other_out() {
    let world = World::new();
    let main = world.main();
    put_profiles(&main, &json!({ "alice": blank(PROVIDER, &json!({})), "bob": blank("anthropic", &json!({})) }));
    let alice = world.call(PROVIDER, "alice", &main, None);
    assert!(world.fail(&alice, world.claim(&alice), FailureClass::AnsweredDead).is_none());
    world.claim(&world.call("anthropic", "bob", &main, None)).give_up().unwrap();
}

#[test]
fn a_profile_whose_tokens_are_blanked_meanwhile_stays_so() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_main();
    let flight = world.claim(&call);
    let blanked = blank(PROVIDER, &json!({}));
    world.main().put(&blanked);
    assert_eq!(world.settle(&call, flight, &answer("2")).unwrap_err().code, Code::Superseded);
    world.main().assert_holds(&blanked);
    // Nor does what was once got for it come back.
    world.settle(&call, world.claim(&call), &answer("3")).unwrap();
    world.main().put(&blanked);
    assert_eq!(shown(world.claim(&call).credential()), blanked);
}
