//! What is sent to a token endpoint only if it is safe, and what its answers mean. No network: `__test__/` has that.

#![allow(clippy::too_many_lines, reason = "a test tells one story")]
#![cfg(feature = "token-endpoint")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::failure::{FailureClass, OwnCodes, Pause};
use oauth_refresh_lock::token_endpoint::answer::Response;
use oauth_refresh_lock::token_endpoint::{
    ClientAuth, Encoding, Exchange, Failure, IdentityClaims, Spec, TimeUnit, TokenEndpoint,
};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

const NOW: i64 = 1_700_000_000_000;
const NOW_MS: f64 = 1_700_000_000_000.0;
const UNSPENT: FailureClass = FailureClass::AnsweredUnspent;

fn spec(token_endpoint: &str) -> Spec {
    Spec {
        token_endpoint: token_endpoint.to_owned(),
        enterprise_token_endpoint: None,
        client_id: Some("client".to_owned()),
        client_secret: None,
        client_auth: None,
        encoding: Encoding::Form,
        exchange: Exchange::RefreshToken,
        scope: None,
        resource: Vec::new(),
        headers: Vec::new(),
        identity_claims: IdentityClaims {
            account_id: Some(vec!["https://api.example/auth".to_owned(), "account".to_owned()]),
            email: None,
        },
        envelope: Vec::new(),
        expires_in_unit: TimeUnit::Seconds,
        is_replay_safe: false,
        own_codes: OwnCodes::default(),
    }
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn endpoint() -> TokenEndpoint {
    TokenEndpoint::new(spec("https://auth.example/token")).unwrap()
}

fn credential(fields: &Value) -> Credential {
    let mut held = json!({"type": "oauth", "provider": "x", "access": "a0", "refresh": "r0", "expires": 1});
    held.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    match held {
        Value::Object(held) => Credential::from_profile(held).unwrap(),
        _ => unreachable!(),
    }
}

fn answer(status: u16, body: &[u8]) -> Response {
    Response { status, retry_after: None, body: Zeroizing::new(body.to_vec()), is_whole: true }
}

fn read(endpoint: &TokenEndpoint, held: &Credential, answer: &Response) -> Result<Map<String, Value>, Failure> {
    let fields = endpoint.read(held, NOW_MS..NOW_MS + 1.0, answer)?;
    Ok(serde_json::from_str(&fields).expect("an object"))
}

/// What an answer of 200 makes of a credential of which nothing is known.
fn fields(body: &str) -> Value {
    read(&endpoint(), &credential(&json!({})), &answer(200, body.as_bytes())).unwrap_or_else(|f| panic!("{f:?}")).into()
}

fn failure(status: u16, body: &str) -> Failure {
    read(&endpoint(), &credential(&json!({})), &answer(status, body.as_bytes())).expect_err(body)
}

fn jwt(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[test]
fn a_token_is_only_sent_where_nobody_can_read_it_on_the_way() {
    for url in [
        "https://auth.example/token",
        "http://127.0.0.1:1/t",
        "http://127.9.9.9/t",
        "http://[::1]/",
        "http://localhost:8/",
    ] {
        assert!(TokenEndpoint::new(spec(url)).is_ok(), "{url}");
    }
    for url in [
        "",
        "token",
        "//auth.example/token",
        "ftp://auth.example/",
        "http://auth.example/",
        "http://localhost.example/",
        "http://127.0.0.1.example/",
        "http://[::2]/",
        "https://user@auth.example/",
        "https://user:password@auth.example/",
        "https://auth.example/#x",
    ] {
        let error = TokenEndpoint::new(spec(url)).expect_err(url);
        assert_eq!(error.code, Code::InvalidArgument, "{url}");
        assert!(!error.message.contains("password"), "{error}");
    }
}

#[test]
fn a_request_that_contradicts_itself_is_refused() {
    let refused: [fn(&mut Spec); 12] = [
        |spec| spec.client_auth = Some(ClientAuth::Basic),
        |spec| spec.client_auth = Some(ClientAuth::Post),
        |spec| (spec.client_secret, spec.client_auth) = (Some(secret("s")), Some(ClientAuth::None)),
        |spec| (spec.client_secret, spec.client_id) = (Some(secret("s")), None),
        |spec| spec.resource = vec!["no uri".to_owned()],
        |spec| spec.resource = vec!["https://api.example/#part".to_owned()],
        |spec| spec.headers = vec![("Host".to_owned(), secret("elsewhere.example"))],
        |spec| spec.headers = vec![("no name".to_owned(), secret("x"))],
        |spec| spec.headers = vec![("x".to_owned(), secret("two\r\nlines"))],
        |spec| spec.enterprise_token_endpoint = Some("https://fixed.example/".to_owned()),
        |spec| spec.exchange = Exchange::GithubCopilot,
        |spec| spec.envelope = vec!["body".to_owned(); 9],
    ];
    for (at, change) in refused.into_iter().enumerate() {
        let mut spec = spec("https://auth.example/token");
        change(&mut spec);
        let error = TokenEndpoint::new(spec).map(|_| at).expect_err("refused");
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(!error.message.contains("lines"), "{error}");
    }
}

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
fn who_it_is_for_is_filled_in() {
    let id_token = jwt(&json!({
        "iss": "https://auth.example", "sub": "u1", "email": "u@example.com",
        "https://api.example/auth": {"account": "acc-1"},
    }));
    let body = json!({"access_token": "a1", "id_token": id_token}).to_string();
    let who = json!({
        "access": "a1", "idToken": id_token, "issuer": "https://auth.example", "subject": "u1",
        "accountId": "acc-1", "email": "u@example.com",
    });
    assert_eq!(fields(&body), who);
    // What is known already stays as it is spelled.
    let known = credential(&json!({"email": " U@Example.com", "accountId": "acc-1", "issuer": "https://auth.example"}));
    let found = read(&endpoint(), &known, &answer(200, body.as_bytes())).unwrap();
    assert_eq!(Value::from(found), json!({"access": "a1", "idToken": id_token, "subject": "u1"}));
    // A JWT access token tells as much where there is no id_token, nor was any.
    let access = jwt(&json!({"iss": "i", "sub": "s", "email": "e@example.com"}));
    let found = fields(&json!({"access_token": access}).to_string());
    assert_eq!(found["subject"], "s");
    let with_id_token = credential(&json!({"idToken": id_token}));
    let found = read(&endpoint(), &with_id_token, &answer(200, json!({"access_token": access}).to_string().as_bytes()));
    assert_eq!(found.unwrap().get("subject"), None);
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
    }
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
fn whoever_changes_their_address_stays_who_they_are() {
    let id_token = |email: &str| jwt(&json!({"iss": "i", "sub": "s", "email": email}));
    let body = json!({"access_token": "a1", "id_token": id_token("new@example.com")}).to_string();
    let after = |held: &Value| read(&endpoint(), &credential(held), &answer(200, body.as_bytes())).expect("accepted");
    let held = json!({"email": "old@example.com", "idToken": id_token("old@example.com")});
    assert_eq!(after(&held).get("email"), None);
    let held = json!({"email": "old@example.com", "issuer": "i", "subject": "s"});
    assert_eq!(after(&held).get("email"), None);
    // Of whom nothing else is known, the gate decides by the address.
    assert_eq!(after(&json!({"email": "old@example.com"}))["email"], "new@example.com");
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
fn failure_in_all_its_forms() {
    use FailureClass::{AnsweredDead, Uncertain};
    for (status, body, code, class, oauth_error) in [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"x"}"#,
            Code::ProviderRefused,
            AnsweredDead,
            Some("invalid_grant"),
        ),
        (200, r#"{"error":"bad_refresh_token"}"#, Code::ProviderRefused, AnsweredDead, Some("bad_refresh_token")),
        (
            200,
            "error=bad_refresh_token&error_description=The+refresh",
            Code::ProviderRefused,
            AnsweredDead,
            Some("bad_refresh_token"),
        ),
        (
            401,
            r#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"refresh_token_reused"}}"#,
            Code::ProviderRefused,
            AnsweredDead,
            Some("refresh_token_reused"),
        ),
        (401, r#"{"message":"Your refresh token has already been used."}"#, Code::ProviderRefused, AnsweredDead, None),
        (401, "Your refresh token has already been used.", Code::ProviderRefused, UNSPENT, None),
        (401, r#"{"error":"invalid_client"}"#, Code::ProviderRefused, UNSPENT, Some("invalid_client")),
        (
            200,
            r#"{"error":"incorrect_client_credentials"}"#,
            Code::ProviderRefused,
            UNSPENT,
            Some("incorrect_client_credentials"),
        ),
        (429, "<html>", Code::ProviderRefused, UNSPENT, None),
        (503, "", Code::ProviderRefused, UNSPENT, None),
        (404, "<html>", Code::ProviderRefused, UNSPENT, None),
        (307, "", Code::ProviderRefused, UNSPENT, None),
        (303, "", Code::ProviderRefused, Uncertain, None),
        (408, "", Code::ProviderRefused, Uncertain, None),
        (500, r#"{"error":"server_error"}"#, Code::ProviderRefused, Uncertain, Some("server_error")),
        (502, "<html>", Code::ProviderRefused, Uncertain, None),
        (200, "<html>welcome to the hotel</html>", Code::ProviderAnswerInvalid, Uncertain, None),
        (200, "", Code::ProviderAnswerInvalid, Uncertain, None),
        (200, "{}", Code::ProviderAnswerInvalid, Uncertain, None),
        (204, "", Code::ProviderAnswerInvalid, Uncertain, None),
        (200, r#"{"access_token":""}"#, Code::ProviderAnswerInvalid, Uncertain, None),
        (200, r#"{"access_token":7}"#, Code::ProviderAnswerInvalid, Uncertain, None),
        (200, r#"[{"access_token":"a1"}]"#, Code::ProviderAnswerInvalid, Uncertain, None),
        (400, r#"{"error":"Secret: r0 is <b>bad</b>"}"#, Code::ProviderRefused, UNSPENT, None),
        (400, r#"{"access_token":"a1"}"#, Code::ProviderRefused, UNSPENT, None),
    ] {
        let failure = failure(status, body);
        assert_eq!((failure.error.code, failure.class), (code, class), "{status} {body}");
        assert_eq!(failure.oauth_error.as_deref(), oauth_error, "{status} {body}");
        assert_eq!(failure.status, Some(status), "{body}");
        assert!(!format!("{failure:?}").contains("r0"), "{failure:?}");
    }
    // Nobody parses what is nested without end.
    let deep = format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000));
    assert_eq!(failure(200, &deep).error.code, Code::ProviderAnswerInvalid);
}

#[test]
fn an_answer_without_an_access_token_still_tells_the_new_refresh_token() {
    assert_eq!(fields(r#"{"refresh_token":"r1"}"#), json!({"refresh": "r1"}));
    // Not of a text that only repeats what was asked with.
    let echo = "You sent grant_type=refresh_token&refresh_token=r0&client_secret=s.";
    assert_eq!(failure(200, echo).error.code, Code::ProviderAnswerInvalid);
}

/// A 200, told as it is to the caller: the new fields, or what went wrong.
fn outcome(body: &[u8]) -> Value {
    match read(&endpoint(), &credential(&json!({})), &answer(200, body)) {
        Ok(fields) => fields.into(),
        Err(failure) => json!([failure.error.code.as_str(), failure.class.as_str()]),
    }
}

#[test]
fn a_token_that_is_no_valid_text_is_refused_and_not_mangled() {
    let with = |name: &str, value: &[u8]| [b"{\"", name.as_bytes(), b"\":", value, b","].concat();
    let unusable: [&[u8]; 12] = [
        b"7",
        b"1.5e3",
        b"true",
        b"false",
        b"{}",
        b"[\"r1\"]",
        b"{\"token\":\"r1\"}",
        b"\"r\xFF1\"",
        b"\"r\xC3\"",
        br#""r\ud800""#,
        br#""\udc00\ud800r""#,
        br#""r\ufffd1""#,
    ];
    for value in unusable {
        let shown = String::from_utf8_lossy(value);
        let beside = |name: &str, rest: &str| outcome(&[&with(name, value)[..], rest.as_bytes()].concat());
        let refused = json!(["provider_answer_invalid", "uncertain"]);
        // The old refresh token may be spent, and what stands for the new one is of no use.
        assert_eq!(beside("refresh_token", r#""access_token":"a1","expires_in":3600}"#), refused, "{shown}");
        assert_eq!(beside("access_token", r#""expires_in":3600}"#), refused, "{shown}");
        // What can be saved is.
        assert_eq!(beside("access_token", r#""refresh_token":"r1"}"#), json!({"refresh": "r1"}), "{shown}");
        // Nobody asks with an id_token.
        assert_eq!(
            beside("id_token", r#""access_token":"a1","refresh_token":"r1"}"#),
            json!({"access": "a1", "refresh": "r1"}),
            "{shown}"
        );
        // What is no token may be spelled as its owner likes.
        assert_eq!(beside("name", r#""access_token":"a1"}"#), json!({"access": "a1"}), "{shown}");
    }
    assert_eq!(outcome(b"access_token=a1&refresh_token=r%FF1"), json!(["provider_answer_invalid", "uncertain"]));
    assert_eq!(outcome(b"access_token=a%FF1&refresh_token=r1"), json!({"refresh": "r1"}));
    assert_eq!(outcome("{\"access_token\":\"\u{e9}\\ud83d\\ude00\"}".as_bytes()), json!({"access": "\u{e9}\u{1f600}"}));
}

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
    // Who is asked for may stand outside of it.
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
fn a_code_that_is_the_token_is_told_to_nobody() {
    let held = credential(&json!({"refresh": "a-token-of-small-letters"}));
    for code in ["a-token-of-small-letters", "token-of-small", "no-a-token-of-small-letters"] {
        let refused = read(&endpoint(), &held, &answer(400, format!(r#"{{"error":"{code}"}}"#).as_bytes()));
        let refused = refused.expect_err(code);
        assert_eq!(refused.oauth_error, None);
        assert!(!refused.error.message.contains("small"), "{}", refused.error.message);
    }
}

#[test]
fn a_json_object_that_is_there_to_its_end_is_an_answer_although_the_connection_broke() {
    let broken = |body: &str| {
        let answer = Response { is_whole: false, ..answer(200, body.as_bytes()) };
        read(&endpoint(), &credential(&json!({})), &answer)
    };
    assert_eq!(broken("{\"access_token\":\"a1\"}\r\n").expect("an answer")["access"], "a1");
    for cut in ["{\"access_token\":\"a1\"", "access_token=a1&refresh_token=r"] {
        assert_eq!(broken(cut).expect_err(cut).error.code, Code::ProviderAnswerLost);
    }
}

#[test]
fn of_an_answer_that_is_cut_off_the_status_still_tells() {
    let cut = |status| {
        let answer =
            Response { status, retry_after: Some("7".to_owned()), body: Zeroizing::default(), is_whole: false };
        read(&endpoint(), &credential(&json!({})), &answer).expect_err("cut off")
    };
    assert_eq!((cut(200).error.code, cut(200).class), (Code::ProviderAnswerLost, FailureClass::Uncertain));
    assert_eq!((cut(429).class, cut(429).pause), (FailureClass::AnsweredUnspent, Pause::Asked(7_000.0)));
}

#[test]
fn a_pause_is_given_in_seconds_or_until_a_date() {
    let pause = |retry_after: &str| {
        let answer = Response {
            status: 503,
            retry_after: Some(retry_after.to_owned()),
            body: Zeroizing::default(),
            is_whole: true,
        };
        read(&endpoint(), &credential(&json!({})), &answer).expect_err("busy").pause.asked_ms()
    };
    assert_eq!(pause(" 120 "), Some(120_000.0));
    // Told as they are made: at least a second, at most an hour.
    assert_eq!(pause("0"), Some(1_000.0));
    assert_eq!(pause("Fri, 31 Dec 1999 23:59:59 GMT"), Some(1_000.0));
    // By the clock of the caller, a minute and a half after the answer was there.
    assert_eq!(pause("Tue, 14 Nov 2023 22:14:50 GMT"), Some(90_000.0 - 1.0));
    assert_eq!(pause("Fri, 31 Dec 9999 23:59:59 GMT"), Some(3_600_000.0));
    assert_eq!(pause(&"9".repeat(400)), Some(3_600_000.0));
    for nonsense in ["", "soon", "-1", "1.5", "1e3"] {
        assert_eq!(pause(nonsense), None, "{nonsense}");
    }
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

/// Any bytes at all: no panic, and no success without a token. `FUZZ=1000000` goes on for longer.
#[test]
fn whatever_comes_is_a_token_or_a_failure() {
    let rounds: u64 = std::env::var("FUZZ").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20_000);
    let id_token = jwt(&json!({"iss": "i", "sub": "s", "exp": 2_000_000_000, "email": "e@example.com"}));
    let seeds = [
        json!({"access_token": id_token, "refresh_token": "r1", "expires_in": "3600", "id_token": id_token})
            .to_string(),
        json!({"error": {"code": "refresh_token_reused", "type": "x"}, "access_token": null}).to_string(),
        "access_token=a1&refresh_token=r1&expires_in=28800&scope=&error=bad%5Frefresh".to_owned(),
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    let endpoint = endpoint();
    let held = credential(&json!({"idToken": id_token, "email": "E@example.com"}));
    let (mut tokens, mut failures) = (0, 0);
    for _ in 0..rounds {
        let mut body = seeds[random(seeds.len())].clone().into_bytes();
        for _ in 0..random(5) {
            let at = random(body.len());
            match random(4) {
                0 => body.truncate(at),
                1 => body.insert(at, b"\"{}[]:,=&%\\\0\xff\xc3e9"[random(16)]),
                2 if at < body.len() => drop(body.remove(at)),
                _ => body.extend_from_slice(&seeds[random(seeds.len())].as_bytes()[..random(40)]),
            }
        }
        let status = [200, 200, 201, 400, 401, 429, 500][random(7)];
        match read(&endpoint, &held, &answer(status, &body)) {
            Ok(fields) => {
                let is_given =
                    |name| fields.get(name).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
                assert!(status < 300 && (is_given("access") || is_given("refresh")));
                tokens += 1;
            }
            Err(_) => failures += 1,
        }
    }
    assert!(tokens > rounds / 20 && failures > rounds / 20, "{tokens} tokens, {failures} failures");
}

#[test]
fn a_tenants_token_goes_nowhere_else() {
    let mut spec = spec("https://auth.example/token");
    spec.enterprise_token_endpoint = Some("https://api.{host}/token".to_owned());
    let at = |spec: Spec, enterprise_url: Value| {
        let endpoint = TokenEndpoint::new(spec).unwrap();
        let url = endpoint.url_for(&credential(&json!({"enterpriseUrl": enterprise_url})));
        url.map_or_else(|error| error.code.as_str().to_owned(), |url| url.to_string())
    };
    for (enterprise_url, url) in [
        (json!(null), "https://auth.example/token"),
        (json!(" "), "https://auth.example/token"),
        (json!("https://GHE.example.com/"), "https://api.ghe.example.com/token"),
        (json!("ghe.example.com/path?x#y"), "https://api.ghe.example.com/token"),
        (json!("auth.example"), "https://auth.example/token"),
        (json!("example"), "https://auth.example/token"),
        (json!("th.example"), "https://api.th.example/token"),
        (json!(false), "invalid_argument"),
        (json!({}), "invalid_argument"),
        (json!("https:///login"), "invalid_argument"),
        (json!("?"), "invalid_argument"),
    ] {
        assert_eq!(at(spec.clone(), enterprise_url.clone()), url, "{enterprise_url}");
    }
    spec.enterprise_token_endpoint = None;
    assert_eq!(at(spec, json!("ghe.example.com")), "invalid_argument");
}
