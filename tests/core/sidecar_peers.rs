//! The sidecar among living peers: which are respected and for how long, and that only one holds it at a time.

use crate::support::clocks::HandClock;
use crate::support::files::{self, snapshot};
use crate::support::sidecars::{
    LIMIT, Living, Place, april, april_at, attempt_within, dead_pid, observer, past, past_others, summer,
};
use oauth_refresh_lock::clock::{Clock, SystemClock};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::lock::holder::Holder;
use oauth_refresh_lock::lock::sidecar::{Attempt, Foreign, Observer, Possession, Sidecar};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Looks a millisecond before `limit` has passed since the first look, and a millisecond after, when the file is reclaimed.
fn is_respected_for(limit: Duration, place: &Place, clock: &Arc<HandClock>) -> Sidecar {
    let mut observer = Observer::new(clock.clone());
    let mut look = || attempt_within(&place.path(), limit, &mut observer, &|_| false).unwrap();
    for wait in [Duration::ZERO, limit.saturating_sub(MILLISECOND)] {
        clock.advance(wait);
        assert!(matches!(look(), Attempt::InTheWay(_)));
    }
    clock.advance(2 * MILLISECOND);
    match look() {
        Attempt::Held(held) => held,
        Attempt::InTheWay(foreign) => panic!("in the way: {foreign:?}"),
    }
}

#[test]
fn a_living_peer_of_the_first_releases_is_respected_until_the_limit() {
    let other = Living::start();
    let (place, clock) = (Place::new(), HandClock::new());
    files::put(&place.path(), april(other.pid, clock.now_ms()));
    let held = is_respected_for(LIMIT, &place, &clock);
    assert_eq!(held.reclaimed().and_then(|foreign| foreign.pid), Some(other.pid));
}

#[test]
fn a_process_that_was_started_later_is_not_the_one_that_the_file_means() {
    let place = Place::new();
    let other = Living::start();
    files::put(&place.path(), april(other.pid, SystemClock.now_ms() - 60_000.0));
    let held = past(&place.path());
    assert_eq!(held.reclaimed().and_then(|foreign| foreign.pid), Some(other.pid));
}

#[test]
fn a_time_to_come_counts_from_when_it_was_first_seen() {
    let other = Living::start();
    for debris in [april(other.pid, 4e12), format!("{{\"createdAt\": \"{}\"}}", april_at(4e12)).into_bytes()] {
        let place = Place::new();
        files::put(&place.path(), debris);
        drop(is_respected_for(LIMIT, &place, &HandClock::new()));
    }
}

#[test]
fn a_living_peer_of_the_latest_releases_is_always_respected() {
    let other = Living::start();
    for made in [0.0, SystemClock.now_ms() - 1e9, SystemClock.now_ms(), 4e12] {
        let (place, clock) = (Place::new(), HandClock::new());
        files::put(&place.path(), summer(other.pid, made, other.start_time));
        place.is_respected();
        let mut observer = Observer::new(clock.clone());
        for _ in 0..2 {
            let found = attempt_within(&place.path(), Duration::ZERO, &mut observer, &|_| false).unwrap();
            assert!(matches!(found, Attempt::InTheWay(_)));
            clock.advance(LIMIT * 100);
        }
    }
}

#[test]
fn what_changes_after_it_was_judged_is_not_reclaimed() {
    let other = Living::start();
    let place = Place::new();
    let successor = summer(other.pid, SystemClock.now_ms(), other.start_time);
    files::put(&place.path(), april(other.pid, SystemClock.now_ms()));
    let judged = Cell::new(0);
    let is_outdated = |_: &Foreign| {
        judged.set(judged.get() + 1);
        fs::remove_file(place.path()).unwrap();
        files::put(&place.path(), &successor);
        judged.get() == 1
    };
    let found = attempt_within(&place.path(), LIMIT, &mut observer(), &is_outdated).unwrap();
    assert!(matches!(found, Attempt::InTheWay(foreign) if foreign.start_time.is_some()));
    assert_eq!((judged.get(), place.names()), (2, vec!["x.lock".to_owned()]));
    assert_eq!(fs::read(place.path()).unwrap(), successor);
}

#[test]
fn of_several_that_reclaim_at_once_one_has_it_at_a_time() {
    const THREADS: usize = 3;
    let place = Place::new();
    let path = place.path();
    let debris = summer(dead_pid(), SystemClock.now_ms(), 1);
    let (start, inside) = (Barrier::new(THREADS), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (path, debris, start, inside) = (&path, &debris, &start, &inside);
            scope.spawn(move || {
                for _ in 0..200 {
                    if thread == 0 {
                        files::put(path, debris);
                    }
                    start.wait();
                    let held = past_others(path);
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    assert_eq!(held.check().unwrap(), Possession::Ours);
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    drop(held);
                    start.wait();
                }
            });
        }
    });
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_release_removes_nothing_but_its_own() {
    let other = Living::start();
    let place = Place::new();
    let held = past(&place.path());
    assert_eq!((held.check().unwrap(), held.reclaimed()), (Possession::Ours, None));
    fs::remove_file(place.path()).unwrap();
    assert_eq!(held.check().unwrap(), Possession::Gone);
    fs::create_dir(place.path()).unwrap();
    assert_eq!(held.check().unwrap_err().code, Code::LockUnavailable);
    fs::remove_dir(place.path()).unwrap();
    files::put(&place.path(), summer(other.pid, SystemClock.now_ms(), other.start_time));
    assert_eq!(held.check().unwrap(), Possession::Foreign);
    let before = snapshot(&place.root);
    drop(held);
    assert_eq!(snapshot(&place.root), before);
}

#[test]
fn what_could_not_be_released_is_reclaimed_later() {
    let place = Place::new();
    let held = past(&place.path());
    place.is_respected();
    fs::hard_link(place.path(), place.root.join("aside")).unwrap();
    fs::remove_file(place.path()).unwrap();
    fs::create_dir(place.path()).unwrap();
    drop(held);
    fs::remove_dir(place.path()).unwrap();
    fs::hard_link(place.root.join("aside"), place.path()).unwrap();
    place.is_got_past();
}

#[test]
fn a_holder_is_known_by_its_sidecar_but_not_by_a_later_one_of_its_process() {
    let holder = Holder::me(&SystemClock, Some(LIMIT));
    let limit_ms = 1000.0 * LIMIT.as_secs_f64();
    for (later, is_its) in
        [(-2000.0, false), (-5.0, true), (5.0, true), (limit_ms - 1.0, true), (limit_ms + 1.0, false)]
    {
        let foreign =
            Foreign { pid: Some(holder.pid), created_at: Some(holder.since + later), start_time: holder.start_time };
        assert_eq!(foreign.is_of(&holder), is_its, "{later}");
        assert!(!Foreign { start_time: Some(1), ..foreign.clone() }.is_of(&holder));
        assert!(!Foreign { pid: None, ..foreign }.is_of(&holder));
    }
}
