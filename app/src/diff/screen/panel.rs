//! Below a list: the selected row more closely. Of a VM or a vCPU where its wall time went, before and after, and its
//! reasons; of a reason its numbers and histograms.

use super::draw::by_direction;
use super::overlay;
use super::rows::{DiffRow, Place, reason_name};
use crate::diff::words::{percent, points, signed_ns, times};
use crate::diff::{Diff, Entity, Where};
use crate::model::tick::PHASES;
use crate::state::rows::{Part, Split};
use crate::state::value::rate;
use crate::ui::paint::{Look, below, put, put_line, row, titled_rule};
use crate::ui::widgets::bars;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

/// Smallest width at which reasons stand beside the time.
const WIDE: u16 = 110;
/// Columns of the parts of time.
const PARTS: u16 = 52;

/// Rows that it needs, of an area that it shares with the list.
pub fn height(area: Rect, place: Place) -> u16 {
    match place {
        // A rule, two bars and a few parts.
        Place::All | Place::Vm(_) => {
            if area.height >= 30 {
                14
            } else {
                7
            }
        }
        Place::Reasons(..) | Place::Reason(..) if area.width >= 120 => {
            (area.height / 2).clamp(8, overlay::NUMBER_ROWS + 8)
        }
        Place::Reasons(..) | Place::Reason(..) => (area.height / 2).clamp(7, 24),
    }
}

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, diff: &Diff, selected: &DiffRow, look: &Look) {
    match selected.place {
        Place::All => {}
        Place::Vm(_) | Place::Reasons(..) => {
            let Some(entity) = selected.place.entity(diff) else { return };
            of_entity(buf, area, &selected.name, entity, look);
        }
        Place::Reason(..) => {
            let place = selected.place;
            let (Some(reason), Some(entity)) = (place.reason(diff), place.entity(diff)) else {
                return;
            };
            let title = Line::from(look.name(&selected.name));
            titled_rule(buf, row(area, 0, 0, area.width), look, &title, &Line::default(), true);
            overlay::draw(buf, below(area, 1), reason, entity, look);
        }
    }
}

fn of_entity(buf: &mut Buffer, area: Rect, name: &str, entity: &Entity, look: &Look) {
    let wide = area.width >= WIDE;
    let title = Line::from(format!("wall time of {}, in percent", look.name(name)));
    titled_rule(buf, row(area, 0, 0, area.width), look, &title, &Line::default(), true);
    let body = below(area, 1);
    let parts = entity.parts();
    if parts.is_empty() {
        let text = match entity.seen {
            Where::Both => "Where its time went is not known of both sides.",
            Where::Before => "It was there only before: there is nothing to compare it with.",
            Where::After => "It was there only after: there is nothing to compare it with.",
        };
        put(buf, body, 1, 0, text, look.theme.dim);
    } else {
        let split = entity.split();
        for (y, (word, split)) in (0..).zip([("before", split.before), ("after", split.after)]) {
            put(buf, body, 1, y, word, look.theme.dim);
            let bar =
                bars::stacked(weights(&split), usize::from(body.width.saturating_sub(9)), look);
            put_line(buf, body, 8, y, &bar);
        }
    }
    let rest = below(body, if parts.is_empty() { 1 } else { 2 });
    if wide {
        let left = Rect { width: PARTS, ..rest };
        let (x, width) = (rest.x + PARTS + 2, rest.width - PARTS - 2);
        if rest.height > parts.len() as u16 {
            part_table(buf, left, &parts, look);
        } else {
            part_words(buf, left, &parts, look);
        }
        reasons(buf, Rect { x, width, ..rest }, entity, look);
    } else {
        let used = part_words(buf, rest, &parts, look);
        let right = below(rest, used + 1);
        reasons(
            buf,
            Rect { x: right.x + 1, width: right.width.saturating_sub(1), ..right },
            entity,
            look,
        );
    }
}

/// In the order of the bar's glyphs.
fn weights(split: &Split) -> [u64; PHASES] {
    // Shares to a millionth; the bar has a hundred columns.
    Part::ALL.map(|part| (split.share(part) * 1e6) as u64)
}

type Parts = [(Part, crate::diff::Both<f64>)];

fn glyph(part: Part, look: &Look) -> Span<'static> {
    let at = Part::ALL.iter().position(|&other| other == part).unwrap_or(0);
    Span::styled(look.glyphs.parts[at].to_string(), look.theme.parts[at])
}

/// One part a line.
fn part_table(buf: &mut Buffer, area: Rect, parts: &Parts, look: &Look) {
    let head = format!("{:<16} {:>8} {:>8} {:>8}", "part", "before", "after", "change");
    put(buf, area, 1, 0, &head, look.theme.head);
    for (y, (part, both)) in (1..area.height).zip(parts) {
        let x = put_line(buf, area, 1, y, &Line::from(glyph(*part, look)));
        let (before, after) = (percent(both.before), percent(both.after));
        let text = format!(" {:<14} {before:>8} {after:>8}", part.label());
        let x = put(buf, area, x, y, &text, look.theme.text);
        let change = points(both.change());
        put(buf, area, x, y, &format!(" {change:>8}"), part_style(*part, both.change(), look));
    }
}

/// More time in the guest is no bad news, and less of it no good: parts have no colour of direction, but those that
/// nobody wants.
fn part_style(part: Part, change: f64, look: &Look) -> ratatui::style::Style {
    let unwanted = !matches!(part, Part::Guest | Part::Halted | Part::Unknown);
    let shown = points(change) != points(0.0);
    if unwanted && shown { by_direction(change, look.theme.text, look) } else { look.theme.text }
}

/// As many parts as fit, what changed most first; returns the rows that they took.
fn part_words(buf: &mut Buffer, area: Rect, parts: &Parts, look: &Look) -> u16 {
    let mut parts = parts.to_vec();
    parts.sort_by(|(_, a), (_, b)| b.change().abs().total_cmp(&a.change().abs()));
    let (mut x, mut y) = (1, 0);
    for (part, both) in parts {
        let to = if look.glyphs.ascii { "->" } else { look.glyphs.arrows[1] };
        let (before, after) = (percent(both.before), percent(both.after));
        let shown = format!(" {} {before} {to} {after} ", part.label());
        let change = points(both.change());
        let width = crate::ui::paint::width(&shown) + crate::ui::paint::width(&change) + 1;
        if x + width > area.width && x > 1 {
            (x, y) = (1, y + 1);
        }
        let end = put_line(buf, area, x, y, &Line::from(glyph(part, look)));
        let end = put(buf, area, end, y, &shown, look.theme.text);
        let end = put(buf, area, end, y, &change, part_style(part, both.change(), look));
        x = end + 3;
    }
    if x > 1 { y + 1 } else { 0 }
}

/// What changed most of it.
fn reasons(buf: &mut Buffer, area: Rect, entity: &Entity, look: &Look) {
    if area.height < 2 || entity.reasons.is_empty() {
        return;
    }
    let micro = |text: String| text.replace('µ', &look.glyphs.micro.to_string());
    let head = format!(
        "{:<20} {:>8} {:>8} {:>6} {:>10}",
        "reason", "exits/s", "after", "ratio", "time +/-"
    );
    put(buf, area, 0, 0, &head, look.theme.head);
    for (y, reason) in (1..area.height).zip(&entity.reasons) {
        let rates = reason.numbers.map(|n| n.rate);
        let plain = if reason.reason.is_idle() { look.theme.idle } else { look.theme.text };
        let name = look.truncate(&look.name(&reason_name(reason)), 20);
        let pad = 20 - usize::from(crate::ui::paint::width(&name));
        let text = format!("{name}{:pad$} {:>8} {:>8}", "", rate(rates.before), rate(rates.after));
        let x = put(buf, area, 0, y, &text, plain);
        let style = by_direction(rates.notable(), plain, look);
        let x = put(buf, area, x, y, &format!(" {:>6}", times(&rates)), style);
        let style = by_direction(reason.numbers.map(|n| n.time).notable(), plain, look);
        put(buf, area, x, y, &format!(" {:>10}", micro(signed_ns(reason.change()))), style);
    }
}
