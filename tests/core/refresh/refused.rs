//! What may not be asked, and what may not be stored.

use super::{EXPIRED, assert_lock_is_free, fresh, settled, shown_profile, stores};
use crate::support::files::put;
use crate::support::world::{HOUR, NOW, PROFILE, World, answer, credential, served, with};
use crate::support::{assert_names_path_and_no_secret, assert_no_secret};
use oauth_refresh_lock::error::{Code, Error};
use serde_json::json;
use std::fs;

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
