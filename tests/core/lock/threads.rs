//! The lock between threads, and its queue.

use super::{Place, all, as_str, holder_of, stand_in_line};
use crate::support::child::Child;
use crate::support::clocks::HandClock;
use crate::support::files::put;
use crate::support::locks::{Waiter, take, try_or_wait};
use crate::support::{HUNG, assert_names_path_and_no_secret, eventually};
use oauth_refresh_lock::disk::Sharing;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::inspect::KeyReport;
use oauth_refresh_lock::lock::holder::Holder;
use oauth_refresh_lock::lock::observe::Locks;
use oauth_refresh_lock::lock::{self, Acquire, Target};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

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
fn a_caller_that_comes_while_others_wait_is_served_behind_them_even_if_the_lock_is_free_at_that_moment() {
    let place = Place::new();
    let base = place.base("key");
    let (sender, told) = mpsc::channel();
    let held = take(&base);
    let (again, same) = (sender.clone(), base.clone());
    let first = lock::acquire(&Target::never_taken_over(&base, &crate::support::clocks::system()), move |guard| {
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
fn a_waiter_that_leaves_is_never_called_and_the_others_move_up() {
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
    let mut other = Child::spawn("hold a lock", &[as_str(&base)]);
    other.expect("waiting");
    holder.tell("let go");
    other.expect("holding");
    other.tell("let go");
    other.ends_well();
    holder.ends_well();
    drop(take(&base));
}

#[test]
fn a_caller_that_comes_after_all_have_left_is_served() {
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
    holder.boot_ms = holder.boot_ms + -60_000.0;
    holder.stale_after = Some(1_800.0);
    holder.write(&fs::File::options().read(true).write(true).open(base).unwrap()).unwrap();
}

#[test]
fn a_caller_that_comes_after_all_have_left_takes_over_from_an_owner_that_is_stuck() {
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
        let is_got_past =
            lock::try_acquire(&Target::never_taken_over(&base, &crate::support::clocks::system())).unwrap().is_some();
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
    assert!(
        !held.is_current()
            && lock::try_acquire(&Target::never_taken_over(&base, &crate::support::clocks::system()))
                .unwrap()
                .is_none()
    );
    drop(held);
    assert_eq!(waiter.lock().term(), 1);
}

#[test]
fn a_waiter_whose_callback_panics_takes_nothing_from_the_others() {
    let place = Place::new();
    let base = place.base("key");
    let held = take(&base);
    let panics = lock::acquire(&Target::never_taken_over(&base, &crate::support::clocks::system()), |_| {
        std::panic::resume_unwind(Box::new("on purpose"))
    });
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
    let error =
        lock::acquire_blocking(&Target::never_taken_over(&base, &crate::support::clocks::system()), Duration::ZERO)
            .unwrap_err();
    assert_eq!(error.code, Code::FileLockTimeout);
    assert_names_path_and_no_secret(&error, &base);
    assert_eq!(error.holder.as_ref().map(|holder| holder.pid), Some(holder.id()));
    assert!(error.message.contains(&format!("process {}", holder.id())), "{error}");
    let waiter = Waiter::at(&base);
    holder.tell("let go");
    drop(waiter.lock());
    holder.ends_well();
    // Nothing of the given-up wait is left that could keep the lock.
    drop(lock::acquire_blocking(&Target::never_taken_over(&base, &crate::support::clocks::system()), HUNG).unwrap());
}
