//! The part of the command line that is about interrupts, exceptions and CPUs.

use clap::Args;

use super::{Op, count};
use crate::guest::op::Counts;

/// Interrupts and exceptions, per vCPU, and the VM's interrupt controllers.
#[derive(Args, Clone, Debug, Default)]
pub struct IrqOptions {
    /// Expiries of the local APIC's timer, started anew each time (one-shot)
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub timer_one_shot: Option<u64>,
    /// Expiries of the local APIC's periodic timer
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub timer_periodic: Option<u64>,
    /// Expiries of a TSC deadline (IA32_TSC_DEADLINE)
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub timer_deadline: Option<u64>,
    /// TSC deadlines far away, each taken back by writing 0
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub timer_disarm: Option<u64>,
    /// How long a timer runs
    #[arg(long, value_name = "US", default_value_t = 2000,
          value_parser = clap::value_parser!(u64).range(500..=500_000))]
    pub timer_us: u64,
    /// Interrupts from each vCPU to the next, round a ring, each waking a halted vCPU
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with_all = ["hlt", "die"])]
    pub ipi: Option<u64>,
    /// Messages by the VMM (KVM_SIGNAL_MSI) to a halted vCPU
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub msi: Option<u64>,
    /// Messages by an eventfd (KVM_IRQFD) to a halted vCPU
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub irqfd: Option<u64>,
    /// Interrupts on a line of the I/O APIC by an eventfd, to a halted vCPU
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub irqfd_line: Option<u64>,
    /// Interrupts on a line of the 8259 (KVM_IRQ_LINE), to a halted vCPU
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub pic_line: Option<u64>,
    /// Interrupts on a line of the I/O APIC by edge (KVM_IRQ_LINE), to a halted vCPU
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub ioapic_edge: Option<u64>,
    /// The same by level, until the guest's handler says by OUT that it has seen it
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with_all = ["hlt", "die"])]
    pub ioapic_level: Option<u64>,
    /// A masked line of the I/O APIC is raised twice and lowered before the round: the second is coalesced
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with_all = ["hlt", "die"])]
    pub line_masked: Option<u64>,
    /// RDMSR of an MSR that KVM refuses; the guest goes on after #GP
    #[arg(long, value_name = "N", value_parser = count())]
    pub gp: Option<u64>,
    /// UD2; the guest goes on after #UD
    #[arg(long, value_name = "N", value_parser = count())]
    pub ud: Option<u64>,
    /// Only the local APICs are in the kernel (KVM_CAP_SPLIT_IRQCHIP), not the 8259 and the I/O APIC
    #[arg(long, conflicts_with = "hlt")]
    pub split_irqchip: bool,
    /// The vCPUs' threads change to the next CPU so many times, between two rounds
    #[arg(long, value_name = "N", conflicts_with_all = ["pin", "die", "move_thread"],
          value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub move_cpus: Option<u64>,
}

impl IrqOptions {
    /// How many of `op` are asked for; `None` where it is not among these.
    pub fn count(&self, op: Op) -> Option<u64> {
        match op {
            Op::TimerOneShot => self.timer_one_shot,
            Op::TimerPeriodic => self.timer_periodic,
            Op::TimerDeadline => self.timer_deadline,
            Op::TimerDisarm => self.timer_disarm,
            Op::Ipi => self.ipi,
            Op::Msi => self.msi,
            Op::Irqfd => self.irqfd,
            Op::IrqfdLine => self.irqfd_line,
            Op::PicLine => self.pic_line,
            Op::IoapicEdge => self.ioapic_edge,
            Op::IoapicLevel => self.ioapic_level,
            Op::LineMasked => self.line_masked,
            Op::Gp => self.gp,
            Op::Ud => self.ud,
            _ => None,
        }
    }

    /// Whether they make sense together.
    ///
    /// # Errors
    /// A sentence, when not.
    pub fn check(&self, counts: &Counts, vcpus: u32) -> Result<(), String> {
        let lines = |op: Op| op.needs_lines() && op != Op::MmioKernel;
        if vcpus > 1 && counts.any(lines) {
            return Err("the vCPUs of a VM share its 8259 and I/O APIC, whose lines go to the \
                 first; with --pic-line, --ioapic-edge, --ioapic-level, --irqfd-line and \
                 --line-masked take --vcpus 1 (and --vms for more)"
                .to_owned());
        }
        if counts.slots > 0 && counts.any(|op| op.needs_handlers()) {
            return Err("when a slot is moved or deleted KVM forgets all of the VM's pages, and \
                 what it then does for an interrupt is not known; take --slots and interrupts or \
                 exceptions in two runs"
                .to_owned());
        }
        Ok(())
    }
}
