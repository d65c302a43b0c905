use super::super::kernel::{DETAILS, RdonlyCast};
use super::*;
use crate::trace::fixtures as testdata;
use kvmscope_shared::event::kind;
use std::collections::BTreeMap;

/// Tracepoints that 5.10 does not have.
const LATER_THAN_5_10: [&str; 3] =
    ["kvm_xen_hypercall", "kvm_apicv_accept_irq", "kvm_apicv_inhibit_changed"];

pub fn kernel(release: &str, version: (u32, u32)) -> Kernel {
    Kernel {
        version,
        kvm_exit: Ok(testdata::format(release, "kvm_exit")),
        kvm_userspace_exit: Ok(testdata::format(release, "kvm_userspace_exit")),
        kvm_fpu: Ok(testdata::format(release, "kvm_fpu")),
        details: DETAILS
            .into_iter()
            .filter(|event| release != testdata::LINUX_5_10 || !LATER_THAN_5_10.contains(event))
            .map(|event| (event, testdata::format(release, event)))
            .collect(),
        syscalls: BTreeMap::new(),
        sched_switch: Err("tracefs is not mounted".to_owned()),
        offsets: BTreeMap::from([
            (("task_struct", "pid"), 1),
            (("task_struct", "state"), 2),
            (("task_struct", "tgid"), 3),
            (("task_struct", "comm"), 4),
            (("task_struct", "se"), 100),
            (("task_struct", "sched_info"), 200),
            (("sched_entity", "cfs_rq"), 10),
            (("sched_info", "run_delay"), 20),
            (("sched_info", "last_queued"), 30),
            (("cfs_rq", "rq"), 40),
            (("rq", "clock"), 50),
            (("kvm_memory_slot", "base_gfn"), 24),
            (("kvm_memory_slot", "dirty_bitmap"), 40),
            (("kvm_memory_slot", "flags"), 112),
            (("kvm_memory_slot", "id"), 116),
            (("kvm_memory_slot", "as_id"), 118),
        ]),
        parameters: [("mark_page_dirty_in_slot", vec!["kvm", "memslot", "gfn"])]
            .map(|(function, names)| (function, names.into_iter().map(str::to_owned).collect()))
            .into(),
        inhibits: BTreeMap::new(),
        no_kprobes: None,
        rdonly_cast: None,
        btf: true,
        pid_max: 32_768,
        cpus: 4,
        vcpus: 8,
    }
}

fn global(plan: &Plan, name: &str) -> Option<u32> {
    plan.globals.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

#[test]
fn records_since_5_10_are_read_directly() {
    for release in testdata::KERNELS {
        let plan = plan(&kernel(release, (6, 1)), &Family::ASKABLE);
        assert_eq!(global(&plan, "EXIT_USUAL"), Some(1), "{release}");
        assert!(plan.probes.iter().all(|p| p.hopeless.is_none()), "{release}");
    }
}

#[test]
fn a_moved_field_is_read_where_it_is() {
    let mut kernel = kernel(testdata::LINUX_6_12, (6, 12));
    let format = kernel.kvm_exit.as_mut().expect("a format");
    format.fields.iter_mut().find(|f| f.name == "vcpu_id").expect("a field").offset = 48;
    let plan = plan(&kernel, &Family::ASKABLE);
    assert_eq!(global(&plan, "EXIT_USUAL"), Some(0));
    assert_eq!(global(&plan, "EXIT_VCPU_ID"), Some(48));
}

#[test]
fn a_missing_field_is_a_reason_not_a_failure() {
    let mut kernel = kernel(testdata::LINUX_6_12, (6, 12));
    kernel.kvm_exit.as_mut().expect("a format").fields.retain(|f| f.name != "isa");
    let plan = plan(&kernel, &Family::ASKABLE);
    let exit = plan.probes.iter().find(|p| p.event == "kvm_exit").expect("planned");
    let why = exit.hopeless.as_deref().expect("a reason");
    assert!(why.contains("isa"), "{why}");
    assert!(plan.probes.iter().filter(|p| p.event != "kvm_exit").all(|p| p.hopeless.is_none()));
}

#[test]
fn sched_switch_falls_back_to_the_record() {
    let mut kernel = kernel(testdata::LINUX_6_12, (6, 12));
    let ways = |kernel: &Kernel| {
        let plan = plan(kernel, &Family::ASKABLE);
        plan.probes.into_iter().find(|p| p.event == "sched_switch").expect("planned")
    };
    assert_eq!(ways(&kernel).ways, [("sched_switch_btf", How::Btf)]);
    kernel.btf = false;
    let hopeless = ways(&kernel);
    assert!(hopeless.ways.is_empty() && hopeless.hopeless.is_some());
}

#[test]
fn on_amd_the_record_is_not_needed() {
    let mut kernel = kernel(testdata::LINUX_6_12, (6, 12));
    let ways = |kernel: &Kernel| {
        let plan = plan(kernel, &Family::ASKABLE);
        let exit = plan.probes.iter().find(|p| p.event == "kvm_exit").cloned().expect("planned");
        exit.ways.iter().map(|way| way.0).collect::<Vec<_>>()
    };
    assert_eq!(ways(&kernel), ["kvm_exit"]);
    kernel.offsets.extend([
        (("vcpu_svm", "vcpu"), 0),
        (("vcpu_svm", "vmcb"), 6_000),
        (("kvm_vcpu", "arch"), 300),
        (("kvm_vcpu_arch", "regs"), 8),
    ]);
    assert_eq!(ways(&kernel), ["kvm_exit_svm", "kvm_exit"]);
    assert_eq!(global(&plan(&kernel, &Family::ASKABLE), "VCPU_RIP"), Some(436));
    kernel.rdonly_cast = Some(RdonlyCast { function: 5, pt_regs: 6 });
    assert_eq!(ways(&kernel), ["kvm_exit_svm_cast", "kvm_exit_svm", "kvm_exit"]);
    kernel.version = (5, 15);
    assert_eq!(ways(&kernel), ["kvm_exit"]);
}

#[test]
fn the_state_comes_with_the_event_from_5_18_on() {
    let arg = |version| {
        global(&plan(&kernel(testdata::LINUX_6_1, version), &Family::ASKABLE), "SWITCH_STATE_ARG")
    };
    assert_eq!(arg((5, 17)), Some(0));
    assert_eq!(arg((5, 18)), Some(1));
    assert_eq!(arg((6, 1)), Some(1));
}

#[test]
fn what_could_be_preempted_comes_from_the_record() {
    let how = |version| {
        let plan = plan(&kernel(testdata::LINUX_7_2, version), &Family::ASKABLE);
        let of = |event| {
            let probe = plan.probes.iter().find(|p| p.event == event).expect("planned");
            probe.ways.iter().map(|(_, how)| *how).collect::<Vec<_>>()
        };
        ["kvm_fpu", "kvm_userspace_exit", "sched_process_exit", "kvm_entry"].map(of)
    };
    let (raw, record) = (How::Raw, How::Tracepoint);
    let cheap = vec![raw, record];
    let exact = vec![record, raw];
    assert_eq!(how((6, 18)), [cheap.clone(), cheap.clone(), cheap, vec![raw]]);
    assert_eq!(how((7, 2)), [exact.clone(), exact.clone(), exact, vec![raw]]);
}

#[test]
fn a_record_of_another_layout_is_not_read() {
    let mut kernel = kernel(testdata::LINUX_7_2, (7, 2));
    kernel.kvm_fpu = Err("tracefs is not mounted".to_owned());
    let plan = plan(&kernel, &Family::ASKABLE);
    let fpu = plan.probes.iter().find(|p| p.event == "kvm_fpu").expect("planned");
    assert_eq!(fpu.ways, [("kvm_fpu", How::Raw)]);
}

#[test]
fn only_what_is_asked_for_and_what_it_needs() {
    let kernel = kernel(testdata::LINUX_6_12, (6, 12));
    let events = |families: &[Family]| -> Vec<&str> {
        let plan = plan(&kernel, families);
        let wanted = plan.probes.iter().filter(|p| p.wanted(families));
        wanted.map(|p| p.event).collect()
    };
    assert_eq!(
        events(&[Family::Userspace]),
        ["sched_process_exit", "kvm_userspace_exit", "kvm_fpu"]
    );
    assert!(events(&[Family::Exit]).contains(&"kvm_fpu"));
    assert!(events(&[Family::Sched]).contains(&"kvm_fpu"), "it tells which threads are vCPUs");
    assert!(!events(&[Family::Exit]).contains(&"sched_switch"));
}

/// The ways to an event of a family that is off.
fn ways(kernel: &Kernel, event: &str) -> Vec<(&'static str, How)> {
    let plan = plan(kernel, &[]);
    plan.probes.into_iter().find(|p| p.event == event).expect("planned").ways
}

#[test]
fn details_come_by_arguments_or_by_the_record() {
    let how = |release, version| {
        let kernel = kernel(release, version);
        let how = |event| ways(&kernel, event).iter().map(|way| way.1).collect::<Vec<_>>();
        HOOKS.map(|hook| how(hook.0))
    };
    let (raw, record) = (How::Raw, How::Tracepoint);
    let all = |ways: [How; 2]| HOOKS.map(|_| ways.to_vec());
    assert_eq!(how(testdata::LINUX_5_10, (5, 10)), all([raw, record]));
    assert_eq!(how(testdata::LINUX_6_1, (6, 1)), all([raw, record]));
    assert_eq!(how(testdata::LINUX_7_2, (7, 2)), all([record, raw]));
}

#[test]
fn where_a_page_faults_address_is_its_record_tells() {
    let fault = |release, version| ways(&kernel(release, version), "kvm_page_fault");
    let early = [("kvm_page_fault_early", How::Raw)];
    let late = [("kvm_page_fault", How::Raw), ("kvm_page_fault_record", How::Tracepoint)];
    assert_eq!(fault(testdata::LINUX_5_10, (5, 10)), early);
    assert_eq!(fault(testdata::LINUX_6_1, (6, 1)), late);
    let unread = |version| {
        let mut kernel = kernel(testdata::LINUX_6_1, version);
        kernel.details.clear();
        ways(&kernel, "kvm_page_fault")
    };
    assert_eq!((unread((5, 10)), unread((6, 1))), (early.to_vec(), late[..1].to_vec()));
}

#[test]
fn a_probe_of_two_families_is_attached_when_either_is_asked_for() {
    let kernel = kernel(testdata::LINUX_6_12, (6, 12));
    let wanted = |families: &[Family]| -> Vec<&str> {
        let plan = plan(&kernel, families);
        let ours = plan.probes.iter().filter(|p| p.is_kvm() && p.family.keeps_keys());
        ours.filter(|p| p.wanted(families)).map(|p| p.event).collect()
    };
    assert_eq!(wanted(&[Family::Mmu]), ["kvm_page_fault"]);
    assert_eq!(wanted(&[Family::Mmio]), ["kvm_mmio", "kvm_fast_mmio"]);
    let calls = ["kvm_hypercall", "kvm_hv_hypercall", "kvm_xen_hypercall"];
    assert_eq!(wanted(&[Family::Hypercall]), calls);
    let all = wanted(&[Family::Detail]);
    assert!(all.contains(&"kvm_page_fault") && all.contains(&"kvm_mmio"));
    assert!(!all.contains(&"kvm_xen_hypercall"), "of one family alone");
    assert!(wanted(&Family::WATCHED).is_empty());
}

#[test]
fn events_are_told_of_by_the_family_that_is_on() {
    assert_eq!(Family::Mmu.events(), 1 << kind::FAULT);
    assert_eq!(Family::Detail.events(), 0, "what exits are about is no list");
    let all = Family::ASKABLE.iter().fold(0, |bits, family| {
        assert_eq!(bits & family.events(), 0, "each kind is of one family");
        bits | family.events()
    });
    assert_ne!(all & 1 << kind::XEN_HYPERCALL, 0);
}

#[test]
fn what_is_off_says_how_to_have_it() {
    assert!(Family::Detail.off().contains("--probes detail"));
    assert!(Family::WATCHED.iter().all(|family| family.wanted(&Family::WATCHED)));
    assert!(!Family::Detail.wanted(&Family::WATCHED));
    assert!(Family::Base.wanted(&[]) && Family::Userspace.wanted(&[Family::Detail]));
}

#[test]
fn maps_follow_the_host() {
    let small = Sizes::for_host(2, 0, 32_768);
    let large = Sizes::for_host(256, 4_000, 4_194_304);
    assert_eq!(small.slots, 512);
    assert!(large.slots >= 8_000 && large.slots <= 16_384);
    assert_eq!(large.known_words, 65_537);
    assert_eq!(small.chunks().count() as u32, small.pool_chunks);
    assert_eq!(small.chunks().last().map(|c| c + CELLS_PER_CHUNK), Some(small.cells()));
}
