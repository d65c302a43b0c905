//! The bar under the panes while a recording is shown: where one is in it, marks, gaps, and how it ends.

use super::{
    format,
    keymap::Command,
    paint::{Look, put, put_line, put_right, row},
    view::{Hit, View},
};
use crate::state::{Deck, Sample, State};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

/// Least columns of the picture; with fewer there is only text.
const LEAST: u16 = 10;
/// With fewer the day gives way.
const ROOMY: u16 = 24;

/// Draws it into a row.
pub fn bar(buf: &mut Buffer, area: Rect, deck: &Deck, view: &mut View) {
    let look = view.look.clone();
    // Where one is matters most, and that something is missing; the picture more than the day.
    let room = |(day, notes, least): &(bool, Notes, u16)| {
        let text = left(deck, &look, *day).width() + right(deck, &look, *notes).width();
        text + usize::from(*least) + 3 <= usize::from(area.width)
    };
    let ways = [
        (true, Notes::All, ROOMY),
        (false, Notes::All, LEAST),
        (false, Notes::Gaps, LEAST),
        (false, Notes::Cut, LEAST),
    ];
    let (day, notes, _) = ways.into_iter().find(room).unwrap_or((false, Notes::None, 0));
    let right = right(deck, &look, notes);
    let x = put_line(buf, area, 1, 0, &left(deck, &look, day)) + 1;
    let width = area.width.saturating_sub(x + right.width() as u16 + 1);
    if width >= LEAST {
        picture(buf, row(area, 0, x, width), deck, &look);
        let place = row(area, 0, x, width);
        view.hit(place, Hit::Timeline(place));
    }
    put_right(buf, area, 0, &right);
}

/// How it goes, when it is, and how far that is from the begin.
fn left(deck: &Deck, look: &Look, long: bool) -> Line<'static> {
    let theme = &look.theme;
    let (word, style) = match () {
        () if deck.gap.is_some() => ("NO DATA", theme.bad),
        () if deck.following => ("LIVE", theme.strong),
        () if deck.playing => ("PLAY", theme.strong),
        () if deck.is_over() => ("END", theme.warn),
        () => ("PAUSED", theme.warn),
    };
    let mut spans = vec![Span::styled(word.to_owned(), style)];
    if !deck.following {
        spans.push(Span::styled(format!(" {}", deck.speed), theme.text));
    }
    let date = if long { format!("{} ", format::date(deck.at_unix_ns)) } else { String::new() };
    let time = format::time_of_day(deck.at_unix_ns);
    spans.push(Span::styled(format!("  {date}{time} UTC"), theme.strong));
    let at = format::clock(deck.at_ns.saturating_sub(deck.start_ns));
    let length = format::clock(deck.end_ns.saturating_sub(deck.start_ns));
    spans.push(Span::styled(format!("  {at}"), theme.text));
    spans.push(Span::styled(format!(" of {length}"), theme.dim));
    Line::from(spans)
}

/// What is said at the right, as there is room for it: each with what comes after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Notes {
    /// The mark at the displayed tick, or how many there are.
    All,
    /// How many gaps there are.
    Gaps,
    /// That the recording was cut off.
    Cut,
    None,
}

fn right(deck: &Deck, look: &Look, notes: Notes) -> Line<'static> {
    let theme = &look.theme;
    let mut parts: Vec<(Notes, String, Style)> = Vec::new();
    if let Some(mark) = deck.mark() {
        let words = if mark.text.is_empty() { "here".to_owned() } else { look.name(&mark.text) };
        let words = look.truncate(&words, 30);
        parts.push((Notes::All, format!("mark: {words}"), theme.strong));
    } else if !deck.marks.is_empty() {
        parts.push((Notes::All, count(deck.marks.len(), "mark", "marks"), theme.text));
    }
    if !deck.gaps.is_empty() {
        parts.push((Notes::Gaps, count(deck.gaps.len(), "gap", "gaps"), theme.warn));
    }
    if deck.end.as_ref().is_some_and(|end| !end.clean) {
        parts.push((Notes::Cut, "cut off".to_owned(), theme.bad));
    }
    let mut spans = Vec::new();
    for (_, text, style) in parts.into_iter().filter(|(note, ..)| *note >= notes) {
        let before = if spans.is_empty() { " " } else { ", " };
        spans.push(Span::styled(before, theme.dim));
        spans.push(Span::styled(text, style));
    }
    if !spans.is_empty() {
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The whole recording from left to right: what is before the position, what is after it, gaps, marks.
fn picture(buf: &mut Buffer, area: Rect, deck: &Deck, look: &Look) {
    let (theme, glyphs) = (&look.theme, &look.glyphs);
    let here = column(deck, deck.at_ns, area.width);
    let mut cells: Vec<(char, Style)> = (0..area.width)
        .map(|x| if x < here { (glyphs.played, theme.text) } else { (glyphs.rule, theme.dim) })
        .collect();
    for gap in deck.gaps.iter() {
        let until_ns = gap.until_ns.max(gap.from_ns);
        // A gap is at least a column, so that it is seen at all.
        for x in column(deck, gap.from_ns, area.width)..=column(deck, until_ns, area.width) {
            if let Some(cell) = cells.get_mut(usize::from(x)) {
                *cell = (glyphs.gap, theme.bad);
            }
        }
    }
    for mark in deck.marks.iter() {
        if let Some(cell) = cells.get_mut(usize::from(column(deck, mark.at_ns, area.width))) {
            *cell = (glyphs.mark, theme.key);
        }
    }
    if let Some(cell) = cells.get_mut(usize::from(here)) {
        *cell = (glyphs.shade[4], theme.strong);
    }
    for (x, (c, style)) in (0..).zip(cells) {
        put(buf, area, x, 0, c.encode_utf8(&mut [0; 4]), style);
    }
}

/// The column of a moment in a picture so wide.
fn column(deck: &Deck, at_ns: u64, width: u16) -> u16 {
    let length_ns = deck.end_ns.saturating_sub(deck.start_ns);
    let from_ns = at_ns.saturating_sub(deck.start_ns).min(length_ns);
    let last = width.saturating_sub(1);
    if length_ns == 0 {
        return last;
    }
    (from_ns as f64 / length_ns as f64 * f64::from(last)).round() as u16
}

/// The share of the recording (percent) at a column of a picture so wide.
pub fn percent(x: u16, width: u16) -> f64 {
    f64::from(x) / f64::from(width.saturating_sub(1).max(1)) * 100.0
}

/// In place of the panes where nothing is known: never zeros. False where something is.
pub fn no_data(buf: &mut Buffer, area: Rect, state: &State, view: &View) -> bool {
    let Some(deck) = state.deck() else { return false };
    let Some(gap) = &deck.gap else { return false };
    let look = &view.look;
    let width = area.width.saturating_sub(8).min(90);
    let x = (area.width - width) / 2;
    let time = |ns| format::time_of_day(state.session().unix_ns(ns));
    let mut sentences = vec![look.name(&capital(&gap.why))];
    if gap.until_ns > gap.from_ns {
        let long = format::clock(gap.until_ns - gap.from_ns);
        let (from, until) = (time(gap.from_ns), time(gap.until_ns));
        sentences.push(format!("Nothing is known from {from} to {until} UTC, for {long}."));
    }
    let key = |command| view.keymap.keys(command).last().map(|key| key.label(&look.glyphs));
    sentences.push(match (key(Command::Newer), key(Command::Older)) {
        _ if deck.playing => "It goes on in a moment.".to_owned(),
        (Some(newer), Some(older)) => {
            format!("{newer} goes to the next tick, {older} to the one before.")
        }
        _ => String::new(),
    });
    let y = (area.height / 3).max(1);
    put(buf, area, x, y, "No data", look.theme.bad);
    let lines = sentences.iter().flat_map(|sentence| {
        let mut lines = vec![String::new()];
        lines.extend(format::wrap(sentence, width.into(), look.glyphs.ellipsis));
        lines
    });
    for (y, line) in (y + 1..area.height).zip(lines) {
        put(buf, area, x, y, &line, look.theme.text);
    }
    true
}

/// A sentence's begin and end.
fn capital(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => String::new(),
    }
}

/// What to say where there is no mark to go to.
pub fn no_mark(state: &State, next: bool) -> Option<String> {
    let deck = state.deck()?;
    let there = if next { deck.next_mark() } else { deck.mark_before() };
    let side = if next { "after" } else { "before" };
    there.is_none().then(|| format!("no mark {side} this"))
}

/// Sentences about a recording that must be read.
pub fn banner(state: &State, look: &Look) -> Vec<(String, Style)> {
    let mut out = Vec::new();
    // Before the recording has said anything, too.
    if let Some(Sample { of, why, command }) = state.sample() {
        let text = format!("SAMPLE, a recording of {of}. Live: {command}. Not here, because {why}");
        out.push((text, look.theme.warn));
    }
    let Some(deck) = state.deck() else { return out };
    if let Some(trouble) = &deck.trouble {
        out.push((format!("The recording cannot be read: {trouble}"), look.theme.bad));
    }
    if let Some(end) = deck.end.as_ref().filter(|_| deck.is_over()) {
        out.extend(match (&end.why, end.clean) {
            (Some(why), true) => Some((format!("The recording ends here: {why}"), look.theme.warn)),
            (why, false) => {
                let why = why.as_deref().unwrap_or("it was not finished");
                Some((format!("The recording is cut off here: {why}"), look.theme.bad))
            }
            (None, true) => None,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_recording_are_the_ends_of_the_picture() {
        let deck = |start_ns, end_ns| Deck { start_ns, end_ns, ..crate::ui::tests::deck() };
        let wide = deck(1_000, 2_000);
        assert_eq!(
            [0, 1_000, 1_500, 2_000, 9_000].map(|ns| column(&wide, ns, 11)),
            [0, 0, 5, 10, 10]
        );
        assert_eq!(column(&deck(7, 7), 7, 11), 10, "nothing yet");
        assert_eq!([0, 5, 10].map(|x| percent(x, 11)), [0.0, 50.0, 100.0]);
        assert_eq!(percent(0, 1), 0.0);
    }
}
