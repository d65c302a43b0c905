//! Writing into a buffer without ever leaving an area.

use super::{glyph::Glyphs, theme::Theme};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr;

/// How things look: what every widget needs and none changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Styles.
    pub theme: Theme,
    /// Characters.
    pub glyphs: Glyphs,
}

impl Look {
    /// A rule of `width` columns.
    pub fn rule(&self, width: u16) -> Span<'static> {
        Span::styled(self.glyphs.rule.to_string().repeat(usize::from(width)), self.theme.dim)
    }

    /// A duration (ns), or the sign for "none" when nothing was measured.
    pub fn duration(&self, ns: Option<u64>) -> String {
        match ns {
            Some(ns) => super::format::duration(ns, self.glyphs.micro),
            None => self.glyphs.none.to_string(),
        }
    }

    /// A value of a field.
    pub fn value(&self, value: &crate::state::value::Value) -> String {
        super::format::value(value, self.glyphs.micro, self.glyphs.none)
    }

    /// A name that others chose, harmless.
    pub fn name(&self, text: &str) -> String {
        super::format::name(text, self.glyphs.ascii)
    }

    /// Text cut to `width` columns.
    pub fn truncate(&self, text: &str, width: u16) -> String {
        super::format::truncate(text, usize::from(width), self.glyphs.ellipsis)
    }
}

/// Writes text at column `x` and row `y` of `area`, cut at its right edge. Returns the column after
/// it. Outside of the area nothing happens.
pub fn put(buf: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) -> u16 {
    let area = area.intersection(buf.area);
    if x >= area.width || y >= area.height {
        return x;
    }
    let room = usize::from(area.width - x);
    // Styles add up in a buffer; what was there, a rule say, must not shine through.
    for column in x..x.saturating_add(width(text)).min(area.width) {
        if let Some(cell) = buf.cell_mut((area.x + column, area.y + y)) {
            cell.reset();
        }
    }
    let (end, _) = buf.set_stringn(area.x + x, area.y + y, text, room, style);
    end - area.x
}

/// As [`put`], for a line of several styles.
pub fn put_line(buf: &mut Buffer, area: Rect, x: u16, y: u16, line: &Line<'_>) -> u16 {
    line.spans.iter().fold(x, |x, span| put(buf, area, x, y, &span.content, span.style))
}

/// As [`put_line`], ending at the right edge of the area.
pub fn put_right(buf: &mut Buffer, area: Rect, y: u16, line: &Line<'_>) {
    let width = line.width().min(usize::from(area.width)) as u16;
    put_line(buf, area, area.width - width, y, line);
}

/// Puts a style over what is there already.
pub fn over(buf: &mut Buffer, area: Rect, style: Style) {
    buf.set_style(area.intersection(buf.area), style);
}

/// A rule with a title in it, and something at its right end: "── title ───────── legend ──".
pub fn titled_rule(
    buf: &mut Buffer,
    area: Rect,
    look: &Look,
    title: &Line<'_>,
    right: &Line<'_>,
    focused: bool,
) {
    put_line(buf, area, 0, 0, &Line::from(look.rule(area.width)));
    let mut end = 2;
    if title.width() > 0 {
        end = put(buf, area, end, 0, " ", Style::new());
        let before = end;
        end = put_line(buf, area, end, 0, title);
        if focused {
            over(buf, row(area, 0, before, end - before.min(end)), look.theme.strong);
        }
        end = put(buf, area, end, 0, " ", Style::new());
    }
    let width = right.width() as u16;
    if width > 0 && end + width + 4 <= area.width {
        let x = area.width - width - 4;
        put(buf, area, x, 0, " ", Style::new());
        put_line(buf, area, x + 1, 0, right);
        put(buf, area, x + 1 + width, 0, " ", Style::new());
    }
}

/// One row of an area, from column `x`, `width` columns wide; empty outside of it.
pub fn row(area: Rect, y: u16, x: u16, width: u16) -> Rect {
    if y >= area.height || x >= area.width {
        return Rect::new(area.x, area.y, 0, 0);
    }
    Rect::new(area.x + x, area.y + y, width.min(area.width - x), 1)
}

/// The area without its first `top` rows.
pub fn below(area: Rect, top: u16) -> Rect {
    let top = top.min(area.height);
    Rect { y: area.y + top, height: area.height - top, ..area }
}

/// The width of text in columns.
pub fn width(text: &str) -> u16 {
    u16::try_from(text.width()).unwrap_or(u16::MAX)
}
