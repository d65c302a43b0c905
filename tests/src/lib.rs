//! What the whole-program tests share.

pub mod btf;
pub mod check;
pub mod command;
pub mod fault;
pub mod format;
pub mod hist;
pub mod program;
pub mod pty;
pub mod rig;
pub mod sections;
pub mod situation;
pub mod skip;
