//! Logins and logouts beside refreshes.

use crate::support::world::{HOUR, MINUTE, NOW, PROFILE, World, answer, credential, oauth, served, shown, with};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::credential::account::IdentityClaims;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::failure::FailureClass;
use oauth_refresh_lock::refresh::{LoggedIn, Served, Settled};
use serde_json::{Value, json};

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

/// What a provider answers for a user of one workspace, as it came.
fn answer_for(user: &str, generation: &str) -> Credential {
    let id_token = token(&json!({ "iss": "i", "sub": user, "email": format!("{user}@example.com") }));
    let access = token(&json!({ "iss": "i", "sub": user, "aud": "a", "workspace": { "id": "w" }, "n": generation }));
    let answer = json!({ "access_token": access, "refresh_token": generation, "id_token": id_token });
    let claims = IdentityClaims { account_id: Some(vec!["workspace".to_owned(), "id".to_owned()]), email: None };
    #[allow(clippy::cast_precision_loss, reason = "an instant")]
    Credential::of_login(&answer.to_string(), "openai-codex", &claims, NOW as f64).unwrap()
}

#[test]
fn a_login_is_whose_its_tokens_say() {
    let alice = shown(&answer_for("alice", "a1"));
    assert_eq!(
        ["accountId", "email", "issuer", "subject"].map(|name| alice[name].as_str().unwrap_or_default().to_owned()),
        ["w", "alice@example.com", "i", "alice"]
    );
    for held in [
        alice.clone(),
        // Stored before anybody read its tokens: those tell, too.
        with(alice.clone(), &json!({ "accountId": null, "email": null, "issuer": null, "subject": null })),
        with(alice.clone(), &json!({ "idToken": null, "access": "opaque" })),
        with(alice.clone(), &json!({ "idToken": null, "email": null, "subject": null, "issuer": null })),
    ] {
        let world = World::new();
        world.main().put(&held);
        let bob = answer_for("bob", "b1");
        assert_eq!(world.call_of_main().log_in(&bob, false).unwrap_err().code, Code::IdentityMismatch, "{held}");
        world.main().assert_holds(&held);
        let again = answer_for("alice", "a2");
        assert_eq!(world.call_of_main().log_in(&again, false).unwrap(), LoggedIn::Replaced, "{held}");
        assert_eq!(world.call_of_main().log_in(&bob, true).unwrap(), LoggedIn::Replaced);
        assert_eq!(world.main().store().read(PROFILE).unwrap().oauth().unwrap(), bob);
    }
}

#[test]
fn a_login_that_does_not_say_whose_it_is_inherits_no_account() {
    let held = with(credential("1", HOUR), &json!({ "accountId": "one", "email": "u@example.com", "note": "kept" }));
    let login = credential("2", HOUR);
    let kept = with(with(held.clone(), &login), &json!({ "accountId": null, "email": null }));
    for (replaces, stored) in [(false, kept), (true, login.clone())] {
        let world = World::new();
        world.main().put(&held);
        assert_eq!(world.call_of_main().log_in(&oauth(&login), replaces).unwrap(), LoggedIn::Replaced);
        world.main().assert_holds(&stored);
    }
}

fn token(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[test]
fn an_account_that_logs_in_again_keeps_what_is_known_of_it() {
    let access = |n: &str, aud: &str| token(&json!({ "iss": "https://i.example/", "sub": "s", "aud": aud, "n": n }));
    let id_token = |iss: &str, email: &str| token(&json!({ "iss": iss, "sub": "s", "email": email }));
    let known = json!({ "accountId": "one", "email": "old@example.com", "organizationUuid": "o" });
    let held = |more: &Value| with(with(credential("1", HOUR), &known), more);
    let login = |more: &Value| with(credential("2", HOUR), more);
    for (held, login) in [
        // As OpenClaw stores it.
        (held(&json!({ "access": access("1", "a") })), login(&json!({ "access": access("2", "a") }))),
        (held(&json!({ "access": access("1", "a") })), login(&json!({ "access": access("2", "b") }))),
        // Once with an id_token, and once without.
        (
            held(
                &json!({ "idToken": id_token("i.example", "old@example.com"), "issuer": "i.example", "subject": "s" }),
            ),
            login(&json!({ "access": access("2", "a") })),
        ),
        // The address has changed, and the issuer spells itself with a scheme.
        (
            held(&json!({ "idToken": id_token("i.example", "old@example.com") })),
            login(&json!({ "idToken": id_token("https://i.example", "new@example.com"), "email": "new@example.com" })),
        ),
    ] {
        let world = World::new();
        world.main().put(&held);
        assert_eq!(world.call_of_main().log_in(&oauth(&login), false).unwrap(), LoggedIn::Replaced, "{held}");
        let stored = shown(&world.main().store().read(PROFILE).unwrap().oauth().unwrap());
        for (name, value) in known.as_object().unwrap() {
            assert_eq!(&stored[name], value, "{name} of {held}");
        }
        assert_eq!(stored["refresh"], login["refresh"]);
    }
}

#[test]
fn an_access_token_for_a_client_outvotes_nothing_that_is_said_of_a_person() {
    // Its subject is the client's, for everyone.
    let access = |n: &str| token(&json!({ "iss": "i", "sub": "client-7", "aud": "api", "n": n }));
    let held =
        with(credential("1", HOUR), &json!({ "access": access("1"), "accountId": "one", "email": "a@example.com" }));
    let id_token = token(&json!({ "iss": "i", "sub": "b", "email": "b@example.com" }));
    let by_id_token = json!({ "access": access("2"), "idToken": id_token, "email": "b@example.com", "subject": "b" });
    for login in [by_id_token, json!({ "access": access("2"), "email": "b@example.com" })] {
        let login = with(credential("2", HOUR), &login);
        let world = World::new();
        world.main().put(&held);
        assert_eq!(world.call_of_main().log_in(&oauth(&login), false).unwrap_err().code, Code::IdentityMismatch);
        world.main().assert_holds(&held);
        assert_eq!(world.call_of_main().log_in(&oauth(&login), true).unwrap(), LoggedIn::Replaced);
        world.main().assert_holds(&login);
    }
    // What says nothing of a person is the same subject's.
    let world = World::new();
    world.main().put(&held);
    let login = with(credential("2", HOUR), &json!({ "access": access("2") }));
    assert_eq!(world.call_of_main().log_in(&oauth(&login), false).unwrap(), LoggedIn::Replaced);
    world.main().assert_holds(&with(held, &login));
}

#[test]
fn a_token_for_another_resource_proves_no_other_account() {
    let access = |sub: &str, aud: &str| token(&json!({ "iss": "i", "sub": sub, "aud": aud }));
    let first = json!({ "access_token": access("1", "a"), "refresh_token": "r1" });
    #[allow(clippy::cast_precision_loss, reason = "an instant")]
    let held =
        Credential::of_login(&first.to_string(), "openai-codex", &IdentityClaims::default(), NOW as f64).unwrap();
    assert_eq!(shown(&held)["subject"], "1");
    for (sub, aud, outcome) in [
        ("2", "b", Ok(LoggedIn::Replaced)),
        ("2", "a", Err(Code::IdentityMismatch)),
        ("1", "a", Ok(LoggedIn::Replaced)),
    ] {
        let world = World::new();
        world.main().put(&shown(&held));
        let login = with(credential("2", HOUR), &json!({ "access": access(sub, aud) }));
        let got = world.call_of_main().log_in(&oauth(&login), false).map_err(|error| error.code);
        assert_eq!(got, outcome, "{sub} {aud}");
    }
}

#[test]
fn how_a_login_is_refreshed_is_said_as_a_whole_or_stays() {
    let world = World::new();
    let told = json!({ "tokenEndpoint": "https://one.example/", "clientId": "c", "clientSecretEnv": "SECRET" });
    let log_in = |generation: &str, told: &Value| {
        let login = oauth(&with(credential(generation, HOUR), told));
        world.call_of_main().log_in(&login, false).unwrap();
        world.call_of_main().refreshed_by().unwrap().map(Value::from)
    };
    assert_eq!(world.call_of_main().refreshed_by().unwrap(), None);
    assert_eq!(log_in("1", &told), Some(told.clone()));
    assert_eq!(log_in("2", &json!({})), Some(told));
    let other = json!({ "tokenEndpoint": "https://one.example/", "clientId": "public" });
    assert_eq!(log_in("3", &other), Some(other.clone()));
    // The same client, as a login in our own field names says it.
    assert_eq!(log_in("4", &json!({ "clientId": "public" })), Some(other));
    let elsewhere = json!({ "tokenEndpoint": "https://two.example/" });
    assert_eq!(log_in("5", &elsewhere), Some(elsewhere));
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
        (with(credential("2", HOUR), &json!({ "access": "a\nb" })), Code::InvalidArgument),
        (with(credential("2", HOUR), &json!({ "refresh": "a\u{0}b" })), Code::InvalidArgument),
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

#[test]
fn a_refresh_token_that_the_provider_has_refused_for_good_is_stored_over_no_login() {
    let world = World::new();
    let dead = credential("1", EXPIRED);
    world.main().put(&dead);
    let call = world.call_of_main();
    world.fail(&call, world.claim(&call), FailureClass::AnsweredDead);
    let good = credential("2", HOUR);
    assert_eq!(world.call_of_main().log_in(&oauth(&good), false).unwrap(), LoggedIn::Replaced);
    assert_eq!(world.call_of_main().log_in(&oauth(&dead), true).unwrap_err().code, Code::GrantDead);
    world.main().assert_holds(&good);
}
