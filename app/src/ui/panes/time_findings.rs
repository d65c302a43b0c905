//! Findings: sign, what stands out, what says so, what to press next.

use super::time::nothing;
use crate::{
    findings::{Finding, Weight},
    state::{Pane, State, value},
    ui::{
        format,
        paint::{Look, below, put_line, row, titled_rule},
        view::{Hit, View},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

/// Columns before the text, for the sign.
const SIGN: u16 = 4;

/// Rows that all of it needs.
pub fn height(width: u16, state: &State, look: &Look) -> u16 {
    let lines = state.scope_findings().iter().map(|found| full(found, width, look).len());
    u16::try_from(1 + lines.sum::<usize>().max(1)).unwrap_or(u16::MAX)
}

/// Draws them.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let found = state.scope_findings();
    let focused = state.level().pane == Pane::Findings;
    let count = match found.len() {
        0 => String::new(),
        n => format!(" {n}"),
    };
    let over = value::duration(state.facts().over_ns);
    let title = Line::from(Span::styled(format!("findings{count}"), look.theme.head));
    let right = Line::from(Span::styled(format!("last {over}"), look.theme.dim));
    titled_rule(buf, area, &look, &title, &right, focused);
    let body = below(area, 1);
    view.hit(area, Hit::Pane(Pane::Findings));
    if found.is_empty() {
        let text = format!("nothing stands out here in the last {over}");
        return nothing(buf, body, &text, &look);
    }
    let cursor = state.cursor_in(Pane::Findings).unwrap_or(0);
    let open = focused.then_some(cursor);
    let entries = entries(found, open, area.width, body.height, &look);
    if focused {
        view.page = entries.len().max(1);
    }
    let mut y = 0;
    for (at, lines) in entries {
        let top = y;
        for line in lines.iter().take(usize::from(body.height.saturating_sub(y))) {
            put_line(buf, body, 1, y, line);
            y += 1;
        }
        view.hit(Rect { height: y - top, ..below(body, top) }, Hit::Entry(Pane::Findings, at));
        if focused && at == cursor {
            let sign = row(body, top, 1, SIGN - 1);
            crate::ui::paint::over(buf, sign, look.theme.cursor);
        }
    }
}

type Entry = (usize, Vec<Line<'static>>);

/// The findings as lines: whole where they all fit. Else the one under the cursor is whole, and
/// those before it go first so that it is seen; without a cursor the first ones are, as many as
/// leave a line to each of the others.
fn entries(
    found: &[Finding],
    cursor: Option<usize>,
    width: u16,
    height: u16,
    look: &Look,
) -> Vec<Entry> {
    let height = usize::from(height);
    let length = |entries: &[Entry]| entries.iter().map(|(_, lines)| lines.len()).sum::<usize>();
    let mut entries: Vec<Entry> =
        found.iter().map(|found| brief(found, width, look)).enumerate().collect();
    let Some(cursor) = cursor else {
        let mut left = height.saturating_sub(entries.len());
        for (entry, found) in entries.iter_mut().zip(found) {
            let whole = full(found, width, look);
            let more = whole.len().saturating_sub(1);
            if more > left {
                break;
            }
            left -= more;
            entry.1 = whole;
        }
        return entries;
    };
    let whole: Vec<Entry> =
        found.iter().map(|found| full(found, width, look)).enumerate().collect();
    if length(&whole) <= height {
        return whole;
    }
    if let (Some(entry), Some(found)) = (entries.get_mut(cursor), found.get(cursor)) {
        entry.1 = full(found, width, look);
    }
    while entries.len() > 1
        && entries[0].0 < cursor
        && length(&entries[..=cursor - entries[0].0]) > height
    {
        entries.remove(0);
    }
    entries
}

/// The sign of a weight: never by colour alone.
fn sign(weight: Weight, look: &Look) -> Span<'static> {
    match weight {
        Weight::High => Span::styled("!!  ", look.theme.bad),
        Weight::Medium => Span::styled("!   ", look.theme.warn),
        Weight::Low => Span::styled("-   ", look.theme.dim),
    }
}

fn room(width: u16) -> usize {
    usize::from(width.saturating_sub(SIGN + 2))
}

fn brief(found: &Finding, width: u16, look: &Look) -> Vec<Line<'static>> {
    let text = look.truncate(&look.name(&found.text), room(width) as u16);
    vec![Line::from(vec![sign(found.weight, look), Span::styled(text, look.theme.text)])]
}

fn full(found: &Finding, width: u16, look: &Look) -> Vec<Line<'static>> {
    let wrap = |text: &str| format::wrap(&look.name(text), room(width), look.glyphs.ellipsis);
    let indent = || Span::raw(" ".repeat(usize::from(SIGN)));
    let mut lines: Vec<Line<'static>> = Vec::new();
    for text in wrap(&found.text) {
        let first = if lines.is_empty() { sign(found.weight, look) } else { indent() };
        lines.push(Line::from(vec![first, Span::styled(text, look.theme.strong)]));
    }
    for text in wrap(&found.evidence.join("; ")) {
        lines.push(Line::from(vec![indent(), Span::styled(text, look.theme.dim)]));
    }
    for text in wrap(&found.next) {
        lines.push(Line::from(vec![indent(), Span::styled(text, look.theme.text)]));
    }
    lines
}
