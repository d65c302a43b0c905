//! A list under a rule with a title: columns that give way, a cursor, and only the rows that are seen.

use super::time::nothing;
use crate::{
    state::{
        Pane, Scope, State,
        fields::{Field, Row},
    },
    ui::{
        format,
        paint::{Look, below, over, put, row, titled_rule},
        view::{Hit, View},
        widgets::table::{self, Align, Column},
    },
};
use ratatui::{buffer::Buffer, layout::Rect, style::Style, text::Line};

/// Key of a field, its importance (0 most), and the width it can use at most.
pub type Spec = (&'static str, u8, u16);

/// What is in a list.
pub struct List<'a, R> {
    /// Whose list it is.
    pub pane: Pane,
    /// At the begin of the rule.
    pub title: Line<'static>,
    /// At its end.
    pub right: Line<'static>,
    /// Its columns.
    pub columns: &'a [Spec],
    /// Number of rows.
    pub len: usize,
    /// A row.
    pub row: &'a dyn Fn(usize) -> Option<R>,
    /// The style of a row, or of one of its fields.
    pub style: &'a dyn Fn(&R, &str, &Look) -> Style,
    /// A row's picture in the field with this key, so many columns wide, where the field is one: pictures
    /// are drawn for their width, not cut.
    pub picture: Option<Picture<'a, R>>,
    /// What to say where there is none.
    pub empty: String,
}

/// See [`List::picture`].
pub type Picture<'a, R> = &'a dyn Fn(&R, &str, u16) -> Option<String>;

/// Rows up to which columns are as wide as what is in them; in longer lists they would move while one
/// scrolls.
const FEW: usize = 200;

/// Draws it.
pub fn draw<R: Row>(
    buf: &mut Buffer,
    area: Rect,
    list: &List<'_, R>,
    state: &State,
    view: &mut View,
) {
    let look = view.look.clone();
    let level = state.level();
    let focused = level.pane == list.pane;
    titled_rule(buf, area, &look, &list.title, &list.right, focused);
    view.hit(area, Hit::Pane(list.pane));
    let body = below(area, 1);
    if list.len == 0 {
        return nothing(buf, body, &look.name(&list.empty), &look);
    }
    let head = row(body, 0, 0, body.width);
    let body = below(body, 1);
    let cursor = state.cursor_in(list.pane);
    let from = view.scroll((level.scope, list.pane), cursor, list.len, body.height);
    if focused {
        view.page = usize::from(body.height).max(1);
    }
    let shown = from..list.len.min(from + usize::from(body.height));
    let rows: Vec<(usize, R)> = shown.filter_map(|at| Some((at, (list.row)(at)?))).collect();
    let vms = state.vm_rows().iter().map(|row| crate::ui::paint::width(&row.name)).max();
    let (columns, fields) = columns(list, &rows, (level.scope, vms.unwrap_or(0)), &look);
    let places = table::places(&columns, area.width);
    table::header(buf, head, &columns, &places, &look);
    for (y, (at, shown)) in (0..body.height).zip(&rows) {
        let line = row(body, y, 0, body.width);
        view.hit(line, Hit::Entry(list.pane, *at));
        let selected = focused && cursor == Some(*at);
        table::line(buf, line, &columns, &places, selected, &look, |i, width| {
            let field = fields[i];
            let value = (field.value)(shown);
            let text = match list.picture.and_then(|draw| draw(shown, field.key, width)) {
                Some(picture) => picture,
                None if columns[i].align == Align::Left => {
                    look.truncate(&look.name(&look.value(&value)), width)
                }
                None => look.value(&value),
            };
            let nothing = matches!(text.as_str(), "0" | "0%" | "0ns")
                || value == crate::state::value::Value::None;
            let style = (list.style)(shown, field.key, &look);
            table::plain(text, if nothing { look.theme.dim } else { style })
        });
        if selected {
            let name = places.first().map_or(0, |&(_, x, width)| x + width);
            over(buf, row(line, 0, 0, name), look.theme.cursor);
        } else if cursor == Some(*at) && list.len > 1 {
            put(buf, line, 0, 0, &look.glyphs.selected.to_string(), look.theme.dim);
        }
    }
}

/// The rows that everything in a list would take, its rule and header with it, or what is said where
/// there is nothing.
pub fn height(len: usize, empty: &str, width: u16) -> u16 {
    let rows = match len {
        0 => 1 + format::wrap(empty, usize::from(width.saturating_sub(4)), ' ').len(),
        len => len.saturating_add(2),
    };
    u16::try_from(rows).unwrap_or(u16::MAX)
}

type Fields<R> = Vec<&'static Field<R>>;

fn columns<R: Row>(
    list: &List<'_, R>,
    rows: &[(usize, R)],
    (scope, vms): (Scope, u16),
    look: &Look,
) -> (Vec<Column>, Fields<R>) {
    // Where one looks at a VM or at a vCPU, its name is above already.
    let known = |key: &str| match scope {
        Scope::Host => false,
        Scope::Vm(_) => matches!(key, "vm" | "most"),
        Scope::Reasons(who) | Scope::Reason(who, _) => match who {
            crate::state::Who::Vm(_) => matches!(key, "vm" | "most"),
            crate::state::Who::Vcpu(_) => matches!(key, "vm" | "vcpu" | "most"),
        },
    };
    let mut out = (Vec::new(), Vec::new());
    for &(key, rank, most) in list.columns.iter().filter(|(key, ..)| !known(key)) {
        let Some(field) = R::FIELDS.iter().find(|field| field.key == key) else { continue };
        let width =
            |(_, row): &(usize, R)| crate::ui::paint::width(&look.value(&(field.value)(row)));
        let longest = rows.iter().map(width).max().unwrap_or(0);
        let column = if field.numeric {
            // Addresses are as wide as they are, but never so that the title is cut.
            Column::number(field.title, most.max(longest.min(18)), rank)
        } else if list.len <= FEW {
            let least = longest.min(field.width).max(6.min(field.width));
            Column::text(field.title, least, longest.clamp(least, most.max(least)), rank).eager()
        } else if key == "vm" {
            // As wide as the names of all VMs, so that it does not move either.
            let least = vms.clamp(6, 10).min(most);
            Column::text(field.title, least, vms.clamp(least, most), rank)
        } else {
            Column::text(field.title, field.width.min(most), most, rank)
        };
        out.0.push(column);
        out.1.push(field);
    }
    out
}
