//! One caller's way through the core: what is served, what is asked of the provider, and what ends up in which store.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers and roles are part of their tests")]

mod support;

use oauth_refresh_lock::clock::{Clock, SystemClock};
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::journal::Journal;
use oauth_refresh_lock::journal::ledger::Ledger;
use oauth_refresh_lock::journal::record::{Outcome, Pause, Progress, Record};
use oauth_refresh_lock::journal::siblings::{Sending, Siblings};
use oauth_refresh_lock::key::{self, Key};
use oauth_refresh_lock::lock::{self, Target, term};
use oauth_refresh_lock::refresh::mirror::Reason;
use oauth_refresh_lock::refresh::{Decision, FailureClass, Refresh, Served, Settled, Uncertain};
use oauth_refresh_lock::store::ADOPTION_PATIENCE;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;
use support::child::{Child, hear, play_or_test, say};
use support::files::{names, put, snapshot, text};
use support::locks::{self, Waiter};
use support::sidecars::{Living, beside, summer};
use support::world::{
    Agent, HOUR, MINUTE, NOW, PROFILE, PROVIDER, World, answer, claimed, credential, die_asking, oauth, served, shown,
    store_with, store_without, with,
};
use support::{HUNG, assert_names_path_and_no_secret, assert_no_secret, clocks};
use zeroize::Zeroizing;

const EXPIRED: i64 = -MINUTE;

/// What a refresh of `old` to this generation makes of it.
fn refreshed(old: &Value, generation: &str) -> Value {
    with(old.clone(), &answer(generation))
}

#[track_caller]
fn fresh(served: Option<Served>) -> Value {
    match served {
        Some(Served::Fresh(credential)) => shown(&credential),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn adopted(served: Option<Served>) -> Value {
    match served {
        Some(Served::Adopted { credential, not_saved: None }) => shown(&credential),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_absent(served: Option<Served>) {
    match served {
        Some(Served::Absent) => {}
        other => panic!("{other:?}"),
    }
}

/// The refreshed credential and what main made of it.
#[track_caller]
fn settled(settled: Settled) -> (Value, Option<Reason>) {
    match settled {
        Settled::Refreshed { credential, mirrored, not_saved: None } => {
            (shown(&credential), mirrored.map(|reason| reason.expect("a reason")))
        }
        other => panic!("{other:?}"),
    }
}

fn rejecting(call: Refresh, access: &str) -> Refresh {
    call.rejected.set(Zeroizing::new(access.to_owned())).unwrap();
    call
}

fn forced(call: Refresh) -> Refresh {
    Refresh { force: true, ..call }
}

/// Everything in the agents' directories.
fn stores(world: &World) -> impl PartialEq + std::fmt::Debug {
    snapshot(&world.state().join("agents"))
}

#[track_caller]
fn assert_lock_is_free(world: &World) {
    drop(lock::acquire_blocking(&Target::refresh(&world.lock_base(), &clocks::system()), HUNG).expect("a free lock"));
}

#[test]
fn a_child_that_fails_is_noticed() {
    play_or_test(|role, arguments| match role {
        "is one of many agents" => is_one_of_many_agents(&World::at(PathBuf::from(&arguments[0])), &arguments[1]),
        "claims and hangs" => {
            let world = World::at(PathBuf::from(&arguments[0]));
            let claim = world.claim(&world.call_of_sub());
            say("claimed");
            hear();
            drop(claim);
        }
        other => panic!("no such role: {other}"),
    });
}

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

// Refreshing

#[test]
fn a_refreshed_credential_is_saved_in_the_own_store_and_mirrored_to_main() {
    let world = World::new();
    let (own, main_credential) =
        (with(credential("1", EXPIRED), &json!({ "own": 1 })), with(credential("1", EXPIRED), &json!({ "mains": 2 })));
    world.sub().put(&own);
    world.main().put(&main_credential);
    let call = world.call_of_sub();
    assert!(call.look(None).unwrap().is_none());
    let claim = world.claim(&call);
    assert_eq!(shown(claim.credential()), own);
    // While the provider is asked nothing has changed yet.
    world.sub().assert_holds(&own);
    let outcome = world.settle(&call, claim, &answer("2")).unwrap();
    assert_eq!(settled(outcome), (refreshed(&own, "2"), Some(Reason::IncomingFresher)));
    world.sub().assert_holds(&refreshed(&own, "2"));
    // Main has what it had, and what the own one has.
    world.main().assert_holds(&with(refreshed(&main_credential, "2"), &json!({ "own": 1 })));
    assert_lock_is_free(&world);
    assert_eq!(fresh(world.call_of_sub().look(None).unwrap()), refreshed(&own, "2"));
}

#[test]
fn main_without_the_profile_gets_it() {
    let world = World::new();
    world.sub().put(&credential("1", EXPIRED));
    world.main().put_without_profile();
    let call = world.call_of_sub();
    let outcome = world.settle(&call, world.claim(&call), &answer("2")).unwrap();
    let new = refreshed(&credential("1", EXPIRED), "2");
    assert_eq!(settled(outcome), (new.clone(), Some(Reason::NoExistingCredential)));
    assert_eq!(shown_profile(&world.main()), new);
    assert!(text(&world.main().path()).starts_with(&store_without()[..50]));

    // And main without a store too.
    let world = World::new();
    world.sub().put(&credential("1", EXPIRED));
    let call = world.call_of_sub();
    world.settle(&call, world.claim(&call), &answer("2")).unwrap();
    assert_eq!(shown_profile(&world.main()), new);
}

/// The stored profile.
fn shown_profile(agent: &Agent) -> Value {
    match agent.store().read(PROFILE).unwrap() {
        oauth_refresh_lock::store::Profile::Oauth(credential) => shown(&credential),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_main_agent_saves_once_and_never_mirrors_to_itself() {
    let world = World::new();
    let own = credential("1", EXPIRED);
    world.main().put(&own);
    let call = world.call_of_main();
    let outcome = world.settle(&call, world.claim(&call), &answer("2")).unwrap();
    assert_eq!(settled(outcome), (refreshed(&own, "2"), None));
    world.main().assert_holds(&refreshed(&own, "2"));
    assert!(!world.sub().directory.exists());
    // One store was locked, and that once.
    let locks = names(&world.state().join("locks").join("auth-store"));
    assert_eq!(locks.iter().filter(|name| name.starts_with("sha256-")).count(), 1);
}

#[test]
fn a_subagent_without_the_profile_uses_mains_and_copies_nothing() {
    let world = World::new();
    let main_credential = credential("1", HOUR);
    world.main().put(&main_credential);
    let check_sub = |expected: &[&str]| assert_eq!(names(&world.sub().directory), expected);
    let call = world.call_of_sub();
    assert_eq!(fresh(call.look(None).unwrap()), main_credential);
    assert_eq!(fresh(Some(served(world.decide(&call).unwrap()))), main_credential);
    check_sub(&[]);

    let main_credential = credential("1", EXPIRED);
    world.main().put(&main_credential);
    let call = world.call_of_sub();
    assert!(call.look(None).unwrap().is_none());
    let claim = world.claim(&call);
    assert_eq!(shown(claim.credential()), main_credential);
    let outcome = world.settle(&call, claim, &answer("2")).unwrap();
    assert_eq!(settled(outcome), (refreshed(&main_credential, "2"), None));
    world.main().assert_holds(&refreshed(&main_credential, "2"));
    check_sub(&[]);

    // The same with a store of its own that lacks just this profile.
    let world = World::new();
    world.main().put(&main_credential);
    world.sub().put_without_profile();
    let before = snapshot(&world.sub().directory);
    let call = world.call_of_sub();
    world.settle(&call, world.claim(&call), &answer("2")).unwrap();
    assert_eq!(fresh(world.call_of_sub().look(None).unwrap()), refreshed(&main_credential, "2"));
    assert_eq!(snapshot(&world.sub().directory), before);
    world.main().assert_holds(&refreshed(&main_credential, "2"));
}

#[test]
fn what_a_claim_shows_was_read_under_the_lock() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_main();
    assert!(call.look(None).unwrap().is_none());
    world.main().put(&credential("2", EXPIRED));
    assert_eq!(shown(world.claim(&call).credential()), credential("2", EXPIRED));
    world.main().put(&credential("3", HOUR));
    assert_eq!(fresh(Some(served(world.decide(&call).unwrap()))), credential("3", HOUR));
    assert_lock_is_free(&world);
}

#[test]
fn fields_that_the_provider_does_not_give_are_kept() {
    let world = World::new();
    let own = with(credential("1", EXPIRED), &json!({ "accountId": "A", "email": "u@e", "projectId": "p" }));
    for absent in [Value::Null, json!(""), json!(" ")] {
        world.main().put(&own);
        let call = world.call_of_main();
        let given = json!({ "access": "SECRET-2", "expires": NOW + HOUR, "refresh": absent, "accountId": absent, "email": absent,
            "projectId": absent, "type": "api_key", "new": [1] });
        world.settle(&call, world.claim(&call), &given).unwrap();
        let expected = with(own.clone(), &json!({ "access": "SECRET-2", "expires": NOW + HOUR, "new": [1] }));
        world.main().assert_holds(&expected);
    }
}

#[test]
fn the_lock_is_held_from_claim_to_settle_and_goes_with_the_claim() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_main();
    let claim = world.claim(&call);
    let waiter = Waiter::at(&world.lock_base());
    world.settle(&call, claim, &answer("2")).unwrap();
    drop(waiter.lock());

    world.main().put(&credential("3", EXPIRED));
    let claim = world.claim(&call);
    let waiter = Waiter::at(&world.lock_base());
    claim.give_up().unwrap();
    drop(waiter.lock());

    let claim = world.claim(&call);
    let waiter = Waiter::at(&world.lock_base());
    world.settle(&call, claim, &with(answer("2"), &json!({ "provider": "other" }))).unwrap_err();
    drop(waiter.lock());
}

// Adoption

/// Identities of the credential that is held and of the one on offer, and whether it may be adopted.
fn offers() -> Vec<(&'static str, Value, Value, bool)> {
    let (a, b) = (json!({ "accountId": "A" }), json!({ "accountId": "B" }));
    let (u, v) = (json!({ "email": "u@e" }), json!({ "email": "v@e" }));
    let (au, av) = (json!({ "accountId": "A", "email": "u@e" }), json!({ "accountId": "A", "email": "v@e" }));
    let none = json!({});
    vec![
        ("match", au.clone(), json!({ "accountId": " A\n", "email": "U@E" }), true),
        ("match of nothing", none.clone(), none.clone(), true),
        ("upgrade from nothing", none.clone(), au.clone(), true),
        ("upgrade by email", a.clone(), au.clone(), true),
        ("upgrade by account", u.clone(), au.clone(), true),
        ("mismatch of accounts", a.clone(), b, false),
        ("mismatch of emails", u.clone(), v, false),
        ("mismatch of members of one account", au.clone(), av, false),
        ("non-overlap", a.clone(), u.clone(), false),
        ("non-overlap the other way round", u, a.clone(), false),
        ("regression to an account", au.clone(), a, false),
        ("regression to nothing", au, none, false),
        ("another tenant", json!({}), json!({ "enterpriseUrl": "ghe.example.com" }), false),
        ("out of a tenant", json!({ "enterpriseUrl": "ghe.example.com" }), json!({}), false),
        (
            "one tenant in two spellings",
            json!({ "enterpriseUrl": "https://GHE.example.com/" }),
            json!({ "enterpriseUrl": "ghe.example.com" }),
            true,
        ),
        ("another project", json!({ "projectId": "one" }), json!({ "projectId": "two" }), false),
        ("a project more", json!({}), json!({ "projectId": "one" }), true),
        ("another provider", json!({}), json!({ "provider": "anthropic" }), false),
    ]
}

/// The ways on which a call can meet a usable credential of main's. Each answers with what was served, if anything was.
type Way = fn(&World, &Value, &Value) -> Option<Served>;

/// `None` for a claim.
fn decided(decision: Decision) -> Option<Served> {
    match decision {
        Decision::Served(served) => Some(served),
        _ => None,
    }
}

const WAYS: [(&str, Way); 4] = [
    ("before the lock", |world, _, offered| {
        world.main().put(offered);
        world.call_of_sub().look(None).unwrap()
    }),
    ("before the lock, from a peer in this process", |world, _, offered| {
        world.main().put_without_profile();
        world.call_of_sub().look(Some(&oauth(offered))).unwrap()
    }),
    ("under the lock", |world, held, offered| {
        world.main().put(held);
        let call = world.call_of_sub();
        assert!(call.look(None).unwrap().is_none());
        world.main().put(offered);
        decided(world.decide(&call).unwrap())
    }),
    ("after a refresh that failed", |world, held, offered| {
        world.main().put(held);
        let call = world.call_of_sub();
        let claim = world.claim(&call);
        world.main().put(offered);
        world.fail(&call, claim, FailureClass::NotSent).and_then(decided)
    }),
];

#[test]
fn mains_credential_is_adopted_if_and_only_if_it_is_the_same_account_and_says_no_less() {
    for (name, held, offered, adoptable) in offers() {
        for (way, meet) in WAYS {
            let world = World::new();
            let held = with(with(credential("1", EXPIRED), &held), &json!({ "own": 1 }));
            let offered = with(credential("2", HOUR), &offered);
            world.sub().put(&held);
            let sub = snapshot(&world.sub().directory);
            let met = meet(&world, &held, &offered);
            if adoptable {
                assert_eq!(adopted(met), offered, "{name} {way}");
                let saved = with(held, &offered);
                assert_eq!(text(&world.sub().path()), store_with(&saved), "{name} {way}");
            } else {
                assert!(met.is_none(), "{name} {way}: {met:?}");
                assert_eq!(snapshot(&world.sub().directory), sub, "{name} {way}");
            }
            if way != WAYS[1].0 {
                assert_eq!(text(&world.main().path()), store_with(&offered), "{name} {way}");
            }
            assert_lock_is_free(&world);
        }
    }
}

#[test]
fn who_adopts_is_served_without_saving_if_its_store_stays_locked() {
    let world = World::new();
    let (held, offered) = (credential("1", EXPIRED), credential("2", HOUR));
    world.sub().put(&held);
    world.main().put(&offered);
    let other = Living::start();
    let sidecar = beside(&world.sub().path(), ".lock");
    put(&sidecar, summer(other.pid, SystemClock.now_ms(), other.start_time));
    let started = Instant::now();
    let met = world.call_of_sub().look(None).unwrap();
    let waited = started.elapsed();
    let Some(Served::Adopted { credential: served, not_saved: Some(error) }) = met else { panic!("{met:?}") };
    assert_eq!(shown(&served), offered);
    assert_eq!(error.code, Code::FileLockTimeout, "{error}");
    assert_eq!(error.holder.map(|holder| holder.pid), Some(other.pid));
    assert!(waited >= ADOPTION_PATIENCE && waited < 4 * ADOPTION_PATIENCE, "{waited:?}");
    world.sub().assert_holds(&held);
    fs::remove_file(&sidecar).unwrap();
    assert_eq!(adopted(world.call_of_sub().look(None).unwrap()), offered);
    world.sub().assert_holds(&offered);
}

#[test]
fn what_is_not_usable_or_not_fresher_is_not_adopted() {
    let held = credential("1", EXPIRED);
    // About to expire, and there from the first look: it is no better than ours.
    let world = World::new();
    world.sub().put(&held);
    assert!(WAYS[0].1(&world, &held, &credential("2", 5 * MINUTE)).is_none());
    // Come since then, it is what we would get ourselves.
    for (way, meet) in &WAYS[1..] {
        let world = World::new();
        world.sub().put(&held);
        assert!(meet(&world, &held, &credential("2", 5 * MINUTE)).is_some() || *way == WAYS[3].0, "{way}");
    }
    let unusable = [
        with(credential("2", 0), &json!({})),
        with(credential("2", HOUR), &json!({ "access": " " })),
        with(credential("2", HOUR), &json!({ "expires": null })),
        with(credential("2", HOUR), &json!({ "type": "token" })),
    ];
    for offered in unusable {
        for (way, meet) in &WAYS {
            if *way == WAYS[1].0 && offered["type"] != "oauth" {
                continue;
            }
            let world = World::new();
            world.sub().put(&held);
            assert!(meet(&world, &held, &offered).is_none(), "{way} {offered}");
            world.sub().assert_holds(&held);
        }
    }
    // Rejected, but not expired: what lives no longer is older.
    let rejected = "SECRET-access-1";
    for (expires, adoptable) in [(HOUR - 1, false), (HOUR, false), (HOUR + 1, true)] {
        let world = World::new();
        world.sub().put(&credential("1", HOUR));
        world.main().put(&credential("2", expires));
        let look = rejecting(world.call_of_sub(), rejected).look(None).unwrap();
        assert_eq!(look.is_some(), adoptable, "{expires}");
    }
}

#[test]
fn who_adopts_under_the_lock_lets_it_go_before_writing() {
    let world = World::new();
    world.sub().put(&credential("1", EXPIRED));
    world.main().put(&credential("2", HOUR));
    let own_store = world.sub().store();
    let writing = own_store.lock().unwrap();
    let key_lock = world.lock();
    std::thread::scope(|scope| {
        let adopter = scope.spawn(|| world.call_of_sub().decide(key_lock).unwrap());
        // Its own store is locked, so it can't have finished; yet its lock comes to us.
        drop(locks::take(&world.lock_base()));
        world.sub().assert_holds(&credential("1", EXPIRED));
        drop(writing);
        assert_eq!(adopted(Some(served(adopter.join().unwrap()))), credential("2", HOUR));
    });
    world.sub().assert_holds(&credential("2", HOUR));
}

#[test]
fn an_adopted_credential_is_served_even_if_it_cannot_be_saved() {
    let world = World::new();
    world.sub().put(&credential("1", EXPIRED));
    world.main().put(&credential("2", HOUR));
    // In the place of the temporary file, so that no write can be done.
    fs::create_dir(world.sub().directory.join("auth-profiles.json.oauth-refresh-lock.tmp")).unwrap();
    let call = world.call_of_sub();
    for met in [call.look(None).unwrap(), Some(served(world.decide(&call).unwrap()))] {
        let Some(Served::Adopted { credential: served, not_saved: Some(error) }) = met else { panic!("{met:?}") };
        assert_eq!(shown(&served), credential("2", HOUR));
        assert_eq!(error.code, Code::StoreUnwritable);
        assert_names_path_and_no_secret(&error, &world.sub().path());
        world.sub().assert_holds(&credential("1", EXPIRED));
    }
}

/// Has the sub-agent adopt generation 2 from main, and puts another profile into its store just before it writes.
fn adopt_while(world: &World, now: impl FnOnce()) -> oauth_refresh_lock::error::Result<Option<Served>> {
    world.sub().put(&credential("1", EXPIRED));
    world.main().put(&credential("2", HOUR));
    let own_store = world.sub().store();
    let writing = own_store.lock().unwrap();
    let key_lock = world.lock();
    std::thread::scope(|scope| {
        let adopter = scope.spawn(|| world.call_of_sub().decide(key_lock));
        // It has decided once it has let the key's lock go.
        drop(locks::take(&world.lock_base()));
        now();
        drop(writing);
        adopter.join().unwrap().map(|decision| Some(served(decision)))
    })
}

#[test]
fn an_adopter_looks_again_before_it_writes() {
    // A login meanwhile wins.
    let world = World::new();
    let login = with(credential("login", HOUR), &json!({ "accountId": "B" }));
    assert_eq!(fresh(adopt_while(&world, || world.sub().put(&login)).unwrap()), login);
    world.sub().assert_holds(&login);
    // A logout stays one.
    let world = World::new();
    is_absent(adopt_while(&world, || world.sub().put_without_profile()).unwrap());
    assert_eq!(text(&world.sub().path()), store_without());
    let world = World::new();
    is_absent(adopt_while(&world, || fs::remove_file(world.sub().path()).unwrap()).unwrap());
    assert_eq!(names(&world.sub().directory), Vec::<String>::new());
    // Another account is not overwritten.
    let world = World::new();
    let other = with(credential("other", EXPIRED), &json!({ "accountId": "B" }));
    let error = adopt_while(&world, || world.sub().put(&other)).unwrap_err();
    assert_eq!(error.code, Code::Superseded);
    assert_names_path_and_no_secret(&error, &world.sub().path());
    world.sub().assert_holds(&other);
    // What others have changed in the profile is kept.
    let world = World::new();
    let edited = with(credential("1", EXPIRED), &json!({ "displayName": "x" }));
    assert_eq!(adopted(adopt_while(&world, || world.sub().put(&edited)).unwrap()), credential("2", HOUR));
    world.sub().assert_holds(&with(edited, &credential("2", HOUR)));
}

#[test]
fn an_adopter_does_not_serve_a_login_at_another_provider() {
    let world = World::new();
    let other = with(credential("login", HOUR), &json!({ "provider": "anthropic" }));
    let outcome = adopt_while(&world, || world.sub().put(&other));
    if let Ok(Some(Served::Fresh(credential) | Served::Adopted { credential, .. })) = &outcome {
        assert_ne!(credential.provider(), Some("anthropic"));
    }
    world.sub().assert_holds(&other);
}

#[test]
fn an_adopter_that_finds_an_api_key_meanwhile_leaves_it() {
    let world = World::new();
    let key = json!({ "type": "api_key", "key": "SECRET" });
    let outcome = adopt_while(&world, || world.sub().put(&key));
    assert!(matches!(outcome, Ok(Some(Served::Absent)) | Err(Error { code: Code::Superseded, .. })), "{outcome:?}");
    world.sub().assert_holds(&key);
}

// Mirroring

#[test]
fn main_keeps_what_must_not_be_replaced_byte_for_byte() {
    let own = with(credential("1", EXPIRED), &json!({ "accountId": "A", "enterpriseUrl": "ghe.example.com" }));
    let rows = [
        (json!({ "type": "api_key" }), Reason::NonOauthExistingCredential),
        (json!({ "provider": "anthropic" }), Reason::ProviderMismatch),
        (json!({ "provider": null }), Reason::ProviderMismatch),
        (json!({ "enterpriseUrl": "github.com" }), Reason::TenantMismatch),
        (json!({ "enterpriseUrl": null }), Reason::TenantMismatch),
        (json!({ "projectId": "one" }), Reason::TenantMismatch),
        (json!({ "accountId": "B" }), Reason::IdentityMismatchOrRegression),
        (json!({ "email": "u@e" }), Reason::IdentityMismatchOrRegression),
        // Beyond what was refreshed, but rejected by nobody who asks main; so only a mirror meets it.
        (json!({ "expires": NOW + HOUR, "access": "" }), Reason::IncomingNotFresher),
        (json!({ "expires": NOW + 2 * HOUR, "access": "" }), Reason::IncomingNotFresher),
    ];
    for (different, reason) in rows {
        let world = World::new();
        // Expired, or it would be adopted and nothing mirrored.
        let main_credential = with(
            with(credential("main", EXPIRED), &json!({ "accountId": "A", "enterpriseUrl": "ghe.example.com" })),
            &different,
        );
        world.main().put(&main_credential);
        world.sub().put(&own);
        let before = snapshot(&world.main().directory);
        let call = world.call_of_sub();
        let outcome = world.settle(&call, world.claim(&call), &answer("2")).unwrap();
        assert_eq!(settled(outcome), (refreshed(&own, "2"), Some(reason)), "{different}");
        assert_eq!(snapshot(&world.main().directory), before, "{different}");
        world.sub().assert_holds(&refreshed(&own, "2"));
    }
}

#[test]
fn main_with_an_expiry_that_is_none_takes_the_refreshed_one() {
    for expires in [json!(null), json!("soon"), json!(8.65e15)] {
        let world = World::new();
        world.main().put(&with(credential("main", EXPIRED), &json!({ "expires": expires, "access": "" })));
        world.sub().put(&credential("1", EXPIRED));
        let call = world.call_of_sub();
        let outcome = world.settle(&call, world.claim(&call), &answer("2")).unwrap();
        assert_eq!(settled(outcome).1, Some(Reason::IncomingFresher), "{expires}");
        assert_eq!(shown_profile(&world.main())["refresh"], "SECRET-refresh-2");
    }
}

#[test]
fn a_mirror_that_fails_is_told_and_the_own_store_has_the_new_credential() {
    let world = World::new();
    let own = credential("1", EXPIRED);
    world.sub().put(&own);
    world.main().put(&own);
    let call = world.call_of_sub();
    let claim = world.claim(&call);
    put(&world.main().path(), "{ \"SECRET\": tor");
    let outcome = world.settle(&call, claim, &answer("2")).unwrap();
    let Settled::Refreshed { credential, mirrored: Some(Err(error)), not_saved: None } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(shown(&credential), refreshed(&own, "2"));
    assert_eq!(error.code, Code::StoreInvalid);
    assert_names_path_and_no_secret(&error, &world.main().path());
    world.sub().assert_holds(&refreshed(&own, "2"));
    assert_eq!(text(&world.main().path()), "{ \"SECRET\": tor");
}

// What may not be asked, and what may not be stored

type Break = fn(&World);

#[test]
fn a_main_store_that_cannot_be_read_refuses_before_the_provider_is_asked() {
    let breaks: [(Break, Code); 3] = [
        (|world| put(&world.main().path(), "{ \"SECRET\": tor"), Code::StoreInvalid),
        (|world| fs::create_dir_all(world.main().path()).unwrap(), Code::StoreUnreadable),
        (
            |world| put(&world.main().path(), format!("{{\"profiles\":{{\"{PROFILE}\":\"SECRET\"}}}}")),
            Code::StoreInvalid,
        ),
    ];
    for (make, code) in breaks {
        let world = World::new();
        world.sub().put(&credential("1", EXPIRED));
        make(&world);
        let before = stores(&world);
        let call = world.call_of_sub();
        assert!(call.look(None).unwrap().is_none());
        let error = world.decide(&call).unwrap_err();
        assert_eq!(error.code, code);
        assert_names_path_and_no_secret(&error, &world.main().path());
        assert_eq!(stores(&world), before);
        assert_lock_is_free(&world);
        // Without a profile of its own it cannot even look.
        world.sub().put_without_profile();
        assert_eq!(world.call_of_sub().look(None).unwrap_err().code, code);
        // And with a usable one it needs nothing of main.
        world.sub().put(&credential("1", HOUR));
        fresh(world.call_of_sub().look(None).unwrap());
        fresh(Some(served(world.decide(&call).unwrap())));
    }
}

#[test]
fn an_own_store_that_cannot_be_read_refuses_whatever_main_has() {
    let world = World::new();
    put(&world.sub().path(), "{ \"SECRET\": tor");
    world.main().put(&credential("2", HOUR));
    let before = stores(&world);
    let call = world.call_of_sub();
    let errors: [Error; 2] = [call.look(None).unwrap_err(), world.decide(&call).unwrap_err()];
    for error in errors {
        assert_eq!(error.code, Code::StoreInvalid);
        assert_names_path_and_no_secret(&error, &world.sub().path());
    }
    assert_eq!(stores(&world), before);
    assert_lock_is_free(&world);
}

#[test]
fn stores_of_the_sqlite_era_are_refused_for_the_call_as_a_whole() {
    for database in
        ["agents/sub/agent/openclaw-agent.sqlite", "agents/main/agent/openclaw-agent.sqlite", "state/openclaw.sqlite"]
    {
        let world = World::new();
        world.sub().put(&credential("1", EXPIRED));
        world.call_of_sub().refuse_sqlite_era().unwrap();
        world.call_of_main().refuse_sqlite_era().unwrap();
        let database = world.state().join(database);
        put(&database, "SECRET");
        let error = world.call_of_sub().refuse_sqlite_era().unwrap_err();
        assert_eq!(error.code, Code::SqliteStore);
        assert_names_path_and_no_secret(&error, &database);
        let concerns_main = !database.starts_with(&world.sub().directory);
        assert_eq!(world.call_of_main().refuse_sqlite_era().is_err(), concerns_main);
    }
}

#[test]
fn a_result_of_another_account_tenant_or_provider_is_refused_and_both_stores_stay_as_they_were() {
    let own = with(
        credential("1", EXPIRED),
        &json!({ "accountId": "A", "email": "u@e", "enterpriseUrl": "ghe.example.com", "projectId": "one" }),
    );
    for different in [
        json!({ "accountId": "B" }),
        json!({ "accountId": "a" }),
        json!({ "accountId": 7 }),
        json!({ "email": "v@e" }),
        json!({ "accountId": "B", "email": "v@e" }),
        json!({ "enterpriseUrl": "github.com" }),
        json!({ "projectId": "two" }),
        json!({ "provider": "anthropic" }),
        json!({ "provider": "" }),
    ] {
        let world = World::new();
        world.sub().put(&own);
        world.main().put(&own);
        let before = stores(&world);
        let call = world.call_of_sub();
        let claim = world.claim(&call);
        let error = world.settle(&call, claim, &with(answer("2"), &different)).unwrap_err();
        assert_eq!(error.code, Code::IdentityMismatch, "{different}");
        assert_no_secret(&error);
        assert_eq!(stores(&world), before, "{different}");
        assert_lock_is_free(&world);
    }
    // The same account in other words, and evidence more, are welcome.
    for same in [json!({ "accountId": " A ", "email": "U@E" }), json!({ "enterpriseUrl": "https://GHE.example.com/" })]
    {
        let world = World::new();
        world.main().put(&own);
        let call = world.call_of_main();
        settled(world.settle(&call, world.claim(&call), &with(answer("2"), &same)).unwrap());
    }
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_main();
    settled(world.settle(&call, world.claim(&call), &with(answer("2"), &json!({ "accountId": "A" }))).unwrap());
    assert_eq!(shown_profile(&world.main())["accountId"], "A");
}

#[test]
fn a_result_that_is_no_credential_is_refused_and_both_stores_stay_as_they_were() {
    for different in [
        json!({ "access": null }),
        json!({ "access": " " }),
        json!({ "expires": 0 }),
        json!({ "expires": NOW / 1000 }),
        json!({ "expires": NOW }),
        json!({ "refresh": 7 }),
    ] {
        let world = World::new();
        world.sub().put(&credential("1", EXPIRED));
        world.main().put(&credential("1", EXPIRED));
        let before = stores(&world);
        let call = world.call_of_sub();
        let claim = world.claim(&call);
        let error = world.settle(&call, claim, &with(answer("2"), &different)).unwrap_err();
        assert_eq!(error.code, Code::InvalidRefreshResult, "{different}");
        assert_no_secret(&error);
        assert_eq!(stores(&world), before, "{different}");
        assert_lock_is_free(&world);
    }
}

// What happens meanwhile

#[test]
fn a_login_meanwhile_wins() {
    let world = World::new();
    let login = with(credential("login", HOUR), &json!({ "accountId": "B" }));
    world.sub().put(&credential("1", EXPIRED));
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_sub();
    let claim = world.claim(&call);
    world.sub().put(&login);
    let before = snapshot(&world.sub().directory);
    let outcome = world.settle(&call, claim, &answer("2")).unwrap();
    assert!(matches!(&outcome, Settled::Superseded(served) if shown(served) == login), "{outcome:?}");
    assert_eq!(snapshot(&world.sub().directory), before);
    // Nobody has logged in there, and what it held is spent.
    world.main().assert_holds(&refreshed(&credential("1", EXPIRED), "2"));
    assert_lock_is_free(&world);

    // The same in main's store, if the profile is main's.
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_sub();
    let claim = world.claim(&call);
    world.main().put(&login);
    let before = stores(&world);
    let outcome = world.settle(&call, claim, &answer("2")).unwrap();
    assert!(matches!(&outcome, Settled::Superseded(served) if shown(served) == login), "{outcome:?}");
    assert_eq!(stores(&world), before);
}

#[test]
fn a_login_meanwhile_that_cannot_be_used_is_not_overwritten_either() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_main();
    let claim = world.claim(&call);
    world.main().put(&credential("login", EXPIRED));
    let error = world.settle(&call, claim, &answer("2")).unwrap_err();
    assert_eq!(error.code, Code::Superseded);
    assert_names_path_and_no_secret(&error, &world.main().path());
    world.main().assert_holds(&credential("login", EXPIRED));
    assert_lock_is_free(&world);
}

#[test]
fn a_login_at_another_provider_meanwhile_is_neither_overwritten_nor_served() {
    let world = World::new();
    let other = with(credential("login", HOUR), &json!({ "provider": "anthropic" }));
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_main();
    let claim = world.claim(&call);
    world.main().put(&other);
    let outcome = world.settle(&call, claim, &answer("2"));
    if let Ok(Settled::Superseded(served) | Settled::Refreshed { credential: served, .. }) = &outcome {
        assert_ne!(served.provider(), Some("anthropic"));
    }
    world.main().assert_holds(&other);
}

#[test]
fn a_login_without_a_refresh_token_is_a_login_too() {
    let world = World::new();
    let without = json!({ "refresh": null });
    let login = with(with(credential("login", HOUR), &without), &json!({ "accountId": "B" }));
    world.main().put(&with(credential("1", EXPIRED), &without));
    let call = world.call_of_main();
    let claim = world.claim(&call);
    world.main().put(&login);
    let outcome = world.settle(&call, claim, &answer("2")).unwrap();
    assert!(matches!(&outcome, Settled::Superseded(served) if shown(served) == login), "{outcome:?}");
    world.main().assert_holds(&login);
}

#[test]
fn a_profile_that_became_another_accounts_meanwhile_is_not_overwritten() {
    let own = with(credential("1", EXPIRED), &json!({ "accountId": "A", "enterpriseUrl": "ghe.example.com" }));
    for contradiction in [json!({ "accountId": "B" }), json!({ "enterpriseUrl": "github.com" })] {
        for told in [json!({}), json!({ "accountId": "A", "enterpriseUrl": "ghe.example.com" })] {
            let world = World::new();
            world.main().put(&own);
            let call = world.call_of_main();
            let claim = world.claim(&call);
            // Even with the same refresh token.
            let now = with(own.clone(), &contradiction);
            world.main().put(&now);
            let _ = world.settle(&call, claim, &with(answer("2"), &told));
            world.main().assert_holds(&now);
        }
    }
}

#[test]
fn a_logout_meanwhile_stays_one() {
    let logouts: [fn(&Agent); 3] = [
        |agent| agent.put_without_profile(),
        |agent| fs::remove_file(agent.path()).unwrap(),
        |agent| agent.put(&json!({ "type": "api_key", "key": "SECRET" })),
    ];
    for logout in logouts {
        let world = World::new();
        world.sub().put(&credential("1", EXPIRED));
        world.main().put(&credential("1", EXPIRED));
        let call = world.call_of_sub();
        let claim = world.claim(&call);
        logout(&world.sub());
        let before = snapshot(&world.sub().directory);
        let outcome = world.settle(&call, claim, &answer("2")).unwrap();
        // A store that is gone altogether may be back: that is no logout, but nothing is made in its place.
        let vanished =
            matches!(&outcome, Settled::Refreshed { not_saved: Some(error), .. } if error.code == Code::StoreVanished);
        assert!(matches!(outcome, Settled::LoggedOut) || (vanished && !world.sub().path().exists()), "{outcome:?}");
        assert_eq!(snapshot(&world.sub().directory), before);
        // Nobody has logged out there, and what it held is spent.
        world.main().assert_holds(&refreshed(&credential("1", EXPIRED), "2"));
        assert_lock_is_free(&world);
    }
}

#[test]
fn what_others_change_meanwhile_is_kept() {
    let world = World::new();
    let own = credential("1", EXPIRED);
    world.sub().put(&own);
    world.main().put(&own);
    let call = world.call_of_sub();
    let claim = world.claim(&call);
    let edited = with(own, &json!({ "displayName": "renamed", "unknown": { "number": 2 } }));
    let meanwhile =
        |profile: &Value| store_with(profile).replace("SECRET-key", "SECRET-rotated").replace("\"a\":2", "\"a\":2.0");
    put(&world.sub().path(), meanwhile(&edited));
    put(&world.main().path(), meanwhile(&edited));
    let outcome = world.settle(&call, claim, &answer("2")).unwrap();
    let expected = refreshed(&edited, "2");
    assert_eq!(settled(outcome), (expected.clone(), Some(Reason::IncomingFresher)));
    assert_eq!(text(&world.sub().path()), meanwhile(&expected));
    assert_eq!(text(&world.main().path()), meanwhile(&expected));
}

#[test]
fn an_owner_that_is_killed_leaves_the_stores_whole_and_the_next_one_goes_on() {
    let world = World::new();
    world.sub().put(&credential("1", EXPIRED));
    let child = Child::spawn("claims and hangs", &[world.root().to_str().unwrap()]);
    child.expect("claimed");
    let waiter = Waiter::at(&world.lock_base());
    child.kill();
    let call = world.call_of_sub();
    let claim = claimed(call.decide(waiter.lock()).unwrap());
    assert_eq!(shown(claim.credential()), credential("1", EXPIRED));
    settled(world.settle(&call, claim, &answer("2")).unwrap());
}

// After a refresh that failed

#[test]
fn after_a_failure_what_is_stored_now_may_serve() {
    let world = World::new();
    let call = world.call_of_main();
    for (number, class) in
        [FailureClass::NotSent, FailureClass::Uncertain, FailureClass::AnsweredDead].into_iter().enumerate()
    {
        let first = |part: &str| credential(&format!("{number}{part}"), EXPIRED);
        world.main().put(&first("a"));
        let claim = world.claim(&call);
        world.main().put(&credential("new", HOUR));
        let decision = world.fail(&call, claim, class).expect("a decision");
        assert_eq!(fresh(Some(served(decision))), credential("new", HOUR));
        assert_lock_is_free(&world);
        world.main().put(&first("b"));
        let claim = world.claim(&call);
        world.main().put_without_profile();
        assert!(!matches!(world.fail(&call, claim, class), Some(Decision::Send(_))));
        assert_lock_is_free(&world);
    }
}

#[test]
fn after_a_failure_the_token_is_claimed_again_by_nobody_in_the_same_turn() {
    let world = World::new();
    for (number, class) in
        [FailureClass::NotSent, FailureClass::Uncertain, FailureClass::AnsweredDead].into_iter().enumerate()
    {
        let own = credential(&number.to_string(), EXPIRED);
        world.main().put(&own);
        let call = world.call_of_main();
        let claim = world.claim(&call);
        // Other fields are no other token.
        world
            .main()
            .put(&with(own.clone(), &json!({ "displayName": "x", "access": "SECRET-other", "expires": NOW - 1 })));
        assert!(world.fail(&call, claim, class).is_none());
        assert_lock_is_free(&world);
    }
}

#[test]
fn after_a_refusal_another_token_that_is_stored_now_is_claimed_under_the_same_lock() {
    let world = World::new();
    let call = world.call_of_main();
    world.main().put(&credential("1", EXPIRED));
    let claim = world.claim(&call);
    world.main().put(&credential("2", EXPIRED));
    let claim = claimed(world.fail(&call, claim, FailureClass::AnsweredDead).expect("a decision"));
    assert_eq!(shown(claim.credential()), credential("2", EXPIRED));
    // The same lock, never let go in between.
    let waiter = Waiter::at(&world.lock_base());
    settled(world.settle(&call, claim, &answer("3")).unwrap());
    drop(waiter.lock());
    world.main().assert_holds(&refreshed(&credential("2", EXPIRED), "3"));
}

/// A host that can't tell its boots apart, so long after its last.
#[derive(Debug)]
struct Nameless(f64);

impl Clock for Nameless {
    fn now_ms(&self) -> f64 {
        0.0
    }

    fn boot_ms(&self) -> f64 {
        self.0
    }

    fn boot_id(&self) -> String {
        String::new()
    }
}

#[test]
fn a_pause_ends_with_its_boot_also_where_boots_have_no_names() {
    let pause = |since| Pause { until: 5_000.0, boot: String::new(), since };
    assert_eq!(pause(1_000.0).left_ms(&Nameless(2_000.0)), Some(3_000.0));
    assert_eq!(pause(1_000.0).left_ms(&Nameless(5_000.0)), None);
    assert_eq!(pause(1_000.0).left_ms(&Nameless(500.0)), None);
}

#[test]
fn a_call_that_was_given_up_before_the_provider_was_asked_has_never_been() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    // Not on record as asked for.
    let call = Refresh { uncertain: Uncertain::Fail, ..world.call_of_main() };
    for _ in 0..2 {
        world.claim(&call).give_up().unwrap();
        assert_eq!(Journal::open(&world.lock()).unwrap().record().state, Progress::Idle);
    }
    die_asking(world.claim(&call));
    assert_eq!(world.decide(&call).unwrap_err().code, Code::RefreshUncertain);

    // A repetition that was not made does not count either.
    let call = world.call_of_main();
    for _ in 0..2 {
        world.claim(&call).give_up().unwrap();
    }
    die_asking(world.claim(&call));
    assert!(matches!(world.decide(&call), Ok(Decision::BackOff { .. })));
    let failure = Journal::open(&world.lock()).unwrap().record().failures()[0].clone();
    assert_eq!((failure.outcome, failure.attempts), (Outcome::Uncertain, 2));
}

#[test]
fn a_call_that_was_taken_over_from_before_the_provider_was_asked_has_never_been() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let claim = world.claim(&world.call_of_main());
    put(&term::journal(&world.lock_base(), 1), "");
    assert!(claim.send().is_err());
    assert!(world.claim(&Refresh { uncertain: Uncertain::Fail, ..world.call_of_main() }).send().is_ok());
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
    // Another who reports the same token finds it replaced.
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
    // Who asked at the same time is served what the first one got, however often it looks.
    assert_eq!(fresh(other.look(None).unwrap())["access"], "SECRET-access-2");
    assert_eq!(fresh(Some(served(world.decide(&other).unwrap())))["access"], "SECRET-access-2");
    // Who asks now means this one.
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

// All together, in real processes

const AGENTS: usize = 8;

/// One of many agents with a store each: looks, waits for the lock, decides, and asks the "provider" if it must.
fn is_one_of_many_agents(world: &World, name: &str) {
    let call = Refresh { own: world.agent(name).store().into(), ..world.call_of_sub() };
    assert!(call.look(None).unwrap().is_none());
    let waiter = Waiter::at(&world.lock_base());
    say("waiting");
    let credential = match call.decide(waiter.lock()).unwrap() {
        Decision::Served(Served::Fresh(credential) | Served::Adopted { credential, not_saved: None }) => credential,
        Decision::Served(other) => panic!("{other:?}"),
        Decision::Send(claim) => {
            let calls = fs::OpenOptions::new().create(true).append(true).open(world.root().join("calls"));
            writeln!(calls.unwrap(), "{}", claim.credential().refresh().unwrap()).unwrap();
            match world.settle(&call, claim, &answer("2")).unwrap() {
                Settled::Refreshed { credential, mirrored: Some(Ok(Reason::IncomingFresher)), not_saved: None } => {
                    credential
                }
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
        agents.push(Child::spawn("is one of many agents", &[world.root().to_str().unwrap(), name]));
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
    let record = Journal::peek(&term::journal(&world.lock_base(), 0)).unwrap().unwrap();
    let kept: Vec<_> = record.receipts().iter().filter_map(|one| Some(one.credential.open()?.generation())).collect();
    assert_eq!(kept, ["new-18", "new-19"].map(|name| oauth(&credential(name, HOUR)).generation()));
}

// The same refresh token under another profile id

/// An agent of its own whose login has the same refresh token under another profile id.
fn call_under_another_name(world: &World, credential: &serde_json::Value) -> Refresh {
    let agent = world.agent("other");
    let store = json!({ "version": 1, "profiles": { "other": credential } });
    support::files::put(&agent.path(), store.to_string());
    Refresh {
        key: Key::new(PROVIDER, "other").unwrap(),
        lock_base: key::lock_base(&world.state(), PROVIDER, "other"),
        own: agent.store().into(),
        ..world.call_of_main()
    }
}

#[test]
fn two_owners_over_what_the_dead_left_do_not_wait_for_each_other() {
    let world = World::new();
    let expired = credential("1", EXPIRED);
    world.main().put(&expired);
    let (here, there) = (world.call_of_main(), call_under_another_name(&world, &expired));
    // The first dies while it asks, and so does the one that repeats it under the other name.
    die_asking(claimed(here.decide(support::locks::take(&here.lock_base)).unwrap()));
    die_asking(claimed(there.decide(support::locks::take(&there.lock_base)).unwrap()));
    let deciding_there = support::locks::take(&there.lock_base);
    let busy = here.decide(support::locks::take(&here.lock_base)).unwrap();
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
    let flight = claimed(here.decide(support::locks::take(&here.lock_base)).unwrap());
    let mut siblings = Siblings::read(&locks::take(&there.lock_base)).unwrap();
    let generation = oauth(&expired).generation();
    assert_eq!(siblings.sending(generation, &SystemClock).unwrap(), Some(Sending::Under(here.lock_base.clone())));
    // Between our look at its journal and our look at its lock it comes to its end.
    settled(world.settle(&here, flight, &answer("2")).unwrap());
    assert_eq!(siblings.sending(generation, &SystemClock).unwrap(), None);
    assert!(siblings.lineage(&Ledger::default()).is_spent(generation));
    assert!(siblings.failure_of(generation, &Record::default(), &SystemClock).is_none());
}

#[test]
fn a_successor_from_another_profile_brings_its_tokens_and_nothing_else() {
    let world = World::new();
    let expired = with(credential("1", EXPIRED), &json!({ "displayName": "mine", "unknown": 1 }));
    world.main().put(&with(credential("1", EXPIRED), &json!({ "displayName": "theirs", "unknown": 2 })));
    let (here, there) = (world.call_of_main(), call_under_another_name(&world, &expired));
    let flight = claimed(here.decide(support::locks::take(&here.lock_base)).unwrap());
    settled(world.settle(&here, flight, &answer("2")).unwrap());
    let took = adopted(Some(served(there.decide(support::locks::take(&there.lock_base)).unwrap())));
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
