//! The cursor in these lists, and what its entry opens, copies, saves.

use super::SignalId;
use crate::state::fields::Row;
use crate::state::nav::{EntryId, Pane, RowId, Scope, Tab, Who};
use crate::state::{SavedView, State, save};

/// A row that a cursor can be on.
pub trait Signal: Row {
    /// What makes it itself.
    fn signal(&self) -> SignalId;

    /// Whom it is about, if about someone.
    fn points_to(&self) -> Option<RowId> {
        None
    }
}

/// The rows of a pane, whatever they are.
macro_rules! with_rows {
    ($state:expr, $pane:expr, $rows:ident => $body:expr, $none:expr) => {
        match $pane {
            Pane::Vectors => {
                let $rows = &$state.vectors().rows[..];
                $body
            }
            Pane::Timers => {
                let $rows = $state.timers();
                $body
            }
            Pane::Chips => {
                let $rows = $state.chips();
                $body
            }
            Pane::Ipis => {
                let $rows = $state.ipis();
                $body
            }
            Pane::OnCpus => {
                let $rows = &$state.on_cpus().rows[..];
                $body
            }
            Pane::Takers => {
                let $rows = $state.takers();
                $body
            }
            Pane::Polling => {
                let $rows = $state.polling();
                $body
            }
            Pane::Wakeups => {
                let $rows = $state.wakeups();
                $body
            }
            _ => $none,
        }
    };
}

fn at<R: Signal>(rows: &[R], id: SignalId) -> Option<usize> {
    rows.iter().position(|row| row.signal() == id)
}

impl State {
    /// Rows of such a pane.
    pub(in crate::state) fn signal_len(&self, pane: Pane) -> usize {
        with_rows!(self, pane, rows => rows.len(), 0)
    }

    /// The row of an entry.
    pub(in crate::state) fn signal_at(&self, pane: Pane, id: SignalId) -> Option<usize> {
        with_rows!(self, pane, rows => at(rows, id), None)
    }

    /// The entry of a row.
    pub(in crate::state) fn signal_entry(&self, pane: Pane, at: usize) -> Option<EntryId> {
        with_rows!(self, pane, rows => rows.get(at).map(|row| EntryId::Signal(row.signal())), None)
    }

    /// Where the entry under the cursor points.
    pub(in crate::state) fn signal_target(&self, pane: Pane) -> Option<(Scope, Tab)> {
        let at = self.cursor_in(pane)?;
        let row = with_rows!(self, pane, rows => rows.get(at)?.points_to(), None)?;
        let scope = match row {
            RowId::Vm(vm) => Scope::Vm(vm),
            RowId::Vcpu(key) => Scope::Reasons(Who::Vcpu(key)),
            _ => return None,
        };
        Some((scope, self.level().tab))
    }

    /// The entry under the cursor as text.
    pub(in crate::state) fn signal_copied(&self, pane: Pane) -> Option<String> {
        let at = self.cursor_in(pane)?;
        with_rows!(self, pane, rows => rows.get(at).map(save::line), None)
    }

    /// The rows for a file.
    pub(in crate::state) fn signal_saved(
        &self,
        pane: Pane,
        name: &str,
        title: &str,
    ) -> Option<SavedView> {
        with_rows!(self, pane, rows => Some(save::view(name.to_owned(), title, rows)), None)
    }
}
