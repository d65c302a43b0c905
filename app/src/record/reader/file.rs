//! A recording in a file, read anywhere.

use super::frames::{At, Frames, header};
use super::items::{Items, unfinished};
use super::walk::{read_frame, read_index, walk};
use crate::model::session::Session;
use crate::record::codec::{Index, Place, get_key, get_meta};
use crate::record::frame::Kind;
use crate::record::sums::Sums;
use crate::record::{End, Gap, Key, Mark, ReadError};
use std::fs::{File, TryLockError};
use std::path::Path;

/// A recording in a file, read anywhere.
#[derive(Debug)]
pub struct Recording {
    file: File,
    id: [u8; 16],
    /// Where the first frame begins.
    first: u64,
    index: Index,
    session: Session,
    marks: Vec<Mark>,
    gaps: Vec<Gap>,
    end: End,
}

impl Recording {
    /// Opens it and finds its way by the index, or by walking its headers where that is missing. A second at
    /// most for a gigabyte.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Self::of(File::open(path)?)
    }

    /// Of a file that is open already; it may be one in memory.
    pub fn of(file: File) -> Result<Self, ReadError> {
        let mut from = At::new(&file, 0);
        let (header, first) = header(&mut from)?;
        let id = header.id;
        let (index, end) = match read_index(&file, id)? {
            Some(index) => {
                let end = End { clean: true, why: index.why.clone() };
                (index, end)
            }
            None => {
                let walked = walk(&file, id, first)?;
                let why = match (walked.finished, is_being_written(&file)) {
                    (true, _) => "its index is damaged".to_owned(),
                    (false, true) => "it is still being written".to_owned(),
                    (false, false) => unfinished(walked.cut, walked.end),
                };
                (walked.index, End { clean: false, why: Some(why) })
            }
        };
        let marks = index.marks.iter().cloned().map(|(at_ns, text)| Mark { at_ns, text }).collect();
        let gaps = index.lost.iter().cloned().map(Gap::from).collect();
        let session = Session::default();
        let mut recording = Self { file, id, first, index, session, marks, gaps, end };
        recording.session = recording.session_at(u64::MAX)?.ok_or_else(|| {
            ReadError::Empty("it has no frame that tells of its session".to_owned())
        })?;
        Ok(recording)
    }

    /// The session as it was said last in the file.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Begin of the first tick, ns of the probes' clock.
    pub fn start_ns(&self) -> u64 {
        self.index.start_ns
    }

    /// End of the last tick, ns of the probes' clock.
    pub fn end_ns(&self) -> u64 {
        self.index.end_ns
    }

    /// Ticks in it, the damaged ones too.
    pub fn ticks(&self) -> u64 {
        self.index.ticks
    }

    /// Notes, in the order in which they were made.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// What is known to be missing, in file order. More may be found when it is read: not all of it is looked at
    /// when it is opened.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Whether it was finished, and why not.
    pub fn end(&self) -> End {
        self.end.clone()
    }

    /// Wall time (ns since the Unix epoch) of a moment of the probes' clock, by the last anchor before it.
    pub fn unix_ns(&self, mono_ns: u64) -> u64 {
        let before = self.index.clocks.iter().rev().find(|(mono, _)| *mono <= mono_ns);
        match before {
            Some((mono, unix)) => unix.saturating_add(mono_ns - mono),
            None => self.session.unix_ns(mono_ns),
        }
    }

    /// The moment of the probes' clock of a wall time; the last one where the clock was set back.
    pub fn mono_ns(&self, unix_ns: u64) -> u64 {
        let from = |(mono, unix): (u64, u64)| mono.saturating_add(unix_ns).saturating_sub(unix);
        let clocks = &self.index.clocks;
        // Each anchor holds until the next one.
        let ends = clocks.iter().skip(1).map(|(mono, _)| *mono).chain([self.index.end_ns]);
        let spans: Vec<_> = clocks.iter().copied().zip(ends).collect();
        let holds = |&&((mono, unix), end): &&((u64, u64), u64)| {
            unix <= unix_ns && from((mono, unix)) <= end
        };
        let session = (self.session.started_ns, self.session.started_unix_ns);
        let nearest = || clocks.last().copied().filter(|(_, unix)| *unix <= unix_ns);
        let anchor = spans.iter().rev().find(holds).map(|(anchor, _)| *anchor);
        from(anchor.or_else(nearest).unwrap_or(session))
    }

    /// The last whole state at or before a moment.
    pub fn key_before(&self, at_ns: u64) -> Result<Option<Key>, ReadError> {
        let places = &self.index.keys;
        let until = places.partition_point(|place| place.t_ns <= at_ns);
        for place in places.iter().take(until).rev() {
            // One that is damaged is passed over: an earlier one does as well.
            if let Some((Kind::Key, raw)) = read_frame(&self.file, self.id, place.at)?
                && let Some(key) = get_key(&raw)
            {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Everything from a moment (exclusive) to another (inclusive): ticks by their end. Begins with the session
    /// and the state at the first moment, and ends with [`Item::End`](crate::record::Item::End).
    pub fn items(&self, from_ns: u64, until_ns: u64) -> Items<'_> {
        Items::new(self, from_ns, until_ns)
    }

    /// What the ticks come to that end after a moment and not after another, with everybody who was there at the
    /// first: what a live report of that while says.
    pub fn sums(&self, from_ns: u64, until_ns: u64) -> Result<Sums, ReadError> {
        let mut sums = Sums::new(from_ns, until_ns);
        for item in self.items(from_ns, until_ns) {
            sums.add(item?);
        }
        Ok(sums)
    }

    /// The first key that can be read to come to a moment: the last before it, or the first of all.
    pub(super) fn place_before(&self, at_ns: u64) -> Place {
        let places = &self.index.keys;
        let until = places.partition_point(|place| place.t_ns <= at_ns);
        let readable = |place: &&Place| {
            matches!(read_frame(&self.file, self.id, place.at), Ok(Some((Kind::Key, _))))
        };
        let found = places.iter().take(until).rev().find(readable);
        found.or(places.first()).copied().unwrap_or(Place { t_ns: 0, at: self.first })
    }

    /// The session as it was said last before a place in the file, or the first one.
    pub(super) fn session_at(&self, at: u64) -> Result<Option<Session>, ReadError> {
        let metas = &self.index.metas;
        let until = metas.partition_point(|place| place.at <= at);
        let before = metas.iter().take(until).rev();
        for place in before.chain(metas.iter().skip(until)) {
            if let Some((Kind::Meta, raw)) = read_frame(&self.file, self.id, place.at)?
                && let Some(session) = get_meta(&raw)
            {
                return Ok(Some(session));
            }
        }
        Ok(None)
    }

    /// Its frames from a place on.
    pub(super) fn frames(&self, at: u64, ahead: usize) -> Frames<At<'_>> {
        Frames::of_file(&self.file, self.id, at, ahead)
    }
}

/// Whoever writes a recording holds a lock on it.
fn is_being_written(file: &File) -> bool {
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => true,
        // Given back at once: a reader must not keep a writer out.
        Ok(()) => file.unlock().is_err(),
        Err(TryLockError::Error(_)) => false,
    }
}
