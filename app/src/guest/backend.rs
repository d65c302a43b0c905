//! Which hardware, or what else, runs the guests of this host.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::code::HypercallInsn;

/// KVM's vendor module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Intel VMX (`kvm_intel`).
    Vmx,
    /// AMD SVM (`kvm_amd`).
    Svm,
    /// A paravirtual backend without hardware help (`kvm_pvm`).
    Pvm,
    /// None of these.
    Unknown,
}

impl Backend {
    /// The name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vmx => "vmx",
            Self::Svm => "svm",
            Self::Pvm => "pvm",
            Self::Unknown => "unknown",
        }
    }

    /// The hypercall instruction that leaves the guest, or why there is none to use.
    pub fn hypercall(self) -> Result<HypercallInsn, String> {
        match self {
            Self::Vmx => Ok(HypercallInsn::Vmcall),
            Self::Svm => Ok(HypercallInsn::Vmmcall),
            Self::Pvm => Err("the paravirtual backend emulates the guest's kernel mode, where it \
                 rewrites VMCALL and VMMCALL and runs them again for ever"
                .to_owned()),
            Self::Unknown => Err("neither kvm_intel nor kvm_amd runs guests here, so it is not \
                 known which of VMCALL and VMMCALL leaves the guest"
                .to_owned()),
        }
    }
}

/// What is known about this host's KVM; the facts that exact counts depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Who runs guests.
    pub backend: Backend,
    /// Two-dimensional paging (EPT or NPT) is on, so a guest's first touch is one exit.
    pub nested_paging: bool,
    /// Code without paging runs on the processor rather than in KVM's emulator.
    pub unrestricted: bool,
    /// KVM remembers in the EPT which pages have no memory, so that only the first access
    /// to one is an EPT violation.
    pub mmio_caching: bool,
    /// The processor logs the pages that the guest writes (VMX, PML), so that dirty logging needs no
    /// page faults.
    pub page_log: bool,
    /// The processor says where the next instruction is (SVM), which KVM needs for fast MMIO.
    pub next_rip: bool,
    /// KVM maps huge pages without leave to execute first (NX huge pages).
    pub nx_huge_pages: bool,
    /// The processor can intercept idle HLTs under a code of their own (AMD, IDLE_HLT), which
    /// newer kernels do.
    pub idle_hlt: bool,
    /// The processor delivers interrupts to guests by itself (VMX APICv, SVM AVIC), where nothing keeps it
    /// from that.
    pub apicv: bool,
}

impl Host {
    /// It does, by SVM's AVIC.
    pub fn avic(&self) -> bool {
        self.apicv && self.backend != Backend::Vmx
    }

    /// Finds out from `/sys/module` and `/proc/cpuinfo`.
    pub fn detect() -> Self {
        Self::detect_in(Path::new("/"), has_idle_hlt())
    }

    /// The same below another root folder.
    fn detect_in(root: &Path, idle_hlt: bool) -> Self {
        let module = |name: &str| root.join("sys/module").join(name);
        let cpuinfo = std::fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        let flag = |name: &str| {
            cpuinfo
                .lines()
                .find(|line| line.starts_with("flags"))
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == name))
        };
        // Built-in vendor modules have a folder on every machine, hence the flag as well.
        let backend = if module("kvm_pvm").exists() {
            Backend::Pvm
        } else if module("kvm_intel").exists() && flag("vmx") {
            Backend::Vmx
        } else if module("kvm_amd").exists() && flag("svm") {
            Backend::Svm
        } else {
            Backend::Unknown
        };
        // Bool parameters read Y or N, older kernels' int ones 1 or 0; absent means always on.
        let on = |owner: &str, parameter: &str| {
            std::fs::read_to_string(module(owner).join("parameters").join(parameter))
                .map_or(true, |value| !matches!(value.trim(), "N" | "0"))
        };
        let enabled = |owner: &str, parameter: &str| {
            std::fs::read_to_string(module(owner).join("parameters").join(parameter))
                .is_ok_and(|value| matches!(value.trim(), "Y" | "1"))
        };
        Self {
            backend,
            nested_paging: match backend {
                Backend::Vmx => on("kvm_intel", "ept"),
                Backend::Svm => on("kvm_amd", "npt"),
                _ => false,
            },
            unrestricted: match backend {
                Backend::Vmx => on("kvm_intel", "unrestricted_guest"),
                Backend::Svm => true,
                _ => false,
            },
            mmio_caching: on("kvm", "mmio_caching"),
            page_log: backend == Backend::Vmx
                && ["ept", "eptad", "pml"].iter().all(|&parameter| on("kvm_intel", parameter)),
            nx_huge_pages: enabled("kvm", "nx_huge_pages"),
            apicv: match backend {
                Backend::Vmx => enabled("kvm_intel", "enable_apicv"),
                Backend::Svm => enabled("kvm_amd", "avic"),
                _ => false,
            },
            next_rip: backend == Backend::Svm && on("kvm_amd", "nrips"),
            idle_hlt,
        }
    }
}

/// CPUID 8000000AH, EDX bit 30: IDLE_HLT intercept (AMD APM volume 2, 15.9). `/proc/cpuinfo`
/// does not list it.
fn has_idle_hlt() -> bool {
    use std::arch::x86_64::__cpuid;
    const SVM_LEAF: u32 = 0x8000_000a;
    __cpuid(0x8000_0000).eax >= SVM_LEAF && __cpuid(SVM_LEAF).edx >> 30 & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(modules: &[(&str, &[(&str, &str)])], flags: &str) -> Host {
        let root = tempfile::tempdir().expect("a folder");
        let put = |path: String, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, text).expect("written");
        };
        put("proc/cpuinfo".to_owned(), &format!("processor: 0\nflags\t\t: fpu {flags} sse\n"));
        for (module, parameters) in modules {
            put(format!("sys/module/{module}/refcnt"), "0");
            for (name, value) in *parameters {
                put(format!("sys/module/{module}/parameters/{name}"), value);
            }
        }
        Host::detect_in(root.path(), false)
    }

    #[test]
    fn the_vendor_module_and_the_processor_must_agree() {
        assert_eq!(host(&[("kvm_intel", &[])], "vmx").backend, Backend::Vmx);
        assert_eq!(host(&[("kvm_amd", &[])], "svm").backend, Backend::Svm);
        let built_in: &[(&str, &[(&str, &str)])] = &[("kvm_intel", &[]), ("kvm_amd", &[])];
        assert_eq!(host(built_in, "svm").backend, Backend::Svm);
        assert_eq!(host(built_in, "").backend, Backend::Unknown);
        assert_eq!(host(&[("kvm_pvm", &[])], "").backend, Backend::Pvm);
    }

    #[test]
    fn parameters_are_read_in_both_spellings() {
        let on = host(&[("kvm_intel", &[("ept", "Y\n")])], "vmx");
        assert!(on.nested_paging && on.unrestricted && on.mmio_caching);
        assert!(!host(&[("kvm_intel", &[("ept", "N\n")])], "vmx").nested_paging);
        assert!(!host(&[("kvm_amd", &[("npt", "0\n")])], "svm").nested_paging);
        assert!(!host(&[("kvm_intel", &[("unrestricted_guest", "N\n")])], "vmx").unrestricted);
        assert!(!host(&[("kvm", &[("mmio_caching", "N\n")])], "svm").mmio_caching);
    }

    #[test]
    fn hypercalls_are_refused_with_a_sentence_where_they_would_loop() {
        assert!(Backend::Pvm.hypercall().is_err_and(|why| why.contains("for ever")));
        assert_eq!(Backend::Vmx.hypercall(), Ok(HypercallInsn::Vmcall));
        assert_eq!(Backend::Svm.hypercall(), Ok(HypercallInsn::Vmmcall));
    }
}
