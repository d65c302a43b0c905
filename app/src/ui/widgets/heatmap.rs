//! A heat map of named rows and columns: density, number, and a drawn scale.

use crate::ui::{
    format,
    paint::{Look, over, put, put_line, row},
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};
use std::borrow::Cow;

/// What a heat map shows.
pub struct HeatMap<'a> {
    /// Rows: the text before the cells, and whether it is faint (a VM that is gone).
    pub rows: Vec<HeatRow<'a>>,
    /// Columns.
    pub columns: Vec<HeatColumn>,
    /// Header of the text before the cells.
    pub label: Line<'a>,
    /// Width of the text before the cells.
    pub label_width: u16,
    /// How values are ordered and written.
    pub scale: Scale,
}

/// A row.
pub struct HeatRow<'a> {
    /// Before the cells.
    pub label: Line<'a>,
    /// A value per column; `None` where there is none.
    pub values: Vec<Option<f64>>,
    /// Whether the row is of something that is gone.
    pub gone: bool,
}

/// A column.
pub struct HeatColumn {
    /// Its name, in full.
    pub name: String,
    /// Idle time: shown, and marked as not work.
    pub idle: bool,
}

/// How values become levels and text.
pub struct Scale {
    /// What it is: "exits/s".
    pub title: Cow<'static, str>,
    /// Lower limits of the levels 2 to 6; more than nothing is level 1. They never depend on the
    /// data, so that a colour means the same everywhere.
    pub limits: [f64; 5],
    /// Whether it is of changes: nothing is a value too (what is gone), the third level is "as before", and those
    /// on either side have the colours of less and more.
    pub changes: bool,
    /// Text of a value, at most five columns.
    pub text: Box<dyn Fn(f64) -> String>,
}

/// The level of what has not changed, on a scale of changes.
const SAME: usize = 3;

impl Scale {
    /// 0 for nothing, up to 6.
    pub fn level(&self, value: Option<f64>) -> usize {
        match value {
            Some(v) if v > 0.0 || self.changes => {
                1 + self.limits.iter().filter(|&&limit| v >= limit).count()
            }
            _ => 0,
        }
    }

    /// How a level is drawn: its sign, and its style.
    fn drawn(&self, level: usize, look: &Look) -> (&'static str, Style) {
        let theme = &look.theme;
        if !self.changes {
            return (look.glyphs.heat[level], theme.heat[level]);
        }
        match level {
            0 => ("  ", theme.dim),
            level if level < SAME => (look.glyphs.less[SAME - 1 - level], theme.less),
            SAME => (look.glyphs.heat[0], theme.dim),
            level => (look.glyphs.more[level - SAME - 1], theme.more),
        }
    }

    /// The drawn scale: "exits/s  ··0  ░░>0  ▒░10  ▒▒100  ▓▒1k  ▓▓10k  ██100k".
    pub fn legend(&self, look: &Look) -> Line<'static> {
        let mut spans = vec![Span::styled(self.title.clone(), look.theme.strong)];
        for level in usize::from(self.changes)..look.glyphs.heat.len() {
            let limit = |at: usize| (self.text)(self.limits[at]).replace(".0", "");
            let text = match (level, self.changes) {
                (0, _) => "0".to_owned(),
                (1, false) => ">0".to_owned(),
                // Of less there is an upper end to tell: half as much is "/2".
                (1 | 2, true) => format!("/{:.0}", 1.0 / self.limits[level - 1]),
                (SAME, true) => "same".to_owned(),
                // "10.0k" is "10k" in a legend.
                _ => limit(level - 2),
            };
            let (glyph, style) = self.drawn(level, look);
            spans.push(Span::raw("  "));
            spans.push(Span::styled(glyph, style));
            spans.push(Span::styled(text, look.theme.dim));
        }
        Line::from(spans)
    }
}

/// Where the parts of a drawn heat map are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Cells: x of the first column's left edge, width of a cell with its gap.
    pub x: u16,
    /// Width of a cell with its gap.
    pub pitch: u16,
    /// First column shown.
    pub first: usize,
    /// Columns shown.
    pub shown: usize,
}

impl Drawn {
    /// How many columns are out of sight: "2 ← → 3", or nothing.
    pub fn more(&self, columns: usize, look: &Look) -> String {
        let (l, r) = (look.glyphs.arrows[0], look.glyphs.arrows[1]);
        match (self.first, columns.saturating_sub(self.first + self.shown)) {
            (0, 0) => String::new(),
            (0, rest) => format!("{rest} more {r}"),
            (first, 0) => format!("{l} {first} more"),
            (first, rest) => format!("{l} {first} more, {rest} more {r}"),
        }
    }
}

/// Smallest cell: two columns of density, a space, five of number, a gap.
const LEAST: u16 = 9;
/// Cells do not grow beyond this.
const MOST: u16 = 14;
/// From this width on the density takes four columns.
const WIDE: u16 = 12;

impl HeatMap<'_> {
    /// Width of a cell with its gap, and how many fit.
    fn size(&self, width: u16) -> (u16, usize) {
        let room = width.saturating_sub(self.label_width);
        let columns = self.columns.len().max(1);
        let pitch = (usize::from(room) / columns).clamp(LEAST.into(), MOST.into()) as u16;
        (pitch, usize::from(room / pitch).min(self.columns.len()))
    }

    /// How many columns of the smallest cells fit beside a label.
    pub fn room(width: u16, label_width: u16) -> usize {
        usize::from(width.saturating_sub(label_width) / LEAST)
    }

    /// Draws header and rows from `first_row` on. `cursor` is (row, column); a cursor without a
    /// column selects the row. Columns scroll so that the cursor's is shown.
    pub fn draw(
        &self,
        buf: &mut Buffer,
        area: Rect,
        first_row: usize,
        cursor: (Option<usize>, Option<usize>),
        look: &Look,
    ) -> Drawn {
        let (pitch, shown) = self.size(area.width);
        let first = cursor.1.map_or(0, |c| (c + 1).saturating_sub(shown));
        let drawn = Drawn { x: self.label_width, pitch, first, shown };
        let columns = || self.columns.iter().enumerate().skip(first).take(shown);
        for (i, (index, column)) in columns().enumerate() {
            let x = self.label_width + i as u16 * pitch;
            let room = usize::from(pitch - 1);
            let mut name =
                format::reason_short(&look.name(&column.name), room, look.glyphs.ellipsis);
            if column.idle && name.len() + 5 <= room {
                name.push_str(" idle");
            }
            let style = if column.idle { look.theme.idle } else { look.theme.head };
            let end = put(buf, area, x, 0, &name, style);
            if cursor.1 == Some(index) {
                over(buf, row(area, 0, x, end.saturating_sub(x)), look.theme.sorted);
            }
        }
        put_line(buf, row(area, 0, 0, self.label_width), 0, 0, &self.label);
        for (y, (index, line)) in (1..area.height).zip(self.rows.iter().enumerate().skip(first_row))
        {
            put_line(buf, row(area, y, 0, self.label_width), 0, 0, &line.label);
            for (i, (c, column)) in columns().enumerate() {
                let x = self.label_width + i as u16 * pitch;
                let value = line.values.get(c).copied().flatten();
                self.cell(buf, row(area, y, x, pitch - 1), value, line.gone || column.idle, look);
                if cursor == (Some(index), Some(c)) {
                    over(buf, row(area, y, x, pitch - 1), look.theme.cursor);
                }
            }
            if cursor.0 == Some(index) {
                over(buf, row(area, y, 0, area.width), look.theme.selected);
            }
        }
        drawn
    }

    fn cell(&self, buf: &mut Buffer, area: Rect, value: Option<f64>, faint: bool, look: &Look) {
        let level = self.scale.level(value);
        let (glyph, style) = self.scale.drawn(level, look);
        let style = if faint { look.theme.idle } else { style };
        let dense = if area.width + 1 >= WIDE { 4 } else { 2 };
        put(buf, area, 0, 0, &glyph.repeat(usize::from(dense / 2)), style);
        if let Some(value) = value.filter(|&v| v > 0.0 || self.scale.changes) {
            let style = if faint { style } else { look.theme.text };
            put(buf, area, dense + 1, 0, &format!("{:>5}", (self.scale.text)(value)), style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        state::value,
        ui::{glyph, theme::Theme},
    };

    fn scale() -> Scale {
        let limits = [10.0, 100.0, 1e3, 1e4, 1e5];
        Scale { title: "exits/s".into(), limits, changes: false, text: Box::new(value::rate) }
    }

    #[test]
    fn changes_have_two_directions_and_a_middle() {
        let limits = [0.25, 0.5, 2.0, 4.0, 8.0];
        let text = Box::new(value::factor);
        let scale = Scale { title: "change".into(), limits, changes: true, text };
        let values = [None, Some(0.0), Some(0.3), Some(1.0), Some(2.0), Some(f64::INFINITY)];
        assert_eq!(values.map(|value| scale.level(value)), [0, 1, 2, 3, 4, 6]);
        let look = Look { theme: Theme::new(Default::default()), glyphs: glyph::ASCII };
        assert_eq!(scale.legend(&look).to_string(), "change  --/4  - /2  ..same  + x2  ++x4  ##x8");
        let style = |level| scale.drawn(level, &look).1;
        assert_eq!((style(1), style(2)), (look.theme.less, look.theme.less));
        assert_eq!((style(4), style(6)), (look.theme.more, look.theme.more));
    }

    #[test]
    fn something_is_never_drawn_as_nothing() {
        let levels = [None, Some(0.0), Some(0.01), Some(9.9), Some(10.0), Some(1e5), Some(1e9)];
        assert_eq!(levels.map(|v| scale().level(v)), [0, 0, 1, 1, 2, 6, 6]);
    }

    #[test]
    fn the_scale_is_drawn() {
        let look = Look { theme: Theme::new(Default::default()), glyphs: glyph::ASCII };
        let legend = scale().legend(&look).to_string();
        assert_eq!(legend, "exits/s  ..0  ::>0  o:10  oo100  Oo1k  OO10k  ##100k");
    }

    #[test]
    fn the_cursor_s_column_is_always_shown() {
        let look = Look { theme: Theme::new(Default::default()), glyphs: glyph::ASCII };
        let column = |i: usize| HeatColumn { name: format!("R{i}"), idle: false };
        let map = HeatMap {
            rows: vec![HeatRow {
                label: Line::from("row"),
                values: vec![Some(1.0); 12],
                gone: false,
            }],
            columns: (0..12).map(column).collect(),
            label: Line::default(),
            label_width: 10,
            scale: scale(),
        };
        for cursor in 0..12 {
            let mut buf = Buffer::empty(Rect::new(0, 0, 60, 3));
            let area = buf.area;
            let drawn = map.draw(&mut buf, area, 0, (Some(0), Some(cursor)), &look);
            assert!((drawn.first..drawn.first + drawn.shown).contains(&cursor), "{cursor}");
        }
    }
}
