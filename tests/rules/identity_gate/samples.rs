//! Identities of all kinds, so few that two are often the same.

use super::Fields;
use proptest::prelude::{Just, any};
use proptest::sample::select;
use proptest::strategy::Strategy;
use proptest::{option, prop_oneof};
use serde_json::{Value, json};
use std::ops::RangeInclusive;

/// What ECMAScript's `trim()` takes away, by ECMA-262's tables.
pub(super) const STRIPPED_RANGES: [RangeInclusive<char>; 11] = [
    '\u{9}'..='\u{D}',
    ' '..=' ',
    '\u{A0}'..='\u{A0}',
    '\u{1680}'..='\u{1680}',
    '\u{2000}'..='\u{200A}',
    '\u{2028}'..='\u{2028}',
    '\u{2029}'..='\u{2029}',
    '\u{202F}'..='\u{202F}',
    '\u{205F}'..='\u{205F}',
    '\u{3000}'..='\u{3000}',
    '\u{FEFF}'..='\u{FEFF}',
];

/// Some of it.
pub(super) const STRIPPED: &[&str] = &[
    "",
    "\t",
    "\n",
    "\u{B}",
    "\u{C}",
    "\r",
    " ",
    "\u{A0}",
    "\u{1680}",
    "\u{2000}",
    "\u{200A}",
    "\u{2028}",
    "\u{2029}",
    "\u{202F}",
    "\u{205F}",
    "\u{3000}",
    "\u{FEFF}",
    "\r\n \u{FEFF}",
];

/// No two are one account: case counts, and so does what looks like white space and is none.
pub(super) const ACCOUNTS: &[&str] = &[
    "acct-1",
    "Acct-1",
    "ACCT-1",
    "acct-2",
    "acct 1",
    "acct\u{A0}1",
    "\u{85}acct-1",
    "acct-1\u{85}",
    "\u{200B}acct-1",
    "\u{180E}acct-1",
    "é",
    "e\u{301}",
    "İ",
    "i\u{307}",
    "ΑΣ",
    "ας",
    "0",
    "null",
    "undefined",
    "\u{85}",
    "😀",
];

/// Each row is one address in several spellings; no two rows are one.
pub(super) const EMAILS: &[&[&str]] = &[
    &["u@example.com", "U@example.com", "U@EXAMPLE.COM", "u@Example.Com"],
    &["v@example.com", "V@example.com"],
    &["u@example.co", "U@EXAMPLE.CO"],
    &["josé@example.com", "JOSÉ@EXAMPLE.COM", "JosÉ@example.com"],
    &["jose\u{301}@example.com", "JOSE\u{301}@EXAMPLE.COM"],
    &["i\u{307}@x", "İ@x", "I\u{307}@X"],
    &["i@x", "I@X"],
    &["ı@x", "ı@X"],
    &["ας@x", "ΑΣ@x", "αΣ@X"],
    &["ασ@x", "Ασ@X"],
    &["ασ.β@x", "ΑΣ.Β@x"],
    &["ας.β@x", "Ας.Β@X"],
    &["k@x", "K@x", "\u{212A}@x"],
    &["ß@x", "ẞ@x"],
    &["ss@x", "SS@x"],
    &["\u{85}u@example.com", "\u{85}U@example.com"],
    &["u@example.com\u{85}"],
    &["\u{200B}u@example.com"],
];

/// What somebody is: the row of [`ACCOUNTS`] and of [`EMAILS`], as far as it is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub account: Option<usize>,
    pub email: Option<usize>,
}

pub(super) fn fields<const N: usize>(values: [(&str, Option<Value>); N]) -> Fields {
    values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// One of the ways to write the same text.
fn padded(text: &'static str) -> impl Strategy<Value = Value> {
    (select(STRIPPED), select(STRIPPED)).prop_map(move |(before, behind)| json!(format!("{before}{text}{behind}")))
}

/// One of the ways not to tell.
fn absent() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![Just(None), Just(Some(Value::Null)), padded("").prop_map(Some)]
}

/// An account, told in two cases of three, and how it is written. One of few, so that two are often the same.
fn account() -> impl Strategy<Value = (Option<usize>, Option<Value>)> {
    let told = |row| padded(ACCOUNTS[row]).prop_map(move |value| (Some(row), Some(value)));
    prop_oneof![1 => absent().prop_map(|value| (None, value)), 2 => (0..4usize).prop_flat_map(told)]
}

/// The same for an address.
fn email() -> impl Strategy<Value = (Option<usize>, Option<Value>)> {
    let spelled = |row| select(EMAILS[row]).prop_flat_map(padded).prop_map(move |value| (Some(row), Some(value)));
    prop_oneof![1 => absent().prop_map(|value| (None, value)), 2 => (0..10usize).prop_flat_map(spelled)]
}

pub(super) fn identity() -> impl Strategy<Value = (Identity, Fields)> {
    (account(), email()).prop_map(|((account, account_value), (email, email_value))| {
        (Identity { account, email }, fields([("accountId", account_value), ("email", email_value)]))
    })
}

fn json(texts: &'static [&'static str]) -> impl Strategy<Value = Value> {
    select(texts).prop_map(|text| serde_json::from_str(text).expect("a value"))
}

/// A value of any kind, likely to meet its like.
fn any_value() -> impl Strategy<Value = Option<Value>> {
    const ODD: &[&str] = &[
        "0",
        "1",
        "-1",
        "1.0",
        "1e400",
        "true",
        "false",
        "[]",
        "[\"acct-1\"]",
        "{}",
        "{\"id\":\"acct-1\"}",
        "\"1\"",
        "\"true\"",
        "\"[]\"",
        "\"0\"",
    ];
    prop_oneof![
        2 => absent(),
        3 => account().prop_map(|(_, value)| value),
        1 => email().prop_map(|(_, value)| value),
        2 => json(ODD).prop_map(Some),
    ]
}

pub(super) fn anybody() -> impl Strategy<Value = Fields> {
    (any_value(), any_value()).prop_map(|(account, email)| fields([("accountId", account), ("email", email)]))
}

pub(super) fn anybody_anywhere() -> impl Strategy<Value = Fields> {
    const PROVIDERS: &[&str] = &["null", "\"p\"", "\"p\"", "\"P\""];
    const URLS: &[&str] =
        &["null", "\"\"", "\"https://ghe.example.com/\"", "\"GHE.example.com\"", "\"github.com\"", "7"];
    const PROJECTS: &[&str] = &["null", "\" \"", "\"one\"", "\" one\"", "\"ONE\"", "1"];
    let field = |texts| {
        (json(texts), any::<bool>())
            .prop_map(|(value, is_told)| Some(value).filter(|value| is_told || !value.is_null()))
    };
    (anybody(), field(PROVIDERS), field(URLS), field(PROJECTS)).prop_map(|(mut anybody, provider, url, project)| {
        anybody.extend(fields([("provider", provider), ("enterpriseUrl", url), ("projectId", project)]));
        anybody
    })
}

pub(super) fn pair<S: Strategy>(of: impl Fn() -> S) -> impl Strategy<Value = (S::Value, S::Value)> {
    (of(), of())
}

pub(super) fn pair_that_is_often_equal() -> impl Strategy<Value = (Fields, Fields)> {
    (anybody_anywhere(), option::of(anybody_anywhere())).prop_map(|(existing, other)| {
        let incoming = other.unwrap_or_else(|| existing.clone());
        (existing, incoming)
    })
}

/// What a field says: `None` if nothing. Two equal answers are the same evidence, two different ones are not.
///
/// White space as listed above, and all else as it stands; lower case is left to the rows of [`EMAILS`].
pub(super) fn told(one: &Fields, name: &str) -> Option<Value> {
    match one.get(name)? {
        Value::Null => None,
        Value::String(text) => {
            let text = text.trim_matches(|c| STRIPPED_RANGES.iter().any(|range| range.contains(&c)));
            (!text.is_empty()).then(|| json!(text))
        }
        other => Some(other.clone()),
    }
}
