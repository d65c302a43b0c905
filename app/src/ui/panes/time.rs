//! The Time tab: where wall time went, over findings, over slow exits.

use super::{rows, time_findings, time_outliers, time_parts};
use crate::{
    model::detail::VmTick,
    state::{Pane, Scope, State, value},
    ui::{
        paint::{Look, below, put, put_line},
        view::View,
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let level = state.level();
    let panes = level.panes();
    if level.zoomed {
        return pane(buf, area, level.pane, state, view);
    }
    let wants: Vec<u16> = panes.iter().map(|&pane| height(pane, area.width, state, view)).collect();
    let focus = panes.iter().position(|&pane| pane == level.pane).unwrap_or(0);
    let mut y = 0;
    for (&one, height) in panes.iter().zip(heights(area.height, &wants, focus)) {
        let height = height.min(area.height.saturating_sub(y));
        pane(buf, Rect { height, ..below(area, y) }, one, state, view);
        y += height;
    }
}

fn pane(buf: &mut Buffer, area: Rect, pane: Pane, state: &State, view: &mut View) {
    match pane {
        Pane::Findings => time_findings::draw(buf, area, state, view),
        Pane::Outliers => time_outliers::draw(buf, area, state, view),
        Pane::Parts => time_parts::draw(buf, area, state, view),
        _ => table(buf, area, state, view),
    }
}

/// Rows that a pane can use.
fn height(pane: Pane, width: u16, state: &State, view: &View) -> u16 {
    match pane {
        Pane::Findings => time_findings::height(width, state, &view.look),
        Pane::Outliers => time_outliers::height(state),
        Pane::Parts => time_parts::height(width, state),
        _ => rows::height(state.row_count()).saturating_add(1 + u16::from(beside(state).is_some())),
    }
}

/// Rows that a pane needs to say anything, by its place.
const LEAST: [u16; 3] = [6, 4, 3];

/// Divides the height: what each can use where that fits, what is left to the last; else the least
/// of each, then most of the rest to the one with the cursor, then to the others in their order.
fn heights(height: u16, wants: &[u16], focus: usize) -> Vec<u16> {
    let least = LEAST.iter().chain(std::iter::repeat(&1));
    let mut out: Vec<u16> =
        wants.iter().zip(least).map(|(&want, &least)| want.min(least)).collect();
    let mut left = height.saturating_sub(out.iter().fold(0, |sum, &h| sum.saturating_add(h)));
    let fits = wants.iter().fold(0u16, |sum, &want| sum.saturating_add(want)) <= height;
    let most = if fits { height } else { height * 3 / 5 };
    let others = (0..wants.len()).filter(|&i| i != focus).chain([focus]);
    let order = std::iter::once((focus, most)).chain(others.map(|i| (i, height)));
    for (i, most) in order {
        if let (Some(have), Some(&want)) = (out.get_mut(i), wants.get(i)) {
            let more = want.min(most).saturating_sub(*have).min(left);
            *have += more;
            left -= more;
        }
    }
    if let Some(last) = out.last_mut() {
        *last += left;
    }
    out
}

/// The legend, a row for each VM or vCPU, and what a VM does beside its vCPUs.
fn table(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    put_line(buf, area, 1, 0, &rows::legend(area.width.saturating_sub(1), &look));
    let under = beside(state);
    let body = below(area, 1);
    let body = Rect { height: body.height.saturating_sub(u16::from(under.is_some())), ..body };
    match state.level().scope {
        Scope::Host => rows::draw(buf, body, state.vm_rows(), rows::TIME_VMS, state, view),
        _ => rows::draw(buf, body, state.vcpu_rows(), rows::TIME_VCPUS, state, view),
    }
    if let Some(beside) = under {
        // Under the last row, not at the end of the area.
        let y = rows::height(state.row_count()).min(body.height) + 1;
        put_line(buf, area, 1, y, &beside_line(&beside, area.width.saturating_sub(2), &look));
    }
}

/// What the VM of a VM scope does beside its vCPUs.
fn beside(state: &State) -> Option<VmTick> {
    match state.level().scope {
        Scope::Vm(vm) => state.beside(vm),
        _ => None,
    }
}

/// "VMM's other threads 12% CPU: IO iothread1 9%, vhost-4711 3%"; of one CPU.
pub fn beside_line(beside: &VmTick, width: u16, look: &Look) -> Line<'static> {
    let mut text = String::new();
    if let Some(quota) = rows::quota(beside).filter(|&quota| quota > 0.0) {
        text = format!("stopped by its CPU quota {} of the time; ", value::share(quota));
    }
    let stopped = text.len();
    let share = |ns: u64| value::share(ns as f64 / beside.over_ns.max(1) as f64);
    text += &format!("VMM's other threads {} CPU", share(beside.others_ns));
    for (i, (_, comm, ns)) in beside.threads.iter().enumerate() {
        let sign = if i == 0 { ": " } else { ", " };
        text += &format!("{sign}{} {}", look.name(comm), share(*ns));
    }
    let text = look.truncate(&text, width);
    let (warn, rest) = text.split_at_checked(stopped).unwrap_or((&text, ""));
    Line::from(vec![
        Span::styled(warn.to_owned(), look.theme.warn),
        Span::styled(rest.to_owned(), look.theme.dim),
    ])
}

/// A line of text in a pane that has nothing else to say.
pub fn nothing(buf: &mut Buffer, area: Rect, text: &str, look: &Look) {
    let width = usize::from(area.width.saturating_sub(4));
    for (y, line) in
        (0..area.height).zip(crate::ui::format::wrap(text, width, look.glyphs.ellipsis))
    {
        put(buf, area, 2, y, &line, look.theme.dim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn everything_is_shown_where_it_fits() {
        assert_eq!(heights(30, &[8, 6, 5], 0), [8, 6, 16]);
    }

    #[test]
    fn else_most_goes_to_the_one_with_the_cursor() {
        assert_eq!(heights(21, &[42, 20, 30], 0), [12, 6, 3]);
        assert_eq!(heights(21, &[42, 20, 30], 1), [6, 12, 3]);
        assert_eq!(heights(21, &[42, 20, 30], 2), [6, 4, 11]);
    }

    proptest! {
        #[test]
        fn the_height_is_used_and_no_more(
            height in 13u16..200, wants in prop::array::uniform3(0u16..300), focus in 0usize..3,
        ) {
            let given = heights(height, &wants, focus);
            prop_assert_eq!(given.iter().sum::<u16>(), height);
        }
    }
}
