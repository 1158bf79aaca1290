//! A key's lock file has the name that OpenClaw gives it, is no other key's, and lies nowhere else.

use crate::support::files::names;
use crate::support::property::holds_for_all;
use oauth_refresh_lock::key::{Key, lock_base, lock_name};
use oauth_refresh_lock::state_dir::normalise;
use proptest::collection::vec;
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::strategy::Strategy;
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

const VECTORS: &str = include_str!("../../__test__/vectors/lock-names.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    provider: String,
    profile_id: String,
    name: String,
}

/// JSON text with U+FFFD for every escaped lone surrogate, as Node encodes them; and how many there were.
fn without_lone_surrogates(json: &str) -> (String, usize) {
    let unit = |at: usize| json.get(at..at + 6)?.strip_prefix("\\u").and_then(|hex| u16::from_str_radix(hex, 16).ok());
    let (mut text, mut lone, mut at) = (String::new(), 0, 0);
    while at < json.len() {
        let is_low = |at| matches!(unit(at), Some(0xDC00..=0xDFFF));
        let length = match unit(at) {
            Some(0xD800..=0xDBFF) if is_low(at + 6) => 12,
            Some(0xD800..=0xDFFF) => 0,
            // An escaped backslash begins no further escape.
            None if json[at..].starts_with("\\\\") => 2,
            _ => json[at..].chars().next().map_or(1, char::len_utf8),
        };
        if length == 0 {
            text.push('\u{FFFD}');
            lone += 1;
            at += 6;
        } else {
            text.push_str(&json[at..at + length]);
            at += length;
        }
    }
    (text, lone)
}

#[test]
fn names_are_those_of_openclaw() {
    let (json, lone_surrogates) = without_lone_surrogates(VECTORS);
    assert_eq!(lone_surrogates, 4);
    let vectors: Vec<Vector> = serde_json::from_str(&json).expect("vectors");
    assert_eq!(vectors.len(), 45);
    for Vector { provider, profile_id, name } in vectors {
        assert_eq!(lock_name(&provider, &profile_id), name, "{provider:?} {profile_id:?}");
    }
}

#[test]
fn lone_surrogates_in_vectors_are_found_and_pairs_are_left_alone() {
    let decoded = |json: &str| serde_json::from_str::<String>(&without_lone_surrogates(json).0).expect("text");
    assert_eq!(decoded(r#""\ud83d\ude00""#), "😀");
    assert_eq!(decoded(r#""\ud83d\ud83d\ude00\ude00""#), "\u{FFFD}😀\u{FFFD}");
    assert_eq!(decoded(r#""\\ud800\\\ud800""#), "\\ud800\\\u{FFFD}");
}

const PIECES: &[&str] = &[
    "..",
    ".",
    "/",
    "\\",
    "../",
    "..\\",
    "/etc/passwd",
    "C:",
    "~",
    "$HOME",
    "`id`",
    "%2e%2e%2f",
    "%00",
    ":",
    "|",
    "*",
    "?",
    "CON",
    "NUL.txt",
    "sha256-",
    ".lock",
    ".reclaim",
    " ",
    "\t",
    "\n",
    "\r",
    "\u{1}",
    "\u{8}",
    "\u{1B}[2J",
    "\u{7F}",
    "\u{85}",
    "\u{A0}",
    "\u{200B}",
    "\u{200D}",
    "\u{200E}",
    "\u{200F}",
    "\u{202A}",
    "\u{202D}",
    "\u{202E}",
    "\u{2066}",
    "\u{2069}",
    "\u{2028}",
    "\u{FEFF}",
    "\u{FFFD}",
    "\u{FFFE}",
    "\u{10FFFF}",
    "é",
    "e\u{301}",
    "ﬁ",
    "fi",
    "İ",
    "ı",
    "😀",
    "日本",
    "__proto__",
    "a",
    "A",
    "b",
];
/// Only profile ids may have it: it ends the provider.
const NUL: &str = "\0";

/// Pairs of provider and profile id, near misses made on purpose: what differs by a hair must not meet.
fn adversarial_pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    let with_nul: Vec<&str> = PIECES.iter().copied().chain([NUL; 6]).collect();
    let piece = || select(PIECES);
    let text = |pieces, most| vec(select(pieces), 0..most).prop_map(|pieces| pieces.concat());
    let neighbours = (text(PIECES.to_vec(), 6), text(with_nul, 8), piece()).prop_map(|(provider, profile_id, tail)| {
        vec![
            (profile_id.replace('\0', ""), provider.clone()),
            (provider.clone(), format!("{profile_id}{tail}")),
            (provider.clone(), format!("{tail}{profile_id}")),
            (format!("{provider}{tail}"), profile_id.clone()),
            (provider, profile_id),
        ]
    });
    // One text, cut in two at every place.
    let cuts = text(PIECES.to_vec(), 8).prop_map(|text| {
        let cuts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        cuts.map(|at| (text[..at].to_owned(), text[at..].to_owned())).collect()
    });
    // 4,000 characters that differ in one.
    let long = (piece(), 0..4_000usize).prop_map(|(filler, at)| {
        let filler = filler.chars().next().unwrap_or('x');
        let mut id = vec![filler; 4_000];
        let same: String = id.iter().collect();
        id[at] = '\u{FFFC}';
        let other: String = id.iter().collect();
        let p = || "p".to_owned();
        vec![(p(), same.clone()), (same, p()), (p(), other.clone()), (other, p())]
    });
    prop_oneof![50 => neighbours, 8 => cuts, 1 => long]
}

fn is_lock_name(name: &str) -> bool {
    name.strip_prefix("sha256-")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[test]
fn no_two_adversarial_keys_share_a_name_and_none_leaves_the_lock_directory() {
    let state = Path::new("/home/someone/.openclaw");
    let lock_dir = state.join("locks").join("oauth-refresh");
    let owners = RefCell::new(HashMap::new());
    holds_for_all(7_000, &adversarial_pairs(), &[()], |pairs| {
        for pair @ (provider, profile_id) in pairs {
            assert!(!provider.contains('\0'), "{pair:?}");
            let base = lock_base(state, provider, profile_id);
            let name = base.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            assert!(is_lock_name(&name), "{name}");
            assert_eq!(name, lock_name(provider, profile_id));
            assert_eq!(base.parent(), Some(&*lock_dir), "{pair:?}");
            assert_eq!(normalise(&base), base, "{pair:?}");
            let mut owners = owners.borrow_mut();
            let owner = owners.entry(name).or_insert_with(|| pair.clone());
            assert_eq!(owner, pair, "they share a name");
        }
    });
    let pairs = owners.borrow().len();
    assert!(pairs >= 30_000, "{pairs} pairs");
}

#[test]
fn only_a_nul_in_the_provider_could_make_two_keys_one_and_it_is_refused() {
    assert_eq!(lock_name("a\0", "b"), lock_name("a", "\0b"));
    assert!(Key::new("a\0", "b").is_err());
    assert!(Key::new("a", "\0b").is_ok());
}

#[test]
fn resolving_a_lock_path_creates_nothing() {
    let state = tempfile::tempdir().expect("temporary directory");
    let base = lock_base(state.path(), "p", "../../x");
    assert!(!base.exists());
    assert_eq!(names(state.path()), Vec::<String>::new());
}
