//! Time, injectable so that rules about it are tested without waiting.
//!
//! Wall-clock time serves expiry and display. How long ago something was is measured on the boot's monotonic clock, which
//! does not count suspended time: neither a laptop's sleep nor a clock that is set ages anything.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant of the boot's monotonic clock, in milliseconds. It is no date: what counts is how much lies between two.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootMs(pub f64);

impl BootMs {
    /// The later one.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// The earlier one.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

/// How many milliseconds lie between.
impl Sub for BootMs {
    type Output = f64;

    fn sub(self, earlier: Self) -> f64 {
        self.0 - earlier.0
    }
}

/// So many milliseconds later.
impl Add<f64> for BootMs {
    type Output = Self;

    fn add(self, ms: f64) -> Self {
        Self(self.0 + ms)
    }
}

/// Where "now" comes from.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since the epoch, as `Date.now()` gives them.
    fn now_ms(&self) -> f64;

    /// Now on the boot's monotonic clock, the same for every process of this boot.
    fn boot_ms(&self) -> BootMs;

    /// Which boot that is; empty where it can't be told.
    fn boot_id(&self) -> String;

    /// Whether an instant of [`Self::boot_ms`], recorded with this boot's id, is of the present boot. Where boots can't be
    /// told apart, an instant in the future is of an earlier boot.
    fn is_of_this_boot(&self, boot_id: &str, boot_ms: BootMs) -> bool {
        self.boot_id() == boot_id && !(boot_id.is_empty() && boot_ms > self.boot_ms())
    }

    /// How long a thread may sleep until so many milliseconds of [`Self::boot_ms`] have passed. A clock that is put forward ends
    /// no sleep, so one that tests set asks for short ones.
    fn pause(&self, ms: f64) -> Duration {
        sleep_of(ms).min(LOOK_AGAIN)
    }
}

/// The host's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| (since.as_secs_f64() * 1000.0).floor())
    }

    fn boot_ms(&self) -> BootMs {
        BootMs(since_boot().as_secs_f64() * 1000.0 * scale() + ahead_ms().unwrap_or(0.0))
    }

    fn boot_id(&self) -> String {
        static BOOT: OnceLock<String> = OnceLock::new();
        let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        BOOT.get_or_init(|| read().trim().to_owned()).clone()
    }

    fn pause(&self, ms: f64) -> Duration {
        let pause = sleep_of(ms / scale());
        if ahead_ms().is_some() { pause.min(LOOK_AGAIN) } else { pause }
    }
}

impl SystemClock {
    /// How many milliseconds of [`Clock::boot_ms`] pass in so many of the host's timers.
    #[must_use]
    pub fn boot_ms_of_timers(ms: f64) -> f64 {
        ms * scale()
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |part| u64::try_from(part).unwrap_or(0);
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}

/// `CLOCK_MONOTONIC` goes on while a Mac sleeps.
#[cfg(target_vendor = "apple")]
fn since_boot() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::from_raw(nix::libc::CLOCK_UPTIME_RAW)).map_or(Duration::ZERO, Duration::from)
}

#[cfg(windows)]
fn since_boot() -> Duration {
    // In units of 100 ns. It fails at no address but ours.
    Duration::from_micros(winsafe::QueryUnbiasedInterruptTime().unwrap_or(0) / 10)
}

fn sleep_of(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::ZERO)
}

/// How often to look at a clock that tests may put forward.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How fast the boot's clock runs: tests of the rules about stuck owners let it run faster, in all their processes.
#[cfg(feature = "faults")]
fn scale() -> f64 {
    static SCALE: OnceLock<f64> = OnceLock::new();
    let read = || std::env::var("OAUTH_REFRESH_LOCK_CLOCK_SCALE").ok().and_then(|scale| scale.parse().ok());
    *SCALE.get_or_init(|| read().unwrap_or(1.0))
}

/// How far the boot's clock is ahead, where tests may put it forward, in all their processes at once: a millisecond for
/// each byte of a file.
#[cfg(feature = "faults")]
fn ahead_ms() -> Option<f64> {
    static FILE: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("OAUTH_REFRESH_LOCK_CLOCK_AHEAD").map(Into::into));
    let length = std::fs::metadata(file.as_ref()?).map_or(0, |metadata| metadata.len());
    Some(u32::try_from(length).map_or(f64::INFINITY, f64::from))
}

#[cfg(not(feature = "faults"))]
fn scale() -> f64 {
    1.0
}

#[cfg(not(feature = "faults"))]
fn ahead_ms() -> Option<f64> {
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A clock of this boot that stands at so many milliseconds of it.
    #[derive(Debug)]
    pub(crate) struct Boot(pub(crate) &'static str, pub(crate) f64);

    impl Clock for Boot {
        fn now_ms(&self) -> f64 {
            0.0
        }

        fn boot_ms(&self) -> BootMs {
            BootMs(self.1)
        }

        fn boot_id(&self) -> String {
            self.0.to_owned()
        }
    }
}
