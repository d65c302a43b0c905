//! Single events for lists, each told of once; how many is bounded per kind, CPU and second.

use crate::{clock, element, maps, slots};
use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use kvmscope_shared::event::{ARGS, EVENTS_PER_SECOND, Event};

/// `BPF_RB_NO_WAKEUP`: nobody waits for a record.
const NO_WAKEUP: u64 = 1;
/// The time in which a CPU may tell of one, ns.
const TOKEN_NS: u64 = 1_000_000_000 / EVENTS_PER_SECOND;
/// Tokens that can be saved up, in that unit.
const SAVED_NS: u64 = 1_000_000_000;

/// Tells of an event of the current vCPU at once, whether in an exit or not.
#[inline(always)]
pub fn tell_now(kind: u32, args: [u64; ARGS]) -> Option<()> {
    let control = slots::control()?;
    if control.events >> kind & 1 == 0 {
        return None;
    }
    let (index, slot) = slots::known_current()?;
    let now = clock();
    if !may(kind, now)? {
        slots::add(element(&mut control.events_refused, u64::from(kind)), 1);
        return None;
    }
    // SAFETY: the helper answers with memory of that size, or none; it is submitted below.
    let record = unsafe {
        bpf_ringbuf_reserve(
            (&raw const maps::EVENTS).cast_mut().cast(),
            size_of::<Event>() as u64,
            0,
        )
    };
    if record.is_null() {
        slots::add(element(&mut control.events_refused, u64::from(kind)), 1);
        return None;
    }
    let both = bpf_get_current_pid_tgid();
    // SAFETY: as above; every field is written. The helper has no argument.
    unsafe {
        record.cast::<Event>().write(Event {
            at_ns: now,
            kind,
            slot: index,
            generation: slot.generation,
            cell: slot.open_cell,
            tgid: (both >> 32) as u32,
            tid: both as u32,
            cpu: bpf_get_smp_processor_id(),
            pad: 0,
            rip: if slot.open_cell == 0 { 0 } else { slot.rip },
            handling_ns: 0,
            off_ns: 0,
            vmm_ns: 0,
            args,
        });
        bpf_ringbuf_submit(record, NO_WAKEUP);
    }
    Some(())
}

/// Takes a token of this CPU for a kind, if it has one.
#[inline(always)]
fn may(kind: u32, now: u64) -> Option<bool> {
    // SAFETY: per-CPU memory of this program, which does not migrate while it runs.
    let [saved, at] = unsafe { &mut *maps::EVENT_TOKENS.get_ptr_mut(kind)? };
    let since = now.wrapping_sub(*at);
    *at = now;
    // Clocks of two CPUs may differ a little; a step back is a huge number here.
    let come = if since.cast_signed() < 0 { 0 } else { since };
    let tokens = if come > SAVED_NS { SAVED_NS } else { *saved + come };
    let tokens = if tokens > SAVED_NS { SAVED_NS } else { tokens };
    let may = tokens >= TOKEN_NS;
    *saved = if may { tokens - TOKEN_NS } else { tokens };
    Some(may)
}
