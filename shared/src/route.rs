//! Interrupts on their way into a guest: who sends them, through which chip, and to whom.
//!
//! What does so may be any thread of the host: the VMM's, vhost's, a kernel worker, an interrupt of the host
//! in the middle of an unrelated process. Where the thread is no vCPU's, its counts are in rows of their own.

/// What an interrupt went through.
pub mod chip {
    /// 8259 (`kvm_pic_set_irq`): `a` is the pin, 8 and more on the second; `b` bit 0 the trigger mode (ELCR,
    /// 1 is level), bit 1 masked.
    pub const PIC: u32 = 0;
    /// I/O APIC (`kvm_ioapic_set_irq`): `a` is the pin, `b` the redirection entry.
    pub const IOAPIC: u32 = 1;
    /// Message (`kvm_msi_set_irq`): `a` is its address, `b` its data.
    pub const MSI: u32 = 2;
    /// Line of the VM (`kvm_set_irq`): `a` is the GSI, `b` bit 0 the level, above it the source.
    pub const LINE: u32 = 3;
    /// Local APIC (`kvm_apic_accept_irq`, `kvm_apicv_accept_irq`): `a` as of [`super::accepted`], `b` 0.
    pub const LAPIC: u32 = 4;
    /// Number of chips.
    pub const COUNT: usize = 8;
}

/// Who set it.
pub mod sender {
    /// A thread of which nothing more is known.
    pub const THREAD: u32 = 0;
    /// A vCPU's thread, of the VM that is meant.
    pub const VCPU: u32 = 1;
    /// A kernel thread: vhost, a worker (irqfd), the emulated timer.
    pub const KERNEL: u32 = 2;
    /// An interrupt of the host, whatever thread it came over.
    pub const INTERRUPT: u32 = 3;
}

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
