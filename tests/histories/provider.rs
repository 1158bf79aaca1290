//! The provider, which rotates at each use, and the clocks.

use crate::{Reached, Tally};
use oauth_refresh_lock::clock::{BootMs, Clock};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A clock that stands still until it is set, and a monotonic one beside it, which goes on by itself too: what a death left in the way
/// is waited for. Milliseconds.
#[derive(Debug)]
pub(crate) struct TestClock {
    wall: AtomicU64,
    boot: AtomicU64,
    started: Instant,
}

impl Default for TestClock {
    fn default() -> Self {
        Self { wall: AtomicU64::new(1e12f64.to_bits()), boot: AtomicU64::new(0), started: Instant::now() }
    }
}

impl TestClock {
    pub(crate) fn advance(&self, ms: f64) {
        self.wall.store((self.now_ms() + ms).to_bits(), Ordering::Relaxed);
        let boot_ms = f64::from_bits(self.boot.load(Ordering::Relaxed));
        self.boot.store((boot_ms + ms.abs()).to_bits(), Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> f64 {
        f64::from_bits(self.wall.load(Ordering::Relaxed))
    }

    fn boot_ms(&self) -> BootMs {
        BootMs(f64::from_bits(self.boot.load(Ordering::Relaxed)) + self.started.elapsed().as_secs_f64() * 1000.0)
    }

    fn boot_id(&self) -> String {
        "boot".to_owned()
    }
}

/// One login at the provider.
pub(crate) struct Grant {
    pub account: String,
    /// Which of its refresh tokens is current, counting from 0.
    pub current: u64,
    pub revoked: bool,
}

/// What is known of one refresh token.
#[derive(Default)]
pub(crate) struct Token {
    /// How often it reached the provider, which then looked at it.
    pub times: u32,
    /// Whether nobody may have learned what the provider answered.
    pub unknown: bool,
    /// Whether a process has died that may have sent it.
    pub lost: bool,
    /// How often in a row its outcome, or the provider's wish that everyone wait, was put on record.
    failures: i32,
    /// Before this instant of the boot's clock nobody may ask again.
    pub not_before: Option<BootMs>,
}

#[derive(Default)]
pub(crate) struct Provider {
    pub grants: Vec<Grant>,
    pub sent: HashMap<String, Token>,
}

impl Provider {
    pub(crate) fn login(&mut self, account: &str) -> usize {
        self.grants.push(Grant { account: account.to_owned(), current: 0, revoked: false });
        self.grants.len() - 1
    }

    pub(crate) fn token(&self, grant: usize) -> String {
        format!("refresh-{grant}-{}", self.grants[grant].current)
    }

    /// Which grant and generation a token is of.
    pub(crate) fn origin(token: &str) -> (usize, u64) {
        let mut parts = token.rsplit('-');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).expect("a token of ours");
        let (generation, grant) = (number(), number());
        (usize::try_from(grant).expect("a grant"), generation)
    }

    /// A refresh request that arrives. Checks the promise on the number of calls.
    pub(crate) fn receive(&mut self, token: &str, tally: &mut Tally) -> bool {
        let sent = self.sent.entry(token.to_owned()).or_default();
        sent.times += 1;
        if sent.times > 1 {
            assert!(sent.unknown, "{token} was sent again although its outcome was known");
            *tally.entry(Reached::Repeat).or_default() += 1;
        }
        let (grant, generation) = Self::origin(token);
        let grant = &mut self.grants[grant];
        let good = !grant.revoked && grant.current == generation;
        if good {
            grant.current += 1;
        } else {
            // Taken for theft.
            grant.revoked = true;
        }
        good
    }

    pub(crate) fn lost(&mut self, token: &str) {
        self.unknown(token);
        self.sent.entry(token.to_owned()).or_default().lost = true;
    }

    pub(crate) fn unknown(&mut self, token: &str) {
        self.sent.entry(token.to_owned()).or_default().unknown = true;
    }

    /// A failure is on record: from now on everyone waits, each time twice as long.
    pub(crate) fn failed(&mut self, token: &str, now: BootMs, wanted: Option<f64>) {
        let sent = self.sent.entry(token.to_owned()).or_default();
        sent.failures += 1;
        let pause_ms = wanted.unwrap_or((1_000.0 * 2f64.powi(sent.failures - 1)).min(60_000.0));
        sent.not_before = Some(now + pause_ms);
    }
}
