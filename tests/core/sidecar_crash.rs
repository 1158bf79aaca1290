//! A process that dies, or whose disk fails, at any step of publishing, reclaiming or releasing a sidecar leaves what others
//! get past.

use crate::support::child::{Child, Role};
use crate::support::files::{self, Make, names};
use crate::support::sidecars::{april, attempt, beside, dead_pid, observer, past, summer};
use oauth_refresh_lock::clock::{Clock, SystemClock};
use oauth_refresh_lock::disk::fault::{Fault, on_this_thread};
use oauth_refresh_lock::error::{Code, Result};
use oauth_refresh_lock::lock::sidecar::{Attempt, Possession};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

const SIGKILL: i32 = 9;
const EPERM: i32 = 1;
const EIO: i32 = 5;

/// What is there before, and how many file operations it takes to get past that and release again.
const BEFORE: [(Make, usize); 4] = [
    (|_| (), 10),
    (|path| files::put(path, april(dead_pid(), SystemClock.now_ms())), 17),
    (|path| files::put(path, summer(dead_pid(), SystemClock.now_ms(), 1)), 17),
    (
        |path| {
            files::put(path, summer(dead_pid(), SystemClock.now_ms(), 1));
            files::put(&beside(path, ".tmp"), "half a fi");
        },
        19,
    ),
];

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[("publish a sidecar", |arguments| drop(past(Path::new(&arguments[0]))))];

/// Publishes and releases.
fn publish(path: &Path) -> Result<()> {
    match attempt(path, &mut observer())? {
        Attempt::Held(held) => drop(held),
        Attempt::InTheWay(foreign) => panic!("in the way: {foreign:?}"),
    }
    Ok(())
}

fn in_a_directory(make: Make, test: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.lock");
    make(&path);
    test(&path);
    let held = past(&path);
    assert_eq!(held.check().unwrap(), Possession::Ours);
    drop(held);
    let mut left = names(directory.path());
    // A guard is in the way of reclaimers alone, and they wait for it a moment.
    left.retain(|name| name != "x.lock.reclaim");
    assert_eq!(left, [""; 0]);
}

#[test]
fn every_step_is_counted() {
    for (make, operations) in BEFORE {
        in_a_directory(make, |path| {
            let (published, counted) = on_this_thread(None, || publish(path));
            published.unwrap();
            assert_eq!(counted, operations);
        });
    }
}

#[test]
fn a_death_at_any_step_is_got_past() {
    for (make, operations) in BEFORE {
        for at in 1..=operations {
            in_a_directory(make, |path| {
                let mut through = Command::new("env");
                through.arg(format!("OAUTH_REFRESH_LOCK_FAULT={at}:kill"));
                let status = Child::spawn_through(through, "publish a sidecar", &[path.to_str().unwrap()]).ended();
                assert_eq!(status.signal(), Some(SIGKILL), "at {at}");
            });
        }
    }
}

#[test]
fn a_failure_at_any_step_is_got_past_and_leaves_no_sidecar_unless_it_is_the_releases() {
    for (make, operations) in BEFORE {
        for fault in [Fault::Errno(EIO), Fault::Errno(EPERM), Fault::Short, Fault::Crash] {
            for at in 1..=operations {
                in_a_directory(make, |path| {
                    let debris = fs::read(path).ok();
                    let (published, _) = on_this_thread(Some((at, fault)), || publish(path));
                    let left = fs::read(path).ok();
                    match published {
                        Ok(()) => assert!(left.is_none() || at > operations - 3, "{fault:?} at {at}"),
                        Err(error) => {
                            assert_eq!(error.code, Code::LockUnavailable);
                            // Another process would have to wait for the end of this one.
                            let is_nobodys = left.is_none() || left == debris;
                            assert!(is_nobodys || fault == Fault::Crash, "{fault:?} at {at}");
                        }
                    }
                });
            }
        }
    }
}

#[test]
fn without_second_names_nothing_half_written_is_left() {
    // Publishing in place: the disk is full for the second of two writes.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.lock");
    let (created, operations) = on_this_thread(Some((2, Fault::Short)), || {
        oauth_refresh_lock::disk::exclusive::create(
            &path,
            &summer(std::process::id(), SystemClock.now_ms(), 1),
            oauth_refresh_lock::disk::Sharing::Private,
        )
    });
    assert!(created.is_err());
    assert_eq!((operations, names(directory.path())), (3, Vec::new()));
}
