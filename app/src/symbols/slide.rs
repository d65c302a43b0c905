//! How far a guest's kernel has moved its text (KASLR), found from where it exits.
//!
//! The kernel's text may begin at any multiple of 2 MiB within 1 GiB (`CONFIG_PHYSICAL_ALIGN`,
//! `KERNEL_IMAGE_SIZE`; arch/x86/boot/compressed/kaslr.c). For each such place, the functions are
//! looked up in which the guest exited. An exit for HLT must have been in one of the few functions
//! that halt, one for an MSR in one that reads or writes MSRs, and so on: only the right place puts
//! most exits into such functions. Exits that any code may make (faults, interrupts) say nothing.

use super::table::Table;
use crate::model::ids::{Isa, Kind, Reason};
use std::collections::BTreeMap;
use std::fmt;

/// What to take from an address of the guest to have one of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset(pub i64);

impl Offset {
    /// An address of the guest as the file has it.
    pub fn undo(self, rip: u64) -> u64 {
        rip.wrapping_sub_signed(self.0)
    }

    /// Whether it applies to an address: KASLR moves the kernel's text within its range and nothing
    /// else; modules lie behind and move by themselves.
    pub fn applies(self, rip: u64) -> bool {
        self.0 == 0 || TEXT.contains(&rip) == TEXT.contains(&self.undo(rip))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

/// Where Linux may put its text: the top 2 GiB, of which it uses the first for itself.
const TEXT: std::ops::Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;
/// What its place is a multiple of.
const STEP: u64 = 2 << 20;
/// Functions that exit on purpose are short.
const MAX_FUNCTION: u64 = 2 << 10;
/// Fewest different instructions that must be where they belong. One or two are, at some of the 512
/// places, by accident: with one function in a hundred that has such a name, at five of them one is.
const LEAST: usize = 3;
/// Most instructions that are looked up.
const MOST: usize = 128;

/// Whether a function of this name makes such exits; `None` where any code may.
fn belongs(reason: Reason, name: &str) -> Option<bool> {
    let one_of = |parts: &[&str]| Some(parts.iter().any(|part| name.contains(part)));
    match (reason.kind, reason.isa, reason.code) {
        // HLT.
        (Kind::Exit, Isa::Vmx, 12) | (Kind::Exit, Isa::Svm, 0x78 | 0xa6) => one_of(&[
            "safe_halt",
            "native_halt",
            "default_idle",
            "acpi_idle",
            "enter_idle",
            "idle_hlt",
            "play_dead",
            "stop_this_cpu",
            "kvm_wait",
        ]),
        // RDMSR, WRMSR.
        (Kind::Exit, Isa::Vmx, 31 | 32 | 84 | 85) | (Kind::Exit, Isa::Svm, 0x7c | 0x1_007c) => {
            one_of(&["msr", "x2apic_", "lapic_next_deadline", "apic_eoi"])
        }
        // CPUID.
        (Kind::Exit, Isa::Vmx, 10) | (Kind::Exit, Isa::Svm, 0x72) => {
            one_of(&["cpuid", "sync_core", "cpu_detect", "get_cpu_cap", "identify_cpu"])
        }
        // IN, OUT.
        (Kind::Exit, Isa::Vmx, 30) | (Kind::Exit, Isa::Svm, 0x7b) => one_of(&[
            "io_delay",
            "acpi_pm_read",
            "acpi_os_read_port",
            "acpi_os_write_port",
            "acpi_hw_",
            "pci_conf1_",
            "io_serial_",
            "cmos_",
            "8259A",
            "i8253",
            "pit_",
            "ioread",
            "iowrite",
            "i8042_",
            "ata_sff_",
            "vga_",
            "fw_cfg_",
            "vp_legacy_",
        ]),
        // MMIO on Intel. AMD has one reason for it and for every other fault.
        (Kind::Exit, Isa::Vmx, 49) => one_of(&[
            "hpet",
            "ioread",
            "iowrite",
            "apic",
            "pci_mmcfg_",
            "fromio",
            "toio",
            "vp_notify",
            "vp_modern_",
            "vm_notify",
            "vm_interrupt",
            "nvme_",
            "xhci_",
            "ahci_",
            "e1000_",
        ]),
        // VMCALL.
        (Kind::Exit, Isa::Vmx, 18) | (Kind::Exit, Isa::Svm, 0x81) => {
            one_of(&["kvm_", "hypercall", "hv_", "send_ipi"])
        }
        // MONITOR, MWAIT.
        (Kind::Exit, Isa::Vmx, 36 | 39) | (Kind::Exit, Isa::Svm, 0x8a | 0x8b) => {
            one_of(&["mwait", "intel_idle", "acpi_idle", "play_dead"])
        }
        // Debug registers, WBINVD, XSETBV.
        (Kind::Exit, Isa::Vmx, 29) => one_of(&["debugreg", "hw_breakpoint"]),
        (Kind::Exit, Isa::Vmx, 54) | (Kind::Exit, Isa::Svm, 0x89) => one_of(&["wbinvd"]),
        (Kind::Exit, Isa::Vmx, 55) | (Kind::Exit, Isa::Svm, 0x8d) => one_of(&["fpu", "xsetbv"]),
        _ => None,
    }
}

/// Instructions that tell something: in the kernel's text, of a reason that few functions have.
/// The most frequent ones, with what each counts for.
fn telling(exits: &[(u64, Reason, u64)]) -> Vec<(u64, Reason, u64)> {
    let mut seen: BTreeMap<(u64, Reason), u64> = BTreeMap::new();
    for &(rip, reason, count) in exits {
        if count > 0 && TEXT.contains(&rip) && belongs(reason, "").is_some() {
            let seen = seen.entry((rip, reason)).or_default();
            *seen = seen.saturating_add(count);
        }
    }
    let mut found: Vec<_> =
        seen.into_iter().map(|((rip, reason), count)| (rip, reason, count)).collect();
    found.sort_by_key(|&(rip, _, count)| (std::cmp::Reverse(count), rip));
    found.truncate(MOST);
    // By its logarithm: a guest that halts a million times must not outvote all else it does.
    for (_, _, count) in &mut found {
        *count = u64::from(count.ilog2()) + 1;
    }
    found
}

/// The weight of what is where it belongs, and how many different instructions that is.
fn score(table: &Table, telling: &[(u64, Reason, u64)], offset: Offset) -> (u64, usize) {
    let (mut weight, mut rips) = (0, Vec::new());
    for &(rip, reason, each) in telling {
        let there = table
            .name(offset.undo(rip))
            .filter(|(_, behind)| *behind < MAX_FUNCTION)
            .and_then(|(name, _)| belongs(reason, name));
        if there == Some(true) {
            weight += each;
            rips.push(rip);
        }
    }
    rips.sort_unstable();
    rips.dedup();
    (weight, rips.len())
}

/// The offset under which most exits were in functions that make them; (address, reason, count).
/// `None` where nothing stands out: too few exits that tell, another kernel's file, or two places
/// that would do.
pub fn find_offset(table: &Table, exits: &[(u64, Reason, u64)]) -> Option<Offset> {
    let first = table.first_from(TEXT.start).filter(|first| TEXT.contains(first))?;
    let telling = telling(exits);
    let all: u64 = telling.iter().map(|(_, _, each)| each).sum();
    let (mut best, mut second) = ((0, 0, Offset::default()), 0);
    let base = first & !(STEP - 1);
    for place in TEXT.step_by(STEP as usize) {
        let offset = Offset(place.wrapping_sub(base) as i64);
        let (weight, rips) = score(table, &telling, offset);
        if weight > best.0 {
            second = best.0;
            best = (weight, rips, offset);
        } else {
            second = second.max(weight);
        }
    }
    let (weight, rips, offset) = best;
    (rips >= LEAST && weight * 2 > all && second * 2 < weight).then_some(offset)
}

/// Whether an offset still holds: not when exits that tell were mostly elsewhere, as after the
/// guest has booted again. `true` where too little is known to say.
pub fn still_holds(table: &Table, exits: &[(u64, Reason, u64)], offset: Offset) -> bool {
    let telling = telling(exits);
    let all: u64 = telling.iter().map(|(_, _, each)| each).sum();
    telling.len() <= LEAST || score(table, &telling, offset).0 * 4 >= all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel of 20 000 functions of 256 bytes, some of which exit.
    fn kernel() -> Table {
        let mut text = String::new();
        for nth in 0..20_000u64 {
            let name = match nth {
                4_711 => "native_safe_halt".to_owned(),
                9_002 => "native_write_msr".to_owned(),
                9_003 => "native_read_msr".to_owned(),
                12_345 => "acpi_pm_read".to_owned(),
                15_000 => "native_cpuid".to_owned(),
                _ => format!("function_{nth}"),
            };
            text.push_str(&format!("{:x} T {name}\n", BASE + 256 * nth));
        }
        Table::from_bytes(text.as_bytes()).expect("symbols")
    }

    const BASE: u64 = 0xffff_ffff_8100_0000;
    const HALT: Reason = Reason::exit(Isa::Vmx, 12);
    const WRITE: Reason = Reason::exit(Isa::Vmx, 32);
    const PORT: Reason = Reason::exit(Isa::Vmx, 30);
    const FAULT: Reason = Reason::exit(Isa::Vmx, 48);

    fn at(nth: u64, behind: u64, slide: i64) -> u64 {
        (BASE + 256 * nth + behind).wrapping_add_signed(slide)
    }

    fn idle_guest(slide: i64) -> Vec<(u64, Reason, u64)> {
        vec![
            (at(4_711, 3, slide), HALT, 90_000),
            (at(9_002, 9, slide), WRITE, 90_000),
            (at(12_345, 12, slide), PORT, 12),
            (at(77, 1, slide), FAULT, 500),
            (0x7f12_3456_7000, FAULT, 3),
        ]
    }

    #[test]
    fn the_offset_is_found_wherever_the_kernel_is() {
        let table = kernel();
        for slide in [0, 0x20_0000, 0x1c80_0000, 0x3e00_0000, -0x100_0000] {
            assert_eq!(find_offset(&table, &idle_guest(slide)), Some(Offset(slide)), "{slide:#x}");
        }
    }

    #[test]
    fn nothing_is_guessed_from_too_little() {
        let table = kernel();
        assert_eq!(find_offset(&table, &[]), None);
        assert_eq!(find_offset(&table, &idle_guest(0)[..1]), None);
        assert_eq!(find_offset(&table, &idle_guest(0)[..2]), None);
        assert_eq!(find_offset(&Table::default(), &idle_guest(0)), None);
        let faults: Vec<_> = (0..100).map(|nth| (at(nth, 5, 0), FAULT, 10)).collect();
        assert_eq!(find_offset(&table, &faults), None);
        let user: Vec<_> = (0..100).map(|nth| (0x40_0000 + nth, HALT, 10)).collect();
        assert_eq!(find_offset(&table, &user), None);
    }

    #[test]
    fn another_kernel_s_file_is_not_believed() {
        // Exits all over the text: for every place some happen to fit, for none most do.
        let exits: Vec<_> = (0..100u64)
            .map(|n| (BASE + n * 7_919 * 41, [HALT, WRITE, PORT][n as usize % 3], 10))
            .collect();
        assert_eq!(find_offset(&kernel(), &exits), None);
    }

    #[test]
    fn two_places_that_would_do_are_none() {
        // The same functions once more, 2 MiB behind.
        let mut text = String::new();
        for (at, name) in
            [(0x100, "default_idle"), (0x900, "native_write_msr"), (0xa00, "native_read_msr")]
        {
            text.push_str(&format!("{:x} T {name}\n", BASE + at));
            text.push_str(&format!("{:x} T {name}\n", BASE + STEP + at));
            text.push_str(&format!("{:x} T other_{name}\n", BASE + at + 0x40));
        }
        let table = Table::from_bytes(text.as_bytes()).expect("symbols");
        let exit = |behind, reason| (BASE + STEP + behind, reason, 9);
        let exits = [exit(0x104, HALT), exit(0x908, WRITE), exit(0xa08, WRITE)];
        assert_eq!(score(&table, &telling(&exits), Offset(0)).1, 3);
        assert_eq!(score(&table, &telling(&exits), Offset(STEP as i64)).1, 3);
        assert_eq!(find_offset(&table, &exits), None);
    }

    #[test]
    fn a_guest_that_boots_again_is_noticed() {
        let table = kernel();
        let exits = idle_guest(0x20_0000);
        let more = [(at(9_003, 2, 0x20_0000), Reason::exit(Isa::Vmx, 31), 5)];
        let exits: Vec<_> = exits.into_iter().chain(more).collect();
        assert!(still_holds(&table, &exits, Offset(0x20_0000)));
        assert!(!still_holds(&table, &exits, Offset(0x40_0000)));
        assert!(still_holds(&table, &exits[..1], Offset(0x40_0000)), "too little to say");
    }

    #[test]
    fn offsets_are_written_as_they_are_given() {
        assert_eq!(Offset(0x1c80_0000).to_string(), "0x1c800000");
        assert_eq!(Offset(-0x20_0000).to_string(), "-0x200000");
        assert_eq!(Offset(-0x10).undo(0x20), 0x30);
    }
}
