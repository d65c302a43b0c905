//! What a recording is made of, as it is handed out.

use crate::model::{session::Session, tick::Tick, totals::Totals};

/// One thing out of a recording, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// First, and again when something in it changed.
    Session(Box<Session>),
    /// Where something needs it: before the first tick of a file (or of what was asked for), and after a gap.
    /// Those in between, which are there for seeking, are not handed out.
    Key(Box<Key>),
    /// An interval.
    Tick(Box<Tick>),
    /// A note.
    Mark(Mark),
    /// Nothing is known of a while. Never zeros.
    Gap(Gap),
    /// Last.
    End(End),
}

/// The whole state at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Key {
    /// The moment, ns of the probes' clock: the end of the last tick in it, or the start of the session.
    pub at_ns: u64,
    /// Everything since the recording began, in earlier files too. For who is there without the sums:
    /// [`Totals::who_is_there`].
    pub totals: Totals,
    /// Whether the sums are in it. Where they are too much for a frame, only who is there is.
    pub whole: bool,
}

/// A note at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Mark {
    /// When, ns of the probes' clock.
    pub at_ns: u64,
    /// What the person said; may be empty.
    pub text: String,
}

/// Nothing is known of a while: it is damaged, or was never written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Gap {
    /// After which moment, ns of the probes' clock.
    pub from_ns: u64,
    /// Until which; as `from_ns` where that is not known.
    pub until_ns: u64,
    /// Why, in a sentence.
    pub why: String,
}

/// How it ends.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct End {
    /// Whether it was finished. Streams into a pipe are finished too.
    pub clean: bool,
    /// Why not, in a sentence; or why the source ended by itself.
    pub why: Option<String>,
}
