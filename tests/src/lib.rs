//! What the whole-program tests share.

pub mod binary;
pub mod pty;
