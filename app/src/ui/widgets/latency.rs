//! The latency heat map: time to the right, latency upwards, brightness is how many.

use super::histogram::{Band, bands};
use crate::ui::paint::{Look, put};
use kvmscope_shared::hist::bucket_lo;
use ratatui::{buffer::Buffer, layout::Rect};

/// One moment: (bucket, exits), or `None` where nothing is known.
pub type Moment = Option<Vec<(u8, u64)>>;

/// The heat of each shade.
const SHADE_HEAT: [usize; 5] = [0, 2, 3, 5, 6];

/// Columns left of the picture.
pub const LABEL: u16 = 7;

/// Draws it into `area`; the newest moment is at the right edge. Returns how many rows it took.
pub fn draw(buf: &mut Buffer, area: Rect, moments: &[Moment], look: &Look) -> u16 {
    if area.width <= LABEL || area.height == 0 {
        return 0;
    }
    let width = usize::from(area.width - LABEL);
    let shown = &moments[moments.len().saturating_sub(width)..];
    let mut all: Vec<(u8, u64)> = shown.iter().flatten().flatten().copied().collect();
    all.sort_unstable();
    let rows = bands(&all, usize::from(area.height));
    let most = shown.iter().flatten().flat_map(|m| rows.iter().map(|band| inside(m, band))).max();
    let left = LABEL + (width - shown.len()) as u16;
    for (i, band) in rows.iter().enumerate() {
        let y = (rows.len() - 1 - i) as u16;
        let edge = match band.from {
            0 => format!("<{}", look.duration(Some(bucket_lo(band.to)))),
            from => look.duration(Some(bucket_lo(from))),
        };
        put(buf, area, 0, y, &format!("{edge:>6}"), look.theme.dim);
        for (x, moment) in (left..).zip(shown) {
            let Some(moment) = moment else { continue };
            let level = level(inside(moment, band), most.unwrap_or(0));
            let c = look.glyphs.shade[level];
            put(buf, area, x, y, c.encode_utf8(&mut [0; 4]), look.theme.heat[SHADE_HEAT[level]]);
        }
    }
    rows.len() as u16
}

fn inside(moment: &[(u8, u64)], band: &Band) -> u64 {
    let here = |b: u8| (band.from..band.to).contains(&usize::from(b));
    moment.iter().filter(|&&(b, _)| here(b)).map(|&(_, n)| n).sum()
}

/// Brightness of a count: none, and four steps on a logarithmic scale up to the largest one, so
/// that a single slow exit among thousands of fast ones is seen.
fn level(count: u64, most: u64) -> usize {
    match count {
        0 => 0,
        _ if most <= 1 => 2,
        _ => 1 + ((count as f64).ln() / (most as f64).ln() * 3.0).round() as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{glyph, theme::Theme};

    #[test]
    fn brightness_is_logarithmic() {
        assert_eq!([0, 1, 10, 100, 1000].map(|n| level(n, 1000)), [0, 1, 2, 3, 4]);
        assert_eq!(level(1, 1), 2);
    }

    #[test]
    fn slow_is_up_and_new_is_right() {
        let look = Look { theme: Theme::new(Default::default()), glyphs: glyph::ASCII };
        let mut buf = Buffer::empty(Rect::new(0, 0, 11, 3));
        let moments = [None, Some(vec![(9, 100)]), Some(vec![(9, 100), (11, 1)])];
        draw(&mut buf, Rect::new(0, 0, 11, 3), &moments, &look);
        let rows: Vec<String> =
            (0..3).map(|y| (0..11).map(|x| buf[(x, y)].symbol().to_owned()).collect()).collect();
        assert_eq!(rows, [" 384ns   .:", " 320ns   ..", " 256ns   ##"]);
    }
}
