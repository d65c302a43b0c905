//! The thread's state machine and the end of an exit, as methods of slot and cell.

use crate::{clock, element, slots};
use kvmscope_shared::{
    cell::Cell,
    hist::bucket_of,
    slot::{Slot, phase},
};

/// What the probes do to a slot.
pub trait Account {
    /// Adds the time since the last change to the phase it was spent in, and answers with it (ns).
    fn account(&mut self, now: u64) -> u64;
}

impl Account for Slot {
    #[inline(always)]
    fn account(&mut self, now: u64) -> u64 {
        // The clock may step back a little from one CPU to another.
        let spent = now.saturating_sub(self.since_ns);
        *element(&mut self.phase_ns, u64::from(self.phase)) += spent;
        self.since_ns = now;
        spent
    }
}

/// Adds a handling time to a cell's total, histogram and extremes.
#[inline(always)]
pub fn time(cell: &mut Cell, ns: u64) {
    cell.total_ns += ns;
    *element(&mut cell.hist, bucket_of(ns) as u64) += 1;
    let epoch = slots::epoch();
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
        let dwell = now.saturating_sub(slot.user_ns);
        if let Some(cell) = slots::cell_at(slot.user_cell) {
            time(cell, dwell);
            cell.off_ns += slot.user_off_ns;
            cell.vmm_ns += dwell;
        }
        slot.user_cell = 0;
        slot.exit_vmm_ns += dwell;
    } else if slot.open_cell != 0 {
        // The guest's FPU state was put away and taken back inside KVM_RUN (a vCPU reset with
        // MPX does that): the VMM never ran.
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
        slot.exit_acc_ns += spent;
    }
    slot.phase = phase::VMM;
    slot.user_ns = now;
    slot.user_off_ns = 0;
    slot.events += 1;
}

/// The thread leaves its CPU.
#[inline(always)]
pub fn switch_out(slot: &mut Slot, runnable: bool) {
    let spent = slot.account(clock());
    if slot.phase == phase::KVM && slot.open_cell != 0 {
        slot.exit_acc_ns += spent;
    }
    slot.resume = slot.phase;
    slot.phase = if runnable {
        phase::PREEMPTED
    } else if slot.phase == phase::VMM {
        phase::VMM_BLOCKED
    } else {
        phase::BLOCKED
    };
    slot.events += 1;
}

/// The thread is back on a CPU.
#[inline(always)]
pub fn switch_in(slot: &mut Slot) {
    let off = matches!(slot.phase, phase::PREEMPTED | phase::BLOCKED | phase::VMM_BLOCKED);
    let spent = slot.account(clock());
    if !off {
        return;
    }
    if slot.resume == phase::VMM {
        slot.user_off_ns += spent;
    } else {
        slot.exit_off_ns += spent;
    }
    slot.phase = slot.resume;
    slot.events += 1;
}
