//! What exits were about: the table of keys, the guest code under it, and why there is none.

use super::rows::{self, Shown, Spec, What};
use crate::{
    state::{
        State,
        keys::{KeyRow, RipRow, Told, TopKey, Watch},
        value::{self, Value},
    },
    ui::{
        format,
        paint::{self, Look, below, put, put_line},
        view::View,
        widgets::table::{self, Column},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

impl Shown for KeyRow {
    /// What is no key is faint.
    fn idle(&self) -> bool {
        self.is_other()
    }
}

/// Columns of the keys.
const KEYS: &[Spec] = &[
    (What::Field("name"), 0, 44),
    (What::Field("way"), 4, 3),
    (What::Field("exits"), 1, 8),
    (What::Field("of_exits"), 2, 5),
    (What::Field("mean"), 5, 5),
    (What::Field("max"), 6, 5),
    (What::Field("to"), 3, 6),
    (What::Field("total"), 7, 6),
    (What::Field("count"), 8, 7),
];

/// Rows of guest code that are there beside many keys.
const RIPS: u16 = 4;

/// Rows that everything would take.
pub fn height(state: &State, width: u16, look: &Look) -> u16 {
    let (keys, rips) = (state.key_rows().len(), state.rip_rows().len());
    let above = why(state, width, look).len() as u16;
    let keys = if keys > 0 { rows::height(keys) } else { 0 };
    let rips = if rips > 0 { rows::height(rips) } else { 0 };
    above.saturating_add(keys).saturating_add(rips).saturating_add(u16::from(keys > 0 && rips > 0))
}

/// Draws it; keys have the room before guest code has.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let why = why(state, area.width, &look);
    for (y, line) in (0..area.height).zip(&why) {
        put(buf, area, 1, y, line, look.theme.dim);
    }
    let area = below(area, why.len() as u16);
    let (keys, rips) = (state.key_rows(), state.rip_rows());
    let mut code = if rips.is_empty() { 0 } else { rows::height(rips.len()).min(area.height) };
    let mut top = 0;
    if !keys.is_empty() {
        let wanted = rows::height(keys.len());
        let gap = u16::from(code > 0 && area.height > 8);
        let least = code.min(RIPS + 1).min(area.height / 3);
        top = wanted.min(area.height.saturating_sub(least + gap));
        let table = Rect { height: top, ..area };
        rows::draw(buf, table, keys, KEYS, state, view);
        let more = usize::from(wanted.saturating_sub(top));
        if more > 0 && gap > 0 {
            let text =
                format!("{more} more, {} and {}", look.glyphs.arrows[2], look.glyphs.arrows[3]);
            put(buf, area, 1, top, &text, look.theme.dim);
        }
        top += gap;
        code = code.min(area.height.saturating_sub(top));
    }
    // A header alone says nothing.
    if code > 1 {
        self::code(buf, Rect { height: code, ..below(area, top) }, rips, &look);
    }
}

/// Why there are no keys, or not all of them: lines of at most this width.
fn why(state: &State, width: u16, look: &Look) -> Vec<String> {
    let keys = !state.key_rows().is_empty();
    let any = keys || !state.rip_rows().is_empty();
    let text = match state.key_watch() {
        _ if state.hidden() > 0 && !keys => "no key matches the filter".to_owned(),
        Watch::Partly(missing) => {
            let lacks: Vec<String> =
                missing.iter().map(|(hook, why)| format!("{hook}: {why}")).collect();
            format!("without {}", lacks.join("; "))
        }
        _ if keys => return Vec::new(),
        Watch::On if any => "no MSR, port or address belongs to these exits".to_owned(),
        Watch::On => "what these exits are about is not known yet".to_owned(),
        Watch::Attaching => {
            format!("attaching the probes that tell what exits are about{}", look.glyphs.ellipsis)
        }
        Watch::Off(_) if any => return Vec::new(),
        Watch::Off(why) => format!("what exits are about is not measured: {why}"),
    };
    let room = usize::from(width.saturating_sub(2)).max(20);
    let mut lines = format::wrap(&look.name(&text), room, look.glyphs.ellipsis);
    lines.truncate(2);
    lines
}

/// The table of guest code.
fn code(buf: &mut Buffer, area: Rect, rips: &[RipRow], look: &Look) {
    let longest = rips.iter().map(|rip| paint::width(&name(rip))).max().unwrap_or(0);
    let columns = [
        Column::text("guest RIP", 18, longest.clamp(18, 60), 0).eager(),
        Column::text("half", 6, 6, 3),
        Column::number("exits/s", 8, 1),
        Column::number("exits", 5, 2),
        Column::number("count", 7, 4),
    ];
    let places = table::places(&columns, area.width);
    table::header(buf, area, &columns, &places, look);
    for (y, rip) in (1..area.height).zip(rips) {
        let style = if rip.rip.is_some() { look.theme.text } else { look.theme.dim };
        let line = paint::row(area, y, 0, area.width);
        table::line(buf, line, &columns, &places, false, look, |i, width| {
            let text = match i {
                0 => look.truncate(&look.name(&name(rip)), width),
                1 => rip.half().to_owned(),
                2 => value::rate(rip.rate),
                3 => look.value(&rip.share.map_or(Value::None, Value::Share)),
                _ => value::count(rip.count),
            };
            table::plain(text, style)
        });
    }
}

/// Symbol first: it is what one reads, and the number gives way when there is little room.
fn name(rip: &RipRow) -> String {
    match &rip.symbol {
        Some(symbol) => format!("{symbol}  {}", rip.number()),
        None => rip.number(),
    }
}

/// A few top keys as lines under a header, for beside other things.
pub fn top(keys: &[TopKey], width: u16, look: &Look) -> Vec<Line<'static>> {
    if keys.is_empty() {
        return Vec::new();
    }
    let head = format!("{:<w$}", "what", w = usize::from(width.saturating_sub(14)));
    let mut lines =
        vec![Line::from(Span::styled(format!("{head}{:>8}{:>6}", "exits/s", ""), look.theme.head))];
    for key in keys {
        let room = width.saturating_sub(15);
        let text = cut(key, room.saturating_sub(4), look);
        let pad = usize::from(room.saturating_sub(4 + paint::width(&text)));
        lines.push(Line::from(vec![
            Span::styled(text, look.theme.text),
            Span::styled(format!("{:pad$} {:<3} ", "", key.way), look.theme.dim),
            Span::styled(format!("{:>8}", value::rate(key.rate)), look.theme.text),
            Span::styled(format!("{:>6}", value::share(key.share)), look.theme.dim),
        ]));
    }
    lines
}

/// A key with its share, which is kept when there is little room.
pub fn short(key: &TopKey, width: u16, look: &Look) -> String {
    let share = value::share(key.share);
    let room = width.saturating_sub(share.len() as u16 + 1);
    format!("{} {share}", cut(key, room, look))
}

/// A key in little room: its name says more than its number, and the begin of an instruction
/// pointer no more than which half it is in.
fn cut(key: &TopKey, width: u16, look: &Look) -> String {
    let text = look.name(&key.text());
    if paint::width(&text) <= width {
        return text;
    }
    match (&key.name, key.number.strip_prefix("RIP 0x")) {
        (Some(name), _) => look.truncate(&look.name(name), width),
        (None, Some(digits)) if digits.len() > 8 => {
            let end = digits.get(digits.len() - 8..).unwrap_or(digits);
            look.truncate(&format!("RIP {}{end}", look.glyphs.ellipsis), width)
        }
        _ => look.truncate(&text, width),
    }
}

/// Single exits in words, one line each.
pub fn told(buf: &mut Buffer, area: Rect, told: &[Told], one_vcpu: bool, look: &Look) {
    for (y, exit) in (0..area.height).zip(told) {
        put_line(buf, area, 0, y, &told_line(exit, one_vcpu, look));
    }
}

fn told_line(exit: &Told, one_vcpu: bool, look: &Look) -> Line<'static> {
    let theme = &look.theme;
    let wall = look.duration(Some(exit.wall_ns));
    let (what, style) = match exit.ended_unix_ns {
        Some(ended) => (format!("outlier {} {wall}", format::time_of_day(ended)), theme.warn),
        None => (format!("open for {wall}"), theme.warn),
    };
    let mut parts = Vec::new();
    if !one_vcpu {
        parts.push(format!("vCPU {}", exit.key.vcpu));
    }
    for (ns, word) in [(exit.vmm_ns, "VMM"), (exit.wait_ns, "waiting")] {
        if ns > 0 {
            parts.push(format!("{word} {}", look.duration(Some(ns))));
        }
    }
    parts.extend(exit.about.clone());
    if !exit.words.is_empty() {
        parts.push(exit.words.join(", "));
    }
    if exit.rip != 0 {
        let at = exit.symbol.clone().unwrap_or_else(|| format!("{:#x}", exit.rip));
        parts.push(format!("at {at}"));
    }
    Line::from(vec![
        Span::styled(what, style),
        Span::styled(format!("  {}", look.name(&parts.join("  "))), theme.text),
    ])
}
