//! The sidecar: what is left behind is got past or named, and what we write is what OpenClaw's own lock understands.
//!
//! April's and May's releases write the same form; what they leave is told from Summer's by the missing start time.

use crate::support::child::{Child, Role, hear, say};
use crate::support::clocks::{self, HandClock};
use crate::support::files::{self, Make};
use crate::support::sidecars::{
    Living, Place, april, april_at, attempt, beside, dead_pid, lives, observer, past, past_with, summer,
};
use crate::support::{is_root, skipped};
use oauth_refresh_lock::clock::{Clock, SystemClock};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::lock::sidecar::{Attempt, Observer, Possession};
use oauth_refresh_lock::lock::{self, Target};
use oauth_refresh_lock::process::{self, Process};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// How long a process that reclaims may take, before it counts as dead.
const GUARD_GRACE: Duration = Duration::from_millis(600);

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("hold a sidecar", |arguments| {
        let held = past(Path::new(&arguments[0]));
        say("held");
        hear();
        drop(held);
    }),
    ("fail at a sidecar", |arguments| match attempt(Path::new(&arguments[0]), &mut observer()) {
        Err(error) => say(&format!("{:?} {}", error.code, error.path.unwrap().display())),
        Ok(other) => panic!("{other:?}"),
    }),
    ("find a lock taken", |arguments| {
        let target = Target::refresh(Path::new(&arguments[0]), &clocks::system());
        assert!(lock::try_acquire(&target).unwrap().is_none());
        say("taken");
    }),
    ("judge a sidecar", |arguments| {
        // Process 1 of our PID namespace, with a start time that the 1 of another has not.
        assert_eq!(std::process::id(), 1);
        let own = process::Myself::now().start_time.unwrap();
        assert!(match Process::of(1) {
            Process::Alive { start_time } => start_time.is_none_or(|found| found == own),
            Process::Dead => false,
        });
        // Nor does a peer whose start can't be told lose its sidecar.
        let path = Path::new(&arguments[0]);
        files::put(path, summer(1, 0.0, own));
        let found = attempt(path, &mut observer()).unwrap();
        assert!(matches!(found, Attempt::InTheWay(_)), "{found:?}");
        say("judged");
    }),
];

/// It is not looked for before ours is made.
#[test]
fn a_full_disk_hides_no_peers_sidecar() {
    let other = Living::start();
    let place = Place::new();
    let base = place.root.join("locks").join("key");
    let target = Target::refresh(&base, &clocks::system());
    drop(lock::try_acquire(&target).unwrap().expect("free"));
    fs::remove_file(beside(&base, ".sidecar")).unwrap();
    let sidecar = summer(other.pid, SystemClock.now_ms(), other.start_time);
    files::put(&beside(&base, ".lock"), &sidecar);
    for fault in ["", "create#1-99:28", "write#1-99:28"] {
        let mut through = Command::new("env");
        through.arg(format!("OAUTH_REFRESH_LOCK_FAULT={fault}"));
        let child = Child::spawn_through(through, "find a lock taken", &[base.to_str().unwrap()]);
        child.expect("taken");
        child.ends_well();
        assert_eq!(fs::read(beside(&base, ".lock")).unwrap(), sidecar, "{fault}");
    }
}

#[test]
fn debris_is_got_past() {
    let other = Living::start();
    let now = SystemClock.now_ms();
    let old = now - 200_000.0;
    for debris in [
        april(dead_pid(), now),
        april(dead_pid(), now + 1e9),
        summer(dead_pid(), now, 1),
        summer(dead_pid(), now + 1e9, 1),
        // Recycled: another process by now, or one that would have to be very old.
        summer(other.pid, now, other.start_time + 1),
        summer(other.pid, now + 1e9, other.start_time - 1),
        april(other.pid, old),
        april(std::process::id(), old),
        format!("{{\"createdAt\": \"{}\"}}", april_at(old)).into_bytes(),
        format!("{{\"pid\": -1, \"createdAt\": \"{}\"}}", april_at(old)).into_bytes(),
        format!("{{\"pid\": 1e3, \"createdAt\": \"{}\"}}", april_at(old)).into_bytes(),
        format!("{{\"pid\": 4294967297, \"createdAt\": \"{}\"}}", april_at(old)).into_bytes(),
        b"{\"pid\": 4294967295}".to_vec(),
        b"{\"pid\": 0, \"createdAt\": \"yesterday\"}".to_vec(),
        Vec::new(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[".repeat(70_000),
        vec![0xff; 100_000],
        summer(other.pid, now, other.start_time)[..20].to_vec(),
    ] {
        let place = Place::new();
        files::put(&place.path(), &debris);
        files::set_mode(&place.path(), if debris.contains(&b'\t') { 0o600 } else { 0o644 });
        place.is_got_past();
    }
}

#[test]
fn what_lies_beside_debris_is_got_past_or_named() {
    let beside_debris = |make: &dyn Fn(&Path)| {
        let place = Place::new();
        files::put(&place.path(), summer(dead_pid(), SystemClock.now_ms(), 1));
        make(&place.path());
        place
    };
    let guard = |path: &Path| fs::create_dir(beside(path, ".reclaim")).unwrap();
    beside_debris(&guard).is_got_past();
    beside_debris(&|path| files::put(&beside(path, ".tmp"), "half a fi")).is_got_past();
    beside_debris(&|path| files::link(&beside(path, ".tmp"), "../elsewhere")).is_got_past();
    beside_debris(&|path| fs::hard_link(path, beside(path, ".tmp")).unwrap()).is_got_past();

    // The stale file itself is gone by then.
    let place = beside_debris(&|path| fs::create_dir(beside(path, ".tmp")).unwrap());
    attempt(&place.path(), &mut observer()).unwrap_err();
    place.is_refused(".tmp");

    let place = beside_debris(&|path| files::put(&beside(path, ".reclaim").join("file"), ""));
    let clock = HandClock::new();
    let mut observer = Observer::new(clock.clone());
    for wait in [Duration::ZERO, GUARD_GRACE] {
        clock.advance(wait);
        assert!(matches!(attempt(&place.path(), &mut observer).unwrap(), Attempt::InTheWay(_)));
    }
    clock.advance(Duration::from_millis(1));
    let error = attempt(&place.path(), &mut observer).unwrap_err();
    assert_eq!((error.code, error.path), (Code::LockUnavailable, Some(beside(&place.path(), ".reclaim"))));
}

#[test]
fn what_is_no_file_is_named_and_left_alone() {
    let makes: [(&str, Make); 6] = [
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a symbolic link", |path| files::link(path, "../elsewhere")),
        ("a symbolic link", |path| files::link(path, "nowhere")),
        ("a symbolic link", |path| files::link(path, "x.lock")),
        ("a FIFO", files::fifo),
        ("a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    for (kind, make) in makes {
        let place = Place::new();
        make(&place.path());
        let error = place.is_refused("");
        assert!(error.message.contains(kind), "{error}");
    }
}

/// A directory with something in it, or another user's file, which we may not be able to rename.
#[test]
fn what_stands_in_the_kept_files_place_keeps_nobody_from_the_lock() {
    let makes: [Make; 2] = [
        |kept| files::put(&kept.join("file"), ""),
        |kept| {
            files::put(kept, "another's");
            if is_root() {
                chown(kept, Some(65534), Some(65534)).unwrap();
            }
        },
    ];
    for make in makes {
        let directory = tempfile::tempdir().unwrap();
        let (path, kept) = (directory.path().join("x.lock"), directory.path().join("x.sidecar"));
        make(&kept);
        for _ in 0..2 {
            let held = past_with(&path, Some(&kept));
            assert_eq!(held.check().unwrap(), Possession::Ours);
            drop(held);
            assert!(!path.exists());
        }
    }
}

#[test]
fn another_users_file_is_got_past_or_named() {
    if !is_root() {
        return skipped("only root makes files of other users");
    }
    let place = Place::new();
    files::put(&place.path(), april(dead_pid(), SystemClock.now_ms()));
    chown(place.path(), Some(65534), Some(65534)).unwrap();
    files::set_mode(&place.path(), 0o600);
    place.is_got_past();

    files::put(&place.path(), april(dead_pid(), SystemClock.now_ms()));
    files::set_mode(&place.path(), 0o600);
    files::set_mode(&place.root, 0o755);
    let child = Child::spawn_as(65534, "fail at a sidecar", &[place.path().to_str().unwrap()]);
    child.expect(&format!("LockUnavailable {}", place.path().display()));
    child.ends_well();
}

#[test]
fn the_file_is_openclaws_whatever_the_umask() {
    for umask in ["0", "0777"] {
        let place = Place::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        let before = SystemClock.now_ms();
        let mut child = Child::spawn_through(shell, "hold a sidecar", &[place.path().to_str().unwrap()]);
        child.expect("held");
        assert_eq!(files::mode(&place.path()), 0o600);
        let text = files::text(&place.path());
        let (json, token) = text.split_once("\n\t").unwrap();
        let fields: serde_json::Value = serde_json::from_str(json).unwrap();
        let (pid, made) = (child.id(), fields["createdAt"].as_str().unwrap());
        let at = humantime::parse_rfc3339(made).unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((before..=SystemClock.now_ms()).contains(&(at * 1000.0).round()) && made.len() == 24, "{made}");
        let start = match Process::of(pid) {
            Process::Alive { start_time: Some(start) } => format!(",\n  \"starttime\": {start}"),
            _ => String::new(),
        };
        assert_eq!(json, format!("{{\n  \"pid\": {pid},\n  \"createdAt\": \"{made}\"{start}\n}}"));
        assert!(token.len() == 7 + 128 + 1 && token.starts_with(&"\t".repeat(7)) && token.ends_with('\n'));
        assert!(token[7..135].bytes().all(|byte| byte == b'\t' || byte == b' ') && token[7..135].contains(' '));
        child.tell("go");
        child.ends_well();
        assert_eq!(place.names(), [""; 0]);
    }
}

#[test]
fn the_process_table_of_another_namespace_is_not_believed() {
    let place = Place::new();
    let mut through = Command::new("unshare");
    through.args(["--pid", "--fork"]);
    if !cfg!(target_os = "linux") || !lives(Command::new("unshare").args(["--pid", "--fork", "true"])) {
        return skipped("no PID namespace to be had");
    }
    let child = Child::spawn_through(through, "judge a sidecar", &[place.path().to_str().unwrap()]);
    child.expect("judged");
    child.ends_well();
}
