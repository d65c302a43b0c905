//! Family `irqchip`: what is sent through the PIC, the I/O APIC, as a message, or as a line of the VM. KVM
//! tells of each in the context of whoever sends it; one interrupt may pass several of them.
//!
//! The records are laid out the same from 5.10 to 7.2; two of them moved from the generic to the x86
//! part in 6.18.

use crate::{
    hooks::{field, hook},
    route::{self, COALESCED, TELL},
};
use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use kvmscope_shared::route::{IOAPIC_STATE, chip};

#[inline(always)]
fn flags(coalesced: u8) -> u32 {
    if coalesced != 0 { TELL | COALESCED } else { TELL }
}

hook! {
    /// `kvm_pic_set_irq(chip, pin, elcr, imr, coalesced)`.
    at "kvm_pic_set_irq": kvm_pic_set_irq, kvm_pic_set_irq_record
        => on_pic(0 => 8, 1 => 9, 2 => 10, 3 => 11, 4 => 12)
}

#[inline(always)]
fn on_pic(chip: u8, pin: u8, elcr: u8, imr: u8, coalesced: u8) {
    let pin = u64::from(pin & 7);
    let level = u64::from(elcr) >> pin & 1;
    let masked = u64::from(imr) >> pin & 1;
    let a = u64::from(chip & 1) << 3 | pin;
    route::route(chip::PIC, a, level | masked << 1, flags(coalesced));
}

hook! {
    /// `kvm_ioapic_set_irq(entry, pin, coalesced)`.
    at "kvm_ioapic_set_irq": kvm_ioapic_set_irq, kvm_ioapic_set_irq_record
        => on_ioapic(0 => 8, 1 => 16, 2 => 20)
}

#[inline(always)]
fn on_ioapic(entry: u64, pin: u32, coalesced: u8) {
    route::route(chip::IOAPIC, u64::from(pin), entry & !IOAPIC_STATE, flags(coalesced));
}

hook! {
    /// `kvm_msi_set_irq(address, data)`.
    at "kvm_msi_set_irq": kvm_msi_set_irq, kvm_msi_set_irq_record => on_msi(0 => 8, 1 => 16)
}

#[inline(always)]
fn on_msi(address: u64, data: u64) {
    route::route(chip::MSI, address, data, TELL);
}

hook! {
    /// `kvm_set_irq(gsi, level, irq_source_id)`.
    at "kvm_set_irq": kvm_set_irq, kvm_set_irq_record => on_line(0 => 8, 1 => 12, 2 => 16)
}

#[inline(always)]
fn on_line(gsi: u32, level: u32, source: u32) {
    let b = u64::from(level != 0) | u64::from(source) << 1;
    route::route(chip::LINE, u64::from(gsi), b, TELL);
}
