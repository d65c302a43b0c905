//! Facts about the running kernel that decide which probes are used and with what offsets.
//!
//! [`gather`] is the thin impure part; [`super::plan`] decides from what it finds.

use super::btf::{Btf, KIND_FUNC, KIND_STRUCT};
use crate::trace::{self, format::Format};
use std::{collections::BTreeMap, path::Path};

/// (struct, member).
pub type Member = (&'static str, &'static str);

/// Members of vmlinux's structs that probes read.
const VMLINUX: [Member; 22] = [
    ("task_struct", "pid"),
    ("task_struct", "__state"),
    ("task_struct", "state"),
    ("task_struct", "group_leader"),
    ("task_struct", "start_boottime"),
    ("task_struct", "comm"),
    ("task_struct", "flags"),
    ("task_struct", "tgid"),
    ("task_struct", "se"),
    ("task_struct", "sched_info"),
    ("sched_entity", "cfs_rq"),
    ("sched_info", "run_delay"),
    ("sched_info", "last_queued"),
    ("cfs_rq", "rq"),
    ("rq", "clock"),
    ("task_struct", "files"),
    ("files_struct", "fdt"),
    ("fdtable", "max_fds"),
    ("fdtable", "fd"),
    ("file", "f_op"),
    ("file", "private_data"),
    ("file_operations", "unlocked_ioctl"),
];

/// Members of KVM's structs that probes read.
const KVM: [Member; 16] = [
    ("kvm_vcpu", "kvm"),
    ("kvm_vcpu", "vcpu_id"),
    ("kvm_vcpu", "arch"),
    ("kvm_vcpu_arch", "regs"),
    ("kvm_vcpu_arch", "apic"),
    ("kvm_lapic", "regs"),
    ("kvm_device", "kvm"),
    ("kvm", "arch"),
    ("kvm_arch", "apicv_inhibit_reasons"),
    ("kvm_vcpu", "stat"),
    ("kvm_vcpu_stat", "guest_mode"),
    ("kvm_memory_slot", "flags"),
    ("kvm_memory_slot", "id"),
    ("kvm_memory_slot", "as_id"),
    ("kvm_memory_slot", "base_gfn"),
    ("kvm_memory_slot", "dirty_bitmap"),
];

/// Functions whose arguments are compared before they are probed, with the module that has them.
const FUNCTIONS: [(&str, &str); 4] = [
    ("kvm", "mark_page_dirty_in_slot"),
    ("kvm", "kvm_arch_vcpu_load"),
    ("kvm_intel", "vmx_load_mmu_pgd"),
    ("kvm_amd", "svm_load_mmu_pgd"),
];
/// Where the kernel says how a function is probed.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// Members of the AMD part's structs that probes read.
const KVM_AMD: [Member; 2] = [("vcpu_svm", "vcpu"), ("vcpu_svm", "vmcb")];

/// Events of the families `detail`, `mmu`, `mmio`, `hypercall`, `halt-poll`, `irq`, `irqchip` and `timer`.
pub const DETAILS: [&str; 27] = [
    "kvm_pio",
    "kvm_mmio",
    "kvm_fast_mmio",
    "kvm_msr",
    "kvm_cpuid",
    "kvm_cr",
    "kvm_hypercall",
    "kvm_hv_hypercall",
    "kvm_xen_hypercall",
    "kvm_page_fault",
    "kvm_vcpu_wakeup",
    "kvm_inj_virq",
    "kvm_inj_exception",
    "kvm_eoi",
    "kvm_pv_eoi",
    "kvm_apic_ipi",
    "kvm_apic_accept_irq",
    "kvm_apicv_accept_irq",
    "kvm_apicv_inhibit_changed",
    "kvm_pic_set_irq",
    "kvm_ioapic_set_irq",
    "kvm_msi_set_irq",
    "kvm_set_irq",
    "kvm_halt_poll_ns",
    "kvm_hv_timer_state",
    "kvm_apic",
    "kvm_wait_lapic_expire",
];
/// Why a VM has no APIC virtualization (arch/x86/include/asm/kvm_host.h); from 5.18 or so an enumeration.
const INHIBITS: &str = "kvm_apicv_inhibit";
/// How its names begin.
const INHIBIT: &str = "APICV_INHIBIT_REASON_";

/// Events of the family `ioctl`, of the group `raw_syscalls`.
pub const SYSCALLS: [&str; 2] = ["sys_enter", "sys_exit"];

/// Numbers in vmlinux's BTF for `bpf_rdonly_cast` (6.2 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdonlyCast {
    /// The function's.
    pub function: u32,
    /// `struct pt_regs`'.
    pub pt_regs: u32,
}

/// What the plan is made from.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// (major, minor) of the release; (0, 0) when it cannot be read.
    pub version: (u32, u32),
    /// Layout of the `kvm_exit` record, or why it cannot be had.
    pub kvm_exit: Result<Format, String>,
    /// Layout of `kvm_userspace_exit`, for the names of its reasons too.
    pub kvm_userspace_exit: Result<Format, String>,
    /// Layout of `kvm_fpu`.
    pub kvm_fpu: Result<Format, String>,
    /// Layouts of [`DETAILS`], of those that could be read.
    pub details: BTreeMap<&'static str, Format>,
    /// Layouts of [`SYSCALLS`], of those that could be read.
    pub syscalls: BTreeMap<&'static str, Format>,
    /// Layout of `sched_switch`.
    pub sched_switch: Result<Format, String>,
    /// Member offsets in bytes, of those that BTF has.
    pub offsets: BTreeMap<Member, u32>,
    /// Names of the arguments of [`FUNCTIONS`], of those that BTF has.
    pub parameters: BTreeMap<&'static str, Vec<String>>,
    /// Names of the bits that inhibit APIC virtualization, of those that BTF has.
    pub inhibits: BTreeMap<u32, String>,
    /// Why functions cannot be probed at all, if that is known.
    pub no_kprobes: Option<String>,
    /// Where `bpf_rdonly_cast` is, if the kernel has it.
    pub rdonly_cast: Option<RdonlyCast>,
    /// Whether the kernel has BTF at all (`tp_btf` programs need it).
    pub btf: bool,
    /// Upper bound of thread ids (`kernel.pid_max`).
    pub pid_max: u32,
    /// CPUs that may come online.
    pub cpus: u32,
    /// vCPUs that exist now.
    pub vcpus: u32,
}

/// Reads the facts. Never fails: what cannot be read is missing, with its reason where one matters.
pub fn gather(vcpus: u32) -> Kernel {
    let format = |system: &str, event: &str| -> Result<Format, String> {
        let tracefs = trace::find().map_err(|e| e.to_string())?;
        trace::read_format(&tracefs, system, event).map_err(|e| e.to_string())
    };
    let vmlinux = std::fs::read("/sys/kernel/btf/vmlinux").ok();
    let mut offsets = BTreeMap::new();
    let mut rdonly_cast = None;
    let mut parameters = BTreeMap::new();
    let mut inhibits: BTreeMap<u32, String> = BTreeMap::new();
    if let Some(btf) = vmlinux.as_deref().and_then(|bytes| Btf::new(bytes, &[])) {
        let all: Vec<Member> = VMLINUX.into_iter().chain(KVM).chain(KVM_AMD).collect();
        offsets = btf.offsets(&all);
        let mut extend = |module: &str, members: &[Member]| {
            let bytes = std::fs::read(format!("/sys/kernel/btf/{module}")).ok();
            let own = bytes.as_deref().and_then(|b| Btf::new(b, btf.strings()));
            if let Some(own) = &own {
                offsets.extend(own.offsets(members));
            }
            if module == "kvm" {
                // What vmlinux uses too, or has built in, is in its BTF alone.
                inhibits = btf.enumerators(INHIBITS);
                inhibits.extend(own.iter().flat_map(|own| own.enumerators(INHIBITS)));
            }
            let ours = FUNCTIONS.into_iter().filter(|(of, _)| *of == module);
            let ours: Vec<&str> = ours.map(|(_, function)| function).collect();
            parameters.extend(match &own {
                Some(own) => own.parameters(Some(&btf), &ours),
                None if module == "kvm" => btf.parameters(None, &FUNCTIONS.map(|(_, name)| name)),
                None => BTreeMap::new(),
            });
        };
        extend("kvm", &KVM);
        extend("kvm_amd", &KVM_AMD);
        extend("kvm_intel", &[]);
        let function = btf.number(KIND_FUNC, "bpf_rdonly_cast");
        rdonly_cast = function
            .zip(btf.number(KIND_STRUCT, "pt_regs"))
            .map(|(function, pt_regs)| RdonlyCast { function, pt_regs });
    }
    Kernel {
        version: version(&read_line("/proc/sys/kernel/osrelease").unwrap_or_default()),
        kvm_exit: format("kvm", "kvm_exit"),
        kvm_userspace_exit: format("kvm", "kvm_userspace_exit"),
        kvm_fpu: format("kvm", "kvm_fpu"),
        details: DETAILS
            .into_iter()
            .filter_map(|event| Some((event, format("kvm", event).ok()?)))
            .collect(),
        syscalls: SYSCALLS
            .into_iter()
            .filter_map(|event| Some((event, format("raw_syscalls", event).ok()?)))
            .collect(),
        sched_switch: format("sched", "sched_switch"),
        parameters,
        inhibits: inhibits
            .into_iter()
            .filter_map(|(bit, name)| Some((bit, name.strip_prefix(INHIBIT)?.to_owned())))
            .collect(),
        no_kprobes: (!Path::new(KPROBES).exists()).then(|| {
            format!("this kernel is built without function probes (CONFIG_KPROBE_EVENTS; {KPROBES} is not there)")
        }),
        rdonly_cast,
        btf: vmlinux.is_some(),
        offsets,
        pid_max: read_line("/proc/sys/kernel/pid_max")
            .and_then(|s| s.parse().ok())
            .unwrap_or(1 << 22),
        cpus: possible_cpus(&read_line("/sys/devices/system/cpu/possible").unwrap_or_default()),
        vcpus,
    }
}

/// One trimmed line of a small file.
pub fn read_line(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

/// (major, minor) of a kernel release such as "6.12.117+deb13-cloud-amd64".
pub fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// How many CPUs a list such as "0-3,8" names; at least 1.
pub fn possible_cpus(list: &str) -> u32 {
    let count = |range: &str| -> u32 {
        let mut ends = range.split('-').map(|n| n.trim().parse::<u32>().ok());
        match (ends.next().flatten(), ends.next().flatten()) {
            (Some(a), Some(b)) => b.saturating_sub(a).saturating_add(1),
            (Some(_), None) => 1,
            _ => 0,
        }
    };
    list.split(',').map(count).fold(0u32, u32::saturating_add).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.12.117+deb13-cloud-amd64"), (6, 12));
        assert_eq!(version("5.10.0-46-cloud-amd64"), (5, 10));
        assert_eq!(version(""), (0, 0));
    }

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!(possible_cpus("0-3"), 4);
        assert_eq!(possible_cpus("0,2-3"), 3);
        assert_eq!(possible_cpus("0"), 1);
        assert_eq!(possible_cpus(""), 1);
    }
}
