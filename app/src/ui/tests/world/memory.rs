//! What the invented host's guests do to memory and call.

use super::{SECOND, START};
use crate::model::stack::{Frame, StackOf, StackTick};
use crate::model::{
    detail::{IoctlTick, KeyClass, KeyId, KeyTick, VmTick},
    event::{Event, EventKind, LeftOut},
    ids::{Isa, Reason, VmId},
    session::{OFF, ProbeStatus, Session},
    tick::{Tick, VcpuTick},
};
use crate::source::live::plan::Family;
use kvmscope_shared::detail::dirty;

/// Reason, class, value, count per second, handling time and time in the VMM, ns.
type Habit = (Option<u32>, KeyClass, Option<u64>, u64, u64, u64);

const HABITS: [&[Habit]; 4] = [
    &[
        (Some(48), KeyClass::Fault, Some(0), 61, 2_600, 0),
        (Some(48), KeyClass::Fault, Some(1), 17, 1_900, 0),
        (Some(48), KeyClass::Fault, Some(4), 2, 5_400, 0),
        (Some(48), KeyClass::Page, Some(0x1_2345_6000), 30, 2_600, 0),
        (Some(48), KeyClass::Page, Some(0x7fff_f000), 10, 2_600, 0),
        (None, KeyClass::Page, None, 40, 2_600, 0),
        (Some(49), KeyClass::MmioFast, Some(0xfe00_3000), 860, 1_900, 0),
        (Some(18), KeyClass::Hypercall, Some(10), 210, 1_700, 0),
        (Some(18), KeyClass::Hypercall, Some(5), 40, 1_100, 0),
        (Some(18), KeyClass::Hypercall, Some(999), 3, 900, 0),
        (None, KeyClass::Root, Some(0x1_0c40_0004), 2, 0, 0),
        (None, KeyClass::VcpuLoad, Some(3), 6, 0, 0),
        (None, KeyClass::VcpuLoad, Some(11), 1, 0, 0),
        (None, KeyClass::DirtyLog, Some(dirty::NOT_LOGGED), 14, 0, 0),
    ],
    &[
        (Some(48), KeyClass::Fault, Some(0), 5, 9_600, 0),
        (Some(49), KeyClass::MmioRead, Some(0xfed0_00f0), 100, 2_100, 2_290_000),
        (Some(49), KeyClass::MmioWrite, Some(0xfec0_0010), 40, 12_000, 300),
        (Some(49), KeyClass::MmioFast, Some(0xfe00_7000), 1_300, 1_800, 0),
        (Some(18), KeyClass::HvHypercall, Some(0x5c), 25, 2_700, 0),
        (None, KeyClass::DirtySlot, Some(0), 700, 0, 0),
        (None, KeyClass::DirtySlot, Some(3), 90, 0, 0),
        (None, KeyClass::DirtyPage, Some(0x3a40_1000), 55, 0, 0),
        (None, KeyClass::DirtyPage, Some(0x3a40_2000), 21, 0, 0),
        (None, KeyClass::DirtyPage, None, 714, 0, 0),
        (None, KeyClass::DirtyLog, Some(dirty::MARKED), 2_100, 0, 0),
        (None, KeyClass::DirtyLog, Some(dirty::FRESH), 790, 0, 0),
        (None, KeyClass::DirtyLog, Some(dirty::PML_FULL), 4, 0, 0),
        (None, KeyClass::DirtyLog, Some(dirty::RING_FULL), 1, 0, 0),
    ],
    &[(Some(48), KeyClass::Fault, Some(1), 700, 3_300, 0)],
    &[],
];

/// Adds it to a tick of the world.
pub fn add(tick: &mut Tick) {
    let (seq, end_ns) = (tick.seq, tick.end_ns);
    let mut events = Vec::new();
    for vcpu in &mut tick.vcpus {
        let habits = HABITS[(vcpu.key.vm.0 as usize - 1) % HABITS.len()];
        for &(code, class, value, count, ns, vmm_ns) in habits {
            let reason = code.map(|code| Reason::exit(Isa::Vmx, code));
            let timed = if ns > 0 { count } else { 0 };
            vcpu.keys.push(KeyTick {
                id: KeyId { reason, class, value },
                count,
                timed,
                total_ns: timed * ns,
                off_ns: 0,
                vmm_ns: timed * vmm_ns,
                max_ns: if value.is_some() { (ns + vmm_ns) * 17 } else { 0 },
            });
            if vcpu.key.vcpu < 2 {
                events.extend(event(vcpu, class, value, seq, ns, vmm_ns));
            }
        }
        vcpu.keys.sort_by_key(|key| key.id);
    }
    if seq == 2 {
        events.extend((0..3).map(|n| slot(VmId(2), n)));
    }
    if seq > 15 && !tick.vcpus.is_empty() {
        events.extend((0..3).map(|n| ioctl(VmId(1), n)));
    }
    for (n, event) in (0..).zip(&mut events) {
        event.at_ns = end_ns - SECOND + 3_000_000 * (n + 1);
    }
    tick.events = events;
    if seq.is_multiple_of(5) {
        tick.events_left_out = vec![
            LeftOut { kind: EventKind::Fault, count: 312 },
            LeftOut { kind: EventKind::Hypercall, count: 40 },
        ];
    }
    let mut vms: Vec<VmId> = tick.vcpus.iter().map(|vcpu| vcpu.key.vm).collect();
    vms.dedup();
    tick.stacks = vms.iter().take(3).flat_map(|vm| stacks(*vm)).collect();
    tick.stacks_left_out = u64::from(seq == 18) * 7;
    tick.dirty_elsewhere = u64::from(vms.len() > 1) * 30;
    tick.vms = vms.into_iter().map(ioctls).collect();
}

/// Who loads the roots of a VM.
fn stacks(vm: VmId) -> Vec<StackTick> {
    let ways: [(u64, &[&str]); 2] = [
        (2, &["kvm_mmu_load+0x2a9 [kvm]", "vcpu_enter_guest.constprop.0+0x9d2 [kvm]"]),
        (
            11,
            &[
                "kvm_mmu_new_pgd+0x88 [kvm]",
                "kvm_set_cr3+0xa5 [kvm]",
                "cr_interception+0x1c1 [kvm_amd]",
            ],
        ),
    ];
    let from = [
        "kvm_arch_vcpu_ioctl_run+0x1c7 [kvm]",
        "kvm_vcpu_ioctl+0x26f [kvm]",
        "",
        "do_syscall_64+0x7e",
    ];
    let stack = |(count, way): (u64, &[&str])| {
        let all = ["svm_load_mmu_pgd+0x0 [kvm_amd]"].iter().chain(way).chain(&from);
        let frame = |(n, symbol): (u64, &&str)| Frame {
            address: 0xffff_ffff_c0a1_2000 + n * 0x40,
            symbol: (*symbol).to_owned(),
        };
        StackTick {
            of: StackOf::LoadMmuPgd,
            vm: Some(vm),
            pid: 4_000 + vm.0,
            count: count * u64::from(vm.0),
            frames: (0..).zip(all).map(frame).collect(),
        }
    };
    ways.into_iter().map(stack).collect()
}

fn ioctl(vm: VmId, number: u64) -> Event {
    let (command, answer, scope, ns) = [
        (0x4020_aea5, 0, 1, 1_900),
        (0x4040_ae79, (-17i64).cast_unsigned(), 1, 2_900),
        (0xae41, 13, 1, 210_000),
    ][number as usize % 3];
    Event {
        kind: EventKind::Ioctl,
        vm,
        tid: 4_017,
        cpu: 5,
        handling_ns: ns,
        args: [command, answer, 9, scope, 0xffff_8881_0000_0000, 0],
        ..Event::default()
    }
}

fn event(
    vcpu: &VcpuTick,
    class: KeyClass,
    value: Option<u64>,
    seq: u64,
    ns: u64,
    vmm_ns: u64,
) -> Option<Event> {
    let value = value?;
    let page = 0x1_0000_0000 + seq * 0x1000 + u64::from(vcpu.key.vcpu) * 0x4000_0000;
    let (kind, args) = match class {
        KeyClass::Fault if value == 1 => (EventKind::Fault, [page, 0x1aa, 0, 0, 0, 0]),
        KeyClass::Fault if value == 4 => (EventKind::Fault, [page, 0x83, 0, 0, 0, 0]),
        KeyClass::Fault => (EventKind::Fault, [page, 0x182, 0, 0, 0, 0]),
        KeyClass::MmioRead => (EventKind::Mmio, [value, 4, 0, 0x1234_5678, 0, 0]),
        KeyClass::MmioWrite => (EventKind::Mmio, [value, 4, 1, 0x20, 0, 0]),
        KeyClass::Hypercall => (EventKind::Hypercall, [value, 0x16, 0, 0, 0xfb, 0]),
        KeyClass::HvHypercall => (EventKind::HvHypercall, [value, 0, 0, 0, page, 0]),
        KeyClass::Root => (EventKind::Root, [value & !15, value & 15, 0, 0, 0, 0]),
        _ => return None,
    };
    // Only these are told of when their exit ends.
    let timed = matches!(kind, EventKind::Fault | EventKind::Mmio);
    let codes = [(EventKind::Fault, 48), (EventKind::Mmio, 49)];
    let code = codes.into_iter().find(|(of, _)| *of == kind).map_or(18, |(_, code)| code);
    Some(Event {
        at_ns: START,
        kind,
        vm: vcpu.key.vm,
        vcpu: Some(vcpu.key.vcpu),
        tid: 4_010 + vcpu.key.vcpu,
        cpu: vcpu.cpu,
        reason: (kind != EventKind::Root).then(|| Reason::exit(Isa::Vmx, code)),
        rip: if kind == EventKind::Root { 0 } else { 0xffff_ffff_8123_4567 + seq * 16 },
        handling_ns: if timed { ns } else { 0 },
        off_ns: 0,
        vmm_ns: if timed { vmm_ns } else { 0 },
        args,
    })
}

fn slot(vm: VmId, number: u64) -> Event {
    let gpa = [0, 0x10_0000, 0x1_0000_0000][number as usize % 3];
    let size = [0xa_0000, 0x7ff0_0000, 0x1_0000_0000][number as usize % 3];
    Event {
        kind: EventKind::Memslot,
        vm,
        tid: 4_017,
        handling_ns: 19_000,
        args: [number, u64::from(number == 2), gpa, size, 0x7f12_0000_0000 + gpa, 0],
        ..Event::default()
    }
}

fn ioctls(id: VmId) -> VmTick {
    let ioctl = |command, count, failed, ns: u64| IoctlTick {
        command,
        count,
        failed,
        total_ns: count * ns,
        max_ns: ns * 30,
    };
    let n = u64::from(id.0);
    let ioctls = vec![
        ioctl(0xae80, 500 * n, 0, 80_000),
        ioctl(0x4020_aea5, 70, 0, 1_900),
        ioctl(0x4040_ae79, 2, 1, 2_900),
    ];
    VmTick { id, over_ns: SECOND, ioctls, ..VmTick::default() }
}

/// A session with these families' probes, attached or off.
pub fn with(mut session: Session, on: &[Family]) -> Session {
    let hooks = [
        ("kvm:kvm_page_fault", Family::Mmu),
        ("kvm:kvm_mmio", Family::Mmio),
        ("kvm:kvm_fast_mmio", Family::Mmio),
        ("kprobe:mark_page_dirty_in_slot", Family::Dirty),
        ("kvm:kvm_pml_full", Family::Dirty),
        ("kprobe:load_mmu_pgd", Family::Roots),
        ("kprobe:kvm_arch_vcpu_load", Family::Roots),
        ("stack:load_mmu_pgd", Family::Roots),
        ("kvm:kvm_hypercall", Family::Hypercall),
        ("kvm:kvm_hv_hypercall", Family::Hypercall),
        ("syscalls:sys_exit_ioctl", Family::Ioctl),
        ("sched:sched_process_exit", Family::Base),
    ];
    for (hook, family) in hooks {
        let attached = on.contains(&family) || family == Family::Base;
        session.probes.push(ProbeStatus {
            name: hook.to_owned(),
            family: family.name().to_owned(),
            attached,
            why: (!attached).then(|| family.off()),
            how: if attached { "raw tracepoint".to_owned() } else { String::new() },
        });
    }
    assert!(session.probes.iter().any(|p| p.is_off()) || on.len() > 5, "{OFF}");
    session
}
