//! What is shown, recorded: from now on, or what is kept of the past.

use super::action::{Action, Effect};
use super::{Mode, State};
use crate::model::history::History;
use crate::model::session::Session;
use crate::model::totals::Totals;
use crate::record::{Mark, Progress};

/// Marks that are kept, the latest.
const MARKS: usize = 1_000;

/// The kept history, for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Host, names, probes.
    pub session: Session,
    /// Who was there before the oldest tick.
    pub begin: Totals,
    /// The ticks.
    pub history: History,
    /// Marks in that time.
    pub marks: Vec<Mark>,
}

/// A recording that is being made, for the header.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Recorded {
    /// How far it is.
    pub progress: Progress,
    /// From its begin to the latest tick, ns.
    pub length_ns: u64,
}

/// What is recorded.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    /// The one that is being made, and since when (ns of the probes' clock).
    running: Option<(Progress, u64)>,
    /// Whether it was asked for, until it is known to run or not.
    asked: bool,
    marks: Vec<Mark>,
}

impl State {
    /// How the recording goes that was asked for: `None` when there is none any more.
    pub fn recorded(&mut self, progress: Option<Progress>) {
        self.recordings.asked = false;
        let since_ns = match self.recordings.running.take() {
            Some((_, since_ns)) => since_ns,
            None => self.moments.latest_ns(),
        };
        self.recordings.running = progress.map(|progress| (progress, since_ns));
        self.changed();
    }

    /// The recording that is being made, or has stopped by itself and was not put away yet.
    pub fn recording(&self) -> Option<Recorded> {
        let (progress, since_ns) = self.recordings.running.clone()?;
        let length_ns = self.moments.latest_ns().saturating_sub(since_ns);
        Some(Recorded { progress, length_ns })
    }

    /// Notes at the kept ticks.
    pub fn marks(&self) -> &[Mark] {
        &self.recordings.marks
    }

    /// Does what is about recordings; `None` for anything else.
    pub(super) fn perform_recording(&mut self, action: &Action) -> Option<Vec<Effect>> {
        Some(match action {
            Action::Record if self.replaying() => Vec::new(),
            Action::Record if self.recordings.running.is_some() || self.recordings.asked => {
                self.recordings.asked = false;
                vec![Effect::RecordStop]
            }
            Action::Record => {
                self.recordings.asked = true;
                let there = self.entities.there(self.moments.latest_ns());
                vec![Effect::Record(Box::new(there))]
            }
            Action::KeepPast => {
                self.past().map(|past| Effect::Keep(Box::new(past))).into_iter().collect()
            }
            Action::MarkEdit(text) => {
                let at_ns = match &self.mode {
                    Mode::Mark { at_ns, .. } => Some(*at_ns),
                    _ => self.moments.shown().map(|shown| shown.tick.end_ns),
                };
                if let (Some(at_ns), false) = (at_ns, self.replaying()) {
                    self.leave_prompt();
                    self.mode = Mode::Mark { text: text.clone(), at_ns };
                }
                Vec::new()
            }
            Action::MarkAccept => {
                let Mode::Mark { text, at_ns } = &self.mode else { return Some(Vec::new()) };
                let mark = Mark { at_ns: *at_ns, text: text.trim().to_owned() };
                self.mode = Mode::Normal;
                let marks = &mut self.recordings.marks;
                let at = marks.partition_point(|other| other.at_ns <= mark.at_ns);
                marks.insert(at, mark.clone());
                if marks.len() > MARKS {
                    marks.remove(0);
                }
                vec![Effect::Mark(mark)]
            }
            _ => return None,
        })
    }

    /// What is kept, with who was there before it; `None` where nothing is, or it is a recording already.
    fn past(&self) -> Option<Past> {
        let history = self.moments.history();
        if history.is_empty() || self.replaying() {
            return None;
        }
        let begin_ns = self.moments.oldest_begin_ns();
        let marks = self.recordings.marks.iter().filter(|mark| mark.at_ns > begin_ns);
        Some(Past {
            session: self.session.clone(),
            begin: self.entities.there(begin_ns),
            history: history.clone(),
            marks: marks.cloned().collect(),
        })
    }
}
