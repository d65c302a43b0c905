//! The comparison on a screen: lists of VMs, vCPUs and reasons by what changed most, and one reason with both
//! histograms over each other. Pure: events in, what is to be done out; the terminal is `crate::term`'s.

mod draw;
mod input;
mod overlay;
mod panel;
pub mod rows;

#[cfg(test)]
mod tests;

pub use input::Then;

use super::Diff;
use crate::state::filter::Filter;
use crate::state::{RowId, Sort};
use crate::ui::View;
use rows::{BY_CHANGE, DiffRow, Place};

/// What the body of the screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Body {
    /// The level.
    #[default]
    Level,
    /// What was not measured alike, in full.
    Notes,
    /// The keys and the columns.
    Help,
}

/// A level, as it will be found again when the person comes back to it.
#[derive(Clone, Debug, PartialEq)]
struct Level {
    place: Place,
    sort: Sort,
    filter: Filter,
    /// The row that the cursor is on; the first until the person has moved.
    selected: Option<RowId>,
    /// First row that is shown.
    from: usize,
}

impl Level {
    fn new(place: Place) -> Self {
        Self { place, sort: BY_CHANGE, filter: Filter::default(), selected: None, from: 0 }
    }
}

/// A filter being typed.
#[derive(Clone, Debug, PartialEq)]
struct Typing {
    text: String,
    error: Option<String>,
    /// The filter to come back to.
    before: Filter,
}

/// The comparison on the screen.
#[derive(Debug)]
pub struct Screen {
    diff: Diff,
    /// Styles, characters and keys.
    view: View,
    host: Level,
    above: Vec<Level>,
    /// Levels that were left.
    left: Vec<Level>,
    body: Body,
    typing: Option<Typing>,
    /// Rows of the level, filtered and sorted, and how many are hidden.
    rows: Vec<DiffRow>,
    hidden: usize,
    /// First line of notes or help.
    lines_from: usize,
}

impl Screen {
    /// Begins with the list of VMs.
    pub fn new(diff: Diff, view: View) -> Self {
        let mut screen = Self {
            diff,
            view,
            host: Level::new(Place::All),
            above: Vec::new(),
            left: Vec::new(),
            body: Body::default(),
            typing: None,
            rows: Vec::new(),
            hidden: 0,
            lines_from: 0,
        };
        screen.refresh();
        screen
    }

    /// Says something in the footer until the next key.
    pub fn say(&mut self, text: String) {
        self.view.message = Some(text);
    }

    fn level(&self) -> &Level {
        self.above.last().unwrap_or(&self.host)
    }

    fn level_mut(&mut self) -> &mut Level {
        self.above.last_mut().unwrap_or(&mut self.host)
    }

    /// Makes the rows of the level anew.
    fn refresh(&mut self) {
        let level = self.level();
        let (place, order, filter) = (level.place, level.sort, level.filter.clone());
        let all = rows::rows(&self.diff, place);
        let whole = all.len();
        // All vCPUs together are no vCPU; they stay whatever is filtered.
        let stays = |row: &DiffRow| matches!(row.place, Place::Reasons(_, None));
        let mut rows: Vec<DiffRow> =
            all.into_iter().filter(|row| stays(row) || filter.passes(row)).collect();
        rows::sort(&mut rows, order);
        self.hidden = whole - rows.len();
        self.rows = rows;
    }

    /// Index of the row that the cursor is on; `None` when there are none.
    fn cursor(&self) -> Option<usize> {
        let last = self.rows.len().checked_sub(1)?;
        let selected = self.level().selected;
        let at = selected.and_then(|id| self.rows.iter().position(|row| row_id(row) == id));
        Some(at.unwrap_or(0).min(last))
    }

    fn selected(&self) -> Option<&DiffRow> {
        self.rows.get(self.cursor()?)
    }

    fn select(&mut self, at: usize) {
        let at = at.min(self.rows.len().saturating_sub(1));
        let id = self.rows.get(at).map(row_id);
        self.level_mut().selected = id;
    }

    fn open(&mut self) {
        let Some(place) = self.selected().map(|row| row.place) else { return };
        let level = match self.left.iter().position(|level| level.place == place) {
            Some(at) => self.left.swap_remove(at),
            None => Level::new(place),
        };
        self.above.push(level);
        self.refresh();
    }

    /// Up by one level; false at the list of VMs.
    fn up(&mut self) -> bool {
        let Some(level) = self.above.pop() else { return false };
        self.left.push(level);
        self.refresh();
        true
    }

    /// Where one is, from the list of VMs down.
    fn breadcrumb(&self) -> Vec<String> {
        let places = std::iter::once(&self.host).chain(&self.above).map(|level| level.place);
        places.map(|place| self.crumb(place)).collect()
    }

    fn crumb(&self, place: Place) -> String {
        match place {
            Place::All => "all VMs".to_owned(),
            Place::Vm(at) => self.diff.vms.get(at).map(|vm| vm.name.clone()).unwrap_or_default(),
            Place::Reasons(_, None) => "all vCPUs".to_owned(),
            Place::Reasons(at, Some(n)) => {
                let vcpu = self.diff.vms.get(at).and_then(|vm| vm.vcpus.get(n));
                vcpu.map(|vcpu| format!("vCPU {}", vcpu.vcpu)).unwrap_or_default()
            }
            Place::Reason(..) => {
                place.reason(&self.diff).map(rows::reason_name).unwrap_or_default()
            }
        }
    }
}

fn row_id(row: &DiffRow) -> RowId {
    crate::state::fields::Row::id(row)
}
