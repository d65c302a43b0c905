//! Function probes of the families `dirty` and `roots`: which pages KVM marks as dirty, which MMU roots it
//! loads, and which physical CPU it loads a vCPU on. The loader has compared the functions' arguments.
//!
//! They run on the thread that calls, with preemption off. What they note belongs to no exit: a key has no
//! reason, and an exit that is being handled keeps its own.

use crate::{detail, element, event, facts, slots};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel},
    macros::{kprobe, raw_tracepoint, tracepoint},
    programs::{ProbeContext, RawTracePointContext, TracePointContext},
};
use kvmscope_shared::{
    detail::{class, dirty},
    event::kind,
};

/// `KVM_MEM_LOG_DIRTY_PAGES`.
const LOGS: u32 = 1;

/// `mark_page_dirty_in_slot(kvm, slot, gfn)`.
#[kprobe]
pub fn dirty_page(ctx: ProbeContext) -> u32 {
    if let (Some(slot), Some(gfn)) = (ctx.arg(1), ctx.arg(2)) {
        marked(slot, gfn);
    }
    0
}

/// `mark_page_dirty_in_slot(slot, gfn)`, as it was up to 5.10.
#[kprobe]
pub fn dirty_page_early(ctx: ProbeContext) -> u32 {
    if let (Some(slot), Some(gfn)) = (ctx.arg(0), ctx.arg(1)) {
        marked(slot, gfn);
    }
    0
}

/// A value of the kernel's memory.
#[inline(always)]
fn read<T>(address: u64) -> Option<T> {
    // SAFETY: a probe read: a wrong address is an error, not a fault.
    unsafe { bpf_probe_read_kernel(address as *const T).ok() }
}

#[inline(never)]
#[unsafe(no_mangle)]
fn marked(memslot: u64, gfn: u64) -> u32 {
    u32::from(marked_here(memslot, gfn).is_some())
}

#[inline(always)]
fn marked_here(memslot: u64, gfn: u64) -> Option<()> {
    if memslot == 0 {
        return None;
    }
    let (flags, number, space) = named(memslot)?;
    let Some((index, slot)) = slots::known_current() else {
        if flags & LOGS != 0 {
            elsewhere();
        }
        return None;
    };
    slot.events += 1;
    let detail = detail::at(index)?;
    if flags & LOGS == 0 {
        *element(&mut detail.dirty, dirty::NOT_LOGGED) += 1;
        return None;
    }
    *element(&mut detail.dirty, dirty::MARKED) += 1;
    let (base, bitmap) = logged(memslot)?;
    if bitmap != 0 {
        let page = gfn.wrapping_sub(base);
        let word: u64 = read(bitmap + (page >> 6) * 8)?;
        if word >> (page & 63) & 1 != 0 {
            return None;
        }
    }
    *element(&mut detail.dirty, dirty::FRESH) += 1;
    detail::note_dirty(index, u64::from(number) | u64::from(space) << 16, gfn << 12);
    Some(())
}

/// Flags, number and address space of a memory slot. By one read where they are one after the other, as they have
/// been so far: each read costs as much as all else that is done with it.
#[inline(always)]
fn named(memslot: u64) -> Option<(u32, u16, u16)> {
    let at = |offset: u32| memslot + u64::from(offset);
    let (flags, number, space) =
        (facts::memslot_flags(), facts::memslot_id(), facts::memslot_as_id());
    if number == flags + 4 && space == flags + 6 {
        let all: u64 = read(at(flags))?;
        return Some((all as u32, (all >> 32) as u16, (all >> 48) as u16));
    }
    Some((read(at(flags))?, read(at(number))?, read(at(space))?))
}

/// First page and bitmap of a memory slot, in the same way; `npages` is between them.
#[inline(always)]
fn logged(memslot: u64) -> Option<(u64, u64)> {
    let at = |offset: u32| memslot + u64::from(offset);
    let (base, bitmap) = (facts::memslot_base(), facts::memslot_bitmap());
    if bitmap == base + 16 {
        let [base, _, bitmap]: [u64; 3] = read(at(base))?;
        return Some((base, bitmap));
    }
    Some((read(at(base))?, read(at(bitmap))?))
}

/// A thread that is no vCPU's marked a page.
#[inline(always)]
fn elsewhere() -> Option<()> {
    let control = slots::control()?;
    if !slots::filtered_out(control, (bpf_get_current_pid_tgid() >> 32) as u32) {
        slots::add(&mut control.dirty_elsewhere, 1);
    }
    Some(())
}

/// Counts an event of the current thread, if it is a vCPU's.
#[inline(always)]
fn count(counter: u64) -> Option<()> {
    let (index, slot) = slots::known_current()?;
    slot.events += 1;
    *element(&mut detail::at(index)?.dirty, counter) += 1;
    Some(())
}

/// Two programs for a tracepoint that is counted: see `hooks`.
macro_rules! counted {
    ($at:tt: $raw:ident, $record:ident => $counter:expr) => {
        #[doc = concat!("`", $at, "`.")]
        #[raw_tracepoint(tracepoint = $at)]
        pub fn $raw(_ctx: RawTracePointContext) -> i32 {
            count($counter);
            0
        }

        /// The same, never preempted.
        #[tracepoint]
        pub fn $record(_ctx: TracePointContext) -> u32 {
            count($counter);
            0
        }
    };
}

counted!("kvm_pml_full": kvm_pml_full, kvm_pml_full_record => dirty::PML_FULL);
counted!("kvm_dirty_ring_push": kvm_dirty_ring_push, kvm_dirty_ring_push_record => dirty::RING_PUSH);
counted!("kvm_dirty_ring_exit": kvm_dirty_ring_exit, kvm_dirty_ring_exit_record => dirty::RING_FULL);

/// `load_mmu_pgd(vcpu, root, level)` of the vendor's part.
#[kprobe]
pub fn root_load(ctx: ProbeContext) -> u32 {
    if let (Some(vcpu), Some(root), Some(level)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2)) {
        loaded(vcpu, root, level);
    }
    0
}

#[inline(always)]
fn loaded(vcpu: u64, root: u64, level: u32) -> Option<()> {
    let (index, slot) = slots::known_current()?;
    slot.events += 1;
    let value = root & !0xfff | u64::from(level & 7);
    detail::note_apart(index, class::ROOT, value);
    let last = &mut detail::at(index)?.root;
    if *last == value {
        return None;
    }
    *last = value;
    let mode = facts::vcpu_guest_mode();
    let nested: u8 = if mode == 0 { 0 } else { read(vcpu + u64::from(mode)).unwrap_or(0) };
    let args = [root & !0xfff, u64::from(level & 7), u64::from(nested != 0), 0, 0, 0];
    event::tell_now(index, kind::ROOT, args)
}

/// `kvm_arch_vcpu_load(vcpu, cpu)`: when KVM_RUN begins, and each time its thread is switched to.
#[kprobe]
pub fn vcpu_load(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = ctx.arg::<u32>(1)
        && let Some((index, slot)) = slots::known_current()
    {
        slot.events += 1;
        detail::note_apart(index, class::VCPU_LOAD, u64::from(cpu));
    }
    0
}
