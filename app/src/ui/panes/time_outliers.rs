//! Slow exits: when, whose, what for, what about, how the time was divided, who ran meanwhile.

use super::time::nothing;
use crate::{
    config::outlier,
    state::{
        Pane, Scope, State,
        fields::{Field, Row},
        outliers::OutlierRow,
    },
    ui::{
        format,
        paint::{Look, below, put, row, titled_rule},
        view::{Hit, View},
        widgets::table::{self, Align, Column},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

/// Key of the field, its importance (0 most), and the width it can use at most.
const COLUMNS: &[(&str, u8, u16)] = &[
    ("time", 0, 12),
    ("vm", 4, 20),
    ("vcpu", 1, 4),
    ("reason", 2, 24),
    ("about", 3, 30),
    ("wall", 1, 5),
    ("handling", 8, 5),
    ("asleep", 7, 6),
    ("wait", 6, 5),
    ("invmm", 5, 5),
    ("by", 9, 30),
    ("rip", 10, 18),
    ("cpu", 11, 4),
];

/// Rows that all of it needs.
pub fn height(state: &State) -> u16 {
    let rows = state.outliers().rows.len();
    u16::try_from(if rows == 0 { 3 } else { rows + 2 }).unwrap_or(u16::MAX)
}

/// Draws them.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let focused = state.level().pane == Pane::Outliers;
    titled_rule(buf, area, &look, &title(state, &look), &Line::default(), focused);
    view.hit(area, Hit::Pane(Pane::Outliers));
    let list = state.outliers();
    if list.rows.is_empty() {
        return nothing(buf, below(area, 1), &empty(state), &look);
    }
    let (columns, fields) = columns(&list.rows, state, &look);
    let places = table::places(&columns, area.width);
    let body = below(area, 1);
    table::header(buf, body, &columns, &places, &look);
    let body = below(body, 1);
    let cursor = state.cursor_in(Pane::Outliers);
    let pane = (state.level().scope, Pane::Outliers);
    let from = view.scroll(pane, cursor, list.rows.len(), body.height);
    if focused {
        view.page = usize::from(body.height);
    }
    for (y, (at, shown)) in (0..body.height).zip(list.rows.iter().enumerate().skip(from)) {
        let line = row(body, y, 0, body.width);
        view.hit(line, Hit::Entry(Pane::Outliers, at));
        let selected = focused && cursor == Some(at);
        table::line(buf, line, &columns, &places, selected, &look, |i, width| {
            let mut text = look.value(&(fields[i].value)(shown));
            if fields[i].key == "reason" {
                let name = look.name(&text);
                text = format::reason_short(&name, width.into(), look.glyphs.ellipsis);
            } else if columns[i].align == Align::Left {
                text = look.truncate(&look.name(&text), width);
            }
            let style = if text == "0ns" { look.theme.dim } else { look.theme.text };
            table::plain(text, style)
        });
        if selected {
            let name = places.first().map_or(0, |&(_, x, width)| x + width);
            crate::ui::paint::over(buf, row(line, 0, 0, name), look.theme.cursor);
        } else if cursor == Some(at) {
            put(buf, line, 0, 0, &look.glyphs.selected.to_string(), look.theme.dim);
        }
    }
}

/// The thresholds, how many there are, and how many were left out.
fn title(state: &State, look: &Look) -> Line<'static> {
    let list = state.outliers();
    let limits = outlier::text(state.outlier_limits(), &state.session().names);
    let limits = look.name(&limits.replace("us", &format!("{}s", look.glyphs.micro)));
    let (shown, all) = (list.rows.len(), list.all);
    let count = match all {
        0 => String::new(),
        _ if all > shown => format!(" newest {shown} of {all}"),
        _ => format!(" {all}"),
    };
    let mut spans = vec![Span::styled(format!("slow exits{count}"), look.theme.head)];
    if list.left_out > 0 {
        let text = format!("  {} more of the host left out", list.left_out);
        spans.push(Span::styled(text, look.theme.warn));
    }
    let from = if limits == "off" { "" } else { "from " };
    spans.push(Span::styled(format!("  {from}{limits}"), look.theme.text));
    Line::from(spans)
}

/// Why there are none.
fn empty(state: &State) -> String {
    let limits = state.outlier_limits();
    let none = limits.all_ns.is_none() && limits.reasons.iter().all(|(_, ns)| ns.is_none());
    if none {
        "no threshold is set, so no exit is taken for slow; o sets one, 1ms say".to_owned()
    } else {
        "no exit here took that long in the time that is kept; o sets another threshold".to_owned()
    }
}

type Fields = Vec<&'static Field<OutlierRow>>;

fn columns(rows: &[OutlierRow], state: &State, look: &Look) -> (Vec<Column>, Fields) {
    // Where one looks at a VM, at a vCPU, at a reason, its name is above already.
    let known = match state.level().scope {
        Scope::Host => 0,
        Scope::Vm(_) => 1,
        Scope::Reasons(_) => 2,
        Scope::Reason(..) => 3,
    };
    let known: &[&str] = &["vm", "vcpu", "reason"][..known];
    let mut out = (Vec::new(), Vec::new());
    for &(key, rank, most) in COLUMNS.iter().filter(|(key, ..)| !known.contains(key)) {
        let Some(field) = OutlierRow::FIELDS.iter().find(|field| field.key == key) else {
            continue;
        };
        let column = if field.numeric {
            Column::number(field.title, most, rank)
        } else {
            let width = |row| crate::ui::paint::width(&look.value(&(field.value)(row)));
            let longest = rows.iter().take(64).map(width).max().unwrap_or(0).min(most);
            Column::text(field.title, longest.min(14), longest.max(14).min(most), rank).eager()
        };
        out.0.push(column);
        out.1.push(field);
    }
    out
}
