//! What an exit's qualification says, in words: VMX's exit qualification and IDT-vectoring
//! information, SVM's EXITINFO1 and EXITINFO2, as `kvm_exit` hands them on in `info1` and `info2`.

mod svm;
mod vmx;

use super::keys;
use crate::model::detail::KeyClass;
use crate::model::ids::{Isa, Kind, Reason};
use kvmscope_shared::column::hardware_code;

/// Short phrases, the most telling first; none where the exit has no qualification, or where it is
/// not known, and for userspace exits.
pub fn words(reason: Reason, info1: u64, info2: u64) -> Vec<String> {
    let code = hardware_code(reason.code);
    match (reason.kind, reason.isa) {
        (Kind::Exit, Isa::Vmx) => vmx::words(code, info1, info2),
        (Kind::Exit, Isa::Svm) => svm::words(code, info1, info2),
        _ => Vec::new(),
    }
}

/// General registers by the number that both vendors give them.
const REGISTERS: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13",
    "R14", "R15",
];

/// The register of a 4-bit field that begins at bit `low`.
fn register(info: u64, low: u32) -> &'static str {
    REGISTERS[(info >> low & 15) as usize]
}

/// Whether a bit is set.
const fn bit(info: u64, at: u32) -> bool {
    info >> at & 1 != 0
}

/// "port 0x608 (ACPI PM timer)": a key with its name where it has one.
fn named(what: &str, class: KeyClass, value: u64) -> String {
    let number = keys::number(class, value);
    match keys::name(class, value) {
        Some(name) => format!("{what} {number} ({name})"),
        None => format!("{what} {number}"),
    }
}

/// What both vendors say of an I/O instruction.
struct Io {
    port: u64,
    bytes: Option<u32>,
    is_in: bool,
    is_string: bool,
    is_repeated: bool,
}

impl Io {
    fn words(&self) -> Vec<String> {
        let (class, direction) =
            if self.is_in { (KeyClass::PortIn, "in") } else { (KeyClass::PortOut, "out") };
        let mut words = vec![direction.to_owned(), named("port", class, self.port)];
        match self.bytes {
            Some(1) => words.push("1 byte".into()),
            Some(bytes) => words.push(format!("{bytes} bytes")),
            None => {}
        }
        if self.is_string {
            words.push(if self.is_in { "string (INS)".into() } else { "string (OUTS)".into() });
        }
        if self.is_repeated {
            words.push("REP".into());
        }
        words
    }
}

/// An exception's name, or its number.
fn exception(vector: u64) -> String {
    keys::exception(vector).map_or_else(|| format!("exception {vector}"), |name| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn userspace_exits_and_unknown_ones_have_none() {
        assert_eq!(words(Reason::userspace(2), 1, 2), Vec::<String>::new());
        assert_eq!(words(Reason::exit(Isa::Vmx, 999), 1, 0), Vec::<String>::new());
        assert_eq!(words(Reason::exit(Isa::None, 30), 1, 0), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_qualification_has_words_that_are_short_and_not_empty(
            svm in any::<bool>(),
            code in prop_oneof![0..0x500u32, any::<u32>()],
            info1 in any::<u64>(),
            info2 in any::<u64>(),
        ) {
            let isa = if svm { Isa::Svm } else { Isa::Vmx };
            let words = words(Reason::exit(isa, code), info1, info2);
            prop_assert!(words.len() <= 12, "{words:?}");
            prop_assert!(words.iter().all(|word| !word.is_empty() && word.len() < 80), "{words:?}");
        }
    }
}
