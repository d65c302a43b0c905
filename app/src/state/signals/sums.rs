//! What a tick had, and what several add up to.

use super::ChipId;
use crate::model::detail::{Halts, KeyClass};
use crate::model::hist::Hist;
use crate::model::ids::{VcpuKey, VmId};
use crate::model::meters::{Chip, MeterKind, MeterTick, MetersTick, TimerTick};
use crate::model::tick::{PhaseTimes, Tick, VcpuTick};
use crate::state::nav::{Scope, Tab, Who};
use crate::trace::irqchip;
use std::collections::{BTreeMap, HashMap};

/// Routes that are kept apart in a tick; the rarest of more are left out, and counted.
const ROUTES: usize = 2_048;
/// Bits of a redirection entry that say how one delivery goes, not where it goes to.
const PASSING: u64 = 1 << 12 | 1 << 14;

/// Count, time and extremes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Brief {
    /// How many.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The shortest, ns.
    pub min_ns: u64,
    /// The longest, ns.
    pub max_ns: u64,
}

impl Brief {
    fn of(meter: &MeterTick) -> Self {
        let MeterTick { count, total_ns, min_ns, max_ns, .. } = *meter;
        Self { count, total_ns, min_ns, max_ns }
    }

    /// Adds another.
    pub fn add(&mut self, more: &Self) {
        if more.count > 0 {
            self.min_ns = if self.count == 0 { more.min_ns } else { self.min_ns.min(more.min_ns) };
        }
        self.count = self.count.saturating_add(more.count);
        self.total_ns = self.total_ns.saturating_add(more.total_ns);
        self.max_ns = self.max_ns.max(more.max_ns);
    }
}

/// A meter of a whole scope.
#[derive(Clone, Debug, Default)]
pub struct MeterSum {
    /// Its numbers.
    pub brief: Brief,
    /// Its times.
    pub hist: Hist,
}

/// What a vCPU did. Of several vCPUs together: sums; `open_ns` and `window_ns` are the largest.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct VcpuSum {
    /// Intervals on a CPU that ended.
    pub loaded: Brief,
    /// Timers that came late; times in ticks of the guest's TSC.
    pub late: Brief,
    /// Wake-ups by [`MeterKind`]: polled, polled for nothing, slept, slept for nothing.
    pub wakeups: [u64; 4],
    /// What happened to timers.
    pub timers: TimerTick,
    /// Whether anything is known of its timers.
    pub has_timers: bool,
    /// Both the hardware's and the kernel's timer are in use, of several vCPUs.
    pub both_timers: bool,
    /// The last known window of halt polling, ns.
    pub window_ns: Option<u64>,
    /// Times it grew.
    pub grew: u64,
    /// Times it shrank.
    pub shrank: u64,
    /// Migrations.
    pub migrations: u64,
    /// Of them, to another NUMA node.
    pub crossings: u64,
    /// The interval on a CPU that is open at the end, ns.
    pub open_ns: u64,
    /// The CPU of the last event.
    pub cpu: u32,
    /// Wall time by phase.
    pub time: PhaseTimes,
    /// Wake-ups, as family `halt-poll` has them.
    pub halts: Halts,
}

impl VcpuSum {
    fn of(vcpu: &VcpuTick) -> Self {
        let mut sum = Self { cpu: vcpu.cpu, time: vcpu.time, halts: vcpu.halts, ..Self::default() };
        let MetersTick { meters, timers, window, migrations, crossings, loaded_open_ns } =
            &vcpu.meters;
        for meter in meters {
            match meter.kind {
                MeterKind::Loaded => sum.loaded = Brief::of(meter),
                MeterKind::Late => sum.late = Brief::of(meter),
                kind => {
                    if let Some(count) = sum.wakeups.get_mut(kind as usize) {
                        *count = meter.count;
                    }
                }
            }
        }
        if let Some(timers) = timers {
            (sum.timers, sum.has_timers) = (*timers, true);
        }
        if let Some(window) = window {
            (sum.window_ns, sum.grew, sum.shrank) =
                (Some(window.now_ns), window.grew, window.shrank);
        }
        (sum.migrations, sum.crossings) = (*migrations, *crossings);
        sum.open_ns = *loaded_open_ns;
        sum
    }

    fn add_counts(&mut self, more: &Self) {
        self.loaded.add(&more.loaded);
        self.late.add(&more.late);
        for (mine, theirs) in self.wakeups.iter_mut().zip(more.wakeups) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in [
            (&mut self.grew, more.grew),
            (&mut self.shrank, more.shrank),
            (&mut self.migrations, more.migrations),
            (&mut self.crossings, more.crossings),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.has_timers |= more.has_timers;
        self.time.add(&more.time);
        self.halts.add(&more.halts);
    }

    /// Adds what the same vCPU did later.
    fn then(&mut self, later: &Self) {
        self.add_counts(later);
        self.window_ns = later.window_ns.or(self.window_ns);
        self.timers.add(&later.timers, true);
        (self.open_ns, self.cpu) = (later.open_ns, later.cpu);
    }

    /// Adds what another vCPU did.
    fn beside(&mut self, other: &Self) {
        self.add_counts(other);
        self.window_ns = self.window_ns.max(other.window_ns);
        self.open_ns = self.open_ns.max(other.open_ns);
        let (mine, theirs) = (self.timers.is_hardware, other.timers.is_hardware);
        self.both_timers |=
            other.both_timers || (mine.is_some() && theirs.is_some() && mine != theirs);
        self.timers.add(&other.timers, false);
    }
}

/// Routes of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouteSum {
    /// How many.
    pub count: u64,
    /// Of them, coalesced.
    pub coalesced: u64,
    /// The thread's name.
    pub comm: String,
}

impl RouteSum {
    fn add(&mut self, count: u64, coalesced: u64, comm: &str) {
        self.count = self.count.saturating_add(count);
        self.coalesced = self.coalesced.saturating_add(coalesced);
        if self.comm.is_empty() {
            comm.clone_into(&mut self.comm);
        }
    }
}

/// Whose numbers are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Host,
    Of(Who),
}

impl Whose {
    pub fn of(scope: Scope) -> Self {
        match scope {
            Scope::Host => Self::Host,
            Scope::Vm(vm) => Self::Of(Who::Vm(vm)),
            Scope::Reasons(who) | Scope::Reason(who, _) => Self::Of(who),
        }
    }

    fn has(self, key: VcpuKey) -> bool {
        match self {
            Self::Host => true,
            Self::Of(who) => who.contains(key),
        }
    }

    fn has_vm(self, vm: Option<VmId>) -> bool {
        match self {
            Self::Host => true,
            Self::Of(who) => vm == Some(who.vm()),
        }
    }
}

/// What a tick had.
#[derive(Debug, Default)]
pub(super) struct Slice {
    dur_ns: u64,
    meters: BTreeMap<MeterKind, MeterSum>,
    vcpus: BTreeMap<VcpuKey, VcpuSum>,
    /// Times and number of intervals on CPUs; `None` is "other".
    on_cpus: BTreeMap<(VcpuKey, Option<u64>), Brief>,
    delivered: BTreeMap<(VmId, u64), u64>,
    routes: HashMap<ChipId, RouteSum>,
    left_out: u64,
}

/// What the last seconds had, added up.
#[derive(Debug, Default)]
pub struct Sums {
    /// How long, ns.
    pub over_ns: u64,
    /// Meters of all vCPUs of the scope.
    pub meters: BTreeMap<MeterKind, MeterSum>,
    /// By vCPU.
    pub vcpus: BTreeMap<VcpuKey, VcpuSum>,
    /// Intervals by vCPU and CPU; `None` is "other".
    pub on_cpus: BTreeMap<(VcpuKey, Option<u64>), Brief>,
    /// Deliveries to local APICs, whoever made them, by VM and [`kvmscope_shared::route::accepted`].
    pub delivered: BTreeMap<(VmId, u64), u64>,
    /// Through chips.
    pub routes: HashMap<ChipId, RouteSum>,
    /// Routes that had no place, of the whole host.
    pub left_out: u64,
}

/// What a tick had of someone, as far as a tab shows it.
pub(super) fn made(whose: Whose, tab: Tab, tick: &Tick) -> Slice {
    let mut slice = Slice { dur_ns: tick.dur_ns, ..Slice::default() };
    for vcpu in tick.vcpus.iter().filter(|vcpu| whose.has_vm(Some(vcpu.key.vm))) {
        if tab == Tab::Interrupts {
            for key in vcpu.keys.iter().filter(|key| key.id.class == KeyClass::Delivered) {
                if let Some(value) = key.id.value {
                    slice.deliver(whose, vcpu.key.vm, value, key.count);
                }
            }
        }
        if !whose.has(vcpu.key) {
            continue;
        }
        slice.vcpus.insert(vcpu.key, VcpuSum::of(vcpu));
        for meter in &vcpu.meters.meters {
            let sum = slice.meters.entry(meter.kind).or_default();
            sum.brief.add(&Brief::of(meter));
            sum.hist.add_sparse(&meter.hist);
        }
        for key in vcpu.keys.iter().filter(|key| key.id.class == KeyClass::OnCpu) {
            let on =
                Brief { count: key.count, total_ns: key.total_ns, min_ns: 0, max_ns: key.max_ns };
            slice.on_cpus.entry((vcpu.key, key.id.value)).or_default().add(&on);
        }
    }
    if tab == Tab::Interrupts {
        slice.add_routes(whose, tick);
    }
    slice
}

impl Slice {
    fn deliver(&mut self, whose: Whose, vm: VmId, value: u64, count: u64) {
        let to = VcpuKey { vm, vcpu: irqchip::accepted(value).vcpu };
        if whose.has(to) {
            let sum = self.delivered.entry((vm, value)).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    fn add_routes(&mut self, whose: Whose, tick: &Tick) {
        self.left_out = tick.routes_left_out;
        for route in tick.routes.iter().filter(|route| whose.has_vm(route.vm)) {
            if let (Chip::Lapic, Some(vm)) = (route.chip, route.vm) {
                self.deliver(whose, vm, route.a, route.count);
            }
            // A delivery is for one vCPU; what goes through other chips is the whole VM's.
            if let (Chip::Lapic, Whose::Of(Who::Vcpu(key))) = (route.chip, whose)
                && irqchip::accepted(route.a).vcpu != key.vcpu
            {
                continue;
            }
            // Told twice by KVM; the vectors say how many were posted.
            if route.chip == Chip::Lapic && irqchip::accepted(route.a).posted {
                continue;
            }
            let b = if route.chip == Chip::Ioapic { route.b & !PASSING } else { route.b };
            let id = ChipId {
                chip: route.chip,
                vm: route.vm,
                sender: route.sender,
                pid: route.pid,
                a: route.a,
                b,
            };
            if self.routes.len() >= ROUTES && !self.routes.contains_key(&id) {
                self.left_out = self.left_out.saturating_add(route.count);
                continue;
            }
            let sum = self.routes.entry(id).or_default();
            sum.add(route.count, route.coalesced, &route.comm);
        }
    }
}

impl Sums {
    pub(super) fn of<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> Self {
        let mut sums = Self::default();
        for slice in slices {
            sums.over_ns = sums.over_ns.saturating_add(slice.dur_ns);
            sums.left_out = sums.left_out.saturating_add(slice.left_out);
            for (kind, meter) in &slice.meters {
                let sum = sums.meters.entry(*kind).or_default();
                sum.brief.add(&meter.brief);
                sum.hist.merge(&meter.hist);
            }
            for (key, vcpu) in &slice.vcpus {
                sums.vcpus.entry(*key).and_modify(|sum| sum.then(vcpu)).or_insert(*vcpu);
            }
            for (key, on) in &slice.on_cpus {
                sums.on_cpus.entry(*key).or_default().add(on);
            }
            for (key, count) in &slice.delivered {
                let sum = sums.delivered.entry(*key).or_default();
                *sum = sum.saturating_add(*count);
            }
            for (id, route) in &slice.routes {
                let sum = sums.routes.entry(*id).or_default();
                sum.add(route.count, route.coalesced, &route.comm);
            }
        }
        sums
    }

    /// All vCPUs of a VM together.
    pub fn of_vm(&self, vm: VmId) -> Option<VcpuSum> {
        let range = VcpuKey { vm, vcpu: 0 }..=VcpuKey { vm, vcpu: u32::MAX };
        let mut vcpus = self.vcpus.range(range).map(|(_, sum)| *sum);
        let first = vcpus.next()?;
        Some(vcpus.fold(first, |mut sum, vcpu| {
            sum.beside(&vcpu);
            sum
        }))
    }

    /// Messages and what goes through the I/O APIC into a VM. Lines, the 8259 and the local APICs see the same
    /// interrupts again.
    pub fn sent(&self, vm: VmId) -> u64 {
        let sends = |id: &ChipId| matches!(id.chip, Chip::Msi | Chip::Ioapic);
        let mine = self.routes.iter().filter(|(id, _)| id.vm == Some(vm) && sends(id));
        mine.map(|(_, sum)| sum.count).fold(0, u64::saturating_add)
    }

    /// Deliveries to a VM's local APICs, or to that of one vCPU.
    pub fn arrived(&self, vm: VmId, vcpu: Option<u32>) -> u64 {
        let mine = self.delivered.range((vm, 0)..=(vm, u64::MAX));
        // Posted ones are among the others already.
        let counts = |key: u64| {
            let accepted = irqchip::accepted(key);
            !accepted.posted && vcpu.is_none_or(|vcpu| accepted.vcpu == vcpu)
        };
        let mine = mine.filter(|((_, key), _)| counts(*key));
        mine.map(|(_, count)| *count).fold(0, u64::saturating_add)
    }
}
