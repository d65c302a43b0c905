//! The help: the keys that work here, from the table that dispatches them, and what the columns
//! and signs mean.

use super::{
    format,
    input::context,
    keymap::Key,
    paint::{self, put, row},
    view::View,
};
use crate::state::{State, rows::Part};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

/// Draws it over the panes.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let width = area.width.min(100);
    let lines = lines(state, view, width.saturating_sub(4));
    let height = area.height.min(lines.len() as u16 + 2);
    let area = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let inner = usize::from(height.saturating_sub(2));
    view.help_from = view.help_from.min(lines.len().saturating_sub(inner));
    view.page = inner;
    frame(buf, area, view, lines.len() > inner);
    for (y, (text, style, key)) in (1..=inner as u16).zip(lines.iter().skip(view.help_from)) {
        put(buf, area, 2, y, text, *style);
        if *key > 0 {
            let style = view.look.theme.key;
            super::paint::over(buf, row(area, y, 2, *key), style);
        }
    }
}

fn frame(buf: &mut Buffer, area: Rect, view: &View, more: bool) {
    let (glyphs, theme) = (&view.look.glyphs, &view.look.theme);
    let inside = usize::from(area.width.saturating_sub(2));
    for y in 0..area.height {
        let (left, fill, right) = match y {
            0 => (glyphs.corners[0], glyphs.rule, glyphs.corners[1]),
            y if y + 1 == area.height => (glyphs.corners[2], glyphs.rule, glyphs.corners[3]),
            _ => (glyphs.wall, ' ', glyphs.wall),
        };
        let line: String =
            [left].into_iter().chain(std::iter::repeat_n(fill, inside)).chain([right]).collect();
        // Only the glyphs are replaced by drawing; the styles below must go as well.
        for x in 0..area.width {
            if let Some(cell) = buf.cell_mut((area.x + x, area.y + y)) {
                cell.reset();
            }
        }
        put(buf, area, 0, y, &line, theme.dim);
    }
    put(buf, area, 2, 0, " keys that work here ", theme.strong);
    let end = if more { " up and down scroll, esc closes " } else { " esc closes " };
    put(buf, area, 2, area.height.saturating_sub(1), end, theme.dim);
}

/// Text, style, and how many columns at its begin are keys.
type HelpLine = (String, Style, u16);

fn lines(state: &State, view: &View, width: u16) -> Vec<HelpLine> {
    let look = &view.look;
    let mut lines: Vec<HelpLine> = Vec::new();
    let here = context(state);
    let reached: Vec<(String, &str)> = view
        .keymap
        .working(&here)
        .map(|(binding, keys)| {
            let keys: Vec<String> = keys.iter().map(|key: &Key| key.label(&look.glyphs)).collect();
            (keys.join(" "), binding.help)
        })
        .collect();
    let column = reached.iter().map(|(keys, _)| paint::width(keys)).max().unwrap_or(0);
    let room = usize::from(width.saturating_sub(column + 2)).max(20);
    for (keys, help) in reached {
        let pad = usize::from(column.saturating_sub(paint::width(&keys)));
        for (i, text) in format::wrap(help, room, look.glyphs.ellipsis).into_iter().enumerate() {
            let keys = if i == 0 { keys.as_str() } else { "" };
            let pad = if i == 0 { pad } else { usize::from(column) };
            lines.push((format!("{keys}{:pad$}  {text}", ""), look.theme.text, column));
        }
    }
    let mut section = |title: &str, entries: Vec<(String, String)>| {
        if entries.is_empty() {
            return;
        }
        lines.push((String::new(), look.theme.text, 0));
        lines.push((title.to_owned(), look.theme.strong, 0));
        for (name, about) in entries {
            let room = usize::from(width.saturating_sub(21)).max(20);
            let wrapped = format::wrap(&about, room, look.glyphs.ellipsis);
            for (i, text) in wrapped.into_iter().enumerate() {
                let name = if i == 0 { name.as_str() } else { "" };
                lines.push((format!("{name:20} {text}"), look.theme.text, 0));
            }
        }
    };
    let fields = state.fields();
    let columns = fields.iter().map(|f| {
        let name =
            if f.title == f.key { f.key.to_owned() } else { format!("{} ({})", f.title, f.key) };
        (name, f.about.to_owned())
    });
    section("columns (and their names in filters)", columns.collect());
    let g = &look.glyphs;
    let part = |i: usize, text: &str| (g.parts[i].to_string(), text.to_owned());
    section(
        "signs",
        vec![
            (
                g.heat.join(" "),
                "heat, from nothing to most; each heat map draws its scale".to_owned(),
            ),
            (
                "faint".to_owned(),
                "idle (HLT) and VMs that are gone: shown, but not work".to_owned(),
            ),
            (
                "u:IO".to_owned(),
                "an exit to the VMM (KVM_RUN returned); without u: a kernel exit".to_owned(),
            ),
        ]
        .into_iter()
        .chain(Part::ALL.into_iter().enumerate().map(|(i, of)| part(i, of.about())))
        .collect(),
    );
    lines
}
