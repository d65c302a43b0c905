//! Where the person is: a stack of levels, each with its own cursor, sort and filter.

use super::filter::Filter;
use crate::model::detail::KeyId;
use crate::model::ids::{Reason, VcpuKey, VmId};
use std::collections::HashMap;

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

    /// Its panes, the first one first.
    pub fn panes(self) -> &'static [Pane] {
        match self {
            Self::Host => &[Pane::Table, Pane::Heat],
            Self::Vm(_) => &[Pane::Heat, Pane::Table],
            Self::Reasons(_) => &[Pane::Table],
            Self::Reason(..) => &[Pane::Detail],
        }
    }
}

/// A part of the screen that can have the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pane {
    /// The rows with their fields.
    Table,
    /// Rows × reasons.
    Heat,
    /// One reason's histograms.
    Detail,
}

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
    /// The pane that has the cursor.
    pub pane: Pane,
    /// Whether that pane has the screen alone.
    pub zoomed: bool,
    /// Where the cursor's row was last, for when the row itself is not there any more.
    pub(super) last_index: usize,
}

impl Level {
    fn new(scope: Scope, sort: Sort) -> Self {
        let pane = scope.panes().first().copied().unwrap_or(Pane::Table);
        Self {
            scope,
            sort,
            filter: Filter::default(),
            selected: None,
            column: None,
            pane,
            zoomed: false,
            last_index: 0,
        }
    }
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
            host: Level::new(Scope::Host, default_sort(Scope::Host)),
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

    /// Goes down into a scope; finds it as it was left, else sorted as its kind was sorted last.
    pub(super) fn open(&mut self, scope: Scope) {
        let level = self.left.remove(&scope).unwrap_or_else(|| {
            let alike = self.left.values().find(|level| {
                std::mem::discriminant(&level.scope) == std::mem::discriminant(&scope)
            });
            Level::new(scope, alike.map_or_else(|| default_sort(scope), |level| level.sort))
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
