//! A key's lock file has the name that OpenClaw gives it, is no other key's, and lies nowhere else.

use crate::support::files::names;
use crate::support::random::Random;
use oauth_refresh_lock::key::{Key, lock_base, lock_name};
use oauth_refresh_lock::state_dir::normalise;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
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

/// The pairs of one seed. Near misses are made on purpose: what differs by a hair must not meet.
fn adversarial_pairs(seed: u64) -> Vec<(String, String)> {
    let mut random = Random::seeded(seed);
    let with_nul: Vec<&str> = PIECES.iter().copied().chain([NUL; 6]).collect();
    let mut pairs = Vec::new();
    for _ in 0..3_000 {
        let (provider, profile_id) = (random.text_of(PIECES, 6), random.text_of(&with_nul, 8));
        let tail = random.one_of(PIECES);
        pairs.push((profile_id.replace('\0', ""), provider.clone()));
        pairs.push((provider.clone(), format!("{profile_id}{tail}")));
        pairs.push((provider.clone(), format!("{tail}{profile_id}")));
        pairs.push((format!("{provider}{tail}"), profile_id.clone()));
        pairs.push((provider, profile_id));
    }
    for _ in 0..500 {
        // One text, cut in two at every place.
        let text = random.text_of(PIECES, 8);
        let cuts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        pairs.extend(cuts.map(|at| (text[..at].to_owned(), text[at..].to_owned())));
    }
    for _ in 0..60 {
        // 4,000 characters that differ in one.
        let filler = random.one_of(PIECES).chars().next().unwrap_or('x');
        let mut id = vec![filler; 4_000];
        pairs.push(("p".to_owned(), id.iter().collect()));
        pairs.push((id.iter().collect(), "p".to_owned()));
        id[random.below(4_000)] = '\u{FFFC}';
        pairs.push(("p".to_owned(), id.iter().collect()));
        pairs.push((id.iter().collect(), "p".to_owned()));
    }
    pairs
}

fn is_lock_name(name: &str) -> bool {
    name.strip_prefix("sha256-")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[test]
fn no_two_adversarial_keys_share_a_name_and_none_leaves_the_lock_directory() {
    let pairs: HashSet<_> = [0x0A17_u64, 0xC0DE].into_iter().flat_map(adversarial_pairs).collect();
    assert!(pairs.len() >= 30_000, "{} pairs", pairs.len());
    let state = Path::new("/home/someone/.openclaw");
    let lock_dir = state.join("locks").join("oauth-refresh");
    let mut owners = HashMap::new();
    for (provider, profile_id) in &pairs {
        let base = lock_base(state, provider, profile_id);
        let name = base.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert!(is_lock_name(&name), "{name}");
        assert_eq!(name, lock_name(provider, profile_id));
        assert_eq!(base.parent(), Some(&*lock_dir), "{provider:?} {profile_id:?}");
        assert_eq!(normalise(&base), base, "{provider:?} {profile_id:?}");
        if let Some(other) = owners.insert(name, (provider, profile_id)) {
            panic!("{other:?} and {:?} share a name", (provider, profile_id));
        }
    }
    assert_eq!(owners.len(), pairs.len());
}

#[test]
fn only_a_nul_in_the_provider_could_make_two_keys_one_and_it_is_refused() {
    assert_eq!(lock_name("a\0", "b"), lock_name("a", "\0b"));
    assert!(Key::new("a\0", "b").is_err());
    assert!(Key::new("a", "\0b").is_ok());
    for (provider, profile_id) in adversarial_pairs(7) {
        assert!(!provider.contains('\0'), "{provider:?} {profile_id:?}");
    }
}

#[test]
fn resolving_a_lock_path_creates_nothing() {
    let state = tempfile::tempdir().expect("temporary directory");
    let base = lock_base(state.path(), "p", "../../x");
    assert!(!base.exists());
    assert_eq!(names(state.path()), Vec::<String>::new());
}
