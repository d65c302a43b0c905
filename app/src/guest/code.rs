//! The guest's program and its memory map.
//!
//! One flat 32-bit program without paging, stack, descriptor tables or interrupts: nothing
//! in it can exit by accident. The VMM writes how many of each kind a *round* makes; the
//! guest makes them, counting each in memory just before it happens, and ends the round
//! with HLT, or in a VM whose kernel has an interrupt controller with OUT to a port of its own.
//!
//! Nothing ever brings an interrupt: there is no interrupt controller, or one that nobody has
//! programmed. Still they are enabled where the guest computes without an exit, because some
//! emulated processors (Bochs) keep the host's interrupts masked while a guest runs with IF=0.

use super::asm::{Asm, UnplacedLabel};
use super::op::{Counts, KINDS, Op};

/// Each vCPU has a region of its own, so that no page and no page table is first used by
/// two vCPUs at once: a race there would make KVM take the fault twice.
pub const REGION: u64 = 32 << 20;
/// The program, from the region's start.
pub const CODE: u64 = 0;
/// The variables. KVM before 5.15 maps up to seven neighbours of a faulting page with it when
/// the host has them in memory, so pages that must fault by themselves are [`STRIDE`] apart.
pub const DATA: u64 = STRIDE;
/// The first page to be touched; its page table is not the program's.
pub const TOUCH: u64 = 2 << 20;
/// How far apart two pages are that must not be mapped by one fault.
pub const STRIDE: u64 = 8 * PAGE;
/// Pages that can be touched before they have to be given back.
pub const TOUCH_PAGES: u64 = 512;
/// How much of a region is memory.
pub const MEMORY: u64 = TOUCH + TOUCH_PAGES * STRIDE;
/// An address of the region without memory, in a page table of its own.
pub const MMIO: u64 = 24 << 20;
/// A page of memory that the guest may only read, so that every write to it faults. It is
/// memory only when it is asked for.
pub const READ_ONLY: u64 = 26 << 20;
/// Pages of its own that a vCPU touches once, before its first round: program and variables.
pub const OWN_PAGES: u64 = 2;
/// Most vCPUs of one VM: the regions end below 3 GiB, where platforms keep their devices.
pub const MAX_VCPUS: u32 = 96;
/// A page, in bytes.
pub const PAGE: u64 = 4096;

/// The port that OUT writes: the first serial port's data.
pub const PORT_OUT: u16 = 0x3f8;
/// The port that IN reads: the first serial port's line status.
pub const PORT_IN: u16 = 0x3fd;
/// The port that ends a round where HLT stays inside KVM.
pub const PORT_CONTROL: u16 = 0x510;
/// The first port of many, where OUT is to go to many.
pub const PORT_SPREAD: u16 = 0x1000;
/// IA32_APIC_BASE: intercepted by both vendors' default bitmaps; reading changes nothing.
pub const MSR_READ: u32 = 0x1b;
/// IA32_BIOS_UPDT_TRIG: intercepted by both, and KVM drops what a guest writes there
/// (`kvm_set_msr_common`).
pub const MSR_WRITTEN: u32 = 0x79;
/// A hypercall number that KVM does not have: it answers -KVM_ENOSYS and nothing else.
pub const HYPERCALL: u32 = 0x7fff_ff00;

/// Where EBP points, from [`DATA`]: 8-bit displacements reach all variables from there.
pub const BASE: u64 = 128;
/// The displacement of variable number `word`.
const fn var(word: usize) -> i8 {
    (4 * word as i64 - BASE as i64) as i8
}
const TODO: usize = 0;
const MADE: usize = KINDS;
const DONE: usize = 2 * KINDS;
const SPIN: usize = DONE + 1;
const GAP: usize = DONE + 2;
const NEXT_TOUCH: usize = DONE + 3;
const OUT_PORT: usize = DONE + 4;
const IN_PORT: usize = DONE + 5;
const READ_MSR: usize = DONE + 6;
const WRITTEN_MSR: usize = DONE + 7;
const READ_ONLY_PAGE: usize = DONE + 8;
const LOOP: usize = DONE + 9;
const HALTED: usize = DONE + 10;
const SPUN: usize = DONE + 12;
const GUEST: usize = DONE + 14;
const LOOPED: usize = DONE + 16;
/// Variables, of four bytes each.
const WORDS: usize = DONE + 18;
/// Bytes of all variables.
const VARS: usize = 4 * WORDS;

/// Where the guest keeps how many of a kind it made, from [`DATA`].
pub fn made_at(op: Op) -> u64 {
    4 * (MADE + op as usize) as u64
}

/// Where the port is to which the next OUT goes, from [`DATA`].
pub const OUT_PORT_AT: u64 = 4 * OUT_PORT as u64;

/// The hypercall instruction of the host's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HypercallInsn {
    /// Intel.
    Vmcall,
    /// AMD.
    Vmmcall,
}

/// What the guest's instructions are about, where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The port of OUT.
    pub out_port: u16,
    /// The port of IN.
    pub in_port: u16,
    /// The MSR of RDMSR.
    pub msr_read: u32,
    /// The MSR of WRMSR.
    pub msr_written: u32,
}

impl Default for Targets {
    fn default() -> Self {
        Self { out_port: PORT_OUT, in_port: PORT_IN, msr_read: MSR_READ, msr_written: MSR_WRITTEN }
    }
}

/// The guest's variables, as the VMM sees them between two KVM_RUNs. Times are in ticks of its
/// time stamp counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vars {
    /// How many of each kind are left in this round, by [`Op`].
    pub todo: [u32; KINDS],
    /// How many of each kind were made since the start, modulo 2^32.
    pub made: [u32; KINDS],
    /// 1 once the round is over and the next exit is its end.
    pub done: u32,
    /// How long to compute in each round.
    pub spin: u32,
    /// A step of the clock while it computes that is as large means that it did not run.
    pub gap: u32,
    /// The next page to touch, a guest physical address.
    pub touch: u32,
    /// The port of the next OUT.
    pub out_port: u32,
    /// The port of IN.
    pub in_port: u32,
    /// The MSR of RDMSR.
    pub msr_read: u32,
    /// The MSR of WRMSR.
    pub msr_written: u32,
    /// The page that may only be read, a guest physical address.
    pub read_only: u32,
    /// 1 to stay on one instruction in this round, until the VMM moves it on.
    pub stay: u32,
    /// From before each halt inside KVM to after it.
    pub halted: u64,
    /// From the beginning of each computation to its end.
    pub spun: u64,
    /// The part of it without steps of the clock of `gap` or more.
    pub guest: u64,
    /// From before the instruction that it stays on to after it.
    pub looped: u64,
}

impl Vars {
    /// What is written for a new round of `counts`; `made` keeps counting.
    pub fn begin(&mut self, counts: &Counts, spin: u32, stay: bool) {
        for op in Op::ALL {
            self.todo[op as usize] = u32::try_from(counts.get(op)).unwrap_or(u32::MAX);
        }
        self.done = 0;
        self.spin = spin;
        self.stay = u32::from(stay);
    }

    /// The kind that is being made: the first of which some are left.
    pub fn current(&self) -> Option<Op> {
        Op::ALL.into_iter().find(|&op| self.todo[op as usize] != 0)
    }

    /// The bytes in guest memory.
    pub fn to_bytes(self) -> [u8; VARS] {
        let halves = [self.halted, self.spun, self.guest, self.looped]
            .map(|long| [long as u32, (long >> 32) as u32]);
        let single = [
            self.done,
            self.spin,
            self.gap,
            self.touch,
            self.out_port,
            self.in_port,
            self.msr_read,
            self.msr_written,
            self.read_only,
            self.stay,
        ];
        let mut bytes = [0; VARS];
        let words = self.todo.iter().chain(&self.made).chain(&single).chain(halves.as_flattened());
        for (word, place) in words.zip(bytes.chunks_exact_mut(4)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From the bytes in guest memory.
    pub fn from_bytes(bytes: &[u8; VARS]) -> Self {
        let mut words = bytes.chunks_exact(4).map(|word| {
            word.iter().rev().fold(0, |number: u32, &byte| number << 8 | u32::from(byte))
        });
        let mut next = || words.next().unwrap_or(0);
        let (todo, made) = (std::array::from_fn(|_| next()), std::array::from_fn(|_| next()));
        Self {
            todo,
            made,
            done: next(),
            spin: next(),
            gap: next(),
            touch: next(),
            out_port: next(),
            in_port: next(),
            msr_read: next(),
            msr_written: next(),
            read_only: next(),
            stay: next(),
            halted: u64::from(next()) | u64::from(next()) << 32,
            spun: u64::from(next()) | u64::from(next()) << 32,
            guest: u64::from(next()) | u64::from(next()) << 32,
            looped: u64::from(next()) | u64::from(next()) << 32,
        }
    }
}

/// The program, and where in it the guest stays on one instruction.
#[derive(Debug)]
pub struct Program {
    /// Machine code.
    pub code: Vec<u8>,
    /// Offset of the instruction that jumps to itself; the next one is [`Asm::FOREVER`] on.
    pub stays_at: u64,
}

/// The program. EBP is [`BASE`] bytes into the variables, ESI the address without memory; both
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
        repeat(&mut asm, op, hypercall);
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
    Ok(Program { code: asm.finish()?, stays_at })
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
        Op::Hypercall => {
            asm.mov_eax(HYPERCALL);
            match hypercall {
                HypercallInsn::Vmcall => asm.vmcall(),
                HypercallInsn::Vmmcall => asm.vmmcall(),
            }
        }
        Op::Touch => {
            asm.mov_edi_var(var(NEXT_TOUCH));
            asm.store_at_edi();
            asm.add_edi(STRIDE as u32);
            asm.mov_var_edi(var(NEXT_TOUCH));
        }
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

const _: () = assert!(MEMORY <= MMIO && MMIO + PAGE <= READ_ONLY && READ_ONLY + PAGE <= REGION);
const _: () = assert!(REGION * MAX_VCPUS as u64 <= 3 << 30);
const _: () = assert!(VARS as u64 <= 2 * BASE && LOOPED + 2 == WORDS);

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
    fn variables_survive_the_way_through_guest_memory() {
        let vars = Vars {
            todo: std::array::from_fn(|index| index as u32 + 1),
            made: std::array::from_fn(|index| 0x0102_0300 + index as u32),
            done: 1,
            spin: 0xffff_fffe,
            gap: 2,
            touch: 0x20_0000,
            out_port: 0x3f8,
            in_port: 0x608,
            msr_read: 0x1b,
            msr_written: 0x6e0,
            read_only: 0x1a0_0000,
            stay: 1,
            halted: 0x0102_0304_0506_0708,
            spun: 5,
            guest: u64::MAX - 1,
            looped: 1 << 40,
        };
        let bytes = vars.to_bytes();
        assert_eq!(Vars::from_bytes(&bytes), vars);
        assert_eq!(bytes[4 * MADE], 0, "little endian, at its place");
        assert_eq!(bytes[4 * DONE], 1);
        assert_eq!(bytes[4 * HALTED], 8, "the low half first");
        assert_eq!(bytes[4 * LOOPED + 5], 1);
        assert_eq!(made_at(Op::Cpuid), 4 * KINDS as u64);
    }

    #[test]
    fn the_instruction_to_stay_on_is_where_it_is_said_to_be() {
        let program = program(HypercallInsn::Vmcall, true).expect("assembles");
        let at = program.stays_at as usize;
        assert_eq!(program.code[at..at + Asm::FOREVER as usize], [0xeb, 0xfe]);
    }

    #[test]
    fn displacements_reach_every_variable() {
        assert_eq!((var(0), var(WORDS - 1)), (-128, 44));
    }

    #[test]
    fn the_current_kind_is_the_first_with_some_left() {
        let mut vars = Vars::default();
        assert_eq!(vars.current(), None);
        vars.todo[Op::Hlt as usize] = 3;
        vars.todo[Op::Out as usize] = 1;
        assert_eq!(vars.current(), Some(Op::Out));
    }

    #[test]
    fn pages_that_must_fault_alone_never_share_eight_neighbours() {
        assert_ne!(CODE / STRIDE, DATA / STRIDE);
        assert_eq!(TOUCH % STRIDE, 0);
        assert_eq!(MMIO % (2 << 20), 0, "a page table of its own");
    }
}
