//! Interrupts on their way into a guest: who sends them, through which chip, and to whom.
//!
//! What does so may be any thread of the host: the VMM's, vhost's, a kernel worker, an interrupt of the host
//! in the middle of an unrelated process. So counts are in rows of their own, and a row has several tallies
//! ([`crate::ioctl::MAX_SHARDS`]): several CPUs may write at once. Only a delivery by a vCPU's thread is among
//! that vCPU's keys instead.

use crate::zeroed;

/// What an interrupt went through.
pub mod chip {
    /// 8259 (`kvm_pic_set_irq`): `a` is the pin, 8 and more on the second; `b` bit 0 the trigger mode (ELCR,
    /// 1 is level), bit 1 masked. KVM tells of a line that is lowered too, here and of the I/O APIC.
    pub const PIC: u32 = 0;
    /// I/O APIC (`kvm_ioapic_set_irq`): `a` is the pin, `b` the redirection entry but for
    /// [`super::IOAPIC_STATE`].
    pub const IOAPIC: u32 = 1;
    /// Message (`kvm_msi_set_irq`): `a` is its address, `b` its data.
    pub const MSI: u32 = 2;
    /// Line of the VM (`kvm_set_irq`): `a` is the GSI, `b` bit 0 the level, above it the source.
    pub const LINE: u32 = 3;
    /// Local APIC (`kvm_apic_accept_irq`, `kvm_apicv_accept_irq`): `a` as of [`super::accepted`], `b` 0. KVM
    /// tells of each delivery by the first, and of one that the hardware takes over by the second as well.
    pub const LAPIC: u32 = 4;
    /// Number of chips.
    pub const COUNT: usize = 8;
}

/// Who set it.
pub mod sender {
    /// A thread of a process, the VMM's or another's (vhost-user).
    pub const THREAD: u32 = 0;
    /// A vCPU's thread, of the VM that is meant.
    pub const VCPU: u32 = 1;
    /// A kernel thread: vhost, a worker (irqfd), the emulated timer.
    pub const KERNEL: u32 = 2;
    /// An interrupt of the host, whatever thread it came over.
    pub const INTERRUPT: u32 = 3;
}

/// Bits of an I/O APIC's redirection entry that are its state, not what the guest set: delivery status,
/// remote IRR (82093AA, 3.2.4).
pub const IOAPIC_STATE: u64 = 1 << 12 | 1 << 14;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Route {
    /// Address of the `struct kvm` of a vCPU's thread, an identity; else 0.
    pub kvm: u64,
    /// See [`chip`].
    pub a: u64,
    /// See [`chip`].
    pub b: u64,
    /// Thread group of the sender; 0 of a kernel worker and of an interrupt, which are anybody's.
    pub tgid: u32,
    /// See [`chip`], plus one; 0 in a row that nobody has.
    pub chip: u16,
    /// See [`sender`].
    pub sender: u16,
    /// Name of the sending thread; none of an interrupt, "kworker" of a kernel worker.
    pub comm: [u8; 16],
}
zeroed!(Route, Self { kvm: 0, a: 0, b: 0, tgid: 0, chip: 0, sender: 0, comm: [0; 16] });

/// What a row came to on some CPUs. Only ever grows while a row has its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RouteTally {
    /// How many.
    pub count: u64,
    /// Of them: not delivered, as one like it was still waiting.
    pub coalesced: u64,
}
zeroed!(RouteTally, Self { count: 0, coalesced: 0 });

/// Where the kernel keeps what tells an interrupt from a thread; 0 for what is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Contexts {
    /// Address of `__per_cpu_offset`: what is added to a per-CPU address, by CPU.
    pub offsets: u64,
    /// Per-CPU address of the count that says in what context a CPU is (`preempt_count`).
    pub count: u64,
}
zeroed!(Contexts, Self { offsets: 0, count: 0 });

/// Bits of `preempt_count` that say that a CPU serves an interrupt, hard or soft
/// (include/linux/preempt.h: `HARDIRQ_MASK`, `SOFTIRQ_OFFSET`).
pub const IN_INTERRUPT: u32 = 0xf_0000 | 0x100;

const _: () = assert!(size_of::<Route>() == 48 && size_of::<RouteTally>() == 16);

/// A delivery to a local APIC, in one number: `vcpu_id` of the target in the low half, vector in bits 39:32,
/// delivery mode in 42:40, trigger mode (1 is level) in 48; 56 where the hardware delivers it (posted
/// interrupt, AVIC).
#[inline(always)]
pub const fn accepted(vcpu: u32, vector: u8, mode: u16, level: bool, posted: bool) -> u64 {
    vcpu as u64
        | (vector as u64) << 32
        | ((mode & 7) as u64) << 40
        | (level as u64) << 48
        | (posted as u64) << 56
}
