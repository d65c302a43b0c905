//! Columns of numbers of interrupts and scheduling, in the tables of VMs and vCPUs.

use super::rows::Shown;
use crate::{
    state::{State, signals::Gauge, value::Value},
    ui::{paint::Look, widgets::table},
};
use ratatui::{style::Style, text::Line};

/// The title of a column of interrupts or scheduling; its name in the configuration file too.
pub fn title(gauge: Gauge) -> &'static str {
    match gauge {
        Gauge::Sent => "chips/s",
        Gauge::Arrived => "delivered/s",
        Gauge::Expired => "timer/s",
        Gauge::Apicv => "APICv",
        Gauge::Loaded => "on CPU",
        Gauge::Intervals => "loads/s",
        Gauge::MeanInterval => "mean load",
        Gauge::LeastInterval => "min load",
        Gauge::MostInterval => "max load",
        Gauge::Open => "open load",
        Gauge::Migrations => "moves/s",
        Gauge::Crossings => "nodes/s",
        Gauge::Wakeups => "wake-ups/s",
    }
}

/// Whether any of the rows has some of it: a column of nothing says nothing.
pub fn any<R: Shown>(rows: &[R], gauge: Gauge, state: &State) -> bool {
    let some = |row: &R| is_some(&state.gauge(row.id(), gauge));
    rows.iter().any(some)
}

/// A number of interrupts or scheduling; none of it is faint.
pub fn line<R: Shown>(
    shown: &R,
    gauge: Gauge,
    style: Style,
    state: &State,
    look: &Look,
) -> Line<'static> {
    let value = state.gauge(shown.id(), gauge);
    let some = is_some(&value);
    let style = match gauge {
        _ if !some => look.theme.dim,
        Gauge::Crossings => look.theme.warn,
        _ => style,
    };
    table::plain(look.name(&look.value(&value)), style)
}

fn is_some(value: &Value) -> bool {
    matches!(value, Value::Text(_)) || value.number().is_some_and(|n| n > 0.0)
}
