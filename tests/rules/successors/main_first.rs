//! A newer login of the main store, or of a host, goes before a spent one.

use super::{EXPIRED, mirrored, refresh_token};
use crate::support::files::{put, text};
use crate::support::world::{
    HOUR, MINUTE, NOW, PROFILE, PROVIDER, World, answer, claimed, credential, map, served, with,
};
use oauth_refresh_lock::credential::fields::Fields;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::refresh::mirror::Reason;
use oauth_refresh_lock::refresh::{FailureClass, Refresh};
use oauth_refresh_lock::store::{HostStore, Hosted, NoAnswer};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex};

/// A sub-agent that was idle while the main store's credential, of the same account, was refreshed so many times.
fn idle_for(world: &World, rotations: i64) {
    let identity = json!({ "accountId": "A", "email": "a@example.com" });
    let old = with(credential("0", HOUR), &identity);
    world.sub().put(&old);
    world.main().put(&old);
    for number in 1..=rotations {
        let now = NOW + number * 2 * HOUR;
        world.clock.set(now);
        let call = world.call_of_main();
        let fields = with(answer(&number.to_string()), &json!({ "expires": now + HOUR }));
        world.settle(&call, world.claim(&call), &fields).unwrap();
    }
    world.clock.set(NOW + (rotations + 1) * 2 * HOUR);
}

#[test]
fn an_agent_that_was_idle_for_longer_than_the_ledger_reaches_sends_the_main_stores_token() {
    let world = World::new();
    idle_for(&world, 65);
    let call = world.call_of_sub();
    let flight = world.claim(&call);
    assert_eq!(flight.credential().refresh(), Some("SECRET-refresh-65"));
    let fields = with(answer("66"), &json!({ "expires": NOW + 140 * HOUR }));
    world.settle(&call, flight, &fields).unwrap();
    for agent in [world.main(), world.sub()] {
        assert_eq!(refresh_token(&agent, PROFILE).as_deref(), Some("SECRET-refresh-66"));
    }
}

#[test]
fn an_idle_agent_is_brought_to_the_successor_of_what_main_holds_if_that_is_spent() {
    let world = World::new();
    idle_for(&world, 65);
    let (main, other) = (world.main(), world.agent("other"));
    let backup = text(&main.path());
    put(&other.path(), &backup);
    let call = world.call(PROVIDER, PROFILE, &other, Some(&main));
    let fields = with(answer("66"), &json!({ "expires": NOW + 140 * HOUR }));
    world.settle(&call, world.claim(&call), &fields).unwrap();
    put(&main.path(), backup);
    served(world.decide(&world.call_of_sub()).unwrap());
    served(world.decide(&world.call_of_sub()).unwrap());
    for agent in [main, world.sub()] {
        assert_eq!(refresh_token(&agent, PROFILE).as_deref(), Some("SECRET-refresh-66"));
    }
}

#[test]
fn where_the_main_stores_token_is_refused_the_agents_own_is_still_there() {
    let world = World::new();
    idle_for(&world, 65);
    let call = world.call_of_sub();
    let instead = world.fail(&call, world.claim(&call), FailureClass::AnsweredDead).expect("its own");
    assert_eq!(claimed(instead).credential().refresh(), Some("SECRET-refresh-0"));
}

#[test]
fn a_login_in_main_while_its_token_is_sent_is_not_served_to_an_agent_with_a_profile_of_its_own() {
    let world = World::new();
    idle_for(&world, 65);
    let call = world.call_of_sub();
    let flight = world.claim(&call);
    let login = with(credential("login", 1000 * HOUR), &json!({ "accountId": "B", "email": "b@example.com" }));
    world.main().put(&login);
    let fields = with(answer("66"), &json!({ "expires": NOW + 140 * HOUR }));
    assert_eq!(world.settle(&call, flight, &fields).unwrap_err().code, Code::Superseded);
    world.main().assert_holds(&login);
    assert_eq!(refresh_token(&world.sub(), PROFILE).as_deref(), Some("SECRET-refresh-0"));
}

#[test]
fn a_living_refresh_token_does_not_give_way_to_its_spent_ancestor() {
    for under_lock in [false, true] {
        let world = World::new();
        let (sub, main) = (world.sub(), world.main());
        let long_lived = credential("1", 10 * HOUR);
        sub.put(&long_lived);
        main.put(&long_lived);
        let call = world.call_of_sub();
        call.rejected.set("SECRET-access-1".to_owned().into()).unwrap();
        world.settle(&call, world.claim(&call), &answer("2")).unwrap();
        // A backup is restored; its access token outlives the one of its successor.
        main.put(&long_lived);
        world.clock.set(NOW + 2 * HOUR);
        let call = world.call_of_sub();
        if !under_lock {
            assert!(call.look(None).unwrap().is_none());
        }
        assert_eq!(world.claim(&call).credential().refresh(), Some("SECRET-refresh-2"));
        assert!(text(&sub.path()).contains("SECRET-refresh-2"));
    }
}

#[test]
fn a_login_in_main_meanwhile_wins() {
    for had_it in [true, false] {
        let world = World::new();
        let login = credential("login", HOUR - MINUTE);
        world.sub().put(&credential("1", EXPIRED));
        if had_it {
            world.main().put(&credential("1", EXPIRED));
        } else {
            world.main().put_without_profile();
        }
        let call = world.call_of_sub();
        let flight = world.claim(&call);
        world.main().put(&login);
        assert_eq!(mirrored(world.settle(&call, flight, &answer("2"))), Some(Reason::Superseded));
        world.main().assert_holds(&login);
        assert_eq!(refresh_token(&world.sub(), PROFILE).as_deref(), Some("SECRET-refresh-2"));
    }
}

// In a host's store

/// A host's store in memory.
struct Memory(&'static str, Mutex<Map<String, Value>>);

impl HostStore for Memory {
    fn name(&self) -> &'static str {
        self.0
    }

    fn load(&self, profile: &str) -> Result<Option<Fields>, NoAnswer> {
        Ok(self.1.lock().unwrap().get(profile).and_then(|held| Fields::parse(&held.to_string())))
    }

    fn compare_and_swap(&self, profile: &str, expected: Option<&Fields>, next: &Fields) -> Result<bool, NoAnswer> {
        let is_expected = self.load(profile)?.as_ref() == expected;
        if is_expected {
            self.1.lock().unwrap().insert(profile.to_owned(), serde_json::from_str(&next.to_json()).unwrap());
        }
        Ok(is_expected)
    }
}

#[test]
fn a_successor_that_a_host_keeps_under_another_profile_id_is_found_there() {
    let world = World::new();
    let old = credential("1", EXPIRED);
    let host = Arc::new(Memory("memory", Mutex::new(map(&json!({ "one": old, "two": old, "three": old })))));
    let call = |profile| Refresh {
        own: Hosted::new(host.clone()).into(),
        ..world.call(PROVIDER, profile, &world.main(), None)
    };
    let one = call("one");
    world.settle(&one, world.claim(&one), &answer("2")).unwrap();
    served(world.decide(&call("two")).unwrap());
    assert_eq!(host.1.lock().unwrap()["two"]["refresh"], "SECRET-refresh-2");
    // And the successor's successor.
    world.clock.set(NOW + 2 * HOUR);
    let two = call("two");
    world.settle(&two, world.claim(&two), &with(answer("3"), &json!({ "expires": NOW + 3 * HOUR }))).unwrap();
    served(world.decide(&call("three")).unwrap());
    assert_eq!(host.1.lock().unwrap()["three"]["refresh"], "SECRET-refresh-3");
}

#[test]
fn a_successor_that_was_mirrored_to_a_hosts_main_store_under_another_profile_id_is_found_there() {
    let world = World::new();
    let old = credential("1", EXPIRED);
    let both = |name| Arc::new(Memory(name, Mutex::new(map(&json!({ "one": old, "two": old })))));
    let (main, sub) = (both("main"), both("sub"));
    let call = |profile, own: &Arc<Memory>| Refresh {
        own: Hosted::new(own.clone()).into(),
        main: (!Arc::ptr_eq(own, &main)).then(|| Hosted::new(main.clone()).into()),
        ..world.call(PROVIDER, profile, &world.main(), None)
    };
    let one = call("one", &sub);
    world.settle(&one, world.claim(&one), &answer("2")).unwrap();
    served(world.decide(&call("two", &main)).unwrap());
    assert_eq!(main.1.lock().unwrap()["two"]["refresh"], "SECRET-refresh-2");
}

// Outcomes that nobody knows

#[test]
fn an_outage_that_many_agents_meet_costs_none_of_them_its_login() {
    for other in [FailureClass::Uncertain, FailureClass::AnsweredUnspent] {
        let world = World::new();
        let agents: Vec<_> = (0..20).map(|number| world.agent(&format!("agent-{number}"))).collect();
        let fail = |number: usize, class| {
            agents[number].put(&credential(&number.to_string(), EXPIRED));
            let call = world.call(PROVIDER, PROFILE, &agents[number], None);
            assert!(world.fail(&call, world.claim(&call), class).is_none());
        };
        (0..10).for_each(|number| fail(number, FailureClass::Uncertain));
        (10..20).for_each(|number| fail(number, other));
        world.clock.set(NOW + 2_000);
        for (number, agent) in agents[..10].iter().enumerate() {
            let call = world.call(PROVIDER, PROFILE, agent, None);
            assert_eq!(world.claim(&call).credential().refresh(), Some(format!("SECRET-refresh-{number}").as_str()));
        }
    }
}
