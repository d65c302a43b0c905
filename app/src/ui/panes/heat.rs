//! The heat map of a level: VM × reason, or vCPU × reason.

use crate::{
    state::{
        Pane, Scope, State,
        fields::phase_word,
        heat::Colour,
        rows::{VcpuRow, VmRow},
        value,
    },
    ui::{
        format,
        paint::{self, Look, below, put, row, titled_rule},
        view::{Hit, View},
        widgets::heatmap::{HeatColumn, HeatMap, HeatRow, Scale},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

/// Columns before the cells: marker, "vCPU 123", CPU and state; or the longest name of a VM.
fn label_width(state: &State, width: u16, look: &Look) -> u16 {
    match state.level().scope {
        Scope::Vm(_) => 26,
        _ => {
            let names = state.vm_rows().iter().map(|vm| paint::width(&look.name(&vm.name)));
            (names.max().unwrap_or(0) + 2).clamp(12, (width / 6).max(12))
        }
    }
}

/// How many reason columns fit, "other" not counted.
pub fn reason_columns(width: u16, state: &State, look: &Look) -> usize {
    HeatMap::room(width, label_width(state, width, look)).saturating_sub(1).max(1)
}

/// Rows that the heat map needs with its rule and header.
pub fn height(rows: usize) -> u16 {
    u16::try_from(rows.saturating_add(2)).unwrap_or(u16::MAX)
}

/// What colour means: limits of the levels and text of a value. `baseline` is when the baseline is of (ns since the
/// Unix epoch), where the person took one.
fn scale(colour: Colour, baseline: Option<u64>, look: &Look) -> Scale {
    let micro = look.glyphs.micro;
    let steps = colour.steps();
    let step = |i: usize| steps.get(i).copied().unwrap_or(f64::INFINITY);
    // "The same as before" is between the changes; every other scale starts above nothing.
    let limits = match colour {
        Colour::Change => [step(1), step(2), step(4), step(5), step(6)],
        _ => [step(1), step(2), step(3), step(4), step(5)],
    };
    let text: Box<dyn Fn(f64) -> String> = match colour {
        Colour::Rate => Box::new(value::rate),
        Colour::TimeShare => Box::new(value::share),
        Colour::P99 => Box::new(move |v| format::duration(v as u64, micro)),
        Colour::Change => Box::new(value::factor),
    };
    let title = match (colour, baseline) {
        (Colour::Change, Some(at)) => format!("against {}", format::time_of_day(at)).into(),
        // Short enough to be drawn in 80 columns.
        (Colour::Change, None) => "against minute before".into(),
        _ => colour.label().into(),
    };
    Scale { title, limits, changes: colour == Colour::Change, text }
}

/// Draws it, under a rule with its title and the drawn scale.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &mut View) {
    let look = view.look.clone();
    let level = state.level();
    let map = state.heatmap();
    let scope = level.scope;
    let label_width = label_width(state, area.width, &look);
    let (label, labels) = match scope {
        Scope::Vm(_) => (vcpu_head(&look), vcpu_labels(state.vcpu_rows(), &look)),
        _ => {
            let labels = vm_labels(state.vm_rows(), label_width, &look);
            (Line::from(Span::styled(" VM", look.theme.head)), labels)
        }
    };
    let baseline = state.baseline().map(|of| state.session().unix_ns(of.end_ns));
    let rows = map.rows.iter().zip(labels).map(|(row, label)| HeatRow {
        label,
        values: row.cells.iter().map(|cell| cell.value).collect(),
        gone: row.gone,
    });
    let widget = HeatMap {
        rows: rows.collect(),
        columns: map
            .columns
            .iter()
            .map(|column| HeatColumn {
                name: if column.userspace {
                    format!("u:{}", column.title)
                } else {
                    column.title.clone()
                },
                idle: column.idle,
            })
            .collect(),
        label,
        label_width,
        scale: scale(map.colour, baseline, &look),
    };
    let focused = level.pane == Pane::Heat;
    let body = below(area, 1);
    let visible = body.height.saturating_sub(1);
    let from = view.scroll((scope, Pane::Heat), state.cursor(), map.rows.len(), visible);
    if focused {
        view.page = usize::from(visible);
    }
    let cursor = if focused { map.cursor.map(|c| c.1) } else { None };
    let drawn = widget.draw(buf, body, from, (state.cursor(), cursor), &look);
    for (y, at) in (1..body.height).zip(from..map.rows.len()) {
        view.hit(row(body, y, 0, drawn.x), Hit::Row(at));
        for i in 0..drawn.shown {
            let x = drawn.x + i as u16 * drawn.pitch;
            view.hit(row(body, y, x, drawn.pitch - 1), Hit::Cell(at, drawn.first + i));
        }
        if state.cursor() == Some(at) {
            let style = if focused { look.theme.key } else { look.theme.dim };
            put(buf, body, 0, y, &look.glyphs.selected.to_string(), style);
        }
    }
    let more = drawn.more(map.columns.len(), &look);
    let title = match (scope, more.is_empty()) {
        (Scope::Vm(_), true) => "vCPU by reason".to_owned(),
        (_, true) => "VM by reason".to_owned(),
        (_, false) => more,
    };
    let title = Line::from(Span::styled(title, Style::new()));
    titled_rule(buf, area, &look, &title, &widget.scale.legend(&look), focused);
    view.hit(row(area, 0, 0, area.width), Hit::Pane(Pane::Heat));
}

fn vm_labels(rows: &[VmRow], width: u16, look: &Look) -> Vec<Line<'static>> {
    rows.iter()
        .map(|vm| {
            let style = if vm.ended_unix_ns.is_some() { look.theme.gone } else { look.theme.text };
            let name = look.truncate(&look.name(&vm.name), width.saturating_sub(2));
            Line::from(Span::styled(format!(" {name}"), style))
        })
        .collect()
}

fn vcpu_head(look: &Look) -> Line<'static> {
    Line::from(Span::styled(
        format!(" {:<8} {:>4} {:<10}", "vCPU", "CPU", "state"),
        look.theme.head,
    ))
}

/// vCPU, the physical CPU it is on, its state now.
fn vcpu_labels(rows: &[VcpuRow], look: &Look) -> Vec<Line<'static>> {
    rows.iter()
        .map(|vcpu| {
            let gone = vcpu.ended_unix_ns.is_some();
            let style = if gone { look.theme.gone } else { look.theme.text };
            let cpu = vcpu.cpu.map(|cpu| cpu.to_string()).unwrap_or_default();
            let state = match (gone, vcpu.phase) {
                (true, _) => "ended",
                (false, Some((phase, _))) => phase_word(phase),
                (false, None) => "",
            };
            let name = look.truncate(&vcpu.label, 8);
            Line::from(vec![
                Span::styled(format!(" {name:<8}"), style),
                Span::styled(format!(" {cpu:>4}"), if gone { style } else { look.theme.dim }),
                Span::styled(format!(" {state:<10}"), style),
            ])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{glyph, theme::Theme};

    #[test]
    fn every_meaning_of_colour_has_a_scale_that_rises() {
        let look = Look { theme: Theme::new(Default::default()), glyphs: glyph::UNICODE };
        for colour in Colour::ALL {
            for baseline in [None, Some(0)] {
                let scale = scale(colour, baseline, &look);
                assert!(scale.limits.windows(2).all(|w| w[0] < w[1]), "{colour:?}");
                assert!(scale.legend(&look).width() <= 60, "{colour:?}");
            }
        }
    }
}
