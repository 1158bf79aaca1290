//! An agent takes over what the main store holds.

use super::{EXPIRED, adopted, assert_lock_is_free, fresh, is_absent, rejecting};
use crate::support::files::{names, put, snapshot, text};
use crate::support::sidecars::{Living, beside, summer};
use crate::support::world::{HOUR, MINUTE, World, credential, oauth, served, shown, store_with, store_without, with};
use crate::support::{HUNG, assert_names_path_and_no_secret, locks};
use oauth_refresh_lock::clock::{Clock, SystemClock};
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::refresh::{Decision, FailureClass, Served};
use oauth_refresh_lock::store::ADOPTION_PATIENCE;
use serde_json::{Value, json};
use std::fs;
use std::time::Instant;

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

/// The ways in which a call can meet a usable credential in the main store. Each gives what was served, if anything was.
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
fn the_main_stores_credential_is_adopted_if_and_only_if_it_is_the_same_account_and_says_no_less() {
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
fn an_adopter_is_served_without_saving_if_its_store_stays_locked() {
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
    let Some(Served::Adopted { credential: served, not_saved: Some(error), .. }) = met else { panic!("{met:?}") };
    assert_eq!(shown(&served), offered);
    assert_eq!(error.code, Code::FileLockTimeout, "{error}");
    assert_eq!(error.holder.map(|holder| holder.pid), Some(other.pid));
    assert!(waited >= ADOPTION_PATIENCE && waited < HUNG, "{waited:?}");
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
fn an_adopter_under_the_lock_lets_it_go_before_writing() {
    let world = World::new();
    // Its own store is locked, so it can't have finished; yet its lock has come to us.
    let served = adopt_while(&world, || world.sub().assert_holds(&credential("1", EXPIRED))).unwrap();
    assert_eq!(adopted(served), credential("2", HOUR));
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
        let Some(Served::Adopted { credential: served, not_saved: Some(error), .. }) = met else { panic!("{met:?}") };
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
