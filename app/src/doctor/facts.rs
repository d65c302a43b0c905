//! The facts of a host that decide whether it can be watched. No I/O here.

use serde::Serialize;

/// Everything that [`super::findings()`] looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Default)]
pub struct Facts {
    /// Kernel release ("6.12.8-amd64").
    pub kernel: String,
    /// Machine ("x86_64").
    pub arch: String,
    /// CPUs online; 0 when unknown.
    pub cpus: u32,
    /// KVM's modules that are there, loaded or built in.
    pub modules: Vec<Module>,
    /// "vmx" or "svm" when `/proc/cpuinfo` has that flag.
    pub cpu_flag: Option<String>,
    /// Whether `/proc/cpuinfo` has the flag "hypervisor": the host is itself a VM.
    pub in_vm: bool,
    /// Whether a vendor module (`kvm-intel`, `kvm-amd`) is installed for this kernel.
    pub module_installed: bool,
    /// `/dev/kvm`.
    pub dev_kvm: DevKvm,
    /// The mounted tracefs.
    pub tracefs: Tracefs,
    /// The tracepoints that matter, where tracefs is readable.
    pub tracepoints: Vec<Tracepoint>,
    /// Type information.
    pub btf: Btf,
    /// Effective capabilities, the bits of `CapEff` in `/proc/self/status`.
    pub cap_eff: u64,
    /// Whether this process is in the initial user namespace, where capabilities count.
    pub initial_userns: bool,
    /// Whether it is in the initial pid namespace, where `/proc` has the pids that probes see.
    pub initial_pidns: bool,
    /// The text of `/proc/self/cgroup`.
    pub cgroup: String,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i32>,
    /// Lockdown.
    pub lockdown: Lockdown,
    /// Soft `RLIMIT_MEMLOCK`, bytes; `None` is unlimited.
    pub memlock: Option<u64>,
    /// Processes with VMs now; `None` when `/proc` could not be scanned.
    pub vms: Option<Vms>,
    /// Path of this program, for commands.
    pub program: String,
}

/// A module of KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Name as under `/sys/module` ("kvm_intel").
    pub name: String,
    /// How it is there.
    pub state: ModuleState,
}

/// How a module is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// Loaded; may be unloaded.
    Loaded,
    /// Part of the kernel image. Does not say that it found its hardware.
    BuiltIn,
}

/// What KVM runs guests with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Intel VMX.
    Vmx,
    /// AMD SVM.
    Svm,
    /// The paravirtual one (`kvm_pvm`), which needs neither.
    Pvm,
    /// None that is active.
    None,
}

impl Backend {
    /// The word of [`crate::model::session::Host::backend`].
    pub fn word(self) -> &'static str {
        match self {
            Self::Vmx => "vmx",
            Self::Svm => "svm",
            Self::Pvm => "pvm",
            Self::None => "none",
        }
    }
}

/// `/dev/kvm`: needed to run VMs, not to watch them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum DevKvm {
    /// There, and this process may open it.
    Usable,
    /// There, and may not be opened by this process.
    Refused,
    /// Not there.
    #[default]
    Missing,
    /// There, and opening it fails: why.
    Broken(String),
}

/// tracefs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Tracefs {
    /// Mounted at this path, and readable.
    Readable(String),
    /// Not mounted.
    #[default]
    NotMounted,
    /// Mounted, and this process may not read it: what was refused, and the kernel's answer.
    Unreadable(String),
}

/// A tracepoint that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tracepoint {
    /// "kvm:kvm_exit".
    pub name: String,
    /// Why its format cannot be read; `None` when it can.
    pub problem: Option<String>,
}

/// Type information of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Default)]
pub struct Btf {
    /// `/sys/kernel/btf/vmlinux`.
    pub vmlinux: bool,
    /// `/sys/kernel/btf/kvm`; where KVM is built in its types are in vmlinux's.
    pub kvm: bool,
}

/// The lockdown security module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Lockdown {
    /// Off.
    None,
    /// Nothing may change the kernel.
    Integrity,
    /// Nothing may read the kernel's secrets either; BPF cannot read its memory.
    Confidentiality,
    /// Not told: no such module, or securityfs is not mounted.
    #[default]
    Unknown,
}

/// What `/proc/*/fd` says about VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Default)]
pub struct Vms {
    /// Processes with VMs.
    pub processes: u32,
    /// vCPUs of all of them.
    pub vcpus: u32,
    /// Processes that could not be looked into.
    pub refused: u32,
}

/// A capability that matters: its bit in [`Facts::cap_eff`] (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Read tracefs, whose directories are root's.
    DacReadSearch = 2,
    /// See the files of other users' processes.
    SysPtrace = 19,
    /// Everything about BPF before 5.8, and what distributions kept for it.
    SysAdmin = 21,
    /// Lock more memory than the limit (BPF maps before 5.11).
    SysResource = 24,
    /// Attach to tracepoints (5.8).
    Perfmon = 38,
    /// Load programs and make maps (5.8).
    Bpf = 39,
}

impl Facts {
    /// Whether this process has a capability.
    pub fn has(&self, capability: Capability) -> bool {
        self.cap_eff & (1 << capability as u8) != 0
    }

    /// Whether it may load and attach, as far as capabilities say.
    pub fn may_load(&self) -> bool {
        let split = self.has(Capability::Bpf) && self.has(Capability::Perfmon);
        self.initial_userns && (self.has(Capability::SysAdmin) || split)
    }

    /// The module of that name, if it is there.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// KVM's backend. A vendor's module that is built in is there on every machine, so the CPU's
    /// flag has to agree.
    pub fn backend(&self) -> Backend {
        let flag = self.cpu_flag.as_deref();
        if self.module("kvm_intel").is_some() && flag == Some("vmx") {
            Backend::Vmx
        } else if self.module("kvm_amd").is_some() && flag == Some("svm") {
            Backend::Svm
        } else if self.module("kvm_pvm").is_some() {
            Backend::Pvm
        } else {
            Backend::None
        }
    }

    /// (major, minor) of the release; (0, 0) when it does not begin with numbers.
    pub fn version(&self) -> (u32, u32) {
        let mut numbers = self.kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_modules(names: &[&str], flag: Option<&str>) -> Facts {
        let module = |name: &&str| Module { name: (*name).into(), state: ModuleState::BuiltIn };
        Facts {
            modules: names.iter().map(module).collect(),
            cpu_flag: flag.map(str::to_owned),
            ..Facts::default()
        }
    }

    #[test]
    fn a_built_in_vendor_module_needs_its_cpu() {
        let both = ["kvm", "kvm_intel", "kvm_amd"];
        assert_eq!(with_modules(&both, Some("vmx")).backend(), Backend::Vmx);
        assert_eq!(with_modules(&both, Some("svm")).backend(), Backend::Svm);
        assert_eq!(with_modules(&both, None).backend(), Backend::None);
        assert_eq!(with_modules(&["kvm", "kvm_intel", "kvm_pvm"], None).backend(), Backend::Pvm);
        assert_eq!(with_modules(&["kvm"], Some("vmx")).backend(), Backend::None);
    }

    #[test]
    fn releases_are_compared_by_their_numbers() {
        let version = |kernel: &str| Facts { kernel: kernel.into(), ..Facts::default() }.version();
        assert_eq!(version("6.12.117+deb13-cloud-amd64"), (6, 12));
        assert_eq!(version("5.10.0-46"), (5, 10));
        assert_eq!(version("7.0-rc1"), (7, 0));
        assert_eq!(version("unknown"), (0, 0));
    }

    #[test]
    fn rights_count_only_in_the_initial_user_namespace() {
        let both = 1 << Capability::Bpf as u8 | 1 << Capability::Perfmon as u8;
        let mut facts = Facts { cap_eff: both, initial_userns: true, ..Facts::default() };
        assert!(facts.may_load());
        facts.cap_eff = 1 << Capability::Bpf as u8;
        assert!(!facts.may_load());
        facts.cap_eff = 1 << Capability::SysAdmin as u8;
        assert!(facts.may_load());
        facts.initial_userns = false;
        assert!(!facts.may_load());
    }
}
