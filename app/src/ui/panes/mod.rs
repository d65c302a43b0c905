//! The panes of the tabs, one module each, and where they are at each level.

mod calls;
mod detail;
mod empty;
mod gauges;
mod grid;
mod heat;
mod host;
mod interrupts;
mod keys;
mod list;
mod memory;
mod on_cpus;
mod probes;
mod reason;
pub mod rows;
mod scheduling;
mod specs;
pub mod stacks;
mod time;
mod time_findings;
mod time_outliers;
mod time_parts;
mod vm;

use super::{paint::Look, view::View};
use crate::state::{Level, Pane, Scope, State, Tab};
use ratatui::{buffer::Buffer, layout::Rect};

/// Draws what the level shows, or why it shows nothing.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    // Probes are there without any VM; they are what one looks at when none is seen.
    if state.level().tab == Tab::Probes {
        return probes::draw(buf, area, state, view);
    }
    if empty::draw(buf, area, state, view) {
        return;
    }
    match state.level().tab {
        Tab::Memory => return memory::draw(buf, area, state, view),
        Tab::Interrupts => return interrupts::draw(buf, area, state, view),
        Tab::Scheduling => return scheduling::draw(buf, area, state, view),
        Tab::Calls => return calls::draw(buf, area, state, view),
        Tab::Time => return time::draw(buf, area, state, view),
        Tab::Exits | Tab::Probes => {}
    }
    match state.level().scope {
        Scope::Host => host::draw(buf, area, state, view),
        Scope::Vm(_) => vm::draw(buf, area, state, view),
        Scope::Reasons(_) => rows::reasons(buf, area, state, view),
        Scope::Reason(..) => reason::draw(buf, area, state, view),
    }
}

/// How many reason columns fit into the level's heat map on a screen of this size.
pub fn reason_columns(screen: Rect, state: &State, look: &Look) -> usize {
    let level = state.level();
    let width = match level.scope {
        Scope::Vm(_) => vm::areas(screen, level, usize::MAX).heat.map_or(screen.width, |a| a.width),
        _ => screen.width,
    };
    heat::reason_columns(width, state, look)
}

/// Whether a pane has the screen alone.
fn zoomed(level: &Level, pane: Pane) -> bool {
    level.zoomed && level.pane == pane
}
