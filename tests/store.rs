//! An agent's store on disk: what is refused and left alone, what a write changes and what it keeps, and who may write.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers and roles are part of their tests")]

mod support;

use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::error::{Code, Error, Result};
use oauth_refresh_lock::store::document::Document;
use oauth_refresh_lock::store::{FileStore, MAX_STORE_BYTES, Profile, STORE_FILE};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use support::child::{Child, hear, play_or_test, say};
use support::files::{self, Make, inode, link, mode, names, put, set_mode, snapshot, text};
use support::random::Random;
use support::world::{
    MINUTE, PROFILE, World, credential, fields, laid_out, oauth, shown, store_with, store_without, with,
};
use support::{assert_names_path_and_no_secret, eventually, without_hanging};

const ROOT: u32 = 0;
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().as_raw() == ROOT
}

/// Writes this profile, whatever is there.
fn write(store: &FileStore, id: &str, profile: &Value) -> Result<()> {
    store.lock()?.update(id, |_| (Some(oauth(profile)), ()))
}

fn read(store: &FileStore) -> Value {
    match store.read(PROFILE).unwrap() {
        Profile::Oauth(credential) => shown(&credential),
        other => panic!("{other:?}"),
    }
}

/// Asserts that reading and writing are refused with this code, and that nothing whatsoever has changed in the agents'
/// directories; in the state directory a write may have left its lock file.
#[track_caller]
fn assert_refused(name: &str, world: &World, store: &FileStore, code: Code) {
    let before = snapshot(&world.state().join("agents"));
    let asked = std::cell::Cell::new(false);
    let updated = store.lock().and_then(|mut guard| {
        guard.update(PROFILE, |_| {
            asked.set(true);
            (Some(oauth(&credential("new", 0))), ())
        })
    });
    let errors: [Error; 2] = [store.read(PROFILE).map(|_| ()).expect_err(name), updated.expect_err(name)];
    assert!(!asked.get(), "{name}: a change was asked for");
    for error in &errors {
        assert_eq!(error.code, code, "{name}: {error}");
        assert_names_path_and_no_secret(error, store.path());
    }
    assert_eq!(snapshot(&world.state().join("agents")), before, "{name}");
    assert!(names(&world.state()).iter().all(|name| name == "agents" || name == "locks"), "{name}");
}

#[test]
fn a_child_that_fails_is_noticed() {
    play_or_test(|role, arguments| match role {
        "is refused" => {
            let world = World::at(PathBuf::from(&arguments[0]));
            assert_refused(role, &world, &world.sub().store(), Code::StoreUnreadable);
        }
        "counts" => {
            let world = World::at(PathBuf::from(&arguments[0]));
            say("ready");
            hear();
            count_up(&world.sub().store(), &arguments[1]);
        }
        "hangs in a write" => {
            let world = World::at(PathBuf::from(&arguments[0]));
            let guard = world.sub().store().lock().unwrap().update(PROFILE, |_| {
                say("inside");
                hear();
                (None, ())
            });
            guard.unwrap();
        }
        "writes under a umask" => {
            let world = World::at(PathBuf::from(&arguments[0]));
            let mask = u32::from_str_radix(&arguments[1], 8).unwrap();
            rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask as _));
            write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap();
            write(&world.main().store(), PROFILE, &credential("new", 0)).unwrap();
        }
        other => panic!("no such role: {other}"),
    });
}

// What there is nothing to refuse about

#[test]
fn a_missing_store_has_no_profile_and_the_first_write_makes_it_as_openclaw_does() {
    let world = World::new();
    let store = world.sub().store();
    assert_eq!(store.read(PROFILE).unwrap(), Profile::NoStore);
    assert_eq!(names(&world.state()), Vec::<String>::new());

    let profile = with(credential("new", 0), &json!({ "unknown": null }));
    write(&store, PROFILE, &profile).unwrap();
    let expected = json!({ "version": 1, "profiles": { PROFILE: profile } });
    assert_eq!(text(store.path()), format!("{expected:#}\n"));
    assert_eq!(mode(store.path()), 0o600);
    assert_eq!(mode(&world.sub().directory), 0o700);
    assert_eq!(names(&world.sub().directory), [STORE_FILE]);
}

#[test]
fn a_change_that_writes_nothing_leaves_the_file_untouched() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    let before = snapshot(&world.sub().directory);
    let seen = world.sub().store().lock().unwrap().update(PROFILE, |profile| (None, profile)).unwrap();
    assert_eq!(seen, Profile::Oauth(oauth(&credential("old", 0))));
    assert_eq!(snapshot(&world.sub().directory), before);
    // And makes none.
    world.main().store().lock().unwrap().update(PROFILE, |profile| (None, profile)).unwrap();
    assert!(!world.main().directory.exists());
}

#[test]
fn a_profile_is_what_its_type_or_in_older_files_its_mode_says() {
    let world = World::new();
    let profiles = [
        (json!({ "type": "oauth" }), true),
        (json!({ "mode": "oauth" }), true),
        (json!({ "type": "oauth", "mode": "token" }), true),
        (json!({ "type": "api_key", "key": "SECRET" }), false),
        (json!({ "type": "token", "mode": "oauth" }), false),
        (json!({}), false),
        (json!({ "type": 1 }), false),
    ];
    for (profile, is_oauth) in profiles {
        world.sub().put(&profile);
        let expected = if is_oauth { Profile::Oauth(oauth(&profile)) } else { Profile::NotOauth };
        assert_eq!(world.sub().store().read(PROFILE).unwrap(), expected, "{profile}");
    }
    world.sub().put_without_profile();
    assert_eq!(world.sub().store().read(PROFILE).unwrap(), Profile::Missing);
    put(&world.sub().path(), "{}");
    assert_eq!(world.sub().store().read(PROFILE).unwrap(), Profile::Missing);
}

#[test]
fn ids_that_mean_something_elsewhere_are_plain_keys_here() {
    for id in ["__proto__", "constructor", "profiles", "version", "a\"b\\c", "\n\u{1}", "../x", "é", "e\u{301}", "😀"]
    {
        let world = World::new();
        world.sub().put_without_profile();
        let store = world.sub().store();
        assert_eq!(store.read(id).unwrap(), Profile::Missing, "{id}");
        write(&store, id, &credential("one", 0)).unwrap();
        write(&store, id, &credential("two", 0)).unwrap();
        assert_eq!(store.read(id).unwrap(), Profile::Oauth(oauth(&credential("two", 0))), "{id}");
        let key = Value::from(id);
        let member = format!(",\n    {key}: {}", laid_out(&credential("two", 0)));
        assert_eq!(text(store.path()).replace(&member, ""), store_without(), "{id}");
    }
}

// What is refused

#[test]
fn a_store_that_is_no_store_is_refused_and_left_alone() {
    let whole = store_with(&credential("old", 0));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("blank", b" \r\n\t".to_vec()),
        ("zeros", vec![0; 4096]),
        ("torn early", whole.as_bytes()[..whole.len() / 3].to_vec()),
        ("torn at the last brace", whole.trim_end().as_bytes()[..whole.trim_end().len() - 1].to_vec()),
        ("written twice", [whole.as_bytes(), whole.as_bytes()].concat()),
        ("its old end behind a shorter new text", [b"{\"profiles\":{}}".as_slice(), &whole.as_bytes()[200..]].concat()),
        ("not JSON", b"SECRET=1\n".to_vec()),
        ("a comment", b"{/* SECRET */}".to_vec()),
        ("a trailing comma", br#"{"profiles":{"SECRET":{},}}"#.to_vec()),
        ("single quotes", b"{'profiles':{}}".to_vec()),
        ("NaN", br#"{"profiles":{"SECRET":NaN}}"#.to_vec()),
        ("a leading zero", br#"{"profiles":{"SECRET":007}}"#.to_vec()),
        ("a raw line break in a string", b"{\"profiles\":{\"SECRET\":\"a\nb\"}}".to_vec()),
        ("a byte order mark", b"\xEF\xBB\xBF{\"profiles\":{}}".to_vec()),
        ("Latin-1", b"{\"profiles\":{\"SECRET\":\"\xE9\"}}".to_vec()),
        ("UTF-16", whole.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("an array", br#"["SECRET"]"#.to_vec()),
        ("text", br#""SECRET""#.to_vec()),
        ("a number", b"7".to_vec()),
        ("null", b"null".to_vec()),
        ("profiles that are an array", br#"{"profiles":["SECRET"]}"#.to_vec()),
        ("profiles that are text", br#"{"profiles":"SECRET"}"#.to_vec()),
        ("a profile that is text", format!(r#"{{"profiles":{{"{PROFILE}":"SECRET"}}}}"#).into_bytes()),
        ("a profile that is an array", format!(r#"{{"profiles":{{"{PROFILE}":["SECRET"]}}}}"#).into_bytes()),
    ];
    for (name, bytes) in cases {
        let world = World::new();
        put(&world.sub().path(), bytes);
        assert_refused(name, &world, &world.sub().store(), Code::StoreInvalid);
    }
}

#[test]
fn white_space_around_a_store_is_that_of_json() {
    for space in ["\u{B}", "\u{C}", "\u{85}", "\u{A0}", "\u{2003}", "\u{2028}", "\u{3000}"] {
        for text in [format!("{space}{{}}"), format!("{{}}{space}")] {
            assert!(Document::parse(text.clone().into_bytes()).is_err(), "{text:?}");
        }
    }
    assert!(Document::parse(b" \t\r\n{} \t\r\n".to_vec()).is_ok());
}

#[test]
fn no_beginning_of_a_store_passes_for_one() {
    let whole = store_with(&credential("old", 0));
    let whole = whole.trim_end().as_bytes();
    for end in 0..whole.len() {
        assert!(Document::parse(whole[..end].to_vec()).is_err(), "{end} of {} bytes", whole.len());
    }
    assert!(Document::parse(whole.to_vec()).is_ok());
}

#[test]
fn a_store_above_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let world = World::new();
    let path = world.sub().path();
    world.sub().put(&credential("old", 0));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(MAX_STORE_BYTES + 1).unwrap();
    assert_refused("too large", &world, &world.sub().store(), Code::StoreTooLarge);

    let mut text = store_with(&credential("old", 0)).into_bytes();
    text.resize(usize::try_from(MAX_STORE_BYTES).unwrap(), b' ');
    put(&path, &text);
    assert_eq!(read(&world.sub().store()), credential("old", 0));
}

/// With a store that our own bytes would make too large to be read again.
#[test]
fn a_store_that_could_outgrow_the_limit_is_refused_before_anything_is_written() {
    let world = World::new();
    let main = world.main();
    let padded = |spare: u64| {
        let mut text = store_with(&credential("old", -MINUTE));
        text.extend(std::iter::repeat_n(' ', usize::try_from(MAX_STORE_BYTES - spare).unwrap() - text.len()));
        put(&main.path(), text);
    };
    padded(61);
    let before = inode(&main.path());
    let refused = world.decide(&world.call_of_main()).expect_err("the provider would be asked");
    let larger = with(credential("new", 0), &json!({ "more": "x".repeat(100) }));
    for error in [refused, write(&main.store(), PROFILE, &larger).unwrap_err()] {
        assert_eq!(error.code, Code::StoreTooLarge);
        assert_names_path_and_no_secret(&error, &main.path());
    }
    assert_eq!((inode(&main.path()), names(&main.directory)), (before, vec![STORE_FILE.to_owned()]));

    // With room for the largest credential it is taken.
    padded(120 << 10);
    main.store().refuse_unwritable().unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused_and_nobody_hangs_on_it() {
    let kinds: [(&str, Make); 5] = [
        ("a directory", |path| fs::create_dir_all(path).unwrap()),
        ("a FIFO", files::fifo),
        ("a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("a symbolic link to a directory", |path| link(path, ".")),
        ("a symbolic link to a device", |path| link(path, "/dev/null")),
    ];
    for (name, make) in kinds {
        let world = World::new();
        fs::create_dir_all(&world.sub().directory).unwrap();
        make(&world.sub().path());
        without_hanging(move || assert_refused(name, &world, &world.sub().store(), Code::StoreUnreadable));
    }
}

#[test]
fn links_that_lead_nowhere_but_to_each_other_are_refused() {
    let world = World::new();
    let sub = world.sub();
    link(&sub.path(), "other");
    link(&sub.directory.join("other"), STORE_FILE);
    assert_refused("two links", &world, &sub.store(), Code::StoreUnreadable);
    let main = world.main();
    link(&main.path(), STORE_FILE);
    assert_refused("one link", &world, &main.store(), Code::StoreUnreadable);
}

#[test]
fn a_file_in_the_place_of_the_agents_directory_is_refused() {
    let world = World::new();
    put(&world.sub().directory, "SECRET");
    assert_refused("a file as the directory", &world, &world.sub().store(), Code::StoreUnreadable);
}

#[test]
fn a_store_that_we_have_no_right_to_read_is_refused() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    set_mode(&world.sub().path(), 0o000);
    if !is_root() {
        return assert_refused("no right", &world, &world.sub().store(), Code::StoreUnreadable);
    }
    // Root may read everything, so somebody else has to try.
    for path in snapshot(world.root()).keys() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    Child::spawn_as(NOBODY, "is refused", &[world.root().to_str().unwrap()]).ends_well();
}

#[test]
fn a_store_of_another_user_is_refused_even_if_it_can_be_read() {
    let world = World::new();
    let path = world.sub().path();
    if is_root() {
        world.sub().put(&credential("old", 0));
        std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
    } else {
        // Nobody but root can give a file away, but every system has one of root's that all may read.
        link(&path, "/etc/passwd");
    }
    assert_refused("another user's", &world, &world.sub().store(), Code::StoreUnreadable);
    let message = world.sub().store().read(PROFILE).unwrap_err().message;
    assert!(message.contains(&format!("uid {}", if is_root() { NOBODY } else { ROOT })), "{message}");
}

#[test]
fn where_openclaw_has_a_database_the_store_is_refused() {
    let places: [fn(&World) -> PathBuf; 2] = [
        |world| world.sub().directory.join("openclaw-agent.sqlite"),
        |world| world.state().join("state").join("openclaw.sqlite"),
    ];
    for place in places {
        let makers: [Make; 3] =
            [|path| put(path, "SECRET"), |path| fs::create_dir_all(path).unwrap(), |path| link(path, "elsewhere")];
        for make in makers {
            let world = World::new();
            world.sub().put(&credential("old", 0));
            world.sub().store().refuse_sqlite_era().unwrap();
            let database = place(&world);
            fs::create_dir_all(database.parent().unwrap()).unwrap();
            make(&database);
            let before = snapshot(world.root());
            let error = world.sub().store().refuse_sqlite_era().unwrap_err();
            assert_eq!(error.code, Code::SqliteStore);
            assert_names_path_and_no_secret(&error, &database);
            assert_eq!(snapshot(world.root()), before);
        }
    }
}

// What a write keeps

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

/// JSON text that no printer would make: any value, with any spelling and any white space.
fn any_json(random: &mut Random, depth: usize) -> String {
    const NUMBERS: &[&str] =
        &["0", "-0", "1.0", "1e5", "1E+05", "-1.50e-3", "12345678901234567890123", "1e400", "0.10"];
    const TEXTS: &[&str] =
        &["", "a", "\\u0061", "\\/", "/", "\\ud800", "\\ud83d\\ude00", "😀", "\\u0000", "{}", "\\\"}", "é", "\u{2028}"];
    let space = |random: &mut Random| random.text_of(&[" ", "\n", "\t", "\r"], 3);
    let quoted = |random: &mut Random| format!("\"{}\"", random.text_of(TEXTS, 4));
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => random.one_of(NUMBERS).to_owned(),
        1 => random.one_of(&["null", "true", "false"]).to_owned(),
        2 | 3 => quoted(random),
        kind => {
            let members = (0..random.below(4)).map(|_| {
                let key = if kind == 4 { String::new() } else { format!("{}{}:", quoted(random), space(random)) };
                let value = any_json(random, depth - 1);
                format!("{}{key}{}{value}{}", space(random), space(random), space(random))
            });
            let members = members.collect::<Vec<_>>().join(",");
            if kind == 4 { format!("[{members}]") } else { format!("{{{members}}}") }
        }
    }
}

#[test]
fn whatever_stands_around_a_profile_stays_as_it_was() {
    let mut random = Random::seeded(0x57_0E);
    let new = credential("new", 0);
    for round in 0..3_000 {
        let around = |random: &mut Random, key: &str| {
            (0..random.below(4)).map(|at| format!("\"{key}{at}\" :{}", any_json(random, 3))).collect::<Vec<_>>()
        };
        let (mut profiles, mut top) = (around(&mut random, "profile"), around(&mut random, "top"));
        let profiles_at = random.below(profiles.len() + 1);
        profiles.insert(profiles_at, format!("\"p\":{}<THE PROFILE>", random.text_of(&[" ", "\n"], 3)));
        let top_at = random.below(top.len() + 1);
        top.insert(top_at, format!("\"profiles\":{{{}}}", profiles.join(",\t")));
        let template = format!("{{{}\n}}{}", top.join(" ,"), random.text_of(&["\n", " "], 3));
        let document = Document::parse(template.replace("<THE PROFILE>", "{\"old\" : [\"}\"] }").into_bytes()).unwrap();
        let written = document.with_profile("p", &fields(&new));
        assert_eq!(*written, template.replace("<THE PROFILE>", &laid_out(&new)), "round {round}");
        if round % 150 == 0 {
            let world = World::new();
            put(&world.sub().path(), template.replace("<THE PROFILE>", "{}"));
            write(&world.sub().store(), "p", &new).unwrap();
            assert_eq!(text(&world.sub().path()), *written, "round {round}");
        }
    }
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
        Child::spawn("writes under a umask", &[world.root().to_str().unwrap(), mask]).ends_well();
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
        // The lock, and the probe of its file system.
        assert_eq!(names(&locks).len(), 2, "{name}");
    }
    drop(world.sub().store().lock().unwrap());
    assert_eq!(names(&locks).len(), 3);
}

// Deaths and neighbours

fn temporary(world: &World) -> PathBuf {
    world.sub().path().with_file_name("auth-profiles.json.oauth-refresh-lock.tmp")
}

#[test]
fn a_temporary_file_left_by_a_death_is_replaced() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    set_mode(&world.sub().path(), 0o600);
    put(&temporary(&world), "SECRET torn {");
    set_mode(&temporary(&world), 0o666);
    write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap();
    world.sub().assert_holds(&credential("new", 0));
    assert_eq!(mode(&world.sub().path()), 0o600);
    assert_eq!(names(&world.sub().directory), [STORE_FILE]);
}

#[test]
fn a_link_in_the_place_of_the_temporary_file_is_not_followed() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    let victim = world.root().join("victim");
    put(&victim, "untouched");
    link(&temporary(&world), &victim);
    write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap();
    world.sub().assert_holds(&credential("new", 0));
    assert_eq!(text(&victim), "untouched");
    assert!(!fs::symlink_metadata(world.sub().path()).unwrap().is_symlink());
}

#[test]
fn a_write_that_cannot_be_done_is_told_and_leaves_the_store_as_it_was() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    fs::create_dir(temporary(&world)).unwrap();
    let before = snapshot(&world.sub().directory);
    let error = write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap_err();
    assert_eq!(error.code, Code::StoreUnwritable);
    assert_names_path_and_no_secret(&error, &world.sub().path());
    assert_eq!(snapshot(&world.sub().directory), before);
}

#[test]
fn a_write_that_fails_at_its_last_step_takes_its_temporary_file_along() {
    let world = World::new();
    let (sub, store) = (world.sub(), world.sub().store());
    sub.put(&credential("old", 0));
    let updated = store.lock().unwrap().update(PROFILE, |_| {
        // Nothing can be renamed to a directory.
        fs::remove_file(sub.path()).unwrap();
        fs::create_dir(sub.path()).unwrap();
        (Some(oauth(&credential("new", 0))), ())
    });
    let error = updated.unwrap_err();
    assert_eq!(error.code, Code::StoreUnwritable);
    assert_names_path_and_no_secret(&error, &sub.path());
    assert_eq!(names(&sub.directory), [STORE_FILE]);
}

#[test]
fn a_writer_that_dies_leaves_the_store_whole_and_its_lock_free() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    let child = Child::spawn("hangs in a write", &[world.root().to_str().unwrap()]);
    child.expect("inside");
    let before = snapshot(&world.sub().directory);
    child.kill();
    assert_eq!(snapshot(&world.sub().directory), before);
    write(&world.sub().store(), PROFILE, &credential("new", 0)).unwrap();
    world.sub().assert_holds(&credential("new", 0));
}

const WRITERS: usize = 6;
const ROUNDS: usize = 12;

/// Counts this profile up. Each round sees what the one before it wrote, unless another writer has undone it.
fn count_up(store: &FileStore, id: &str) {
    for round in 0..ROUNDS {
        let updated = store.lock().unwrap().update(id, |profile| {
            let mut fields = match &profile {
                Profile::Oauth(credential) => credential.fields().clone(),
                _ => Map::new(),
            };
            assert_eq!(
                fields.get("count").and_then(Value::as_u64).unwrap_or(0),
                round as u64,
                "an update of {id} was lost"
            );
            fields.insert("type".to_owned(), json!("oauth"));
            fields.insert("count".to_owned(), json!(round + 1));
            (Credential::from_profile(fields), ())
        });
        updated.unwrap();
    }
}

/// Asserts that nobody's updates were lost and nobody else's bytes were changed.
fn assert_all_counted(world: &World) {
    let store: Value = serde_json::from_str(&text(&world.sub().path())).unwrap();
    for writer in 0..WRITERS {
        assert_eq!(store["profiles"][format!("p{writer}")]["count"], ROUNDS, "writer {writer}");
    }
    assert_eq!(store["profiles"]["untouched"]["n"].to_string(), "1.0");
    assert_eq!(store["profiles"].as_object().unwrap().len(), WRITERS + 1);
    assert_eq!(names(&world.sub().directory), [STORE_FILE]);
}

const UNTOUCHED: &str = "{\"profiles\":{\"untouched\":{\"n\":1.0}}}";

#[test]
fn threads_that_write_different_profiles_lose_no_update_and_readers_never_see_half_a_store() {
    let world = World::new();
    put(&world.sub().path(), UNTOUCHED);
    let store = world.sub().store();
    let held = store.lock().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || count_up(store, &format!("p{writer}")));
        }
        for reader in 0..2 {
            let store = &store;
            scope.spawn(move || {
                let mut last = 0;
                while last < ROUNDS as u64 {
                    // Straight from the file: the store itself would look again if it met half a text.
                    let seen: Value = serde_json::from_slice(&fs::read(store.path()).unwrap()).expect("a whole store");
                    let count = seen["profiles"][format!("p{reader}")]["count"].as_u64().unwrap_or(0);
                    assert!(count >= last, "{count} after {last}");
                    last = count;
                }
            });
        }
        drop(held);
    });
    assert_all_counted(&world);
}

#[test]
fn processes_that_write_different_profiles_lose_no_update() {
    let world = World::new();
    put(&world.sub().path(), UNTOUCHED);
    let store = world.sub().store();
    let held = store.lock().unwrap();
    let mut children: Vec<_> = (0..WRITERS)
        .map(|writer| Child::spawn("counts", &[world.root().to_str().unwrap(), &format!("p{writer}")]))
        .collect();
    for child in &mut children {
        child.expect("ready");
        child.tell("go");
    }
    // They contend: each has a thread that waits for the lock.
    #[cfg(target_os = "linux")]
    for child in &children {
        eventually("a child waits for the lock", || support::threads(child.id(), "oauth-lock-wait") == 1);
    }
    drop(held);
    for child in children {
        child.ends_well();
    }
    assert_all_counted(&world);
}
