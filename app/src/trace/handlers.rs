//! Which function of KVM handles an exit reason: where to look in the kernel's source, and what to
//! name to a tracer.
//!
//! From `kvm_vmx_exit_handlers` (arch/x86/kvm/vmx/vmx.c) and `svm_exit_handlers`
//! (arch/x86/kvm/svm/svm.c) of 6.18. KVM's fast path takes some exits before (writes of ICR and
//! TSC_DEADLINE, the preemption timer, from 6.12 on HLT), and other kernels name a few otherwise.

use crate::model::ids::{Isa, Kind, Reason};
use kvmscope_shared::column::hardware_code;

/// The handler of a kernel exit; `None` for userspace exits and for reasons that KVM has none for.
pub fn handler(reason: Reason) -> Option<&'static str> {
    let table: &[(u32, &str)] = match (reason.kind, reason.isa) {
        (Kind::Exit, Isa::Vmx) => VMX,
        // All eight debug registers have the one.
        (Kind::Exit, Isa::Svm) if matches!(reason.code, 0x20..=0x27 | 0x30..=0x37) => {
            return Some("dr_interception");
        }
        (Kind::Exit, Isa::Svm) => SVM,
        _ => return None,
    };
    let code = hardware_code(reason.code);
    table.iter().find(|(known, _)| *known == code).map(|(_, handler)| *handler)
}

const VMX: &[(u32, &str)] = &[
    (0, "handle_exception_nmi"),
    (1, "handle_external_interrupt"),
    (2, "handle_triple_fault"),
    (7, "handle_interrupt_window"),
    (8, "handle_nmi_window"),
    (9, "handle_task_switch"),
    (10, "kvm_emulate_cpuid"),
    (12, "kvm_emulate_halt"),
    (13, "kvm_emulate_invd"),
    (14, "handle_invlpg"),
    (15, "kvm_emulate_rdpmc"),
    (18, "kvm_emulate_hypercall"),
    // With nested virtualization each has its own: handle_vmclear, handle_vmlaunch, and so on.
    (19, "handle_vmx_instruction"),
    (20, "handle_vmx_instruction"),
    (21, "handle_vmx_instruction"),
    (22, "handle_vmx_instruction"),
    (23, "handle_vmx_instruction"),
    (24, "handle_vmx_instruction"),
    (25, "handle_vmx_instruction"),
    (26, "handle_vmx_instruction"),
    (27, "handle_vmx_instruction"),
    (28, "handle_cr"),
    (29, "handle_dr"),
    (30, "handle_io"),
    (31, "kvm_emulate_rdmsr"),
    (32, "kvm_emulate_wrmsr"),
    (36, "kvm_emulate_mwait"),
    (37, "handle_monitor_trap"),
    (39, "kvm_emulate_monitor"),
    (40, "handle_pause"),
    (41, "handle_machine_check"),
    (43, "handle_tpr_below_threshold"),
    (44, "handle_apic_access"),
    (45, "handle_apic_eoi_induced"),
    (46, "handle_desc"),
    (47, "handle_desc"),
    (48, "handle_ept_violation"),
    (49, "handle_ept_misconfig"),
    (50, "handle_vmx_instruction"),
    (52, "handle_preemption_timer"),
    (53, "handle_vmx_instruction"),
    (54, "kvm_emulate_wbinvd"),
    (55, "kvm_emulate_xsetbv"),
    (56, "handle_apic_write"),
    (57, "kvm_handle_invalid_op"),
    (58, "handle_invpcid"),
    (59, "handle_vmx_instruction"),
    (60, "handle_encls"),
    (61, "kvm_handle_invalid_op"),
    (62, "handle_pml_full"),
    (74, "handle_bus_lock_vmexit"),
    (75, "handle_notify"),
    (76, "handle_tdx_instruction"),
    (77, "handle_tdx_instruction"),
    (84, "handle_rdmsr_imm"),
    (85, "handle_wrmsr_imm"),
];

const SVM: &[(u32, &str)] = &[
    (0x00, "cr_interception"),
    (0x03, "cr_interception"),
    (0x04, "cr_interception"),
    (0x08, "cr_interception"),
    (0x10, "cr_interception"),
    (0x13, "cr_interception"),
    (0x14, "cr_interception"),
    (0x18, "cr8_write_interception"),
    (0x41, "db_interception"),
    (0x43, "bp_interception"),
    (0x46, "ud_interception"),
    (0x4d, "gp_interception"),
    (0x4e, "pf_interception"),
    (0x51, "ac_interception"),
    (0x52, "mc_interception"),
    (0x60, "intr_interception"),
    (0x61, "nmi_interception"),
    (0x62, "smi_interception"),
    (0x63, "kvm_emulate_as_nop"),
    (0x64, "interrupt_window_interception"),
    (0x65, "cr_interception"),
    (0x6f, "kvm_emulate_rdpmc"),
    (0x72, "kvm_emulate_cpuid"),
    (0x73, "rsm_interception"),
    (0x74, "iret_interception"),
    (0x76, "kvm_emulate_invd"),
    (0x77, "pause_interception"),
    (0x78, "kvm_emulate_halt"),
    (0x79, "invlpg_interception"),
    (0x7a, "invlpga_interception"),
    (0x7b, "io_interception"),
    (0x7c, "msr_interception"),
    (0x7d, "task_switch_interception"),
    (0x7f, "shutdown_interception"),
    (0x80, "vmrun_interception"),
    (0x81, "kvm_emulate_hypercall"),
    (0x82, "vmload_interception"),
    (0x83, "vmsave_interception"),
    (0x84, "stgi_interception"),
    (0x85, "clgi_interception"),
    (0x86, "skinit_interception"),
    (0x87, "kvm_handle_invalid_op"),
    (0x89, "kvm_emulate_wbinvd"),
    (0x8a, "kvm_emulate_monitor"),
    (0x8b, "kvm_emulate_mwait"),
    (0x8d, "kvm_emulate_xsetbv"),
    (0x8e, "kvm_handle_invalid_op"),
    (0x8f, "efer_trap"),
    (0x90, "cr_trap"),
    (0x94, "cr_trap"),
    (0x98, "cr_trap"),
    (0xa2, "invpcid_interception"),
    (0xa5, "bus_lock_exit"),
    (0xa6, "kvm_emulate_halt"),
    (0x400, "npf_interception"),
    (0x401, "avic_incomplete_ipi_interception"),
    (0x402, "avic_unaccelerated_access_interception"),
    (0x403, "sev_handle_vmgexit"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::names;
    use kvmscope_shared::column::SVM_MSR_WRITE;

    #[test]
    fn both_vendors_have_theirs() {
        assert_eq!(handler(Reason::exit(Isa::Vmx, 49)), Some("handle_ept_misconfig"));
        assert_eq!(handler(Reason::exit(Isa::Svm, 0x400)), Some("npf_interception"));
        assert_eq!(handler(Reason::exit(Isa::Svm, SVM_MSR_WRITE)), Some("msr_interception"));
        assert_eq!(handler(Reason::exit(Isa::Vmx, 0x2_0000)), None);
        assert_eq!(handler(Reason::userspace(2)), None);
        assert_eq!(handler(Reason::exit(Isa::Vmx, 20)), Some("handle_vmx_instruction"));
        assert_eq!(handler(Reason::exit(Isa::Svm, 0x37)), Some("dr_interception"));
        assert_eq!(handler(Reason::exit(Isa::Svm, 0x28)), None);
    }

    #[test]
    fn every_handled_reason_has_a_name_and_stands_once() {
        let names = names::built_in();
        for (table, known) in [(VMX, &names.vmx), (SVM, &names.svm)] {
            for (i, (code, _)) in table.iter().enumerate() {
                assert!(known.contains_key(code), "{code:#x}");
                assert!(table[..i].iter().all(|(other, _)| other < code), "{code:#x}");
            }
        }
    }
}
