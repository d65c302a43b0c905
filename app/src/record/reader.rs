//! Reading: forwards from anything, or anywhere in a file.

use super::{Gap, Item, Key, Mark, ReadError};
use crate::model::{session::Session, totals::Totals};
use std::{io::Read, path::Path};

/// A recording that is read forwards, from a pipe for example.
#[derive(Debug)]
pub struct Stream<R> {
    from: R,
}

impl<R: Read> Stream<R> {
    /// Reads the header.
    pub fn new(from: R) -> Result<Self, ReadError> {
        Ok(Self { from })
    }

    /// The next thing. After [`Item::End`] it is `End` again.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Item, ReadError> {
        let _ = &self.from;
        Err(ReadError::Empty("not written yet".into()))
    }
}

/// A recording in a file, read anywhere.
#[derive(Debug)]
pub struct Recording {
    session: Session,
}

impl Recording {
    /// Opens it and finds its way by the index, or by walking its headers where that is missing. A second at
    /// most for a gigabyte.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Err(ReadError::Empty(format!("{} not written yet", path.display())))
    }

    /// The session as it was said last in the file.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Begin of the first tick, ns of the probes' clock.
    pub fn start_ns(&self) -> u64 {
        0
    }

    /// End of the last tick, ns of the probes' clock.
    pub fn end_ns(&self) -> u64 {
        0
    }

    /// Ticks in it, the damaged ones too.
    pub fn ticks(&self) -> u64 {
        0
    }

    /// Notes, by moment.
    pub fn marks(&self) -> &[Mark] {
        &[]
    }

    /// What is known to be missing, by moment.
    pub fn gaps(&self) -> &[Gap] {
        &[]
    }

    /// Whether it was finished, and why not.
    pub fn end(&self) -> super::End {
        super::End::default()
    }

    /// Wall time (ns since the Unix epoch) of a moment of the probes' clock, by the nearest anchor before it.
    pub fn unix_ns(&self, mono_ns: u64) -> u64 {
        self.session.unix_ns(mono_ns)
    }

    /// The moment of the probes' clock of a wall time; the last one where the clock was set back.
    pub fn mono_ns(&self, unix_ns: u64) -> u64 {
        unix_ns
    }

    /// The last whole state at or before a moment.
    pub fn key_before(&self, at_ns: u64) -> Result<Option<Key>, ReadError> {
        let _ = at_ns;
        Ok(None)
    }

    /// Everything from a moment (exclusive) to another (inclusive): ticks by their end. Begins with the session
    /// and ends with [`Item::End`].
    pub fn items(&self, from_ns: u64, until_ns: u64) -> Items<'_> {
        let _ = (from_ns, until_ns);
        Items { of: self }
    }

    /// Sums of the ticks that end after a moment and not after another, with everybody who was there at the
    /// first: what a live report of that while says. With the gaps in it.
    pub fn totals(&self, from_ns: u64, until_ns: u64) -> Result<(Totals, Vec<Gap>), ReadError> {
        let _ = (from_ns, until_ns);
        Ok((Totals::default(), Vec::new()))
    }
}

/// A range of a recording.
#[derive(Debug)]
pub struct Items<'a> {
    of: &'a Recording,
}

impl Iterator for Items<'_> {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.of;
        None
    }
}
