//! Replaying a recording: a source whose ticks are those of a file or of a pipe, at a speed that the person
//! chooses and from wherever the person likes.
//!
//! [`Player`] is pure: it is told the time and answers what to say. It reads a [`Tape`]: a file
//! ([`FileTape`]), or what is kept of a pipe ([`KeptTape`]). [`Replay`] is the source around it: the thread,
//! the clock, the pipe.
//!
//! **Where the state's history comes from.** Showing another moment takes the recording's last key before
//! it and the ticks since: at most as many as there are between two keys. They are said at once
//! ([`Said::Moment`]), and the screen shows the frame. Sparklines and heat maps look further back than
//! that, so the player then reads what is before, from an earlier key on and a few ticks at a time, and
//! says it as [`Said::Behind`]; the state puts it together beside what it shows and takes it over when it
//! is whole. Until then they are shorter, and never wrong.

mod file;
mod kept;
mod player;
#[cfg(test)]
mod quick;
mod shell;
mod speed;
mod tape;
#[cfg(test)]
mod tests;

pub use file::FileTape;
pub use kept::KeptTape;
pub use player::Player;
pub use shell::Replay;
pub use speed::Speed;
pub use tape::{Begin, Outline, Tape};

use crate::model::{tick::Tick, totals::Totals};
use crate::record::Gap;

/// What a replaying source says beside ticks.
#[derive(Clone, Debug)]
pub enum Said {
    /// Another moment: what was kept is to be forgotten.
    Moment(Box<Moment>),
    /// What was before the last moment, in parts.
    Behind(Behind),
    /// How the playing is going.
    Progress(Box<Progress>),
}

/// A moment of a recording.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Who was there before the first of the ticks.
    pub known: Totals,
    /// Ticks, oldest first, of which the last is shown.
    pub ticks: Vec<Tick>,
}

/// More ticks before the displayed one.
#[derive(Clone, Debug)]
pub enum Behind {
    /// It begins, with who was there.
    Begin(Box<Totals>),
    /// Ticks, oldest first.
    Ticks(Vec<Tick>),
    /// It is whole: the last of the ticks is the one that is shown.
    Done,
}

/// How the playing is going.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// What there is to play.
    pub outline: Outline,
    /// Whether time goes on.
    pub playing: bool,
    /// Whether what arrives is shown at once: the end of a pipe that is still written to.
    pub following: bool,
    /// How fast.
    pub speed: Speed,
    /// The gap that the position is in, and where in it: there is nothing to show.
    pub gap: Option<(Gap, u64)>,
    /// What could not be read: a sentence.
    pub trouble: Option<String>,
}

/// What a player is asked for. All moments are ns of the recording's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on from the displayed tick, which ends then.
    Play {
        /// End of the displayed tick.
        from_ns: u64,
    },
    /// Stop.
    Pause,
    /// Another speed.
    Speed(Speed),
    /// So many ticks forward, or back where negative, from the one that ends then; stops.
    Step {
        /// End of the tick to count from.
        from_ns: u64,
        /// Ticks.
        by: i64,
    },
    /// To a moment.
    Seek(u64),
    /// To the first tick.
    Start,
    /// To the last tick; follows what is still being written.
    End,
}
