//! Stores whose link is moved, or whose file grows, while a writer waits.

use crate::support::files::{link, put, text};
use crate::support::world::{Agent, PROFILE, World, credential, oauth};
use crate::support::{HUNG, assert_names_path_and_no_secret, eventually, threads};
use oauth_refresh_lock::error::{Code, Result};
use oauth_refresh_lock::store::{FileStore, MAX_STORE_BYTES, Profile};
use std::fs;

/// What comes of some work that waits for the lock of an agent's store, while `meanwhile` happens.
fn while_it_waits<T: Send + 'static>(
    agent: &Agent,
    work: impl FnOnce(FileStore) -> Result<T> + Send + 'static,
    meanwhile: impl FnOnce(),
) -> Result<T> {
    let (holder, store) = (agent.store(), agent.store());
    let held = holder.lock().unwrap();
    let worker = std::thread::spawn(move || work(store));
    eventually("it waits", || threads(std::process::id(), "oauth-lock-wait") == 1);
    meanwhile();
    drop(held);
    worker.join().unwrap()
}

#[test]
fn a_link_that_is_moved_while_a_writer_waits_is_followed_again() {
    let world = World::new();
    let sub = world.sub();
    let [one, other] = ["one.json", "other.json"].map(|name| world.root().join(name));
    sub.put(&credential("old", 0));
    fs::copy(sub.path(), &one).unwrap();
    sub.put(&credential("login", 0));
    fs::copy(sub.path(), &other).unwrap();
    fs::remove_file(sub.path()).unwrap();
    link(&sub.path(), &one);
    let before = text(&one);
    let update = |store: FileStore| {
        store.update_within(HUNG, PROFILE, |now| (Some(oauth(&credential("new", 0))), now)).map(|(found, _)| found)
    };
    let found = while_it_waits(&sub, update, || {
        fs::remove_file(sub.path()).unwrap();
        link(&sub.path(), &other);
    });
    assert_eq!(found.unwrap(), Profile::Oauth(oauth(&credential("login", 0))));
    sub.assert_holds(&credential("new", 0));
    assert_eq!(text(&one), before);
}

#[test]
fn a_store_that_grows_while_its_lock_is_awaited_is_refused_by_what_it_is_then() {
    let world = World::new();
    let sub = world.sub();
    sub.put(&credential("old", 0));
    let try_it = |store: FileStore| store.refuse_unwritable();
    let refused = while_it_waits(&sub, try_it, || {
        let mut grown = text(&sub.path()).into_bytes();
        grown.resize(usize::try_from(MAX_STORE_BYTES).unwrap(), b' ');
        put(&sub.path(), grown);
    });
    let error = refused.unwrap_err();
    assert_eq!(error.code, Code::StoreTooLarge);
    assert_names_path_and_no_secret(&error, &sub.path());
}
