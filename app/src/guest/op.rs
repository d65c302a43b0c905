//! What the guest can be asked to make, and how many of each.

use serde::{Deserialize, Serialize};

/// One kind of exit that the guest makes on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Op {
    /// CPUID, leaf 0.
    Cpuid,
    /// RDMSR of IA32_APIC_BASE.
    Rdmsr,
    /// WRMSR of IA32_BIOS_UPDT_TRIG, which KVM swallows.
    Wrmsr,
    /// VMCALL or VMMCALL with a number that KVM does not know.
    Hypercall,
    /// The first write to a page.
    Touch,
    /// OUT to a port without a device in the kernel.
    Out,
    /// IN from such a port.
    In,
    /// A read of an address without memory.
    MmioRead,
    /// A write to such an address.
    MmioWrite,
    /// HLT, without an interrupt controller in the kernel.
    Hlt,
    /// A write to the page of memory that may only be read.
    SamePage,
    /// HLT with an interrupt controller in the kernel: the vCPU halts inside KVM until woken.
    Halt,
    /// PAUSE, which exits only where the processor finds too many of them.
    Pause,
    /// A write to a page of the slot whose dirty pages KVM logs.
    Dirty,
    /// A write to an address that rings an eventfd in the kernel.
    Doorbell,
    /// A read of a register of the interrupt controller in the kernel (I/O APIC).
    MmioKernel,
    /// A read through a page table that KVM has not mapped.
    Walk,
    /// Nothing by the guest: before it the VMM set, moved and deleted a memory slot.
    Slots,
    /// A read and then an execution of a huge page, which KVM maps without leave to execute first.
    Exec,
    /// KVM_HC_KICK_CPU of an APIC that no vCPU has.
    KickCpu,
    /// KVM_HC_SEND_IPI to three APICs that no vCPU has.
    SendIpi,
    /// KVM_HC_SCHED_YIELD to an APIC that no vCPU has.
    SchedYield,
    /// KVM_HC_CLOCK_PAIRING of a type that KVM does not have.
    ClockPairing,
    /// Expiry of the local APIC's timer in one-shot mode.
    TimerOneShot,
    /// Expiry of it in periodic mode.
    TimerPeriodic,
    /// Expiry of it at a deadline of the time stamp counter.
    TimerDeadline,
    /// A deadline that is far away, and then taken back.
    TimerDisarm,
    /// An inter-processor interrupt to the next vCPU, round a ring.
    Ipi,
    /// A message of the VMM (KVM_SIGNAL_MSI) that is waited for.
    Msi,
    /// A message by an eventfd (KVM_IRQFD) that is waited for.
    Irqfd,
    /// An edge on a line of the I/O APIC by an eventfd that is waited for.
    IrqfdLine,
    /// An edge on a line of the 8259 that is waited for.
    PicLine,
    /// An edge on a line of the I/O APIC that is waited for.
    IoapicEdge,
    /// A level on a line of the I/O APIC that is waited for.
    IoapicLevel,
    /// Nothing by the guest: before it the VMM raised a masked line twice and lowered it.
    LineMasked,
    /// RDMSR of an MSR that KVM refuses; the guest goes on after #GP.
    Gp,
    /// UD2; the guest goes on after #UD.
    Ud,
}

/// How many kinds there are.
pub const KINDS: usize = 37;

impl Op {
    /// All of them, in the order in which the guest makes them.
    pub const ALL: [Self; KINDS] = [
        Self::Cpuid,
        Self::Rdmsr,
        Self::Wrmsr,
        Self::Hypercall,
        Self::Touch,
        Self::Out,
        Self::In,
        Self::MmioRead,
        Self::MmioWrite,
        Self::Hlt,
        Self::SamePage,
        Self::Halt,
        Self::Pause,
        Self::Dirty,
        Self::Doorbell,
        Self::MmioKernel,
        Self::Walk,
        Self::Slots,
        Self::Exec,
        Self::KickCpu,
        Self::SendIpi,
        Self::SchedYield,
        Self::ClockPairing,
        Self::TimerOneShot,
        Self::TimerPeriodic,
        Self::TimerDeadline,
        Self::TimerDisarm,
        Self::Ipi,
        Self::Msi,
        Self::Irqfd,
        Self::IrqfdLine,
        Self::PicLine,
        Self::IoapicEdge,
        Self::IoapicLevel,
        Self::LineMasked,
        Self::Gp,
        Self::Ud,
    ];

    /// The name in options and output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpuid => "cpuid",
            Self::Rdmsr => "rdmsr",
            Self::Wrmsr => "wrmsr",
            Self::Hypercall => "hypercall",
            Self::Touch => "touch",
            Self::Out => "out",
            Self::In => "in",
            Self::MmioRead => "mmio_read",
            Self::MmioWrite => "mmio_write",
            Self::Hlt => "hlt",
            Self::SamePage => "same_page",
            Self::Halt => "halt",
            Self::Pause => "pause",
            Self::Dirty => "dirty",
            Self::Doorbell => "doorbell",
            Self::MmioKernel => "mmio_kernel",
            Self::Walk => "walk",
            Self::Slots => "slots",
            Self::Exec => "exec",
            Self::KickCpu => "kick_cpu",
            Self::SendIpi => "send_ipi",
            Self::SchedYield => "sched_yield",
            Self::ClockPairing => "clock_pairing",
            Self::TimerOneShot => "timer_one_shot",
            Self::TimerPeriodic => "timer_periodic",
            Self::TimerDeadline => "timer_deadline",
            Self::TimerDisarm => "timer_disarm",
            Self::Ipi => "ipi",
            Self::Msi => "msi",
            Self::Irqfd => "irqfd",
            Self::IrqfdLine => "irqfd_line",
            Self::PicLine => "pic_line",
            Self::IoapicEdge => "ioapic_edge",
            Self::IoapicLevel => "ioapic_level",
            Self::LineMasked => "line_masked",
            Self::Gp => "gp",
            Self::Ud => "ud",
        }
    }

    /// Whether KVM hands it to the VMM, so that KVM_RUN returns.
    pub fn reaches_vmm(self) -> bool {
        self.is_device() || self == Self::Hlt
    }

    /// Whether a device of the VMM answers it.
    pub fn is_device(self) -> bool {
        matches!(self, Self::Out | Self::In | Self::MmioRead | Self::MmioWrite | Self::SamePage)
    }

    /// Whether `--all` and the default ask for it: kinds that need nothing but the instruction.
    pub fn is_plain(self) -> bool {
        (self as usize) <= Self::Hlt as usize
    }

    /// Whether it is a hypercall.
    pub fn is_hypercall(self) -> bool {
        use Op::{ClockPairing, Hypercall, KickCpu, SchedYield, SendIpi};
        matches!(self, Hypercall | KickCpu | SendIpi | SchedYield | ClockPairing)
    }

    /// Whether it needs an interrupt controller in the kernel.
    pub fn needs_irqchip(self) -> bool {
        matches!(self, Self::Halt | Self::MmioKernel) || self.needs_apic() || self.needs_lines()
    }

    /// Whether the guest uses its local APIC for it.
    pub fn needs_apic(self) -> bool {
        (Self::TimerOneShot as usize..=Self::IoapicLevel as usize).contains(&(self as usize))
    }

    /// Whether it needs the 8259 or the I/O APIC in the kernel, of which there is one for each VM.
    pub fn needs_lines(self) -> bool {
        use Op::{IoapicEdge, IoapicLevel, IrqfdLine, LineMasked, MmioKernel, PicLine};
        matches!(self, MmioKernel | IrqfdLine | PicLine | IoapicEdge | IoapicLevel | LineMasked)
    }

    /// Whether another thread of the VMM wakes the vCPU from it.
    pub fn is_woken(self) -> bool {
        use Op::{Halt, IoapicEdge, IoapicLevel, Irqfd, IrqfdLine, Msi, PicLine};
        matches!(self, Halt | Msi | Irqfd | IrqfdLine | PicLine | IoapicEdge | IoapicLevel)
    }

    /// Whether it is a timer of the local APIC.
    pub fn is_timer(self) -> bool {
        (Self::TimerOneShot as usize..=Self::TimerDisarm as usize).contains(&(self as usize))
    }

    /// Whether the guest has a handler for what comes of it.
    pub fn needs_handlers(self) -> bool {
        self.needs_apic() || matches!(self, Self::Gp | Self::Ud)
    }

    /// Whether it makes KVM map memory, which must not happen while other memory is unmapped.
    pub fn maps_memory(self) -> bool {
        matches!(self, Self::Touch | Self::Dirty | Self::Walk | Self::Exec)
    }
}

/// How many of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// OUT instructions.
    pub out: u64,
    /// IN instructions.
    #[serde(rename = "in")]
    pub input: u64,
    /// Reads of an address without memory.
    pub mmio_read: u64,
    /// Writes to an address without memory.
    pub mmio_write: u64,
    /// CPUID instructions.
    pub cpuid: u64,
    /// RDMSR instructions.
    pub rdmsr: u64,
    /// WRMSR instructions.
    pub wrmsr: u64,
    /// VMCALL or VMMCALL instructions.
    pub hypercall: u64,
    /// HLT instructions, without the one that ends each round.
    pub hlt: u64,
    /// First writes to a page.
    pub touch: u64,
    /// Writes to a page that may only be read; every one faults.
    #[serde(default)]
    pub same_page: u64,
    /// HLT instructions that KVM itself lets halt.
    #[serde(default)]
    pub halt: u64,
    /// PAUSE instructions.
    #[serde(default)]
    pub pause: u64,
    /// Writes to pages whose dirtying KVM logs.
    #[serde(default)]
    pub dirty: u64,
    /// Writes to an address that rings an eventfd in the kernel.
    #[serde(default)]
    pub doorbell: u64,
    /// Reads of a register of the interrupt controller in the kernel.
    #[serde(default)]
    pub mmio_kernel: u64,
    /// Reads through page tables that KVM has not mapped.
    #[serde(default)]
    pub walk: u64,
    /// Memory slots that the VMM set, moved and deleted while the guest was stopped.
    #[serde(default)]
    pub slots: u64,
    /// Huge pages read and then executed.
    #[serde(default)]
    pub exec: u64,
    /// KVM_HC_KICK_CPU hypercalls.
    #[serde(default)]
    pub kick_cpu: u64,
    /// KVM_HC_SEND_IPI hypercalls.
    #[serde(default)]
    pub send_ipi: u64,
    /// KVM_HC_SCHED_YIELD hypercalls.
    #[serde(default)]
    pub sched_yield: u64,
    /// KVM_HC_CLOCK_PAIRING hypercalls.
    #[serde(default)]
    pub clock_pairing: u64,
    /// Expiries of the local APIC's timer in one-shot mode.
    #[serde(default)]
    pub timer_one_shot: u64,
    /// Expiries of it in periodic mode that were asked for.
    #[serde(default)]
    pub timer_periodic: u64,
    /// Expiries of it at a deadline of the time stamp counter.
    #[serde(default)]
    pub timer_deadline: u64,
    /// Deadlines written and taken back.
    #[serde(default)]
    pub timer_disarm: u64,
    /// Inter-processor interrupts sent to the next vCPU.
    #[serde(default)]
    pub ipi: u64,
    /// Messages of the VMM by ioctl.
    #[serde(default)]
    pub msi: u64,
    /// Messages by an eventfd.
    #[serde(default)]
    pub irqfd: u64,
    /// Edges on a line by an eventfd.
    #[serde(default)]
    pub irqfd_line: u64,
    /// Edges on a line of the 8259.
    #[serde(default)]
    pub pic_line: u64,
    /// Edges on a line of the I/O APIC.
    #[serde(default)]
    pub ioapic_edge: u64,
    /// Levels on a line of the I/O APIC.
    #[serde(default)]
    pub ioapic_level: u64,
    /// Masked lines that the VMM raised twice and lowered.
    #[serde(default)]
    pub line_masked: u64,
    /// RDMSRs that KVM refused.
    #[serde(default)]
    pub gp: u64,
    /// UD2 instructions.
    #[serde(default)]
    pub ud: u64,
}

impl Counts {
    /// The count of one kind.
    pub fn get(&self, op: Op) -> u64 {
        match op {
            Op::Out => self.out,
            Op::In => self.input,
            Op::MmioRead => self.mmio_read,
            Op::MmioWrite => self.mmio_write,
            Op::Cpuid => self.cpuid,
            Op::Rdmsr => self.rdmsr,
            Op::Wrmsr => self.wrmsr,
            Op::Hypercall => self.hypercall,
            Op::Hlt => self.hlt,
            Op::Touch => self.touch,
            Op::SamePage => self.same_page,
            Op::Halt => self.halt,
            Op::Pause => self.pause,
            Op::Dirty => self.dirty,
            Op::Doorbell => self.doorbell,
            Op::MmioKernel => self.mmio_kernel,
            Op::Walk => self.walk,
            Op::Slots => self.slots,
            Op::Exec => self.exec,
            Op::KickCpu => self.kick_cpu,
            Op::SendIpi => self.send_ipi,
            Op::SchedYield => self.sched_yield,
            Op::ClockPairing => self.clock_pairing,
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
        }
    }

    /// Sets the count of one kind.
    pub fn set(&mut self, op: Op, count: u64) {
        let field = match op {
            Op::Out => &mut self.out,
            Op::In => &mut self.input,
            Op::MmioRead => &mut self.mmio_read,
            Op::MmioWrite => &mut self.mmio_write,
            Op::Cpuid => &mut self.cpuid,
            Op::Rdmsr => &mut self.rdmsr,
            Op::Wrmsr => &mut self.wrmsr,
            Op::Hypercall => &mut self.hypercall,
            Op::Hlt => &mut self.hlt,
            Op::Touch => &mut self.touch,
            Op::SamePage => &mut self.same_page,
            Op::Halt => &mut self.halt,
            Op::Pause => &mut self.pause,
            Op::Dirty => &mut self.dirty,
            Op::Doorbell => &mut self.doorbell,
            Op::MmioKernel => &mut self.mmio_kernel,
            Op::Walk => &mut self.walk,
            Op::Slots => &mut self.slots,
            Op::Exec => &mut self.exec,
            Op::KickCpu => &mut self.kick_cpu,
            Op::SendIpi => &mut self.send_ipi,
            Op::SchedYield => &mut self.sched_yield,
            Op::ClockPairing => &mut self.clock_pairing,
            Op::TimerOneShot => &mut self.timer_one_shot,
            Op::TimerPeriodic => &mut self.timer_periodic,
            Op::TimerDeadline => &mut self.timer_deadline,
            Op::TimerDisarm => &mut self.timer_disarm,
            Op::Ipi => &mut self.ipi,
            Op::Msi => &mut self.msi,
            Op::Irqfd => &mut self.irqfd,
            Op::IrqfdLine => &mut self.irqfd_line,
            Op::PicLine => &mut self.pic_line,
            Op::IoapicEdge => &mut self.ioapic_edge,
            Op::IoapicLevel => &mut self.ioapic_level,
            Op::LineMasked => &mut self.line_masked,
            Op::Gp => &mut self.gp,
            Op::Ud => &mut self.ud,
        };
        *field = count;
    }

    /// Counts made by asking `of` about each kind.
    pub fn from_fn(mut of: impl FnMut(Op) -> u64) -> Self {
        let mut counts = Self::default();
        for op in Op::ALL {
            counts.set(op, of(op));
        }
        counts
    }

    /// The largest count of a single kind.
    pub fn largest(&self) -> u64 {
        Op::ALL.iter().map(|&op| self.get(op)).max().unwrap_or(0)
    }

    /// Whether there are any of the kinds for which `is` holds.
    pub fn any(&self, is: impl Fn(Op) -> bool) -> bool {
        Op::ALL.iter().any(|&op| is(op) && self.get(op) > 0)
    }

    /// The sum over the kinds that a device of the VMM answers.
    pub fn devices(&self) -> u64 {
        Op::ALL.iter().filter(|op| op.is_device()).map(|&op| self.get(op)).sum()
    }

    /// The sum over the kinds that KVM hands to the VMM.
    pub fn reaching_vmm(&self) -> u64 {
        Op::ALL.iter().filter(|op| op.reaches_vmm()).map(|&op| self.get(op)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_count() {
        for op in Op::ALL {
            let mut counts = Counts::default();
            counts.set(op, 7);
            for other in Op::ALL {
                assert_eq!(counts.get(other), if other == op { 7 } else { 0 }, "{other:?}");
            }
        }
    }

    #[test]
    fn the_order_is_the_discriminant() {
        for (index, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, index);
        }
    }

    #[test]
    fn names_are_those_of_the_output() {
        let json = serde_json::to_value(Counts::default()).expect("counts serialise");
        for op in Op::ALL {
            assert_eq!(json[op.name()], 0, "{}", op.name());
        }
    }
}
