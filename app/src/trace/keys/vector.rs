//! Vectors: interrupts of the host and exceptions of the guest that made an exit.
//!
//! The value is VMX's interruption information, bits 10:0 (SDM vol. 3 24.9.2): the vector, and in
//! bits 10:8 its type. Exceptions: SDM vol. 3 6.3.1. Vectors of the host: the part of
//! arch/x86/include/asm/irq_vectors.h that Linux 5.10 and 6.12 have the same; the rest, and
//! other kernels, have none.

use super::table::{Run, find, from, run};
use std::borrow::Cow;

const TYPE_EXTERNAL: u64 = 0;
const TYPE_NMI: u64 = 2;
const TYPE_EXCEPTION: u64 = 3;
const TYPE_SOFTWARE_INTERRUPT: u64 = 4;
const TYPE_PRIVILEGED_EXCEPTION: u64 = 5;
const TYPE_SOFTWARE_EXCEPTION: u64 = 6;

/// Its type, as above.
fn kind(value: u64) -> u64 {
    (value >> 8) & 7
}

/// Interrupts in hexadecimal, as the kernel has them, exceptions in decimal, as manuals do.
pub(super) fn number(value: u64) -> String {
    let vector = value & 0xff;
    match kind(value) {
        TYPE_EXTERNAL | TYPE_SOFTWARE_INTERRUPT => format!("{vector:#x}"),
        _ => vector.to_string(),
    }
}

/// What it is.
pub(super) fn name(value: u64) -> Option<Cow<'static, str>> {
    let vector = value & 0xff;
    match kind(value) {
        TYPE_EXTERNAL => find(HOST, vector),
        TYPE_NMI => Some("NMI".into()),
        TYPE_EXCEPTION | TYPE_PRIVILEGED_EXCEPTION | TYPE_SOFTWARE_EXCEPTION => exception(vector),
        TYPE_SOFTWARE_INTERRUPT => Some("software interrupt".into()),
        _ => None,
    }
}

/// An exception by its vector.
pub(in crate::trace) fn exception(vector: u64) -> Option<Cow<'static, str>> {
    find(EXCEPTIONS, vector)
}

static HOST: &[Run] = &[
    run(0x20, 0x7f, &["host device"]),
    from(0x80, &["host system call"]),
    run(0x81, 0xeb, &["host device"]),
    from(0xec, &["host timer"]),
    from(0xed, &["host Hyper-V timer", "host Hyper-V re-enlightenment"]),
    from(0xf0, &["posted interrupt (nested)"]),
    from(0xf1, &["posted interrupt wake-up", "posted interrupt"]),
    from(0xf3, &["host hypervisor callback", "host deferred machine check error"]),
    from(0xf6, &["host irq work", "host platform IPI"]),
    from(0xf8, &["host reboot", "host machine check threshold"]),
    from(0xfa, &["host thermal"]),
    from(0xfb, &["host function call (one CPU)", "host function call"]),
    from(0xfd, &["host reschedule"]),
    from(0xfe, &["host APIC error"]),
    from(0xff, &["host spurious interrupt"]),
];

static EXCEPTIONS: &[Run] = &[
    from(
        0,
        &[
            "#DE divide error",
            "#DB debug",
            "NMI",
            "#BP breakpoint",
            "#OF overflow",
            "#BR bound range",
            "#UD invalid opcode",
            "#NM device not available",
            "#DF double fault",
            "coprocessor segment overrun",
            "#TS invalid TSS",
            "#NP segment not present",
            "#SS stack fault",
            "#GP general protection",
            "#PF page fault",
        ],
    ),
    from(16, &["#MF x87 error", "#AC alignment check", "#MC machine check", "#XM SIMD error"]),
    from(20, &["#VE virtualization", "#CP control protection"]),
    from(28, &["#HV hypervisor injection", "#VC VMM communication"]),
    from(30, &["#SX security"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::keys::table::assert_sound;

    #[test]
    fn the_tables_are_sorted() {
        assert_sound(HOST);
        assert_sound(EXCEPTIONS);
    }

    #[test]
    fn interrupts_and_exceptions_of_one_number_are_told_apart() {
        assert_eq!(name(0xec).as_deref(), Some("host timer"));
        assert_eq!(name(0xfd).as_deref(), Some("host reschedule"));
        assert_eq!(name(0xf2).as_deref(), Some("posted interrupt"));
        assert_eq!(name(0x31).as_deref(), Some("host device"));
        assert_eq!(name(0x202).as_deref(), Some("NMI"));
        assert_eq!(name(0x30e).as_deref(), Some("#PF page fault"));
        assert_eq!(name(0x603).as_deref(), Some("#BP breakpoint"));
        assert_eq!(name(0x501).as_deref(), Some("#DB debug"));
        assert_eq!(name(0xf5), None);
        assert_eq!(name(0x10e), None);
        assert_eq!(number(0xec), "0xec");
        assert_eq!(number(0x30e), "14");
    }
}
