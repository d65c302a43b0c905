//! Findings about the kernel and KVM.

use super::{Finding, KVM_MODULE, Severity, rights};
use crate::doctor::facts::{Backend, DevKvm, Facts, ModuleState, Tracefs};
use crate::doctor::silent::SilentBackend;
use crate::trace;

/// The oldest kernel that is tested.
const OLDEST: (u32, u32) = (5, 10);

pub fn kernel(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let what = format!("Linux {} on {}, {} CPUs.", facts.kernel, facts.arch, facts.cpus);
    if facts.version() < OLDEST {
        found.push(
            Finding::new("kernel", Severity::Warning, what)
                .costs("Linux 5.10 is the oldest kernel that kvmscope is made for and tested on: the verifier of an older one may refuse its probes.")
                .todo("Use Linux 5.10 or later."),
        );
    } else {
        found.push(Finding::new("kernel", Severity::Ok, what));
    }
    if facts.arch != "x86_64" {
        found.push(
            Finding::new(
                "arch",
                Severity::Blocker,
                format!("KVM's tracepoints on {} have other records than on x86_64.", facts.arch),
            )
            .costs("This version reads x86_64's only.")
            .todo("Run kvmscope on an x86_64 host."),
        );
    }
    found
}

pub fn kvm(facts: &Facts, silent: Option<&SilentBackend>) -> Vec<Finding> {
    let backend = facts.backend();
    let mut found = vec![match backend {
        Backend::None => not_loaded(facts),
        _ => Finding::new(KVM_MODULE, Severity::Ok, backend_sentence(facts, backend)),
    }];
    if let Some(silent) = silent {
        found.push(
            Finding::new("silent-backend", Severity::Warning, silent.sentence())
                .todo("Nothing to be done on this host; a backend with VMX or SVM fires it."),
        );
    } else if backend == Backend::Pvm {
        found.push(
            Finding::new("silent-backend", Severity::Note, "The paravirtual backend has kvm_exit and kvm_entry and may never fire them; kvmscope says so when it sees a vCPU run without.")
                .costs("Then only userspace exits are shown."),
        );
    }
    if backend != Backend::None {
        found.push(device(facts));
        found.extend(vms(facts));
    }
    found
}

fn backend_sentence(facts: &Facts, backend: Backend) -> String {
    let module = match backend {
        Backend::Vmx => "kvm_intel",
        Backend::Svm => "kvm_amd",
        _ => "kvm_pvm",
    };
    let state = match facts.module(module).map(|module| module.state) {
        Some(ModuleState::BuiltIn) => "built into the kernel",
        _ => "loaded",
    };
    match backend {
        Backend::Pvm => format!("KVM's backend is the paravirtual one: {module} is {state}."),
        _ => format!(
            "KVM's backend is {}: {module} is {state}, and the CPU has it.",
            backend.word().to_uppercase()
        ),
    }
}

fn not_loaded(facts: &Facts) -> Finding {
    let nothing = "No VM can run with KVM, and there is nothing to watch.";
    let (vendor, module) = match facts.cpu_flag.as_deref() {
        Some("vmx") => ("VMX", "kvm_intel"),
        Some("svm") => ("SVM", "kvm_amd"),
        _ => {
            let todo = if facts.in_vm {
                "This machine is itself a VM: its host has to give it nested virtualization."
            } else {
                "Enable virtualization in the machine's firmware, if it can do it."
            };
            return Finding::new(
                "kvm-cpu",
                Severity::Blocker,
                "This CPU shows neither VMX nor SVM, and there is no paravirtual KVM.",
            )
            .costs(nothing)
            .todo(todo);
        }
    };
    let finding = Finding::new(
        KVM_MODULE,
        Severity::Blocker,
        format!("The CPU has {vendor}, but {module} is not loaded."),
    )
    .costs(nothing);
    if facts.module_installed {
        finding.todo("Load it.").command(format!("sudo modprobe {module}"))
    } else {
        finding
            .todo(format!(
                "Load it. No module of KVM is to be seen in /lib/modules/{}: if this fails, \
                 install the package of this kernel that has it.",
                facts.kernel
            ))
            .command(format!("sudo modprobe {module}"))
    }
}

fn device(facts: &Facts) -> Finding {
    let note = |what: String| {
        Finding::new("kvm-device", Severity::Note, what)
            .costs("VMs of other processes can be watched; `demo` and `guest` cannot run.")
    };
    match &facts.dev_kvm {
        DevKvm::Usable => Finding::new("kvm-device", Severity::Ok, "/dev/kvm can be opened."),
        DevKvm::Refused => note("/dev/kvm may not be opened by this user.".to_owned())
            .todo("Be root, or join the device's group (`ls -l /dev/kvm`; usually kvm) and log in again.")
            .command("sudo usermod -aG kvm \"$USER\""),
        DevKvm::Missing => note("There is no /dev/kvm.".to_owned())
            .todo("In a container, hand the device in; else udev should make it."),
        DevKvm::Broken(why) => note(format!("/dev/kvm cannot be opened: {why}.")),
    }
}

fn vms(facts: &Facts) -> Option<Finding> {
    let vms = facts.vms?;
    let what = match vms.processes {
        0 if vms.refused > 0 => return None,
        0 => "No VM is running now.".to_owned(),
        1 => format!("One process holds a VM now, with {} vCPUs.", vms.vcpus),
        n => format!("{n} processes hold VMs now, with {} vCPUs.", vms.vcpus),
    };
    let finding = Finding::new("vms", Severity::Ok, what);
    Some(if vms.processes == 0 {
        finding.todo("`kvmscope demo` starts one and watches it.")
    } else {
        finding
    })
}

pub fn tracefs(facts: &Facts, bad: Severity) -> Vec<Finding> {
    let costs = "The layout of kvm_exit's record is not known: no exit reasons.";
    match &facts.tracefs {
        Tracefs::NotMounted => vec![
            Finding::new("tracefs", bad, "tracefs is not mounted.")
                .costs(costs)
                .todo("Mount it.")
                .command(trace::MOUNT),
        ],
        Tracefs::Unreadable(why) => vec![
            Finding::new("tracefs", bad, format!("tracefs cannot be read by this user ({why})."))
                .costs(costs)
                .todo("Run as root or with CAP_DAC_READ_SEARCH; its directories are root's.")
                .command(format!("sudo {} doctor", rights::quoted(&facts.program))),
        ],
        Tracefs::Readable(place) => {
            let what = format!("tracefs is mounted at {place} and readable.");
            let mut found = vec![Finding::new("tracefs", Severity::Ok, what)];
            // Without a module its tracepoints are missing too; that is said once.
            let missing = facts.tracepoints.iter().filter(|point| point.problem.is_some());
            found.extend(missing.filter(|_| facts.backend() != Backend::None).map(|point| {
                let why = point.problem.as_deref().unwrap_or_default();
                let id = format!("tracepoint:{}", point.name);
                Finding::new(&id, Severity::Warning, format!("{} is missing: {why}.", point.name))
                    .costs("The probe for it cannot be attached.")
            }));
            found
        }
    }
}

pub fn btf(facts: &Facts) -> Vec<Finding> {
    let built_in = facts.module("kvm").is_some_and(|kvm| kvm.state == ModuleState::BuiltIn);
    vec![if !facts.btf.vmlinux {
        Finding::new("btf", Severity::Warning, "The kernel has no type information (BTF).")
            .costs("Start times of processes are not known to the probes, and a reused pid may be taken for the VM before it.")
            .todo("Use a kernel with CONFIG_DEBUG_INFO_BTF; distributions have had it since about 5.10.")
    } else if !facts.btf.kvm && !built_in && facts.module("kvm").is_some() {
        Finding::new("btf", Severity::Note, "KVM's module has no type information (BTF).")
            .costs("Several VMs of one process may not be told apart.")
            .todo("Use Linux 5.11 or later with CONFIG_DEBUG_INFO_BTF_MODULES.")
    } else {
        Finding::new("btf", Severity::Ok, "The kernel has type information (BTF).")
    }]
}
