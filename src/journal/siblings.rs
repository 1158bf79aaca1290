//! One grant under several names: the same refresh token in several profiles of one state directory.
//!
//! Each profile has its own key, lock and journal. So that a generation is still sent only once, an owner that is about
//! to send one looks into the journals of the other keys, and waits for an owner that is sending it under another name.
//! While it looks and puts its own claim on record, it holds one short lock that all keys of the directory share.
//! For the order of locks see `docs/protocol.md`.

use crate::clock::Clock;
use crate::credential::{Credential, Generation};
use crate::digest::Digest;
use crate::disk;
use crate::error::{Code, Error, Result};
use crate::journal::Journal;
use crate::journal::ledger::Ledger;
use crate::journal::record::{FailureRecord, OwnClaim, Record};
use crate::lock::holder::Holder;
use crate::lock::{self, Guard, Target, term};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long an owner waits for others to put their claims on record, which takes milliseconds each; longer than it takes
/// to take over from one that is stuck.
const CLAIMS_PATIENCE: Duration = Duration::from_secs(60);

/// The lock that makes looking and claiming one step for all keys of a directory, held.
#[derive(Debug)]
pub struct ClaimsLock(Guard);

impl ClaimsLock {
    /// See [`Guard::is_current`].
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.is_current()
    }
}

/// Takes it, for the directory of this lock.
pub fn lock_claims(lock_base: &Path, clock: &Arc<dyn Clock>) -> Result<ClaimsLock> {
    let target = Target::file_operation(&lock_base.with_file_name("claims"), clock);
    lock::acquire_blocking(&target, CLAIMS_PATIENCE).map(ClaimsLock)
}

/// What the other journals in a lock directory say: those of the other keys, and of one's own key's earlier terms.
#[derive(Debug)]
pub struct Siblings {
    /// One's own journal, which is none of them.
    own: PathBuf,
    others: Vec<Sibling>,
}

/// A living owner that is asking the provider.
#[derive(Debug, PartialEq, Eq)]
pub enum Sending {
    /// It holds this lock.
    Under(PathBuf),
    /// It got an outdated term's lock just before its stuck predecessor was taken over from. It is not stuck itself.
    OutOfTerm,
}

/// Another key, or an earlier term of one's own.
#[derive(Debug)]
struct Sibling {
    journal: PathBuf,
    record: Record,
}

impl Siblings {
    /// Reads them, for the holder of this lock. As long as the [`ClaimsLock`] is held, no other key claims.
    pub fn read(own: &Guard) -> Result<Self> {
        let mut siblings = Self { own: term::journal(own.base(), own.term()), others: Vec::new() };
        siblings.read_again(|_| true)?;
        Ok(siblings)
    }

    /// The other journals, whosever, earlier terms first: an owner that takes over from them writes down what they know before it empties
    /// theirs.
    fn files(&self, is_wanted: &impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
        let directory = self.own.parent().unwrap_or(&self.own);
        let is_wanted = |file: &Path| {
            file.extension().is_some_and(|extension| extension == "journal") && file != self.own && is_wanted(file)
        };
        let mut files = match disk::list(directory, is_wanted) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(Code::JournalUnusable, "list the journals", directory, &error)),
        };
        files.sort_by_cached_key(|file| of_journal(file));
        Ok(files)
    }

    /// Reads them, or those that are wanted, again.
    fn read_again(&mut self, is_wanted: impl Fn(&Path) -> bool) -> Result<()> {
        loop {
            let files = self.files(&is_wanted)?;
            self.others.retain(|sibling| !is_wanted(&sibling.journal));
            for journal in &files {
                if let Some(record) = Journal::peek_own(journal)? {
                    self.others.push(Sibling { journal: journal.clone(), record });
                }
            }
            // A term that has begun meanwhile may have emptied what we were about to read.
            if files.is_empty() || self.files(&is_wanted)? == files {
                return Ok(());
            }
        }
    }

    /// The owner that is sending this generation. One that is gone leaves its lock free: it has died, or it has settled
    /// since we looked, so what it left is read again. One that was stuck and taken over from is not waited for.
    pub fn sending(&mut self, generation: Generation, clock: &dyn Clock) -> Result<Option<Sending>> {
        // Profiles without a token have nothing in common.
        let is_sending = |sibling: &&Sibling| !generation.is_none() && sibling.record.is_sending(generation);
        let sending = self.others.iter().filter(is_sending);
        let journals: Vec<_> = sending.map(|sibling| sibling.journal.clone()).collect();
        for journal in journals {
            let (lock_base, term) = of_journal(&journal);
            if !lock::is_free(&lock_base, term)? {
                if !term::has_begun(&lock_base, term + 1)? {
                    return Ok(Some(Sending::Under(lock_base)));
                }
                if Holder::of(&lock_base, term).is_some_and(|holder| !holder.is_stale(clock)) {
                    return Ok(Some(Sending::OutOfTerm));
                }
            }
            // An owner of a later term may have taken it over, and emptied it, since.
            self.read_again(|journal| of_journal(journal).0 == lock_base)?;
        }
        Ok(None)
    }

    /// What the other keys have claimed in the coordinator's row of this generation.
    pub fn own_claims(&self, generation: Generation) -> impl Iterator<Item = &OwnClaim> {
        self.records().flat_map(move |record| record.own_claims(generation))
    }

    /// Whether a coordinator knows a generation, as another key's journal says.
    #[must_use]
    pub fn is_shared(&self, generation: Generation) -> bool {
        self.records().any(|record| record.is_shared(generation))
    }

    /// Whether an owner under another name, who is there and not stuck, has made such a claim and not sent anything yet.
    pub fn is_claiming(
        &self,
        generation: Generation,
        is_meant: impl Fn(&OwnClaim) -> bool,
        clock: &dyn Clock,
    ) -> Result<bool> {
        let own = of_journal(&self.own).0;
        for sibling in &self.others {
            let (lock_base, term) = of_journal(&sibling.journal);
            let has_claimed = || sibling.record.own_claims(generation).any(|claim| !claim.sent && is_meant(claim));
            if lock_base != own
                && has_claimed()
                && !lock::is_free(&lock_base, term)?
                && !term::has_begun(&lock_base, term + 1)?
                && Holder::of(&lock_base, term).is_none_or(|holder| !holder.is_stale(clock))
            {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// The profile ids that those may hold it under.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.records().filter_map(|record| record.profile())
    }

    /// What stands in the way of sending this generation, for all that the other keys and one's `own` know.
    #[must_use]
    pub fn failure_of(&self, generation: Generation, own: &Record, clock: &dyn Clock) -> Option<FailureRecord> {
        // Profiles without a token have nothing in common.
        let others = self.records().filter(|_| !generation.is_none());
        FailureRecord::among(std::iter::once(own).chain(others), generation, clock)
    }

    /// How long this access token lives, if it was received under another name.
    #[must_use]
    pub fn lifetime_ms(&self, access: Digest) -> Option<f64> {
        self.records().find_map(|record| record.lifetime_ms(access))
    }

    fn records(&self) -> impl Iterator<Item = &Record> + Clone {
        self.others.iter().map(|sibling| &sibling.record)
    }
}

/// The lock base and term of a journal.
fn of_journal(journal: &Path) -> (PathBuf, u32) {
    term::of_lock_file(&journal.with_extension(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::journal::record::{ClaimRecord, Origin, Outcome, Progress};

    #[test]
    fn what_a_later_term_takes_over_while_others_look_is_not_lost_to_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().canonicalize().expect("a path").join("locks");
        let (own, other, generation) = (path.join("own"), path.join("other"), Generation::of("1"));
        let mut record = Record { state: Progress::Dispatched, ..Record::default() };
        let key = Digest::of(&[b"key"]);
        let main = path.join("store");
        let origin = Origin { generation, store: main.clone(), main, main_has_profile: true, main_generation: None };
        let (profile, pid, at) = ("profile".to_owned(), 1, 0.0);
        record.claim = Some(ClaimRecord { key, profile, pid, at, origin, attempts: 0, pause: None });
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let lock = |base: &Path| {
            lock::acquire_blocking(&Target::never_taken_over(base, &clock), CLAIMS_PATIENCE).expect("free")
        };
        Journal::open(&lock(&other)).and_then(|mut journal| journal.write(record)).expect("dispatched");

        let mut siblings = Siblings::read(&lock(&own)).expect("read");
        // Its owner has died; the next one is of the next term.
        disk::create_once(&term::journal(&other, 1)).expect("begun");
        let (next, claims) = (lock(&other), lock_claims(&other, &clock).expect("free"));
        Journal::open(&next).and_then(|mut journal| journal.end_earlier_terms(&next, &claims)).expect("taken over");
        assert_eq!(Journal::peek(&term::journal(&other, 0)).expect("read").map(|_| ()), None);
        assert_eq!(siblings.sending(generation, &SystemClock).expect("told"), None);
        let failure = siblings.failure_of(generation, &Record::default(), &SystemClock);
        assert_eq!(failure.map(|failure| failure.outcome), Some(Outcome::Uncertain));
    }
}
