//! One cell closely: its numbers, its rate and p99 over time, its histogram. And a row over time.

use super::keys;
use crate::{
    state::{
        State,
        detail::{Detail, Point},
        rows::Part,
        value::{self, Value},
    },
    ui::{
        format,
        paint::{Look, below, put, put_line, titled_rule},
        view::View,
        widgets::{
            histogram,
            spark::{self, Scale},
        },
    },
};
use kvmscope_shared::hist::bucket_of;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

/// Rows that a histogram keeps beside keys.
const HISTOGRAM: u16 = 6;

/// Columns of the numbers' block.
pub const NUMBERS: u16 = 31;

/// Upright, at the right of a heat map.
pub fn upright(buf: &mut Buffer, area: Rect, state: &State, view: &View) {
    let look = &view.look;
    let wall = look.glyphs.wall.to_string();
    for y in 0..area.height {
        put(buf, area, 0, y, &wall, look.theme.dim);
    }
    let area = Rect { x: area.x + 2, width: area.width.saturating_sub(3), ..area };
    let Some(detail) = state.reason_detail() else {
        put(buf, area, 0, 1, "no single reason here", look.theme.dim);
        return;
    };
    put_line(buf, area, 0, 0, &title(detail, area.width, look));
    let lines = numbers(detail, state, look);
    let keys = detail.top.len() as u16;
    let rest = area.height.saturating_sub(lines.len() as u16 + keys + 2);
    // Two graphs of equal height, and a histogram that takes at least as much as both.
    let graph = (rest / 5).min(6);
    let mut y = 1;
    for picture in graphs(detail, state, look) {
        if graph >= 3 {
            graph_block(buf, Rect { y: area.y + y, height: graph, ..area }, &picture, look);
            y += graph;
        }
    }
    block(buf, below(area, y), &lines);
    y += lines.len() as u16;
    let top = keys::top(&detail.top, area.width, look);
    if !top.is_empty() && y + 2 <= area.height {
        y += u16::from(rest > 6);
        block(buf, below(area, y), &top);
        y += top.len() as u16 + 1;
    }
    let hist = below(area, y);
    if hist.height >= 4 {
        histogram_block(buf, hist, detail, state, look);
    }
}

/// Across, under a table or a heat map: numbers, graphs, histogram from left to right.
pub fn across(buf: &mut Buffer, area: Rect, state: &State, view: &View) {
    let look = &view.look;
    let Some(detail) = state.reason_detail() else {
        let nothing = Line::from("no single reason here");
        titled_rule(buf, area, look, &nothing, &Line::default(), false);
        return;
    };
    let title = title(detail, area.width.saturating_sub(8), look);
    titled_rule(buf, area, look, &title, &Line::default(), false);
    let area = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..below(area, 1) };
    let left = Rect { width: NUMBERS.min(area.width), ..area };
    block(buf, left, &numbers(detail, state, look));
    let mut rest =
        Rect { x: left.right() + 2, width: area.width.saturating_sub(NUMBERS + 2), ..area };
    if rest.width >= 60 {
        let half = Rect { width: rest.width / 2 - 1, ..rest };
        let graph = half.height / 2;
        for (i, picture) in graphs(detail, state, look).iter().enumerate() {
            let at = Rect { y: half.y + i as u16 * graph, height: graph, ..half };
            graph_block(buf, at, picture, look);
        }
        rest = Rect { x: half.right() + 2, width: rest.width - half.width - 2, ..rest };
    }
    let top = keys::top(&detail.top, rest.width, look);
    let room = rest.height.saturating_sub(HISTOGRAM).min(top.len() as u16);
    if room >= 2 {
        block(buf, Rect { height: room, ..rest }, &top);
        rest = below(rest, room);
    }
    histogram_block(buf, rest, detail, state, look);
}

/// The row under the cursor over time: its rate, its p99, where its wall time goes.
pub fn trend(buf: &mut Buffer, area: Rect, state: &State, view: &View) {
    let look = &view.look;
    let Some(vm) = state.cursor().and_then(|at| state.vm_rows().get(at)) else { return };
    let name = look.truncate(&look.name(&vm.name), area.width / 2);
    let words: Vec<String> = vm
        .load
        .split
        .parts()
        .filter(|(_, share)| *share >= 0.0005)
        .map(|(part, share): (Part, f64)| format!("{} {}", part.label(), value::share(share)))
        .collect();
    let title = Line::from(Span::styled(name, look.theme.strong));
    let right = Line::from(Span::raw(words.join("  ")));
    titled_rule(buf, area, look, &title, &right, false);
    let series = state.series(crate::state::RowId::Vm(vm.id));
    let rate: Vec<Option<f64>> = series.rate.iter().map(|&v| Some(v.into())).collect();
    let p99: Vec<Option<f64>> = series.p99.iter().map(|&v| (v > 0.0).then_some(v.into())).collect();
    let area = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..below(area, 1) };
    // Above each other where it is high enough: then the whole window is seen.
    let (first, second) = if area.height >= 14 {
        let half = area.height / 2;
        (Rect { height: half - 1, ..area }, below(area, half))
    } else {
        let half = area.width / 2 - 1;
        let first = Rect { width: half, ..area };
        (first, Rect { x: first.right() + 2, width: area.width - half - 2, ..area })
    };
    let window = format::clock(state.header().position.window_ns);
    let seq = state.header().position.seq;
    let rate = Graph {
        title: format!("exits/s, last {window}"),
        values: rate,
        scale: Scale::Linear,
        seq,
        label: Box::new(value::rate),
        style: look.theme.spark.0,
    };
    graph_block(buf, first, &rate, look);
    let p99 = Graph {
        title: format!("p99 of handling, last {window}"),
        values: p99,
        scale: Scale::Log,
        seq,
        label: Box::new(|v| look.duration(Some(v as u64))),
        style: look.theme.spark.1,
    };
    graph_block(buf, second, &p99, look);
}

/// "vCPU 3 of web-7 ▸ MSR_WRITE", the name of the reason kept when it does not fit.
fn title(detail: &Detail, width: u16, look: &Look) -> Line<'static> {
    let reason = look.name(&detail.row.name);
    let used = crate::ui::paint::width(&reason) + 3;
    let who = look.truncate(&look.name(&detail.label), width.saturating_sub(used));
    let mut spans = vec![
        Span::styled(who, look.theme.text),
        Span::styled(format!(" {} ", look.glyphs.step), look.theme.dim),
        Span::styled(reason, look.theme.strong),
    ];
    if detail.row.idle {
        spans.push(Span::styled(" idle", look.theme.idle));
    }
    Line::from(spans)
}

/// The points' values with a gap where ticks are missing.
pub fn values(points: &[Point], value: impl Fn(&Point) -> Option<f64>) -> Vec<Option<f64>> {
    let gap = |point: &Point| (point.missed > 0).then_some(None);
    points.iter().flat_map(|point| gap(point).into_iter().chain([value(point)])).collect()
}

/// A graph with its title: values oldest first, how they are written, and its style.
pub struct Graph<'a> {
    /// What it shows.
    pub title: String,
    /// Oldest first; `None` is a gap.
    pub values: Vec<Option<f64>>,
    /// How values are joined where there are more than columns.
    pub scale: Scale,
    /// Tick of the last value.
    pub seq: u64,
    /// Text of a value.
    pub label: Box<dyn Fn(f64) -> String + 'a>,
    /// Its style.
    pub style: Style,
}

/// Rate and p99 over time.
pub fn graphs<'a>(detail: &Detail, state: &State, look: &'a Look) -> [Graph<'a>; 2] {
    let seq = state.header().position.seq;
    let rate = values(&detail.points, |p| Some(p.rate));
    let p99 = values(&detail.points, |p| p.p99_ns.map(|ns| ns as f64));
    let duration = |v: f64| look.duration(Some(v as u64));
    let now = detail.row.now.latency.map(|l| l.p99_ns);
    [
        Graph {
            title: format!("exits/s, now {}", value::rate(detail.row.rate)),
            values: rate,
            scale: Scale::Linear,
            seq,
            label: Box::new(value::rate),
            style: look.theme.spark.0,
        },
        Graph {
            title: format!("p99, now {}", look.duration(now)),
            values: p99,
            scale: Scale::Log,
            seq,
            label: Box::new(duration),
            style: look.theme.spark.1,
        },
    ]
}

/// A graph under its title.
pub fn graph_block(buf: &mut Buffer, area: Rect, graph: &Graph<'_>, look: &Look) {
    put(buf, area, 0, 0, &graph.title, look.theme.head);
    let data = (&graph.values[..], graph.scale, graph.seq);
    spark::graph(buf, below(area, 1), data, &graph.label, graph.style, look);
}

/// The histogram of the window under its title.
pub fn histogram_block(buf: &mut Buffer, area: Rect, detail: &Detail, state: &State, look: &Look) {
    let window = format::clock(state.header().position.window_ns);
    put(buf, area, 0, 0, &format!("handling time, last {window}"), look.theme.head);
    let hist: Vec<(u8, u64)> =
        (0u8..).zip(detail.hist.iter()).filter(|&(_, &n)| n > 0).map(|(b, &n)| (b, n)).collect();
    if hist.is_empty() {
        put(buf, area, 0, 1, "nothing was timed", look.theme.dim);
        return;
    }
    let marks: Vec<(usize, &str)> = match detail.row.window.latency {
        Some(l) => vec![(bucket_of(l.p50_ns), "p50"), (bucket_of(l.p99_ns), "p99")],
        None => Vec::new(),
    };
    let style = if detail.row.idle { look.theme.idle } else { look.theme.spark.1 };
    histogram::draw(buf, below(area, 1), &hist, &marks, style, look);
}

/// Writes lines from the top.
pub fn block(buf: &mut Buffer, area: Rect, lines: &[Line<'_>]) {
    for (y, line) in (0..area.height).zip(lines) {
        put_line(buf, area, 0, y, line);
    }
}

/// The numbers: of the displayed tick and of the window. The quantiles come first, so that they
/// are there when there is little room.
pub fn numbers(detail: &Detail, state: &State, look: &Look) -> Vec<Line<'static>> {
    let row = &detail.row;
    let (now, window) = (&row.now, &row.window);
    // Over what was measured: a gap is no time without exits.
    let measured_ns: u64 = detail.points.iter().map(|point| point.dur_ns).sum();
    let seconds = measured_ns as f64 / 1e9;
    let title = format!("last {}", format::clock(state.header().position.window_ns));
    let mut lines =
        vec![Line::from(Span::styled(format!("{:>19}{title:>12}", "now"), look.theme.head))];
    let mut line = |name: &str, a: Value, b: Value| {
        lines.push(Line::from(vec![
            Span::styled(format!("{name:9}"), look.theme.dim),
            Span::styled(format!("{:>10}", look.value(&a)), look.theme.strong),
            Span::styled(format!("{:>12}", look.value(&b)), look.theme.text),
        ]));
    };
    let mean = if seconds > 0.0 { Value::Rate(window.count as f64 / seconds) } else { Value::None };
    line("exits/s", Value::Rate(row.rate), mean);
    for (name, q) in QUANTILES {
        let ns = |stats: &crate::model::stats::Stats| Value::ns(stats.latency.as_ref().map(q));
        line(name, ns(now), ns(window));
    }
    let grouped = |n: u64, width: usize| Value::Text(format::grouped_in(n, width).into());
    line("count", grouped(now.count, 10), grouped(window.count, 11));
    line("timed", grouped(now.timed, 10), grouped(window.timed, 11));
    line("total", Value::Ns(now.total_ns), Value::Ns(window.total_ns));
    line("off-CPU", Value::Ns(now.off_ns), Value::Ns(window.off_ns));
    line("in VMM", Value::Ns(now.vmm_ns), Value::Ns(window.vmm_ns));
    if let Some(age) = row.open_ns {
        line("open for", Value::Ns(age), Value::None);
    }
    lines
}

type Quantile = fn(&crate::model::stats::Latency) -> u64;

const QUANTILES: [(&str, Quantile); 7] = [
    ("p50", |l| l.p50_ns),
    ("p90", |l| l.p90_ns),
    ("p99", |l| l.p99_ns),
    ("p99.9", |l| l.p999_ns),
    ("max", |l| l.max_ns),
    ("min", |l| l.min_ns),
    ("mean", |l| l.mean_ns),
];
