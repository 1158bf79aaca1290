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

/// Reads both halves of the journal at `path`.
pub(super) fn current(path: &Path, read: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> Result<Current> {
    let look = |at: usize| -> io::Result<(HalfContent, usize)> {
        let first = Zeroizing::new(read(start(at), FIRST_BYTES)?);
        let length = length(&first);
        // A record that is cut off at the file's end is told by its checksum.
        let bytes = if length > FIRST_BYTES { Zeroizing::new(read(start(at), length)?) } else { first };
        let half = decode(&bytes);
        let used = match &half {
            HalfContent::Record(..) => length,
            HalfContent::Nothing if bytes.iter().take(HEADER_BYTES).all(|byte| *byte == 0) => 0,
            HalfContent::Nothing | HalfContent::Newer(_) => HALF_BYTES,
        };
        Ok((half, used))
    };
    let look = |at| look(at).map_err(|error| unusable(path, &error));
    let ((first, of_first), (second, of_second)) = (look(0)?, look(1)?);
    let (sequence, record) = latest(first, second, path)?;
    Ok(Current { sequence, record, used: [of_first, of_second] })
}

/// How long a half's record says it is, with its header.
fn length(half: &[u8]) -> usize {
    let length = half.get(16..20).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
    (HEADER_BYTES + length as usize).min(HALF_BYTES)
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
enum HalfContent {
    /// Never written, cut off, or damaged: nothing to go by.
    Nothing,
    Record(u64, Box<Record>),
    /// Written by a newer release, in this format.
    Newer(u32),
}

/// Sequence number and record that count.
fn latest(first: HalfContent, second: HalfContent, path: &Path) -> Result<(u64, Record)> {
    match (first, second) {
        (HalfContent::Newer(version), _) | (_, HalfContent::Newer(version)) => {
            let message = format_args!(
                "this release can't read the journal's record (format {version}; it knows {VERSION}): another release wrote it; use the newest release in every process"
            );
            Err(Error::at(Code::JournalVersion, path, message))
        }
        (HalfContent::Record(one, _), HalfContent::Record(two, record)) if one < two => Ok((two, *record)),
        (HalfContent::Record(sequence, record), _) | (HalfContent::Nothing, HalfContent::Record(sequence, record)) => {
            Ok((sequence, *record))
        }
        (HalfContent::Nothing, HalfContent::Nothing) => Ok((0, Record::default())),
    }
}

fn decode(half: &[u8]) -> HalfContent {
    let Some((header, rest)) = half.split_at_checked(HEADER_BYTES) else { return HalfContent::Nothing };
    let word = |at: usize| header[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    if &header[..4] != MAGIC {
        return HalfContent::Nothing;
    }
    if word(4) > VERSION {
        return HalfContent::Newer(word(4));
    }
    let sequence = header[8..16].try_into().map_or(0, u64::from_le_bytes);
    let Some(text) = rest.get(..word(16) as usize) else { return HalfContent::Nothing };
    if checksum(sequence, text).as_bytes() != &header[20..] {
        return HalfContent::Nothing;
    }
    // Whole, but not of our making: of another release, and not to be guessed at.
    serde_json::from_slice(text)
        .map_or(HalfContent::Newer(word(4)), |record| HalfContent::Record(sequence, Box::new(record)))
}
