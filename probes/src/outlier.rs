//! Slow exits, each told of once through a ring buffer; how many is bounded per CPU and second.

use crate::{element, maps, slots, tokens};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ringbuf_reserve, bpf_ringbuf_submit};
use kvmscope_shared::{
    column::{COLUMNS, column_of},
    conf::{Control, Limits},
    detail::{OUTLIERS_PER_SECOND, Outlier},
    keys::Times,
    slot::{KIND_USERSPACE, SlotEntry, mark},
};

/// `BPF_RB_NO_WAKEUP`: nobody waits for a record.
const NO_WAKEUP: u64 = 1;

/// Tells of the exit of cell `number` that ended just now, if it lasted too long for its reason.
#[inline(always)]
pub fn tell(
    index: u32,
    slot: &SlotEntry,
    number: u32,
    times: Times,
    about: (u32, u64),
) -> Option<()> {
    tell_at(slot.since_ns, index, slot, number, times, about)
}

/// Tells of a time in the VMM that has no kernel exit around it, if it lasted too long for its reason.
/// Out of line: whoever finds out what it was about does so in one of several places.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn tell_dwell(index: u32, class: u32, key: u64) -> u32 {
    u32::from(dwelt(index, class, key).is_some())
}

#[inline(always)]
fn dwelt(index: u32, class: u32, key: u64) -> Option<()> {
    let slot = slots::slot_at(index)?;
    let column = column_of(KIND_USERSPACE, slot.user_reason)?;
    let number = *element(&mut slot.columns, u64::from(column));
    let vmm = slot.exit_vmm_ns;
    let times = Times { handling: 0, off: 0, vmm };
    // What comes after it has happened already.
    tell_at(slot.user_ns.wrapping_add(vmm), index, slot, number, times, (class, key))
}

#[inline(always)]
fn tell_at(
    end_ns: u64,
    index: u32,
    slot: &SlotEntry,
    number: u32,
    times: Times,
    about: (u32, u64),
) -> Option<()> {
    let cell = slots::cell_at(number)?;
    let column = column_of(cell.kind, cell.code).unwrap_or(COLUMNS as u32 - 1);
    // SAFETY: array memory; user space writes it meanwhile, each limit at once.
    let limits: &mut Limits = unsafe { &mut *maps::LIMITS.get_ptr_mut(0)? };
    if times.wall() < *element(&mut limits.ns, u64::from(column)) {
        return None;
    }
    let control: &mut Control = slots::control()?;
    // SAFETY: per-CPU memory of this program, which does not migrate while it runs.
    let bucket = unsafe { &mut *maps::TOKENS.get_ptr_mut(0)? };
    if !tokens::take(bucket, OUTLIERS_PER_SECOND, end_ns) {
        slots::add(&mut control.outliers_refused, 1);
        return None;
    }
    // SAFETY: the helper answers with memory of that size, or none; it is submitted below.
    let record = unsafe {
        bpf_ringbuf_reserve(
            (&raw const maps::OUTLIERS).cast_mut().cast(),
            size_of::<Outlier>() as u64,
            0,
        )
    };
    if record.is_null() {
        slots::add(&mut control.ring_full, 1);
        return None;
    }
    let wait = if slot.interrupted & mark::TIMES != 0 { slot.exit_wait_ns } else { 0 };
    let (by_tid, by_comm) = if wait != 0 { (slot.by_tid, slot.by_comm) } else { (0, [0; 16]) };
    // SAFETY: as above; every field is written. The helper has no argument.
    unsafe {
        record.cast::<Outlier>().write(Outlier {
            end_ns,
            slot: index,
            generation: slot.generation,
            cell: number,
            class: about.0,
            key: about.1,
            rip: slot.rip,
            info1: slot.info1,
            info2: slot.info2,
            handling_ns: times.handling,
            off_ns: times.off,
            wait_ns: wait,
            vmm_ns: times.vmm,
            cpu: bpf_get_smp_processor_id(),
            by_tid,
            by_comm,
        });
        bpf_ringbuf_submit(record, NO_WAKEUP);
    }
    Some(())
}
