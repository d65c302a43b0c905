//! Drawing: reads state, changes nothing.

pub mod format;
pub mod glyph;
pub mod keymap;
pub mod paint;
pub mod theme;
pub mod widgets;
