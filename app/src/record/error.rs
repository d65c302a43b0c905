//! Why a recording cannot be read or written.

use std::io;

/// Why something is no recording that can be read. Damage within a recording is no error but a
/// [`Gap`](super::Gap).
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as a recording does.
    #[error("it is no recording of kvmscope: {0}")]
    Foreign(&'static str),
    /// Another version wrote it.
    #[error(
        "it has version {major}.{minor} of the format, written by kvmscope {program}, and this program reads version {}.x: use the kvmscope that wrote it, or a newer one",
        super::MAJOR
    )]
    Version {
        /// Which changes when older programs cannot read it any more.
        major: u16,
        /// Which changes when something was added.
        minor: u16,
        /// Version of the program that wrote it.
        program: String,
    },
    /// Nothing of it is whole.
    #[error("nothing in it can be read: {0}")]
    Empty(String),
}

/// Why a recording cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file cannot be made.
    #[error("{path} cannot be made: {why}")]
    Create {
        /// The file.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// The system refused.
    #[error("the recording cannot be written: {0}")]
    Io(#[from] io::Error),
}
