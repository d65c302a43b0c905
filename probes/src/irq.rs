//! Family `irq`: interrupts and exceptions that are put into the guest, deliveries to local APICs, IPIs, ends
//! of interrupts.
//!
//! All but deliveries happen in the vCPU's own thread. Where the processor delivers interrupts itself
//! (APICv, AVIC) little is put in by KVM, and deliveries tell.

use crate::{
    detail, event, facts,
    hooks::{field, hook},
    route::{self, ONLY_TELL, TELL},
    slots,
};
use aya_ebpf::{
    helpers::bpf_probe_read_kernel,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use kvmscope_shared::{
    detail::{HAS_ERROR, PARAVIRTUAL, REINJECTED, SOFT, class},
    event::kind,
    route::{accepted, chip},
};

hook! {
    /// `kvm_inj_virq(vector, soft, reinjected)`.
    at "kvm_inj_virq": kvm_inj_virq, kvm_inj_virq_record => on_virq(0 => 8, 1 => 12, 2 => 13)
}

hook! {
    /// `kvm_inj_virq(irq)`, as it was before 5.19 or so: the record tells.
    at "kvm_inj_virq": kvm_inj_virq_early, kvm_inj_virq_early_record => on_virq_early(0 => 8)
}

#[inline(always)]
fn on_virq_early(vector: u32) {
    injected(vector, 0, 0);
}

#[inline(always)]
fn on_virq(vector: u32, soft: u8, reinjected: u8) {
    injected(vector, u32::from(soft != 0), u32::from(reinjected != 0));
}

/// An interrupt was put into the guest of the current vCPU.
#[inline(never)]
#[unsafe(no_mangle)]
fn injected(vector: u32, soft: u32, reinjected: u32) -> u32 {
    let flag = |on: u32, flag: u64| if on == 0 { 0 } else { flag };
    let flags = flag(soft, SOFT) | flag(reinjected, REINJECTED);
    // Nobody else is told of this: the thread runs a vCPU, also where it has not left KVM_RUN since.
    slots::current();
    note_inhibits();
    let slot = detail::note_mine(class::INJECTED, known_vector(vector) | flags);
    let args = [u64::from(vector), u64::from(soft), u64::from(reinjected), 0, 0, 0];
    u32::from(event::tell_now(slot, kind::INJECTION, args).is_some())
}

/// A vector as a key has it. There are 256; a number above, which only a broken kernel tells of, keeps
/// clear of the flags.
#[inline(always)]
fn known_vector(vector: u32) -> u64 {
    u64::from(vector & 0xff) | u64::from(vector >> 8) << 32
}

hook! {
    /// `kvm_inj_exception(exception, has_error, error_code, reinjected)`.
    at "kvm_inj_exception": kvm_inj_exception, kvm_inj_exception_record
        => on_exception(0 => 8, 1 => 9, 2 => 12, 3 => 16)
}

#[inline(always)]
fn on_exception(vector: u8, has_error: u8, error: u32, reinjected: u8) {
    let has_error = u32::from(has_error != 0);
    // Without one the field may hold anything.
    let error = if has_error == 0 { 0 } else { error };
    excepted(u32::from(vector), has_error, error, u32::from(reinjected != 0));
}

/// An exception was put into the guest of the current vCPU.
#[inline(never)]
#[unsafe(no_mangle)]
fn excepted(vector: u32, has_error: u32, error: u32, reinjected: u32) -> u32 {
    let flag = |on: u32, flag: u64| if on == 0 { 0 } else { flag };
    let flags = flag(has_error, HAS_ERROR) | flag(reinjected, REINJECTED);
    slots::current();
    let slot = detail::note_mine(class::EXCEPTION, u64::from(vector) | flags);
    let (error, reinjected) = (u64::from(error), u64::from(reinjected));
    let args = [u64::from(vector), u64::from(has_error), error, reinjected, 0, 0];
    u32::from(event::tell_now(slot, kind::EXCEPTION, args).is_some())
}

hook! {
    /// `kvm_eoi(apic, vector)`, or the vCPU's number and the vector.
    at "kvm_eoi": kvm_eoi, kvm_eoi_record => on_eoi(1 => 12)
}

#[inline(always)]
fn on_eoi(vector: u32) {
    // As of an injection.
    slots::current();
    note_inhibits();
    detail::note_mine(class::EOI, ended(vector));
}

hook! {
    /// `kvm_pv_eoi(apic, vector)`, likewise.
    at "kvm_pv_eoi": kvm_pv_eoi, kvm_pv_eoi_record => on_pv_eoi(1 => 12)
}

#[inline(always)]
fn on_pv_eoi(vector: u32) {
    let vector = ended(vector);
    detail::note_mine(class::EOI, if vector == u64::MAX { vector } else { vector | PARAVIRTUAL });
}

/// The vector of an end of interrupt, `u64::MAX` where there was none to end (-1).
#[inline(always)]
fn ended(vector: u32) -> u64 {
    if vector == u32::MAX { u64::MAX } else { known_vector(vector) }
}

hook! {
    /// `kvm_apic_ipi(icr_low, dest_id)`.
    at "kvm_apic_ipi": kvm_apic_ipi, kvm_apic_ipi_record => on_ipi(0 => 8, 1 => 12)
}

#[inline(always)]
fn on_ipi(low: u32, destination: u32) {
    detail::note_mine(class::IPI, u64::from(low) | u64::from(destination) << 32);
}

hook! {
    /// `kvm_apic_accept_irq(vcpu_id, delivery mode, trigger mode, vector)`: something is sent to a local
    /// APIC, by whoever sends it.
    at "kvm_apic_accept_irq": kvm_apic_accept_irq, kvm_apic_accept_irq_record
        => on_accept(0 => 8, 1 => 12, 2 => 14, 3 => 16)
}

#[inline(always)]
fn on_accept(vcpu: u32, mode: u16, trigger: u16, vector: u8) {
    // Attached for the timers' sake too.
    if event::wanted(kind::INJECTION) {
        deliver(accepted(vcpu, vector, mode >> 8, trigger != 0, false), 0);
    }
}

hook! {
    /// `kvm_apicv_accept_irq`, likewise: the processor delivers it, and `kvm_inj_virq` will not tell.
    at "kvm_apicv_accept_irq": kvm_apicv_accept_irq, kvm_apicv_accept_irq_record
        => on_posted(0 => 8, 1 => 12, 2 => 14, 3 => 16)
}

#[inline(always)]
fn on_posted(vcpu: u32, mode: u16, trigger: u16, vector: u8) {
    deliver(accepted(vcpu, vector, mode >> 8, trigger != 0, true), 1);
}

/// Counts a delivery: among the keys of a vCPU whose thread makes it, else in a row.
#[inline(never)]
#[unsafe(no_mangle)]
fn deliver(what: u64, posted: u32) -> u32 {
    let tell = if posted == 0 { 0 } else { TELL };
    if route::in_interrupt() || slots::known_current().is_none() {
        return route::route(chip::LAPIC, what, 0, tell);
    }
    note_inhibits();
    detail::note_mine(class::DELIVERED, what);
    if posted == 0 { 0 } else { route::route(chip::LAPIC, what, 0, tell | ONLY_TELL) }
}

/// Notes why the VM of the current vCPU has no APIC virtualization now, once in an epoch.
#[inline(never)]
#[unsafe(no_mangle)]
fn note_inhibits() -> u32 {
    u32::from(note_inhibits_here().is_some())
}

#[inline(always)]
fn note_inhibits_here() -> Option<()> {
    let at = facts::kvm_inhibits();
    if at == 0 {
        return None;
    }
    let (index, slot) = slots::known_current()?;
    let detail = detail::at(index)?;
    let epoch = slots::epoch();
    if detail.inhibits_epoch == epoch || slot.kvm == 0 {
        return None;
    }
    // SAFETY: a probe read: a wrong address is an error, not a fault.
    let bits = unsafe { bpf_probe_read_kernel((slot.kvm + u64::from(at)) as *const u64).ok()? };
    detail.inhibits = bits;
    detail.inhibits_epoch = epoch;
    Some(())
}

hook! {
    /// `kvm_apicv_inhibit_changed(reason, set, inhibits)`: of the current vCPU's VM, where a vCPU's thread
    /// makes the change.
    at "kvm_apicv_inhibit_changed": kvm_apicv_inhibit_changed, kvm_apicv_inhibit_changed_record
        => on_inhibit(2 => 16)
}

#[inline(always)]
fn on_inhibit(bits: u64) {
    if let Some((index, slot)) = slots::known_current()
        && let Some(detail) = detail::at(index)
    {
        detail.inhibits = bits;
        detail.inhibits_epoch = slots::epoch();
        slot.events += 1;
    }
}
