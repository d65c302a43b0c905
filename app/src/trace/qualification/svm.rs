//! SVM. EXITINFO1 and EXITINFO2: AMD APM vol. 2 15.7 to 15.13, 15.25.6 (NPF), 15.29.9 (AVIC), and
//! appendix C; what decode assists add: 15.10 and 15.33.

use super::{Io, bit, exception, register};
use crate::model::detail::KeyClass;
use crate::trace::keys;

/// In words.
pub(super) fn words(code: u32, info1: u64, info2: u64) -> Vec<String> {
    match code {
        0x00..=0x0f => moved(format!("CR{code} read"), "to", info1),
        0x10..=0x1f => moved(format!("CR{} written", code - 0x10), "from", info1),
        0x20..=0x2f => {
            vec![format!("DR{} read", code - 0x20), format!("to {}", register(info1, 0))]
        }
        0x30..=0x3f => {
            vec![format!("DR{} written", code - 0x30), format!("from {}", register(info1, 0))]
        }
        0x4e => page_fault(info1, info2),
        0x40..=0x5f => of_exception(u64::from(code - 0x40), info1),
        0x65 => moved("CR0 written".into(), "from", info1),
        0x75 if info1 != 0 => vec![format!("INT {:#x}", info1 & 0xff)],
        0x79 if info1 != 0 => vec![format!("linear address {info1:#x}")],
        0x7b => Io {
            port: info1 >> 16 & 0xffff,
            bytes: [(4, 1), (5, 2), (6, 4)]
                .into_iter()
                .find_map(|(at, bytes)| bit(info1, at).then_some(bytes)),
            is_in: bit(info1, 0),
            is_string: bit(info1, 2),
            is_repeated: bit(info1, 3),
        }
        .words(),
        0x7c => vec![if bit(info1, 0) { "write".into() } else { "read".into() }],
        0x7d => task_switch(info1, info2),
        0xa2 => vec![format!("type {info2}"), format!("descriptor at {info1:#x}")],
        0x400 => nested_page_fault(info1, info2),
        0x401 => incomplete_ipi(info1, info2),
        0x402 => vec![unaccelerated(info1)],
        _ => Vec::new(),
    }
}

/// A move from or to a control register; with decode assists bit 63 says that it was a MOV, and
/// the low bits which register. Without them the field is 0.
fn moved(what: String, direction: &str, info1: u64) -> Vec<String> {
    if bit(info1, 63) {
        vec![what, format!("{direction} {}", register(info1, 0))]
    } else {
        vec![what]
    }
}

/// Exceptions besides #PF; EXITINFO1 is the error code where the exception has one.
fn of_exception(vector: u64, info1: u64) -> Vec<String> {
    let mut words = vec![exception(vector)];
    if matches!(vector, 8 | 10..=13 | 17 | 21 | 29 | 30) {
        words.push(format!("error code {info1:#x}"));
    }
    words
}

/// The access of an error code, and what was wrong with the page.
fn access(error: u64) -> Vec<String> {
    let what = match (bit(error, 4), bit(error, 1)) {
        (true, _) => "fetch",
        (_, true) => "write",
        _ => "read",
    };
    let mut words = vec![what.to_owned()];
    words.push(if bit(error, 0) { "page mapped".into() } else { "page not mapped".into() });
    words
}

/// #PF of the guest, APM vol. 2 8.4.2.
fn page_fault(error: u64, address: u64) -> Vec<String> {
    let mut words = access(error);
    words.push(if bit(error, 2) { "user".into() } else { "supervisor".into() });
    for (at, word) in
        [(3, "reserved bit set"), (5, "protection key"), (6, "shadow stack"), (31, "RMP")]
    {
        if bit(error, at) {
            words.push(word.into());
        }
    }
    words.push(format!("linear address {address:#x}"));
    words
}

/// NPF, APM vol. 2 15.25.6; the high bits as the kernel's `PFERR_GUEST_*`.
fn nested_page_fault(error: u64, address: u64) -> Vec<String> {
    let mut words = access(error);
    for (at, word) in [
        (2, "user access"),
        (3, "reserved bit set (KVM's mark of MMIO)"),
        (6, "shadow stack"),
        (31, "RMP"),
        (32, "guest's final address"),
        (33, "guest's page walk"),
        (34, "encrypted"),
        (35, "page size of the RMP"),
        (36, "VMPL"),
        (37, "supervisor shadow stack"),
    ] {
        if bit(error, at) {
            words.push(word.into());
        }
    }
    words.push(format!("guest address {address:#x}"));
    words
}

/// APM vol. 2 15.14.1.
fn task_switch(info1: u64, info2: u64) -> Vec<String> {
    let by = match (bit(info2, 36), bit(info2, 38)) {
        (true, _) => "by IRET",
        (_, true) => "by JMP",
        _ => "by CALL or an interrupt",
    };
    let mut words = vec![format!("to TSS selector {:#x}", info1 & 0xffff), by.to_owned()];
    if bit(info2, 44) {
        words.push(format!("error code {:#x}", info2 & 0xffff_ffff));
    }
    words
}

/// APM vol. 2 15.29.9.1.
fn incomplete_ipi(info1: u64, info2: u64) -> Vec<String> {
    let why = match info2 >> 32 {
        0 => "an interrupt of this type is not accelerated",
        1 => "target not running",
        2 => "invalid target",
        3 => "invalid backing page",
        4 => "invalid vector",
        _ => "of unknown cause",
    };
    vec![
        why.to_owned(),
        format!("vector {:#x}", info1 & 0xff),
        format!("destination {:#x}", info1 >> 32),
    ]
}

/// APM vol. 2 15.29.9.2.
fn unaccelerated(info1: u64) -> String {
    let offset = info1 & 0xff0;
    let name = keys::name(KeyClass::MmioWrite, 0xfee0_0000 + offset)
        .unwrap_or(std::borrow::Cow::Borrowed("LAPIC"));
    format!("{name} ({offset:#x}) {}", if bit(info1, 32) { "written" } else { "read" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_page_fault_says_what_and_where() {
        assert_eq!(
            words(0x400, 0x1_0000_0006, 0x7fe0_1000),
            [
                "write",
                "page not mapped",
                "user access",
                "guest's final address",
                "guest address 0x7fe01000"
            ]
        );
        assert_eq!(
            words(0x400, 0x2_0000_0005, 0x1000)[..3],
            ["read", "page mapped", "user access"]
        );
        assert!(words(0x400, 0x2_0000_0005, 0).contains(&"guest's page walk".to_owned()));
        assert_eq!(words(0x400, 0x10, 0)[0], "fetch");
        assert!(words(0x400, 0x4_0000_000d, 0).contains(&"encrypted".to_owned()));
    }

    #[test]
    fn an_io_instruction_says_its_port_its_size_and_how() {
        assert_eq!(words(0x7b, 0x0071_0011, 0), ["in", "port 0x71 (RTC data)", "1 byte"]);
        assert_eq!(words(0x7b, 0x03f8_0020, 0), ["out", "port 0x3f8 (COM1 data)", "2 bytes"]);
        assert_eq!(words(0x7b, 0x01f0_004d, 0)[2..], ["4 bytes", "string (INS)", "REP"]);
    }

    #[test]
    fn registers_are_named_with_and_without_decode_assists() {
        assert_eq!(words(0x00, 0, 0), ["CR0 read"]);
        assert_eq!(words(0x13, 0x8000_0000_0000_0001, 0), ["CR3 written", "from RCX"]);
        assert_eq!(words(0x27, 0, 0), ["DR7 read", "to RAX"]);
        assert_eq!(words(0x37, 3, 0), ["DR7 written", "from RBX"]);
    }

    #[test]
    fn exceptions_have_their_error_code() {
        assert_eq!(
            words(0x4e, 0x7, 0xdead_0000),
            ["write", "page mapped", "user", "linear address 0xdead0000"]
        );
        assert_eq!(words(0x4d, 0x10, 0), ["#GP general protection", "error code 0x10"]);
        assert_eq!(words(0x46, 0x10, 0), ["#UD invalid opcode"]);
    }

    #[test]
    fn the_rest() {
        assert_eq!(words(0x7c, 0, 0), ["read"]);
        assert_eq!(words(0x7c, 1, 0), ["write"]);
        assert_eq!(words(0x7d, 0x28, 1 << 38), ["to TSS selector 0x28", "by JMP"]);
        assert_eq!(
            words(0x401, 0x3_0000_00fd, 1 << 32),
            ["target not running", "vector 0xfd", "destination 0x3"]
        );
        assert_eq!(words(0x402, 0x1_0000_0380, 0), ["LAPIC timer initial count (0x380) written"]);
        assert_eq!(words(0x78, 0, 0), Vec::<String>::new());
    }
}
