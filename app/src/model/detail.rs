//! What exits were about: keys behind reasons, who took the CPU, slow exits, what VMs did beside
//! their vCPUs. Parts of a [`super::tick::Tick`].

use super::ids::{Reason, VcpuKey, VmId};
use kvmscope_shared::detail::class;
use serde::{Deserialize, Serialize};

/// What a key is. The numbers are those of [`kvmscope_shared::detail::class`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[repr(u8)]
pub enum KeyClass {
    /// I/O port read.
    #[default]
    PortIn = class::PORT_IN as u8,
    /// I/O port written.
    PortOut = class::PORT_OUT as u8,
    /// Guest-physical address read as MMIO.
    MmioRead = class::MMIO_READ as u8,
    /// Guest-physical address written as MMIO.
    MmioWrite = class::MMIO_WRITE as u8,
    /// Guest-physical address of a doorbell that the kernel answered.
    MmioFast = class::MMIO_FAST as u8,
    /// MSR read; bit 32 ([`kvmscope_shared::detail::REFUSED`]) where the guest got #GP.
    MsrRead = class::MSR_READ as u8,
    /// MSR written, as above.
    MsrWrite = class::MSR_WRITE as u8,
    /// CPUID: leaf in the low half, sub-leaf in the high half.
    Cpuid = class::CPUID as u8,
    /// Control register read.
    CrRead = class::CR_READ as u8,
    /// Control register written.
    CrWrite = class::CR_WRITE as u8,
    /// KVM hypercall number.
    Hypercall = class::HYPERCALL as u8,
    /// Hyper-V hypercall code.
    HvHypercall = class::HV_HYPERCALL as u8,
    /// Vector and type of the interruption that made the exit (VMX interruption information, bits 10:0).
    Vector = class::VECTOR as u8,
    /// Guest-physical page, as its address.
    Page = class::PAGE as u8,
    /// Guest instruction pointer.
    Rip = class::RIP as u8,
    /// Kind of a page fault, a number of [`kvmscope_shared::detail::fault`].
    Fault = class::FAULT as u8,
    /// Xen hypercall number.
    XenHypercall = class::XEN_HYPERCALL as u8,
    /// MMU root: its address, with the level in the lowest bits.
    Root = class::ROOT as u8,
    /// Memory slot in which a page was dirtied: number, address space in bits 31:16.
    DirtySlot = class::DIRTY_SLOT as u8,
    /// Guest-physical page that was dirtied, as its address.
    DirtyPage = class::DIRTY_PAGE as u8,
    /// Physical CPU that the vCPU was loaded on: its number.
    VcpuLoad = class::VCPU_LOAD as u8,
    /// What became of pages that were marked as dirty, a number of [`kvmscope_shared::detail::dirty`].
    DirtyLog = class::DIRTY_LOG as u8,
    /// Interrupt put into the guest: vector, and flags.
    Injected = class::INJECTED as u8,
    /// Exception put into the guest: vector, and flags.
    Exception = class::EXCEPTION as u8,
    /// End of interrupt: vector, and a flag.
    Eoi = class::EOI as u8,
    /// Inter-processor interrupt that the vCPU sent: low half of its ICR, destination in the high half.
    Ipi = class::IPI as u8,
    /// Interrupt that the vCPU's thread delivered: [`kvmscope_shared::route::accepted`].
    Delivered = class::DELIVERED as u8,
    /// Physical CPU that the vCPU was loaded on, with the times of these intervals.
    OnCpu = class::ON_CPU as u8,
}

impl KeyClass {
    /// Every class, in the order of its number.
    pub const ALL: [Self; 28] = [
        Self::PortIn,
        Self::PortOut,
        Self::MmioRead,
        Self::MmioWrite,
        Self::MmioFast,
        Self::MsrRead,
        Self::MsrWrite,
        Self::Cpuid,
        Self::CrRead,
        Self::CrWrite,
        Self::Hypercall,
        Self::HvHypercall,
        Self::Vector,
        Self::Page,
        Self::Rip,
        Self::Fault,
        Self::XenHypercall,
        Self::Root,
        Self::DirtySlot,
        Self::DirtyPage,
        Self::VcpuLoad,
        Self::DirtyLog,
        Self::Injected,
        Self::Exception,
        Self::Eoi,
        Self::Ipi,
        Self::Delivered,
        Self::OnCpu,
    ];

    /// From [`kvmscope_shared::detail::Key::class`]; `None` for a number that is none.
    pub fn from_record(class: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u32 == class)
    }

    /// Its name in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::PortIn => "port_in",
            Self::PortOut => "port_out",
            Self::MmioRead => "mmio_read",
            Self::MmioWrite => "mmio_write",
            Self::MmioFast => "mmio_fast",
            Self::MsrRead => "msr_read",
            Self::MsrWrite => "msr_write",
            Self::Cpuid => "cpuid",
            Self::CrRead => "cr_read",
            Self::CrWrite => "cr_write",
            Self::Hypercall => "hypercall",
            Self::HvHypercall => "hv_hypercall",
            Self::Vector => "vector",
            Self::Page => "page",
            Self::Rip => "rip",
            Self::Fault => "fault",
            Self::XenHypercall => "xen_hypercall",
            Self::Root => "root",
            Self::DirtySlot => "dirty_slot",
            Self::DirtyPage => "dirty_page",
            Self::VcpuLoad => "vcpu_load",
            Self::DirtyLog => "dirty_log",
            Self::Injected => "injected",
            Self::Exception => "exception",
            Self::Eoi => "eoi",
            Self::Ipi => "ipi",
            Self::Delivered => "delivered",
            Self::OnCpu => "on_cpu",
        }
    }
}

/// Which key of which reason. A vCPU's keys are sorted by it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct KeyId {
    /// The kernel exit that was being handled; `None` where no exit was (a backend whose `kvm_exit`
    /// is silent), and of "other".
    pub reason: Option<Reason>,
    /// What the value is.
    pub class: KeyClass,
    /// The value; `None` is "other": keys that found no place in the kernel's table.
    pub value: Option<u64>,
}

/// What one key did in an interval. Times are as of [`super::tick::CellTick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct KeyTick {
    /// Which.
    pub id: KeyId,
    /// Times it was met.
    pub count: u64,
    /// Exits about it that ended.
    pub timed: u64,
    /// Their handling time, ns. Of "other" it has the other two in it.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Largest time of one, all three together, since it was first seen, ns; 0 of "other".
    pub max_ns: u64,
}

impl KeyTick {
    /// Adds what was met of the same key elsewhere, or in another interval.
    pub fn add(&mut self, more: &Self) {
        self.count = self.count.saturating_add(more.count);
        self.timed = self.timed.saturating_add(more.timed);
        self.total_ns = self.total_ns.saturating_add(more.total_ns);
        self.off_ns = self.off_ns.saturating_add(more.off_ns);
        self.vmm_ns = self.vmm_ns.saturating_add(more.vmm_ns);
        self.max_ns = self.max_ns.max(more.max_ns);
    }
}

/// Someone who ran while a vCPU waited for its CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CulpritTick {
    /// Its thread group; 0 is the idle task, or "other" where `comm` is empty.
    pub pid: u32,
    /// The thread that was seen last.
    pub tid: u32,
    /// Name of that thread.
    pub comm: String,
    /// The VM it belongs to, if to one.
    pub vm: Option<VmId>,
    /// Its cgroup, a path below the mount; empty where not known.
    pub cgroup: String,
    /// Time it ran while the vCPU waited, ns.
    pub ns: u64,
    /// Waits that it had a part in.
    pub count: u64,
}

/// How often a halted vCPU woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Halts {
    /// While KVM was still polling.
    pub polled: u64,
    /// After it had gone to sleep.
    pub waited: u64,
}

impl Halts {
    /// Adds another interval's.
    pub fn add(&mut self, other: &Self) {
        self.polled = self.polled.saturating_add(other.polled);
        self.waited = self.waited.saturating_add(other.waited);
    }
}

/// One slow exit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Outlier {
    /// Whose.
    pub key: VcpuKey,
    /// When it ended, ns of the probes' clock.
    pub end_ns: u64,
    /// Why.
    pub reason: Reason,
    /// What it was about, where that is known.
    pub about: Option<(KeyClass, u64)>,
    /// Guest instruction pointer.
    pub rip: u64,
    /// Exit qualification (VMX) or EXITINFO1 (SVM).
    pub info1: u64,
    /// IDT-vectoring information (VMX) or EXITINFO2 (SVM).
    pub info2: u64,
    /// Handling time on a CPU, ns.
    pub handling_ns: u64,
    /// Time asleep inside KVM_RUN, ns.
    pub asleep_ns: u64,
    /// Time waiting for a CPU after it was preempted, ns.
    pub wait_ns: u64,
    /// Time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Physical CPU on which it ended.
    pub cpu: u32,
    /// Who took its CPU last while it was handled: thread and name.
    pub by: Option<(u32, String)>,
}

impl Outlier {
    /// From `kvm_exit` to `kvm_entry`, ns.
    pub fn wall_ns(&self) -> u64 {
        [self.handling_ns, self.asleep_ns, self.wait_ns, self.vmm_ns]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Exits from which time on are outliers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct OutlierLimits {
    /// For every reason that is not idle and not named below, ns; `None`: none of them.
    pub all_ns: Option<u64>,
    /// For some reasons, ns; `None`: never.
    pub reasons: Vec<(Reason, Option<u64>)>,
}

/// What a VM did beside running its vCPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct VmTick {
    /// Which.
    pub id: VmId,
    /// Over how long, ns: VMs are not looked at in every tick where there are many.
    pub over_ns: u64,
    /// CPU time of the VMM's threads that are no vCPUs, vhost's kernel threads too, ns.
    pub others_ns: u64,
    /// The busiest of them: thread, name, CPU time in ns; few, most first.
    pub threads: Vec<(u32, String, u64)>,
    /// KVM ioctls of its process that ended, sorted by command (family `ioctl`).
    pub ioctls: Vec<IoctlTick>,
    /// Why its APIC virtualization is inhibited, by bit ([`super::session::Session::apicv_reasons`]); 0 for no
    /// reason. `None` in a tick in which it was not read (family `irq`).
    pub apicv_inhibits: Option<u64>,
    /// Time that a CPU quota of its cgroups stopped it, ns (`throttled_usec` of `cpu.stat`); `None`
    /// where no quota is set, or where it cannot be read.
    pub throttled_ns: Option<u64>,
}

/// What one KVM ioctl did in an interval, over all threads of a VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct IoctlTick {
    /// The command (include/uapi/linux/kvm.h).
    pub command: u32,
    /// Calls that ended.
    pub count: u64,
    /// Of them, those that failed: their result was negative.
    pub failed: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The longest since the VM was first seen, ns.
    pub max_ns: u64,
}

impl IoctlTick {
    /// Adds another's calls, of whatever command.
    pub fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.failed = self.failed.saturating_add(other.failed);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}
