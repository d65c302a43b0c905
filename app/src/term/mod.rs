//! The terminal: taken once, restored exactly once, and the event loop.

mod clipboard;
mod event_loop;
mod guard;
mod outside;
mod pace;
mod save;

pub use event_loop::{End, Options, Outcome, Start};
pub use outside::run;
