//! `kvm_exit`, `kvm_entry`, `kvm_userspace_exit` and `kvm_fpu`: all in the vCPU's own thread.

use crate::{
    clock, detail, element,
    record::{self, Exit},
    slots,
    state::{self, Account},
};
use aya_ebpf::{
    EbpfContext,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use core::arch::asm;
use kvmscope_shared::{
    column::{ISA_SVM, SVM_EXIT_MSR, column_of, split_reason},
    keys::Times,
    slot::{KIND_EXIT, KIND_USERSPACE, NO_VCPU_ID, SlotEntry, mark, phase},
};

/// `kvm_exit`: the hardware left guest mode.
#[tracepoint]
pub fn kvm_exit(ctx: TracePointContext) -> u32 {
    if let Some(exit) = record::classic(&ctx) {
        on_classic(&exit);
    }
    0
}

#[inline(always)]
fn on_classic(exit: &Exit) -> Option<()> {
    let mut slot = slots::current()?;
    if slot.vcpu_id != exit.vcpu_id {
        if slot.vcpu_id != NO_VCPU_ID {
            slot = slots::slot_at(slots::replace())?;
        }
        slot.vcpu_id = exit.vcpu_id;
    }
    slot.isa = exit.isa;
    slot.intr_info = exit.intr_info;
    let (code, flags) = split_reason(exit.isa, exit.reason, exit.info1);
    on_exit(slot, exit, code, flags)
}

/// The same on AMD, with the record's fields from the VMCB. Raw arguments: `struct kvm_vcpu *`, isa.
#[raw_tracepoint(tracepoint = "kvm_exit")]
pub fn kvm_exit_svm(ctx: RawTracePointContext) -> i32 {
    on_svm(ctx.arg(0));
    0
}

#[inline(always)]
fn on_svm(vcpu: u64) -> Option<()> {
    let slot = slots::current_vcpu(vcpu)?;
    let exit = record::svm(vcpu)?;
    on_exit(slot, &exit, svm_code(&exit), 0)
}

/// The same where the kernel has `bpf_rdonly_cast`.
#[raw_tracepoint(tracepoint = "kvm_exit")]
pub fn kvm_exit_svm_cast(ctx: RawTracePointContext) -> i32 {
    on_svm_cast(ctx.arg(0));
    0
}

#[inline(always)]
fn on_svm_cast(vcpu: u64) -> Option<()> {
    let slot = slots::current_vcpu(vcpu)?;
    let exit = record::svm_cast(vcpu);
    on_exit(slot, &exit, svm_code(&exit), 0)
}

/// [`split_reason`] for SVM, where nothing but an MSR exit is split.
#[inline(always)]
fn svm_code(exit: &Exit) -> u32 {
    if exit.reason != SVM_EXIT_MSR {
        return exit.reason;
    }
    let mut info1 = exit.info1;
    // SAFETY: no instruction; it keeps the compiler from working this out for every exit.
    unsafe { asm!("/* {0} */", inout(reg) info1, options(nomem, nostack)) };
    split_reason(ISA_SVM, SVM_EXIT_MSR, info1).0
}

#[inline(always)]
fn on_exit(slot: &mut SlotEntry, exit: &Exit, code: u32, flags: u32) -> Option<()> {
    slot.events += 1;
    slot.exit_reason = exit.reason;
    slot.rip = exit.rip;
    slot.info1 = exit.info1;
    slot.info2 = exit.info2;
    let number = cell_of(slot, KIND_EXIT, exit.isa, code);
    let cell = slots::cell_at(number)?;
    if number != 0 {
        cell.count += 1;
        if flags != 0 {
            cell.flags |= flags;
        }
    }
    // Last, so that what was done here so far is not in the exit's time.
    let now = clock();
    if slot.phase == phase::GUEST {
        slot.account_to(phase::GUEST, now);
    } else {
        if slot.phase == phase::KVM && slot.open_cell != 0 {
            // Exit after exit: a fast path went back into the guest without kvm_entry (5.10). The
            // exit before stays untimed, and where the time between went nobody can tell.
            slot.phase = phase::UNKNOWN;
        }
        slot.account(now);
        slot.user_cell = 0;
    }
    slot.phase = phase::KVM;
    slot.exit_ns = now;
    slot.open(number);
    Some(())
}

/// The cell of a reason, taken at its first use; 0 when there is none left.
#[inline(always)]
fn cell_of(slot: &mut SlotEntry, kind: u32, isa: u32, code: u32) -> u32 {
    if let Some(column) = column_of(kind, code) {
        let number = *element(&mut slot.columns, u64::from(column));
        if number != 0 {
            return number;
        }
    }
    slots::new_cell(kind, isa, code)
}

/// `kvm_entry`: the guest runs (again). Raw arguments: `struct kvm_vcpu *` first, from 5.10 on.
#[raw_tracepoint(tracepoint = "kvm_entry")]
pub fn kvm_entry(ctx: RawTracePointContext) -> i32 {
    on_entry(ctx.arg(0));
    0
}

#[inline(always)]
fn on_entry(vcpu: u64) -> Option<()> {
    // First, so that what is done here is not in the exit's time.
    let now = clock();
    let slot = slots::current_vcpu(vcpu)?;
    let spent = if slot.phase == phase::KVM {
        slot.account_to(phase::KVM, now)
    } else {
        slot.user_cell = 0;
        slot.account(now)
    };
    slot.phase = phase::GUEST;
    slot.events += 1;
    if slot.open_cell == 0 {
        return Some(());
    }
    let number = slot.open_cell;
    let cell = slots::cell_at(number)?;
    slot.open_cell = 0;
    let control = slots::control()?;
    let (limit, marks) = (control.outlier_ns, slot.interrupted);
    if marks == 0 && spent < limit {
        state::time(cell, spent, control.epoch);
        return Some(());
    }
    let mut times = Times { handling: spent, off: 0, vmm: 0 };
    if marks & mark::TIMES != 0 {
        times = Times {
            handling: slot.exit_acc_ns + spent,
            off: slot.exit_off_ns,
            vmm: slot.exit_vmm_ns,
        };
        cell.off_ns += times.off;
        cell.vmm_ns += times.vmm;
    }
    state::time(cell, times.handling, control.epoch);
    if marks & mark::KEYS != 0 || times.wall() >= limit {
        detail::finish(number, times.handling, times.off, times.vmm);
    }
    slot.interrupted = 0;
    Some(())
}

/// `kvm_fpu`: KVM_RUN is entered (load 1) or left (load 0); on x86 from 5.4 to 7.3.
#[raw_tracepoint(tracepoint = "kvm_fpu")]
pub fn kvm_fpu(ctx: RawTracePointContext) -> i32 {
    on_fpu(ctx.arg(0));
    0
}

/// The same from the record, for kernels that can preempt a raw tracepoint's program: there
/// another vCPU thread's run on that CPU is skipped meanwhile. A record's program is not preempted.
#[tracepoint]
pub fn kvm_fpu_record(ctx: TracePointContext) -> u32 {
    // SAFETY: the verifier knows the record's size; the loader has compared the offset.
    on_fpu(unsafe { *ctx.as_ptr().cast::<u8>().add(8).cast() });
    0
}

#[inline(always)]
fn on_fpu(load: u32) {
    if let Some(slot) = slots::current() {
        if load == 0 {
            state::leave_run(slot);
        } else {
            state::enter_run(slot);
        }
    }
}

/// `EINTR`: KVM_RUN was interrupted and `reason` is a stale one.
const EINTR: i32 = 4;
/// `KVM_EXIT_INTR`.
const EXIT_INTR: u32 = 10;

/// `kvm_userspace_exit(reason, errno)`, right after `kvm_fpu` unload.
#[raw_tracepoint(tracepoint = "kvm_userspace_exit")]
pub fn kvm_userspace_exit(ctx: RawTracePointContext) -> i32 {
    on_userspace_exit(ctx.arg(0), ctx.arg(1));
    0
}

/// The same from the record; see [`kvm_fpu_record`].
#[tracepoint]
pub fn kvm_userspace_exit_record(ctx: TracePointContext) -> u32 {
    let record = ctx.as_ptr().cast::<u8>();
    // SAFETY: as in `kvm_fpu_record`.
    let (reason, errno) = unsafe { (*record.add(8).cast(), *record.add(12).cast()) };
    on_userspace_exit(reason, errno);
    0
}

#[inline(always)]
fn on_userspace_exit(reason: u32, errno: i32) -> Option<()> {
    let reason = if errno == -EINTR { EXIT_INTR } else { reason };
    let slot = slots::current()?;
    if slot.phase != phase::VMM {
        // Attached between the two: this is where KVM_RUN was left.
        state::leave_run(slot);
    }
    let number = cell_of(slot, KIND_USERSPACE, 0, reason);
    let cell = slots::cell_at(number)?;
    if number != 0 {
        cell.count += 1;
    }
    slot.user_cell = number;
    slot.user_reason = reason;
    slot.events += 1;
    Some(())
}
