//! One grant under several names: the same refresh token in several profiles of one state directory.
//!
//! Each profile has its own key, lock and journal. So that a generation is sent once all the same, an owner also takes
//! the lock of the generation it is about to send, and looks into the journals of the other keys.
//!
//! Lock order: key, then generation, then store. Whoever holds a generation's lock waits for no key's lock, so there is
//! no ring to deadlock in.

use crate::credential::{Credential, Generation};
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::journal::{self, FailureRecord, Journal, Record};
use crate::ledger::Ledger;
use std::io;
use std::path::{Path, PathBuf};

/// The lock of a generation: one of 4,096 files, so that rotation makes no files without end. Two grants that share one
/// wait for each other now and then.
#[must_use]
pub fn lock_path(state_dir: &Path, generation: Generation) -> PathBuf {
    let hex = generation.digest().to_hex();
    state_dir.join("locks").join("oauth-grant").join(&hex[..3])
}

/// What the journals of the other keys in a lock directory say.
#[derive(Debug)]
pub struct Siblings(Vec<Record>);

impl Siblings {
    /// Reads them. The caller holds the lock of the generation it asks about, so what they say of that one stands still.
    pub fn read(lock_base: &Path) -> Result<Self> {
        let own = journal::path_for(lock_base);
        let directory = lock_base.parent().unwrap_or(lock_base);
        let files = match disk::own_files_with_extension(directory, "journal") {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(Code::JournalUnusable, "list the journals", directory, &error)),
        };
        let mut records = Vec::new();
        for file in files.iter().filter(|file| **file != own) {
            records.extend(Journal::peek(file)?);
        }
        Ok(Self(records))
    }

    /// What all keys know of spent generations, `own` included.
    #[must_use]
    pub fn lineage(&self, own: &Ledger) -> Ledger {
        Ledger::union(std::iter::once(own).chain(self.0.iter().map(|record| &record.ledger)))
    }

    /// Credentials that the provider answered and that are not in every store yet.
    pub fn received(&self) -> impl Iterator<Item = Credential> {
        self.0.iter().flat_map(Record::receipts).filter_map(|receipt| receipt.credential.open())
    }

    /// The stores that may hold a successor.
    pub fn stores(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().flat_map(Record::stores)
    }

    /// What stands in the way of sending this generation, for all that the other keys know.
    pub fn failures(&self, generation: Generation) -> impl Iterator<Item = FailureRecord> {
        self.0.iter().filter_map(move |record| record.failure_of(generation))
    }
}
