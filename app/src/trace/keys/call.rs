//! Leaves, control registers and hypercalls.

use super::table::{Run, find, from, run};
use std::borrow::Cow;

/// What a CPUID leaf is about. `leaf` without its sub-leaf.
pub(super) fn cpuid(leaf: u32) -> Option<Cow<'static, str>> {
    find(CPUID, leaf.into())
}

/// What a control register is for.
pub(super) fn control_register(number: u64) -> Option<Cow<'static, str>> {
    find(CONTROL, number)
}

/// The name of a KVM hypercall.
pub(super) fn kvm(number: u64) -> Option<Cow<'static, str>> {
    find(KVM, number)
}

/// The name of a Hyper-V hypercall.
pub(super) fn hyperv(code: u64) -> Option<Cow<'static, str>> {
    find(HYPERV, code)
}

/// The name of a Xen hypercall.
pub(super) fn xen(number: u64) -> Option<Cow<'static, str>> {
    find(XEN, number)
}

/// Intel SDM vol. 2 CPUID, AMD APM vol. 3 appendix E; hypervisors' own leaves from KVM's
/// Documentation/virt/kvm/x86/cpuid.rst and the TLFS. The sub-leaf is for the reader.
static CPUID: &[Run] = &[
    from(0x0, &["vendor and highest leaf", "features", "cache descriptors", "serial number"]),
    from(0x4, &["caches", "MONITOR/MWAIT", "power and thermal", "features 7"]),
    from(0x9, &["direct cache access", "performance monitoring", "topology"]),
    from(0xd, &["XSAVE states"]),
    from(0xf, &["resource monitoring", "resource allocation"]),
    from(0x12, &["SGX"]),
    from(0x14, &["processor trace", "TSC frequency", "CPU frequency", "SoC vendor", "TLBs"]),
    from(0x19, &["Key Locker", "hybrid core type", "PCONFIG", "last branch records"]),
    from(0x1d, &["AMX tiles", "AMX multiply", "topology v2", "HRESET"]),
    from(0x21, &["TDX"]),
    from(0x23, &["performance monitoring v2", "AVX10"]),
    from(0x4000_0000, &["hypervisor signature", "hypervisor features", "Hyper-V version"]),
    from(
        0x4000_0003,
        &["Hyper-V features", "Hyper-V recommendations", "Hyper-V limits", "Hyper-V hardware"],
    ),
    from(0x4000_000a, &["Hyper-V nested features"]),
    from(0x4000_0010, &["hypervisor clock frequencies"]),
    from(0x4000_0080, &["Hyper-V debugger", "Hyper-V debugger", "Hyper-V debugger"]),
    from(0x4000_0100, &["KVM signature", "KVM features"]),
    from(0x8000_0000, &["highest extended leaf", "extended features"]),
    run(0x8000_0002, 0x8000_0004, &["brand string"]),
    from(0x8000_0005, &["L1 caches", "L2 and L3 caches", "power management, invariant TSC"]),
    from(0x8000_0008, &["address sizes"]),
    from(0x8000_000a, &["SVM"]),
    from(0x8000_0019, &["TLBs for 1 GiB pages", "instruction optimisations", "IBS"]),
    from(0x8000_001c, &["lightweight profiling", "caches (AMD)", "topology (AMD)"]),
    from(0x8000_001f, &["memory encryption", "QoS", "extended features 2"]),
    from(0x8000_0022, &["performance monitoring (AMD)", "multi-key encryption"]),
    from(0x8000_0026, &["topology v2 (AMD)"]),
    from(0xc000_0000, &["highest Centaur leaf", "Centaur features"]),
];

static CONTROL: &[Run] = &[
    from(0, &["protection and paging"]),
    from(2, &["page fault address", "page table root", "features"]),
    from(8, &["task priority"]),
];

/// include/uapi/linux/kvm_para.h.
static KVM: &[Run] = &[
    from(1, &["VAPIC_POLL_IRQ", "MMU_OP", "FEATURES", "PPC_MAP_MAGIC_PAGE", "KICK_CPU"]),
    from(6, &["MIPS_GET_CLOCK_FREQ", "MIPS_EXIT_VM", "MIPS_CONSOLE_OUTPUT", "CLOCK_PAIRING"]),
    from(10, &["SEND_IPI", "SCHED_YIELD", "MAP_GPA_RANGE"]),
];

/// include/xen/interface/xen.h.
static XEN: &[Run] = &[
    from(0, &["set_trap_table", "mmu_update", "set_gdt", "stack_switch", "set_callbacks"]),
    from(5, &["fpu_taskswitch", "sched_op_compat", "platform_op", "set_debugreg"]),
    from(9, &["get_debugreg", "update_descriptor"]),
    from(12, &["memory_op", "multicall", "update_va_mapping", "set_timer_op"]),
    from(16, &["event_channel_op_compat", "xen_version", "console_io", "physdev_op_compat"]),
    from(20, &["grant_table_op", "vm_assist", "update_va_mapping_otherdomain", "iret"]),
    from(24, &["vcpu_op", "set_segment_base", "mmuext_op", "xsm_op", "nmi_op", "sched_op"]),
    from(30, &["callback_op", "xenoprof_op", "event_channel_op", "physdev_op", "hvm_op"]),
    from(35, &["sysctl", "domctl", "kexec_op", "tmem_op"]),
    from(40, &["xenpmu_op"]),
];

/// TLFS and include/asm-generic/hyperv-tlfs.h.
static HYPERV: &[Run] = &[
    from(0x02, &["FLUSH_VIRTUAL_ADDRESS_SPACE", "FLUSH_VIRTUAL_ADDRESS_LIST"]),
    from(0x08, &["NOTIFY_LONG_SPIN_WAIT"]),
    from(0x0b, &["SEND_IPI"]),
    from(0x0d, &["MODIFY_VTL_PROTECTION_MASK", "ENABLE_PARTITION_VTL"]),
    from(0x0f, &["ENABLE_VP_VTL"]),
    from(0x11, &["VTL_CALL", "VTL_RETURN"]),
    from(0x13, &["FLUSH_VIRTUAL_ADDRESS_SPACE_EX", "FLUSH_VIRTUAL_ADDRESS_LIST_EX"]),
    from(0x15, &["SEND_IPI_EX"]),
    from(0x46, &["GET_PARTITION_ID"]),
    from(0x48, &["DEPOSIT_MEMORY"]),
    from(0x4e, &["CREATE_VP"]),
    from(0x50, &["GET_VP_REGISTERS", "SET_VP_REGISTERS"]),
    from(0x5c, &["POST_MESSAGE", "SIGNAL_EVENT"]),
    from(0x69, &["POST_DEBUG_DATA", "RETRIEVE_DEBUG_DATA", "RESET_DEBUG_SESSION"]),
    from(0x76, &["ADD_LOGICAL_PROCESSOR"]),
    from(0x7c, &["MAP_DEVICE_INTERRUPT", "UNMAP_DEVICE_INTERRUPT"]),
    from(0x7e, &["RETARGET_INTERRUPT"]),
    from(0x99, &["START_VP", "GET_VP_ID_FROM_APIC_ID"]),
    from(0xaf, &["FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE", "FLUSH_GUEST_PHYSICAL_ADDRESS_LIST"]),
    from(0xdb, &["MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY"]),
    from(0x106, &["MMIO_READ", "MMIO_WRITE"]),
    from(0x8001, &["EXT_QUERY_CAPABILITIES"]),
    from(0x8003, &["EXT_MEMORY_HEAT_HINT"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::keys::table::assert_sound;

    #[test]
    fn the_tables_are_sorted() {
        for table in [CPUID, CONTROL, KVM, HYPERV] {
            assert_sound(table);
        }
    }

    #[test]
    fn spot_values() {
        let text = |name: Option<Cow<'static, str>>| name.map(Cow::into_owned);
        for (name, expected) in [
            (cpuid(0), "vendor and highest leaf"),
            (cpuid(7), "features 7"),
            (cpuid(0xb), "topology"),
            (cpuid(0x15), "TSC frequency"),
            (cpuid(0x1f), "topology v2"),
            (cpuid(0x4000_0000), "hypervisor signature"),
            (cpuid(0x4000_0006), "Hyper-V hardware"),
            (cpuid(0x8000_0007), "power management, invariant TSC"),
            (cpuid(0x8000_001e), "topology (AMD)"),
            (cpuid(0x8000_0021), "extended features 2"),
            (control_register(3), "page table root"),
            (control_register(8), "task priority"),
            (kvm(5), "KICK_CPU"),
            (kvm(9), "CLOCK_PAIRING"),
            (kvm(12), "MAP_GPA_RANGE"),
            (hyperv(0x5d), "SIGNAL_EVENT"),
            (hyperv(0x12), "VTL_RETURN"),
        ] {
            assert_eq!(text(name).as_deref(), Some(expected));
        }
        assert_eq!(kvm(0), None);
        assert_eq!(kvm(13), None);
        assert_eq!(cpuid(8), None);
        assert_eq!(control_register(1), None);
    }
}
