//! Which of two tokens is sent: the main store's or the agent's own.

use super::{EXPIRED, SECOND, backs_off, world};
use crate::support::files::{put, text};
use crate::support::world::PROVIDER;
use crate::support::world::{HOUR, MINUTE, NOW, PROFILE, World, answer, claimed, credential, with};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::refresh::{Backoff, CallFailure, Failed, FailureClass, Refresh, Settled, Uncertain};
use serde_json::json;
use std::sync::OnceLock;
use zeroize::Zeroizing;

#[test]
fn a_stale_agents_token_is_never_sent_while_main_holds_a_newer_one_of_the_same_account() {
    for identity in [json!({}), json!({ "accountId": "A" })] {
        let world = World::new();
        world.sub().put(&with(credential("1", -24 * HOUR), &identity));
        world.main().put(&with(credential("3", EXPIRED), &identity));
        let call = world.call_of_sub();
        let claim = world.claim(&call);
        assert_eq!(claim.credential().refresh(), Some("SECRET-refresh-3"));
        world.settle(&call, claim, &answer("4")).unwrap();
        for agent in [world.main(), world.sub()] {
            assert!(text(&agent.path()).contains("SECRET-refresh-4"));
        }
    }
}

#[test]
fn another_accounts_newer_token_in_main_is_not_sent_for_an_agent_that_has_its_own() {
    let world = World::new();
    world.sub().put(&with(credential("own", EXPIRED), &json!({ "accountId": "A" })));
    world.main().put(&with(credential("mains", EXPIRED + 1), &json!({ "accountId": "B" })));
    assert_eq!(world.claim(&world.call_of_sub()).credential().refresh(), Some("SECRET-refresh-own"));
}

#[test]
fn the_main_stores_token_is_not_sent_for_another_client_or_for_an_agent_that_says_less_of_itself() {
    let client = |id: &str| json!({ "accountId": "A", "clientId": id });
    for (own, main_credential) in [(client("app2"), client("app1")), (json!({}), json!({ "accountId": "A" }))] {
        let world = World::new();
        world.sub().put(&with(credential("own", EXPIRED), &own));
        world.main().put(&with(credential("mains", EXPIRED + 1), &main_credential));
        assert_eq!(world.claim(&world.call_of_sub()).credential().refresh(), Some("SECRET-refresh-own"));
    }
}

#[test]
fn neither_of_two_clients_takes_the_others_token() {
    let client = |id: &str| json!({ "accountId": "A", "clientId": id });
    let world = World::new();
    let main_credential = with(credential("mains", HOUR), &client("app1"));
    world.sub().put(&with(credential("own", EXPIRED), &client("app2")));
    world.main().put(&main_credential);
    let call = world.call_of_sub();
    assert!(matches!(call.look(None), Ok(None)));
    assert!(world.fail(&call, world.claim(&call), FailureClass::AnsweredDead).is_none());
    assert_eq!(world.decide(&call).unwrap_err().code, Code::GrantDead);
    world.sub().put(&with(credential("own2", EXPIRED), &client("app2")));
    let call = world.call_of_sub();
    world.settle(&call, world.claim(&call), &with(answer("own3"), &json!({ "expires": NOW + 2 * HOUR }))).unwrap();
    world.main().assert_holds(&main_credential);
}

#[test]
fn a_login_that_was_received_here_is_sent_although_main_has_a_newer_one() {
    let world = World::new();
    world.main().put(&credential("mains", EXPIRED - MINUTE));
    world.sub().put(&credential("own", EXPIRED));
    let call = world.call_of_sub();
    world.settle(&call, world.claim(&call), &with(answer("own2"), &json!({ "expires": NOW + MINUTE }))).unwrap();
    world.clock.set(NOW + HOUR);
    world.main().put(&credential("mains", HOUR - 1));
    assert_eq!(world.claim(&world.call_of_sub()).credential().refresh(), Some("SECRET-refresh-own2"));
}

#[test]
fn a_refusal_of_the_main_stores_token_concerns_that_agent_alone() {
    let refused = |class, is_temporary| CallFailure { class, pause: Backoff::Growing, is_temporary };
    for failed in [refused(FailureClass::AnsweredDead, false), refused(FailureClass::AnsweredUnspent, false)] {
        let world = World::new();
        world.sub().put(&credential("own", -HOUR));
        world.main().put(&credential("mains", EXPIRED));
        let call = world.call_of_sub();
        let claim = world.claim(&call);
        assert_eq!(claim.credential().refresh(), Some("SECRET-refresh-mains"));
        // Its own is next, in the same turn or in the next one; main is asked for by its own agent as if nothing had been.
        let own = match call.fail(claim.send().unwrap(), failed).unwrap() {
            Failed::Instead(decision) => claimed(decision),
            Failed::ForGood(_) => world.claim(&call),
        };
        assert_eq!(own.credential().refresh(), Some("SECRET-refresh-own"));
        own.give_up().unwrap();
        let main = world.call_of_main();
        let claim = world.claim(&main);
        assert_eq!(claim.credential().refresh(), Some("SECRET-refresh-mains"));
        world.settle(&main, claim, &answer("mains2")).unwrap();
    }
}

#[test]
fn a_token_that_the_provider_keeps_is_in_doubt_under_no_name_once_it_was_taken_under_one() {
    let world = World::new();
    let main = world.main();
    let first = credential("1", EXPIRED);
    put(&main.path(), json!({ "version": 1, "profiles": { PROFILE: first, "another": first } }).to_string());
    let (here, there) = (world.call_of_main(), world.call(PROVIDER, "another", &main, None));
    assert!(world.fail(&here, claimed(world.decide(&here).unwrap()), FailureClass::Uncertain).is_none());
    world.clock.set(NOW + 2 * SECOND);
    let fields = json!({ "access": "SECRET-access-2", "expires": NOW + MINUTE });
    there.settle(claimed(world.decide(&there).unwrap()).send().unwrap(), &fields.to_string()).unwrap();
    world.clock.set(NOW + 2 * MINUTE);
    let strict = Refresh { uncertain: Uncertain::Fail, ..world.call(PROVIDER, "another", &main, None) };
    claimed(world.decide(&strict).unwrap()).give_up().unwrap();
}

#[test]
fn a_provider_that_asks_for_no_pause_is_not_asked_all_the_time() {
    let (world, call) = world(EXPIRED);
    for shortest in [1_000.0, 2_000.0, 4_000.0] {
        let pause = Backoff::after(FailureClass::AnsweredUnspent, true, Some(0.0));
        assert!(world.fail_and_pause(&call, world.claim(&call), FailureClass::AnsweredUnspent, pause).is_none());
        let (wait, _) = backs_off(world.decide(&call));
        assert!(wait >= shortest, "{wait}");
        #[allow(clippy::cast_possible_truncation, reason = "some seconds")]
        world.clock.set(NOW + 10 * shortest as i64);
    }
}

#[test]
fn what_is_known_dead_is_adopted_by_nobody_and_gives_way_to_what_lives() {
    let world = World::new();
    let dead = credential("old", HOUR);
    world.main().put(&dead);
    let rejected = || OnceLock::from(Zeroizing::new("SECRET-access-old".to_owned()));
    let call = Refresh { rejected: rejected(), ..world.call_of_main() };
    assert!(world.fail(&call, world.claim(&call), FailureClass::AnsweredDead).is_none());
    world.sub().put(&credential("login", EXPIRED));
    let call = world.call_of_sub();
    assert!(matches!(call.look(None), Ok(None)));
    let claim = world.claim(&call);
    assert_eq!(claim.credential().refresh(), Some("SECRET-refresh-login"));
    // It expires before the dead one, and takes its place all the same.
    let settled = world.settle(&call, claim, &with(answer("new"), &json!({ "expires": NOW + HOUR / 2 }))).unwrap();
    assert!(matches!(settled, Settled::Refreshed { .. }), "{settled:?}");
    for agent in [world.main(), world.sub()] {
        assert!(text(&agent.path()).contains("SECRET-refresh-new"));
    }
}

#[test]
fn a_holder_of_an_ancestor_takes_the_successor_over_and_waits_like_everyone() {
    let world = World::new();
    let first = credential("1", EXPIRED);
    let other_name = "another";
    world.sub().put(&first);
    put(&world.main().path(), json!({ "version": 1, "profiles": { PROFILE: first, other_name: first } }).to_string());
    let call = world.call_of_main();
    world.settle(&call, world.claim(&call), &with(answer("2"), &json!({ "expires": NOW + MINUTE }))).unwrap();
    world.clock.set(NOW + 2 * MINUTE);
    assert!(world.fail(&call, world.claim(&call), FailureClass::Uncertain).is_none());
    let sub = world.call_of_sub();
    let another = world.call(PROVIDER, other_name, &world.main(), None);
    for call in [&sub, &another] {
        assert_eq!(backs_off(world.decide(call)).1.code, Code::RefreshUncertain, "{}", call.key.profile_id());
    }
    world.clock.set(NOW + 3 * MINUTE);
    for call in [&sub, &another] {
        let claim = claimed(world.decide(call).unwrap());
        assert_eq!(claim.credential().refresh(), Some("SECRET-refresh-2"));
        claim.give_up().unwrap();
    }
}

#[test]
fn a_profile_that_main_has_logged_out_is_not_created_again_by_another_accounts_agent() {
    let world = World::new();
    world.main().put(&with(credential("main", EXPIRED), &json!({ "accountId": "A" })));
    world.sub().put(&with(credential("sub", EXPIRED), &json!({ "accountId": "B" })));
    let call = world.call_of_sub();
    world.settle(&call, world.claim(&call), &with(answer("sub2"), &json!({ "expires": NOW + MINUTE }))).unwrap();
    world.main().put_without_profile();
    let without = text(&world.main().path());
    for number in 3..5 {
        world.clock.set(NOW + number * HOUR);
        let fields = with(answer(&format!("sub{number}")), &json!({ "expires": NOW + number * HOUR + MINUTE }));
        world.settle(&call, world.claim(&call), &fields).unwrap();
        assert_eq!(text(&world.main().path()), without);
    }
}
