//! The latency histogram: one row per range of durations, longest at the bottom.

use super::bars;
use crate::state::value;
use crate::ui::paint::{Look, put};
use kvmscope_shared::hist::{BUCKETS, bucket_lo};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

/// A row: buckets `from..to` together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// First bucket.
    pub from: usize,
    /// One past the last.
    pub to: usize,
    /// Exits in them.
    pub count: u64,
}

/// Groups the used part of a histogram into at most `rows` bands of equal width in buckets (a
/// power of two, from a quarter of an octave to several), aligned so that edges are round.
/// Empty bands between used ones stay.
pub fn bands(hist: &[(u8, u64)], rows: usize) -> Vec<Band> {
    let used = || hist.iter().filter(|&&(_, n)| n > 0).map(|&(b, _)| usize::from(b));
    let (Some(first), Some(last)) = (used().min(), used().max()) else { return Vec::new() };
    if rows == 0 {
        return Vec::new();
    }
    // Bucket 0 lies below the first octave; shifted by three, octaves begin at multiples of four.
    let at = |bucket: usize| bucket + 3;
    let mut width = 1;
    while at(last) / width - at(first) / width + 1 > rows {
        width *= 2;
    }
    (at(first) / width..=at(last) / width)
        .map(|group| {
            let from = (group * width).saturating_sub(3);
            let to = ((group + 1) * width).saturating_sub(3).min(BUCKETS);
            let inside = |b: u8| (from..to).contains(&usize::from(b));
            let count = hist.iter().filter(|&&(b, _)| inside(b)).map(|&(_, n)| n).sum();
            Band { from, to, count }
        })
        .collect()
}

/// Draws it: the lower edge of each range, a bar, the count. `mark` names rows that hold a
/// quantile: (bucket, short name).
pub fn draw(
    buf: &mut Buffer,
    area: Rect,
    hist: &[(u8, u64)],
    marks: &[(usize, &str)],
    style: Style,
    look: &Look,
) {
    const LABEL: u16 = 7;
    const COUNT: u16 = 6;
    const MARK: u16 = 8;
    if area.width < LABEL + COUNT + 3 {
        return;
    }
    let with_marks = area.width >= LABEL + COUNT + MARK + 10;
    let mark_width = if with_marks { MARK } else { 0 };
    let room = area.width - LABEL - COUNT - mark_width;
    let bands = bands(hist, usize::from(area.height));
    let max = bands.iter().map(|b| b.count).max().unwrap_or(0);
    for (y, band) in (0..area.height).zip(&bands) {
        let edge = match band.from {
            0 => format!("<{}", look.duration(Some(bucket_lo(band.to)))),
            from => look.duration(Some(bucket_lo(from))),
        };
        put(buf, area, 0, y, &format!("{edge:>6}"), look.theme.dim);
        let bar = bars::bar(band.count as f64 / max.max(1) as f64, usize::from(room), look);
        let end = put(buf, area, LABEL, y, &bar, style);
        let count = if band.count > 0 { value::count(band.count) } else { String::new() };
        let end = put(buf, area, end + 1, y, &count, look.theme.text);
        if with_marks {
            let names: Vec<&str> = marks
                .iter()
                .filter(|(bucket, _)| (band.from..band.to).contains(bucket))
                .map(|&(_, name)| name)
                .collect();
            let text = names.join(" ");
            let x = (area.width.saturating_sub(text.len() as u16)).max(end + 1);
            put(buf, area, x, y, &text, look.theme.head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvmscope_shared::hist::bucket_of;
    use proptest::prelude::*;

    #[test]
    fn a_narrow_histogram_keeps_its_buckets() {
        let hist = [(9, 5), (10, 7)];
        let expected = [Band { from: 9, to: 10, count: 5 }, Band { from: 10, to: 11, count: 7 }];
        assert_eq!(bands(&hist, 10), expected);
    }

    #[test]
    fn a_wide_one_is_grouped_at_octaves() {
        let hist = [(bucket_of(1_024) as u8, 1), (bucket_of(1_000_000) as u8, 2)];
        let rows = bands(&hist, 12);
        assert_eq!(rows.len(), 10);
        assert_eq!(bucket_lo(rows[0].from), 1_024);
        assert_eq!(bucket_lo(rows[1].from), 2_048);
        assert_eq!(rows.iter().map(|b| b.count).sum::<u64>(), 3);
    }

    #[test]
    fn nothing_has_no_rows() {
        assert_eq!(bands(&[], 5), []);
        assert_eq!(bands(&[(3, 0)], 5), []);
    }

    proptest! {
        #[test]
        fn every_exit_is_in_a_band(
            hist in prop::collection::btree_map(0u8..BUCKETS as u8, 0u64..1_000_000, 0..30),
            rows in 2usize..40,
        ) {
            let hist: Vec<_> = hist.into_iter().collect();
            let bands = bands(&hist, rows);
            prop_assert!(bands.len() <= rows);
            let sum: u64 = hist.iter().map(|&(_, n)| n).sum();
            prop_assert_eq!(bands.iter().map(|b| b.count).sum::<u64>(), sum);
            prop_assert!(bands.windows(2).all(|w| w[0].to == w[1].from));
        }
    }
}
