//! One grant on several hosts: what a host's own journal keeps of it, and that it has room for that.

use crate::hosts::{EXPIRED, adopted, alone, assert_elsewhere, backed_off, call, host, later, refreshed};
use crate::support::engine::Engine;
use crate::support::world::{HOUR, MINUTE, NOW, answer, claimed, credential, die_asking, with};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::refresh::{Backoff, FailureClass, Uncertain};
use serde_json::json;
use std::sync::Arc;

#[test]
fn without_a_coordinator_the_journal_says_nothing_of_one() {
    let a = host("1");
    let of_a = a.call_of_main();
    let claim = a.claim(&of_a);
    refreshed(a.settle(&of_a, claim, &answer("2")).unwrap());
    let record = serde_json::to_value(a.record()).unwrap();
    let names: Vec<_> = record.as_object().unwrap().keys().cloned().collect();
    assert!(!names.iter().any(|name| ["ownClaims", "answered", "seen"].contains(&name.as_str())), "{names:?}");
}

#[test]
fn a_death_that_the_engine_has_not_heard_of_is_not_forgotten_and_told_later() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    die_asking(a.claim(&call(&a, &engine, "a")));
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    engine.set_down(true);
    a.fail(&of_a, claim, FailureClass::AnsweredDead);
    engine.set_down(false);
    for _ in 0..3 {
        let error = a.decide(&call(&a, &engine, "a")).unwrap_err();
        assert_eq!(error.code, Code::GrantDead);
        assert!(error.message.contains("lost the answer"), "{error}");
    }
    assert_eq!(b.decide(&call(&b, &engine, "b")).unwrap_err().code, Code::GrantDead);
}

#[test]
fn a_doubt_of_this_host_outlives_another_hosts_pause() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    engine.set_down(true);
    let of_a = alone(&a, &engine);
    a.fail_and_pause(&of_a, a.claim(&of_a), FailureClass::Uncertain, Backoff::Growing);
    engine.set_down(false);
    let of_b = call(&b, &engine, "b");
    b.fail_and_pause(&of_b, b.claim(&of_b), FailureClass::AnsweredUnspent, Backoff::Asked(30_000.0));
    later(&[&a, &b], 5_000);
    backed_off(a.decide(&call(&a, &engine, "a")).unwrap());
    later(&[&a, &b], 40_000);
    let mut of_a = call(&a, &engine, "a");
    of_a.uncertain = Uncertain::Fail;
    assert_eq!(a.decide(&of_a).unwrap_err().code, Code::RefreshUncertain);
    // The others hear of it with the next claim.
    let claim = a.claim(&call(&a, &engine, "a"));
    assert!(engine.values()[0].contains("\"inDoubt\":true"), "{:?}", engine.values());
    claim.give_up().unwrap();
}

#[test]
fn a_host_that_goes_on_alone_does_so_for_long() {
    let (a, engine) = (host("0"), Arc::new(Engine::default()));
    engine.set_down(true);
    for step in 1..30 {
        let now = step * 2 * HOUR;
        later(&[&a], now);
        let of_a = alone(&a, &engine);
        let long = format!("SECRET-access-{step}-{}", "x".repeat(2_000));
        let next = with(answer(&step.to_string()), &json!({ "access": long, "expires": NOW + now + HOUR }));
        let claim = a.decide(&of_a).unwrap_or_else(|error| panic!("after {step} calls: {error}"));
        assert!(refreshed(a.settle(&of_a, claimed(claim), &next).unwrap()).is_some());
    }
}

#[test]
fn a_journal_that_knows_all_it_can_has_room_for_a_call() {
    let (a, engine) = (host("0"), Arc::new(Engine::default()));
    for login in 0..34 {
        a.main().put(&credential(&format!("dead-{login}"), EXPIRED));
        let of_a = call(&a, &engine, "a");
        a.fail(&of_a, a.claim(&of_a), FailureClass::AnsweredDead);
    }
    a.main().put(&credential("0", EXPIRED));
    for step in 1..70 {
        let now = step * 2 * HOUR;
        later(&[&a], now);
        let of_a = call(&a, &engine, "a");
        let next = with(answer(&step.to_string()), &json!({ "expires": NOW + now + HOUR }));
        let claim = a.decide(&of_a).unwrap_or_else(|error| panic!("after {step} calls: {error}"));
        refreshed(a.settle(&of_a, claimed(claim), &next).unwrap());
    }
    // Without what the coordinator has been told, which makes room.
    let mut record = serde_json::to_value(a.record()).unwrap();
    assert!(record["answered"].as_array().unwrap().iter().all(|one| one["isTold"] == true));
    record["answered"] = json!([]);
    let bytes = serde_json::to_vec(&record).unwrap().len();
    assert!(bytes < (128 - 103) << 10, "{bytes} bytes");
}

#[test]
fn what_was_adopted_leaves_no_claims_behind() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
    refreshed(a.settle(&of_a, claim, &answer("2")).unwrap());
    adopted(b.decide(&call(&b, &engine, "b")).unwrap());
    let record = serde_json::to_value(b.record()).unwrap();
    assert!(record.get("ownClaims").is_none_or(|claims| claims == &json!([])), "{}", record["ownClaims"]);
}

#[test]
fn a_large_answer_that_is_owed_does_not_keep_the_next_call_from_telling_it() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    engine.set_down(true);
    let large = with(answer("2"), &json!({ "access": format!("SECRET-access-2-{}", "x".repeat(30_000)) }));
    assert!(refreshed(a.settle(&of_a, claim, &large).unwrap()).is_some());
    engine.set_down(false);
    later(&[&a, &b], 2 * HOUR);
    a.claim(&call(&a, &engine, "a")).give_up().unwrap();
    assert_eq!(engine.states(), ["free", "spent"]);
}

#[test]
fn the_claim_of_a_dead_owner_is_known_however_often_another_login_is_asked_for() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    a.sub().put(&credential("9", EXPIRED));
    let of_sub = || {
        let mut of_sub = a.call_of_sub();
        of_sub.hosts = Some(engine.hosts("a"));
        of_sub
    };
    die_asking(a.claim(&of_sub()));
    for step in 0..20 {
        later(&[&a], step * 5 * MINUTE);
        let of_a = call(&a, &engine, "a");
        a.fail_and_pause(&of_a, a.claim(&of_a), FailureClass::Uncertain, Backoff::None);
    }
    a.claim(&of_sub()).give_up().unwrap();
}
