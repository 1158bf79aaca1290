//! For which keys this process waits for an engine's word: who waits for such a key waits for the engine.

use crate::clock::{BootMs, Clock};
use crate::coordinator::{Coordinator, Entry, Unavailable, Watch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After so long without a word it is the engine that a caller waits for.
const SILENT_MS: f64 = 100.0;

/// An engine that is asked by the owner of a key.
pub(in crate::refresh) struct Asked {
    pub engine: Arc<dyn Coordinator>,
    pub lock_base: PathBuf,
    pub clock: Arc<dyn Clock>,
}

impl Asked {
    fn ask<T>(&self, question: impl FnOnce(&dyn Coordinator) -> T) -> T {
        asked().insert(self.lock_base.clone(), self.clock.boot_ms());
        let _end = End(&self.lock_base);
        question(&*self.engine)
    }
}

impl Coordinator for Asked {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn load(&self, row: &str) -> Result<Option<Entry>, Unavailable> {
        self.ask(|engine| engine.load(row))
    }

    fn compare_and_swap(&self, row: &str, expected: Option<&str>, value: &str) -> Result<Option<String>, Unavailable> {
        self.ask(|engine| engine.compare_and_swap(row, expected, value))
    }

    fn watch(&self, row: &str, version: &str, limit: Duration, changed: Box<dyn FnOnce() + Send>) -> Option<Watch> {
        self.engine.watch(row, version, limit, changed)
    }

    fn is_gone(&self) -> bool {
        self.engine.is_gone()
    }
}

/// Ends a question.
struct End<'a>(&'a Path);

impl Drop for End<'_> {
    fn drop(&mut self) {
        asked().remove(self.0);
    }
}

/// For how long an engine has been silent about this key.
pub(super) fn silence_ms(lock_base: &Path, clock: &dyn Clock) -> Option<f64> {
    let since = asked().get(lock_base).copied()?;
    Some(clock.boot_ms() - since).filter(|ms| *ms > SILENT_MS)
}

/// Since when, by key.
fn asked() -> MutexGuard<'static, BTreeMap<PathBuf, BootMs>> {
    static ASKED: Mutex<BTreeMap<PathBuf, BootMs>> = Mutex::new(BTreeMap::new());
    ASKED.lock().unwrap_or_else(PoisonError::into_inner)
}
