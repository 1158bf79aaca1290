//! What a call meets while it waits: peers that refresh, and other programs that do.

use super::stored::StoreRole;
use super::{Decision, Refresh, Served};
use crate::credential::Credential;
use crate::error::Result;
use crate::journal::Journal;
use crate::journal::record::Progress;
use crate::lock::{Guard, term};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// How long to leave alone another program that is refreshing, at first and at most; doubled each time.
const FIRST_CLAIM_PAUSE_MS: f64 = 50.0;
const LAST_CLAIM_PAUSE_MS: f64 = 1_000.0;
/// What a call has met while it waited.
#[derive(Debug, Default)]
pub struct Waits {
    /// How often another program was refreshing.
    claims: AtomicU32,
    /// Which refresh was the last whose result was in the stores, before these were last looked at.
    last_commit_seen: Mutex<Option<Commit>>,
}

/// A refresh whose result is in the stores: of which term, and which of its claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Commit {
    term: u32,
    epoch: u64,
}

/// What [`Refresh::look_again`] came to.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once")]
pub enum LookedAgain {
    /// No peer has refreshed since the last look: decide.
    Not(Guard),
    /// This is what a peer has got. The lock is released.
    Served(Served),
    /// It is not for this caller: take the lock again. It is released.
    InVain,
}

impl Refresh {
    /// Notes how far peers have come, for [`Self::look_again`]. Before the stores are read: what is done meanwhile is looked at again.
    pub(super) fn note_last_commit(&self) {
        if self.has_host_stores() {
            *self.waits.last_commit_seen.lock().unwrap_or_else(PoisonError::into_inner) = self.last_commit();
        }
    }

    /// For a caller that has waited for the lock while a peer may have refreshed: it releases it at once, before it asks a host's
    /// store, so that all waiting callers ask theirs at the same time, and not one after the other with the lock held.
    pub fn look_again(&self, lock: Guard) -> Result<LookedAgain> {
        let last = if self.has_host_stores() { self.last_commit() } else { None };
        if last.is_none() || last == *self.waits.last_commit_seen.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(LookedAgain::Not(lock));
        }
        drop(lock);
        Ok(self.look(None)?.map_or(LookedAgain::InVain, LookedAgain::Served))
    }

    /// The last refresh, if the stores have its result.
    fn last_commit(&self) -> Option<Commit> {
        let term = term::current(&self.lock_base).ok()?;
        let record = Journal::peek(&term::journal(&self.lock_base, term)).ok()??;
        (record.state == Progress::Committed).then_some(Commit { term, epoch: record.epoch })
    }

    /// What to do while another program refreshes what this store holds. We can't wait for its lock, and it needs the
    /// store: so we release ours.
    pub(super) fn wait_for_claim(&self, role: StoreRole, held: Option<Credential>) -> Decision {
        let error = self.store_at(role).is_claimed();
        if let Some(credential) = held.filter(|held| self.may_serve(held)) {
            return Decision::Served(Served::Unexpired { credential, refresh_error: error });
        }
        let met = self.waits.claims.fetch_add(1, Ordering::Relaxed);
        let doubled = FIRST_CLAIM_PAUSE_MS * 2f64.powi(i32::try_from(met).unwrap_or(i32::MAX));
        Decision::Claimed { wait_ms: doubled.min(LAST_CLAIM_PAUSE_MS), error }
    }
}
