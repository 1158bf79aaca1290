//! Content codings (RFC 9110 §8.4): a server may code an answer although we don't ask for it.
//!
//! Both sides are bounded: a body has at most [`MAX_ANSWER_BYTES`] when it comes here, and as many when it leaves. Of a body
//! that was cut off, what can be decoded is.

use super::answer::MAX_ANSWER_BYTES;
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use serde::de::IgnoredAny;
use std::error::Error;
use std::io::{self, Read};
use zeroize::Zeroizing;

/// Codings on top of each other: no server needs more.
const MAX_CODINGS: usize = 4;
/// Gzip members or Zstandard frames one after the other: each costs a decoder.
const MAX_PARTS: usize = 64;
/// Larger windows are not for HTTP (RFC 9659 §3).
const MAX_ZSTD_WINDOW: u64 = 8 << 20;
/// So much is decoded at a time.
const CHUNK_BYTES: usize = 8 << 10;
/// An empty raw block of Zstandard, the last of its frame, and room for a checksum (RFC 8878 §3.1.1).
const ZSTD_END: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
/// Compression method "deflate" (RFC 1950 §2.2).
const ZLIB_DEFLATE: u8 = 8;

/// The body can't be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// A coding that is not known here, or too many of them.
    Unknown,
    /// It is not in the coding that it is said to be in, or damaged.
    Damaged,
}

/// A decoded body. No `Debug`: it holds tokens.
pub(super) struct Decoded {
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Whether that is all of it.
    pub(super) is_whole: bool,
}

/// Decodes a body from the codings that `Content-Encoding` lists, the outermost last.
pub(super) fn decode(codings: &str, coded: &[u8]) -> Result<Decoded, Undecodable> {
    let mut decoded = Decoded { body: Zeroizing::new(coded.to_vec()), is_whole: true };
    // A gateway that has decoded the body may have left the header as it was.
    if coded.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(coded).is_ok() {
        return Ok(decoded);
    }
    let listed = codings.split(',').map(|coding| coding.trim().to_ascii_lowercase());
    let listed: Vec<_> = listed.filter(|coding| !matches!(coding.as_str(), "" | "identity")).collect();
    if listed.len() > MAX_CODINGS {
        return Err(Undecodable::Unknown);
    }
    for coding in listed.iter().rev() {
        let decode = match coding.as_str() {
            "gzip" | "x-gzip" => gunzip,
            "deflate" => inflate,
            "br" => unbrotli,
            "zstd" => unzstd,
            _ => return Err(Undecodable::Unknown),
        };
        let mut out = Out(Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES)));
        let end = decode(&decoded.body, &mut out);
        decoded = Decoded { body: out.0, is_whole: decoded.is_whole && end? == End::Whole };
    }
    Ok(decoded)
}

/// How a coded body ended.
#[derive(PartialEq, Eq)]
enum End {
    Whole,
    /// It was cut off, or there is more than is read.
    Early,
}

/// What was decoded; its room is all there from the beginning, so that no copy is left behind by growing.
struct Out(Zeroizing<Vec<u8>>);

impl Out {
    /// Takes as much as there is room for. Whether that was all of it.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let room = MAX_ANSWER_BYTES - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        bytes.len() <= room
    }
}

fn chunk() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![0; CHUNK_BYTES])
}

/// Gzip (RFC 1952): one member, or several. Bytes after them are ignored.
fn gunzip(mut coded: &[u8], out: &mut Out) -> Result<End, Undecodable> {
    let mut chunk = chunk();
    if !coded.iter().zip(&GZIP_MAGIC).all(|(byte, magic)| byte == magic) {
        return Err(Undecodable::Damaged);
    }
    for _ in 0..MAX_PARTS {
        let mut decoder = GzDecoder::new(coded);
        loop {
            match decoder.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) if out.take(&chunk[..length]) => {}
                Ok(_) => return Ok(End::Early),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(End::Early),
                Err(_) => return Err(Undecodable::Damaged),
            }
        }
        coded = decoder.into_inner();
        if !coded.starts_with(&GZIP_MAGIC) {
            return Ok(End::Whole);
        }
    }
    Err(Undecodable::Unknown)
}

/// Zlib (RFC 1950), which is what `deflate` means, or deflate alone (RFC 1951), which is what some servers send.
fn inflate(coded: &[u8], out: &mut Out) -> Result<End, Undecodable> {
    let is_zlib = match *coded {
        [method, flags, ..] => method & 0x0F == ZLIB_DEFLATE && u16::from_be_bytes([method, flags]) % 31 == 0,
        _ => return Ok(End::Early),
    };
    let mut decoder = Decompress::new(is_zlib);
    let mut chunk = chunk();
    let mut rest = coded;
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(rest, &mut chunk, FlushDecompress::None).map_err(|_| Undecodable::Damaged)?;
        let since = |now: u64, before: u64| usize::try_from(now - before).map_err(|_| Undecodable::Damaged);
        let (read, written) = (since(decoder.total_in(), read)?, since(decoder.total_out(), written)?);
        rest = rest.get(read..).unwrap_or_default();
        if !out.take(&chunk[..written]) {
            return Ok(End::Early);
        }
        match status {
            Status::StreamEnd => return Ok(End::Whole),
            _ if read == 0 && written == 0 => return Ok(End::Early),
            _ => {}
        }
    }
}

/// Brotli (RFC 7932), without the large windows, which are not part of it.
fn unbrotli(coded: &[u8], out: &mut Out) -> Result<End, Undecodable> {
    let alloc = StandardAlloc::default;
    let mut decoder = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut chunk = chunk();
    let (mut left, mut read, mut total) = (coded.len(), 0, 0);
    loop {
        let (mut room, mut written) = (chunk.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            coded,
            &mut room,
            &mut written,
            &mut chunk,
            &mut total,
            &mut decoder,
        );
        if !out.take(&chunk[..written]) {
            return Ok(End::Early);
        }
        match result {
            BrotliResult::ResultSuccess => return Ok(End::Whole),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Ok(End::Early),
            BrotliResult::ResultFailure => return Err(Undecodable::Damaged),
        }
    }
}

/// Zstandard (RFC 8878): one frame, or several, and what is to be skipped between them.
fn unzstd(mut coded: &[u8], out: &mut Out) -> Result<End, Undecodable> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_ZSTD_WINDOW);
    for _ in 0..MAX_PARTS {
        match decoder.reset(&mut coded) {
            Ok(()) => {
                if unzstd_frame(&mut decoder, &mut coded, out)? == End::Early {
                    return Ok(End::Early);
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                coded = coded.get(length..).unwrap_or_default();
            }
            Err(error) if is_end(&error) => return Ok(End::Early),
            Err(_) => return Err(Undecodable::Damaged),
        }
        if coded.is_empty() {
            return Ok(End::Whole);
        }
    }
    Err(Undecodable::Unknown)
}

fn unzstd_frame(decoder: &mut FrameDecoder, coded: &mut &[u8], out: &mut Out) -> Result<End, Undecodable> {
    let mut end = End::Whole;
    while !decoder.is_finished() {
        match decoder.decode_blocks(&mut *coded, BlockDecodingStrategy::UptoBlocks(1)) {
            Ok(_) => {}
            Err(error) if is_end(&error) => {
                // It keeps what it may have to repeat until its frame ends, so the frame is ended for it.
                end = End::Early;
                decoder.decode_blocks(&ZSTD_END[..], BlockDecodingStrategy::All).map_err(|_| Undecodable::Damaged)?;
            }
            Err(_) => return Err(Undecodable::Damaged),
        }
        let plain = Zeroizing::new(decoder.collect().unwrap_or_default());
        if !out.take(&plain) {
            return Ok(End::Early);
        }
    }
    let is_damaged = decoder.get_checksum_from_data().is_some_and(|sum| Some(sum) != decoder.get_calculated_checksum());
    if is_damaged && end == End::Whole { Err(Undecodable::Damaged) } else { Ok(end) }
}

/// Whether a decoder has failed because its input ended.
fn is_end(error: &FrameDecoderError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
