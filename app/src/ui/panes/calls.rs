//! The Calls tab: hypercalls by number, KVM ioctls by name, memory slots, and the last hypercalls with
//! their arguments.

use super::{
    grid::{self, Item, Place},
    list::{self, List, Spec},
    memory, rows,
};
use crate::{
    source::live::plan::Family,
    state::{Pane, Scope, State, activity::IoctlRow, events::List as Events, value},
    ui::{paint::Look, view::View},
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

const HYPERCALLS: &[Spec] = &[
    ("what", 0, 40),
    ("way", 2, 8),
    ("rate", 1, 5),
    ("share", 3, 5),
    ("mean", 4, 5),
    ("max", 5, 5),
    ("count", 7, 5),
    ("most", 6, 24),
];

const IOCTLS: &[Spec] = &[
    ("what", 0, 36),
    ("rate", 1, 5),
    ("failed", 2, 6),
    ("mean", 3, 5),
    ("max", 4, 5),
    ("count", 6, 5),
    ("most", 5, 24),
];

const SLOTS: &[Spec] = &[
    ("time", 1, 12),
    ("vm", 4, 20),
    ("what", 0, 50),
    ("gpa", 2, 12),
    ("took", 5, 5),
    ("hva", 7, 14),
];

/// When a hypercall ends is not told of each; its times are added up by number.
const CALLS: &[Spec] = &[
    ("time", 0, 12),
    ("vm", 4, 20),
    ("vcpu", 1, 4),
    ("what", 1, 60),
    ("rip", 6, 30),
    ("cpu", 8, 4),
];

const TOLD: &[Spec] = &[
    ("time", 1, 12),
    ("vm", 4, 20),
    ("on", 5, 8),
    ("vcpu", 6, 4),
    ("what", 0, 36),
    ("took", 2, 5),
    ("answer", 1, 12),
    ("tid", 7, 7),
    ("cpu", 8, 4),
];

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let item = |pane, rank, place| {
        let len = state.list_len(pane);
        let empty = if len == 0 { empty_text(pane, state) } else { String::new() };
        let want = list::height(len, &empty, grid::width(area, place));
        Item { pane, want, rank, place }
    };
    let items: Vec<Item> = state
        .level()
        .panes()
        .iter()
        .map(|&pane| match pane {
            Pane::Hypercalls => item(pane, 1, Place::Left),
            Pane::Ioctls => item(pane, 2, Place::Right),
            // The last ones say most.
            Pane::Slots => {
                let slots = item(pane, 4, Place::Right);
                let rank = if state.event_count(Events::Slots) == 0 { 7 } else { slots.rank };
                Item { want: slots.want.min(10), rank, ..slots }
            }
            Pane::Calls => {
                let calls = item(pane, 0, Place::Bottom);
                // Below it are ioctls, where there are some.
                let all = state.event_count(Events::Ioctls) == 0 || state.level().pane == pane;
                let most = if all { u16::MAX } else { 6.max(area.height / 4) };
                let rank = if state.event_count(Events::Calls) == 0 { 6 } else { calls.rank };
                Item { want: calls.want.min(most), rank, ..calls }
            }
            Pane::Told => item(pane, 5, Place::Bottom),
            _ => {
                let want = rows::height(state.row_count());
                Item { pane, want, rank: 3, place: Place::Top }
            }
        })
        .collect();
    memory::tab(buf, area, &items, state, view, pane);
}

/// What a pane says that has nothing.
fn empty_text(pane: Pane, state: &State) -> String {
    let kept = |family, text: &str| {
        let none = || format!("{text} in the time that is kept");
        let missing = match family {
            // The pane of ioctls says how to get them.
            Family::Ioctl => state.family_needed(family),
            _ => state.family_missing(family),
        };
        missing.unwrap_or_else(none)
    };
    match pane {
        Pane::Ioctls => memory::empty(Family::Ioctl, "no KVM ioctl", state),
        Pane::Slots => kept(Family::Ioctl, "no memory slot was set"),
        Pane::Calls => kept(Family::Hypercall, "no hypercall"),
        Pane::Told => kept(Family::Ioctl, "no KVM ioctl but KVM_RUN"),
        _ => memory::empty(Family::Hypercall, "no hypercall", state),
    }
}

fn pane(buf: &mut Buffer, area: Rect, pane: Pane, state: &State, view: &mut View) {
    match pane {
        Pane::Hypercalls => {
            let title = memory::titled(pane, "hypercalls", state, &view.look);
            memory::hot(buf, area, (pane, title, HYPERCALLS, empty_text(pane, state)), state, view);
        }
        Pane::Ioctls => ioctls(buf, area, state, view),
        Pane::Slots => {
            let (title, empty) = ("memory slots as they were set", empty_text(pane, state));
            memory::events(buf, area, (pane, Events::Slots, title, SLOTS, empty), state, view);
        }
        Pane::Calls => {
            let (title, empty) = ("last hypercalls", empty_text(pane, state));
            memory::events(buf, area, (pane, Events::Calls, title, CALLS, empty), state, view);
        }
        Pane::Told => {
            let (title, empty) = ("last ioctls but KVM_RUN", empty_text(pane, state));
            memory::events(buf, area, (pane, Events::Ioctls, title, TOLD, empty), state, view);
        }
        _ => match state.level().scope {
            Scope::Host => rows::draw(buf, area, state.vm_rows(), rows::CALLS_VMS, state, view),
            _ => rows::draw(buf, area, state.vcpu_rows(), rows::CALLS_VCPUS, state, view),
        },
    }
}

fn ioctls(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = &view.look;
    let found = state.ioctls();
    let mut spans = vec![Span::styled("KVM ioctls", look.theme.head)];
    // They are counted by process: a vCPU has none of its own.
    if !matches!(state.level().scope, Scope::Host | Scope::Vm(_)) {
        spans.push(Span::styled(" of the whole VM", look.theme.head));
    }
    if !found.rows.is_empty() {
        spans.push(Span::styled(format!("  {}/s", value::rate(found.rate)), look.theme.text));
    }
    if found.failed > 0.0 {
        let text = format!("  {} failed/s", value::rate(found.failed));
        spans.push(Span::styled(text, look.theme.warn));
    }
    let list = List {
        pane: Pane::Ioctls,
        title: Line::from(spans),
        right: memory::over(state, look),
        columns: IOCTLS,
        len: found.rows.len(),
        row: &|at| found.rows.get(at).cloned(),
        style: &ioctl_style,
        picture: None,
        empty: empty_text(Pane::Ioctls, state),
    };
    list::draw(buf, area, &list, state, view);
}

fn ioctl_style(row: &IoctlRow, key: &str, look: &Look) -> Style {
    match key {
        "failed" if row.sum.failed > 0 => look.theme.warn,
        "most" => look.theme.dim,
        _ => look.theme.text,
    }
}
