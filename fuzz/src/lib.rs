//! What is tried with bytes that may be a recording. Panics and endless memory are what is looked for.

use kvmscope::export::{Content, json};
use kvmscope::record::{Item, Stream, Sums};

/// Bytes of a file's header, and of a frame's.
const HEADER: usize = 64;
const FRAME: usize = 40;

/// Reads bytes as they are, and again with checksums that are right, so that what is behind them is reached.
pub fn try_to_read(bytes: &[u8]) {
    read(bytes);
    read(&mended(bytes));
}

/// Everything that a report does with a recording.
fn read(bytes: &[u8]) {
    let Ok(mut stream) = Stream::new(bytes) else { return };
    let mut sums = Sums::new(0, u64::MAX);
    // Each step takes a frame or bytes away, and hands out a gap and a key at most beside what is in it.
    for _ in 0..=bytes.len() {
        match stream.next() {
            Ok(Item::End(_)) | Err(_) => break,
            Ok(item) => sums.add(item),
        }
    }
    let session = sums.session_of_range();
    let content = Content::new(&session, &sums.totals, sums.duration_ns());
    assert!(json::report(&content).is_ok());
}

/// The same bytes with every checksum mended, of the header and of frames as far as they follow one another, and
/// with lengths that fit.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < HEADER {
        return bytes;
    }
    put(&mut bytes, 12, HEADER as u32);
    let crc = crc32fast::hash(&bytes[..60]);
    put(&mut bytes, 60, crc);
    let id: [u8; 16] = std::array::from_fn(|n| bytes[16 + n]);
    let mut at = HEADER;
    while bytes.len() - at >= FRAME {
        bytes[at..at + 4].copy_from_slice(b"\xc5FRM");
        let room = (bytes.len() - at - FRAME) as u32;
        let stored =
            u32::from_le_bytes([bytes[at + 8], bytes[at + 9], bytes[at + 10], bytes[at + 11]]);
        let stored = stored.min(room);
        put(&mut bytes, at + 8, stored);
        if bytes[at + 6] == 0 {
            put(&mut bytes, at + 12, stored);
        }
        let next = at + FRAME + stored as usize;
        let payload = crc32fast::hash(&bytes[at + FRAME..next]);
        put(&mut bytes, at + 32, payload);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&id);
        crc.update(&bytes[at..at + 36]);
        let crc = crc.finalize();
        put(&mut bytes, at + 36, crc);
        at = next;
    }
    bytes
}

/// The same recording without compression, so that a changed byte changes what is in a payload.
pub fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut plain = bytes[..HEADER].to_vec();
    let mut at = HEADER;
    while bytes.len() - at >= FRAME {
        let stored =
            u32::from_le_bytes([bytes[at + 8], bytes[at + 9], bytes[at + 10], bytes[at + 11]]);
        let (head, rest) = bytes[at..].split_at(FRAME);
        let payload = &rest[..stored as usize];
        let inflated = |packed| zstd::stream::decode_all(packed).expect("the seed is whole");
        let raw = match head[6] {
            0 => payload.to_vec(),
            1 => inflated(payload),
            // The first part, which has its length before it.
            _ => {
                let (length, payload) = payload.split_first_chunk().expect("the seed is whole");
                let (packed, dense) = payload.split_at(u32::from_le_bytes(*length) as usize);
                [inflated(packed), dense.to_vec()].concat()
            }
        };
        let begin = plain.len();
        plain.extend_from_slice(head);
        plain[begin + 6] = 0;
        put(&mut plain, begin + 8, raw.len() as u32);
        put(&mut plain, begin + 12, raw.len() as u32);
        plain.extend_from_slice(&raw);
        at += FRAME + stored as usize;
    }
    mended(&plain)
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}
