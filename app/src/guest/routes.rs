//! Interrupts in the guest's own words: what its handlers counted, what its timers did, and what the VMM sent
//! through the chips in the kernel.

use kvmscope_shared::route::chip;
use serde::{Deserialize, Serialize};

use super::expect::Done;
use super::irqs::{
    EDGE_PIN, IRQFD_PIN, LEVEL_PIN, MASKED_PIN, PIC_PIN, handler, message, redirection,
};
use super::op::Op;
use super::outcome::VcpuOutcome;

/// Interrupts or exceptions that came to a handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptCount {
    /// Vector.
    pub vector: u8,
    /// What it was made by.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// What the guest did with the timer of its local APIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Deadlines other than 0 written.
    pub deadlines: u64,
    /// Deadlines taken back.
    pub disarmed: u64,
    /// One-shot counters started.
    pub one_shot: u64,
    /// Periodic counters started; each is stopped by a count of 0.
    pub periodic: u64,
    /// Its interrupts.
    pub expired: u64,
}

impl Timers {
    /// Those of `done`.
    pub fn of(done: &Done) -> Self {
        let made = &done.made;
        let timers = Op::ALL.into_iter().filter(|op| op.is_timer()).filter_map(handler);
        Self {
            deadlines: made.timer_deadline + made.timer_disarm,
            disarmed: made.timer_disarm,
            one_shot: made.timer_one_shot,
            periodic: done.starts,
            expired: timers.map(|index| done.handled[index]).sum(),
        }
    }
}

/// What came through one chip in one way. `chip`, `a` and `b` are those of [`kvmscope_shared::route::chip`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCount {
    /// `pic`, `ioapic`, `msi` or `line`.
    pub chip: String,
    /// Pin, GSI or address.
    pub a: u64,
    /// Trigger mode and mask, redirection entry (its bits 12 and 14, which change, are 0), data, or level.
    pub b: u64,
    /// `waker` (the thread that wakes the vCPU), `vcpu` (the vCPU's own, outside of KVM_RUN) or `kernel` (a
    /// kernel worker, for an eventfd).
    pub sender: String,
    /// How many.
    pub count: u64,
    /// Of them, those that one like it was still waiting for.
    pub coalesced: u64,
}

/// What the VMM sent to a VM with these vCPUs.
pub fn routes(vcpus: &[VcpuOutcome]) -> Vec<RouteCount> {
    let mut rows = Vec::new();
    for vcpu in vcpus {
        of_vcpu(vcpu, &mut rows);
    }
    let mut sums: Vec<RouteCount> = Vec::new();
    for row in rows.into_iter().filter(|row| row.count > 0) {
        let same = |sum: &&mut RouteCount| {
            (&sum.chip, sum.a, sum.b, &sum.sender) == (&row.chip, row.a, row.b, &row.sender)
        };
        match sums.iter_mut().find(same) {
            Some(sum) => sum.count += row.count,
            None => sums.push(row),
        }
    }
    sums
}

fn of_vcpu(vcpu: &VcpuOutcome, rows: &mut Vec<RouteCount>) {
    let made = &vcpu.made;
    let mut add = |number: u32, a: u64, b: u64, sender: &str, count: u64, coalesced: u64| {
        let chip = match number {
            chip::PIC => "pic",
            chip::IOAPIC => "ioapic",
            chip::MSI => "msi",
            _ => "line",
        };
        let (chip, sender) = (chip.to_owned(), sender.to_owned());
        rows.push(RouteCount { chip, a, b, sender, count, coalesced });
    };
    for (op, count) in [(Op::Halt, made.halt), (Op::Msi, made.msi), (Op::Irqfd, made.irqfd)] {
        let (address, data) = message(vcpu.vcpu, op);
        add(chip::MSI, address.into(), data.into(), "waker", count, 0);
    }
    // Each is raised and lowered. Lines below 16 go to both chips.
    add(chip::PIC, PIC_PIN.into(), 0, "waker", 2 * made.pic_line, 0);
    // The guest's handler asks for a level to be lowered, each time it runs.
    let handled = vcpu.interrupts.iter().find(|count| count.kind == Op::IoapicLevel.name());
    let handled = handled.map_or(0, |handled| handled.count);
    for (pin, (raises, raised), (lowers, lowered)) in [
        (PIC_PIN, ("waker", made.pic_line), ("waker", made.pic_line)),
        (EDGE_PIN, ("waker", made.ioapic_edge), ("waker", made.ioapic_edge)),
        (LEVEL_PIN, ("waker", made.ioapic_level), ("vcpu", handled)),
        (IRQFD_PIN, ("kernel", made.irqfd_line), ("kernel", made.irqfd_line)),
    ] {
        for (level, sender, count) in [(1, raises, raised), (0, lowers, lowered)] {
            add(chip::IOAPIC, pin.into(), redirection(pin), sender, count, 0);
            add(chip::LINE, pin.into(), level, sender, count, 0);
        }
    }
    let masked = made.line_masked;
    add(chip::IOAPIC, MASKED_PIN.into(), redirection(MASKED_PIN), "vcpu", 3 * masked, masked);
    add(chip::LINE, MASKED_PIN.into(), 1, "vcpu", 2 * masked, 0);
    add(chip::LINE, MASKED_PIN.into(), 0, "vcpu", masked, 0);
}
