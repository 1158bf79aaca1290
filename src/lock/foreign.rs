//! Another process's sidecar: whose it is, and whether it may be reclaimed.

use super::holder::Holder;
use crate::clock::{BootMs, Clock};
use crate::digest::Digest;
use crate::disk::exclusive;
use crate::error::{Code, Error, Result};
use crate::process::{self, Process};
use serde_json::Value;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// More than that no lock file holds.
const MAX_BYTES: u64 = 64 << 10;
/// A file that says nothing may be on its way: OpenClaw's first releases create it, then write it.
const GRACE_MS: f64 = 300.0;
/// How far two records of the same time may differ, in milliseconds.
const SAME_TIME_MS: f64 = 1_000.0;

/// What is in a sidecar; `None` if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    exclusive::read(path, MAX_BYTES).map_err(|error| unusable("read the lock file", path, &error))
}

pub(super) fn unusable(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::io(Code::LockUnavailable, what, path, error)
}

/// A sidecar that this process does not hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreign {
    /// Its process, as far as it says.
    pub pid: Option<u32>,
    /// When it was made, in milliseconds since the epoch by its host's clock.
    pub created_at: Option<f64>,
    /// When its process was started.
    pub start_time: Option<u64>,
}

/// What a process that waits for a foreign sidecar has seen so far.
#[derive(Debug)]
pub struct Observer {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) file: Option<Seen>,
    pub(super) guard: Option<Seen>,
}

/// Something that has stood still since we first saw it.
#[derive(Debug)]
pub(super) struct Seen {
    what: Digest,
    boot_ms: BootMs,
    wall_ms: f64,
}

impl Observer {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, file: None, guard: None }
    }
}

impl Seen {
    pub(super) fn note<'a>(seen: &'a mut Option<Self>, what: Digest, clock: &dyn Clock) -> &'a Self {
        let earlier = seen.take().filter(|earlier| earlier.what == what);
        let now = || Self { what, boot_ms: clock.boot_ms(), wall_ms: clock.now_ms() };
        seen.insert(earlier.unwrap_or_else(now))
    }

    pub(super) fn age_ms(&self, clock: &dyn Clock) -> f64 {
        clock.boot_ms() - self.boot_ms
    }
}

impl Foreign {
    /// Reads which process has published the sidecar at `path`; `None` if it can't be read.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        read(path).ok()?.map(|bytes| Self::parse(&bytes))
    }

    pub(super) fn parse(bytes: &[u8]) -> Self {
        let first = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>().next();
        let Some(Ok(Value::Object(fields))) = first else { return Self::default() };
        let number = |name: &str| fields.get(name)?.as_u64();
        let time = |text: &str| humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok();
        Self {
            pid: number("pid").and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
            created_at: fields
                .get("createdAt")
                .and_then(Value::as_str)
                .and_then(time)
                .map(|at| at.as_secs_f64() * 1000.0),
            start_time: number("starttime"),
        }
    }

    /// Its process as the holder that is waited for; `None` if it names none.
    #[must_use]
    pub fn as_holder(&self, clock: &dyn Clock) -> Option<Holder> {
        let since = self.created_at.unwrap_or_else(|| clock.now_ms());
        Some(Holder {
            pid: self.pid?,
            since,
            boot_ms: clock.boot_ms() + (since - clock.now_ms()),
            boot: clock.boot_id(),
            start_time: self.start_time,
            pid_namespace: None,
            stale_after: None,
        })
    }

    /// Whether it was published by this holder of our lock. One that its process has published much later is another's:
    /// OpenClaw's own lock runs in the same processes.
    #[must_use]
    pub fn is_of(&self, holder: &Holder) -> bool {
        let latest = holder.stale_after.map_or(f64::INFINITY, |age| holder.since + age);
        self.pid == Some(holder.pid)
            && self.start_time == holder.start_time
            && self.created_at.is_some_and(|at| (holder.since - SAME_TIME_MS..=latest).contains(&at))
    }

    /// Whether its process, by its number in our PID namespace, is there and was started when it says.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match (self.pid.map(Process::of), self.start_time) {
            (None | Some(Process::Dead), _) => false,
            (Some(Process::Alive { start_time: Some(now) }), Some(then)) => now == then,
            (Some(Process::Alive { .. }), _) => true,
        }
    }

    pub(super) fn is_stale(&self, limit: Duration, seen: &Seen, clock: &dyn Clock) -> bool {
        let (limit_ms, seen_ms) = (limit.as_secs_f64() * 1000.0, seen.age_ms(clock));
        let is_old = || match self.created_at {
            // By the clock as it was when we first saw it: setting it while we wait ages nothing.
            Some(at) if at <= seen.wall_ms => seen.wall_ms - at + seen_ms > limit_ms,
            _ => seen_ms > limit_ms,
        };
        match (self.pid.map(Process::of), self.start_time) {
            (Some(Process::Dead), _) => true,
            (Some(Process::Alive { start_time }), Some(then)) => start_time.is_some_and(|now| now != then),
            // Process ids come back soon, in containers at every start.
            (Some(Process::Alive { start_time: Some(start_time) }), None)
                if self.created_at.is_some_and(|at| process::age_ms(start_time) + SAME_TIME_MS < seen.wall_ms - at) =>
            {
                true
            }
            (Some(Process::Alive { .. }), None) => is_old(),
            (None, _) if self.created_at.is_some() => is_old(),
            (None, _) => seen_ms > GRACE_MS,
        }
    }
}
