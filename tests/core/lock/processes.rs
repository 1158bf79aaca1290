//! The lock between processes.

use super::{Place, as_str, holder_of};
use crate::support::child::{Child, hear, say};
use crate::support::files::{inode, put, text};
use crate::support::locks::{Waiter, take, try_or_wait};
use oauth_refresh_lock::lock::holder::Holder;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Takes the lock so many times; the process inside leaves a mark that no other may find, and counts.
pub(super) fn counts(base: &Path, arguments: &[String]) {
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
        .map(|_| Child::spawn("count under a lock", &[as_str(&base), as_str(directory), &ROUNDS.to_string()]))
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
    let mut second = Child::spawn("hold a lock", &[as_str(&base)]);
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
fn a_waiter_follows_a_killed_holder() {
    let place = Place::new();
    let base = place.base("key");
    let holder = holder_of(&base);
    let mut other = Child::spawn("hold a lock", &[as_str(&base)]);
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
        let next = Child::spawn("hold a lock", &[as_str(&base)]);
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
    let killed = Child::spawn("hold a lock", &[as_str(&base)]);
    killed.expect("waiting");
    let mut other = Child::spawn("hold a lock", &[as_str(&base)]);
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
pub(super) fn holds_and_starts_a_child(base: &Path) {
    let guard = take(base);
    let mut command = Command::new("cat");
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let heir = Child::spawn("tell what it has open", &[as_str(base)]);
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

pub(super) fn tells_what_it_has_open(base: &Path) {
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
    let mut holder = Child::spawn("hold a lock and start a child", &[as_str(&base)]);
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
    let holder = Child::spawn("hold a lock and start a child", &[as_str(&base)]);
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
