//! Names of the reasons that invented guests exit for.

use crate::model::session::ReasonNames;

/// Names as a Linux kernel prints them (arch/x86/include/uapi/asm/vmx.h, linux/kvm.h), of the
/// reasons that plans use.
pub fn names() -> ReasonNames {
    let table =
        |names: &[(u32, &str)]| names.iter().map(|&(code, name)| (code, name.to_owned())).collect();
    ReasonNames {
        vmx: table(&[
            (0, "EXCEPTION_NMI"),
            (1, "EXTERNAL_INTERRUPT"),
            (7, "INTERRUPT_WINDOW"),
            (10, "CPUID"),
            (12, "HLT"),
            (18, "VMCALL"),
            (28, "CR_ACCESS"),
            (29, "DR_ACCESS"),
            (30, "IO_INSTRUCTION"),
            (31, "MSR_READ"),
            (32, "MSR_WRITE"),
            (40, "PAUSE_INSTRUCTION"),
            (44, "APIC_ACCESS"),
            (45, "EOI_INDUCED"),
            (48, "EPT_VIOLATION"),
            (49, "EPT_MISCONFIG"),
            (52, "PREEMPTION_TIMER"),
            (54, "WBINVD"),
            (55, "XSETBV"),
            (56, "APIC_WRITE"),
        ]),
        svm: table(&[(0x72, "CPUID"), (0x78, "HLT"), (0x7b, "IO"), (0x400, "NPF")]),
        userspace: table(&[(2, "IO"), (5, "HLT"), (6, "MMIO"), (10, "INTR")]),
    }
}
