//! The guest's program.
//!
//! One flat 32-bit program: nothing in it can exit by accident. Where it is to take interrupts or exceptions
//! it has descriptor tables and a stack (`tables`, `handlers`), else it has neither. The VMM writes how many of each kind a *round* makes; the guest makes them, counting each
//! in memory just before it happens, and ends the round with HLT, or in a VM whose kernel has an
//! interrupt controller with OUT to a port of its own.
//!
//! Elsewhere nothing ever brings an interrupt: there is no interrupt controller, or one that nobody has
//! programmed. Still they are enabled where the guest computes without an exit, because some
//! emulated processors (Bochs) keep the host's interrupts masked while a guest runs with IF=0.

use super::asm::{Asm, UnplacedLabel};
use super::code::{
    BASE, CODE, DATA, DONE, DOORBELL_AT, GAP, GUEST, HALTED, HUGE_PAGE, HYPERCALL, HypercallInsn,
    IN_PORT, IOAPIC_WINDOW, LOOP, LOOPED, MADE, MMIO_AT, NEXT_DIRTY, NEXT_EXEC, NEXT_TOUCH,
    NEXT_WALK, NO_APIC, OUT_PORT, PAGE, PORT_CONTROL, READ_MSR, READ_ONLY_PAGE, SPIN, SPUN, STRIDE,
    TODO, WRITTEN_MSR, var,
};
use super::handlers::{self, handlers};
use super::op::Op;

/// The program, and where in it the guest stays on one instruction.
#[derive(Debug)]
pub struct Program {
    /// Machine code.
    pub code: Vec<u8>,
    /// Offset of the instruction that jumps to itself; the next one is [`Asm::FOREVER`] on.
    pub stays_at: u64,
    /// Vectors and the offsets of their handlers.
    pub handlers: Vec<(u8, u64)>,
}

/// The program. EBP is [`super::code::BASE`] bytes into the variables, ESI the address without memory; both
/// are set by the VMM and never change. In a VM with `irqchip`, HLT stays inside KVM.
///
/// # Errors
/// Never for the program as it is; the assembler's error is passed on.
pub fn program(hypercall: HypercallInsn, irqchip: bool) -> Result<Program, UnplacedLabel> {
    let mut asm = Asm::new();
    let round = asm.label();
    asm.place(round);
    let stays_at = stay(&mut asm);
    for op in Op::ALL {
        match op {
            Op::TimerPeriodic => handlers::periodic(&mut asm),
            _ => repeat(&mut asm, op, hypercall),
        }
    }
    spin(&mut asm);
    asm.mov_var(var(DONE), 1);
    if irqchip {
        asm.mov_edx(u32::from(PORT_CONTROL));
        asm.out_dx_al();
    } else {
        asm.hlt();
    }
    asm.jmp(round);
    let handlers = handlers(&mut asm);
    Ok(Program { code: asm.finish()?, stays_at, handlers })
}

/// `while todo != 0 { made += 1; the instruction; todo -= 1 }`
fn repeat(asm: &mut Asm, op: Op, hypercall: HypercallInsn) {
    let (todo, made) = (var(TODO + op as usize), var(MADE + op as usize));
    let (again, end) = (asm.label(), asm.label());
    asm.place(again);
    asm.cmp_var_zero(todo);
    asm.je(end);
    asm.inc_var(made);
    one(asm, op, hypercall);
    asm.dec_var(todo);
    asm.jmp(again);
    asm.place(end);
}

/// The instructions of one exit: exactly one of them exits (PAUSE rarely does).
fn one(asm: &mut Asm, op: Op, hypercall: HypercallInsn) {
    match op {
        Op::Cpuid => {
            asm.zero_eax();
            asm.zero_ecx();
            asm.cpuid();
        }
        Op::Rdmsr => {
            asm.mov_ecx_var(var(READ_MSR));
            asm.rdmsr();
        }
        Op::Wrmsr => {
            asm.mov_ecx_var(var(WRITTEN_MSR));
            asm.zero_eax();
            asm.zero_edx();
            asm.wrmsr();
        }
        Op::Hypercall | Op::KickCpu | Op::SendIpi | Op::SchedYield | Op::ClockPairing => {
            let (number, [first, second, third, fourth]) = hypercall_of(op);
            asm.mov_eax(number);
            asm.mov_ebx(first);
            asm.mov_ecx(second);
            asm.mov_edx(third);
            asm.mov_esi(fourth);
            match hypercall {
                HypercallInsn::Vmcall => asm.vmcall(),
                HypercallInsn::Vmmcall => asm.vmmcall(),
            }
            asm.mov_esi_var(var(MMIO_AT));
        }
        Op::Touch => next(asm, NEXT_TOUCH, STRIDE, Asm::store_at_edi),
        Op::Dirty => next(asm, NEXT_DIRTY, PAGE, Asm::store_at_edi),
        Op::Walk => next(asm, NEXT_WALK, 4 << 20, Asm::load_at_edi),
        Op::Doorbell => {
            asm.mov_edi_var(var(DOORBELL_AT));
            asm.store_at_edi();
        }
        Op::MmioKernel => {
            asm.mov_edi(IOAPIC_WINDOW as u32);
            asm.load_at_edi();
        }
        Op::Exec => next(asm, NEXT_EXEC, HUGE_PAGE, |asm| {
            asm.load_at_edi();
            // To behind the next two instructions, which are 8 bytes.
            let back = CODE as i64 + asm.here() as i64 + 8 - (DATA + BASE) as i64;
            asm.lea_ebx(back as i32);
            asm.jmp_edi();
        }),
        // The VMM has done it before the guest began.
        Op::Slots | Op::LineMasked => {}
        Op::Out => {
            asm.mov_edx_var(var(OUT_PORT));
            asm.mov_eax(u32::from(b'k'));
            asm.out_dx_al();
        }
        Op::In => {
            asm.mov_edx_var(var(IN_PORT));
            asm.in_al_dx();
        }
        Op::MmioRead => asm.load_at_esi(),
        Op::MmioWrite => asm.store_at_esi(),
        Op::Hlt => asm.hlt(),
        Op::SamePage => {
            asm.mov_edi_var(var(READ_ONLY_PAGE));
            asm.store_at_edi();
        }
        Op::Halt => timed(asm, HALTED, Asm::hlt),
        Op::Pause => asm.pause(),
        _ => handlers::one(asm, op),
    }
}

/// `what` at the address in variable `at` (in EDI), which is then moved on by `step`.
fn next(asm: &mut Asm, at: usize, step: u64, what: impl FnOnce(&mut Asm)) {
    asm.mov_edi_var(var(at));
    what(asm);
    asm.add_edi(step as u32);
    asm.mov_var_edi(var(at));
}

/// Number and arguments of a hypercall, none of which does anything: what is sent goes to APICs that
/// no vCPU has, the clock is asked for in a way that KVM does not have, and the number of
/// [`Op::Hypercall`] is none of KVM's (KVM's Documentation/virt/kvm/x86/hypercalls.rst).
pub fn hypercall_of(op: Op) -> (u32, [u32; 4]) {
    match op {
        // flags, APIC id
        Op::KickCpu => (5, [0, NO_APIC, 0, 0]),
        // where to put the answer, clock type
        Op::ClockPairing => (9, [super::code::DATA as u32, 1, 0, 0]),
        // bitmap of APIC ids from the third on (low and high half), ICR with vector 0xf0
        Op::SendIpi => (10, [0b111, 0, NO_APIC, 0xf0]),
        // APIC id
        Op::SchedYield => (11, [NO_APIC, 0, 0, 0]),
        _ => (HYPERCALL, [0x11, 0x22, 0x33, 0x44]),
    }
}

/// Adds the ticks that `what` takes to variable `total`. `what` leaves the variables alone.
fn timed(asm: &mut Asm, total: usize, what: impl FnOnce(&mut Asm)) {
    asm.rdtsc();
    asm.sub_var64(var(total));
    what(asm);
    asm.rdtsc();
    asm.add_var64(var(total));
}

/// Reads the time stamp counter until `spin` ticks have passed; neither vendor's KVM
/// intercepts RDTSC. Steps smaller than `gap` are added up as time in the guest.
fn spin(asm: &mut Asm) {
    let (again, other, end) = (asm.label(), asm.label(), asm.label());
    asm.cmp_var_zero(var(SPIN));
    asm.je(end);
    asm.sti();
    timed(asm, SPUN, |asm| {
        asm.rdtsc();
        asm.mov_ebx_eax(); // the beginning
        asm.mov_ecx_eax(); // the last reading
        asm.place(again);
        asm.rdtsc();
        asm.mov_edi_eax();
        asm.sub_eax_ecx();
        asm.mov_ecx_edi();
        asm.cmp_eax_var(var(GAP));
        asm.jae(other);
        asm.zero_edx();
        asm.add_var64(var(GUEST));
        asm.place(other);
        asm.mov_eax_edi();
        asm.sub_eax_ebx();
        asm.cmp_eax_var(var(SPIN));
        asm.jb(again);
    });
    asm.cli();
    asm.place(end);
}

/// An instruction that jumps to itself, if it is asked for; returns where it is.
fn stay(asm: &mut Asm) -> u64 {
    let end = asm.label();
    asm.cmp_var_zero(var(LOOP));
    asm.je(end);
    asm.sti();
    let mut at = 0;
    timed(asm, LOOPED, |asm| {
        at = asm.here();
        asm.forever();
    });
    asm.cli();
    asm.place(end);
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_fits_its_page() {
        for insn in [HypercallInsn::Vmcall, HypercallInsn::Vmmcall] {
            for irqchip in [false, true] {
                let code = program(insn, irqchip).expect("assembles").code;
                assert!(code.len() as u64 <= PAGE, "{} bytes", code.len());
            }
        }
    }

    #[test]
    fn only_the_hosts_own_hypercall_instruction_is_in_it() {
        let has = |insn, bytes: &[u8]| {
            let code = program(insn, false).expect("assembles").code;
            code.windows(3).any(|window| window == bytes)
        };
        assert!(has(HypercallInsn::Vmcall, &[0x0f, 0x01, 0xc1]));
        assert!(!has(HypercallInsn::Vmcall, &[0x0f, 0x01, 0xd9]));
        assert!(has(HypercallInsn::Vmmcall, &[0x0f, 0x01, 0xd9]));
        assert!(!has(HypercallInsn::Vmmcall, &[0x0f, 0x01, 0xc1]));
    }

    #[test]
    fn the_instruction_to_stay_on_is_where_it_is_said_to_be() {
        let program = program(HypercallInsn::Vmcall, true).expect("assembles");
        let at = program.stays_at as usize;
        assert_eq!(program.code[at..at + Asm::FOREVER as usize], [0xeb, 0xfe]);
    }
}
