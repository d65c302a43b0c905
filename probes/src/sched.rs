//! `sched_switch` and `sched_process_exit`: what costs every thread of the host something, so
//! for one that is no vCPU it is two tests of a bit.

use crate::{clock, detail, facts, ioctl, slots, state};
use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use kvmscope_shared::slot::SlotEntry;

/// A thread's name, as the integers that it is copied by.
type Name = [u64; 2];

/// The bits of a recorded `prev_state` that are a state; above them is "was preempted".
const STATE_BITS: u32 = 0xff;

/// `sched_switch` where the kernel has BTF: fields are read directly.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch_btf(ctx: BtfTracePointContext) -> i32 {
    let (prev, next): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    if prev.is_null() || next.is_null() {
        return 0;
    }
    // SAFETY: the verifier checks the type and the offset.
    let (tid, next_tid): (u32, u32) = unsafe {
        let pid = facts::task_pid() as usize;
        (*prev.add(pid).cast(), *next.add(pid).cast())
    };
    if slots::known(tid) {
        let preempted: u64 = ctx.arg(0);
        let state: u32 = if facts::switch_state_arg() == 1 {
            ctx.arg(3)
        } else {
            // SAFETY: as above.
            unsafe { *prev.add(facts::task_state() as usize).cast() }
        };
        let runnable = preempted & 1 != 0 || state == 0;
        if let Some(slot) = out(tid, runnable)
            && runnable
        {
            slot.by_tid = next_tid;
            // SAFETY: as above; a name is 16 bytes.
            unsafe {
                let name = next.add(facts::task_comm() as usize).cast::<Name>();
                if facts::task_known() == 1 {
                    (&raw mut slot.by_comm).cast::<Name>().write(name.read());
                }
            }
        }
    }
    if slots::known(next_tid) {
        back(next_tid);
    }
    0
}

/// `sched_switch` elsewhere: fields are read from the record.
#[tracepoint]
pub fn sched_switch(ctx: TracePointContext) -> u32 {
    let (state, next_tid): (u32, u32) = if facts::switch_usual() == 1 {
        let record = ctx.as_ptr().cast::<u8>();
        // SAFETY: the verifier knows the record's size.
        unsafe { (*record.add(32).cast(), *record.add(56).cast()) }
    } else {
        // SAFETY: probe reads, checked by the helper.
        unsafe {
            match (
                ctx.read_at(facts::switch_prev_state() as usize),
                ctx.read_at(facts::switch_next_pid() as usize),
            ) {
                (Ok(state), Ok(tid)) => (state, tid),
                _ => return 0,
            }
        }
    };
    let tid = bpf_get_current_pid_tgid() as u32;
    if slots::known(tid) {
        let runnable = state & STATE_BITS == 0;
        if let Some(slot) = out(tid, runnable)
            && runnable
        {
            slot.by_tid = next_tid;
            // SAFETY: a probe read, checked by the helper.
            if let Ok(name) = unsafe { ctx.read_at(facts::switch_next_comm() as usize) } {
                slot.by_comm = name;
            }
        }
    }
    if slots::known(next_tid) {
        back(next_tid);
    }
    0
}

#[inline(always)]
fn out(tid: u32, runnable: bool) -> Option<&'static mut SlotEntry> {
    let (_, slot) = slots::of_thread(tid)?;
    state::switch_out(slot, runnable);
    Some(slot)
}

#[inline(always)]
fn back(tid: u32) {
    if let Some((index, slot)) = slots::of_thread(tid) {
        state::switch_in(slot);
        slots::switched_in(index, slot);
    }
}

/// `sched_process_exit`: a thread ends. Its id may be another's in a moment.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(_ctx: RawTracePointContext) -> i32 {
    on_thread_exit();
    0
}

/// The same as a classic tracepoint, whose programs are not preempted; see `exit::kvm_fpu_record`.
#[tracepoint]
pub fn sched_process_exit_record(_ctx: TracePointContext) -> u32 {
    on_thread_exit();
    0
}

#[inline(always)]
fn on_thread_exit() {
    let tid = bpf_get_current_pid_tgid() as u32;
    if !slots::known(tid) {
        return;
    }
    if let Some((index, slot)) = slots::of_thread(tid) {
        detail::settle_slot(index, slot);
        slots::retire(slot, clock());
    }
    ioctl::forget(tid);
    slots::forget(tid);
}
