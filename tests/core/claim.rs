//! Claims: a credential that a host's process has taken out of its stores is on record, and goes to one process at a time when that one
//! is dead.

use crate::support::child::{Child, Role, hear, say};
use crate::support::clocks;
use crate::support::files::{mode, names, put};
use crate::support::locks::{Waiter, take, take_by, try_or_wait_by};
use crate::support::{SECRET, assert_no_secret};
use oauth_refresh_lock::claim::{Claim, ClaimFiles};
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::disk::fault::{Fault, on_this_thread};
use oauth_refresh_lock::error::{Code, Result};
use oauth_refresh_lock::lock::{Guard, Target};
use serde_json::json;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SIGKILL: i32 = 9;
const EIO: i32 = 5;
/// How many file operations [`Claim::hold`] takes where there is nothing yet.
const OPERATIONS: usize = 9;

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("hold a claim", |arguments| {
        let held = hold(Path::new(&arguments[0]), &arguments[1], &arguments[2]).unwrap();
        say("held");
        hear();
        held.settle().unwrap();
    }),
    ("hold a claim and end", |arguments| drop(hold(Path::new(&arguments[0]), "id", "generation").unwrap())),
    ("wait for a claim", |arguments| {
        let lock = match try_or_wait_by(&target(Path::new(&arguments[0]), &arguments[1])).unwrap() {
            Ok(lock) => lock,
            Err(waiter) => {
                say("waiting");
                waiter.lock()
            }
        };
        say(if refresh_token(Claim::left(lock).unwrap()).is_some() { "owner dead" } else { "settled" });
        hear();
    }),
];

/// A key's lock in a directory in which locks have been taken before.
fn base() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("lock-0");
    drop(take(&base));
    (directory, base)
}

fn of_refresh_token(refresh: &str) -> Credential {
    let profile = json!({ "type": "oauth", "refresh": refresh });
    Credential::from_profile(profile.as_object().unwrap().clone()).unwrap()
}

fn credential() -> Credential {
    of_refresh_token(SECRET)
}

fn hold(base: &Path, id: &str, generation: &str) -> Result<Claim> {
    Claim::hold(&ClaimFiles::new(base, id), generation, credential(), true, &clocks::system())
}

/// What a process that has waited for a claim finds.
fn left(base: &Path, id: &str) -> Result<Option<Claim>> {
    Claim::left(lock_of(base, id))
}

fn lock_file(base: &Path, id: &str) -> PathBuf {
    ClaimFiles::new(base, id).lock_file().to_owned()
}

fn target(base: &Path, id: &str) -> Target {
    Target::claim(&lock_file(base, id), &clocks::system())
}

fn lock_of(base: &Path, id: &str) -> Guard {
    take_by(&target(base, id))
}

fn refresh_token(left: Option<Claim>) -> Option<String> {
    left.map(|claim| claim.credential().refresh().unwrap().to_owned())
}

fn is_on_record(base: &Path, id: &str) -> bool {
    ClaimFiles::new(base, id).is_on_record().unwrap()
}

/// The files of claims.
fn files(directory: &TempDir) -> Vec<String> {
    names(directory.path()).into_iter().filter(|name| name.contains("claim")).collect()
}

fn assert_no_secret_in(directory: &TempDir) {
    for name in names(directory.path()) {
        let bytes = fs::read(directory.path().join(&name)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{name}");
    }
}

#[test]
fn a_record_is_private_and_holds_the_credential_until_it_is_settled() {
    let (directory, base) = base();
    let held = hold(&base, "id", "generation").unwrap();
    assert!(is_on_record(&base, "id"));
    let record = lock_file(&base, "id")
        .with_file_name(format!("{}.record", lock_file(&base, "id").file_name().unwrap().to_str().unwrap()));
    assert_eq!(mode(&record), 0o600);
    assert!(fs::read_to_string(&record).unwrap().contains(SECRET));
    assert!(!format!("{held:?}").contains(SECRET));
    held.settle().unwrap();
    assert!(!is_on_record(&base, "id"));
    assert_eq!(files(&directory), [""; 0]);
    assert_no_secret_in(&directory);
}

#[test]
fn its_lock_has_a_sidecar_only_where_the_kernels_lock_excludes_nobody() {
    for lies in [false, true] {
        let (directory, base) = base();
        let mut through = Command::new("env");
        through.args(lies.then_some("OAUTH_REFRESH_LOCK_LIES=1"));
        let mut owner = Child::spawn_through(through, "hold a claim", &[base.to_str().unwrap(), "id", "generation"]);
        owner.expect("held");
        assert_eq!(
            files(&directory).iter().any(|name| Path::new(name).extension().is_some_and(|found| found == "lock")),
            lies
        );
        owner.tell("settle");
        owner.ends_well();
        assert_eq!(files(&directory), [""; 0]);
    }
}

#[test]
fn what_may_be_done_with_it_is_on_record_too() {
    let (_directory, base) = base();
    for may_probe in [true, false] {
        let id = may_probe.to_string();
        drop(
            Claim::hold(&ClaimFiles::new(&base, &id), "generation", credential(), may_probe, &clocks::system())
                .unwrap(),
        );
        assert_eq!(left(&base, &id).unwrap().unwrap().may_probe(), may_probe);
    }
}

#[test]
fn another_id_is_not_on_record() {
    let (_directory, base) = base();
    let _held = hold(&base, "id", "generation").unwrap();
    assert!(!is_on_record(&base, "other"));
    assert!(!is_on_record(&base.with_file_name("lock-1"), "id"));
}

#[test]
fn an_id_is_used_once_whether_its_owner_lives_or_not() {
    let (_directory, base) = base();
    let held = hold(&base, "id", "generation").unwrap();
    let refused = |base: &Path| hold(base, "id", "generation").map(drop).unwrap_err();
    assert_eq!(refused(&base).code, Code::InvalidArgument);
    drop(held);
    let error = refused(&base);
    assert_eq!(error.code, Code::InvalidArgument);
    assert_no_secret(&error);
    assert_eq!(refresh_token(left(&base, "id").unwrap()).unwrap(), SECRET);
}

#[test]
fn waiters_notice_a_killed_owner_one_after_the_other_until_one_settles() {
    let (directory, base) = base();
    let path = base.to_str().unwrap();
    let owner = Child::spawn("hold a claim", &[path, "id", "generation"]);
    owner.expect("held");
    let waiters = [(); 3].map(|()| Child::spawn("wait for a claim", &[path, "id"]));
    for waiter in &waiters {
        waiter.expect("waiting");
    }
    owner.kill();
    for waiter in waiters {
        assert_eq!(waiter.listen(), "owner dead");
        waiter.kill();
    }
    left(&base, "id").unwrap().unwrap().settle().unwrap();
    assert!(left(&base, "id").unwrap().is_none());
    assert_eq!(files(&directory), [""; 0]);
}

#[test]
fn a_waiter_for_an_owner_that_settles_is_told_so() {
    let (directory, base) = base();
    let path = base.to_str().unwrap();
    let mut owner = Child::spawn("hold a claim", &[path, "id", "generation"]);
    owner.expect("held");
    let waiter = Child::spawn("wait for a claim", &[path, "id"]);
    waiter.expect("waiting");
    owner.tell("settle");
    owner.ends_well();
    waiter.expect("settled");
    waiter.kill();
    assert_eq!(files(&directory), [""; 0]);
}

#[test]
fn a_waiter_that_found_the_owner_dead_keeps_the_others_out_until_it_has_settled() {
    let (_directory, base) = base();
    drop(hold(&base, "id", "generation").unwrap());
    let found = left(&base, "id").unwrap().unwrap();
    let waiter = Waiter::by(&target(&base, "id"));
    found.settle().unwrap();
    assert!(Claim::left(waiter.lock()).unwrap().is_none());
}

#[test]
fn a_new_claim_removes_what_dead_owners_left_of_its_generation_and_nothing_else() {
    let (directory, base) = base();
    drop(hold(&base, "dead", "generation").unwrap());
    drop(hold(&base, "dead, of another generation", "other").unwrap());
    let alive = hold(&base, "alive", "a third").unwrap();
    let unfinished = lock_file(&base, "unfinished");
    drop(take_by(&target(&base, "unfinished")));
    put(&directory.path().join(format!("{}.record.oauth-refresh-lock.tmp", name(&unfinished))), SECRET);
    let elsewhere = base.with_file_name("lock-00");
    drop(hold(&elsewhere, "dead", "generation").unwrap());
    let _held = hold(&base, "id", "generation").unwrap();
    assert!(!is_on_record(&base, "dead"));
    assert!(is_on_record(&base, "alive") && is_on_record(&elsewhere, "dead"));
    assert!(is_on_record(&base, "dead, of another generation"));
    assert!(!files(&directory).iter().any(|file| file.starts_with(name(&unfinished))));
    alive.settle().unwrap();
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn every_step_is_counted() {
    let (_directory, base) = base();
    let (held, operations) = on_this_thread(None, || hold(&base, "id", "generation"));
    held.unwrap().settle().unwrap();
    assert_eq!(operations, OPERATIONS);
}

#[test]
fn after_a_death_at_any_step_a_record_is_whole_or_not_there_and_the_next_claim_leaves_no_secret_behind() {
    let (mut whole, mut at) = (0, 0);
    let end = loop {
        at += 1;
        let (directory, base) = base();
        let mut through = Command::new("env");
        through.arg(format!("OAUTH_REFRESH_LOCK_FAULT={at}:kill"));
        let end = Child::spawn_through(through, "hold a claim and end", &[base.to_str().unwrap()]).ended();
        if is_on_record(&base, "id") {
            whole += 1;
            assert_eq!(refresh_token(left(&base, "id").unwrap()).unwrap(), SECRET, "at {at}");
        }
        hold(&base, "next", "generation").unwrap().settle().unwrap();
        assert_no_secret_in(&directory);
        if end.signal() != Some(SIGKILL) {
            break end;
        }
    };
    assert!(end.success() && at > OPERATIONS && (1..OPERATIONS).contains(&whole), "{end}, {whole} of {at}");
}

#[test]
fn a_failure_at_any_step_is_an_error_without_a_record_or_a_claim_with_one() {
    for fault in [Fault::Errno(EIO), Fault::Short, Fault::Crash] {
        for at in 1..=OPERATIONS {
            let (directory, base) = base();
            let (held, _) = on_this_thread(Some((at, fault)), || hold(&base, "id", "generation"));
            match held {
                Ok(held) => {
                    assert!(is_on_record(&base, "id"), "{fault:?} at {at}");
                    held.settle().unwrap();
                }
                Err(error) => {
                    let is_known = matches!(error.code, Code::JournalUnusable | Code::LockUnavailable);
                    assert!(is_known, "{fault:?} at {at}: {error}");
                    assert_no_secret(&error);
                }
            }
            if fault != Fault::Crash {
                assert_no_secret_in(&directory);
            }
        }
    }
}

#[test]
fn a_record_that_nobody_understands_is_an_error_and_stays() {
    let (directory, base) = base();
    let record = directory.path().join(format!("{}.record", name(&lock_file(&base, "id"))));
    for text in ["", "{", "{}", r#"{"generation":"g","credential":"SECRET","mayProbe":true}"#] {
        put(&record, text);
        let error = left(&base, "id").map(drop).unwrap_err();
        assert_eq!(error.code, Code::JournalUnusable, "{text}");
        assert_no_secret(&error);
        assert!(record.exists());
    }
}

#[test]
fn a_credential_that_is_too_large_is_refused() {
    let (directory, base) = base();
    let large = of_refresh_token(&SECRET.repeat(10_000));
    let error =
        Claim::hold(&ClaimFiles::new(&base, "id"), "generation", large, true, &clocks::system()).map(drop).unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert_eq!(files(&directory), [""; 0]);
}
