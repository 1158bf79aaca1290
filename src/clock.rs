//! Time, injectable so that rules about it are tested without waiting.
//!
//! Wall-clock time serves expiry and display. How long ago something was is measured on the boot's monotonic clock, which
//! does not count suspended time: a laptop that sleeps ages nobody, and a clock that is set ages nothing.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where "now" comes from.
pub trait Clock: Send + Sync {
    /// Milliseconds since the epoch, as `Date.now()` gives them.
    fn now_ms(&self) -> f64;

    /// Milliseconds on the boot's monotonic clock, the same for every process of this boot.
    fn boot_ms(&self) -> f64;

    /// Which boot that is; empty where it can't be told.
    fn boot_id(&self) -> String;
}

/// The host's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| (since.as_secs_f64() * 1000.0).floor())
    }

    #[cfg(unix)]
    #[allow(clippy::cast_precision_loss, reason = "a boot lasts less than 2^52 seconds")]
    fn boot_ms(&self) -> f64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec as f64 * 1000.0 + now.tv_nsec as f64 / 1_000_000.0
    }

    #[cfg(not(unix))]
    fn boot_ms(&self) -> f64 {
        self.now_ms()
    }

    fn boot_id(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| String::new(), |id| id.trim().to_owned())
    }
}
