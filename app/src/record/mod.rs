//! Recordings: what a source said, in a file, to be looked at again somewhere else.
//!
//! The file is described byte by byte in `docs/recording.md`. [`Writer`] writes it to anything,
//! [`Recorder`] on a thread of its own into files that take turns; [`Stream`] reads it forwards from anything,
//! [`Recording`] anywhere in a file, [`Sums`] adds it up. All moments are ns of the probes' clock
//! (CLOCK_MONOTONIC of the host it was made on); [`Session::unix_ns`] and [`Recording::unix_ns`] make wall time of
//! them.

mod codec;
mod error;
mod frame;
mod item;
mod output;
mod range;
mod reader;
mod recorder;
mod sums;
#[cfg(test)]
mod testing;
mod writer;

pub use error::{ReadError, WriteError};
pub use item::{End, Gap, Item, Key, Mark};
pub use output::Target;
pub use range::{Moment, NeedsEnd, Range};
pub use reader::{Items, Recording, Stream};
pub use recorder::{Progress, Recorder};
pub use sums::Sums;
pub use writer::{KEY_EVERY, Options, Writer};

#[cfg(doc)]
use crate::model::session::Session;

/// Version of the format that is written, and read.
pub const MAJOR: u16 = 1;
/// What was added to it since.
pub const MINOR: u16 = 0;
