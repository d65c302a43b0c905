//! What the host does meanwhile: steal, our own CPU time, clocks, the kvm module.

use super::kernel::read_line;
use kvmscope_shared::column::{ISA_SVM, ISA_VMX};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;

/// Vendor modules of KVM on x86, and the backend each stands for.
const VENDORS: [(&str, &str); 3] = [("kvm_intel", "vmx"), ("kvm_amd", "svm"), ("kvm_pvm", "pvm")];

/// `isa` of a `kvm_exit` record of a backend; 0 for one without any.
pub fn isa(backend: Option<&str>) -> u32 {
    match backend {
        Some("vmx") => ISA_VMX,
        Some("svm") => ISA_SVM,
        _ => 0,
    }
}

/// A clock, ns.
pub fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The probes' clock now (CLOCK_MONOTONIC), ns.
pub fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// Wall time, ns since the Unix epoch.
pub fn unix_ns() -> u64 {
    clock_ns(ClockId::Realtime)
}

/// CPU time of this process so far, ns.
pub fn own_cpu_ns() -> u64 {
    clock_ns(ClockId::ProcessCPUTime)
}

/// Steal time of all CPUs since boot, ns, from a `/proc/stat`.
pub fn steal_ns(stat: &str) -> u64 {
    // USER_HZ is 100 on every architecture that KVM runs on.
    let ticks = stat.lines().next().and_then(|line| line.split_whitespace().nth(8));
    ticks.and_then(|t| t.parse::<u64>().ok()).unwrap_or(0) * 10_000_000
}

/// Steal time of all CPUs since boot, ns.
pub fn read_steal_ns() -> u64 {
    std::fs::read_to_string("/proc/stat").map_or(0, |stat| steal_ns(&stat))
}

/// KVM as loaded now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Whether kvm is there, as a module or built in.
    pub kvm: bool,
    /// The vendor module, when there is one.
    pub vendor: Option<&'static str>,
}

impl Module {
    /// Looks at `/sys/module`.
    pub fn read() -> Self {
        let there = |name: &str| Path::new("/sys/module").join(name).exists();
        Self {
            kvm: there("kvm"),
            vendor: VENDORS.iter().find(|(module, _)| there(module)).map(|(_, backend)| *backend),
        }
    }

    /// The backend's name: "vmx", "svm", "pvm", "unknown" (kvm without a vendor part), or "none".
    pub fn backend(&self) -> &'static str {
        self.vendor.unwrap_or(if self.kvm { "unknown" } else { "none" })
    }

    /// Whether `kvm_entry` and `kvm_exit` are known to fire with it.
    pub fn fires_entries(&self) -> bool {
        matches!(self.vendor, Some("vmx" | "svm"))
    }
}

/// Whether KVM may let the processor deliver interrupts, by the vendor module's parameter; `None` where it
/// has none. Parameters of modules are Y and N, or numbers.
pub fn apicv(vendor: Option<&str>) -> Option<bool> {
    let parameter = match vendor? {
        "vmx" => "kvm_intel/parameters/enable_apicv",
        "svm" => "kvm_amd/parameters/avic",
        _ => return None,
    };
    is_on(&read_line(Path::new("/sys/module").join(parameter))?)
}

fn is_on(parameter: &str) -> Option<bool> {
    match parameter {
        "Y" | "1" => Some(true),
        "N" | "0" => Some(false),
        _ => None,
    }
}

/// The host's name.
pub fn host_name() -> String {
    read_line("/proc/sys/kernel/hostname").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_on_off_or_not_told() {
        assert_eq!((is_on("Y"), is_on("0"), is_on("-1")), (Some(true), Some(false), None));
        assert_eq!((apicv(None), apicv(Some("pvm"))), (None, None));
    }

    #[test]
    fn steal_is_the_eighth_number() {
        assert_eq!(steal_ns("cpu  1 2 3 4 5 6 7 42 9 0\ncpu0 ..."), 420_000_000);
        assert_eq!(steal_ns("cpu  1 2 3"), 0);
        assert_eq!(steal_ns(""), 0);
    }
}
