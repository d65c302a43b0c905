//! Measurements for tests.

use super::{Diff, Side, diff};
use crate::model::ids::{Isa, Reason, VcpuKey, VmId};
use crate::model::session::{Host, ProbeStatus, Session};
use crate::model::testing::{cell, vcpu};
use crate::model::tick::{Life, Phase, PhaseTimes, Tick, VcpuInfo, VmInfo};
use crate::model::totals::Totals;
use crate::source::synth::names;

/// A second, ns.
pub const SECOND: u64 = 1_000_000_000;

/// VMs that do nothing, by name and pid. They started in the order of their pids.
pub struct Vms<'a>(pub &'a [(&'a str, u32)]);

impl Vms<'_> {
    /// A measurement that saw them.
    pub fn totals(&self) -> Totals {
        let life = self.0.iter().zip(1..).map(|(&(name, pid), id)| vm(id, name, pid)).collect();
        let mut totals = Totals::default();
        totals.apply(&Tick { seq: 1, end_ns: SECOND, dur_ns: SECOND, life, ..Tick::default() });
        totals
    }
}

fn vm(id: u32, name: &str, pid: u32) -> Life {
    Life::Vm(VmInfo {
        id: VmId(id),
        pid,
        name: name.to_owned(),
        vmm: "qemu".to_owned(),
        started_unix_ns: u64::from(pid),
        nth: 0,
    })
}

/// A side without more.
pub fn side<'a>(session: &'a Session, totals: &'a Totals) -> Side<'a> {
    Side::new("", session, totals)
}

/// The session of one of the two measurements.
pub fn session(kernel: &str, families: &[&str]) -> Session {
    let probe = |family: &&str| ProbeStatus {
        name: format!("kvm:{family}"),
        family: (*family).to_owned(),
        attached: true,
        why: None,
        how: "tracepoint".to_owned(),
    };
    Session {
        host: Host {
            name: "db-42".to_owned(),
            kernel: kernel.to_owned(),
            backend: "vmx".to_owned(),
            cpus: 16,
        },
        names: names(),
        probes: families.iter().map(probe).collect(),
        started_ns: 10 * SECOND,
        started_unix_ns: 1_700_000_000 * SECOND,
        ..Session::default()
    }
}

/// Where a second of a vCPU goes: parts of a thousand.
pub type Parts = &'static [(Phase, u64)];

/// One vCPU's second: its reasons with how often and how long (ns), and where its time goes.
pub struct Second {
    /// VM and vCPU.
    pub who: (u32, u32),
    /// Reason, exits, ns of each.
    pub cells: Vec<(Reason, usize, u64)>,
    /// Time.
    pub parts: Parts,
}

/// So many seconds like these, of these VMs.
pub fn measured(seconds: u64, vms: &[(u32, &str, u32)], each: &[Second]) -> Totals {
    let mut totals = Totals::default();
    for seq in 1..=seconds {
        let mut life: Vec<Life> = Vec::new();
        if seq == 1 {
            life.extend(vms.iter().map(|&(id, name, pid)| vm(id, name, pid)));
            life.extend(each.iter().map(|second| {
                let key = VcpuKey { vm: VmId(second.who.0), vcpu: second.who.1 };
                let tid = 4_700 + second.who.0 * 100 + second.who.1;
                Life::Vcpu(VcpuInfo { key, tid, guessed: false })
            }));
        }
        let mut vcpus: Vec<_> = each
            .iter()
            .map(|second| {
                let cells = second.cells.iter().map(|&(reason, n, ns)| {
                    // Two sizes, so that there is something to see in a histogram.
                    let mut times = vec![ns; n - n / 10];
                    times.extend(vec![ns * 6; n / 10]);
                    cell(reason, &times)
                });
                let mut tick = vcpu(second.who.0, second.who.1, 0, cells.collect());
                tick.cells.sort_by_key(|cell| cell.reason);
                let mut time = PhaseTimes::default();
                for &(phase, thousandths) in second.parts {
                    time.0[phase as usize] = thousandths * SECOND / 1_000;
                }
                tick.time = time;
                tick
            })
            .collect();
        vcpus.sort_by_key(|vcpu| vcpu.key);
        let end_ns = (10 + seq) * SECOND;
        totals.apply(&Tick { seq, end_ns, dur_ns: SECOND, life, vcpus, ..Tick::default() });
    }
    totals
}

/// A VMX exit reason.
pub fn vmx(code: u32) -> Reason {
    Reason::exit(Isa::Vmx, code)
}

const BUSY: Parts = &[
    (Phase::Guest, 540),
    (Phase::Kvm, 260),
    (Phase::Vmm, 60),
    (Phase::Polling, 40),
    (Phase::Blocked, 100),
];
const CALM: Parts =
    &[(Phase::Guest, 810), (Phase::Kvm, 60), (Phase::Vmm, 10), (Phase::Blocked, 120)];
const STOLEN: Parts =
    &[(Phase::Guest, 500), (Phase::Kvm, 30), (Phase::Preempted, 370), (Phase::Blocked, 100)];
const IDLE: Parts = &[(Phase::Guest, 20), (Phase::Blocked, 980)];

/// A host before something was done about it, and after: a VM that got faster, one that lost its CPU, one that does
/// nothing new, one that went and one that came.
pub fn sample() -> ((Session, Totals), (Session, Totals)) {
    let (write, hlt, io, misconfig) = (vmx(32), vmx(12), vmx(30), vmx(49));
    let second = |who, cells, parts| Second { who, cells, parts };
    let before = [
        second(
            (1, 0),
            vec![
                (write, 900, 1_100),
                (misconfig, 400, 90_000),
                (io, 40, 2_000),
                (Reason::userspace(2), 40, 60_000),
                (hlt, 50, 4_000),
            ],
            BUSY,
        ),
        second((1, 1), vec![(write, 300, 1_100), (hlt, 60, 4_000)], CALM),
        second((2, 0), vec![(vmx(1), 220, 1_500), (vmx(48), 12, 9_000)], CALM),
        second((3, 0), vec![(hlt, 10, 3_000)], IDLE),
        second((4, 0), vec![(vmx(10), 10, 900)], CALM),
    ];
    let after = [
        second(
            (1, 0),
            vec![
                (write, 880, 1_150),
                (misconfig, 30, 88_000),
                (vmx(52), 70, 800),
                (hlt, 50, 4_000),
            ],
            CALM,
        ),
        second((1, 1), vec![(write, 310, 1_100), (hlt, 60, 4_000)], CALM),
        second((2, 0), vec![(vmx(1), 640, 1_900), (vmx(48), 12, 9_000)], STOLEN),
        second((3, 0), vec![(hlt, 10, 3_000)], IDLE),
        second((5, 0), vec![(vmx(10), 10, 900)], CALM),
    ];
    let vms = [(1, "web-7", 4701), (2, "db-1", 4702), (3, "idle-win", 4703)];
    let with = |id, name, pid| [vms.as_slice(), &[(id, name, pid)]].concat();
    let families = ["exit", "userspace", "sched", "halt-poll"];
    (
        (session("6.12.8", &families), measured(60, &with(4, "ci-9", 4704), &before)),
        (
            session("6.12.9", &["exit", "userspace", "sched", "halt-poll", "detail"]),
            measured(30, &with(5, "ci-10", 4705), &after),
        ),
    )
}

/// What changed between them.
pub fn sample_diff() -> Diff {
    let ((a, before), (b, after)) = sample();
    let sides =
        (Side::new("before.kvmscope", &a, &before), Side::new("after.kvmscope", &b, &after));
    diff(&sides.0, &sides.1, &[]).expect("no wishes")
}
