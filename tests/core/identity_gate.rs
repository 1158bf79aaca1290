//! The identity gate: its vectors, and what holds for any two credentials.

use crate::support::random::Random;
use oauth_refresh_lock::credential::identity::{Refusal, check, is_safe_to_copy, is_same_tenant};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::ops::RangeInclusive;

type Fields = Map<String, Value>;

/// Of each property.
const CASES: usize = 50_000;

#[derive(Deserialize)]
struct Vector {
    existing: Fields,
    incoming: Fields,
    safe: bool,
}

#[test]
fn every_vector_is_decided_as_written() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../__test__/vectors/identity-gate.json")).expect("vectors");
    assert_eq!(vectors.len(), 1321);
    assert_eq!(vectors.iter().filter(|vector| vector.safe).count(), 295);
    for Vector { existing, incoming, safe } in vectors {
        assert_eq!(is_safe_to_copy(&existing, &incoming), safe, "{existing:?} {incoming:?}");
    }
}

/// What ECMAScript's `trim()` takes away, by ECMA-262's tables.
const STRIPPED_RANGES: [RangeInclusive<char>; 11] = [
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
const STRIPPED: &[&str] = &[
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
const ACCOUNTS: &[&str] = &[
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
const EMAILS: &[&[&str]] = &[
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
struct Identity {
    account: Option<usize>,
    email: Option<usize>,
}

fn fields<const N: usize>(values: [(&str, Option<Value>); N]) -> Fields {
    values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// One of the ways to write the same text.
fn padded(random: &mut Random, text: &str) -> Value {
    json!(format!("{}{text}{}", random.one_of(STRIPPED), random.one_of(STRIPPED)))
}

/// One of the ways not to tell.
fn absent(random: &mut Random) -> Option<Value> {
    match random.below(3) {
        0 => None,
        1 => Some(Value::Null),
        _ => Some(padded(random, "")),
    }
}

/// An account, told in two cases of three, and how it is written. One of few, so that two are often the same.
fn account(random: &mut Random) -> (Option<usize>, Option<Value>) {
    if random.below(3) == 0 {
        return (None, absent(random));
    }
    let row = random.below(4);
    (Some(row), Some(padded(random, ACCOUNTS[row])))
}

/// The same for an address.
fn email(random: &mut Random) -> (Option<usize>, Option<Value>) {
    if random.below(3) == 0 {
        return (None, absent(random));
    }
    let row = random.below(10);
    let spelling = random.one_of(EMAILS[row]);
    (Some(row), Some(padded(random, spelling)))
}

fn identity(random: &mut Random) -> (Identity, Fields) {
    let ((account, account_value), (email, email_value)) = (account(random), email(random));
    (Identity { account, email }, fields([("accountId", account_value), ("email", email_value)]))
}

/// A value of any kind, likely to meet its like.
fn any_value(random: &mut Random) -> Option<Value> {
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
    match random.below(8) {
        0 | 1 => absent(random),
        2..=4 => account(random).1,
        5 => email(random).1,
        _ => Some(serde_json::from_str(random.one_of(ODD)).expect("a value")),
    }
}

fn anybody(random: &mut Random) -> Fields {
    fields([("accountId", any_value(random)), ("email", any_value(random))])
}

fn anybody_anywhere(random: &mut Random) -> Fields {
    const PROVIDERS: &[&str] = &["null", "\"p\"", "\"p\"", "\"P\""];
    const URLS: &[&str] =
        &["null", "\"\"", "\"https://ghe.example.com/\"", "\"GHE.example.com\"", "\"github.com\"", "7"];
    const PROJECTS: &[&str] = &["null", "\" \"", "\"one\"", "\" one\"", "\"ONE\"", "1"];
    let mut who = anybody(random);
    for (name, choices) in [("provider", PROVIDERS), ("enterpriseUrl", URLS), ("projectId", PROJECTS)] {
        let value: Value = serde_json::from_str(random.one_of(choices)).expect("a value");
        if value.is_null() && random.below(2) == 0 {
            continue;
        }
        who.insert(name.to_owned(), value);
    }
    who
}

/// Runs a property on [`CASES`] values of a fixed seed. It answers whether the case was of the kind that it is about,
/// and of that kind there must be many.
fn holds_for_all<T>(make: impl Fn(&mut Random) -> T, property: impl Fn(&T) -> bool) {
    let mut random = Random::seeded(42);
    let about = (0..CASES).filter(|_| property(&make(&mut random))).count();
    assert!(about > CASES / 100, "only {about} of {CASES} cases have shown anything");
}

fn pair<T>(make: impl Fn(&mut Random) -> T) -> impl Fn(&mut Random) -> (T, T) {
    move |random| (make(random), make(random))
}

/// What a field says: `None` if nothing. Two equal answers are the same evidence, two different ones are not.
///
/// White space as listed above, and all else as it stands; lower case is left to the rows of [`EMAILS`].
fn told(who: &Fields, name: &str) -> Option<Value> {
    match who.get(name)? {
        Value::Null => None,
        Value::String(text) => {
            let text = text.trim_matches(|c| STRIPPED_RANGES.iter().any(|range| range.contains(&c)));
            (!text.is_empty()).then(|| json!(text))
        }
        other => Some(other.clone()),
    }
}

#[test]
fn the_answer_for_identities_that_tell_text_follows_the_table() {
    for answer in [true, false] {
        holds_for_all(pair(identity), |((existing, existing_fields), (incoming, incoming_fields))| {
            let keeps = |existing: Option<usize>, incoming| existing.is_none() || existing == incoming;
            let expected = keeps(existing.account, incoming.account) && keeps(existing.email, incoming.email);
            let safe = is_safe_to_copy(existing_fields, incoming_fields);
            assert_eq!(safe, expected, "{existing_fields:?} {incoming_fields:?}");
            safe == answer
        });
    }
}

#[test]
fn every_spelling_of_an_identity_may_replace_every_other_and_no_other_identity_may() {
    let mut random = Random::seeded(1);
    for (row, account) in ACCOUNTS.iter().enumerate() {
        for (other_row, other) in ACCOUNTS.iter().enumerate() {
            let existing = fields([("accountId", Some(padded(&mut random, account)))]);
            let incoming = fields([("accountId", Some(padded(&mut random, other)))]);
            assert_eq!(is_safe_to_copy(&existing, &incoming), row == other_row, "{existing:?} {incoming:?}");
        }
    }
    let spellings = || EMAILS.iter().enumerate().flat_map(|(row, emails)| emails.iter().map(move |email| (row, email)));
    for (row, email) in spellings() {
        for (other_row, other) in spellings() {
            let existing = fields([("email", Some(padded(&mut random, email)))]);
            let incoming = fields([("email", Some(padded(&mut random, other)))]);
            assert_eq!(is_safe_to_copy(&existing, &incoming), row == other_row, "{existing:?} {incoming:?}");
        }
    }
}

#[test]
fn every_character_that_ecmascript_trims_is_trimmed_and_no_other() {
    let plain = fields([("accountId", Some(json!("a"))), ("email", Some(json!("u@e")))]);
    for c in '\0'..='\u{FFFF}' {
        let is_stripped = STRIPPED_RANGES.iter().any(|range| range.contains(&c));
        let padded =
            fields([("accountId", Some(json!(format!("{c}a{c}")))), ("email", Some(json!(format!("{c}u@e{c}"))))]);
        assert_eq!(is_safe_to_copy(&plain, &padded), is_stripped, "{c:?}");
        assert_eq!(is_safe_to_copy(&padded, &plain), is_stripped, "{c:?}");
    }
}

#[test]
fn whoever_it_is_may_replace_itself() {
    holds_for_all(anybody_anywhere, |who| {
        assert!(is_safe_to_copy(who, who), "{who:?}");
        assert!(is_same_tenant(who, who), "{who:?}");
        assert_eq!(check(who, who), Ok(()), "{who:?}");
        !who.is_empty()
    });
}

#[test]
fn two_different_account_ids_never_pass() {
    holds_for_all(pair(anybody), |(existing, incoming)| {
        let (existing_id, incoming_id) = (told(existing, "accountId"), told(incoming, "accountId"));
        let differ = existing_id.is_some() && incoming_id.is_some() && existing_id != incoming_id;
        assert!(!(differ && is_safe_to_copy(existing, incoming)), "{existing:?} {incoming:?}");
        differ
    });
}

#[test]
fn evidence_never_drops() {
    for name in ["accountId", "email"] {
        holds_for_all(pair(anybody), |(existing, incoming)| {
            let drops = told(existing, name).is_some() && told(incoming, name).is_none();
            assert!(!(drops && is_safe_to_copy(existing, incoming)), "{existing:?} {incoming:?}");
            drops
        });
    }
}

#[test]
fn what_may_replace_one_that_may_replace_a_third_may_replace_the_third() {
    holds_for_all(
        |random| (identity(random).1, identity(random).1, identity(random).1),
        |(first, second, third)| {
            let chained = is_safe_to_copy(first, second) && is_safe_to_copy(second, third);
            assert!(!chained || is_safe_to_copy(first, third), "{first:?} {second:?} {third:?}");
            chained
        },
    );
}

#[test]
fn the_answer_depends_on_the_evidence_alone() {
    for answer in [true, false] {
        holds_for_all(pair(anybody), |(existing, incoming)| {
            let safe = is_safe_to_copy(existing, incoming);
            assert_eq!(is_safe_to_copy(existing, incoming), safe);
            // Another order of keys, and fields that are none of the gate's business.
            let disguised = |who: &Fields, n: u32| {
                let mut disguised = fields(["access", "AccountId", "Email"].map(|name| (name, Some(json!(n)))));
                disguised.extend(who.iter().rev().map(|(name, value)| (name.clone(), value.clone())));
                disguised
            };
            assert_eq!(is_safe_to_copy(&disguised(existing, 1), &disguised(incoming, 2)), safe);
            safe == answer
        });
    }
}

fn pair_that_is_often_equal(random: &mut Random) -> (Fields, Fields) {
    let existing = anybody_anywhere(random);
    let incoming = if random.below(2) == 0 { existing.clone() } else { anybody_anywhere(random) };
    (existing, incoming)
}

#[test]
fn a_copy_needs_provider_tenant_and_identity_and_the_first_that_refuses_is_named() {
    for answer in [Ok(()), Err(Refusal::Provider), Err(Refusal::Tenant), Err(Refusal::Identity)] {
        holds_for_all(pair_that_is_often_equal, |(existing, incoming)| {
            let expected = if existing.get("provider") != incoming.get("provider") {
                Err(Refusal::Provider)
            } else if !is_same_tenant(existing, incoming) {
                Err(Refusal::Tenant)
            } else if !is_safe_to_copy(existing, incoming) {
                Err(Refusal::Identity)
            } else {
                Ok(())
            };
            assert_eq!(check(existing, incoming), expected, "{existing:?} {incoming:?}");
            expected == answer
        });
    }
}

#[test]
fn a_tenant_is_neither_changed_nor_left_nor_entered_and_a_project_is_only_added() {
    // Rows of `anybody_anywhere`: which tenant, which project.
    let tenants = [
        (json!({}), 0),
        (json!({"enterpriseUrl": " "}), 0),
        (json!({"enterpriseUrl": null}), 0),
        (json!({"enterpriseUrl": "https://GHE.example.com/"}), 1),
        (json!({"enterpriseUrl": "http://ghe.example.com"}), 1),
        (json!({"enterpriseUrl": " ghe.example.com//\n"}), 1),
        (json!({"enterpriseUrl": "github.com"}), 2),
        (json!({"enterpriseUrl": "ghe.example.com/api"}), 3),
        (json!({"enterpriseUrl": "ghe.example.com:8443"}), 4),
        (json!({"enterpriseUrl": 1}), 5),
    ];
    for (existing, tenant) in &tenants {
        for (incoming, other) in &tenants {
            let same = is_same_tenant(existing.as_object().expect("fields"), incoming.as_object().expect("fields"));
            assert_eq!(same, tenant == other, "{existing} {incoming}");
        }
    }
    let projects = [
        (json!({}), None),
        (json!({"projectId": "\u{FEFF}"}), None),
        (json!({"projectId": "one"}), Some("one")),
        (json!({"projectId": "one\n"}), Some("one")),
        (json!({"projectId": "ONE"}), Some("ONE")),
        (json!({"projectId": "two"}), Some("two")),
    ];
    for (existing, project) in &projects {
        for (incoming, other) in &projects {
            let same = is_same_tenant(existing.as_object().expect("fields"), incoming.as_object().expect("fields"));
            assert_eq!(same, project.is_none() || project == other, "{existing} {incoming}");
        }
    }
}
