//! Users who share a directory.

#![allow(clippy::disallowed_methods, reason = "another program moves directories about")]

use super::{NOBODY, Place, ROOT, SOMEBODY, as_str, assert_refused, give, open};
use crate::support::child::{Child, hear, say};
use crate::support::files::{inode, link, mode, names, put, set_mode, text};
use crate::support::{HUNG, is_root, skipped};
use oauth_refresh_lock::disk::{Sharing, open_permanent};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::lock::private_dir;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::time::Instant;

/// Locks the file, tells it, and lets go on a word.
pub(super) fn locks(base: &Path) {
    let file = open(base).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    say("holding");
    hear();
}

#[test]
fn users_exclude_each_other_in_a_directory_that_was_made_to_be_shared() {
    if !is_root() {
        return skipped("only root can act as two users");
    }
    for first in [ROOT, NOBODY] {
        let place = Place::new();
        let base = place.directory("shared", 0o2770).join("key");
        let directory = base.parent().unwrap();
        // The owner stays root: the owner of a directory can do anything to the locks in it.
        chown(directory, Some(ROOT), Some(NOBODY)).unwrap();
        set_mode(directory, 0o2770);
        assert_eq!(private_dir::check(directory).unwrap().sharing, Sharing::Shared);

        let mut holder = Child::spawn_as(first, "lock a shared file", &[as_str(&base)]);
        holder.expect("holding");
        assert_eq!((mode(&base), fs::metadata(&base).unwrap().gid()), (0o660, NOBODY));
        let second = if first == ROOT { NOBODY } else { ROOT };
        let mine = open(&base).unwrap();
        assert!(flock(&mine, FlockOperation::NonBlockingLockExclusive).is_err(), "two inside");
        let mut other = Child::spawn_as(second, "lock a shared file", &[as_str(&base)]);
        assert_eq!(other.said(), None);
        holder.tell("let go");
        other.expect("holding");
        assert!(flock(&mine, FlockOperation::NonBlockingLockExclusive).is_err(), "two inside");
        other.tell("let go");
        holder.ends_well();
        other.ends_well();
        // A user that is not of the group has no right there.
        let child = Child::spawn_as(SOMEBODY, "be refused a lock file", &[as_str(&base)]);
        assert!(child.listen().contains("Permission denied"));
        child.ends_well();
    }
}

#[test]
fn only_a_directory_that_was_made_for_a_group_is_shared() {
    for (given, sharing) in [
        (0o2770, Sharing::Shared),
        (0o3770, Sharing::Shared),
        (0o2775, Sharing::Shared),
        (0o770, Sharing::Private),
        (0o2755, Sharing::Private),
        // Everyone may write there, so files of others are not the group's.
        (0o1777, Sharing::Private),
        (0o3777, Sharing::Private),
    ] {
        let place = Place::new();
        let directory = place.directory("locks", given);
        assert_eq!(private_dir::check(&directory).unwrap().sharing, sharing, "{given:o}");
    }
}

#[test]
fn a_shared_file_whose_maker_died_before_it_was_for_the_group_is_for_the_group_at_its_next_use() {
    let place = Place::new();
    let base = place.directory("shared", 0o2770).join("key");
    put(&base, "");
    set_mode(&base, 0o600);
    open(&base).unwrap();
    assert_eq!(mode(&base), 0o660);
}

#[test]
fn a_shared_directory_protects_from_links_and_second_names_too_and_shares_no_journal() {
    if !is_root() {
        return skipped("only root can give a file away");
    }
    let place = Place::new();
    let directory = place.directory("shared", 0o2770);
    let victim = place.path("victim");
    put(&victim, "SECRET");
    link(&directory.join("link"), &victim);
    fs::hard_link(&victim, directory.join("second")).unwrap();
    assert_refused(&directory.join("link"), &directory.join("link"), "a symbolic link");
    assert_refused(&directory.join("second"), &directory.join("second"), "2 names");
    put(&directory.join("journal"), "");
    give(&directory.join("journal"), SOMEBODY);
    open(&directory.join("journal")).unwrap();
    let error = open_permanent(&directory.join("journal")).unwrap_err();
    assert!(error.to_string().contains("another user"), "{error}");
}

/// Puts one thing after the other in a lock file's place, all of them ways to a victim, until told to stop.
pub(super) fn plays_tricks(base: &Path, victim: &Path) {
    let stop = std::thread::spawn(hear);
    let mut rounds = 0_u32;
    while !stop.is_finished() {
        let _ = fs::remove_file(base);
        let _ = match rounds % 4 {
            0 => std::os::unix::fs::symlink(victim, base),
            1 => fs::hard_link(victim, base),
            2 => File::create_new(base).map(drop),
            _ => std::os::unix::fs::symlink(victim.with_file_name("new"), base),
        };
        rounds += 1;
        if rounds == 100 {
            say("playing");
        }
    }
}

#[test]
fn a_hostile_user_can_make_us_fail_and_no_more() {
    if !is_root() {
        return skipped("only root can act as two users");
    }
    let place = Place::new();
    let base = place.directory("tmp", 0o1777).join("key");
    // Writable for all, so that not even a kernel that protects hard links refuses to give it a second name.
    let victim = place.path("victim");
    put(&victim, "SECRET");
    set_mode(&victim, 0o666);
    let mut hostile = Child::spawn_as(NOBODY, "play tricks", &[as_str(&base), as_str(&victim)]);
    hostile.expect("playing");
    let mut refused = BTreeSet::new();
    let (started, mut rounds) = (Instant::now(), 0);
    while rounds < 5_000 || refused.len() < 3 {
        assert!(started.elapsed() < HUNG, "only these tricks met us: {refused:?}");
        rounds += 1;
        match open(&base) {
            Ok(file) => {
                let found = file.metadata().unwrap();
                assert_eq!((found.uid(), found.mode() & 0o7777), (ROOT, 0o600));
                // Ours now, and the other one can't take it away, for the directory is sticky.
                assert_eq!(inode(&base), found.ino());
                fs::remove_file(&base).unwrap();
            }
            Err(error) => {
                assert_eq!(error.code, Code::LockUnavailable);
                let trick =
                    ["a symbolic link", "2 names", "another user"].into_iter().find(|why| error.message.contains(why));
                refused.extend(trick);
                if trick == Some("2 names") {
                    // A name of root's file: it lies there for good unless root removes it.
                    fs::remove_file(&base).unwrap();
                }
            }
        }
    }
    hostile.tell("stop");
    hostile.ends_well();
    assert_eq!(text(&victim), "SECRET");
    assert_eq!((fs::metadata(&victim).unwrap().uid(), mode(&victim)), (ROOT, 0o666));
    assert_eq!(names(place.0.path()), ["tmp", "victim"]);
}
