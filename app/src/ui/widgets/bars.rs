//! Lying bars: of one value, and stacked from parts of a whole.

use crate::model::tick::PHASES;
use crate::ui::paint::Look;
use ratatui::text::{Line, Span};

/// A bar of `share` (0 to 1) of `width` columns, in eighths of a column. What is more than
/// nothing is at least an eighth.
pub fn bar(share: f64, width: usize, look: &Look) -> String {
    let steps = look.glyphs.bar.len();
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let mut eighths = (share * (width * steps) as f64).round() as usize;
    if share > 0.0 {
        eighths = eighths.max(1);
    }
    let mut out = look.glyphs.bar[steps - 1].to_string().repeat(eighths / steps);
    if !eighths.is_multiple_of(steps) {
        out.push(look.glyphs.bar[eighths % steps - 1]);
    }
    out
}

/// A stacked bar of exactly `width` columns. `parts` are weights in the order of
/// [`crate::ui::glyph::Glyphs::parts`]; the columns are given out by largest remainder, so that
/// they add up. All weights zero: an empty bar.
pub fn stacked(parts: [u64; PHASES], width: usize, look: &Look) -> Line<'static> {
    let mut spans = Vec::new();
    for (i, columns) in apportion(parts, width).into_iter().enumerate() {
        if columns > 0 {
            let text = look.glyphs.parts[i].to_string().repeat(columns);
            spans.push(Span::styled(text, look.theme.parts[i]));
        }
    }
    if spans.is_empty() {
        spans.push(Span::raw(" ".repeat(width)));
    }
    Line::from(spans)
}

/// Columns for each part; their sum is `width` unless every weight is zero.
fn apportion(parts: [u64; PHASES], width: usize) -> [usize; PHASES] {
    let total: u128 = parts.iter().map(|&p| u128::from(p)).sum();
    if total == 0 {
        return [0; PHASES];
    }
    let exact = parts.map(|p| u128::from(p) * width as u128);
    let mut columns = exact.map(|e| (e / total) as usize);
    let mut order: Vec<usize> = (0..PHASES).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(exact[i] % total));
    let missing = width - columns.iter().sum::<usize>();
    for &i in order.iter().take(missing) {
        columns[i] += 1;
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{glyph, theme::Theme};
    use proptest::prelude::*;

    fn look() -> Look {
        Look { theme: Theme::new(Default::default()), glyphs: glyph::UNICODE }
    }

    #[test]
    fn a_bar_has_eighths() {
        assert_eq!(bar(0.0, 4, &look()), "");
        assert_eq!(bar(0.000_1, 4, &look()), "▏");
        assert_eq!(bar(0.5, 4, &look()), "██");
        assert_eq!(bar(0.53, 4, &look()), "██▏");
        assert_eq!(bar(7.0, 4, &look()), "████");
    }

    #[test]
    fn parts_add_up() {
        assert_eq!(apportion([1, 1, 1, 0, 0, 0, 0, 0, 0], 10), [4, 3, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(apportion([0; PHASES], 10), [0; PHASES]);
        assert_eq!(stacked([2, 1, 0, 0, 0, 1, 0, 0, 0], 8, &look()).to_string(), "████▓▓··");
    }

    proptest! {
        #[test]
        fn parts_always_add_up(parts in any::<[u64; PHASES]>(), width in 0usize..200) {
            let sum: usize = apportion(parts, width).iter().sum();
            prop_assert!(sum == width || parts == [0; PHASES]);
        }
    }
}
