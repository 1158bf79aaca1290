//! What a wait costs: threads and descriptors.

use super::{Place, WAITING_THREAD, all, as_str, stand_in_line};
use crate::support::child::{Child, hear, say};
use crate::support::files::names;
use crate::support::locks::{Waiter, take};
use crate::support::{eventually, threads};
use oauth_refresh_lock::lock;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

/// How many tasks this process has, and how many descriptors.
#[cfg(target_os = "linux")]
fn costs() -> (usize, usize) {
    (names(Path::new("/proc/self/task")).len(), names(Path::new("/proc/self/fd")).len())
}

/// 64 waiters for each of two locks that somebody else holds; half of them leave, then all do, then all are served.
#[cfg(target_os = "linux")]
pub(super) fn waits_in_a_crowd(base: &Path) {
    const WAITERS: usize = 64;
    let bases = [base.with_extension("one"), base.with_extension("two")];
    let waiting_threads = || threads(std::process::id(), WAITING_THREAD);
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
    let mut crowd = Child::spawn("wait in a crowd", &[as_str(&base)]);
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
pub(super) fn waits_alone(base: &Path) {
    let idle = costs();
    let waiter = Waiter::at(base);
    say("waiting");
    let guard = waiter.lock();
    eventually("the waiting thread ends", || costs().0 == idle.0);
    // Its lock file, and its sidecar's.
    assert_eq!(costs().1, idle.1 + 2);
    drop(guard);
    assert_eq!(costs().1, idle.1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_caller_that_was_served_needs_no_thread_to_hold_the_lock() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    let child = Child::spawn("wait alone", &[as_str(&base)]);
    child.expect("waiting");
    drop(held);
    child.ends_well();
}
