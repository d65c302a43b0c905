//! What the screen reads each frame: rows, heat map, sparklines, detail.

use super::baseline::{Against, MINUTE};
use super::detail::{Detail, Series};
use super::entities::Trail;
use super::fields::{self, FieldInfo, Row};
use super::focus::Focus;
use super::heat::{Colour, HeatMap};
use super::heatmap;
use super::keys::{self, KeyRow, RipRow, Told, Watch};
use super::rows::{ReasonRow, VcpuRow, VmRow};
use super::views::{Keys, Table};
use super::{RowId, Scope, State, Who};
use crate::model::ids::Reason;

impl State {
    /// The fields of this level's rows.
    pub fn fields(&self) -> Vec<FieldInfo> {
        fields::of(self.level().scope)
    }

    /// The VMs, filtered and sorted as the host level says.
    pub fn vm_rows(&self) -> &[VmRow] {
        &self.vms().rows
    }

    fn vms(&self) -> &Table<VmRow> {
        self.views.vms.get_or_init(|| {
            let rows = self.now().map(|now| now.vm_rows()).unwrap_or_default();
            Table::new(rows, self.nav.host())
        })
    }

    /// The vCPUs of this level's VM, filtered and sorted; first the row for all of them. Empty
    /// where the level is no VM.
    pub fn vcpu_rows(&self) -> &[VcpuRow] {
        &self.vcpus().rows
    }

    fn vcpus(&self) -> &Table<VcpuRow> {
        self.views.vcpus.get_or_init(|| {
            let (Scope::Vm(vm), Some(now)) = (self.level().scope, self.now()) else {
                return Table::default();
            };
            let (all, rows) = now.vcpu_rows(vm);
            let Table { rows, hidden } = Table::new(rows, self.level());
            Table { rows: all.into_iter().chain(rows).collect(), hidden }
        })
    }

    /// The reasons of this level's vCPU (or VM), filtered and sorted: those of the window. Empty
    /// where the level is about no reasons.
    pub fn reason_rows(&self) -> &[ReasonRow] {
        &self.reasons().rows
    }

    fn reasons(&self) -> &Table<ReasonRow> {
        self.views.reasons.get_or_init(|| {
            let (Scope::Reasons(who), Some(now)) = (self.level().scope, self.now()) else {
                return Table::default();
            };
            let window = self.look(who, None).sums();
            let sums = now.sums_with_keys(who, None);
            // An exit may be open since before the window, and nothing else be known of its reason.
            let now_keys = sums.reasons.keys().chain(sums.open.keys());
            let mut reasons: Vec<Reason> = window.keys().chain(now_keys).copied().collect();
            reasons.sort_unstable();
            reasons.dedup();
            let row = |reason| {
                let window = window.get(&reason).map(|sum| sum.stats()).unwrap_or_default();
                now.reason_row(who, reason, &sums, window)
            };
            Table::new(reasons.into_iter().map(row).collect(), self.level())
        })
    }

    /// The keys behind this level's reason, filtered and sorted, "other" last. Empty where the level
    /// is about no single reason.
    pub fn key_rows(&self) -> &[KeyRow] {
        &self.keys().rows.rows
    }

    /// The guest code that made this level's exits, most first.
    pub fn rip_rows(&self) -> &[RipRow] {
        &self.keys().rips
    }

    /// Single exits of this level's reason: one that is open, and the last outlier.
    pub fn told(&self) -> &[Told] {
        &self.keys().told
    }

    /// What is known of the symbols of this level's guest, in a sentence; `None` where there are
    /// none.
    pub fn symbols_note(&self) -> Option<&str> {
        self.keys().note.as_deref()
    }

    /// Whether the probes that tell keys are attached; what is shown says why it lacks them.
    pub fn key_watch(&self) -> Watch {
        keys::watch(&self.session, self.ended.is_some() || self.replaying())
    }

    fn keys(&self) -> &Keys {
        self.views.keys.get_or_init(|| self.make_keys().unwrap_or_default())
    }

    fn make_keys(&self) -> Option<Keys> {
        let (Scope::Reason(who, reason), now) = (self.level().scope, self.now()?) else {
            return None;
        };
        let focus = self.look(who, Some(reason));
        // Who is gone has done nothing in the displayed tick, and is shown by the last one.
        let gone = focus.last(reason).is_none().then(|| now.keys(who, reason));
        let (sums, dur_ns, exits) = match (focus.last(reason), &gone) {
            (Some((sums, exits)), _) => (sums, now.tick().dur_ns, exits),
            (None, Some((sums, dur_ns, exits))) => (sums, *dur_ns, *exits),
            (None, None) => return None,
        };
        let window = if focus.keys().is_empty() { sums } else { focus.keys() };
        let tables = keys::Tables { reason, now: sums, window, exits, dur_ns };
        let mut rows = Table::new(tables.keys(), self.level());
        // Whatever the order: it is no key.
        rows.rows.sort_by_key(KeyRow::is_other);
        let name = now.name(who.vm());
        let symbol = |rip| self.symbols.describe(&name, rip);
        let open = now.open_exit(who, reason);
        let open = open.map(|(key, open)| Told::open(key, &open, reason));
        let outlier = focus.outlier().map(|outlier| Told::outlier(outlier, &self.session));
        let mut told: Vec<Told> = open.into_iter().chain(outlier).collect();
        for told in &mut told {
            told.symbol = symbol(told.rip);
        }
        let note = self.symbols.note(&name);
        Some(Keys { rows, rips: tables.rips(symbol), told, note })
    }

    /// The window of someone, read as far as it was not read before.
    fn look(&self, who: Who, reason: Option<Reason>) -> std::cell::RefMut<'_, Focus> {
        let mut focus = self.focus.borrow_mut();
        focus.look((who, reason), self.moments.window(self.limits.window), &self.moments);
        focus
    }

    /// Rows of this level as shown.
    pub fn row_count(&self) -> usize {
        match self.level().scope {
            Scope::Host => self.vms().rows.len(),
            Scope::Vm(_) => self.vcpus().rows.len(),
            Scope::Reasons(_) => self.reasons().rows.len(),
            Scope::Reason(..) => self.keys().rows.rows.len(),
        }
    }

    /// Rows of this level that the filter hides.
    pub fn hidden(&self) -> usize {
        match self.level().scope {
            Scope::Host => self.vms().hidden,
            Scope::Vm(_) => self.vcpus().hidden,
            Scope::Reasons(_) => self.reasons().hidden,
            Scope::Reason(..) => self.keys().rows.hidden,
        }
    }

    /// Index of the row the cursor is on, in the rows as shown; `None` when there are none.
    pub fn cursor(&self) -> Option<usize> {
        let last = self.row_count().checked_sub(1)?;
        let level = self.level();
        let Some(id) = level.selected else { return Some(0) };
        let at = match level.scope {
            Scope::Host => self.vms().index(id),
            Scope::Vm(_) => self.vcpus().index(id),
            Scope::Reasons(_) => self.reasons().index(id),
            Scope::Reason(..) => self.keys().rows.index(id),
        };
        Some(at.unwrap_or(level.last_index).min(last))
    }

    /// The identity of a row as shown.
    pub(super) fn row_id(&self, at: usize) -> Option<RowId> {
        match self.level().scope {
            Scope::Host => self.vms().rows.get(at).map(Row::id),
            Scope::Vm(_) => self.vcpus().rows.get(at).map(Row::id),
            Scope::Reasons(_) => self.reasons().rows.get(at).map(Row::id),
            Scope::Reason(..) => self.keys().rows.rows.get(at).map(Row::id),
        }
    }

    /// The identity of the row that the cursor is on.
    pub fn selected_row(&self) -> Option<RowId> {
        self.row_id(self.cursor()?)
    }

    /// This level's heat map (host: VM × reason; VM: vCPU × reason), else an empty one.
    pub fn heatmap(&self) -> &HeatMap {
        self.views.heat.get_or_init(|| self.make_heatmap().unwrap_or_default())
    }

    fn make_heatmap(&self) -> Option<HeatMap> {
        let level = self.level();
        let columns = self.columns.get(&level.scope)?;
        if self.colour == Colour::Change && self.taken.is_none() {
            let places = self.moments.before(MINUTE);
            self.baseline.borrow_mut().look(level.scope, places, &self.moments);
        }
        let minute = self.baseline.borrow();
        let against = match &self.taken {
            Some(taken) => Against::Taken(taken),
            None => Against::Minute(&minute),
        };
        let now = self.now()?;
        let maker = heatmap::Maker { now, columns, colour: self.colour, against };
        let mut map = match level.scope {
            Scope::Host => maker.map(
                self.vm_rows()
                    .iter()
                    .map(|row| (row.id(), row.name.clone(), row.ended_unix_ns.is_some())),
            ),
            Scope::Vm(_) => maker.map(
                self.vcpu_rows()
                    .iter()
                    .map(|row| (row.id(), row.label.clone(), row.ended_unix_ns.is_some())),
            ),
            Scope::Reasons(_) | Scope::Reason(..) => return None,
        };
        let column = level.column.map_or(Some(0), |id| map.columns.iter().position(|c| c.id == id));
        // A reason that has lost its column is in the last one now, "other".
        let last = map.columns.len().checked_sub(1);
        map.cursor = last.and_then(|last| Some((self.cursor()?, column.unwrap_or(last))));
        Some(map)
    }

    /// Sparklines of a row. Empty for a row that is not known. A reason's is that of the level's
    /// vCPU (or VM).
    pub fn series(&self, row: RowId) -> Series {
        let trail = match row {
            RowId::Vm(vm) | RowId::All(vm) => self.entities.vms.get(&vm).map(|vm| &vm.series),
            RowId::Vcpu(key) => self.entities.vcpu(key).map(|vcpu| &vcpu.series),
            RowId::Reason(reason) => return self.reason_series(reason),
            RowId::Key(_) => return Series::default(),
        };
        let window = self.moments.window(self.limits.window);
        let of = |trail: &Trail| {
            let (rate, p99) = window.map(|place| trail.get(place)).unzip();
            Series { rate, p99 }
        };
        trail.map(of).unwrap_or_default()
    }

    fn reason_series(&self, reason: Reason) -> Series {
        match self.level().scope {
            Scope::Reasons(who) => self.look(who, None).series(reason, &self.moments),
            Scope::Reason(who, only) if only == reason => {
                self.look(who, Some(reason)).series(reason, &self.moments)
            }
            _ => Series::default(),
        }
    }

    /// The reason scope's reason, or the one under the cursor (of a heat map, of the reason
    /// table); `None` where there is none ("other", an empty table).
    pub fn reason_detail(&self) -> Option<&Detail> {
        self.views.detail.get_or_init(|| self.make_detail()).as_ref()
    }

    fn make_detail(&self) -> Option<Detail> {
        let now = self.now()?;
        let (who, reason, of_all) = match self.level().scope {
            Scope::Reason(who, reason) => (who, reason, false),
            Scope::Reasons(who) => match self.selected_row()? {
                RowId::Reason(reason) => (who, reason, true),
                _ => return None,
            },
            Scope::Host | Scope::Vm(_) => {
                let who = match self.selected_row()? {
                    RowId::Vm(vm) | RowId::All(vm) => Who::Vm(vm),
                    RowId::Vcpu(key) => Who::Vcpu(key),
                    RowId::Reason(_) | RowId::Key(_) => return None,
                };
                (who, self.cursor_reason()?, false)
            }
        };
        let focus = self.look(who, (!of_all).then_some(reason));
        Some(focus.detail(who, reason, &now))
    }
}
