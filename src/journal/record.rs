//! What a journal says of a key: how far a refresh has come, what was received, what must not be sent.

use crate::credential::Generation;
use crate::digest::Digest;
use crate::journal::ledger::Ledger;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub use super::failures::{FailureRecord, LostCall, Outcome, PauseUntil};
pub use super::hosts::{Answered, OwnClaim, Seen};
pub use super::receipts::{Receipt, Sealed};

/// How many access tokens' lifetimes are remembered: agents that share a profile id may each have a login of their own.
const MAX_LIFETIMES: usize = 64;
/// How far a refresh has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Nothing under way.
    #[default]
    Idle,
    /// The provider is being asked, or was when the owner died: whether it has rotated is unknown.
    Dispatched,
    /// The provider's answer is in `receipts`, and not yet in every store.
    Received,
    /// The stores hold it.
    Committed,
}

impl Progress {
    /// The state as people see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Dispatched => "dispatched",
            Self::Received => "received",
            Self::Committed => "committed",
        }
    }
}

/// Everything that is known about a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// How far the refresh has come.
    pub state: Progress,
    /// Counts claims, so that one commit can be told from the next.
    pub epoch: u64,
    /// The claim: which owner sends which generation. Set from `Dispatched` on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimRecord>,
    /// What the provider answered, until the stores hold it. The latest comes last.
    pub(crate) receipts: Vec<Receipt>,
    /// Why the provider can't be asked again, or not yet, by generation: an agent may be logged in by itself under a
    /// profile id that others share, so there can be several. The latest come last.
    pub(crate) failures: Vec<FailureRecord>,
    /// The stores that have taken what was received, where a successor may be found. The latest comes last.
    pub(crate) stores: Vec<PathBuf>,
    /// The spent generations.
    pub ledger: Ledger,
    /// How long access tokens live that were received here. The latest comes last.
    pub(crate) lifetimes: Vec<Lifetime>,
    /// Claims of this key's owners in the coordinator's rows. The latest come last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) own_claims: Vec<OwnClaim>,
    /// What the coordinator is to be told, or has told. The latest comes last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) answered: Vec<Answered>,
    /// Since when rows are as they are. The one that was seen last comes last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) seen: Vec<Seen>,
    /// The generations that a coordinator knows. The latest comes last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) shared: Vec<Generation>,
}

/// How long an access token lives, from its receipt to its expiry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lifetime {
    /// The access token's digest.
    pub access: Digest,
    /// Milliseconds.
    pub ms: f64,
}

/// Which owner sends which generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRecord {
    /// Digest of provider and profile id: several keys may not share a lock path.
    pub key: Digest,
    /// The profile id, by which a host's store can be asked for what it holds of it.
    pub profile: String,
    /// The owner's process id, for people.
    pub pid: u32,
    /// When it claimed, in milliseconds since the epoch, for people.
    pub at: f64,
    /// What is sent, and where the answer belongs.
    pub origin: Origin,
    /// How often in a row this generation was sent before and no token came.
    pub attempts: u32,
    /// Should the owner die: when the next one may ask. `None`: at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseUntil>,
}

/// What is sent, where it is stored, and what the main store holds beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The generation that is sent.
    pub generation: Generation,
    /// The store that holds its credential.
    pub store: PathBuf,
    /// The owner's main store. A profile of the same name in another one may be another person's.
    pub main: PathBuf,
    /// Whether that holds the profile too. If it no longer does, the profile was logged out there, and stays so.
    pub main_has_profile: bool,
    /// The generation that it holds, if that is another store. If it holds another one since, a login has landed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_generation: Option<Generation>,
}

impl Record {
    /// The same, with nothing under way.
    #[must_use]
    pub fn idle(self) -> Self {
        Self { state: Progress::Idle, ..self }
    }

    /// Absorbs what the owner of an earlier term received and spent. It may be stuck in the middle of a call, and
    /// this may be done again.
    pub fn absorb(&mut self, earlier: &Self) {
        let known = self.ledger.clone();
        self.ledger.take_in(&earlier.ledger);
        for receipt in &earlier.receipts {
            let Some(received) = receipt.credential.open() else { continue };
            let is_same = |own: &Receipt| own.credential.open().is_some_and(|own| own == received);
            // One whose exchange is known already was taken over before, and may have gone to its stores since.
            let is_known = known.is_successor(received.generation()) || self.ledger.is_spent(received.generation());
            if !is_known && !self.receipts.iter().any(is_same) {
                self.receipts.push(receipt.clone());
            }
        }
        for store in &earlier.stores {
            if !self.stores.contains(store) {
                self.stores.insert(0, store.clone());
            }
        }
        for lifetime in &earlier.lifetimes {
            if self.lifetime_ms(lifetime.access).is_none() {
                self.lifetimes.insert(0, lifetime.clone());
            }
        }
        self.absorb_hosts(earlier);
        self.epoch = self.epoch.max(earlier.epoch);
        if self.claim.is_none() {
            self.claim.clone_from(&earlier.claim);
        }
    }

    /// Ends what a dead owner had under way, before another claim takes its place.
    pub fn end_claim(&mut self) {
        if let Some(generation) = self.claim.as_ref().map(|claim| claim.origin.generation) {
            let failure = self.failure_of(generation);
            self.state = Progress::Idle;
            self.set_failure(generation, failure);
        }
    }

    /// Notes how long an access token lives.
    pub fn note_lifetime(&mut self, access: Digest, ms: f64) {
        self.lifetimes.retain(|known| known.access != access);
        self.lifetimes.push(Lifetime { access, ms });
        let excess = self.lifetimes.len().saturating_sub(MAX_LIFETIMES);
        self.lifetimes.drain(..excess);
    }

    /// How long this access token lives, if it was received here.
    #[must_use]
    pub fn lifetime_ms(&self, access: Digest) -> Option<f64> {
        self.lifetimes.iter().find(|known| known.access == access).map(|known| known.ms)
    }

    /// Whether an owner is sending this generation, or was when it died.
    #[must_use]
    pub fn is_sending(&self, generation: Generation) -> bool {
        self.state == Progress::Dispatched
            && self.claim.as_ref().is_some_and(|claim| claim.origin.generation == generation)
    }

    /// The profile id.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.claim.as_ref().map(|claim| claim.profile.as_str())
    }

    /// The stores that may hold a successor.
    pub fn stores(&self) -> impl Iterator<Item = &Path> {
        let receipts = self.receipts.iter().map(|receipt| receipt.origin.store.as_path());
        self.stores.iter().rev().map(PathBuf::as_path).chain(receipts)
    }
}
