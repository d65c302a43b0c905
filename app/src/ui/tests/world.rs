//! An invented host, the same on every run: for snapshots.

pub mod keys;
pub mod memory;
pub mod signals;
pub mod time;

use crate::model::{
    ids::{Isa, Reason, VcpuKey, VmId},
    session::{Host, Origin, ProbeStatus, ReasonNames, Session},
    tick::{
        CellTick, HostTick, Life, Lost, OpenExit, Phase, PhaseTimes, Tick, VcpuInfo, VcpuTick,
        VmInfo,
    },
};
use kvmscope_shared::hist::{BUCKETS, bucket_hi, bucket_lo, bucket_mid, bucket_of};
use std::collections::BTreeMap;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_000 * SECOND;
/// 12:30:00 UTC.
const START_UNIX: u64 = 1_764_506_000 * SECOND - 1_764_506_000 % 86_400 * SECOND + 45_000 * SECOND;

/// The session before the first tick.
pub fn session() -> Session {
    let names = |list: &[(u32, &str)]| -> BTreeMap<u32, String> {
        list.iter().map(|&(code, name)| (code, name.to_owned())).collect()
    };
    let probe = |name: &str, family: &str| ProbeStatus {
        name: name.to_owned(),
        family: family.to_owned(),
        attached: true,
        why: None,
        how: "tracepoint".to_owned(),
    };
    Session {
        origin: Origin::Live,
        host: Host {
            name: "db-42".to_owned(),
            kernel: "6.12.8".to_owned(),
            backend: "vmx".to_owned(),
            cpus: 64,
        },
        apicv: Some(true),
        apicv_reasons: names(&[(2, "ABSENT"), (8, "IRQWIN")]),
        names: ReasonNames {
            vmx: names(&[
                (0, "EXCEPTION_NMI"),
                (1, "EXTERNAL_INTERRUPT"),
                (10, "CPUID"),
                (12, "HLT"),
                (18, "VMCALL"),
                (28, "CR_ACCESS"),
                (30, "IO_INSTRUCTION"),
                (31, "MSR_READ"),
                (32, "MSR_WRITE"),
                (40, "PAUSE_INSTRUCTION"),
                (48, "EPT_VIOLATION"),
                (49, "EPT_MISCONFIG"),
                (52, "PREEMPTION_TIMER"),
            ]),
            svm: BTreeMap::new(),
            userspace: names(&[(2, "IO"), (5, "HLT"), (6, "MMIO"), (10, "INTR")]),
        },
        probes: vec![
            probe("kvm:kvm_exit", "exit"),
            probe("kvm:kvm_entry", "exit"),
            probe("kvm:kvm_userspace_exit", "userspace"),
            probe("sched:sched_switch", "sched"),
        ],
        notices: Vec::new(),
        started_ns: START,
        started_unix_ns: START_UNIX,
    }
}

/// What a guest does: (reason, exits per second and vCPU, handling time in ns).
type Habit = (Reason, u64, u64);

fn habits() -> [Vec<Habit>; 4] {
    let vmx = |code| Reason::exit(Isa::Vmx, code);
    let user = Reason::userspace;
    [
        vec![
            (vmx(1), 1_000, 1_100),
            (vmx(10), 2, 900),
            (vmx(12), 1_200, 210_000),
            (vmx(30), 5, 9_000),
            (vmx(32), 9_200, 1_200),
            (vmx(48), 80, 2_600),
            (user(2), 5, 42_000),
        ],
        vec![
            (vmx(1), 250, 1_500),
            (vmx(12), 140, 900_000),
            (vmx(30), 550, 21_000),
            (vmx(31), 30, 800),
            (vmx(32), 390, 1_300),
            (vmx(40), 14, 3_100),
            (vmx(49), 1_300, 2_000),
            (vmx(52), 100, 1_000),
            (user(2), 550, 64_000),
            (user(6), 130, 2_300_000),
        ],
        vec![
            (vmx(1), 2_200, 1_000),
            (vmx(48), 700, 3_300),
            (vmx(18), 60, 1_800),
            (vmx(0x99), 3, 700),
        ],
        vec![(vmx(12), 40, 9_000_000), (vmx(1), 8, 1_700), (vmx(28), 2, 900), (user(10), 1, 7_000)],
    ]
}

const NAMES: [(&str, &str, u32); 5] = [
    ("web-7", "qemu", 8),
    ("db-1", "qemu", 16),
    ("build-3", "firecracker", 4),
    ("idle-win", "qemu", 4),
    ("b\u{fc}ro \u{65e5}\u{672c} with a very long name\x1b[2J", "cloud-hyper", 2),
];

/// Numbers that look random and never change.
struct Dice(u64);

impl Dice {
    /// Between `lo` and `hi` percent of `n`.
    fn about(&mut self, n: u64, lo: u64, hi: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        n * (lo + (self.0 >> 33) % (hi - lo + 1)) / 100
    }
}

/// The host with so many VMs.
pub struct World {
    vms: usize,
    dice: Dice,
    seq: u64,
}

impl World {
    /// Before its first tick.
    pub fn new(vms: usize) -> Self {
        Self { vms, dice: Dice(7), seq: 0 }
    }

    fn vm(i: usize) -> (String, &'static str, u32) {
        let (name, vmm, vcpus) = NAMES[i % NAMES.len()];
        if i < NAMES.len() {
            (name.to_owned(), vmm, vcpus)
        } else {
            (format!("{}-{i}", name.split(' ').next().unwrap_or(name)), vmm, vcpus)
        }
    }

    /// The next second. The fourth VM goes away in the fiftieth.
    pub fn tick(&mut self) -> Tick {
        self.seq += 1;
        let end_ns = START + self.seq * SECOND;
        let mut tick = Tick {
            seq: self.seq,
            end_ns,
            dur_ns: SECOND,
            lost: Lost::default(),
            host: HostTick {
                steal_ns: 2 * SECOND,
                own_cpu_ns: 7_000_000,
                probes: (self.seq % 60 == 5).then_some((15_000_000, 180_000)),
            },
            ..Tick::default()
        };
        for i in 0..self.vms {
            let (name, vmm, vcpus) = Self::vm(i);
            let id = VmId(i as u32 + 1);
            let gone = i == 3 && self.seq >= 50;
            if self.seq == 1 {
                tick.life.push(Life::Vm(VmInfo {
                    id,
                    pid: 4_000 + i as u32 * 17,
                    name,
                    vmm: vmm.to_owned(),
                    started_unix_ns: START_UNIX - 3_600 * SECOND,
                    nth: 0,
                }));
            }
            if i == 3 && self.seq == 50 {
                tick.life.push(Life::VmGone(id, end_ns - SECOND / 2));
            }
            for vcpu in 0..vcpus {
                let key = VcpuKey { vm: id, vcpu };
                if self.seq == 1 {
                    let tid = 4_010 + i as u32 * 40 + vcpu;
                    tick.life.push(Life::Vcpu(VcpuInfo { key, tid, guessed: false }));
                }
                if !gone {
                    tick.vcpus.push(self.vcpu(key, i));
                }
            }
        }
        tick
    }

    fn vcpu(&mut self, key: VcpuKey, vm: usize) -> VcpuTick {
        let seq = self.seq;
        // A VM in four gets noisy for a while; a vCPU in five does little.
        let noise = if vm.is_multiple_of(4) && (25..40).contains(&(seq % 60)) { 3 } else { 1 };
        let lazy = if key.vcpu % 5 == 3 { 20 } else { 1 };
        let mut cells: Vec<CellTick> = habits()[vm % 4]
            .iter()
            .map(|&(reason, rate, ns)| {
                let count = self.dice.about(rate * noise / lazy, 85, 115);
                let count =
                    if rate < 10 { u64::from((seq + rate).is_multiple_of(3)) } else { count };
                cell(reason, count, self.dice.about(ns, 95, 105))
            })
            .filter(|cell| cell.count > 0)
            .collect();
        cells.sort_by_key(|cell| cell.reason);
        let handling: u64 = cells
            .iter()
            .filter(|c| !c.reason.is_idle())
            .map(|c| c.total_ns)
            .sum::<u64>()
            .min(SECOND / 4);
        let idle = if vm == 3 { SECOND * 8 / 10 } else { SECOND / 4 / lazy.min(3) };
        let wait = self.dice.about(SECOND / 12, 10, 100);
        let vmm = SECOND / 40;
        let guest = SECOND - handling - idle - wait - vmm;
        let phase = match (seq + u64::from(key.vcpu)) % 5 {
            0 => Phase::Kvm,
            1 => Phase::Blocked,
            2 => Phase::Preempted,
            _ => Phase::Guest,
        };
        let end = START + seq * SECOND;
        let open = (phase == Phase::Blocked).then(|| OpenExit {
            reason: Reason::exit(Isa::Vmx, 12),
            begun_ns: end - 3_000_000,
            rip: 0xffff_ffff_8100_1234,
            info1: 0,
            info2: 0,
        });
        VcpuTick {
            key,
            cpu: (key.vcpu * 7 + vm as u32 * 3) % 64,
            phase,
            since_ns: end - 3_000_000,
            open,
            time: PhaseTimes([0, guest, handling, vmm, wait, idle, 0, 0, 0]),
            cells,
            ..VcpuTick::default()
        }
    }
}

/// Exits of one reason around a handling time, with a tail.
fn cell(reason: Reason, count: u64, ns: u64) -> CellTick {
    let middle = bucket_of(ns);
    let mut left = count;
    let mut hist = Vec::new();
    for (up, per_mille) in [(0, 0), (1, 240), (2, 90), (5, 25), (11, 8), (24, 1)] {
        let n = count * per_mille / 1000;
        hist.push(((middle + up).min(BUCKETS - 2) as u8, n as u32));
        left -= n;
    }
    hist[0].1 = left as u32;
    hist.retain(|&(_, n)| n > 0);
    let total = |h: &[(u8, u32)]| h.iter().map(|&(b, n)| bucket_mid(b.into()) * u64::from(n)).sum();
    let low = hist.first().map_or(0, |&(b, _)| bucket_lo(b.into()));
    let high = hist.last().map_or(0, |&(b, _)| bucket_hi(b.into()) - 1);
    CellTick {
        reason,
        flags: 0,
        count,
        total_ns: total(&hist),
        off_ns: if reason.is_idle() { total(&hist) / 2 } else { 0 },
        vmm_ns: if reason.code == 30 { total(&hist) } else { 0 },
        min_ns: low,
        max_ns: high,
        hist,
    }
}
