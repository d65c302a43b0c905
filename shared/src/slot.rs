//! A slot: one vCPU thread, who it is and what it is doing.

use crate::{column::COLUMNS, zeroed};
use core::{
    mem::offset_of,
    ops::{Deref, DerefMut},
};

/// A kernel exit: the hardware left guest mode (`kvm_exit`).
pub const KIND_EXIT: u32 = 0;
/// A userspace exit: KVM_RUN returned to the VMM (`kvm_userspace_exit`).
pub const KIND_USERSPACE: u32 = 1;

/// What a vCPU thread is doing. The numbers index [`Slot::phase_ns`].
pub mod phase {
    /// Not known yet: seen, but no event that tells.
    pub const UNKNOWN: u32 = 0;
    /// In the guest (`kvm_entry` to `kvm_exit`).
    pub const GUEST: u32 = 1;
    /// In KVM_RUN, on the CPU, not in the guest. Where `kvm_entry` never fires this has the guest in it.
    pub const KVM: u32 = 2;
    /// Outside KVM_RUN, on the CPU.
    pub const VMM: u32 = 3;
    /// Off the CPU although it could run (preempted); inside KVM_RUN or outside.
    pub const PREEMPTED: u32 = 4;
    /// Off the CPU and asleep, halted: inside KVM_RUN, or outside while the VMM answers a HLT. Run-queue
    /// wait after the wake-up is in here too; `run_delay` of schedstat tells it apart.
    pub const BLOCKED: u32 = 5;
    /// Off the CPU and asleep outside KVM_RUN.
    pub const VMM_BLOCKED: u32 = 6;
    /// Off the CPU and asleep inside KVM_RUN while an exit is handled that is no halt: for a page, a
    /// lock, memory.
    pub const KVM_BLOCKED: u32 = 7;
    /// Number of phases.
    pub const COUNT: usize = 8;
}

/// The life of a slot, in [`Slot::life`].
pub mod life {
    /// Never used, or recycled.
    pub const FREE: u32 = 0;
    /// A thread owns it.
    pub const LIVE: u32 = 1;
    /// Its thread ended or runs another vCPU now; the final numbers wait to be read.
    pub const RETIRED: u32 = 2;
}

/// Bits of [`Slot::interrupted`].
pub mod mark {
    /// `exit_acc_ns`, `exit_off_ns`, `exit_wait_ns` and `exit_vmm_ns` are this exit's.
    pub const TIMES: u32 = 1;
    /// `open_key` and `open_page` are this exit's, or without an exit what was met last.
    pub const KEYS: u32 = 2;
    /// Without an exit: `exit_vmm_ns` is the time in the VMM that ended last, and its key is not known yet.
    pub const DWELL: u32 = 4;
    /// [`crate::detail::Pending`] has this exit's page fault. Never without `KEYS`.
    pub const FAULT: u32 = 8;
    /// It has this exit's MMIO access. Never without `KEYS`.
    pub const MMIO: u32 = 16;
}

/// `vcpu_id` of a slot whose vCPU is not known (yet).
pub const NO_VCPU_ID: u32 = u32::MAX;

/// One vCPU thread. Written only by that thread (or, for `sched_switch`, ordered with it);
/// user space writes only when it recycles a retired slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Slot {
    // -- who --
    /// The thread while the slot is live, else 0. A probe that comes by the per-CPU cache checks
    /// nothing but this, so a stale cache can never charge another thread.
    pub owner: u32,
    /// See [`life`].
    pub life: u32,
    /// Counts up each time the slot is claimed.
    pub generation: u32,
    /// Thread group.
    pub tgid: u32,
    /// Thread; stays after it ended.
    pub tid: u32,
    /// `kvm_vcpu.vcpu_id`, or [`NO_VCPU_ID`].
    pub vcpu_id: u32,
    /// CPU it was last switched to.
    pub cpu: u32,
    /// First cell of the pool chunk in use, 0 while the slot's own chunk has room.
    pub extra_chunk: u32,
    /// Start of the thread group's leader, ns of CLOCK_BOOTTIME, as in `/proc/PID/stat` but not
    /// rounded; 0 where the kernel has no BTF to find it by.
    pub start_ns: u64,
    /// Address of the `struct kvm`; 0 as long as no `kvm_entry` was seen. An identity, never followed.
    pub kvm: u64,
    /// Address of the `struct kvm_vcpu`, as `kvm`.
    pub vcpu: u64,
    /// Name of the thread group's leader, or of the thread where the kernel has no BTF.
    pub comm: [u8; 16],
    /// Name of the thread.
    pub thread_comm: [u8; 16],
    /// When it was claimed, ns of the probes' clock (CLOCK_MONOTONIC).
    pub claimed_ns: u64,
    /// When it was retired, or 0.
    pub retired_ns: u64,

    // -- state --
    /// See [`phase`].
    pub phase: u32,
    /// The phase that is interrupted while off the CPU.
    pub resume: u32,
    /// Since when, ns of the probes' clock.
    pub since_ns: u64,
    /// Completed time in each phase since it was claimed, ns.
    pub phase_ns: [u64; phase::COUNT],
    /// Events that changed the state; a reader that sees it change reads again.
    pub events: u64,

    // -- the kernel exit being handled --
    /// Its cell, or 0 when none is open. (Cell 0 is never handed out.)
    pub open_cell: u32,
    /// Not 0 when there is more to its end than its time: see [`mark`]. Times and keys below that have
    /// no mark are of an exit before, and 0 stands for each. Follows `open_cell`: one store sets both.
    pub interrupted: u32,
    /// The exit reason as recorded, with flag bits.
    pub exit_reason: u32,
    /// `isa` of the last `kvm_exit` record, 0 before the first.
    pub isa: u32,
    /// When it began.
    pub exit_ns: u64,
    /// Handling time so far, up to the last change of phase.
    pub exit_acc_ns: u64,
    /// Its time off the CPU inside KVM_RUN so far.
    pub exit_off_ns: u64,
    /// Its time outside KVM_RUN so far.
    pub exit_vmm_ns: u64,
    /// Guest instruction pointer at the exit.
    pub rip: u64,
    /// Exit qualification (VMX) or EXITINFO1 (SVM).
    pub info1: u64,
    /// IDT-vectoring information (VMX) or EXITINFO2 (SVM).
    pub info2: u64,

    // -- the userspace exit being handled --
    /// Its cell, or 0.
    pub user_cell: u32,
    /// Cells taken.
    pub cells_used: u32,
    /// When KVM_RUN was left, ns of the probes' clock.
    pub user_ns: u64,
    /// Time off the CPU since then.
    pub user_off_ns: u64,

    // -- details (families detail, halt-poll) --
    /// Entry of [`crate::detail::Detail::keys`] that the exit being handled is about, plus one; 0 for
    /// none; [`crate::detail::KEYS`] plus its class for a key without a place. Things; of two, the
    /// first. Of this exit with [`mark::KEYS`] only.
    pub open_key: u32,
    /// The same of a page.
    pub open_page: u32,
    /// Of `exit_off_ns`: preempted.
    pub exit_wait_ns: u64,
    /// Time that `kvm_vcpu_halt` spent polling since the slot was claimed, ns.
    pub poll_ns: u64,
    /// Wake-ups while polling.
    pub polled: u64,
    /// Wake-ups after sleeping.
    pub waited: u64,
    /// All time off the CPU when `kvm_vcpu_wakeup` last fired, ns: sums of `phase_ns`.
    pub off_mark_ns: u64,
    /// VMX interruption information of the exit being handled, where the record has it.
    pub intr_info: u32,
    /// Reason of the userspace exit being handled (`KVM_EXIT_*`).
    pub user_reason: u32,
    /// The thread that took its CPU last, or 0.
    pub by_tid: u32,
    /// Keeps what follows at eight.
    pub pad: u32,
    /// Name of that thread.
    pub by_comm: [u8; 16],
}

/// A slot and its column table; what the map holds. Readers need only the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SlotEntry {
    /// The slot.
    pub head: Slot,
    /// Cell of each column ([`crate::column::column_of`]), 0 where none was taken yet.
    pub columns: [u32; COLUMNS],
}

impl Deref for SlotEntry {
    type Target = Slot;

    #[inline(always)]
    fn deref(&self) -> &Slot {
        &self.head
    }
}

impl DerefMut for SlotEntry {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Slot {
        &mut self.head
    }
}

zeroed!(
    Slot,
    Self {
        owner: 0,
        life: 0,
        generation: 0,
        tgid: 0,
        tid: 0,
        vcpu_id: 0,
        cpu: 0,
        extra_chunk: 0,
        start_ns: 0,
        kvm: 0,
        vcpu: 0,
        comm: [0; 16],
        thread_comm: [0; 16],
        claimed_ns: 0,
        retired_ns: 0,
        phase: 0,
        resume: 0,
        since_ns: 0,
        phase_ns: [0; phase::COUNT],
        events: 0,
        open_cell: 0,
        interrupted: 0,
        exit_reason: 0,
        isa: 0,
        exit_ns: 0,
        exit_acc_ns: 0,
        exit_off_ns: 0,
        exit_vmm_ns: 0,
        rip: 0,
        info1: 0,
        info2: 0,
        user_cell: 0,
        cells_used: 0,
        user_ns: 0,
        user_off_ns: 0,
        open_key: 0,
        open_page: 0,
        exit_wait_ns: 0,
        poll_ns: 0,
        polled: 0,
        waited: 0,
        off_mark_ns: 0,
        intr_info: 0,
        user_reason: 0,
        by_tid: 0,
        pad: 0,
        by_comm: [0; 16],
    }
);

const _: () = assert!(size_of::<Slot>() == 368);
const _: () = assert!(offset_of!(Slot, open_cell).is_multiple_of(8));
const _: () = assert!(offset_of!(Slot, interrupted) == offset_of!(Slot, open_cell) + 4);
const _: () = assert!(size_of::<SlotEntry>() == 368 + 4 * COLUMNS);
