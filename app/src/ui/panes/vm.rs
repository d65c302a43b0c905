//! One VM: a heat map vCPU × reason with a cursor, the cell under the cursor beside it, and the
//! table of vCPUs where there is room, or in the heat map's place.

use super::{detail, heat, rows};
use crate::{
    state::{Level, Pane, State},
    ui::view::View,
};
use ratatui::{buffer::Buffer, layout::Rect};

/// From this width on the cell stands beside the heat map, else below it.
const BESIDE: u16 = 110;

/// Where things are; what is not there is not shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// The heat map.
    pub heat: Option<Rect>,
    /// The table of vCPUs.
    pub table: Option<Rect>,
    /// The cell under the cursor, drawn upright.
    pub side: Option<Rect>,
    /// The cell under the cursor, drawn across.
    pub under: Option<Rect>,
}

/// Divides the screen for so many rows.
pub fn areas(area: Rect, level: &Level, rows: usize) -> Areas {
    let (heat, table) = (heat::height(rows), rows::height(rows));
    let one = |left: Rect| match level.pane {
        Pane::Table => Areas { table: Some(left), ..Areas::default() },
        _ => Areas { heat: Some(left), ..Areas::default() },
    };
    if level.zoomed {
        return one(area);
    }
    if area.width < BESIDE {
        let needed = if level.pane == Pane::Table { table } else { heat };
        let under = area.height.saturating_sub(needed).clamp(area.height / 2, area.height * 2 / 3);
        let left = Rect { height: area.height - under, ..area };
        let under = Rect { y: area.y + left.height, height: under, ..area };
        return Areas { under: Some(under), ..one(left) };
    }
    let third = (area.width / 3).clamp(38, 64);
    let left = Rect { width: area.width - third, ..area };
    let side = Rect { x: left.right(), width: third, ..area };
    let both = heat.saturating_add(table).saturating_add(1);
    let mut areas = one(left);
    if both <= area.height {
        areas.heat = Some(Rect { height: area.height - table, ..left });
        areas.table = Some(Rect { y: left.bottom() - table, height: table, ..left });
    }
    Areas { side: Some(side), ..areas }
}

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let areas = areas(area, state.level(), state.row_count());
    if let Some(area) = areas.heat {
        heat::draw(buf, area, state, view);
    }
    if let Some(area) = areas.table {
        rows::draw(buf, area, state.vcpu_rows(), rows::VCPUS, state, view);
    }
    if let Some(area) = areas.side {
        detail::upright(buf, area, state, view);
    }
    if let Some(area) = areas.under {
        detail::across(buf, area, state, view);
    }
}
