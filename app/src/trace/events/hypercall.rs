//! Hypercalls in words: KVM's (Documentation/virt/kvm/x86/hypercalls.rst), Hyper-V's (TLFS), Xen's.
//!
//! Each has numbers of its own: 5 is KICK_CPU to KVM, fpu_taskswitch to Xen.

use crate::model::detail::KeyClass;
use crate::trace::keys;
use kvmscope_shared::event::ARGS;
use std::borrow::Cow;

/// KVM's numbers (include/uapi/linux/kvm_para.h).
mod number {
    pub const VAPIC_POLL_IRQ: u64 = 1;
    pub const KICK_CPU: u64 = 5;
    pub const CLOCK_PAIRING: u64 = 9;
    pub const SEND_IPI: u64 = 10;
    pub const SCHED_YIELD: u64 = 11;
    pub const MAP_GPA_RANGE: u64 = 12;
}

/// What a hypercall is called; `None` for a number that no table has, and for classes that are none.
pub fn name(class: KeyClass, number: u64) -> Option<Cow<'static, str>> {
    match class {
        KeyClass::Hypercall | KeyClass::HvHypercall | KeyClass::XenHypercall => {
            keys::name(class, number)
        }
        _ => None,
    }
}

/// Whether nothing is known to answer it. Of KVM's own: KVM on x86 answers -ENOSYS, also to the
/// numbers that other architectures use and to those that it gave up. Of Hyper-V's and Xen's: no table
/// has its name.
pub fn is_unknown(class: KeyClass, number: u64) -> bool {
    match class {
        KeyClass::Hypercall => !matches!(
            number,
            number::VAPIC_POLL_IRQ
                | number::KICK_CPU
                | number::CLOCK_PAIRING
                | number::SEND_IPI
                | number::SCHED_YIELD
                | number::MAP_GPA_RANGE
        ),
        _ => name(class, number).is_none(),
    }
}

/// Its name, or "unknown number 99".
fn label(class: KeyClass, number: u64) -> String {
    match name(class, number) {
        // Numbers of other architectures have a name, and KVM has no answer to them.
        Some(name) if is_unknown(class, number) => {
            format!("unknown number {number} ({name} elsewhere)")
        }
        Some(name) => name.into_owned(),
        None => format!("unknown number {}", keys::number(class, number)),
    }
}

/// "SEND_IPI to 3 vCPUs, vector 0xfd".
pub(super) fn kvm(args: &[u64; ARGS]) -> String {
    let [number, a0, a1, a2, a3, _] = *args;
    let label = label(KeyClass::Hypercall, number);
    match number {
        number::KICK_CPU => format!("{label} APIC id {a1}"),
        number::CLOCK_PAIRING => format!("{label} {}", clock(a1)),
        number::SEND_IPI => {
            let targets = match ipi_targets(a0, a1, a2).len() {
                1 => "1 vCPU".to_owned(),
                n => format!("{n} vCPUs"),
            };
            format!("{label} to {targets}, {}", icr(a3))
        }
        number::SCHED_YIELD => format!("{label} to APIC id {a0}"),
        number::MAP_GPA_RANGE => format!("{label} {}", attributes(a2)),
        _ => label,
    }
}

/// The decoded arguments; of an unknown one as they are.
pub(super) fn kvm_details(args: &[u64; ARGS]) -> Vec<String> {
    let [number, a0, a1, a2, ..] = *args;
    match number {
        number::VAPIC_POLL_IRQ | number::SCHED_YIELD => Vec::new(),
        number::KICK_CPU if a0 == 0 => Vec::new(),
        number::KICK_CPU => vec![format!("flags {a0:#x}")],
        number::CLOCK_PAIRING => vec![format!("written to {a0:#x}")],
        number::SEND_IPI => vec![format!("APIC ids {}", ranges(&ipi_targets(a0, a1, a2)))],
        number::MAP_GPA_RANGE => {
            vec![format!("from {a0:#x}"), format!("{a1} pages of {}", page_size(a2))]
        }
        _ => vec![arguments(&args[1..5])],
    }
}

/// APIC ids that SEND_IPI names: two bitmaps of 64, from `min` on. A guest in 32-bit mode has bitmaps of
/// 32, which an event does not tell.
fn ipi_targets(low: u64, high: u64, min: u64) -> Vec<u64> {
    let bits = |bitmap: u64, base: u64| {
        (0..64).filter(move |at| bitmap >> at & 1 != 0).map(move |at| base + at)
    };
    bits(low, 0).chain(bits(high, 64)).map(|at| min.wrapping_add(at)).collect()
}

/// Vector and delivery mode of an interrupt command (SDM vol. 3 figure 11-12); KVM delivers fixed ones and
/// NMIs.
fn icr(icr: u64) -> String {
    match icr >> 8 & 7 {
        0 => format!("vector {:#x}", icr & 0xff),
        4 => "NMI".to_owned(),
        mode => format!("delivery mode {mode}"),
    }
}

fn clock(kind: u64) -> String {
    if kind == 0 { "wall clock".to_owned() } else { format!("clock {kind}") }
}

/// `KVM_MAP_GPA_RANGE_*` (arch/x86/include/uapi/asm/kvm_para.h).
fn attributes(attributes: u64) -> &'static str {
    if attributes >> 4 & 1 == 0 { "decrypted" } else { "encrypted" }
}

fn page_size(attributes: u64) -> &'static str {
    match attributes & 15 {
        0 => "4 KiB",
        1 => "2 MiB",
        2 => "1 GiB",
        _ => "unknown size",
    }
}

/// "0-3, 7, 9-10", in at most 60 columns.
fn ranges(ids: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &id in ids {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
            _ => runs.push((id, id)),
        }
    }
    let mut text = String::new();
    let mut shown = 0;
    for &(first, last) in &runs {
        let run = if first == last { first.to_string() } else { format!("{first}-{last}") };
        if text.len() + run.len() > 40 {
            break;
        }
        if shown > 0 {
            text.push_str(", ");
        }
        text.push_str(&run);
        shown += 1;
    }
    let left = runs.len() - shown;
    match (shown, left) {
        (0, 0) => "none".to_owned(),
        (_, 0) => text,
        (_, 1) => format!("{text} and 1 run more"),
        _ => format!("{text} and {left} runs more"),
    }
}

/// Arguments as they are: "0x1, 0x0, 0x2f".
pub(super) fn arguments(args: &[u64]) -> String {
    let mut args: Vec<u64> = args.to_vec();
    // Five of 64 bits are wider than a line.
    let wide = args.iter().map(|arg| format!("{arg:#x}").len() + 2).sum::<usize>() > 60;
    if wide {
        args.truncate(2);
    }
    let words: Vec<String> = args.iter().map(|arg| format!("{arg:#x}")).collect();
    format!("arguments {}{}", words.join(", "), if wide { ", …" } else { "" })
}

/// "FLUSH_VIRTUAL_ADDRESS_LIST, 8 repeats"; "SIGNAL_EVENT, fast".
pub(super) fn hyperv(args: &[u64; ARGS]) -> String {
    let [code, is_fast, repeats, ..] = *args;
    let label = label(KeyClass::HvHypercall, code);
    let fast = if is_fast == 0 { "" } else { ", fast" };
    match repeats as u32 {
        0 => format!("{label}{fast}"),
        count => format!("{label}{fast}, {count} repeats"),
    }
}

/// Where its input and output are; of a fast one the input itself, which its registers hold.
pub(super) fn hyperv_details(args: &[u64; ARGS]) -> Vec<String> {
    let [_, is_fast, repeats, header, input, output] = *args;
    let mut words = if is_fast != 0 {
        vec![format!("input {input:#x}, {output:#x}")]
    } else {
        vec![format!("input at {input:#x}"), format!("output at {output:#x}")]
    };
    let index = repeats >> 32;
    if index != 0 {
        words.push(format!("from repeat {index}"));
    }
    if header != 0 {
        words.push(format!("variable header {header}"));
    }
    words
}

/// "sched_op".
pub(super) fn xen(args: &[u64; ARGS]) -> String {
    label(KeyClass::XenHypercall, args[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_s_have_their_arguments() {
        assert_eq!(kvm(&[5, 0, 3, 0, 0, 0]), "KICK_CPU APIC id 3");
        assert_eq!(kvm_details(&[5, 1, 3, 0, 0, 0]), ["flags 0x1"]);
        assert_eq!(kvm(&[9, 0x5000, 0, 0, 0, 0]), "CLOCK_PAIRING wall clock");
        assert_eq!(kvm_details(&[9, 0x5000, 0, 0, 0, 0]), ["written to 0x5000"]);
        assert_eq!(kvm(&[11, 6, 0, 0, 0, 0]), "SCHED_YIELD to APIC id 6");
        let map = [12, 0x20_0000, 512, 0x10, 0, 0];
        assert_eq!(kvm(&map), "MAP_GPA_RANGE encrypted");
        assert_eq!(kvm_details(&map), ["from 0x200000", "512 pages of 4 KiB"]);
        assert_eq!(kvm(&[12, 0, 1, 1, 0, 0]), "MAP_GPA_RANGE decrypted");
        assert_eq!(kvm(&[1, 0, 0, 0, 0, 0]), "VAPIC_POLL_IRQ");
    }

    #[test]
    fn send_ipi_names_its_vcpus_and_vector() {
        let ipi = [10, 0b1011_0000, 1, 8, 0x0fd, 0];
        assert_eq!(kvm(&ipi), "SEND_IPI to 4 vCPUs, vector 0xfd");
        assert_eq!(kvm_details(&ipi), ["APIC ids 12-13, 15, 72"]);
        assert_eq!(kvm(&[10, 1, 0, 0, 0x400, 0]), "SEND_IPI to 1 vCPU, NMI");
        assert_eq!(kvm_details(&[10, 0, 0, 0, 0, 0]), ["APIC ids none"]);
        let many = [10, 0x5555_5555_5555_5555, u64::MAX, 1000, 0xfd, 0];
        assert_eq!(kvm(&many), "SEND_IPI to 96 vCPUs, vector 0xfd");
        assert_eq!(
            kvm_details(&many),
            ["APIC ids 1000, 1002, 1004, 1006, 1008, 1010, 1012 and 26 runs more"]
        );
    }

    #[test]
    fn unknown_numbers_are_flagged() {
        assert_eq!(kvm(&[99, 1, 2, 3, 4, 0]), "unknown number 99");
        assert_eq!(kvm_details(&[99, 1, 2, 3, 4, 0]), ["arguments 0x1, 0x2, 0x3, 0x4"]);
        assert_eq!(kvm(&[3, 0, 0, 0, 0, 0]), "unknown number 3 (FEATURES elsewhere)");
        assert!(is_unknown(KeyClass::Hypercall, 0));
        assert!(is_unknown(KeyClass::Hypercall, u64::MAX));
        assert_eq!(hyperv(&[0x7777, 0, 0, 0, 0, 0]), "unknown number 0x7777");
        assert_eq!(xen(&[77, 0, 0, 0, 0, 0]), "unknown number 77");
    }

    #[test]
    fn one_number_is_three_hypercalls() {
        let five = [11, 0, 0, 0, 0, 0];
        assert_eq!(kvm(&five), "SCHED_YIELD to APIC id 0");
        assert_eq!(hyperv(&five), "SEND_IPI");
        assert!(xen(&five).starts_with("unknown number 11"));
        assert_eq!(name(KeyClass::PortIn, 0x608), None);
        assert!(!is_unknown(KeyClass::XenHypercall, 29));
        assert!(!is_unknown(KeyClass::HvHypercall, 0x5d));
    }

    #[test]
    fn hyper_v_s_say_how_they_are_made() {
        assert_eq!(hyperv(&[0x5d, 1, 0, 0, 0x1001, 0]), "SIGNAL_EVENT, fast");
        assert_eq!(hyperv_details(&[0x5d, 1, 0, 0, 0x1001, 0]), ["input 0x1001, 0x0"]);
        let list = [0x03, 0, 2 << 32 | 8, 1, 0x6000, 0x7000];
        assert_eq!(hyperv(&list), "FLUSH_VIRTUAL_ADDRESS_LIST, 8 repeats");
        assert_eq!(
            hyperv_details(&list),
            ["input at 0x6000", "output at 0x7000", "from repeat 2", "variable header 1"]
        );
    }
}
