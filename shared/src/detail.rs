//! What exits were about: the keys behind a reason, and single slow exits.
//!
//! One [`Detail`] for each slot, written by the slot's thread alone, in a map of its own so that the
//! families that use it cost nothing where they are off.
//!
//! **Keys.** A table of [`WAYS`]-way sets, in groups: things (ports, MSRs, …), what has many values
//! (pages, instruction pointers), interrupts, and CPUs, so that a flood of pages cannot wash a hot MSR
//! out, nor a host of many CPUs a vector. Where a set is
//! full, each newcomer takes one point of the score of the entry that has least; an entry without
//! points left gives its place, and what it had counted is added to its class's [`Other`]. So a key
//! that comes often stays or soon gets in, memory is bounded, and keys and others always add up to
//! all that was noted.

pub use crate::waits::{CULPRITS, Culprit, Waits};
use crate::zeroed;

/// What a key is: [`Key::class`]. Below [`class::COUNT`].
pub mod class {
    /// No entry.
    pub const NONE: u32 = 0;
    /// I/O port read (`kvm_pio`, rw 0).
    pub const PORT_IN: u32 = 1;
    /// I/O port written (`kvm_pio`, rw 1).
    pub const PORT_OUT: u32 = 2;
    /// Guest-physical address read as MMIO (`kvm_mmio`).
    pub const MMIO_READ: u32 = 3;
    /// Guest-physical address written as MMIO (`kvm_mmio`).
    pub const MMIO_WRITE: u32 = 4;
    /// Guest-physical address of a doorbell that the kernel answered (`kvm_fast_mmio`).
    pub const MMIO_FAST: u32 = 5;
    /// MSR read (`kvm_msr`); a refused one (`exception`) has [`REFUSED`] set.
    pub const MSR_READ: u32 = 6;
    /// MSR written (`kvm_msr`), as above.
    pub const MSR_WRITE: u32 = 7;
    /// CPUID: leaf in the low half, sub-leaf in the high half (`kvm_cpuid`).
    pub const CPUID: u32 = 8;
    /// Control register read (`kvm_cr`, rw 0).
    pub const CR_READ: u32 = 9;
    /// Control register written (`kvm_cr`, rw 1).
    pub const CR_WRITE: u32 = 10;
    /// KVM hypercall number (`kvm_hypercall`).
    pub const HYPERCALL: u32 = 11;
    /// Hyper-V hypercall code (`kvm_hv_hypercall`).
    pub const HV_HYPERCALL: u32 = 12;
    /// Vector of the host's interrupt, or exception of the guest, that made the exit (VMX
    /// interruption information, bits 10:0: vector and type).
    pub const VECTOR: u32 = 13;
    /// Guest-physical page, as its address (`kvm_page_fault`).
    pub const PAGE: u32 = 14;
    /// Guest instruction pointer.
    pub const RIP: u32 = 15;
    /// Kind of a page fault: [`super::fault`] (family `mmu`).
    pub const FAULT: u32 = 16;
    /// Xen hypercall number (`kvm_xen_hypercall`).
    pub const XEN_HYPERCALL: u32 = 17;
    /// MMU root: its address, with the level in the lowest bits (family `roots`).
    pub const ROOT: u32 = 18;
    /// Memory slot that a page was dirtied in: number, address space in bits 31:16 (family `dirty`).
    pub const DIRTY_SLOT: u32 = 19;
    /// Guest-physical page that was dirtied, as its address (family `dirty`).
    pub const DIRTY_PAGE: u32 = 20;
    /// Physical CPU that the vCPU was loaded on: its number (family `roots`).
    pub const VCPU_LOAD: u32 = 21;
    /// What became of pages that KVM marked as dirty: [`super::dirty`] (family `dirty`). In places of its
    /// own ([`super::Detail::dirty`]), never among the keys.
    pub const DIRTY_LOG: u32 = 22;
    /// Interrupt that KVM put into the guest (`kvm_inj_virq`): vector, with [`super::SOFT`] and
    /// [`super::REINJECTED`] (family `irq`).
    pub const INJECTED: u32 = 23;
    /// Exception that KVM put into the guest (`kvm_inj_exception`): vector, with [`super::HAS_ERROR`] and
    /// [`super::REINJECTED`] (family `irq`).
    pub const EXCEPTION: u32 = 24;
    /// End of interrupt: vector (`kvm_eoi`), with [`super::PARAVIRTUAL`] for `kvm_pv_eoi`; none is
    /// `u64::MAX` (family `irq`).
    pub const EOI: u32 = 25;
    /// Inter-processor interrupt that this vCPU sent (`kvm_apic_ipi`): low half of its ICR, destination in
    /// the high half (family `irq`).
    pub const IPI: u32 = 26;
    /// Interrupt that this vCPU's thread put into a local APIC (`kvm_apic_accept_irq`): see
    /// [`crate::route::accepted`] (family `irq`). One that the hardware takes over is counted once more, with
    /// the bit that says so: all are those without it.
    pub const DELIVERED: u32 = 27;
    /// Physical CPU that the vCPU was loaded on, with the times of these intervals (family `vcpu-load`).
    pub const ON_CPU: u32 = 28;
    /// Places for classes, `NONE` included: a power of two.
    pub const COUNT: usize = 32;
}

/// Kinds of page faults: values of [`class::FAULT`], which [`crate::fault`] tells apart. Each has a place
/// of its own, [`Detail::faults`], so none is ever "other".
pub mod fault {
    /// No mapping yet: first touch, or dropped since.
    pub const ABSENT: u64 = 0;
    /// A write to a page that is mapped without leave to write: dirty logging, copy on write, KSM.
    pub const WRITE_PROTECTED: u64 = 1;
    /// A fetch from a page that is mapped without leave to execute.
    pub const EXEC: u64 = 2;
    /// A read of a page that is mapped without leave to read (access tracking).
    pub const READ: u64 = 3;
    /// While the processor walked the guest's own page tables.
    pub const WALK: u64 = 4;
    /// An entry that marks MMIO (SVM: reserved bits; VMX has EPT_MISCONFIG for it, which is no fault).
    pub const MMIO: u64 = 5;
    /// Something else (SGX, RMP, private memory).
    pub const OTHER: u64 = 6;
    /// Number of kinds.
    pub const COUNT: usize = 8;
}

/// Counters of family `dirty`: values of [`class::DIRTY_LOG`].
pub mod dirty {
    /// KVM marked a page of a slot that logs dirty pages.
    pub const MARKED: u64 = 0;
    /// Of them: the page was not marked yet since the log was last read. With a dirty ring, which keeps no
    /// bitmap, every mark.
    pub const FRESH: u64 = 1;
    /// KVM marked a page of a slot that does not log: there dirty logging is off.
    pub const NOT_LOGGED: u64 = 2;
    /// The processor's log of written pages was full (`kvm_pml_full`).
    pub const PML_FULL: u64 = 3;
    /// A page was put into the dirty ring (`kvm_dirty_ring_push`).
    pub const RING_PUSH: u64 = 4;
    /// The dirty ring was full and the vCPU went to the VMM (`kvm_dirty_ring_exit`).
    pub const RING_FULL: u64 = 5;
    /// Places for counters: a power of two.
    pub const COUNT: usize = 8;
}

/// Set in the key of an injected interrupt that is a software one (INT n).
pub const SOFT: u64 = 1 << 8;
/// Set in the key of an injection that was tried before: the guest was left before it was taken.
pub const REINJECTED: u64 = 1 << 9;
/// Set in the key of an injected exception that has an error code.
pub const HAS_ERROR: u64 = 1 << 8;
/// Set in the key of an end of interrupt that the guest told by a flag in memory.
pub const PARAVIRTUAL: u64 = 1 << 8;

/// Set in the key of an MSR access that the guest was refused (#GP).
pub const REFUSED: u64 = 1 << 32;

/// Entries of a set.
pub const WAYS: usize = 4;
/// Sets of a group of classes.
pub const GROUP_SETS: usize = 16;
/// Groups, one after the other: things; pages and instruction pointers; interrupts; CPUs.
pub const GROUPS: usize = 4;
/// Entries of a slot.
pub const KEYS: usize = WAYS * GROUP_SETS * GROUPS;

/// One key and what it did since it got its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Key {
    /// Its value; see [`class`].
    pub value: u64,
    /// See [`class`].
    pub class: u32,
    /// Cell of the exit that was being handled ([`crate::slot::Slot::open_cell`]), or 0 for none.
    pub cell: u32,
    /// Counts up each time the place is given to another key.
    pub generation: u32,
    /// What keeps it its place; see the module.
    pub score: u32,
    /// Times it was noted.
    pub count: u64,
    /// Exits about it that ended.
    pub timed: u64,
    /// Their handling time, ns; as of [`crate::cell::Cell`].
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Largest time of one, all three together, ns, since it got its place.
    pub max_ns: u64,
}

/// What keys without a place come to, by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Other {
    /// Times noted.
    pub count: u64,
    /// Exits that ended.
    pub timed: u64,
    /// Their handling, off-CPU and VMM time together, ns.
    pub wall_ns: u64,
}

/// The details of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Detail {
    /// Sets of things, then sets of pages and instruction pointers.
    pub keys: [Key; KEYS],
    /// By class.
    pub others: [Other; class::COUNT],
    /// Page faults by kind ([`fault`]), of class [`class::FAULT`]: places that nothing else takes. The
    /// cell is that of the last.
    pub faults: [Key; fault::COUNT],
    /// What is told of when the exit being handled ends.
    pub pending: Pending,
    /// Counters of family `dirty`, by [`dirty`].
    pub dirty: [u64; dirty::COUNT],
    /// The MMU root that was loaded last, as a value of [`class::ROOT`], or 0 (family `roots`).
    pub root: u64,
    /// Why the VM's APIC virtualization is inhibited: `kvm_arch.apicv_inhibit_reasons` (family `irq`).
    pub inhibits: u64,
    /// The epoch in which that was read last, see [`crate::conf::Control::epoch`]; 0 for never.
    pub inhibits_epoch: u64,
}

/// Events of the exit being handled. Each is there where [`crate::slot::mark`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// Kind of the page fault ([`fault`]).
    pub fault: u64,
    /// Its guest-physical address.
    pub fault_gpa: u64,
    /// Its error code as recorded.
    pub fault_error: u64,
    /// Guest-physical address of the MMIO access.
    pub mmio_gpa: u64,
    /// Its size in bytes.
    pub mmio_len: u32,
    /// `type` of `kvm_mmio`: 0 a read that the VMM has to answer, 1 a read, 2 a write.
    pub mmio_type: u32,
    /// The value.
    pub mmio_value: u64,
}

const NO_KEY: Key = Key {
    value: 0,
    class: 0,
    cell: 0,
    generation: 0,
    score: 0,
    count: 0,
    timed: 0,
    total_ns: 0,
    off_ns: 0,
    vmm_ns: 0,
    max_ns: 0,
};
const NO_OTHER: Other = Other { count: 0, timed: 0, wall_ns: 0 };

zeroed!(Key, NO_KEY);
zeroed!(Other, NO_OTHER);
const NOTHING: Pending = Pending {
    fault: 0,
    fault_gpa: 0,
    fault_error: 0,
    mmio_gpa: 0,
    mmio_len: 0,
    mmio_type: 0,
    mmio_value: 0,
};
zeroed!(Pending, NOTHING);
zeroed!(
    Detail,
    Self {
        keys: [NO_KEY; KEYS],
        others: [NO_OTHER; class::COUNT],
        faults: [NO_KEY; fault::COUNT],
        pending: NOTHING,
        dirty: [0; dirty::COUNT],
        root: 0,
        inhibits: 0,
        inhibits_epoch: 0,
    }
);

/// Length of the ring buffer of outliers, in bytes: room for 2184.
pub const RING_BYTES: u32 = 256 << 10;
/// Outliers that one CPU may tell of per second, and at once after it told of none.
pub const OUTLIERS_PER_SECOND: u64 = 50;

/// One slow exit, as a record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Outlier {
    /// When it ended, ns of the probes' clock.
    pub end_ns: u64,
    /// The vCPU's slot.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// Its cell: kind, isa and code stand there.
    pub cell: u32,
    /// Class of the key that was open, or [`class::NONE`].
    pub class: u32,
    /// Its value.
    pub key: u64,
    /// Guest instruction pointer.
    pub rip: u64,
    /// Exit qualification (VMX) or EXITINFO1 (SVM).
    pub info1: u64,
    /// IDT-vectoring information (VMX) or EXITINFO2 (SVM).
    pub info2: u64,
    /// Handling time on a CPU, ns.
    pub handling_ns: u64,
    /// Time off the CPU inside KVM_RUN, ns.
    pub off_ns: u64,
    /// Of `off_ns`: waiting for a CPU after it was preempted, ns.
    pub wait_ns: u64,
    /// Time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Physical CPU on which it ended.
    pub cpu: u32,
    /// The thread that took its CPU last while it was handled, or 0.
    pub by_tid: u32,
    /// Name of that thread.
    pub by_comm: [u8; 16],
}

zeroed!(
    Outlier,
    Self {
        end_ns: 0,
        slot: 0,
        generation: 0,
        cell: 0,
        class: 0,
        key: 0,
        rip: 0,
        info1: 0,
        info2: 0,
        handling_ns: 0,
        off_ns: 0,
        wait_ns: 0,
        vmm_ns: 0,
        cpu: 0,
        by_tid: 0,
        by_comm: [0; 16],
    }
);

const _: () = assert!(size_of::<Key>() == 72);
const _: () = assert!(
    size_of::<Detail>()
        == 72 * (KEYS + fault::COUNT) + 24 * class::COUNT + 48 + 8 * dirty::COUNT + 24
);
const _: () = assert!(size_of::<Outlier>() == 112);
const _: () = assert!(KEYS.is_power_of_two());
