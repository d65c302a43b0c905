//! Vectors inside of a guest: what is put into it, delivered to it, ended by it.
//!
//! Which device has a vector is the guest's choice, so most have no name. Those of Linux are the part of
//! arch/x86/include/asm/irq_vectors.h that 5.10 and 6.12 have the same, and are said to be Linux's: what
//! another guest does with them is not known. Below 16 a local APIC takes none; there they are those of a PC
//! BIOS, which programs the first 8259 so.

use super::table::{Run, find, from};
use super::vector::exception;
use kvmscope_shared::detail::{HAS_ERROR, PARAVIRTUAL, REINJECTED, SOFT};
use std::borrow::Cow;

/// The vector of a key; `None` where it is more than a vector can be.
fn vector(value: u64, flags: u64) -> Option<u8> {
    u8::try_from(vector_of(value, flags)).ok()
}

/// The number that KVM told of as a vector, without flags: the low eight bits, and in the high half what is
/// above them.
pub fn vector_of(value: u64, flags: u64) -> u64 {
    if value == u64::MAX {
        return value;
    }
    let rest = value as u32 & !(flags as u32);
    u64::from(rest) | value >> 32 << 8
}

/// What a guest's vector is, where that is known.
pub fn vector_name(vector: u8) -> Option<Cow<'static, str>> {
    find(GUEST, vector.into())
}

/// "0xfd Linux: reschedule", "0x41".
pub fn vector_text(vector: u8) -> String {
    match vector_name(vector) {
        Some(name) => format!("{vector:#x} {name}"),
        None => format!("{vector:#x}"),
    }
}

/// Number of an injected interrupt, an exception, an end of interrupt.
pub(super) fn interrupt_number(value: u64) -> String {
    match vector(value, SOFT | REINJECTED) {
        Some(vector) => format!("{vector:#x}"),
        None => format!("{:#x}", vector_of(value, SOFT | REINJECTED)),
    }
}

/// An exception's, in decimal as manuals have them.
pub(super) fn exception_number(value: u64) -> String {
    match vector(value, HAS_ERROR | REINJECTED) {
        Some(vector) => vector.to_string(),
        None => format!("{value:#x}"),
    }
}

/// An end of interrupt's; "none" where nothing was in service.
pub(super) fn eoi_number(value: u64) -> String {
    match vector(value, PARAVIRTUAL) {
        _ if value == u64::MAX => "none".to_owned(),
        Some(vector) => format!("{vector:#x}"),
        None => format!("{value:#x}"),
    }
}

fn joined(name: Option<Cow<'static, str>>, flags: &[(bool, &str)]) -> Option<Cow<'static, str>> {
    let mut words: Vec<Cow<'static, str>> = name.into_iter().collect();
    words.extend(flags.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned().into()));
    (!words.is_empty()).then(|| words.join(", ").into())
}

/// "Linux: local timer, reinjected".
pub(super) fn interrupt(value: u64) -> Option<Cow<'static, str>> {
    let name = match vector(value, SOFT | REINJECTED) {
        None => return Some("no vector".into()),
        Some(_) if value & SOFT != 0 => None,
        Some(vector) => vector_name(vector),
    };
    joined(name, &[(value & SOFT != 0, "software"), (value & REINJECTED != 0, "reinjected")])
}

/// "#PF page fault, reinjected".
pub(super) fn exception_name(value: u64) -> Option<Cow<'static, str>> {
    match vector(value, HAS_ERROR | REINJECTED) {
        None => Some("no exception".into()),
        Some(vector) => {
            joined(exception(vector.into()), &[(value & REINJECTED != 0, "reinjected")])
        }
    }
}

/// "Linux: local timer, by a flag in memory".
pub(super) fn eoi(value: u64) -> Option<Cow<'static, str>> {
    if value == u64::MAX {
        return Some("nothing was in service".into());
    }
    let name = vector(value, PARAVIRTUAL).and_then(vector_name);
    joined(name, &[(value & PARAVIRTUAL != 0, "by a flag in memory")])
}

static GUEST: &[Run] = &[
    from(
        0x08,
        &[
            "BIOS: IRQ 0",
            "BIOS: IRQ 1",
            "BIOS: IRQ 2",
            "BIOS: IRQ 3",
            "BIOS: IRQ 4",
            "BIOS: IRQ 5",
            "BIOS: IRQ 6",
            "BIOS: IRQ 7",
        ],
    ),
    from(0xec, &["Linux: local timer"]),
    from(0xf3, &["Linux: hypervisor callback"]),
    from(0xf6, &["Linux: irq work"]),
    from(0xfb, &["Linux: function call (one CPU)", "Linux: function call"]),
    from(0xfd, &["Linux: reschedule"]),
    from(0xfe, &["Linux: APIC error"]),
    from(0xff, &["Linux: spurious"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::keys::table::assert_sound;

    #[test]
    fn the_table_is_sorted() {
        assert_sound(GUEST);
    }

    #[test]
    fn flags_are_told_beside_the_vector() {
        assert_eq!(interrupt_number(0xec | REINJECTED), "0xec");
        assert_eq!(interrupt(0xec | REINJECTED).as_deref(), Some("Linux: local timer, reinjected"));
        // INT n is what the program says, not what Linux does with the vector.
        assert_eq!(interrupt(0xec | SOFT).as_deref(), Some("software"));
        assert_eq!(interrupt(0x41), None);
        assert_eq!(exception_number(14 | HAS_ERROR), "14");
        assert_eq!(exception_name(14 | HAS_ERROR).as_deref(), Some("#PF page fault"));
        assert_eq!(eoi(0x41 | PARAVIRTUAL).as_deref(), Some("by a flag in memory"));
        assert_eq!((eoi_number(u64::MAX), eoi(u64::MAX).is_some()), ("none".to_owned(), true));
    }

    #[test]
    fn a_vector_that_is_none_keeps_its_number() {
        let hostile = 0x12_3456 << 32 | REINJECTED | 0x78;
        assert_eq!(interrupt_number(hostile), "0x12345678");
        assert_eq!(interrupt(hostile).as_deref(), Some("no vector"));
        assert_eq!(exception_name(0xffff_0000).as_deref(), Some("no exception"));
        assert_eq!(eoi_number(0x1_0000), "0x10000");
    }
}
