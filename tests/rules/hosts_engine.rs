//! One grant on several hosts: an engine that is down, loses answers, or is set back, and what it is told later.

use crate::hosts::{EXPIRED, adopted, alone, assert_elsewhere, backed_off, call, host, later, refreshed};
use crate::support::engine::{Engine, Fault};
use crate::support::locks::{self, begin_next_term};
use crate::support::world::{HOUR, MINUTE, NOW, answer, credential, die_asking, served, with};
use oauth_refresh_lock::coordinator::{CoordinatorDown, Grant};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::lock::Target;
use oauth_refresh_lock::refresh::{Decision, Served, Settled};
use serde_json::json;
use std::sync::Arc;

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
fn an_engine_that_can_not_be_used_is_asked_ever_less_often() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    engine.set_down(true);
    let of_a = call(&a, &engine, "a");
    let wait_ms = || match a.decide(&of_a).unwrap() {
        Decision::BackOff { wait_ms, .. } => wait_ms,
        other => panic!("{other:?}"),
    };
    let waits: Vec<f64> = std::iter::repeat_with(wait_ms).take(6).collect();
    assert_eq!(waits, [500.0, 1_000.0, 2_000.0, 2_000.0, 2_000.0, 2_000.0]);
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
fn a_token_lives_no_longer_elsewhere_for_being_told_late() {
    let (a, b) = (host("1"), host("1"));
    let engine = Engine::with(&a.clock);
    let empty = engine.backup();
    engine.set_down(true);
    let mut of_a = alone(&a, &engine);
    of_a.hosts = Some(engine.hosts("a"));
    refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap()).expect("not told yet");
    engine.set_down(false);
    later(&[&a, &b], 50 * MINUTE);
    assert!(of_a.settle_debts().unwrap());
    later(&[&a, &b], 55 * MINUTE);
    assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-2");
    b.main().assert_holds(&credential("2", HOUR));
    // Nor for being told again, by one who took it over.
    engine.restore(&empty);
    later(&[&a, &b], 61 * MINUTE);
    b.claim(&call(&b, &engine, "b")).give_up().unwrap();
    let c = host("1");
    later(&[&c], 61 * MINUTE);
    c.claim(&call(&c, &engine, "c")).give_up().unwrap();
    c.main().assert_holds(&credential("2", HOUR));
}

#[test]
fn a_call_that_names_no_coordinator_does_not_send_what_hosts_share() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap());
    adopted(b.decide(&call(&b, &engine, "b")).unwrap());
    for world in [&a, &b] {
        world.main().put(&credential("2", EXPIRED));
        let error = world.decide(&world.call_of_main()).unwrap_err();
        assert_eq!(error.code, Code::CoordinatorUnavailable);
        assert!(error.message.contains("this call names none"), "{error}");
        world.main().put(&credential("2", MINUTE));
        match served(world.decide(&world.call_of_main()).unwrap()) {
            Served::Unexpired { refresh_error, .. } => assert_eq!(refresh_error.code, Code::CoordinatorUnavailable),
            other => panic!("{other:?}"),
        }
        // Another login than the hosts'.
        world.main().put(&credential("9", EXPIRED));
        world.claim(&world.call_of_main()).give_up().unwrap();
        world.main().put(&credential("2", EXPIRED));
    }
    // Its caller knows better; and what it gets is this host's alone.
    let mut alone = a.call_of_main();
    alone.coordinator_down = CoordinatorDown::Alone;
    refreshed(a.settle(&alone, a.claim(&alone), &answer("3")).unwrap());
    a.main().put(&credential("3", EXPIRED));
    a.claim(&a.call_of_main()).give_up().unwrap();
}

#[test]
fn a_call_that_names_no_coordinator_does_not_send_what_another_host_sends() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let claim = a.claim(&call(&a, &engine, "a"));
    assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
    assert_eq!(b.decide(&b.call_of_main()).unwrap_err().code, Code::CoordinatorUnavailable);
    // Nor what it has claimed itself, and given back: another host may claim it now.
    claim.give_up().unwrap();
    assert_eq!(a.decide(&a.call_of_main()).unwrap_err().code, Code::CoordinatorUnavailable);
    // Of a coordinator that never answered nobody has heard anything.
    let c = host("1");
    engine.set_down(true);
    backed_off(c.decide(&call(&c, &engine, "c")).unwrap());
    c.claim(&c.call_of_main()).give_up().unwrap();
}

#[test]
fn what_is_shared_stays_so_after_a_takeover_and_beside_many_logins() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap());
    for login in 0..12 {
        let name = format!("other-{login}");
        a.main().put(&credential(&name, EXPIRED));
        let of_a = call(&a, &engine, "a");
        refreshed(a.settle(&of_a, a.claim(&of_a), &answer(&format!("{name}-next"))).unwrap());
    }
    a.main().put(&credential("2", EXPIRED));
    assert_eq!(a.decide(&a.call_of_main()).unwrap_err().code, Code::CoordinatorUnavailable);

    adopted(b.decide(&call(&b, &engine, "b")).unwrap());
    b.main().put(&credential("2", EXPIRED));
    begin_next_term(&b.lock_base());
    let plain = b.call_of_main();
    let lock = locks::take_by(&Target::refresh(&plain.lock_base, &plain.clock));
    assert_eq!(plain.decide(lock).unwrap_err().code, Code::CoordinatorUnavailable);
}

#[test]
fn a_login_that_is_used_alone_once_is_shared_no_more_though_its_provider_keeps_the_refresh_token() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let kept = json!({ "access": "SECRET-access-2", "expires": NOW + HOUR });
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &kept).unwrap());
    a.main().put(&credential("1", EXPIRED));
    assert_eq!(a.decide(&a.call_of_main()).unwrap_err().code, Code::CoordinatorUnavailable);
    let mut alone = a.call_of_main();
    alone.coordinator_down = CoordinatorDown::Alone;
    let next = json!({ "access": "SECRET-access-3", "expires": NOW + HOUR });
    refreshed(a.settle(&alone, a.claim(&alone), &next).unwrap());
    a.main().put(&credential("1", EXPIRED));
    a.claim(&a.call_of_main()).give_up().unwrap();
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
    of_a.coordinator_down = CoordinatorDown::Alone;
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
    // What it was told before as well, by the same call.
    assert!(!of_a.is_owing());
    assert_eq!(engine.states(), ["spent", "spent"]);
    assert_eq!(adopted(b.decide(&call(&b, &engine, "b")).unwrap()).0, "SECRET-refresh-3");
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
