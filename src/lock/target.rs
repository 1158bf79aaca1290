//! What is locked, and how.

use super::foreign::{Foreign, Observer};
use super::holder::Holder;
use super::{sidecar_path, term};
use crate::clock::Clock;
use crate::error::{Code, Error, HolderProcess, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// From this age on, an owner that refreshes is taken for stuck (OpenClaw's `stale`).
pub const REFRESH_STALE: Duration = Duration::from_secs(180);
/// At this age a process that writes a store, or its claim, is stuck: that takes milliseconds.
const WRITE_STALE: Duration = Duration::from_secs(30);

/// What is locked, and how.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) base: PathBuf,
    pub(super) sidecar: PathBuf,
    /// Whether other programs know this lock, by its sidecar. If not, it has one only where the kernel's lock excludes no process.
    pub(super) has_public_sidecar: bool,
    /// The age at which a foreign sidecar counts as left behind, where its process does not tell.
    pub(super) foreign_stale: Duration,
    /// From which age on we may be taken for stuck; `None` if never.
    pub(super) own_stale: Option<Duration>,
    /// Whether the lock is of use without a sidecar, where the disk has no room for one: see [`super::Guard::has_sidecar`].
    pub(super) goes_without: bool,
    /// By which its owners and waiters tell ages.
    pub(super) clock: Arc<dyn Clock>,
}

impl Target {
    /// A key's lock, for a refresh: it looks, before it asks or writes, whether a peer has taken over.
    #[must_use]
    pub fn refresh(base: &Path, clock: &Arc<dyn Clock>) -> Self {
        Self { own_stale: Some(REFRESH_STALE), goes_without: true, ..Self::never_taken_over(base, clock) }
    }

    /// A key's lock around something that we know nothing of: it is never taken over.
    #[must_use]
    pub fn never_taken_over(base: &Path, clock: &Arc<dyn Clock>) -> Self {
        Self {
            base: base.to_owned(),
            sidecar: sidecar_path(base),
            has_public_sidecar: true,
            foreign_stale: REFRESH_STALE,
            own_stale: None,
            goes_without: false,
            clock: Arc::clone(clock),
        }
    }

    /// The lock of a slot at a provider, for a refresh. No other program knows it.
    #[must_use]
    pub fn slot(base: &Path, clock: &Arc<dyn Clock>) -> Self {
        Self { has_public_sidecar: false, ..Self::refresh(base, clock) }
    }

    /// A claim's lock, which no other program knows and no peer takes over.
    #[must_use]
    pub fn claim(base: &Path, clock: &Arc<dyn Clock>) -> Self {
        Self { has_public_sidecar: false, ..Self::never_taken_over(base, clock) }
    }

    /// A lock for a few file operations, which no other program knows.
    #[must_use]
    pub fn file_operation(base: &Path, clock: &Arc<dyn Clock>) -> Self {
        let stale = WRITE_STALE;
        Self {
            foreign_stale: stale,
            own_stale: Some(stale),
            has_public_sidecar: false,
            ..Self::never_taken_over(base, clock)
        }
    }

    /// The same with a sidecar beside this store, which OpenClaw's writers respect.
    #[must_use]
    pub fn beside(self, store: &Path) -> Self {
        Self { sidecar: sidecar_path(store), has_public_sidecar: true, ..self }
    }

    pub(super) fn observer(&self) -> Observer {
        Observer::new(Arc::clone(&self.clock))
    }

    /// Whether no process holds its lock of this term: see [`super::is_free`].
    pub(super) fn is_free(&self, term: u32) -> Result<bool> {
        Ok(super::try_take(&self.base, &self.sidecar, term)?.is_some())
    }

    /// The error of a wait for it that ran out, with what is known of the holder.
    #[must_use]
    pub fn timed_out(&self) -> Error {
        let clock = &*self.clock;
        let ours = term::current(&self.base).ok().and_then(|term| Holder::of(&self.base, term));
        // A process that waits for another program's lock file holds the kernel's lock meanwhile.
        let is_ours = |foreign: &Foreign| ours.as_ref().is_some_and(|ours| foreign.is_of(ours));
        let foreign = Foreign::at(&self.sidecar).filter(|foreign| !is_ours(foreign));
        let holder = foreign.and_then(|foreign| foreign.as_holder(clock)).or(ours);
        let whom = holder.as_ref().map_or_else(String::new, |holder| {
            let age = holder.held_ms(clock).map_or_else(
                || " since before the last boot".to_owned(),
                |held| format!(" for {:.1} s", held / 1000.0),
            );
            let is_us = holder.pid == std::process::id() && !holder.is_elsewhere();
            let whom =
                if is_us { "another call in this process".to_owned() } else { format!("process {}", holder.pid) };
            format!(", held by {whom}{age}")
        });
        let message = format_args!("timed out waiting for the lock{whom}");
        // What is locked: a store's lock file lies elsewhere than the store.
        let locked = self.sidecar.with_extension("");
        let holder = holder.map(|holder| Box::new(HolderProcess { pid: holder.pid, held_ms: holder.held_ms(clock) }));
        Error { holder, ..Error::at(Code::FileLockTimeout, &locked, message) }
    }
}
