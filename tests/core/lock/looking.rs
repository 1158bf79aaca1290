//! Waiters that look, when the owner lets go of the lock, before they want it.

use super::{Place, as_str, stand_in_line};
use crate::support::child::{Child, say};
use crate::support::clocks;
use crate::support::files::put;
use crate::support::locks::take;
use crate::support::sidecars::{Living, summer};
use crate::support::{HUNG, eventually};
use oauth_refresh_lock::clock::{Clock, SystemClock};
use oauth_refresh_lock::disk::Sharing;
use oauth_refresh_lock::lock::observe::Locks;
use oauth_refresh_lock::lock::{self, Acquire, Target, Ticket, Woken};
use rustix::fs::{FlockOperation, flock};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

pub(super) fn looks(base: &Path) {
    let (sender, woken) = mpsc::channel();
    let _ticket = look(base, move |woken| sender.send(is_freed(&woken)).unwrap());
    say("waiting");
    assert!(woken.recv_timeout(HUNG).unwrap());
    say("freed");
}

fn is_freed(woken: &Woken) -> bool {
    matches!(woken, Woken::Freed)
}

fn look(base: &Path, wake: impl FnOnce(Woken) + Send + 'static) -> Ticket {
    match lock::acquire_or_look(&Target::never_taken_over(base, &clocks::system()), true, wake).unwrap() {
        Acquire::Waiting(ticket) => ticket,
        Acquire::Held(_) => panic!("the lock is free"),
    }
}

/// Sends whether it was woken without the lock.
fn look_and_tell(base: &Path, told: &mpsc::Sender<bool>) -> Ticket {
    let told = told.clone();
    look(base, move |woken| told.send(is_freed(&woken)).unwrap())
}

fn waiters(base: &Path) -> Option<usize> {
    Locks::now().look(base, Sharing::Private).unwrap().waiters
}

#[test]
fn all_of_one_process_and_of_others_are_woken_at_once_and_hold_nothing() {
    let place = Place::new();
    let base = place.base("key");
    let (sender, told) = mpsc::channel();
    let held = take(&base);
    let _tickets: Vec<_> = (0..8).map(|_| look_and_tell(&base, &sender)).collect();
    let children: Vec<_> = (0..3).map(|_| Child::spawn("look when the lock is free", &[as_str(&base)])).collect();
    for child in &children {
        child.expect("waiting");
    }
    drop(held);
    for _ in 0..8 {
        assert!(told.recv_timeout(HUNG).unwrap());
    }
    for child in children {
        child.expect("freed");
        child.ends_well();
    }
    drop(take(&base));
}

#[test]
fn a_waiter_behind_it_that_wants_the_lock_gets_it() {
    let place = Place::new();
    let base = place.base("key");
    let (sender, told) = mpsc::channel();
    let (looked, freed) = mpsc::channel();
    let held = take(&base);
    let _first = look_and_tell(&base, &looked);
    let _second = stand_in_line(&base, 2, &sender);
    drop(held);
    assert!(freed.recv_timeout(HUNG).unwrap());
    assert_eq!(told.recv_timeout(HUNG).unwrap(), 2);
    drop(take(&base));
}

#[test]
fn one_behind_a_waiter_that_wants_the_lock_is_not_forgotten() {
    let place = Place::new();
    let base = place.base("key");
    let (sender, told) = mpsc::channel();
    let (looked, freed) = mpsc::channel();
    let held = take(&base);
    let _first = stand_in_line(&base, 1, &sender);
    let _second = look_and_tell(&base, &looked);
    drop(held);
    assert_eq!(told.recv_timeout(HUNG).unwrap(), 1);
    assert!(freed.recv_timeout(HUNG).unwrap());
}

#[test]
fn one_that_leaves_leaves_nothing_behind() {
    let place = Place::new();
    let base = place.base("key");
    let (sender, told) = mpsc::channel();
    let held = take(&base);
    let ticket = look_and_tell(&base, &sender);
    eventually("its thread waits in the kernel", || waiters(&base) != Some(0));
    assert!(ticket.leave());
    drop(held);
    drop(sender);
    assert!(told.recv_timeout(HUNG).is_err());
    drop(take(&base));
}

/// The kernel's list is read by pages, and what is released meanwhile moves what follows.
#[cfg(target_os = "linux")]
#[test]
fn locks_that_are_held_are_seen_to_be_while_others_come_and_go() {
    let place = Place::new();
    let bases: Vec<_> = (0..100).map(|number| place.base(&format!("key-{number}"))).collect();
    let held: Vec<_> = bases.iter().map(|base| take(base)).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let others: Vec<_> = (0..40).map(|_| tempfile::tempfile().unwrap()).collect();
                while !is_over.load(Ordering::Relaxed) {
                    for operation in [FlockOperation::LockExclusive, FlockOperation::Unlock] {
                        for file in &others {
                            flock(file, operation).unwrap();
                        }
                    }
                }
            });
        }
        let is_held = |locks: &Locks, base: &Path| locks.look(base, Sharing::Private).unwrap().is_held;
        let missed = |_| {
            let locks = Locks::now();
            bases.iter().filter(|base| !is_held(&locks, base)).count()
        };
        let missed: usize = (0..50).map(missed).sum();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(missed, 0);
    });
    drop(held);
    assert!(bases.iter().all(|base| waiters(base) == Some(0)));
}

#[test]
fn a_lock_file_of_another_program_keeps_them_out_as_well() {
    let place = Place::new();
    let base = place.base("key");
    drop(take(&base));
    let other = Living::start();
    put(&lock::sidecar_path(&base), summer(other.pid, SystemClock.now_ms(), other.start_time));
    let (sender, told) = mpsc::channel();
    // The kernel's lock is free: it looks, and is not given what the other program has.
    let _ticket = look_and_tell(&base, &sender);
    assert!(told.recv_timeout(HUNG).unwrap());
    assert!(lock::try_acquire(&Target::never_taken_over(&base, &clocks::system())).unwrap().is_none());
}
