//! What the invented guests' exits are about.

use super::SECOND;
use crate::model::{
    detail::{KeyClass, KeyId, KeyTick, Outlier},
    ids::{Isa, Reason},
    session::{ProbeStatus, Session},
    tick::{CellTick, Tick},
};

/// A key of a VMX exit: (code, class, value, exits per mille, ns in KVM, ns in the VMM).
type Habit = (u32, KeyClass, u64, u64, u64, u64);

const HABITS: &[Habit] = &[
    (1, KeyClass::Vector, 236, 940, 1_000, 0),
    (1, KeyClass::Vector, 251, 60, 1_900, 0),
    (10, KeyClass::Cpuid, 0x1, 600, 900, 0),
    (10, KeyClass::Cpuid, 0x2_0000_0004, 400, 900, 0),
    (30, KeyClass::PortIn, 0x608, 820, 1_900, 21_000),
    (30, KeyClass::PortIn, 0x71, 60, 2_000, 18_000),
    (30, KeyClass::PortOut, 0x70, 60, 1_900, 18_000),
    (30, KeyClass::PortOut, 0x3f8, 30, 2_200, 44_000),
    (30, KeyClass::PortOut, 0xcf8, 10, 2_400, 26_000),
    (30, KeyClass::PortIn, 0xcfc, 10, 2_400, 31_000),
    (30, KeyClass::PortOut, 0x61, 5, 1_100, 0),
    (32, KeyClass::MsrWrite, 0x6e0, 970, 1_100, 0),
    (32, KeyClass::MsrWrite, 0x830, 20, 1_700, 0),
    (32, KeyClass::MsrWrite, 0x80b, 6, 800, 0),
    (32, KeyClass::MsrWrite, 0x1_0000_0150, 1, 900, 0),
    (48, KeyClass::Page, 0x1_2345_6000, 40, 2_600, 0),
    (48, KeyClass::Page, 0x7fff_f000, 10, 2_600, 0),
    (49, KeyClass::MmioFast, 0xfe00_3000, 860, 1_900, 0),
    (49, KeyClass::MmioRead, 0xfed0_00f0, 100, 2_100, 2_290_000),
    (49, KeyClass::MmioWrite, 0xfec0_0010, 40, 12_000, 300),
];

const CODE: [(u64, u64); 4] = [
    (0xffff_ffff_8106_fe89, 700),
    (0xffff_ffff_81a0_0b17, 200),
    (0x0000_7f3a_1c20_44d0, 60),
    (0xffff_ffff_c04d_2011, 20),
];

/// Adds keys to every vCPU, as the kernel would tell them, and an outlier now and then.
pub fn add(tick: &mut Tick) {
    for vcpu in &mut tick.vcpus {
        for cell in vcpu.cells.iter().filter(|cell| cell.reason.isa == Isa::Vmx) {
            let habits = HABITS.iter().filter(|habit| habit.0 == cell.reason.code);
            let mut named = false;
            for &(_, class, value, per_mille, kvm_ns, vmm_ns) in habits {
                vcpu.keys.extend(key(cell, class, value, per_mille, (kvm_ns, vmm_ns)));
                named = true;
            }
            let vmm_ns = if cell.reason.code == 30 { 21_000 } else { 0 };
            for (rip, per_mille) in CODE {
                let times = (cell.total_ns / cell.count.max(1), vmm_ns);
                vcpu.keys.extend(key(cell, KeyClass::Rip, rip, per_mille, times));
            }
            let class = match cell.reason.code {
                32 => KeyClass::MsrWrite,
                48 => KeyClass::Page,
                _ => continue,
            };
            let id = KeyId { reason: None, class, value: None };
            let count = if class == KeyClass::Page { cell.count * 95 / 100 } else { 3 };
            let times = KeyTick { timed: count, total_ns: count * 1_200, ..KeyTick::default() };
            vcpu.keys.extend((named && count > 0).then_some(KeyTick { id, count, ..times }));
        }
        vcpu.keys.sort_by_key(|key| key.id);
    }
    let slow = tick.vcpus.iter().filter(|vcpu| vcpu.key.vcpu == 0);
    for vcpu in slow.filter(|_| tick.seq.is_multiple_of(20)) {
        tick.outliers.push(Outlier {
            key: vcpu.key,
            end_ns: tick.end_ns - SECOND / 2,
            reason: Reason::exit(Isa::Vmx, 30),
            about: Some((KeyClass::PortIn, 0x608)),
            rip: 0xffff_ffff_8106_fe89,
            info1: 0x608_000b,
            handling_ns: 9_000,
            vmm_ns: 12_000_000,
            ..Outlier::default()
        });
    }
}

fn key(
    cell: &CellTick,
    class: KeyClass,
    value: u64,
    per_mille: u64,
    (kvm_ns, vmm_ns): (u64, u64),
) -> Option<KeyTick> {
    let count = cell.count * per_mille / 1_000;
    let id = KeyId { reason: Some(cell.reason), class, value: Some(value) };
    (count > 0).then_some(KeyTick {
        id,
        count,
        timed: count,
        total_ns: count * kvm_ns,
        off_ns: 0,
        vmm_ns: count * vmm_ns,
        max_ns: (kvm_ns + vmm_ns) * 17,
    })
}

/// The session with the probes that tell them.
pub fn attached(mut session: Session) -> Session {
    for hook in ["kvm:kvm_pio", "kvm:kvm_mmio", "kvm:kvm_msr", "kvm:kvm_page_fault"] {
        session.probes.push(ProbeStatus {
            name: hook.to_owned(),
            family: "detail".to_owned(),
            attached: true,
            why: None,
            how: "raw tracepoint".to_owned(),
        });
    }
    session
}
