//! One reason: its facts, its rate over time, the latency heat map, numbers and histogram.

use super::{
    detail::{NUMBERS, block, graph_block, graphs, histogram_block, numbers},
    keys,
};
use crate::{
    model::ids::{Isa, Kind},
    state::{State, Who, detail::Detail, rows::ReasonRow, value},
    trace::{handlers::handler, names::flag_words},
    ui::{
        format,
        paint::{Look, below, put, put_line, put_right, row},
        view::View,
        widgets::{
            latency::{self, Moment},
            spark,
        },
    },
};
use kvmscope_shared::column::hardware_code;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};
use std::collections::BTreeMap;

/// From this width on keys and numbers stand beside the pictures over time.
const BESIDE: u16 = 110;
/// Rows of numbers and pictures that keys leave where there is little room.
const LITTLE: u16 = 7;
/// Rows of the numbers with an empty one above.
const ALL_NUMBERS: u16 = 13;

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let Some(detail) = state.reason_detail() else {
        put(
            buf,
            area,
            1,
            1,
            "This reason has not occurred in the time that is kept.",
            look.theme.dim,
        );
        return;
    };
    let facts = facts(&detail.row, state.told().iter().all(|t| t.ended_unix_ns.is_some()), &look);
    for (y, line) in (0..).zip(&facts) {
        put_line(buf, row(area, y, 1, area.width.saturating_sub(2)), 0, 0, line);
    }
    let mut area = below(area, facts.len() as u16);
    let told = state.told();
    let words = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    keys::told(buf, words, told, matches!(detail.who, Who::Vcpu(_)), &look);
    area = below(area, told.len() as u16);
    // An empty line where there is room for one.
    area = below(area, u16::from(area.height > 18 || told.is_empty()));
    if area.width >= BESIDE {
        beside(buf, area, detail, state, view);
    } else {
        stacked(buf, area, detail, state, view);
    }
}

/// Pictures over time at the left; keys over numbers at the right.
fn beside(buf: &mut Buffer, area: Rect, detail: &Detail, state: &State, view: &mut View) {
    let look = view.look.clone();
    let right = (area.width * 11 / 20).min(96);
    let left = Rect { x: area.x + 1, width: area.width - right - 3, ..area };
    over_time(buf, left, detail, state, &look);
    let right = Rect { x: left.right() + 1, width: right, ..area };
    let most = area.height.saturating_sub(ALL_NUMBERS).max(area.height / 2);
    let keys = keys::height(state, right.width, &look).min(most);
    keys::draw(buf, Rect { height: keys, ..right }, state, view);
    let under = Rect { x: right.x + 1, width: right.width - 2, ..below(right, keys + 1) };
    numbers_and_histogram(buf, under, detail, state, &look);
}

/// Keys over pictures and numbers.
fn stacked(buf: &mut Buffer, area: Rect, detail: &Detail, state: &State, view: &mut View) {
    let look = view.look.clone();
    let least = if area.height < 28 { LITTLE } else { area.height / 2 };
    let keys = keys::height(state, area.width, &look).min(area.height.saturating_sub(least));
    keys::draw(buf, Rect { height: keys, ..area }, state, view);
    let area = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..below(area, keys) };
    let area = below(area, u16::from(area.height > LITTLE));
    if area.height > LITTLE * 2 {
        let under = ALL_NUMBERS.min(area.height * 3 / 5);
        over_time(buf, Rect { height: area.height - under, ..area }, detail, state, &look);
        numbers_and_histogram(buf, below(area, area.height - under), detail, state, &look);
    } else {
        block(buf, area, &numbers(detail, state, &look));
        let x = NUMBERS + 2;
        let rest = Rect { x: area.x + x, width: area.width.saturating_sub(x), ..area };
        over_time(buf, rest, detail, state, &look);
    }
}

/// Beside each other where there is room, else above each other.
fn numbers_and_histogram(
    buf: &mut Buffer,
    area: Rect,
    detail: &Detail,
    state: &State,
    look: &Look,
) {
    let lines = numbers(detail, state, look);
    block(buf, area, &lines);
    let rest = if area.width >= NUMBERS + 22 {
        let x = NUMBERS + 2;
        Rect { x: area.x + x, width: area.width - x, ..area }
    } else {
        below(area, lines.len() as u16 + 1)
    };
    if rest.height >= 3 {
        histogram_block(buf, rest, detail, state, look);
    }
}

/// What it is, and how much; that one is open only where nothing else tells so.
fn facts(reason: &ReasonRow, open: bool, look: &Look) -> [Line<'static>; 2] {
    let theme = &look.theme;
    let code = hardware_code(reason.reason.code);
    let what = match (reason.reason.kind, reason.reason.isa) {
        (Kind::Userspace, _) => format!("  exit to the VMM (KVM_EXIT {code})"),
        (Kind::Exit, Isa::Vmx) => format!("  kernel exit (VMX {code})"),
        (Kind::Exit, Isa::Svm) => format!("  kernel exit (SVM {code:#x})"),
        (Kind::Exit, Isa::None) => format!("  kernel exit ({code:#x})"),
    };
    let mut first =
        vec![Span::styled(look.name(&reason.name), theme.strong), Span::styled(what, theme.text)];
    if let Some(handler) = handler(reason.reason) {
        first.push(Span::styled(format!("  {handler}"), theme.dim));
    }
    if reason.idle {
        first.push(Span::styled("  idle, not work", theme.idle));
    }
    if reason.flags != 0 {
        let words = flag_words(reason.reason.isa, reason.flags).join(" ");
        first.push(Span::styled(format!("  with {words}"), theme.warn));
    }
    let kind = match reason.reason.kind {
        Kind::Exit => "kernel exits",
        Kind::Userspace => "exits to the VMM",
    };
    let mut second = vec![
        Span::styled(format!("{} exits/s", value::rate(reason.rate)), theme.strong),
        Span::raw(format!(
            "  {} of {kind}  {} of wall time",
            value::share(reason.of_exits),
            value::share(reason.of_time)
        )),
    ];
    if let Some(age) = reason.open_ns.filter(|_| open) {
        second.push(Span::styled(format!("  open for {}", look.duration(Some(age))), theme.warn));
    }
    [Line::from(first), Line::from(second)]
}

/// Rate and p99 where there is room, the latency heat map in any case.
fn over_time(buf: &mut Buffer, area: Rect, detail: &Detail, state: &State, look: &Look) {
    let graph = match area.height {
        0..12 => 0,
        12..20 => 4,
        _ => (area.height / 4).min(8),
    };
    let mut y = 0;
    if graph > 0 {
        let both = area.height >= 20;
        for picture in graphs(detail, state, look).iter().take(if both { 2 } else { 1 }) {
            graph_block(buf, Rect { y: area.y + y, height: graph - 1, ..area }, picture, look);
            y += graph;
        }
    }
    let area = below(area, y);
    if area.height < 3 {
        return;
    }
    let long = "handling time over time, brightness is how many";
    let title = if usize::from(area.width) < long.len() { "handling time over time" } else { long };
    put(buf, area, 0, 0, title, look.theme.head);
    let picture = Rect { height: area.height - 2, ..below(area, 1) };
    let width = usize::from(picture.width.saturating_sub(latency::LABEL));
    let moments = joined(&moments(detail), width, state.header().position.seq);
    let rows = latency::draw(buf, picture, &moments, look);
    axis(buf, row(area, rows + 1, 0, area.width), detail, moments.len(), state, look);
}

/// Moments joined to at most `width`.
fn joined(moments: &[Moment], width: usize, seq: u64) -> Vec<Moment> {
    let together = |run: &[Moment]| {
        let mut sum: BTreeMap<u8, u64> = BTreeMap::new();
        for &(bucket, n) in run.iter().flatten().flatten() {
            *sum.entry(bucket).or_default() += n;
        }
        run.iter().any(Option::is_some).then(|| sum.into_iter().collect())
    };
    let runs = spark::runs(moments.len(), width, seq);
    runs.into_iter().map(|run| together(&moments[run])).collect()
}

fn moments(detail: &Detail) -> Vec<Moment> {
    let gap = |missed: u64| (missed > 0).then_some(None);
    detail
        .points
        .iter()
        .flat_map(|p| {
            let hist = p.hist.iter().map(|&(b, n)| (b, u64::from(n))).collect();
            gap(p.missed).into_iter().chain([Some(hist)])
        })
        .collect()
}

/// Times under the picture: of its left edge and of its right one.
fn axis(buf: &mut Buffer, area: Rect, detail: &Detail, moments: usize, state: &State, look: &Look) {
    let shown = moments;
    let Some(first) = detail.points.first() else { return };
    let left = format::time_of_day(first.end_unix_ns);
    let x = area.width - shown as u16;
    let right = match (state.header().position.live, detail.points.last()) {
        (false, Some(last)) => format::time_of_day(last.end_unix_ns),
        _ => "now".to_owned(),
    };
    if usize::from(area.width.saturating_sub(x)) > left.len() + right.len() + 2 {
        put(buf, area, x, 0, &left, look.theme.dim);
    }
    put_right(buf, area, 0, &Line::from(Span::styled(right, look.theme.dim)));
}
