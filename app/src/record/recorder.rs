//! Recording on a thread of its own, so that nothing waits for a disk.

use super::{Mark, Options, WriteError};
use crate::model::{session::Session, tick::Tick};
use std::path::PathBuf;

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file, mode 0600, of the person behind sudo.
    File {
        /// Its name. Further files are called FILE.1, FILE.2 and so on.
        path: PathBuf,
        /// Write over what is there.
        force: bool,
        /// Begin another file before one grows over so many bytes.
        max_size: Option<u64>,
    },
    /// Standard output.
    Stdout,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// The file that is being written; empty for standard output.
    pub path: PathBuf,
    /// Files so far.
    pub files: u32,
    /// Bytes so far, of all files.
    pub bytes: u64,
    /// Ticks written.
    pub ticks: u64,
    /// Ticks that were not: the disk was too slow.
    pub dropped_ticks: u64,
    /// Single events that were not.
    pub dropped_events: u64,
    /// Why it stopped before it was asked to: a sentence.
    pub stopped: Option<String>,
}

/// A running recording. None of its methods but `start` and `finish` wait for a disk.
#[derive(Debug)]
pub struct Recorder {}

impl Recorder {
    /// Makes the file and starts the thread.
    pub fn start(target: &Target, session: &Session, options: Options) -> Result<Self, WriteError> {
        let _ = (target, session, options);
        Ok(Self {})
    }

    /// Something in the session changed.
    pub fn session(&mut self, session: &Session) {
        let _ = session;
    }

    /// An interval.
    pub fn tick(&mut self, tick: Box<Tick>) {
        let _ = tick;
    }

    /// A note.
    pub fn mark(&mut self, mark: Mark) {
        let _ = mark;
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress::default()
    }

    /// Writes what waits, finishes the file and closes it. `why` is why the source ended by itself.
    pub fn finish(self, why: Option<String>) -> Progress {
        let _ = why;
        Progress::default()
    }
}
