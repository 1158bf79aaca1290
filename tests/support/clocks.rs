//! Clocks: the host's, and one in the test's hands.

use oauth_refresh_lock::clock::{BootMs, Clock, SystemClock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The host's clock.
pub fn system() -> Arc<dyn Clock> {
    static CLOCK: OnceLock<Arc<dyn Clock>> = OnceLock::new();
    Arc::clone(CLOCK.get_or_init(|| Arc::new(SystemClock)))
}

/// The host's clock, stopped: it goes on only as it is told.
#[derive(Debug)]
pub struct HandClock {
    now_ms: f64,
    boot_ms: BootMs,
    ahead_us: AtomicU64,
}

impl HandClock {
    pub fn new() -> Arc<Self> {
        let (now_ms, boot_ms) = (SystemClock.now_ms(), SystemClock.boot_ms());
        Arc::new(Self { now_ms, boot_ms, ahead_us: AtomicU64::new(0) })
    }

    pub fn into_dyn(self: Arc<Self>) -> Arc<dyn Clock> {
        self
    }

    pub fn advance(&self, by: Duration) {
        self.ahead_us.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// How far it has gone on.
    pub fn ahead(&self) -> Duration {
        Duration::from_micros(self.ahead_us.load(Ordering::SeqCst))
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> f64 {
        self.now_ms + self.ahead().as_secs_f64() * 1000.0
    }

    fn boot_ms(&self) -> BootMs {
        self.boot_ms + self.ahead().as_secs_f64() * 1000.0
    }

    fn boot_id(&self) -> String {
        SystemClock.boot_id()
    }
}
