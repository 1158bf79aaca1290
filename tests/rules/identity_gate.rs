//! The identity gate: its vectors, and what holds for any two credentials.

mod samples;

use crate::support::property::holds_for_all;
use oauth_refresh_lock::credential::identity::{Refusal, check, is_safe_to_copy, is_same_tenant};
use samples::{
    ACCOUNTS, EMAILS, STRIPPED, STRIPPED_RANGES, anybody, anybody_anywhere, fields, identity, pair,
    pair_that_is_often_equal, told,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// Of each property.
const CASES: u32 = 50_000;

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

#[test]
fn the_answer_for_identities_that_tell_text_follows_the_table() {
    holds_for_all(
        CASES,
        &pair(identity),
        &[true, false],
        |((existing, existing_fields), (incoming, incoming_fields))| {
            let keeps = |existing: Option<usize>, incoming| existing.is_none() || existing == incoming;
            let expected = keeps(existing.account, incoming.account) && keeps(existing.email, incoming.email);
            let safe = is_safe_to_copy(existing_fields, incoming_fields);
            assert_eq!(safe, expected, "{existing_fields:?} {incoming_fields:?}");
            safe
        },
    );
}

#[test]
fn every_spelling_of_an_identity_may_replace_every_other_and_no_other_identity_may() {
    let accounts = ACCOUNTS.iter().enumerate().map(|(row, account)| ("accountId", row, *account));
    let emails =
        EMAILS.iter().enumerate().flat_map(|(row, emails)| emails.iter().map(move |email| ("email", row, *email)));
    let spellings: Vec<_> = accounts.chain(emails).collect();
    let mut white_space = STRIPPED.iter().cycle();
    let mut padded =
        |text| white_space.next().zip(white_space.next()).map(|(one, other)| json!(format!("{one}{text}{other}")));
    for (name, row, text) in &spellings {
        for (_, other_row, other) in spellings.iter().filter(|(other_name, ..)| other_name == name) {
            let [existing, incoming] = [text, other].map(|text| fields([(*name, padded(text))]));
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
fn every_identity_may_replace_itself() {
    holds_for_all(CASES, &anybody_anywhere(), &[true], |one| {
        assert!(is_safe_to_copy(one, one), "{one:?}");
        assert!(is_same_tenant(one, one), "{one:?}");
        assert_eq!(check(one, one), Ok(()), "{one:?}");
        !one.is_empty()
    });
}

#[test]
fn two_different_account_ids_never_pass() {
    holds_for_all(CASES, &pair(anybody), &[true], |(existing, incoming)| {
        let (existing_id, incoming_id) = (told(existing, "accountId"), told(incoming, "accountId"));
        let differ = existing_id.is_some() && incoming_id.is_some() && existing_id != incoming_id;
        assert!(!(differ && is_safe_to_copy(existing, incoming)), "{existing:?} {incoming:?}");
        differ
    });
}

#[test]
fn evidence_never_drops() {
    let kinds = [[true, false], [false, true]];
    holds_for_all(CASES, &pair(anybody), &kinds, |(existing, incoming)| {
        let drops = ["accountId", "email"].map(|name| told(existing, name).is_some() && told(incoming, name).is_none());
        assert!(drops == [false; 2] || !is_safe_to_copy(existing, incoming), "{existing:?} {incoming:?}");
        drops
    });
}

#[test]
fn what_may_replace_one_that_may_replace_a_third_may_replace_the_third() {
    holds_for_all(CASES, &(identity(), identity(), identity()), &[true], |((_, first), (_, second), (_, third))| {
        let chained = is_safe_to_copy(first, second) && is_safe_to_copy(second, third);
        assert!(!chained || is_safe_to_copy(first, third), "{first:?} {second:?} {third:?}");
        chained
    });
}

#[test]
fn the_answer_depends_on_the_evidence_alone() {
    holds_for_all(CASES, &pair(anybody), &[true, false], |(existing, incoming)| {
        let safe = is_safe_to_copy(existing, incoming);
        assert_eq!(is_safe_to_copy(existing, incoming), safe);
        // Another order of keys, and fields that are none of the gate's business.
        let disguised = |one: &Fields, n: u32| {
            let mut disguised = fields(["access", "AccountId", "Email"].map(|name| (name, Some(json!(n)))));
            disguised.extend(one.iter().rev().map(|(name, value)| (name.clone(), value.clone())));
            disguised
        };
        assert_eq!(is_safe_to_copy(&disguised(existing, 1), &disguised(incoming, 2)), safe);
        safe
    });
}

#[test]
fn a_copy_needs_provider_tenant_and_identity_and_the_first_that_refuses_is_named() {
    let kinds = [Ok(()), Err(Refusal::Provider), Err(Refusal::Tenant), Err(Refusal::Identity)];
    holds_for_all(CASES, &pair_that_is_often_equal(), &kinds, |(existing, incoming)| {
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
        expected
    });
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
