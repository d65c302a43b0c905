//! Drawing: reads state, changes nothing.

pub mod format;
pub mod glyph;
pub mod paint;
pub mod theme;
pub mod widgets;
