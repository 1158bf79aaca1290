//! For which keys this process waits for an engine's word: who waits for such a key waits for the engine.

use crate::clock::{BootMs, Clock};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// After so long without a word it is the engine that a caller waits for.
const SILENT_MS: f64 = 100.0;

/// An engine is being asked, for as long as this lives. The key's lock is held, so nobody else in this process asks for it.
pub(super) struct Asking(PathBuf);

impl Asking {
    pub(super) fn begin(lock_base: &Path, clock: &dyn Clock) -> Self {
        asked().insert(lock_base.to_owned(), clock.boot_ms());
        Self(lock_base.to_owned())
    }

    /// For how long an engine has been silent about this key.
    pub(super) fn silence_ms(lock_base: &Path, clock: &dyn Clock) -> Option<f64> {
        let since = asked().get(lock_base).copied()?;
        Some(clock.boot_ms() - since).filter(|ms| *ms > SILENT_MS)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        asked().remove(&self.0);
    }
}

fn asked() -> MutexGuard<'static, BTreeMap<PathBuf, BootMs>> {
    static ASKED: Mutex<BTreeMap<PathBuf, BootMs>> = Mutex::new(BTreeMap::new());
    ASKED.lock().unwrap_or_else(PoisonError::into_inner)
}
