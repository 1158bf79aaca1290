//! A slot of a journal, in bytes.
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

use super::record::Record;
use super::unusable;
use crate::digest::Digest;
use crate::error::{Code, Error, Result};
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// The format this code writes. A newer one is refused, not guessed.
const VERSION: u32 = 1;
/// Bytes of one slot.
pub const SLOT_BYTES: usize = 128 << 10;
const MAGIC: &[u8; 4] = b"ORLJ";
pub(super) const HEADER_BYTES: usize = 4 + 4 + 8 + 4 + 32;
/// So much of a slot is read at first: most records are no longer.
const FIRST_BYTES: usize = 4 << 10;

/// Which slot a sequence number is written to.
pub(super) fn index(sequence: u64) -> usize {
    usize::from(sequence % 2 == 1)
}

/// Where a slot starts.
pub(super) fn start(slot: usize) -> u64 {
    (slot * SLOT_BYTES) as u64
}

/// The slot that counts.
pub(super) struct Current {
    /// 0 if nothing is written yet.
    pub(super) sequence: u64,
    pub(super) record: Record,
    /// How many bytes of each slot may be set.
    pub(super) used: [usize; 2],
}

/// Reads both slots of the journal at `path`.
pub(super) fn current(path: &Path, read: impl Fn(u64, usize) -> io::Result<Vec<u8>>) -> Result<Current> {
    let look = |at: usize| -> io::Result<(SlotContent, usize)> {
        let first = Zeroizing::new(read(start(at), FIRST_BYTES)?);
        let length = length(&first);
        // A record that is cut off at the file's end is told by its checksum.
        let bytes = if length > FIRST_BYTES { Zeroizing::new(read(start(at), length)?) } else { first };
        let slot = decode(&bytes);
        let used = match &slot {
            SlotContent::Record(..) => length,
            SlotContent::Nothing if bytes.iter().take(HEADER_BYTES).all(|byte| *byte == 0) => 0,
            SlotContent::Nothing | SlotContent::Newer(_) => SLOT_BYTES,
        };
        Ok((slot, used))
    };
    let look = |at| look(at).map_err(|error| unusable(path, &error));
    let ((first, of_first), (second, of_second)) = (look(0)?, look(1)?);
    let (sequence, record) = latest(first, second, path)?;
    Ok(Current { sequence, record, used: [of_first, of_second] })
}

/// How long a slot's record says it is, with its header.
fn length(slot: &[u8]) -> usize {
    let length = slot.get(16..20).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
    (HEADER_BYTES + length as usize).min(SLOT_BYTES)
}

/// The bytes of a slot; `None` if the record does not fit.
pub(super) fn encode(sequence: u64, record: &Record) -> Option<Zeroizing<Vec<u8>>> {
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
fn latest(first: SlotContent, second: SlotContent, path: &Path) -> Result<(u64, Record)> {
    match (first, second) {
        (SlotContent::Newer(version), _) | (_, SlotContent::Newer(version)) => {
            let message = format_args!(
                "this release can't read the journal's record (format {version}; it knows {VERSION}): another release wrote it; use the newest release in every process"
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
