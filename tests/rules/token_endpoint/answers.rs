//! What an answer with a token means.

use super::{NOW, NOW_MS, UNSPENT, answer, credential, endpoint, failure, fields, jwt, read, spec};
use oauth_refresh_lock::credential::account::IdentityClaims;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::failure::{FailureClass, OwnCodes};
use oauth_refresh_lock::token_endpoint::{Exchange, Spec, TimeUnit, TokenEndpoint};
use serde_json::{Value, json};

#[test]
fn success_in_all_its_forms() {
    let hour = json!(NOW + 3_600_000);
    let same = json!({"access": "a1", "expires": hour, "refresh": "r1"});
    for body in [
        r#"{"access_token":"a1","refresh_token":"r1","expires_in":3600,"token_type":"Bearer"}"#,
        r#"{"access_token":"a1","refresh_token":"r1","expires_in":"3600"}"#,
        r#"{"access_token":"a1","refresh_token":"r1","expires_in":3.6e3,"scope":null}"#,
        "\u{feff}{\"access_token\":\"a1\",\"refresh_token\":\"r1\",\"expires_in\":3600}\n",
        "access_token=a1&refresh_token=r1&expires_in=3600&scope=&token_type=bearer",
        r#"{"access_token":"a0","access_token":"a1","refresh_token":"r1","expires_in":3600}"#,
    ] {
        assert_eq!(fields(body), same, "{body}");
    }
    for body in [
        r#"{"access_token":"a1"}"#,
        r#"{"access_token":"a1","expires_in":0,"refresh_token":" ","id_token":null}"#,
        r#"{"access_token":"a1","expires_in":-5,"refresh_token":null}"#,
        r#"{"access_token":"a1","expires_in":"soon"}"#,
        r#"{"access_token":"a1","expires_in":1e999}"#,
        r#"{"access_token":"a1","expires_in":"NaN"}"#,
    ] {
        assert_eq!(fields(body), json!({"access": "a1"}), "{body}");
    }
    let far = fields(r#"{"access_token":"a1","expires_in":1e300}"#);
    assert_eq!(far["expires"], json!(8_640_000_000_000_000_i64));
    let github = fields("access_token=ghu_1&expires_in=28800&refresh_token=ghr_1&refresh_token_expires_in=15811200");
    assert_eq!(github["refreshExpires"], json!(NOW + 15_811_200_000));
}

#[test]
fn another_accounts_answer_is_refused() {
    let id_token = |sub: &str, iss: &str| jwt(&json!({"iss": iss, "sub": sub}));
    let new = json!({"access_token": "a1", "id_token": id_token("u1", "i")}).to_string();
    for held in [
        json!({"subject": "u2"}),
        json!({"issuer": "other"}),
        json!({"idToken": id_token("u2", "i")}),
        json!({"idToken": id_token("u1", "other")}),
    ] {
        let failure = read(&endpoint(), &credential(&held), &answer(200, new.as_bytes())).expect_err("another's");
        assert_eq!((failure.error.code, failure.class), (Code::IdentityMismatch, FailureClass::Uncertain), "{held}");
        assert!(!failure.is_temporary, "{held}");
    }
    let fixed = TokenEndpoint::new(Spec { is_replay_safe: true, ..spec("https://auth.example/token") }).unwrap();
    let failure =
        read(&fixed, &credential(&json!({"subject": "u2"})), &answer(200, new.as_bytes())).expect_err("another's");
    assert_eq!((failure.class, failure.is_temporary), (FailureClass::NotSent, false), "nothing is in doubt");
    let access = |sub: &str, aud: &str| jwt(&json!({"sub": sub, "aud": aud}));
    let after = |new: &str| {
        let held = credential(&json!({"access": access("u1", "a")}));
        read(&endpoint(), &held, &answer(200, json!({"access_token": new}).to_string().as_bytes()))
    };
    assert!(after(&access("u2", "a")).is_err());
    // For another resource a user may have another subject.
    assert!(after(&access("u2", "b")).is_ok());
}

#[test]
fn a_user_whose_address_changes_stays_the_same() {
    let id_token = |email: &str| jwt(&json!({"iss": "i", "sub": "s", "email": email}));
    let body = json!({"access_token": "a1", "id_token": id_token("new@example.com")}).to_string();
    let after = |held: &Value| read(&endpoint(), &credential(held), &answer(200, body.as_bytes())).expect("accepted");
    let held = json!({"email": "old@example.com", "idToken": id_token("old@example.com")});
    assert_eq!(after(&held).get("email"), None);
    let held = json!({"email": "old@example.com", "issuer": "i", "subject": "s"});
    assert_eq!(after(&held).get("email"), None);
    // Where nothing else is known, the gate decides by the address.
    assert_eq!(after(&json!({"email": "old@example.com"}))["email"], "new@example.com");
}

#[test]
fn so_does_one_of_a_provider_without_id_tokens() {
    let access = |email: &str| jwt(&json!({"iss": "i", "sub": "s", "email": email}));
    let held = json!({"access": access("old@example.com"), "email": "old@example.com", "issuer": "i", "subject": "s"});
    let body = json!({"access_token": access("new@example.com")}).to_string();
    let found = read(&endpoint(), &credential(&held), &answer(200, body.as_bytes())).expect("accepted");
    assert_eq!(found.get("email"), None);
}

#[test]
fn an_access_token_for_a_client_outvotes_no_address() {
    let access = |n: &str| jwt(&json!({"iss": "i", "sub": "client-7", "aud": "api", "n": n}));
    let id_token = jwt(&json!({"iss": "i", "sub": "b", "email": "b@example.com"}));
    let body = json!({"access_token": access("2"), "id_token": id_token}).to_string();
    for (issuer, subject) in [(json!(null), json!(null)), (json!("i"), json!("client-7"))] {
        let held = json!({"access": access("1"), "email": "a@example.com", "issuer": issuer, "subject": subject});
        let found = read(&endpoint(), &credential(&held), &answer(200, body.as_bytes())).expect("left to the gate");
        assert_eq!(found["email"], "b@example.com");
    }
}

#[test]
fn what_an_access_tokens_subject_was_an_id_tokens_may_replace() {
    let access = jwt(&json!({"iss": "i", "sub": "pairwise-1"}));
    let held = credential(&json!({"access": access, "issuer": "i", "subject": "pairwise-1"}));
    let id_token = jwt(&json!({"iss": "i", "sub": "u1"}));
    let body = json!({"access_token": access, "id_token": id_token}).to_string();
    let found = read(&endpoint(), &held, &answer(200, body.as_bytes())).expect("accepted");
    assert_eq!(found["subject"], "u1");
}

#[test]
fn an_answer_without_an_access_token_still_tells_the_new_refresh_token() {
    assert_eq!(fields(r#"{"refresh_token":"r1"}"#), json!({"refresh": "r1"}));
    // Not of a text that only repeats what was asked with.
    let echo = "You sent grant_type=refresh_token&refresh_token=r0&client_secret=s.";
    assert_eq!(failure(200, echo).error.code, Code::ProviderAnswerInvalid);
}

/// A 200, told as it is to the caller: the new fields, or what went wrong.

#[test]
fn an_answer_is_found_in_its_envelope() {
    let reads = |envelope: &[&str], body: &Value| {
        let spec = Spec {
            envelope: envelope.iter().map(|name| (*name).to_owned()).collect(),
            identity_claims: IdentityClaims { account_id: Some(vec!["open_id".to_owned()]), email: None },
            ..spec("https://auth.example/token")
        };
        let endpoint = TokenEndpoint::new(spec).unwrap();
        read(&endpoint, &credential(&json!({})), &answer(200, body.to_string().as_bytes())).map(Value::from)
    };
    let tokens = json!({"access_token": "a1", "refresh_token": "r1", "expires_in": 3600, "open_id": "u1"});
    let expected = json!({"access": "a1", "refresh": "r1", "expires": NOW + 3_600_000, "accountId": "u1"});
    assert_eq!(reads(&["body"], &json!({"status": 0, "body": tokens})).unwrap(), expected);
    assert_eq!(reads(&["a", "b"], &json!({"a": {"x": 1, "b": tokens}})).unwrap(), expected);
    // The account may stand outside of it.
    let outside = json!({"access_token": "a1", "refresh_token": "r1", "expires_in": 3600});
    assert_eq!(reads(&["data"], &json!({"open_id": "u1", "data": outside})).unwrap(), expected);
    // Of two the one in the envelope counts: Slack has a bot's and a user's.
    assert_eq!(
        reads(&["user"], &json!({"access_token": "bot", "refresh_token": "bot", "user": tokens})).unwrap(),
        expected
    );
    // Without one the answer itself is read, and without being told of one nothing else is.
    assert_eq!(reads(&["body"], &tokens).unwrap(), expected);
    assert_eq!(reads(&["user"], &json!({"user": {"id": 7}, "access_token": "a1"})).unwrap(), json!({"access": "a1"}));
    let wrapped = json!({"body": tokens});
    assert_eq!(reads(&[], &wrapped).expect_err("no token").error.code, Code::ProviderAnswerInvalid);
    assert_eq!(reads(&["body", "body"], &wrapped).expect_err("no token").error.code, Code::ProviderAnswerInvalid);
    // An error may stand inside or outside.
    for refused in [json!({"body": {"error": "invalid_grant"}}), json!({"error": "invalid_grant", "body": {}})] {
        assert_eq!(reads(&["body"], &refused).expect_err("refused").class, FailureClass::AnsweredDead, "{refused}");
    }
}

#[test]
fn lifetimes_may_count_milliseconds() {
    let spec = Spec { expires_in_unit: TimeUnit::Milliseconds, ..spec("https://auth.example/token") };
    let body = r#"{"access_token":"a1","expires_in":"7200000","refresh_token_expires_in":86400000}"#;
    let found = read(&TokenEndpoint::new(spec).unwrap(), &credential(&json!({})), &answer(200, body.as_bytes()));
    let expected = json!({"access": "a1", "expires": NOW + 7_200_000, "refreshExpires": NOW + 86_400_000});
    assert_eq!(Value::from(found.unwrap()), expected);
}

#[test]
fn an_expiry_may_be_an_instant() {
    let endpoint = TokenEndpoint::new(spec("https://connect.squareup.com/oauth2/token")).unwrap();
    let read = |fields: &Value| {
        let mut body = json!({"access_token": "a"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let fields = read(&endpoint, &credential(&json!({})), &answer(200, body.to_string().as_bytes())).unwrap();
        ["expires", "refreshExpires"].map(|name| fields.get(name).and_then(Value::as_i64))
    };
    let at = NOW + 7_200_000;
    let iso = "2023-11-15T00:13:20Z";
    for given in [json!(at), json!(at / 1000), json!(iso), json!(at.to_string())] {
        assert_eq!(read(&json!({"expires_at": given}))[0], Some(at), "{given}");
        assert_eq!(read(&json!({"refresh_token_expires_at": given}))[1], Some(at), "{given}");
    }
    assert_eq!(read(&json!({"expires_at": at, "expires_in": 60}))[0], Some(NOW + 60_000));
    for none in [json!(NOW - 1), json!("soon"), json!("2001-01-01T00:00:00Z")] {
        assert_eq!(read(&json!({"expires_at": none}))[0], None, "{none}");
    }
}

#[test]
fn a_copilot_token_is_exchanged_for_a_github_token() {
    let spec = Spec {
        client_id: None,
        exchange: Exchange::GithubCopilot,
        is_replay_safe: true,
        ..spec("https://api.github.com/copilot_internal/v2/token")
    };
    let own_codes = OwnCodes { unspent: vec!["Bad credentials".to_owned()], ..OwnCodes::default() };
    let sparing = TokenEndpoint::new(Spec { own_codes, ..spec.clone() }).unwrap();
    let endpoint = TokenEndpoint::new(spec).unwrap();
    let bad = answer(401, br#"{"message":"Bad credentials"}"#);
    let spared = read(&sparing, &credential(&json!({})), &bad).expect_err("the host's word comes first");
    assert_eq!(spared.class, FailureClass::AnsweredUnspent);
    let read = |status, body: &str| read(&endpoint, &credential(&json!({})), &answer(status, body.as_bytes()));
    let soon = NOW_MS / 1000.0 + 1_500.0;
    let body = json!({"token": "tid=1;exp=2:mac", "expires_at": soon, "refresh_in": 1_200}).to_string();
    let expires = json!(NOW + 1_260_000);
    assert_eq!(Value::from(read(200, &body).unwrap()), json!({"access": "tid=1;exp=2:mac", "expires": expires}));
    let behind = json!({"token": "t", "expires_at": 1_000, "refresh_in": 1_200}).to_string();
    assert_eq!(read(200, &behind).unwrap()["expires"], expires);
    for others in ["<html>Proxy authentication</html>", "{}", r#"{"message":"Unauthorized"}"#] {
        assert_eq!(read(401, others).expect_err("a proxy's").class, FailureClass::AnsweredUnspent, "{others}");
    }
    assert_eq!(read(401, r#"{"message":"Bad credentials"}"#).expect_err("revoked").class, FailureClass::AnsweredDead);
    assert_eq!(read(403, r#"{"message":"API rate limit exceeded"}"#).expect_err("busy").class, UNSPENT);
    // Asking again never hurts.
    assert_eq!(read(500, "").expect_err("down").class, FailureClass::NotSent);
}
