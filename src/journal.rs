//! A key's journal: what a refresh had reached, so that the next owner loses nothing and repeats nothing.
//!
//! `<base>.journal` ([`term::journal`]), mode 0600, two halves of [`HALF_BYTES`]. A change writes the whole record into the
//! half that does not hold the current one, in place, so a record that was cut off leaves the one before it valid. The space is
//! written once, when the file is made: recording a received credential needs no free block.
//!
//! Only the holder of the key's lock writes. Any process may read: the checksum fails on a record that is being written.

mod failures;
mod half;
mod hosts;
pub mod ledger;
mod receipts;
pub mod record;
pub mod siblings;

pub use half::HALF_BYTES;

use crate::disk::{self, PreallocatedFile};
use crate::error::{Code, Error, Result};
use crate::lock::{self, Guard, term};
use half::{Current, HEADER_BYTES, Halves, encode, index, start};
use record::{Record, Sealed};
use siblings::ClaimsLock;
use std::fs::File;
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// The largest credential that is refreshed or mirrored, in bytes of its text as the journal spells it. Stores have no limit of
/// their own for one: what a store is asked to keep, the journal has kept before.
pub const MAX_CREDENTIAL_BYTES: usize = 40 << 10;
/// How often a reader without the lock looks for a record that stands still. It changes some times a minute at most.
const MAX_LOOKS: u32 = 100;

/// What a record grows by besides a credential and the words of its claim: digests, numbers, names of fields.
const SPARE_BYTES: usize = 8 << 10;

/// A key's journal, open for writing by the holder of the key's lock.
#[derive(Debug)]
pub struct Journal {
    file: PreallocatedFile,
    sequence: u64,
    /// How many bytes of each half may be set.
    used: [usize; 2],
    record: Record,
}

impl Journal {
    /// Opens the journal of this term of a key, creating it, with all the space it will need. Absorbs what the owners
    /// of earlier terms received; a stuck one may still add to it.
    ///
    /// # Errors
    /// [`Code::JournalUnusable`] if it can't be read and written, [`Code::JournalVersion`] if a newer release wrote it.
    pub fn open(lock: &Guard) -> Result<Self> {
        let path = term::journal(lock.base(), lock.term());
        let file = PreallocatedFile::open(&path, 2 * HALF_BYTES).map_err(|error| unusable(&path, &error))?;
        let Current { sequence, record, used } =
            Halves::read(&path, |at, length| file.read_at(at, length))?.current()?;
        let mut journal = Self { file, sequence, used, record };
        for earlier in 0..lock.term() {
            if let Some(earlier) = Self::peek(&term::journal(lock.base(), earlier))? {
                let mut record = journal.record.clone();
                record.absorb(&earlier);
                journal.write_if_new(record)?;
            }
        }
        Ok(journal)
    }

    /// Absorbs what else there is in the journals of earlier terms whose owners are gone, and empties those. With the
    /// claims lock, so that no owner reads them meanwhile and finds it in neither.
    pub fn end_earlier_terms(&mut self, lock: &Guard, _: &ClaimsLock) -> Result<()> {
        for earlier in 0..lock.term() {
            let path = term::journal(lock.base(), earlier);
            let Some(_ended) = lock::Ended::term(lock.base(), earlier)? else { continue };
            let Some(earlier) = Self::peek(&path)? else { continue };
            let mut record = self.record.clone();
            record.absorb(&earlier);
            record.absorb_failures(&earlier);
            self.write_if_new(record)?;
            disk::empty(&path).map_err(|error| unusable(&path, &error))?;
        }
        Ok(())
    }

    fn write_if_new(&mut self, record: Record) -> Result<()> {
        if encode(0, &record) == encode(0, &self.record) { Ok(()) } else { self.write(record) }
    }

    /// Reads a journal without the right to write it. `None` if there is none.
    pub fn peek(path: &Path) -> Result<Option<Record>> {
        match disk::open_regular(path) {
            Ok((file, _)) => Self::peek_into(&file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(path, &error)),
        }
    }

    /// The same of a journal of this user alone.
    pub fn peek_own(path: &Path) -> Result<Option<Record>> {
        let file = disk::open_own(path).map_err(|error| unusable(path, &error))?;
        file.map_or(Ok(None), |file| Self::peek_into(&file, path))
    }

    fn peek_into(file: &File, path: &Path) -> Result<Option<Record>> {
        let read = |at, length| disk::read_at(file, path, at, length);
        let mut earlier = None;
        // It may meet the halves while they are being written. Two looks that agree are as good as a whole one.
        for _ in 0..MAX_LOOKS {
            let halves = Halves::read(path, read)?;
            let sequence = halves.sequence();
            if halves.is_whole(read) || earlier.replace(sequence) == Some(sequence) {
                return Ok(Some(halves.current()?.record).filter(|_| sequence > 0));
            }
        }
        Err(unusable(path, &io::ErrorKind::ResourceBusy.into()))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The current record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Makes room for another credential of [`MAX_CREDENTIAL_BYTES`], and for these words of its claim (profile id, stores' paths)
    /// and receipt, and for the credential once more if it is sealed for a coordinator: what is superseded goes, oldest first, then what is only kept, and nothing else.
    ///
    /// # Errors
    /// [`Code::JournalUnusable`] if that is not enough; [`Code::InvalidArgument`] if the words are too long for any journal.
    pub fn make_room(&mut self, words: &[&str], is_sealed_too: bool) -> Result<()> {
        let words = words.iter().map(|word| 2 * Sealed::text_bytes(word)).sum::<usize>();
        let sealed = if is_sealed_too { MAX_CREDENTIAL_BYTES / 3 * 4 } else { 0 };
        let has_room = |record: &Record| {
            // Another claim takes this one's place.
            let record = Record { claim: None, ..record.clone() };
            let used = serde_json::to_vec(&record).map_or(usize::MAX, |text| Zeroizing::new(text).len());
            used.saturating_add(MAX_CREDENTIAL_BYTES + SPARE_BYTES + words + sealed) <= HALF_BYTES - HEADER_BYTES
        };
        if has_room(&self.record) {
            return Ok(());
        }
        let mut record = self.record.clone();
        while record.give_up_told(0) || record.give_up_superseded() || record.give_up_kept() {
            if has_room(&record) {
                self.write(record)?;
                return self.wipe_previous();
            }
        }
        if record.receipts().is_empty() {
            let message = "the profile id and the paths of the stores are too long for a journal; use shorter ones";
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let mut stores: Vec<_> = record.receipts().iter().map(|one| one.origin.store.display().to_string()).collect();
        stores.dedup();
        let message = format_args!(
            "the journal has no room for another credential, as others wait for stores that can't take them; repair {}",
            stores.join(", ")
        );
        Err(Error::at(Code::JournalUnusable, self.path(), message))
    }

    /// Writes a new record. It survives a power cut when this returns.
    pub fn write(&mut self, record: Record) -> Result<()> {
        let path = self.file.path().to_owned();
        let sequence = self.sequence + 1;
        let half = encode(sequence, &record).ok_or_else(|| {
            Error::at(Code::JournalUnusable, &path, "the record does not fit the journal; the credential is too large")
        })?;
        // Nothing of a longer record is left behind.
        self.wipe(index(sequence), half.len())?;
        self.used[index(sequence)] = half.len();
        self.file
            .write_at(&half, start(index(sequence)))
            .and_then(|()| self.file.sync())
            .map_err(|error| unusable(&path, &error))?;
        self.sequence = sequence;
        self.record = record;
        Ok(())
    }

    /// Wipes the record before the current one, which may hold a credential.
    pub fn wipe_previous(&mut self) -> Result<()> {
        let previous = index(self.sequence + 1);
        // The header last: as long as it is there it tells how much there is to wipe.
        self.wipe(previous, HEADER_BYTES)?;
        self.wipe(previous, 0)
    }

    /// Wipes what a half holds after its first bytes.
    fn wipe(&mut self, half: usize, from: usize) -> Result<()> {
        let used = self.used[half];
        if used > from {
            let written = self.file.write_at(&vec![0; used - from], start(half) + from as u64);
            written.map_err(|error| unusable(self.file.path(), &error))?;
            self.used[half] = from;
        }
        Ok(())
    }
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::io(Code::JournalUnusable, "use the journal", path, error)
}

#[cfg(test)]
mod tests;
