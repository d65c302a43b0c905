//! A small session for tests of reports.

use crate::model::ids::{Isa, Reason, VcpuKey, VmId};
use crate::model::session::{Host, ProbeStatus, Session};
use crate::model::testing::{cell, vcpu};
use crate::model::tick::{Life, Lost, OpenExit, Phase, Tick, VcpuInfo, VmInfo};
use crate::model::totals::Totals;
use crate::source::synth::names;

const SECOND: u64 = 1_000_000_000;

/// Three seconds of two VMs; one has a name that plays tricks and ended.
pub fn sample() -> (Session, Totals) {
    let probe = |name: &str, attached, why: Option<&str>| ProbeStatus {
        name: name.to_owned(),
        family: "exit".to_owned(),
        attached,
        why: why.map(str::to_owned),
        how: "tracepoint".to_owned(),
    };
    let session = Session {
        host: Host {
            name: "db-42".to_owned(),
            kernel: "6.12.8".to_owned(),
            backend: "vmx".to_owned(),
            cpus: 16,
        },
        names: names(),
        probes: vec![
            probe("kvm:kvm_exit", true, None),
            probe("kvm:kvm_userspace_exit", false, Some("The kernel has no such tracepoint.")),
        ],
        notices: vec!["kvm_exit is silent on this backend.".to_owned()],
        started_ns: 10 * SECOND,
        started_unix_ns: 1_700_000_000 * SECOND,
        ..Session::default()
    };
    let mut totals = Totals::default();
    for seq in 1..=3 {
        totals.apply(&tick(seq));
    }
    (session, totals)
}

fn tick(seq: u64) -> Tick {
    let (hlt, write) = (Reason::exit(Isa::Vmx, 12), Reason::exit(Isa::Vmx, 32));
    let io = Reason::exit(Isa::Vmx, 30);
    let end_ns = (10 + seq) * SECOND;
    let mut first = vcpu(1, 0, SECOND, Vec::new());
    first.cells = match seq {
        1 => vec![cell(write, &[900, 1200, 88_000]), cell(Reason::userspace(2), &[40_000])],
        2 => vec![cell(hlt, &[2_000, 3_000])],
        _ => vec![cell(hlt, &[])],
    };
    if let Some(cell) = first.cells.iter_mut().find(|cell| seq == 3 && cell.reason == hlt) {
        cell.count = 1;
        first.phase = Phase::Blocked;
        first.open =
            Some(OpenExit { reason: hlt, begun_ns: end_ns - SECOND / 4, ..OpenExit::default() });
    }
    let mut second = vcpu(2, 5, SECOND, Vec::new());
    second.open = Some(OpenExit { reason: io, begun_ns: 10 * SECOND, ..OpenExit::default() });
    let vm = |id, name: &str| {
        Life::Vm(VmInfo {
            id: VmId(id),
            pid: 4700 + id,
            name: name.to_owned(),
            vmm: "qemu".to_owned(),
            started_unix_ns: 1_699_999_000 * SECOND,
            nth: 0,
        })
    };
    let of = |vm, vcpu, tid| {
        Life::Vcpu(VcpuInfo { key: VcpuKey { vm: VmId(vm), vcpu }, tid, guessed: vm == 2 })
    };
    let life = match seq {
        1 => vec![vm(1, "web-7"), vm(2, "evil\u{1b}[2J"), of(1, 0, 4711), of(2, 5, 4722)],
        3 => vec![Life::VmGone(VmId(2), 12 * SECOND + SECOND / 2)],
        _ => Vec::new(),
    };
    let lost = Lost { pool_full: if seq == 2 { 7 } else { 0 }, ..Lost::default() };
    let vcpus = vec![first, second];
    Tick { seq, end_ns, dur_ns: SECOND, lost, life, vcpus, ..Tick::default() }
}
