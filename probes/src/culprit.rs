//! Family `culprits`: who ran while a vCPU's thread waited for a CPU. A program of its own at
//! `sched_switch`, which knows nothing of the one in `sched`; either may run first.
//!
//! Every switch notes who gets the CPU, which is what this costs other threads: no clock is read,
//! since the scheduler has just read it (`rq.clock`), and nothing hooks wake-ups, since the task
//! itself says since when it has been queued on this CPU (`sched_info.last_queued`, in the same
//! clock). What it waited on other CPUs before it was moved here is in its `run_delay` already.
//!
//! Only `sched_switch` writes here: the history of its CPU, and the waits of the thread that it
//! switches to, which is on no other CPU at that moment.

use crate::{element, facts, maps::*, slots};
use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use kvmscope_shared::waits::{History, RUNS, Walk};

/// `sched_switch`, by BTF.
#[btf_tracepoint(function = "sched_switch")]
pub fn culprits_switch(ctx: BtfTracePointContext) -> i32 {
    let (prev, next): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    if !prev.is_null() && !next.is_null() {
        on_switch(prev, next);
    }
    0
}

#[inline(always)]
fn on_switch(prev: *const u8, next: *const u8) -> Option<()> {
    // SAFETY: a pointer to per-CPU memory of this program, which is not preempted.
    let history = unsafe { &mut *HISTORY.get_ptr_mut(0)? };
    // SAFETY: the verifier checks each type and offset; a bad pointer reads as 0.
    let now: u64 = unsafe {
        let cfs: *const u8 = *next.add(facts::task_cfs_rq() as usize).cast();
        if cfs.is_null() {
            return None;
        }
        let rq: *const u8 = *cfs.add(facts::cfs_rq_rq() as usize).cast();
        if rq.is_null() {
            return None;
        }
        *rq.add(facts::rq_clock() as usize).cast()
    };
    // SAFETY: as above.
    let tid: u32 = unsafe { *next.add(facts::task_pid() as usize).cast() };
    if slots::known(tid) {
        waited(history, prev, next, tid, now);
    }
    let run = element(&mut history.runs, history.noted);
    history.noted += 1;
    run.start_ns = now;
    run.tid = tid;
    // SAFETY: as above.
    unsafe {
        run.tgid = *next.add(facts::task_tgid() as usize).cast();
        let comm: *const u64 = next.add(facts::task_comm() as usize).cast();
        let to: *mut u64 = (&raw mut run.comm).cast();
        *to = *comm;
        *to.add(1) = *comm.add(1);
    }
    Some(())
}

/// A vCPU's thread gets this CPU: charges its wait to those who had it meanwhile.
#[inline(always)]
fn waited(
    history: &mut History,
    prev: *const u8,
    next: *const u8,
    tid: u32,
    now: u64,
) -> Option<()> {
    let (index, _) = slots::of_thread(tid)?;
    // SAFETY: as in `on_switch`.
    let (last, delay, queued): (u32, u64, u64) = unsafe {
        (
            *prev.add(facts::task_pid() as usize).cast(),
            *next.add(facts::task_run_delay() as usize).cast(),
            *next.add(facts::task_last_queued() as usize).cast(),
        )
    };
    // SAFETY: array memory; nobody else writes this element (above).
    let waits = unsafe { &mut *WAITS.get_ptr_mut(index)? };
    // 0 is "not queued": it was running, or fell asleep and was woken before it left its CPU.
    let mut walk = Walk::new(if queued == 0 { now } else { queued }, now);
    let here = walk.left_ns();
    let known = waits.mark_ns;
    waits.mark_ns = delay + here + 1;
    if known == 0 {
        // It may have begun before this was attached.
        return None;
    }
    let mut elsewhere = 0;
    if delay >= known {
        elsewhere = delay + 1 - known;
    }
    if here + elsewhere == 0 {
        return None;
    }
    waits.count += 1;
    waits.total_ns += here + elsewhere;
    let mut other = elsewhere;
    let mut at = history.noted;
    // Where the newest run is not of the thread that ran till now, switches were not seen, as this
    // was not attached.
    let seen = element(&mut history.runs, at.wrapping_sub(1)).tid == last;
    for _ in 0..RUNS {
        at = at.wrapping_sub(1);
        let run = *element(&mut history.runs, at);
        if !seen || run.start_ns == 0 || walk.left_ns() == 0 {
            break;
        }
        let ns = walk.back_to(run.start_ns);
        if ns != 0 {
            let place = waits.place(run.tgid) as u64;
            // By way of memory: the verifier would follow each place as a case of its own.
            let scratch = &raw mut history.scratch;
            // SAFETY: a field of this CPU's history.
            let place = unsafe {
                scratch.write_volatile(place);
                scratch.read_volatile()
            };
            other += element(&mut waits.culprits, place).charge(&run, ns, now);
        }
    }
    waits.other_ns += other + walk.left_ns();
    Some(())
}
