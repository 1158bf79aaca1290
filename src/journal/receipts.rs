//! What the provider answered, for as long as a store may lack it.

use crate::credential::fields::Fields;
use crate::credential::{Credential, Generation};
use crate::journal::record::{Origin, Progress, Record};
use serde::{Deserialize, Serialize};
use std::path::Path;
use zeroize::Zeroizing;

/// How many received credentials are kept that a login has superseded.
const MAX_SUPERSEDED: usize = 2;
/// How many stores are remembered as holding what was received.
const MAX_STORES: usize = 32;

/// A received credential, and where it belongs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The credential.
    pub credential: Sealed,
    /// Which of its fields the provider answered.
    pub answered: Vec<String>,
    /// What was spent for it, and where that was stored.
    pub origin: Origin,
    /// Whether a login or logout took its place in the store that held the spent one, and the main store lacks it; or
    /// whether a main store has it. It waits for another agent that may still hold the spent one, and makes room for others.
    pub superseded: bool,
    /// Whether its stores hold it, and one of them may lose it in a power cut. Then it waits for no store, but is there if one
    /// comes back with the credential that was spent for it.
    pub kept: bool,
}

impl Receipt {
    /// Whether its credential is of this generation.
    #[must_use]
    pub fn is_of(&self, generation: Generation) -> bool {
        self.credential.open().is_some_and(|held| held.generation() == generation)
    }
}

impl Record {
    /// What the provider answered and the stores don't all hold yet, or may lose.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    /// What the provider answered and the stores don't all hold yet.
    pub fn waiting(&self) -> impl Iterator<Item = &Receipt> {
        self.receipts.iter().filter(|receipt| !receipt.kept)
    }

    /// What the stores hold and may lose.
    pub fn kept(&self) -> impl Iterator<Item = &Receipt> {
        self.receipts.iter().filter(|receipt| receipt.kept)
    }

    /// Forgets what was kept for a store that has been logged in or out since, but not what its agent's main store holds as well.
    pub fn forget_kept(&mut self, store: &Path) {
        self.receipts.retain(|receipt| !receipt.kept || receipt.origin.store != store || receipt.origin.main != store);
    }

    /// Adds what the provider answered in exchange for `spent`, which is now useless.
    pub fn receive(&mut self, spent: Generation, receipt: Receipt) {
        let is_of_use = |receipt: &Receipt| receipt.credential.open().is_some_and(|held| held.generation() != spent);
        self.receipts.retain(is_of_use);
        self.receipts.push(receipt);
    }

    /// Notes that a login or logout took a receipt's place. Of those, the latest are kept.
    pub fn supersede_receipt(&mut self, generation: Generation) {
        for receipt in &mut self.receipts {
            receipt.superseded |= receipt.is_of(generation);
        }
        while self.receipts.iter().filter(|receipt| receipt.superseded).count() > MAX_SUPERSEDED {
            self.give_up_superseded();
        }
    }

    /// Gives up the oldest receipt that a login has superseded. `false` if there is none.
    pub fn give_up_superseded(&mut self) -> bool {
        self.give_up_oldest(|receipt| receipt.superseded)
    }

    /// Gives up the oldest receipt that is only kept. `false` if there is none.
    pub fn give_up_kept(&mut self) -> bool {
        self.give_up_oldest(|receipt| receipt.kept)
    }

    fn give_up_oldest(&mut self, is_meant: fn(&Receipt) -> bool) -> bool {
        self.receipts.iter().position(is_meant).map(|at| self.receipts.remove(at)).is_some()
    }

    /// Removes a receipt that the stores hold, or keeps it if they may lose it, in the place of an earlier one; and remembers where.
    pub fn settle_receipt(&mut self, generation: Generation, store: &Path, is_kept: bool) {
        let settled = self.receipts.iter().rfind(|receipt| receipt.is_of(generation)).cloned();
        self.receipts.retain(|receipt| receipt.credential.open().is_some_and(|held| held.generation() != generation));
        if let Some(receipt) = settled.filter(|_| is_kept) {
            self.receipts.retain(|earlier| !earlier.kept || earlier.origin.store != receipt.origin.store);
            self.receipts.push(Receipt { kept: true, superseded: false, ..receipt });
        }
        self.stores.retain(|known| known != store);
        self.stores.push(store.to_owned());
        let excess = self.stores.len().saturating_sub(MAX_STORES);
        self.stores.drain(..excess);
        if self.waiting().next().is_none() && self.state == Progress::Received {
            self.state = Progress::Committed;
        }
    }
}

/// A credential as JSON text. Its `Debug` shows nothing, and its memory is wiped on drop.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(Zeroizing<String>);

impl Sealed {
    /// Seals a credential.
    #[must_use]
    pub fn new(credential: &Credential) -> Self {
        Self(credential.members().to_compact())
    }

    /// How many bytes the journal needs for it.
    #[must_use]
    pub fn journaled_bytes(&self) -> usize {
        Self::text_bytes(&self.0)
    }

    /// How many bytes the journal needs for a text.
    #[must_use]
    pub fn text_bytes(text: &str) -> usize {
        serde_json::to_string(text).map_or(usize::MAX / 2, |text| Zeroizing::new(text).len() + 1)
    }

    /// The credential; `None` if the text is not one.
    #[must_use]
    pub fn open(&self) -> Option<Credential> {
        Fields::parse(&self.0).and_then(Credential::from_profile)
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed(…)")
    }
}
