use super::*;
use serde_json::json;

const UNSPENT: FailureClass = FailureClass::AnsweredUnspent;
const DEAD: FailureClass = FailureClass::AnsweredDead;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

/// The class of an answer. Status 0: nothing is known of one.
fn class(status: u16, body: Value) -> FailureClass {
    let body = object(body);
    let status = Some(status).filter(|status| *status > 0);
    classify(&Evidence { status, bodies: vec![&body], ..Evidence::default() }).class
}

/// The class of an error that has nothing but a message.
fn by_message(message: &str) -> FailureClass {
    classify(&Evidence { messages: vec![message], ..Evidence::default() }).class
}

#[test]
fn a_status_alone_tells_whether_the_token_was_looked_at() {
    for (status, expected) in [
        (400, UNSPENT),
        (401, UNSPENT),
        (418, UNSPENT),
        (429, UNSPENT),
        (503, UNSPENT),
        (529, UNSPENT),
        (301, UNSPENT),
        (307, UNSPENT),
        (200, FailureClass::Uncertain),
        (303, FailureClass::Uncertain),
        (408, FailureClass::Uncertain),
        (499, FailureClass::Uncertain),
        (500, FailureClass::Uncertain),
        (502, FailureClass::Uncertain),
        (504, FailureClass::Uncertain),
        (507, FailureClass::Uncertain),
        (520, FailureClass::Uncertain),
        (524, FailureClass::Uncertain),
        (511, FailureClass::NotSent),
        (521, FailureClass::NotSent),
        (522, FailureClass::NotSent),
        (523, FailureClass::NotSent),
        (525, FailureClass::NotSent),
        (526, FailureClass::NotSent),
        (530, FailureClass::NotSent),
    ] {
        assert_eq!(class(status, json!({})), expected, "{status}");
    }
}

#[test]
fn a_code_counts_in_any_case_with_any_status_of_the_provider() {
    for (status, code, expected) in [
        (400, "invalid_grant", DEAD),
        (200, "Bad_Refresh_Token", DEAD),
        (0, "refresh_token_expired", DEAD),
        (400, " INVALID_REFRESH_TOKEN ", DEAD),
        (200, "incorrect_client_credentials", UNSPENT),
        (0, "temporarily_unavailable", UNSPENT),
        (500, "invalid_grant", FailureClass::Uncertain),
        (502, "invalid_grant", FailureClass::Uncertain),
        // The provider is busy, whatever its code says.
        (429, "invalid_grant", UNSPENT),
        (503, "invalid_grant", UNSPENT),
        (200, "invalid_grants", FailureClass::Uncertain),
    ] {
        assert_eq!(class(status, json!({ "error": code })), expected, "{status} {code}");
    }
}

#[test]
fn a_code_counts_at_its_place_and_beside_what_it_needs() {
    for (body, expected) in [
        (json!({ "error": { "code": "refresh_token_reused", "type": "invalid_request_error" } }), DEAD),
        (json!({ "errors": [{ "code": "other" }, { "code": "invalid", "field": "refresh_token" }] }), DEAD),
        (json!({ "errors": [{ "code": "invalid", "field": "client_id" }] }), UNSPENT),
        (json!({ "status": 400, "message": "Invalid refresh token" }), DEAD),
        (json!({ "message": "Invalid refresh token" }), UNSPENT),
        (json!({ "error": { "message": "TOKEN_EXPIRED", "code": 400 } }), DEAD),
        (json!({ "message": "TOKEN_EXPIRED" }), UNSPENT),
        (json!({ "error": { "code": 190, "type": "OAuthException" } }), DEAD),
        (json!({ "error": { "code": 190, "type": "other" } }), UNSPENT),
        (json!({ "error": "invalid_grant", "error_codes": [70008] }), DEAD),
        (json!({ "error": "invalid_grant", "error_codes": [1, 50196] }), UNSPENT),
        (json!({ "error": "invalid_grant", "error_description": "token request is already being processed" }), UNSPENT),
        (json!({ "error": "invalid_grant", "error_description": "expired access/refresh token" }), DEAD),
        (json!({ "hint": "invalid_grant" }), UNSPENT),
    ] {
        assert_eq!(class(400, body.clone()), expected, "{body}");
    }
}

#[test]
fn a_refusal_that_passes_is_known_by_its_sentence_wherever_that_stands() {
    for said in ["error_description", "message", "description", "errorMessage"] {
        for sentence in ["token request is already being processed", " Token request is already being processed."] {
            assert_eq!(class(400, json!({ "error": "invalid_grant", said: sentence })), UNSPENT, "{said} {sentence}");
        }
    }
    let busy = "Token request is already being processed.";
    assert_eq!(class(0, json!({ "name": "invalid_grant", "message": busy })), UNSPENT);
    let body = object(json!({ "errorCode": "invalid_grant" }));
    let by_message = Evidence { bodies: vec![&body], messages: vec![busy], ..Evidence::default() };
    assert_eq!(classify(&by_message).class, UNSPENT);
    let blocked = "AADSTS53003: Access has been blocked by Conditional Access policies.";
    for code in ["invalid_grant", "interaction_required"] {
        assert_eq!(class(400, json!({ "error": code, "error_codes": [53003] })), UNSPENT);
        assert_eq!(class(400, json!({ "error": code, "error_description": blocked })), UNSPENT);
        assert_eq!(class(400, json!({ "error": code, "error_codes": [50076] })), DEAD);
        assert_eq!(class(400, json!({ "error": code, "error_description": "AADSTS530031: x" })), DEAD);
    }
}

#[test]
fn a_session_that_is_over_is_the_grants_only_in_a_token_endpoints_words() {
    for (status, body, expected) in [
        (400, json!({ "error": "login_required" }), DEAD),
        (401, json!({ "error": "login_required" }), DEAD),
        (200, json!({ "error": "consent_required" }), DEAD),
        (403, json!({ "error": "login_required" }), UNSPENT),
        (407, json!({ "error": "login_required" }), UNSPENT),
        (401, json!({ "code": "login_required" }), UNSPENT),
        (0, json!({ "code": "login_required" }), FailureClass::Uncertain),
        (0, json!({ "error": "interaction_required" }), FailureClass::Uncertain),
        (0, json!({ "name": "InteractionRequiredAuthError", "errorCode": "interaction_required" }), DEAD),
        (400, json!({ "code": "session_expired", "message": "Invalid Refresh Token: Session Expired" }), DEAD),
        (400, json!({ "error_code": "session_not_found", "msg": "Invalid Refresh Token: No Session" }), DEAD),
        (401, json!({ "error": "session_expired" }), UNSPENT),
        (400, json!({ "code": "session_expired" }), UNSPENT),
        (0, json!({ "code": "session_expired" }), FailureClass::Uncertain),
        (0, json!({ "errors": [{ "code": "invalid", "field": "refresh_token" }] }), FailureClass::Uncertain),
        (403, json!({ "error": { "message": "TOKEN_EXPIRED" } }), UNSPENT),
    ] {
        assert_eq!(class(status, body.clone()), expected, "{status} {body}");
    }
    assert_eq!(by_message("login_required"), FailureClass::Uncertain);
}

#[test]
fn reuse_is_said_by_a_description_alone() {
    let reused = "Your refresh token has already been used to generate a new access token.";
    for (status, body, expected) in [
        (400, json!({ "error": { "message": reused } }), DEAD),
        (401, json!({ "message": "Refresh token has already been used" }), DEAD),
        (400, json!({ "error": "refresh_token_reused " }), DEAD),
        (400, json!({ "error": "server_error", "refresh_token_reused": false }), UNSPENT),
        (
            401,
            json!({ "error": "invalid_client", "error_description": "not the same as refresh_token_reused" }),
            UNSPENT,
        ),
        (400, json!({ "error": "server_error", "error_description": reused }), UNSPENT),
        (400, json!({ "message": "see https://docs.example/errors#refresh_token_reused" }), UNSPENT),
        (400, json!({ "message": "<a href=\"x\">refresh_token_reused</a>" }), UNSPENT),
        (404, json!({ "message": reused }), UNSPENT),
        (403, json!({ "message": reused }), UNSPENT),
    ] {
        assert_eq!(class(status, body.clone()), expected, "{status} {body}");
    }
    for message in [
        r#"failed: {"error":"server_error","refresh_token_reused":false}"#,
        r#"failed: {"error":"server_error","refresh_token_reused":fal"#,
        "failed: <html><a href='#x'>refresh_token_reused</a>",
    ] {
        assert_eq!(by_message(message), FailureClass::Uncertain, "{message}");
    }
}

#[test]
fn a_connection_that_broke_says_more_than_words() {
    let broken = |status, messages| {
        let told_status = Some(401);
        classify(&Evidence { status, told_status, messages, connection_lost: true, ..Evidence::default() }).class
    };
    assert_eq!(broken(None, vec!["failed (401)"]), FailureClass::Uncertain);
    assert_eq!(broken(None, vec![r#"{"error":"invalid_grant"}"#]), FailureClass::Uncertain);
    assert_eq!(broken(Some(401), vec![r#"{"error":"invalid_grant"}"#]), DEAD);
}

#[test]
fn words_of_a_message_prove_nothing_but_a_body_or_a_code() {
    for (message, expected) in [
        ("invalid_grant", DEAD),
        (r#"Token refresh failed (401): {"error":"invalid_grant"}"#, DEAD),
        (r#"failed: {not json} {"a":{"b":1}} then {"error":{"code":"refresh_token_expired"}}."#, DEAD),
        ("Your refresh token has already been used to generate a new access token.", DEAD),
        ("temporarily_unavailable", UNSPENT),
        ("the answer was not invalid_grant", FailureClass::Uncertain),
        ("TOKEN_EXPIRED", FailureClass::Uncertain),
        ("Invalid refresh token", FailureClass::Uncertain),
        ("upstream connect error or disconnect/reset before headers", FailureClass::Uncertain),
        ("connect ECONNREFUSED 127.0.0.1:1", FailureClass::Uncertain),
        ("getaddrinfo ENOTFOUND auth.example", FailureClass::Uncertain),
    ] {
        assert_eq!(by_message(message), expected, "{message}");
    }
    let told = |told_status| {
        let messages = vec![r#"{"error":"invalid_grant"}"#];
        classify(&Evidence { told_status: Some(told_status), messages, ..Evidence::default() }).class
    };
    assert_eq!(told(401), DEAD);
    assert_eq!(told(502), FailureClass::Uncertain);
    assert_eq!(told(521), FailureClass::Uncertain);
}

#[test]
fn a_message_is_searched_for_bodies_a_few_times_only() {
    assert!(embedded(&"{".repeat(1 << 20)).is_empty());
    let many = format!("{}{}", "{}".repeat(MAX_EMBEDDED), r#"{"error":"invalid_grant"}"#);
    assert_eq!(embedded(&many).len(), MAX_EMBEDDED);
}

#[test]
fn a_connection_that_never_was_counts_where_no_answer_is_known() {
    let never = |status| classify(&Evidence { status, never_connected: true, ..Evidence::default() }).class;
    assert_eq!(never(None), FailureClass::NotSent);
    assert_eq!(never(Some(502)), FailureClass::Uncertain);
    let told = Evidence { told_status: Some(407), never_connected: true, ..Evidence::default() };
    assert_eq!(classify(&told).class, FailureClass::NotSent);
}

#[test]
fn the_hosts_own_codes_come_first_whatever_the_status() {
    let own = OwnCodes { dead: vec!["E17".to_owned()], unspent: vec!["invalid_grant".to_owned(), "e18".to_owned()] };
    let class = |status, code: &str| {
        let body = object(json!({ "code": code }));
        classify(&Evidence { status: Some(status), bodies: vec![&body], own: Some(&own), ..Evidence::default() }).class
    };
    assert_eq!(class(500, "e17"), DEAD);
    assert_eq!(class(400, "invalid_grant"), UNSPENT);
    assert_eq!(class(500, "E18"), UNSPENT);
    assert_eq!(class(500, "E19"), FailureClass::Uncertain);
}

#[test]
fn a_pause_is_told_as_it_is_made() {
    let pause = |asked| {
        let evidence = Evidence { status: Some(429), retry_after_ms: Some(asked), ..Evidence::default() };
        classify(&evidence).pause
    };
    for (asked, made) in [(0.0, 1_000.0), (5_000.0, 5_000.0), (1e12, 3_600_000.0), (f64::INFINITY, 3_600_000.0)] {
        assert_eq!(pause(asked), Backoff::Asked(made));
    }
}

#[test]
fn what_passes_is_told_from_what_somebody_has_to_mend() {
    let is_temporary = |status, body| {
        let body = object(body);
        classify(&Evidence { status: Some(status), bodies: vec![&body], ..Evidence::default() }).is_temporary
    };
    assert!(is_temporary(429, json!({})) && is_temporary(503, json!({})) && is_temporary(521, json!({})));
    assert!(is_temporary(400, json!({ "error": "slow_down" })));
    assert!(
        !is_temporary(401, json!({ "error": "invalid_client" }))
            && !is_temporary(404, json!({}))
            && !is_temporary(502, json!({}))
    );
}
