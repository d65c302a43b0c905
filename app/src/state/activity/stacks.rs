//! Kernel stacks of the last seconds: who calls the function whose callers are taken.

use super::Sums;
use crate::model::ids::VmId;
use crate::model::stack::{Frame, StackOf, StackTick};
use crate::state::fields::{Field, Row};
use crate::state::load::{per_second, ratio};
use crate::state::nav::RowId;
use crate::state::value::Value;
use std::cmp::Reverse;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Whose calls, by which way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StackId {
    /// What was called.
    pub of: StackOf,
    /// By which VM's thread; `None` where that is not known.
    pub vm: Option<VmId>,
    /// By which process.
    pub pid: u32,
    /// What was called, then its callers.
    pub frames: Vec<Frame>,
}

impl StackId {
    pub(super) fn of(tick: &StackTick) -> Self {
        let StackTick { of, vm, pid, ref frames, .. } = *tick;
        Self { of, vm, pid, frames: frames.clone() }
    }

    /// A number that stays the same while the stack does.
    fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.of, self.vm, self.pid).hash(&mut hasher);
        self.frames.iter().for_each(|frame| frame.address.hash(&mut hasher));
        hasher.finish()
    }
}

/// Who called a function in the last seconds.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Stacks {
    /// Most calls first.
    pub rows: Vec<StackRow>,
    /// All together, per second.
    pub rate: f64,
    /// Calls of the whole host that have no stack here.
    pub left_out: u64,
}

/// Calls with one stack.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct StackRow {
    /// Whose, by which way.
    pub id: Arc<StackId>,
    /// Makes it itself while time goes on.
    pub number: u64,
    /// Name of its VM, or its process.
    pub vm: String,
    /// Calls of the last seconds.
    pub count: u64,
    /// Per second.
    pub rate: f64,
    /// Share (0 to 1) of all that the pane shows.
    pub share: f64,
}

impl StackRow {
    /// The callers, the nearest first: "kvm_mmu_load < vcpu_run".
    pub fn callers(&self) -> String {
        let callers: Vec<String> = self.id.frames.iter().skip(1).map(short).collect();
        if callers.is_empty() {
            return "its callers are not known".to_owned();
        }
        callers.join(" < ")
    }
}

/// A function without the place in it and its module.
fn short(frame: &Frame) -> String {
    let name = frame.symbol.split(['+', ' ']).next().unwrap_or_default();
    if name.is_empty() { format!("{:#x}", frame.address) } else { name.to_owned() }
}

impl Row for StackRow {
    fn id(&self) -> RowId {
        RowId::Vm(self.id.vm.unwrap_or_default())
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "rate", title: "/s", width: 5, numeric: true, about: "calls per second, in the last seconds", value: |r| Value::Rate(r.rate) },
        Field { key: "share", title: "share", width: 5, numeric: true, about: "share of all calls that the pane shows", value: |r| Value::Share(r.share) },
        Field { key: "count", title: "count", width: 5, numeric: true, about: "calls in the last seconds", value: |r| Value::Count(r.count) },
        Field { key: "vm", title: "VM", width: 6, numeric: false, about: "whose thread called, or which process", value: |r| Value::Text(r.vm.clone().into()) },
        Field { key: "callers", title: "called by", width: 24, numeric: false, about: "callers, the nearest first", value: |r| Value::Text(r.callers().into()) },
    ];
}

/// The stacks at a function.
pub(super) fn stacks(of: StackOf, sums: &Sums, name: &dyn Fn(VmId) -> String) -> Stacks {
    let found = || sums.stacks.iter().filter(|(id, _)| id.of == of);
    let all = found().map(|(_, count)| *count).fold(0, u64::saturating_add);
    let row = |(id, &count): (&Arc<StackId>, &u64)| StackRow {
        number: id.number(),
        vm: id.vm.map_or_else(|| format!("process {}", id.pid), name),
        count,
        rate: per_second(count, sums.over_ns),
        share: ratio(count, all),
        id: id.clone(),
    };
    let mut rows: Vec<StackRow> = found().map(row).collect();
    rows.sort_by_key(|row| Reverse(row.count));
    Stacks { rows, rate: per_second(all, sums.over_ns), left_out: sums.stacks_left_out }
}
