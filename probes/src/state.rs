//! The thread's state machine and the end of an exit, as methods of slot and cell.

use crate::{clock, detail, element, facts, slots};
use kvmscope_shared::{
    cell::Cell,
    column::{ISA_VMX, VMX_CODE_MASK},
    hist::quick_bucket_of,
    slot::{Slot, mark, phase},
};

/// Time from `then` to `now`, ns; 0 where the clock stepped back a little from one CPU to another.
/// The sign of the difference tells, in fewer instructions than a saturating subtraction takes.
#[inline(always)]
pub fn since(then: u64, now: u64) -> u64 {
    let spent = now.wrapping_sub(then);
    if spent.cast_signed() < 0 { 0 } else { spent }
}

/// What the probes do to a slot.
pub trait Account {
    /// Adds the time since the last change to the phase it was spent in, and answers with it (ns).
    fn account(&mut self, now: u64) -> u64;
    /// The same where the phase is known, which saves the look.
    fn account_to(&mut self, phase: u32, now: u64) -> u64;
    /// Before something is added to the times of the exit being handled.
    fn interrupt(&mut self);
    /// An exit begins, not interrupted yet.
    fn open(&mut self, cell: u32);
}

impl Account for Slot {
    #[inline(always)]
    fn account(&mut self, now: u64) -> u64 {
        let spent = since(self.since_ns, now);
        *element(&mut self.phase_ns, u64::from(self.phase)) += spent;
        self.since_ns = now;
        spent
    }

    #[inline(always)]
    fn account_to(&mut self, phase: u32, now: u64) -> u64 {
        let spent = since(self.since_ns, now);
        self.phase_ns[phase as usize] += spent;
        self.since_ns = now;
        spent
    }

    #[inline(always)]
    fn interrupt(&mut self) {
        if self.interrupted & mark::TIMES == 0 {
            self.exit_acc_ns = 0;
            self.exit_off_ns = 0;
            self.exit_wait_ns = 0;
            self.exit_vmm_ns = 0;
            self.interrupted |= mark::TIMES;
        }
    }

    #[inline(always)]
    fn open(&mut self, cell: u32) {
        let both = (&raw mut *self).wrapping_byte_add(core::mem::offset_of!(Slot, open_cell));
        // SAFETY: `open_cell` and `interrupted` are eight aligned bytes (asserted beside them); the
        // target is little-endian, so the upper half is `interrupted`.
        unsafe { *both.cast::<u64>() = u64::from(cell) };
    }
}

/// Adds a handling time to a cell's total, histogram and extremes.
#[inline(always)]
pub fn time(cell: &mut Cell, ns: u64, epoch: u64) {
    cell.total_ns += ns;
    let bucket = quick_bucket_of(ns, facts::quick_bucket);
    *element(&mut cell.hist, bucket as u64) += 1;
    let bank = element(&mut cell.extremes, epoch);
    if bank.epoch != epoch {
        bank.min_ns = ns;
        bank.max_ns = ns;
        bank.epoch = epoch;
        return;
    }
    if ns > bank.max_ns {
        bank.max_ns = ns;
    }
    if ns < bank.min_ns {
        bank.min_ns = ns;
    }
}

/// KVM_RUN begins (`kvm_fpu` load): the userspace exit that was open, if any, is over.
#[inline(always)]
pub fn enter_run(slot: &mut Slot) {
    let now = clock();
    let spent = slot.account(now);
    if slot.user_cell != 0 {
        let dwell = since(slot.user_ns, now);
        if let Some(cell) = slots::cell_at(slot.user_cell) {
            time(cell, dwell, slots::epoch());
            cell.off_ns += slot.user_off_ns;
            cell.vmm_ns += dwell;
        }
        slot.user_cell = 0;
        if slot.open_cell != 0 {
            slot.interrupt();
            slot.exit_vmm_ns += dwell;
        } else if slots::control().is_some_and(|control| dwell >= control.outlier_ns) {
            // What it was about is told now, or was before: see `detail`.
            slot.exit_vmm_ns = dwell;
            slot.interrupted |= mark::DWELL;
        }
    } else if slot.open_cell != 0 {
        // The guest's FPU state was put away and taken back inside KVM_RUN (a vCPU reset with
        // MPX does that): the VMM never ran.
        slot.interrupt();
        slot.exit_acc_ns += spent;
    }
    slot.phase = phase::KVM;
    slot.events += 1;
}

/// KVM_RUN ends (`kvm_fpu` unload).
#[inline(always)]
pub fn leave_run(slot: &mut Slot) {
    let now = clock();
    let spent = slot.account(now);
    if slot.open_cell != 0 {
        slot.interrupt();
        slot.exit_acc_ns += spent;
    } else if slot.interrupted & mark::DWELL != 0 {
        detail::settle();
    }
    slot.phase = phase::VMM;
    slot.user_ns = now;
    slot.user_off_ns = 0;
    slot.events += 1;
}

/// `KVM_EXIT_HLT`.
const KVM_EXIT_HLT: u32 = 5;

/// Whether a vCPU that sleeps in the exit being handled is halted. SVM's VMGEXIT is in, by which guests
/// with encrypted state halt.
#[inline(always)]
fn is_halt(slot: &Slot) -> bool {
    if slot.isa == ISA_VMX {
        // HLT, MWAIT (SDM volume 3, appendix C).
        matches!(slot.exit_reason & VMX_CODE_MASK, 12 | 36)
    } else {
        // HLT, MWAIT, MWAIT_COND, IDLE_HLT, VMGEXIT (arch/x86/include/uapi/asm/svm.h).
        matches!(slot.exit_reason, 0x78 | 0x8b | 0x8c | 0xa6 | 0x403)
    }
}

/// Whether a thread in this phase is off the CPU.
#[inline(always)]
fn is_off(of: u32) -> bool {
    matches!(of, phase::PREEMPTED | phase::BLOCKED | phase::VMM_BLOCKED | phase::KVM_BLOCKED)
}

/// The thread leaves its CPU.
#[inline(always)]
pub fn switch_out(slot: &mut Slot, runnable: bool) {
    let now = clock();
    if is_off(slot.phase) {
        // It was back in between, and nobody told when (some kernels leave out switches): what it does goes
        // on from here, and where this time went is not known.
        let spent = slot.account_to(phase::UNKNOWN, now);
        slot.phase = slot.resume;
        off(slot, spent);
    } else {
        let spent = slot.account(now);
        if slot.phase == phase::KVM && slot.open_cell != 0 {
            slot.interrupt();
            slot.exit_acc_ns += spent;
        }
    }
    slot.resume = slot.phase;
    slot.phase = if runnable {
        phase::PREEMPTED
    } else if slot.phase == phase::VMM {
        if slot.user_cell != 0 && slot.user_reason == KVM_EXIT_HLT {
            phase::BLOCKED
        } else {
            phase::VMM_BLOCKED
        }
    } else if slot.phase == phase::KVM && slot.open_cell != 0 && !is_halt(slot) {
        phase::KVM_BLOCKED
    } else {
        phase::BLOCKED
    };
    slot.events += 1;
}

/// Time off the CPU, of a thread that was doing something else before ([`Slot::resume`]).
#[inline(always)]
fn off(slot: &mut Slot, spent: u64) {
    if slot.resume == phase::VMM {
        slot.user_off_ns += spent;
    } else if slot.open_cell != 0 {
        slot.interrupt();
        slot.exit_off_ns += spent;
    }
}

/// The thread is back on a CPU.
#[inline(always)]
pub fn switch_in(slot: &mut Slot) {
    let before = slot.phase;
    let spent = slot.account(clock());
    if !is_off(before) {
        return;
    }
    off(slot, spent);
    if slot.resume != phase::VMM && slot.open_cell != 0 && before == phase::PREEMPTED {
        slot.exit_wait_ns += spent;
    }
    slot.phase = slot.resume;
    slot.events += 1;
}
