//! The terminal: taken once, restored exactly once, and the event loop.

mod clipboard;
mod event_loop;
mod guard;
mod outside;
mod pace;
mod recording;
mod save;
mod still;

pub use event_loop::{End, Options, Outcome, Start};
pub use guard::has_keys;
pub use outside::run;
pub use still::show;
