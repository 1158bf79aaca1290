//! Sidecars: ours, taken as the lock takes them, and OpenClaw's, in the forms of its releases.

#![cfg(unix)]

use super::clocks::{self, HandClock};
use super::eventually;
use super::files::{self, names, snapshot};
use oauth_refresh_lock::disk::Sharing;
use oauth_refresh_lock::error::{Code, Error, Result};
use oauth_refresh_lock::lock::sidecar::{self, Attempt, Foreign, Observer, Possession, Sidecar};
use oauth_refresh_lock::process::Process;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// Time enough to take a lock in, whatever was left there.
const SOON: Duration = Duration::from_secs(1);
pub const LIMIT: Duration = Duration::from_secs(180);

/// `path` with a suffix.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// One that has seen nothing yet, by the host's clock.
pub fn observer() -> Observer {
    Observer::new(clocks::system())
}

pub fn attempt(path: &Path, observer: &mut Observer) -> Result<Attempt> {
    attempt_within(path, LIMIT, observer, &|_| false)
}

pub fn attempt_within(
    path: &Path,
    limit: Duration,
    observer: &mut Observer,
    is_outdated: &dyn Fn(&Foreign) -> bool,
) -> Result<Attempt> {
    let place = sidecar::Place { path, kept: None, sharing: Sharing::Private };
    Sidecar::try_publish(&place, limit, observer, is_outdated)
}

/// With a file that is kept, as beside a lock on a local disk.
pub fn attempt_with(path: &Path, kept: Option<&Path>, observer: &mut Observer) -> Result<Attempt> {
    let place = sidecar::Place { path, kept: kept.map(Path::to_owned), sharing: Sharing::Private };
    Sidecar::try_publish(&place, LIMIT, observer, &|_| false)
}

/// Publishes a sidecar soon, polling as a waiter does, by a clock that goes on with each look.
#[track_caller]
pub fn past(path: &Path) -> Sidecar {
    past_with(path, None)
}

/// The same, with a file that is kept.
#[track_caller]
pub fn past_with(path: &Path, kept: Option<&Path>) -> Sidecar {
    let clock = HandClock::new();
    let mut observer = Observer::new(clock.clone());
    loop {
        match attempt_with(path, kept, &mut observer).unwrap() {
            Attempt::Held(held) => return held,
            Attempt::InTheWay(foreign) => assert!(clock.ahead() < SOON, "in the way: {foreign:?}"),
        }
        clock.advance(Duration::from_millis(1));
    }
}

/// The same by the host's clock, among others that do so at the same time.
pub fn past_others(path: &Path) -> Sidecar {
    let mut observer = observer();
    let mut held = None;
    eventually("the sidecar is ours", || {
        held = match attempt(path, &mut observer).unwrap() {
            Attempt::Held(held) => Some(held),
            Attempt::InTheWay(_) => None,
        };
        held.is_some()
    });
    held.unwrap()
}

/// A process that has ended and is buried.
pub fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    child.id()
}

/// Whether a command can be run here.
pub fn lives(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Another process, which lives.
pub struct Living {
    process: Child,
    pub pid: u32,
    /// 7 where that can't be told: then no start time counts.
    pub start_time: u64,
}

impl Living {
    pub fn start() -> Self {
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = process.id();
        let start_time = match Process::of(pid) {
            Process::Alive { start_time } => start_time.unwrap_or(7),
            Process::Dead => panic!("it lives"),
        };
        Self { process, pid, start_time }
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As `Date.toISOString` has it.
pub fn april_at(ms: f64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_secs_f64(ms / 1000.0)).to_string()
}

/// What April's and May's releases write.
pub fn april(pid: u32, created_ms: f64) -> Vec<u8> {
    format!("{{\n  \"pid\": {pid},\n  \"createdAt\": \"{}\"\n}}", april_at(created_ms)).into_bytes()
}

/// What Summer's releases write.
pub fn summer(pid: u32, created_ms: f64, start_time: u64) -> Vec<u8> {
    let created = april_at(created_ms);
    let token = "\t ".repeat(64);
    format!(
        "{{\n  \"pid\": {pid},\n  \"createdAt\": \"{created}\",\n  \"starttime\": {start_time}\n}}\n\t\t\t\t\t\t\t\t{token}\n"
    )
    .into_bytes()
}

/// A directory for a sidecar, beside a file that nobody is to touch.
pub struct Place {
    _directory: TempDir,
    pub root: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("locks")).unwrap();
        files::put(&root.join("elsewhere"), "precious");
        Self { _directory: directory, root }
    }

    pub fn path(&self) -> PathBuf {
        self.root.join("locks/x.lock")
    }

    pub fn names(&self) -> Vec<String> {
        names(&self.root.join("locks"))
    }

    /// Takes the lock before the limit, with nothing else beside it and nothing left after it.
    #[track_caller]
    pub fn is_got_past(&self) {
        let held = past(&self.path());
        assert_eq!(held.check().unwrap(), Possession::Ours);
        assert_eq!(self.names(), ["x.lock"]);
        drop(held);
        assert_eq!(self.names(), [""; 0]);
        assert_eq!(files::text(&self.root.join("elsewhere")), "precious");
    }

    /// Refuses at once with an error that names `suffix`'s file, and touches nothing.
    #[track_caller]
    pub fn is_refused(&self, suffix: &str) -> Error {
        let before = snapshot(&self.root);
        let error = attempt(&self.path(), &mut observer()).unwrap_err();
        assert_eq!((error.code, error.path.as_deref()), (Code::LockUnavailable, Some(&*beside(&self.path(), suffix))));
        assert_eq!(snapshot(&self.root), before);
        error
    }

    #[track_caller]
    pub fn is_respected(&self) {
        let before = snapshot(&self.root);
        assert!(matches!(attempt(&self.path(), &mut observer()).unwrap(), Attempt::InTheWay(_)));
        assert_eq!(snapshot(&self.root), before);
    }
}
