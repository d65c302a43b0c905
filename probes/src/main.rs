//! The eBPF programs of kvmscope. They count and time; they never send an event to be measured,
//! only to be listed.
//!
//! One writer per field, no hash on the hot path, memory taken at first use. What each number
//! means is written in the `shared` crate, beside the fields.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod calls;
mod culprit;
mod detail;
mod event;
mod exit;
mod facts;
mod function;
mod hooks;
mod ioctl;
mod irq;
mod irqchip;
mod maps;
mod outlier;
mod record;
mod route;
mod sched;
mod slots;
mod stack;
mod state;
mod tokens;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use core::arch::asm;

/// The probes' clock: CLOCK_MONOTONIC, ns.
#[inline(always)]
fn clock() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The element at `index`, for an array of a power-of-two length. The mask keeps it in bounds
/// for the verifier; it is written as an instruction because the compiler would prove it redundant
/// and drop it, and the verifier of some kernels cannot follow the proof.
#[inline(always)]
fn element<T, const LEN: usize>(array: &mut [T; LEN], index: u64) -> &mut T {
    const { assert!(LEN.is_power_of_two()) };
    let mut index = index;
    // SAFETY: one instruction on a register, then an index below the length.
    unsafe {
        asm!("{0} &= {1}", inout(reg) index, const LEN - 1, options(pure, nomem, nostack));
        array.get_unchecked_mut(index as usize)
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Nothing here panics: every index is masked and every pointer tested.
    loop {}
}

/// The licence that the kernel is told; some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
