//! The eBPF programs of kvmscope. They count and time; they never send an event to be measured.
//!
//! One writer per field, no hash on the hot path, memory taken at first use. What each number
//! means is written in the `shared` crate, beside the fields.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod exit;
mod facts;
mod maps;
mod sched;
mod slots;
mod state;

use aya_ebpf::helpers::bpf_ktime_get_ns;

/// The probes' clock: CLOCK_MONOTONIC, ns.
#[inline(always)]
fn clock() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
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
