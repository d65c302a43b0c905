//! Reading: forwards from anything, or anywhere in a file.

mod file;
mod frames;
mod items;
mod walk;

pub use file::Recording;
pub use items::Items;

use super::{Item, ReadError};
use frames::{Frames, Pipe};
use items::Decoder;
use std::io::Read;

/// Bytes that are read at once at least where all of it is read.
const AHEAD: usize = 64 << 10;

/// A recording that is read forwards, from a pipe for example.
#[derive(Debug)]
pub struct Stream<R> {
    decoder: Decoder<Pipe<R>>,
}

impl<R: Read> Stream<R> {
    /// Reads the header.
    pub fn new(from: R) -> Result<Self, ReadError> {
        Ok(Self { decoder: Decoder::new(Frames::new(Pipe(from), AHEAD)?) })
    }

    /// The next thing. After [`Item::End`] it is `End` again.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Item, ReadError> {
        self.decoder.item()
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
