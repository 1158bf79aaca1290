//! One grant on several hosts: who asks, who waits and who takes over. A host is a state directory; all share one engine.

use crate::support::engine::{Engine, Fault};
use crate::support::world::{
    HOUR, MINUTE, NOW, PROVIDER, World, answer, claimed, credential, die_asking, served, with,
};
use oauth_refresh_lock::coordinator::{CoordinatorDown, LostHost};
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::refresh::{Backoff, Decision, FailureClass, Refresh, Served, Settled, Uncertain};
use serde_json::json;
use std::sync::Arc;

pub(crate) const EXPIRED: i64 = -MINUTE;

/// A host with an expired credential of this generation.
pub(crate) fn host(generation: &str) -> World {
    let world = World::new();
    world.main().put(&credential(generation, EXPIRED));
    world
}

pub(crate) fn call(world: &World, engine: &Arc<Engine>, name: &str) -> Refresh {
    let mut call = world.call_of_main();
    call.hosts = Some(engine.hosts(name));
    call
}

pub(crate) fn alone(world: &World, engine: &Arc<Engine>) -> Refresh {
    let mut alone = call(world, engine, "a");
    alone.coordinator_down = CoordinatorDown::Alone;
    alone
}

#[track_caller]
pub(crate) fn refreshed(settled: Settled) -> Option<Error> {
    match settled {
        Settled::Refreshed { not_saved: None, not_shared, .. } => not_shared,
        other => panic!("not refreshed: {other:?}"),
    }
}

/// The refresh token that is served, and from which host.
#[track_caller]
pub(crate) fn adopted(decision: Decision) -> (String, Option<String>) {
    match served(decision) {
        Served::Adopted { credential, not_saved: None, from_host } => {
            (credential.refresh().unwrap().to_owned(), from_host)
        }
        other => panic!("not adopted: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_elsewhere(decision: &Decision, host: &str) {
    match decision {
        Decision::Elsewhere { awaited, .. } => assert!(awaited.error.message.contains(host), "{}", awaited.error),
        other => panic!("not waited for: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn backed_off(decision: Decision) -> Error {
    match decision {
        Decision::BackOff { error, .. } => error,
        other => panic!("not to be tried again: {other:?}"),
    }
}

pub(crate) fn later(worlds: &[&World], by: i64) {
    for world in worlds {
        world.clock.set(NOW + by);
    }
}

#[test]
fn one_host_asks_and_the_others_take_over_what_it_got() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let (of_a, of_b) = (call(&a, &engine, "a"), call(&b, &engine, "b"));
    let claim = a.claim(&of_a);
    assert_elsewhere(&b.decide(&of_b).unwrap(), "host \"a\"");
    assert!(refreshed(a.settle(&of_a, claim, &answer("2")).unwrap()).is_none());
    assert_eq!(adopted(b.decide(&of_b).unwrap()), ("SECRET-refresh-2".to_owned(), Some("a".to_owned())));
    let stored = with(credential("2", HOUR), &json!({}));
    a.main().assert_holds(&stored);
    b.main().assert_holds(&stored);
    assert_eq!(engine.states(), ["spent"]);
    let told = engine.values().concat();
    assert!(!told.contains("SECRET") && !told.contains(PROVIDER), "{told}");
}

#[test]
fn a_sub_agents_stores_both_take_it_over() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap());
    b.sub().put(&credential("1", EXPIRED));
    let mut of_b = b.call_of_sub();
    of_b.hosts = Some(engine.hosts("b"));
    assert_eq!(adopted(b.decide(&of_b).unwrap()).0, "SECRET-refresh-2");
    b.main().assert_holds(&credential("2", HOUR));
    b.sub().assert_holds(&credential("2", HOUR));
}

#[test]
fn the_next_owner_of_a_dead_ones_host_may_ask_again_and_others_wait_for_it() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    die_asking(a.claim(&call(&a, &engine, "a")));
    assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    assert_eq!(engine.states(), ["sent"]);
    assert!(engine.values()[0].contains("\"attempts\":1"), "{:?}", engine.values());
    refreshed(a.settle(&of_a, claim, &answer("2")).unwrap());
    assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-2");
}

#[test]
fn a_caller_that_may_not_ask_again_tells_the_others_that_its_owner_is_dead() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    die_asking(a.claim(&call(&a, &engine, "a")));
    let mut of_a = call(&a, &engine, "a");
    of_a.uncertain = Uncertain::Fail;
    assert_eq!(a.decide(&of_a).unwrap_err().code, Code::RefreshUncertain);
    assert_eq!(engine.states(), ["unsure"]);
    // Another host may.
    let of_b = call(&b, &engine, "b");
    refreshed(b.settle(&of_b, b.claim(&of_b), &answer("2")).unwrap());
    assert_eq!(adopted(a.decide(&of_a).unwrap()).0, "SECRET-refresh-2");
}

#[test]
fn a_host_that_is_silent_for_too_long_is_waited_for_or_probed_as_the_caller_wants() {
    for has_clock in [true, false] {
        let (a, b) = (host("1"), host("1"));
        let engine = if has_clock { Engine::with(&b.clock) } else { Arc::new(Engine::default()) };
        let sent = a.claim(&call(&a, &engine, "a")).send().unwrap();
        assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
        later(&[&a, &b], 179_000);
        assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
        later(&[&a, &b], 181_000);
        let error = b.decide(&call(&b, &engine, "b")).unwrap_err();
        assert_eq!(error.code, Code::RefreshUncertain);
        assert!(error.message.contains("host \"a\"") && error.message.contains("lostHost"), "{error}");
        assert_eq!(engine.states(), ["lost"]);
        let mut probing = call(&b, &engine, "b");
        probing.hosts.as_mut().unwrap().lost_host = LostHost::Probe;
        let claim = b.claim(&probing);
        assert_eq!(engine.states(), ["sent"]);
        // The lost host comes back with an answer, which counts whatever stands there.
        refreshed(call(&a, &engine, "a").settle(sent, &answer("2").to_string()).map_err(|one| one.error).unwrap());
        assert_eq!(engine.states(), ["spent"]);
        drop(claim);
    }
}

#[test]
fn a_provider_that_keeps_the_refresh_token_is_asked_once_for_each_access_token() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let kept = |access: &str, at: i64| json!({ "access": access, "expires": NOW + at });
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &kept("SECRET-access-2", HOUR)).unwrap());
    assert_eq!(engine.states(), ["free"]);
    let (refresh, from) = adopted(b.decide(&call(&b, &engine, "b")).unwrap());
    assert_eq!((refresh.as_str(), from.as_deref()), ("SECRET-refresh-1", Some("a")));
    later(&[&a, &b], 2 * HOUR);
    let of_b = call(&b, &engine, "b");
    let claim = b.claim(&of_b);
    assert_elsewhere(&a.decide(&call(&a, &engine, "a")).unwrap(), "host \"b\"");
    refreshed(b.settle(&of_b, claim, &kept("SECRET-access-3", 4 * HOUR)).unwrap());
    let adopted = served(a.decide(&call(&a, &engine, "a")).unwrap());
    assert!(matches!(adopted, Served::Adopted { credential, .. } if credential.access() == Some("SECRET-access-3")));
}

#[test]
fn failures_bind_the_callers_of_all_hosts() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    let class = FailureClass::AnsweredUnspent;
    a.fail_and_pause(&of_a, a.claim(&of_a), class, Backoff::Asked(30_000.0));
    assert_eq!(engine.states(), ["free"]);
    match b.decide(&call(&b, &engine, "b")).unwrap() {
        Decision::BackOff { wait_ms, error } => {
            assert!((29_000.0..=30_000.0).contains(&wait_ms), "{wait_ms}");
            assert!(error.message.contains("host \"a\""), "{error}");
        }
        other => panic!("{other:?}"),
    }
    later(&[&a, &b], 31_000);
    let of_b = call(&b, &engine, "b");
    b.fail(&of_b, b.claim(&of_b), FailureClass::AnsweredDead);
    assert_eq!(engine.states(), ["dead"]);
    let error = a.decide(&call(&a, &engine, "a")).unwrap_err();
    assert_eq!(error.code, Code::GrantDead);
    assert!(error.message.contains("host \"b\""), "{error}");
}

#[test]
fn an_answer_that_was_cut_off_is_asked_for_again_by_any_host_after_the_pause() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    a.fail_and_pause(&of_a, a.claim(&of_a), FailureClass::Uncertain, Backoff::Growing);
    assert_eq!(engine.states(), ["unsure"]);
    assert_eq!(backed_off(b.decide(&call(&b, &engine, "b")).unwrap()).code, Code::RefreshUncertain);
    later(&[&a, &b], 3_000);
    let of_b = call(&b, &engine, "b");
    refreshed(b.settle(&of_b, b.claim(&of_b), &answer("2")).unwrap());
    assert_eq!(adopted(a.decide(&call(&a, &engine, "a")).unwrap()).0, "SECRET-refresh-2");
}

#[test]
fn a_claim_that_has_become_old_before_it_is_sent_is_made_again() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    later(&[&a], 61_000);
    assert!(claim.send().is_err());
    assert_eq!(engine.states(), ["free"]);
    let claim = a.claim(&call(&a, &engine, "a"));
    assert_eq!(a.record().failures(), []);
    assert!(claim.send().is_ok());
}

#[test]
fn a_login_or_logout_on_one_host_is_that_hosts_own() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    b.main().put(&credential("login", HOUR));
    assert!(matches!(served(b.decide(&call(&b, &engine, "b")).unwrap()), Served::Fresh(_)));
    let c = host("1");
    c.main().put_without_profile();
    assert!(matches!(served(c.decide(&call(&c, &engine, "c")).unwrap()), Served::Absent));
    refreshed(a.settle(&of_a, claim, &answer("2")).unwrap());
    b.main().assert_holds(&credential("login", HOUR));
}

#[test]
fn two_names_of_one_grant_on_one_host_are_one_claim() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let other = a.agent("other");
    let named =
        |generation: &str, expires| json!({ "profiles": { "second": credential(generation, expires) } }).to_string();
    crate::support::files::put(&other.path(), named("1", EXPIRED));
    let mut second = a.call(PROVIDER, "second", &other, None);
    second.hosts = Some(engine.hosts("a"));
    let of_a = call(&a, &engine, "a");
    // The owner under the first name dies with its claim made and nothing sent.
    engine.inject(&[Fault::LosesAnswer]);
    backed_off(a.decide(&of_a).unwrap());
    let claim = claimed(a.decide(&second).unwrap());
    assert!(engine.values()[0].contains("\"attempts\":0"), "{:?}", engine.values());
    // It dies as well, having sent. The first name knows.
    die_asking(claim);
    let claim = a.claim(&call(&a, &engine, "a"));
    assert!(engine.values()[0].contains("\"attempts\":1"), "{:?}", engine.values());
    refreshed(a.settle(&of_a, claim, &answer("2")).unwrap());
    assert_eq!(adopted(a.decide(&second).unwrap()).0, "SECRET-refresh-2");
}

#[test]
fn hosts_whose_clocks_differ_by_hours_agree_where_the_engine_tells_the_age() {
    for ahead in [-4 * HOUR, 4 * HOUR] {
        let (a, b) = (host("1"), host("1"));
        let engine = Engine::with(&a.clock);
        let of_a = call(&a, &engine, "a");
        refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap());
        b.clock.set(NOW + ahead);
        b.main().put(&with(credential("1", EXPIRED), &json!({ "expires": NOW + ahead - MINUTE })));
        assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-2");
        b.main().assert_holds(&with(credential("2", HOUR), &json!({ "expires": NOW + ahead + HOUR })));
    }
}

#[test]
fn a_doubt_outlives_a_call_that_was_turned_away() {
    let (a, b, c, engine) = (host("1"), host("1"), host("1"), Arc::new(Engine::default()));
    die_asking(a.claim(&call(&a, &engine, "a")));
    let mut of_a = call(&a, &engine, "a");
    of_a.uncertain = Uncertain::Fail;
    a.decide(&of_a).unwrap_err();
    let of_b = call(&b, &engine, "b");
    b.fail_and_pause(&of_b, b.claim(&of_b), FailureClass::AnsweredUnspent, Backoff::Asked(1_000.0));
    later(&[&a, &b, &c], 10_000);
    let mut of_c = call(&c, &engine, "c");
    of_c.uncertain = Uncertain::Fail;
    assert_eq!(c.decide(&of_c).unwrap_err().code, Code::RefreshUncertain);
    later(&[&c], 20_000);
    c.claim(&call(&c, &engine, "c")).give_up().unwrap();
    assert!(engine.values()[0].contains("\"inDoubt\":true"), "{:?}", engine.values());
}

#[test]
fn an_owner_that_was_taken_over_from_gives_its_peers_claim_back_to_nobody() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let stuck = a.claim(&call(&a, &engine, "a"));
    // A peer of a later term goes on under the same id.
    let before = engine.backup();
    let row = engine.rows().remove(0);
    let again = engine.values().remove(0);
    engine.put(&row, &again);
    stuck.give_up().unwrap();
    assert_eq!(engine.states(), ["sent"]);
    assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
    engine.restore(&before);
}
