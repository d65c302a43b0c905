//! Family `vcpu-load`: on which CPU a vCPU is loaded, from when to when. An interval is time in KVM_RUN
//! during which the thread was not switched out. Programs of their own at `kvm_fpu` and `sched_switch`, so
//! that it costs nothing where the family is off; those of `exit` and `sched` may run before or after.

use crate::{clock, detail, facts, meters, slots, state};
use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_get_numa_node_id, bpf_get_smp_processor_id},
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use kvmscope_shared::{
    meters::{UNKNOWN_NODE, meter},
    slot::{Slot, SlotEntry, phase},
};

/// `kvm_fpu`: KVM_RUN is entered (load 1) or left (load 0).
#[raw_tracepoint(tracepoint = "kvm_fpu")]
pub fn load_fpu(ctx: RawTracePointContext) -> i32 {
    on_fpu(ctx.arg(0));
    0
}

/// The same from the record; see `exit::kvm_fpu_record`.
#[tracepoint]
pub fn load_fpu_record(ctx: TracePointContext) -> u32 {
    // SAFETY: the verifier knows the record's size; the loader has compared the offset.
    on_fpu(unsafe { *ctx.as_ptr().cast::<u8>().add(8).cast() });
    0
}

#[inline(always)]
fn on_fpu(load: u32) {
    if let Some(slot) = slots::current() {
        let index = slots::remembered();
        if load == 0 {
            end(index, slot);
        } else {
            begin(index, slot);
        }
    }
}

/// `sched_switch` where the kernel has BTF.
#[btf_tracepoint(function = "sched_switch")]
pub fn load_switch_btf(ctx: BtfTracePointContext) -> i32 {
    let (prev, next): (*const u8, *const u8) = (ctx.arg(1), ctx.arg(2));
    if !prev.is_null() && !next.is_null() {
        let pid = facts::task_pid() as usize;
        // SAFETY: the verifier checks the type and the offset.
        let (tid, next_tid) = unsafe { (*prev.add(pid).cast(), *next.add(pid).cast()) };
        on_switch(tid, next_tid);
    }
    0
}

/// `sched_switch` elsewhere.
#[tracepoint]
pub fn load_switch(ctx: TracePointContext) -> u32 {
    let next: u32 = if facts::switch_usual() == 1 {
        // SAFETY: the verifier knows the record's size.
        unsafe { *ctx.as_ptr().cast::<u8>().add(56).cast() }
    } else {
        // SAFETY: a probe read, checked by the helper.
        match unsafe { ctx.read_at(facts::switch_next_pid() as usize) } {
            Ok(next) => next,
            Err(_) => return 0,
        }
    };
    on_switch(bpf_get_current_pid_tgid() as u32, next);
    0
}

#[inline(always)]
fn on_switch(tid: u32, next: u32) {
    if slots::known(tid)
        && let Some((index, slot)) = slots::of_thread(tid)
    {
        end(index, slot);
    }
    if slots::known(next)
        && let Some((index, slot)) = slots::of_thread(next)
        && is_in_run(slot)
    {
        begin(index, slot);
    }
}

/// Whether a thread that gets a CPU is inside KVM_RUN; its phase may be that of being off the CPU still.
#[inline(always)]
fn is_in_run(slot: &Slot) -> bool {
    match slot.phase {
        phase::VMM | phase::VMM_BLOCKED => false,
        phase::PREEMPTED | phase::BLOCKED => slot.resume != phase::VMM,
        _ => true,
    }
}

#[inline(always)]
fn begin(index: u32, slot: &mut SlotEntry) -> Option<()> {
    let meters = meters::at(index)?;
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if meters.loaded_cpu != cpu + 1 {
        // SAFETY: as above.
        let node = unsafe { bpf_get_numa_node_id() } as u32;
        if meters.loaded_cpu != 0 {
            meters.migrations += 1;
            if meters.loaded_node != node && meters.loaded_node != UNKNOWN_NODE {
                meters.crossings += 1;
            }
        }
        meters.loaded_cpu = cpu + 1;
        meters.loaded_node = node;
        slot.cpu = cpu;
    }
    meters.loaded_ns = clock();
    slot.events += 1;
    Some(())
}

#[inline(always)]
fn end(index: u32, slot: &mut SlotEntry) -> Option<()> {
    let meters = meters::at(index)?;
    let began = meters.loaded_ns;
    if began == 0 {
        return None;
    }
    meters.loaded_ns = 0;
    let ns = state::since(began, clock());
    meters::meter(index, meter::LOADED as u32, ns);
    detail::loaded(index, meters.loaded_cpu - 1, ns);
    slot.events += 1;
    Some(())
}
