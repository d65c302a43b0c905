//! A small session for tests of reports.

mod interrupts;
mod memory;

pub use interrupts::{INTERRUPTED_NS, interrupted};
pub use memory::{REMEMBERED_NS, remembered};

use super::sink::{Sink, Through};
use crate::model::detail::{CulpritTick, Halts, KeyClass, KeyId, KeyTick, Outlier, VmTick};
use crate::model::event::Event;
use crate::model::ids::{Isa, Reason, VcpuKey, VmId};
use crate::model::session::{Host, ProbeStatus, Session};
use crate::model::testing::{cell, sample_outlier, sample_tick, vcpu};
use crate::model::tick::{Life, Lost, OpenExit, Phase, PhaseTimes, Tick, VcpuInfo, VmInfo};
use crate::model::totals::Totals;
use crate::record::{End, Gap, Item, Key, Mark};
use crate::source::synth::names;

const SECOND: u64 = 1_000_000_000;

/// Three seconds of two VMs; one has a name that plays tricks and ended.
pub fn sample() -> (Session, Totals) {
    let mut totals = Totals::default();
    for seq in 1..=3 {
        totals.apply(&tick(seq));
    }
    (session(), totals)
}

/// The same tick by tick, and forty seconds more with something of everything.
pub fn sample_ticks() -> (Session, Vec<Tick>) {
    let mut ticks: Vec<Tick> = (1..=3).map(tick).collect();
    let mut busy = busy_tick();
    let more = sample_tick();
    busy.host = more.host;
    busy.lost = more.lost;
    let at_ns = 50 * SECOND;
    busy.events = more.events.into_iter().map(|event| Event { at_ns, ..event }).collect();
    busy.events_left_out = more.events_left_out;
    if let (Some(vcpu), Some(other)) = (busy.vcpus.first_mut(), more.vcpus.first()) {
        vcpu.meters = other.meters.clone();
    }
    ticks.push(busy);
    (session(), ticks)
}

/// The same as a recording, with a note and a gap.
pub fn recording() -> Vec<Item> {
    let (session, ticks) = sample_ticks();
    let mark = Mark { at_ns: 12 * SECOND, text: "here it \"hangs\"".to_owned() };
    let gap = Gap { from_ns: 53 * SECOND, until_ns: 60 * SECOND, why: "It is damaged.".to_owned() };
    let begin = Key { at_ns: session.started_ns, ..Key::default() };
    let mut items = vec![Item::Session(Box::new(session)), Item::Key(Box::new(begin))];
    items.extend(ticks.into_iter().map(|tick| Item::Tick(Box::new(tick))));
    items.insert(4, Item::Mark(mark));
    items.push(Item::Gap(gap));
    items.push(Item::End(End { clean: false, why: Some("It was cut off.".to_owned()) }));
    items
}

/// Hands items to a sink.
pub fn export(sink: &mut dyn Sink, items: Vec<Item>, only: Option<&str>) {
    let mut through = Through::new(sink, only.map(str::to_owned));
    items.into_iter().for_each(|item| through.item(item).expect("memory takes it"));
}

fn session() -> Session {
    let probe = |name: &str, attached, why: Option<&str>| ProbeStatus {
        name: name.to_owned(),
        family: "exit".to_owned(),
        attached,
        why: why.map(str::to_owned),
        how: "tracepoint".to_owned(),
    };
    Session {
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
    }
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

const MS: u64 = 1_000_000;

/// How long [`detailed`] is.
pub const DETAILED_NS: u64 = 43 * SECOND;

/// [`sample`] and forty more in which the first VM's guest is idle, reads a clock all the
/// while, and waits for its CPU; with two slow exits.
pub fn detailed() -> (Session, Totals) {
    let (session, mut totals) = sample();
    totals.apply(&busy_tick());
    (session, totals)
}

fn busy_tick() -> Tick {
    let io = Reason::exit(Isa::Vmx, 30);
    let of = |class, value: u64, count| KeyTick {
        id: KeyId { reason: Some(io), class, value: Some(value) },
        count,
        timed: count,
        total_ns: 1_000 * count,
        off_ns: 0,
        vmm_ns: 9_000 * count,
        max_ns: 4 * MS,
    };
    let mut keys = vec![of(KeyClass::PortIn, 0x608, 36_000)];
    // More than are shown, and one of them without a name.
    keys.extend((0..6).map(|n| of(KeyClass::PortIn, 0xabc0 + n, 10 + n)));
    keys.push(of(KeyClass::Rip, 0xffff_ffff_8123_4567, 36_025));
    keys.push(of(KeyClass::Rip, 0x40_1000, 75));
    let other = KeyId { reason: None, class: KeyClass::PortIn, value: None };
    keys.push(KeyTick { id: other, count: 25, timed: 25, total_ns: MS, ..KeyTick::default() });
    keys.sort_by_key(|key| key.id);
    let mut time = PhaseTimes::default();
    for (phase, ms) in [
        (Phase::Kvm, 80),
        (Phase::Vmm, 220),
        (Phase::Polling, 150),
        (Phase::Blocked, 350),
        (Phase::Preempted, 200),
    ] {
        time.0[phase as usize] = ms * MS * 40;
    }
    let culprit = |comm: &str, pid, vm: Option<u32>, ms| CulpritTick {
        pid,
        tid: pid + 1,
        comm: comm.to_owned(),
        vm: vm.map(VmId),
        cgroup: "/machine.slice/build".to_owned(),
        ns: ms * MS * 40,
        count: 40,
    };
    let mut first = vcpu(1, 0, 0, vec![cell(io, &[10_000; 36_100])]);
    (first.time, first.since_ns) = (time, 53 * SECOND - MS);
    first.keys = keys;
    first.halts = Halts { polled: 3_000, waited: 700 };
    first.culprits =
        vec![culprit("CPU 5/KVM", 4702, Some(2), 120), culprit("cc1\u{1b}[2J", 812, None, 50)];
    let slow =
        Outlier { end_ns: 23 * SECOND + 5 * MS, info1: 0x0608_0008, ..sample_outlier(first.key) };
    let slower = Outlier {
        reason: Reason::exit(Isa::Vmx, 48),
        about: Some((KeyClass::Page, 0x12_3000)),
        rip: 0x40_1000,
        info1: 0x181,
        asleep_ns: 40 * MS,
        by: None,
        ..slow.clone()
    };
    let beside = VmTick {
        id: VmId(1),
        over_ns: 40 * SECOND,
        others_ns: 9_310 * MS,
        threads: vec![
            (4713, "IO iothread1".to_owned(), 9_300 * MS),
            (4714, "worker".to_owned(), 10 * MS),
        ],
        throttled_ns: Some(2 * MS),
        ..VmTick::default()
    };
    Tick {
        seq: 4,
        end_ns: 53 * SECOND,
        dur_ns: 40 * SECOND,
        vcpus: vec![first],
        vms: vec![beside],
        outliers: vec![slow, slower],
        outliers_left_out: 3,
        ..Tick::default()
    }
}
