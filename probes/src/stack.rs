//! Kernel stacks at one function, counted: by whom it is called (family `roots`).
//!
//! One of the two programs is attached at a time, at the function that somebody chose. Each CPU writes its
//! own table; the programs run with preemption off and never one within the other.

use crate::{element, maps::STACKS, slots};
use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_get_stack},
    macros::{kprobe, tracepoint},
    programs::{ProbeContext, TracePointContext},
};
use core::{ffi::c_void, ptr::write_volatile};
use kvmscope_shared::stacks::{Caller, FRAMES, Stack, Stacks, Table, note};

/// At the beginning of a function.
#[kprobe]
pub fn stack_here(ctx: ProbeContext) -> u32 {
    called(ctx.as_ptr());
    0
}

/// At a tracepoint.
#[tracepoint]
pub fn stack_here_record(ctx: TracePointContext) -> u32 {
    called(ctx.as_ptr());
    0
}

/// A CPU's stacks, each index masked.
struct Masked(&'static mut Stacks);

impl Table for Masked {
    #[inline(always)]
    fn place(&mut self, number: u64) -> &mut Stack {
        element(&mut self.0.places, number)
    }

    #[inline(always)]
    fn turn(&mut self, number: u64, turn: u32) {
        // SAFETY: a field of the element. Volatile keeps its place among the other stores.
        unsafe { write_volatile(&raw mut self.place(number).turn, turn) };
    }

    #[inline(always)]
    fn other(&mut self) -> &mut u64 {
        &mut self.0.other
    }

    #[inline(always)]
    fn frame(&self, number: usize) -> u64 {
        self.0.scratch[number]
    }
}

#[inline(always)]
fn called(ctx: *mut c_void) -> Option<()> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if slots::filtered_out(slots::control()?, tgid) {
        return None;
    }
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: array memory lives as long as the program; this CPU alone writes its element.
    let table = unsafe { &mut *STACKS.get_ptr_mut(cpu)? };
    // SAFETY: the program's own context, and memory of that size. What is not needed is set to zero.
    let bytes = unsafe {
        bpf_get_stack(ctx.cast(), (&raw mut table.scratch).cast(), 8 * FRAMES as u32, 0)
    };
    if bytes <= 0 {
        table.other += 1;
        return None;
    }
    let (slot, generation, kvm) = match slots::known_current() {
        Some((index, slot)) => (index, slot.generation, slot.kvm),
        None => (0, 0, 0),
    };
    let whose = if kvm == 0 { u64::from(tgid) } else { kvm };
    let depth = (bytes as u64 >> 3) as u32;
    note(&mut Masked(table), Caller { tgid, slot, generation, depth, whose });
    Some(())
}
