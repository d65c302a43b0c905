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

/// What a heat map shows.
pub struct HeatMap<'a> {
    /// Rows: the text before the cells, and whether it is faint (a VM that is gone).
    pub rows: Vec<HeatRow<'a>>,
    /// Columns.
    pub columns: Vec<HeatColumn>,
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
    pub title: &'static str,
    /// Lower limits of the levels 2, 3 and 4; more than nothing is level 1.
    pub limits: [f64; 3],
    /// Text of a value, at most five columns.
    pub text: Box<dyn Fn(f64) -> String>,
}

impl Scale {
    /// A logarithmic scale, three decades below the power of ten at or below the largest value.
    /// `least` is the smallest limit that makes sense.
    pub fn decades(
        title: &'static str,
        largest: f64,
        least: f64,
        text: impl Fn(f64) -> String + 'static,
    ) -> Self {
        let top = 10f64.powf(largest.max(least * 100.0).log10().floor());
        Self { title, limits: [top / 100.0, top / 10.0, top], text: Box::new(text) }
    }

    /// 0 for nothing, up to 4.
    pub fn level(&self, value: Option<f64>) -> usize {
        match value {
            Some(v) if v > 0.0 => 1 + self.limits.iter().filter(|&&limit| v >= limit).count(),
            _ => 0,
        }
    }

    /// The drawn scale: "exits/s  · 0  ░ >0  ▒ 10  ▓ 100  █ 1k".
    pub fn legend(&self, look: &Look) -> Line<'static> {
        let mut spans = vec![Span::styled(self.title, look.theme.text)];
        for level in 0..5 {
            let text = match level {
                0 => " 0".to_owned(),
                1 => " >0".to_owned(),
                _ => format!(" {}", trim((self.text)(self.limits[level - 2]))),
            };
            spans.push(Span::styled(
                format!("  {}", look.glyphs.shade[level]),
                look.theme.heat[level],
            ));
            spans.push(Span::styled(text, look.theme.dim));
        }
        Line::from(spans)
    }
}

/// "10.0k" in a legend is "10k".
fn trim(text: String) -> String {
    text.replace(".0", "")
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

/// Sizes of a cell from comfortable to smallest: (pitch, columns of density, whether a number).
const SIZES: [(u16, u16, bool); 3] = [(10, 3, true), (8, 1, true), (4, 3, false)];

impl HeatMap<'_> {
    /// The size of cells: the most comfortable that shows every column, else the middle one,
    /// which still has numbers.
    fn size(&self, width: u16) -> (u16, u16, bool) {
        let fits = |pitch: u16| {
            usize::from(width.saturating_sub(self.label_width))
                >= self.columns.len() * usize::from(pitch)
        };
        if fits(SIZES[0].0) { SIZES[0] } else { SIZES[1] }
    }

    /// Columns that fit into `width`.
    pub fn fitting(&self, width: u16) -> usize {
        let (pitch, ..) = self.size(width);
        usize::from(width.saturating_sub(self.label_width) / pitch).min(self.columns.len())
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
        let (pitch, dense, number) = self.size(area.width);
        let shown = self.fitting(area.width);
        let first = cursor.1.map_or(0, |c| (c + 1).saturating_sub(shown));
        let drawn = Drawn { x: self.label_width, pitch, first, shown };
        let columns = || self.columns.iter().enumerate().skip(first).take(shown);
        for (i, (index, column)) in columns().enumerate() {
            let x = self.label_width + i as u16 * pitch;
            let room = usize::from(pitch - 1);
            let name = format::reason_short(&column.name, room, look.glyphs.ellipsis);
            let style = if column.idle { look.theme.idle } else { look.theme.head };
            let end = put(buf, area, x, 0, &name, style);
            if cursor.1 == Some(index) {
                over(buf, row(area, 0, x, end.saturating_sub(x)), look.theme.sorted);
            }
        }
        let rest = self.columns.len() - shown - first;
        if rest > 0 || first > 0 {
            let (l, r) = (look.glyphs.arrows[0], look.glyphs.arrows[1]);
            let more = match (first, rest) {
                (0, rest) => format!("+{rest} {r}"),
                (first, 0) => format!("{l} +{first}"),
                (first, rest) => format!("{l}{first} {rest}{r}"),
            };
            put(buf, area, 0, 0, &look.truncate(&more, self.label_width - 1), look.theme.dim);
        }
        for (y, (index, line)) in (1..area.height).zip(self.rows.iter().enumerate().skip(first_row))
        {
            put_line(buf, row(area, y, 0, self.label_width), 0, 0, &line.label);
            for (i, (c, column)) in columns().enumerate() {
                let x = self.label_width + i as u16 * pitch;
                let value = line.values.get(c).copied().flatten();
                let style = self.style(line, column, value, look);
                self.cell(buf, row(area, y, x, pitch - 1), value, style, (dense, number), look);
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

    fn style(
        &self,
        row: &HeatRow<'_>,
        column: &HeatColumn,
        value: Option<f64>,
        look: &Look,
    ) -> Style {
        if row.gone {
            look.theme.gone
        } else if column.idle {
            look.theme.idle
        } else {
            look.theme.heat[self.scale.level(value)]
        }
    }

    fn cell(
        &self,
        buf: &mut Buffer,
        area: Rect,
        value: Option<f64>,
        style: Style,
        (dense, number): (u16, bool),
        look: &Look,
    ) {
        let level = self.scale.level(value);
        let shade = look.glyphs.shade[level].to_string().repeat(usize::from(dense));
        put(buf, area, 0, 0, &shade, style);
        if number {
            let text = match value {
                Some(v) if v > 0.0 => (self.scale.text)(v),
                _ => String::new(),
            };
            let room = usize::from(area.width.saturating_sub(dense + 1));
            let text = format!("{text:>room$}");
            put(
                buf,
                area,
                dense + 1,
                0,
                &text,
                if level == 0 { look.theme.dim } else { look.theme.text },
            );
        }
    }
}
