use super::*;
use crate::credential::fields::tests::{comparisons_of, many};
use serde_json::json;

#[test]
fn twenty_thousand_profiles_are_found_without_a_scan_for_each() {
    const MANY: usize = 20_000;
    let text = format!("{{\"profiles\":{}}}", many(MANY));
    let comparisons = comparisons_of(|| {
        let document = document(&text);
        let ids = document.profile_ids();
        assert_eq!(ids.len(), MANY);
        assert!(ids.iter().all(|id| document.profile(id).is_err()));
    });
    assert!((MANY..10 * MANY).contains(&comparisons), "{comparisons}");
}

#[test]
fn the_encodings_of_windows_are_named() {
    let utf16 = |mark: u16| {
        let units = std::iter::once(mark).chain("{}".encode_utf16());
        units.flat_map(u16::to_le_bytes).collect::<Vec<_>>()
    };
    for (bytes, why) in [
        (b"\xEF\xBB\xBF{}".to_vec(), "a byte order mark; save it as UTF-8 without one"),
        (utf16(0xFEFF), "UTF-16"),
        (utf16(0xFFFE), "UTF-16"),
        (b"{\"\xE9\":1}".to_vec(), "not UTF-8 text"),
    ] {
        let Malformed(told) = Document::parse(bytes).expect_err(why);
        assert!(told.contains(why), "{told}");
    }
}

fn document(text: &str) -> Document {
    Document::parse(text.as_bytes().to_vec()).expect("well-formed")
}

fn map(value: Value) -> Fields {
    match value {
        Value::Object(map) => map.into(),
        _ => panic!("not an object"),
    }
}

#[test]
fn replaces_one_profile_and_leaves_every_other_byte() {
    let text = "{ \"version\":1.0,\n\t\"profiles\" : {\"a\": {\"n\": 1e2, \"\\ud800\":\"\\ud800\"},\n\"b\":{}, \"\\ud800\": 7 } ,\"order\":[ 0.10 ]}\n\n";
    let changed = document(text).with_profile("b", &map(json!({"type": "oauth", "n": [1, {"x": "y\n"}]})));
    let new = "{\n      \"type\": \"oauth\",\n      \"n\": [1,{\"x\":\"y\\n\"}]\n    }";
    assert_eq!(*changed, text.replace("\"b\":{}", &format!("\"b\":{new}")));
}

#[test]
fn a_profile_with_the_same_members_keeps_its_layout_and_their_order() {
    let text = "{\"profiles\":{\"b\":{ \"n\" :1, \"x\":[ 1,\n 2 ] ,\"\\u006e\": 1.0 }}}";
    let changed = document(text).with_profile("b", &Fields::parse("{\"x\":[ 1,\n 2 ],\"n\":\"new\"}").expect("fields"));
    assert_eq!(*changed, text.replace("1.0", "\"new\""));
    let added = document(text).with_profile("b", &Fields::parse(r#"{"y":1,"n":2}"#).expect("fields"));
    assert_eq!(*added, "{\"profiles\":{\"b\":{\n      \"y\": 1,\n      \"n\": 2\n    }}}");
}

#[test]
fn writes_what_json_stringify_writes() {
    let first = Document::empty().with_profile("p:1", &map(json!({"type": "oauth", "expires": 5})));
    let second = document(&first).with_profile("__proto__", &map(json!({"a": []})));
    let expected = "{\n  \"version\": 1,\n  \"profiles\": {\n    \"p:1\": {\n      \"type\": \"oauth\",\n      \"expires\": 5\n    },\n    \"__proto__\": {\n      \"a\": []\n    }\n  }\n}\n";
    assert_eq!(*second, expected);
}

#[test]
fn adds_profiles_where_there_are_none() {
    let profile = map(json!({"a": 1}));
    let added = "\"profiles\": {\n    \"p\": {\n      \"a\": 1\n    }\n  }";
    assert_eq!(*document("{}").with_profile("p", &profile), format!("{{\n  {added}\n}}"));
    assert_eq!(*document(r#"{"x":1}"#).with_profile("p", &profile), format!("{{\"x\":1,\n  {added}}}"));
}

#[test]
fn the_last_of_several_equal_keys_counts() {
    let text = r#"{"profiles":{"p":{"a":1},"\u0070":{"a":2}}}"#;
    assert_eq!(document(text).profile("p").expect("an object"), Some(map(json!({"a": 2}))));
    let changed = document(text).with_profile("p", &map(json!({})));
    assert_eq!(*changed, r#"{"profiles":{"p":{"a":1},"\u0070":{}}}"#);
}

#[test]
fn refuses_what_is_no_store_without_quoting_it() {
    let cases = [
        "",
        "  \n",
        "{",
        "nul",
        "[]",
        "7",
        "{\"profiles\":[\"secret\"]}",
        "{\"profiles\":{\"a\":tru}}",
        "{} {}",
        "\u{FEFF}{}",
    ];
    for text in cases {
        let Malformed(why) = Document::parse(text.as_bytes().to_vec()).expect_err(text);
        assert!(!why.contains("secret"), "{why}");
    }
    assert!(Document::parse(vec![b'{', 0xFF, b'}']).is_err());
    assert!(document(r#"{"profiles":{"p":"secret"}}"#).profile("p").is_err());
}

#[test]
fn takes_a_profile_out_and_leaves_every_other_byte() {
    for (text, left) in [
        (r#"{ "profiles" : {"a": 1 , "it":{"x":1},"b" :2 } }"#, r#"{ "profiles" : {"a": 1 , "b" :2 } }"#),
        (r#"{"profiles":{"it":{} , "b":2}}"#, r#"{"profiles":{"b":2}}"#),
        (r#"{"profiles":{"a":1 , "it":{} }}"#, r#"{"profiles":{"a":1 }}"#),
        (r#"{"profiles":{ "it":{} },"z":0}"#, r#"{"profiles":{  },"z":0}"#),
        // However it is spelled, and however often.
        (r#"{"profiles":{"it":{},"a":1,"\u0069t":{},"it":[]}}"#, r#"{"profiles":{"a":1}}"#),
        (r#"{"profiles":{"it":{}, "it":{}}}"#, r#"{"profiles":{}}"#),
        (r#"{"profiles":{"\ud800":1,"it":{},"\ud800":2}}"#, r#"{"profiles":{"\ud800":1,"\ud800":2}}"#),
        (r#"{"profiles":{"other":{}}}"#, r#"{"profiles":{"other":{}}}"#),
        (r#"{"version":1}"#, r#"{"version":1}"#),
    ] {
        let taken = document(text).without_profile("it");
        assert_eq!(*taken, left);
        document(&taken);
    }
}
