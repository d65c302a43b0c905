//! The Calls tab: hypercalls by number, KVM ioctls by name, memory slots, and the last hypercalls with
//! their arguments.

use super::{
    grid::{Item, Place},
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
    ("vm", 4, 16),
    ("what", 0, 30),
    ("gpa", 2, 12),
    ("size", 3, 8),
    ("flags", 6, 20),
    ("hva", 7, 14),
];

const CALLS: &[Spec] = &[
    ("time", 0, 12),
    ("vm", 4, 16),
    ("vcpu", 1, 4),
    ("what", 1, 60),
    ("took", 3, 5),
    ("rip", 6, 30),
    ("cpu", 8, 4),
];

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let item = |pane, want, rank, place| Item { pane, want, rank, place };
    let events = |list| list::height(state.event_count(list));
    let items: Vec<Item> = state
        .level()
        .panes()
        .iter()
        .map(|&pane| match pane {
            Pane::Hypercalls => {
                item(pane, list::height(state.hot(pane).rows.len()), 1, Place::Left)
            }
            Pane::Ioctls => item(pane, list::height(state.ioctls().rows.len()), 2, Place::Right),
            Pane::Slots => item(pane, events(Events::Slots).min(10), 4, Place::Right),
            Pane::Calls => item(pane, events(Events::Calls).max(6), 0, Place::Bottom),
            _ => item(pane, rows::height(state.row_count()), 3, Place::Top),
        })
        .collect();
    memory::tab(buf, area, &items, state, view, pane);
}

fn pane(buf: &mut Buffer, area: Rect, pane: Pane, state: &State, view: &mut View) {
    match pane {
        Pane::Hypercalls => {
            let title = memory::titled(pane, "hypercalls", state, &view.look);
            let empty = memory::empty(Family::Hypercall, "no hypercall", state);
            memory::hot(buf, area, (pane, title, HYPERCALLS, empty), state, view);
        }
        Pane::Ioctls => ioctls(buf, area, state, view),
        Pane::Slots => {
            let none = "no memory slot was set in the time that is kept";
            let empty = state.family_missing(Family::Ioctl).unwrap_or_else(|| none.to_owned());
            let what = (pane, Events::Slots, "memory slots as they were set", SLOTS, empty);
            memory::events(buf, area, what, state, view);
        }
        Pane::Calls => {
            let none = "no hypercall in the time that is kept";
            let empty = state.family_missing(Family::Hypercall).unwrap_or_else(|| none.to_owned());
            let what = (pane, Events::Calls, "last hypercalls", CALLS, empty);
            memory::events(buf, area, what, state, view);
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
        empty: memory::empty(Family::Ioctl, "no KVM ioctl", state),
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
