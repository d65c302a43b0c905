//! The guest's handlers: a vector for each kind of interrupt and exception, and the numbers of its local
//! APIC (in x2APIC mode, so that each access is one MSR access and no page is shared).

use super::op::Op;

/// Vectors with a handler, and what comes there.
pub const HANDLED: [(Op, u8); 12] = [
    (Op::TimerOneShot, 0x30),
    (Op::TimerPeriodic, 0x31),
    (Op::TimerDeadline, 0x32),
    (Op::Ipi, 0x33),
    (Op::Msi, 0x34),
    (Op::Irqfd, 0x35),
    (Op::IrqfdLine, 0x36),
    (Op::IoapicEdge, 0x37),
    (Op::IoapicLevel, 0x38),
    (Op::PicLine, PIC_BASE + PIC_PIN as u8),
    (Op::Gp, 13),
    (Op::Ud, 6),
];
/// How many there are.
pub const HANDLERS: usize = HANDLED.len();

/// The vector of the 8259's first pin.
pub const PIC_BASE: u8 = 0x20;
/// The line of the 8259; the I/O APIC has it too, masked.
pub const PIC_PIN: u32 = 4;
/// Lines of the I/O APIC alone.
pub const EDGE_PIN: u32 = 20;
/// As above, by level.
pub const LEVEL_PIN: u32 = 21;
/// As above, masked.
pub const MASKED_PIN: u32 = 22;
/// As above, by an eventfd.
pub const IRQFD_PIN: u32 = 23;
/// Lines of the I/O APIC; the first GSI that is a message.
pub const PINS: u32 = 24;

/// MSRs of the local APIC (SDM volume 3, table 11-6) and of the deadline.
pub mod msr {
    /// End of interrupt.
    pub const EOI: u32 = 0x80b;
    /// Interrupt command.
    pub const ICR: u32 = 0x830;
    /// The timer's entry of the local vector table.
    pub const LVTT: u32 = 0x832;
    /// The timer's initial count.
    pub const TMICT: u32 = 0x838;
    /// IA32_TSC_DEADLINE.
    pub const DEADLINE: u32 = 0x6e0;
    /// One that KVM does not have, far from any range that has meaning.
    pub const NONE: u32 = 0xdead_0000;
}

/// LVTT: periodic.
pub const PERIODIC: u32 = 1 << 17;
/// LVTT: by deadline.
pub const BY_DEADLINE: u32 = 1 << 18;

/// The place of `op` in [`HANDLED`].
pub fn handler(op: Op) -> Option<usize> {
    HANDLED.iter().position(|&(handled, _)| handled == op)
}

/// The vector of `op`; 0 for one without.
pub fn vector(op: Op) -> u8 {
    handler(op).map_or(0, |index| HANDLED[index].1)
}

/// Whether the handler ends the interrupt at the local APIC.
pub fn ends_at_apic(op: Op) -> bool {
    // The 8259 is set to end by itself.
    !matches!(op, Op::Gp | Op::Ud | Op::PicLine)
}

/// An entry of the I/O APIC: fixed, physical, to APIC 0 (SDM volume 3, 11.12; 82093AA datasheet, 3.2.4).
pub fn redirection(pin: u32) -> u64 {
    const LEVEL: u64 = 1 << 15;
    const MASKED: u64 = 1 << 16;
    match pin {
        EDGE_PIN => u64::from(vector(Op::IoapicEdge)),
        LEVEL_PIN => u64::from(vector(Op::IoapicLevel)) | LEVEL,
        IRQFD_PIN => u64::from(vector(Op::IrqfdLine)),
        _ => MASKED,
    }
}

/// A message to the vCPU with that APIC id: address and data.
pub fn message(apic_id: u32, op: Op) -> (u32, u32) {
    // Delivery mode 3 for a wake-up without interrupt: see `helper`.
    let data = if op == Op::Halt { 0x300 } else { u32::from(vector(op)) };
    (0xfee0_0000 | apic_id << 12, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_different_and_in_the_table() {
        let mut vectors: Vec<u8> = HANDLED.iter().map(|handled| handled.1).collect();
        vectors.sort_unstable();
        vectors.dedup();
        assert_eq!(vectors.len(), HANDLERS);
        assert!(vectors.iter().all(|&vector| vector < super::super::tables::GATES));
        assert_eq!((vector(Op::PicLine), vector(Op::Ipi), vector(Op::Out)), (0x24, 0x33, 0));
    }

    #[test]
    fn entries_are_those_of_the_datasheet() {
        assert_eq!(redirection(EDGE_PIN), 0x37);
        assert_eq!(redirection(LEVEL_PIN), 0x8038);
        assert_eq!((redirection(MASKED_PIN), redirection(PIC_PIN)), (0x10000, 0x10000));
    }

    #[test]
    fn the_message_names_the_vcpu() {
        assert_eq!(message(3, Op::Halt), (0xfee0_3000, 0x300));
        assert_eq!(message(1, Op::Msi), (0xfee0_1000, 0x34));
    }
}
