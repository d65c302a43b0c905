//! Guest-physical addresses that a PC has fixed: LAPIC, I/O APIC, HPET, TPM, VGA.
//!
//! What guests place themselves (BARs, MMCONFIG) has no name here. From the Intel SDM vol. 3
//! chapter 11, the 82093AA and ICH9 data sheets, the IA-PC HPET specification 1.0a, TCG's PC client
//! TPM profile, and QEMU's hw/i386/{pc,microvm}.c and hw/tpm/tpm_{tis,crb}.h.

use super::lapic;
use super::role::{HPET, IOAPIC, LAPIC, TPM};
use super::table::{Run, find, from, run};
use std::borrow::Cow;

/// The name of an address.
pub(super) fn name(address: u64) -> Option<Cow<'static, str>> {
    match address {
        LAPIC..=LAPIC_END => {
            let name = lapic::register((address - LAPIC) >> 4);
            Some(name.map_or(Cow::Borrowed("LAPIC"), |name| Cow::Owned(format!("LAPIC {name}"))))
        }
        HPET..=HPET_END => Some(hpet(address - HPET)),
        _ => find(TABLE, address),
    }
}

const LAPIC_END: u64 = LAPIC + 0xfff;
const HPET_END: u64 = HPET + 0x3ff;

/// By the offset in the HPET's page. Registers are 8 bytes wide and may be read in halves.
fn hpet(offset: u64) -> Cow<'static, str> {
    let timer = (offset.wrapping_sub(0x100)) >> 5;
    match (offset & !7, offset & 0x18) {
        (0x00, _) => "HPET capabilities".into(),
        (0x10, _) => "HPET configuration".into(),
        (0x20, _) => "HPET interrupt status".into(),
        (0xf0, _) => "HPET main counter".into(),
        (0x100.., 0x00) => format!("HPET timer {timer} configuration").into(),
        (0x100.., 0x08) => format!("HPET timer {timer} comparator").into(),
        (0x100.., 0x10) => format!("HPET timer {timer} FSB route").into(),
        _ => "HPET".into(),
    }
}

static TABLE: &[Run] = &[
    run(0xa_0000, 0xb_ffff, &["VGA memory"]),
    from(IOAPIC, &["I/O APIC index"]),
    from(IOAPIC + 0x10, &["I/O APIC data"]),
    from(IOAPIC + 0x40, &["I/O APIC EOI"]),
    from(IOAPIC + 0x1_0000, &["I/O APIC 2 index"]),
    from(IOAPIC + 0x1_0010, &["I/O APIC 2 data"]),
    from(IOAPIC + 0x1_0040, &["I/O APIC 2 EOI"]),
    run(0xfed1_c000, 0xfed1_ffff, &["ICH9 root complex"]),
    run(TPM, TPM + 0x4fff, &["TPM"]),
    run(0xfed4_5000, 0xfed4_53ff, &["TPM physical presence"]),
    run(0xfed8_0000, 0xfed8_3fff, &["AMD IOMMU"]),
    run(0xfed9_0000, 0xfed9_0fff, &["VT-d"]),
    // Above the LAPIC's own page; a device that writes here raises an interrupt.
    run(LAPIC + 0x1000, LAPIC + 0xf_ffff, &["MSI window"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::keys::table::assert_sound;

    #[test]
    fn the_table_is_sorted() {
        assert_sound(TABLE);
    }

    #[test]
    fn registers_are_told_apart() {
        for (address, expected) in [
            (0xfee0_0080, "LAPIC TPR"),
            (0xfee0_00b0, "LAPIC EOI"),
            (0xfee0_0300, "LAPIC ICR"),
            (0xfee0_0310, "LAPIC ICR high"),
            (0xfee0_0380, "LAPIC timer initial count"),
            (0xfee0_0390, "LAPIC timer current count"),
            (0xfee0_0ff0, "LAPIC"),
            (0xfee0_1000, "MSI window"),
            (0xfec0_0000, "I/O APIC index"),
            (0xfec0_0010, "I/O APIC data"),
            (0xfec0_0040, "I/O APIC EOI"),
            (0xfed0_0000, "HPET capabilities"),
            (0xfed0_00f0, "HPET main counter"),
            (0xfed0_00f4, "HPET main counter"),
            (0xfed0_0100, "HPET timer 0 configuration"),
            (0xfed0_0128, "HPET timer 1 comparator"),
            (0xfed0_0150, "HPET timer 2 FSB route"),
            (0xfed0_0030, "HPET"),
            (0xfed4_0000, "TPM"),
            (0xb_8000, "VGA memory"),
        ] {
            assert_eq!(name(address).as_deref(), Some(expected), "{address:#x}");
        }
        for none in [0, 0x9_ffff, 0xfec0_0020, 0xfed0_0400, 0x1_0000_0000, u64::MAX] {
            assert_eq!(name(none), None, "{none:#x}");
        }
    }
}
