//! What the whole-program tests share.

pub mod binary;
pub mod check;
pub mod format;
pub mod hist;
pub mod pty;
pub mod rig;
pub mod skip;
