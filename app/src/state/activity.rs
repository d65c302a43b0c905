//! The last seconds by what was noted: page faults, MMIO, dirty pages, MMU roots, hypercalls, ioctls.
//! Read from the kept ticks, each once, and slid along with time.

mod rows;
mod stacks;

pub use rows::{Hot, HotRow, IoctlRow, Ioctls};
pub use stacks::{StackId, StackRow, Stacks};

use super::facts::places;
use super::keys;
use super::moment::{Moments, Shown};
use super::nav::{RowId, Scope, Tab, Who};
use super::slid::Slid;
use super::{Pane, State};
use crate::model::codec::Part;
use crate::model::detail::{IoctlTick, KeyClass, KeyTick};
use crate::model::ids::{Reason, VcpuKey, VmId};
use crate::model::stack::StackOf;
use crate::model::tick::{Tick, VcpuTick};
use crate::model::totals::KeySum;
use crate::trace::events;
use kvmscope_shared::detail::dirty;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Keys of a class that are kept apart in a tick; the rarest of more are added to "other".
const APART: usize = 512;

/// What is counted for each vCPU, in columns of the tables of VMs and vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Count {
    /// Page faults.
    Faults,
    /// MMIO accesses, fast doorbells too.
    Mmio,
    /// Time of MMIO in the VMM, ns.
    MmioVmm,
    /// Dirty pages.
    Dirty,
    /// Loads of MMU roots.
    Roots,
    /// Loads of the vCPU on a physical CPU.
    Loads,
    /// Hypercalls.
    Hypercalls,
    /// Hypercalls whose number is unknown.
    Unknown,
    /// Ioctls; of a VM only.
    Ioctls,
    /// Ioctls that failed; of a VM only.
    Failed,
    /// Interrupts put into the guest.
    Injected,
    /// Exceptions put into the guest.
    Exceptions,
    /// Interrupts that vCPU threads put into local APICs.
    Delivered,
    /// Ends of interrupts.
    Eois,
    /// Inter-processor interrupts sent.
    Ipis,
}

/// Number of [`Count`]s.
const COUNTS: usize = 15;
type Counts = [u64; COUNTS];

/// Which key of whom. `vcpu` only of an MMU root and of a load on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HotId {
    /// What it is.
    pub class: KeyClass,
    /// Whose; `None` is of the whole host together.
    pub vm: Option<VmId>,
    /// Whose root it is, or who was loaded.
    pub vcpu: Option<u32>,
    /// The value; `None` is "other".
    pub value: Option<u64>,
}

/// What became of the pages that KVM marked as dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DirtyLog {
    /// Pages marked in slots that log, whether they were marked already or not.
    pub marked: u64,
    /// Pages marked in slots that do not log.
    pub not_logged: u64,
    /// The processor's log of written pages was full.
    pub pml_full: u64,
    /// A vCPU went to the VMM, because its dirty ring was full.
    pub ring_full: u64,
    /// Pages that threads of the host marked in slots that log, which are no vCPUs'.
    pub elsewhere: u64,
}

/// What a tick had.
#[derive(Debug, Default)]
struct Slice {
    dur_ns: u64,
    keys: HashMap<HotId, KeySum>,
    counts: BTreeMap<VcpuKey, Counts>,
    ioctls: BTreeMap<(VmId, u32), IoctlTick>,
    stacks: Vec<(Arc<StackId>, u64)>,
    stacks_left_out: u64,
    dirty_elsewhere: u64,
}

/// What the last seconds had, added up.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub over_ns: u64,
    pub keys: HashMap<HotId, KeySum>,
    counts: BTreeMap<VcpuKey, Counts>,
    pub ioctls: BTreeMap<(VmId, u32), IoctlTick>,
    pub stacks: BTreeMap<Arc<StackId>, u64>,
    pub stacks_left_out: u64,
    /// The function whose callers were taken last.
    stacks_of: Option<StackOf>,
    dirty_elsewhere: u64,
}

/// The last seconds of a scope in a tab, tick by tick.
#[derive(Debug, Default)]
pub(super) struct Activity {
    slid: Slid<(Scope, Tab), Slice>,
    pub sums: Sums,
}

impl Activity {
    /// Adds up the seconds up to the displayed tick.
    pub fn look(&mut self, scope: Scope, tab: Tab, moments: &Moments) {
        let read = |place| slice(scope, tab, place, moments);
        if self.slid.look((scope, tab), places(moments), read) {
            self.sums = self.added();
        }
    }

    fn added(&self) -> Sums {
        let mut sums = Sums::default();
        for slice in self.slid.slices() {
            sums.over_ns = sums.over_ns.saturating_add(slice.dur_ns);
            for (id, sum) in &slice.keys {
                sums.keys.entry(*id).or_default().merge(sum);
            }
            for (key, counts) in &slice.counts {
                add_counts(sums.counts.entry(*key).or_default(), counts);
            }
            for (id, sum) in &slice.ioctls {
                sums.ioctls.entry(*id).or_default().add(sum);
            }
            for (id, count) in &slice.stacks {
                let sum = sums.stacks.entry(id.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
            sums.stacks_of = slice.stacks.first().map(|(id, _)| id.of).or(sums.stacks_of);
            sums.stacks_left_out = sums.stacks_left_out.saturating_add(slice.stacks_left_out);
            sums.dirty_elsewhere = sums.dirty_elsewhere.saturating_add(slice.dirty_elsewhere);
        }
        sums
    }
}

impl Sums {
    /// What is counted for someone per second (times: ns per second).
    fn per_second(&self, row: RowId, count: Count) -> Option<f64> {
        let sum = match (row, count) {
            (RowId::Vcpu(_), Count::Ioctls | Count::Failed) => return None,
            (RowId::Vcpu(key), _) => {
                self.counts.get(&key).map_or(0, |counts| counts[count as usize])
            }
            (RowId::Vm(vm) | RowId::All(vm), Count::Ioctls | Count::Failed) => {
                let of =
                    |sum: &IoctlTick| if count == Count::Failed { sum.failed } else { sum.count };
                let mine = self.ioctls.range((vm, 0)..=(vm, u32::MAX));
                mine.map(|(_, sum)| of(sum)).fold(0, u64::saturating_add)
            }
            (RowId::Vm(vm) | RowId::All(vm), _) => {
                let (first, last) = (VcpuKey { vm, vcpu: 0 }, VcpuKey { vm, vcpu: u32::MAX });
                let mine = self.counts.range(first..=last);
                mine.map(|(_, counts)| counts[count as usize]).fold(0, u64::saturating_add)
            }
            _ => return None,
        };
        (self.over_ns > 0).then(|| sum as f64 * 1e9 / self.over_ns as f64)
    }
}

fn add_counts(sum: &mut Counts, more: &Counts) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

/// Whether keys of a class are shown in a tab.
fn is_in(tab: Tab, class: KeyClass) -> bool {
    use KeyClass::{
        Delivered, DirtyLog, DirtyPage, DirtySlot, Eoi, Exception, Fault, HvHypercall, Hypercall,
        Injected, Ipi, MmioFast, MmioRead, MmioWrite, Page, Root, VcpuLoad, XenHypercall,
    };
    match tab {
        Tab::Memory => matches!(
            class,
            Fault
                | Page
                | MmioRead
                | MmioWrite
                | MmioFast
                | DirtySlot
                | DirtyPage
                | DirtyLog
                | Root
                | VcpuLoad
        ),
        Tab::Calls => matches!(class, Hypercall | HvHypercall | XenHypercall),
        Tab::Interrupts => matches!(class, Injected | Exception | Eoi | Ipi | Delivered),
        _ => false,
    }
}

fn slice(scope: Scope, tab: Tab, place: u64, moments: &Moments) -> Slice {
    match moments.shown() {
        Some(Shown { place: shown, tick }) if *shown == place => made(scope, tab, tick),
        _ => {
            let part = match scope {
                Scope::Host => Part::ALL.without_events(),
                Scope::Vm(vm) | Scope::Reasons(Who::Vm(vm)) => Part::vm(vm, None),
                Scope::Reasons(Who::Vcpu(key)) => Part::vcpu(key, None),
                Scope::Reason(Who::Vm(vm), reason) => Part::vm(vm, Some(reason)),
                Scope::Reason(Who::Vcpu(key), reason) => Part::vcpu(key, Some(reason)),
            };
            // A tick that cannot be read is one of which nothing is known.
            moments.part(place, part).map(|tick| made(scope, tab, &tick)).unwrap_or_default()
        }
    }
}

fn made(scope: Scope, tab: Tab, tick: &Tick) -> Slice {
    let mut slice = Slice { dur_ns: tick.dur_ns, ..Slice::default() };
    let inside = |vcpu: &&VcpuTick| match scope {
        Scope::Host => true,
        Scope::Vm(vm) => vcpu.key.vm == vm,
        Scope::Reasons(who) | Scope::Reason(who, _) => who.contains(vcpu.key),
    };
    for vcpu in tick.vcpus.iter().filter(inside) {
        let of_reason;
        let keys: &[KeyTick] = match scope {
            Scope::Reason(_, reason) => {
                of_reason = only_of(&vcpu.keys, reason);
                &of_reason
            }
            _ => &vcpu.keys,
        };
        add_keys(&mut slice, tab, vcpu.key, keys);
    }
    if tab == Tab::Calls {
        let vms = tick.vms.iter().filter(|vm| scope.vm().is_none_or(|only| vm.id == only));
        for vm in vms {
            for ioctl in &vm.ioctls {
                slice.ioctls.entry((vm.id, ioctl.command)).or_default().add(ioctl);
            }
        }
    }
    if tab == Tab::Memory {
        // Which vCPU's is not known of a stack: a vCPU is shown its VM's.
        let stacks =
            tick.stacks.iter().filter(|one| scope.vm().is_none_or(|only| one.vm == Some(only)));
        slice.stacks = stacks.map(|one| (Arc::new(StackId::of(one)), one.count)).collect();
        slice.stacks_left_out = tick.stacks_left_out;
        slice.dirty_elsewhere = tick.dirty_elsewhere;
    }
    bound(&mut slice.keys);
    slice
}

/// The keys of one reason, and an "other" where the reason has a part in it.
fn only_of(keys: &[KeyTick], reason: Reason) -> Vec<KeyTick> {
    let mut found = keys::of_reason(keys, reason);
    let named: BTreeSet<KeyClass> =
        found.iter().filter(|key| key.id.value.is_some()).map(|key| key.id.class).collect();
    found.retain(|key| named.contains(&key.id.class));
    found
}

fn add_keys(slice: &mut Slice, tab: Tab, key: VcpuKey, keys: &[KeyTick]) {
    let mut counts = Counts::default();
    for tick in keys.iter().filter(|tick| is_in(tab, tick.id.class)) {
        let class = tick.id.class;
        let vcpu = matches!(class, KeyClass::Root | KeyClass::VcpuLoad | KeyClass::Ipi)
            .then_some(key.vcpu);
        let id = HotId { class, vm: Some(key.vm), vcpu, value: tick.id.value };
        slice.keys.entry(id).or_default().add(tick);
        let count = match class {
            KeyClass::Fault => Count::Faults,
            KeyClass::MmioRead | KeyClass::MmioWrite | KeyClass::MmioFast => Count::Mmio,
            KeyClass::DirtySlot => Count::Dirty,
            KeyClass::Root => Count::Roots,
            KeyClass::Injected => Count::Injected,
            KeyClass::Exception => Count::Exceptions,
            KeyClass::Delivered => Count::Delivered,
            KeyClass::Eoi => Count::Eois,
            KeyClass::Ipi => Count::Ipis,
            KeyClass::VcpuLoad => Count::Loads,
            KeyClass::Hypercall | KeyClass::HvHypercall | KeyClass::XenHypercall => {
                Count::Hypercalls
            }
            _ => continue,
        };
        let mut add = |count: Count, n: u64| {
            counts[count as usize] = counts[count as usize].saturating_add(n);
        };
        add(count, tick.count);
        match count {
            Count::Mmio => add(Count::MmioVmm, tick.vmm_ns),
            Count::Hypercalls if is_unknown(class, tick.id.value) => {
                add(Count::Unknown, tick.count);
            }
            _ => {}
        }
    }
    if counts != Counts::default() {
        add_counts(slice.counts.entry(key).or_default(), &counts);
    }
}

/// Whether it is a hypercall that nothing answers.
fn is_unknown(class: KeyClass, value: Option<u64>) -> bool {
    let calls = [KeyClass::Hypercall, KeyClass::HvHypercall, KeyClass::XenHypercall];
    calls.contains(&class) && value.is_some_and(|value| events::is_unknown(class, value))
}

/// Leaves at most [`APART`] keys of a class; kinds of page faults are few and all stay.
fn bound(keys: &mut HashMap<HotId, KeySum>) {
    if keys.len() <= APART {
        return;
    }
    let mut classes: BTreeMap<KeyClass, Vec<(Reverse<u64>, HotId)>> = BTreeMap::new();
    for (id, sum) in keys.iter() {
        if id.value.is_some() && id.class != KeyClass::Fault {
            classes.entry(id.class).or_default().push((Reverse(sum.count), *id));
        }
    }
    for mut ids in classes.into_values().filter(|ids| ids.len() > APART) {
        ids.sort_unstable();
        for (_, id) in ids.into_iter().skip(APART) {
            if let Some(sum) = keys.remove(&id) {
                keys.entry(HotId { value: None, ..id }).or_default().merge(&sum);
            }
        }
    }
}

impl State {
    /// What the seconds up to the displayed tick add up to, here, as far as this tab shows it.
    pub(super) fn activity(&self) -> std::cell::RefMut<'_, Activity> {
        let mut activity = self.activity.borrow_mut();
        let level = self.level();
        activity.look(level.scope, level.tab, &self.moments);
        activity
    }

    /// What is counted for a VM or a vCPU, per second of the last seconds.
    pub fn count_per_second(&self, row: RowId, count: Count) -> Option<f64> {
        self.activity().sums.per_second(row, count)
    }

    /// Length of what memory and calls are about, ns: the last seconds.
    pub fn activity_over_ns(&self) -> u64 {
        self.activity().sums.over_ns
    }

    /// The rows of a pane of the Memory or the Calls tab; none where it has no such rows.
    pub fn hot(&self, pane: Pane) -> &Hot {
        self.views.hot[pane as usize].get_or_init(|| self.make_hot(pane))
    }

    fn make_hot(&self, pane: Pane) -> Hot {
        let Some(now) = self.now() else { return Hot::default() };
        let host = self.level().scope == Scope::Host;
        rows::hot(pane, host, &self.activity().sums, &|vm| now.name(vm))
    }

    /// The ioctls of this level's VM, or of all.
    pub fn ioctls(&self) -> &Ioctls {
        self.views.ioctls.get_or_init(|| {
            let Some(now) = self.now() else { return Ioctls::default() };
            let host = self.level().scope == Scope::Host;
            rows::ioctls(host, &self.activity().sums, &|vm| now.name(vm))
        })
    }

    /// What became of the pages that KVM marked as dirty here, in the last seconds.
    pub fn dirty_log(&self) -> DirtyLog {
        let activity = self.activity();
        let of = |number: u64| {
            let mine = activity
                .sums
                .keys
                .iter()
                .filter(|(id, _)| (id.class, id.value) == (KeyClass::DirtyLog, Some(number)));
            mine.map(|(_, sum)| sum.count).fold(0, u64::saturating_add)
        };
        DirtyLog {
            marked: of(dirty::MARKED),
            not_logged: of(dirty::NOT_LOGGED),
            pml_full: of(dirty::PML_FULL),
            ring_full: of(dirty::RING_FULL),
            elsewhere: activity.sums.dirty_elsewhere,
        }
    }

    /// Who called the function whose callers are taken, here, in the last seconds.
    pub fn stacks(&self) -> &Stacks {
        self.views.stacks.get_or_init(|| {
            let Some(now) = self.now() else { return Stacks::default() };
            stacks::stacks(self.stacks_of(), &self.activity().sums, &|vm| now.name(vm))
        })
    }

    /// The function whose callers are taken; where one is back in time, were taken then.
    pub fn stacks_of(&self) -> StackOf {
        let now = self.families.stacks_of(&self.session);
        if self.moments.live() { now } else { self.activity().sums.stacks_of.unwrap_or(now) }
    }
}
