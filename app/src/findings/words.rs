//! Keys and instruction pointers in the words of findings.

use crate::model::detail::KeyClass;
use crate::model::ids::Reason;
use crate::model::tick::OpenExit;
use crate::trace::keys;

/// A key as a person says it: "port 0x608 (ACPI PM timer), read".
pub fn thing(class: KeyClass, value: u64) -> String {
    let (before, after) = match class {
        KeyClass::PortIn => ("port ", ", read"),
        KeyClass::PortOut => ("port ", ", written"),
        KeyClass::MmioRead => ("address ", ", read"),
        KeyClass::MmioWrite => ("address ", ", written"),
        KeyClass::MmioFast => ("doorbell ", ""),
        KeyClass::MsrRead => ("MSR ", ", read"),
        KeyClass::MsrWrite => ("MSR ", ", written"),
        KeyClass::Cpuid => ("CPUID leaf ", ""),
        KeyClass::CrRead => ("", ", read"),
        KeyClass::CrWrite => ("", ", written"),
        KeyClass::Hypercall => ("hypercall ", ""),
        KeyClass::HvHypercall => ("Hyper-V hypercall ", ""),
        KeyClass::Vector => ("vector ", ""),
        KeyClass::Page => ("guest page ", ""),
        KeyClass::Rip => return rip(value),
        KeyClass::Fault => ("page fault ", ""),
        KeyClass::XenHypercall => ("Xen hypercall ", ""),
        KeyClass::Root => ("MMU root ", ""),
        KeyClass::DirtySlot => ("slot ", ", written"),
        KeyClass::DirtyPage => ("guest page ", ", written"),
        KeyClass::VcpuLoad => ("loaded on CPU ", ""),
        KeyClass::DirtyLog => ("dirty log ", ""),
        KeyClass::Injected => ("interrupt ", ""),
        KeyClass::Exception => ("exception ", ""),
        KeyClass::Eoi => ("end of interrupt ", ""),
        KeyClass::Ipi => ("IPI ", ", sent"),
        KeyClass::Delivered => ("interrupt ", ", delivered"),
        KeyClass::OnCpu => ("on CPU ", ""),
    };
    let name = keys::name(class, value).map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{before}{}{name}{after}", keys::number(class, value))
}

/// The same in few columns, direction first: "in 0x608 ACPI PM timer".
pub fn short(class: KeyClass, value: u64) -> String {
    let verb = match class {
        KeyClass::PortIn => "in ",
        KeyClass::PortOut => "out ",
        KeyClass::MmioRead | KeyClass::CrRead => "read ",
        KeyClass::MmioWrite | KeyClass::CrWrite => "write ",
        KeyClass::MmioFast => "doorbell ",
        KeyClass::MsrRead => "rdmsr ",
        KeyClass::MsrWrite => "wrmsr ",
        KeyClass::Cpuid => "leaf ",
        KeyClass::Hypercall => "hypercall ",
        KeyClass::HvHypercall => "Hyper-V ",
        KeyClass::Vector => "vector ",
        KeyClass::Page => "page ",
        KeyClass::Rip => return rip(value),
        KeyClass::Fault => "fault ",
        KeyClass::XenHypercall => "Xen ",
        KeyClass::Root => "root ",
        KeyClass::DirtySlot => "slot ",
        KeyClass::DirtyPage => "dirty ",
        KeyClass::VcpuLoad => "CPU ",
        KeyClass::DirtyLog => "log ",
        KeyClass::Injected => "irq ",
        KeyClass::Exception => "exception ",
        KeyClass::Eoi => "EOI ",
        KeyClass::Ipi => "IPI ",
        KeyClass::Delivered => "to ",
        KeyClass::OnCpu => "CPU ",
    };
    let name = keys::name(class, value).map(|name| format!(" {name}")).unwrap_or_default();
    format!("{verb}{}{name}", keys::number(class, value))
}

/// Where the upper half of the address space begins, which x86-64 kernels keep to themselves.
const UPPER_HALF: u64 = 1 << 63;

/// An instruction pointer, and whose half of the address space it is in.
pub fn rip(rip: u64) -> String {
    let half = if rip >= UPPER_HALF { "kernel half" } else { "user half" };
    format!("RIP {rip:#x} ({half})")
}

/// An exit that has not ended: its name where one is known, and its instruction pointer.
pub fn open_exit(name: Option<&str>, open: &OpenExit) -> String {
    format!("{} at {}", reason(name, open.reason), rip(open.rip))
}

/// A reason's name, or its number.
pub fn reason(name: Option<&str>, reason: Reason) -> String {
    name.map_or_else(|| format!("exit {:#x}", reason.code), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_has_its_direction_and_an_unknown_one_its_number() {
        assert_eq!(thing(KeyClass::PortOut, 0xabc1), "port 0xabc1, written");
        assert_eq!(short(KeyClass::PortOut, 0xabc1), "out 0xabc1");
        assert!(short(KeyClass::MsrWrite, 0x6e0).starts_with("wrmsr 0x6e0 "));
        assert_eq!(thing(KeyClass::CrWrite, 3), "CR3 (page table root), written");
        assert_eq!(thing(KeyClass::Rip, 0x40_1000), "RIP 0x401000 (user half)");
        assert!(rip(0xffff_ffff_8100_0000).ends_with("(kernel half)"));
    }
}
