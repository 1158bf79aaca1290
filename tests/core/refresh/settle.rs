//! What an answer leaves in the stores.

use super::{EXPIRED, assert_lock_is_free, fresh, refreshed, settled, shown_profile};
use crate::support::assert_names_path_and_no_secret;
use crate::support::files::{names, put, snapshot, text};
use crate::support::locks::Waiter;
use crate::support::world::{HOUR, NOW, World, answer, credential, served, shown, store_without, with};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::refresh::Settled;
use oauth_refresh_lock::refresh::mirror::Reason;
use serde_json::{Value, json};

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
    assert_eq!(locks.iter().filter(|name| name.starts_with("sha256-") && !name.ends_with(".sidecar")).count(), 1);
}

#[test]
fn a_subagent_without_the_profile_uses_the_main_agents_and_copies_nothing() {
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
        // Beyond what was refreshed, and no caller of the main agent has rejected it; so only a mirror meets it.
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
    let Settled::Refreshed { credential, mirrored: Some(Err(error)), not_saved: None, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(shown(&credential), refreshed(&own, "2"));
    assert_eq!(error.code, Code::StoreInvalid);
    assert_names_path_and_no_secret(&error, &world.main().path());
    world.sub().assert_holds(&refreshed(&own, "2"));
    assert_eq!(text(&world.main().path()), "{ \"SECRET\": tor");
}
