//! What invented exits were about, who took the CPU, and what VMs do beside.

use super::plan::{Habit, VmPlan};
use super::rng::Rng;
use crate::model::detail::{CulpritTick, Halts, KeyClass, KeyId, KeyTick, Outlier, VmTick};
use crate::model::ids::{Kind, Reason, VcpuKey, VmId};
use crate::model::tick::{CellTick, Phase, PhaseTimes, Tick, VcpuTick};

/// Handling times from which on an invented exit is an outlier, ns.
const SLOW_NS: u64 = 200_000;
/// Outliers of a tick; more are left out.
const MAX_OUTLIERS: usize = 12;

/// A VM that is there: number, process, name of the process.
pub(super) type There = (VmId, u32, &'static str);

/// Threads of the host that are no VM's: name, cgroup, share of what vCPUs wait for.
const HOSTS: [(u32, &str, &str, f64); 3] = [
    (2_117, "cc1", "/user.slice/build.scope", 0.45),
    (1_402, "ksmd", "", 0.1),
    (88, "kworker/3:1", "", 0.05),
];

/// What the exits of one cell were about: each kind of key apart adds up to all of them.
pub(super) fn keys(habit: &Habit, cell: &CellTick, into: &mut Vec<KeyTick>) {
    for about in [&habit.things, &habit.pages, &habit.rips, &habit.faults] {
        let Some(&(class, _, _)) = about.first() else { continue };
        let whole: f64 = about.iter().map(|(_, _, weight)| weight).sum();
        let part = |n: u64, weight: f64| (n as f64 * weight / whole) as u64;
        let mut left = [cell.count, cell.timed(), cell.total_ns, cell.vmm_ns];
        let wall_ns = cell.total_ns.saturating_add(cell.vmm_ns);
        let mean_ns = wall_ns.checked_div(cell.timed()).unwrap_or(0);
        for (nth, &(_, value, weight)) in about.iter().enumerate() {
            let is_last = nth + 1 == about.len();
            let wanted = [cell.count, cell.timed(), cell.total_ns, cell.vmm_ns];
            let mut share = [0; 4];
            for ((share, wanted), left) in share.iter_mut().zip(wanted).zip(&mut left) {
                *share = if is_last { *left } else { part(wanted, weight).min(*left) };
                *left -= *share;
            }
            let [count, timed, total_ns, vmm_ns] = share;
            if count == 0 && timed == 0 {
                continue;
            }
            let id = KeyId { reason: value.map(|_| habit.reason), class, value };
            into.push(match value {
                Some(_) => {
                    let max_ns =
                        if nth == 0 { cell.max_ns.max(mean_ns) } else { mean_ns } + mean_ns;
                    KeyTick { id, count, timed, total_ns, off_ns: 0, vmm_ns, max_ns }
                }
                None => {
                    let total_ns = total_ns + vmm_ns;
                    KeyTick { id, count, timed, total_ns, ..KeyTick::default() }
                }
            });
        }
    }
}

/// Wake-ups of a vCPU's halts, and the polling before them, taken out of its handling time.
pub(super) fn halts(
    plan: &VmPlan,
    cells: &[CellTick],
    time: &mut PhaseTimes,
    rng: &mut Rng,
) -> Halts {
    let mut halts = Halts::default();
    for cell in cells.iter().filter(|c| c.reason.is_idle() && c.reason.kind == Kind::Exit) {
        let polled = rng.round(cell.timed() as f64 * plan.polls).min(cell.timed());
        halts.add(&Halts { polled, waited: cell.timed() - polled });
        time.shift(Phase::Kvm, Phase::Polling, (cell.total_ns as f64 * plan.polls * 0.9) as u64);
    }
    halts
}

/// Who ran while a vCPU waited for its CPU.
pub(super) fn culprits(
    key: VcpuKey,
    wait_ns: u64,
    there: &[There],
    rng: &mut Rng,
) -> Vec<CulpritTick> {
    let mut left = wait_ns;
    let mut culprits = Vec::new();
    for &(pid, comm, cgroup, share) in &HOSTS {
        let ns = ((wait_ns as f64 * share * rng.unit()) as u64).min(left);
        left -= ns;
        let (comm, cgroup) = (comm.to_owned(), cgroup.to_owned());
        let count = ns / 400_000 + 1;
        culprits.push(CulpritTick { pid, tid: pid, comm, vm: None, cgroup, ns, count });
    }
    let others: Vec<&There> = there.iter().filter(|(id, ..)| *id != key.vm).collect();
    if let Some((id, pid, vmm)) = others.get(key.vcpu as usize % others.len().max(1)) {
        culprits.push(CulpritTick {
            pid: *pid,
            tid: pid + 3,
            comm: if *vmm == "qemu" { "CPU 0/KVM".to_owned() } else { "fc_vcpu 0".to_owned() },
            vm: Some(*id),
            cgroup: format!("/machine.slice/vm-{}.scope", id.0),
            ns: left,
            count: left / 700_000 + 1,
        });
    }
    culprits.retain(|culprit| culprit.ns > 0);
    culprits.sort_by_key(|culprit| std::cmp::Reverse(culprit.ns));
    culprits
}

/// Slow exits of a vCPU, into the tick.
pub(super) fn outliers(plan: &VmPlan, vcpu: &VcpuTick, rng: &mut Rng, tick: &mut Tick) {
    for habit in plan.habits.iter().filter(|h| h.slow_one_in > 0 && h.slow_ns >= SLOW_NS) {
        let slow = vcpu.cells.iter().filter(|cell| cell.reason == habit.reason);
        let count: u64 = slow.map(CellTick::timed).sum();
        for _ in 0..rng.round(count as f64 / f64::from(habit.slow_one_in)) {
            let wall_ns = rng.between(habit.slow_ns, habit.slow_ns * 2);
            if tick.outliers.len() >= MAX_OUTLIERS {
                tick.outliers_left_out += 1;
                continue;
            }
            let preempted = rng.unit() < 0.3;
            let handling_ns = rng.between(2_000, 30_000);
            let away_ns = wall_ns - handling_ns.min(wall_ns);
            let about = habit.things.first().or(habit.pages.first());
            tick.outliers.push(Outlier {
                key: vcpu.key,
                end_ns: tick.end_ns - rng.between(0, tick.dur_ns),
                reason: habit.reason,
                about: about.and_then(|&(class, value, _)| Some((class, value?))),
                rip: habit.rips.first().and_then(|(_, rip, _)| *rip).unwrap_or(0),
                handling_ns,
                asleep_ns: if preempted { 0 } else { away_ns },
                wait_ns: if preempted { away_ns } else { 0 },
                cpu: vcpu.cpu,
                by: preempted.then(|| (2_117, "cc1".to_owned())),
                ..Outlier::default()
            });
        }
    }
}

/// What a VM did beside.
pub(super) fn beside(plan: &VmPlan, (id, pid, _): There, dur_ns: u64, rng: &mut Rng) -> VmTick {
    let names = match plan.vmm {
        "qemu" => ["qemu-system-x86", "IO iothread1", "vhost-"],
        "firecracker" => ["firecracker", "fc_api", ""],
        _ => ["vmm", "virtio_blk", ""],
    };
    let mut threads: Vec<(u32, String, u64)> = Vec::new();
    for (nth, name) in (0..).zip(names).filter(|(_, name)| !name.is_empty()) {
        let share = plan.beside * [0.1, 0.6, 0.3][nth as usize % 3] * (0.8 + 0.4 * rng.unit());
        let name = if name == "vhost-" { format!("vhost-{pid}") } else { name.to_owned() };
        threads.push((pid + nth, name, (dur_ns as f64 * share) as u64));
    }
    threads.sort_by_key(|&(_, _, ns)| std::cmp::Reverse(ns));
    let ioctls = super::events::ioctls(plan, dur_ns, rng);
    let throttled = |share: f64| (dur_ns as f64 * share * (0.5 + rng.unit())) as u64;
    VmTick {
        id,
        over_ns: dur_ns,
        others_ns: threads.iter().map(|&(_, _, ns)| ns).sum(),
        threads,
        ioctls,
        apicv_inhibits: Some(0),
        throttled_ns: plan.throttled.map(throttled),
    }
}

/// Sorted by id, one of each.
pub(super) fn sorted(mut keys: Vec<KeyTick>) -> Vec<KeyTick> {
    keys.sort_by_key(|key| key.id);
    keys.dedup_by(|key, kept| {
        let same = key.id == kept.id;
        if same {
            kept.count += key.count;
            kept.timed += key.timed;
            kept.total_ns += key.total_ns;
            kept.vmm_ns += key.vmm_ns;
            kept.max_ns = kept.max_ns.max(key.max_ns);
        }
        same
    });
    keys
}

/// A kind of keys: class, value (`None` is "other") and weight of each.
pub(super) type Abouts = Vec<(KeyClass, Option<u64>, f64)>;

/// The keys that the plan's habits have by their exit code, as on a PC of QEMU's.
pub(super) fn usual(reason: Reason) -> (Abouts, Abouts, Abouts) {
    let of = |class: KeyClass, list: &[(u64, f64)]| -> Abouts {
        list.iter().map(|&(value, weight)| (class, Some(value), weight)).collect()
    };
    let rips = |list: &[(u64, f64)]| of(KeyClass::Rip, list);
    let rest = |mut abouts: Abouts, weight: f64| {
        if let Some(&(class, _, _)) = abouts.first() {
            abouts.push((class, None, weight));
        }
        abouts
    };
    match (reason.kind, reason.code) {
        (Kind::Userspace, _) => Default::default(),
        (_, 32) => (
            // TSC_DEADLINE, ICR, EOI of the x2APIC, KVM's system time.
            of(
                KeyClass::MsrWrite,
                &[(0x6e0, 70.0), (0x830, 22.0), (0x80b, 6.0), (0x4b56_4d01, 1.0)],
            ),
            Vec::new(),
            rips(&[(0xffff_ffff_8108_6f34, 90.0), (0xffff_ffff_8106_2c1a, 10.0)]),
        ),
        (_, 31) => (
            of(KeyClass::MsrRead, &[(0x1b, 50.0), (0xc001_0015, 30.0), (0xce, 20.0)]),
            Vec::new(),
            rips(&[(0xffff_ffff_8108_6ed2, 1.0)]),
        ),
        (_, 10) => (
            of(KeyClass::Cpuid, &[(0x1, 50.0), (0x1_0000_000d, 30.0), (0x4000_0000, 20.0)]),
            Vec::new(),
            rips(&[(0x0000_7f31_9c41_2e07, 1.0)]),
        ),
        (_, 30) => (
            // The PM timer, the serial port, the bus master of IDE, the RTC.
            of(KeyClass::PortIn, &[(0x608, 60.0), (0x3fd, 25.0), (0xc040, 10.0), (0x71, 5.0)]),
            Vec::new(),
            rips(&[(0xffff_ffff_8164_a0c1, 60.0), (0xffff_ffff_8170_33b8, 40.0)]),
        ),
        (_, 49) => (
            // Doorbells of virtio devices.
            of(KeyClass::MmioFast, &[(0xfebf_d000, 55.0), (0xfebf_d004, 40.0), (0xfee0_0300, 5.0)]),
            Vec::new(),
            rips(&[(0xffff_ffff_c02a_11d7, 1.0)]),
        ),
        (_, 48) => {
            let pages = (0..6).map(|n| (0x1_3a40_0000 + (n * 0x20_1000), 30.0 / (n + 1) as f64));
            let pages: Vec<(u64, f64)> = pages.collect();
            let rip = rips(&[(0xffff_ffff_8139_87c0, 60.0), (0x0000_55d2_1f40_12aa, 25.0)]);
            (Vec::new(), rest(of(KeyClass::Page, &pages), 150.0), rest(rip, 15.0))
        }
        (_, 28) => {
            (of(KeyClass::CrWrite, &[(3, 80.0), (0, 15.0), (4, 5.0)]), Vec::new(), Vec::new())
        }
        (_, 1) => (
            // Vector and type: the host's timer, its disk and a function call from another CPU.
            of(KeyClass::Vector, &[(0xec, 80.0), (0x23, 12.0), (0xfb, 8.0)]),
            Vec::new(),
            rips(&[(0x0000_55d2_1f40_0417, 40.0), (0xffff_ffff_81a4_d2f0, 60.0)]),
        ),
        _ => Default::default(),
    }
}
