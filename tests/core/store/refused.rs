//! Stores that are refused and left alone.

use super::{NOBODY, ROOT, assert_refused, is_root, read, write};
use crate::support::child::Child;
use crate::support::files::{self, Make, inode, link, names, put, set_mode, snapshot};
use crate::support::world::{MINUTE, PROFILE, World, credential, store_with, with};
use crate::support::{assert_names_path_and_no_secret, without_hanging};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::store::document::Document;
use oauth_refresh_lock::store::{MAX_STORE_BYTES, STORE_FILE};
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;

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
    Child::spawn_as(NOBODY, "be refused a store", &[world.root().to_str().unwrap()]).ends_well();
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
            world.sub().store().refuse_sqlite_era(true).unwrap();
            let database = place(&world);
            fs::create_dir_all(database.parent().unwrap()).unwrap();
            make(&database);
            let before = snapshot(world.root());
            let error = world.sub().store().refuse_sqlite_era(true).unwrap_err();
            assert_eq!(error.code, Code::SqliteStore);
            assert_names_path_and_no_secret(&error, &database);
            assert_eq!(snapshot(world.root()), before);
        }
    }
}
