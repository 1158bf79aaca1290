//! Random histories: callers, crashes, disk faults, logins, logouts, restored backups and provider answers, interleaved.
//!
//! A history is a value, which `history` generates and `world` plays. A provider model rotates at each use and counts. After
//! each step it is checked that
//!
//! - a generation is sent again only if nobody learned what became of it, one call at a time, and not before the back-off
//!   that is on record allows it;
//! - nobody is told to log in while a store that it can see holds the current token of its grant;
//! - no received credential was lost;
//! - no store holds tokens under another account than they were issued to, and no profile becomes another account's;
//! - every caller was answered, and in the end everyone whose grant is alive is served.
//!
//! `HISTORIES=100000 cargo test --features faults --test histories` plays more. A history that fails is shrunk; the shortest
//! one that still fails is printed, with what happens in it and its seed. `SEED=17` plays, and shrinks, that history alone.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by it")]
#![allow(clippy::disallowed_methods, reason = "logins, logouts and backups are other programs' writes")]

mod calls;
mod checks;
mod history;
mod process;
mod provider;
mod world;

use history::{History, histories};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

const HISTORIES: u64 = 10_000;
/// How many shorter histories are tried, and for how long (ms).
const MAX_SHRINK: (u32, u32) = (20_000, 120_000);

/// What a history has to reach now and then. A generator that no longer gets there would prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Refresh,
    Adoption,
    Recovery,
    Repeat,
    Death,
    Fault,
    RefusedResurrection,
    UnsavedReceipt,
    /// By a login or a logout, during a call.
    Supersession,
}

const REACHED: usize = Reached::Supersession as usize + 1;

/// How often each was reached.
type Tally = BTreeMap<Reached, u64>;

#[test]
fn random_histories_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let seeds = number("SEED").map_or(0..number("HISTORIES").unwrap_or(HISTORIES), |seed| seed..seed + 1);
    let (next, tally, failed) = (AtomicU64::new(seeds.start), Mutex::new(Tally::new()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(8) {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed)) {
                    if let Some(history) = play_or_shrink(seed, &tally) {
                        next.store(seeds.end, Ordering::Relaxed);
                        failed.lock().expect("a seed").replace((seed, history));
                    }
                }
            });
        }
    });
    if let Some((seed, history)) = failed.into_inner().expect("a seed") {
        println!("SEED={seed} fails. The shortest history that does: {history:#?}\nWhat happens in it:");
        World::new(&history, true).play();
        panic!("the history of SEED={seed} does not always fail");
    }
    let (histories, tally) = (seeds.end - seeds.start, tally.into_inner().expect("a tally"));
    println!("{histories} histories: {tally:?}");
    let often = tally.values().filter(|count| **count > histories / 1000).count();
    assert!(histories < HISTORIES || often == REACHED, "only {often} of {REACHED} are reached often: {tally:?}");
}

/// Plays the history of this seed; if it fails, gives the shortest one that does.
fn play_or_shrink(seed: u64, total: &Mutex<Tally>) -> Option<History> {
    let (max_shrink_iters, max_shrink_time) = MAX_SHRINK;
    let config = Config {
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters,
        max_shrink_time,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let history = histories().new_tree(&mut runner).expect("a history");
    let played = runner.run_one(history, |history| {
        let reached = World::new(&history, false).play();
        let mut total = total.lock().expect("a tally");
        for (reached, count) in reached {
            *total.entry(reached).or_default() += count;
        }
        Ok(())
    });
    match played {
        Ok(_) => None,
        Err(TestError::Fail(_, history)) => Some(history),
        Err(error) => panic!("{error}"),
    }
}
