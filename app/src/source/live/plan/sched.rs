//! What family `vcpu-load` needs of a kernel: programs of its own at two hooks of other families. Pure.

use super::super::kernel::Kernel;
use super::{Family, How, Probe, has, unpreempted};

/// The probes, where `task_btf` is whether a task's thread id is found by BTF, and `no_record` why the
/// record of `sched_switch` cannot be read.
pub fn probes(kernel: &Kernel, task_btf: bool, no_record: Option<String>) -> [Probe; 2] {
    let mut switch = Vec::new();
    if kernel.btf && task_btf {
        switch.push(("load_switch_btf", How::Btf));
    }
    if no_record.is_none() {
        switch.push(("load_switch", How::Tracepoint));
    }
    let hopeless = no_record.filter(|_| switch.is_empty());
    let usual = kernel.kvm_fpu.as_ref().is_ok_and(|format| has(format, &[("load", 8)]));
    let fpu = unpreempted(kernel, "load_fpu", "load_fpu_record", usual);
    let family = Family::VcpuLoad;
    [
        Probe { system: "sched", event: "sched_switch", family, ways: switch, hopeless },
        Probe { system: "kvm", event: "kvm_fpu", family, ways: fpu, hopeless: None },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::plan::tests::kernel;
    use crate::trace::fixtures::{LINUX_6_12, LINUX_7_2};

    fn names(probe: &Probe) -> Vec<&'static str> {
        probe.ways.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_switch_is_seen_by_btf_or_by_the_record() {
        let mut kernel = kernel(LINUX_6_12, (6, 12));
        let why = || Some("tracefs is not mounted".to_owned());
        assert_eq!(names(&probes(&kernel, true, None)[0]), ["load_switch_btf", "load_switch"]);
        assert_eq!(names(&probes(&kernel, true, why())[0]), ["load_switch_btf"]);
        kernel.btf = false;
        assert_eq!(names(&probes(&kernel, true, None)[0]), ["load_switch"]);
        let [switch, _] = probes(&kernel, true, why());
        assert_eq!((names(&switch), switch.hopeless), (vec![], why()));
    }

    #[test]
    fn kvm_run_is_seen_by_what_is_not_preempted() {
        let of = |release, version| names(&probes(&kernel(release, version), true, None)[1]);
        assert_eq!(of(LINUX_6_12, (6, 12)), ["load_fpu", "load_fpu_record"]);
        assert_eq!(of(LINUX_7_2, (7, 2)), ["load_fpu_record", "load_fpu"]);
    }
}
