//! Where the time of the invented host goes closely: polling, halts, who took CPUs, slow exits, what
//! VMMs do beside their vCPUs.

use super::{NAMES, SECOND};
use crate::model::{
    detail::{CulpritTick, Halts, KeyClass, Outlier, OutlierLimits, VmTick},
    ids::{Isa, Reason, VmId},
    session::{ProbeStatus, Session},
    tick::{Phase, Tick, VcpuTick},
};

/// The limits that its slow exits are over.
pub fn limits() -> OutlierLimits {
    let io = Reason::exit(Isa::Vmx, 30);
    OutlierLimits { all_ns: Some(1_000_000), reasons: vec![(io, Some(5_000_000))] }
}

/// A session in which it is watched who takes CPUs.
pub fn watched(mut session: Session) -> Session {
    session.probes.push(ProbeStatus {
        name: "sched:sched_wakeup".to_owned(),
        family: "culprits".to_owned(),
        attached: true,
        why: None,
        how: "raw tracepoint".to_owned(),
    });
    session
}

/// Adds it to a tick of the world.
pub fn add(tick: &mut Tick, culprits: bool) {
    let (seq, end_ns) = (tick.seq, tick.end_ns);
    for vcpu in &mut tick.vcpus {
        divide(vcpu);
        if culprits {
            vcpu.culprits = taken(vcpu);
        }
    }
    let mut vms: Vec<VmId> = tick.vcpus.iter().map(|vcpu| vcpu.key.vm).collect();
    vms.dedup();
    tick.vms = vms.into_iter().map(beside).collect();
    // One VM has slow exits, in every fourth second too many of them.
    let slow = tick.vcpus.iter().filter(|vcpu| vcpu.key.vm == VmId(2) && vcpu.key.vcpu < 3);
    tick.outliers = slow.map(|vcpu| outlier(vcpu, seq, end_ns)).collect();
    tick.outliers_left_out = if seq.is_multiple_of(4) { 7 } else { 0 };
}

/// Divides the halted time and the VMM's more closely; what it adds up to stays.
fn divide(vcpu: &mut VcpuTick) {
    let take = |vcpu: &mut VcpuTick, from: Phase, to: Phase, percent: u64| {
        let ns = vcpu.time.get(from) * percent / 100;
        vcpu.time.0[from as usize] -= ns;
        vcpu.time.0[to as usize] += ns;
    };
    // The second VM waits, the fifth idles.
    let (waits, idle) = (vcpu.key.vm == VmId(2), vcpu.key.vm == VmId(5));
    take(
        vcpu,
        Phase::Guest,
        Phase::Preempted,
        if waits { 10 + 5 * u64::from(vcpu.key.vcpu % 4) } else { 0 },
    );
    take(vcpu, Phase::Guest, Phase::Blocked, if idle { 97 } else { 0 });
    take(vcpu, Phase::Blocked, Phase::Polling, if idle { 60 } else { 15 });
    take(vcpu, Phase::Vmm, Phase::VmmBlocked, 30);
    take(vcpu, Phase::Kvm, Phase::KvmBlocked, 4);
    take(vcpu, Phase::Guest, Phase::Unknown, u64::from(vcpu.key.vcpu == 1));
    if vcpu.time.get(Phase::Blocked) > 0 {
        let wakes = if idle { 900 } else { 1_200 };
        vcpu.halts = Halts { polled: wakes * 3 / 4, waited: wakes / 4 };
    }
}

fn taken(vcpu: &VcpuTick) -> Vec<CulpritTick> {
    let waited = vcpu.time.get(Phase::Preempted);
    let one = |pid, comm: &str, vm, cgroup: &str, percent| CulpritTick {
        pid,
        tid: pid + 1,
        comm: comm.to_owned(),
        vm,
        cgroup: cgroup.to_owned(),
        ns: waited * percent / 100,
        count: 40 * percent,
    };
    let other = if vcpu.key.vm == VmId(1) { VmId(2) } else { VmId(1) };
    let pid = 4_000 + (other.0 - 1) * 17;
    let scope = "/machine.slice/machine-qemu\\x2d1\\x2d.scope";
    vec![
        one(pid, "CPU 3/KVM", Some(other), scope, 61),
        one(812, "kworker/3:1\x1b[2J", None, "", 14),
        one(2_201, "backup", None, "/system.slice/backup.service", 9),
        one(0, "", None, "", 3),
    ]
}

fn beside(id: VmId) -> VmTick {
    let n = u64::from(id.0);
    let threads = vec![
        (5_000 + id.0, "IO iothread1".to_owned(), 61_000_000 * n % 300_000_000),
        (6_000 + id.0, format!("vhost-{}", NAMES.len()), 9_000_000),
    ];
    let others_ns = threads.iter().map(|(.., ns)| ns).sum();
    let throttled_ns = (id == VmId(3)).then_some(SECOND / 9);
    VmTick { id, over_ns: SECOND, others_ns, threads, throttled_ns, ..VmTick::default() }
}

fn outlier(vcpu: &VcpuTick, seq: u64, end_ns: u64) -> Outlier {
    let io = (seq + u64::from(vcpu.key.vcpu)).is_multiple_of(2);
    let number = u64::from(vcpu.key.vcpu);
    Outlier {
        key: vcpu.key,
        end_ns: end_ns - (900 - 250 * number) * 1_000_000,
        reason: Reason::exit(Isa::Vmx, if io { 30 } else { 48 }),
        about: io.then_some((KeyClass::PortIn, 0x608)),
        rip: 0xffff_ffff_8123_4567 + number * 64,
        handling_ns: 9_000 + seq * 10,
        asleep_ns: if io { 0 } else { 1_900_000 },
        wait_ns: 310_000 * number,
        vmm_ns: if io { 6_200_000 } else { 0 },
        cpu: vcpu.cpu,
        by: (number > 0).then(|| (4_050, "CPU 1/KVM".to_owned())),
        ..Outlier::default()
    }
}
