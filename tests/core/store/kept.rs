//! What a write keeps.

use super::{read, write};
use crate::support::child::Child;
use crate::support::files::{inode, link, mode, names, put, set_mode, text};
use crate::support::property::holds_for_all;
use crate::support::world::{PROFILE, World, credential, fields, laid_out, oauth, store_with, store_without};
use oauth_refresh_lock::store::document::Document;
use oauth_refresh_lock::store::{Profile, STORE_FILE};
use proptest::collection::vec;
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::strategy::Strategy;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

#[test]
fn a_write_replaces_one_profile_and_keeps_every_other_byte() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    write(&world.sub().store(), PROFILE, &credential("new", 7)).unwrap();
    world.sub().assert_holds(&credential("new", 7));
}

#[test]
fn a_new_profile_comes_last_and_every_other_byte_is_kept() {
    let world = World::new();
    world.sub().put_without_profile();
    write(&world.sub().store(), PROFILE, &credential("new", 7)).unwrap();
    let member = format!(",\n    \"{PROFILE}\": {}", laid_out(&credential("new", 7)));
    let written = text(&world.sub().path());
    assert_eq!(written.replacen(&member, "", 1), store_without());
    assert!(written.find(&member) > written.find("keep:last"));
}

/// Changes one field of a profile that is spelled like this, and asserts that all the rest keeps its spelling.
#[track_caller]
fn assert_spelling_survives(field: &str) {
    let profile =
        |access: &str| format!(r#"{{"z":{field},"type":"oauth","access":"{access}","refresh":"r","a":{field}}}"#);
    let world = World::new();
    let store = world.sub().store();
    put(store.path(), format!("{{\"profiles\":{{\"{PROFILE}\":{}}}}}", profile("SECRET-1")));
    let updated = store.lock().unwrap().update(PROFILE, |old| {
        let Profile::Oauth(old) = old else { panic!("{old:?}") };
        (Some(old.replaced_by(&oauth(&json!({ "type": "oauth", "access": "SECRET-2" })))), ())
    });
    updated.unwrap();
    let without_layout: String = text(store.path()).chars().filter(|c| !c.is_whitespace()).collect();
    assert_eq!(without_layout, format!("{{\"profiles\":{{\"{PROFILE}\":{}}}}}", profile("SECRET-2")));
}

#[test]
fn what_a_profile_holds_beside_the_changed_fields_keeps_spelling_and_order() {
    assert_spelling_survives("[1.50,-0,-0.0,1e-07,1e+3,12345678901234567890.10,1e+400,0.10]");
    assert_spelling_survives(r#"{"y":1,"x":{"b":null,"a":[true]},"":"\"\\😀"}"#);
}

#[test]
fn an_exponent_keeps_its_spelling() {
    assert_spelling_survives("[1E+2,1e2,1E-2,1e400]");
}

#[test]
fn what_serde_json_uses_as_magic_keys_is_plain_data() {
    assert_spelling_survives(r#"{"$serde_json::private::Number":"7"}"#);
    assert_spelling_survives(r#"{"$serde_json::private::RawValue":"7"}"#);
}

#[test]
fn of_equal_keys_the_last_counts_and_the_others_stay() {
    let world = World::new();
    let (old, new) = (credential("old", 0), credential("new", 0));
    let store = |profile: &str| {
        format!(
            "{{\"profiles\":{{\"{PROFILE}\":7}},\"profiles\":{{\"{PROFILE}\":{{}},\"openai\\u002dcodex:me\":{profile},\"x\":1}}}}"
        )
    };
    put(&world.sub().path(), store(&old.to_string()));
    assert_eq!(read(&world.sub().store()), old);
    write(&world.sub().store(), PROFILE, &new).unwrap();
    assert_eq!(text(&world.sub().path()), store(&new.to_string()));
}

#[test]
fn others_data_may_be_nested_as_deep_as_it_likes() {
    let world = World::new();
    let deep = |profile: &Value| {
        let (open, close) = ("[{\"x\":".repeat(20_000), "}]".repeat(20_000));
        format!(
            "{{\"profiles\":{{\"deep\":{open}0{close},\"{PROFILE}\":{}}},\"deep\":{open}1{close}}}",
            laid_out(profile)
        )
    };
    put(&world.sub().path(), deep(&credential("old", 0)));
    write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap();
    assert_eq!(text(&world.sub().path()), deep(&credential("new", 0)));
}

fn text_of(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    vec(select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}

/// JSON text that no printer would make: any value, with any spelling and any white space.
fn any_json() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &["null", "true", "false"];
    const NUMBERS: &[&str] =
        &["0", "-0", "1.0", "1e5", "1E+05", "-1.50e-3", "12345678901234567890123", "1e400", "0.10"];
    const TEXTS: &[&str] =
        &["", "a", "\\u0061", "\\/", "/", "\\ud800", "\\ud83d\\ude00", "😀", "\\u0000", "{}", "\\\"}", "é", "\u{2028}"];
    let space = || text_of(&[" ", "\n", "\t", "\r"], 3);
    let quoted = || text_of(TEXTS, 4).prop_map(|text| format!("\"{text}\""));
    let leaf = prop_oneof![1 => select(WORDS).prop_map(str::to_owned), 1 => select(NUMBERS).prop_map(str::to_owned), 2 => quoted()];
    leaf.prop_recursive(3, 40, 3, move |inner| {
        let padded =
            |inner| (space(), inner, space()).prop_map(|(before, value, behind)| format!("{before}{value}{behind}"));
        let member = (space(), quoted(), space(), padded(inner.clone()))
            .prop_map(|(before, key, behind, value)| format!("{before}{key}{behind}:{value}"));
        prop_oneof![
            vec(padded(inner), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// The text of a store, in two parts: what is before the profile `p`, and what is behind it.
fn surroundings() -> impl Strategy<Value = (String, String)> {
    let around = || (vec(any_json(), 0..4), 0..4usize);
    let others = |name: &str, values: Vec<String>, at: usize| {
        let mut before: Vec<_> =
            values.iter().enumerate().map(|(at, value)| format!("\"{name}{at}\" :{value}")).collect();
        let behind = before.split_off(at.min(before.len()));
        (before, behind)
    };
    (around(), around(), text_of(&[" ", "\n"], 3), text_of(&["\n", " "], 3)).prop_map(
        move |((profiles, at), (top, top_at), space, end)| {
            let ((mut before, behind), (mut top_before, top_behind)) =
                (others("profile", profiles, at), others("top", top, top_at));
            before.push(format!("\"p\":{space}"));
            top_before.push(format!("\"profiles\":{{{}", before.join(",\t")));
            let behind = [vec![String::new()], behind].concat().join(",\t");
            let top_behind = [vec![String::new()], top_behind].concat().join(" ,");
            (format!("{{{}", top_before.join(" ,")), format!("{behind}}}{top_behind}\n}}{end}"))
        },
    )
}

#[test]
fn whatever_stands_around_a_profile_stays_as_it_was() {
    let new = credential("new", 0);
    let expected = |before: &str, behind: &str| format!("{before}{}{behind}", laid_out(&new));
    holds_for_all(3_000, &surroundings(), &[()], |(before, behind)| {
        let document = Document::parse(format!("{before}{{\"old\" : [\"}}\"] }}{behind}").into_bytes()).unwrap();
        assert_eq!(*document.with_profile("p", &fields(&new)), expected(before, behind));
    });
    holds_for_all(20, &surroundings(), &[()], |(before, behind)| {
        let world = World::new();
        put(&world.sub().path(), format!("{before}{{}}{behind}"));
        write(&world.sub().store(), "p", &new).unwrap();
        assert_eq!(text(&world.sub().path()), expected(before, behind));
    });
}

#[test]
fn a_file_keeps_its_mode() {
    for kept in [0o600, 0o640, 0o644, 0o660, 0o400] {
        let world = World::new();
        world.sub().put(&credential("old", 0));
        set_mode(&world.sub().path(), kept);
        write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap();
        assert_eq!(mode(&world.sub().path()), kept, "{kept:o}");
        world.sub().assert_holds(&credential("new", 0));
    }
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for mask in ["000", "022", "027", "077"] {
        let world = World::new();
        world.sub().put(&credential("old", 0));
        set_mode(&world.sub().path(), 0o664);
        Child::spawn("write under a umask", &[world.root().to_str().unwrap(), mask]).ends_well();
        assert_eq!(mode(&world.sub().path()), 0o664, "kept under {mask}");
        assert_eq!(mode(&world.main().path()), 0o600, "new under {mask}");
        assert_eq!(mode(&world.main().directory), 0o700, "new directory under {mask}");
    }
}

// Symbolic links

#[test]
fn a_dangling_link_is_a_missing_store_and_a_write_makes_its_target() {
    let world = World::new();
    link(&world.sub().path(), "../elsewhere/store.json");
    let target = world.sub().directory.join("../elsewhere/store.json");
    assert_eq!(world.sub().store().read(PROFILE).unwrap(), Profile::NoStore);
    assert!(!target.exists());
    write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap();
    assert_eq!(read(&world.sub().store()), credential("new", 0));
    assert_eq!(fs::read_link(world.sub().path()).unwrap(), Path::new("../elsewhere/store.json"));
    assert_eq!((mode(&target), mode(target.parent().unwrap())), (0o600, 0o700));
    assert_eq!(names(target.parent().unwrap()), ["store.json"]);
    assert_eq!(names(&world.sub().directory), [STORE_FILE]);
}

#[test]
fn a_chain_of_links_survives_and_its_target_is_replaced() {
    let world = World::new();
    let sub = world.sub();
    let (second, third, target) =
        (world.root().join("links/second"), world.root().join("links/third"), world.root().join("shared/store.json"));
    link(&sub.path(), &second);
    link(&second, "third");
    link(&third, "../shared/store.json");
    put(&target, store_with(&credential("old", 0)));
    set_mode(&target, 0o640);
    let links = [sub.path(), second, third];
    let before: Vec<_> = links.iter().map(|path| (inode(path), fs::read_link(path).unwrap())).collect();
    let inode_before = inode(&target);

    write(&sub.store(), PROFILE, &credential("new", 0)).unwrap();

    let after: Vec<_> = links.iter().map(|path| (inode(path), fs::read_link(path).unwrap())).collect();
    assert_eq!(after, before);
    assert_eq!(text(&target), store_with(&credential("new", 0)));
    assert_eq!(mode(&target), 0o640);
    // Replaced in one step, not rewritten in place.
    assert_ne!(inode(&target), inode_before);
    assert_eq!(names(&world.root().join("shared")), ["store.json"]);
    assert_eq!(names(&world.root().join("links")), ["second", "third"]);
}

#[test]
fn all_names_of_one_file_have_one_lock() {
    let world = World::new();
    world.main().put(&credential("old", 0));
    link(&world.agent("linked file").path(), world.main().path());
    fs::create_dir_all(world.agent("x").directory.parent().unwrap()).unwrap();
    fs::create_dir_all(world.agent("linked directory").directory.parent().unwrap()).unwrap();
    link(&world.agent("linked directory").directory, world.main().directory);
    let locks = world.state().join("locks").join("auth-store");
    for name in ["main", "linked file", "linked directory", "x/../main"] {
        drop(world.agent(name).store().lock().unwrap());
        // The lock, its sidecar's file, and the probe of its file system.
        assert_eq!(names(&locks).len(), 3, "{name}");
    }
    drop(world.sub().store().lock().unwrap());
    assert_eq!(names(&locks).len(), 5);
}
