//! Writing, one frame after the other.

use super::{Mark, WriteError};
use crate::model::{session::Session, tick::Lost, tick::Tick, totals::Totals};
use std::io::Write;

/// How a recording is written.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What is known before the first tick: who is there, when it does not begin with its session. A tick with
    /// nothing but their [`Life`](crate::model::tick::Life) makes such totals.
    pub begin: Totals,
    /// Leave single events out.
    pub no_events: bool,
    /// The probes' clock and wall time now, both in ns, for anchors; `None` where the ticks are not of now.
    pub clock: Option<fn() -> (u64, u64)>,
}

/// Writes a recording to anything.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
}

impl<W: Write> Writer<W> {
    /// Writes the header, the session and a key.
    pub fn new(to: W, session: &Session, options: Options) -> Result<Self, WriteError> {
        let _ = (session, options);
        Ok(Self { to })
    }

    /// Something in the session changed.
    pub fn session(&mut self, session: &Session) -> Result<(), WriteError> {
        let _ = session;
        Ok(())
    }

    /// An interval; every so many a key follows.
    pub fn tick(&mut self, tick: &Tick) -> Result<(), WriteError> {
        let _ = tick;
        Ok(())
    }

    /// A note.
    pub fn mark(&mut self, mark: &Mark) -> Result<(), WriteError> {
        let _ = mark;
        Ok(())
    }

    /// Ticks that were never handed to it: how many, and from when to when. A key follows.
    pub fn dropped(&mut self, ticks: u64, from_ns: u64, until_ns: u64) -> Result<(), WriteError> {
        let _ = (ticks, from_ns, until_ns, Lost::default());
        Ok(())
    }

    /// Writes index and trailer; `why` is why the source ended by itself.
    pub fn finish(self, why: Option<&str>) -> Result<W, WriteError> {
        let _ = why;
        Ok(self.to)
    }
}
