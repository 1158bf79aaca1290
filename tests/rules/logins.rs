//! Logins and logouts beside refreshes.

use crate::support::world::{HOUR, MINUTE, World, answer, credential, oauth, served, with};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::refresh::{LoggedIn, Served, Settled};
use serde_json::json;

const EXPIRED: i64 = -MINUTE;

#[test]
fn a_login_that_lands_during_a_call_wins() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_main();
    let claim = world.claim(&call);
    let login = credential("login", HOUR);
    assert_eq!(world.call_of_main().log_in(&oauth(&login), false).unwrap(), LoggedIn::Replaced);
    world.main().assert_holds(&login);
    assert!(matches!(world.settle(&call, claim, &answer("2")).unwrap(), Settled::Superseded(_)));
    world.main().assert_holds(&login);
}

#[test]
fn a_logout_during_a_call_stays() {
    let world = World::new();
    world.main().put(&credential("1", EXPIRED));
    let call = world.call_of_main();
    let claim = world.claim(&call);
    assert!(world.call_of_main().log_out().unwrap());
    assert!(!world.call_of_main().log_out().unwrap());
    assert!(matches!(world.settle(&call, claim, &answer("2")).unwrap(), Settled::LoggedOut));
    assert!(matches!(served(world.decide(&world.call_of_main()).unwrap()), Served::Absent));
}

#[test]
fn a_login_is_added_where_there_is_no_store_and_no_directory() {
    let world = World::new();
    let login = credential("1", HOUR);
    assert_eq!(world.call_of_main().log_in(&oauth(&login), false).unwrap(), LoggedIn::Added);
    assert!(matches!(served(world.decide(&world.call_of_main()).unwrap()), Served::Fresh(_)));
}

#[test]
fn another_accounts_login_gives_way_only_if_that_is_said() {
    let world = World::new();
    let held = with(credential("1", HOUR), &json!({ "accountId": "one" }));
    world.main().put(&held);
    let other = oauth(&with(credential("2", HOUR), &json!({ "accountId": "two" })));
    assert_eq!(world.call_of_main().log_in(&other, false).unwrap_err().code, Code::IdentityMismatch);
    world.main().assert_holds(&held);
    assert_eq!(world.call_of_main().log_in(&other, true).unwrap(), LoggedIn::Replaced);
}

#[test]
fn what_is_no_login_is_refused_and_nothing_changes() {
    let world = World::new();
    let held = credential("1", EXPIRED);
    world.main().put(&held);
    let call = world.call_of_main();
    for (wrong, code) in [
        (with(credential("2", HOUR), &json!({ "provider": "other" })), Code::InvalidArgument),
        (with(credential("2", HOUR), &json!({ "access": null, "refresh": null })), Code::InvalidArgument),
        (with(credential("2", HOUR), &json!({ "big": "x".repeat(50_000) })), Code::InvalidArgument),
    ] {
        assert_eq!(call.log_in(&oauth(&wrong), true).unwrap_err().code, code);
    }
    world.settle(&call, world.claim(&call), &answer("2")).unwrap();
    world.main().assert_holds(&credential("2", HOUR));
    // The same refresh token again, as from a backup.
    assert_eq!(world.call_of_main().log_in(&oauth(&held), true).unwrap_err().code, Code::RefreshTokenSpent);
    world.main().assert_holds(&credential("2", HOUR));
}
