//! A process that dies, or whose disk fails, at any step of publishing, reclaiming or releasing a sidecar leaves what others
//! get past.

use crate::support::child::{Child, Role};
use crate::support::files::{self, Make, names};
use crate::support::sidecars::{april, attempt_with, beside, dead_pid, observer, past_with, summer};
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

/// What is there before.
const BEFORE: [Make; 4] = [
    |_| (),
    |path| files::put(path, april(dead_pid(), SystemClock.now_ms())),
    |path| files::put(path, summer(dead_pid(), SystemClock.now_ms(), 1)),
    |path| {
        files::put(path, summer(dead_pid(), SystemClock.now_ms(), 1));
        files::put(&beside(path, ".tmp"), "half a fi");
    },
];

/// What there is of the file that is kept: it is made for each hold, or for the first, or was left, whole or half written.
const KEPT: [Option<Make>; 4] = [
    None,
    Some(|_| ()),
    Some(|kept| files::put(kept, summer(dead_pid(), SystemClock.now_ms(), 1))),
    Some(|kept| files::put(kept, "half a fi")),
];

/// Each way to begin, and how many file operations it takes to publish from there and release again.
fn each(test: impl Fn(&dyn Fn(&mut dyn FnMut(&Path, Option<&Path>)), usize)) {
    for (at, make) in BEFORE.into_iter().enumerate() {
        // The last one has begun to make a file.
        for kept in KEPT.into_iter().filter(|kept| kept.is_none() || at + 1 < BEFORE.len()) {
            let begin = |test: &mut dyn FnMut(&Path, Option<&Path>)| in_a_directory(make, kept, test);
            let mut operations = 0;
            begin(&mut |path, kept| {
                let (published, counted) = on_this_thread(None, || publish(path, kept));
                published.unwrap();
                operations = counted;
            });
            test(&begin, operations);
        }
    }
}

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[("publish a sidecar", |arguments| {
    let (path, kept) = (Path::new(&arguments[0]), arguments.get(1).map(Path::new));
    publish(path, kept).unwrap();
})];

/// Publishes and releases.
fn publish(path: &Path, kept: Option<&Path>) -> Result<()> {
    match attempt_with(path, kept, &mut observer())? {
        Attempt::Held(held) => drop(held),
        Attempt::InTheWay(foreign) => panic!("in the way: {foreign:?}"),
    }
    Ok(())
}

fn in_a_directory(make: Make, make_kept: Option<Make>, test: &mut dyn FnMut(&Path, Option<&Path>)) {
    let directory = tempfile::tempdir().unwrap();
    let (path, kept) = (directory.path().join("x.lock"), directory.path().join("x.sidecar"));
    make(&path);
    if let Some(make) = make_kept {
        make(&kept);
    }
    let kept = make_kept.map(|_| &*kept);
    test(&path, kept);
    let held = past_with(&path, kept);
    assert_eq!(held.check().unwrap(), Possession::Ours);
    drop(held);
    let mut left = names(directory.path());
    // A guard is in the way of reclaimers alone, and they wait for it a moment.
    left.retain(|name| name != "x.lock.reclaim");
    assert_eq!(left, Vec::from_iter(kept.map(|_| "x.sidecar")));
}

#[test]
fn a_death_at_any_step_is_got_past() {
    each(|begin, operations| {
        for at in 1..=operations {
            begin(&mut |path, kept| {
                let mut through = Command::new("env");
                through.arg(format!("OAUTH_REFRESH_LOCK_FAULT={at}:kill"));
                let arguments: Vec<_> = std::iter::once(path).chain(kept).map(|path| path.to_str().unwrap()).collect();
                let status = Child::spawn_through(through, "publish a sidecar", &arguments).ended();
                assert_eq!(status.signal(), Some(SIGKILL), "at {at}");
            });
        }
    });
}

#[test]
fn a_failure_at_any_step_is_got_past_and_leaves_no_sidecar_unless_it_is_the_releases() {
    each(|begin, operations| {
        for fault in [Fault::Errno(EIO), Fault::Errno(EPERM), Fault::Short, Fault::Crash] {
            for at in 1..=operations {
                begin(&mut |path, kept| {
                    let debris = fs::read(path).ok();
                    let (published, _) = on_this_thread(Some((at, fault)), || publish(path, kept));
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
    });
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
