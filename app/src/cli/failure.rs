//! Why the program ends with another status than 0.

use crate::{guest, source::live::loader::LoadError};

/// A sentence for the person and a status for the shell.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// 1 failed while running, 2 wrong arguments, 3 not allowed or not possible here.
    pub status: u8,
    /// What, why, and what to do; empty when everything has been said.
    pub text: String,
}

impl Failure {
    /// Failed while running.
    pub fn running(text: impl Into<String>) -> Self {
        Self { status: 1, text: text.into() }
    }

    /// Wrong arguments.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { status: 2, text: text.into() }
    }

    /// Not allowed or not possible on this host.
    pub fn not_possible(text: impl Into<String>) -> Self {
        Self { status: 3, text: text.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::running(format!("{error:#}"))
    }
}

impl From<guest::Error> for Failure {
    fn from(error: guest::Error) -> Self {
        Self { status: error.exit_status(), text: error.to_string() }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::not_possible(error.to_string())
    }
}
