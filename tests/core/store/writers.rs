//! Writers that die, and writers beside each other.

use super::write;
use crate::support::child::Child;
use crate::support::files::{link, mode, names, put, set_mode, snapshot, text};
use crate::support::world::{PROFILE, World, credential, oauth};
use crate::support::{HUNG, assert_names_path_and_no_secret, eventually, threads};
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::store::{FileStore, Profile, STORE_FILE};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

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

/// As by a program that manages configuration files.
#[test]
fn a_store_whose_symbolic_link_is_moved_while_it_is_written_is_told_not_to_have_kept_it() {
    let world = World::new();
    let (sub, main) = (world.sub(), world.main());
    main.put(&credential("old", 0));
    let elsewhere = world.root().join("elsewhere.json");
    fs::copy(main.path(), &elsewhere).unwrap();
    link(&sub.path(), &elsewhere);
    let updated = sub.store().lock().unwrap().update(PROFILE, |_| {
        fs::remove_file(sub.path()).unwrap();
        link(&sub.path(), main.path());
        (Some(oauth(&credential("new", 0))), ())
    });
    let error = updated.unwrap_err();
    assert_eq!(error.code, Code::StoreUnwritable);
    assert_names_path_and_no_secret(&error, &sub.path());
    main.assert_holds(&credential("old", 0));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "as a user moves it")]
fn a_directory_that_takes_the_agents_place_while_a_writer_waits_is_the_one_that_is_written() {
    let world = World::new();
    let sub = world.sub();
    sub.put(&credential("old", 0));
    let (holder, store) = (sub.store(), sub.store());
    let held = holder.lock().unwrap();
    let writer = std::thread::spawn(move || {
        let new = |_| (Some(oauth(&credential("new", 0))), ());
        store.update_within(HUNG, PROFILE, new).map(|((), _)| ())
    });
    eventually("the writer waits", || threads(std::process::id(), "oauth-lock-wait") == 1);
    let moved = world.root().join("moved");
    fs::rename(&sub.directory, &moved).unwrap();
    sub.put(&credential("restored", 0));
    let before = text(&moved.join(STORE_FILE));
    drop(held);
    writer.join().unwrap().unwrap();
    sub.assert_holds(&credential("new", 0));
    assert_eq!(text(&moved.join(STORE_FILE)), before);
}

/// By a signal, as on a network file system; or for want of descriptors, which there may be again when the provider has been asked.
#[test]
fn an_opening_that_is_interrupted_is_done_again_and_one_that_fails_is_told() {
    let unwritable = format!("{:?}", Err::<(), _>(Code::StoreUnwritable));
    let done = format!("{:?}", Ok::<(), Code>(()));
    for (fault, [tried, written]) in [
        ("open#1:4", [&done, &done]),
        ("open#2:4", [&done, &done]),
        ("create#1:4", [&done, &done]),
        ("create#2:4", [&done, &done]),
        ("hold#1-2:4", [&done, &done]),
        ("hold#1:24", [&unwritable, &done]),
        ("hold#2:24", [&done, &unwritable]),
    ] {
        let world = World::new();
        world.sub().put(&credential("old", 0));
        let mut through = Command::new("env");
        through.arg(format!("OAUTH_REFRESH_LOCK_FAULT={fault}"));
        let child = Child::spawn_through(through, "try a store and write it", &[world.root().to_str().unwrap()]);
        child.expect(tried);
        child.expect(written);
        child.ends_well();
        let is_written = *written == done;
        world.sub().assert_holds(&credential(if is_written { "new" } else { "old" }, 0));
    }
}

#[test]
fn a_writer_that_dies_leaves_the_store_whole_and_its_lock_free() {
    let world = World::new();
    world.sub().put(&credential("old", 0));
    let child = Child::spawn("hang in a write", &[world.root().to_str().unwrap()]);
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
pub(super) fn count_up(store: &FileStore, id: &str) {
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
        .map(|writer| Child::spawn("count in a store", &[world.root().to_str().unwrap(), &format!("p{writer}")]))
        .collect();
    for child in &mut children {
        child.expect("ready");
        child.tell("go");
    }
    // They contend: each has a thread that waits for the lock.
    #[cfg(target_os = "linux")]
    for child in &children {
        eventually("a child waits for the lock", || threads(child.id(), "oauth-lock-wait") == 1);
    }
    drop(held);
    for child in children {
        child.ends_well();
    }
    assert_all_counted(&world);
}
