//! Tables whose columns give way in order of importance.

use crate::ui::paint::{Look, over, put, put_line, row};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};
use std::borrow::Cow;

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At the left.
    Left,
    /// At the right; for numbers.
    Right,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its header; never cut, a column is at least as wide.
    pub title: Cow<'static, str>,
    /// Smallest useful width.
    pub width: u16,
    /// Most useful width; the room left over goes to columns that can use it.
    pub most: u16,
    /// Where its text stands.
    pub align: Align,
    /// Columns with a lower number stay longer when there is little room.
    pub rank: u8,
    /// Whether room left over goes to it before it goes to pictures, which can use any.
    pub eager: bool,
    /// Whether rows are ordered by it, and downwards.
    pub sorted: Option<bool>,
}

impl Column {
    /// A column of numbers, `width` wide.
    pub fn number(title: impl Into<Cow<'static, str>>, width: u16, rank: u8) -> Self {
        Self {
            title: title.into(),
            width,
            most: width,
            align: Align::Right,
            rank,
            eager: false,
            sorted: None,
        }
    }

    /// A column of text that can use between `width` and `most`.
    pub fn text(title: impl Into<Cow<'static, str>>, width: u16, most: u16, rank: u8) -> Self {
        Self {
            title: title.into(),
            width,
            most,
            align: Align::Left,
            rank,
            eager: false,
            sorted: None,
        }
    }

    /// The same, with room going to it first.
    pub fn eager(self) -> Self {
        Self { eager: true, ..self }
    }

    fn least(&self) -> u16 {
        // One more for the arrow of the sorted column.
        let title = crate::ui::paint::width(&self.title);
        self.width.max(title + u16::from(self.sorted.is_some()))
    }
}

/// Columns between two columns.
const GAP: u16 = 2;
/// For the marker of the selected row.
const MARKER: u16 = 1;

/// A column's place: (index, x, width).
pub type Place = (usize, u16, u16);

/// Chooses the columns that fit and their places.
pub fn places(columns: &[Column], width: u16) -> Vec<Place> {
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let needed = |kept: &[usize]| -> u16 {
        kept.iter().map(|&i| columns[i].least() + GAP).sum::<u16>() + MARKER
    };
    while kept.len() > 1 && needed(&kept) > width + GAP {
        let Some(last) = kept.iter().copied().max_by_key(|&i| (columns[i].rank, i)) else { break };
        kept.retain(|&i| i != last);
    }
    let mut widths: Vec<u16> = kept.iter().map(|&i| columns[i].least()).collect();
    let mut spare = (width + GAP).saturating_sub(needed(&kept));
    // One column at a time to each that can use it, so that all grow alike.
    for eager in [true, false] {
        loop {
            let before = spare;
            for (w, &i) in widths.iter_mut().zip(&kept) {
                if spare > 0 && columns[i].eager == eager && *w < columns[i].most {
                    *w += 1;
                    spare -= 1;
                }
            }
            if spare == before {
                break;
            }
        }
    }
    let mut x = MARKER;
    let mut out = Vec::new();
    for (w, i) in widths.into_iter().zip(kept) {
        out.push((i, x, w));
        x += w + GAP;
    }
    out
}

/// The first row to show, so that `selected` is visible, starting from the one shown before.
pub fn scroll(before: usize, selected: Option<usize>, rows: usize, height: u16) -> usize {
    let height = usize::from(height);
    let most = rows.saturating_sub(height);
    let Some(selected) = selected else { return before.min(most) };
    let lowest = (selected + 1).saturating_sub(height);
    before.clamp(lowest, selected.max(lowest)).min(most)
}

/// Draws the header at the first row of `area`.
pub fn header(buf: &mut Buffer, area: Rect, columns: &[Column], places: &[Place], look: &Look) {
    for &(i, x, width) in places {
        let column = &columns[i];
        let mut title = column.title.to_string();
        if let Some(down) = column.sorted {
            title.push(if down { look.glyphs.sorted.0 } else { look.glyphs.sorted.1 });
        }
        let pad = match column.align {
            Align::Left => 0,
            Align::Right => width.saturating_sub(crate::ui::paint::width(&title)),
        };
        let style = if column.sorted.is_some() { look.theme.sorted } else { look.theme.head };
        put(buf, row(area, 0, x, width), pad, 0, &title, style);
    }
}

/// Draws one row; `cell` yields the text of a column for a width.
pub fn line<'a>(
    buf: &mut Buffer,
    area: Rect,
    columns: &[Column],
    places: &[Place],
    selected: bool,
    look: &Look,
    cell: impl Fn(usize, u16) -> Line<'a>,
) {
    for &(i, x, width) in places {
        let line = cell(i, width);
        let pad = match columns[i].align {
            Align::Left => 0,
            Align::Right => width.saturating_sub(line.width() as u16),
        };
        put_line(buf, row(area, 0, x, width), pad, 0, &line);
    }
    if selected {
        put(buf, area, 0, 0, &look.glyphs.selected.to_string(), look.theme.key);
        over(buf, row(area, 0, 0, area.width), look.theme.selected);
    }
}

/// A line of one style.
pub fn plain(text: impl Into<String>, style: ratatui::style::Style) -> Line<'static> {
    Line::from(Span::styled(text.into(), style))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns() -> Vec<Column> {
        vec![
            Column::text("VM", 6, 20, 0),
            Column::number("exits/s", 6, 1),
            Column::number("p50", 5, 3),
            Column { sorted: Some(true), ..Column::number("p99", 3, 2) },
        ]
    }

    #[test]
    fn the_least_important_column_goes_first() {
        let shown = |width| places(&columns(), width).iter().map(|p| p.0).collect::<Vec<_>>();
        assert_eq!(shown(80), [0, 1, 2, 3]);
        assert_eq!(shown(29), [0, 1, 2, 3]);
        assert_eq!(shown(28), [0, 1, 3]);
        assert_eq!(shown(20), [0, 1]);
        assert_eq!(shown(3), [0]);
    }

    #[test]
    fn room_goes_to_columns_that_can_use_it() {
        assert_eq!(places(&columns(), 33), [(0, 1, 10), (1, 13, 7), (2, 22, 5), (3, 29, 4)]);
        assert_eq!(places(&columns(), 200)[0], (0, 1, 20));
    }

    #[test]
    fn the_selected_row_is_shown_with_as_little_movement_as_possible() {
        assert_eq!(scroll(0, Some(3), 10, 5), 0);
        assert_eq!(scroll(0, Some(5), 10, 5), 1);
        assert_eq!(scroll(3, Some(5), 10, 5), 3);
        assert_eq!(scroll(3, Some(1), 10, 5), 1);
        assert_eq!(scroll(9, None, 10, 5), 5);
        assert_eq!(scroll(9, Some(2), 3, 5), 0);
    }

    proptest! {
        #[test]
        fn places_are_inside_unless_one_column_is_too_much(width in 0u16..300) {
            let places = places(&columns(), width);
            let end = places.last().map_or(0, |p| p.1 + p.2);
            prop_assert!(end <= width || places.len() == 1);
        }

        #[test]
        fn the_selected_row_is_always_shown(
            before in 0usize..50, selected in 0usize..50, more in 1usize..50, height in 1u16..30,
        ) {
            let first = scroll(before, Some(selected), selected + more, height);
            prop_assert!(first <= selected && selected < first + usize::from(height));
        }
    }
}
