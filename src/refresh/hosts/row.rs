//! A claim of ours in a row of the coordinator.

use crate::clock::{BootMs, Clock};
use crate::coordinator::{Earlier, Grant, HostClaim, Hosts, Row, RowState, SEND_LIMIT_MS};
use crate::credential::Generation;
use std::sync::Arc;

/// When something began, by two clocks: one that stands still while the machine sleeps, and one that people set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    boot_ms: BootMs,
    now_ms: f64,
}

impl Since {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self { boot_ms: clock.boot_ms(), now_ms: clock.now_ms() }
    }

    /// At most so long ago. A clock that was set makes it longer at most.
    fn elapsed_ms(self, clock: &dyn Clock) -> f64 {
        (clock.boot_ms() - self.boot_ms).max((clock.now_ms() - self.now_ms).abs())
    }
}

/// A claim of this process in the row of a generation.
#[derive(Debug, Clone)]
pub(in crate::refresh) struct ClaimedRow {
    hosts: Hosts,
    row: String,
    clock: Arc<dyn Clock>,
    generation: Generation,
    /// As the claim has left it.
    version: String,
    claim: HostClaim,
    earlier: Earlier,
    since: Since,
}

impl ClaimedRow {
    #[allow(clippy::too_many_arguments, reason = "called once")]
    pub(super) fn new(
        hosts: &Hosts,
        grant: &Grant,
        clock: &Arc<dyn Clock>,
        generation: Generation,
        version: String,
        claim: HostClaim,
        earlier: Earlier,
        since: Since,
    ) -> Self {
        let (hosts, row, clock) = (hosts.clone(), grant.row().to_owned(), Arc::clone(clock));
        Self { hosts, row, clock, generation, version, claim, earlier, since }
    }

    pub(in crate::refresh) fn generation(&self) -> Generation {
        self.generation
    }

    pub(super) fn is_of(&self, row: &str) -> bool {
        self.row == row
    }

    pub(in crate::refresh) fn id(&self) -> &str {
        &self.claim.id
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Whether other hosts may soon give us up, so that nothing may be sent under it any more.
    pub(in crate::refresh) fn is_late(&self) -> bool {
        self.since.elapsed_ms(&*self.clock) > SEND_LIMIT_MS
    }

    /// Nothing was sent.
    pub(in crate::refresh) fn give_back(&self) {
        self.end(RowState::Free, self.earlier, 0.0);
    }

    /// Says what became of the call. In vain if the engine is down: this host's journal knows, and its next owner says it.
    pub(in crate::refresh) fn end(&self, state: RowState, calls: Earlier, pause_ms: f64) {
        let mut ended = Row::new(state, Some(self.claim.clone())).after(calls);
        ended.pause_ms = pause_ms;
        let swap = |version: &str| self.hosts.coordinator.compare_and_swap(&self.row, Some(version), &ended.to_json());
        if let Ok(None) = swap(&self.version)
            && let Ok(Some((row, entry))) = self.hosts.load(&self.row)
            && row.state == RowState::Lost
            && row.claim.as_ref().is_some_and(|claim| self.is_it(claim))
        {
            // Other hosts have given us up.
            let _ = swap(&entry.version);
        }
    }

    /// Whether a row's claim is this very one. A peer that has taken over from us may have claimed it anew, under the same id, and
    /// may be sending.
    fn is_it(&self, claim: &HostClaim) -> bool {
        let HostClaim { id, pid, at, .. } = &self.claim;
        claim.id == *id && claim.pid == *pid && (claim.at - at).abs() < 1.0
    }
}
