//! Each bad host has its sentence.

use super::*;
use crate::doctor::facts::{
    Btf, Capability, DevKvm, Lockdown, Module, ModuleState, Tracefs, Tracepoint, Vms,
};

/// A host on which everything works.
fn good() -> Facts {
    let module = |name: &str| Module { name: name.into(), state: ModuleState::Loaded };
    Facts {
        kernel: "6.12.8-amd64".into(),
        arch: "x86_64".into(),
        cpus: 8,
        modules: vec![module("kvm"), module("kvm_intel")],
        cpu_flag: Some("vmx".into()),
        module_installed: true,
        dev_kvm: DevKvm::Usable,
        tracefs: Tracefs::Readable("/sys/kernel/tracing".into()),
        btf: Btf { vmlinux: true, kvm: true },
        cap_eff: u64::MAX,
        initial_userns: true,
        initial_pidns: true,
        perf_event_paranoid: Some(3),
        unprivileged_bpf_disabled: Some(2),
        lockdown: Lockdown::None,
        memlock: Some(8 << 20),
        vms: Some(Vms { processes: 2, vcpus: 12, refused: 0 }),
        program: "/usr/bin/kvmscope".into(),
        ..Facts::default()
    }
}

fn attached() -> Vec<ProbeStatus> {
    vec![ProbeStatus {
        name: "kvm:kvm_exit".into(),
        family: "exit".into(),
        attached: true,
        why: None,
        how: "tracepoint".into(),
    }]
}

fn refused() -> ProbeStatus {
    ProbeStatus {
        name: "kvm:kvm_fpu".into(),
        family: "exit".into(),
        why: Some("the verifier refused it.".into()),
        ..ProbeStatus::default()
    }
}

#[track_caller]
fn one(facts: &Facts, id: &str) -> Finding {
    let found = findings(facts, &[], None);
    let mut of_it = found.iter().filter(|finding| finding.id == id);
    let finding = of_it.next().unwrap_or_else(|| panic!("no {id} in {found:#?}")).clone();
    assert!(of_it.next().is_none(), "{id} is found twice");
    finding
}

#[track_caller]
fn blocks(facts: &Facts, id: &str) -> Finding {
    let finding = one(facts, id);
    assert_eq!(finding.severity, Severity::Blocker, "{finding:?}");
    assert_eq!(blocker(&findings(facts, &[], None)).map(|first| first.id.as_str()), Some(id));
    finding
}

#[test]
fn a_good_host_is_fine_in_every_respect() {
    let found = findings(&good(), &attached(), None);
    assert!(found.iter().all(|finding| finding.severity == Severity::Ok), "{found:#?}");
    assert_eq!(blocker(&found), None);
}

#[test]
fn an_old_kernel_is_said() {
    let facts = Facts { kernel: "5.4.0-216-generic".into(), ..good() };
    let finding = one(&facts, "kernel");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.costs.expect("costs").contains("5.10 is the oldest"));
}

#[test]
fn another_architecture_blocks() {
    blocks(&Facts { arch: "aarch64".into(), ..good() }, "arch");
}

#[test]
fn a_module_that_is_not_loaded_is_named_by_the_cpu() {
    for (flag, module) in [("vmx", "kvm_intel"), ("svm", "kvm_amd")] {
        let facts = Facts { modules: Vec::new(), cpu_flag: Some(flag.into()), ..good() };
        let finding = blocks(&facts, KVM_MODULE);
        assert_eq!(finding.command, Some(format!("sudo modprobe {module}")));
    }
    let bare = Facts { modules: Vec::new(), module_installed: false, ..good() };
    assert!(blocks(&bare, KVM_MODULE).todo.expect("todo").contains("/lib/modules/6.12.8-amd64"));
}

#[test]
fn a_cpu_without_virtualization_blocks_and_knows_whether_it_is_a_vm() {
    let facts = Facts { modules: Vec::new(), cpu_flag: None, ..good() };
    assert!(blocks(&facts, "kvm-cpu").todo.expect("todo").contains("firmware"));
    let nested = Facts { in_vm: true, ..facts };
    assert!(blocks(&nested, "kvm-cpu").todo.expect("todo").contains("nested"));
}

#[test]
fn the_device_matters_only_for_guests_of_our_own() {
    for dev_kvm in [DevKvm::Refused, DevKvm::Missing, DevKvm::Broken("EBUSY".into())] {
        let finding = one(&Facts { dev_kvm, ..good() }, "kvm-device");
        assert_eq!(finding.severity, Severity::Note);
        assert!(finding.costs.expect("costs").contains("`demo`"));
    }
}

#[test]
fn no_vm_points_to_the_demo() {
    let idle = Facts { vms: Some(Vms::default()), ..good() };
    assert!(one(&idle, "vms").todo.expect("todo").contains("demo"));
    // Who may not look does not say that there is none.
    let blind = Facts { vms: Some(Vms { refused: 3, ..Vms::default() }), ..good() };
    assert!(!findings(&blind, &[], None).iter().any(|finding| finding.id == "vms"));
}

#[test]
fn tracefs_that_is_not_mounted_has_the_mount_command() {
    let finding = blocks(&Facts { tracefs: Tracefs::NotMounted, ..good() }, "tracefs");
    assert_eq!(finding.command.as_deref(), Some("sudo mount -t tracefs nodev /sys/kernel/tracing"));
}

#[test]
fn tracefs_that_is_not_readable_says_who_may() {
    let tracefs = Tracefs::Unreadable("/sys/kernel/tracing/events: refused".into());
    let facts = Facts { tracefs, ..good() };
    let finding = blocks(&facts, "tracefs");
    assert!(finding.todo.expect("todo").contains("CAP_DAC_READ_SEARCH"));
    assert_eq!(finding.command.as_deref(), Some("sudo /usr/bin/kvmscope doctor"));
    blocks(&Facts { cap_eff: 0, ..facts }, "rights");
}

#[test]
fn a_missing_tracepoint_is_a_warning() {
    let point = Tracepoint { name: "kvm:kvm_fpu".into(), problem: Some("gone".into()) };
    let facts = Facts { tracepoints: vec![point], ..good() };
    assert_eq!(one(&facts, "tracepoint:kvm:kvm_fpu").severity, Severity::Warning);
    let unloaded = Facts { modules: Vec::new(), ..facts };
    let found = findings(&unloaded, &[], None);
    assert!(!found.iter().any(|finding| finding.id.starts_with("tracepoint:")), "said once");
}

#[test]
fn missing_rights_have_the_exact_line() {
    let facts = Facts { cap_eff: 0, ..good() };
    let finding = blocks(&facts, "rights");
    assert_eq!(finding.what, "This process lacks CAP_BPF and CAP_PERFMON.");
    let line =
        "sudo setcap cap_bpf,cap_perfmon,cap_dac_read_search,cap_sys_ptrace+ep /usr/bin/kvmscope";
    assert_eq!(finding.command.as_deref(), Some(line));
    assert_eq!(one(&facts, "rights-proc").command, None, "the same line gives it");
    let blind = Facts { cap_eff: !(1 << Capability::SysPtrace as u8), ..good() };
    assert_eq!(one(&blind, "rights-proc").severity, Severity::Note);
    assert_eq!(one(&blind, "rights-proc").command.as_deref(), Some(line));

    let half = Facts { cap_eff: 1 << Capability::Bpf as u8, ..good() };
    assert_eq!(blocks(&half, "rights").what, "This process lacks CAP_PERFMON.");

    let old = Facts { kernel: "5.10.0".into(), cap_eff: 0, program: "/a b/k".into(), ..good() };
    let command = one(&old, "rights").command.expect("command");
    assert!(command.ends_with("cap_sys_resource+ep '/a b/k'"), "{command}");
}

#[test]
fn a_user_namespace_has_no_rights() {
    let finding = blocks(&Facts { initial_userns: false, ..good() }, "rights");
    assert!(finding.what.contains("rootless"));
}

#[test]
fn paranoid_matters_only_without_full_rights() {
    let caps = 1 << Capability::Bpf as u8 | 1 << Capability::Perfmon as u8;
    let facts = Facts { cap_eff: caps, perf_event_paranoid: Some(4), ..good() };
    assert_eq!(one(&facts, "perf-event-paranoid").severity, Severity::Warning);
    assert_eq!(one(&good(), "perf-event-paranoid").severity, Severity::Ok);
    let worked = findings(&facts, &attached(), None);
    assert!(worked.iter().all(|finding| finding.severity < Severity::Warning), "{worked:#?}");
}

#[test]
fn lockdown_counts_from_confidentiality_on() {
    let with = |lockdown| Facts { lockdown, ..good() };
    blocks(&with(Lockdown::Confidentiality), "lockdown");
    assert_eq!(one(&with(Lockdown::Integrity), "lockdown").severity, Severity::Ok);
}

#[test]
fn locked_memory_counts_before_5_11_without_the_capability() {
    let without = !(1 << Capability::SysResource as u8);
    let old = Facts { kernel: "5.10.0-46".into(), cap_eff: without, ..good() };
    assert_eq!(blocks(&old, "memlock").command.as_deref(), Some("ulimit -l unlimited"));
    for fine in [
        Facts { kernel: "5.11.0".into(), ..old.clone() },
        Facts { memlock: None, ..old.clone() },
        Facts { cap_eff: u64::MAX, ..old },
    ] {
        assert!(!findings(&fine, &[], None).iter().any(|finding| finding.id == "memlock"));
    }
}

#[test]
fn a_container_is_said() {
    let finding = one(&Facts { initial_pidns: false, ..good() }, "pid-namespace");
    assert_eq!(finding.severity, Severity::Warning);
}

#[test]
fn type_information_is_looked_for_where_kvm_is() {
    let none = Facts { btf: Btf { vmlinux: false, kvm: false }, ..good() };
    assert_eq!(one(&none, "btf").severity, Severity::Warning);
    let mut half = Facts { btf: Btf { vmlinux: true, kvm: false }, ..good() };
    assert_eq!(one(&half, "btf").severity, Severity::Note);
    half.modules[0].state = ModuleState::BuiltIn;
    assert_eq!(one(&half, "btf").severity, Severity::Ok, "built in: it is in vmlinux's");
}

#[test]
fn a_silent_backend_is_said_and_does_not_block() {
    let silent = SilentBackend::detect("pvm", 15_000, 0, 600_000_000);
    let found = findings(&good(), &attached(), silent);
    let finding = found.iter().find(|finding| finding.id == "silent-backend").expect("said");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.what.contains("kvm_exit stays silent"));
    assert_eq!(blocker(&found), None);

    let module = Module { name: "kvm_pvm".into(), state: ModuleState::BuiltIn };
    let pvm = Facts { modules: vec![module], cpu_flag: None, ..good() };
    assert_eq!(one(&pvm, "silent-backend").severity, Severity::Note, "not seen yet");
}

#[test]
fn one_probe_that_does_not_attach_is_a_warning_and_all_are_a_blocker() {
    let mut probes = attached();
    probes.push(refused());
    let found = findings(&good(), &probes, None);
    let finding = found.iter().find(|finding| finding.id == "probe:kvm:kvm_fpu").expect("said");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.what.ends_with("does not attach: the verifier refused it."));
    assert_eq!(blocker(&found), None);

    let found = findings(&good(), &[refused()], None);
    assert_eq!(blocker(&found).map(|finding| finding.id.as_str()), Some("probes"));
}

/// A function that cannot be probed is a fault only of what nobody has without asking for it.
#[test]
fn a_probe_that_only_a_family_wants_that_is_off_is_a_note() {
    let of = |family: &str| {
        let why = Some("this kernel is built without function probes".into());
        let refused = ProbeStatus { family: family.into(), why, ..refused() };
        let found = findings(&good(), &[attached(), vec![refused]].concat(), None);
        found.into_iter().find(|finding| finding.id == "probe:kvm:kvm_fpu").expect("said")
    };
    for family in Family::ASKABLE.into_iter().chain([Family::Base]) {
        use Family::{Culprits, Dirty, Ioctl, Irq, Irqchip, Roots, Timer, VcpuLoad, Wakeup};
        let finding = of(family.name());
        assert!(finding.what.ends_with("without function probes."), "{}", finding.what);
        let extra = [Culprits, Dirty, Roots, Ioctl, Irq, Irqchip, Timer, Wakeup, VcpuLoad];
        if extra.contains(&family) {
            let costs = format!("Only --probes {} would use it.", family.name());
            assert_eq!((finding.severity, finding.costs), (Severity::Note, Some(costs)));
        } else {
            assert_eq!((finding.severity, finding.costs), (Severity::Warning, None));
        }
    }
    assert_eq!(of("of another version").severity, Severity::Warning);
    // Where it is all that there is, nothing can be measured.
    let alone = [ProbeStatus { family: "roots".into(), ..refused() }];
    assert_eq!(blocker(&findings(&good(), &alone, None)).map(|f| f.id.as_str()), Some("probes"));
}

#[test]
fn what_stops_only_some_probes_is_no_blocker_once_one_is_attached() {
    let facts = Facts { tracefs: Tracefs::NotMounted, ..good() };
    let found = findings(&facts, &attached(), None);
    assert_eq!(blocker(&found), None);
    assert!(found.iter().any(|f| f.id == "tracefs" && f.severity == Severity::Warning));
}

#[test]
fn everything_that_is_found_is_a_sentence() {
    let worst = Facts { kernel: "4.19".into(), arch: "riscv64".into(), ..Facts::default() };
    let probes = [refused()];
    let silent = SilentBackend::detect("none", 8, 0, 1_000_000_000);
    for facts in [good(), worst] {
        for finding in findings(&facts, &probes, silent.clone()) {
            let sentences = [Some(&finding.what), finding.costs.as_ref(), finding.todo.as_ref()];
            for sentence in sentences.into_iter().flatten() {
                let last = sentence.chars().last();
                assert!(matches!(last, Some('.' | ':')) && !sentence.contains(".."), "{sentence}");
            }
        }
    }
}

/// Scripts go by the ids and the keys, so each is in the document.
#[test]
fn every_id_and_every_fact_is_documented() {
    let document = include_str!("../../../../docs/doctor.md");
    let worst = Facts { lockdown: Lockdown::Confidentiality, ..Facts::default() };
    let no_cpu = Facts { modules: Vec::new(), cpu_flag: None, ..good() };
    let point = Tracepoint { name: "kvm:kvm_fpu".into(), problem: Some("gone".into()) };
    let lame = Facts {
        tracepoints: vec![point],
        memlock: Some(0),
        kernel: "5.10".into(),
        cap_eff: 0,
        ..good()
    };
    for facts in [good(), worst, no_cpu, lame] {
        for finding in findings(&facts, &[refused()], None) {
            let id = match finding.id.split_once(':') {
                Some(("tracepoint", _)) => "tracepoint:SYSTEM:NAME",
                Some(("probe", _)) => "probe:NAME",
                _ => finding.id.as_str(),
            };
            assert!(document.contains(&format!("| `{id}` |")), "{id} is not documented");
        }
    }
    let value = serde_json::to_value(good()).expect("encodes");
    for key in value.as_object().expect("an object").keys() {
        assert!(document.contains(&format!("`{key}`")), "{key} is not documented");
    }
}
