//! The lock file.

use super::{Place, as_str, holder_of};
use crate::support::child::Child;
use crate::support::files::set_mode;
use crate::support::files::{Make, fifo, inode, link, mode, names, put, snapshot, text};
use crate::support::locks::{Waiter, take};
use crate::support::{HUNG, assert_names_path_and_no_secret, without_hanging};
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
    assert_eq!(names(base.parent().unwrap()), ["key", "probe"]);
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

/// Under this umask, the modes of the lock file and of each directory made for it.
fn modes_under(mask: &str) -> Vec<u32> {
    let place = Place::new();
    let base = place.base("a/b/key");
    Child::spawn("lock under a umask", &[as_str(&base), mask]).ends_well();
    base.ancestors().take(4).map(mode).collect()
}

#[test]
fn lock_file_and_directories_are_for_the_user_alone_whatever_the_umask_allows() {
    for mask in ["000", "002", "022", "027", "077"] {
        assert_eq!(modes_under(mask), [0o600, 0o700, 0o700, 0o700], "{mask}");
    }
}

#[test]
fn lock_file_and_directories_are_usable_even_under_a_umask_that_takes_the_users_own_rights() {
    for mask in ["177", "277", "777"] {
        assert_eq!(modes_under(mask), [0o600, 0o700, 0o700, 0o700], "{mask}");
    }
}

#[test]
fn directories_that_exist_keep_their_mode() {
    let place = Place::new();
    let base = place.base("key");
    fs::create_dir(base.parent().unwrap()).unwrap();
    set_mode(base.parent().unwrap(), 0o755);
    drop(take(&base));
    assert_eq!(mode(base.parent().unwrap()), 0o755);
}

#[test]
fn what_is_no_lock_file_is_refused_and_left_alone() {
    let kinds: [(&str, Make); 8] = [
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a FIFO", fifo),
        ("a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("a symbolic link to a file", |path| {
            put(&path.with_file_name("target"), "untouched");
            link(path, "target");
        }),
        ("a symbolic link to nothing", |path| link(path, "nothing")),
        ("a symbolic link to a directory", |path| link(path, ".")),
        ("a symbolic link to itself", |path| link(path, path)),
        ("a symbolic link to a device", |path| link(path, "/dev/null")),
    ];
    for (name, make) in kinds {
        let place = Place::new();
        let base = place.base("key");
        // What the first lock of a directory leaves in it is there.
        drop(take(&place.base("another")));
        make(&base);
        let before = snapshot(place.0.path());
        without_hanging(move || {
            for error in [
                lock::acquire(&Target::alone(&base, &crate::support::clocks::system()), |_| panic!("called"))
                    .map(|_| ())
                    .expect_err(name),
                lock::acquire_blocking(&Target::alone(&base, &crate::support::clocks::system()), HUNG)
                    .map(|_| ())
                    .expect_err(name),
            ] {
                assert_eq!(error.code, Code::LockUnavailable, "{name}");
                assert_names_path_and_no_secret(&error, &base);
            }
            assert_eq!(snapshot(place.0.path()), before, "{name}");
        });
    }
}

#[test]
fn a_path_through_a_file_is_refused() {
    let place = Place::new();
    put(&place.base("file"), "");
    let base = place.base("file").join("key");
    let error =
        lock::acquire(&Target::alone(&base, &crate::support::clocks::system()), |_| panic!("called")).unwrap_err();
    assert_eq!(error.code, Code::LockUnavailable);
    assert_names_path_and_no_secret(&error, &place.base("file"));
}

#[test]
fn a_waiter_is_told_if_the_lock_file_can_be_used_no_more() {
    let place = Place::new();
    let base = place.base("key");
    let (inside, entered) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let held = take(&base);
    // The first in line keeps the serving thread until the file has been replaced.
    let first = lock::acquire(&Target::alone(&base, &crate::support::clocks::system()), move |guard| {
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
