//! Who calls a function of the kernel: stacks with counts, and the frames of the one under the cursor.

use super::{
    list::{self, List, Spec},
    memory,
};
use crate::{
    model::stack::{Frame, StackOf},
    state::{Pane, Scope, State, Who, activity::StackRow, value},
    ui::{
        keymap::Command,
        paint::{Look, below, put},
        view::View,
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

const COLUMNS: &[Spec] =
    &[("rate", 0, 5), ("share", 2, 5), ("count", 4, 5), ("vm", 3, 20), ("callers", 1, 200)];

/// Rows from which on frames are drawn below the list.
const ROOM: u16 = 9;

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let found = state.stacks();
    let look = view.look.clone();
    let frames = frames(area.height, state, &look);
    let under = frames.len() as u16;
    let list = List {
        pane: Pane::Stacks,
        title: title(state, &look),
        right: memory::over(state, &look),
        columns: COLUMNS,
        len: found.rows.len(),
        row: &|at| found.rows.get(at).cloned(),
        style: &style,
        picture: None,
        empty: empty(state, view),
    };
    let height =
        area.height.saturating_sub(under).min(list::height(list.len, &list.empty, area.width));
    list::draw(buf, Rect { height, ..area }, &list, state, view);
    let rest = below(area, height);
    let width = rest.width.saturating_sub(4);
    for (y, line) in (0..rest.height).zip(&frames) {
        put(buf, rest, 3, y, &look.truncate(line, width), look.theme.dim);
    }
}

/// Rows that it can use.
pub fn want(state: &State, view: &View, width: u16) -> u16 {
    let found = state.stacks();
    let empty = if found.rows.is_empty() { empty(state, view) } else { String::new() };
    let list = list::height(found.rows.len(), &empty, width);
    let frames = if state.level().pane == Pane::Stacks {
        state.selected_stack().map_or(0, |row| row.id.frames.len() as u16)
    } else {
        0
    };
    list.saturating_add(frames)
}

/// The frames of the stack under the cursor, as far as there is room for them beside the list.
fn frames(height: u16, state: &State, look: &Look) -> Vec<String> {
    if state.level().pane != Pane::Stacks || height < ROOM {
        return Vec::new();
    }
    let Some(row) = state.selected_stack() else { return Vec::new() };
    let rows = state.stacks().rows.len().saturating_add(2);
    let most = usize::from(height).saturating_sub(rows).max(usize::from(height / 2));
    let mut lines: Vec<String> =
        row.id.frames.iter().map(|frame| look.name(&words(frame))).collect();
    if lines.len() > most {
        let hidden = lines.len() - most.saturating_sub(1);
        lines.truncate(most.saturating_sub(1));
        lines.push(format!("{} {hidden} more", look.glyphs.ellipsis));
    }
    lines
}

fn words(Frame { address, symbol }: &Frame) -> String {
    if symbol.is_empty() { format!("{address:#018x}") } else { symbol.clone() }
}

fn title(state: &State, look: &Look) -> Line<'static> {
    let found = state.stacks();
    let of = state.stacks_of().word();
    let mut spans = vec![Span::styled(format!("callers of {of}"), look.theme.head)];
    // Of a stack it is not known which vCPU's it is.
    if matches!(state.level().scope, Scope::Reasons(Who::Vcpu(_))) {
        spans.push(Span::styled(" in the whole VM", look.theme.head));
    }
    if !found.rows.is_empty() {
        spans.push(Span::styled(format!("  {}/s", value::rate(found.rate)), look.theme.text));
    }
    if found.left_out > 0 {
        let text = format!("  {} calls of the host without a stack", value::count(found.left_out));
        spans.push(Span::styled(text, look.theme.warn));
    }
    Line::from(spans)
}

/// What is said where no stack is: why, what the function is, and how to look at another.
fn empty(state: &State, view: &View) -> String {
    let of = state.stacks_of();
    let nothing = || {
        let over = value::duration(state.activity_over_ns());
        format!("{} ({}) was not called here in the last {over}", of.word(), about(of))
    };
    let text = state.stacks_missing().unwrap_or_else(nothing);
    let key = view.keymap.keys(Command::NextStacks).first().copied();
    match key.filter(|_| state.can_switch_stacks()) {
        Some(key) => format!(
            "{}; {} looks at {}",
            text.trim_end_matches('.'),
            key.label(&view.look.glyphs),
            of.next().word()
        ),
        None => text,
    }
}

/// What a call of it means.
fn about(of: StackOf) -> &'static str {
    match of {
        StackOf::LoadMmuPgd => "the processor gets another MMU root",
        StackOf::MmuLoad => "an MMU root is made, as there is none that is valid",
        StackOf::ResetContext => "all of a vCPU's MMU is set up anew",
        StackOf::MmuCreate => "a vCPU is made",
        StackOf::SetCr3 => "KVM carries out a write of the guest to CR3",
        StackOf::CrAccess => "the guest's access to a control register exits",
        StackOf::VcpuRun => "the guest is entered",
    }
}

fn style(_: &StackRow, key: &str, look: &Look) -> Style {
    match key {
        "callers" | "rate" => look.theme.text,
        _ => look.theme.dim,
    }
}

/// What pressing the key asks of the source.
pub fn message(state: &State) -> String {
    format!("counting the callers of {}", state.stacks_of().next().word())
}
