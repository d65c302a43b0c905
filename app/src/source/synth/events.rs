//! What invented guests do to memory and call: kinds of page faults, roots, dirty pages, hypercalls,
//! ioctls, and single events of them.

use super::details::{Abouts, There};
use super::plan::VmPlan;
use super::rng::Rng;
use crate::model::detail::{IoctlTick, KeyClass, KeyId, KeyTick};
use crate::model::event::{Event, EventKind, LeftOut};
use crate::model::ids::{Kind, Reason, VcpuKey, VmId};
use crate::model::stack::{Frame, MAX_STACKS, StackOf, StackTick};
use crate::model::tick::{Life, Tick, VcpuTick};
use kvmscope_shared::detail::{dirty, fault};

/// Events of a kind that a tick tells of; more are left out.
const MOST: usize = 64;
/// Of those, how many of one vCPU.
const OF_VCPU: u64 = 12;
/// Memory of an invented VM below the hole for devices.
const LOW: u64 = 0x8000_0000;

/// Kinds of page faults of a reason.
pub(super) fn faults(reason: Reason) -> Abouts {
    if (reason.kind, reason.code) != (Kind::Exit, 48) {
        return Abouts::new();
    }
    let kinds = [
        (fault::ABSENT, 64.0),
        (fault::WRITE_PROTECTED, 27.0),
        (fault::WALK, 6.0),
        (fault::EXEC, 2.0),
        (fault::READ, 1.0),
    ];
    kinds.into_iter().map(|(kind, weight)| (KeyClass::Fault, Some(kind), weight)).collect()
}

fn abouts(class: KeyClass, list: &[(u64, f64)]) -> Abouts {
    list.iter().map(|&(value, weight)| (class, Some(value), weight)).collect()
}

/// Hypercalls of a Linux guest, one of them of a number that does not exist.
pub(super) fn kvm_calls() -> Abouts {
    abouts(KeyClass::Hypercall, &[(10, 62.0), (11, 24.0), (5, 12.0), (0x4b56, 2.0)])
}

/// Hypercalls of a Windows guest.
pub(super) fn hyperv_calls() -> Abouts {
    abouts(KeyClass::HvHypercall, &[(0x03, 55.0), (0x0b, 30.0), (0x5d, 14.0), (0xc0de, 1.0)])
}

/// Devices that the VMM emulates: HPET, I/O APIC, VGA, a disk's registers.
pub(super) fn vmm_devices() -> Abouts {
    let mut list = abouts(KeyClass::MmioRead, &[(0xfed0_00f0, 70.0), (0xfebc_0014, 8.0)]);
    list.extend(abouts(
        KeyClass::MmioWrite,
        &[(0xfec0_0010, 6.0), (0xb_8000, 10.0), (0xfebc_0010, 6.0)],
    ));
    list
}

/// What is counted without being an exit's: loads of MMU roots, dirty pages.
pub(super) fn counted(
    plan: &VmPlan,
    key: VcpuKey,
    dur_ns: u64,
    rng: &mut Rng,
    into: &mut Vec<KeyTick>,
) {
    let seconds = dur_ns as f64 / 1e9;
    let mut add = |class: KeyClass, value: Option<u64>, count: u64| {
        if count > 0 {
            let id = KeyId { reason: None, class, value };
            into.push(KeyTick { id, count, ..KeyTick::default() });
        }
    };
    if plan.roots > 0.0 {
        let loads = rng.round(plan.roots * seconds);
        // Two roots in turn: the second is that of system management mode.
        let root = 0x1_0c40_0000 + u64::from(key.vm.0 * 64 + key.vcpu) * 0x4000;
        add(KeyClass::Root, Some(root | 4), loads - loads / 3);
        add(KeyClass::Root, Some((root + 0x2000) | 4), loads / 3);
    }
    // Each vCPU is at home on one CPU, and now and then on the next.
    let moves = rng.round(9.0 * seconds);
    let home = u64::from(key.vm.0 * 5 + key.vcpu) % 16;
    add(KeyClass::VcpuLoad, Some(home), moves - moves / 8);
    add(KeyClass::VcpuLoad, Some((home + 1) % 16), moves / 8);
    if plan.dirty > 0.0 {
        let level = 0.6 + 0.8 * rng.unit();
        let pages = rng.round(plan.dirty * seconds * level);
        add(KeyClass::DirtySlot, Some(0), pages - pages / 5);
        add(KeyClass::DirtySlot, Some(3), pages / 5);
        let mut left = pages;
        for n in 0..5 {
            let count = left / 4;
            left -= count;
            add(KeyClass::DirtyPage, Some(0x3a40_0000 + n * 0x1000), count);
        }
        add(KeyClass::DirtyPage, None, left);
        add(KeyClass::DirtyLog, Some(dirty::MARKED), pages.saturating_mul(3));
        add(KeyClass::DirtyLog, Some(dirty::FRESH), pages);
        add(KeyClass::DirtyLog, Some(dirty::PML_FULL), pages / 512);
    } else {
        add(KeyClass::DirtyLog, Some(dirty::NOT_LOGGED), rng.round(2.0 * seconds));
    }
}

/// Who loads the MMU roots of a VM: as many calls as its vCPUs had loads.
pub(super) fn stacks((vm, pid): (VmId, u32), tick: &mut Tick) {
    let mine = tick.vcpus.iter().filter(|vcpu| vcpu.key.vm == vm).flat_map(|vcpu| &vcpu.keys);
    let loads: u64 = mine.filter(|key| key.id.class == KeyClass::Root).map(|key| key.count).sum();
    let ways: [(u64, &[&str]); 2] = [
        (
            loads - loads / 3,
            &["kvm_mmu_load+0x2a9 [kvm]", "vcpu_enter_guest.constprop.0+0x9d2 [kvm]"],
        ),
        (
            loads / 3,
            &[
                "kvm_mmu_load+0x2a9 [kvm]",
                "kvm_mmu_reset_context+0x31 [kvm]",
                "kvm_smm_changed+0x4e [kvm]",
            ],
        ),
    ];
    let outer = [
        "kvm_arch_vcpu_ioctl_run+0x1c7 [kvm]",
        "kvm_vcpu_ioctl+0x26f [kvm]",
        "__x64_sys_ioctl+0x9b",
        "do_syscall_64+0x7e",
        "entry_SYSCALL_64_after_hwframe+0x76",
    ];
    let stack = |(count, way): (u64, &[&str])| {
        let symbols = ["vmx_load_mmu_pgd+0x0 [kvm_intel]"].into_iter().chain(way.iter().copied());
        let frame = |(n, symbol): (u64, &str)| Frame {
            address: 0xffff_ffff_c0a1_2000 + n * 0x40,
            symbol: symbol.to_owned(),
        };
        let frames = (0..).zip(symbols.chain(outer)).map(frame).collect();
        StackTick { of: StackOf::LoadMmuPgd, vm: Some(vm), pid, count, frames }
    };
    let more = ways.into_iter().filter(|(count, _)| *count > 0).map(stack);
    let room = MAX_STACKS.saturating_sub(tick.stacks.len());
    let more: Vec<StackTick> = more.collect();
    tick.stacks_left_out += more.iter().skip(room).map(|stack| stack.count).sum::<u64>();
    tick.stacks.extend(more.into_iter().take(room));
}

/// Ioctls of a VMM, sorted by command. Migration reads the log of dirty pages.
pub(super) fn ioctls(plan: &VmPlan, dur_ns: u64, rng: &mut Rng) -> Vec<IoctlTick> {
    // Command, per second, share that fails, median ns.
    let mut list = vec![
        (0xae03, 0.2, 0.0, 400),
        (0x4008_ae6a, 0.1, 0.0, 9_000),
        (0x4020_aea5, 120.0, 0.0, 1_900),
        (0xc008_ae67, 30.0, 0.0, 1_400),
        (0x4020_ae76, 0.3, 0.1, 2_700),
        (0x4040_ae79, 0.5, 0.4, 3_100),
    ];
    if plan.dirty > 0.0 {
        list.push((0x4010_ae42, 2.0, 0.0, 240_000));
    }
    let seconds = dur_ns as f64 / 1e9;
    let mut ticks: Vec<IoctlTick> = list
        .into_iter()
        .map(|(command, rate, fails, ns): (u32, f64, f64, u64)| {
            let level = 0.7 + 0.6 * rng.unit();
            let count = rng.round(rate * seconds * level);
            let failed = rng.round(count as f64 * fails).min(count);
            let total_ns = count * rng.between(ns, ns * 2);
            IoctlTick { command, count, failed, total_ns, max_ns: ns * 9 }
        })
        .filter(|ioctl| ioctl.count > 0)
        .collect();
    ticks.sort_by_key(|ioctl| ioctl.command);
    ticks
}

/// Single events of a vCPU: some of its page faults, MMIO accesses and hypercalls, every load of a
/// root; the others are counted as left out.
pub(super) fn single(vcpu: &VcpuTick, rng: &mut Rng, tick: &mut Tick) {
    for key in &vcpu.keys {
        let Some((kind, value)) = kind(key.id.class).zip(key.id.value) else { continue };
        let told = key.count.min(OF_VCPU);
        for _ in 0..told {
            let args = args(key.id.class, value, vcpu, rng);
            // Only these are told of when their exit ends.
            let timed = matches!(kind, EventKind::Fault | EventKind::Mmio).then_some(key.timed);
            let mean = |ns: u64| ns.checked_div(timed.unwrap_or(0)).unwrap_or(0);
            let (busy, vmm) = (mean(key.total_ns), mean(key.vmm_ns));
            let about = |ns: u64, rng: &mut Rng| {
                if ns == 0 { 0 } else { rng.between(ns / 2, ns * 3 / 2 + 1) }
            };
            tick.events.push(Event {
                at_ns: tick.end_ns - rng.between(0, tick.dur_ns),
                kind,
                vm: vcpu.key.vm,
                vcpu: Some(vcpu.key.vcpu),
                tid: 4003 + 20 * vcpu.key.vm.0 + vcpu.key.vcpu,
                cpu: vcpu.cpu,
                reason: key.id.reason,
                rip: if kind == EventKind::Root { 0 } else { RIPS[rng.between(0, 4) as usize % 4] },
                handling_ns: about(busy, rng),
                off_ns: 0,
                vmm_ns: about(vmm, rng),
                args,
            });
        }
        leave_out(tick, kind, key.count - told);
    }
}

const RIPS: [u64; 4] =
    [0xffff_ffff_8139_87c0, 0xffff_ffff_8106_2c1a, 0x0000_55d2_1f40_12aa, 0xffff_ffff_c02a_11d7];

fn kind(class: KeyClass) -> Option<EventKind> {
    Some(match class {
        KeyClass::Fault => EventKind::Fault,
        KeyClass::MmioRead | KeyClass::MmioWrite => EventKind::Mmio,
        KeyClass::Hypercall => EventKind::Hypercall,
        KeyClass::HvHypercall => EventKind::HvHypercall,
        KeyClass::Root => EventKind::Root,
        _ => return None,
    })
}

fn args(class: KeyClass, value: u64, vcpu: &VcpuTick, rng: &mut Rng) -> [u64; 6] {
    let page =
        0x1_0000_0000 + u64::from(vcpu.key.vcpu) * 0x800_0000 + rng.between(0, 0x4000) * 0x1000;
    match class {
        // The qualification of an EPT violation: access, rights, whether addresses were translated.
        KeyClass::Fault => {
            let code = match value {
                fault::WRITE_PROTECTED => 0x1aa,
                fault::EXEC => 0x18c,
                fault::READ => 0x191,
                fault::WALK => 0x083,
                _ => 0x181 + rng.between(0, 2),
            };
            [page + rng.between(0, 0x1000), code, 0, 0, 0, 0]
        }
        KeyClass::MmioRead | KeyClass::MmioWrite => {
            let write = u64::from(class == KeyClass::MmioWrite);
            [value, 4, write, rng.between(0, 1 << 32), 0, 0]
        }
        KeyClass::Hypercall if value == 10 => [value, rng.between(1, 256), 0, 0, 0xfb, 0],
        KeyClass::Hypercall => [value, rng.between(0, 8), rng.between(0, 8), 0, 0, 0],
        KeyClass::HvHypercall => {
            let repeats = if value == 0x03 { rng.between(1, 9) } else { 0 };
            [value, u64::from(value == 0x5d), repeats, 0, page & !0xfff, 0]
        }
        _ => [value & !15, value & 15, 0, 0, 0, 0],
    }
}

/// Events of a VM's own threads: its memory slots as it begins, later some ioctls that fail.
pub(super) fn of_vm(plan: &VmPlan, (id, pid, _): There, rng: &mut Rng, tick: &mut Tick) {
    let event = |kind: EventKind, at_ns: u64, handling_ns: u64, args: [u64; 6]| Event {
        at_ns,
        kind,
        vm: id,
        tid: pid,
        cpu: id.0 % 48,
        handling_ns,
        args,
        ..Event::default()
    };
    let begin_ns = tick.end_ns - tick.dur_ns;
    let came = tick.life.iter().any(|life| matches!(life, Life::Vm(info) if info.id == id));
    if came && plan.roots + plan.dirty > 0.0 {
        let hva = 0x7f12_4000_0000 + u64::from(id.0) * 0x10_0000_0000;
        let log = u64::from(plan.dirty > 0.0);
        for (n, gpa, size, flags) in [
            (0, 0, 0xa_0000, log),
            (1, 0xf_0000, 0x1_0000, 2),
            (2, 0x10_0000, LOW - 0x10_0000, log),
            (3, 0x1_0000_0000, 0x1_8000_0000, log),
        ] {
            let args = [n, flags, gpa, size, hva + gpa, 0];
            tick.events.push(event(EventKind::Memslot, begin_ns + n * 90_000, 21_000, args));
        }
    }
    for (command, answer, scope, ns, often) in [
        (0x4040_ae79, -17i64 as u64, 1, 3_100, 0.2),
        (0x4020_aea5, 0, 1, 1_900, 0.9),
        (0xc008_ae67, 0, 1, 1_400, 0.4),
        (0xae03, 1, 0, 400, 0.1),
    ] {
        if rng.unit() < often {
            let at_ns = tick.end_ns - rng.between(0, tick.dur_ns);
            let args = [command, answer, 12, scope, 0, 0];
            tick.events.push(event(EventKind::Ioctl, at_ns, rng.between(ns, ns * 2), args));
        }
    }
}

pub(super) fn leave_out(tick: &mut Tick, kind: EventKind, count: u64) {
    if count == 0 {
        return;
    }
    match tick.events_left_out.iter_mut().find(|left| left.kind == kind) {
        Some(left) => left.count += count,
        None => tick.events_left_out.push(LeftOut { kind, count }),
    }
}

/// In the order in which they happened, and of each kind no more than a rate limit would leave.
pub(super) fn bound(tick: &mut Tick) {
    tick.events.sort_by_key(|event| event.at_ns);
    for kind in EventKind::ALL {
        let all = tick.events.iter().filter(|event| event.kind == kind).count();
        let Some(more) = all.checked_sub(MOST).filter(|more| *more > 0) else { continue };
        // Every so manieth, so that no part of the tick and no VM is left out as a whole.
        let mut nth = 0;
        tick.events.retain(|event| {
            if event.kind != kind {
                return true;
            }
            nth += 1;
            nth * MOST / all != (nth - 1) * MOST / all
        });
        leave_out(tick, kind, more as u64);
    }
    tick.events_left_out.sort_by_key(|left| left.kind);
}
