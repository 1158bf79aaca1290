//! The holder of a lock: a fixed-size record at the start of the lock file.
//!
//! The kernel alone knows whether the lock is free; this tells people which process has it, and waiters for how long. It is written
//! in place and never truncated, since rewriting a truncated file costs a flush on ext4.

use super::term;
use crate::clock::{BootMs, Clock};
use crate::process::{self, Myself};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Bytes of the record, padded with spaces and ended by a newline.
const RECORD_BYTES: usize = 256;

/// The process that took the lock last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// When it took the lock, in milliseconds since the epoch by its host's clock. Its sidecar was made soon after.
    pub since: f64,
    /// When it last said that it is not stuck, at first as it took the lock.
    pub boot_ms: BootMs,
    /// The boot that `boot_ms` counts from.
    pub boot: String,
    /// When the process was started, as `/proc/<pid>/stat` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
    /// Its PID namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// From which age on, in milliseconds, a peer may take over from it; `None` if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<f64>,
}

impl Holder {
    /// This process, now.
    #[must_use]
    pub fn me(clock: &dyn Clock, stale_after: Option<Duration>) -> Self {
        let Myself { pid, start_time, pid_namespace } = Myself::now();
        Self {
            pid,
            since: clock.now_ms(),
            boot_ms: clock.boot_ms(),
            boot: clock.boot_id(),
            start_time,
            pid_namespace,
            stale_after: stale_after.map(|age| age.as_secs_f64() * 1000.0),
        }
    }

    /// Whether it is in another PID namespace, where another process may have the id that one has here.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        let namespaces = self.pid_namespace.zip(process::own_pid_namespace());
        namespaces.is_some_and(|(its, ours)| its != ours)
    }

    /// How long it has held the lock, in milliseconds; `None` if that can't be told, as it was in another boot.
    #[must_use]
    pub fn held_ms(&self, clock: &dyn Clock) -> Option<f64> {
        clock.is_of_this_boot(&self.boot, self.boot_ms).then(|| (clock.boot_ms() - self.boot_ms).max(0.0))
    }

    /// Whether it was in another boot, and so is gone for sure. Where boots can't be told apart, that is not known.
    #[must_use]
    pub fn is_of_another_boot(&self, clock: &dyn Clock) -> bool {
        !self.boot.is_empty() && !clock.boot_id().is_empty() && self.boot != clock.boot_id()
    }

    /// Whether it has held the lock for longer than it may without being taken for stuck.
    #[must_use]
    pub fn is_stale(&self, clock: &dyn Clock) -> bool {
        self.stale_after.is_some_and(|age| self.held_ms(clock).is_none_or(|held| held >= age))
    }

    /// Writes the record into a lock file that is held.
    pub fn write(&self, file: &File) -> io::Result<()> {
        let mut record = serde_json::to_vec(self)?;
        record.resize(RECORD_BYTES - 1, b' ');
        record.push(b'\n');
        crate::disk::sign(file, &record)
    }

    /// Reads the record of a lock's term; `None` if there is none to be read.
    #[must_use]
    pub fn of(base: &Path, term: u32) -> Option<Self> {
        Self::read(&term::lock_file(base, term))
    }

    /// The same, of the lock file at `path`.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let (file, _) = crate::disk::open_regular(path).ok()?;
        Self::read_from(&file)
    }

    /// Reads the record of an open lock file.
    #[must_use]
    pub fn read_from(file: &File) -> Option<Self> {
        match LockFileContents::in_file(file) {
            LockFileContents::Record(holder) => Some(*holder),
            LockFileContents::Nothing | LockFileContents::Contents => None,
        }
    }
}

/// What a lock file holds.
#[derive(Debug)]
pub enum LockFileContents {
    /// Nothing, or nothing that is worth keeping.
    Nothing,
    /// The last process that took the lock.
    Record(Box<Holder>),
    /// More than a record, and no record at its start: a lock path that was given by mistake must not cost its contents.
    Contents,
}

impl LockFileContents {
    /// Looks into an open lock file.
    #[must_use]
    pub fn in_file(file: &File) -> Self {
        let Ok(bytes) = crate::disk::signature(file, RECORD_BYTES + 1) else { return Self::Contents };
        match serde_json::from_slice(&bytes[..bytes.len().min(RECORD_BYTES)]) {
            Ok(holder) => Self::Record(Box::new(holder)),
            Err(_) if bytes.len() <= RECORD_BYTES => Self::Nothing,
            Err(_) => Self::Contents,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::Boot;

    #[test]
    fn a_holder_of_another_boot_has_no_age_and_is_stale() {
        for (then, now, held) in [
            (Boot("a", 500.0), Boot("a", 800.0), Some(300.0)),
            // Containers may be set back.
            (Boot("a", 500.0), Boot("a", 400.0), Some(0.0)),
            (Boot("a", 500.0), Boot("b", 800.0), None),
            // Where boots can't be told apart.
            (Boot("", 500.0), Boot("", 800.0), Some(300.0)),
            (Boot("", 500.0), Boot("", 400.0), None),
        ] {
            let holder = Holder::me(&then, Some(Duration::from_secs(1)));
            assert_eq!(holder.held_ms(&now), held);
            assert_eq!(holder.is_stale(&now), held.is_none());
        }
    }

    #[test]
    fn another_boot_is_one_that_is_known_to_be_another() {
        let is_of_another_boot = |then, now| Holder::me(&Boot(then, 500.0), None).is_of_another_boot(&Boot(now, 400.0));
        assert!(is_of_another_boot("a", "b"));
        for (then, now) in [("a", "a"), ("", ""), ("a", ""), ("", "b")] {
            assert!(!is_of_another_boot(then, now), "{then} {now}");
        }
    }
}
