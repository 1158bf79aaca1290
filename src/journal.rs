//! A key's journal: what a refresh had reached, so that the next owner loses nothing and repeats nothing.
//!
//! `<base>.journal` ([`term::journal`]), mode 0600, two slots of [`SLOT_BYTES`]. A change writes the whole record into the slot that does not
//! hold the current one, in place, so a record that was cut off leaves the one before it valid. The space is written
//! once, when the file is made: recording a received credential needs no free block.
//!
//! A slot is a header and a JSON text ([`Record`]); numbers are little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 4 | `ORLJ` |
//! | 4 | format version, [`VERSION`] |
//! | 8 | sequence number; the valid slot with the higher one is current |
//! | 4 | length of the text |
//! | 32 | SHA-256 over sequence number and text |
//!
//! Only the holder of the key's lock writes. Any process may read: the checksum fails on a record that is being written.

pub mod ledger;
pub mod record;
pub mod siblings;

use crate::digest::Digest;
use crate::disk::{self, PreallocatedFile};
use crate::error::{Code, Error, Result};
use crate::lock::{self, term};
use record::{Record, Sealed};
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// The format this code writes. A newer one is refused, not guessed.
pub const VERSION: u32 = 1;
/// Bytes of one slot.
pub const SLOT_BYTES: usize = 128 << 10;
/// The largest credential that is refreshed or mirrored, in bytes of its text as the journal spells it. Stores have no limit of
/// their own for one: what a store is asked to keep, the journal has kept before.
pub const MAX_CREDENTIAL_BYTES: usize = 40 << 10;
/// How often a reader without the lock looks for a record that stands still. It changes some times a minute at most.
const MAX_LOOKS: u32 = 100;

/// What a record grows by besides a credential and the words of its claim: digests, numbers, names of fields.
const SPARE_BYTES: usize = 8 << 10;

const MAGIC: &[u8; 4] = b"ORLJ";
const HEADER_BYTES: usize = 4 + 4 + 8 + 4 + 32;
/// So much of a slot is read at first: most records are no longer.
const FIRST_BYTES: usize = 4 << 10;

/// A key's journal, open for writing. Its opener holds the key's lock.
#[derive(Debug)]
pub struct Journal {
    file: PreallocatedFile,
    sequence: u64,
    /// How many bytes of each slot may be set.
    used: [usize; 2],
    record: Record,
}

impl Journal {
    /// Opens the journal of a term of the key whose lock base is `lock_base`, creating it, with all the space it will need.
    /// Takes over what the owners of earlier terms received; a stuck one may still add to it.
    ///
    /// # Errors
    /// [`Code::JournalUnusable`] if it can't be read and written, [`Code::JournalVersion`] if a newer release wrote it.
    pub fn open(lock_base: &Path, term: u32) -> Result<Self> {
        let path = term::journal(lock_base, term);
        let unusable = |error: &io::Error| unusable(&path, error);
        let file = PreallocatedFile::open(&path, 2 * SLOT_BYTES).map_err(|error| unusable(&error))?;
        let read = |at, length| file.read_at(at, length);
        let found = look(read).map_err(|error| unusable(&error))?;
        let mut used = [0; 2];
        for (at, (_, known)) in found.iter().enumerate() {
            used[at] = if let Some(used) = known {
                *used
            } else {
                let all = Zeroizing::new(read(start(at), SLOT_BYTES).map_err(|error| unusable(&error))?);
                all.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
            };
        }
        let (sequence, record) = current(found, &path)?;
        let mut journal = Self { file, sequence, used, record };
        for earlier in 0..term {
            if let Some(earlier) = Self::peek(&term::journal(lock_base, earlier))? {
                let mut record = journal.record.clone();
                record.take_over(&earlier);
                journal.write_if_new(record)?;
            }
        }
        Ok(journal)
    }

    /// Takes over what else there is in the journals of earlier terms whose owners are gone, and empties those. The caller
    /// holds the claims lock, so that no owner reads them meanwhile and finds it in neither.
    pub fn end_earlier_terms(&mut self, lock_base: &Path, term: u32) -> Result<()> {
        for earlier in 0..term {
            let path = term::journal(lock_base, earlier);
            let Some(_ended) = lock::Ended::term(&term::lock_file(lock_base, earlier))? else { continue };
            let Some(earlier) = Self::peek(&path)? else { continue };
            let mut record = self.record.clone();
            record.take_over(&earlier);
            record.take_over_failures(&earlier);
            self.write_if_new(record)?;
            disk::empty(&path).map_err(|error| unusable(&path, &error))?;
        }
        Ok(())
    }

    fn write_if_new(&mut self, record: Record) -> Result<()> {
        if encode(0, &record) == encode(0, &self.record) { Ok(()) } else { self.write(record, true) }
    }

    /// Reads a journal without the right to write it. `None` if there is none.
    pub fn peek(path: &Path) -> Result<Option<Record>> {
        let file = match disk::open_regular(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(path, &error)),
        };
        let mut earlier = None;
        // Until two looks agree: a single one may meet the slots while they are being written.
        for _ in 0..MAX_LOOKS {
            let found = look(|at, length| disk::read_at(&file, path, at, length));
            let (sequence, record) = current(found.map_err(|error| unusable(path, &error))?, path)?;
            if earlier.replace(sequence) == Some(sequence) {
                return Ok((sequence > 0).then_some(record));
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
    /// and receipt: what is superseded goes, oldest first, then what is only kept, and nothing else.
    ///
    /// # Errors
    /// [`Code::JournalUnusable`] if that is not enough; [`Code::InvalidArgument`] if the words are too long for any journal.
    pub fn make_room(&mut self, words: &[&str]) -> Result<()> {
        let words = words.iter().map(|word| 2 * Sealed::text_bytes(word)).sum::<usize>();
        let has_room = |record: &Record| {
            // Another claim takes this one's place.
            let record = Record { claim: None, ..record.clone() };
            let used = serde_json::to_vec(&record).map_or(usize::MAX, |text| Zeroizing::new(text).len());
            used.saturating_add(MAX_CREDENTIAL_BYTES + SPARE_BYTES + words) <= SLOT_BYTES - HEADER_BYTES
        };
        if has_room(&self.record) {
            return Ok(());
        }
        let mut record = self.record.clone();
        while record.give_up_superseded() || record.give_up_kept() {
            if has_room(&record) {
                self.write(record, true)?;
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

    /// Writes a new record. With `durable` it survives a power cut when this returns.
    pub fn write(&mut self, record: Record, durable: bool) -> Result<()> {
        let path = self.file.path().to_owned();
        let sequence = self.sequence + 1;
        let slot = encode(sequence, &record).ok_or_else(|| {
            Error::at(Code::JournalUnusable, &path, "the record does not fit the journal; the credential is too large")
        })?;
        // Nothing of a longer record is left behind.
        self.wipe(index(sequence), slot.len())?;
        self.used[index(sequence)] = slot.len();
        self.file
            .write_at(&slot, start(index(sequence)))
            .and_then(|()| if durable { self.file.sync() } else { Ok(()) })
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

    /// Wipes what a slot holds after its first bytes.
    fn wipe(&mut self, slot: usize, from: usize) -> Result<()> {
        let used = self.used[slot];
        if used > from {
            let written = self.file.write_at(&vec![0; used - from], start(slot) + from as u64);
            written.map_err(|error| unusable(self.file.path(), &error))?;
            self.used[slot] = from;
        }
        Ok(())
    }
}

/// Which slot a sequence number is written to.
fn index(sequence: u64) -> usize {
    usize::from(sequence % 2 == 1)
}

/// Where a slot starts.
fn start(slot: usize) -> u64 {
    (slot * SLOT_BYTES) as u64
}

/// What is found in a slot, and how many of its bytes may be set; `None` if that takes another look.
type Look = (SlotContent, Option<usize>);

fn look(read: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> io::Result<[Look; 2]> {
    let look = |at: usize| -> io::Result<Look> {
        let first = Zeroizing::new(read(start(at), FIRST_BYTES)?);
        let length = length(&first);
        // A record that is cut off at the file's end is told by its checksum.
        let bytes = if length > FIRST_BYTES { Zeroizing::new(read(start(at), length)?) } else { first };
        let slot = decode(&bytes);
        let used = match &slot {
            SlotContent::Record(..) => Some(length),
            SlotContent::Nothing => bytes.iter().take(HEADER_BYTES).all(|byte| *byte == 0).then_some(0),
            SlotContent::Newer(_) => None,
        };
        Ok((slot, used))
    };
    Ok([look(0)?, look(1)?])
}

/// How long a slot's record says it is, with its header.
fn length(slot: &[u8]) -> usize {
    let length = slot.get(16..20).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
    (HEADER_BYTES + length as usize).min(SLOT_BYTES)
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::io(Code::JournalUnusable, "use the journal", path, error)
}

fn encode(sequence: u64, record: &Record) -> Option<Zeroizing<Vec<u8>>> {
    let text = Zeroizing::new(serde_json::to_vec(record).ok()?);
    if text.len() > SLOT_BYTES - HEADER_BYTES {
        return None;
    }
    let mut slot = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + text.len()));
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&VERSION.to_le_bytes());
    slot.extend_from_slice(&sequence.to_le_bytes());
    slot.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
    slot.extend_from_slice(checksum(sequence, &text).as_bytes());
    slot.extend_from_slice(&text);
    Some(slot)
}

fn checksum(sequence: u64, text: &[u8]) -> Digest {
    Digest::of(&[&sequence.to_le_bytes(), text])
}

/// What a slot holds.
enum SlotContent {
    /// Never written, cut off, or damaged: nothing to go by.
    Nothing,
    Record(u64, Box<Record>),
    /// Written by a newer release, in this format.
    Newer(u32),
}

/// Sequence number and record that count.
fn current([(first, _), (second, _)]: [Look; 2], path: &Path) -> Result<(u64, Record)> {
    match (first, second) {
        (SlotContent::Newer(version), _) | (_, SlotContent::Newer(version)) => {
            let message = format_args!(
                "another release wrote the journal (format {version}, this one knows {VERSION}); use the newest release in every process"
            );
            Err(Error::at(Code::JournalVersion, path, message))
        }
        (SlotContent::Record(one, _), SlotContent::Record(two, record)) if one < two => Ok((two, *record)),
        (SlotContent::Record(sequence, record), _) | (SlotContent::Nothing, SlotContent::Record(sequence, record)) => {
            Ok((sequence, *record))
        }
        (SlotContent::Nothing, SlotContent::Nothing) => Ok((0, Record::default())),
    }
}

fn decode(slot: &[u8]) -> SlotContent {
    let Some((header, rest)) = slot.split_at_checked(HEADER_BYTES) else { return SlotContent::Nothing };
    let word = |at: usize| header[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    if &header[..4] != MAGIC {
        return SlotContent::Nothing;
    }
    if word(4) > VERSION {
        return SlotContent::Newer(word(4));
    }
    let sequence = header[8..16].try_into().map_or(0, u64::from_le_bytes);
    let Some(text) = rest.get(..word(16) as usize) else { return SlotContent::Nothing };
    if checksum(sequence, text).as_bytes() != &header[20..] {
        return SlotContent::Nothing;
    }
    // Whole, but not of our making: of another release, and not to be guessed at.
    serde_json::from_slice(text)
        .map_or(SlotContent::Newer(word(4)), |record| SlotContent::Record(sequence, Box::new(record)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "torn and foreign files are made by hand")]

    use super::*;
    use crate::credential::tests::credential;
    use crate::credential::{Credential, Generation};
    use crate::journal::ledger::Ledger;
    use crate::journal::record::{
        ClaimRecord, FailureRecord, Lifetime, LostCall, Origin, Outcome, Pause, Progress, Receipt,
    };
    use serde_json::json;
    use std::fs;
    use std::path::PathBuf;

    fn record(state: Progress, failure: Option<FailureRecord>) -> Record {
        let generation = Generation::of("r");
        let key = Digest::of(&[b"key"]);
        let (profile, pid, at, origin) = ("p".into(), 1, 2.5, origin("/store", "/main"));
        let claim = Some(ClaimRecord { key, profile, pid, at, origin, attempts: 1, pause: Some(pause()) });
        let received = credential(json!({"type": "oauth", "access": "secret", "expires": 1.5}));
        let mut ledger = Ledger::default();
        ledger.record(generation, Generation::of("s"));
        let failures = failure.into_iter().collect();
        let lifetimes = vec![Lifetime { access: key, ms: 300_000.0 }];
        let receipts = vec![receipt(&received)];
        Record { state, epoch: 3, claim, receipts, failures, ledger, stores: Vec::new(), lifetimes }
    }

    fn pause() -> Pause {
        Pause { until: 1.5, boot: "b".into(), since: 0.5 }
    }

    fn origin(store: &str, main: &str) -> Origin {
        let (store, main, generation) = (store.into(), main.into(), Generation::of("r"));
        Origin { generation, store, main, main_has_profile: true, main_generation: Some(generation) }
    }

    fn receipt(credential: &Credential) -> Receipt {
        let (credential, answered) = (Sealed::new(credential), vec!["access".into()]);
        Receipt { credential, answered, origin: origin("/store", "/main"), superseded: false, kept: false }
    }

    fn base(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("sha256-0")
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let generation = Generation::of("r");
        let (pid, at) = (7, 8.25);
        let outcomes = [
            Outcome::Unspent,
            Outcome::Uncertain,
            Outcome::Dead { lost_with: Some(LostCall { pid, at }) },
            Outcome::Dead { lost_with: None },
        ];
        let failure = |outcome| FailureRecord { generation, outcome, pid, at, attempts: 2, pause: Some(pause()) };
        let failures = std::iter::once(None).chain(outcomes.map(|outcome| Some(failure(outcome))));
        let directory = tempfile::tempdir().expect("a directory");
        for failure in failures {
            for state in
                [Progress::Idle, Progress::Claimed, Progress::Dispatched, Progress::Received, Progress::Committed]
            {
                let written = record(state, failure.clone());
                Journal::open(&base(&directory), 0).expect("opened").write(written.clone(), true).expect("written");
                let read = Journal::open(&base(&directory), 0).expect("opened").record().clone();
                assert_eq!(serde_json::to_string(&read).expect("json"), serde_json::to_string(&written).expect("json"));
                assert_eq!(read.failures, Vec::from_iter(failure.clone()));
            }
        }
    }

    #[test]
    fn a_record_that_was_cut_off_leaves_the_one_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(&base(&directory), 0).expect("opened");
        journal.write(record(Progress::Claimed, None), false).expect("written");
        let before = fs::read(term::journal(&base(&directory), 0)).expect("read");
        journal.write(record(Progress::Dispatched, None), false).expect("written");
        let after = fs::read(term::journal(&base(&directory), 0)).expect("read");
        let changed: Vec<usize> = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
        for cut in changed.iter().skip(1) {
            let torn: Vec<u8> = after[..*cut].iter().chain(&before[*cut..]).copied().collect();
            fs::write(term::journal(&base(&directory), 0), torn).expect("written");
            let read = Journal::open(&base(&directory), 0).expect("opened");
            assert_eq!(read.record().state, Progress::Claimed, "cut at {cut}");
        }
    }

    #[test]
    fn no_byte_of_a_credential_outlives_its_commit() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(&base(&directory), 0).expect("opened");
        journal.write(record(Progress::Received, None), true).expect("written");
        let bare = Record { receipts: Vec::new(), ledger: Ledger::default(), ..record(Progress::Committed, None) };
        journal.write(bare, false).expect("written");
        journal.wipe_previous().expect("wiped");
        let bytes = fs::read(term::journal(&base(&directory), 0)).expect("read");
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
        assert_eq!(bytes.len(), 2 * SLOT_BYTES);
    }

    #[test]
    fn garbage_is_an_empty_journal_and_a_newer_format_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = term::journal(&base(&directory), 0);
        for garbage in [vec![], vec![7; 3], vec![0xFF; 2 * SLOT_BYTES], b"ORLJ\x01\0\0\0".repeat(99)] {
            fs::write(&path, garbage).expect("written");
            assert_eq!(Journal::open(&base(&directory), 0).expect("opened").record().state, Progress::Idle);
        }
        fs::write(&path, b"ORLJ\x02\0\0\0").expect("written");
        let refused = Journal::open(&base(&directory), 0).map(|_| ()).map_err(|error| error.code);
        assert_eq!(refused, Err(Code::JournalVersion));
        assert_eq!(Journal::peek(&path).map(|_| ()).map_err(|error| error.code), Err(Code::JournalVersion));
    }

    /// Adds receipts until there is room for just one more, which is not added.
    fn fill(journal: &mut Journal, superseded: bool) -> Vec<Option<Credential>> {
        loop {
            let kept = waiting(journal);
            let large = json!({"type": "oauth", "refresh": kept.len().to_string(), "access": "x".repeat(MAX_CREDENTIAL_BYTES - 100)});
            let mut record = journal.record().clone();
            record.receive(Generation::of("spent"), Receipt { superseded, ..receipt(&credential(large)) });
            journal.write(record, false).expect("room");
            if !matches!(journal.make_room(&[]), Ok(()) if waiting(journal).len() > kept.len()) {
                return kept;
            }
        }
    }

    fn waiting(journal: &Journal) -> Vec<Option<Credential>> {
        journal.record().receipts().iter().map(|one| one.credential.open()).collect()
    }

    #[test]
    fn what_waits_for_its_store_is_never_displaced_and_fills_the_journal_at_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(&base(&directory), 0).expect("opened");
        let kept = fill(&mut journal, false);
        assert!(!kept.is_empty());
        assert_eq!(journal.make_room(&[]).map_err(|error| error.code), Err(Code::JournalUnusable));
        assert_eq!(waiting(&journal)[..kept.len()], kept);
    }

    #[test]
    fn words_for_which_there_is_room_are_recorded_with_the_largest_credential_and_longer_ones_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(&base(&directory), 0).expect("opened");
        let (mut room, mut too_long) = (0, SLOT_BYTES);
        while too_long - room > 1 {
            let between = usize::midpoint(room, too_long);
            match journal.make_room(&[&"x".repeat(between)]) {
                Ok(()) => room = between,
                Err(error) => {
                    assert_eq!(error.code, Code::InvalidArgument);
                    too_long = between;
                }
            }
        }
        // An id of 12 KiB is no problem.
        assert!(room > 12 << 10, "{room}");
        let word = "x".repeat(room);
        let claimed = record(Progress::Claimed, None);
        let claim = claimed.claim.clone().map(|claim| ClaimRecord { profile: word, ..claim });
        let access = "x".repeat(MAX_CREDENTIAL_BYTES - 100);
        let largest = credential(json!({"type": "oauth", "access": access}));
        let receipts = vec![receipt(&largest)];
        for _ in 0..2 {
            let record = Record { claim: claim.clone(), receipts: receipts.clone(), ..claimed.clone() };
            journal.write(record, false).expect("room");
            journal
                .write(Record { receipts: Vec::new(), claim: claim.clone(), ..claimed.clone() }, false)
                .expect("room");
            journal.make_room(&[&"x".repeat(room - 1024)]).expect("room");
        }
    }

    #[test]
    fn what_a_login_has_superseded_makes_room_oldest_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(&base(&directory), 0).expect("opened");
        let kept = fill(&mut journal, true);
        let left = waiting(&journal);
        assert_eq!(left[..left.len() - 1], kept[1..]);
        let bytes = fs::read(term::journal(&base(&directory), 0)).expect("read");
        let on_disk = |refresh| String::from_utf8_lossy(&bytes).contains(&format!(r#"\"refresh\":\"{refresh}\""#));
        assert!(on_disk(1) && !on_disk(0));
    }

    #[test]
    fn what_is_only_kept_makes_room_after_what_is_superseded() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(&base(&directory), 0).expect("opened");
        let large = |refresh: &str| {
            let access = "x".repeat(MAX_CREDENTIAL_BYTES - 100);
            receipt(&credential(json!({"type": "oauth", "refresh": refresh, "access": access})))
        };
        let kept = Receipt { kept: true, ..large("kept") };
        let receipts = vec![kept, Receipt { superseded: true, ..large("superseded") }];
        journal.write(Record { receipts, ..Record::default() }, false).expect("room");
        let left = |journal: &Journal| {
            waiting(journal).into_iter().map(|one| one.unwrap().refresh().unwrap().to_owned()).collect::<Vec<_>>()
        };
        journal.make_room(&[]).expect("room");
        assert_eq!(left(&journal), ["kept"]);
        let mut record = journal.record().clone();
        record.receipts.push(large("waiting"));
        journal.write(record, false).expect("room");
        journal.make_room(&[]).expect("room");
        assert_eq!(left(&journal), ["waiting"]);
    }

    #[test]
    fn a_receipt_that_is_kept_takes_the_place_of_the_one_before_it_and_ends_with_its_login() {
        let (own, main) = (PathBuf::from("host:own"), PathBuf::from("host:main"));
        let of = |refresh: &str, main: &str| Receipt {
            origin: origin("host:own", main),
            ..receipt(&credential(json!({"type": "oauth", "refresh": refresh})))
        };
        let left =
            |record: &Record| record.kept().map(|one| one.credential.open().unwrap().generation()).collect::<Vec<_>>();
        let mut record = Record { state: Progress::Received, ..Record::default() };
        for refresh in ["one", "two"] {
            record.receipts.push(of(refresh, "host:own"));
            record.settle_receipt(Generation::of(refresh), Some(&own), true);
            assert_eq!(left(&record), [Generation::of(refresh)]);
        }
        assert_eq!((record.state, record.waiting().count()), (Progress::Committed, 0));
        record.forget_kept(&main);
        assert_eq!(left(&record).len(), 1);
        record.forget_kept(&own);
        assert!(left(&record).is_empty());
        // What main holds too is not the agent's alone to end.
        record.receipts.push(of("three", "host:main"));
        record.settle_receipt(Generation::of("three"), Some(&own), true);
        record.forget_kept(&own);
        assert_eq!(left(&record), [Generation::of("three")]);
        record.receive(Generation::of("three"), of("four", "host:main"));
        assert!(left(&record).is_empty());
    }

    #[test]
    fn a_record_that_does_not_fit_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(&base(&directory), 0).expect("opened");
        let large = credential(json!({"type": "oauth", "access": "x".repeat(SLOT_BYTES)}));
        let large = Record { receipts: vec![receipt(&large)], ..Record::default() };
        assert_eq!(journal.write(large, true).map_err(|error| error.code), Err(Code::JournalUnusable));
        assert_eq!(journal.record().state, Progress::Idle);
    }
}
