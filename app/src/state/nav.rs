//! Where the person is: a stack of levels, each with its own cursor, sort and filter.

use super::activity::HotId;
use super::filter::Filter;
use super::signals::SignalId;
use crate::model::detail::KeyId;
use crate::model::ids::{Reason, VcpuKey, VmId};
use std::collections::{BTreeMap, HashMap};

/// One vCPU, or all vCPUs of a VM together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// All vCPUs of this VM.
    Vm(VmId),
    /// This vCPU.
    Vcpu(VcpuKey),
}

impl Who {
    /// The VM.
    pub fn vm(self) -> VmId {
        match self {
            Self::Vm(vm) => vm,
            Self::Vcpu(key) => key.vm,
        }
    }

    /// Whether a vCPU belongs to it.
    pub fn contains(self, key: VcpuKey) -> bool {
        match self {
            Self::Vm(vm) => key.vm == vm,
            Self::Vcpu(vcpu) => key == vcpu,
        }
    }
}

/// What a level is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every VM of the host; its rows are VMs.
    Host,
    /// One VM; its rows are its vCPUs, after a row for all of them.
    Vm(VmId),
    /// One vCPU, or all of a VM; its rows are reasons.
    Reasons(Who),
    /// One reason; its rows are the keys behind it.
    Reason(Who, Reason),
}

impl Scope {
    /// The VM it is in.
    pub fn vm(self) -> Option<VmId> {
        match self {
            Self::Host => None,
            Self::Vm(vm) => Some(vm),
            Self::Reasons(who) | Self::Reason(who, _) => Some(who.vm()),
        }
    }

    /// Its panes in the Exits tab, the first one first.
    pub fn panes(self) -> &'static [Pane] {
        match self {
            Self::Host => &[Pane::Table, Pane::Heat],
            Self::Vm(_) => &[Pane::Heat, Pane::Table],
            Self::Reasons(_) => &[Pane::Table],
            Self::Reason(..) => &[Pane::Detail],
        }
    }
}

/// A way to look at a scope. Scope and tab are independent: every tab answers for the scope it
/// stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tab {
    /// What it exits for.
    #[default]
    Exits,
    /// Page faults, MMIO, dirty pages, MMU roots.
    Memory,
    /// What is put into guests, through which chips, timers.
    Interrupts,
    /// Which CPUs vCPUs are on, who takes them, halt polling, wake-ups.
    Scheduling,
    /// Hypercalls, KVM ioctls, memory slots.
    Calls,
    /// Where the time went, what stands out, slow exits.
    Time,
    /// The probes, switched on and off.
    Probes,
}

impl Tab {
    /// Every tab, in the order of its number; 0 is the last, as on a keyboard.
    pub const ALL: [Self; 7] = [
        Self::Exits,
        Self::Memory,
        Self::Interrupts,
        Self::Scheduling,
        Self::Calls,
        Self::Time,
        Self::Probes,
    ];

    /// The number key that chooses it.
    pub fn number(self) -> u8 {
        match self {
            Self::Exits => 1,
            Self::Memory => 2,
            Self::Interrupts => 3,
            Self::Scheduling => 4,
            Self::Calls => 5,
            Self::Time => 6,
            Self::Probes => 0,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exits => "Exits",
            Self::Memory => "Memory",
            Self::Interrupts => "Interrupts",
            Self::Scheduling => "Scheduling",
            Self::Calls => "Calls",
            Self::Time => "Time",
            Self::Probes => "Probes",
        }
    }

    /// The panes of a scope, the first one first.
    pub fn panes(self, scope: Scope) -> &'static [Pane] {
        match (self, scope) {
            (Self::Exits, _) => scope.panes(),
            (Self::Time, Scope::Host | Scope::Vm(_)) => {
                &[Pane::Table, Pane::Findings, Pane::Outliers]
            }
            (Self::Time, Scope::Reasons(_) | Scope::Reason(..)) => {
                &[Pane::Parts, Pane::Findings, Pane::Outliers]
            }
            (Self::Memory, Scope::Host | Scope::Vm(_)) => &MEMORY,
            (Self::Memory, Scope::Reasons(_)) => &MEMORY[1..],
            // Which exit a root or a stack belongs to is not known.
            (Self::Memory, Scope::Reason(..)) => {
                &[Pane::Faults, Pane::Mmio, Pane::Pages, Pane::Dirty, Pane::Roots, Pane::Events]
            }
            (Self::Interrupts, Scope::Host | Scope::Vm(_)) => &[
                Pane::Table,
                Pane::Vectors,
                Pane::Timers,
                Pane::Chips,
                Pane::Ipis,
                Pane::Injections,
            ],
            // Chips and timers belong to a VM or a vCPU, not to a reason.
            (Self::Interrupts, Scope::Reasons(_)) => {
                &[Pane::Vectors, Pane::Timers, Pane::Chips, Pane::Ipis, Pane::Injections]
            }
            (Self::Interrupts, Scope::Reason(..)) => &[Pane::Vectors, Pane::Ipis, Pane::Injections],
            (Self::Scheduling, Scope::Host | Scope::Vm(_)) => &[
                Pane::Table,
                Pane::OnCpus,
                Pane::Takers,
                Pane::Polling,
                Pane::Wakeups,
                Pane::Woken,
            ],
            (Self::Scheduling, Scope::Reasons(_) | Scope::Reason(..)) => {
                &[Pane::OnCpus, Pane::Takers, Pane::Polling, Pane::Wakeups, Pane::Woken]
            }
            (Self::Calls, Scope::Host | Scope::Vm(_)) => &CALLS,
            (Self::Calls, Scope::Reasons(_) | Scope::Reason(..)) => &CALLS[1..],
            (Self::Probes, _) => &[Pane::Probes],
        }
    }
}

/// The panes of the Memory tab; a vCPU has no table.
const MEMORY: [Pane; 8] = [
    Pane::Table,
    Pane::Faults,
    Pane::Mmio,
    Pane::Pages,
    Pane::Dirty,
    Pane::Roots,
    Pane::Stacks,
    Pane::Events,
];
/// The panes of the Calls tab, likewise.
const CALLS: [Pane; 6] =
    [Pane::Table, Pane::Hypercalls, Pane::Ioctls, Pane::Slots, Pane::Calls, Pane::Told];

/// A part of the screen that can have the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pane {
    /// The rows with their fields.
    Table,
    /// Rows × reasons.
    Heat,
    /// One reason's histograms.
    Detail,
    /// The parts of a vCPU's wall time, and what is behind them.
    Parts,
    /// What stands out.
    Findings,
    /// Slow exits.
    Outliers,
    /// Page faults by kind.
    Faults,
    /// MMIO by address.
    Mmio,
    /// The pages with most page faults.
    Pages,
    /// Dirty pages by memory slot, and the pages dirtied most.
    Dirty,
    /// MMU roots by vCPU, and the CPUs that it was loaded on.
    Roots,
    /// Kernel stacks: who calls the function whose callers are taken.
    Stacks,
    /// Single page faults, MMIO accesses and loads of MMU roots.
    Events,
    /// Hypercalls by number.
    Hypercalls,
    /// KVM ioctls by name.
    Ioctls,
    /// Memory slots as they were set.
    Slots,
    /// Single hypercalls.
    Calls,
    /// Interrupts and exceptions by vector.
    Vectors,
    /// Timers of the local APIC.
    Timers,
    /// What goes through which chip, by whom.
    Chips,
    /// Inter-processor interrupts: who, to whom.
    Ipis,
    /// Single injections, routes, timer events.
    Injections,
    /// Who was loaded on which CPU.
    OnCpus,
    /// Who took CPUs from vCPUs.
    Takers,
    /// Halt polling's window, what it is worth and costs.
    Polling,
    /// Wake-ups by kind.
    Wakeups,
    /// Single wake-ups, changes of the window.
    Woken,
    /// Single KVM ioctls.
    Told,
    /// The probes by family.
    Probes,
}

/// Number of panes.
pub const PANES: usize = Pane::Probes as usize + 1;

/// What the cursor of a list is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryId {
    /// An event, by its number.
    Event(u64),
    /// Something that was met in the last seconds.
    Hot(HotId),
    /// An ioctl's command.
    Ioctl(u32),
    /// A row of interrupts or scheduling.
    Signal(SignalId),
    /// A stack, by its number.
    Stack(u64),
    /// A family of probes, by its place among the rows, or a probe of it.
    Probe(usize),
}

/// What makes a finding the same one in the next tick: rule, VM, vCPU, reason.
pub type FindingId = (&'static str, VmId, Option<u32>, Option<Reason>);
/// What makes a slow exit itself: whose, and when it ended (ns of the probes' clock).
pub type OutlierId = (VcpuKey, u64);

/// A row's identity. The cursor stays with it wherever sorting puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowId {
    /// A VM.
    Vm(VmId),
    /// All vCPUs of a VM together.
    All(VmId),
    /// A vCPU.
    Vcpu(VcpuKey),
    /// A reason.
    Reason(Reason),
    /// What exits were about.
    Key(KeyId),
}

/// A column of a heat map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ColumnId {
    /// One reason.
    Reason(Reason),
    /// Every reason that has no column of its own.
    Other,
}

/// How rows are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Key of the field ([`super::fields`]).
    pub key: &'static str,
    /// Largest first.
    pub descending: bool,
}

/// One level of the stack, as it will be found again when the person comes back to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// What it is about.
    pub scope: Scope,
    /// How its rows are ordered.
    pub sort: Sort,
    /// Which of its rows are shown.
    pub filter: Filter,
    /// The row the cursor is on; `None` is the first one, whichever that is, until the person
    /// has moved.
    pub selected: Option<RowId>,
    /// The heat map's column the cursor is on; `None` is the first.
    pub column: Option<ColumnId>,
    /// The tab, which is the same in every level.
    pub tab: Tab,
    /// The finding the cursor is on; `None` is the first.
    pub finding: Option<FindingId>,
    /// The slow exit the cursor is on; `None` is the newest.
    pub outlier: Option<OutlierId>,
    /// What the cursor is on in the lists of memory and calls; the first, or newest, where there is
    /// nothing.
    pub(super) entries: BTreeMap<Pane, EntryId>,
    /// The pane that has the cursor.
    pub pane: Pane,
    /// Whether that pane has the screen alone.
    pub zoomed: bool,
    /// Where the cursor's row was last, for when the row itself is not there any more.
    pub(super) last_index: usize,
    /// Pane and zoom as they were left in the other tabs.
    other: HashMap<Tab, (Pane, bool)>,
}

impl Level {
    fn new(scope: Scope, sort: Sort, tab: Tab) -> Self {
        let pane = first_pane(tab, scope);
        Self {
            scope,
            tab,
            finding: None,
            outlier: None,
            entries: BTreeMap::new(),
            other: HashMap::new(),
            sort,
            filter: Filter::default(),
            selected: None,
            column: None,
            pane,
            zoomed: false,
            last_index: 0,
        }
    }

    /// Its panes in the tab that is open.
    pub fn panes(&self) -> &'static [Pane] {
        self.tab.panes(self.scope)
    }

    /// Turns to a tab, as it was left.
    fn turn(&mut self, tab: Tab) {
        if self.tab == tab {
            return;
        }
        self.other.insert(self.tab, (self.pane, self.zoomed));
        self.tab = tab;
        let fresh = (first_pane(tab, self.scope), false);
        (self.pane, self.zoomed) = self.other.remove(&tab).unwrap_or(fresh);
    }
}

fn first_pane(tab: Tab, scope: Scope) -> Pane {
    tab.panes(scope).first().copied().unwrap_or(Pane::Table)
}

/// The stack of levels. There is always one: the host.
#[derive(Clone, Debug)]
pub struct Nav {
    host: Level,
    above: Vec<Level>,
    left: HashMap<Scope, Level>,
}

impl Default for Nav {
    fn default() -> Self {
        Self {
            host: Level::new(Scope::Host, default_sort(Scope::Host), Tab::default()),
            above: Vec::new(),
            left: HashMap::new(),
        }
    }
}

impl Nav {
    /// The level the person is in.
    pub fn level(&self) -> &Level {
        self.above.last().unwrap_or(&self.host)
    }

    /// The host's level.
    pub(super) fn host(&self) -> &Level {
        &self.host
    }

    /// The level the person is in, to change it.
    pub(super) fn level_mut(&mut self) -> &mut Level {
        self.above.last_mut().unwrap_or(&mut self.host)
    }

    /// The levels from the host to where the person is.
    pub fn path(&self) -> impl Iterator<Item = &Level> {
        std::iter::once(&self.host).chain(&self.above)
    }

    /// Turns every level to a tab.
    pub(super) fn turn(&mut self, tab: Tab) {
        let levels = self.above.iter_mut().chain(self.left.values_mut());
        levels.for_each(|level| level.turn(tab));
        self.host.turn(tab);
    }

    /// Goes to a scope by all the levels that lead there.
    pub(super) fn go(&mut self, scope: Scope) {
        if self.level().scope == scope {
            return;
        }
        while self.back() {}
        let who = match scope {
            Scope::Reasons(who) | Scope::Reason(who, _) => Some(Scope::Reasons(who)),
            Scope::Host | Scope::Vm(_) => None,
        };
        let mut path: Vec<Scope> =
            scope.vm().map(Scope::Vm).into_iter().chain(who).chain([scope]).collect();
        path.dedup();
        for scope in path.into_iter().filter(|&scope| scope != Scope::Host) {
            self.open(scope);
        }
    }

    /// Goes down into a scope; finds it as it was left, else sorted as its kind was sorted last.
    pub(super) fn open(&mut self, scope: Scope) {
        let tab = self.level().tab;
        let level = self.left.remove(&scope).unwrap_or_else(|| {
            let alike = self.left.values().find(|level| {
                std::mem::discriminant(&level.scope) == std::mem::discriminant(&scope)
            });
            let sort = alike.map_or_else(|| default_sort(scope), |level| level.sort);
            Level::new(scope, sort, tab)
        });
        self.above.push(level);
    }

    /// Goes up a level; false when there is none above.
    pub(super) fn back(&mut self) -> bool {
        let Some(level) = self.above.pop() else { return false };
        self.left.insert(level.scope, level);
        true
    }

    /// Forgets what belongs to VMs that are not kept; leaves such a level if the person is in it.
    pub(super) fn retain(&mut self, keep: impl Fn(VmId) -> bool) {
        let kept = |scope: Scope| scope.vm().is_none_or(&keep);
        self.left.retain(|&scope, _| kept(scope));
        if let Some(first) = self.above.iter().position(|level| !kept(level.scope)) {
            self.above.truncate(first);
        }
        for level in std::iter::once(&mut self.host).chain(&mut self.above) {
            if matches!(level.selected, Some(RowId::Vm(vm)) if !keep(vm)) {
                level.selected = None;
            }
        }
    }
}

/// How a level is sorted before the person says otherwise.
fn default_sort(scope: Scope) -> Sort {
    match scope {
        Scope::Host => Sort { key: "exits", descending: true },
        Scope::Vm(_) => Sort { key: "vcpu", descending: false },
        Scope::Reasons(_) => Sort { key: "total", descending: true },
        Scope::Reason(..) => Sort { key: "exits", descending: true },
    }
}
