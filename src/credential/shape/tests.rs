use super::*;
use serde_json::json;

const NOW: f64 = 1_700_000_000_000.0;

fn of(value: &Value) -> Value {
    understood(&value.to_string(), &Given::default(), NOW)
        .map_or(Value::Null, |fields| Value::Object(fields.values().clone()))
}

#[test]
fn an_answer_in_any_spelling_has_our_names() {
    for given in [
        json!({"access_token":"a","refresh_token":"r","id_token":"i","expires_in":60,"scope":"s","token_type":"b"}),
        json!({"accessToken":"a","refreshToken":"r","idToken":"i","expiresAt":NOW + 60_000.0,"scopes":["s"]}),
        json!({"AccessToken":"a","RefreshToken":"r","IdToken":"i","ExpiresIn":"60"}),
        json!({"access_token":"a","refresh_token":"r","id_token":"i","expiry_date":NOW + 60_000.0}),
        json!({"accessToken":"a","refreshToken":"r","idToken":"i","expiresOn":"2023-11-14T22:14:20.000Z","account":{}}),
    ] {
        let mut found = of(&given);
        assert_eq!(found["expires"].as_f64(), Some(NOW + 60_000.0), "{given}");
        found["expires"] = json!(null);
        assert_eq!(found, json!({"access":"a","refresh":"r","idToken":"i","expires":null}), "{given}");
    }
}

#[test]
fn an_answer_is_found_inside_its_wrappers() {
    let answer = json!({"access_token":"a","refresh_token":"r"});
    for wrapped in [
        json!({"data": answer, "status": 200, "config": {"data": {"refresh_token": "old"}}}),
        json!({"body": answer.to_string()}),
        json!({"data": {"status": 0, "body": answer}}),
        json!({"tokens": answer, "res": {"data": {"access_token": "other"}}}),
        json!({"token": answer}),
        json!({"ok": true, "authed_user": answer}),
    ] {
        assert_eq!(of(&wrapped), json!({"access":"a","refresh":"r"}), "{wrapped}");
    }
    for none in [
        json!({"config": answer}),
        json!({"a": answer}),
        json!({"token": 7}),
        json!({"token": "csrf"}),
        json!({"data": [answer]}),
    ] {
        assert!(!holds_token(&none.to_string()), "{none}");
    }
    let deep = json!({"data": {"data": {"data": {"data": answer}}}});
    assert!(!holds_token(&deep.to_string()));
}

#[test]
fn an_answer_is_found_where_a_token_has_a_wrapper_of_its_own() {
    let answer = json!({"accessToken":"a","refreshToken":"r"});
    let expected = json!({"access":"a","refresh":"r"});
    for wrapped in [
        json!({"data": {"refreshToken": answer}}),
        json!({"data": {"refresh": answer}}),
        json!({"data": {"rotate": answer}}),
        json!({"access": {"token": "a"}, "refresh": {"token": "r"}}),
        json!({"tokens": {"accessToken": {"accessToken": "a"}, "refreshToken": {"refreshToken": "r"}}}),
        json!({"_data": answer}),
        json!({"response": {"data": answer}}),
        json!({"token": "csrf", "data": answer}),
        json!({"token": "csrf", "refreshToken": "", "data": answer}),
        json!({"token": "a", "refresh_token": "r"}),
        json!(answer.to_string()),
    ] {
        assert_eq!(of(&wrapped), expected, "{wrapped}");
        assert!(holds_token(&wrapped.to_string()), "{wrapped}");
    }
    let marked = format!("\u{FEFF}{answer}");
    assert!(holds_token(&marked) && holds_token(&json!({ "body": marked }).to_string()));
    let dated =
        json!({"access": {"token": "a", "expires": NOW + 9.0}, "refresh": {"token": "r", "expires": NOW + 99.0}});
    assert_eq!(of(&dated), json!({"refresh":"r","access":"a","expires":NOW + 9.0,"refreshExpires":NOW + 99.0}));
    assert_eq!(of(&json!({"token":"a","expiresOnTimestamp":NOW + 9.0})), json!({"access":"a","expires":NOW + 9.0}));
}

#[test]
fn our_own_names_win_and_keep_what_is_beside_them() {
    let given = json!({"access":"a","access_token":"other","refresh":"r","refreshToken":"other",
        "expires":NOW + 1.0,"expires_in":9,"scope":"s"});
    assert_eq!(of(&given), given);
    let mixed = json!({"access":"a","refresh_token":"r","refresh":"","expires":null,"expires_in":1,"x":1});
    assert_eq!(of(&mixed), json!({"access":"a","refresh":"r","expires":1_700_000_001_000_i64,"x":1}));
}

#[test]
fn an_expiry_is_what_its_size_says() {
    let expires = |value: Value| of(&json!({"access":"a","expires":value}))["expires"].as_f64();
    let hour = Some(NOW + 3_600_000.0);
    for same in [
        json!(NOW + 3_600_000.0),
        json!((NOW + 3_600_000.0) / 1000.0),
        json!(3600),
        json!("3600"),
        json!("1700003600000"),
        json!("2023-11-14T23:13:20.000Z"),
        json!("2023-11-15T01:13:20+02:00"),
        json!("2023-11-14T21:43:20.000000-01:30"),
    ] {
        assert_eq!(expires(same.clone()), hour, "{same}");
    }
    for none in ["NaN", "soon", "", "2023-11-14T23:13:20", "2023-11-14", "+02:00", "Infinity", "é+02:00"] {
        assert_eq!(expires(json!(none)), None, "{none}");
    }
    assert_eq!(expires(json!(true)), None);
    assert_eq!(expires(json!(9e15)), Some(MAX_DATE_MS));
    for past in [NOW - 1.0, 0.0, -5.0] {
        assert_eq!(expires(json!(past)), Some(past));
    }
    assert_eq!(of(&json!({"access_token":"a","expires_in":0})), json!({"access":"a"}));
    let either = json!({"access_token":"a","expires_at":1_700_000_009,"expires_in":5});
    assert_eq!(of(&either), json!({"access":"a","expires":1_700_000_005_000_i64}));
}

#[test]
fn of_another_shape_only_what_we_know_is_kept() {
    let given =
        json!({"access_token":"a","email":"u@e","accountId":7,"idToken":"","provider":"p","type":"x","expires_in":"?"});
    assert_eq!(of(&given), json!({"access":"a","email":"u@e"}));
}
