//! Names of exit reasons: the running kernel's own, over a table of all that are known.
//!
//! The kernel's own names come first, because a person compares them with what `perf kvm` and
//! trace-cmd print on that host. The built-in table fills what this kernel's table lacks (it is
//! often behind its own header) and serves where tracefs cannot be read.

use super::builtin;
use super::format::Format;
use super::symbols::{Table, tables};
use crate::model::ids::Isa;
use crate::model::session::ReasonNames;
use kvmscope_shared::column::{ISA_SVM, ISA_VMX, SVM_EXIT_MSR, SVM_MSR_WRITE};
use std::collections::BTreeMap;

/// The names for a kernel whose `kvm_exit` and `kvm_userspace_exit` have these formats; `None`
/// where a format could not be read.
///
/// All names are in upper case and without the prefixes `EXIT_REASON_`, `SVM_EXIT_` and
/// `KVM_EXIT_`.
pub fn from_print_fmt(exit: Option<&Format>, userspace: Option<&Format>) -> ReasonNames {
    let mut names = built_in();
    let exit_tables = exit.map(|format| tables(&format.print_fmt)).unwrap_or_default();
    // `(REC->isa == 1) ? TABLE : TABLE`. Other architectures have a kvm_exit too, with tables of
    // other things; without the comparison a table is not taken for one of these.
    if let [first, second, ..] = exit_tables.as_slice() {
        match isa_compared(first.before) {
            Some(ISA_VMX) => {
                lay_over(&mut names.vmx, first);
                lay_over(&mut names.svm, second);
            }
            Some(ISA_SVM) => {
                lay_over(&mut names.svm, first);
                lay_over(&mut names.vmx, second);
            }
            _ => {}
        }
    }
    let userspace_tables = userspace.map(|format| tables(&format.print_fmt)).unwrap_or_default();
    if let Some(table) = userspace_tables.first() {
        lay_over(&mut names.userspace, table);
    }
    split_svm_msr(&mut names.svm);
    names
}

/// The names that are known without asking the kernel.
pub fn built_in() -> ReasonNames {
    let mut svm = builtin::svm();
    split_svm_msr(&mut svm);
    ReasonNames { vmx: builtin::vmx(), svm, userspace: builtin::userspace() }
}

/// SVM has one exit for both accesses to an MSR, and KVM one name; here they are two reasons.
fn split_svm_msr(names: &mut BTreeMap<u32, String>) {
    names.insert(SVM_EXIT_MSR, "MSR_READ".to_owned());
    names.insert(SVM_MSR_WRITE, "MSR_WRITE".to_owned());
}

/// Words for the flag bits of an exit reason ([`kvmscope_shared::column::split_reason`]), highest
/// bit first. Only VMX has any; a bit without a meaning is named by its number.
pub fn flag_words(isa: Isa, flags: u32) -> Vec<&'static str> {
    if isa != Isa::Vmx {
        return Vec::new();
    }
    let named = (16u32..32).zip(builtin::VMX_FLAGS).rev();
    named.filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, word)| word).collect()
}

/// N of the last `isa == N` in a text.
fn isa_compared(text: &str) -> Option<u32> {
    let (_, after) = text.rsplit_once("isa")?;
    let number = after.trim_start().strip_prefix("==")?.trim_start();
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

fn lay_over(names: &mut BTreeMap<u32, String>, table: &Table<'_>) {
    for (code, name) in &table.entries {
        let name = bare(name);
        if !name.is_empty() {
            names.insert(*code, name);
        }
    }
}

/// Upper case, without the kernel's prefix.
fn bare(name: &str) -> String {
    let name = name.trim().to_ascii_uppercase();
    for prefix in ["EXIT_REASON_", "SVM_EXIT_", "KVM_EXIT_"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return rest.to_owned();
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Reason;
    use crate::trace::fixtures::{self, KERNELS};
    use proptest::prelude::*;

    fn of(kernel: &str) -> ReasonNames {
        from_print_fmt(
            Some(&fixtures::format(kernel, "kvm_exit")),
            Some(&fixtures::format(kernel, "kvm_userspace_exit")),
        )
    }

    fn format_with(print_fmt: &str) -> Format {
        Format { name: "x".into(), id: 1, fields: Vec::new(), print_fmt: print_fmt.into() }
    }

    #[test]
    fn every_kernel_names_the_usual_exits() {
        for kernel in KERNELS {
            let names = of(kernel);
            for (isa, code, name) in [
                (Isa::Vmx, 1, "EXTERNAL_INTERRUPT"),
                (Isa::Vmx, 12, "HLT"),
                (Isa::Vmx, 30, "IO_INSTRUCTION"),
                (Isa::Vmx, 48, "EPT_VIOLATION"),
                (Isa::Vmx, 49, "EPT_MISCONFIG"),
                (Isa::Vmx, 85, "MSR_WRITE_IMM"),
                (Isa::Svm, 0, "READ_CR0"),
                (Isa::Svm, 0x4e, "PF EXCP"),
                (Isa::Svm, 0x60, "INTERRUPT"),
                (Isa::Svm, 0x78, "HLT"),
                (Isa::Svm, 0x7b, "IO"),
                (Isa::Svm, 0x7c, "MSR_READ"),
                (Isa::Svm, 0xa6, "IDLE-HALT"),
                (Isa::Svm, 0x400, "NPF"),
                (Isa::Svm, 0x403, "VMGEXIT"),
                (Isa::Svm, u32::MAX, "INVALID_GUEST_STATE"),
            ] {
                assert_eq!(names.name(Reason::exit(isa, code)), name, "{kernel} {isa:?} {code:#x}");
            }
            for (code, name) in
                [(2, "IO"), (5, "HLT"), (6, "MMIO"), (10, "INTR"), (30, "X86_WRMSR")]
            {
                assert_eq!(names.name(Reason::userspace(code)), name, "{kernel} {code}");
            }
            // Behind the end of the kernel's own table.
            assert_eq!(names.name(Reason::userspace(39)), "MEMORY_FAULT", "{kernel}");
        }
    }

    /// A table of ours that says something else than the kernel would make two hosts differ.
    #[test]
    fn the_built_in_table_says_what_every_kernel_says() {
        for kernel in KERNELS {
            assert_eq!(of(kernel), built_in(), "{kernel}");
        }
    }

    #[test]
    fn the_built_in_table_has_no_holes_where_kvm_has_none() {
        let names = built_in();
        // Reserved in the manual (SDM appendix C): no processor makes them.
        let reserved = [35, 38, 42, 71, 82, 83];
        for code in (0..=85).filter(|code| !reserved.contains(code)) {
            assert!(names.vmx.contains_key(&code), "VMX {code}");
        }
        for code in (0..=0xa6).chain(0x400..=0x403) {
            assert!(names.svm.contains_key(&code), "SVM {code:#x}");
        }
        for code in 0..=40 {
            assert!(names.userspace.contains_key(&code), "KVM_EXIT {code}");
        }
    }

    #[test]
    fn names_are_short_and_without_surprises() {
        let ReasonNames { vmx, svm, userspace } = built_in();
        for name in vmx.values().chain(svm.values()).chain(userspace.values()) {
            let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || " _-".contains(c);
            assert!(!name.is_empty() && name.chars().all(plain), "{name:?}");
            assert!(name.len() <= 26, "{name:?}");
        }
    }

    #[test]
    fn the_kernels_own_name_wins() {
        let exit = format_with(
            r#"(REC->isa == 1) ? __print_symbolic(REC->exit_reason, { 12, "EXIT_REASON_NAP" }) : __print_symbolic(REC->exit_reason, { 0x078, "SVM_EXIT_doze" })"#,
        );
        let userspace = format_with(r#"__print_symbolic(REC->reason, { 5, "KVM_EXIT_" "REST" })"#);
        let names = from_print_fmt(Some(&exit), Some(&userspace));
        assert_eq!(names.vmx[&12], "NAP");
        assert_eq!(names.svm[&0x78], "DOZE");
        assert_eq!(names.userspace[&5], "REST");
        assert_eq!(names.vmx[&10], "CPUID", "the others stay");
    }

    #[test]
    fn tables_that_are_not_chosen_by_isa_are_not_taken() {
        let arm = format_with(
            r#""%s", __print_symbolic(REC->ret, { 0, "IRQ" }), __print_symbolic(REC->ec, { 1, "WFx" })"#,
        );
        assert_eq!(from_print_fmt(Some(&arm), None), built_in());
        let swapped = format_with(
            r#"(REC->isa == 2) ? __print_symbolic(r, { 1, "s" }) : __print_symbolic(r, { 1, "v" })"#,
        );
        let names = from_print_fmt(Some(&swapped), None);
        assert_eq!((names.svm[&1].as_str(), names.vmx[&1].as_str()), ("S", "V"));
    }

    #[test]
    fn flags_are_words() {
        assert_eq!(flag_words(Isa::Vmx, 0x8000_0000), ["FAILED_VMENTRY"]);
        assert_eq!(flag_words(Isa::Vmx, 0x0c00_0000), ["ENCLAVE", "BUS_LOCK"]);
        assert_eq!(flag_words(Isa::Vmx, 0x0001_0000), ["BIT_16"]);
        assert!(flag_words(Isa::Vmx, 0).is_empty());
        assert!(flag_words(Isa::Svm, u32::MAX).is_empty());
    }

    proptest! {
        #[test]
        fn any_print_fmt_leaves_the_built_in_codes_named(text in "(?s).{0,300}") {
            let format = format_with(&text);
            let names = from_print_fmt(Some(&format), Some(&format));
            prop_assert!(names.vmx.len() >= built_in().vmx.len());
        }
    }
}
