//! How the time that each target takes grows with the size of its input:
//! `cargo run --release --manifest-path fuzz/Cargo.toml --bin growth [TARGET]`.
//!
//! Of each kind of input there is a typical one, and one with a thousand times as many of what grows, or as many as the target reads. It
//! fails if the large one takes more than 1.5 times as much longer. The best of several runs counts. Targets that read files write them too,
//! which takes most of a small one's time.

mod inputs;
#[path = "../targets.rs"]
mod targets;

use inputs::Case;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Large inputs leave the processor's caches: what takes this much longer than in proportion may still be linear.
const TOLERANCE: f64 = 1.5;
const MIN_RUNS: usize = 5;
/// Of many more, one would be better than all of a large input's.
const MAX_RUNS: usize = 100;
const MIN_TIME: Duration = Duration::from_millis(100);
/// One that seems to be too slow is measured so often: something else may have been running.
const TRIES: usize = 5;

fn main() -> ExitCode {
    let only = std::env::args().nth(1);
    let cases = inputs::all();
    for (name, _) in targets::ALL {
        assert!(cases.iter().any(|case| case.target == name), "no input of {name} grows");
    }
    println!("target    what grows                         bytes       more       microseconds     longer");
    let is_meant = |case: &&Case| only.as_ref().is_none_or(|only| case.target == only);
    let too_slow = cases.iter().filter(is_meant).filter(|case| !is_quick(case)).count();
    println!("{too_slow} took more than {TOLERANCE} times as much longer as there is more of what grows");
    if too_slow == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures one kind of input and prints that; says whether its time grows with its size at most.
#[allow(clippy::cast_precision_loss, reason = "sizes of a few megabytes")]
fn is_quick(case: &Case) -> bool {
    let (_, target) = targets::ALL.into_iter().find(|(name, _)| *name == case.target).expect("a target");
    let (small, large) = ((case.make)(case.small), (case.make)(case.large));
    let more = case.large as f64 / case.small as f64;
    let (mut small_us, mut large_us) = (f64::INFINITY, f64::INFINITY);
    let is_quick = (0..TRIES).any(|_| {
        small_us = small_us.min(best_us(target, &small));
        large_us = large_us.min(best_us(target, &large));
        large_us <= TOLERANCE * more * small_us
    });
    let sizes = format!("{:5} {:8} {more:6.0} x", small.len(), large.len());
    let times = format!("{small_us:8.1} {large_us:10.1} {:6.0} x", large_us / small_us);
    let limit = case.limit.map(|limit| format!("  ({limit})")).unwrap_or_default();
    let verdict = if is_quick { "" } else { "  TOO SLOW" };
    println!("{:9} {:27} {sizes}  {times}{limit}{verdict}", case.target, case.grows);
    is_quick
}

/// The shortest time that the target takes.
fn best_us(target: fn(&[u8]), input: &[u8]) -> f64 {
    let begun = Instant::now();
    let mut best = Duration::MAX;
    for run in 0..MAX_RUNS {
        if run >= MIN_RUNS && begun.elapsed() > MIN_TIME {
            break;
        }
        let start = now();
        target(input);
        best = best.min(now().saturating_sub(start));
    }
    best.as_secs_f64() * 1e6
}

/// How long this thread has run: other programs take nothing of that.
#[cfg(unix)]
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |part| u64::try_from(part).unwrap_or(0);
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}

#[cfg(not(unix))]
fn now() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}
