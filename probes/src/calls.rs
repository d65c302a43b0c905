//! Hypercalls: KVM's own, Hyper-V's and Xen's, each counted by number and told of with its arguments.
//!
//! Where a tracepoint's arguments changed there is a program for each layout; the loader knows which.

use crate::{
    detail, event,
    hooks::{field, hook},
};
use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use kvmscope_shared::{detail::class, event::kind};

hook! {
    /// `kvm_hypercall(nr, a0, a1, a2, a3)`.
    at "kvm_hypercall": kvm_hypercall, kvm_hypercall_record =>
        on_hypercall(0 => 8, 1 => 16, 2 => 24, 3 => 32, 4 => 40)
}

#[inline(always)]
fn on_hypercall(number: u64, a0: u64, a1: u64, a2: u64, a3: u64) {
    let index = detail::note(class::HYPERCALL, number, 1);
    event::tell_now(index, kind::HYPERCALL, [number, a0, a1, a2, a3, 0]);
}

hook! {
    /// `kvm_hv_hypercall(code, fast, var_cnt, rep_cnt, rep_idx, ingpa, outgpa)`.
    at "kvm_hv_hypercall": kvm_hv_hypercall, kvm_hv_hypercall_record =>
        on_hv_hypercall(0 => 32, 1 => 36, 2 => 34, 3 => 8, 4 => 10, 5 => 16, 6 => 24)
}

hook! {
    /// The same without `var_cnt`, as it was before 6.1.
    at "kvm_hv_hypercall": kvm_hv_hypercall_early, kvm_hv_hypercall_early_record =>
        on_hv_hypercall_early(0 => 32, 1 => 34, 2 => 8, 3 => 10, 4 => 16, 5 => 24)
}

#[inline(always)]
fn on_hv_hypercall_early(code: u16, fast: u8, count: u16, index: u16, input: u64, output: u64) {
    on_hv_hypercall(code, fast, 0, count, index, input, output);
}

#[inline(always)]
fn on_hv_hypercall(
    code: u16,
    fast: u8,
    variable: u16,
    count: u16,
    index: u16,
    input: u64,
    output: u64,
) {
    let slot = detail::note(class::HV_HYPERCALL, u64::from(code), 1);
    let repeat = u64::from(count) | u64::from(index) << 32;
    let (code, fast) = (u64::from(code), u64::from(fast != 0));
    let args = [code, fast, repeat, u64::from(variable), input, output];
    event::tell_now(slot, kind::HV_HYPERCALL, args);
}

hook! {
    /// `kvm_xen_hypercall(cpl, nr, a0, a1, a2, a3, a4, a5)`. No Xen hypercall has more than five arguments.
    at "kvm_xen_hypercall": kvm_xen_hypercall, kvm_xen_hypercall_record =>
        on_xen_hypercall(1 => 16, 2 => 24, 3 => 32, 4 => 40, 5 => 48, 6 => 56)
}

hook! {
    /// The same without `cpl`, as it was up to 6.1.
    at "kvm_xen_hypercall": kvm_xen_hypercall_early, kvm_xen_hypercall_early_record =>
        on_xen_hypercall(0 => 8, 1 => 16, 2 => 24, 3 => 32, 4 => 40, 5 => 48)
}

#[inline(always)]
fn on_xen_hypercall(number: u64, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64) {
    let index = detail::note(class::XEN_HYPERCALL, number, 1);
    event::tell_now(index, kind::XEN_HYPERCALL, [number, a0, a1, a2, a3, a4]);
}
