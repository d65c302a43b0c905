//! Drawing: reads state, changes nothing but where things are on the screen ([`View`]).

pub mod format;
pub mod frame;
pub mod glyph;
pub mod help;
pub mod input;
pub mod key;
pub mod keymap;
pub mod paint;
pub mod panes;
pub mod replay;
pub mod theme;
pub mod view;
pub mod widgets;

#[cfg(test)]
pub(crate) mod tests;

pub use view::{Hit, View};

use crate::state::{Mode, State, Tab};
use ratatui::{buffer::Buffer, layout::Rect};

/// The smallest terminal that everything fits into: columns and rows.
pub const LEAST: (u16, u16) = (60, 16);

/// Draws the whole screen. `view` remembers where things are.
pub fn draw(buf: &mut Buffer, state: &State, view: &mut View) {
    let area = buf.area;
    view.begin();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        too_small(buf, view);
        return;
    }
    let top = frame::top(buf, area, state, view);
    let deck = state.deck();
    let below = 1 + u16::from(deck.is_some());
    let body = Rect { height: area.height.saturating_sub(top + below), ..paint::below(area, top) };
    if state.level().tab == Tab::Probes || !replay::no_data(buf, body, state, view) {
        panes::draw(buf, body, state, view);
    }
    if let Some(deck) = &deck {
        replay::bar(buf, Rect { y: area.bottom() - 2, height: 1, ..area }, deck, view);
    }
    frame::footer(buf, Rect { y: area.bottom() - 1, height: 1, ..area }, state, view);
    if *state.mode() == Mode::Help {
        help::draw(buf, body, state, view);
    }
}

/// How many reason columns the heat map has room for in a terminal of this size ("other" not
/// counted), which the state wants to know before it is drawn.
pub fn reason_columns(width: u16, height: u16, state: &State, view: &View) -> usize {
    panes::reason_columns(Rect::new(0, 0, width, height), state, &view.look)
}

pub(crate) fn too_small(buf: &mut Buffer, view: &View) {
    let area = buf.area;
    let text = format!(
        "kvmscope needs {} columns and {} rows; this terminal has {} and {}. q quits.",
        LEAST.0, LEAST.1, area.width, area.height
    );
    let lines = format::wrap(&text, usize::from(area.width), view.look.glyphs.ellipsis);
    for (y, line) in (0..area.height).zip(&lines) {
        paint::put(buf, area, 0, y, line, view.look.theme.warn);
    }
}
