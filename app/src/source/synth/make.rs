//! Ticks from a plan.

use super::details::{self, There};
use super::events;
use super::plan::{Habit, Plan, VmPlan};
use super::rng::Rng;
use super::signals;
use crate::model::ids::{Reason, VcpuKey, VmId};
use crate::model::session::Session;
use crate::model::tick::{
    CellTick, HostTick, Life, Lost, OpenExit, Phase, PhaseTimes, Tick, VcpuInfo, VcpuTick, VmInfo,
};
use kvmscope_shared::hist::{BUCKETS, bucket_hi, bucket_lo, bucket_of};
use std::collections::BTreeMap;
use std::time::Duration;

/// EPT_VIOLATION of VMX: for which a vCPU may sleep until its page is there.
const EPT_VIOLATION: u32 = 48;

/// Makes ticks; no I/O, no clock.
#[derive(Clone, Debug)]
pub struct Generator {
    vms: Vec<Running>,
    one_in: u32,
    rng: Rng,
    /// For what exits were about, so that the numbers of exits do not depend on it.
    detail_rng: Rng,
    /// For what vCPUs do beside exits, for the same reason.
    signal_rng: Rng,
    seq: u64,
    now_ns: u64,
    started_ns: u64,
    started_unix_ns: u64,
    next_vm: u32,
    next_pid: u32,
}

/// A VM of the plan, and whether it is there.
#[derive(Clone, Debug)]
struct Running {
    plan: VmPlan,
    /// Its number while it is there.
    id: Option<VmId>,
    pid: u32,
    /// The tick in which it comes or goes next.
    turns: Option<u64>,
    /// Where its slow swing is, in turns.
    swing: f64,
    /// vCPUs whose HLT was open at the end of the last tick.
    halted: Vec<bool>,
}

impl Generator {
    /// A generator that begins where the session does.
    pub fn new(plan: Plan, seed: u64, session: &Session) -> Self {
        let mut rng = Rng::new(seed);
        let running = |plan: VmPlan| Running {
            id: None,
            pid: 0,
            turns: Some(1),
            swing: rng.unit(),
            halted: vec![false; plan.vcpus as usize],
            plan,
        };
        Self {
            vms: plan.vms.into_iter().map(running).collect(),
            one_in: plan.one_in,
            rng,
            detail_rng: Rng::new(!seed),
            signal_rng: Rng::new(seed.rotate_left(17)),
            seq: 0,
            now_ns: session.started_ns,
            started_ns: session.started_ns,
            started_unix_ns: session.started_unix_ns,
            next_vm: 1,
            next_pid: 4000,
        }
    }

    /// The next tick, which is this long.
    pub fn tick(&mut self, length: Duration) -> Tick {
        self.seq += 1;
        let dur_ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.now_ns = self.now_ns.saturating_add(dur_ns);
        let mut tick = Tick {
            seq: self.seq,
            end_ns: self.now_ns,
            dur_ns,
            lost: Lost::default(),
            life: Vec::new(),
            vcpus: Vec::new(),
            host: HostTick { steal_ns: 0, own_cpu_ns: 0, probes: None },
            ..Tick::default()
        };
        let mut vms = std::mem::take(&mut self.vms);
        for vm in &mut vms {
            self.turn(vm, &mut tick);
        }
        let there = |vm: &Running| vm.id.map(|id| (id, vm.pid, vm.plan.vmm));
        let there: Vec<There> = vms.iter().filter_map(there).collect();
        for vm in &mut vms {
            if let Some(id) = vm.id {
                self.measure(vm, id, &there, &mut tick);
            }
        }
        self.vms = vms;
        tick.vcpus.sort_by_key(|vcpu| vcpu.key);
        tick.vms.sort_by_key(|vm| vm.id);
        tick.outliers.sort_by_key(|outlier| outlier.end_ns);
        events::bound(&mut tick);
        signals::bound(&mut tick);
        tick
    }

    /// Lets a VM come or go when it is its time.
    fn turn(&mut self, vm: &mut Running, tick: &mut Tick) {
        if vm.turns != Some(tick.seq) {
            return;
        }
        let (stays, away) = vm.plan.comes_and_goes.unzip();
        if let Some(id) = vm.id.take() {
            let ended_ns = tick.end_ns - tick.dur_ns / 2;
            tick.life.extend(
                (0..vm.plan.vcpus).map(|vcpu| Life::VcpuGone(VcpuKey { vm: id, vcpu }, ended_ns)),
            );
            tick.life.push(Life::VmGone(id, ended_ns));
            vm.turns = away.map(|away| tick.seq + away);
            return;
        }
        let id = VmId(self.next_vm);
        let pid = self.next_pid;
        self.next_vm += 1;
        self.next_pid += 17 + vm.plan.vcpus;
        (vm.id, vm.pid) = (Some(id), pid);
        vm.turns = stays.map(|stays| tick.seq + stays);
        vm.halted.fill(false);
        // Those that were there before the program began are as old as they like.
        let age_ns = if tick.seq == 1 { 3600 * 1_000_000_000 * u64::from(id.0) } else { 0 };
        let started_unix_ns = self.started_unix_ns + (tick.end_ns - tick.dur_ns - self.started_ns);
        tick.life.push(Life::Vm(VmInfo {
            id,
            pid,
            name: vm.plan.name.clone(),
            vmm: vm.plan.vmm.to_owned(),
            started_unix_ns: started_unix_ns.saturating_sub(age_ns),
            nth: 0,
        }));
        tick.life.extend((0..vm.plan.vcpus).map(|vcpu| {
            let key = VcpuKey { vm: id, vcpu };
            Life::Vcpu(VcpuInfo { key, tid: pid + 3 + vcpu, guessed: false })
        }));
    }

    fn measure(&mut self, vm: &mut Running, id: VmId, there: &[There], tick: &mut Tick) {
        let itself = (id, vm.pid, vm.plan.vmm);
        events::of_vm(&vm.plan, itself, &mut self.detail_rng, tick);
        signals::routes(&vm.plan, itself, &mut self.signal_rng, tick);
        tick.vms.push(details::beside(&vm.plan, itself, tick.dur_ns, &mut self.detail_rng));
        // A swing of about ninety seconds, and a bit of noise for all of its vCPUs.
        vm.swing = (vm.swing + tick.dur_ns as f64 / 90e9).fract();
        let wave = 1.0 - (2.0 * vm.swing - 1.0).abs() * 2.0;
        let noise = 0.9 + 0.2 * self.rng.unit();
        let level = (1.0 + vm.plan.swing * wave) * noise;
        for vcpu in 0..vm.plan.vcpus {
            if !(u64::from(vcpu) + tick.seq).is_multiple_of(u64::from(self.one_in)) {
                continue;
            }
            let level = if vcpu == 0 { level * vm.plan.first } else { level };
            let halted = vm.halted.get(vcpu as usize).copied().unwrap_or_default();
            let key = VcpuKey { vm: id, vcpu };
            let mut made = self.vcpu(&vm.plan, key, level, halted, tick);
            self.details(&vm.plan, there, &mut made, tick);
            if let Some(halted) = vm.halted.get_mut(vcpu as usize) {
                *halted = made.open.is_some();
            }
            tick.vcpus.push(made);
        }
        events::stacks((id, vm.pid), tick);
    }

    /// What a vCPU's exits were about, its halts, and who took its CPU.
    fn details(&mut self, plan: &VmPlan, there: &[There], made: &mut VcpuTick, tick: &mut Tick) {
        let rng = &mut self.detail_rng;
        let mut keys = Vec::new();
        for habit in &plan.habits {
            if let Some(cell) = made.cells.iter().find(|cell| cell.reason == habit.reason) {
                details::keys(habit, cell, &mut keys);
            }
        }
        events::counted(plan, made.key, tick.dur_ns, rng, &mut keys);
        made.keys = details::sorted(keys);
        made.halts = details::halts(plan, &made.cells, &mut made.time, rng);
        let wait_ns = made.time.get(Phase::Preempted);
        made.culprits = details::culprits(made.key, wait_ns, there, rng);
        details::outliers(plan, made, rng, tick);
        events::single(made, rng, tick);
        signals::add(plan, made, &mut self.signal_rng, tick);
    }

    fn vcpu(
        &mut self,
        plan: &VmPlan,
        key: VcpuKey,
        level: f64,
        was_halted: bool,
        tick: &Tick,
    ) -> VcpuTick {
        let mut cells = BTreeMap::new();
        for habit in &plan.habits {
            self.habit(habit, level, tick.dur_ns, &mut cells);
        }
        let time = self.time(plan, tick.dur_ns, &mut cells);
        let halts = cells.values().any(|cell| cell.reason.is_idle());
        let asleep = time.get(Phase::Blocked) as f64 / tick.dur_ns as f64;
        let halted = halts && self.rng.unit() < asleep;
        let age_ns = self.rng.between(1_000, 5_000_000).min(tick.dur_ns);
        let mut open = None;
        for cell in cells.values_mut().filter(|cell| cell.reason.is_idle()) {
            // Those that ended began here, except for one that was open before; one more began.
            cell.count = (cell.count + u64::from(halted)).saturating_sub(u64::from(was_halted));
            open = halted.then_some(OpenExit {
                reason: cell.reason,
                begun_ns: tick.end_ns - age_ns,
                rip: 0xffff_ffff_81e0_3b2f,
                ..OpenExit::default()
            });
        }
        VcpuTick {
            key,
            cpu: (key.vm.0 * 7 + key.vcpu) % 48,
            phase: if halted { Phase::Blocked } else { Phase::Guest },
            since_ns: tick.end_ns - if halted { age_ns } else { age_ns / 100 },
            open,
            time,
            cells: cells
                .into_values()
                .filter(|cell| cell.count > 0 || !cell.hist.is_empty())
                .collect(),
            ..VcpuTick::default()
        }
    }

    /// One reason's exits, and those to the VMM that follow from them.
    fn habit(
        &mut self,
        habit: &Habit,
        level: f64,
        dur_ns: u64,
        cells: &mut BTreeMap<Reason, CellTick>,
    ) {
        let noise = 0.85 + 0.3 * self.rng.unit();
        let count = self.rng.round(habit.rate * level * noise * dur_ns as f64 / 1e9);
        if count == 0 {
            return;
        }
        let slow = match habit.slow_one_in {
            0 => 0,
            one_in => self.rng.round(count as f64 / f64::from(one_in)).min(count),
        };
        let mut cell = CellTick { reason: habit.reason, ..CellTick::default() };
        self.durations(&mut cell, count - slow, habit.median_ns, habit.spread);
        self.durations(&mut cell, slow, habit.slow_ns, 1);
        if let Some((reason, ns)) = habit.vmm {
            let mut user = CellTick { reason, ..CellTick::default() };
            self.durations(&mut user, count, ns, 2);
            cell.vmm_ns = user.total_ns;
            cells.insert(reason, user);
        }
        cells.insert(habit.reason, cell);
    }

    /// Adds exits whose handling times spread around a median.
    fn durations(&mut self, cell: &mut CellTick, count: u64, median_ns: u64, spread: u32) {
        let middle = bucket_of(median_ns) as i64;
        let reach = 4 * i64::from(spread);
        let steps = (-reach..=reach)
            .map(|step| (step, 0.5f64.powf(step.abs() as f64 * 1.5 / f64::from(spread))));
        let weight: f64 = steps.clone().map(|(_, weight)| weight).sum();
        let mut left = count;
        let mut buckets: BTreeMap<u8, u32> = cell.hist.iter().copied().collect();
        // The middle takes what rounding leaves, so that the count is exact.
        for (step, share) in steps.filter(|&(step, _)| step != 0).chain([(0, f64::INFINITY)]) {
            let wanted = count as f64 * share / weight;
            let n = if wanted.is_finite() { self.rng.round(wanted).min(left) } else { left };
            if n == 0 {
                continue;
            }
            left -= n;
            let bucket = (middle + step).clamp(0, BUCKETS as i64 - 2) as usize;
            let (lo, hi) = (bucket_lo(bucket).max(1), bucket_hi(bucket));
            let (a, b) = (self.rng.between(lo, hi), self.rng.between(lo, hi));
            let (a, b) = if n == 1 { (a, a) } else { (a.min(b), a.max(b)) };
            let untimed = buckets.is_empty();
            cell.min_ns = if untimed { a } else { cell.min_ns.min(a) };
            cell.max_ns = cell.max_ns.max(b);
            cell.total_ns += a + b * u64::from(n > 1) + n.saturating_sub(2) * a.midpoint(b);
            *buckets.entry(bucket as u8).or_default() += u32::try_from(n).unwrap_or(u32::MAX);
        }
        cell.count += count;
        cell.hist = buckets.into_iter().collect();
    }

    /// Where a vCPU's time went: what its exits took, and the rest by the VM's habits. Adds up.
    fn time(
        &mut self,
        plan: &VmPlan,
        dur_ns: u64,
        cells: &mut BTreeMap<Reason, CellTick>,
    ) -> PhaseTimes {
        let exits =
            || cells.values().filter(|cell| cell.reason.kind == crate::model::ids::Kind::Exit);
        let mut left = dur_ns;
        let mut part = |wanted: u64| {
            let part = wanted.min(left);
            left -= part;
            part
        };
        let mut time = PhaseTimes::default();
        time.0[Phase::Kvm as usize] = part(exits().map(|cell| cell.total_ns).sum());
        time.0[Phase::Vmm as usize] = part(exits().map(|cell| cell.vmm_ns).sum());
        let wait = plan.wait * (0.5 + self.rng.unit());
        time.0[Phase::Preempted as usize] = part((dur_ns as f64 * wait) as u64);
        if let Some(cell) = cells.values_mut().find(|cell| cell.reason.code == EPT_VIOLATION) {
            let asleep = part((dur_ns as f64 * plan.pages) as u64);
            time.0[Phase::KvmBlocked as usize] = asleep;
            cell.off_ns = asleep;
        }
        let exits =
            || cells.values().filter(|cell| cell.reason.kind == crate::model::ids::Kind::Exit);
        let free = dur_ns - time.sum();
        let idle = (plan.idle * (0.9 + 0.2 * self.rng.unit())).min(1.0);
        let halted =
            if exits().any(|cell| cell.reason.is_idle()) { free as f64 * idle } else { 0.0 };
        time.0[Phase::Blocked as usize] = part(halted as u64);
        time.0[Phase::Guest as usize] = left;
        for cell in cells.values_mut().filter(|cell| cell.reason.is_idle()) {
            cell.off_ns = time.get(Phase::Blocked);
        }
        time
    }
}
