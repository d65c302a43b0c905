//! Who sends an interrupt, and its row: families `irq` and `irqchip`.
//!
//! What is sent is told of in the context of whoever sends it: a vCPU's thread, another thread of the VMM,
//! a kernel thread, or an interrupt of the host over any thread. KVM's tracepoints do not say of which VM
//! they are, so a row says who sent, and whose that is is found out by the reader.

use crate::{clock, event, facts, maps::*, slots};
use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_smp_processor_id,
    bpf_probe_read_kernel,
};
use kvmscope_shared::{
    event::{Event, kind},
    route::{Contexts, IN_INTERRUPT, Route, RouteTally, sender},
};

/// `PF_KTHREAD` (include/linux/sched.h); the same from 5.4 to 7.3.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// How the names of kernel workers begin: eight bytes.
const WORKER: [u8; 8] = *b"kworker/";
/// What they are all called here.
const WORKERS: [u8; 16] = *b"kworker\0\0\0\0\0\0\0\0\0";
/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

/// Whether this CPU serves an interrupt, whatever thread is the current one; `false` where that is not
/// known.
#[inline(always)]
pub fn in_interrupt() -> bool {
    // The idle thread sends nothing itself.
    if bpf_get_current_pid_tgid() as u32 == 0 {
        return true;
    }
    count_of_context().is_some_and(|count| count & IN_INTERRUPT != 0)
}

#[inline(always)]
fn count_of_context() -> Option<u32> {
    // SAFETY: array memory; user space wrote it before this was attached.
    let at: &Contexts = unsafe { &*CONTEXTS.get_ptr(0)? };
    if at.offsets == 0 || at.count == 0 {
        return None;
    }
    // SAFETY: probe reads: a wrong address is an error, not a fault. The helper has no argument.
    unsafe {
        let cpu = u64::from(bpf_get_smp_processor_id());
        let base: u64 = bpf_probe_read_kernel((at.offsets + 8 * cpu) as *const u64).ok()?;
        bpf_probe_read_kernel(base.wrapping_add(at.count) as *const u32).ok()
    }
}

/// Counts something that the current thread, or an interrupt over it, sent through a chip; `a` and `b` as of
/// [`kvmscope_shared::route::chip`]. Tells of it one by one where that is wanted and `flags` has
/// [`TELL`].
#[inline(never)]
#[unsafe(no_mangle)]
pub fn route(chip: u32, a: u64, b: u64, flags: u32) -> u32 {
    u32::from(route_here(chip, (a, b), flags).is_some())
}

/// In the flags of [`route`]: it was coalesced.
pub const COALESCED: u32 = 1;
/// In the flags of [`route`]: tell of it one by one.
pub const TELL: u32 = 2;
/// In the flags of [`route`]: it is not counted, as it was already.
pub const ONLY_TELL: u32 = 4;

#[inline(always)]
fn route_here(chip: u32, (a, b): (u64, u64), flags: u32) -> Option<()> {
    let coalesced = u64::from(flags & COALESCED);
    let mut of = Route { a, b, chip: chip as u16 + 1, ..Route::default() };
    let (slot, generation) = who(&mut of)?;
    if flags & ONLY_TELL == 0 {
        let tally = tally(row(&of))?;
        slots::add(&mut tally.count, 1);
        if coalesced != 0 {
            slots::add(&mut tally.coalesced, 1);
        }
    }
    if flags & TELL != 0 && event::wanted(kind::ROUTE) {
        let both = bpf_get_current_pid_tgid();
        let at_ns = clock();
        let args = [u64::from(chip), a, b, coalesced, u64::from(of.sender), 0];
        let (kind, tgid, tid) = (kind::ROUTE, (both >> 32) as u32, both as u32);
        event::tell(Event { at_ns, kind, slot, generation, tgid, tid, args, ..Event::default() });
    }
    Some(())
}

/// Notes who sends; slot and generation of a vCPU's thread, else 0. `None` for one that `--pid` leaves
/// out: what is no process's is not left out here, since whose it is is found out later, if at all.
#[inline(always)]
fn who(of: &mut Route) -> Option<(u32, u32)> {
    if in_interrupt() {
        of.sender = sender::INTERRUPT as u16;
        return Some((0, 0));
    }
    of.tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if let Ok(comm) = bpf_get_current_comm() {
        of.comm = comm;
    }
    if let Some((index, slot)) = slots::known_current() {
        of.sender = sender::VCPU as u16;
        of.kvm = slot.kvm;
        return Some((index, slot.generation));
    }
    if is_kernel(&of.comm) {
        of.sender = sender::KERNEL as u16;
        if begins(&of.comm, &WORKER) {
            // Which of them does it is chance.
            (of.tgid, of.comm) = (0, WORKERS);
        }
        return Some((0, 0));
    }
    of.sender = sender::THREAD as u16;
    if slots::filtered_out(slots::control()?, of.tgid) {
        return None;
    }
    Some((0, 0))
}

/// Whether the current thread is a kernel thread: by its flags, else by names that only they have.
#[inline(always)]
fn is_kernel(comm: &[u8; 16]) -> bool {
    let at = facts::task_flags();
    if at == 0 {
        return begins(comm, &WORKER);
    }
    // SAFETY: a probe read: a wrong address is an error, not a fault. The helper has no argument.
    let flags = unsafe {
        let task = bpf_get_current_task();
        bpf_probe_read_kernel((task + u64::from(at)) as *const u32).unwrap_or(0)
    };
    flags & KERNEL_THREAD != 0
}

#[inline(always)]
fn begins<const LEN: usize>(comm: &[u8; 16], with: &[u8; LEN]) -> bool {
    let mut same = true;
    let mut i = 0;
    while i < LEN {
        same &= comm[i] == with[i];
        i += 1;
    }
    same
}

/// This CPU's tally of a row.
#[inline(always)]
fn tally(row: u32) -> Option<&'static mut RouteTally> {
    let mask = facts::route_shard_mask();
    // SAFETY: a helper without arguments.
    let shard = unsafe { bpf_get_smp_processor_id() } & mask;
    // SAFETY: array memory lives as long as the program; sums in it are added to atomically.
    unsafe { ROUTE_TALLIES.get_ptr_mut(row * (mask + 1) + shard).map(|tally| &mut *tally) }
}

/// The row of something, taken if it has none yet; 0 when there is none left.
#[inline(always)]
fn row(of: &Route) -> u32 {
    // SAFETY: the value is copied at once.
    if let Some(row) = unsafe { ROUTE_ROWS.get(of) } {
        return *row;
    }
    let Ok(Some(row)) = FREE_ROUTE_ROWS.pop() else { return 0 };
    if ROUTE_ROWS.insert(of, row, NO_EXIST).is_ok()
        && let Some(owner) = ROUTES.get_ptr_mut(row)
    {
        // SAFETY: array memory; the row is this one's alone.
        unsafe { *owner = *of };
        return row;
    }
    let _ = FREE_ROUTE_ROWS.push(row, 0);
    // Another CPU was quicker.
    // SAFETY: as above.
    unsafe { ROUTE_ROWS.get(of) }.map_or(0, |row| *row)
}
