//! A map: VMs or vCPUs across, over the CPUs on which they were loaded. One column a CPU, or several CPUs a
//! column where there are more than columns.

use super::{scheduling, time::nothing};
use crate::{
    state::{Pane, State, signals::OnCpuRow, value},
    ui::{
        paint::{Look, below, over, put, put_line, row, titled_rule, width},
        view::{Hit, View},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

/// Width of a name.
const NAME: u16 = 20;
/// Columns for the CPUs in words, where there is room.
const WORDS: u16 = 44;
/// From these shares of a CPU on a cell has the next level; more than nothing has the first.
const LIMITS: [f64; 3] = [0.1, 0.4, 0.8];

/// The level of a share, 0 for nothing.
fn level(share: f64) -> usize {
    if share < 0.001 { 0 } else { 1 + LIMITS.iter().filter(|&&limit| share >= limit).count() }
}

/// The drawn scale.
fn legend(folded: u64, look: &Look) -> Line<'static> {
    let mut spans = Vec::new();
    if folded > 1 {
        spans.push(Span::styled(format!("{folded} CPUs a column  "), look.theme.dim));
    }
    for (at, text) in [(1, ">0"), (2, "10%"), (3, "40%"), (4, "80%")] {
        spans.push(Span::styled(look.glyphs.shade[at].to_string(), style(at, look)));
        spans.push(Span::styled(format!("{text} "), look.theme.dim));
    }
    spans.push(Span::styled("of a CPU", look.theme.dim));
    Line::from(spans)
}

fn style(level: usize, look: &Look) -> ratatui::style::Style {
    // The heat map's styles have seven levels.
    look.theme.heat[[0, 1, 3, 5, 6][level.min(4)]]
}

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let found = state.on_cpus();
    let pane = Pane::OnCpus;
    let level_now = state.level();
    let focused = level_now.pane == pane;
    let names = found.rows.iter().map(|row| width(&look.name(&row.name))).max().unwrap_or(0);
    let name = (names + 2).clamp(8, NAME).min(area.width);
    let room = area.width.saturating_sub(name + 1);
    let words = if room > WORDS + 24 { WORDS } else { 0 };
    let columns = u64::from(room.saturating_sub(words).max(1));
    let folded = found.cpus.div_ceil(columns).max(1);
    let title = Line::from(Span::styled("time on CPUs", look.theme.head));
    let right = if found.rows.is_empty() { Line::default() } else { legend(folded, &look) };
    titled_rule(buf, area, &look, &title, &right, focused);
    view.hit(area, Hit::Pane(pane));
    let body = below(area, 1);
    if found.rows.is_empty() {
        let text = scheduling::empty_text(pane, state, view);
        return nothing(buf, body, &look.name(&text), &look);
    }
    let used = found.cpus.div_ceil(folded);
    header(buf, row(body, 0, name, body.width), (used, folded), &look);
    let body = below(body, 1);
    let cursor = state.cursor_in(pane);
    let from = view.scroll((level_now.scope, pane), cursor, found.rows.len(), body.height);
    if focused {
        view.page = usize::from(body.height).max(1);
    }
    for (y, (at, shown)) in (0..body.height).zip(found.rows.iter().enumerate().skip(from)) {
        let line = row(body, y, 0, body.width);
        view.hit(line, Hit::Entry(pane, at));
        put(buf, line, 1, 0, &look.truncate(&look.name(&shown.name), name - 2), look.theme.text);
        cells(buf, row(line, 0, name, used as u16), shown, folded, &look);
        let after = name + used as u16 + 2;
        if after + 12 <= line.width {
            let text = look.truncate(&in_words(shown), line.width - after);
            put(buf, line, after, 0, &text, look.theme.dim);
        }
        if cursor == Some(at) && focused {
            put(buf, line, 0, 0, &look.glyphs.selected.to_string(), look.theme.key);
            over(buf, row(line, 0, 0, name), look.theme.cursor);
        } else if cursor == Some(at) && found.rows.len() > 1 {
            put(buf, line, 0, 0, &look.glyphs.selected.to_string(), look.theme.dim);
        }
    }
}

fn in_words(row: &OnCpuRow) -> String {
    let other = (row.other >= 0.001).then(|| format!("elsewhere {}", value::share(row.other)));
    let most = row.most();
    match (most.is_empty(), other) {
        (_, None) => most,
        (true, Some(other)) => other,
        (false, Some(other)) => format!("{most}, {other}"),
    }
}

/// Every tenth column has its CPU's number.
fn header(buf: &mut Buffer, area: Rect, (columns, folded): (u64, u64), look: &Look) {
    let mut next = 0;
    for column in (0..columns).step_by(10) {
        let x = column as u16;
        if x >= next {
            let text = format!("{}", column * folded);
            next = put(buf, area, x, 0, &text, look.theme.head) + 1;
        }
    }
    put_line(
        buf,
        area,
        next.max(columns as u16 + 2),
        0,
        &Line::from(Span::styled("most on", look.theme.head)),
    );
}

fn cells(buf: &mut Buffer, area: Rect, shown: &OnCpuRow, folded: u64, look: &Look) {
    for x in 0..area.width {
        let first = u64::from(x) * folded;
        let share = shown.share(first..first.saturating_add(folded)) / folded as f64;
        let level = level(share);
        put(buf, area, x, 0, &look.glyphs.shade[level].to_string(), style(level, look));
    }
}
