//! One grant on several hosts. A host is a state directory; all share one engine.

use crate::support::engine::{Engine, Fault};
use crate::support::world::{
    HOUR, MINUTE, NOW, PROVIDER, World, answer, claimed, credential, die_asking, oauth, served, with,
};
use oauth_refresh_lock::coordinator::{Answer, CoordinatorDown, Grant, LostHost, Row, RowState};
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
fn a_claim_whose_answer_was_lost_goes_on_under_its_own_id() {
    for fault in [Fault::LosesAnswer, Fault::Fails, Fault::IsLate] {
        let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
        engine.inject(&[fault]);
        let error = backed_off(a.decide(&call(&a, &engine, "a")).unwrap());
        assert_eq!(error.code, Code::CoordinatorUnavailable);
        let arrived = fault == Fault::IsLate && engine.deliver();
        if arrived || fault == Fault::LosesAnswer {
            assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
        }
        // Another process of that host, at once.
        let of_a = call(&a, &engine, "a");
        let claim = a.claim(&of_a);
        assert_eq!(a.record().failures(), []);
        refreshed(a.settle(&of_a, claim, &answer("2")).unwrap());
        assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-2");
    }
}

#[test]
fn a_claim_that_arrives_late_stands_in_nobodys_way() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    engine.inject(&[Fault::IsLate]);
    backed_off(a.decide(&call(&a, &engine, "a")).unwrap());
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    assert!(!engine.deliver());
    refreshed(a.settle(&of_a, claim, &answer("2")).unwrap());
    assert_eq!(engine.states(), ["spent"]);
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
fn while_the_engine_is_down_no_provider_is_asked_and_a_good_token_is_served() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    engine.set_down(true);
    let error = backed_off(a.decide(&call(&a, &engine, "a")).unwrap());
    assert_eq!(error.code, Code::CoordinatorUnavailable);
    assert!(error.message.contains("connection refused"), "{error}");
    a.main().put(&credential("1", MINUTE));
    match served(a.decide(&call(&a, &engine, "a")).unwrap()) {
        Served::Unexpired { refresh_error, .. } => assert_eq!(refresh_error.code, Code::CoordinatorUnavailable),
        other => panic!("{other:?}"),
    }
    a.main().put(&credential("1", EXPIRED));
    engine.set_down(false);
    a.claim(&call(&a, &engine, "a")).give_up().unwrap();
    assert_eq!(engine.states(), ["free"]);
}

#[test]
fn an_operator_may_let_a_host_go_on_alone() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    engine.set_down(true);
    let mut of_a = call(&a, &engine, "a");
    of_a.hosts.as_mut().unwrap().down = CoordinatorDown::Alone;
    let claim = a.claim(&of_a);
    let not_shared = refreshed(a.settle(&of_a, claim, &answer("2")).unwrap()).unwrap();
    assert_eq!(not_shared.code, Code::CoordinatorUnavailable);
    engine.set_down(false);
    assert!(of_a.settle_debts().unwrap());
    assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-2");
}

#[test]
fn an_answer_that_the_engine_could_not_be_told_is_told_later_by_anyone() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    engine.set_down(true);
    let not_shared = refreshed(a.settle(&of_a, claim, &answer("2")).unwrap()).unwrap();
    assert!(not_shared.message.contains("connection refused"), "{not_shared}");
    a.main().assert_holds(&credential("2", HOUR));
    let next = call(&a, &engine, "a");
    assert!(next.is_owing() && !next.settle_debts().unwrap());
    engine.set_down(false);
    assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
    assert!(next.settle_debts().unwrap() && !next.is_owing());
    assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-2");
}

#[test]
fn an_answer_that_was_told_although_nobody_heard_so_is_told_once() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    engine.inject(&[Fault::LosesAnswer]);
    assert!(refreshed(a.settle(&of_a, claim, &answer("2")).unwrap()).is_some());
    let told = engine.values();
    assert!(of_a.settle_debts().unwrap());
    assert_eq!(engine.values(), told);
}

#[test]
fn what_a_dead_owner_had_received_is_saved_and_told_by_the_next() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    // It dies after the receipt: the store could not be written, nor the engine told.
    engine.set_down(true);
    let store = a.main().path();
    std::fs::remove_file(&store).unwrap();
    std::fs::create_dir(&store).unwrap();
    let settled = a.settle(&of_a, claim, &answer("2")).unwrap();
    assert!(matches!(settled, Settled::Refreshed { not_saved: Some(_), not_shared: Some(_), .. }));
    std::fs::remove_dir(&store).unwrap();
    a.main().put(&credential("1", EXPIRED));
    engine.set_down(false);
    match served(a.decide(&call(&a, &engine, "a")).unwrap()) {
        Served::Adopted { .. } | Served::Recovered { .. } | Served::Fresh(_) => {}
        other => panic!("{other:?}"),
    }
    a.main().assert_holds(&credential("2", HOUR));
    // At once: that process may have ended by now.
    assert_eq!(engine.states(), ["spent"]);
    assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-2");
}

#[test]
fn an_engine_that_was_set_back_to_a_backup_is_told_again_before_the_next_claim() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let empty = engine.backup();
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap());
    let c = host("1");
    assert_eq!(adopted(c.decide(&call(&c, &engine, "c")).unwrap()).0, "SECRET-refresh-2");
    later(&[&a, &b, &c], 2 * HOUR);
    for next in [&a, &c] {
        engine.restore(&empty);
        let of_next = call(next, &engine, "next");
        let claim = next.claim(&of_next);
        assert_eq!(engine.states(), ["sent", "spent"]);
        assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"next\"");
        claim.give_up().unwrap();
        b.main().put(&credential("1", EXPIRED));
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
fn a_row_that_cannot_be_gone_by_keeps_the_provider_from_being_asked() {
    let spent = |sealed: Option<String>| {
        let mut row = Row::new(RowState::Spent, None);
        row.answer = sealed;
        row.to_json()
    };
    let grant = Grant::of("SECRET-refresh-1").unwrap();
    let given = Answer::new(&oauth(&credential("2", HOUR)), vec!["access".into()], None, "b".into());
    let of_others = Grant::of("other").unwrap().seal(&given, &[]);
    for (value, told) in [
        (spent(None), "opened"),
        (spent(of_others), "opened"),
        (spent(Some("AAAA".into())), "opened"),
        (r#"{"v":9}"#.to_owned(), "newer release"),
        ("\u{0}".to_owned(), "another program"),
    ] {
        let (a, engine) = (host("1"), Arc::new(Engine::default()));
        engine.put(grant.row(), &value);
        let error = backed_off(a.decide(&call(&a, &engine, "a")).unwrap());
        assert_eq!(error.code, Code::CoordinatorUnavailable);
        assert!(error.message.contains(told) && !error.message.contains("SECRET"), "{error}");
        assert_eq!(engine.values(), [value]);
        a.main().assert_holds(&credential("1", EXPIRED));
    }
}

#[test]
fn another_accounts_answer_is_not_taken_over() {
    let (a, engine) = (World::new(), Arc::new(Engine::default()));
    a.main().put(&with(credential("1", EXPIRED), &json!({ "accountId": "one" })));
    let grant = Grant::of("SECRET-refresh-1").unwrap();
    let other = oauth(&with(credential("2", HOUR), &json!({ "accountId": "two" })));
    let mut row = Row::new(RowState::Spent, None);
    row.answer = grant.seal(&Answer::new(&other, vec!["access".into()], None, "b".into()), &[]);
    engine.put(grant.row(), &row.to_json());
    assert_eq!(a.decide(&call(&a, &engine, "a")).unwrap_err().code, Code::IdentityMismatch);
    a.main().assert_holds(&with(credential("1", EXPIRED), &json!({ "accountId": "one" })));
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
fn a_row_that_is_shown_late_does_not_make_a_host_forget_its_call() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let empty = engine.backup();
    die_asking(a.claim(&call(&a, &engine, "a")));
    let sent = engine.backup();
    // The engine shows what it was before that, and swaps nothing.
    engine.restore(&empty);
    engine.inject(&[Fault::Fails]);
    backed_off(a.decide(&call(&a, &engine, "a")).unwrap());
    engine.restore(&sent);
    // Its own call, which is over: it need not wait for another host.
    a.claim(&call(&a, &engine, "a")).give_up().unwrap();
    assert_eq!(engine.states(), ["free"]);
}

#[test]
fn an_engine_that_is_set_back_during_a_call_is_told_all_again() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let empty = engine.backup();
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap());
    later(&[&a, &b], 2 * HOUR);
    let of_a = call(&a, &engine, "a");
    let claim = a.claim(&of_a);
    engine.restore(&empty);
    let next = with(answer("3"), &json!({ "expires": NOW + 3 * HOUR }));
    refreshed(a.settle(&of_a, claim, &next).unwrap());
    assert_eq!(engine.states(), ["spent"]);
    assert!(of_a.is_owing() && of_a.settle_debts().unwrap());
    assert_eq!(engine.states(), ["spent", "spent"]);
    assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-3");
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

#[test]
fn a_host_notices_that_an_engine_has_forgotten_more_than_the_last_row() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let empty = engine.backup();
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap());
    later(&[&a, &b], 2 * HOUR);
    let of_a = call(&a, &engine, "a");
    let next = with(answer("3"), &json!({ "expires": NOW + 3 * HOUR }));
    refreshed(a.settle(&of_a, a.claim(&of_a), &next).unwrap());
    let second = Grant::of("SECRET-refresh-2").unwrap().row().to_owned();
    let at = engine.rows().iter().position(|row| *row == second).unwrap();
    let value = engine.values().remove(at);
    engine.restore(&empty);
    engine.put(&second, &value);
    later(&[&a, &b], 4 * HOUR);
    a.claim(&call(&a, &engine, "a")).give_up().unwrap();
    assert_eq!(engine.states(), ["free", "spent", "spent"]);
}
