//! One grant under several names: the same refresh token in several profiles of one state directory.
//!
//! Each profile has its own key, lock and journal. So that a generation is sent once all the same, an owner that is about
//! to send one looks into the journals of the other keys, and waits for the owner that is sending it under another name.
//! While it looks and puts its own claim on record, it holds one short lock that all keys of the directory share.
//!
//! Lock order: key, claims, store. Only an owner that has dispatched is waited for, with no other lock than one's own key's
//! held, and it waits for nobody; so there is no ring to deadlock in.

use crate::credential::{Credential, Generation};
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::journal::{self, Journal};
use crate::ledger::Ledger;
use crate::lock::{self, Guard};
use crate::record::{FailureRecord, Record};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an owner waits for others to put their claims on record, which takes milliseconds each.
const CLAIMS_PATIENCE: Duration = Duration::from_secs(30);

/// Takes the lock that makes looking and claiming one step for all keys in this directory.
pub fn lock_claims(lock_base: &Path) -> Result<Guard> {
    lock::acquire_blocking(&lock_base.with_file_name("claims"), CLAIMS_PATIENCE)
}

/// What the journals of the other keys in a lock directory say.
#[derive(Debug)]
pub struct Siblings(Vec<Sibling>);

/// Another key.
#[derive(Debug)]
struct Sibling {
    lock_base: PathBuf,
    record: Record,
}

impl Siblings {
    /// Reads them. The caller holds [`lock_claims`], so that nobody claims meanwhile.
    pub fn read(lock_base: &Path) -> Result<Self> {
        let own = journal::path_for(lock_base);
        let directory = lock_base.parent().unwrap_or(lock_base);
        let files = match disk::own_files_with_extension(directory, "journal") {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(Code::JournalUnusable, "list the journals", directory, &error)),
        };
        let mut siblings = Vec::new();
        for file in files.iter().filter(|file| **file != own) {
            if let Some(record) = Journal::peek(file)? {
                siblings.push(Sibling { lock_base: file.with_extension(""), record });
            }
        }
        Ok(Self(siblings))
    }

    /// The key under which a living owner is sending this generation. One that is no longer there leaves its lock free:
    /// it has died, or it has settled since we looked, so what it left is read again.
    pub fn sending(&mut self, generation: Generation) -> Result<Option<PathBuf>> {
        for Sibling { lock_base, record } in self.0.iter_mut().filter(|sibling| sibling.record.is_sending(generation)) {
            let Some(_lock) = lock::try_acquire(lock_base)? else { return Ok(Some(lock_base.clone())) };
            *record = Journal::peek(&journal::path_for(lock_base))?.unwrap_or_default();
        }
        Ok(None)
    }

    /// What all keys know of spent generations, `own` included.
    #[must_use]
    pub fn lineage(&self, own: &Ledger) -> Ledger {
        Ledger::union(std::iter::once(own).chain(self.records().map(|record| &record.ledger)))
    }

    /// Credentials that the provider answered and that are not in every store yet.
    pub fn received(&self) -> impl Iterator<Item = Credential> {
        self.records().flat_map(Record::receipts).filter_map(|receipt| receipt.credential.open())
    }

    /// The stores that may hold a successor.
    pub fn stores(&self) -> impl Iterator<Item = &Path> {
        self.records().flat_map(Record::stores)
    }

    /// What stands in the way of sending this generation, for all that the other keys know.
    pub fn failures(&self, generation: Generation) -> impl Iterator<Item = FailureRecord> {
        self.records().filter_map(move |record| record.failure_of(generation))
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().map(|sibling| &sibling.record)
    }
}
