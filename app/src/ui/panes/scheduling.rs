//! The Scheduling tab: on which CPUs vCPUs are, who takes them, halt polling, wake-ups, and the log of
//! single ones.

use super::{
    grid::{self, Item, Place},
    list::{self, List, Spec},
    memory, on_cpus, rows,
};
use crate::{
    source::live::plan::Family,
    state::{
        Pane, Scope, State,
        events::List as Events,
        signals::{PollingRow, TakerRow, WakeupRow},
        value,
    },
    ui::{
        keymap::Command,
        paint::Look,
        view::View,
        widgets::spark::{self, Scale},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

const TAKERS: &[Spec] = &[
    ("who", 0, 26),
    ("vm", 3, 20),
    ("ns", 1, 6),
    ("share", 2, 5),
    ("waits", 5, 5),
    ("mean", 4, 5),
    ("cgroup", 6, 40),
];

const POLLING: &[Spec] = &[
    ("who", 0, 24),
    ("window", 1, 6),
    ("trend", 6, 40),
    ("polled", 2, 7),
    ("cost", 3, 6),
    ("halts", 5, 7),
    ("grew", 7, 5),
    ("shrank", 8, 6),
];

const WAKEUPS: &[Spec] = &[
    ("what", 0, 26),
    ("rate", 1, 5),
    ("share", 3, 5),
    ("p50", 2, 5),
    ("p99", 2, 5),
    ("max", 4, 5),
    ("mean", 6, 5),
    ("times", 5, 40),
];

const LOG: &[Spec] = &[
    ("time", 0, 12),
    ("vm", 4, 16),
    ("vcpu", 1, 4),
    ("what", 1, 60),
    ("halted", 2, 6),
    ("cpu", 6, 4),
    ("tid", 8, 7),
];

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let item = |pane, rank, place| {
        let len = state.list_len(pane);
        let empty = if len == 0 { empty_text(pane, state, view) } else { String::new() };
        let want = list::height(len, &empty, grid::width(area, place));
        let want = if place == Place::Bottom { want.max(6) } else { want };
        Item { pane, want, rank, place }
    };
    let items: Vec<Item> = state
        .level()
        .panes()
        .iter()
        .map(|&pane| match pane {
            Pane::OnCpus => item(pane, 1, Place::Left),
            Pane::Takers => item(pane, 4, Place::Right),
            Pane::Polling => item(pane, 2, Place::Left),
            Pane::Wakeups => item(pane, 3, Place::Right),
            Pane::Woken => item(pane, 5, Place::Bottom),
            _ => {
                let want = rows::height(state.row_count());
                Item { pane, want, rank: 0, place: Place::Top }
            }
        })
        .collect();
    memory::tab(buf, area, &items, state, view, pane);
}

/// What a pane says that has nothing.
pub(super) fn empty_text(pane: Pane, state: &State, view: &View) -> String {
    let none = |family: Family, nothing: &str| {
        let over = || value::duration(state.signals_over_ns());
        state
            .family_missing(family)
            .unwrap_or_else(|| format!("{nothing} here in the last {}", over()))
    };
    match pane {
        Pane::OnCpus => none(Family::VcpuLoad, "no vCPU was loaded on a CPU"),
        Pane::Takers => takers_empty(state, view),
        Pane::Polling => none(Family::HaltPoll, "no halt, so no polling"),
        Pane::Wakeups => none(Family::Wakeup, "no vCPU woke up from a halt"),
        _ => state.family_missing(Family::Wakeup).unwrap_or_else(|| {
            "no wake-up and no change of halt polling in the time that is kept".to_owned()
        }),
    }
}

/// Why it is not known who took CPUs.
fn takers_empty(state: &State, view: &View) -> String {
    if state.family_on(Family::Culprits) {
        return "nobody was seen in the place of a vCPU that waited".to_owned();
    }
    let why = state.family_trouble(Family::Culprits).map(|why| format!(" ({why})"));
    let key = view.keymap.keys(Command::Culprits).first().copied();
    let key = key.map(|key| key.label(&view.look.glyphs)).unwrap_or_default();
    format!(
        "not watched{}: it takes a little of every context switch of the whole host; {key} switches \
         it on and off",
        why.unwrap_or_default()
    )
}

fn head(text: &str, look: &Look) -> Line<'static> {
    Line::from(Span::styled(text.to_owned(), look.theme.head))
}

/// "last 10s".
pub(super) fn over(state: &State, look: &Look) -> Line<'static> {
    let over = format!("last {}", value::duration(state.signals_over_ns()));
    Line::from(Span::styled(over, look.theme.dim))
}

fn pane(buf: &mut Buffer, area: Rect, pane: Pane, state: &State, view: &mut View) {
    match pane {
        Pane::OnCpus => on_cpus::draw(buf, area, state, view),
        Pane::Takers => takers(buf, area, state, view),
        Pane::Polling => polling(buf, area, state, view),
        Pane::Wakeups => wakeups(buf, area, state, view),
        Pane::Woken => {
            let empty = empty_text(pane, state, view);
            let what = (pane, Events::Scheduling, "log of wake-ups", LOG, empty);
            memory::events(buf, area, what, state, view);
        }
        _ => match state.level().scope {
            Scope::Host => {
                rows::draw(buf, area, state.vm_rows(), rows::SCHEDULING_VMS, state, view);
            }
            _ => rows::draw(buf, area, state.vcpu_rows(), rows::SCHEDULING_VCPUS, state, view),
        },
    }
}

fn takers(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let found = state.takers();
    let list = List {
        pane: Pane::Takers,
        title: head("who ran while vCPUs waited for a CPU", &view.look),
        right: over(state, &view.look),
        columns: TAKERS,
        len: found.len(),
        row: &|at| found.get(at).cloned(),
        style: &|row: &TakerRow, key: &str, look: &Look| match key {
            _ if row.one.comm.is_empty() => look.theme.idle,
            "cgroup" => look.theme.dim,
            _ => look.theme.text,
        },
        picture: None,
        empty: empty_text(Pane::Takers, state, view),
    };
    list::draw(buf, area, &list, state, view);
}

/// Columns of the picture of a window over time.
const TREND: u16 = 30;

fn polling(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let found = state.polling();
    let cost: u64 = found.iter().map(PollingRow::cost).fold(0, u64::saturating_add);
    let mut title = head("halt polling", &look);
    if cost > 0 {
        let text = format!("  costs {} of CPU time per second", look.duration(Some(cost)));
        title.spans.push(Span::styled(text, look.theme.text));
    }
    let seq = state.header().position.seq;
    let draw = |row: &PollingRow, width: u16| {
        spark::text(&row.trend, usize::from(width), Scale::Linear, seq, &look)
    };
    let row = |at: usize| {
        let row: &PollingRow = found.get(at)?;
        let picture = draw(row, TREND).trim_start().to_owned();
        Some(PollingRow { picture, ..row.clone() })
    };
    let list = List {
        pane: Pane::Polling,
        title,
        right: over(state, &look),
        columns: POLLING,
        len: found.len(),
        row: &row,
        style: &polling_style,
        picture: Some(&|row, key, width| (key == "trend").then(|| draw(row, width))),
        empty: empty_text(Pane::Polling, state, view),
    };
    list::draw(buf, area, &list, state, view);
}

/// From these on polling is something to look at: it seldom succeeds, and takes this much of a CPU, ns/s.
const SELDOM: f64 = 0.2;
const DEAR_NS: u64 = 50_000_000;

fn polling_style(row: &PollingRow, key: &str, look: &Look) -> Style {
    let dear = row.cost() >= DEAR_NS && row.polled().is_some_and(|share| share < SELDOM);
    match key {
        "polled" | "cost" if dear => look.theme.warn,
        "trend" => look.theme.spark.0,
        _ => look.theme.text,
    }
}

fn wakeups(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let found = state.wakeups();
    let rate: f64 = found.iter().map(|row| row.rate).sum();
    let mut title = head("wake-ups from halts", &look);
    if rate > 0.0 {
        title.spans.push(Span::styled(format!("  {}/s", value::rate(rate)), look.theme.text));
    }
    // All pictures have the same scale, from the shortest to the longest of any kind.
    let buckets = |row: &WakeupRow| {
        let counts = row.sum.hist.counts();
        let first = counts.iter().position(|&n| n > 0)?;
        let last = counts.iter().rposition(|&n| n > 0)?;
        Some((first, last))
    };
    let ends: Vec<(usize, usize)> = found.iter().filter_map(buckets).collect();
    let first = ends.iter().map(|ends| ends.0).min().unwrap_or(0);
    let last = ends.iter().map(|ends| ends.1).max().unwrap_or(0);
    let draw = |row: &WakeupRow, width: u16| {
        let counts = row.sum.hist.counts().get(first..=last).unwrap_or_default();
        let values: Vec<Option<f64>> =
            counts.iter().map(|&n| (n > 0).then_some(n as f64)).collect();
        let width = values.len().min(usize::from(width));
        // The buckets that share a column are the same in all rows.
        spark::text(&values, width, Scale::Linear, values.len().saturating_sub(1) as u64, &look)
    };
    let row = |at: usize| {
        let row: &WakeupRow = found.get(at)?;
        Some(WakeupRow { picture: draw(row, TREND), ..row.clone() })
    };
    let style = |row: &WakeupRow, key: &str, look: &Look| match key {
        "times" => look.theme.spark.1,
        "what" | "rate" | "share" if row.is_idle() => look.theme.warn,
        _ => look.theme.text,
    };
    let list = List {
        pane: Pane::Wakeups,
        title,
        right: over(state, &look),
        columns: WAKEUPS,
        len: found.len(),
        row: &row,
        style: &style,
        picture: Some(&|row, key, width| (key == "times").then(|| draw(row, width))),
        empty: empty_text(Pane::Wakeups, state, view),
    };
    list::draw(buf, area, &list, state, view);
}
