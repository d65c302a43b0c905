//! A session in which everything of memory and calls happened.

use super::{MS, SECOND, sample};
use crate::model::detail::{IoctlTick, KeyClass, KeyId, KeyTick, VmTick};
use crate::model::event::{Event, EventKind, LeftOut};
use crate::model::ids::{Isa, Reason, VmId};
use crate::model::session::{ProbeStatus, Session};
use crate::model::stack::{Frame, StackOf, StackTick};
use crate::model::testing::{cell, sample_event, vcpu};
use crate::model::tick::{Phase, PhaseTimes, Tick, VcpuTick};
use crate::model::totals::Totals;
use kvmscope_shared::detail::{dirty, fault};

/// How long [`remembered`] is.
pub const REMEMBERED_NS: u64 = 13 * SECOND;

const EPT_VIOLATION: Reason = Reason::exit(Isa::Vmx, 48);
const EPT_MISCONFIG: Reason = Reason::exit(Isa::Vmx, 49);
const VMCALL: Reason = Reason::exit(Isa::Vmx, 18);

/// [`sample`] and ten seconds more, with the families of memory and calls on.
pub fn remembered() -> (Session, Totals) {
    let (mut session, mut totals) = sample();
    for (family, name) in [
        ("mmu", "kvm:kvm_page_fault"),
        ("mmio", "kvm:kvm_mmio"),
        ("dirty", "kprobe:mark_page_dirty_in_slot"),
        ("roots", "kprobe:load_mmu_pgd"),
        ("roots", "kprobe:kvm_arch_vcpu_load"),
        ("roots", "stack:load_mmu_pgd"),
        ("hypercall", "kvm:kvm_hypercall"),
        ("ioctl", "raw_syscalls:sys_exit"),
    ] {
        session.probes.push(probe(family, name, None));
    }
    session.probes.push(probe(
        "culprits",
        "sched:sched_switch",
        Some("off; attached with --probes culprits"),
    ));
    totals.apply(&tick());
    (session, totals)
}

fn probe(family: &str, name: &str, why: Option<&str>) -> ProbeStatus {
    ProbeStatus {
        name: name.to_owned(),
        family: family.to_owned(),
        attached: why.is_none(),
        why: why.map(str::to_owned),
        how: "tracepoint".to_owned(),
    }
}

fn key(reason: Reason, class: KeyClass, value: u64, count: u64, vmm_ns: u64) -> KeyTick {
    KeyTick {
        id: KeyId { reason: Some(reason), class, value: Some(value) },
        count,
        timed: count,
        total_ns: 2_000 * count,
        off_ns: 0,
        vmm_ns: vmm_ns * count,
        max_ns: 90_000,
    }
}

/// Of pages that were written nothing is timed.
fn written(class: KeyClass, value: u64, count: u64) -> KeyTick {
    let id = KeyId { reason: None, class, value: Some(value) };
    KeyTick { id, count, ..KeyTick::default() }
}

fn ran(number: u32, mut keys: Vec<KeyTick>) -> VcpuTick {
    keys.sort_by_key(|key| key.id);
    let mut time = PhaseTimes::default();
    time.0[Phase::Guest as usize] = 10 * SECOND;
    let cells = vec![cell(EPT_VIOLATION, &[2_000; 40]), cell(Reason::userspace(31), &[5_000; 2])];
    VcpuTick { keys, time, ..vcpu(1, number, 0, cells) }
}

fn tick() -> Tick {
    use KeyClass::{DirtyLog, DirtyPage, DirtySlot, Fault, HvHypercall, Hypercall, MmioFast};
    use KeyClass::{MmioRead, MmioWrite, Page, Root, VcpuLoad, XenHypercall};
    let mut first = vec![
        key(EPT_VIOLATION, Fault, fault::ABSENT, 262_144, 0),
        key(EPT_VIOLATION, Fault, fault::WRITE_PROTECTED, 3_000, 0),
        key(EPT_VIOLATION, Fault, fault::WALK, 12, 0),
        key(EPT_MISCONFIG, MmioRead, 0xfed0_00f0, 2_100, 250_000),
        key(EPT_MISCONFIG, MmioWrite, 0xfee0_0300, 800, 0),
        key(EPT_MISCONFIG, MmioFast, 0xfe00_3000, 18_200, 0),
        key(VMCALL, Hypercall, 10, 500, 0),
        key(VMCALL, Hypercall, 99, 3, 0),
        key(VMCALL, HvHypercall, 0x5d, 70, 0),
        key(VMCALL, XenHypercall, 29, 7, 1_000),
        written(DirtySlot, 1, 4_000),
        written(DirtySlot, 1 << 16, 2),
        written(DirtyPage, 0x12_3000, 1_500),
        written(DirtyLog, dirty::MARKED, 4_900),
        written(DirtyLog, dirty::FRESH, 4_002),
        written(DirtyLog, dirty::NOT_LOGGED, 11),
        written(DirtyLog, dirty::PML_FULL, 9),
        written(DirtyLog, dirty::RING_PUSH, 4_002),
        written(DirtyLog, dirty::RING_FULL, 4),
        written(Root, 0x1234_5004, 610),
        written(Root, 0x6789_a004, 10),
        written(VcpuLoad, 3, 40),
        written(VcpuLoad, 7, 2),
    ];
    // More than are shown.
    first.extend((0..7).map(|n| key(EPT_VIOLATION, Page, (0x40 + n) << 12, 30 - n, 0)));
    let other = KeyId { reason: None, class: Page, value: None };
    first.push(KeyTick { id: other, count: 900, timed: 900, total_ns: MS, ..KeyTick::default() });
    let second = vec![
        key(EPT_VIOLATION, Fault, fault::WRITE_PROTECTED, 1_000, 0),
        key(EPT_VIOLATION, Page, 0x41 << 12, 60, 0),
        written(DirtySlot, 1, 1_000),
        written(DirtyLog, dirty::MARKED, 1_000),
        written(VcpuLoad, 7, 50),
    ];
    let called = |command, count, failed| IoctlTick {
        command,
        count,
        failed,
        total_ns: 3_000 * count,
        max_ns: 2 * MS,
    };
    let mut ioctls = vec![called(0xae80, 90_000, 12), called(0x4020_ae46, 6, 1)];
    ioctls.push(called(0xaeff, 1, 1));
    let vms = vec![VmTick { id: VmId(1), ioctls, ..VmTick::default() }];
    let events = events(first_event());
    let left = |kind, count| LeftOut { kind, count };
    Tick {
        seq: 4,
        end_ns: 23 * SECOND,
        dur_ns: 10 * SECOND,
        vcpus: vec![ran(0, first), ran(1, second)],
        vms,
        events,
        events_left_out: vec![left(EventKind::Fault, 265_000), left(EventKind::Mmio, 20_900)],
        stacks: stacks(),
        stacks_left_out: 17,
        dirty_elsewhere: 2_048,
        ..Tick::default()
    }
}

/// One of a VM with names, one of a process without.
fn stacks() -> Vec<StackTick> {
    let frame = |address, symbol: &str| Frame { address, symbol: symbol.to_owned() };
    let frames = vec![
        frame(0xffff_ffff_c0a0_1000, "vmx_load_mmu_pgd [kvm_intel]"),
        frame(0xffff_ffff_c090_205c, "kvm_mmu_load+0x5c [kvm]"),
        frame(0xffff_ffff_c090_1234, "vcpu_enter_guest+0x34 [kvm]"),
    ];
    let hidden = vec![frame(0xffff_ffff_c0a0_1000, ""), frame(0xffff_ffff_c090_205c, "")];
    let of = StackOf::LoadMmuPgd;
    vec![
        StackTick { of, vm: Some(VmId(1)), pid: 4701, count: 620, frames },
        StackTick { of, vm: None, pid: 99, count: 3, frames: hidden },
    ]
}

fn first_event() -> Event {
    let key = crate::model::ids::VcpuKey { vm: VmId(1), vcpu: 0 };
    Event { at_ns: 14 * SECOND, ..sample_event(key) }
}

/// One of each kind, and seven faults.
fn events(first: Event) -> Vec<Event> {
    let of = |nth: u64, kind, reason, args: [u64; 6]| Event {
        at_ns: 15 * SECOND + nth * MS,
        kind,
        reason,
        args,
        ..first
    };
    let bare = |nth, kind, args| Event {
        vcpu: None,
        rip: 0,
        handling_ns: 30_000,
        ..of(nth, kind, None, args)
    };
    let einval = (-22i64).cast_unsigned();
    let ipi = [10, 0b1110, 0, 0, 0xfd, 0];
    let slot = [1, 1, 0x10_0000, 128 << 20, 0x7f00_0000_0000, 0];
    let mut events: Vec<Event> = (0..7)
        .map(|n| Event {
            handling_ns: 4_000 + n,
            args: [(0x40 + n) << 12, 0x182, 0, 0, 0, 0],
            ..of(n, EventKind::Fault, Some(EPT_VIOLATION), [0; 6])
        })
        .collect();
    events.extend([
        of(10, EventKind::Mmio, Some(EPT_MISCONFIG), [0xfed0_00f0, 4, 0, 7, 0, 0]),
        of(11, EventKind::Hypercall, Some(VMCALL), ipi),
        of(12, EventKind::Hypercall, Some(VMCALL), [99, 1, 2, 3, 4, 0]),
        of(13, EventKind::HvHypercall, Some(VMCALL), [0x5d, 1, 0, 0, 0x1001, 0]),
        of(14, EventKind::XenHypercall, Some(VMCALL), [29, 0, 0, 0, 0, 0]),
        of(15, EventKind::Root, None, [0x1234_5000, 4, 0, 0, 0, 0]),
        bare(16, EventKind::Ioctl, [0x4020_ae46, einval, 9, 1, 0, 0]),
        bare(17, EventKind::Memslot, slot),
    ]);
    events
}
