//! Finding, claiming and retiring the slot of the current thread, and cells of a slot.
//!
//! Invariants: a slot is written only by its thread, or by `sched_switch`, which is ordered with
//! it; `owner` is the thread's id exactly while the slot is live; a thread has its bit in `KNOWN`
//! exactly while it has an entry in `THREADS`.
//!
//! Functions that are not inlined have plain names, so that the object does not depend on the
//! directory it is built in.

use crate::{clock, element, facts, maps::*, meters, state::Account};
use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_smp_processor_id,
    bpf_probe_read_kernel,
};
use core::arch::asm;
use kvmscope_shared::{
    cell::{CELLS_PER_CHUNK, Cell},
    conf::{Control, MAX_FILTER},
    slot::{NO_VCPU_ID, Slot, SlotEntry, life, phase},
};

/// A slot number for threads that are not watched; no array is this long.
pub const IGNORED: u32 = u32::MAX;

/// The slot of the current thread, claimed if it has none. Only for events that prove that the
/// thread runs a vCPU. Its number is in `CACHE` afterwards.
#[inline(always)]
pub fn current() -> Option<&'static mut SlotEntry> {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: per-CPU memory of this program, which does not migrate while it runs.
    let cached = unsafe { *CACHE.get_ptr(0)? };
    if let Some(slot) = slot_at(cached)
        && slot.owner == tid
    {
        return Some(slot);
    }
    slot_at(find_or_claim())
}

/// The slot of the current thread, which runs this vCPU.
#[inline(always)]
pub fn current_vcpu(vcpu: u64) -> Option<&'static mut SlotEntry> {
    let slot = current()?;
    if slot.vcpu == vcpu {
        return Some(slot);
    }
    slot_at(identify(vcpu))
}

/// The slot of the current thread and its number, if it has one: for events that prove nothing.
#[inline(always)]
pub fn known_current() -> Option<(u32, &'static mut SlotEntry)> {
    let tid = bpf_get_current_pid_tgid() as u32;
    let cached = remembered();
    if let Some(slot) = slot_at(cached)
        && slot.owner == tid
    {
        return Some((cached, slot));
    }
    if known(tid) { of_thread(tid) } else { None }
}

/// The number of the slot that [`current`] answered with.
#[inline(always)]
pub fn remembered() -> u32 {
    // SAFETY: per-CPU memory of this program, which does not migrate while it runs.
    CACHE.get_ptr(0).map_or(IGNORED, |cache| unsafe { *cache })
}

/// Which VM and which vCPU: once per thread and vCPU. Answers with the slot, another one if the
/// thread ran another vCPU before.
#[inline(never)]
#[unsafe(no_mangle)]
fn identify(vcpu: u64) -> u32 {
    let mut index = remembered();
    let Some(mut slot) = slot_at(index) else { return IGNORED };
    if slot.vcpu != 0 {
        index = replace();
        let Some(other) = slot_at(index) else { return IGNORED };
        slot = other;
    }
    // SAFETY: probe reads: a wrong address is an error, not a fault.
    unsafe {
        if let Ok(kvm) = bpf_probe_read_kernel((vcpu + u64::from(facts::vcpu_kvm())) as *const u64)
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
    slot.isa = facts::isa();
    slot.vcpu = vcpu;
    index
}

/// The slot of a thread that has its bit in `KNOWN`, if it is a watched one.
#[inline(always)]
pub fn of_thread(tid: u32) -> Option<(u32, &'static mut SlotEntry)> {
    // SAFETY: the value is copied at once.
    let index = unsafe { *THREADS.get(tid)? };
    let slot = slot_at(index)?;
    (slot.owner == tid).then_some((index, slot))
}

/// A slot by number.
#[inline(always)]
pub fn slot_at(index: u32) -> Option<&'static mut SlotEntry> {
    // SAFETY: array memory lives as long as the program; one writer per slot (above).
    unsafe { SLOTS.get_ptr_mut(index).map(|p| &mut *p) }
}

/// A cell by number.
#[inline(always)]
pub fn cell_at(index: u32) -> Option<&'static mut Cell> {
    // SAFETY: as for slots.
    unsafe { CELLS.get_ptr_mut(index).map(|p| &mut *p) }
}

/// The control page.
#[inline(always)]
pub fn control() -> Option<&'static mut Control> {
    // SAFETY: as for slots; the counters in it are added to atomically.
    unsafe { CONTROL.get_ptr_mut(0).map(|p| &mut *p) }
}

/// Adds to a counter that several CPUs write. Its old value is not asked for: an atomic that
/// answers with it needs 5.12.
#[inline(always)]
pub fn add(counter: &mut u64, n: u64) {
    // SAFETY: one aligned atomic addition to memory that the reference covers.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) n, options(nostack)) };
}

/// The current epoch; see [`kvmscope_shared::cell::Extremes`].
#[inline(always)]
pub fn epoch() -> u64 {
    control().map_or(0, |c| c.epoch)
}

/// Whether a thread has an entry in `THREADS`.
#[inline(always)]
pub fn known(tid: u32) -> bool {
    // SAFETY: array memory.
    match unsafe { KNOWN.get_ptr(tid >> 6).map(|p| *p) } {
        // Most words are 0, and that is told with fewer instructions.
        Some(word) => word != 0 && bit_of(word, tid),
        None => false,
    }
}

#[inline(always)]
fn bit_of(word: u64, tid: u32) -> bool {
    let mut word = word;
    // SAFETY: no instruction; it keeps the compiler from testing the bit before the word.
    unsafe { asm!("/* {0} */", inout(reg) word, options(nomem, nostack)) };
    word >> (tid & 63) & 1 != 0
}

/// Sets or clears a thread's bit. Adding is exact because the bit is known to be the other way,
/// and 5.10 has an atomic add but no atomic or.
#[inline(always)]
fn mark(tid: u32, on: bool) {
    let bit = 1u64 << (tid & 63);
    if known(tid) != on
        && let Some(word) = KNOWN.get_ptr_mut(tid >> 6)
    {
        // SAFETY: array memory.
        unsafe { add(&mut *word, if on { bit } else { bit.wrapping_neg() }) };
    }
}

#[inline(always)]
fn remember(index: u32) {
    if let Some(cache) = CACHE.get_ptr_mut(0) {
        // SAFETY: per-CPU memory.
        unsafe { *cache = index };
    }
}

/// Makes a slot the one this CPU looks at first.
#[inline(always)]
pub fn switched_in(index: u32, slot: &mut Slot) {
    remember(index);
    // SAFETY: a helper without arguments.
    slot.cpu = unsafe { bpf_get_smp_processor_id() };
}

#[inline(never)]
#[unsafe(no_mangle)]
fn find_or_claim() -> u32 {
    let both = bpf_get_current_pid_tgid();
    // SAFETY: the value is copied at once.
    let found = unsafe { THREADS.get(both as u32).map(|index| *index) };
    let index = match found {
        Some(index) => index,
        None => claim(both as u32, (both >> 32) as u32),
    };
    remember(index);
    index
}

/// Whether `--pid` leaves this thread group out.
#[inline(always)]
pub fn filtered_out(control: &Control, tgid: u32) -> bool {
    if control.filters == 0 {
        return false;
    }
    let mut out = true;
    for i in 0..MAX_FILTER {
        if (i as u32) < control.filters && control.filter[i] == tgid {
            out = false;
        }
    }
    out
}

#[inline(always)]
fn claim(tid: u32, tgid: u32) -> u32 {
    let Some(control) = control() else { return IGNORED };
    if filtered_out(control, tgid) {
        if THREADS.insert(tid, IGNORED, 0).is_ok() {
            mark(tid, true);
        }
        return IGNORED;
    }
    let Ok(Some(index)) = FREE_SLOTS.pop() else {
        add(&mut control.slots_full, 1);
        return IGNORED;
    };
    let Some(slot) = slot_at(index) else { return IGNORED };
    if THREADS.insert(tid, index, 0).is_err() {
        add(&mut control.slots_full, 1);
        let _ = FREE_SLOTS.push(index, 0);
        return IGNORED;
    }
    mark(tid, true);
    let now = clock();
    slot.generation = slot.generation.wrapping_add(1);
    slot.tgid = tgid;
    slot.tid = tid;
    slot.vcpu_id = NO_VCPU_ID;
    slot.claimed_ns = now;
    slot.since_ns = now;
    // Whoever claims is in KVM_RUN, or has just left it.
    slot.phase = phase::KVM;
    if let Ok(comm) = bpf_get_current_comm() {
        slot.thread_comm = comm;
        slot.comm = comm;
    }
    // SAFETY: a helper without arguments.
    slot.cpu = unsafe { bpf_get_smp_processor_id() };
    read_leader(slot);
    slot.life = life::LIVE;
    slot.owner = tid;
    add(&mut control.claims, 1);
    index
}

/// Start and name of the thread group, which tell apart two processes that had the same pid.
#[inline(always)]
fn read_leader(slot: &mut Slot) {
    if facts::task_known() == 0 {
        return;
    }
    // SAFETY: probe reads: a wrong address is an error, not a fault.
    unsafe {
        let task = bpf_get_current_task();
        let leader = task + u64::from(facts::task_leader());
        let Ok(leader) = bpf_probe_read_kernel(leader as *const u64) else { return };
        let start = leader + u64::from(facts::task_start());
        if let Ok(start) = bpf_probe_read_kernel(start as *const u64) {
            slot.start_ns = start;
        }
        let comm = leader + u64::from(facts::task_comm());
        if let Ok(comm) = bpf_probe_read_kernel(comm as *const [u8; 16]) {
            slot.comm = comm;
        }
    }
}

/// Ends a slot: its thread is dying, or runs another vCPU now. The numbers stay to be read.
#[inline(always)]
pub fn retire(slot: &mut Slot, now: u64) {
    slot.account(now);
    slot.retired_ns = now;
    slot.owner = 0;
    slot.life = life::RETIRED;
    if let Some(control) = control() {
        add(&mut control.retires, 1);
    }
}

/// Forgets a thread, whether it had a slot or was ignored.
#[inline(always)]
pub fn forget(tid: u32) {
    if THREADS.remove(tid).is_ok() {
        mark(tid, false);
    }
}

/// The current thread runs another vCPU than the slot says: ends that slot and claims another.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn replace() -> u32 {
    let both = bpf_get_current_pid_tgid();
    let tid = both as u32;
    let mut before = IGNORED;
    if let Some((index, slot)) = of_thread(tid) {
        retire(slot, clock());
        before = index;
    }
    forget(tid);
    let index = claim(tid, (both >> 32) as u32);
    meters::hand_over(before, index);
    remember(index);
    index
}

/// Takes a cell for a reason that the current slot has not met yet; 0 when there is none, which is counted.
#[inline(never)]
#[unsafe(no_mangle)]
pub fn new_cell(kind: u32, isa: u32, code: u32) -> u32 {
    let taken = take_cell(remembered(), kind, isa, code);
    if taken == 0
        && let Some(control) = control()
    {
        add(&mut control.pool_full, 1);
    }
    taken
}

#[inline(always)]
fn take_cell(index: u32, kind: u32, isa: u32, code: u32) -> u32 {
    let Some(slot) = slot_at(index) else { return 0 };
    let column = kvmscope_shared::column::column_of(kind, code);
    let key = u64::from(index) << 33 | u64::from(kind & 1) << 32 | u64::from(code);
    if column.is_none() {
        // SAFETY: the value is copied at once.
        if let Some(found) = unsafe { UNKNOWN.get(key).map(|cell| *cell) } {
            return found;
        }
    }
    let within = slot.cells_used % CELLS_PER_CHUNK;
    let number = if slot.cells_used < CELLS_PER_CHUNK {
        index * CELLS_PER_CHUNK + within
    } else {
        if within == 0 {
            let Ok(Some(chunk)) = FREE_CHUNKS.pop() else { return 0 };
            slot.extra_chunk = chunk;
        }
        slot.extra_chunk + within
    };
    let Some(cell) = cell_at(number) else { return 0 };
    match column {
        Some(column) => *element(&mut slot.columns, u64::from(column)) = number,
        None => {
            if UNKNOWN.insert(key, number, 0).is_err() {
                if within == 0 && slot.cells_used >= CELLS_PER_CHUNK {
                    // The chunk was taken for this cell alone.
                    let _ = FREE_CHUNKS.push(slot.extra_chunk, 0);
                    slot.extra_chunk = 0;
                }
                return 0;
            }
        }
    }
    slot.cells_used += 1;
    cell.generation = slot.generation;
    cell.kind = kind;
    cell.code = code;
    cell.isa = isa;
    // Last: a cell without a slot is not read.
    cell.slot = index;
    number
}
