//! The container: a file's header, and frames with their checksums. What is in frames is
//! [`super::codec`]'s.

use super::{MAJOR, MINOR, ReadError};
use zstd::zstd_safe::{DCtx, ResetDirective};

/// Bytes of a file's header in this version. A later minor version may have more, which are skipped.
pub const HEADER: usize = 64;
/// Bytes of a frame's header.
pub const FRAME: usize = 40;
/// Stored bytes of a frame at most.
pub const STORED_MAX: usize = 16 << 20;
/// The first bytes: not text, its name, and line ends that a transfer as text would change.
const MAGIC: [u8; 8] = [0x8b, b'K', b'V', b'M', b'S', b'\r', b'\n', 0x1a];
/// The first bytes of a frame.
pub const SYNC: [u8; 4] = [0xc5, b'F', b'R', b'M'];
/// A file's header may be so long at most, whatever it says.
const HEADER_MAX: usize = 4096;
/// Payload is compressed from this length on.
const WORTHWHILE: usize = 256;
/// Level of compression: beyond it time grows and size hardly falls.
const LEVEL: i32 = 3;
/// Windows of compressed payload are 2 to this at most, so that reading takes no more memory.
const WINDOW_LOG: u32 = 22;
/// Bit 0 of a frame's flags: the payload is compressed.
const ZSTD: u8 = 1;
/// Bit 1: its first part is, which has its length (4 bytes) before it; the rest is dense as it is.
const PART: u8 = 2;

/// What a frame is. Numbers are never used again; 4 and 6 were kept free for events and VMs, which are in
/// ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The session.
    Meta = 1,
    /// The whole state.
    Key = 2,
    /// An interval.
    Tick = 3,
    /// Ticks that were not written.
    Lost = 5,
    /// A moment by both clocks.
    Clock = 7,
    /// A note.
    Mark = 8,
    /// Where is what.
    Index = 9,
    /// Where the index is; last.
    Trailer = 10,
}

impl Kind {
    /// From its number; `None`: a later version has it.
    pub fn from_number(number: u8) -> Option<Self> {
        use Kind::{Clock, Index, Key, Lost, Mark, Meta, Tick, Trailer};
        [Meta, Key, Tick, Lost, Clock, Mark, Index, Trailer]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    /// The version of its payload that is written, and read.
    pub const fn version(self) -> u8 {
        // That of ticks speaks of what history keeps as well: with another format there, it is another one here.
        const _: () = assert!(crate::model::codec::VERSION == 4);
        1
    }

    /// Bytes of its payload at most, before compression: what reading one may take is bounded by it.
    pub const fn raw_max(self) -> usize {
        match self {
            Self::Key => 32 << 20,
            Self::Tick | Self::Index => 16 << 20,
            Self::Meta => 4 << 20,
            Self::Lost | Self::Clock | Self::Mark | Self::Trailer => 64 << 10,
        }
    }
}

/// What stands at the beginning of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Of all files of one recording; checksums of frames begin with it.
    pub id: [u8; 16],
    /// Which of its files, from 0.
    pub number: u32,
}

impl FileHeader {
    /// Its bytes.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&MAJOR.to_le_bytes());
        out[10..12].copy_from_slice(&MINOR.to_le_bytes());
        out[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
        out[16..32].copy_from_slice(&self.id);
        let program = env!("CARGO_PKG_VERSION").bytes();
        out[32..48].iter_mut().zip(program).for_each(|(to, byte)| *to = byte);
        out[48..52].copy_from_slice(&self.number.to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads it from the first [`HEADER`] bytes of a file. Answers how long it is.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), ReadError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(ReadError::Foreign("it begins otherwise"));
        }
        let Some(bytes) = bytes.first_chunk::<HEADER>() else {
            return Err(ReadError::Foreign("it ends within its header"));
        };
        if crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(ReadError::Foreign("its header is damaged"));
        }
        let (major, minor) = (u16_at(bytes, 8), u16_at(bytes, 10));
        if major != MAJOR {
            let program = bytes[32..48].iter().take_while(|byte| byte.is_ascii_graphic());
            let program = program.map(|&byte| char::from(byte)).collect();
            return Err(ReadError::Version { major, minor, program });
        }
        let length = u32_at(bytes, 12) as usize;
        if !(HEADER..=HEADER_MAX).contains(&length) {
            return Err(ReadError::Foreign("its header has an impossible length"));
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        Ok((Self { id, number: u32_at(bytes, 48) }, length))
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the kind: one may be unknown.
    pub kind: u8,
    /// Version of the payload.
    pub version: u8,
    flags: u8,
    /// Bytes that follow.
    pub stored: u32,
    raw: u32,
    /// Number of the frame in its file, from 0.
    pub seq: u64,
    /// The moment it is about, ns of the probes' clock: an interval's end.
    pub t_ns: u64,
    payload_crc: u32,
}

impl Head {
    fn bytes(&self, id: &[u8; 16]) -> [u8; FRAME] {
        let mut out = [0; FRAME];
        out[..4].copy_from_slice(&SYNC);
        out[4..8].copy_from_slice(&[self.kind, self.version, self.flags, 0]);
        out[8..12].copy_from_slice(&self.stored.to_le_bytes());
        out[12..16].copy_from_slice(&self.raw.to_le_bytes());
        out[16..24].copy_from_slice(&self.seq.to_le_bytes());
        out[24..32].copy_from_slice(&self.t_ns.to_le_bytes());
        out[32..36].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = head_crc(id, &out);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads one; `None` where there is none of this recording.
    pub fn parse(bytes: &[u8], id: &[u8; 16]) -> Option<Self> {
        let bytes = bytes.first_chunk::<FRAME>()?;
        if bytes[..4] != SYNC || head_crc(id, bytes) != u32_at(bytes, 36) {
            return None;
        }
        let head = Self {
            kind: bytes[4],
            version: bytes[5],
            flags: bytes[6],
            stored: u32_at(bytes, 8),
            raw: u32_at(bytes, 12),
            seq: u64_at(bytes, 16),
            t_ns: u64_at(bytes, 24),
            payload_crc: u32_at(bytes, 32),
        };
        (head.stored as usize <= STORED_MAX).then_some(head)
    }

    /// A header of so many bytes that nobody will read.
    #[cfg(test)]
    pub fn of_nothing(kind: Kind, seq: u64, t_ns: u64, stored: u32, id: &[u8; 16]) -> [u8; FRAME] {
        let (kind, version, flags) = (kind as u8, kind.version(), 0);
        let head = Self { kind, version, flags, stored, raw: stored, seq, t_ns, payload_crc: 0 };
        head.bytes(id)
    }

    /// Its kind, where it is known.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    /// Bytes from its beginning to the next frame.
    #[cfg(test)]
    pub fn length(&self) -> u64 {
        FRAME as u64 + u64::from(self.stored)
    }

    /// What was stored, as it was before; `None` when it is damaged. Takes memory as it goes, never
    /// what the header claims. For many frames see [`Opener`].
    pub fn open(&self, stored: &[u8]) -> Option<Vec<u8>> {
        Opener::default().open(self, stored)
    }
}

/// Opens frames one after the other.
///
/// Its context is made with the first and kept: making one asks the processor what it can do, which in a VM is an
/// exit for each question.
#[derive(Default)]
pub struct Opener {
    zstd: Option<DCtx<'static>>,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl Opener {
    /// See [`Head::open`].
    pub fn open(&mut self, head: &Head, stored: &[u8]) -> Option<Vec<u8>> {
        let most = head.kind()?.raw_max();
        if crc32fast::hash(stored) != head.payload_crc || head.raw as usize > most {
            return None;
        }
        let expected = u64::from(head.raw);
        let raw = match head.flags {
            0 => stored.to_vec(),
            ZSTD => self.inflate(stored, expected)?,
            PART => {
                let (length, stored) = stored.split_first_chunk()?;
                let length = u32::from_le_bytes(*length) as usize;
                let (packed, rest) = stored.split_at_checked(length)?;
                let mut raw = self.inflate(packed, expected)?;
                raw.extend_from_slice(rest);
                raw
            }
            _ => return None,
        };
        (raw.len() as u64 == expected).then_some(raw)
    }

    /// At most a byte more than `expected`, by which too much is known.
    fn inflate(&mut self, stored: &[u8], expected: u64) -> Option<Vec<u8>> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(DCtx::try_create()?),
        };
        // A damaged frame may have left it in the middle.
        zstd.reset(ResetDirective::SessionAndParameters).ok()?;
        let mut decoder = zstd::stream::read::Decoder::with_context(stored, zstd);
        decoder.window_log_max(WINDOW_LOG).ok()?;
        let mut raw = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(decoder, expected + 1), &mut raw)
            .ok()?;
        Some(raw)
    }
}

/// Makes frames.
pub struct Framer {
    id: [u8; 16],
    seq: u64,
    zstd: zstd::bulk::Compressor<'static>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Framer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framer").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl Framer {
    /// For a file of a recording.
    pub fn new(id: [u8; 16]) -> std::io::Result<Self> {
        let zstd = zstd::bulk::Compressor::new(LEVEL)?;
        Ok(Self { id, seq: 0, zstd, out: Vec::new() })
    }

    /// How many were made.
    #[cfg(test)]
    pub fn made(&self) -> u64 {
        self.seq
    }

    /// A frame whose payload is one part.
    #[cfg(test)]
    pub fn frame(&mut self, kind: Kind, t_ns: u64, raw: &[u8]) -> Option<&[u8]> {
        self.frame_of(kind, t_ns, raw, &[])
    }

    /// A frame's bytes, header and payload in one piece; `None` when the payload is larger than what readers
    /// take. A second part of the payload is dense already, and would spoil the compression of the first.
    pub fn frame_of(&mut self, kind: Kind, t_ns: u64, raw: &[u8], dense: &[u8]) -> Option<&[u8]> {
        let length = raw.len() + dense.len();
        if length > kind.raw_max() {
            return None;
        }
        self.out.clear();
        self.out.resize(FRAME, 0);
        // The trailer is found by its length.
        let worthwhile = raw.len() >= WORTHWHILE && kind != Kind::Trailer;
        let packed = if worthwhile { self.zstd.compress(raw).ok() } else { None };
        let packed = packed.filter(|packed| packed.len() + 4 < raw.len());
        let flags = match &packed {
            None => 0,
            Some(_) if dense.is_empty() => ZSTD,
            Some(packed) => {
                self.out.extend_from_slice(&(packed.len() as u32).to_le_bytes());
                PART
            }
        };
        self.out.extend_from_slice(packed.as_deref().unwrap_or(raw));
        self.out.extend_from_slice(dense);
        let (to, stored) = self.out.split_at_mut(FRAME);
        if stored.len() > STORED_MAX {
            return None;
        }
        let head = Head {
            kind: kind as u8,
            version: kind.version(),
            flags,
            stored: stored.len() as u32,
            raw: length as u32,
            seq: self.seq,
            t_ns,
            payload_crc: crc32fast::hash(stored),
        };
        to.copy_from_slice(&head.bytes(&self.id));
        self.seq += 1;
        Some(&self.out)
    }
}

/// The recording's id is in it, so that bytes in a payload (a VM's name may be anything) are never taken for
/// a frame.
fn head_crc(id: &[u8; 16], head: &[u8; FRAME]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(id);
    crc.update(&head[..36]);
    crc.finalize()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes.iter().skip(at)).for_each(|(to, byte)| *to = *byte);
    out
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [7; 16];

    fn framed(raw: &[u8]) -> Vec<u8> {
        Framer::new(ID).expect("made").frame(Kind::Mark, 5, raw).expect("small").to_vec()
    }

    #[test]
    fn a_header_is_what_was_written() {
        let header = FileHeader { id: ID, number: 3 };
        let (read, length) = FileHeader::parse(&header.bytes()).expect("read");
        assert_eq!((read, length), (header, HEADER));
    }

    #[test]
    fn another_version_is_refused_and_named() {
        let mut bytes = FileHeader { id: ID, number: 0 }.bytes();
        bytes[8] = 2;
        let damaged = FileHeader::parse(&bytes).expect_err("damaged");
        assert!(damaged.to_string().contains("damaged"), "{damaged}");
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        let refused = FileHeader::parse(&bytes).expect_err("another version").to_string();
        let written = env!("CARGO_PKG_VERSION");
        assert!(refused.contains("version 2.0 of the format"), "{refused}");
        assert!(refused.contains(&format!("kvmscope {written}")), "{refused}");
    }

    #[test]
    fn what_is_long_is_compressed_and_what_is_random_is_not() {
        let zeros = vec![0; 10_000];
        let mut x = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .take(10_000)
        .collect();
        for (raw, shorter) in [(zeros, true), (noise, false), (b"short".to_vec(), false)] {
            let frame = framed(&raw);
            let head = Head::parse(&frame, &ID).expect("a frame");
            assert_eq!(frame.len() < raw.len(), shorter);
            assert_eq!(head.length(), frame.len() as u64);
            assert_eq!(head.open(&frame[FRAME..]).as_deref(), Some(&raw[..]));
        }
    }

    #[test]
    fn what_is_dense_already_stays_as_it_is() {
        let (raw, dense) = (vec![7; 5_000], b"dense".to_vec());
        let whole = [&raw[..], &dense].concat();
        for raw in [&raw[..], b"short"] {
            let mut framer = Framer::new(ID).expect("made");
            let frame = framer.frame_of(Kind::Tick, 5, raw, &dense).expect("small").to_vec();
            let head = Head::parse(&frame, &ID).expect("a frame");
            assert!(frame.ends_with(&dense) && frame.len() < FRAME + 100, "{}", frame.len());
            let whole = [raw, &dense].concat();
            assert_eq!(head.open(&frame[FRAME..]), Some(whole));
            let less = Head { raw: head.raw - 1, ..head };
            assert_eq!(less.open(&frame[FRAME..]), None);
        }
        // A part that claims to be longer than all of it.
        let mut framer = Framer::new(ID).expect("made");
        let frame = framer.frame_of(Kind::Tick, 5, &raw, &dense).expect("small").to_vec();
        let mut stored = frame[FRAME..].to_vec();
        stored[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let head = Head {
            payload_crc: crc32fast::hash(&stored),
            ..Head::parse(&frame, &ID).expect("a frame")
        };
        assert_eq!(head.open(&stored), None);
        assert_eq!(whole.len(), head.raw as usize);
    }

    #[test]
    fn too_much_is_no_frame() {
        let mut framer = Framer::new(ID).expect("made");
        assert!(framer.frame(Kind::Mark, 0, &vec![0; (64 << 10) + 1]).is_none());
        assert_eq!(framer.made(), 0);
    }

    #[test]
    fn a_frame_of_another_recording_is_none() {
        let frame = framed(b"text");
        assert!(Head::parse(&frame, &[8; 16]).is_none());
    }

    #[test]
    fn what_inflates_to_more_than_it_says_is_damaged() {
        let frame = framed(&vec![0; 60_000]);
        let head = Head::parse(&frame, &ID).expect("a frame");
        let less = Head { raw: 50_000, ..head };
        assert_eq!(less.open(&frame[FRAME..]), None);
        let more = Head { raw: 60_001, ..head };
        assert_eq!(more.open(&frame[FRAME..]), None);
    }
}
