//! Frames out of bytes that come in order: what is whole, what is damaged, and where it is cut off.

use crate::record::frame::{FRAME, FileHeader, HEADER, Head, Opener, SYNC};
use crate::record::{ReadError, frame};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Something that is read forwards.
pub trait Source: Read {
    /// Goes on by so many bytes without reading them; answers by how many fewer where it ends before.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>;
}

/// A pipe, or anything else.
#[derive(Debug)]
pub struct Pipe<R>(pub R);

impl<R: Read> Read for Pipe<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> Source for Pipe<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())
    }
}

/// A file, from a place on. Not mapped: a file that is cut off meanwhile must not end the program.
#[derive(Debug)]
pub struct At<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> At<'a> {
    /// From a place on.
    pub fn new(file: &'a File, at: u64) -> Self {
        Self { file, at }
    }
}

impl Read for At<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Source for At<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let left = self.file.metadata()?.len().saturating_sub(self.at);
        let skipped = bytes.min(left);
        self.at += skipped;
        Ok(skipped)
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame begins; [`Frames::payload`] or [`Frames::pass`] is next.
    Frame(Head),
    /// So many bytes are not of any frame.
    Damaged(u64),
    /// So many frames are not there, though nothing is damaged.
    Missing(u64),
    /// There is nothing more; `true`: it ends within a frame.
    End(bool),
}

/// What a frame has in it.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload {
    /// All of it, as it was.
    Whole(Vec<u8>),
    /// It is not as it was.
    Damaged,
    /// The file ends in it.
    Cut,
}

/// A file's frames.
#[derive(Debug)]
pub struct Frames<S> {
    from: S,
    id: [u8; 16],
    opener: Opener,
    /// What was read and not used yet, from `used` on.
    buffer: Vec<u8>,
    used: usize,
    /// Where in the file `used` is.
    at: u64,
    /// Read at least so many bytes at once.
    ahead: usize,
    /// The least number that the next frame may have.
    next: u64,
    /// Whether it has that one where nothing is missing.
    counts: bool,
}

impl<'a> Frames<At<'a>> {
    /// Of a file, from a frame on that is known to begin there.
    pub fn of_file(file: &'a File, id: [u8; 16], at: u64, ahead: usize) -> Self {
        Self {
            from: At::new(file, at),
            id,
            opener: Opener::default(),
            buffer: Vec::new(),
            used: 0,
            at,
            ahead,
            next: 0,
            counts: false,
        }
    }
}

/// Reads the header. Answers with it and where the first frame begins.
pub fn header<S: Source>(from: &mut S) -> Result<(FileHeader, u64), ReadError> {
    let mut bytes = Vec::new();
    from.by_ref().take(HEADER as u64).read_to_end(&mut bytes)?;
    let (header, length) = FileHeader::parse(&bytes)?;
    from.skip((length - HEADER) as u64)?;
    Ok((header, length as u64))
}

impl<S: Source> Frames<S> {
    /// Reads the header, then frames.
    pub fn new(mut from: S, ahead: usize) -> Result<Self, ReadError> {
        let (FileHeader { id, .. }, at) = header(&mut from)?;
        let opener = Opener::default();
        Ok(Self { from, id, opener, buffer: Vec::new(), used: 0, at, ahead, next: 0, counts: true })
    }

    /// Where in the file the next byte is.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What comes next: looks for a frame from here on.
    pub fn step(&mut self) -> io::Result<Step> {
        let mut passed = 0;
        loop {
            let (id, next, counts) = (self.id, self.next, self.counts);
            let bytes = self.peek(FRAME)?;
            if bytes.len() < FRAME {
                return Ok(match (passed, bytes.len()) {
                    (0, left) => Step::End(left > 0),
                    // What is left is damaged as well.
                    (passed, left) => {
                        self.advance(left);
                        Step::Damaged(passed + left as u64)
                    }
                });
            }
            if let Some(head) = Head::parse(bytes, &id).filter(|head| head.seq >= next) {
                let missing = head.seq - next;
                (self.next, self.counts) = (head.seq, true);
                if passed > 0 {
                    return Ok(Step::Damaged(passed));
                }
                if counts && missing > 0 {
                    return Ok(Step::Missing(missing));
                }
                self.next = head.seq.saturating_add(1);
                self.advance(FRAME);
                return Ok(Step::Frame(head));
            }
            let wrong = to_sync(bytes);
            passed += wrong as u64;
            self.advance(wrong);
        }
    }

    /// Reads the payload of the frame that [`Self::step`] found.
    pub fn payload(&mut self, head: &Head) -> io::Result<Payload> {
        // Checked against the bound when the head was read.
        let length = head.stored as usize;
        if self.peek(length)?.len() < length {
            return Ok(Payload::Cut);
        }
        let stored = self.buffer.get(self.used..self.used + length);
        let opened = stored.and_then(|stored| self.opener.open(head, stored));
        self.advance(length);
        Ok(opened.map_or(Payload::Damaged, Payload::Whole))
    }

    /// Leaves the payload out; false when the file ends in it.
    pub fn pass(&mut self, head: &Head) -> io::Result<bool> {
        let length = head.stored as usize;
        let buffered = self.buffer.len() - self.used;
        if length <= buffered {
            self.advance(length);
            return Ok(true);
        }
        self.advance(buffered);
        let rest = (length - buffered) as u64;
        let skipped = self.from.skip(rest)?;
        self.at += skipped;
        Ok(skipped == rest)
    }

    /// The next `wanted` bytes or more, or all there are. Memory grows with what comes, not with what is wanted.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.used < wanted {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        while self.buffer.len() < self.used + wanted {
            let before = self.buffer.len();
            self.buffer.resize(before + self.ahead, 0);
            let room = self.buffer.get_mut(before..).unwrap_or_default();
            let read = match self.from.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.buffer.truncate(before);
                    continue;
                }
                read => read,
            };
            self.buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
            if read? == 0 {
                break;
            }
        }
        Ok(self.buffer.get(self.used..).unwrap_or_default())
    }

    fn advance(&mut self, bytes: usize) {
        self.used += bytes;
        self.at += bytes as u64;
    }
}

/// How far the next place is at which a frame may begin: 1 at least, and all but what may be the beginning of
/// its first bytes.
fn to_sync(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    let found = rest.windows(SYNC.len()).position(|four| four == SYNC);
    1 + found.unwrap_or_else(|| (rest.len() + 1).saturating_sub(frame::SYNC.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::frame::{Framer, Kind};

    const ID: [u8; 16] = [7; 16];

    /// A file of marks, each a line, and where its frames begin.
    fn file(texts: &[&str]) -> (Vec<u8>, Vec<usize>) {
        let mut out = FileHeader { id: ID, number: 0 }.bytes().to_vec();
        let mut framer = Framer::new(ID).expect("made");
        let mut begins = Vec::new();
        for text in texts {
            begins.push(out.len());
            out.extend_from_slice(framer.frame(Kind::Mark, 1, text.as_bytes()).expect("small"));
        }
        (out, begins)
    }

    /// Everything in a few words, reading a few bytes at once.
    fn read(bytes: &[u8], ahead: usize) -> Vec<String> {
        let mut frames = Frames::new(Pipe(bytes), ahead).expect("a header");
        let mut said = Vec::new();
        loop {
            match frames.step().expect("read") {
                Step::Frame(head) => said.push(match frames.payload(&head).expect("read") {
                    Payload::Whole(raw) => String::from_utf8(raw).expect("text"),
                    other => format!("{other:?}"),
                }),
                Step::Damaged(bytes) => said.push(format!("{bytes} damaged")),
                Step::Missing(frames) => said.push(format!("{frames} missing")),
                Step::End(cut) => {
                    said.push(format!("end {cut}"));
                    return said;
                }
            }
        }
    }

    #[test]
    fn frames_come_in_order_however_they_are_read() {
        let (bytes, _) = file(&["one", "two", "three"]);
        for ahead in [1, 7, 64, 100_000] {
            assert_eq!(read(&bytes, ahead), ["one", "two", "three", "end false"]);
        }
    }

    #[test]
    fn a_damaged_head_costs_its_frame_and_a_damaged_payload_too() {
        let (bytes, begins) = file(&["one", "two", "three"]);
        let mut head = bytes.clone();
        head[begins[1] + 9] ^= 4;
        assert_eq!(read(&head, 16), ["one", "43 damaged", "three", "end false"]);
        let mut payload = bytes;
        payload[begins[1] + FRAME] ^= 4;
        assert_eq!(read(&payload, 16), ["one", "Damaged", "three", "end false"]);
    }

    #[test]
    fn a_frame_within_a_text_is_never_taken_for_one() {
        let (bytes, begins) = file(&["one"]);
        // A whole frame of another recording, in a payload whose frame is damaged.
        let mut foreign = Framer::new([9; 16]).expect("made");
        let inner = foreign.frame(Kind::Mark, 1, b"forged").expect("small");
        let mut framer = Framer::new(ID).expect("made");
        framer.frame(Kind::Mark, 1, b"one").expect("small");
        let mut forged = framer.frame(Kind::Mark, 1, inner).expect("small").to_vec();
        forged[5] ^= 1;
        let mut all = bytes;
        all.extend_from_slice(&forged);
        assert_eq!(begins.len(), 1);
        assert_eq!(read(&all, 16), ["one", "86 damaged", "end false"]);
    }

    #[test]
    fn a_frame_that_was_there_before_is_damage() {
        let (mut bytes, begins) = file(&["one", "two"]);
        let again = bytes[begins[0]..begins[1]].to_vec();
        bytes.extend_from_slice(&again);
        assert_eq!(read(&bytes, 16), ["one", "two", "43 damaged", "end false"]);
    }

    #[test]
    fn a_frame_that_is_not_there_is_noticed() {
        let (mut bytes, begins) = file(&["one", "two", "three"]);
        bytes.drain(begins[1]..begins[2]);
        assert_eq!(read(&bytes, 16), ["one", "1 missing", "three", "end false"]);
    }

    #[test]
    fn every_prefix_ends_cut_or_at_a_frame() {
        let (bytes, mut begins) = file(&["one", "two"]);
        begins.push(bytes.len());
        for length in HEADER..=bytes.len() {
            let whole = begins.iter().filter(|&&begin| begin <= length).count() - 1;
            let said = read(&bytes[..length], 16);
            let texts: Vec<&str> = said
                .iter()
                .map(String::as_str)
                .filter(|text| ["one", "two"].contains(text))
                .collect();
            assert_eq!(texts, ["one", "two"][..whole]);
            let at_frame = begins.contains(&length);
            let in_payload = said.contains(&"Cut".to_owned());
            assert_eq!(in_payload || said.contains(&"end true".to_owned()), !at_frame, "{said:?}");
        }
    }

    #[test]
    fn passing_over_is_as_reading() {
        let (bytes, _) = file(&["one", "two"]);
        let mut frames = Frames::new(Pipe(&bytes[..]), 1).expect("a header");
        let Step::Frame(head) = frames.step().expect("read") else { panic!("a frame") };
        assert!(frames.pass(&head).expect("read"));
        let Step::Frame(head) = frames.step().expect("read") else { panic!("a frame") };
        assert_eq!(frames.payload(&head).expect("read"), Payload::Whole(b"two".to_vec()));
        assert_eq!(frames.at(), bytes.len() as u64);
        let mut cut = Frames::new(Pipe(&bytes[..bytes.len() - 1]), 1).expect("a header");
        for whole in [true, false] {
            let Step::Frame(head) = cut.step().expect("read") else { panic!("a frame") };
            assert_eq!(cut.pass(&head).expect("read"), whole);
        }
    }
}
