//! The terminal: taken once, restored exactly once, and the event loop.

mod clipboard;
mod event_loop;
mod guard;
mod outside;
mod pace;
mod save;
mod still;

pub use event_loop::{End, Options, Outcome, Start};
pub use outside::run;
pub use still::show;
