//! The host: a table of VMs over a heat map VM × reason, and the selected VM over time where there
//! is room left.

use super::{detail, heat, rows, zoomed};
use crate::{
    state::{Pane, State},
    ui::view::View,
};
use ratatui::{buffer::Buffer, layout::Rect};

/// Smallest useful height of the graphs below.
const GRAPHS: u16 = 5;
/// And the largest: two graphs of a dozen rows above each other.
const MOST: u16 = 27;

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let level = state.level();
    let vms = state.vm_rows();
    if zoomed(level, Pane::Table) {
        rows::draw(buf, area, vms, rows::VMS, state, view);
        return;
    }
    if zoomed(level, Pane::Heat) {
        heat::draw(buf, area, state, view);
        return;
    }
    let (table, map) = heights(area.height, vms.len());
    // Higher graphs show nothing more.
    let graphs = (area.height - table - map).min(MOST);
    rows::draw(buf, Rect { height: table, ..area }, vms, rows::VMS, state, view);
    heat::draw(buf, Rect { y: area.y + table, height: map, ..area }, state, view);
    if graphs > 0 {
        let area = Rect { y: area.y + table + map, height: graphs, ..area };
        if level.pane == Pane::Heat && state.reason_detail().is_some() {
            detail::across(buf, area, state, view);
        } else {
            detail::trend(buf, area, state, view);
        }
    }
}

/// Heights of table and heat map: all rows of both where they fit, else half each, and what the
/// graphs cannot use goes to them.
fn heights(height: u16, vms: usize) -> (u16, u16) {
    let (table, map) = (rows::height(vms), heat::height(vms));
    if table.saturating_add(map).saturating_add(GRAPHS) <= height {
        return (table, map);
    }
    if table.saturating_add(map) <= height {
        return (table, height - table);
    }
    let half = height / 2;
    if table <= half { (table, height - table) } else { (half, height - half) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_shown_where_it_fits() {
        assert_eq!(heights(40, 5), (6, 7));
        assert_eq!(heights(14, 5), (6, 8));
    }

    #[test]
    fn else_the_height_is_shared() {
        assert_eq!(heights(20, 40), (10, 10));
        assert_eq!(heights(21, 10), (10, 11));
    }
}
