//! The Probes tab: every probe under its family, and what the family under the cursor shows and costs.

use super::list::{self, List, Spec};
use crate::{
    model::session::OFF,
    source::live::plan::Family,
    state::{Pane, State, keys::Watch, price, probes::ProbeRow, value},
    ui::{
        format,
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

const COLUMNS: &[Spec] = &[("name", 0, 40), ("state", 1, 14), ("about", 2, 200)];

/// Draws it.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let found = state.probe_rows();
    let look = view.look.clone();
    let under = state.selected_probe().map(|row| sentences(row, state)).unwrap_or_default();
    let width = usize::from(area.width.saturating_sub(4)).max(20);
    let mut lines: Vec<String> = under
        .iter()
        .flat_map(|text| format::wrap(&look.name(text), width, look.glyphs.ellipsis))
        .collect();
    lines.truncate(usize::from(area.height / 3));
    let below_height = lines.len() as u16 + u16::from(!lines.is_empty());
    let list = List {
        pane: Pane::Probes,
        title: title(state, &look),
        right: Line::from(Span::styled(run_time(state), look.theme.dim)),
        columns: COLUMNS,
        len: found.len(),
        row: &|at| found.get(at).cloned(),
        style: &style,
        picture: None,
        empty: "there are no probes: the numbers come from elsewhere".to_owned(),
    };
    let height = list::height(found.len(), &list.empty, area.width)
        .min(area.height.saturating_sub(below_height));
    list::draw(buf, Rect { height, ..area }, &list, state, view);
    let rest = below(area, height);
    if let Some(row) = state.selected_probe().filter(|_| below_height > 0) {
        let title = Line::from(Span::styled(look.name(&row.family), look.theme.head));
        crate::ui::paint::titled_rule(buf, rest, &look, &title, &Line::default(), false);
        for (y, line) in (1..rest.height).zip(&lines) {
            put(buf, rest, 2, y, line, look.theme.text);
        }
    }
}

fn title(state: &State, look: &Look) -> Line<'static> {
    let (attached, all) = state.header().probes;
    let text = format!("probes  {attached} of {all} attached");
    Line::from(Span::styled(text, look.theme.head))
}

/// What all programs together take, as sampled last.
fn run_time(state: &State) -> String {
    match state.header().probe_cost {
        Some((ns, share)) => {
            format!(
                "all programs {ns:.0}ns a run, {} of a CPU when last sampled",
                value::share(share)
            )
        }
        None => "run time of the programs: not sampled yet".to_owned(),
    }
}

fn style(row: &ProbeRow, key: &str, look: &Look) -> Style {
    let on = match &row.probe {
        Some(probe) => probe.attached,
        None => matches!(row.watch, Watch::On | Watch::Partly(_)),
    };
    match (key, &row.probe) {
        ("state" | "about", Some(_)) if row.is_trouble() => look.theme.warn,
        ("name", None) => look.theme.strong,
        ("state", None) if row.is_trouble() => look.theme.warn,
        ("state", None) if on => look.theme.sorted,
        _ if !on => look.theme.dim,
        _ => look.theme.text,
    }
}

/// What a family shows, why it is off, how to get it, what it costs.
fn sentences(row: &ProbeRow, state: &State) -> Vec<String> {
    let Some(family) = row.known else {
        return vec!["A family that this version does not know.".to_owned()];
    };
    let mut out =
        vec![format!("{} {}", if state.family_on(family) { "On." } else { "Off." }, shows(family))];
    if let Some(probe) = row.probe.as_ref().filter(|probe| !probe.attached) {
        out.extend(probe.why.as_ref().map(|why| format!("{}: {why}.", probe.name)));
    } else {
        match &row.watch {
            // That it is off was said.
            Watch::Off(why) => out.push(sentence(why.strip_prefix(OFF).unwrap_or(why))),
            Watch::Partly(missing) => {
                out.extend(missing.iter().map(|(hook, why)| format!("{hook}: {why}.")));
            }
            Watch::On | Watch::Attaching => {}
        }
    }
    let how = if price::is_measured(family) {
        ", as measured with Linux 6.12 on an emulated processor (docs/cost.md)"
    } else {
        "; how much was not measured"
    };
    out.push(format!("While it is on it costs {}{how}.", price::price(family)));
    out
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

/// What a family is for.
fn shows(family: Family) -> &'static str {
    match family {
        Family::Exit => "Kernel exits: how often, why, how long.",
        Family::Userspace => "Exits to the VMM, and which threads are vCPUs.",
        Family::Sched => "When a vCPU is off the CPU.",
        Family::HaltPoll => "Halt polling.",
        Family::Detail => "What exits are about: MSR, port, address, guest code.",
        Family::Culprits => "Who runs while a vCPU waits for its CPU.",
        Family::Mmu => "Page faults: kinds, hottest pages, single ones.",
        Family::Mmio => "MMIO by address, single accesses.",
        Family::Dirty => "Dirty pages by memory slot and by page.",
        Family::Roots => "MMU roots that vCPUs load.",
        Family::Hypercall => "Hypercalls by number, with their arguments.",
        Family::Ioctl => "KVM ioctls by name, memory slots as they are set.",
        Family::Irq => "Interrupts and exceptions put into guests, IPIs.",
        Family::Irqchip => "PIC, I/O APIC, messages: what is sent, by whom.",
        Family::Timer => "Timers of the local APIC.",
        Family::Wakeup => "Wake-ups from halts: how long, valid or not.",
        Family::VcpuLoad => "Which CPUs vCPUs are loaded on.",
        Family::Base => "What every family needs: when a thread ends.",
    }
}
