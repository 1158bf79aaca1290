//! A half of a journal, in bytes.
//!
//! A half is a header and a JSON text ([`Record`]); numbers are little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 4 | `ORLJ` |
//! | 4 | format version, [`VERSION`] |
//! | 8 | sequence number; the valid half with the higher one is current |
//! | 4 | length of the text |
//! | 32 | SHA-256 over sequence number and text |

use super::record::Record;
use super::unusable;
use crate::digest::Digest;
use crate::error::{Code, Error, Result};
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// The format this code writes. A newer one is refused, not guessed.
const VERSION: u32 = 1;
/// Bytes of one half.
pub const HALF_BYTES: usize = 128 << 10;
const MAGIC: &[u8; 4] = b"ORLJ";
pub(super) const HEADER_BYTES: usize = 4 + 4 + 8 + 4 + 32;
/// So much of a half is read at first: most records are no longer.
const FIRST_BYTES: usize = 4 << 10;

/// Which half a sequence number is written to.
pub(super) fn index(sequence: u64) -> usize {
    usize::from(sequence % 2 == 1)
}

/// Where a half starts.
pub(super) fn start(half: usize) -> u64 {
    (half * HALF_BYTES) as u64
}

/// The half that counts.
pub(super) struct Current {
    /// 0 if nothing is written yet.
    pub(super) sequence: u64,
    pub(super) record: Record,
    /// How many bytes of each half may be set.
    pub(super) used: [usize; 2],
}

/// Both halves of a journal, as they were read.
pub(super) struct Halves<'a> {
    path: &'a Path,
    halves: [Half; 2],
}

impl<'a> Halves<'a> {
    /// Reads the halves of the journal at `path`, the first one first.
    pub(super) fn read(path: &'a Path, read: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> Result<Self> {
        let half = |at: usize| -> io::Result<Half> {
            let first = Zeroizing::new(read(start(at), FIRST_BYTES)?);
            // A record that is cut off at the file's end is told by its checksum.
            let bytes = match length(&first) {
                length if length > FIRST_BYTES => Zeroizing::new(read(start(at), length)?),
                _ => first,
            };
            // By what was read last: another record may have taken its place meanwhile.
            Ok(Half { content: HalfContent::of(&bytes), length: length(&bytes), bytes })
        };
        let half = |at| half(at).map_err(|error| unusable(path, &error));
        Ok(Self { path, halves: [half(0)?, half(1)?] })
    }

    /// Whether the journal held just this when the second half was read: nothing had been written to the first one since, as
    /// `read` tells, and no half is half written, or was so when its owner died. Of two that are blank this can't be told.
    pub(super) fn is_whole(&self, read: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> bool {
        let header = |half: &[u8]| half.get(..HEADER_BYTES).map(<[u8]>::to_vec);
        let is_unchanged =
            || read(start(0), HEADER_BYTES).is_ok_and(|now| header(&now) == header(&self.halves[0].bytes));
        self.sequence() > 0 && self.halves.iter().all(|half| !half.is_damaged()) && is_unchanged()
    }

    /// Which record counts, by its sequence number; 0 if none.
    pub(super) fn sequence(&self) -> u64 {
        self.latest().map_or(0, |(sequence, _)| sequence)
    }

    fn latest(&self) -> Option<(u64, &Half)> {
        let records = self.halves.iter().filter_map(|half| match half.content {
            HalfContent::Record(sequence) => Some((sequence, half)),
            HalfContent::Nothing | HalfContent::Newer(_) => None,
        });
        records.max_by_key(|(sequence, _)| *sequence)
    }

    /// The record that counts.
    pub(super) fn current(&self) -> Result<Current> {
        let used = self.halves.each_ref().map(Half::used);
        let newer = self.halves.iter().find_map(|half| match half.content {
            HalfContent::Newer(version) => Some(version),
            HalfContent::Nothing | HalfContent::Record(_) => None,
        });
        if let Some(version) = newer {
            return Err(self.is_newer(version));
        }
        let Some((sequence, half)) = self.latest() else {
            return Ok(Current { sequence: 0, record: Record::default(), used });
        };
        // Whole, but not of our making: of another release, and not to be guessed at.
        let record = serde_json::from_slice(half.text()).map_err(|_| self.is_newer(word(&half.bytes, 4)))?;
        Ok(Current { sequence, record, used })
    }

    fn is_newer(&self, version: u32) -> Error {
        let message = format_args!(
            "this release can't read the journal's record (format {version}; it knows {VERSION}): another release wrote it; use the newest release in every process"
        );
        Error::at(Code::JournalVersion, self.path, message)
    }
}

/// A half as it was read.
struct Half {
    content: HalfContent,
    /// How long its record says it is, with its header.
    length: usize,
    bytes: Zeroizing<Vec<u8>>,
}

impl Half {
    fn text(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..self.length).unwrap_or_default()
    }

    fn is_blank(&self) -> bool {
        self.bytes.iter().take(HEADER_BYTES).all(|byte| *byte == 0)
    }

    fn is_damaged(&self) -> bool {
        matches!(self.content, HalfContent::Nothing) && !self.is_blank()
    }

    /// How many of its bytes may be set.
    fn used(&self) -> usize {
        match self.content {
            HalfContent::Record(_) => self.length,
            HalfContent::Nothing if self.is_blank() => 0,
            HalfContent::Nothing | HalfContent::Newer(_) => HALF_BYTES,
        }
    }
}

/// How long a half's record says it is, with its header.
fn length(half: &[u8]) -> usize {
    (HEADER_BYTES + word(half, 16) as usize).min(HALF_BYTES)
}

/// A number of the header.
fn word(half: &[u8], at: usize) -> u32 {
    half.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The bytes of a half; `None` if the record does not fit.
pub(super) fn encode(sequence: u64, record: &Record) -> Option<Zeroizing<Vec<u8>>> {
    let text = Zeroizing::new(serde_json::to_vec(record).ok()?);
    if text.len() > HALF_BYTES - HEADER_BYTES {
        return None;
    }
    let mut half = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + text.len()));
    half.extend_from_slice(MAGIC);
    half.extend_from_slice(&VERSION.to_le_bytes());
    half.extend_from_slice(&sequence.to_le_bytes());
    half.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
    half.extend_from_slice(checksum(sequence, &text).as_bytes());
    half.extend_from_slice(&text);
    Some(half)
}

fn checksum(sequence: u64, text: &[u8]) -> Digest {
    Digest::of(&[&sequence.to_le_bytes(), text])
}

/// What a half holds.
#[derive(Clone, Copy)]
enum HalfContent {
    /// Never written, cut off, or damaged: nothing to go by.
    Nothing,
    /// A whole record, with this sequence number.
    Record(u64),
    /// Written by a newer release, in this format.
    Newer(u32),
}

impl HalfContent {
    fn of(half: &[u8]) -> Self {
        let Some((header, rest)) = half.split_at_checked(HEADER_BYTES) else { return Self::Nothing };
        if &header[..4] != MAGIC {
            return Self::Nothing;
        }
        if word(header, 4) > VERSION {
            return Self::Newer(word(header, 4));
        }
        let sequence = header[8..16].try_into().map_or(0, u64::from_le_bytes);
        match rest.get(..word(header, 16) as usize) {
            Some(text) if checksum(sequence, text).as_bytes() == &header[20..] => Self::Record(sequence),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn half(sequence: u64, words: usize) -> Vec<u8> {
        let record = Record { stores: vec!["s".repeat(words).into()], ..Record::default() };
        let mut half = encode(sequence, &record).expect("it fits").to_vec();
        half.resize(HALF_BYTES, 0);
        half
    }

    /// Reads a journal whose bytes are others at each read.
    fn read(states: &[Vec<u8>]) -> impl Fn(u64, usize) -> io::Result<Vec<u8>> + '_ {
        let count = Cell::new(0);
        move |at, length| {
            let state = &states[count.get().min(states.len() - 1)];
            count.set(count.get() + 1);
            let start = usize::try_from(at).expect("small");
            Ok(state[start..(start + length).min(state.len())].to_vec())
        }
    }

    #[test]
    fn a_record_that_takes_a_longer_ones_place_between_two_reads_is_read_whole() {
        let journal = |first: Vec<u8>| [first, vec![0; HALF_BYTES]].concat();
        let states = [journal(half(1, 2 * FIRST_BYTES)), journal(half(3, 7))];
        let current = Halves::read(Path::new("journal"), read(&states)).and_then(|halves| halves.current());
        let current = current.expect("a record");
        assert_eq!((current.sequence, current.record.stores), (3, vec!["s".repeat(7).into()]));
    }

    #[test]
    fn a_look_is_whole_unless_a_half_was_written_meanwhile() {
        let blank = vec![0; HALF_BYTES];
        let torn = half(2, 7)[..HEADER_BYTES].to_vec();
        let torn = [torn, vec![0; HALF_BYTES - HEADER_BYTES]].concat();
        let of = |first: &Vec<u8>, second: &Vec<u8>| [first.clone(), second.clone()].concat();
        let (one, two, three) = (half(1, 7), half(2, 7), half(3, 7));
        for (states, whole, sequence) in [
            (vec![of(&one, &two)], true, 2),
            (vec![of(&blank, &two)], true, 2),
            // The owner is writing, or died over it.
            (vec![of(&one, &torn)], false, 1),
            // The first half was read before the second was wiped.
            (vec![of(&one, &two), of(&three, &blank)], false, 1),
            // Twice written and wiped, or never.
            (vec![of(&blank, &two), of(&three, &blank), of(&blank, &two)], false, 0),
            (vec![of(&blank, &blank)], false, 0),
        ] {
            let read = read(&states);
            let halves = Halves::read(Path::new("journal"), &read).expect("read");
            assert_eq!((halves.is_whole(&read), halves.sequence()), (whole, sequence));
        }
    }
}
