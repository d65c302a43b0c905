//! `kvm_exit`, `kvm_entry`, `kvm_userspace_exit` and `kvm_fpu`: all in the vCPU's own thread.

use crate::{
    clock, element, facts, slots,
    state::{self, Account},
};
use aya_ebpf::{
    EbpfContext,
    helpers::bpf_probe_read_kernel,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use kvmscope_shared::{
    column::{column_of, split_reason},
    slot::{KIND_EXIT, KIND_USERSPACE, NO_VCPU_ID, Slot, SlotEntry, phase},
};

/// What a `kvm_exit` record tells (arch/x86/kvm/trace.h).
struct Exit {
    reason: u32,
    rip: u64,
    isa: u32,
    info1: u64,
    info2: u64,
    vcpu_id: u32,
}

/// `kvm_exit`: the hardware left guest mode.
#[tracepoint]
pub fn kvm_exit(ctx: TracePointContext) -> u32 {
    if let Some(exit) = read_exit(&ctx) {
        on_exit(&exit);
    }
    0
}

#[inline(always)]
fn read_exit(ctx: &TracePointContext) -> Option<Exit> {
    if facts::exit_usual() == 1 {
        let record = ctx.as_ptr().cast::<u8>();
        // SAFETY: the verifier knows the record's size and refuses the program if this is outside.
        return Some(unsafe {
            Exit {
                reason: *record.add(8).cast(),
                rip: *record.add(16).cast(),
                isa: *record.add(24).cast(),
                info1: *record.add(32).cast(),
                info2: *record.add(40).cast(),
                vcpu_id: *record.add(56).cast(),
            }
        });
    }
    // SAFETY: probe reads, checked by the helper.
    unsafe {
        Some(Exit {
            reason: ctx.read_at(facts::exit_reason() as usize).ok()?,
            rip: ctx.read_at(facts::exit_rip() as usize).ok()?,
            isa: ctx.read_at(facts::exit_isa() as usize).ok()?,
            info1: ctx.read_at(facts::exit_info1() as usize).ok()?,
            info2: ctx.read_at(facts::exit_info2() as usize).ok()?,
            vcpu_id: ctx.read_at(facts::exit_vcpu_id() as usize).ok()?,
        })
    }
}

#[inline(always)]
fn on_exit(exit: &Exit) -> Option<()> {
    let (mut index, mut slot) = slots::current()?;
    if slot.vcpu_id != exit.vcpu_id {
        if slot.vcpu_id != NO_VCPU_ID {
            index = slots::replace();
            slot = slots::slot_at(index)?;
        }
        slot.vcpu_id = exit.vcpu_id;
    }
    let now = clock();
    if slot.phase == phase::KVM && slot.open_cell != 0 {
        // Exit after exit: a fast path went back into the guest without kvm_entry (5.10). The
        // exit before stays untimed, and where the time between went nobody can tell.
        slot.phase = phase::UNKNOWN;
    }
    slot.account(now);
    slot.phase = phase::KVM;
    slot.events += 1;
    slot.isa = exit.isa;
    slot.exit_reason = exit.reason;
    slot.exit_ns = now;
    slot.exit_acc_ns = 0;
    slot.exit_off_ns = 0;
    slot.exit_vmm_ns = 0;
    slot.rip = exit.rip;
    slot.info1 = exit.info1;
    slot.info2 = exit.info2;
    slot.user_cell = 0;
    let (code, flags) = split_reason(exit.isa, exit.reason, exit.info1);
    let number = cell_of(slot, index, KIND_EXIT, exit.isa, code);
    slot.open_cell = number;
    let cell = slots::cell_at(number)?;
    if number != 0 {
        cell.count += 1;
        if flags != 0 {
            cell.flags |= flags;
        }
    }
    Some(())
}

/// The cell of a reason, taken at its first use; 0 when there is none left.
#[inline(always)]
fn cell_of(slot: &mut SlotEntry, index: u32, kind: u32, isa: u32, code: u32) -> u32 {
    if let Some(column) = column_of(kind, code) {
        let number = *element(&mut slot.columns, u64::from(column));
        if number != 0 {
            return number;
        }
    }
    slots::new_cell(index, kind, isa, code)
}

/// `kvm_entry`: the guest runs (again). Raw arguments: `struct kvm_vcpu *` first, from 5.10 on.
#[raw_tracepoint(tracepoint = "kvm_entry")]
pub fn kvm_entry(ctx: RawTracePointContext) -> i32 {
    on_entry(ctx.arg(0));
    0
}

#[inline(always)]
fn on_entry(vcpu: u64) -> Option<()> {
    let (_, mut slot) = slots::current()?;
    if slot.vcpu != vcpu {
        if slot.vcpu != 0 {
            slot = slots::slot_at(slots::replace())?;
        }
        identify(slot, vcpu);
    }
    let spent = slot.account(clock());
    slot.phase = phase::GUEST;
    slot.events += 1;
    if slot.open_cell == 0 {
        return Some(());
    }
    let cell = slots::cell_at(slot.open_cell)?;
    slot.open_cell = 0;
    state::time(cell, slot.exit_acc_ns + spent);
    if slot.exit_off_ns | slot.exit_vmm_ns != 0 {
        cell.off_ns += slot.exit_off_ns;
        cell.vmm_ns += slot.exit_vmm_ns;
    }
    Some(())
}

/// Which VM and which vCPU: once per thread and vCPU.
#[inline(always)]
fn identify(slot: &mut Slot, vcpu: u64) {
    // SAFETY: probe reads: a wrong address is an error, not a fault.
    unsafe {
        if let Ok(kvm) =
            bpf_probe_read_kernel((vcpu + u64::from(facts::vcpu_kvm())) as *const u64)
        {
            slot.kvm = kvm;
        }
        let id = facts::vcpu_id();
        if id != 0
            && let Ok(id) = bpf_probe_read_kernel((vcpu + u64::from(id)) as *const u32)
        {
            slot.vcpu_id = id;
        }
    }
    slot.vcpu = vcpu;
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
    if let Some((_, slot)) = slots::current() {
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
    let (index, slot) = slots::current()?;
    if slot.phase != phase::VMM {
        // Attached between the two: this is where KVM_RUN was left.
        state::leave_run(slot);
    }
    let number = cell_of(slot, index, KIND_USERSPACE, 0, reason);
    let cell = slots::cell_at(number)?;
    if number != 0 {
        cell.count += 1;
    }
    slot.user_cell = number;
    slot.events += 1;
    Some(())
}
