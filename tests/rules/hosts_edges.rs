//! One grant on several hosts: races, engines that show what was, and rows that nobody expects.

use crate::hosts::{EXPIRED, alone, assert_elsewhere, backed_off, call, host, later};
use crate::support::engine::{Engine, Fault};
use crate::support::world::{HOUR, MINUTE, NOW, PROVIDER, World, claimed, credential, oauth, with};
use crate::support::{files, locks};
use oauth_refresh_lock::coordinator::{
    Answer, Coordinator, Entry, Grant, HostClaim, Hosts, LostHost, Row, RowState, Unavailable, Watch,
};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::lock::{Guard, Target};
use oauth_refresh_lock::refresh::{Decision, Refresh};
use serde_json::{Value, json};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// Runs something before the first swap and after the first that is done, and shows rows as they were, or no more than so many.
struct Odd {
    engine: Arc<Engine>,
    before_swap: Hook,
    after_swap: Hook,
    shown: Option<Entry>,
    max_loads: u32,
}

impl Odd {
    fn new(engine: &Arc<Engine>) -> Self {
        let (before_swap, after_swap) = (Hook::default(), Hook::default());
        Self { engine: Arc::clone(engine), before_swap, after_swap, shown: None, max_loads: u32::MAX }
    }

    fn run(hook: &Hook) {
        let hook = hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }

    fn hosts(self, name: &str) -> Hosts {
        Hosts { coordinator: Arc::new(self), lost_host: LostHost::Wait, keys: Vec::new(), name: name.to_owned() }
    }
}

impl Coordinator for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn load(&self, row: &str) -> Result<Option<Entry>, Unavailable> {
        if self.engine.asked().0 >= self.max_loads {
            return Err(Unavailable("asked too often".to_owned()));
        }
        let loaded = self.engine.load(row)?;
        Ok(self.shown.clone().or(loaded))
    }

    fn compare_and_swap(&self, row: &str, expected: Option<&str>, value: &str) -> Result<Option<String>, Unavailable> {
        Self::run(&self.before_swap);
        let swapped = self.engine.compare_and_swap(row, expected, value);
        if matches!(swapped, Ok(Some(_))) {
            Self::run(&self.after_swap);
        }
        swapped
    }

    fn watch(&self, _: &str, _: &str, _: Duration, _: Box<dyn FnOnce() + Send>) -> Option<Watch> {
        None
    }
}

fn spent(from: &str, to: &Value) -> (String, String) {
    let grant = Grant::of(&format!("SECRET-refresh-{from}")).unwrap();
    let names = vec!["access".into(), "refresh".into(), "expires".into()];
    let mut row = Row::new(RowState::Spent, None);
    row.answer = grant.seal(&Answer::new(&oauth(to), names, None, "b".into()), &[]);
    (grant.row().to_owned(), row.to_json())
}

#[test]
fn two_names_of_one_grant_that_claim_at_once_leave_the_row_claimed_while_one_asks() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let second = json!({ "profiles": { "second": credential("1", EXPIRED) } }).to_string();
    files::put(&a.agent("other").path(), second);
    let (swapped, has_swapped) = channel();
    let (go, may_go) = channel::<()>();
    let (root, of_engine) = (a.root().to_owned(), Arc::clone(&engine));
    let thread = Arc::new(Mutex::new(None));
    let of_hook = Arc::clone(&thread);
    let mut first = a.call_of_main();
    let odd = Odd::new(&engine);
    // The first name has claimed the row, and it is not on record yet that it sends.
    *odd.after_swap.lock().unwrap() = Some(Box::new(move || {
        let second = std::thread::spawn(move || {
            let world = World::at(root);
            let mut second = world.call(PROVIDER, "second", &world.agent("other"), None);
            let odd = Odd::new(&of_engine);
            *odd.after_swap.lock().unwrap() = Some(Box::new(move || {
                swapped.send(()).unwrap();
                let _ = may_go.recv();
            }));
            second.hosts = Some(odd.hosts("a"));
            let decision = second.decide(locks::take(&second.lock_base)).unwrap();
            assert!(!matches!(decision, Decision::Send(_)), "{decision:?}");
        });
        *of_hook.lock().unwrap() = Some(second);
        // In vain if it does not claim.
        let _ = has_swapped.recv();
    }));
    first.hosts = Some(odd.hosts("a"));
    let claim = claimed(first.decide(locks::take(&first.lock_base)).unwrap());
    let _ = go.send(());
    let second = thread.lock().unwrap().take().unwrap();
    second.join().unwrap();
    assert_eq!(engine.states(), ["sent"]);
    assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
    drop(claim);
}

#[test]
fn a_caller_whose_key_waits_for_a_silent_engine_is_told_of_the_engine() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let behind = Arc::new(call(&a, &engine, "a"));
    let (of_hook, clock) = (Arc::clone(&behind), Arc::clone(&a.clock));
    let odd = Odd::new(&engine);
    *odd.before_swap.lock().unwrap() = Some(Box::new(move || {
        assert!(of_hook.engine_delay().is_none(), "it was only just asked");
        clock.set(NOW + 3_000);
        let error = of_hook.engine_delay().expect("why it waits");
        assert_eq!(error.code, Code::CoordinatorUnavailable);
        assert!(error.message.contains("(memory)") && error.message.contains("for 3.0 s"), "{error}");
    }));
    let mut first = a.call_of_main();
    first.share_by(odd.hosts("a"));
    drop(claimed(first.decide(locks::take(&first.lock_base)).unwrap()));
    assert!(behind.engine_delay().is_none(), "it has answered");
}

#[test]
fn an_owner_that_was_taken_over_from_does_not_free_the_row_of_its_lost_peer() {
    for (taken_over, state) in [(true, "lost"), (false, "free")] {
        let (a, engine) = (host("1"), Arc::new(Engine::default()));
        let stuck = a.claim(&call(&a, &engine, "a"));
        // A peer of a later term has gone on under the same id, later; or nobody has. Other hosts have given the row up.
        let mut row: Value = serde_json::from_str(&engine.values()[0]).unwrap();
        row["state"] = "lost".into();
        if taken_over {
            row["claim"]["at"] = (NOW + 10 * MINUTE).into();
        }
        engine.put(&engine.rows()[0], &row.to_string());
        stuck.give_up().unwrap();
        assert_eq!(engine.states(), [state]);
    }
}

/// The lock of a call's key for the owner of the next term: it takes this one's for stuck.
fn take_over(call: &Refresh) -> Guard {
    locks::begin_next_term(&call.lock_base);
    let lock = locks::take_by(&Target::refresh(&call.lock_base, &call.clock));
    assert_eq!(lock.term(), 1);
    lock
}

#[test]
fn an_owner_that_was_taken_over_from_leaves_the_claim_of_its_successor_alone() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let (claimed_it, has_claimed) = channel();
    let (go, may_go) = channel::<()>();
    let (root, of_peer, of_hook) = (a.root().to_owned(), Arc::clone(&engine), Arc::default());
    let thread: Arc<Mutex<Option<JoinHandle<_>>>> = Arc::clone(&of_hook);
    let odd = Odd::new(&engine);
    // It stands still when it is about to claim. A peer goes on under the same id, and is about to put on record that it sends.
    *odd.before_swap.lock().unwrap() = Some(Box::new(move || {
        let peer = std::thread::spawn(move || {
            let world = World::at(root);
            later(&[&world], 200_000);
            let mut of_peers = world.call_of_main();
            let odd = Odd::new(&of_peer);
            *odd.after_swap.lock().unwrap() = Some(Box::new(move || {
                claimed_it.send(()).unwrap();
                let _ = may_go.recv();
            }));
            of_peers.hosts = Some(odd.hosts("a"));
            let lock = take_over(&of_peers);
            claimed(of_peers.decide(lock).unwrap()).send().expect("its own term")
        });
        *of_hook.lock().unwrap() = Some(peer);
        has_claimed.recv().unwrap();
    }));
    let mut stuck = a.call_of_main();
    stuck.hosts = Some(odd.hosts("a"));
    let decision = stuck.decide(locks::take_by(&Target::refresh(&stuck.lock_base, &stuck.clock))).unwrap();
    assert!(matches!(decision, Decision::TakenOver), "{decision:?}");
    let _ = go.send(());
    let peer = thread.lock().unwrap().take().unwrap();
    let sent = peer.join().unwrap();
    assert_eq!(engine.states(), ["sent"]);
    assert_elsewhere(&b.decide(&call(&b, &engine, "b")).unwrap(), "host \"a\"");
    drop(sent);
}

#[test]
fn a_claim_under_another_name_that_nothing_can_be_sent_under_any_more_is_not_waited_for() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let second = json!({ "profiles": { "second": credential("1", EXPIRED) } }).to_string();
    files::put(&a.agent("other").path(), second);
    let mut second = a.call(PROVIDER, "second", &a.agent("other"), None);
    second.hosts = Some(engine.hosts("a"));
    // Its owner dies when it has claimed. Whoever holds its lock now does something else.
    engine.inject(&[Fault::LosesAnswer]);
    backed_off(second.decide(locks::take(&second.lock_base)).unwrap());
    let held = locks::take(&second.lock_base);
    let first = call(&a, &engine, "a");
    assert!(matches!(a.decide(&first).unwrap(), Decision::Later(_)));
    later(&[&a], 29_000);
    assert!(matches!(a.decide(&first).unwrap(), Decision::Later(_)));
    later(&[&a], 31_000);
    a.claim(&first).give_up().unwrap();
    drop(held);
}

#[test]
fn agents_with_logins_of_their_own_count_the_ages_of_their_rows_apart() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    a.sub().put(&credential("9", EXPIRED));
    let (c, d) = (host("1"), host("9"));
    let claims = [c.claim(&call(&c, &engine, "c")), d.claim(&call(&d, &engine, "d"))];
    let of_sub = || {
        let mut of_sub = a.call_of_sub();
        of_sub.hosts = Some(engine.hosts("a"));
        of_sub
    };
    for by in [0, 60_000, 120_000, 179_000] {
        later(&[&a], by);
        assert_elsewhere(&a.decide(&call(&a, &engine, "a")).unwrap(), "host \"c\"");
        assert_elsewhere(&a.decide(&of_sub()).unwrap(), "host \"d\"");
    }
    later(&[&a], 181_000);
    assert_eq!(a.decide(&call(&a, &engine, "a")).unwrap_err().code, Code::RefreshUncertain);
    assert_eq!(a.decide(&of_sub()).unwrap_err().code, Code::RefreshUncertain);
    drop(claims);
}

#[test]
fn a_pause_longer_than_any_provider_may_ask_for_is_cut() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let mut row = Row::new(RowState::Free, None);
    row.pause_ms = 1e12;
    engine.put(Grant::of("SECRET-refresh-1").unwrap().row(), &row.to_json());
    assert_eq!(backed_off(a.decide(&call(&a, &engine, "a")).unwrap()).code, Code::RefreshBackoff);
}

#[test]
fn an_engine_that_shows_what_was_is_asked_again_later() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let claim = b.claim(&call(&b, &engine, "b"));
    let mut odd = Odd::new(&engine);
    let row = Grant::of("SECRET-refresh-1").unwrap().row().to_owned();
    odd.shown = engine.load(&row).unwrap().map(|entry| Entry { age_ms: Some(181_000.0), ..entry });
    claim.give_up().unwrap();
    let mut of_a = a.call_of_main();
    of_a.hosts = Some(odd.hosts("a"));
    assert_eq!(backed_off(a.decide(&of_a).unwrap()).code, Code::CoordinatorUnavailable);
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
fn a_host_that_may_go_on_alone_does_not_where_a_row_can_not_be_read() {
    for value in [r#"{"v":1,"state":"spent","answer":"AAAA"}"#, r#"{"v":9}"#, "null"] {
        let (a, engine) = (host("1"), Arc::new(Engine::default()));
        engine.put(Grant::of("SECRET-refresh-1").unwrap().row(), value);
        assert_eq!(backed_off(a.decide(&alone(&a, &engine)).unwrap()).code, Code::CoordinatorUnavailable, "{value}");
    }
}

#[test]
fn rows_that_lead_back_are_not_followed_for_ever() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    for (from, to) in [("1", "2"), ("2", "3"), ("3", "1")] {
        let (row, value) = spent(from, &credential(to, EXPIRED));
        engine.put(&row, &value);
    }
    let mut odd = Odd::new(&engine);
    odd.max_loads = 5_000;
    let mut of_a = a.call_of_main();
    of_a.hosts = Some(odd.hosts("a"));
    let error = backed_off(a.decide(&of_a).unwrap());
    assert_eq!(error.code, Code::CoordinatorUnavailable);
    assert!(engine.asked().0 < 100, "{:?}", engine.asked());
}

#[test]
fn an_access_token_that_lives_no_longer_than_the_rejected_one_does_not_keep_a_call_going_round() {
    let (b, engine) = (host("1"), Arc::new(Engine::default()));
    b.main().put(&credential("1", HOUR));
    let (row, value) = spent("1", &with(credential("1", 50 * MINUTE), &json!({ "access": "SECRET-access-2" })));
    engine.put(&row, &value.replace("spent", "free"));
    let mut of_b = call(&b, &engine, "b");
    of_b.force = true;
    of_b.rejected.set("SECRET-access-1".to_owned().into()).unwrap();
    match b.decide(&of_b) {
        Ok(_) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_row_with_a_long_name_does_no_lasting_harm() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let empty = engine.backup();
    let claim = HostClaim { id: "x".into(), host: "h".repeat(60_000), pid: 1, at: 0.0 };
    let row = Row::new(RowState::Unsure, Some(claim));
    engine.put(Grant::of("SECRET-refresh-1").unwrap().row(), &row.to_json());
    let _ = a.decide(&call(&a, &engine, "a"));
    engine.restore(&empty);
    later(&[&a], 10_000);
    a.claim(&call(&a, &engine, "a")).give_up().unwrap();
}

#[test]
fn a_program_that_asks_late_does_not_ask_under_an_old_claim() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let sent = a.claim(&call(&a, &engine, "a")).send().unwrap();
    assert!(sent.is_ours());
    later(&[&a], 61_000);
    assert!(!sent.is_ours());
}
