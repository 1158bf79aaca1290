//! The lock file.

use super::{Place, as_str, holder_of};
use crate::support::child::Child;
use crate::support::files::{inode, mode, names, put, text};
use crate::support::locks::{Waiter, take};
use crate::support::{HUNG, assert_names_path_and_no_secret};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::lock::holder::Holder;
use oauth_refresh_lock::lock::{self, Acquire, Target};
use std::fs;
use std::sync::mpsc;

#[test]
fn the_lock_file_is_never_replaced_shortened_or_removed() {
    let place = Place::new();
    let base = place.base("key");
    let guard = take(&base);
    assert_eq!(guard.base(), base);
    let (first, size) = (inode(&base), fs::metadata(&base).unwrap().len());
    assert_eq!(Holder::read(&base).expect("a record").pid, std::process::id());
    drop(guard);
    for _ in 0..20 {
        let holder = holder_of(&base);
        assert_eq!(Holder::read(&base).expect("a record").pid, holder.id());
        holder.kill();
        assert_eq!((inode(&base), fs::metadata(&base).unwrap().len()), (first, size));
    }
    drop(take(&base));
    assert_eq!(names(base.parent().unwrap()), ["key", "key.sidecar", "probe"]);
}

#[test]
fn what_lies_behind_the_record_is_left_alone_and_the_record_is_one_line() {
    let place = Place::new();
    let base = place.base("key");
    drop(take(&base));
    let record = text(&base);
    put(&base, format!("{record}{}", "x".repeat(4096)));
    let before = inode(&base);
    drop(take(&base));
    drop(take(&base));
    let after = text(&base);
    let (record, rest) = after.split_once('\n').expect("a line");
    assert_eq!(rest, "x".repeat(4096));
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["pid"], std::process::id());
    assert!(record["since"].as_f64().unwrap() > 1.6e12);
    assert_eq!(inode(&base), before);
}

#[test]
fn a_file_that_was_given_by_mistake_keeps_its_contents() {
    let place = Place::new();
    let base = place.base("key");
    let contents = "x".repeat(4096);
    put(&base, &contents);
    drop(take(&base));
    assert_eq!(text(&base), contents);
}

#[test]
fn a_lock_file_with_any_contents_can_be_locked() {
    for contents in ["", "{", "\u{1}\u{2}", "{\"pid\":\"x\"}", "{\"pid\":1,\"since\":1e300}"] {
        let place = Place::new();
        let base = place.base("key");
        put(&base, contents);
        let guard = take(&base);
        assert_eq!(Holder::read(&base).expect("a record").pid, std::process::id());
        drop(guard);
    }
}

#[test]
fn lock_file_and_directories_are_usable_and_for_the_user_alone_whatever_the_umask() {
    for mask in ["000", "002", "022", "027", "077", "177", "277", "777"] {
        let place = Place::new();
        let base = place.base("a/b/key");
        Child::spawn("lock under a umask", &[as_str(&base), mask]).ends_well();
        let modes: Vec<_> = base.ancestors().take(4).map(mode).collect();
        assert_eq!(modes, [0o600, 0o700, 0o700, 0o700], "{mask}");
    }
}

#[test]
fn a_waiter_is_told_if_the_lock_file_can_be_used_no_more() {
    let place = Place::new();
    let base = place.base("key");
    let (inside, entered) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let held = take(&base);
    // The first in line keeps the serving thread until the file has been replaced.
    let first = lock::acquire(&Target::never_taken_over(&base, &crate::support::clocks::system()), move |guard| {
        let guard = guard.expect("the lock");
        inside.send(()).unwrap();
        gone.recv().unwrap();
        drop(guard);
    });
    assert!(matches!(first, Ok(Acquire::Waiting(_))));
    let waiters = [Waiter::at(&base), Waiter::at(&base)];
    drop(held);
    entered.recv_timeout(HUNG).expect("the first in line inside");
    fs::remove_file(&base).unwrap();
    fs::create_dir(&base).unwrap();
    go.send(()).unwrap();
    for waiter in waiters {
        let error = waiter.result().unwrap_err();
        assert_eq!(error.code, Code::LockUnavailable);
        assert_names_path_and_no_secret(&error, &base);
    }
}
