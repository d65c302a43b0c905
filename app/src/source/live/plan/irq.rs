//! Families `irq` and `irqchip`: their tracepoints, and what their programs need of a kernel. Pure.

use super::super::kernel::Kernel;
use super::{Family, How, Probe, Sizes, has, unpreempted};

/// Tracepoints of one function each way, as of `HOOKS` in [`super`].
type Hook = (&'static str, &'static str, Family, &'static [(&'static str, u32)]);
const HOOKS: [Hook; 9] = [
    (
        "kvm_inj_exception",
        "kvm_inj_exception_record",
        Family::Irq,
        &[("exception", 8), ("has_error", 9), ("error_code", 12), ("reinjected", 16)],
    ),
    ("kvm_eoi", "kvm_eoi_record", Family::Irq, &[("vector", 12)]),
    ("kvm_pv_eoi", "kvm_pv_eoi_record", Family::Irq, &[("vector", 12)]),
    ("kvm_apic_ipi", "kvm_apic_ipi_record", Family::Irq, &[("icr_low", 8), ("dest_id", 12)]),
    ("kvm_apic_accept_irq", "kvm_apic_accept_irq_record", Family::Irq, ACCEPT),
    (
        "kvm_pic_set_irq",
        "kvm_pic_set_irq_record",
        Family::Irqchip,
        &[("chip", 8), ("pin", 9), ("elcr", 10), ("imr", 11), ("coalesced", 12)],
    ),
    (
        "kvm_ioapic_set_irq",
        "kvm_ioapic_set_irq_record",
        Family::Irqchip,
        &[("e", 8), ("pin", 16), ("coalesced", 20)],
    ),
    ("kvm_msi_set_irq", "kvm_msi_set_irq_record", Family::Irqchip, &[("address", 8), ("data", 16)]),
    (
        "kvm_set_irq",
        "kvm_set_irq_record",
        Family::Irqchip,
        &[("gsi", 8), ("level", 12), ("irq_source_id", 16)],
    ),
];
/// Of `kvm_apic_accept_irq` and its namesake.
const ACCEPT: &[(&str, u32)] = &[("apicid", 8), ("dm", 12), ("tm", 14), ("vec", 16)];
/// Tracepoints that came later than 5.10.
const LATER: [Hook; 2] = [
    ("kvm_apicv_accept_irq", "kvm_apicv_accept_irq_record", Family::Irq, ACCEPT),
    (
        "kvm_apicv_inhibit_changed",
        "kvm_apicv_inhibit_changed_record",
        Family::Irq,
        &[("inhibits", 16)],
    ),
];
/// The first kernel with them of those that were read, where tracefs does not tell.
const LATER_FROM: (u32, u32) = (6, 1);

/// Adds where a task's flags and a VM's inhibits are, where BTF tells, and how many tallies a row has.
pub fn globals(kernel: &Kernel, sizes: &Sizes, globals: &mut Vec<(&'static str, u32)>) {
    let at = |of, member| kernel.offsets.get(&(of, member)).copied();
    globals.push(("ROUTE_SHARD_MASK", sizes.shards - 1));
    globals.push(("TASK_FLAGS", at("task_struct", "flags").unwrap_or(0)));
    let inhibits = at("kvm", "arch").zip(at("kvm_arch", "apicv_inhibit_reasons"));
    globals.push(("KVM_INHIBITS", inhibits.map_or(0, |(arch, reasons)| arch + reasons)));
}

/// The probes. What puts an interrupt in is attached after what sends it: of one that is sent while they
/// are attached both are seen, or the later.
pub fn probes(kernel: &Kernel) -> Vec<Probe> {
    let probe = |event, family, ways| Probe { system: "kvm", event, family, ways, hopeless: None };
    let mut all = vec![probe("kvm_inj_virq", Family::Irq, virq_ways(kernel))];
    let there = |event: &str| match kernel.details.is_empty() {
        true => kernel.version >= LATER_FROM,
        false => kernel.details.contains_key(event),
    };
    let later = LATER.into_iter().filter(|(event, ..)| there(event));
    for (event, record, family, fields) in HOOKS.into_iter().chain(later) {
        let usual = kernel.details.get(event).is_some_and(|format| has(format, fields));
        all.push(probe(event, family, unpreempted(kernel, event, record, usual)));
    }
    all
}

/// The ways to `kvm_inj_virq`, which says more in newer kernels: its record tells, or the version (6.1 is
/// the first with it of those that were read).
fn virq_ways(kernel: &Kernel) -> Vec<(&'static str, How)> {
    let event = "kvm_inj_virq";
    let format = kernel.details.get(event);
    let late = format.map_or(kernel.version >= (6, 1), |format| format.field("soft").is_some());
    let is = |fields: &[(&str, u32)]| format.is_some_and(|format| has(format, fields));
    if late {
        let usual = is(&[("vector", 8), ("soft", 12), ("reinjected", 13)]);
        unpreempted(kernel, event, "kvm_inj_virq_record", usual)
    } else {
        let usual = is(&[("irq", 8)]);
        unpreempted(kernel, "kvm_inj_virq_early", "kvm_inj_virq_early_record", usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::plan::{plan, tests::kernel};
    use crate::trace::fixtures::{KERNELS, LINUX_5_10, LINUX_6_1, LINUX_6_12, LINUX_7_2};

    fn ways(kernel: &Kernel, event: &str) -> Option<Vec<(&'static str, How)>> {
        probes(kernel).into_iter().find(|probe| probe.event == event).map(|probe| probe.ways)
    }

    #[test]
    fn every_record_since_5_10_is_laid_out_as_it_is_read() {
        for release in KERNELS {
            let kernel = kernel(release, (6, 1));
            for probe in probes(&kernel) {
                assert_eq!(probe.ways.len(), 2, "{release} {}", probe.event);
            }
        }
    }

    #[test]
    fn what_an_injection_tells_its_record_says() {
        let first = |release, version| ways(&kernel(release, version), "kvm_inj_virq");
        let early =
            vec![("kvm_inj_virq_early", How::Raw), ("kvm_inj_virq_early_record", How::Tracepoint)];
        assert_eq!(first(LINUX_5_10, (5, 10)), Some(early));
        let late = vec![("kvm_inj_virq", How::Raw), ("kvm_inj_virq_record", How::Tracepoint)];
        assert_eq!(first(LINUX_6_1, (6, 1)), Some(late.clone()));
        let reversed: Vec<_> = late.into_iter().rev().collect();
        assert_eq!(first(LINUX_7_2, (7, 2)), Some(reversed));
        let unread = |version| {
            let mut kernel = kernel(LINUX_6_12, version);
            kernel.details.clear();
            ways(&kernel, "kvm_inj_virq")
        };
        assert_eq!(unread((5, 10)), Some(vec![("kvm_inj_virq_early", How::Raw)]));
        assert_eq!(unread((6, 12)), Some(vec![("kvm_inj_virq", How::Raw)]));
    }

    #[test]
    fn what_5_10_does_not_have_is_not_planned_there() {
        for event in ["kvm_apicv_accept_irq", "kvm_apicv_inhibit_changed"] {
            assert_eq!(ways(&kernel(LINUX_5_10, (5, 10)), event), None);
            assert!(ways(&kernel(LINUX_6_1, (6, 1)), event).is_some());
            let mut unread = kernel(LINUX_6_1, (6, 1));
            unread.details.clear();
            assert!(ways(&unread, event).is_some());
        }
    }

    #[test]
    fn a_record_of_another_layout_is_not_read() {
        let mut kernel = kernel(LINUX_7_2, (7, 2));
        for format in kernel.details.values_mut() {
            format.fields.iter_mut().for_each(|field| field.offset += 8);
        }
        for probe in probes(&kernel) {
            assert_eq!(probe.ways, [(probe.event, How::Raw)]);
        }
    }

    #[test]
    fn inhibits_are_read_where_both_parts_of_the_way_are_known() {
        let mut kernel = kernel(LINUX_6_12, (6, 12));
        let at = |kernel: &Kernel| {
            let plan = plan(kernel, &[Family::Irq]);
            plan.globals.into_iter().find(|(name, _)| *name == "KVM_INHIBITS").map(|(_, at)| at)
        };
        kernel.offsets.insert(("kvm", "arch"), 4000);
        assert_eq!(at(&kernel), Some(0));
        kernel.offsets.insert(("kvm_arch", "apicv_inhibit_reasons"), 56);
        assert_eq!(at(&kernel), Some(4056));
    }
}
