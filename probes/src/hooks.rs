//! The tracepoints that tell what an exit is about, and how a halted vCPU woke up.
//!
//! Each has two programs: by its arguments, and by its record for kernels that can preempt the former
//! (see `exit::kvm_fpu_record`). The records are laid out the same from 5.10 to 7.2; the loader has compared.

use crate::{detail, event, meters, slots};
use aya_ebpf::{
    EbpfContext,
    helpers::bpf_probe_read_kernel,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use kvmscope_shared::{
    detail::{REFUSED, class},
    event::kind,
    keys::cpuid_key,
    slot::{Slot, mark, phase},
};

/// A field of a record.
#[inline(always)]
pub fn field<T: Copy>(ctx: &TracePointContext, at: usize) -> T {
    // SAFETY: the verifier knows the record's size; the loader has compared the offsets.
    unsafe { *ctx.as_ptr().cast::<u8>().add(at).cast() }
}

/// Two programs for one tracepoint: a function of its arguments, from both.
macro_rules! hook {
    ($(#[$doc:meta])* at $name:tt: $raw:ident, $record:ident => $on:ident($($arg:expr => $at:expr),*)) => {
        $(#[$doc])*
        #[raw_tracepoint(tracepoint = $name)]
        pub fn $raw(ctx: RawTracePointContext) -> i32 {
            $on($(ctx.arg($arg)),*);
            0
        }

        /// The same from the record.
        #[tracepoint]
        pub fn $record(ctx: TracePointContext) -> u32 {
            $on($(field(&ctx, $at)),*);
            0
        }
    };
}
pub(crate) use hook;

hook! {
    /// `kvm_pio(rw, port, …)`.
    at "kvm_pio": kvm_pio, kvm_pio_record => on_pio(0 => 8, 1 => 12)
}

#[inline(always)]
fn on_pio(write: u32, port: u32) {
    let class = if write == 0 { class::PORT_IN } else { class::PORT_OUT };
    detail::note(class, u64::from(port), 1);
}

/// `kvm_mmio(type, len, gpa, value)`.
#[raw_tracepoint(tracepoint = "kvm_mmio")]
pub fn kvm_mmio(ctx: RawTracePointContext) -> i32 {
    let (kind, len, gpa) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let index = note_mmio(kind, gpa);
    if index != 0 && event::wanted(kind::MMIO) {
        event::mmio(index, kind, len, gpa, value_at(ctx.arg(3), len));
    }
    0
}

/// The same from the record.
#[tracepoint]
pub fn kvm_mmio_record(ctx: TracePointContext) -> u32 {
    let (kind, gpa) = (field(&ctx, 8), field(&ctx, 16));
    let index = note_mmio(kind, gpa);
    if index != 0 && event::wanted(kind::MMIO) {
        event::mmio(index, kind, field(&ctx, 12), gpa, field(&ctx, 24));
    }
    0
}

#[inline(always)]
fn note_mmio(kind: u32, gpa: u64) -> u32 {
    // 0 is a read that the VMM has to answer: told again (1) when it did.
    let class = if kind == 2 { class::MMIO_WRITE } else { class::MMIO_READ };
    detail::note(class, gpa, u32::from(kind != 0))
}

/// A value of one, two, four or eight bytes in the kernel's memory, as the record has it; of a longer one
/// the first eight. 0 where there is none.
#[inline(always)]
fn value_at(address: u64, len: u32) -> u64 {
    // SAFETY: probe reads: a wrong address is an error, not a fault.
    unsafe {
        match len {
            1 => bpf_probe_read_kernel(address as *const u8).map_or(0, u64::from),
            2 => bpf_probe_read_kernel(address as *const u16).map_or(0, u64::from),
            4 => bpf_probe_read_kernel(address as *const u32).map_or(0, u64::from),
            _ => bpf_probe_read_kernel(address as *const u64).unwrap_or(0),
        }
    }
}

hook! {
    /// `kvm_fast_mmio(gpa)`.
    at "kvm_fast_mmio": kvm_fast_mmio, kvm_fast_mmio_record => on_fast_mmio(0 => 8)
}

#[inline(always)]
fn on_fast_mmio(gpa: u64) {
    detail::note(class::MMIO_FAST, gpa, 1);
}

hook! {
    /// `kvm_msr(write, ecx, data, exception)`.
    at "kvm_msr": kvm_msr, kvm_msr_record => on_msr(0 => 8, 1 => 12, 3 => 24)
}

#[inline(always)]
fn on_msr(write: u32, msr: u32, exception: u8) {
    let class = if write == 0 { class::MSR_READ } else { class::MSR_WRITE };
    let refused = if exception == 0 { 0 } else { REFUSED };
    detail::note(class, u64::from(msr) | refused, 1);
}

hook! {
    /// `kvm_cpuid(function, index, …)`.
    at "kvm_cpuid": kvm_cpuid, kvm_cpuid_record => on_cpuid(0 => 8, 1 => 12)
}

#[inline(always)]
fn on_cpuid(leaf: u32, index: u32) {
    detail::note(class::CPUID, cpuid_key(leaf, index), 1);
}

hook! {
    /// `kvm_cr(rw, cr, val)`.
    at "kvm_cr": kvm_cr, kvm_cr_record => on_cr(0 => 8, 1 => 12)
}

#[inline(always)]
fn on_cr(write: u32, register: u32) {
    let class = if write == 0 { class::CR_READ } else { class::CR_WRITE };
    detail::note(class, u64::from(register), 1);
}

hook! {
    /// `kvm_page_fault(vcpu, address, error code)`.
    at "kvm_page_fault": kvm_page_fault, kvm_page_fault_record => on_page_fault(1 => 24, 2 => 32)
}

/// `kvm_page_fault(address, error code)`, as it was before 6.1.
#[raw_tracepoint(tracepoint = "kvm_page_fault")]
pub fn kvm_page_fault_early(ctx: RawTracePointContext) -> i32 {
    let error: u32 = ctx.arg(1);
    on_page_fault(ctx.arg(0), u64::from(error));
    0
}

#[inline(always)]
fn on_page_fault(address: u64, error: u64) {
    detail::note_fault(address, error);
}

hook! {
    /// `kvm_vcpu_wakeup(ns, waited, valid)`: a halted vCPU goes on. `ns` is how long it was halted,
    /// polling first and then asleep.
    at "kvm_vcpu_wakeup": kvm_vcpu_wakeup, kvm_vcpu_wakeup_record => on_wakeup(0 => 8, 1 => 16, 2 => 17)
}

#[inline(always)]
fn on_wakeup(ns: u64, waited: u8, valid: u8) {
    let Some((index, slot)) = slots::known_current() else { return };
    let all = off_cpu(slot);
    // Each is no less than the time off the CPU in this halt: what was off since the exit began, and
    // since the halt before. An exit can have several, and a halt need not be an exit's.
    let mut off = all.wrapping_sub(slot.off_mark_ns);
    if slot.open_cell != 0 {
        let exit = if slot.interrupted & mark::TIMES != 0 { slot.exit_off_ns } else { 0 };
        if exit < off {
            off = exit;
        }
    }
    slot.off_mark_ns = all;
    if ns > off {
        slot.poll_ns += ns - off;
    }
    if waited == 0 {
        slot.polled += 1;
    } else {
        slot.waited += 1;
    }
    slot.events += 1;
    // Of the family `wakeup`, which this is attached for as well.
    if event::wanted(kind::WAKEUP) {
        meters::woke(index, ns, u32::from(waited != 0), u32::from(valid != 0));
    }
}

hook! {
    /// `kvm_halt_poll_ns(grow, vcpu_id, new, old)`: how long a halted vCPU is polled for from now on.
    at "kvm_halt_poll_ns": kvm_halt_poll_ns, kvm_halt_poll_ns_record => on_halt_poll(2 => 16, 3 => 20)
}

#[inline(always)]
fn on_halt_poll(new: u32, old: u32) -> Option<()> {
    let (index, slot) = slots::known_current()?;
    let meters = meters::at(index)?;
    meters.window = u64::from(new) + 1;
    if new == old {
        return None;
    }
    if new > old {
        meters.grew += 1;
    } else {
        meters.shrank += 1;
    }
    slot.events += 1;
    event::tell_now(index, kind::HALT_POLL, [u64::from(old), u64::from(new), 0, 0, 0, 0])
}

/// All time off the CPU since the slot was claimed, ns.
#[inline(always)]
fn off_cpu(slot: &Slot) -> u64 {
    slot.phase_ns[phase::PREEMPTED as usize]
        + slot.phase_ns[phase::BLOCKED as usize]
        + slot.phase_ns[phase::VMM_BLOCKED as usize]
        + slot.phase_ns[phase::KVM_BLOCKED as usize]
}
