//! The cursor in the lists of memory, calls and probes, and what its entry opens, copies, saves.

use super::activity::{HotRow, StackRow};
use super::events::{EventRow, List};
use super::nav::{EntryId, Pane, Scope, Tab, Who};
use super::probes::ProbeRow;
use super::{SavedView, State, save};
use crate::model::ids::{VcpuKey, VmId};

/// The VM of an event of which it is not known.
const NOBODY: VmId = VmId(0);
/// Rows of a long list that are saved to a file.
const SAVED: usize = 10_000;

impl State {
    /// Rows of a list.
    pub fn list_len(&self, pane: Pane) -> usize {
        match (List::of(pane), pane) {
            (Some(list), _) => self.event_count(list),
            (None, Pane::Ioctls) => self.ioctls().rows.len(),
            (None, Pane::Stacks) => self.stacks().rows.len(),
            (None, Pane::Probes) => self.probe_rows().len(),
            (None, pane) if Self::is_signal(pane) => self.signal_len(pane),
            (None, pane) => self.hot(pane).rows.len(),
        }
    }

    /// Index of the entry that a list's cursor is on; `None` when there is none.
    pub(super) fn cursor_in_list(&self, pane: Pane) -> Option<usize> {
        let last = self.list_len(pane).checked_sub(1)?;
        let Some(entry) = self.level().entries.get(&pane) else { return Some(0) };
        let at = match (*entry, List::of(pane)) {
            (EntryId::Event(number), Some(list)) => self.event_at(list, number),
            (EntryId::Hot(id), _) => self.hot(pane).rows.iter().position(|row| row.id == id),
            (EntryId::Ioctl(command), _) => {
                self.ioctls().rows.iter().position(|row| row.command == command)
            }
            (EntryId::Stack(number), _) => {
                self.stacks().rows.iter().position(|row| row.number == number)
            }
            (EntryId::Probe(at), _) => Some(at),
            (EntryId::Signal(id), _) => self.signal_at(pane, id),
            (EntryId::Event(_), None) => None,
        };
        Some(at.unwrap_or(0).min(last))
    }

    /// The cursor of a list to one of its entries. At the newest event it follows.
    pub(super) fn select_in_list(&mut self, pane: Pane, at: usize) {
        let at = at.min(self.list_len(pane).saturating_sub(1));
        let entry = match (List::of(pane), pane) {
            (Some(_), _) if at == 0 => None,
            (Some(list), _) => self.event_number(list, at).map(EntryId::Event),
            (None, Pane::Ioctls) => {
                self.ioctls().rows.get(at).map(|row| EntryId::Ioctl(row.command))
            }
            (None, Pane::Stacks) => {
                self.stacks().rows.get(at).map(|row| EntryId::Stack(row.number))
            }
            (None, Pane::Probes) => Some(EntryId::Probe(at)),
            (None, pane) if Self::is_signal(pane) => self.signal_entry(pane, at),
            (None, pane) => self.hot(pane).rows.get(at).map(|row| EntryId::Hot(row.id)),
        };
        let entries = &mut self.nav.level_mut().entries;
        match entry {
            Some(entry) => entries.insert(pane, entry),
            None => entries.remove(&pane),
        };
    }

    /// The event that a list's cursor is on.
    pub fn selected_event(&self, pane: Pane) -> Option<EventRow> {
        self.event_row(List::of(pane)?, self.cursor_in(pane)?)
    }

    /// The stack that the cursor is on.
    pub fn selected_stack(&self) -> Option<&StackRow> {
        self.stacks().rows.get(self.cursor_in(Pane::Stacks)?)
    }

    fn selected_hot(&self, pane: Pane) -> Option<&HotRow> {
        self.hot(pane).rows.get(self.cursor_in(pane)?)
    }

    /// Where the entry under a list's cursor points, and the tab in which that is; `None` where it
    /// points nowhere else.
    pub fn list_target(&self, pane: Pane) -> Option<(Scope, Tab)> {
        let here = self.level();
        let (scope, tab) = if List::of(pane).is_some() {
            let scope = self.selected_event(pane)?.target();
            // An interrupt of which it is not known into which VM it goes.
            if scope.vm() == Some(NOBODY) {
                return None;
            }
            (scope, if matches!(scope, Scope::Reason(..)) { Tab::Exits } else { here.tab })
        } else if Self::is_signal(pane) {
            self.signal_target(pane)?
        } else if pane == Pane::Stacks {
            (Scope::Vm(self.selected_stack()?.id.vm?), here.tab)
        } else {
            let row = self.selected_hot(pane)?;
            let vm = row.id.vm?;
            let vcpu = row.id.vcpu.map(|vcpu| Who::Vcpu(VcpuKey { vm, vcpu }));
            (vcpu.map_or(Scope::Vm(vm), Scope::Reasons), here.tab)
        };
        // What is above where one is already is no way on.
        let deeper = depth(scope) > depth(here.scope);
        (deeper || tab != here.tab).then_some((scope, tab))
    }

    /// The entry under a list's cursor as text.
    pub(super) fn list_copied(&self, pane: Pane) -> Option<String> {
        if List::of(pane).is_some() {
            return self.selected_event(pane).map(|row| save::line(&row));
        }
        match pane {
            Pane::Ioctls => self.ioctls().rows.get(self.cursor_in(pane)?).map(save::line),
            Pane::Stacks => self.selected_stack().map(save::line),
            Pane::Probes => self.selected_probe().map(save::line),
            pane if Self::is_signal(pane) => self.signal_copied(pane),
            pane => self.selected_hot(pane).map(save::line),
        }
    }

    /// A list's rows for a file; of a long one the newest.
    pub(super) fn list_saved(&self, pane: Pane, name: String, title: &str) -> SavedView {
        let name = format!("{name}-{}", word(pane));
        if let Some(list) = List::of(pane) {
            let rows = 0..self.event_count(list).min(SAVED);
            let rows: Vec<EventRow> = rows.filter_map(|at| self.event_row(list, at)).collect();
            return save::view(name, title, &rows);
        }
        if let Some(view) = self.signal_saved(pane, &name, title) {
            return view;
        }
        match pane {
            Pane::Ioctls => save::view(name, title, &self.ioctls().rows),
            Pane::Stacks => save::view(name, title, &self.stacks().rows),
            Pane::Probes => save::view::<ProbeRow>(name, title, self.probe_rows()),
            pane => save::view(name, title, &self.hot(pane).rows),
        }
    }
}

fn depth(scope: Scope) -> u8 {
    match scope {
        Scope::Host => 0,
        Scope::Vm(_) => 1,
        Scope::Reasons(_) => 2,
        Scope::Reason(..) => 3,
    }
}

/// A pane in a word, for a file name.
fn word(pane: Pane) -> &'static str {
    match pane {
        Pane::Faults => "faults",
        Pane::Mmio => "mmio",
        Pane::Pages => "pages",
        Pane::Dirty => "dirty",
        Pane::Roots => "roots",
        Pane::Stacks => "stacks",
        Pane::Events => "events",
        Pane::Hypercalls => "hypercalls",
        Pane::Ioctls => "ioctls",
        Pane::Slots => "slots",
        Pane::Calls => "calls",
        Pane::Told => "ioctl-events",
        Pane::Probes => "probes",
        Pane::Vectors => "vectors",
        Pane::Timers => "timers",
        Pane::Chips => "chips",
        Pane::Ipis => "ipis",
        Pane::Injections => "injections",
        Pane::OnCpus => "on-cpus",
        Pane::Takers => "who-ran",
        Pane::Polling => "polling",
        Pane::Wakeups => "wakeups",
        Pane::Woken => "woken",
        Pane::Table | Pane::Heat | Pane::Detail | Pane::Parts => "rows",
        Pane::Findings => "findings",
        Pane::Outliers => "outliers",
    }
}
