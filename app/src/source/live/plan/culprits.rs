//! What family `culprits` needs of a kernel. Pure.

use super::super::kernel::{Kernel, Member};

/// Adds where `sched_switch` finds since when a thread waits; answers with why it cannot, if so.
pub fn globals(kernel: &Kernel, globals: &mut Vec<(&'static str, u32)>) -> Option<String> {
    if !kernel.btf {
        return Some(
            "the kernel has no BTF (/sys/kernel/btf/vmlinux), by which the scheduler's times are \
             found"
                .to_owned(),
        );
    }
    // The global, and the members that lead to it, one inside the other.
    const WANTED: [(&str, &[Member]); 7] = [
        ("TASK_PID", &[("task_struct", "pid")]),
        ("TASK_TGID", &[("task_struct", "tgid")]),
        ("TASK_CFS_RQ", &[("task_struct", "se"), ("sched_entity", "cfs_rq")]),
        ("TASK_RUN_DELAY", &[("task_struct", "sched_info"), ("sched_info", "run_delay")]),
        ("TASK_LAST_QUEUED", &[("task_struct", "sched_info"), ("sched_info", "last_queued")]),
        ("CFS_RQ_RQ", &[("cfs_rq", "rq")]),
        ("RQ_CLOCK", &[("rq", "clock")]),
    ];
    if !kernel.offsets.contains_key(&("task_struct", "comm")) {
        return Some("the kernel's BTF has no task_struct.comm".to_owned());
    }
    for (global, path) in WANTED {
        let mut offset = 0;
        for member in path {
            let Some(at) = kernel.offsets.get(member) else {
                let built = match member.0 {
                    "sched_info" => " (built without CONFIG_SCHED_INFO)",
                    "sched_entity" | "cfs_rq" => " (built without CONFIG_FAIR_GROUP_SCHED)",
                    _ => "",
                };
                return Some(format!(
                    "the kernel does not keep {}.{}{built}, which tells who waits since when",
                    member.0, member.1
                ));
            };
            offset += at;
        }
        globals.push((global, offset));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::plan::{Family, How, plan, tests::kernel};
    use crate::trace::fixtures::LINUX_6_12;

    fn with_scheduler() -> Kernel {
        kernel(LINUX_6_12, (6, 12))
    }

    fn why(kernel: &Kernel) -> Option<String> {
        globals(kernel, &mut Vec::new())
    }

    #[test]
    fn members_inside_members_are_added_up() {
        let mut found = Vec::new();
        assert_eq!(globals(&with_scheduler(), &mut found), None);
        for global in [
            ("TASK_CFS_RQ", 110),
            ("TASK_RUN_DELAY", 220),
            ("TASK_LAST_QUEUED", 230),
            ("CFS_RQ_RQ", 40),
            ("RQ_CLOCK", 50),
        ] {
            assert!(found.contains(&global), "{global:?} in {found:?}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_keep_it_is_told_in_a_sentence() {
        let mut kernel = with_scheduler();
        kernel.offsets.retain(|member, _| member.0 != "sched_info");
        let said = why(&kernel).expect("a reason");
        assert!(said.contains("sched_info.run_delay (built without CONFIG_SCHED_INFO)"), "{said}");
        let mut kernel = with_scheduler();
        kernel.offsets.remove(&("sched_entity", "cfs_rq"));
        assert!(why(&kernel).is_some_and(|why| why.contains("CONFIG_FAIR_GROUP_SCHED")));
        kernel.btf = false;
        assert!(why(&kernel).is_some_and(|why| why.contains("no BTF")));
    }

    #[test]
    fn it_is_attached_only_when_it_is_asked_for() {
        let kernel = with_scheduler();
        let programs = |families: &[Family]| -> Vec<&str> {
            let probes = plan(&kernel, families).probes;
            let wanted = probes.iter().filter(|p| p.wanted(families));
            wanted.flat_map(|p| &p.ways).map(|(name, _)| *name).collect()
        };
        let ours = ("culprits_switch", How::Btf);
        assert!(programs(&[Family::Culprits]).contains(&ours.0));
        assert!(programs(&[Family::Culprits]).contains(&"kvm_fpu"), "it tells who is a vCPU");
        for families in [&Family::WATCHED[..], &Family::REPORTED] {
            assert!(!programs(families).contains(&ours.0));
        }
    }
}
