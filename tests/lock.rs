//! The kernel lock, between real processes and between threads: never two inside, nobody forgotten, nothing left.

#![cfg(unix)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers and roles are part of their tests")]

mod support;

use oauth_refresh_lock::disk::Sharing;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::inspect::KeyReport;
use oauth_refresh_lock::lock::holder::Holder;
use oauth_refresh_lock::lock::observe::Locks;
use oauth_refresh_lock::lock::{self, Acquire, Target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::child::{Child, hear, play_or_test, say};
use support::clocks::HandClock;
use support::files::{Make, fifo, inode, link, mode, names, put, snapshot, text};
use support::locks::{Waiter, take, try_or_wait};
use support::{HUNG, assert_names_path_and_no_secret, clocks, eventually, without_hanging};
use tempfile::TempDir;

/// What the waiting threads are called.
const WAITING_THREAD: &str = "oauth-lock-wait";

/// A directory for lock files.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn base(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("locks").join(name)
    }
}

fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_child_that_fails_is_noticed() {
    play_or_test(|role, arguments| {
        let base = Path::new(&arguments[0]);
        match role {
            "holds" => holds(base),
            "counts" => counts(base, &arguments[1..]),
            "holds and starts a child" => holds_and_starts_a_child(base),
            "tells what it has open" => tells_what_it_has_open(base),
            "locks under a umask" => {
                let mask = u32::from_str_radix(&arguments[1], 8).unwrap();
                rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask as _));
                drop(take(base));
                drop(take(base));
            }
            #[cfg(target_os = "linux")]
            "waits in a crowd" => waits_in_a_crowd(base),
            #[cfg(target_os = "linux")]
            "waits alone" => waits_alone(base),
            other => panic!("no such role: {other}"),
        }
    });
}

/// Takes the lock, tells when it has to wait and when it has it, and lets go on a word.
fn holds(base: &Path) {
    let guard = match try_or_wait(base).unwrap() {
        Ok(guard) => guard,
        Err(waiter) => {
            say("waiting");
            waiter.lock()
        }
    };
    say("holding");
    hear();
    drop(guard);
}

/// Another process that holds the lock.
fn holder_of(base: &Path) -> Child {
    let child = Child::spawn("holds", &[as_str(base)]);
    // It may have to wait for a moment, as `take` says.
    while child.listen() != "holding" {}
    child
}

// Between processes

/// Takes the lock so many times; whoever is inside leaves a mark that nobody else may find, and counts.
fn counts(base: &Path, arguments: &[String]) {
    let (directory, rounds) = (Path::new(&arguments[0]), arguments[1].parse::<u32>().unwrap());
    let (mark, counter) = (directory.join("inside"), directory.join("counter"));
    for round in 0..rounds {
        let guard = match try_or_wait(base).unwrap() {
            Ok(guard) => guard,
            Err(waiter) => {
                if round == 0 {
                    say("waiting");
                }
                waiter.lock()
            }
        };
        fs::OpenOptions::new().write(true).create_new(true).open(&mark).expect("nobody else inside");
        let count: u32 = text(&counter).parse().unwrap();
        std::thread::yield_now();
        put(&counter, (count + 1).to_string());
        fs::remove_file(&mark).unwrap();
        drop(guard);
    }
    say("done");
}

#[test]
fn processes_exclude_each_other_and_no_round_is_lost() {
    const PROCESSES: u32 = 3;
    const ROUNDS: u32 = 1_000;
    let place = Place::new();
    let (base, directory) = (place.base("key"), place.0.path());
    put(&directory.join("counter"), "0");
    let held = take(&base);
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| Child::spawn("counts", &[as_str(&base), as_str(directory), &ROUNDS.to_string()]))
        .collect();
    // All of them contend before one goes on.
    for child in &children {
        child.expect("waiting");
    }
    drop(held);
    for child in children {
        child.expect("done");
        child.ends_well();
    }
    assert_eq!(text(&directory.join("counter")), (PROCESSES * ROUNDS).to_string());
}

#[test]
fn a_process_waits_until_the_other_lets_go() {
    let place = Place::new();
    let base = place.base("key");
    let mut first = holder_of(&base);
    let mut second = Child::spawn("holds", &[as_str(&base)]);
    second.expect("waiting");
    assert_eq!(second.said(), None);
    first.tell("let go");
    second.expect("holding");
    first.ends_well();
    // And the other way round, through this process.
    let waiter = Waiter::at(&base);
    second.tell("let go");
    drop(waiter.lock());
    second.ends_well();
}

#[test]
fn a_killed_holder_is_followed_by_who_waits() {
    let place = Place::new();
    let base = place.base("key");
    let holder = holder_of(&base);
    let mut other = Child::spawn("holds", &[as_str(&base)]);
    other.expect("waiting");
    holder.kill();
    other.expect("holding");
    let here = Waiter::at(&base);
    other.tell("let go");
    drop(here.lock());
    other.ends_well();
}

#[test]
fn many_holders_die_one_after_the_other_and_each_is_followed() {
    let place = Place::new();
    let base = place.base("key");
    let mut holder = holder_of(&base);
    for _ in 0..10 {
        let next = Child::spawn("holds", &[as_str(&base)]);
        next.expect("waiting");
        std::mem::replace(&mut holder, next).kill();
        holder.expect("holding");
    }
    assert_eq!(Holder::read(&base).expect("a record").pid, holder.id());
}

#[test]
fn a_killed_waiter_takes_nothing_with_it() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    let killed = Child::spawn("holds", &[as_str(&base)]);
    killed.expect("waiting");
    let mut other = Child::spawn("holds", &[as_str(&base)]);
    other.expect("waiting");
    killed.kill();
    drop(held);
    other.expect("holding");
    other.tell("let go");
    other.ends_well();
    drop(take(&base));
}

#[test]
fn keys_do_not_wait_for_each_other() {
    let place = Place::new();
    let _holder = holder_of(&place.base("one"));
    let waiter = Waiter::at(&place.base("one"));
    assert!(try_or_wait(&place.base("two")).unwrap().is_ok());
    assert!(waiter.ticket.leave());
}

/// Holds the lock while a child of its own lives, and lets it go before that child ends.
fn holds_and_starts_a_child(base: &Path) {
    let guard = take(base);
    let mut command = Command::new("cat");
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let heir = Child::spawn("tells what it has open", &[as_str(base)]);
    heir.expect("open: false");
    heir.ends_well();
    say(&format!("holding; started {}", cat.id()));
    hear();
    drop(guard);
    say("let go");
    hear();
    drop(cat.stdin.take());
    assert!(cat.wait().unwrap().success(), "the child of the holder had died");
}

fn tells_what_it_has_open(base: &Path) {
    // Inodes, since a descriptor's path may be shown in other ways. Linux and macOS both have this directory.
    use std::os::unix::fs::MetadataExt;
    let open = fs::read_dir("/dev/fd").unwrap().flatten().filter_map(|descriptor| fs::metadata(descriptor.path()).ok());
    let inodes: Vec<_> = open.map(|metadata| metadata.ino()).collect();
    assert!(!inodes.is_empty());
    say(&format!("open: {}", inodes.contains(&inode(base))));
}

#[test]
fn a_child_of_the_holder_inherits_no_lock() {
    let place = Place::new();
    let base = place.base("key");
    let mut holder = Child::spawn("holds and starts a child", &[as_str(&base)]);
    assert!(holder.listen().starts_with("holding; started "));
    let waiter = Waiter::at(&base);
    holder.tell("let go");
    holder.expect("let go");
    drop(waiter.lock());
    holder.tell("end");
    holder.ends_well();
}

#[test]
fn a_child_that_outlives_a_killed_holder_keeps_no_lock() {
    let place = Place::new();
    let base = place.base("key");
    let holder = Child::spawn("holds and starts a child", &[as_str(&base)]);
    let started = holder.listen();
    let orphan: i32 = started.rsplit(' ').next().unwrap().parse().unwrap();
    let waiter = Waiter::at(&base);
    // Stopped, so that it is there and can't end when its standard input does.
    let orphan = rustix::process::Pid::from_raw(orphan).unwrap();
    rustix::process::kill_process(orphan, rustix::process::Signal::STOP).unwrap();
    holder.kill();
    drop(waiter.lock());
    rustix::process::kill_process(orphan, rustix::process::Signal::KILL).expect("an orphan that is still there");
}

// Between threads

#[test]
fn threads_of_one_process_exclude_each_other() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 100;
    let place = Place::new();
    let base = place.base("key");
    let (inside, in_line, rounds) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let held = take(&base);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let guard = match try_or_wait(&base).unwrap() {
                        Ok(guard) => guard,
                        Err(waiter) => {
                            if round == 0 {
                                in_line.fetch_add(1, Ordering::SeqCst);
                            }
                            waiter.lock()
                        }
                    };
                    assert!(!inside.swap(true, Ordering::SeqCst), "two inside");
                    std::thread::yield_now();
                    rounds.fetch_add(1, Ordering::SeqCst);
                    assert!(inside.swap(false, Ordering::SeqCst), "two inside");
                    drop(guard);
                }
            });
        }
        eventually("all threads wait", || in_line.load(Ordering::SeqCst) == THREADS);
        drop(held);
    });
    assert_eq!(rounds.into_inner(), THREADS * ROUNDS);
}

/// Stands in line and, once it has the lock, tells its name and lets go.
fn stand_in_line(base: &Path, name: usize, told: &mpsc::Sender<usize>) -> lock::Ticket {
    let told = told.clone();
    let wake = move |guard: oauth_refresh_lock::error::Result<lock::Guard>| {
        let guard = guard.expect("the lock");
        told.send(name).unwrap();
        drop(guard);
    };
    match lock::acquire(&Target::alone(base, &clocks::system()), wake).unwrap() {
        Acquire::Waiting(ticket) => ticket,
        Acquire::Held(_) => panic!("the lock is free"),
    }
}

/// The names told, in their order, until nobody is left to tell.
fn all(told: &mpsc::Receiver<usize>) -> Vec<usize> {
    let mut names = Vec::new();
    loop {
        match told.recv_timeout(HUNG) {
            Ok(name) => names.push(name),
            Err(mpsc::RecvTimeoutError::Disconnected) => return names,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("forgotten, after {names:?}"),
        }
    }
}

#[test]
fn waiters_of_one_process_are_served_in_the_order_they_came() {
    let place = Place::new();
    let base = place.base("key");
    let (sender, told) = mpsc::channel();
    let held = take(&base);
    for name in 0..50 {
        stand_in_line(&base, name, &sender);
    }
    drop(sender);
    drop(held);
    assert_eq!(all(&told), (0..50).collect::<Vec<_>>());
}

#[test]
fn who_comes_while_others_wait_is_served_behind_them_even_if_the_lock_is_free_at_that_moment() {
    let place = Place::new();
    let base = place.base("key");
    let (sender, told) = mpsc::channel();
    let held = take(&base);
    let (again, same) = (sender.clone(), base.clone());
    let first = lock::acquire(&Target::alone(&base, &clocks::system()), move |guard| {
        drop(guard.expect("the lock"));
        again.send(0).unwrap();
        // The thread that serves the line is in here, so nobody has the lock.
        stand_in_line(&same, 3, &again);
    });
    assert!(matches!(first, Ok(Acquire::Waiting(_))));
    stand_in_line(&base, 1, &sender);
    stand_in_line(&base, 2, &sender);
    drop(sender);
    drop(held);
    assert_eq!(all(&told), [0, 1, 2, 3]);
}

#[test]
fn who_leaves_is_never_called_and_the_others_move_up() {
    let place = Place::new();
    let base = place.base("key");
    let (sender, told) = mpsc::channel();
    let held = take(&base);
    let tickets: Vec<_> = (0..6).map(|name| stand_in_line(&base, name, &sender)).collect();
    drop(sender);
    for leaving in [0, 3, 5] {
        assert!(tickets[leaving].leave());
        assert!(!tickets[leaving].leave(), "has left before");
    }
    drop(held);
    assert_eq!(all(&told), [1, 2, 4]);
    assert!(!tickets[1].leave(), "was served");
}

#[test]
fn leaving_drops_the_callback_at_once() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    let waiter = Waiter::at(&base);
    assert!(!waiter.is_forgotten());
    assert!(waiter.ticket.leave());
    assert!(waiter.is_forgotten());
    drop(held);
}

#[test]
fn a_lock_that_is_granted_to_nobody_is_released() {
    let place = Place::new();
    let base = place.base("key");
    let mut holder = holder_of(&base);
    for _ in 0..3 {
        assert!(Waiter::at(&base).ticket.leave());
    }
    let mut other = Child::spawn("holds", &[as_str(&base)]);
    other.expect("waiting");
    holder.tell("let go");
    other.expect("holding");
    other.tell("let go");
    other.ends_well();
    holder.ends_well();
    drop(take(&base));
}

#[test]
fn who_comes_after_all_have_left_is_served() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    assert!(Waiter::at(&base).ticket.leave());
    let late = Waiter::at(&base);
    drop(held);
    drop(late.lock());
}

/// Has the lock file say that its holder is stuck.
fn say_that_it_is_stuck(base: &Path) {
    let mut holder = Holder::read(base).expect("a record");
    holder.boot_ms -= 60_000.0;
    holder.stale_after = Some(1_800.0);
    holder.write(&fs::File::options().read(true).write(true).open(base).unwrap()).unwrap();
}

#[test]
fn who_comes_after_all_have_left_takes_over_from_an_owner_that_is_stuck() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    let first = Waiter::at(&base);
    // Then its line stays when it leaves.
    eventually("its thread waits in the kernel", || {
        Locks::now().look(&base, Sharing::Private).unwrap().waiters != Some(0)
    });
    assert!(first.ticket.leave());
    say_that_it_is_stuck(&base);
    assert_eq!(Waiter::at(&base).lock().term(), 1);
    drop(held);
}

#[test]
fn an_owner_is_told_by_its_sidecar_and_taken_over_from_however_long_it_took_to_say_that_it_lives() {
    for has_waited in [false, true] {
        let (place, clock) = (Place::new(), HandClock::new());
        let base = place.base("key");
        let target = Target::refresh(&base, &clock.clone().into_dyn());
        let mut held = lock::try_acquire(&target).unwrap().expect("free");
        if has_waited {
            let waiter = Waiter::by(&target);
            drop(held);
            held = waiter.lock();
        }
        // Longer than two records of the same time may differ.
        clock.advance(Duration::from_millis(1_200));
        held.heartbeat();
        let report = KeyReport::of(&base, Sharing::Private, &Locks::now());
        assert_eq!(report.foreign, None, "has waited: {has_waited}");
        let before = clock.ahead();
        let next = Waiter::by(&target).lock_as_time_goes_by(&clock, Duration::from_secs(1));
        assert_eq!(next.term(), 1, "has waited: {has_waited}");
        assert!(clock.ahead() >= before + lock::REFRESH_STALE && !held.is_current());
    }
}

#[test]
fn a_sidecar_that_an_earlier_boot_has_left_is_got_past_although_its_process_seems_to_live() {
    let place = Place::new();
    let base = place.base("key");
    for boot in [None, Some("11111111-2222-3333-4444-555555555555")] {
        let held = take(&base);
        let sidecar = fs::read(lock::sidecar_path(&base)).unwrap();
        drop(held);
        // As after a power cut. In a virtual machine the next boot may give us the same process id and start time.
        put(&lock::sidecar_path(&base), &sidecar);
        let mut holder = Holder::read(&base).unwrap();
        holder.boot = boot.map_or(holder.boot, str::to_owned);
        holder.write(&fs::File::options().read(true).write(true).open(&base).unwrap()).unwrap();
        let is_got_past = lock::try_acquire(&Target::alone(&base, &clocks::system())).unwrap().is_some();
        assert_eq!(is_got_past, boot.is_some());
        let _ = fs::remove_file(lock::sidecar_path(&base));
    }
}

#[test]
fn an_owner_that_is_not_stuck_is_waited_for_although_the_next_term_has_begun() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    put(&lock::term::journal(&base, 1), "");
    let waiter = Waiter::at(&base);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!held.is_current() && lock::try_acquire(&Target::alone(&base, &clocks::system())).unwrap().is_none());
    drop(held);
    assert_eq!(waiter.lock().term(), 1);
}

#[test]
fn a_waiter_whose_callback_panics_takes_nothing_from_the_others() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    let panics =
        lock::acquire(&Target::alone(&base, &clocks::system()), |_| std::panic::resume_unwind(Box::new("on purpose")));
    assert!(matches!(panics, Ok(Acquire::Waiting(_))));
    let next = Waiter::at(&base);
    drop(held);
    drop(next.lock());
}

#[test]
fn a_thread_that_panics_lets_the_lock_go() {
    let place = Place::new();
    let base = place.base("key");
    let guard = take(&base);
    let waiter = Waiter::at(&base);
    let panicked = std::thread::spawn(move || {
        let _guard = guard;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(panicked.join().is_err());
    drop(waiter.lock());
}

#[test]
fn a_wait_that_runs_out_names_the_holder_and_frees_its_place() {
    let place = Place::new();
    let base = place.base("key");
    let mut holder = holder_of(&base);
    let error = lock::acquire_blocking(&Target::alone(&base, &clocks::system()), Duration::ZERO).unwrap_err();
    assert_eq!(error.code, Code::FileLockTimeout);
    assert_names_path_and_no_secret(&error, &base);
    assert_eq!(error.holder.as_ref().map(|holder| holder.pid), Some(holder.id()));
    assert!(error.message.contains(&format!("process {}", holder.id())), "{error}");
    let waiter = Waiter::at(&base);
    holder.tell("let go");
    drop(waiter.lock());
    holder.ends_well();
    // Nothing of the given-up wait is left that could keep the lock.
    drop(lock::acquire_blocking(&Target::alone(&base, &clocks::system()), HUNG).unwrap());
}

// The file

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
    Child::spawn("locks under a umask", &[as_str(&base), mask]).ends_well();
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
    support::files::set_mode(base.parent().unwrap(), 0o755);
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
                lock::acquire(&Target::alone(&base, &clocks::system()), |_| panic!("called"))
                    .map(|_| ())
                    .expect_err(name),
                lock::acquire_blocking(&Target::alone(&base, &clocks::system()), HUNG).map(|_| ()).expect_err(name),
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
    let error = lock::acquire(&Target::alone(&base, &clocks::system()), |_| panic!("called")).unwrap_err();
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
    let first = lock::acquire(&Target::alone(&base, &clocks::system()), move |guard| {
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

// What it costs

/// How many tasks this process has, and how many descriptors.
#[cfg(target_os = "linux")]
fn costs() -> (usize, usize) {
    (names(Path::new("/proc/self/task")).len(), names(Path::new("/proc/self/fd")).len())
}

/// 64 waiters for each of two locks that somebody else holds; half of them leave, then all do, then all are served.
#[cfg(target_os = "linux")]
fn waits_in_a_crowd(base: &Path) {
    const WAITERS: usize = 64;
    let bases = [base.with_extension("one"), base.with_extension("two")];
    let waiting_threads = || support::threads(std::process::id(), WAITING_THREAD);
    let idle = costs();
    assert_eq!(waiting_threads(), 0);
    for leave in [true, false] {
        let (sender, told) = mpsc::channel();
        let served = Arc::new(AtomicUsize::new(0));
        let mut tickets = Vec::new();
        for name in 0..WAITERS {
            for base in &bases {
                tickets.push(stand_in_line(base, name, &sender));
            }
        }
        drop(sender);
        // One thread for each lock, one that watches all, and at most one descriptor each.
        assert_eq!(costs().0, idle.0 + bases.len() + 1);
        assert!(costs().1 <= idle.1 + bases.len() + 1);
        eventually("the waiting threads have their names", || waiting_threads() == bases.len());
        if leave {
            assert!(tickets.iter().all(lock::Ticket::leave));
        }
        say("in line");
        let names = all(&told);
        served.fetch_add(names.len(), Ordering::SeqCst);
        assert_eq!(names.len(), if leave { 0 } else { WAITERS * bases.len() });
        say("through");
        hear();
        eventually("no waiting thread is left", || costs().0 == idle.0);
        assert_eq!(waiting_threads(), 0);
        assert_eq!(costs().1, idle.1);
        say("nothing left");
        hear();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn waiters_share_one_thread_per_lock_and_leave_no_thread_and_no_descriptor() {
    let place = Place::new();
    let base = place.base("key");
    let bases = [base.with_extension("one"), base.with_extension("two")];
    let mut held: Vec<_> = bases.iter().map(|base| take(base)).collect();
    let mut crowd = Child::spawn("waits in a crowd", &[as_str(&base)]);
    for _ in 0..2 {
        crowd.expect("in line");
        held.clear();
        crowd.expect("through");
        crowd.tell("look");
        crowd.expect("nothing left");
        held = bases.iter().map(|base| take(base)).collect();
        crowd.tell("again");
    }
    crowd.ends_well();
}

/// Waits for the lock and, while it holds it, sees the thread end that waited on its behalf.
#[cfg(target_os = "linux")]
fn waits_alone(base: &Path) {
    let idle = costs();
    let waiter = Waiter::at(base);
    say("waiting");
    let guard = waiter.lock();
    eventually("the waiting thread ends", || costs().0 == idle.0);
    assert_eq!(costs().1, idle.1 + 1);
    drop(guard);
    assert_eq!(costs().1, idle.1);
}

#[cfg(target_os = "linux")]
#[test]
fn who_has_been_served_needs_no_thread_to_hold_the_lock() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    let child = Child::spawn("waits alone", &[as_str(&base)]);
    child.expect("waiting");
    drop(held);
    child.ends_well();
}
