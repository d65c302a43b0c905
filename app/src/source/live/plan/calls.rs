//! Hypercalls: how their tracepoints are laid out differs from kernel to kernel. Pure.

use super::super::kernel::Kernel;
use super::{Family, How, Probe, has, unpreempted};
use crate::trace::format::Format;

/// The first kernels with `kvm_xen_hypercall`: before, KVM itself answered no Xen hypercall.
const XEN: (u32, u32) = (5, 12);

/// The probes of KVM's, Hyper-V's and Xen's hypercalls.
pub fn probes(kernel: &Kernel) -> Vec<Probe> {
    let probe =
        |event, family, ways, hopeless| Probe { system: "kvm", event, family, ways, hopeless };
    let is = |event: &str, fields: &[(&str, u32)]| {
        kernel.details.get(event).is_some_and(|format| has(format, fields))
    };
    let usual = is("kvm_hypercall", &[("nr", 8), ("a0", 16), ("a3", 40)]);
    let ways = unpreempted(kernel, "kvm_hypercall", "kvm_hypercall_record", usual);
    let mut all = vec![probe("kvm_hypercall", Family::Detail, ways, None)];

    let event = "kvm_hv_hypercall";
    // Where the record cannot be read the version tells: 6.1 is the first with it of those that were.
    let format = kernel.details.get(event);
    let late = format.map_or(kernel.version >= (6, 1), |format| format.field("var_cnt").is_some());
    let both = [("rep_cnt", 8), ("rep_idx", 10), ("ingpa", 16), ("outgpa", 24), ("code", 32)];
    let usual = is(event, &both);
    let ways = if late {
        let usual = usual && is(event, &[("var_cnt", 34), ("fast", 36)]);
        unpreempted(kernel, event, "kvm_hv_hypercall_record", usual)
    } else {
        let usual = usual && is(event, &[("fast", 34)]);
        unpreempted(kernel, "kvm_hv_hypercall_early", "kvm_hv_hypercall_early_record", usual)
    };
    all.push(probe(event, Family::Detail, ways, None));

    let event = "kvm_xen_hypercall";
    let format = kernel.details.get(event);
    let unread = kernel.details.is_empty() && kernel.version >= XEN;
    if unread || format.is_some() {
        let ways = format.map(|format| xen_ways(kernel, format));
        let why = || format!("the layout of kvm:{event} cannot be read from tracefs");
        let hopeless = ways.is_none().then(why);
        all.push(probe(event, Family::Hypercall, ways.unwrap_or_default(), hopeless));
    }
    all
}

/// The ways to `kvm_xen_hypercall`, which has the privilege level before the number in newer kernels:
/// its record tells, and nothing else does, since it was brought to older ones as well.
fn xen_ways(kernel: &Kernel, format: &Format) -> Vec<(&'static str, How)> {
    if format.field("cpl").is_some() {
        let usual = has(format, &[("nr", 16), ("a0", 24), ("a4", 56)]);
        unpreempted(kernel, "kvm_xen_hypercall", "kvm_xen_hypercall_record", usual)
    } else {
        let usual = has(format, &[("nr", 8), ("a0", 16), ("a4", 48)]);
        unpreempted(kernel, "kvm_xen_hypercall_early", "kvm_xen_hypercall_early_record", usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::plan::tests::kernel;
    use crate::trace::fixtures::{LINUX_5_10, LINUX_6_1, LINUX_6_12, LINUX_7_2, LINUX_PVM};

    /// The programs for each tracepoint.
    fn programs(kernel: &Kernel) -> Vec<Vec<&'static str>> {
        let names = |probe: &Probe| probe.ways.iter().map(|(name, _)| *name).collect();
        probes(kernel).iter().map(names).collect()
    }

    #[test]
    fn the_record_tells_how_it_is_laid_out() {
        let kvm = vec!["kvm_hypercall", "kvm_hypercall_record"];
        let hv = vec!["kvm_hv_hypercall", "kvm_hv_hypercall_record"];
        let early_hv = vec!["kvm_hv_hypercall_early", "kvm_hv_hypercall_early_record"];
        let xen = vec!["kvm_xen_hypercall", "kvm_xen_hypercall_record"];
        let early_xen = vec!["kvm_xen_hypercall_early", "kvm_xen_hypercall_early_record"];
        let of = |release, version| programs(&kernel(release, version));
        assert_eq!(of(LINUX_5_10, (5, 10)), [kvm.clone(), early_hv], "none of Xen's");
        assert_eq!(of(LINUX_6_1, (6, 1)), [kvm.clone(), hv.clone(), early_xen]);
        assert_eq!(of(LINUX_6_12, (6, 12)), [kvm.clone(), hv.clone(), xen.clone()]);
        assert_eq!(of(LINUX_PVM, (6, 18)), [kvm.clone(), hv.clone(), xen.clone()]);
        let reversed = |mut ways: Vec<&'static str>| {
            ways.reverse();
            ways
        };
        assert_eq!(of(LINUX_7_2, (7, 2)), [kvm, hv, xen].map(reversed));
    }

    #[test]
    fn without_a_record_what_cannot_be_guessed_is_not_attached() {
        let without = |version| {
            let mut kernel = kernel(LINUX_6_12, version);
            kernel.details.clear();
            kernel
        };
        let kernel = without((6, 12));
        assert_eq!(programs(&kernel), [vec!["kvm_hypercall"], vec!["kvm_hv_hypercall"], vec![]]);
        let why = probes(&kernel)[2].hopeless.clone();
        assert!(why.is_some_and(|why| why.contains("tracefs")));
        let early = programs(&without((5, 10)));
        assert_eq!(early, [vec!["kvm_hypercall"], vec!["kvm_hv_hypercall_early"]]);
    }

    #[test]
    fn a_record_of_another_layout_is_not_read() {
        let mut kernel = kernel(LINUX_7_2, (7, 2));
        for event in ["kvm_hypercall", "kvm_hv_hypercall", "kvm_xen_hypercall"] {
            let format = kernel.details.get_mut(event).expect("captured");
            format.fields.iter_mut().for_each(|field| field.offset += 8);
            let probes = probes(&kernel);
            let probe = probes.iter().find(|probe| probe.event == event).expect("planned");
            assert_eq!(probe.ways, [(event, How::Raw)]);
        }
    }
}
