//! The part of the guest's program that is about interrupts: what it does for each, and its handlers.
//!
//! Interrupts are taken only where the guest waits for one (and where it computes): `sti; hlt; cli` takes
//! exactly one HLT exit each time, whether the interrupt came before or comes later. Every kind has a vector
//! and a counter of its own, so that one that comes early is not taken for another.

use super::asm::Asm;
use super::code::{
    CAME, HANDLED, MADE, NEXT_APIC, PORT_SEEN, SENDS_FIRST, STARTS, TIMER_NS, TIMER_TICKS, TODO,
    WAITS, var,
};
use super::irqs::{self, BY_DEADLINE, PERIODIC, ends_at_apic, handler, msr, vector};
use super::op::Op;

/// The instructions of one interrupt or exception, up to the end of its handler.
pub fn one(asm: &mut Asm, op: Op) {
    match op {
        Op::TimerOneShot => {
            write(asm, msr::LVTT, |asm| asm.mov_eax(u32::from(vector(op))));
            write(asm, msr::TMICT, |asm| asm.mov_eax_var(var(TIMER_NS)));
            wait(asm, op);
        }
        Op::TimerDeadline => {
            write(asm, msr::LVTT, |asm| asm.mov_eax(u32::from(vector(op)) | BY_DEADLINE));
            deadline(asm, |asm| {
                asm.add_eax_var(var(TIMER_TICKS));
                asm.adc_edx(0);
            });
            wait(asm, op);
        }
        Op::TimerDisarm => {
            let own = u32::from(vector(Op::TimerDeadline)) | BY_DEADLINE;
            write(asm, msr::LVTT, |asm| asm.mov_eax(own));
            // 2^32 ticks or more from now.
            deadline(asm, |asm| asm.adc_edx(2));
            write(asm, msr::DEADLINE, Asm::zero_eax);
        }
        Op::Ipi => {
            // One is under way round the ring at a time, so that none meets another.
            let (waits_first, end) = (asm.label(), asm.label());
            asm.cmp_var_zero(var(SENDS_FIRST));
            asm.je(waits_first);
            send(asm, op);
            wait(asm, op);
            asm.jmp(end);
            asm.place(waits_first);
            wait(asm, op);
            send(asm, op);
            asm.place(end);
        }
        Op::Gp => {
            asm.mov_ecx(msr::NONE);
            asm.rdmsr();
        }
        Op::Ud => asm.ud2(),
        // Someone else sends it.
        _ => wait(asm, op),
    }
}

/// The periodic timer: started once, stopped after as many expiries as are asked for. One that comes between
/// the last of them and the end is taken and counted too.
pub fn periodic(asm: &mut Asm) {
    let op = Op::TimerPeriodic;
    let todo = var(TODO + op as usize);
    let (again, stop, end) = (asm.label(), asm.label(), asm.label());
    asm.cmp_var_zero(todo);
    asm.je(end);
    asm.inc_var(var(STARTS));
    write(asm, msr::LVTT, |asm| asm.mov_eax(u32::from(vector(op)) | PERIODIC));
    write(asm, msr::TMICT, |asm| asm.mov_eax_var(var(TIMER_NS)));
    asm.place(again);
    asm.inc_var(var(MADE + op as usize));
    wait(asm, op);
    asm.dec_var(todo);
    asm.cmp_var_zero(todo);
    asm.je(stop);
    asm.jmp(again);
    asm.place(stop);
    write(asm, msr::TMICT, Asm::zero_eax);
    asm.sti();
    asm.nop();
    asm.cli();
    if let Some(index) = handler(op) {
        asm.mov_var(var(CAME + index), 0);
    }
    asm.place(end);
}

/// WRMSR of what `value` puts into EAX.
fn write(asm: &mut Asm, register: u32, value: impl FnOnce(&mut Asm)) {
    asm.mov_ecx(register);
    asm.zero_edx();
    value(asm);
    asm.wrmsr();
}

/// A deadline: now, and what `more` adds to EDX:EAX.
fn deadline(asm: &mut Asm, more: impl FnOnce(&mut Asm)) {
    asm.mov_ecx(msr::DEADLINE);
    asm.rdtsc();
    more(asm);
    asm.wrmsr();
}

/// A fixed interrupt to the next vCPU.
fn send(asm: &mut Asm, op: Op) {
    asm.mov_ecx(msr::ICR);
    asm.mov_eax(u32::from(vector(op)));
    asm.mov_edx_var(var(NEXT_APIC));
    asm.wrmsr();
}

/// Halts until the interrupt of `op` has come, if it has not.
fn wait(asm: &mut Asm, op: Op) {
    let Some(index) = handler(op) else { return };
    let (again, look) = (asm.label(), asm.label());
    asm.jmp(look);
    asm.place(again);
    asm.inc_var(var(WAITS));
    asm.sti();
    asm.hlt();
    asm.cli();
    asm.place(look);
    asm.cmp_var_zero(var(CAME + index));
    asm.je(again);
    asm.dec_var(var(CAME + index));
}

/// The handlers, after the program; vector and place of each.
pub fn handlers(asm: &mut Asm) -> Vec<(u8, u64)> {
    let end = asm.label();
    let mut places = Vec::new();
    for (index, (op, vector)) in irqs::HANDLED.into_iter().enumerate() {
        places.push((vector, asm.here()));
        asm.inc_var(var(HANDLED + index));
        match op {
            // The instruction that failed is two bytes long; an error code is above its address.
            Op::Gp => {
                asm.drop_one();
                asm.add_to_top(2);
            }
            Op::Ud => asm.add_to_top(2),
            _ => asm.inc_var(var(CAME + index)),
        }
        if op == Op::IoapicLevel {
            // While the line is up the end of one interrupt is the beginning of the next.
            asm.push_eax_ecx_edx();
            asm.mov_edx(u32::from(PORT_SEEN));
            asm.out_dx_al();
            asm.pop_edx_ecx_eax();
        }
        if ends_at_apic(op) {
            asm.jmp(end);
        } else {
            asm.end_handler();
        }
    }
    asm.place(end);
    asm.push_eax_ecx_edx();
    write(asm, msr::EOI, Asm::zero_eax);
    asm.pop_edx_ecx_eax();
    asm.end_handler();
    places
}
