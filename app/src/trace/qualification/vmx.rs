//! VMX. Exit qualification: SDM vol. 3 27.2.1 and its tables; IDT-vectoring information: 24.9.3.

use super::{Io, bit, exception, named, register};
use crate::model::detail::KeyClass;
use crate::trace::keys;

/// In words. `vectoring` is the IDT-vectoring information: bit 31 says that there is one.
pub(super) fn words(code: u32, qualification: u64, vectoring: u64) -> Vec<String> {
    let mut words = of_exit(code, qualification);
    if bit(vectoring, 31) {
        words.push(format!("while {} was delivered", event(vectoring)));
    }
    words
}

fn of_exit(code: u32, qualification: u64) -> Vec<String> {
    match code {
        // One field for two exceptions; which it was stands in the interruption information.
        0 if qualification != 0 => {
            vec![format!("{qualification:#x}: the address of a #PF, or the causes of a #DB")]
        }
        4 => vec![format!("start-up vector {:#x}", qualification & 0xff)],
        9 => task_switch(qualification),
        14 => vec![format!("linear address {qualification:#x}")],
        // Instructions with an operand in memory.
        19 | 21 | 22 | 23 | 25 | 27 | 46 | 47 | 50 | 53 | 58 | 63 | 64 if qualification != 0 => {
            vec![format!("operand's displacement {qualification:#x}")]
        }
        28 => control_register(qualification),
        29 => debug_register(qualification),
        30 => Io {
            port: qualification >> 16 & 0xffff,
            bytes: match qualification & 7 {
                0 => Some(1),
                1 => Some(2),
                3 => Some(4),
                _ => None,
            },
            is_in: bit(qualification, 3),
            is_string: bit(qualification, 4),
            is_repeated: bit(qualification, 5),
        }
        .words_with(if bit(qualification, 6) {
            "port in the instruction"
        } else {
            "port in DX"
        }),
        33 => match qualification {
            2 => vec!["loading the PDPTEs failed".into()],
            3 => vec!["an NMI was to be injected while blocked by STI".into()],
            4 => vec!["the VMCS link pointer is invalid".into()],
            _ => Vec::new(),
        },
        34 => vec![format!("entry {qualification} of the MSR load area")],
        36 if bit(qualification, 0) => vec!["monitoring was armed".into()],
        44 => apic_access(qualification),
        45 => vec![format!("vector {:#x}", qualification & 0xff)],
        48 => ept_violation(qualification),
        56 => vec![apic_register("written", qualification)],
        62 if bit(qualification, 12) => vec!["IRET had unblocked NMIs".into()],
        75 if bit(qualification, 0) => vec!["the VM's context is lost".into()],
        84 => vec![named("MSR", KeyClass::MsrRead, qualification & 0xffff_ffff)],
        85 => vec![named("MSR", KeyClass::MsrWrite, qualification & 0xffff_ffff)],
        _ => Vec::new(),
    }
}

impl Io {
    fn words_with(&self, last: &str) -> Vec<String> {
        let mut words = self.words();
        // String instructions always take DX, and the field says nothing then.
        if !self.is_string {
            words.push(last.to_owned());
        }
        words
    }
}

/// Table 27-6.
fn ept_violation(qualification: u64) -> Vec<String> {
    let list = |names: [(u32, &'static str); 3]| -> Vec<&'static str> {
        names.into_iter().filter(|(at, _)| bit(qualification, *at)).map(|(_, name)| name).collect()
    };
    let mut words: Vec<String> =
        list([(0, "read"), (1, "write"), (2, "fetch")]).into_iter().map(str::to_owned).collect();
    let permitted = list([(3, "read"), (4, "write"), (5, "fetch")]);
    words.push(if permitted.is_empty() {
        "page not mapped".into()
    } else {
        format!("page permits {}", permitted.join(", "))
    });
    words.push(
        match (bit(qualification, 7), bit(qualification, 8)) {
            (true, true) => "guest's final address",
            (true, false) => "guest's page walk",
            (false, _) => "no guest linear address",
        }
        .into(),
    );
    for (at, word) in [
        (12, "IRET had unblocked NMIs"),
        (13, "shadow stack"),
        (15, "guest-paging verification"),
        (16, "asynchronous"),
    ] {
        if bit(qualification, at) {
            words.push(word.into());
        }
    }
    words
}

/// Table 27-3.
fn control_register(qualification: u64) -> Vec<String> {
    let (number, register) = (qualification & 15, register(qualification, 8));
    match qualification >> 4 & 3 {
        0 => vec![format!("CR{number} written"), format!("from {register}")],
        1 => vec![format!("CR{number} read"), format!("to {register}")],
        2 => vec!["CLTS".into()],
        _ => vec![
            format!("LMSW {:#x}", qualification >> 16 & 0xffff),
            if bit(qualification, 6) { "from memory".into() } else { "from a register".into() },
        ],
    }
}

/// Table 27-4.
fn debug_register(qualification: u64) -> Vec<String> {
    let (number, register) = (qualification & 7, register(qualification, 8));
    if bit(qualification, 4) {
        vec![format!("DR{number} read"), format!("to {register}")]
    } else {
        vec![format!("DR{number} written"), format!("from {register}")]
    }
}

/// Table 27-2.
fn task_switch(qualification: u64) -> Vec<String> {
    let by = ["CALL", "IRET", "JMP", "a task gate"][(qualification >> 30 & 3) as usize];
    vec![format!("to TSS selector {:#x}", qualification & 0xffff), format!("by {by}")]
}

/// Table 27-7.
fn apic_access(qualification: u64) -> Vec<String> {
    let how = match qualification >> 12 & 15 {
        0 => "read",
        1 => "written",
        2 => "fetched from",
        3 => "accessed during event delivery",
        10 => "accessed during event delivery, by physical address",
        15 => "accessed by physical address",
        _ => "accessed",
    };
    vec![apic_register(how, qualification)]
}

/// "LAPIC TPR (0x80) written".
fn apic_register(how: &str, qualification: u64) -> String {
    let offset = qualification & 0xfff;
    let name = keys::name(KeyClass::MmioWrite, 0xfee0_0000 + offset)
        .unwrap_or(std::borrow::Cow::Borrowed("LAPIC"));
    format!("{name} ({offset:#x}) {how}")
}

/// What was being delivered to the guest.
fn event(vectoring: u64) -> String {
    let vector = vectoring & 0xff;
    match vectoring >> 8 & 7 {
        0 => format!("interrupt {vector:#x}"),
        2 => "an NMI".into(),
        4 => format!("INT {vector:#x}"),
        3 | 5 | 6 => exception(vector),
        _ => format!("event {vector:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ept_violation_says_what_was_tried_and_what_was_permitted() {
        assert_eq!(words(48, 0x182, 0), ["write", "page not mapped", "guest's final address"]);
        assert_eq!(
            words(48, 0x1aa, 0),
            ["write", "page permits read, fetch", "guest's final address"]
        );
        assert_eq!(words(48, 0x081, 0), ["read", "page not mapped", "guest's page walk"]);
        assert_eq!(words(48, 0x004, 0), ["fetch", "page not mapped", "no guest linear address"]);
        assert_eq!(words(48, 0x1_1183, 0).len(), 6);
        assert_eq!(words(49, 0, 0), Vec::<String>::new());
    }

    #[test]
    fn an_io_instruction_says_its_port_its_size_and_how() {
        assert_eq!(
            words(30, 0x0608_000b, 0),
            ["in", "port 0x608 (ACPI PM timer)", "4 bytes", "port in DX"]
        );
        assert_eq!(
            words(30, 0x0080_0040, 0),
            ["out", "port 0x80 (POST code)", "1 byte", "port in the instruction"]
        );
        assert_eq!(
            words(30, 0xc000_0031, 0),
            ["out", "port 0xc000", "2 bytes", "string (OUTS)", "REP"]
        );
    }

    #[test]
    fn registers_are_named_with_their_direction() {
        assert_eq!(words(28, 0x103, 0), ["CR3 written", "from RCX"]);
        assert_eq!(words(28, 0x018, 0), ["CR8 read", "to RAX"]);
        assert_eq!(words(28, 0x20, 0), ["CLTS"]);
        assert_eq!(words(28, 0x000f_0070, 0), ["LMSW 0xf", "from memory"]);
        assert_eq!(words(29, 0xf17, 0), ["DR7 read", "to R15"]);
        assert_eq!(words(29, 0x007, 0), ["DR7 written", "from RAX"]);
    }

    #[test]
    fn the_apic_s_register_is_named() {
        assert_eq!(words(44, 0x1080, 0), ["LAPIC TPR (0x80) written"]);
        assert_eq!(words(44, 0x390, 0), ["LAPIC timer current count (0x390) read"]);
        assert_eq!(words(56, 0x300, 0), ["LAPIC ICR (0x300) written"]);
        assert_eq!(words(45, 0x31, 0), ["vector 0x31"]);
    }

    #[test]
    fn the_rest() {
        assert_eq!(words(9, 0x8000_0028, 0), ["to TSS selector 0x28", "by JMP"]);
        assert_eq!(words(14, 0xffff_8000_0000_1000, 0), ["linear address 0xffff800000001000"]);
        assert_eq!(words(85, 0x6e0, 0), ["MSR 0x6e0 (TSC_DEADLINE)"]);
        assert_eq!(words(12, 0, 0), Vec::<String>::new());
        assert_eq!(words(0, 0, 0), Vec::<String>::new());
    }

    #[test]
    fn what_was_being_delivered_is_said_when_there_was_something() {
        assert_eq!(
            words(48, 0x181, 0x8000_030e).last().map(String::as_str),
            Some("while #PF page fault was delivered")
        );
        assert_eq!(
            words(49, 0, 0x8000_00ec),
            ["while interrupt 0xec was delivered"],
            "the guest's own vector: not the host's timer"
        );
        assert_eq!(words(49, 0, 0x30e), Vec::<String>::new());
    }
}
