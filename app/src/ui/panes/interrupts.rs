//! The Interrupts tab: interrupts and exceptions by vector, timers, what goes through chips and by whom,
//! inter-processor interrupts, and the log of single ones.

use super::{
    grid::{self, Item, Place},
    list::{self, List, Spec},
    memory, rows,
};
use crate::{
    source::live::plan::Family,
    state::{
        Pane, Scope, State,
        events::List as Events,
        fields::Row,
        signals::{ChipRow, TimerRow, VectorRow},
        value,
    },
    ui::{paint::Look, view::View},
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

const VECTORS: &[Spec] = &[
    ("what", 0, 32),
    ("injected", 1, 8),
    ("delivered", 2, 9),
    ("posted", 3, 6),
    ("eoi", 4, 5),
    ("again", 5, 5),
    ("soft", 6, 5),
    ("error", 7, 5),
    ("most", 8, 20),
];

const TIMERS: &[Spec] = &[
    ("who", 0, 24),
    ("now", 1, 8),
    ("expired", 2, 7),
    ("deadlines", 3, 8),
    ("disarmed", 8, 8),
    ("one_shot", 4, 8),
    ("periodic", 5, 8),
    ("late", 6, 5),
    ("late_mean", 7, 6),
    ("late_max", 9, 7),
    ("to_hardware", 10, 5),
    ("to_kernel", 11, 9),
];

const CHIPS: &[Spec] = &[
    ("chip", 0, 6),
    ("through", 5, 16),
    ("vm", 3, 16),
    ("vector", 1, 20),
    ("to", 2, 12),
    ("how", 6, 18),
    ("by", 2, 24),
    ("rate", 1, 5),
    ("coalesced", 4, 9),
];

const IPIS: &[Spec] = &[
    ("vm", 3, 16),
    ("from", 0, 8),
    ("to", 1, 14),
    ("what", 1, 30),
    ("mode", 6, 8),
    ("rate", 2, 5),
    ("share", 5, 5),
];

const LOG: &[Spec] = &[
    ("time", 0, 12),
    ("vm", 4, 16),
    ("vcpu", 1, 4),
    ("what", 1, 72),
    ("rip", 5, 30),
    ("cpu", 6, 4),
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
            Pane::Vectors => item(pane, 1, Place::Left),
            Pane::Chips => item(pane, 2, Place::Right),
            Pane::Timers => item(pane, 4, Place::Left),
            Pane::Ipis => item(pane, 5, Place::Right),
            Pane::Injections => item(pane, 0, Place::Bottom),
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
    let over = || value::duration(state.signals_over_ns());
    let none = |family: Family, nothing: &str| {
        state
            .family_missing(family)
            .unwrap_or_else(|| format!("{nothing} here in the last {}", over()))
    };
    match pane {
        Pane::Vectors => none(Family::Irq, "no interrupt and no exception"),
        Pane::Ipis => none(Family::Irq, "no vCPU sent an IPI that KVM saw"),
        Pane::Timers => none(Family::Timer, "no timer was set and none expired"),
        Pane::Chips => {
            none(Family::Irqchip, "nothing went through a chip that the kernel emulates")
        }
        _ => memory::missing(&[Family::Irq, Family::Irqchip, Family::Timer], state)
            .unwrap_or_else(|| "no interrupt in the time that is kept".to_owned()),
    }
}

fn pane(buf: &mut Buffer, area: Rect, pane: Pane, state: &State, view: &mut View) {
    match pane {
        Pane::Vectors => vectors(buf, area, state, view),
        Pane::Timers => {
            let title = title("timers", None, &view.look);
            rows_of(buf, area, (pane, title, TIMERS, state.timers()), timer_style, state, view);
        }
        Pane::Chips => {
            let of = match state.level().scope {
                Scope::Reasons(_) | Scope::Reason(..) => "chips of the whole VM",
                _ => "chips, and who sends",
            };
            let title = title(of, None, &view.look);
            rows_of(buf, area, (pane, title, CHIPS, state.chips()), chip_style, state, view);
        }
        Pane::Ipis => {
            let title = title("IPIs, who to whom", None, &view.look);
            rows_of(buf, area, (pane, title, IPIS, state.ipis()), plain, state, view);
        }
        Pane::Injections => {
            let what =
                (pane, Events::Interrupts, "log of interrupts", LOG, empty_text(pane, state));
            memory::events(buf, area, what, state, view);
        }
        _ => match state.level().scope {
            Scope::Host => {
                rows::draw(buf, area, state.vm_rows(), rows::INTERRUPTS_VMS, state, view);
            }
            _ => rows::draw(buf, area, state.vcpu_rows(), rows::INTERRUPTS_VCPUS, state, view),
        },
    }
}

/// "timers  1.2k/s".
fn title(text: &str, rate: Option<String>, look: &Look) -> Line<'static> {
    let mut spans = vec![Span::styled(text.to_owned(), look.theme.head)];
    spans.extend(rate.map(|rate| Span::styled(format!("  {rate}"), look.theme.text)));
    Line::from(spans)
}

type RowsPane<'a, R> = (Pane, Line<'static>, &'static [Spec], &'a [R]);

/// A list of rows of the last seconds.
fn rows_of<R: Row + Clone>(
    buf: &mut Buffer,
    area: Rect,
    (pane, title, columns, rows): RowsPane<'_, R>,
    style: fn(&R, &str, &Look) -> Style,
    state: &State,
    view: &mut View,
) {
    let over = format!("last {}", value::duration(state.signals_over_ns()));
    let list = List {
        pane,
        title,
        right: Line::from(Span::styled(over, view.look.theme.dim)),
        columns,
        len: rows.len(),
        row: &|at| rows.get(at).cloned(),
        style: &style,
        picture: None,
        empty: if rows.is_empty() { empty_text(pane, state) } else { String::new() },
    };
    list::draw(buf, area, &list, state, view);
}

/// Where the hardware delivers, KVM puts little or nothing into the guest: the title says so.
fn vectors(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let found = state.vectors();
    let rate =
        |what: &str, rate: f64| (rate > 0.0).then(|| format!("{} {what}/s", value::rate(rate)));
    let parts = [
        rate("injected", found.injected),
        rate("delivered", found.delivered),
        (found.posted > 0.0 && found.posted >= found.injected)
            .then(|| "by the hardware".to_owned()),
        state.apicv(),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let rates = (!parts.is_empty()).then(|| parts.join(", "));
    let title = title("vectors", rates, &view.look);
    let pane = Pane::Vectors;
    rows_of(buf, area, (pane, title, VECTORS, &found.rows[..]), vector_style, state, view);
}

fn plain<R>(_: &R, _: &str, look: &Look) -> Style {
    look.theme.text
}

fn vector_style(row: &VectorRow, key: &str, look: &Look) -> Style {
    match key {
        _ if row.vector.is_none() => look.theme.idle,
        "what" if row.exception || row.vector == Some(u64::MAX) => look.theme.warn,
        "again" => look.theme.warn,
        "most" => look.theme.dim,
        _ => look.theme.text,
    }
}

fn timer_style(_: &TimerRow, key: &str, look: &Look) -> Style {
    match key {
        "late" | "late_mean" | "late_max" => look.theme.warn,
        _ => look.theme.text,
    }
}

fn chip_style(row: &ChipRow, key: &str, look: &Look) -> Style {
    match key {
        "vm" if row.route.vm.is_none() => look.theme.warn,
        "how" if row.decoded.masked => look.theme.dim,
        "coalesced" => look.theme.warn,
        _ => look.theme.text,
    }
}
