//! What the loader found out about this kernel. Read-only data: the verifier sees constants and
//! drops the branches that do not apply.

use core::ptr::read_volatile;
use kvmscope_shared::hist::{QUICK, quick_table};

macro_rules! facts {
    ($($(#[$doc:meta])* $static_name:ident: $ty:ty, $getter:ident;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub static $static_name: $ty = 0;

        $(#[$doc])*
        #[inline(always)]
        pub fn $getter() -> $ty {
            // SAFETY: a static of this program. Volatile, because the loader changes the value
            // after the compiler has seen the zero.
            unsafe { read_volatile(&raw const $static_name) }
        }
    )*};
}

facts! {
    /// 1 when every field of `kvm_exit` is where it has been since 5.10, so that the record can be
    /// read directly; a load at a variable offset of the context is refused by the verifier.
    EXIT_USUAL: u32, exit_usual;
    /// Offset of `exit_reason` in the `kvm_exit` record; the others follow.
    EXIT_REASON: u32, exit_reason;
    /// Offset of `guest_rip`.
    EXIT_RIP: u32, exit_rip;
    /// Offset of `isa`.
    EXIT_ISA: u32, exit_isa;
    /// Offset of `info1`.
    EXIT_INFO1: u32, exit_info1;
    /// Offset of `info2`.
    EXIT_INFO2: u32, exit_info2;
    /// Offset of `intr_info`, 0 where there is none.
    EXIT_INTR: u32, exit_intr;
    /// Offset of `vcpu_id`.
    EXIT_VCPU_ID: u32, exit_vcpu_id;
    /// 1 when the `sched_switch` record has its usual layout.
    SWITCH_USUAL: u32, switch_usual;
    /// Offset of `prev_state` in the `sched_switch` record.
    SWITCH_PREV_STATE: u32, switch_prev_state;
    /// Offset of `next_pid`.
    SWITCH_NEXT_PID: u32, switch_next_pid;
    /// Offset of `next_comm`.
    SWITCH_NEXT_COMM: u32, switch_next_comm;
    /// 1 when `sched_switch` passes `prev_state` as its fourth argument (5.18 and later).
    SWITCH_STATE_ARG: u32, switch_state_arg;
    /// 1 when the offsets into `task_struct` below are known.
    TASK_KNOWN: u32, task_known;
    /// Offset of `task_struct.pid`.
    TASK_PID: u32, task_pid;
    /// Offset of `task_struct.__state` (`state` before 5.14).
    TASK_STATE: u32, task_state;
    /// Offset of `task_struct.group_leader`.
    TASK_LEADER: u32, task_leader;
    /// Offset of `task_struct.start_boottime`.
    TASK_START: u32, task_start;
    /// Offset of `task_struct.comm`.
    TASK_COMM: u32, task_comm;
    /// Offset of `task_struct.tgid`.
    TASK_TGID: u32, task_tgid;
    /// Offset of `task_struct.se.cfs_rq`.
    TASK_CFS_RQ: u32, task_cfs_rq;
    /// Offset of `task_struct.sched_info.run_delay`.
    TASK_RUN_DELAY: u32, task_run_delay;
    /// Offset of `task_struct.sched_info.last_queued`.
    TASK_LAST_QUEUED: u32, task_last_queued;
    /// Offset of `cfs_rq.rq`.
    CFS_RQ_RQ: u32, cfs_rq_rq;
    /// Offset of `rq.clock`.
    RQ_CLOCK: u32, rq_clock;
    /// 1 when the way from a task to its file descriptors is known: the offsets below.
    FILES_KNOWN: u32, files_known;
    /// Offset of `task_struct.files`.
    TASK_FILES: u32, task_files;
    /// Offset of `files_struct.fdt`.
    FILES_FDT: u32, files_fdt;
    /// Offset of `fdtable.max_fds`.
    FDT_MAX: u32, fdt_max;
    /// Offset of `fdtable.fd`.
    FDT_FD: u32, fdt_fd;
    /// Offset of `file.f_op`.
    FILE_OP: u32, file_op;
    /// Offset of `file.private_data`.
    FILE_PRIVATE: u32, file_private;
    /// Offset of `file_operations.unlocked_ioctl`.
    OP_IOCTL: u32, op_ioctl;
    /// Offset of `kvm_device.kvm`, 0 when unknown.
    DEVICE_KVM: u32, device_kvm;
    /// Tallies of a row of ioctls, less one: a power of two, less one.
    IOCTL_SHARD_MASK: u32, ioctl_shard_mask;
    /// Tallies of a row of routes, less one: a power of two, less one.
    ROUTE_SHARD_MASK: u32, route_shard_mask;
    /// Offset of `task_struct.flags`, 0 when unknown.
    TASK_FLAGS: u32, task_flags;
    /// Offset of `kvm.arch.apicv_inhibit_reasons`, 0 when unknown.
    KVM_INHIBITS: u32, kvm_inhibits;
    /// Offset of `kvm_vcpu.kvm`; its first member in every kernel from 5.4 to 7.3.
    VCPU_KVM: u32, vcpu_kvm;
    /// Offset of `kvm_vcpu.vcpu_id`, 0 when unknown (no BTF for kvm): then `kvm_exit` tells.
    VCPU_ID: u32, vcpu_id;
    /// Offset of `kvm_vcpu.arch.regs[VCPU_REGS_RIP]`.
    VCPU_RIP: u32, vcpu_rip;
    /// Offset of `vcpu_svm.vmcb`; the vCPU is its first member.
    SVM_VMCB: u32, svm_vmcb;
    /// The vendor whose raw `kvm_exit` is read without its record, as in `Slot::isa`; else 0.
    ISA: u32, isa;
    /// Offset of `kvm_memory_slot.flags`.
    MEMSLOT_FLAGS: u32, memslot_flags;
    /// Offset of `kvm_memory_slot.id`.
    MEMSLOT_ID: u32, memslot_id;
    /// Offset of `kvm_memory_slot.as_id`.
    MEMSLOT_AS_ID: u32, memslot_as_id;
    /// Offset of `kvm_memory_slot.base_gfn`.
    MEMSLOT_BASE: u32, memslot_base;
    /// Offset of `kvm_memory_slot.dirty_bitmap`.
    MEMSLOT_BITMAP: u32, memslot_bitmap;
    /// Offset of `kvm_vcpu.stat.guest_mode`, 0 where there is none.
    VCPU_GUEST_MODE: u32, vcpu_guest_mode;
    /// Number of `struct pt_regs` in vmlinux's BTF: 21 integers in a row.
    TYPE_PT_REGS: u32, type_pt_regs;
}

/// See [`kvmscope_shared::hist::quick_bucket_of`].
#[unsafe(no_mangle)]
static QUICK_BUCKETS: [u8; QUICK] = quick_table();

/// The quick table's element, for an index below its length.
#[inline(always)]
pub fn quick_bucket(index: u64) -> u8 {
    let mut index = index;
    // SAFETY: masked, by an instruction that the compiler cannot drop (see `element`).
    unsafe {
        core::arch::asm!("{0} &= {1}", inout(reg) index, const QUICK - 1, options(pure, nomem, nostack));
        (&raw const QUICK_BUCKETS).cast::<u8>().add(index as usize).read_volatile()
    }
}
