//! Tables of VMs, vCPUs and reasons: the fields of the state's own table, and pictures.

use super::gauges;
pub use super::specs::{
    CALLS_VCPUS, CALLS_VMS, INTERRUPTS_VCPUS, INTERRUPTS_VMS, MEMORY_VCPUS, MEMORY_VMS, REASONS,
    SCHEDULING_VCPUS, SCHEDULING_VMS, Spec, TIME_VCPUS, TIME_VMS, VCPUS, VMS,
};
use super::specs::{OPTIONAL, WIDE};
use crate::{
    model::{detail::VmTick, ids::Kind, tick::PHASES},
    state::{
        Pane, RowId, State,
        activity::Count,
        detail::Series,
        fields::{Field, Row},
        keys::TopKey,
        rows::{Load, Part, ReasonRow, Split, VcpuRow, VmRow},
        signals::Gauge,
        value::{self, Value},
    },
    ui::{
        format,
        paint::{self, Look, below, over, put, put_line, row},
        view::{Hit, View},
        widgets::{
            bars,
            spark::{self, Scale},
            table::{self, Align, Column, Place},
        },
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

/// A row that can be drawn.
pub trait Shown: Row {
    /// When it ended, ns since the Unix epoch.
    fn ended(&self) -> Option<u64> {
        None
    }

    /// Idle: shown, but not work.
    fn idle(&self) -> bool {
        false
    }

    /// The numbers that VMs and vCPUs have.
    fn load(&self) -> Option<&Load> {
        None
    }

    /// What most of its exits are about.
    fn what(&self) -> Option<&TopKey> {
        None
    }
}

impl Shown for VmRow {
    fn ended(&self) -> Option<u64> {
        self.ended_unix_ns
    }

    fn load(&self) -> Option<&Load> {
        Some(&self.load)
    }
}

impl Shown for VcpuRow {
    fn ended(&self) -> Option<u64> {
        self.ended_unix_ns
    }

    fn load(&self) -> Option<&Load> {
        Some(&self.load)
    }
}

impl Shown for ReasonRow {
    fn idle(&self) -> bool {
        self.idle
    }

    fn what(&self) -> Option<&TopKey> {
        self.what.as_ref()
    }
}

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A field by key, as text.
    Field(&'static str),
    /// Rate over the window.
    Rate,
    /// p99 over the window.
    P99,
    /// Where wall time went.
    Split,
    /// The top reason and its share; of what is gone, when it ended.
    Top,
    /// Where wall time went, as wide as there is room for.
    Bar,
    /// A field that is a share of wall time; nothing is faint.
    Share(&'static str),
    /// CPU share of the VMM's other threads over the last seconds.
    Threads,
    /// Share of the last seconds in which a CPU quota stopped the VM.
    Quota,
    /// What is counted of memory and calls, per second of the last seconds.
    PerSecond(Count),
    /// A number of interrupts or of time on CPUs in the last seconds.
    Signal(Gauge),
    /// What most exits are about, and their share; only where that is known.
    Key,
}

fn field<R: Row>(key: &str) -> Option<&'static Field<R>> {
    R::FIELDS.iter().find(|field| field.key == key)
}

impl What {
    /// Its name in the configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Field(key) | Self::Share(key) => key,
            Self::Threads => "threads",
            Self::Quota => "quota",
            Self::Rate => "rate-graph",
            Self::P99 => "p99-graph",
            Self::Split | Self::Bar => "wall-time",
            Self::Top => "reason",
            Self::Key => "what",
            Self::PerSecond(count) => title(count),
            Self::Signal(gauge) => gauges::title(gauge),
        }
    }
}

/// Every column's name in the configuration file, each once.
pub fn column_names() -> Vec<&'static str> {
    let tables = [
        VMS,
        VCPUS,
        REASONS,
        TIME_VMS,
        TIME_VCPUS,
        MEMORY_VMS,
        CALLS_VMS,
        INTERRUPTS_VMS,
        SCHEDULING_VMS,
    ];
    let mut names: Vec<&str> = tables.into_iter().flatten().map(|(what, ..)| what.name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The field that a click on the header sorts by.
fn key(what: What) -> Option<&'static str> {
    match what {
        What::Field(key) | What::Share(key) => Some(key),
        What::Rate => Some("exits"),
        What::P99 => Some("p99"),
        What::Top => Some("reason"),
        What::Key => Some("what"),
        What::Split
        | What::Bar
        | What::Threads
        | What::Quota
        | What::PerSecond(_)
        | What::Signal(_) => None,
    }
}

fn is_shown(what: What, view: &View) -> bool {
    !view.hide.iter().any(|name| name == what.name())
}

fn columns<R: Shown>(
    rows: &[R],
    specs: &[Spec],
    width: u16,
    state: &State,
    view: &View,
) -> (Vec<Column>, Vec<What>) {
    let window = format::clock(state.header().position.window_ns);
    let sort = state.level().sort;
    let mut columns = Vec::new();
    let mut whats = Vec::new();
    // Where kernel exits cannot be seen, exits to the VMM are what one looks at.
    let loads = || rows.iter().filter_map(Shown::load);
    let silent = loads().all(|l| l.rate == 0.0) && loads().any(|l| l.user_rate > 0.0);
    let any = |of: fn(&VmTick) -> Option<f64>| {
        rows.iter().any(|row| beside(row, state).as_ref().and_then(of).is_some())
    };
    let whats_known = rows.iter().any(|row| row.what().is_some());
    let shown = |spec: &&Spec| (spec.0 != What::Key || whats_known) && is_shown(spec.0, view);
    for &(what, rank, most) in specs.iter().filter(shown) {
        if rank >= OPTIONAL && width < WIDE && key(what) != Some(sort.key) {
            continue;
        }
        // Without a baseline there is nothing to compare with.
        if what == What::Field("change") && state.baseline().is_none() {
            continue;
        }
        let mut column = match what {
            What::Rate => Column::text(format!("rate {window}"), 10, most, rank),
            What::P99 => Column::text(format!("p99 {window}"), 10, most, rank),
            What::Split => Column::text("wall time", 10, most, rank),
            What::Bar => Column::text("wall time", 18, most, rank),
            What::Threads if any(threads) => Column::number("threads", most, rank),
            What::Quota if any(quota) => Column::number("quota", most, rank),
            // A column of dashes says nothing.
            What::Threads | What::Quota => continue,
            What::PerSecond(count) if counted(rows, count, state) => {
                Column::number(title(count), most, rank)
            }
            What::PerSecond(_) => continue,
            What::Signal(gauge @ Gauge::Apicv) if gauges::any(rows, gauge, state) => {
                Column::text(gauges::title(gauge), 9, most, rank)
            }
            What::Signal(gauge) if gauges::any(rows, gauge, state) => {
                Column::number(gauges::title(gauge), most, rank)
            }
            What::Signal(_) => continue,
            What::Top => {
                let names = rows.iter().filter_map(|r| r.load()?.top.as_ref());
                let longest = names.map(|top| paint::width(&top.name) + 5).max().unwrap_or(0);
                Column::text("top reason", 16, longest.clamp(16, most), rank).eager()
            }
            What::Key => {
                let keys = rows.iter().filter_map(Shown::what);
                let longest = keys.map(|key| paint::width(&key.text()) + 5).max().unwrap_or(0);
                Column::text("what", 16, longest.clamp(16, most), rank).eager()
            }
            What::Field(key) | What::Share(key) => {
                let Some(field) = field::<R>(key) else { continue };
                if field.numeric {
                    Column::number(field.title, most.max(5), rank)
                } else {
                    // As wide as what is in it.
                    let text = |row: &R| paint::width(&view.look.value(&(field.value)(row)));
                    let longest = rows.iter().map(text).max().unwrap_or(0);
                    let least = field.width.min(most);
                    let width = longest.min(least).max(6.min(least));
                    Column::text(field.title, width, longest.clamp(width, most), rank).eager()
                }
            }
        };
        let sorted = matches!(what, What::Field(_) | What::Share(_) | What::Top | What::Key)
            && key(what) == Some(sort.key);
        column.sorted = sorted.then_some(sort.descending);
        // What rows are ordered by is always there.
        if sorted || (silent && what == What::Field("user")) {
            column.rank = 1;
        }
        columns.push(column);
        whats.push(what);
    }
    (columns, whats)
}

/// Rows that a table needs with its header.
pub fn height(rows: usize) -> u16 {
    u16::try_from(rows.saturating_add(1)).unwrap_or(u16::MAX)
}

/// Draws a table.
pub fn draw<R: Shown>(
    buf: &mut Buffer,
    area: Rect,
    rows: &[R],
    specs: &[Spec],
    state: &State,
    view: &mut View,
) {
    let look = view.look.clone();
    let level = state.level();
    let (columns, whats) = columns(rows, specs, area.width, state, view);
    let places = table::places(&columns, area.width);
    table::header(buf, area, &columns, &places, &look);
    for &(i, x, width) in &places {
        if let Some(key) = key(whats[i]) {
            view.hit(row(area, 0, x, width), Hit::Header(key));
        }
        if whats[i] == What::Split {
            split_legend(buf, row(area, 0, x, width), &look);
        }
    }
    let body = below(area, 1);
    let cursor = state.cursor();
    let from = view.scroll((level.scope, Pane::Table), cursor, rows.len(), body.height);
    let focused = matches!(level.pane, Pane::Table | Pane::Detail);
    if focused {
        view.page = usize::from(body.height);
    }
    for (y, (at, shown)) in (0..body.height).zip(rows.iter().enumerate().skip(from)) {
        let line = row(body, y, 0, body.width);
        view.hit(line, Hit::Row(at));
        draw_row(buf, line, shown, (&columns, &whats, &places), cursor == Some(at), state, &look);
        if cursor == Some(at) {
            let name = places.first().map_or(0, |&(_, x, width)| x + width);
            if focused {
                over(buf, row(line, 0, 0, name), look.theme.cursor);
            } else {
                put(buf, line, 0, 0, &look.glyphs.selected.to_string(), look.theme.dim);
            }
        }
    }
}

fn draw_row<R: Shown>(
    buf: &mut Buffer,
    area: Rect,
    shown: &R,
    (columns, whats, places): (&[Column], &[What], &[Place]),
    selected: bool,
    state: &State,
    look: &Look,
) {
    let theme = &look.theme;
    let style = match (shown.ended(), shown.idle()) {
        (Some(_), _) => theme.gone,
        (None, true) => theme.idle,
        (None, false) => theme.text,
    };
    let pictures = places.iter().any(|p| matches!(whats[p.0], What::Rate | What::P99));
    let seq = state.header().position.seq;
    let series = if pictures { state.series(shown.id()) } else { Series::default() };
    table::line(buf, area, columns, places, selected, look, |i, width| match whats[i] {
        What::Rate => {
            let values: Vec<Option<f64>> = series.rate.iter().map(|&v| Some(v.into())).collect();
            let text = spark::text(&values, width.into(), Scale::Linear, seq, look);
            table::plain(text, theme.spark.0)
        }
        What::P99 => {
            let known = |&v: &f32| (v > 0.0).then_some(f64::from(v));
            let values: Vec<Option<f64>> = series.p99.iter().map(known).collect();
            let text = spark::text(&values, width.into(), Scale::Log, seq, look);
            table::plain(text, theme.spark.1)
        }
        What::Split | What::Bar => match shown.load() {
            Some(load) if shown.ended().is_none() => split_bar(&load.split, width, look),
            _ => Line::default(),
        },
        What::Top => top(shown, width, style, look),
        What::Share(key) => share(shown, key, style, look),
        What::Threads | What::Quota => {
            let of = if whats[i] == What::Threads { threads } else { quota };
            let value =
                beside(shown, state).as_ref().and_then(of).map_or(Value::None, Value::Share);
            table::plain(look.value(&value), style)
        }
        What::Signal(gauge) => gauges::line(shown, gauge, style, state, look),
        What::PerSecond(count) => per_second(shown, count, style, state, look),
        What::Key => match shown.what() {
            Some(key) => table::plain(super::keys::short(key, width, look), style),
            None => Line::default(),
        },
        What::Field(key) => {
            let value = field::<R>(key).map(|field| (field.value)(shown));
            let mut text = value.map(|v| look.value(&v)).unwrap_or_default();
            if columns[i].align == Align::Left {
                text = look.truncate(&look.name(&text), width);
            }
            table::plain(
                text,
                if key == "change" { changed::<R>(shown, style, look) } else { style },
            )
        }
    });
}

/// More and less than in the baseline have their colours; the number has the direction.
fn changed<R: Shown>(
    shown: &R,
    style: ratatui::style::Style,
    look: &Look,
) -> ratatui::style::Style {
    match field::<R>("change").map(|field| (field.value)(shown)) {
        Some(Value::Factor(n)) if n >= MUCH_CHANGE => look.theme.more,
        Some(Value::Factor(n)) if n <= 1.0 / MUCH_CHANGE => look.theme.less,
        _ => style,
    }
}

/// The title of a column of what is counted; its name in the configuration file too.
fn title(count: Count) -> &'static str {
    match count {
        Count::Faults => "faults/s",
        Count::Mmio => "MMIO/s",
        Count::MmioVmm => "MMIO in VMM",
        Count::Dirty => "dirty/s",
        Count::Roots => "roots/s",
        Count::Loads => "loads/s",
        Count::Hypercalls => "hypercalls/s",
        Count::Unknown => "unknown/s",
        Count::Ioctls => "ioctls/s",
        Count::Failed => "failed/s",
        Count::Injected => "injected/s",
        Count::Exceptions => "exceptions/s",
        Count::Delivered => "delivered/s",
        Count::Eois => "EOI/s",
        Count::Ipis => "IPI/s",
    }
}

/// Whether any of the rows has some of it: a column of nothing says nothing.
fn counted<R: Shown>(rows: &[R], count: Count, state: &State) -> bool {
    rows.iter().any(|row| state.count_per_second(row.id(), count).is_some_and(|n| n > 0.0))
}

/// What is counted of a row; none of it is faint, so that what there is stands out.
fn per_second<R: Shown>(
    shown: &R,
    count: Count,
    style: ratatui::style::Style,
    state: &State,
    look: &Look,
) -> Line<'static> {
    let value = match (state.count_per_second(shown.id(), count), count) {
        (None, _) => Value::None,
        (Some(ns), Count::MmioVmm) => Value::Share(ns / 1e9),
        (Some(rate), _) => Value::Rate(rate),
    };
    let some = value.number().is_some_and(|n| n > 0.0);
    let style = match count {
        _ if !some => look.theme.dim,
        Count::Unknown | Count::Failed => look.theme.warn,
        _ => style,
    };
    table::plain(look.value(&value), style)
}

/// What a VM that lives does beside its vCPUs.
fn beside<R: Shown>(shown: &R, state: &State) -> Option<VmTick> {
    match shown.id() {
        RowId::Vm(vm) if shown.ended().is_none() => state.beside(vm),
        _ => None,
    }
}

/// CPU share of a VMM's other threads: of one CPU, so that it may be over 1.
pub fn threads(beside: &VmTick) -> Option<f64> {
    (beside.over_ns > 0).then(|| beside.others_ns as f64 / beside.over_ns as f64)
}

/// Share of the time in which a quota stopped a VM.
pub fn quota(beside: &VmTick) -> Option<f64> {
    let throttled = beside.throttled_ns?;
    (beside.over_ns > 0).then(|| throttled as f64 / beside.over_ns as f64)
}

/// From this factor on, something is more than it was before: less is what a tick differs from the next.
const MUCH_CHANGE: f64 = 1.25;

/// From this share of wall time on, waiting for a CPU is something to look at.
const MUCH_WAITING: f64 = 0.05;

/// A share of wall time; none of it is faint, so that what there is stands out.
fn share<R: Shown>(
    shown: &R,
    key: &str,
    style: ratatui::style::Style,
    look: &Look,
) -> Line<'static> {
    let value = field::<R>(key).map_or(Value::None, |field| (field.value)(shown));
    let style = match value {
        Value::Share(share) if share > 0.0 && shown.ended().is_none() => match key {
            "wait" if share >= MUCH_WAITING => look.theme.warn,
            _ => style,
        },
        _ => look.theme.dim,
    };
    table::plain(look.value(&value), style)
}

/// The top reason with its share at the right edge.
fn top<R: Shown>(
    shown: &R,
    width: u16,
    style: ratatui::style::Style,
    look: &Look,
) -> Line<'static> {
    if let Some(ended) = shown.ended() {
        return table::plain(format!("ended {}", format::time_of_day(ended)), style);
    }
    let Some(top) = shown.load().and_then(|load| load.top.as_ref()) else {
        return table::plain(look.glyphs.none.to_string(), look.theme.dim);
    };
    let share = value::share(top.share);
    let room = usize::from(width).saturating_sub(share.len() + 1);
    let mark = if top.reason.kind == Kind::Userspace { "u:" } else { "" };
    let name = format!("{mark}{}", look.name(&top.name));
    let name = format::reason_short(&name, room, look.glyphs.ellipsis);
    let text = format!("{name} {share}");
    Line::from(Span::styled(text, style))
}

/// Wall time as a stacked bar.
pub fn split_bar(split: &Split, width: u16, look: &Look) -> Line<'static> {
    bars::stacked(Part::ALL.map(|part| (split.share(part) * 1e9) as u64), width.into(), look)
}

/// Short words for the parts of the bar.
const SHORT: [&str; PHASES] =
    ["guest", "KVM", "VMM", "asleep", "poll", "halt", "sleep", "wait", "unacc"];

/// The parts of the bar in words, where there is room for them: all, or the most important.
fn split_legend(buf: &mut Buffer, area: Rect, look: &Look) {
    let word = |i: &usize| {
        Span::styled(format!("{}{} ", look.glyphs.parts[*i], SHORT[*i]), look.theme.parts[*i])
    };
    for shown in [&[0, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0, 1, 2, 3, 4, 5, 7], &[0, 1, 2, 5, 7]] {
        let line = Line::from(shown.iter().map(word).collect::<Vec<_>>());
        if line.width() <= usize::from(area.width) + 1 {
            put_line(buf, area, 0, 0, &line);
            return;
        }
    }
}

/// Every part with its name, as long as there is room.
pub fn legend(width: u16, look: &Look) -> Line<'static> {
    let line = |short: bool| {
        let word = |(i, part): (usize, Part)| {
            let name = if short { SHORT[i] } else { part.label() };
            Span::styled(format!("{}{name} ", look.glyphs.parts[i]), look.theme.parts[i])
        };
        Line::from(Part::ALL.into_iter().enumerate().map(word).collect::<Vec<_>>())
    };
    let whole = line(false);
    if whole.width() <= usize::from(width) + 1 { whole } else { line(true) }
}

/// The vCPU scope: the reasons of a vCPU, kernel exits and exits to the VMM, over a picture of
/// the one under the cursor.
pub fn reasons(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let rows = state.reason_rows();
    let needed = height(rows.len());
    let rest = area.height.saturating_sub(needed);
    let below_height = if rest >= 9 { rest.min(16) } else { 0 };
    let table = Rect { height: area.height - below_height, ..area };
    draw(buf, table, rows, REASONS, state, view);
    if below_height > 0 {
        let under = Rect { y: area.bottom() - below_height, height: below_height, ..area };
        super::detail::across(buf, under, state, view);
    }
}
