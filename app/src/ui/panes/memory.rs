//! The Memory tab: page faults by kind and by page, MMIO by address, dirty pages, MMU roots, and single
//! events under them.

use super::{
    grid::{self, Item, Place},
    list::{self, List, Spec},
    rows, stacks,
};
use crate::{
    model::detail::KeyClass,
    source::live::plan::Family,
    state::{
        Pane, Scope, State,
        activity::HotRow,
        events::{EventRow, List as Events},
        value,
    },
    ui::{
        paint::{Look, put},
        view::View,
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

const FAULTS: &[Spec] = &[
    ("what", 0, 20),
    ("rate", 1, 5),
    ("share", 2, 5),
    ("mean", 3, 5),
    ("max", 4, 5),
    ("count", 6, 5),
    ("most", 5, 24),
];

const PAGES: &[Spec] = &[
    ("what", 0, 20),
    ("vm", 3, 20),
    ("rate", 1, 5),
    ("share", 2, 5),
    ("mean", 4, 5),
    ("max", 5, 5),
    ("count", 6, 5),
];

const MMIO: &[Spec] = &[
    ("what", 0, 34),
    ("vm", 4, 20),
    ("way", 3, 8),
    ("rate", 1, 5),
    ("share", 7, 5),
    ("mean", 5, 5),
    ("max", 6, 5),
    ("to", 2, 6),
];

const DIRTY: &[Spec] = &[
    ("what", 0, 24),
    ("vm", 2, 20),
    ("rate", 1, 5),
    ("bytes", 3, 9),
    ("share", 4, 5),
    ("count", 5, 5),
];

const ROOTS: &[Spec] = &[
    ("what", 0, 18),
    ("vm", 3, 20),
    ("vcpu", 2, 4),
    ("level", 4, 5),
    ("rate", 1, 5),
    ("share", 5, 5),
    ("roots", 6, 5),
];

const EVENTS: &[Spec] = &[
    ("time", 0, 12),
    ("vm", 4, 20),
    ("vcpu", 1, 4),
    ("gpa", 2, 12),
    ("what", 1, 40),
    ("took", 3, 5),
    ("invmm", 7, 5),
    ("rip", 5, 30),
    ("slot", 9, 4),
    ("hva", 10, 14),
    ("cpu", 8, 4),
];

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let item = |pane, rank, place| {
        let len = state.list_len(pane);
        let empty = if len == 0 { empty_text(pane, state) } else { String::new() };
        let want = list::height(len, &empty, grid::width(area, place));
        let want = if place == Place::Bottom { want.max(6) } else { want };
        Item { pane, want, rank, place }
    };
    let items: Vec<Item> = state
        .level()
        .panes()
        .iter()
        .map(|&pane| match pane {
            Pane::Faults => item(pane, 1, Place::Left),
            Pane::Mmio => item(pane, 2, Place::Right),
            Pane::Pages => item(pane, 4, Place::Left),
            Pane::Dirty => item(pane, 5, Place::Right),
            Pane::Roots => item(pane, 6, Place::Right),
            Pane::Stacks => {
                let want = stacks::want(state, view, grid::width(area, Place::Left));
                Item { pane, want, rank: 7, place: Place::Left }
            }
            Pane::Events => item(pane, 0, Place::Bottom),
            _ => {
                let want = rows::height(state.row_count());
                Item { pane, want, rank: 3, place: Place::Top }
            }
        })
        .collect();
    tab(buf, area, &items, state, view, pane);
}

/// What a pane says that has nothing.
fn empty_text(pane: Pane, state: &State) -> String {
    match pane {
        Pane::Mmio => empty(Family::Mmio, "no MMIO access", state),
        Pane::Dirty => {
            let missing = state.hook_missing(Family::Dirty, "mark_page_dirty");
            missing.unwrap_or_else(|| no_dirty(state))
        }
        Pane::Roots => {
            let missing = state.hook_missing(Family::Roots, "load_mmu_pgd");
            missing.unwrap_or_else(|| nothing("no MMU root was loaded", state))
        }
        Pane::Events => missing(&[Family::Mmu, Family::Mmio], state).unwrap_or_else(|| {
            "no page fault and no MMIO access in the time that is kept".to_owned()
        }),
        _ => empty(Family::Mmu, "no page fault", state),
    }
}

/// Draws the panes of a tab where they have a place, and says which have none.
pub fn tab(
    buf: &mut Buffer,
    area: Rect,
    items: &[Item],
    state: &State,
    view: &mut View,
    pane: fn(&mut Buffer, Rect, Pane, &State, &mut View),
) {
    let level = state.level();
    if level.zoomed {
        return pane(buf, area, level.pane, state, view);
    }
    let (placed, hidden) = grid::arrange(area, items, level.pane);
    for (one, area) in placed {
        if area.height > 0 {
            pane(buf, area, one, state, view);
        }
    }
    if !hidden.is_empty() {
        let names: Vec<&str> = hidden.into_iter().map(name).collect();
        let key = view.keymap.keys(crate::ui::keymap::Command::NextPane).first().copied();
        let key = key.map(|key| key.label(&view.look.glyphs)).unwrap_or_default();
        let text = format!("with {key}: {}", names.join(", "));
        let text = view.look.truncate(&text, area.width.saturating_sub(2));
        put(buf, area, 1, area.height.saturating_sub(1), &text, view.look.theme.dim);
    }
}

/// A pane in words.
fn name(pane: Pane) -> &'static str {
    match pane {
        Pane::Faults => "page faults",
        Pane::Mmio => "MMIO",
        Pane::Pages => "hottest pages",
        Pane::Dirty => "dirty pages",
        Pane::Roots => "MMU roots",
        Pane::Stacks => "callers",
        Pane::Events => "single events",
        Pane::Hypercalls => "hypercalls",
        Pane::Ioctls => "ioctls",
        Pane::Slots => "memory slots",
        Pane::Calls => "last hypercalls",
        Pane::Vectors => "vectors",
        Pane::Timers => "timers",
        Pane::Chips => "chips",
        Pane::Ipis => "IPIs",
        Pane::Injections => "log of interrupts",
        Pane::OnCpus => "CPUs",
        Pane::Takers => "who ran instead",
        Pane::Polling => "halt polling",
        Pane::Wakeups => "wake-ups",
        Pane::Woken => "log of wake-ups",
        Pane::Told => "last ioctls",
        _ => "table",
    }
}

fn pane(buf: &mut Buffer, area: Rect, pane: Pane, state: &State, view: &mut View) {
    let empty = || empty_text(pane, state);
    let mut list = |title: &str, columns| {
        let mut title = titled(pane, title, state, &view.look);
        title.spans.extend(beside(pane, state, &view.look));
        hot(buf, area, (pane, title, columns, empty()), state, view);
    };
    match pane {
        Pane::Faults => list("page faults by kind", FAULTS),
        Pane::Pages => list("hottest pages", PAGES),
        Pane::Mmio => list("MMIO by address", MMIO),
        Pane::Dirty => list("dirty pages", DIRTY),
        Pane::Roots => list("MMU roots", ROOTS),
        Pane::Stacks => stacks::draw(buf, area, state, view),
        Pane::Events => {
            let what = (pane, Events::Memory, "single events", EVENTS, empty());
            events(buf, area, what, state, view);
        }
        _ => match state.level().scope {
            Scope::Host => rows::draw(buf, area, state.vm_rows(), rows::MEMORY_VMS, state, view),
            _ => rows::draw(buf, area, state.vcpu_rows(), rows::MEMORY_VCPUS, state, view),
        },
    }
}

/// What stands beside a title: what of the pane is no row of it.
fn beside(pane: Pane, state: &State, look: &Look) -> Vec<Span<'static>> {
    let per_second = |n: u64, what: &str| {
        let rate = n as f64 * 1e9 / state.activity_over_ns().max(1) as f64;
        (n > 0).then(|| format!("  {}/s {what}", value::rate(rate)))
    };
    let span = |text: Option<String>, style| text.map(|text| Span::styled(text, style));
    match pane {
        Pane::Roots => {
            let loads =
                state.hot(pane).rows.iter().filter(|row| row.id.class == KeyClass::VcpuLoad);
            let loads = loads.map(|row| row.sum.count).fold(0, u64::saturating_add);
            span(per_second(loads, "vCPU loads"), look.theme.text).into_iter().collect()
        }
        Pane::Dirty => {
            let log = state.dirty_log();
            let at_host = state.level().scope == Scope::Host;
            [
                span(per_second(log.pml_full, "PML full"), look.theme.text),
                span(per_second(log.ring_full, "ring full"), look.theme.warn),
                span(
                    per_second(log.elsewhere, "by other threads").filter(|_| at_host),
                    look.theme.text,
                ),
            ]
            .into_iter()
            .flatten()
            .collect()
        }
        _ => Vec::new(),
    }
}

/// Why no page is dirty although it is watched. KVM notes none where nobody asked it to.
fn no_dirty(state: &State) -> String {
    let over = value::duration(state.activity_over_ns());
    let log = state.dirty_log();
    match state.level().scope {
        Scope::Reason(..) => {
            format!("no page was logged as dirty in such an exit in the last {over}")
        }
        _ if log.marked == 0 && log.not_logged > 0 => format!(
            "dirty logging is off: of {} that KVM marked as dirty here in the last {over} none is in a \
             memory slot that logs",
            pages(log.not_logged)
        ),
        _ if log.marked == 0 => format!(
            "KVM marked no page as dirty here in the last {over}, so that nothing tells whether dirty \
             logging is on"
        ),
        _ => format!(
            "dirty logging is on: KVM marked {} in the last {over}, and each had been marked before",
            pages(log.marked)
        ),
    }
}

fn pages(n: u64) -> String {
    if n == 1 { "1 page".to_owned() } else { format!("{} pages", value::count(n)) }
}

/// Why none of some families is attached, the first one's reason.
pub fn missing(families: &[Family], state: &State) -> Option<String> {
    if families.iter().any(|&family| state.family_on(family)) {
        return None;
    }
    families.iter().find_map(|&family| state.family_missing(family))
}

/// Why a pane has nothing: its family is off, or nothing happened.
pub fn empty(family: Family, nothing: &str, state: &State) -> String {
    state.family_missing(family).unwrap_or_else(|| {
        // A backend that makes no kernel exits visible need not tell of what they were about.
        let header = state.header();
        let silent = header.rate == 0.0
            && header.user_rate > 0.0
            && matches!(family, Family::Mmu | Family::Hypercall);
        let why =
            if silent { "; as no kernel exit is seen, there may be some all the same" } else { "" };
        format!("{}{why}", self::nothing(nothing, state))
    })
}

fn nothing(nothing: &str, state: &State) -> String {
    format!("{nothing} here in the last {}", value::duration(state.activity_over_ns()))
}

/// "page faults by kind  1.2k/s".
pub fn titled(pane: Pane, title: &str, state: &State, look: &Look) -> Line<'static> {
    let hot = state.hot(pane);
    let mut spans = vec![Span::styled(title.to_owned(), look.theme.head)];
    if !hot.rows.is_empty() {
        spans.push(Span::styled(format!("  {}/s", value::rate(hot.rate)), look.theme.text));
    }
    if hot.all > hot.rows.len() {
        let text = format!("  first {} of {}", hot.rows.len(), hot.all);
        spans.push(Span::styled(text, look.theme.dim));
    }
    Line::from(spans)
}

/// "last 10s".
pub fn over(state: &State, look: &Look) -> Line<'static> {
    let over = format!("last {}", value::duration(state.activity_over_ns()));
    Line::from(Span::styled(over, look.theme.dim))
}

type HotPane = (Pane, Line<'static>, &'static [Spec], String);

/// A list of what was met in the last seconds.
pub fn hot(
    buf: &mut Buffer,
    area: Rect,
    (pane, title, columns, empty): HotPane,
    state: &State,
    view: &mut View,
) {
    let found = &state.hot(pane).rows;
    let list = List {
        pane,
        title,
        right: over(state, &view.look),
        columns,
        len: found.len(),
        row: &|at| found.get(at).cloned(),
        style: &hot_style,
        picture: None,
        empty,
    };
    list::draw(buf, area, &list, state, view);
}

fn hot_style(row: &HotRow, key: &str, look: &Look) -> Style {
    use crate::state::keys::To;
    match key {
        _ if row.is_other() => look.theme.idle,
        "what" if row.is_unknown() => look.theme.warn,
        "to" if row.to() == Some(To::Vmm) => look.theme.warn,
        "most" => look.theme.dim,
        _ => look.theme.text,
    }
}

pub type EventPane = (Pane, Events, &'static str, &'static [Spec], String);

/// A list of single events.
pub fn events(
    buf: &mut Buffer,
    area: Rect,
    (pane, list, title, columns, empty): EventPane,
    state: &State,
    view: &mut View,
) {
    let len = state.event_count(list);
    let look = &view.look;
    let mut spans = vec![Span::styled(title, look.theme.head)];
    if len > 0 {
        spans.push(Span::styled(format!("  {}", value::count(len as u64)), look.theme.text));
    }
    let left_out = state.events_left_out(list);
    if left_out > 0 {
        let text = format!("  {} more of the host left out", value::count(left_out));
        spans.push(Span::styled(text, look.theme.warn));
    }
    let list = List {
        pane,
        title: Line::from(spans),
        right: Line::from(Span::styled("newest first", look.theme.dim)),
        columns,
        len,
        row: &|at| state.event_row(list, at),
        style: &event_style,
        picture: None,
        empty,
    };
    list::draw(buf, area, &list, state, view);
}

/// From this time on an event is something to look at, ns.
const SLOW_NS: u64 = 1_000_000;

fn event_style(row: &EventRow, key: &str, look: &Look) -> Style {
    match key {
        "took" if row.event.wall_ns() >= SLOW_NS => look.theme.warn,
        "what" if row.is_odd() => look.theme.warn,
        _ => look.theme.text,
    }
}
