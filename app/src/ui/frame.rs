//! What is around the panes: header, breadcrumb, banner, footer.

use super::{
    format,
    input::context,
    keymap::Command,
    paint::{self, Look, put, put_line, put_right, row},
    replay,
    view::{Hit, View},
};
use crate::{
    model::session::Origin,
    record::Progress,
    state::{Header, Mode, Recorded, State, Tab, seek, value},
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

/// Draws everything above the panes; returns its height.
pub fn top(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) -> u16 {
    let header = state.header();
    let found = state.finding_count().unwrap_or(0);
    let recording = state.recording();
    let facts = (found, recording.as_ref(), state.deck().is_some_and(|deck| deck.gap.is_some()));
    let line = header_line(header, facts, area.width, &view.look);
    put_line(buf, row(area, 0, 0, area.width), 0, 0, &line);
    breadcrumb(buf, row(area, 1, 0, area.width), state, view);
    let banner = banner(state, area, &view.look);
    for (y, (text, style)) in (2..).zip(&banner) {
        put(buf, area, 1, y, text, *style);
    }
    2 + banner.len() as u16
}

/// The facts of the header; what does not fit is left out, the least important first, but never
/// what makes the numbers wrong.
fn header_line(
    header: &Header,
    (found, recording, gap): (usize, Option<&Recorded>, bool),
    width: u16,
    look: &Look,
) -> Line<'static> {
    let theme = &look.theme;
    let mut facts: Vec<(u8, String, Style)> = vec![(6, "kvmscope".to_owned(), theme.strong)];
    let mut fact = |rank: u8, text: String, style: Style| {
        if !text.is_empty() {
            facts.push((rank, text, style));
        }
    };
    fact(3, look.name(&header.host), theme.text);
    fact(8, linux(&look.name(&header.kernel)), theme.text);
    fact(5, header.backend.to_uppercase(), theme.text);
    let vms = count(header.vms, "VM", "VMs");
    fact(2, format!("{vms} {}", count(header.vcpus, "vCPU", "vCPUs")), theme.text);
    fact(1, if gap { "no data".to_owned() } else { exits(header) }, theme.strong);
    if let Some(recorded) = recording {
        let (text, style) = recorder(recorded, look);
        fact(0, text, style);
    }
    if found > 0 && !gap {
        fact(3, count(found, "finding", "findings"), theme.warn);
    }
    let steal = if header.steal >= 0.01 { theme.warn } else { theme.text };
    fact(2, format!("steal {}", value::share(header.steal)), steal);
    let (lost, style) = lost(header, look);
    fact(0, lost, style);
    fact(4, format!("cost {} CPU", value::share(header.own_cpu)), theme.text);
    if let Some((ns, share)) = header.probe_cost {
        let share = value::share(share);
        fact(7, format!("probes {ns:.0}ns/run {share} CPU"), theme.text);
    }
    let (attached, all) = header.probes;
    // Invented numbers need no probes, and their banner says so.
    if attached < all && header.origin == Origin::Live {
        fact(0, format!("{} of {all} probes not attached", all - attached), theme.warn);
    }
    let needed = |facts: &[(u8, String, Style)]| -> usize {
        facts.iter().map(|(_, text, _)| usize::from(paint::width(text)) + 2).sum()
    };
    while needed(&facts) > usize::from(width) {
        let Some(least) = facts.iter().map(|f| f.0).max().filter(|&rank| rank > 0) else { break };
        if let Some(at) = facts.iter().rposition(|f| f.0 == least) {
            facts.remove(at);
        }
    }
    let mut spans = vec![Span::raw(" ")];
    for (i, (_, text, style)) in facts.into_iter().enumerate() {
        if i > 0 {
            spans.push(Span::styled(format!(" {}", look.glyphs.separator), theme.dim));
        }
        spans.push(Span::styled(text, style));
    }
    Line::from(spans)
}

/// The recording that is being made: how long, how large, what is missing in it; or that it has stopped.
fn recorder(recorded: &Recorded, look: &Look) -> (String, Style) {
    let Progress { bytes, dropped_ticks, dropped_events, stopped, .. } = &recorded.progress;
    if stopped.is_some() {
        return ("REC STOPPED".to_owned(), look.theme.bad);
    }
    let length = format::clock(recorded.length_ns);
    let text = format!("{} REC {length} {}", look.glyphs.recording, format::bytes(*bytes));
    let lost: Vec<String> = [(*dropped_ticks, "ticks"), (*dropped_events, "events")]
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{} {what}", value::count(*n)))
        .collect();
    if lost.is_empty() {
        (text, look.theme.warn)
    } else {
        (format!("{text} without {}", lost.join(", ")), look.theme.bad)
    }
}

fn linux(kernel: &str) -> String {
    if kernel.is_empty() || kernel == "none" { String::new() } else { format!("Linux {kernel}") }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// How much there is to do; where kernel exits cannot be seen, exits to the VMM.
fn exits(header: &Header) -> String {
    if header.rate == 0.0 && header.user_rate > 0.0 {
        format!("{} exits/s to the VMM", value::rate(header.user_rate))
    } else {
        format!("{} exits/s", value::rate(header.rate))
    }
}

/// Losses by cause.
fn lost(header: &Header, look: &Look) -> (String, Style) {
    let lost = &header.lost;
    let causes = [
        (lost.missed_runs, "skipped by the kernel"),
        (lost.ring, "ring full"),
        (lost.pool_full, "no cell free"),
        (lost.slots_full, "no slot free"),
        (header.lost_ticks, "ticks"),
    ];
    let named: Vec<String> = causes
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, cause)| format!("{} {cause}", value::count(*n)))
        .collect();
    if named.is_empty() {
        ("lost 0".to_owned(), look.theme.text)
    } else {
        (format!("LOST {}", named.join(", ")), look.theme.bad)
    }
}

fn breadcrumb(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let crumbs = state.breadcrumb();
    let position = match state.deck() {
        Some(_) => replayed(state.header(), &look),
        None => position(state.header(), &look),
    };
    let labels: Vec<String> = crumbs.iter().map(|crumb| look.name(&crumb.label)).collect();
    let length = |first: usize| labels[first..].iter().map(|l| paint::width(l) + 3).sum::<u16>();
    let around = position.width() as u16 + 4;
    let whole = tabs(state.level().tab, false);
    let fits = length(0) + tabs_width(&whole) + around <= area.width;
    let tabs = if fits { whole } else { tabs(state.level().tab, true) };
    // The last steps matter most; the first ones give way.
    let room = area.width.saturating_sub(tabs_width(&tabs) + around);
    let mut first = 0;
    while first + 1 < labels.len() && length(first) > room {
        first += 1;
    }
    let mut x = 1;
    for (i, label) in labels.iter().enumerate().skip(first) {
        if i > 0 {
            x = put(buf, area, x, 0, &format!("{} ", look.glyphs.step), look.theme.dim);
        }
        let last = i + 1 == labels.len();
        let style = if last { look.theme.strong } else { look.theme.text };
        let label = look.truncate(label, room);
        let end = put(buf, area, x, 0, &label, style);
        view.hit(row(area, 0, x, end.saturating_sub(x)), Hit::Up(labels.len() - 1 - i));
        x = end + 1;
    }
    put_right(buf, area, 0, &position);
    let mut x = area.width.saturating_sub(tabs_width(&tabs) + position.width() as u16 + 1);
    for (tab, text) in tabs {
        let here = tab == state.level().tab;
        let style = if here { look.theme.sorted } else { look.theme.dim };
        let end = put(buf, area, x, 0, &text, style);
        view.hit(row(area, 0, x, end.saturating_sub(x)), Hit::Tab(tab));
        x = end + 1;
    }
}

/// The tabs with their keys, the one that is open in brackets; where there is little room only
/// that one has its name.
fn tabs(open: Tab, short: bool) -> Vec<(Tab, String)> {
    let text = |tab: Tab| match (tab == open, short) {
        (true, _) => format!("[{} {}]", tab.number(), tab.name()),
        (false, true) => tab.number().to_string(),
        (false, false) => format!("{} {}", tab.number(), tab.name()),
    };
    Tab::ALL.into_iter().map(|tab| (tab, text(tab))).collect()
}

fn tabs_width(tabs: &[(Tab, String)]) -> u16 {
    tabs.iter().map(|(_, text)| paint::width(text) + 1).sum()
}

/// That it is a recording; which moment is shown, the bar below says.
fn replayed(header: &Header, look: &Look) -> Line<'static> {
    let interval = interval(header.position.dur_ns, look);
    let text = match header.position.seq {
        0 => "replay ".to_owned(),
        _ => format!("replay, every {interval} "),
    };
    Line::from(Span::styled(text, look.theme.dim))
}

/// A tick is some microseconds longer or shorter than it should be.
fn interval(dur_ns: u64, look: &Look) -> String {
    let interval = (dur_ns + 5_000_000) / 10_000_000 * 10_000_000;
    look.duration(Some(interval)).replace(".0", "")
}

/// Which moment is shown.
fn position(header: &Header, look: &Look) -> Line<'static> {
    let p = &header.position;
    let theme = &look.theme;
    if p.seq == 0 {
        return Line::from(Span::styled("waiting for the first tick ", theme.dim));
    }
    let interval = interval(p.dur_ns, look);
    if header.ended.is_some() && p.ahead == 0 {
        let time = format::time_of_day(p.end_unix_ns);
        return Line::from(Span::styled(format!("ENDED at {time} UTC "), theme.warn));
    }
    if p.live {
        let text = format!("live, every {interval} ");
        return Line::from(Span::styled(text, theme.dim));
    }
    let time = format::time_of_day(p.end_unix_ns);
    let age = format::clock(p.age_ns);
    let kept = format::clock(p.kept_ns);
    Line::from(vec![
        Span::styled(format!("PAUSED at {time} UTC, {age} ago"), theme.warn),
        Span::styled(format!(" of {kept} kept "), theme.dim),
    ])
}

/// Sentences that must be read: invented numbers, the end of the source, notices. At most a
/// quarter of the screen.
fn banner(state: &State, area: Rect, look: &Look) -> Vec<(String, Style)> {
    let header = state.header();
    let mut texts = replay::banner(state, look);
    if let Origin::Synthetic { why, command } = &header.origin {
        let end = if why.ends_with('.') { "" } else { "." };
        let text = format!("SYNTHETIC, invented numbers: {why}{end} The real thing: {command}");
        texts.push((text, look.theme.warn));
    }
    if let Some(Some(why)) = &header.ended {
        texts.push((format!("The source has ended: {why}"), look.theme.bad));
    }
    if let Some(why) = state.recording().and_then(|recorded| recorded.progress.stopped) {
        texts.push((format!("Recording has stopped: {why}"), look.theme.bad));
    }
    texts.extend(header.notices.iter().map(|notice| (notice.clone(), look.theme.warn)));
    let width = usize::from(area.width.saturating_sub(2));
    let mut lines = Vec::new();
    for (text, style) in texts {
        let text = look.name(&text);
        let wrapped = format::wrap(&text, width, look.glyphs.ellipsis);
        lines.extend(wrapped.into_iter().map(|line| (line, style)));
    }
    let most = usize::from(area.height / 8).max(2);
    if lines.len() > most {
        lines.truncate(most);
        if let Some((last, _)) = lines.last_mut() {
            *last = look.truncate(&format!("{last} {}", look.glyphs.ellipsis), width as u16);
        }
    }
    lines
}

/// The keys that work here, a message, or the filter being typed.
pub fn footer(buf: &mut Buffer, area: Rect, state: &State, view: &View) {
    let look = &view.look;
    let theme = &look.theme;
    let typed = match state.mode() {
        Mode::Filter { text, error } => Some(("/", text, error, "enter keeps it, esc forgets it")),
        Mode::Limit { text, error } => Some((
            "slow from: ",
            text,
            error,
            "like 1ms IO=5ms, or off; enter takes it, esc forgets it",
        )),
        Mode::Seek { text, error } => Some(("go to: ", text, error, seek::HINT)),
        Mode::Mark { text, .. } => {
            Some(("mark: ", text, &None, "what it is about; enter puts it, esc forgets it"))
        }
        Mode::Normal | Mode::Help => None,
    };
    if let Some((prompt, text, error, hint)) = typed {
        let x = put(buf, area, 1, 0, prompt, theme.key);
        let x = put(buf, area, x, 0, &look.name(text), theme.strong);
        let x = put(buf, area, x, 0, " ", theme.cursor) + 2;
        match error {
            Some(error) => put(buf, area, x, 0, error, theme.bad),
            None => put(buf, area, x, 0, hint, theme.dim),
        };
        return;
    }
    let right = match (&view.message, state.hidden()) {
        (Some(message), _) => Line::from(Span::styled(format!("{message} "), theme.strong)),
        (None, 0) => Line::default(),
        (None, n) => {
            let filter = look.name(state.level().filter.text());
            Line::from(Span::styled(format!("{n} hidden by {filter} "), theme.warn))
        }
    };
    let room = area.width.saturating_sub(right.width() as u16 + 1);
    let mut keys: Vec<(Command, Line<'_>)> = Vec::new();
    let context = context(state);
    for (binding, reached) in view.keymap.working(&context) {
        if let (false, Some(key)) = (binding.short.is_empty(), reached.first()) {
            let line = Line::from(vec![
                Span::styled(key.label(&look.glyphs), theme.key),
                Span::styled(format!(" {}  ", binding.short), theme.text),
            ]);
            keys.push((binding.command, line));
        }
    }
    // From the middle of the table outwards, but never how to find the rest and how to get out.
    let length = |keys: &[(Command, Line<'_>)]| keys.iter().map(|(_, l)| l.width()).sum::<usize>();
    while length(&keys) > usize::from(room) {
        let droppable = |c: &Command| !matches!(c, Command::Help | Command::Quit | Command::Open);
        // In a recording one moves in time more than in rows.
        let least = |c: &Command| {
            context.replay && matches!(c, Command::Sort | Command::Filter | Command::Colour)
        };
        let at = keys.iter().rposition(|(c, _)| least(c));
        let at = at.or_else(|| keys.iter().rposition(|(c, _)| droppable(c)));
        let Some(at) = at else { break };
        keys.remove(at);
    }
    // A message is there for a moment, and not to be written over.
    for command in [Command::Open, Command::Quit, Command::Help] {
        if length(&keys) > usize::from(room) {
            keys.retain(|(c, _)| *c != command);
        }
    }
    let mut x = 1;
    for (_, line) in &keys {
        x = put_line(buf, area, x, 0, line);
    }
    put_right(buf, area, 0, &right);
}
