//! What family `timer` needs of a kernel. Pure.

use super::super::kernel::{Kernel, Member};
use super::{Family, Probe, has, unpreempted};

/// (tracepoint, program by its arguments, by its record, where the record has what that reads). The
/// layouts are the same from 5.10 to 7.2, but that `val` of `kvm_apic` was half as long before 6.1.
type Hook = (&'static str, &'static str, &'static str, &'static [(&'static str, u32)]);
const HOOKS: [Hook; 5] = [
    (
        "kvm_hv_timer_state",
        "timer_state",
        "timer_state_record",
        &[("vcpu_id", 8), ("hv_timer_in_use", 12)],
    ),
    (
        "kvm_msr",
        "timer_msr",
        "timer_msr_record",
        &[("write", 8), ("ecx", 12), ("data", 16), ("exception", 24)],
    ),
    ("kvm_apic", "timer_apic", "timer_apic_record", &[("rw", 8), ("reg", 12), ("val", 16)]),
    (
        "kvm_apic_accept_irq",
        "timer_accept",
        "timer_accept_record",
        &[("apicid", 8), ("dm", 12), ("vec", 16)],
    ),
    ("kvm_wait_lapic_expire", "timer_late", "timer_late_record", &[("vcpu_id", 8), ("delta", 16)]),
];

/// The probes. Adds the way to a vCPU's local APIC, where BTF tells.
pub fn probes(kernel: &Kernel, globals: &mut Vec<(&'static str, u32)>) -> Vec<Probe> {
    let at = |member: Member| kernel.offsets.get(&member).copied();
    if let (Some(arch), Some(apic), Some(regs)) =
        (at(("kvm_vcpu", "arch")), at(("kvm_vcpu_arch", "apic")), at(("kvm_lapic", "regs")))
    {
        globals.push(("VCPU_APIC", arch + apic));
        globals.push(("LAPIC_REGS", regs));
    }
    let probe = |(event, raw, record, fields): Hook| {
        let usual = kernel.details.get(event).is_some_and(|format| has(format, fields));
        let ways = unpreempted(kernel, raw, record, usual);
        Probe { system: "kvm", event, family: Family::Timer, ways, hopeless: None }
    };
    HOOKS.map(probe).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::plan::tests::kernel;
    use crate::trace::fixtures::{KERNELS, LINUX_6_12};

    #[test]
    fn every_record_since_5_10_is_laid_out_as_it_is_read() {
        for release in KERNELS {
            for probe in probes(&kernel(release, (6, 12)), &mut Vec::new()) {
                assert_eq!(probe.ways.len(), 2, "{release} {}", probe.event);
            }
        }
    }

    #[test]
    fn the_way_to_the_apic_is_known_whole_or_not_at_all() {
        let mut kernel = kernel(LINUX_6_12, (6, 12));
        let found = |kernel: &Kernel| {
            let mut globals = Vec::new();
            probes(kernel, &mut globals);
            globals
        };
        let all = [
            (("kvm_vcpu", "arch"), 300),
            (("kvm_vcpu_arch", "apic"), 40),
            (("kvm_lapic", "regs"), 96),
        ];
        for (member, at) in all {
            assert_eq!(found(&kernel), []);
            kernel.offsets.insert(member, at);
        }
        assert_eq!(found(&kernel), [("VCPU_APIC", 340), ("LAPIC_REGS", 96)]);
    }
}
