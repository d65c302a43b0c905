//! Single events, told of through one ring buffer; how many is bounded by kind, CPU and second.
//!
//! A page fault and an MMIO access wait in the slot's details for the end of their exit, whose times they
//! are told with. Without an exit (a silent backend) they are told at once.

use crate::{
    clock, detail, element,
    maps::{EVENT_TOKENS, EVENTS},
    slots, tokens,
};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ringbuf_reserve, bpf_ringbuf_submit};
use kvmscope_shared::{
    conf::Control,
    detail::{Detail, class},
    event::{ARGS, EVENTS_PER_SECOND, Event, kind},
    fault,
    keys::{self, Times},
    slot::{SlotEntry, mark},
};

/// `BPF_RB_NO_WAKEUP`: nobody waits for a record.
const NO_WAKEUP: u64 = 1;
/// No time: of what is told of at once.
const AT_ONCE: Times = Times { handling: 0, off: 0, vmm: 0 };
/// `type` of `kvm_mmio`: a read that the VMM has to answer, a read, a write.
const MMIO_UNANSWERED: u32 = 0;
const MMIO_READ: u32 = 1;
const MMIO_WRITE: u32 = 2;

/// Whether a kind of events is told of.
#[inline(always)]
pub fn wanted(kind: u32) -> bool {
    slots::control().is_some_and(|control| is_wanted(control, kind))
}

#[inline(always)]
fn is_wanted(control: &Control, kind: u32) -> bool {
    control.events >> kind & 1 != 0
}

/// Whether an event of a kind may be told of now: it is wanted, and its turn has come. A refusal is counted.
#[inline(always)]
fn may(control: &mut Control, kind: u32, now: u64) -> bool {
    if !is_wanted(control, kind) {
        return false;
    }
    let Some(bucket) = EVENT_TOKENS.get_ptr_mut(kind) else { return false };
    // SAFETY: per-CPU memory of this program, which does not migrate while it runs.
    let may = tokens::take(unsafe { &mut *bucket }, EVENTS_PER_SECOND, now);
    if !may {
        refused(control, kind);
    }
    may
}

#[inline(always)]
fn refused(control: &mut Control, kind: u32) {
    slots::add(element(&mut control.events_refused, u64::from(kind)), 1);
}

/// Tells of an event, if its kind is wanted and its turn has come.
#[inline(always)]
pub fn tell(event: Event) -> Option<()> {
    let control = slots::control()?;
    if !may(control, event.kind, event.at_ns) {
        return None;
    }
    send(control, event)
}

/// Tells of an event that may be told of. The CPU is filled in here.
#[inline(always)]
fn send(control: &mut Control, event: Event) -> Option<()> {
    // SAFETY: the helper answers with memory of that size, or none; it is submitted below.
    let record = unsafe {
        bpf_ringbuf_reserve((&raw const EVENTS).cast_mut().cast(), size_of::<Event>() as u64, 0)
    };
    if record.is_null() {
        refused(control, event.kind);
        return None;
    }
    // SAFETY: as above; every field is written. The helper has no argument.
    unsafe {
        record.cast::<Event>().write(Event { cpu: bpf_get_smp_processor_id(), ..event });
        bpf_ringbuf_submit(record, NO_WAKEUP);
    }
    Some(())
}

/// An event of a vCPU, in the exit of `cell` (0 for none).
#[inline(always)]
fn of_slot(
    (kind, at_ns): (u32, u64),
    (index, slot): (u32, &SlotEntry),
    cell: u32,
    times: Times,
    args: [u64; ARGS],
) -> Event {
    Event {
        at_ns,
        kind,
        slot: index,
        generation: slot.generation,
        cell,
        tgid: slot.tgid,
        tid: slot.tid,
        cpu: 0,
        pad: 0,
        rip: if cell == 0 { 0 } else { slot.rip },
        handling_ns: times.handling,
        off_ns: times.off,
        vmm_ns: times.vmm,
        args,
    }
}

/// Tells of an event of the vCPU of a slot (0 for none) at once, whether in an exit or not.
#[inline(always)]
pub fn tell_now(index: u32, kind: u32, args: [u64; ARGS]) -> Option<()> {
    if index == 0 || !wanted(kind) {
        return None;
    }
    let slot = slots::slot_at(index)?;
    tell(of_slot((kind, clock()), (index, slot), slot.open_cell, AT_ONCE, args))
}

/// A page fault of a vCPU, whose page has been noted: counts its kind, and keeps it for the end of its exit, where
/// that is wanted. Of two in one exit the first is kept.
#[inline(always)]
pub fn page_fault(
    index: u32,
    slot: &mut SlotEntry,
    detail: &mut Detail,
    gpa: u64,
    error: u64,
) -> Option<()> {
    let control = slots::control()?;
    if !is_wanted(control, kind::FAULT) {
        return None;
    }
    let open = slot.open_cell != 0;
    // The tracepoint of kernels before 6.1 has half of it.
    let error = if open && slot.info1 as u32 == error as u32 { slot.info1 } else { error };
    let reason = if open { Some(slot.exit_reason) } else { None };
    let kind = if fault::is_qualification(control.isa, reason) {
        fault::of_qualification(error)
    } else {
        fault::of_error_code(error)
    };
    let place = element(&mut detail.faults, kind);
    keys::note_fixed(place, (class::FAULT, slot.open_cell, kind));
    if !open {
        return tell_now(index, kind::FAULT, [gpa, error, 0, 0, 0, 0]);
    }
    if slot.interrupted & mark::FAULT == 0 {
        slot.interrupted |= mark::FAULT;
        let pending = &mut detail.pending;
        (pending.fault, pending.fault_gpa, pending.fault_error) = (kind, gpa, error);
    }
    Some(())
}

/// An MMIO access of the vCPU of a slot, which has been noted: keeps it for the end of its exit. Of several
/// in one exit the first is kept, and the others are told of at once.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn mmio(index: u32, kind: u32, len: u32, gpa: u64, value: u64) -> u32 {
    u32::from(mmio_here(index, kind, len, gpa, value).is_some())
}

#[inline(always)]
fn mmio_here(index: u32, kind: u32, len: u32, gpa: u64, value: u64) -> Option<()> {
    let slot = slots::slot_at(index)?;
    if slot.open_cell != 0 {
        let pending = &mut detail::at(index)?.pending;
        let first = slot.interrupted & mark::MMIO == 0;
        let answer =
            kind == MMIO_READ && pending.mmio_type == MMIO_UNANSWERED && pending.mmio_gpa == gpa;
        if first || answer {
            slot.interrupted |= mark::MMIO;
            (pending.mmio_gpa, pending.mmio_len) = (gpa, len);
            (pending.mmio_type, pending.mmio_value) = (kind, value);
            return Some(());
        }
    }
    if kind == MMIO_UNANSWERED {
        // Told of again when it is answered.
        return None;
    }
    tell_now(index, kind::MMIO, mmio_args(gpa, len, kind, value))
}

#[inline(always)]
fn mmio_args(gpa: u64, len: u32, kind: u32, value: u64) -> [u64; ARGS] {
    [gpa, u64::from(len), u64::from(kind == MMIO_WRITE), value, 0, 0]
}

/// The exit of cell `number` of a slot ended after these times: charges the kind of its page fault, and tells of what
/// was kept, if its turn has come. Mostly it has not, and nothing more is done here.
#[inline(always)]
pub fn ended(
    control: &mut Control,
    (index, slot): (u32, &SlotEntry),
    detail: &mut Detail,
    number: u32,
    times: Times,
) {
    let Times { handling, off, vmm } = times;
    let marks = slot.interrupted;
    if marks & mark::FAULT != 0 {
        let kind = detail.pending.fault;
        keys::charge_key(element(&mut detail.faults, kind), times);
        if may(control, kind::FAULT, slot.since_ns) {
            tell_fault(index, number, handling, off, vmm);
        }
    }
    if marks & mark::MMIO != 0 && may(control, kind::MMIO, slot.since_ns) {
        tell_mmio(index, number, handling, off, vmm);
    }
}

/// Tells of the page fault that a slot keeps.
#[inline(never)]
#[unsafe(no_mangle)]
fn tell_fault(index: u32, number: u32, handling: u64, off: u64, vmm: u64) -> u32 {
    let (Some(slot), Some(detail)) = (slots::slot_at(index), detail::at(index)) else { return 0 };
    let args = [detail.pending.fault_gpa, detail.pending.fault_error, 0, 0, 0, 0];
    let times = Times { handling, off, vmm };
    sent(of_slot((kind::FAULT, slot.since_ns), (index, slot), number, times, args))
}

/// Tells of the MMIO access that a slot keeps.
#[inline(never)]
#[unsafe(no_mangle)]
fn tell_mmio(index: u32, number: u32, handling: u64, off: u64, vmm: u64) -> u32 {
    let (Some(slot), Some(detail)) = (slots::slot_at(index), detail::at(index)) else { return 0 };
    let pending = &detail.pending;
    let args = mmio_args(pending.mmio_gpa, pending.mmio_len, pending.mmio_type, pending.mmio_value);
    let times = Times { handling, off, vmm };
    sent(of_slot((kind::MMIO, slot.since_ns), (index, slot), number, times, args))
}

#[inline(always)]
fn sent(event: Event) -> u32 {
    u32::from(slots::control().and_then(|control| send(control, event)).is_some())
}
