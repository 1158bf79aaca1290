//! Many agents and names at once.

use super::{EXPIRED, adopted, fresh, refreshed, settled};
use crate::support::child::{Child, say};
use crate::support::files::{put, text};
use crate::support::locks::{self, Waiter};
use crate::support::world::{Agent, HOUR, PROVIDER, World, answer, credential, die_asking, oauth, served, shown, with};
use crate::support::{HUNG, eventually};
use oauth_refresh_lock::clock::SystemClock;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::journal::ledger::Ledger;
use oauth_refresh_lock::journal::record::Record;
use oauth_refresh_lock::journal::siblings::{Sending, Siblings};
use oauth_refresh_lock::lock::term;
use oauth_refresh_lock::refresh::mirror::Reason;
use oauth_refresh_lock::refresh::{Decision, FailureClass, Refresh, Served, Settled};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::sync::mpsc;

const AGENTS: usize = 8;

/// One of many agents with a store each: looks, waits for the lock, decides, and asks the "provider" if it must.
pub(super) fn is_one_of_many_agents(world: &World, name: &str) {
    let call = Refresh { own: world.agent(name).store().into(), ..world.call_of_sub() };
    assert!(call.look(None).unwrap().is_none());
    let waiter = Waiter::at(&world.lock_base());
    say("waiting");
    let credential = match call.decide(waiter.lock()).unwrap() {
        Decision::Served(Served::Fresh(credential) | Served::Adopted { credential, not_saved: None, .. }) => credential,
        Decision::Served(other) => panic!("{other:?}"),
        Decision::Send(claim) => {
            let calls = fs::OpenOptions::new().create(true).append(true).open(world.root().join("calls"));
            writeln!(calls.unwrap(), "{}", claim.credential().refresh().unwrap()).unwrap();
            match world.settle(&call, claim, &answer("2")).unwrap() {
                Settled::Refreshed {
                    credential, mirrored: Some(Ok(Reason::IncomingFresher)), not_saved: None, ..
                } => credential,
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    };
    say(&shown(&credential).to_string());
}

#[test]
fn of_many_processes_one_asks_the_provider_and_all_get_its_answer() {
    let world = World::new();
    let old = credential("1", EXPIRED);
    world.main().put(&old);
    let names: Vec<_> = (0..AGENTS).map(|agent| format!("agent-{agent}")).collect();
    let held = world.lock();
    let mut agents = Vec::new();
    for name in &names {
        world.agent(name).put(&old);
        agents.push(Child::spawn("be one of many agents", &[world.root().to_str().unwrap(), name]));
    }
    for agent in &agents {
        agent.expect("waiting");
    }
    drop(held);
    let new = refreshed(&old, "2");
    for agent in agents {
        assert_eq!(serde_json::from_str::<Value>(&agent.listen()).unwrap(), new);
        agent.ends_well();
    }
    assert_eq!(text(&world.root().join("calls")), "SECRET-refresh-1\n");
    world.main().assert_holds(&new);
    for name in &names {
        world.agent(name).assert_holds(&new);
    }
}

#[test]
fn of_many_threads_one_asks_the_provider_and_all_get_its_answer() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let held = world.lock();
    let (sender, waiting) = mpsc::channel();
    let calls = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AGENTS {
            let (world, sender, calls) = (&world, sender.clone(), &calls);
            scope.spawn(move || {
                let call = world.call_of_main();
                let waiter = Waiter::at(&world.lock_base());
                sender.send(()).unwrap();
                let got = match call.decide(waiter.lock()).unwrap() {
                    Decision::Served(served) => fresh(Some(served)),
                    Decision::Send(claim) => {
                        calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        settled(world.settle(&call, claim, &answer("2")).unwrap()).0
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(got, refreshed(&credential("1", EXPIRED), "2"));
            });
        }
        for _ in 0..AGENTS {
            waiting.recv_timeout(HUNG).unwrap();
        }
        drop(held);
    });
    assert_eq!(calls.into_inner(), 1);
}

#[test]
fn what_several_agents_received_waits_until_each_store_is_back() {
    let world = World::new();
    world.main().put(&json!({ "type": "api_key", "provider": PROVIDER, "key": "SECRET-key" }));
    let agents: Vec<Agent> = (0..5).map(|number| world.agent(&format!("agent-{number}"))).collect();
    let call_of = |agent: &Agent| Refresh { own: agent.store().into(), ..world.call_of_sub() };
    for (number, agent) in agents.iter().enumerate() {
        agent.put(&credential(&format!("old-{number}"), EXPIRED));
        let call = call_of(agent);
        let claim = world.claim(&call);
        std::fs::remove_file(agent.path()).unwrap();
        let settled = world.settle(&call, claim, &answer(&format!("new-{number}"))).unwrap();
        assert!(matches!(settled, Settled::Refreshed { not_saved: Some(_), .. }), "{settled:?}");
    }
    for (number, agent) in agents.iter().enumerate() {
        let old = credential(&format!("old-{number}"), EXPIRED);
        agent.put(&old);
        served(world.decide(&call_of(agent)).unwrap());
        agent.assert_holds(&with(old, &answer(&format!("new-{number}"))));
    }
    let journal = std::fs::read(term::journal(&world.lock_base(), 0)).unwrap();
    assert!(!String::from_utf8_lossy(&journal).contains("SECRET"));
}

#[test]
fn what_logins_have_superseded_never_locks_the_key_out() {
    let world = World::new();
    world.main().put(&json!({ "type": "api_key", "provider": PROVIDER, "key": "SECRET-key" }));
    let call = world.call_of_sub();
    let large = json!({ "unknown": "x".repeat(20_000) });
    for number in 0..20 {
        world.sub().put(&with(credential(&format!("old-{number}"), EXPIRED), &large));
        let claim = world.claim(&call);
        world.sub().put(&credential(&format!("login-{number}"), HOUR));
        let settled = world.settle(&call, claim, &answer(&format!("new-{number}"))).unwrap();
        assert!(matches!(settled, Settled::Superseded(_)), "{settled:?}");
    }
    let record = world.record();
    let kept: Vec<_> = record.receipts().iter().filter_map(|one| Some(one.credential.open()?.generation())).collect();
    assert_eq!(kept, ["new-18", "new-19"].map(|name| oauth(&credential(name, HOUR)).generation()));
}

// The same refresh token under another profile id

/// An agent of its own whose login has the same refresh token under another profile id.
fn call_under_another_name(world: &World, credential: &serde_json::Value) -> Refresh {
    let agent = world.agent("other");
    let store = json!({ "version": 1, "profiles": { "other": credential } });
    put(&agent.path(), store.to_string());
    world.call(PROVIDER, "other", &agent, None)
}

#[test]
fn two_owners_over_what_the_dead_left_do_not_wait_for_each_other() {
    let world = World::new();
    let expired = credential("1", EXPIRED);
    world.main().put(&expired);
    let (here, there) = (world.call_of_main(), call_under_another_name(&world, &expired));
    // The first dies while it asks, and so does the one that repeats it under the other name.
    die_asking(world.claim(&here));
    die_asking(world.claim(&there));
    let deciding_there = locks::take(&there.lock_base);
    let busy = world.decide(&here).unwrap();
    assert!(matches!(&busy, Decision::Busy { other, .. } if *other == there.lock_base), "{busy:?}");
    // The first holds its lock and waits for ours: we must not wait for its.
    assert!(matches!(there.decide(deciding_there), Ok(Decision::BackOff { .. })));
    let Decision::Busy { lock, .. } = busy else { panic!("{busy:?}") };
    assert!(matches!(here.decide(lock), Ok(Decision::BackOff { .. })));
}

#[test]
fn an_owner_that_settles_while_we_look_is_not_taken_for_a_dead_one() {
    let world = World::new();
    let expired = credential("1", EXPIRED);
    world.main().put(&expired);
    let (here, there) = (world.call_of_main(), call_under_another_name(&world, &expired));
    let flight = world.claim(&here);
    let mut siblings = Siblings::read(&crate::support::locks::take(&there.lock_base)).unwrap();
    let generation = oauth(&expired).generation();
    assert_eq!(siblings.sending(generation, &SystemClock).unwrap(), Some(Sending::Under(here.lock_base.clone())));
    // Between our look at its journal and our look at its lock it comes to its end.
    settled(world.settle(&here, flight, &answer("2")).unwrap());
    eventually("its lock is free", || siblings.sending(generation, &SystemClock).unwrap().is_none());
    assert!(siblings.lineage(&Ledger::default()).is_spent(generation));
    assert!(siblings.failure_of(generation, &Record::default(), &SystemClock).is_none());
}

#[test]
fn a_successor_from_another_profile_brings_its_tokens_and_nothing_else() {
    let world = World::new();
    let expired = with(credential("1", EXPIRED), &json!({ "displayName": "mine", "unknown": 1 }));
    world.main().put(&with(credential("1", EXPIRED), &json!({ "displayName": "theirs", "unknown": 2 })));
    let (here, there) = (world.call_of_main(), call_under_another_name(&world, &expired));
    let flight = world.claim(&here);
    settled(world.settle(&here, flight, &answer("2")).unwrap());
    let took = adopted(Some(served(world.decide(&there).unwrap())));
    assert_eq!(took, with(expired, &answer("2")));
}

#[test]
fn a_credential_without_a_refresh_token_is_no_way_out_of_a_dead_one() {
    let world = World::new();
    let endless = json!({ "expires": null });
    world.sub().put(&with(credential("1", EXPIRED), &endless));
    world.main().put(&with(credential("1", EXPIRED), &endless));
    let call = world.call_of_sub();
    let claim = world.claim(&call);
    assert!(world.fail(&call, claim, FailureClass::AnsweredDead).is_none());
    world.main().put(&with(credential("2", EXPIRED), &json!({ "expires": null, "refresh": null })));
    assert_eq!(world.decide(&call).unwrap_err().code, Code::GrantDead);
}
