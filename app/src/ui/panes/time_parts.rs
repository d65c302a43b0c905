//! A vCPU's wall time (or that of all of a VM's): its parts with their trends, and beside them the
//! halts, who took the CPU, and the VMM's other threads.

use super::{
    rows,
    time::{beside_line, nothing},
};
use crate::{
    findings::ReasonFacts,
    source::live::plan::Family,
    state::{
        State,
        rows::Part,
        time::{Culprit, TimeDetail},
        value,
    },
    ui::{
        format,
        paint::{self, Look, below, put, put_line, put_right, row},
        view::View,
        widgets::{
            bars,
            spark::{self, Scale},
        },
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

/// Columns of a part without its trend: name, time per second, share.
const NUMBERS: u16 = 29;
/// Smallest useful trend.
const TREND: u16 = 8;
/// From this width on, what is behind the parts stands beside them.
const BESIDE: u16 = 76;

/// Rows that all of it needs.
pub fn height(width: u16, state: &State) -> u16 {
    let Some(detail) = state.time_detail() else { return 2 };
    let parts = Part::ALL.len() as u16 + 2 + u16::from(detail.reason.is_some());
    if width >= BESIDE { parts.max(3 + detail.culprits.len() as u16 + 3) } else { parts + 6 }
}

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &View) {
    let look = &view.look;
    let Some(detail) = state.time_detail() else {
        return nothing(buf, area, "nothing is known of its time in this tick", look);
    };
    let mut y = 0;
    if let Some(reason) = &detail.reason {
        put_line(buf, area, 1, 0, &reason_line(reason, detail, look));
        y += 1;
    }
    let bar = rows::split_bar(&detail.split, area.width.saturating_sub(2), look);
    put_line(buf, area, 1, y, &bar);
    let body = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..below(area, y + 1) };
    if area.width >= BESIDE {
        let left = (body.width / 2).clamp(NUMBERS + TREND, 90);
        parts(buf, Rect { width: left, ..body }, detail, state, look);
        let right = Rect { x: body.x + left + 2, width: body.width - left - 2, ..body };
        behind(buf, right, detail, state, look);
    } else {
        parts(buf, body, detail, state, look);
        behind(buf, below(body, Part::ALL.len() as u16 + 1), detail, state, look);
    }
}

/// How the time of a reason's exits was divided.
fn reason_line(reason: &ReasonFacts, detail: &TimeDetail, look: &Look) -> Line<'static> {
    let wall = detail.recent.0.sum().max(1) as f64;
    let share = |ns: u64| value::share(ns as f64 / wall);
    Line::from(vec![
        Span::styled(look.name(&reason.name), look.theme.strong),
        Span::raw(format!(
            " of wall time, last {}: handling {}, off the CPU {}, in the VMM {}",
            value::duration(detail.over_ns),
            share(reason.total_ns),
            share(reason.off_ns),
            share(reason.vmm_ns),
        )),
    ])
}

/// The parts, one a row.
fn parts(buf: &mut Buffer, area: Rect, detail: &TimeDetail, state: &State, look: &Look) {
    let position = state.header().position;
    let trend = area.width.saturating_sub(NUMBERS + 1);
    let head = format!("{:15}{:>7}{:>7}", "now", "per s", "share");
    put(buf, area, 0, 0, &head, look.theme.head);
    if trend >= TREND {
        let window = format!("last {}", format::clock(position.window_ns));
        put(buf, area, NUMBERS + 1, 0, &window, look.theme.head);
    }
    for (y, (i, part)) in (1..area.height).zip(Part::ALL.into_iter().enumerate()) {
        let share = detail.split.share(part);
        let style = if share > 0.0 { look.theme.text } else { look.theme.dim };
        put(buf, area, 0, y, &look.glyphs.parts[i].to_string(), look.theme.parts[i]);
        let ns = look.duration(Some(detail.per_second(part)));
        let text = format!("{:13}{ns:>7}{:>7}", part.label(), value::share(share));
        put(buf, area, 2, y, &text, style);
        if trend >= TREND {
            let share = |time: &crate::model::tick::PhaseTimes| {
                crate::state::rows::Split(*time).share(part)
            };
            let values: Vec<Option<f64>> =
                detail.trend.iter().map(|time| time.as_ref().map(share)).collect();
            let text = spark::text(&values, trend.into(), Scale::Linear, position.seq, look);
            put(buf, area, NUMBERS + 1, y, &text, look.theme.parts[i]);
        }
    }
}

/// What is behind the parts.
fn behind(buf: &mut Buffer, area: Rect, detail: &TimeDetail, state: &State, look: &Look) {
    let over = value::duration(detail.over_ns);
    put(buf, area, 0, 0, &format!("behind it, last {over}"), look.theme.head);
    put_line(buf, area, 0, 1, &halts(detail, look));
    let waiting = detail.recent.share(Part::Waiting);
    let heading = format!("waiting {}; who took the CPU", value::share(waiting));
    put(buf, area, 0, 2, &heading, look.theme.head);
    // The last line is for the VMM's other threads.
    let last = area.height.saturating_sub(1);
    let room = Rect { height: last.saturating_sub(3), ..below(area, 3) };
    let lines = if detail.culprits.is_empty() {
        let text = no_culprits(detail, state);
        for (y, line) in
            (0..room.height).zip(format::wrap(&text, room.width.into(), look.glyphs.ellipsis))
        {
            put(buf, room, 0, y, &look.name(&line), look.theme.dim);
        }
        return threads(buf, row(area, last, 0, area.width), detail, look);
    } else {
        &detail.culprits
    };
    let waited = detail.recent.share(Part::Waiting) * detail.recent.0.sum() as f64;
    for (y, one) in (0..room.height).zip(lines) {
        culprit(buf, row(room, y, 0, room.width), one, (waited, detail.over_ns), look);
    }
    threads(buf, row(area, last, 0, area.width), detail, look);
}

fn threads(buf: &mut Buffer, area: Rect, detail: &TimeDetail, look: &Look) {
    match &detail.beside {
        Some(beside) => {
            put_line(buf, area, 0, 0, &beside_line(beside, area.width, look));
        }
        None => {
            let text = "VMM's other threads: not looked at";
            put(buf, area, 0, 0, &look.truncate(text, area.width), look.theme.dim);
        }
    }
}

/// Wake-ups per second, how many of them while polling, and how long a halt took.
fn halts(detail: &TimeDetail, look: &Look) -> Line<'static> {
    let halts = detail.halts;
    let all = halts.polled.saturating_add(halts.waited);
    if all == 0 {
        return Line::from(Span::styled("no halts", look.theme.dim));
    }
    let seconds = detail.over_ns.max(1) as f64 / 1e9;
    let mean = |part, wakes| look.duration(detail.mean(part, wakes));
    let polled = halts.polled as f64 / all as f64;
    Line::from(vec![
        Span::styled(format!("halts {}/s", value::rate(all as f64 / seconds)), look.theme.strong),
        Span::raw(format!(
            "  polled {}  asleep {}  mean sleep {}",
            value::share(polled),
            value::share(1.0 - polled),
            mean(Part::Halted, halts.waited),
        )),
    ])
}

/// Why it is not known who took the CPU.
fn no_culprits(detail: &TimeDetail, state: &State) -> String {
    if state.family_on(Family::Culprits) {
        return match detail.recent.share(Part::Waiting) {
            share if share > 0.0 => "nobody was seen in its place".to_owned(),
            _ => "it did not wait".to_owned(),
        };
    }
    let why = match state.family_trouble(Family::Culprits) {
        Some(why) => format!(" ({why})"),
        None => String::new(),
    };
    format!(
        "not watched{why}: it takes a little of every context switch of the whole host; c \
         switches it on and off"
    )
}

/// Someone who took the CPU: comm, pid, VM, share of the waiting, bar, time per second, cgroup.
fn culprit(
    buf: &mut Buffer,
    area: Rect,
    one: &Culprit,
    (waited, over_ns): (f64, u64),
    look: &Look,
) {
    let share = if waited > 0.0 { (one.ns as f64 / waited).min(1.0) } else { 0.0 };
    let per_second = (one.ns as f64 * 1e9 / over_ns.max(1) as f64) as u64;
    let numbers = format!("{:>6}/s{:>6}", look.duration(Some(per_second)), value::share(share));
    let bar_width = if area.width >= 60 { 10 } else { 0 };
    let room = area.width.saturating_sub(paint::width(&numbers) + bar_width + 2);
    let name = match (one.comm.as_str(), one.pid) {
        ("", _) => "others".to_owned(),
        (comm, 0) => format!("{comm} (idle)"),
        (comm, pid) => format!("{comm} {pid}"),
    };
    let mut text = look.name(&name);
    if let Some(vm) = &one.vm {
        text += &format!(" {} {}", look.glyphs.step, look.name(vm));
    }
    let x = put(buf, area, 0, 0, &look.truncate(&text, room), look.theme.text);
    let cgroup = look.name(&one.cgroup);
    if !cgroup.is_empty() && room > x + 6 {
        put(buf, area, x + 1, 0, &look.truncate(&cgroup, room - x - 1), look.theme.dim);
    }
    if bar_width > 0 {
        let bar = bars::bar(share, bar_width.into(), look);
        put(buf, area, room + 1, 0, &bar, look.theme.warn);
    }
    put_right(buf, area, 0, &Line::from(Span::styled(numbers, look.theme.text)));
}
