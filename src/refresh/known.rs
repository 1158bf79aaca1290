//! What a key's journals know of refresh and access tokens.

use crate::credential::Generation;
use crate::digest::Digest;
use crate::journal::Journal;
use crate::journal::ledger::Ledger;
use crate::journal::record::{FailureRecord, Record};
use crate::lock::term;
use std::path::Path;

/// What the journals of all terms of a key say.
pub(super) struct Known {
    /// Which refresh tokens were spent, and for what.
    pub(super) ledger: Ledger,
    records: Vec<Record>,
}

impl Known {
    /// Reads them without the key's lock. A journal that can't be read tells nothing; then the provider is not asked.
    pub(super) fn read(lock_base: &Path) -> Self {
        let last = term::current(lock_base).unwrap_or_default();
        let journals = (0..=last).filter_map(|term| Journal::peek(&term::journal(lock_base, term)).ok()?);
        Self::of(journals.collect())
    }

    /// What these say.
    pub(super) fn of(records: Vec<Record>) -> Self {
        Self { ledger: Ledger::union(records.iter().map(|record| &record.ledger)), records }
    }

    /// Whether something waits here for a store, or is kept for it.
    pub(super) fn has_receipt_for(&self, store: &Path) -> bool {
        let receipts = self.records.iter().flat_map(Record::receipts);
        receipts.filter(|receipt| !receipt.superseded).any(|receipt| receipt.origin.store == store)
    }

    /// Whether the coordinator has not heard of an answer yet.
    pub(super) fn is_owing(&self) -> bool {
        self.records.iter().any(|record| record.owed().next().is_some())
    }

    /// Whether the provider has refused this refresh token for good.
    pub(super) fn is_dead(&self, generation: Generation) -> bool {
        let failures = self.records.iter().filter_map(|record| record.failure_before(generation));
        failures.into_iter().any(FailureRecord::is_dead)
    }

    /// How long this access token lives.
    pub(super) fn lifetime_ms(&self, access: Digest) -> Option<f64> {
        self.records.iter().rev().find_map(|record| record.lifetime_ms(access))
    }
}
