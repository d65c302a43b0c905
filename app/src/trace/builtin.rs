//! Exit reasons by number, up to Linux 7.3: what the kernel prints, in upper case, and where it
//! prints nothing the manual's word in the kernel's style.
//!
//! Numbers: VMX from Intel's SDM volume 3, appendix C; SVM from AMD's APM volume 2, appendix C;
//! userspace exits from include/uapi/linux/kvm.h.

use std::collections::BTreeMap;

/// VMX basic exit reasons. 35, 38, 42, 71, 82 and 83 are reserved.
const VMX: [(u32, &str); 80] = [
    (0, "EXCEPTION_NMI"),
    (1, "EXTERNAL_INTERRUPT"),
    (2, "TRIPLE_FAULT"),
    (3, "INIT_SIGNAL"),
    (4, "SIPI_SIGNAL"),
    (5, "IO_SMI"),
    (6, "OTHER_SMI"),
    (7, "INTERRUPT_WINDOW"),
    (8, "NMI_WINDOW"),
    (9, "TASK_SWITCH"),
    (10, "CPUID"),
    (11, "GETSEC"),
    (12, "HLT"),
    (13, "INVD"),
    (14, "INVLPG"),
    (15, "RDPMC"),
    (16, "RDTSC"),
    (17, "RSM"),
    (18, "VMCALL"),
    (19, "VMCLEAR"),
    (20, "VMLAUNCH"),
    (21, "VMPTRLD"),
    (22, "VMPTRST"),
    (23, "VMREAD"),
    (24, "VMRESUME"),
    (25, "VMWRITE"),
    (26, "VMOFF"),
    (27, "VMON"),
    (28, "CR_ACCESS"),
    (29, "DR_ACCESS"),
    (30, "IO_INSTRUCTION"),
    (31, "MSR_READ"),
    (32, "MSR_WRITE"),
    (33, "INVALID_STATE"),
    (34, "MSR_LOAD_FAIL"),
    (36, "MWAIT_INSTRUCTION"),
    (37, "MONITOR_TRAP_FLAG"),
    (39, "MONITOR_INSTRUCTION"),
    (40, "PAUSE_INSTRUCTION"),
    (41, "MCE_DURING_VMENTRY"),
    (43, "TPR_BELOW_THRESHOLD"),
    (44, "APIC_ACCESS"),
    (45, "EOI_INDUCED"),
    (46, "GDTR_IDTR"),
    (47, "LDTR_TR"),
    (48, "EPT_VIOLATION"),
    (49, "EPT_MISCONFIG"),
    (50, "INVEPT"),
    (51, "RDTSCP"),
    (52, "PREEMPTION_TIMER"),
    (53, "INVVPID"),
    (54, "WBINVD"),
    (55, "XSETBV"),
    (56, "APIC_WRITE"),
    (57, "RDRAND"),
    (58, "INVPCID"),
    (59, "VMFUNC"),
    (60, "ENCLS"),
    (61, "RDSEED"),
    (62, "PML_FULL"),
    (63, "XSAVES"),
    (64, "XRSTORS"),
    (65, "PCONFIG"),
    (66, "SPP_EVENT"),
    (67, "UMWAIT"),
    (68, "TPAUSE"),
    (69, "LOADIWKEY"),
    (70, "ENCLV"),
    (72, "ENQCMD_PASID"),
    (73, "ENQCMDS_PASID"),
    (74, "BUS_LOCK"),
    (75, "NOTIFY"),
    (76, "SEAMCALL"),
    (77, "TDCALL"),
    (78, "RDMSRLIST"),
    (79, "WRMSRLIST"),
    (80, "URDMSR"),
    (81, "UWRMSR"),
    (84, "MSR_READ_IMM"),
    (85, "MSR_WRITE_IMM"),
];

/// Bits 16 to 31 of a VMX exit reason (SDM table "format of exit reason"), from the lowest.
pub const VMX_FLAGS: [&str; 16] = [
    "BIT_16",
    "BIT_17",
    "BIT_18",
    "BIT_19",
    "BIT_20",
    "BIT_21",
    "BIT_22",
    "BIT_23",
    "BIT_24",
    "SHADOW_STACK_BUSY",
    "BUS_LOCK",
    "ENCLAVE",
    "PENDING_MTF",
    "VMX_ROOT",
    "BIT_30",
    "FAILED_VMENTRY",
];

/// SVM codes that are not one of a row by number. "RT" for the task register and "IDLE-HALT" are
/// the kernel's spelling.
const SVM: [(u32, &str); 70] = [
    (0x60, "INTERRUPT"),
    (0x61, "NMI"),
    (0x62, "SMI"),
    (0x63, "INIT"),
    (0x64, "VINTR"),
    (0x65, "CR0_SEL_WRITE"),
    (0x66, "READ_IDTR"),
    (0x67, "READ_GDTR"),
    (0x68, "READ_LDTR"),
    (0x69, "READ_RT"),
    (0x6a, "WRITE_IDTR"),
    (0x6b, "WRITE_GDTR"),
    (0x6c, "WRITE_LDTR"),
    (0x6d, "WRITE_RT"),
    (0x6e, "RDTSC"),
    (0x6f, "RDPMC"),
    (0x70, "PUSHF"),
    (0x71, "POPF"),
    (0x72, "CPUID"),
    (0x73, "RSM"),
    (0x74, "IRET"),
    (0x75, "SWINT"),
    (0x76, "INVD"),
    (0x77, "PAUSE"),
    (0x78, "HLT"),
    (0x79, "INVLPG"),
    (0x7a, "INVLPGA"),
    (0x7b, "IO"),
    (0x7c, "MSR"),
    (0x7d, "TASK_SWITCH"),
    (0x7e, "FERR_FREEZE"),
    (0x7f, "SHUTDOWN"),
    (0x80, "VMRUN"),
    (0x81, "HYPERCALL"),
    (0x82, "VMLOAD"),
    (0x83, "VMSAVE"),
    (0x84, "STGI"),
    (0x85, "CLGI"),
    (0x86, "SKINIT"),
    (0x87, "RDTSCP"),
    (0x88, "ICEBP"),
    (0x89, "WBINVD"),
    (0x8a, "MONITOR"),
    (0x8b, "MWAIT"),
    (0x8c, "MWAIT_COND"),
    (0x8d, "XSETBV"),
    (0x8e, "RDPRU"),
    (0x8f, "WRITE_EFER_TRAP"),
    (0xa0, "INVLPGB"),
    (0xa1, "INVLPGB_ILLEGAL"),
    (0xa2, "INVPCID"),
    (0xa3, "MCOMMIT"),
    (0xa4, "TLBSYNC"),
    (0xa5, "BUSLOCK"),
    (0xa6, "IDLE-HALT"),
    (0x400, "NPF"),
    (0x401, "AVIC_INCOMPLETE_IPI"),
    (0x402, "AVIC_UNACCELERATED_ACCESS"),
    (0x403, "VMGEXIT"),
    // What an SEV-ES guest asked for, which KVM handles under these numbers.
    (0x8000_0001, "VMGEXIT_MMIO_READ"),
    (0x8000_0002, "VMGEXIT_MMIO_WRITE"),
    (0x8000_0003, "VMGEXIT_NMI_COMPLETE"),
    (0x8000_0004, "VMGEXIT_AP_HLT_LOOP"),
    (0x8000_0005, "VMGEXIT_AP_JUMP_TABLE"),
    (0x8000_0010, "VMGEXIT_PAGE_STATE_CHANGE"),
    (0x8000_0011, "VMGEXIT_GUEST_REQUEST"),
    (0x8000_0012, "VMGEXIT_EXT_GUEST_REQUEST"),
    (0x8000_0013, "VMGEXIT_AP_CREATION"),
    (0x8000_fffd, "VMGEXIT_HYPERVISOR_FEATURE"),
    (u32::MAX, "INVALID_GUEST_STATE"),
];

/// Exceptions by vector, the names the manual gives them. 15 and 22 to 27 are reserved.
const EXCEPTIONS: [&str; 32] = [
    "DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9", "TS", "NP", "SS", "GP", "PF", "15",
    "MF", "AC", "MC", "XF", "VE", "CP", "22", "23", "24", "25", "26", "27", "HV", "VC", "SX", "31",
];

/// `KVM_EXIT_*`, from 0.
const USERSPACE: [&str; 43] = [
    "UNKNOWN",
    "EXCEPTION",
    "IO",
    "HYPERCALL",
    "DEBUG",
    "HLT",
    "MMIO",
    "IRQ_WINDOW_OPEN",
    "SHUTDOWN",
    "FAIL_ENTRY",
    "INTR",
    "SET_TPR",
    "TPR_ACCESS",
    "S390_SIEIC",
    "S390_RESET",
    "DCR",
    "NMI",
    "INTERNAL_ERROR",
    "OSI",
    "PAPR_HCALL",
    "S390_UCONTROL",
    "WATCHDOG",
    "S390_TSCH",
    "EPR",
    "SYSTEM_EVENT",
    "S390_STSI",
    "IOAPIC_EOI",
    "HYPERV",
    "ARM_NISV",
    "X86_RDMSR",
    "X86_WRMSR",
    "DIRTY_RING_FULL",
    "AP_RESET_HOLD",
    "X86_BUS_LOCK",
    "XEN",
    "RISCV_SBI",
    "RISCV_CSR",
    "NOTIFY",
    "LOONGARCH_IOCSR",
    "MEMORY_FAULT",
    "TDX",
    "ARM_SEA",
    "SNP_REQ_CERTS",
];

/// VMX exit reasons.
pub fn vmx() -> BTreeMap<u32, String> {
    owned(&VMX)
}

/// SVM exit codes.
pub fn svm() -> BTreeMap<u32, String> {
    let mut names = owned(&SVM);
    for n in 0..16 {
        names.insert(n, format!("READ_CR{n}"));
        names.insert(0x10 + n, format!("WRITE_CR{n}"));
        names.insert(0x20 + n, format!("READ_DR{n}"));
        names.insert(0x30 + n, format!("WRITE_DR{n}"));
        names.insert(0x90 + n, format!("WRITE_CR{n}_TRAP"));
    }
    for (code, name) in (0x40..).zip(EXCEPTIONS) {
        names.insert(code, format!("{name} EXCP"));
    }
    names
}

/// Userspace exits.
pub fn userspace() -> BTreeMap<u32, String> {
    (0..).zip(USERSPACE.map(str::to_owned)).collect()
}

fn owned(table: &[(u32, &str)]) -> BTreeMap<u32, String> {
    table.iter().map(|&(code, name)| (code, name.to_owned())).collect()
}
