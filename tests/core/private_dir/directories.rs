//! Directories on the path of a lock file.

#![allow(clippy::disallowed_methods, reason = "another program moves directories about")]

use super::{NOBODY, OPENED, Place, ROOT, SOMEBODY, as_str, assert_refused, assert_refuses, give, open, somebody_else};
use crate::support::child::Child;
use crate::support::files::{Make, fifo, inode, link, mode, names, put, set_mode};
use crate::support::{is_reachable, is_root, skipped};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::Command;

#[test]
fn a_lock_directory_that_is_a_symbolic_link_is_refused() {
    let place = Place::new();
    place.directory("elsewhere", 0o700);
    for (name, target) in [("to a directory", "elsewhere"), ("to nothing", "nothing"), ("to itself", "to itself")] {
        let directory = place.path(name);
        link(&directory, target);
        assert_refuses(&[OPENED], &directory.join("key"), &directory, "a symbolic link");
    }
}

#[test]
fn symbolic_links_on_the_way_are_followed() {
    let place = Place::new();
    let real = place.directory("real/state", 0o700);
    link(&place.path("absolute"), &real);
    link(&place.path("real/relative"), "../absolute");
    link(&place.path("up"), "real/state/..");
    for way in ["absolute", "real/relative", "up/state", "real/../absolute/."] {
        open(&place.path(way).join("locks/key")).unwrap();
    }
    assert_eq!(names(&real.join("locks")), ["key"]);
}

#[test]
fn a_symbolic_link_on_the_way_to_nothing_or_in_a_ring_is_refused() {
    let place = Place::new();
    link(&place.path("dangling"), "unmounted/disk");
    link(&place.path("one"), "two");
    link(&place.path("two"), "one");
    for name in ["dangling", "one"] {
        let base = place.path(name).join("locks/key");
        assert_refuses(&[OPENED], &base, &place.path(name), "cannot get to the directory");
    }
}

#[test]
fn a_way_through_what_is_no_directory_is_refused() {
    let kinds: [(&str, Make); 3] = [
        ("a file", |path| put(path, "SECRET")),
        ("a FIFO", fifo),
        ("a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    for (kind, make) in kinds {
        let place = Place::new();
        let path = place.path("thing");
        make(&path);
        assert_refused(&path.join("key"), &path, kind);
        assert_refused(&path.join("locks/key"), &path, kind);
    }
}

#[test]
fn a_directory_that_everyone_may_write_to_is_refused_at_any_level_unless_it_is_sticky() {
    let _somebody = somebody_else();
    for given in [0o777, 0o757, 0o702, 0o2777] {
        let place = Place::new();
        let open_to_all = place.directory("open", given);
        fs::create_dir_all(open_to_all.join("state/locks")).unwrap();
        for base in ["key", "locks/key", "state/locks/key"] {
            assert_refused(&open_to_all.join(base), &open_to_all, "everyone");
        }
        set_mode(&open_to_all, given | 0o1000);
        for base in ["key", "locks/key", "state/locks/key"] {
            open(&open_to_all.join(base)).unwrap();
        }
    }
}

#[test]
fn a_link_out_of_a_directory_that_everyone_may_write_to_is_refused() {
    let _somebody = somebody_else();
    let place = Place::new();
    let state = place.directory("state", 0o700);
    let open_to_all = place.directory("open", 0o777);
    link(&open_to_all.join("link"), &state);
    assert_refused(&open_to_all.join("link/locks/key"), &open_to_all, "everyone");
    assert!(names(&state).is_empty());
}

/// Runs a program as this user in a PID namespace of its own, where it sees no other processes.
#[test]
fn group_write_is_the_owners_business() {
    let place = Place::new();
    let base = place.directory("project", 0o775).join("state/locks/key");
    fs::create_dir_all(base.parent().unwrap()).unwrap();
    set_mode(base.parent().unwrap(), 0o775);
    open(&base).unwrap();
    assert_eq!(mode(&base), 0o600);
}

#[test]
fn another_users_directory_is_refused_at_any_level_even_by_root() {
    if !is_root() {
        return skipped("only root can give a directory away");
    }
    for level in ["home", "home/state", "home/state/locks"] {
        let place = Place::new();
        let base = place.directory("home/state/locks", 0o755).join("key");
        give(&place.path(level), SOMEBODY);
        assert_refused(&base, &place.path(level), "another user (uid 54321");
        // And before anything is made below it.
        assert_refused(&place.path(level).join("new/locks/key"), &place.path(level), "another user (uid 54321");
    }
}

#[test]
fn another_users_link_is_refused_wherever_it_leads() {
    if !is_root() {
        return skipped("only root can give a link away");
    }
    let place = Place::new();
    place.directory("state/locks", 0o700);
    let trap = place.directory("tmp", 0o1777).join("trap");
    link(&trap, place.path("state"));
    give(&trap, SOMEBODY);
    assert_refused(&trap.join("locks/key"), &trap, "another user (uid 54321");
    give(&trap, ROOT);
    open(&trap.join("locks/key")).unwrap();
}

#[test]
fn another_users_directory_is_refused_by_a_user_as_well() {
    if !is_root() {
        return skipped("only root can act as two users");
    }
    let place = Place::new();
    let base = place.directory("locks", 0o777).join("key");
    give(base.parent().unwrap(), SOMEBODY);
    let child = Child::spawn_as(NOBODY, "be refused a lock file", &[as_str(&base)]);
    let message = child.listen();
    assert!(message.contains("another user (uid 54321"), "{message}");
    child.ends_well();
    // Its owner may use it, if nobody else can write to it.
    set_mode(base.parent().unwrap(), 0o755);
    Child::spawn_as(SOMEBODY, "open a lock file", &[as_str(&base)]).ends_well();
}

#[test]
fn a_directory_of_roots_is_used_by_a_user_who_may_write_to_it() {
    if !is_root() {
        return skipped("only root can act as two users");
    }
    let place = Place::new();
    let base = place.directory("locks", 0o755).join("key");
    let child = Child::spawn_as(NOBODY, "be refused a lock file", &[as_str(&base)]);
    let message = child.listen();
    assert!(message.contains("Permission denied") && message.contains(as_str(&base)), "{message}");
    child.ends_well();
    set_mode(base.parent().unwrap(), 0o1777);
    Child::spawn_as(NOBODY, "open a lock file", &[as_str(&base)]).ends_well();
    assert_eq!((mode(&base), fs::metadata(&base).unwrap().uid()), (0o600, NOBODY));
    // That user could replace it, so nobody else uses it.
    assert_refused(&base, &base, "another user (uid 65534");
}

#[test]
fn a_directory_that_was_good_is_looked_at_again_when_it_is_another_or_was_changed() {
    let place = Place::new();
    let base = place.path("locks/key");
    let directory = base.parent().unwrap();
    open(&base).unwrap();
    open(&base).unwrap();

    set_mode(directory, 0o777);
    assert_refused(&base, directory, "everyone");
    set_mode(directory, 0o700);
    open(&base).unwrap();

    let aside = place.path("aside");
    fs::rename(directory, &aside).unwrap();
    link(directory, &aside);
    assert_refused(&base, directory, "a symbolic link");
    fs::remove_file(directory).unwrap();
    put(directory, "");
    assert_refused(&base, directory, "a file");
    fs::remove_file(directory).unwrap();
    open(&base).unwrap();
    assert_ne!(inode(&base), inode(&aside.join("key")));

    if is_root() {
        give(directory, SOMEBODY);
        assert_refused(&base, directory, "another user");
    }
}

#[test]
fn in_a_user_namespace_the_way_may_lead_through_what_has_no_owner_there() {
    if !cfg!(target_os = "linux") {
        return skipped("only Linux has user namespaces");
    }
    if !is_root() {
        return skipped("only root can act as another user");
    }
    let place = Place::new();
    give(place.0.path(), SOMEBODY);
    let base = place.path("locks/key");
    let enter = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]).args(arguments).current_dir("/");
        command
    };
    let unshare = ["unshare", "--user", "--map-root-user"];
    let is_there = |arguments: &[&str]| enter(arguments).arg("true").status().is_ok_and(|status| status.success());
    if !is_there(&unshare) || !is_reachable(&std::env::current_exe().unwrap()) {
        return skipped("no setpriv, no user namespaces, or a test binary that nobody but root can run");
    }
    // In there root is this user, and to all others belongs the number that "nobody" has elsewhere.
    Child::spawn_through(enter(&unshare), "open a lock file", &[as_str(&base)]).ends_well();
    assert_eq!(fs::metadata(&base).unwrap().uid(), SOMEBODY);
    // The lock directory itself must belong to somebody.
    let unowned = place.directory("unowned", 0o1777).join("key");
    chown(unowned.parent().unwrap(), Some(NOBODY), None).unwrap();
    let child = Child::spawn_through(enter(&unshare), "be refused a lock file", &[as_str(&unowned)]);
    let message = child.listen();
    assert!(message.contains("another user (uid 65534"), "{message}");
    child.ends_well();
    // And outside "nobody" is a user like others.
    give(place.0.path(), NOBODY);
    assert_refused(&base, &place.path("").components().collect::<PathBuf>(), "another user (uid 65534");
}
