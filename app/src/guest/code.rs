//! The guest's program and its memory map.
//!
//! One flat 32-bit program without paging, stack, descriptor tables or interrupts: nothing
//! in it can exit by accident. The VMM writes how many of each kind a *round* makes; the
//! guest makes them, counting each in memory just before it happens, and ends the round
//! with HLT.
//!
//! Interrupts stay disabled; there is no interrupt controller that could bring one. Loops
//! exit in every turn, because some emulated processors (Bochs) keep the host's interrupts
//! masked while a guest runs with IF=0; only the spin does not, so it is short.

use super::asm::{Asm, UnplacedLabel};
use super::op::{Counts, Op};

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
/// IA32_APIC_BASE: intercepted by both vendors' default bitmaps; reading changes nothing.
const MSR_READ: u32 = 0x1b;
/// IA32_BIOS_UPDT_TRIG: intercepted by both, and KVM drops what a guest writes there
/// (`kvm_set_msr_common`).
const MSR_WRITTEN: u32 = 0x79;
/// A hypercall number that KVM does not have: it answers -KVM_ENOSYS and nothing else.
const HYPERCALL: u32 = 0x7fff_ff00;

/// Where each variable is, from [`DATA`].
const VAR_TODO: i8 = 0;
const VAR_MADE: i8 = 40;
const VAR_DONE: i8 = 80;
const VAR_SPIN: i8 = 84;
const VAR_TOUCH: i8 = 88;
/// Bytes of all variables.
const VARS: usize = 92;

/// The hypercall instruction of the host's processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HypercallInsn {
    /// Intel.
    Vmcall,
    /// AMD.
    Vmmcall,
}

/// The guest's variables, as the VMM sees them between two KVM_RUNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vars {
    /// How many of each kind are left in this round, by [`Op`].
    pub todo: [u32; 10],
    /// How many of each kind were made since the start, modulo 2^32.
    pub made: [u32; 10],
    /// 1 once the round is over and the next HLT is its end.
    pub done: u32,
    /// How long to compute in each round, in TSC ticks.
    pub spin: u32,
    /// The next page to touch, a guest physical address.
    pub touch: u32,
}

impl Vars {
    /// What is written for a new round of `counts`; `made` keeps counting.
    pub fn begin(&mut self, counts: &Counts, spin: u32) {
        for op in Op::ALL {
            self.todo[op as usize] = u32::try_from(counts.get(op)).unwrap_or(u32::MAX);
        }
        self.done = 0;
        self.spin = spin;
    }

    /// The kind that is being made: the first of which some are left.
    pub fn current(&self) -> Option<Op> {
        Op::ALL.into_iter().find(|&op| self.todo[op as usize] != 0)
    }

    /// The bytes in guest memory.
    pub fn to_bytes(self) -> [u8; VARS] {
        let mut bytes = [0; VARS];
        let words = self.todo.iter().chain(&self.made).chain([&self.done, &self.spin, &self.touch]);
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
        Self {
            todo: std::array::from_fn(|_| next()),
            made: std::array::from_fn(|_| next()),
            done: next(),
            spin: next(),
            touch: next(),
        }
    }
}

/// The program. EBP is the address of the variables, ESI the address without memory; both
/// are set by the VMM and never change.
///
/// # Errors
/// Never for the program as it is; the assembler's error is passed on.
pub fn program(hypercall: HypercallInsn) -> Result<Vec<u8>, UnplacedLabel> {
    let mut asm = Asm::new();
    let round = asm.label();
    asm.place(round);
    for op in Op::ALL {
        repeat(&mut asm, op, hypercall);
    }
    spin(&mut asm);
    asm.mov_var(VAR_DONE, 1);
    asm.hlt();
    asm.jmp(round);
    asm.finish()
}

/// `while todo != 0 { made += 1; the instruction; todo -= 1 }`
fn repeat(asm: &mut Asm, op: Op, hypercall: HypercallInsn) {
    let todo = VAR_TODO + 4 * op as i8;
    let made = VAR_MADE + 4 * op as i8;
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

/// The instructions of one exit: exactly one of them exits, the last or last but one.
fn one(asm: &mut Asm, op: Op, hypercall: HypercallInsn) {
    match op {
        Op::Cpuid => {
            asm.zero_eax();
            asm.zero_ecx();
            asm.cpuid();
        }
        Op::Rdmsr => {
            asm.mov_ecx(MSR_READ);
            asm.rdmsr();
        }
        Op::Wrmsr => {
            asm.mov_ecx(MSR_WRITTEN);
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
            asm.mov_edi_var(VAR_TOUCH);
            asm.store_at_edi();
            asm.add_edi(STRIDE as u32);
            asm.mov_var_edi(VAR_TOUCH);
        }
        Op::Out => {
            asm.mov_edx(u32::from(PORT_OUT));
            asm.mov_eax(u32::from(b'k'));
            asm.out_dx_al();
        }
        Op::In => {
            asm.mov_edx(u32::from(PORT_IN));
            asm.in_al_dx();
        }
        Op::MmioRead => asm.load_at_esi(),
        Op::MmioWrite => asm.store_at_esi(),
        Op::Hlt => asm.hlt(),
    }
}

/// Reads the time stamp counter until `spin` ticks have passed; neither vendor's KVM
/// intercepts RDTSC.
fn spin(asm: &mut Asm) {
    let (again, end) = (asm.label(), asm.label());
    asm.cmp_var_zero(VAR_SPIN);
    asm.je(end);
    asm.rdtsc();
    asm.mov_ebx_eax();
    asm.place(again);
    asm.rdtsc();
    asm.sub_eax_ebx();
    asm.cmp_eax_var(VAR_SPIN);
    asm.jb(again);
    asm.place(end);
}

const _: () = assert!(MEMORY <= MMIO && MMIO + PAGE <= REGION);
const _: () = assert!(REGION * MAX_VCPUS as u64 <= 3 << 30);
const _: () = assert!(VARS as u64 <= PAGE && VAR_TOUCH as usize + 4 == VARS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_fits_its_page() {
        for insn in [HypercallInsn::Vmcall, HypercallInsn::Vmmcall] {
            let code = program(insn).expect("assembles");
            assert!(code.len() as u64 <= PAGE, "{} bytes", code.len());
        }
    }

    #[test]
    fn only_the_hosts_own_hypercall_instruction_is_in_it() {
        let has = |insn, bytes: &[u8]| {
            let code = program(insn).expect("assembles");
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
            touch: 0x20_0000,
        };
        let bytes = vars.to_bytes();
        assert_eq!(Vars::from_bytes(&bytes), vars);
        assert_eq!(bytes[VAR_MADE as usize], 0, "little endian, at its place");
        assert_eq!(bytes[VAR_DONE as usize], 1);
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
