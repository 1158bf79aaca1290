//! Taking over from a stuck owner, where that can't be done at first, or where nothing is on record of it.

use crate::support::child::{Child, Role, hear, say};
use crate::support::clocks;
use crate::support::files::put;
use crate::support::locks::take;
use crate::support::{HUNG, eventually, threads};
use oauth_refresh_lock::disk::{self, fault};
use oauth_refresh_lock::lock::holder::Holder;
use oauth_refresh_lock::lock::{self, Acquire, Guard, Target, term};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// What the threads are called that wait in the kernel.
const WAITING_THREAD: &str = "oauth-lock-wait";
const WAITERS: usize = 3;
/// How often a term can't be begun.
const FAILURES: usize = 20;
const MINUTE: u64 = 60_000;

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("hold a lock for ever", |arguments| holds(Path::new(&arguments[0]))),
    ("take over at last", |arguments| takes_over_at_last(Path::new(&arguments[0]), &Clock(Path::new(&arguments[1])))),
    ("take over from nobody known", |arguments| {
        let (unsigned, others) = (Path::new(&arguments[0]), Path::new(&arguments[1]));
        takes_over_from_nobody_known(unsigned, others, &Clock(Path::new(&arguments[2])));
    }),
];

/// The boot's clock of a process, which goes on by itself too.
struct Clock<'a>(&'a Path);

impl Clock<'_> {
    fn ahead(&self) -> u64 {
        fs::metadata(self.0).unwrap().len()
    }

    fn advance(&self, ms: u64) {
        fs::File::options().write(true).open(self.0).unwrap().set_len(self.ahead() + ms).unwrap();
    }
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        put(&place.clock(), "");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn base(&self, name: &str) -> PathBuf {
        self.path("locks").join(name)
    }

    fn clock(&self) -> PathBuf {
        self.path("clock")
    }

    /// A process with this fault, and the clock that can be put forward.
    fn spawn(&self, fault: &str, role: &str, paths: &[&Path]) -> Child {
        let mut through = Command::new("env");
        through.arg(format!("OAUTH_REFRESH_LOCK_FAULT={fault}"));
        through.arg(format!("OAUTH_REFRESH_LOCK_CLOCK_AHEAD={}", self.clock().display()));
        let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        Child::spawn_through(through, role, &paths)
    }
}

/// Stands in line for a refresh.
fn stand_in_line(base: &Path) -> Receiver<oauth_refresh_lock::error::Result<Guard>> {
    let (sender, lock) = channel();
    let acquired =
        lock::acquire(&Target::refresh(base, &clocks::system()), move |granted| drop(sender.send(granted))).unwrap();
    assert!(matches!(acquired, Acquire::Waiting(_)));
    lock
}

fn holds(base: &Path) {
    let lock = lock::acquire_blocking(&Target::refresh(base, &clocks::system()), HUNG).unwrap();
    say(&format!("holding term {}", lock.term()));
    hear();
}

fn takes_over_at_last(base: &Path, clock: &Clock) {
    let waiters: Vec<_> = (0..WAITERS).map(|_| stand_in_line(base)).collect();
    eventually("the thread that waits has its name", || threads(process::id(), WAITING_THREAD) == 1);
    // A step is longer than a record has to stand still, and too short to look like a sleep of our own.
    while fault::seen_by_process() == 0 {
        clock.advance(MINUTE / 5);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut most = 0;
    loop {
        let waiting = threads(process::id(), WAITING_THREAD);
        if fault::seen_by_process() > FAILURES {
            break;
        }
        most = most.max(waiting);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(most, 1, "threads that wait");
    for lock in waiters {
        assert_eq!(lock.recv_timeout(HUNG).unwrap().unwrap().term(), 1);
    }
    eventually("only the thread behind the stuck owner is left", || threads(process::id(), WAITING_THREAD) == 1);
    say("served");
}

#[test]
fn a_term_that_cannot_be_begun_costs_no_thread_and_is_begun_when_it_can() {
    let place = Place::new();
    let base = place.base("key");
    let held = lock::try_acquire(&Target::refresh(&base, &clocks::system())).unwrap().expect("free");
    // ENOSPC
    let fault = format!("create#1-{FAILURES}:28");
    let child = place.spawn(&fault, "take over at last", &[&base, &place.clock()]);
    child.expect("served");
    child.ends_well();
    assert!(!held.is_current());
}

/// The second lock's file has contents of its own, and is never signed.
fn takes_over_from_nobody_known(unsigned: &Path, others: &Path, clock: &Clock) {
    let never = stand_in_line(others);
    let waiter = stand_in_line(unsigned);
    let lock = loop {
        if let Ok(lock) = waiter.recv_timeout(Duration::from_millis(20)) {
            break lock.unwrap();
        }
        clock.advance(MINUTE);
    };
    assert_eq!(lock.term(), 1);
    assert!(clock.ahead() >= 3 * MINUTE, "{}", clock.ahead());
    assert!(never.try_recv().is_err());
    say("took over");
    hear();
}

#[test]
fn a_holder_that_stops_before_its_first_record_is_taken_over_from_and_sees_it() {
    let place = Place::new();
    let (base, others) = (place.base("key"), place.base("mistaken"));
    let mut stopped = place.spawn("sign#1:stop", "hold a lock for ever", &[&base]);
    let stat = format!("/proc/{}/stat", stopped.id());
    eventually("it has stopped", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
    assert!(Holder::read(&base).is_none() && !lock::is_free(&base, 0).unwrap());
    put(&others, "of somebody else's ".repeat(20));
    let held = take(&others);
    let mut taker = place.spawn("", "take over from nobody known", &[&base, &others, &place.clock()]);
    taker.expect("took over");
    assert!(held.is_current() && !term::has_begun(&others, 1).unwrap());
    let pid = rustix::process::Pid::from_raw(stopped.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    eventually("it has signed", || Holder::read(&base).is_some());
    assert_eq!(stopped.said(), None);
    taker.tell("let go");
    taker.ends_well();
    stopped.expect("holding term 1");
    stopped.tell("go");
    stopped.ends_well();
}

#[test]
fn a_process_that_has_seen_the_first_term_gets_a_later_one_and_the_first_of_a_new_directory() {
    let place = Place::new();
    let base = place.base("key");
    let target = Target::claim(&base, &clocks::system());
    let term = || lock::try_acquire(&target).unwrap().expect("free").term();
    assert_eq!((term(), term()), (0, 0));
    let stuck = lock::try_acquire(&target).unwrap().expect("free");
    disk::create_once(&term::journal(&base, 1)).unwrap();
    assert!(!stuck.is_current());
    assert_eq!(term(), 1);
    drop(stuck);
    assert_eq!(term(), 1);
    fs::remove_dir_all(place.path("locks")).unwrap();
    assert_eq!((term(), term()), (0, 0));
    // While nobody holds what it supposes.
    disk::create_once(&term::journal(&base, 1)).unwrap();
    assert_eq!(term(), 1);
}

#[test]
fn a_holder_that_does_not_refresh_says_that_it_is_never_stuck() {
    let place = Place::new();
    let base = place.base("key");
    let held = lock::try_acquire(&Target::never_taken_over(&base, &clocks::system())).unwrap().expect("free");
    assert_eq!(Holder::read(&base).expect("a record").stale_after, None);
    drop(held);
    drop(lock::try_acquire(&Target::refresh(&base, &clocks::system())).unwrap().expect("free"));
    assert!(Holder::read(&base).expect("a record").stale_after.is_some());
}
