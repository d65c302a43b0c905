//! A session in which everything of interrupts and scheduling happened.

use super::{MS, SECOND, sample};
use crate::model::detail::{Halts, KeyClass, KeyId, KeyTick, VmTick};
use crate::model::ids::{Isa, Reason, VmId};
use crate::model::meters::{
    Chip, MeterKind, MeterTick, MetersTick, RouteTick, Sender, TimerTick, WindowTick,
};
use crate::model::session::{ProbeStatus, Session};
use crate::model::testing::{cell, vcpu};
use crate::model::tick::{Phase, PhaseTimes, Tick, VcpuTick};
use crate::model::totals::Totals;
use kvmscope_shared::detail::{HAS_ERROR, PARAVIRTUAL, REINJECTED, SOFT};
use kvmscope_shared::hist::bucket_of;
use kvmscope_shared::route::accepted;

/// How long [`interrupted`] is.
pub const INTERRUPTED_NS: u64 = 13 * SECOND;

const WRITE: Reason = Reason::exit(Isa::Vmx, 32);

/// [`sample`] and ten seconds more with the families of interrupts and scheduling on, but `irqchip`, of which
/// rows come nevertheless: it was on for a while.
pub fn interrupted() -> (Session, Totals) {
    let (mut session, mut totals) = sample();
    let why = |family: &str| {
        (family == "irqchip").then(|| "off; attached with --probes irqchip".to_owned())
    };
    for family in ["irq", "irqchip", "timer", "halt-poll", "wakeup", "vcpu-load"] {
        session.probes.push(ProbeStatus {
            name: format!("kvm:{family}"),
            family: family.to_owned(),
            attached: why(family).is_none(),
            why: why(family),
            how: "tracepoint".to_owned(),
        });
    }
    session.apicv = Some(true);
    session.apicv_reasons.insert(2, "ABSENT".to_owned());
    totals.apply(&tick());
    (session, totals)
}

fn key(reason: Option<Reason>, class: KeyClass, value: impl Into<Option<u64>>, n: u64) -> KeyTick {
    let id = KeyId { reason, class, value: value.into() };
    KeyTick { id, count: n, ..KeyTick::default() }
}

fn on_cpu(cpu: u64, count: u64, ms: u64) -> KeyTick {
    let on = key(None, KeyClass::OnCpu, cpu, count);
    KeyTick { timed: count, total_ns: ms * MS, max_ns: 150 * MS, ..on }
}

fn meter(kind: MeterKind, times: &[u64]) -> MeterTick {
    let mut hist = std::collections::BTreeMap::<u8, u32>::new();
    for &ns in times {
        *hist.entry(bucket_of(ns) as u8).or_default() += 1;
    }
    MeterTick {
        kind,
        count: times.len() as u64,
        total_ns: times.iter().sum(),
        min_ns: times.iter().copied().min().unwrap_or(0),
        max_ns: times.iter().copied().max().unwrap_or(0),
        hist: hist.into_iter().collect(),
    }
}

fn ran(number: u32, mut keys: Vec<KeyTick>, meters: MetersTick) -> VcpuTick {
    keys.sort_by_key(|key| key.id);
    let mut time = PhaseTimes::default();
    time.0[Phase::Guest as usize] = 8 * SECOND;
    time.0[Phase::Polling as usize] = SECOND;
    time.0[Phase::Blocked as usize] = SECOND;
    let halts = Halts { polled: 30, waited: 10 };
    let cells = vec![cell(WRITE, &[2_000; 40])];
    VcpuTick { keys, time, halts, meters, ..vcpu(1, number, 0, cells) }
}

fn first() -> VcpuTick {
    use KeyClass::{Delivered, Eoi, Exception, Injected, Ipi};
    let write = Some(WRITE);
    let keys = vec![
        key(write, Injected, 0xec, 4_000),
        key(None, Injected, 0xec, 100),
        key(write, Injected, 0x41, 700),
        key(write, Injected, 0x41 | REINJECTED, 25),
        key(write, Injected, 0x80 | SOFT, 3),
        key(write, Exception, 14 | HAS_ERROR, 90),
        key(write, Exception, 6, 2),
        key(write, Eoi, 0xec, 3_900),
        key(write, Eoi, 0x41 | PARAVIRTUAL, 600),
        key(write, Eoi, u64::MAX, 1),
        key(write, Ipi, 1 << 32 | 0x40fd, 500),
        key(write, Ipi, 0x2_u64 << 32 | 0x48fb, 20),
        key(write, Ipi, 0xc_40f6, 8),
        key(write, Ipi, 1 << 32 | 0xc500, 1),
        key(write, Ipi, 1 << 32 | 0x469a, 2),
        key(None, Ipi, None, 6),
        key(write, Delivered, accepted(1, 0xfd, 0, false, false), 500),
        key(write, Delivered, accepted(1, 0xfd, 0, false, true), 500),
        key(write, Delivered, accepted(0, 0xec, 0, false, false), 4_100),
        on_cpu(3, 40, 6_000),
        on_cpu(12, 10, 1_500),
        key(None, KeyClass::OnCpu, None, 2),
    ];
    let timers = TimerTick {
        hardware: 9,
        software: 8,
        deadlines: 4_200,
        disarmed: 70,
        one_shot: 1,
        periodic: 2,
        expired: 4_100,
        is_hardware: Some(true),
    };
    let meters = MetersTick {
        meters: vec![
            meter(MeterKind::Polled, &[20_000, 30_000, 50_000]),
            meter(MeterKind::PolledIdle, &[9_000]),
            meter(MeterKind::Slept, &[MS, 4 * MS, 90 * MS]),
            meter(MeterKind::SleptIdle, &[700_000]),
            meter(MeterKind::Loaded, &[150 * MS; 50]),
            meter(MeterKind::Late, &[3_000, 44_000]),
        ],
        timers: Some(timers),
        window: Some(WindowTick { now_ns: 80_000, grew: 5, shrank: 2 }),
        migrations: 11,
        crossings: 4,
        loaded_open_ns: 700 * MS,
    };
    VcpuTick { cpu: 3, ..ran(0, keys, meters) }
}

fn second() -> VcpuTick {
    let keys = vec![
        key(Some(WRITE), KeyClass::Injected, 0xec, 50),
        key(Some(WRITE), KeyClass::Delivered, accepted(0, 0xfb, 0, false, false), 9),
        key(Some(WRITE), KeyClass::Ipi, 0x40fb, 9),
        on_cpu(12, 5, 300),
    ];
    let meters = MetersTick {
        meters: vec![meter(MeterKind::Loaded, &[60 * MS; 5])],
        timers: Some(TimerTick { periodic: 1, ..TimerTick::default() }),
        ..MetersTick::default()
    };
    ran(1, keys, meters)
}

fn tick() -> Tick {
    let vm = Some(VmId(1));
    let row = |chip, sender, comm: &str, a, b, count, coalesced| RouteTick {
        chip,
        vm,
        sender,
        pid: if sender == Sender::Interrupt { 0 } else { 4711 },
        comm: comm.to_owned(),
        a,
        b,
        count,
        coalesced,
    };
    use Sender::{Interrupt, Kernel, Thread, Vcpu};
    let unknown = |row: RouteTick| RouteTick { vm: None, ..row };
    let routes = vec![
        row(Chip::Msi, Thread, "qemu-system-x86", 0xfee0_1004, 0x4041, 600, 0),
        row(Chip::Lapic, Kernel, "vhost-4711", accepted(1, 0x42, 0, false, false), 0, 300, 0),
        row(Chip::Lapic, Kernel, "vhost-4711", accepted(1, 0x42, 0, false, true), 0, 280, 0),
        row(Chip::Ioapic, Thread, "qemu-system-x86", 4, 0x0100_0000_0000_8931, 200, 3),
        row(Chip::Ioapic, Vcpu, "CPU 0/KVM", 2, 0x1_0700, 40, 0),
        row(Chip::Pic, Thread, "qemu-system-x86", 12, 2, 30, 30),
        row(Chip::Line, Thread, "qemu\u{1b}[2J", 4, 1, 20, 0),
        row(Chip::Line, Thread, "qemu-system-x86", 4, 0, 20, 0),
        unknown(row(Chip::Msi, Kernel, "kworker/0:1", 0x100_fee0_2000, 0x4400, 7, 0)),
        unknown(row(Chip::Lapic, Interrupt, "", accepted(5, 0x33, 1, true, false), 0, 5, 0)),
    ];
    Tick {
        seq: 4,
        end_ns: 23 * SECOND,
        dur_ns: 10 * SECOND,
        vcpus: vec![first(), second()],
        vms: vec![VmTick { id: VmId(1), apicv_inhibits: Some(0x104), ..VmTick::default() }],
        routes,
        routes_left_out: 17,
        ..Tick::default()
    }
}
