//! What happens while the provider is asked.

use super::{EXPIRED, assert_lock_is_free, refreshed, settled, stores};
use crate::support::assert_names_path_and_no_secret;
use crate::support::child::Child;
use crate::support::files::{put, snapshot, text};
use crate::support::locks::Waiter;
use crate::support::world::{Agent, HOUR, World, answer, claimed, credential, shown, store_with, with};
use oauth_refresh_lock::error::{Code, Error, Result};
use oauth_refresh_lock::refresh::Settled;
use oauth_refresh_lock::refresh::mirror::Reason;
use serde_json::{Value, json};
use std::fs;

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

    // The same in the main store, if the profile is there alone.
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

/// What the call comes to, in a world that holds this login.
type Check = fn(&World, Result<Settled, Error>, &Value);

const SERVED: Check = |_, outcome, login| {
    assert!(matches!(&outcome, Ok(Settled::Superseded(served)) if shown(served) == *login), "{outcome:?}");
};
const REFUSED: Check = |world, outcome, _| {
    let error = outcome.unwrap_err();
    assert_eq!(error.code, Code::Superseded);
    assert_names_path_and_no_secret(&error, &world.main().path());
};
const NOT_SERVED: Check = |_, outcome, login| {
    if let Ok(Settled::Superseded(served) | Settled::Refreshed { credential: served, .. }) = &outcome {
        assert_ne!(shown(served)["provider"], login["provider"]);
    }
};
const ANYTHING: Check = |_, _, _| {};

#[test]
fn no_login_is_overwritten_that_is_stored_meanwhile() {
    let expired = |fields: Value| with(credential("1", EXPIRED), &fields);
    let login = |fields: Value| with(credential("login", HOUR), &fields);
    let without = json!({ "refresh": null });
    let (a, b) = (json!({ "accountId": "A", "enterpriseUrl": "ghe.example.com" }), json!({ "accountId": "B" }));
    let elsewhere = json!({ "enterpriseUrl": "github.com" });
    let a_becomes = |fields: &Value| with(expired(a.clone()), fields);
    // What is stored before and meanwhile, and what the provider tells beside the token.
    for (before, meanwhile, told, check) in [
        (expired(json!({})), credential("login", EXPIRED), json!({}), REFUSED),
        (expired(json!({})), login(json!({ "provider": "anthropic" })), json!({}), NOT_SERVED),
        // Without a refresh token it is a login too.
        (expired(without.clone()), with(login(without), &b), json!({}), SERVED),
        // Another account's, even with the same refresh token.
        (expired(a.clone()), a_becomes(&b), json!({}), ANYTHING),
        (expired(a.clone()), a_becomes(&b), a.clone(), ANYTHING),
        (expired(a.clone()), a_becomes(&elsewhere), json!({}), ANYTHING),
        (expired(a.clone()), a_becomes(&elsewhere), a.clone(), ANYTHING),
    ] {
        let world = World::new();
        world.main().put(&before);
        let call = world.call_of_main();
        let claim = world.claim(&call);
        world.main().put(&meanwhile);
        let stored = stores(&world);
        let outcome = world.settle(&call, claim, &with(answer("2"), &told));
        assert_eq!(stores(&world), stored, "{meanwhile}: {outcome:?}");
        check(&world, outcome, &meanwhile);
        assert_lock_is_free(&world);
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
    let child = Child::spawn("claim and hang", &[world.root().to_str().unwrap()]);
    child.expect("claimed");
    let waiter = Waiter::at(&world.lock_base());
    child.kill();
    let call = world.call_of_sub();
    let claim = claimed(call.decide(waiter.lock()).unwrap());
    assert_eq!(shown(claim.credential()), credential("1", EXPIRED));
    settled(world.settle(&call, claim, &answer("2")).unwrap());
}
