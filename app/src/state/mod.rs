//! The application's state: pure, no I/O, no clock.
//!
//! [`State::apply`] takes what a source says, [`State::act`] what the person wants; everything
//! else only reads. Which moment a number belongs to:
//!
//! * Rates, quantiles and shares belong to the *displayed tick*: the latest, or the one where the
//!   person has stopped.
//! * Sparklines, latency heat maps, histograms and what is called "window" belong to the *window*:
//!   the displayed tick and those before it, [`Limits::window`] ticks at most. The header says how
//!   long that is ([`header::Position::window_ns`]).
//! * Losses are counted from the start to the displayed tick.
//! * What is gone shows the numbers of the last tick that has some of it.

pub mod action;
mod baseline;
mod columns;
pub mod detail;
mod entities;
pub mod fields;
pub mod filter;
mod focus;
pub mod header;
pub mod heat;
mod heatmap;
mod input;
mod load;
mod moment;
pub mod nav;
mod now;
pub mod rows;
pub(crate) mod save;
#[cfg(test)]
mod tests;
pub mod value;
mod views;

pub use action::{Action, Effect, SavedView};
pub use header::{Crumb, Header, Position};
pub use nav::{ColumnId, Level, Pane, RowId, Scope, Sort, Who};

use crate::model::ids::Reason;
use crate::model::session::Session;
use crate::model::tick::Tick;
use crate::source::Msg;
use baseline::{Baseline, MINUTE};
use columns::Columns;
use detail::{Detail, Series};
use entities::{Entities, Trail};
use fields::{FieldInfo, Row};
use filter::Filter;
use focus::Focus;
use heat::{Colour, HeatMap};
use moment::Moments;
use nav::Nav;
use now::Now;
use rows::{ReasonRow, VcpuRow, VmRow};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;
use views::{Table, Views};

/// Bounds of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of encoded ticks.
    pub history_bytes: usize,
    /// Age of the oldest kept tick.
    pub history: Duration,
    /// Ticks that sparklines, latency heat maps and window totals look back.
    pub window: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { history_bytes: 64 << 20, history: Duration::from_secs(15 * 60), window: 150 }
    }
}

/// What the person is doing apart from looking.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Mode {
    /// Looking.
    #[default]
    Normal,
    /// Typing a filter: the text so far, and what is wrong with it, in a sentence. As long as
    /// nothing is wrong, the rows are already filtered by it.
    Filter {
        /// The text so far.
        text: String,
        /// What is wrong with it.
        error: Option<String>,
    },
    /// Reading the help.
    Help,
}

/// The application's state.
#[derive(Debug)]
pub struct State {
    session: Session,
    limits: Limits,
    entities: Entities,
    moments: Moments,
    nav: Nav,
    mode: Mode,
    /// The filter to come back to when typing is cancelled.
    filter_before: Filter,
    colour: Colour,
    /// Reason columns that the heat map has room for.
    fit: usize,
    /// Columns of the heat maps that were looked at.
    columns: HashMap<Scope, Columns>,
    ended: Option<Option<String>>,
    views: Views,
    /// What was read from the kept ticks for the views; slides along with time.
    focus: RefCell<Focus>,
    baseline: RefCell<Baseline>,
}

/// Reason columns before the screen says how many it has room for.
const DEFAULT_FIT: usize = 8;

impl State {
    /// A state before the first tick. The session may come later, with [`Msg::Session`].
    pub fn new(session: Session, limits: Limits) -> Self {
        Self {
            session,
            limits,
            entities: Entities::default(),
            moments: Moments::new(limits.history_bytes, limits.history),
            nav: Nav::default(),
            mode: Mode::default(),
            filter_before: Filter::default(),
            colour: Colour::default(),
            fit: DEFAULT_FIT,
            columns: HashMap::new(),
            ended: None,
            views: Views::default(),
            focus: RefCell::default(),
            baseline: RefCell::default(),
        }
    }

    /// Takes what a source says.
    pub fn apply(&mut self, msg: Msg) {
        match msg {
            Msg::Session(session) => self.session = *session,
            Msg::Tick(tick) => self.tick(*tick),
            Msg::End(why) => self.ended = Some(why),
        }
        self.changed();
    }

    /// Takes what the person wants.
    pub fn act(&mut self, action: Action) -> Vec<Effect> {
        if action == Action::Fit(self.fit) {
            return Vec::new();
        }
        let effects = self.perform(action);
        self.changed();
        effects
    }

    fn tick(&mut self, mut tick: Tick) {
        // A source keeps the order of keys; should one not, looking up by key would miss some.
        if !tick.vcpus.is_sorted_by_key(|vcpu| vcpu.key) {
            tick.vcpus.sort_by_key(|vcpu| vcpu.key);
        }
        let (place, oldest) = (self.moments.next_place(), self.moments.oldest());
        let moments = &self.moments;
        self.entities.apply(&tick, place, oldest, |place, key| {
            let part = moments.part(place, crate::model::codec::Part::vcpu(key, None))?;
            let dur_ns = part.dur_ns;
            Some((part.vcpus.into_iter().next()?, dur_ns))
        });
        self.moments.push(tick);
        self.entities.forget(self.moments.oldest_ns());
    }

    /// Follows up on a change: cached views are void, columns follow the displayed tick.
    fn changed(&mut self) {
        self.views = Views::default();
        let scope = self.level().scope;
        let Some(shown) = self.moments.shown() else { return };
        if scope.panes().contains(&Pane::Heat) {
            let vcpus = shown.tick.vcpus.iter();
            let inside = vcpus.filter(|vcpu| scope.vm().is_none_or(|vm| vcpu.key.vm == vm));
            self.columns.entry(scope).or_default().update(shown.place, self.fit, inside);
        }
        let entities = &self.entities;
        self.columns.retain(|scope, _| scope.vm().is_none_or(|vm| entities.vms.contains_key(&vm)));
    }

    fn now(&self) -> Option<Now<'_>> {
        Some(Now {
            session: &self.session,
            entities: &self.entities,
            moments: &self.moments,
            shown: self.moments.shown()?,
        })
    }

    /// The session: host, names, probes.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The bounds.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The level the person is in: scope, sort, filter, pane.
    pub fn level(&self) -> &Level {
        self.nav.level()
    }

    /// Where one is, from the host down.
    pub fn breadcrumb(&self) -> Vec<Crumb> {
        let scope = self.level().scope;
        let mut crumbs = vec![Crumb { scope: Scope::Host, label: "host".to_owned() }];
        if let Some(vm) = scope.vm() {
            let info = self.entities.vms.get(&vm).map(|vm| vm.info.name.clone());
            let label = info.unwrap_or_else(|| format!("VM {}", vm.0));
            crumbs.push(Crumb { scope: Scope::Vm(vm), label });
        }
        if let Scope::Reasons(who) | Scope::Reason(who, _) = scope {
            let label = match who {
                Who::Vm(_) => "all vCPUs".to_owned(),
                Who::Vcpu(key) => format!("vCPU {}", key.vcpu),
            };
            crumbs.push(Crumb { scope: Scope::Reasons(who), label });
        }
        if let Scope::Reason(_, reason) = scope {
            crumbs.push(Crumb { scope, label: self.session.names.name(reason).into_owned() });
        }
        crumbs
    }

    /// What the person is doing apart from looking.
    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// What a heat map's colour means.
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// The header's facts.
    pub fn header(&self) -> &Header {
        self.views.header.get_or_init(|| {
            let facts = header::Facts {
                session: &self.session,
                moments: &self.moments,
                now: self.now(),
                window: self.limits.window,
            };
            Header { ended: self.ended.clone(), ..facts.header() }
        })
    }

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
            let sums = now.sums(who);
            let mut reasons: Vec<Reason> =
                window.keys().chain(sums.reasons.keys()).copied().collect();
            reasons.sort_unstable();
            reasons.dedup();
            let row = |reason| {
                let window = window.get(&reason).map(|sum| sum.stats()).unwrap_or_default();
                now.reason_row(reason, &sums, window)
            };
            Table::new(reasons.into_iter().map(row).collect(), self.level())
        })
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
            Scope::Reason(..) => 0,
        }
    }

    /// Rows of this level that the filter hides.
    pub fn hidden(&self) -> usize {
        match self.level().scope {
            Scope::Host => self.vms().hidden,
            Scope::Vm(_) => self.vcpus().hidden,
            Scope::Reasons(_) => self.reasons().hidden,
            Scope::Reason(..) => 0,
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
            Scope::Reason(..) => None,
        };
        Some(at.unwrap_or(level.last_index).min(last))
    }

    /// The identity of a row as shown.
    fn row_id(&self, at: usize) -> Option<RowId> {
        match self.level().scope {
            Scope::Host => self.vms().rows.get(at).map(Row::id),
            Scope::Vm(_) => self.vcpus().rows.get(at).map(Row::id),
            Scope::Reasons(_) => self.reasons().rows.get(at).map(Row::id),
            Scope::Reason(..) => None,
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
        if self.colour == Colour::Change {
            let places = self.moments.before(MINUTE);
            self.baseline.borrow_mut().look(level.scope, places, &self.moments);
        }
        let baseline = self.baseline.borrow();
        let now = self.now()?;
        let maker = heatmap::Maker { now, columns, colour: self.colour, baseline: &baseline };
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
                    RowId::Reason(_) => return None,
                };
                (who, self.cursor_reason()?, false)
            }
        };
        let focus = self.look(who, (!of_all).then_some(reason));
        Some(focus.detail(who, reason, &now))
    }
}
