use super::*;
use serde_json::json;
use std::cell::Cell;
use std::fmt::Write as _;

thread_local! {
    /// How often this thread's test has compared a key with another.
    pub(crate) static COMPARISONS: Cell<usize> = const { Cell::new(0) };
}

/// How many comparisons of keys this takes.
pub(crate) fn comparisons_of(work: impl FnOnce()) -> usize {
    let before = COMPARISONS.get();
    work();
    COMPARISONS.get() - before
}

/// An object with so many members of different names.
pub(crate) fn many(count: usize) -> String {
    let mut text = String::from("{");
    for number in 0..count {
        let _ = write!(text, "{}\"{number:x}\":{number}", if number == 0 { "" } else { "," });
    }
    text.push('}');
    text
}

#[test]
fn twenty_thousand_members_are_no_more_work_each_than_ten() {
    const MANY: usize = 20_000;
    let text = many(MANY);
    let mut fields = Fields::parse(&text).expect("an object");
    let other = fields.clone();
    let comparisons = comparisons_of(|| {
        assert_eq!(Fields::parse(&text).expect("an object").names().count(), MANY);
        // Each key twice: the second finds the first.
        let twice = format!("{},{}", &text[..text.len() - 1], &text[1..]);
        assert_eq!(Fields::parse(&twice).expect("an object").names().count(), MANY);
        fields.overlay(&other, |_, _| true);
        fields.retain(|name, _| name != "0");
        assert_eq!(fields.names().count(), MANY - 1);
    });
    // A scan for each would be hundreds of millions. A hash table compares where a few bits of the hash are alike.
    assert!((MANY..10 * MANY).contains(&comparisons), "{comparisons}");
}

#[test]
fn keeps_every_spelling() {
    let text = r#"{"a":1E2,"b":-0,"c":"\ud83d","\ud800":[1.50, {"d" : 9007199254740993}],"e":"\u0065\"{"}"#;
    let fields = Fields::parse(text).expect("an object");
    assert_eq!(fields.to_json(), text);
    assert_eq!(fields.values()["e"], json!("e\"{"));
    assert_eq!(fields.names().collect::<Vec<_>>(), ["a", "b", "c", r#""\ud800""#, "e"]);
}

#[test]
fn lays_members_out_as_json_stringify_does_and_their_values_not_at_all() {
    let text = "{ \"a\" : [ ] , \"b\":{\n},\"c\":[1,{\"d\":\"x, {y}: \\\"z\\\\\"}],\"e\":null }";
    let expected =
        "{\n    \"a\": [ ],\n    \"b\": {\n},\n    \"c\": [1,{\"d\":\"x, {y}: \\\"z\\\\\"}],\n    \"e\": null\n  }";
    assert_eq!(*Fields::parse(text).expect("an object").to_pretty(2), expected);
    assert_eq!(*Fields::default().to_pretty(2), "{}");
}

#[test]
fn no_layout_counts_in_the_compact_text() {
    let value = json!({"a": [], "b": {}, "c": [1, {"d": "x, {y} : \"z \\"}, " \\\" "], "e": null});
    let spaced = Fields::parse(&format!("{value:#}").replace('\n', "\r\n\t")).expect("an object");
    assert_eq!(*spaced.to_compact(), value.to_string());
}

#[test]
fn what_is_nested_too_deep_is_the_same_in_any_layout() {
    let nested = |space: &str| {
        let (open, close) = (format!("[{space}").repeat(200), format!("{space}]").repeat(200));
        Fields::parse(&format!("{{\"a\":{open}\"x y\"{close}}}")).expect("an object")
    };
    assert_eq!(nested(""), nested("\n  "));
}

#[test]
fn the_last_of_several_equal_keys_counts_in_the_first_ones_place() {
    let fields = Fields::parse(r#"{"a":1,"b":2,"\u0061":3}"#).expect("an object");
    assert_eq!(fields.to_json(), r#"{"a":3,"b":2}"#);
}

#[test]
fn overlays_and_drops_members() {
    let mut fields = Fields::parse(r#"{"a":1,"b":2}"#).expect("an object");
    fields.overlay(&Fields::parse(r#"{"c":1E1,"a":null,"b":3.0}"#).expect("an object"), |_, value| !value.is_null());
    assert_eq!(fields.to_json(), r#"{"a":1,"b":3.0,"c":1E1}"#);
    fields.retain(|name, _| name != "b");
    assert_eq!((fields.to_json().as_str(), fields.values().len()), (r#"{"a":1,"c":1E1}"#, 2));
}

#[test]
fn renames_a_member_in_its_place() {
    let mut fields = Fields::parse(r#"{"a":1.0,"b":2,"c":3}"#).expect("an object");
    fields.rename("a", "b");
    fields.rename("x", "c");
    assert_eq!((fields.to_json().as_str(), fields.values().len()), (r#"{"b":1.0,"c":3}"#, 2));
    assert_eq!((fields.spelled("b"), fields.spelled("a"), fields.values().get("a")), (Some("1.0"), None, None));
}

#[test]
fn is_no_object_but_for_an_object() {
    for text in ["", "[]", "7", "null", "{", "{} {}"] {
        assert!(Fields::parse(text).is_none(), "{text}");
    }
}
