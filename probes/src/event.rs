//! Single events, told of through one ring buffer; how many is bounded by kind, CPU and second.

use crate::{
    element,
    maps::{EVENT_TOKENS, EVENTS},
    slots, tokens,
};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ringbuf_reserve, bpf_ringbuf_submit};
use kvmscope_shared::event::{EVENTS_PER_SECOND, Event};

/// `BPF_RB_NO_WAKEUP`: nobody waits for a record.
const NO_WAKEUP: u64 = 1;

/// Whether a kind of events is told of.
#[inline(always)]
pub fn wanted(kind: u32) -> bool {
    slots::control().is_some_and(|control| control.events >> kind & 1 != 0)
}

/// Whether an event of a kind that is wanted may be told of now; a refusal is counted.
#[inline(always)]
fn may(kind: u32, now: u64) -> Option<bool> {
    // SAFETY: per-CPU memory of this program, which does not migrate while it runs.
    let bucket = unsafe { &mut *EVENT_TOKENS.get_ptr_mut(kind)? };
    let may = tokens::take(bucket, EVENTS_PER_SECOND, now);
    if !may {
        refused(kind);
    }
    Some(may)
}

#[inline(always)]
fn refused(kind: u32) {
    if let Some(control) = slots::control() {
        slots::add(element(&mut control.events_refused, u64::from(kind)), 1);
    }
}

/// Tells of an event, if its kind is wanted and its turn has come. The CPU is filled in here.
#[inline(always)]
pub fn tell(event: Event) -> Option<()> {
    if !wanted(event.kind) || !may(event.kind, event.at_ns)? {
        return None;
    }
    // SAFETY: the helper answers with memory of that size, or none; it is submitted below.
    let record = unsafe {
        bpf_ringbuf_reserve((&raw const EVENTS).cast_mut().cast(), size_of::<Event>() as u64, 0)
    };
    if record.is_null() {
        refused(event.kind);
        return None;
    }
    // SAFETY: as above; every field is written. The helper has no argument.
    unsafe {
        record.cast::<Event>().write(Event { cpu: bpf_get_smp_processor_id(), ..event });
        bpf_ringbuf_submit(record, NO_WAKEUP);
    }
    Some(())
}
