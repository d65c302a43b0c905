//! One reason: its numbers before and after, and both histograms over each other, per second, so that
//! measurements of different lengths compare.

use super::draw::{by_direction, per_second};
use crate::diff::words::{part, points, signed_ns, times};
use crate::diff::{Both, Entity, ReasonDiff};
use crate::state::value::rate;
use crate::ui::paint::{Look, below, put, put_line, row, titled_rule};
use crate::ui::widgets::histogram::{Band, bands};
use kvmscope_shared::hist::bucket_lo;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

/// Columns of the numbers.
const NUMBERS: u16 = 50;
/// Smallest width at which numbers and histogram stand side by side.
const WIDE: u16 = 120;
/// Rows of the numbers with their head.
pub const NUMBER_ROWS: u16 = 11;

/// Draws both, as far as there is room.
pub fn draw(buf: &mut Buffer, area: Rect, reason: &ReasonDiff, entity: &Entity, look: &Look) {
    if area.width >= WIDE {
        numbers(buf, Rect { width: NUMBERS, ..area }, reason, look);
        let x = area.x + NUMBERS + 2;
        histogram(buf, Rect { x, width: area.width - NUMBERS - 3, ..area }, reason, entity, look);
        return;
    }
    let top = if area.height >= NUMBER_ROWS + 5 { NUMBER_ROWS } else { 0 };
    numbers(buf, Rect { height: top, ..area }, reason, look);
    histogram(buf, below(area, top), reason, entity, look);
}

/// A line of the numbers: what, before, after, change, and which direction that is.
struct Number(&'static str, String, String, String, f64);

fn numbers(buf: &mut Buffer, area: Rect, reason: &ReasonDiff, look: &Look) {
    let both = &reason.numbers;
    let micro = |text: String| text.replace('µ', &look.glyphs.micro.to_string());
    let rates = both.map(|n| n.rate);
    let shares = |what, of: Both<f64>| {
        Number(what, part(of.before), part(of.after), points(of.change()), of.notable())
    };
    let time = |what, of: Both<Option<u64>>| {
        let change = match (of.before, of.after) {
            (Some(before), Some(after)) => Some(after as f64 - before as f64),
            _ => None,
        };
        let text = change.map_or(String::new(), signed_ns);
        Number(what, look.duration(of.before), look.duration(of.after), text, of.notable())
    };
    let latency = reason.sums.map(|sum| sum.stats().latency);
    let of = |get: fn(&crate::model::stats::Latency) -> u64| {
        latency.map(|latency| latency.as_ref().map(get))
    };
    let times_both = both.map(|n| n.time);
    let lines = [
        Number(
            "exits per second",
            rate(rates.before),
            rate(rates.after),
            times(&rates),
            rates.notable(),
        ),
        shares("share of exits", both.map(|n| n.of_exits)),
        Number(
            "exit time per second",
            per_second(times_both.before, look),
            per_second(times_both.after, look),
            signed_ns(times_both.change()),
            times_both.notable(),
        ),
        shares("share of wall time", both.map(|n| n.of_time)),
        time("handling time: mean", of(|l| l.mean_ns)),
        time("p50", of(|l| l.p50_ns)),
        time("p90", of(|l| l.p90_ns)),
        time("p99", of(|l| l.p99_ns)),
        time("p99.9", of(|l| l.p999_ns)),
        time("max", of(|l| l.max_ns)),
    ];
    let head = format!("{:<21} {:>7} {:>7} {:>8}", "", "before", "after", "change");
    put(buf, area, 1, 0, &head, look.theme.head);
    for (y, Number(what, before, after, change, direction)) in (1..area.height).zip(lines) {
        let text = format!("{what:>21} {:>7} {:>7}", micro(before), micro(after));
        let x = put(buf, area, 1, y, &text, look.theme.text);
        let style = by_direction(direction, look.theme.text, look);
        put(buf, area, x + 1, y, &format!("{:>8}", micro(change)), style);
    }
}

/// Exits per second of a range of handling times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The range.
    pub band: Band,
    /// How many, on each side.
    pub rates: Both<f64>,
}

/// The ranges that one of the sides has exits in, at most so many.
pub fn rows(reason: &ReasonDiff, present_ns: &Both<u64>, most: usize) -> Vec<Row> {
    let mut together = reason.sums.before.hist.clone();
    together.merge(&reason.sums.after.hist);
    let counts: Vec<(u8, u64)> = (0..).zip(together.counts().iter().copied()).collect();
    let of = |counts: &[u64], band: &Band, present_ns: u64| {
        let some = counts.get(band.from..band.to).unwrap_or_default();
        let n = some.iter().copied().fold(0, u64::saturating_add);
        if present_ns == 0 { 0.0 } else { n as f64 * 1e9 / present_ns as f64 }
    };
    bands(&counts, most)
        .into_iter()
        .map(|band| Row {
            band,
            rates: Both::new(
                of(reason.sums.before.hist.counts(), &band, present_ns.before),
                of(reason.sums.after.hist.counts(), &band, present_ns.after),
            ),
        })
        .collect()
}

/// Both histograms: what both have, what only one of them has, and the numbers.
pub fn histogram(buf: &mut Buffer, area: Rect, reason: &ReasonDiff, entity: &Entity, look: &Look) {
    const LABEL: u16 = 7;
    const NUMBERS: u16 = 21;
    if area.height < 2 || area.width < LABEL + NUMBERS + 5 {
        return;
    }
    let (theme, shade) = (&look.theme, &look.glyphs.shade);
    let key = Line::from(vec![
        Span::styled(format!("{} both  ", shade[4]), theme.text),
        Span::styled(format!("{} only before  ", shade[1]), theme.less),
        Span::styled(format!("{} only after", shade[3]), theme.more),
    ]);
    let title = Line::from("exits per second by handling time");
    titled_rule(buf, row(area, 0, 0, area.width), look, &title, &key, false);
    let head = format!("{:>6} {:>6} {:>6}", "before", "after", "ratio");
    put(buf, area, area.width - NUMBERS, 1, &head, theme.head);
    let body = below(area, 2);
    let rows = rows(reason, &entity.present_ns, usize::from(body.height));
    if rows.is_empty() {
        put(buf, area, 1, 1, "No exit of it ended on either side.", theme.dim);
        return;
    }
    let most = rows.iter().map(|row| row.rates.before.max(row.rates.after)).fold(0.0, f64::max);
    let room = area.width - LABEL - NUMBERS - 1;
    for (y, Row { band, rates }) in (0..body.height).zip(&rows) {
        let edge = match band.from {
            0 => format!("<{}", look.duration(Some(bucket_lo(band.to)))),
            from => look.duration(Some(bucket_lo(from))),
        };
        put(buf, body, 0, y, &format!("{edge:>6}"), theme.dim);
        put_line(buf, body, LABEL, y, &bar(rates, most, room, look));
        if rates.before == 0.0 && rates.after == 0.0 {
            continue;
        }
        let x = put(buf, body, area.width - NUMBERS, y, &numbers_of(rates), theme.text);
        let style = by_direction(rates.notable(), theme.text, look);
        put(buf, body, x, y, &format!(" {:>6}", times(rates)), style);
    }
}

fn numbers_of(rates: &Both<f64>) -> String {
    let text = |n: f64| if n > 0.0 { rate(n) } else { String::new() };
    format!("{:>6} {:>6}", text(rates.before), text(rates.after))
}

/// What both have, then what one of them has more. What is more than nothing has a column.
fn bar(rates: &Both<f64>, most: f64, room: u16, look: &Look) -> Line<'static> {
    let columns = rates.map(|n| match *n {
        n if n > 0.0 && most > 0.0 => ((n / most * f64::from(room)).round() as usize).max(1),
        _ => 0,
    });
    let both = columns.before.min(columns.after);
    let span =
        |glyph: char, n: usize, style: Style| Span::styled(glyph.to_string().repeat(n), style);
    let shade = &look.glyphs.shade;
    Line::from(vec![
        span(shade[4], both, look.theme.text),
        span(shade[1], columns.before - both, look.theme.less),
        span(shade[3], columns.after - both, look.theme.more),
    ])
}
