//! Sparklines: the last values, newest at the right.

use crate::ui::paint::{Look, put};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};
use std::ops::Range;

/// How a value becomes a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Proportional to the largest value shown; for rates.
    Linear,
    /// Each level is a doubling and the lowest is the smallest value shown, unless all are within
    /// a factor of two; for latencies. (In a graph, whose axis has numbers, heights are
    /// proportional nevertheless.)
    Log,
}

/// Divides `n` ticks, of which the last is number `seq`, into at most `width` runs of equal length.
/// A tick stays with the same neighbours as time goes on, so that pictures do not flicker; only
/// the last run still fills, and the first empties.
pub fn runs(n: usize, width: usize, seq: u64) -> Vec<Range<usize>> {
    if n == 0 || width == 0 {
        return Vec::new();
    }
    // With runs at both ends that are not full there is one more than n / length.
    let mut length = n.div_ceil(width).max(1);
    if length > 1 {
        length = (n - 1).div_ceil((width - 1).max(1));
    }
    let first = (seq as usize + 1).saturating_sub(n);
    let mut out: Vec<Range<usize>> = Vec::new();
    for i in 0..n {
        match out.last_mut() {
            Some(run) if !(first + i).is_multiple_of(length) => run.end = i + 1,
            _ => out.push(i..i + 1),
        }
    }
    let extra = out.len().saturating_sub(width);
    out.split_off(extra)
}

/// The values joined to at most `width`, as their scale joins them: means of rates, the worst of
/// latencies. What is missing in part is what is there.
pub fn joined(values: &[Option<f64>], width: usize, scale: Scale, seq: u64) -> Vec<Option<f64>> {
    runs(values.len(), width, seq)
        .into_iter()
        .map(|run| {
            let known: Vec<f64> = values[run].iter().flatten().copied().collect();
            match scale {
                _ if known.is_empty() => None,
                Scale::Linear => Some(known.iter().sum::<f64>() / known.len() as f64),
                Scale::Log => known.into_iter().reduce(f64::max),
            }
        })
        .collect()
}

/// The sparkline as text of exactly `width` columns, over all the values, of which the last
/// belongs to tick `seq`. A missing value is a space, as is the time before the first one.
pub fn text(values: &[Option<f64>], width: usize, scale: Scale, seq: u64, look: &Look) -> String {
    let shown = joined(values, width, scale, seq);
    let levels = look.glyphs.spark.len();
    let height = heights(&shown, levels, scale);
    let mut out = " ".repeat(width - shown.len());
    out.extend(height.into_iter().map(|h| h.map_or(' ', |h| look.glyphs.spark[h])));
    out
}

/// Heights below `levels`.
fn heights(values: &[Option<f64>], levels: usize, scale: Scale) -> Vec<Option<usize>> {
    let known = || values.iter().flatten().copied().filter(|v| v.is_finite());
    let max = known().fold(0.0, f64::max);
    let min = known().filter(|&v| v > 0.0).fold(f64::INFINITY, f64::min);
    let top = levels.saturating_sub(1);
    let height = |v: f64| match scale {
        _ if v <= 0.0 || max <= 0.0 => 0,
        Scale::Linear => (v / max * top as f64).round() as usize,
        Scale::Log => {
            // A wide range is squeezed, a narrow one is not blown up.
            let octaves = (max / min).log2().max(top as f64);
            ((v / min).log2() / octaves * top as f64).round() as usize
        }
    };
    values.iter().map(|v| v.map(|v| height(v).min(top))).collect()
}

/// Columns left of a graph.
const LABEL: u16 = 6;

/// A graph of several rows with its largest value at the left: eight steps per row.
pub fn graph(
    buf: &mut Buffer,
    area: Rect,
    (values, scale, seq): (&[Option<f64>], Scale, u64),
    label: &dyn Fn(f64) -> String,
    style: Style,
    look: &Look,
) {
    if area.height == 0 || area.width <= LABEL + 2 {
        return;
    }
    let width = usize::from(area.width - LABEL);
    let shown = joined(values, width, scale, seq);
    let max = shown.iter().flatten().copied().fold(0.0, f64::max);
    put(buf, area, 0, 0, &format!("{:>5}", label(max)), look.theme.dim);
    if area.height > 1 {
        put(buf, area, 0, area.height - 1, &format!("{:>5}", label(0.0)), look.theme.dim);
    }
    let steps = look.glyphs.spark.len();
    let full = steps * usize::from(area.height);
    let left = LABEL + (width - shown.len()) as u16;
    for (x, value) in (left..).zip(&shown) {
        let Some(value) = value else { continue };
        let height = if max > 0.0 { (value / max * full as f64).round() as usize } else { 0 };
        // Something is never drawn as nothing.
        let height = height.max(usize::from(*value > 0.0)).min(full);
        let body = style.add_modifier(Modifier::DIM);
        for from_bottom in 0..area.height {
            let filled = height.saturating_sub(usize::from(from_bottom) * steps).min(steps);
            let (c, style) = match filled {
                0 if from_bottom == 0 => (look.glyphs.spark[0], look.theme.dim),
                0 => break,
                // The edge is what one looks at; what is below it only leads there.
                _ if height > (usize::from(from_bottom) + 1) * steps => {
                    (look.glyphs.spark[filled - 1], body)
                }
                _ => (look.glyphs.spark[filled - 1], style),
            };
            put(buf, area, x, area.height - 1 - from_bottom, c.encode_utf8(&mut [0; 4]), style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{glyph, theme::Theme};
    use proptest::prelude::*;

    fn look() -> Look {
        Look { theme: Theme::new(Default::default()), glyphs: glyph::UNICODE }
    }

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn newest_is_at_the_right_and_gaps_stay() {
        let values = [Some(1.0), None, Some(4.0), Some(8.0)];
        assert_eq!(text(&values, 6, Scale::Linear, 4, &look()), "  ▂ ▅█");
        assert_eq!(text(&[], 3, Scale::Linear, 0, &look()), "   ");
    }

    #[test]
    fn more_ticks_than_columns_are_joined_and_do_not_flicker() {
        assert_eq!(runs(3, 5, 3), [0..1, 1..2, 2..3]);
        assert_eq!(runs(6, 4, 7), [0..2, 2..4, 4..6]);
        // One tick later the same ticks are together.
        assert_eq!(runs(6, 4, 8), [0..1, 1..3, 3..5, 5..6]);
        let values = some(&[1.0, 3.0, 8.0, 8.0]);
        assert_eq!(joined(&values, 3, Scale::Linear, 5), [Some(2.0), Some(8.0)]);
        assert_eq!(joined(&values, 3, Scale::Log, 5), [Some(3.0), Some(8.0)]);
    }

    #[test]
    fn nothing_is_lowest() {
        assert_eq!(text(&some(&[0.0, 0.0]), 2, Scale::Linear, 2, &look()), "▁▁");
    }

    #[test]
    fn a_log_scale_shows_an_outlier_and_does_not_blow_up_noise() {
        assert_eq!(text(&some(&[10.0, 11.0, 10.0]), 3, Scale::Log, 3, &look()), "▁▁▁");
        assert_eq!(text(&some(&[1e3, 1e3, 1e6, 1e3]), 4, Scale::Log, 4, &look()), "▁▁█▁");
    }

    #[test]
    fn a_graph_stays_in_its_area() {
        for (w, h) in [(0, 0), (1, 1), (9, 1), (12, 3)] {
            let mut buf = Buffer::empty(Rect::new(0, 0, 14, 5));
            let area = Rect::new(1, 1, w, h);
            let values = some(&[1.0, 2.0, 3.0]);
            graph(
                &mut buf,
                area,
                (&values, Scale::Linear, 3),
                &crate::state::value::rate,
                Style::new(),
                &look(),
            );
            for y in 0..5 {
                for x in 0..14 {
                    let inside = area.contains((x, y).into());
                    assert!(inside || buf[(x, y)].symbol() == " ", "{w}x{h} at {x},{y}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn runs_hold_every_tick_once_and_fit(
            n in 0usize..400, width in 2usize..200, later in 0u64..1000,
        ) {
            let runs = runs(n, width, n as u64 + later);
            prop_assert!(runs.len() <= width);
            prop_assert_eq!(runs.iter().map(|r| r.len()).sum::<usize>(), n);
            prop_assert!(runs.windows(2).all(|w| w[0].end == w[1].start));
        }
    }
}
