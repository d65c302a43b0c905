//! What to say where there is nothing to show: why, and what helps.

use crate::{
    model::session::Origin,
    state::{Scope, State},
    ui::{
        format,
        paint::{over, put, row},
        view::View,
    },
};
use ratatui::{buffer::Buffer, layout::Rect};

/// Draws the reason for an empty level; false when there is something to show.
pub fn draw(buf: &mut Buffer, area: Rect, state: &State, view: &View) -> bool {
    let Some((title, sentences)) = reason(state) else { return false };
    let look = &view.look;
    let width = area.width.saturating_sub(8).min(90);
    let mut lines = Vec::new();
    for sentence in sentences {
        lines.push(String::new());
        let sentence = look.name(&sentence);
        lines.extend(format::wrap(&sentence, usize::from(width), look.glyphs.ellipsis));
    }
    let x = (area.width - width) / 2;
    let y = (area.height / 3).saturating_sub(lines.len() as u16 / 3).max(1);
    put(buf, area, x, y, &title, look.theme.strong);
    for (y, line) in (y + 1..area.height).zip(&lines) {
        put(buf, area, x, y, line, look.theme.text);
        if line.starts_with("kvmscope ") {
            over(buf, row(area, y, x, width), look.theme.key);
        }
    }
    true
}

fn reason(state: &State) -> Option<(String, Vec<String>)> {
    let header = state.header();
    if state.row_count() > 0 || matches!(state.level().scope, Scope::Reason(..)) {
        return None;
    }
    if state.hidden() > 0 {
        let filter = state.level().filter.text();
        return Some((
            format!("No row matches {}", format::plain(filter)),
            vec![format!("{} rows are hidden. Press / to change the filter.", state.hidden())],
        ));
    }
    let (attached, probes) = header.probes;
    if attached == 0 && probes > 0 && header.origin == Origin::Live {
        let mut sentences: Vec<String> =
            vec!["Without probes nothing can be measured. Why they are not attached:".to_owned()];
        sentences.extend(causes(&header.not_attached));
        sentences
            .push("What works on this host, what does not, and what to do about it:".to_owned());
        sentences.push("kvmscope doctor".to_owned());
        return Some(("No probe is attached".to_owned(), sentences));
    }
    if header.position.seq == 0 {
        return Some((
            "Waiting for the first numbers".to_owned(),
            vec!["They come with the end of the first interval.".to_owned()],
        ));
    }
    match state.level().scope {
        Scope::Host => Some((
            "No VM runs on this host".to_owned(),
            vec![
                "A VM appears here as soon as one of its vCPUs runs.".to_owned(),
                "To see what that looks like, with a small guest that is built in, run in \
                 another terminal:"
                    .to_owned(),
                "kvmscope demo".to_owned(),
            ],
        )),
        Scope::Vm(_) => Some((
            "No vCPU of this VM was seen".to_owned(),
            vec!["A vCPU appears here when it leaves the guest for the first time.".to_owned()],
        )),
        _ => Some((
            "Nothing happened in the time that is shown".to_owned(),
            vec!["A reason appears here with its first exit. Press esc to go back.".to_owned()],
        )),
    }
}

/// Each reason once, with the probes that it is about.
fn causes(not_attached: &[(String, String)]) -> Vec<String> {
    let mut causes: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, why) in not_attached {
        match causes.iter_mut().find(|(other, _)| other == why) {
            Some((_, names)) => names.push(name),
            None => causes.push((why, vec![name])),
        }
    }
    causes.into_iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect()
}
