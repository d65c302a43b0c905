//! What family `ioctl` needs of a kernel. Pure.

use super::super::kernel::{Kernel, Member};
use super::{How, Sizes, has, unpreempted_first};
use kvmscope_shared::ioctl::MAX_SHARDS;

/// (program, how), best first.
pub type Ways = Vec<(&'static str, How)>;

/// The way from a task to the function that serves a descriptor's ioctls.
const WANTED: [(&str, Member); 7] = [
    ("TASK_FILES", ("task_struct", "files")),
    ("FILES_FDT", ("files_struct", "fdt")),
    ("FDT_MAX", ("fdtable", "max_fds")),
    ("FDT_FD", ("fdtable", "fd")),
    ("FILE_OP", ("file", "f_op")),
    ("FILE_PRIVATE", ("file", "private_data")),
    ("OP_IOCTL", ("file_operations", "unlocked_ioctl")),
];

/// Adds where a task's files are, where BTF tells, and how many tallies a row has.
pub fn globals(kernel: &Kernel, sizes: &Sizes, globals: &mut Vec<(&'static str, u32)>) {
    globals.push(("IOCTL_SHARD_MASK", sizes.shards - 1));
    let at = |member: &Member| kernel.offsets.get(member).copied();
    let found: Option<Vec<_>> =
        WANTED.iter().map(|(global, member)| Some((*global, at(member)?))).collect();
    if let Some(found) = found {
        globals.extend(found);
        globals.push(("FILES_KNOWN", 1));
    }
    if let Some(cast) = kernel.rdonly_cast {
        globals.push(("TYPE_PT_REGS", cast.pt_regs));
    }
    globals.push(("DEVICE_KVM", at(&("kvm_device", "kvm")).unwrap_or(0)));
}

/// Tallies of a row: one for each CPU, a power of two.
pub fn shards(cpus: u32) -> u32 {
    cpus.clamp(1, MAX_SHARDS).next_power_of_two()
}

/// The ways to the end and to the beginning of a system call, or why there is none. Only with BTF are
/// registers read directly, which is what a system call that is no ioctl pays for.
pub fn ways(kernel: &Kernel) -> (Ways, Ways, Option<String>) {
    if !cfg!(target_arch = "x86_64") {
        return (Vec::new(), Vec::new(), Some("it is written for x86-64 alone".to_owned()));
    }
    let of = |event, btf, raw, record, fields: &[(&str, u32)]| {
        let usual = kernel.syscalls.get(event).is_some_and(|format| has(format, fields));
        let mut ways = vec![(raw, How::Raw)];
        if kernel.btf {
            ways.insert(0, (btf, How::Btf));
        }
        if usual {
            let at = if unpreempted_first(kernel) { 0 } else { ways.len() };
            ways.insert(at, (record, How::Tracepoint));
        }
        ways
    };
    let exit = of(
        "sys_exit",
        "ioctl_exit_btf",
        "ioctl_exit",
        "ioctl_exit_record",
        &[("id", 8), ("ret", 16)],
    );
    let mut enter = of(
        "sys_enter",
        "ioctl_enter_btf",
        "ioctl_enter",
        "ioctl_enter_record",
        &[("id", 8), ("args", 16)],
    );
    if kernel.rdonly_cast.is_some()
        && let Some(at) = enter.iter().position(|(_, how)| *how == How::Btf)
    {
        enter.insert(at, ("ioctl_enter_cast", How::Btf));
    }
    (exit, enter, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::live::kernel::RdonlyCast;
    use crate::source::live::plan::{Family, Plan, plan, tests::kernel};
    use crate::trace::fixtures::LINUX_6_12;

    fn planned(kernel: &Kernel) -> Plan {
        plan(kernel, &[Family::Ioctl])
    }

    fn global(plan: &Plan, name: &str) -> Option<u32> {
        plan.globals.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    #[test]
    fn the_way_to_a_descriptor_is_known_whole_or_not_at_all() {
        let mut kernel = kernel(LINUX_6_12, (6, 12));
        assert_eq!(global(&planned(&kernel), "FILES_KNOWN"), None);
        kernel.offsets.extend(WANTED.iter().zip(1..).map(|((_, member), at)| (*member, at)));
        let plan = planned(&kernel);
        assert_eq!(global(&plan, "FILES_KNOWN"), Some(1));
        assert_eq!(global(&plan, "OP_IOCTL"), Some(7));
        kernel.offsets.remove(&("file", "f_op"));
        let plan = planned(&kernel);
        assert_eq!(global(&plan, "FILES_KNOWN"), None);
        assert_eq!(global(&plan, "OP_IOCTL"), None);
    }

    #[test]
    fn a_calls_end_is_watched_before_its_beginning() {
        let kernel = kernel(LINUX_6_12, (6, 12));
        let plan = planned(&kernel);
        let ours: Vec<_> = plan.probes.iter().filter(|p| p.family == Family::Ioctl).collect();
        let events: Vec<_> = ours.iter().map(|p| p.hook()).collect();
        assert_eq!(events, ["raw_syscalls:sys_exit", "raw_syscalls:sys_enter"]);
        assert_eq!(ours[0].ways, [("ioctl_exit_btf", How::Btf), ("ioctl_exit", How::Raw)]);
    }

    #[test]
    fn the_record_is_the_last_way_until_raw_programs_can_be_preempted() {
        let text = "name: sys_exit\nID: 1\nformat:\n\
                    \tfield:long id;\toffset:8;\tsize:8;\tsigned:1;\n\
                    \tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n\nprint fmt: \"\"\n";
        let how = |version, btf| {
            let mut kernel = kernel(LINUX_6_12, version);
            kernel.btf = btf;
            let format = crate::trace::format::Format::parse(text).expect("a format");
            kernel.syscalls.insert("sys_exit", format);
            ways(&kernel).0.iter().map(|way| way.1).collect::<Vec<_>>()
        };
        assert_eq!(how((6, 12), true), [How::Btf, How::Raw, How::Tracepoint]);
        assert_eq!(how((6, 12), false), [How::Raw, How::Tracepoint]);
        assert_eq!(how((7, 2), true), [How::Tracepoint, How::Btf, How::Raw]);
    }

    #[test]
    fn plain_loads_come_before_probe_reads() {
        let mut kernel = kernel(LINUX_6_12, (6, 12));
        kernel.rdonly_cast = Some(RdonlyCast { function: 5, pt_regs: 6 });
        let (_, enter, _) = ways(&kernel);
        let names: Vec<_> = enter.iter().map(|way| way.0).collect();
        assert_eq!(names, ["ioctl_enter_cast", "ioctl_enter_btf", "ioctl_enter"]);
    }

    #[test]
    fn every_cpu_has_its_tally_up_to_a_limit() {
        let all = [(0, 1), (1, 1), (2, 2), (3, 4), (48, 64), (64, 64), (512, 64)];
        for (cpus, expected) in all {
            assert_eq!(shards(cpus), expected, "{cpus}");
        }
    }

    #[test]
    fn nobody_pays_for_it_unasked() {
        for families in [&Family::WATCHED[..], &Family::REPORTED] {
            assert!(!Family::Ioctl.wanted(families));
        }
        assert!(Family::Ioctl.off().contains("--probes ioctl"));
    }
}
