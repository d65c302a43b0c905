//! What a key means to a guest, where several keys mean the same: the LAPIC's ICR is an MSR to one
//! guest and an address to another.

use crate::model::detail::KeyClass;
use kvmscope_shared::detail::REFUSED;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The ACPI power management timer, a clock of 3.58 MHz that is read by port.
    PmTimer,
    /// The high precision event timer.
    Hpet,
    /// The real-time clock and its memory (CMOS).
    Rtc,
    /// The interval timer of a PC (8254), and the port that gates its third channel.
    Pit,
    /// The LAPIC timer's deadline.
    TscDeadline,
    /// The LAPIC timer's initial count: what arms it in its older modes.
    TimerInitialCount,
    /// The LAPIC's interrupt command register: interrupts to other vCPUs.
    Icr,
    /// The LAPIC's end of interrupt.
    Eoi,
    /// The LAPIC's task priority.
    Tpr,
    /// Any other register of the LAPIC.
    Lapic,
    /// A register of an I/O APIC.
    IoApic,
    /// The interrupt controllers of a PC (8259).
    Pic,
    /// PCI configuration space, by port.
    PciConfig,
    /// A serial line.
    Serial,
    /// Keyboard and mouse controller.
    Keyboard,
    /// A console for debugging, or the port of power-on codes.
    Debug,
    /// QEMU's firmware configuration.
    FirmwareConfig,
    /// ACPI's power management besides the timer: events, control, hot plug.
    Acpi,
    /// Display adapter.
    Vga,
    /// Disk controller of a PC (IDE, floppy).
    Disk,
    /// VMware's back door.
    VmPort,
    /// Trusted platform module.
    Tpm,
    /// A paravirtual clock or its MSRs (KVM, Hyper-V).
    ParavirtClock,
    /// Mitigations of speculation: SPEC_CTRL, PRED_CMD, FLUSH_CMD.
    Speculation,
    /// Performance monitoring.
    Pmu,
}

/// What the key is for; `None` where that is not known, or depends on the guest. A refused access
/// of an MSR has the role of the MSR.
pub fn role(class: KeyClass, value: u64) -> Option<Role> {
    match class {
        KeyClass::PortIn | KeyClass::PortOut => port(value),
        KeyClass::MmioRead | KeyClass::MmioWrite | KeyClass::MmioFast => address(value),
        KeyClass::MsrRead | KeyClass::MsrWrite => msr((value & !REFUSED) as u32),
        _ => None,
    }
}

fn port(port: u64) -> Option<Role> {
    Some(match port {
        // Q35 at 0x600 and i440FX at 0x600 or 0xb000 keep the timer 8 above their base, as Bochs
        // does at 0xb000; cloud-hypervisor has it at 0x608 too.
        0x608..=0x60b | 0xb008..=0xb00b => Role::PmTimer,
        0x40..=0x43 | 0x61 => Role::Pit,
        0x70..=0x77 => Role::Rtc,
        0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 => Role::Pic,
        0xcf8 | 0xcfa | 0xcfb | 0xcfc..=0xcff => Role::PciConfig,
        0x3f8..=0x3ff | 0x2f8..=0x2ff | 0x3e8..=0x3ef | 0x2e8..=0x2ef => Role::Serial,
        0x60 | 0x64 => Role::Keyboard,
        0x80 | 0xe9 | 0x402 => Role::Debug,
        0x510..=0x51b => Role::FirmwareConfig,
        0x600..=0x605 | 0x620..=0x62f | 0xafe0..=0xafe3 | 0xae00..=0xae17 => Role::Acpi,
        0xb000..=0xb005 | 0xb2 | 0xb3 | 0xcc0..=0xcf7 | 0xaf00..=0xaf1f | 0xa00..=0xa17 => {
            Role::Acpi
        }
        0x3b0..=0x3bb | 0x3c0..=0x3df | 0x1ce..=0x1d0 => Role::Vga,
        0x1f0..=0x1f7 | 0x170..=0x177 | 0x3f0..=0x3f7 | 0x376 => Role::Disk,
        0x5658..=0x5659 => Role::VmPort,
        _ => return None,
    })
}

/// Base of the local APIC's page after reset; guests hardly ever move it.
pub(super) const LAPIC: u64 = 0xfee0_0000;
/// Base of the first I/O APIC of a PC.
pub(super) const IOAPIC: u64 = 0xfec0_0000;
/// Base of the HPET of a PC.
pub(super) const HPET: u64 = 0xfed0_0000;
/// Base of the TPM of a PC (TIS and CRB).
pub(super) const TPM: u64 = 0xfed4_0000;

fn address(address: u64) -> Option<Role> {
    const LAPIC_END: u64 = LAPIC + 0xfff;
    const IOAPIC_END: u64 = IOAPIC + 0xfff;
    const HPET_END: u64 = HPET + 0x3ff;
    const TPM_END: u64 = TPM + 0x4fff;
    Some(match address {
        LAPIC..=LAPIC_END => lapic((address - LAPIC) >> 4),
        IOAPIC..=IOAPIC_END => Role::IoApic,
        HPET..=HPET_END => Role::Hpet,
        TPM..=TPM_END => Role::Tpm,
        0xa_0000..=0xb_ffff => Role::Vga,
        _ => return None,
    })
}

/// By the register's number: its offset in 16 bytes, and what is added to 0x800 as an MSR.
fn lapic(register: u64) -> Role {
    match register {
        0x08 => Role::Tpr,
        0x0b => Role::Eoi,
        0x30 | 0x31 => Role::Icr,
        0x38 => Role::TimerInitialCount,
        _ => Role::Lapic,
    }
}

fn msr(msr: u32) -> Option<Role> {
    Some(match msr {
        0x6e0 => Role::TscDeadline,
        0x800..=0x83f => lapic(u64::from(msr - 0x800)),
        // Hyper-V's own three: EOI, ICR, TPR.
        0x4000_0070 => Role::Eoi,
        0x4000_0071 => Role::Icr,
        0x4000_0072 => Role::Tpr,
        0x11 | 0x12 | 0x4b56_4d00 | 0x4b56_4d01 | 0x4000_0020 | 0x4000_0021 => Role::ParavirtClock,
        0x48 | 0x49 | 0x10b | 0xc001_011f => Role::Speculation,
        0xc1..=0xc8 | 0x186..=0x18d | 0x309..=0x30c | 0x345 | 0x38d..=0x390 => Role::Pmu,
        0x4c1..=0x4c8 | 0xc001_0000..=0xc001_0007 | 0xc001_0200..=0xc001_020b => Role::Pmu,
        0xc000_0300..=0xc000_0302 => Role::Pmu,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_register_has_one_role_however_it_is_reached() {
        for (role_of, register) in
            [(Role::Icr, 0x30), (Role::Eoi, 0x0b), (Role::Tpr, 8), (Role::TimerInitialCount, 0x38)]
        {
            assert_eq!(role(KeyClass::MsrWrite, 0x800 + register), Some(role_of));
            assert_eq!(role(KeyClass::MmioWrite, LAPIC + (register << 4)), Some(role_of));
        }
        assert_eq!(role(KeyClass::MmioWrite, 0xfee0_0310), Some(Role::Icr));
        assert_eq!(role(KeyClass::MsrWrite, 0x4000_0071), Some(Role::Icr));
    }

    #[test]
    fn clocks_are_told_apart() {
        assert_eq!(role(KeyClass::PortIn, 0x608), Some(Role::PmTimer));
        assert_eq!(role(KeyClass::PortIn, 0xb008), Some(Role::PmTimer));
        assert_eq!(role(KeyClass::PortIn, 0x604), Some(Role::Acpi));
        assert_eq!(role(KeyClass::MmioRead, 0xfed0_00f0), Some(Role::Hpet));
        assert_eq!(role(KeyClass::PortIn, 0x71), Some(Role::Rtc));
        assert_eq!(role(KeyClass::PortOut, 0x43), Some(Role::Pit));
        assert_eq!(role(KeyClass::MsrWrite, 0x6e0), Some(Role::TscDeadline));
        assert_eq!(role(KeyClass::MsrWrite, 0x6e0 | REFUSED), Some(Role::TscDeadline));
    }

    #[test]
    fn what_is_not_known_has_none() {
        assert_eq!(role(KeyClass::PortOut, 0xc000), None);
        assert_eq!(role(KeyClass::MmioWrite, 0xfee0_1000), None);
        assert_eq!(role(KeyClass::Rip, 0x608), None);
        assert_eq!(role(KeyClass::Page, 0xfee0_0000), None);
    }
}
