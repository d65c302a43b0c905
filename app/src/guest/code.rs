//! The guest's memory map and its variables.

use super::irqs::HANDLERS;
use super::op::{Counts, KINDS, Op};

/// Each vCPU has a region of its own, so that no page and no page table is first used by
/// two vCPUs at once: a race there would make KVM take the fault twice.
pub const REGION: u64 = 32 << 20;
/// The program, from the region's start.
pub const CODE: u64 = 0;
/// The variables. KVM before 5.15 maps up to seven neighbours of a faulting page with it when
/// the host has them in memory, so pages that must fault by themselves are [`STRIDE`] apart.
pub const DATA: u64 = STRIDE;
/// The guest's page directory, where it has one.
pub const DIRECTORY: u64 = 2 * STRIDE;
/// The first page to be touched; its page table is not the program's.
pub const TOUCH: u64 = 2 << 20;
/// How far apart two pages are that must not be mapped by one fault.
pub const STRIDE: u64 = 8 * PAGE;
/// Pages that can be touched before they have to be given back.
pub const TOUCH_PAGES: u64 = 512;
/// The first of the guest's page tables that it walks for the first time, [`STRIDE`] apart.
pub const WALK: u64 = TOUCH + TOUCH_PAGES * STRIDE;
/// Such page tables.
pub const WALK_TABLES: u64 = 64;
/// How much of a region is memory.
pub const MEMORY: u64 = WALK + WALK_TABLES * STRIDE;
/// The first huge page whose first bytes are executed; it is memory only when it is asked for.
pub const EXEC: u64 = 20 << 20;
/// Such huge pages.
pub const EXEC_PAGES: u64 = 2;
/// A huge page, in bytes.
pub const HUGE_PAGE: u64 = 2 << 20;
/// An address of the region without memory, in a page table of its own.
pub const MMIO: u64 = 24 << 20;
/// An address without memory whose writes ring an eventfd.
pub const DOORBELL: u64 = MMIO + STRIDE;
/// A page of memory that the guest may only read, so that every write to it faults. It is
/// memory only when it is asked for.
pub const READ_ONLY: u64 = 26 << 20;
/// Where a memory slot is set, and to where it is moved before it is deleted.
pub const SLOT: [u64; 2] = [READ_ONLY + STRIDE, READ_ONLY + 2 * STRIDE];
/// The slot whose dirty pages KVM logs; it is memory only when it is asked for. KVM never maps
/// neighbours of a page that it logs, so its pages may lie side by side.
pub const DIRTY: u64 = 28 << 20;
/// Pages of it.
pub const DIRTY_PAGES: u64 = 1024;
/// So many of them are written in a round, unless something else is asked for.
pub const DIRTY_USUALLY: u64 = 256;
/// Most vCPUs of one VM with a region as here: the regions end below 3 GiB, where platforms keep their devices.
pub const MAX_VCPUS: u32 = 96;
/// Most vCPUs of one VM at all: more have smaller regions (`space`).
pub const MANY_VCPUS: u32 = 384;
/// A page, in bytes.
pub const PAGE: u64 = 4096;

/// The port that OUT writes: the first serial port's data.
pub const PORT_OUT: u16 = 0x3f8;
/// The port that IN reads: the first serial port's line status.
pub const PORT_IN: u16 = 0x3fd;
/// The port that ends a round where HLT stays inside KVM.
pub const PORT_CONTROL: u16 = 0x510;
/// The port by which the handler of a level tells its device that it has seen it.
pub const PORT_SEEN: u16 = 0x511;
/// The first port of many, where OUT is to go to many.
pub const PORT_SPREAD: u16 = 0x1000;
/// IA32_APIC_BASE: intercepted by both vendors' default bitmaps; reading changes nothing.
pub const MSR_READ: u32 = 0x1b;
/// IA32_BIOS_UPDT_TRIG: intercepted by both, and KVM drops what a guest writes there
/// (`kvm_set_msr_common`).
pub const MSR_WRITTEN: u32 = 0x79;
/// A hypercall number that KVM does not have: it answers -KVM_ENOSYS and nothing else.
pub const HYPERCALL: u32 = 0x7fff_ff00;

/// The register window of the interrupt controller in the kernel (the I/O APIC's IOWIN), of all VMs.
pub const IOAPIC_WINDOW: u64 = 0xfec0_0010;
/// The linear address that the first of the walked page tables is for; one table is for 4 MiB.
pub const WALK_LINEAR: u64 = 3 << 30;
/// An APIC that no vCPU has: what is sent there goes nowhere.
pub const NO_APIC: u32 = 200;

/// Where EBP points, from [`DATA`]: 8-bit displacements reach the first 64 variables from there.
pub const BASE: u64 = 128;
/// The displacement of variable number `word`.
pub const fn var(word: usize) -> i32 {
    (4 * word as i64 - BASE as i64) as i32
}
/// Numbers of variables; see [`Vars`].
pub const TODO: usize = 0;
/// How many of each kind were made.
pub const MADE: usize = KINDS;
/// See [`Vars::done`].
pub const DONE: usize = 2 * KINDS;
/// See [`Vars::spin`].
pub const SPIN: usize = DONE + 1;
/// See [`Vars::gap`].
pub const GAP: usize = DONE + 2;
/// See [`Vars::touch`].
pub const NEXT_TOUCH: usize = DONE + 3;
/// See [`Vars::out_port`].
pub const OUT_PORT: usize = DONE + 4;
/// See [`Vars::in_port`].
pub const IN_PORT: usize = DONE + 5;
/// See [`Vars::msr_read`].
pub const READ_MSR: usize = DONE + 6;
/// See [`Vars::msr_written`].
pub const WRITTEN_MSR: usize = DONE + 7;
/// See [`Vars::read_only`].
pub const READ_ONLY_PAGE: usize = DONE + 8;
/// See [`Vars::stay`].
pub const LOOP: usize = DONE + 9;
/// See [`Vars::halted`].
pub const HALTED: usize = DONE + 10;
/// See [`Vars::spun`].
pub const SPUN: usize = DONE + 12;
/// See [`Vars::guest`].
pub const GUEST: usize = DONE + 14;
/// See [`Vars::looped`].
pub const LOOPED: usize = DONE + 16;
/// See [`Vars::dirty`].
pub const NEXT_DIRTY: usize = DONE + 18;
/// See [`Vars::doorbell`].
pub const DOORBELL_AT: usize = DONE + 19;
/// See [`Vars::walk`].
pub const NEXT_WALK: usize = DONE + 20;
/// See [`Vars::mmio`].
pub const MMIO_AT: usize = DONE + 21;
/// See [`Vars::exec`].
pub const NEXT_EXEC: usize = DONE + 22;
/// See [`Vars::timer_ns`].
pub const TIMER_NS: usize = DONE + 23;
/// See [`Vars::timer_ticks`].
pub const TIMER_TICKS: usize = DONE + 24;
/// See [`Vars::next_apic`].
pub const NEXT_APIC: usize = DONE + 25;
/// See [`Vars::sends_first`].
pub const SENDS_FIRST: usize = DONE + 26;
/// See [`Vars::waits`].
pub const WAITS: usize = DONE + 27;
/// See [`Vars::starts`].
pub const STARTS: usize = DONE + 28;
/// See [`Vars::came`].
pub const CAME: usize = DONE + 29;
/// See [`Vars::handled`].
pub const HANDLED: usize = CAME + HANDLERS;
/// Variables, of four bytes each.
const WORDS: usize = HANDLED + HANDLERS;
/// Bytes of all variables.
pub const VARS: usize = 4 * WORDS;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The next page to dirty, a guest physical address.
    pub dirty: u32,
    /// The address that rings.
    pub doorbell: u32,
    /// The next linear address that needs a page table.
    pub walk: u32,
    /// The address without memory.
    pub mmio: u32,
    /// The next huge page to execute, a guest physical address.
    pub exec: u32,
    /// How long a timer runs, in nanoseconds, which are the ticks of KVM's APIC.
    pub timer_ns: u32,
    /// How long, in ticks of the time stamp counter.
    pub timer_ticks: u32,
    /// The APIC of the vCPU that inter-processor interrupts go to.
    pub next_apic: u32,
    /// 1 where it sends one before it waits for one.
    pub sends_first: u32,
    /// HLT instructions in which it waited for an interrupt.
    pub waits: u32,
    /// How often the periodic timer was started.
    pub starts: u32,
    /// Interrupts that came and were not waited for yet, by [`super::irqs::HANDLED`].
    pub came: [u32; HANDLERS],
    /// Interrupts and exceptions that were handled since the start.
    pub handled: [u32; HANDLERS],
    /// From before each halt inside KVM to after it.
    pub halted: u64,
    /// From the beginning of each computation to its end.
    pub spun: u64,
    /// The part of it without steps of the clock of `gap` or more.
    pub guest: u64,
    /// From before the instruction that it stays on to after it.
    pub looped: u64,
}

impl Default for Vars {
    /// All 0, as the memory is that nobody has written.
    fn default() -> Self {
        Self::from_bytes(&[0; VARS])
    }
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
        let last = [
            self.dirty,
            self.doorbell,
            self.walk,
            self.mmio,
            self.exec,
            self.timer_ns,
            self.timer_ticks,
            self.next_apic,
            self.sends_first,
            self.waits,
            self.starts,
        ];
        let mut bytes = [0; VARS];
        let halves = halves.as_flattened();
        let words = self.todo.iter().chain(&self.made).chain(&single).chain(halves).chain(&last);
        let words = words.chain(&self.came).chain(&self.handled);
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
            dirty: next(),
            doorbell: next(),
            walk: next(),
            mmio: next(),
            exec: next(),
            timer_ns: next(),
            timer_ticks: next(),
            next_apic: next(),
            sends_first: next(),
            waits: next(),
            starts: next(),
            came: std::array::from_fn(|_| next()),
            handled: std::array::from_fn(|_| next()),
        }
    }
}

const _: () = assert!(
    MEMORY <= EXEC && EXEC + EXEC_PAGES * HUGE_PAGE <= MMIO && DOORBELL + PAGE <= READ_ONLY
);
const _: () = assert!(
    SLOT[1] + PAGE <= DIRTY
        && EXEC.is_multiple_of(HUGE_PAGE)
        && DIRTY + DIRTY_PAGES * PAGE <= REGION
);
const _: () = assert!(REGION * MAX_VCPUS as u64 <= 3 << 30 && NO_APIC > MAX_VCPUS);
const _: () = assert!(DIRECTORY > DATA && DIRECTORY + PAGE <= TOUCH);
const _: () = assert!(WALK_LINEAR + WALK_TABLES * (4 << 20) < IOAPIC_WINDOW);
const _: () = assert!(VARS as u64 <= PAGE && STARTS + 1 == CAME);

#[cfg(test)]
mod tests {
    use super::*;

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
            dirty: 0x1c0_0000,
            doorbell: 0x180_8000,
            walk: 0xc000_0000,
            mmio: 0x180_0000,
            exec: 0x140_0000,
            timer_ns: 1_000_000,
            timer_ticks: 2_000_000,
            next_apic: 7,
            sends_first: 1,
            waits: 6,
            starts: 3,
            came: std::array::from_fn(|index| index as u32),
            handled: std::array::from_fn(|index| 100 + index as u32),
        };
        let bytes = vars.to_bytes();
        assert_eq!(Vars::from_bytes(&bytes), vars);
        assert_eq!(bytes[4 * MADE], 0, "little endian, at its place");
        assert_eq!(bytes[4 * DONE], 1);
        assert_eq!(bytes[4 * HALTED], 8, "the low half first");
        assert_eq!(bytes[4 * LOOPED + 5], 1);
        assert_eq!((bytes[4 * WAITS], bytes[4 * HANDLED]), (6, 100));
        assert_eq!(made_at(Op::Cpuid), 4 * KINDS as u64);
    }

    #[test]
    fn displacements_reach_every_variable() {
        assert_eq!((var(0), var(32), var(64)), (-128, 0, 128));
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
        assert_eq!((WALK % STRIDE, DIRECTORY % STRIDE), (0, 0));
        for apart in [MMIO, READ_ONLY, DIRTY] {
            assert_eq!(apart % (2 << 20), 0, "a page table of its own");
        }
    }
}
