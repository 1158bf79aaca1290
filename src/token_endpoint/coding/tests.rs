use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::fmt::Write as _;
use std::io::Write as _;

type Code = fn(&[u8]) -> Vec<u8>;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut coder = GzEncoder::new(Vec::new(), Compression::default());
    coder.write_all(plain).expect("coded");
    coder.finish().expect("coded")
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut coder = ZlibEncoder::new(Vec::new(), Compression::default());
    coder.write_all(plain).expect("coded");
    coder.finish().expect("coded")
}

fn raw(plain: &[u8]) -> Vec<u8> {
    let mut coder = DeflateEncoder::new(Vec::new(), Compression::default());
    coder.write_all(plain).expect("coded");
    coder.finish().expect("coded")
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    compress_to_vec(plain, CompressionLevel::Fastest)
}

/// As uncompressed metablocks (RFC 7932 §9.2): the coders that compress are in `__test__/`.
fn brotli(plain: &[u8]) -> Vec<u8> {
    // WBITS 16 is one bit 0; a metablock's header is ISLAST 0, MNIBBLES 0, MLEN-1 in 16 bits, ISUNCOMPRESSED 1.
    let mut coded = Vec::new();
    let mut shift = 1;
    for block in plain.chunks(1 << 16) {
        let length = u32::try_from(block.len() - 1).expect("short");
        let header = (length << 3 | 1 << 19) << shift;
        coded.extend_from_slice(&header.to_le_bytes()[..3]);
        coded.extend_from_slice(block);
        shift = 0;
    }
    coded.push(3);
    coded
}

/// What compresses badly, so that there is something on both sides of every cut.
fn text(bytes: usize) -> Vec<u8> {
    let mut text = String::from("{\"access_token\":\"");
    let mut state = 1_u32;
    while text.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let _ = write!(text, "{state:x}");
    }
    text.truncate(bytes);
    text.into_bytes()
}

fn decoded(codings: &str, coded: &[u8]) -> Result<(Vec<u8>, bool), Undecodable> {
    decode(codings, coded).map(|decoded| (decoded.body.to_vec(), decoded.is_whole))
}

const CODINGS: [(&str, Code); 6] =
    [("gzip", gzip), ("x-gzip", gzip), ("deflate", zlib), ("Deflate", raw), ("br", brotli), ("zstd", zstd)];

#[test]
fn every_coding_is_decoded() {
    for (coding, code) in CODINGS {
        for length in [1, 2, 4_000, 200_000, MAX_ANSWER_BYTES - 1, MAX_ANSWER_BYTES] {
            let plain = text(length);
            assert_eq!(decoded(coding, &code(&plain)), Ok((plain, true)), "{coding}, {length} bytes");
        }
    }
}

#[test]
fn codings_on_top_of_each_other_are_decoded_from_the_last_to_the_first() {
    let plain = text(4_000);
    let coded = zstd(&brotli(&gzip(&zlib(&plain))));
    assert_eq!(decoded("deflate,gzip , BR,, identity, zstd", &coded), Ok((plain.clone(), true)));
    assert_eq!(decoded("identity", &plain), Ok((plain.clone(), true)));
    assert_eq!(decoded("", &plain), Ok((plain, true)));
    assert_eq!(decoded("gzip,gzip,gzip,gzip,gzip", &coded), Err(Undecodable::Unknown));
    assert_eq!(decoded("compress", &coded), Err(Undecodable::Unknown));
}

#[test]
fn members_and_frames_one_after_the_other_are_one_body() {
    let (first, second) = (text(3_000), text(5_000));
    let both = [&first[..], &second].concat();
    let skipped = [0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 9, 9];
    assert_eq!(decoded("gzip", &[gzip(&first), gzip(&second)].concat()), Ok((both.clone(), true)));
    assert_eq!(decoded("gzip", &[gzip(&first), vec![0; 9]].concat()), Ok((first.clone(), true)));
    assert_eq!(decoded("zstd", &[zstd(&first), skipped.to_vec(), zstd(&second)].concat()), Ok((both, true)));
    for (coding, code) in [("gzip", gzip as Code), ("zstd", zstd)] {
        let parts = code(b"").repeat(MAX_PARTS + 1);
        assert_eq!(decoded(coding, &parts), Err(Undecodable::Unknown), "{coding}");
    }
}

#[test]
fn no_more_is_decoded_than_is_read_of_an_answer() {
    for (coding, code) in CODINGS {
        let (body, is_whole) = decoded(coding, &code(&vec![b' '; MAX_ANSWER_BYTES + 1])).expect("decoded");
        assert_eq!((body.len(), is_whole), (MAX_ANSWER_BYTES, false), "{coding}");
    }
    // Every level makes a thousand times as much of it.
    let bomb = gzip(&gzip(&gzip(&vec![0; 64 << 20])));
    let (body, is_whole) = decoded("gzip, gzip, gzip", &bomb).expect("decoded");
    assert_eq!((body.len(), is_whole), (MAX_ANSWER_BYTES, false));
}

#[test]
fn of_what_was_cut_off_is_decoded_what_can_be() {
    for (coding, code) in CODINGS {
        let plain = text(400_000);
        let coded = code(&plain);
        for cut in [0, 1, 5, coded.len() / 2, coded.len() - 1] {
            let (body, is_whole) = decoded(coding, &coded[..cut]).expect(coding);
            assert!(!is_whole && plain.starts_with(&body), "{coding} at {cut}");
            // Blocks of Zstandard have 128 KiB.
            assert!(body.len() + (160 << 10) > plain.len() * cut / coded.len(), "{coding} at {cut}");
        }
    }
}

#[test]
fn json_is_in_no_coding_whatever_is_said_of_it() {
    let plain = b" {\"access_token\":\"a\"}\n".to_vec();
    for coding in CODINGS.map(|(coding, _)| coding).into_iter().chain(["compress", "utf-8"]) {
        assert_eq!(decoded(coding, &plain), Ok((plain.clone(), true)), "{coding}");
    }
}

#[test]
fn what_the_reference_coder_of_zstandard_makes_is_decoded() {
    // By `zstd -19` 1.5, of 1,179 bytes.
    let coded = "KLUv/WSbA20HAKKOJxiAbQ5E0BgyHhyLJpoYcMnKLaXU5mAMrFRVZu+wGIV4YFScCcbkgRGBcQULSM7st1fmmNvue/Wr5/1387r57z\
        s38z09O6fsmj5trd2YMm3WbqtPmSq76zk1k9/f7qzb/ly/GTtT5ffbv9Yz/9d85t+d426Pu5cx5f4+ZeAChJQoAReOAkYhwidaw4JOYzwrWC/W\
        sBi4NBDxPNAwikUFUagRoNDc2Ng7kJOWNAcQECIoROJxAAB3UM/8Y3JIJUFwdNhHQPxvvDgQxvtVctskoc9Wz77lvp58+mf/4AKsMLwaYIJK\
        Lrbl1y+qAj8sI28=";
    let coded = STANDARD.decode(coded).expect("base64");
    let (body, is_whole) = decoded("zstd", &coded).expect("decoded");
    let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert!(is_whole && body.len() == 1_179 && value["refresh_token"] == "r1");
    assert_eq!(decoded("zstd", &coded[..coded.len() - 4]), Ok((body, false)), "without its checksum");
}

#[test]
fn what_is_damaged_or_in_no_such_coding_is_told() {
    let plain = text(4_000);
    for (coding, code) in CODINGS {
        assert_eq!(decoded(coding, b"garbage"), Err(Undecodable::Damaged), "{coding}");
        // Brotli, and deflate alone, have no checksum.
        if !matches!(coding, "br" | "Deflate") {
            let coded = code(&plain);
            // The last byte is the checksum's, or the length's.
            for at in [coded.len() / 2, coded.len() - 1] {
                let mut damaged = coded.clone();
                damaged[at] ^= 0x10;
                assert_eq!(decoded(coding, &damaged), Err(Undecodable::Damaged), "{coding} at {at}");
            }
        }
    }
}
