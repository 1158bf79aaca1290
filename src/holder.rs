//! Who holds a lock: a fixed-size record at the start of the lock file, for people to read.
//!
//! Nothing is ever decided by it; the kernel alone knows whether the lock is free. It is written in place and never
//! truncated, since rewriting a truncated file costs a flush on ext4.

use crate::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes of the record, padded with spaces and ended by a newline.
const RECORD_BYTES: usize = 128;

/// The process that took the lock last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// When it took the lock, in milliseconds since the epoch by its host's clock.
    pub since: f64,
}

impl Holder {
    /// This process, now.
    #[must_use]
    pub fn me() -> Self {
        Self { pid: std::process::id(), since: SystemClock.now_ms() }
    }

    /// How long it has held the lock, in milliseconds; 0 if the clock was set back.
    #[must_use]
    pub fn held_ms(&self) -> f64 {
        (SystemClock.now_ms() - self.since).max(0.0)
    }

    /// Writes the record into a lock file that is held. A file that is longer than a record and does not begin with one is
    /// left as it is: a lock path that was given by mistake must not cost its contents.
    pub fn write(&self, mut file: &File) -> io::Result<()> {
        if file.metadata()?.len() > RECORD_BYTES as u64 {
            let mut earlier = Vec::with_capacity(RECORD_BYTES);
            file.take(RECORD_BYTES as u64).read_to_end(&mut earlier)?;
            if serde_json::from_slice::<Self>(&earlier).is_err() {
                return Ok(());
            }
        }
        let mut record = serde_json::to_vec(self)?;
        record.resize(RECORD_BYTES - 1, b' ');
        record.push(b'\n');
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&record)
    }

    /// Reads the record of the lock file at `path`; `None` if there is none to be read.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let mut record = Vec::with_capacity(RECORD_BYTES);
        let file = crate::disk::open_regular(path).ok()?;
        file.take(RECORD_BYTES as u64).read_to_end(&mut record).ok()?;
        serde_json::from_slice(&record).ok()
    }
}
