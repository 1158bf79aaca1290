//! What every other answer means.

use super::{UNSPENT, answer, credential, endpoint, failure, jwt, read};
use crate::support::property::holds_for_all;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::failure::{Backoff, FailureClass};
use oauth_refresh_lock::token_endpoint::answer::Response;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::sample::{Index, select};
use proptest::strategy::Strategy;
use serde_json::{Value, json};
use zeroize::Zeroizing;

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
    assert_eq!((cut(429).class, cut(429).pause), (FailureClass::AnsweredUnspent, Backoff::Asked(7_000.0)));
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

/// What happens to an answer on its way.
#[derive(Debug, Clone)]
enum Damage {
    CutOff(Index),
    Insert(Index, u8),
    Remove(Index),
    Append(&'static str, usize),
}

/// Answers, of which the first is good.
const ANSWERS: [&str; 3] = [
    r#"{"access_token":"a1","refresh_token":"r1","expires_in":"3600","id_token":"<ID TOKEN>"}"#,
    r#"{"error":{"code":"refresh_token_reused","type":"x"},"access_token":null}"#,
    "access_token=a1&refresh_token=r1&expires_in=28800&scope=&error=bad%5Frefresh",
];

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let odd = select(&b"\"{}[]:,=&%\\\0\xff\xc3e9"[..]);
    prop_oneof![
        at().prop_map(Damage::CutOff),
        (at(), odd).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
        (select(&ANSWERS[..]), 0..40usize).prop_map(|(answer, length)| Damage::Append(answer, length)),
    ]
}

fn damaged(mut body: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let length = body.len();
        match damage {
            Damage::CutOff(at) => body.truncate(at.index(length + 1)),
            Damage::Insert(at, byte) => body.insert(at.index(length + 1), *byte),
            Damage::Remove(at) if length > 0 => drop(body.remove(at.index(length))),
            Damage::Remove(_) => {}
            Damage::Append(answer, length) => body.extend_from_slice(&answer.as_bytes()[..*length]),
        }
    }
    body
}

/// Any bytes at all: no panic, and no success without a token. `FUZZ=1000000` goes on for longer.
#[test]
fn whatever_comes_is_a_token_or_a_failure() {
    let cases = std::env::var("FUZZ").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20_000);
    let id_token = jwt(&json!({"iss": "i", "sub": "s", "exp": 2_000_000_000, "email": "e@example.com"}));
    let endpoint = endpoint();
    let held = credential(&json!({"idToken": id_token, "email": "E@example.com"}));
    let status = select(&[200, 200, 201, 400, 401, 429, 500][..]);
    let answers = (status, select(&ANSWERS[..]), vec(damage(), 0..5));
    holds_for_all(cases, &answers, &[true, false], |(status, body, damages)| {
        let body = damaged(body.replace("<ID TOKEN>", &id_token).into_bytes(), damages);
        let Ok(fields) = read(&endpoint, &held, &answer(*status, &body)) else { return false };
        let is_given = |name| fields.get(name).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        assert!(*status < 300 && (is_given("access") || is_given("refresh")));
        true
    });
}
