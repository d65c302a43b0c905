//! Everything since the start: VM → vCPU → reason, for reports.

mod events;
mod keys;
mod meters;
mod routes;
mod who;

pub use events::{Events, MAX_EVENTS, by_time};
pub use keys::{KeySum, Keys, MAX_KEYS};
pub use meters::Meters;
pub use routes::{MAX_ROUTES, Routes};

use super::detail::{CulpritTick, Halts, IoctlTick, Outlier, VmTick};
use super::ids::{Reason, VcpuKey, VmId};
use super::stack::StackTick;
use super::stats::Sum;
use super::tick::{Life, Lost, OpenExit, Phase, PhaseTimes, Tick, VcpuInfo, VcpuTick, VmInfo};
use std::collections::BTreeMap;

/// Outliers kept: the slowest.
pub const MAX_OUTLIERS: usize = 100;
/// Kernel stacks kept; calls of more are counted.
pub const MAX_STACKS: usize = 256;
/// Culprits kept of a vCPU; time of more is "other".
const MAX_CULPRITS: usize = 64;
/// Other threads kept of a VM.
const MAX_THREADS: usize = 64;
/// Commands of ioctls kept of a VM; a VMM may call with numbers that there are not.
const MAX_IOCTLS: usize = 256;

/// Sums from the first tick on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// By VM, those that are gone too.
    pub vms: BTreeMap<VmId, VmTotals>,
    /// What was missed.
    pub lost: Lost,
    /// Ticks that never arrived.
    pub lost_ticks: u64,
    /// Ticks that did.
    pub ticks: u64,
    /// Sum of their lengths, ns.
    pub measured_ns: u64,
    /// End of the last one, ns of the probes' clock.
    pub end_ns: u64,
    /// The slowest exits, slowest first, at most [`MAX_OUTLIERS`].
    pub outliers: Vec<Outlier>,
    /// Slow exits that are not among them: less slow, or over the rate that the probes let through.
    pub outliers_left_out: u64,
    /// Single events, some of each kind.
    pub events: Events,
    /// Kernel stacks, most calls first, at most [`MAX_STACKS`].
    pub stacks: Vec<StackTick>,
    /// Calls with stacks that are not among them.
    pub stacks_left_out: u64,
    /// Pages of logged memory slots that threads marked as dirty that are no vCPU's.
    pub dirty_elsewhere: u64,
    /// Interrupts that were sent by other threads than vCPUs, or through chips.
    pub routes: Routes,
    last_seq: u64,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VmTotals {
    /// Who.
    pub info: VmInfo,
    /// When it ended, ns of the probes' clock.
    pub ended_ns: Option<u64>,
    /// Its vCPUs by number.
    pub vcpus: BTreeMap<u32, VcpuTotals>,
    /// What it did beside running them, most busy threads first; `None` when nobody looked.
    pub beside: Option<VmTick>,
    /// KVM ioctls of its process, by command; at most [`MAX_IOCTLS`], and more of them under command 0.
    pub ioctls: BTreeMap<u32, IoctlTick>,
    /// Why its APIC virtualization is inhibited, as read last; `None` where it was never read.
    pub apicv_inhibits: Option<u64>,
}

/// A vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VcpuTotals {
    /// Who.
    pub info: VcpuInfo,
    /// When its last thread ended, ns of the probes' clock.
    pub ended_ns: Option<u64>,
    /// Physical CPU of its last event.
    pub cpu: u32,
    /// What it did last, and since when (ns of the probes' clock).
    pub phase: (Phase, u64),
    /// The exit that it is still handling.
    pub open: Option<OpenExit>,
    /// Where its time went. Its sum is the wall time that was measured of it.
    pub time: PhaseTimes,
    /// Its reasons. Boxed, because a sum is a kilobyte.
    pub cells: BTreeMap<Reason, Box<Sum>>,
    /// What its exits were about: at most [`MAX_KEYS`] things, about as many pages and the like, and an "other"
    /// of each class.
    pub keys: Keys,
    /// How often it woke up from a halt.
    pub halts: Halts,
    /// Who ran while it waited for a CPU, by process and name, most first.
    pub culprits: Vec<CulpritTick>,
    /// What it did beside exits.
    pub meters: Meters,
}

impl Totals {
    /// Adds a tick.
    pub fn apply(&mut self, tick: &Tick) {
        for life in &tick.life {
            self.live(life);
        }
        self.wait_out(tick);
        for vcpu in &tick.vcpus {
            self.vcpu(vcpu.key).apply(vcpu);
        }
        for beside in &tick.vms {
            self.vm(beside.id).beside(beside);
        }
        self.slow(tick);
        self.events.add(&tick.events, &tick.events_left_out);
        self.functions(tick);
        self.routes.add(tick);
        self.lost.add(&tick.lost);
        if self.ticks > 0 {
            let missed = tick.seq.saturating_sub(self.last_seq.saturating_add(1));
            self.lost_ticks = self.lost_ticks.saturating_add(missed);
        }
        self.ticks += 1;
        self.last_seq = tick.seq;
        self.measured_ns = self.measured_ns.saturating_add(tick.dur_ns);
        self.end_ns = tick.end_ns;
    }

    fn functions(&mut self, tick: &Tick) {
        self.dirty_elsewhere = self.dirty_elsewhere.saturating_add(tick.dirty_elsewhere);
        self.stacks_left_out = self.stacks_left_out.saturating_add(tick.stacks_left_out);
        for stack in &tick.stacks {
            let same = |known: &&mut StackTick| {
                (known.of, known.vm, known.pid) == (stack.of, stack.vm, stack.pid)
                    && known.frames == stack.frames
            };
            let room = self.stacks.len() < MAX_STACKS;
            match self.stacks.iter_mut().find(same) {
                Some(known) => known.count = known.count.saturating_add(stack.count),
                None if room => self.stacks.push(stack.clone()),
                None => self.stacks_left_out = self.stacks_left_out.saturating_add(stack.count),
            }
        }
        self.stacks.sort_by_key(|stack| std::cmp::Reverse(stack.count));
    }

    /// A living vCPU that a tick does not mention did all the while what it did before.
    fn wait_out(&mut self, tick: &Tick) {
        for (id, vm) in &mut self.vms {
            for (&number, vcpu) in vm.vcpus.iter_mut().filter(|(_, v)| v.ended_ns.is_none()) {
                let key = VcpuKey { vm: *id, vcpu: number };
                if tick.vcpus.binary_search_by_key(&key, |vcpu| vcpu.key).is_err() {
                    let mut time = PhaseTimes::default();
                    time.0[vcpu.phase.0 as usize] = tick.dur_ns;
                    vcpu.time.add(&time);
                    vcpu.meters.wait_out(tick.dur_ns);
                }
            }
        }
    }

    fn slow(&mut self, tick: &Tick) {
        self.outliers.extend_from_slice(&tick.outliers);
        if !tick.outliers.is_empty() {
            // Stable: of equals the earlier ones stay.
            self.outliers.sort_by_key(|outlier| std::cmp::Reverse(outlier.wall_ns()));
        }
        let over = self.outliers.len().saturating_sub(MAX_OUTLIERS);
        self.outliers.truncate(MAX_OUTLIERS);
        let left_out = tick.outliers_left_out.saturating_add(over as u64);
        self.outliers_left_out = self.outliers_left_out.saturating_add(left_out);
    }

    fn live(&mut self, life: &Life) {
        match life {
            Life::Vm(info) => self.vm(info.id).info = info.clone(),
            Life::Vcpu(info) => {
                let vcpu = self.vcpu(info.key);
                vcpu.info = *info;
                vcpu.ended_ns = None;
            }
            Life::VcpuGone(key, at) => self.vcpu(*key).ended_ns = Some(*at),
            Life::VmGone(vm, at) => self.vm(*vm).ended_ns = Some(*at),
        }
    }

    fn vm(&mut self, id: VmId) -> &mut VmTotals {
        self.vms.entry(id).or_insert_with(|| VmTotals {
            info: VmInfo { id, name: format!("VM {}", id.0), ..VmInfo::default() },
            ..VmTotals::default()
        })
    }

    fn vcpu(&mut self, key: VcpuKey) -> &mut VcpuTotals {
        self.vm(key.vm).vcpus.entry(key.vcpu).or_insert_with(|| VcpuTotals {
            info: VcpuInfo { key, ..VcpuInfo::default() },
            ..VcpuTotals::default()
        })
    }
}

impl VmTotals {
    fn beside(&mut self, tick: &VmTick) {
        for ioctl in &tick.ioctls {
            self.ioctl(ioctl);
        }
        self.apicv_inhibits = tick.apicv_inhibits.or(self.apicv_inhibits);
        // One that tells of nothing else did not look at threads and quotas.
        if tick.over_ns == 0 && tick.threads.is_empty() && tick.throttled_ns.is_none() {
            return;
        }
        let sum = self.beside.get_or_insert_with(|| VmTick { id: tick.id, ..VmTick::default() });
        sum.over_ns = sum.over_ns.saturating_add(tick.over_ns);
        sum.others_ns = sum.others_ns.saturating_add(tick.others_ns);
        if let Some(ns) = tick.throttled_ns {
            sum.throttled_ns = Some(sum.throttled_ns.unwrap_or(0).saturating_add(ns));
        }
        for (tid, comm, ns) in &tick.threads {
            match sum.threads.iter_mut().find(|(t, c, _)| t == tid && c == comm) {
                Some((_, _, mine)) => *mine = mine.saturating_add(*ns),
                None => sum.threads.push((*tid, comm.clone(), *ns)),
            }
        }
        sum.threads.sort_by_key(|&(_, _, ns)| std::cmp::Reverse(ns));
        sum.threads.truncate(MAX_THREADS);
    }

    fn ioctl(&mut self, tick: &IoctlTick) {
        let has_place = self.ioctls.len() < MAX_IOCTLS || self.ioctls.contains_key(&tick.command);
        let command = if has_place { tick.command } else { 0 };
        let none = IoctlTick { command, ..IoctlTick::default() };
        self.ioctls.entry(command).or_insert(none).add(tick);
    }
}

impl VcpuTotals {
    fn apply(&mut self, tick: &VcpuTick) {
        self.cpu = tick.cpu;
        self.phase = (tick.phase, tick.since_ns);
        self.open = tick.open;
        self.time.add(&tick.time);
        for cell in &tick.cells {
            self.cells.entry(cell.reason).or_default().add(cell);
        }
        self.halts.add(&tick.halts);
        keys::add(&mut self.keys, &tick.keys);
        self.meters.add(&tick.meters);
        for culprit in &tick.culprits {
            self.culprit(culprit);
        }
        if !tick.culprits.is_empty() {
            self.culprits.sort_by_key(|culprit| std::cmp::Reverse(culprit.ns));
        }
    }

    fn culprit(&mut self, tick: &CulpritTick) {
        let same = |c: &&mut CulpritTick| c.pid == tick.pid && c.comm == tick.comm;
        if let Some(mine) = self.culprits.iter_mut().find(same) {
            let (ns, count) =
                (mine.ns.saturating_add(tick.ns), mine.count.saturating_add(tick.count));
            *mine = CulpritTick { ns, count, ..tick.clone() };
        } else if self.culprits.len() < MAX_CULPRITS || (tick.pid == 0 && tick.comm.is_empty()) {
            self.culprits.push(tick.clone());
        } else {
            let CulpritTick { ns, count, .. } = *tick;
            self.culprit(&CulpritTick { ns, count, ..CulpritTick::default() });
        }
    }

    /// How old the exit still being handled is at `now_ns`, if it is of this reason.
    pub fn open_ns(&self, reason: Reason, now_ns: u64) -> Option<u64> {
        let open = self.open.filter(|open| open.reason == reason)?;
        Some(now_ns.saturating_sub(open.begun_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::detail::{KeyClass, KeyId, KeyTick};
    use crate::model::event::EventKind;
    use crate::model::ids::Isa;
    use crate::model::testing::{cell, sample_outlier, sample_stack, sample_tick, vcpu};

    #[test]
    fn stacks_add_up_and_are_bounded() {
        let stack = |pid, count| StackTick { pid, count, ..sample_stack() };
        let mut totals = Totals::default();
        for seq in 1..=3 {
            let stacks = vec![stack(1, 5), stack(2, 70)];
            let (stacks_left_out, dirty_elsewhere) = (1, 10);
            let tick = Tick { seq, stacks, stacks_left_out, dirty_elsewhere, ..Tick::default() };
            totals.apply(&tick);
        }
        assert_eq!(totals.stacks, [stack(2, 210), stack(1, 15)], "most calls first");
        assert_eq!((totals.stacks_left_out, totals.dirty_elsewhere), (3, 30));
        let many = (0..2 * MAX_STACKS as u32).map(|pid| stack(pid + 10, 1)).collect();
        totals.apply(&Tick { seq: 4, stacks: many, ..Tick::default() });
        assert_eq!(totals.stacks.len(), MAX_STACKS);
        let kept: u64 = totals.stacks.iter().map(|stack| stack.count).sum();
        assert_eq!(kept + totals.stacks_left_out, 225 + 3 + 2 * MAX_STACKS as u64);
    }

    #[test]
    fn ticks_add_up() {
        let reason = Reason::exit(Isa::Vmx, 10);
        let mut totals = Totals::default();
        for (seq, times) in [(1, [500, 700]), (2, [300, 90_000]), (4, [1000, 1000])] {
            let vcpus = vec![vcpu(3, 1, 1_000, vec![cell(reason, &times)])];
            totals.apply(&Tick { seq, dur_ns: 1_000, vcpus, ..Tick::default() });
        }
        let vcpu = &totals.vms[&VmId(3)].vcpus[&1];
        let stats = vcpu.cells[&reason].stats();
        assert_eq!((stats.count, stats.timed, stats.total_ns), (6, 6, 93_500));
        let latency = stats.latency.expect("timed");
        assert_eq!((latency.min_ns, latency.max_ns), (300, 90_000));
        assert_eq!(vcpu.time.sum(), 3_000);
        assert_eq!((totals.ticks, totals.lost_ticks, totals.measured_ns), (3, 1, 3_000));
    }

    #[test]
    fn a_silent_vcpu_goes_on_with_what_it_did_until_it_ends() {
        let key = VcpuKey { vm: VmId(3), vcpu: 1 };
        let halted = |dur_ns| {
            let mut time = PhaseTimes::default();
            time.0[Phase::Blocked as usize] = dur_ns;
            VcpuTick { key, phase: Phase::Blocked, time, ..VcpuTick::default() }
        };
        let tick = |seq, dur_ns, vcpus| Tick { seq, dur_ns, vcpus, ..Tick::default() };
        let mut totals = Totals::default();
        totals.apply(&tick(1, 1_000, vec![]));
        totals.apply(&tick(2, 1_000, vec![halted(400)]));
        totals.apply(&tick(3, 2_000, vec![vcpu(3, 0, 2_000, vec![])]));
        let gone = |at, seq, vcpus| Tick {
            life: vec![Life::VcpuGone(key, at)],
            ..tick(seq, 1_000, vcpus)
        };
        totals.apply(&gone(4_500, 4, vec![halted(500)]));
        totals.apply(&tick(5, 1_000, vec![]));
        let vcpus = &totals.vms[&VmId(3)].vcpus;
        assert_eq!(vcpus[&1].time.get(Phase::Blocked), 400 + 2_000 + 500);
        assert_eq!(vcpus[&1].time.sum(), 2_900);
        assert_eq!(vcpus[&0].time.get(Phase::Guest), 2_000 + 2 * 1_000);
    }

    fn id(class: KeyClass, value: Option<u64>) -> KeyId {
        KeyId { reason: value.map(|_| Reason::exit(Isa::Vmx, 30)), class, value }
    }

    fn with(seq: u64, vcpu: VcpuTick) -> Tick {
        Tick { seq, dur_ns: 1_000, vcpus: vec![vcpu], ..Tick::default() }
    }

    #[test]
    fn keys_and_halts_add_up() {
        let port = |count, max_ns| KeyTick {
            id: id(KeyClass::PortIn, Some(0x608)),
            count,
            timed: count,
            total_ns: 10 * count,
            off_ns: 2,
            vmm_ns: 3,
            max_ns,
        };
        let mut totals = Totals::default();
        for (seq, key) in [(1, port(4, 80)), (2, port(1, 30))] {
            let halts = Halts { polled: seq, waited: 7 };
            totals.apply(&with(
                seq,
                VcpuTick { keys: vec![key], halts, ..vcpu(1, 0, 1_000, vec![]) },
            ));
        }
        let vcpu = &totals.vms[&VmId(1)].vcpus[&0];
        let sum = vcpu.keys[&id(KeyClass::PortIn, Some(0x608))];
        let expected =
            KeySum { count: 5, timed: 5, total_ns: 50, off_ns: 4, vmm_ns: 6, max_ns: 80 };
        assert_eq!(sum, expected);
        assert_eq!(vcpu.halts, Halts { polled: 3, waited: 14 });
    }

    #[test]
    fn culprits_are_merged_and_bounded() {
        let ran = |pid, comm: &str, ns| CulpritTick {
            pid,
            tid: pid + 1,
            comm: comm.into(),
            ns,
            count: 1,
            ..CulpritTick::default()
        };
        let mut totals = Totals::default();
        let mut all: Vec<CulpritTick> = (1..=MAX_CULPRITS as u32).map(|n| ran(n, "a", 5)).collect();
        all.extend([ran(1, "b", 100), ran(2, "b", 200), ran(1, "a", 50)]);
        totals.apply(&with(1, VcpuTick { culprits: all.clone(), ..vcpu(1, 0, 1_000, vec![]) }));
        let culprits = &totals.vms[&VmId(1)].vcpus[&0].culprits;
        assert_eq!(culprits.len(), MAX_CULPRITS + 1);
        assert_eq!((culprits[0].comm.as_str(), culprits[0].ns, culprits[0].count), ("", 300, 2));
        assert_eq!((culprits[1].pid, culprits[1].ns, culprits[1].count), (1, 55, 2));
        let sum: u64 = culprits.iter().map(|culprit| culprit.ns).sum();
        assert_eq!(sum, all.iter().map(|culprit| culprit.ns).sum::<u64>());
    }

    #[test]
    fn the_slowest_outliers_stay_and_all_are_counted() {
        let key = VcpuKey { vm: VmId(1), vcpu: 0 };
        let slow = |ns| Outlier { handling_ns: ns, ..sample_outlier(key) };
        let mut totals = Totals::default();
        for seq in 1..=4 {
            let outliers = (0..50).map(|n| slow(n * 1_000 + seq)).collect();
            totals.apply(&Tick { seq, outliers, outliers_left_out: 7, ..Tick::default() });
        }
        assert_eq!(totals.outliers.len(), MAX_OUTLIERS);
        assert_eq!(totals.outliers_left_out, 4 * 7 + 100);
        assert_eq!(totals.outliers[0].handling_ns, 49_004);
        assert_eq!(totals.outliers[MAX_OUTLIERS - 1].handling_ns, 25_001);
    }

    #[test]
    fn what_vms_did_beside_adds_up() {
        let beside = |ns, throttled_ns| VmTick {
            id: VmId(1),
            over_ns: 1_000,
            others_ns: ns + 1,
            threads: vec![(9, "IO".into(), ns), (8, "main".into(), 1)],
            throttled_ns,
            ..VmTick::default()
        };
        let mut totals = Totals::default();
        for (seq, tick) in [(1, beside(5, None)), (2, beside(0, Some(3))), (3, beside(2, None))] {
            totals.apply(&Tick { seq, vms: vec![tick], ..Tick::default() });
        }
        let sum = totals.vms[&VmId(1)].beside.as_ref().expect("looked at");
        assert_eq!((sum.over_ns, sum.others_ns, sum.throttled_ns), (3_000, 10, Some(3)));
        assert_eq!(sum.threads, [(9, "IO".into(), 7), (8, "main".into(), 3)]);
    }

    #[test]
    fn ioctls_add_up_and_are_no_look_at_threads() {
        let ioctl = |command, count, max_ns| IoctlTick {
            command,
            count,
            failed: 1,
            total_ns: 10 * count,
            max_ns,
        };
        let mut totals = Totals::default();
        for (seq, max_ns) in [(1, 70), (2, 90)] {
            let ioctls = vec![ioctl(0xae80, 5, max_ns), ioctl(0xae01, 1, 7)];
            let vms = vec![VmTick { id: VmId(1), ioctls, ..VmTick::default() }];
            totals.apply(&Tick { seq, vms, ..Tick::default() });
        }
        let vm = &totals.vms[&VmId(1)];
        let run = IoctlTick { command: 0xae80, count: 10, failed: 2, total_ns: 100, max_ns: 90 };
        assert_eq!((vm.ioctls.len(), vm.ioctls[&0xae80]), (2, run));
        assert_eq!(vm.beside, None);
        let ioctls = (0..2 * MAX_IOCTLS as u32).map(|n| ioctl(n << 8 | 0xff, 1, 1)).collect();
        let vms = vec![VmTick { id: VmId(1), ioctls, ..VmTick::default() }];
        totals.apply(&Tick { seq: 3, vms, ..Tick::default() });
        let ioctls = &totals.vms[&VmId(1)].ioctls;
        assert_eq!(ioctls.len(), MAX_IOCTLS + 1);
        let count: u64 = ioctls.values().map(|ioctl| ioctl.count).sum();
        assert_eq!(count, 12 + 2 * MAX_IOCTLS as u64);
    }

    #[test]
    fn events_of_ticks_are_kept() {
        let mut totals = Totals::default();
        totals.apply(&sample_tick());
        let events = totals.events.in_order();
        assert_eq!((events.len(), events[0].kind), (1, EventKind::Fault));
        assert_eq!(totals.events.left_out().map(|left| left.count).sum::<u64>(), 7);
    }

    #[test]
    fn life_is_followed() {
        let mut totals = Totals::default();
        totals.apply(&sample_tick());
        assert_eq!(totals.vms[&VmId(1)].info.name, "web-7");
        assert_eq!(totals.vms[&VmId(1)].vcpus[&0].info.tid, 4712);
        assert_eq!(totals.vms[&VmId(9)].ended_ns, Some(9_000_000_000));
        let vcpu = &totals.vms[&VmId(1)].vcpus[&0];
        assert_eq!(vcpu.open_ns(Reason::exit(Isa::Vmx, 12), 10_000_000_000), Some(500_000_000));
        assert_eq!(vcpu.open_ns(Reason::exit(Isa::Vmx, 32), 10_000_000_000), None);
    }
}
