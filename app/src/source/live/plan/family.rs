//! Families of probes: what can be asked for together, and what of it needs what. Pure.

use crate::model::session::OFF;
use kvmscope_shared::event::kind;

/// Families of probes that can be asked for (`--probes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Kernel exits: `kvm_exit`, `kvm_entry`.
    Exit,
    /// Userspace exits and KVM_RUN: `kvm_userspace_exit`, `kvm_fpu`.
    Userspace,
    /// When a vCPU is off the CPU: `sched_switch`.
    Sched,
    /// Halt polling: `kvm_vcpu_wakeup`.
    HaltPoll,
    /// What exits are about: `kvm_pio`, `kvm_mmio`, `kvm_msr`, `kvm_cpuid`, `kvm_page_fault` and
    /// others, and the guest's instruction pointer at every exit.
    Detail,
    /// Who runs while a vCPU waits for its CPU: a second program at `sched_switch`, and `sched_wakeup`.
    Culprits,
    /// Page faults by kind and one by one, and the hottest pages: `kvm_page_fault`.
    Mmu,
    /// MMIO by address and one by one: `kvm_mmio`, `kvm_fast_mmio`.
    Mmio,
    /// Hypercalls by number and one by one: `kvm_hypercall`, `kvm_hv_hypercall`, `kvm_xen_hypercall`.
    Hypercall,
    /// Pages that KVM marks as dirty.
    Dirty,
    /// MMU roots and who loads them.
    Roots,
    /// KVM's ioctls: `sys_enter`, `sys_exit`, which every system call of the host pays for.
    Ioctl,
    /// Interrupts and exceptions that are put into the guest, IPIs, deliveries, ends of interrupts.
    Irq,
    /// PIC, I/O APIC, messages: what is sent, by whom.
    Irqchip,
    /// Timers of the local APIC.
    Timer,
    /// Wake-ups from halts: how long, valid or not.
    Wakeup,
    /// When a vCPU is loaded on which CPU.
    VcpuLoad,
    /// What every other family needs: `sched_process_exit`.
    Base,
}

impl Family {
    /// Every family that can be asked for, in order.
    pub const ASKABLE: [Self; 17] = [
        Self::Exit,
        Self::Userspace,
        Self::Sched,
        Self::HaltPoll,
        Self::Detail,
        Self::Culprits,
        Self::Mmu,
        Self::Mmio,
        Self::Hypercall,
        Self::Dirty,
        Self::Roots,
        Self::Ioctl,
        Self::Irq,
        Self::Irqchip,
        Self::Timer,
        Self::Wakeup,
        Self::VcpuLoad,
    ];

    /// What the screen watches when nothing is asked for. `detail` is attached while someone looks
    /// at what it shows.
    pub const WATCHED: [Self; 4] = [Self::Exit, Self::Userspace, Self::Sched, Self::HaltPoll];

    /// What a report measures when nothing is asked for.
    pub const REPORTED: [Self; 8] = [
        Self::Exit,
        Self::Userspace,
        Self::Sched,
        Self::HaltPoll,
        Self::Detail,
        Self::Mmu,
        Self::Mmio,
        Self::Hypercall,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Userspace => "userspace",
            Self::Sched => "sched",
            Self::HaltPoll => "halt-poll",
            Self::Detail => "detail",
            Self::Culprits => "culprits",
            Self::Mmu => "mmu",
            Self::Mmio => "mmio",
            Self::Hypercall => "hypercall",
            Self::Dirty => "dirty",
            Self::Roots => "roots",
            Self::Ioctl => "ioctl",
            Self::Irq => "irq",
            Self::Irqchip => "irqchip",
            Self::Timer => "timer",
            Self::Wakeup => "wakeup",
            Self::VcpuLoad => "vcpu-load",
            Self::Base => "base",
        }
    }

    /// Whether it is attached when these are asked for. Which threads are vCPUs, and an exit's VMM time,
    /// come from the userspace family.
    pub fn wanted(self, asked: &[Self]) -> bool {
        match self {
            Self::Base => true,
            Self::Userspace => !asked.is_empty(),
            family => asked.contains(&family),
        }
    }

    /// Whether what it counts is in the tables of keys, which are read only then.
    pub fn keeps_keys(self) -> bool {
        use Family::{Detail, Dirty, Hypercall, Irq, Mmio, Mmu, Roots, VcpuLoad};
        matches!(self, Detail | Mmu | Mmio | Hypercall | Dirty | Roots | Irq | VcpuLoad)
    }

    /// Whether what it counts is in rows of what is sent by whom ([`kvmscope_shared::route`]), which are read
    /// only then.
    pub fn keeps_routes(self) -> bool {
        matches!(self, Self::Irq | Self::Irqchip)
    }

    /// Whether what it counts is in the meters ([`kvmscope_shared::meters`]), which are read only then.
    pub fn keeps_meters(self) -> bool {
        matches!(self, Self::HaltPoll | Self::Timer | Self::Wakeup | Self::VcpuLoad)
    }

    /// The kinds of single events that are told of with it, by bit ([`kind`]).
    pub fn events(self) -> u64 {
        let kinds: &[u32] = match self {
            Self::Mmu => &[kind::FAULT],
            Self::Mmio => &[kind::MMIO],
            Self::Roots => &[kind::ROOT],
            Self::Hypercall => &[kind::HYPERCALL, kind::HV_HYPERCALL, kind::XEN_HYPERCALL],
            Self::Ioctl => &[kind::IOCTL, kind::MEMSLOT],
            Self::Irq => &[kind::INJECTION, kind::EXCEPTION],
            Self::Irqchip => &[kind::ROUTE],
            Self::Timer => &[kind::TIMER],
            Self::Wakeup => &[kind::WAKEUP, kind::HALT_POLL],
            _ => &[],
        };
        kinds.iter().fold(0, |bits, kind| bits | 1 << kind)
    }

    /// Why it is not attached when nobody asked for it.
    pub fn off(self) -> String {
        const BY_LOOKING: &str = "attached while what it shows is looked at, or";
        let when = match self {
            Self::Detail | Self::Mmu | Self::Mmio | Self::Hypercall => BY_LOOKING,
            Self::Irq | Self::Irqchip | Self::Timer | Self::Wakeup | Self::VcpuLoad => BY_LOOKING,
            _ => "attached",
        };
        let price = match self {
            Self::Ioctl => ", for which every system call of the host pays (docs/cost.md)",
            _ => "",
        };
        format!("{OFF}{when} with --probes {}{price}", self.name())
    }

    /// What cannot be shown without it.
    pub fn costs(self) -> &'static str {
        match self {
            Self::Exit => "kernel exits are not shown",
            Self::Userspace => {
                "userspace exits are not shown, and VMM time counts as handling time"
            }
            Self::Sched => "time off the CPU is counted as handling time",
            Self::HaltPoll => "halt polling counts as handling time",
            Self::Detail => "what exits are about (MSR, port, address, RIP) is not shown",
            Self::Culprits => "who takes a vCPU's CPU is not shown",
            Self::Mmu => "page faults are not shown",
            Self::Mmio => "MMIO is not shown",
            Self::Hypercall => "hypercalls are not shown",
            Self::Dirty => "which pages become dirty is not shown",
            Self::Roots => "MMU roots and who loads them are not shown",
            Self::Ioctl => "KVM's ioctls are not shown",
            Self::Irq => "interrupts put into guests are not shown",
            Self::Irqchip => "who sends interrupts through which chip is not shown",
            Self::Timer => "timers are not shown",
            Self::Wakeup => "wake-ups are not shown",
            Self::VcpuLoad => "which CPUs vCPUs are loaded on is not shown",
            Self::Base => "ended threads are noticed late",
        }
    }
}
