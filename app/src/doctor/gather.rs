//! Reading the facts of this host. Every question that has no answer leaves its fact unset.

use super::facts::{Btf, DevKvm, Facts, Lockdown, Module, ModuleState, Tracefs, Tracepoint, Vms};
use crate::source::live::vms::kvm_vm_pids;
use crate::trace::{self, TraceError};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The tracepoints without which a view is missing.
const TRACEPOINTS: [(&str, &str); 6] = [
    ("kvm", "kvm_exit"),
    ("kvm", "kvm_entry"),
    ("kvm", "kvm_userspace_exit"),
    ("kvm", "kvm_fpu"),
    ("sched", "sched_switch"),
    ("sched", "sched_process_exit"),
];
/// Inodes of the initial namespaces (include/linux/proc_ns.h).
const INITIAL_PIDNS: &str = "pid:[4026531836]";

/// Reads the facts of this host. Takes some milliseconds; opens `/dev/kvm` and closes it again.
pub fn gather() -> Facts {
    let uname = rustix::system::uname();
    let memlock = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let tracefs = trace::find();
    let scan = kvm_vm_pids().ok();
    Facts {
        memlock,
        tracepoints: tracefs.as_deref().map(tracepoints).unwrap_or_default(),
        tracefs: match tracefs {
            Ok(path) => Tracefs::Readable(path.display().to_string()),
            Err(TraceError::NotMounted) => Tracefs::NotMounted,
            Err(TraceError::Unreadable { path, error }) => {
                Tracefs::Unreadable(format!("{}: {error}", path.display()))
            }
            Err(error) => Tracefs::Unreadable(error.to_string()),
        },
        vms: scan.map(|scan| Vms {
            processes: u32::try_from(scan.processes.len()).unwrap_or(u32::MAX),
            vcpus: scan.vcpus(),
            refused: scan.refused,
        }),
        program: std::env::current_exe()
            .map_or_else(|_| "kvmscope".to_owned(), |path| path.display().to_string()),
        ..Host::new("/")
            .facts(&uname.release().to_string_lossy(), &uname.machine().to_string_lossy())
    }
}

fn tracepoints(tracefs: &Path) -> Vec<Tracepoint> {
    let read = |(system, event)| Tracepoint {
        name: format!("{system}:{event}"),
        problem: trace::read_format(tracefs, system, event).err().map(|error| error.to_string()),
    };
    TRACEPOINTS.map(read).into()
}

/// The files of a host below a directory, "/" outside tests.
struct Host(PathBuf);

impl Host {
    fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// The text of a file, empty where it cannot be read.
    fn text(&self, path: &str) -> String {
        fs::read(self.path(path))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn number(&self, path: &str) -> Option<i32> {
        self.text(path).trim().parse().ok()
    }

    fn facts(&self, kernel: &str, arch: &str) -> Facts {
        let cpuinfo = self.text("proc/cpuinfo");
        let flags: Vec<&str> = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("flags"))
            .map(|rest| rest.split_whitespace().collect())
            .unwrap_or_default();
        let status = self.text("proc/self/status");
        let cap_eff = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Facts {
            kernel: kernel.to_owned(),
            arch: arch.to_owned(),
            cpus: count_list(&self.text("sys/devices/system/cpu/online")),
            modules: self.modules(),
            cpu_flag: ["vmx", "svm"].into_iter().find(|f| flags.contains(f)).map(str::to_owned),
            in_vm: flags.contains(&"hypervisor"),
            module_installed: self.module_installed(kernel),
            dev_kvm: self.dev_kvm(),
            btf: Btf {
                vmlinux: self.path("sys/kernel/btf/vmlinux").exists(),
                kvm: self.path("sys/kernel/btf/kvm").exists(),
            },
            cap_eff: cap_eff.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0),
            initial_userns: is_identity_map(&self.text("proc/self/uid_map")),
            // Where it cannot be told it is taken for the usual case.
            initial_pidns: fs::read_link(self.path("proc/self/ns/pid"))
                .map_or(true, |link| link == Path::new(INITIAL_PIDNS)),
            cgroup: self.text("proc/self/cgroup"),
            perf_event_paranoid: self.number("proc/sys/kernel/perf_event_paranoid"),
            unprivileged_bpf_disabled: self.number("proc/sys/kernel/unprivileged_bpf_disabled"),
            lockdown: lockdown(&self.text("sys/kernel/security/lockdown")),
            ..Facts::default()
        }
    }

    fn modules(&self) -> Vec<Module> {
        let there = |name: &&str| self.path("sys/module").join(name).is_dir();
        let module = |name: &str| Module {
            name: name.to_owned(),
            // Only what was loaded has a state; what is built in has none.
            state: if self.path("sys/module").join(name).join("initstate").exists() {
                ModuleState::Loaded
            } else {
                ModuleState::BuiltIn
            },
        };
        ["kvm", "kvm_intel", "kvm_amd", "kvm_pvm"].into_iter().filter(there).map(module).collect()
    }

    fn module_installed(&self, kernel: &str) -> bool {
        ["modules.dep", "modules.builtin"].into_iter().any(|list| {
            let text = self.text(&format!("lib/modules/{kernel}/{list}"));
            text.contains("/kvm-intel.ko") || text.contains("/kvm-amd.ko")
        })
    }

    fn dev_kvm(&self) -> DevKvm {
        match OpenOptions::new().read(true).write(true).open(self.path("dev/kvm")) {
            Ok(_) => DevKvm::Usable,
            Err(error) => match error.kind() {
                ErrorKind::NotFound => DevKvm::Missing,
                ErrorKind::PermissionDenied => DevKvm::Refused,
                _ => DevKvm::Broken(error.to_string()),
            },
        }
    }
}

/// The choice in brackets of `none [integrity] confidentiality`.
fn lockdown(text: &str) -> Lockdown {
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    match chosen.map(|(word, _)| word) {
        Some("none") => Lockdown::None,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// How many numbers are in "0-3,8".
fn count_list(text: &str) -> u32 {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    text.trim().split(',').filter_map(range).fold(0, u32::saturating_add)
}

/// Whether an `uid_map` maps every id to itself, as only the initial namespace's does. Without the
/// file (no user namespaces in the kernel) there is no other namespace.
fn is_identity_map(text: &str) -> bool {
    let numbers: Vec<&str> = text.split_whitespace().collect();
    numbers.is_empty() || numbers == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Backend;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, text).expect("written");
        }
        let host = Host::new(dir.path());
        (dir, host)
    }

    #[test]
    fn an_amd_host_with_its_module_loaded() {
        let (_dir, host) = host(&[
            ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu svm npt\nbugs\t\t: x\n"),
            ("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n"),
            ("proc/self/uid_map", "         0          0 4294967295\n"),
            ("proc/sys/kernel/perf_event_paranoid", "3\n"),
            ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
            ("sys/devices/system/cpu/online", "0-3,6\n"),
            ("sys/module/kvm/initstate", "live\n"),
            ("sys/module/kvm_amd/initstate", "live\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("sys/kernel/btf/kvm", ""),
            ("sys/kernel/security/lockdown", "[none] integrity confidentiality\n"),
            ("lib/modules/6.12.1/modules.dep", "kernel/arch/x86/kvm/kvm-amd.ko.xz: x\n"),
            ("dev/kvm", ""),
        ]);
        let facts = host.facts("6.12.1", "x86_64");
        assert_eq!(facts.backend(), Backend::Svm);
        assert_eq!(facts.module("kvm_amd").expect("there").state, ModuleState::Loaded);
        assert_eq!(facts.cpus, 5);
        assert_eq!(facts.cap_eff, 0x1ff_ffff_ffff);
        assert!(facts.may_load() && facts.module_installed && !facts.in_vm);
        assert_eq!(facts.perf_event_paranoid, Some(3));
        assert_eq!(facts.unprivileged_bpf_disabled, Some(2));
        assert_eq!(facts.lockdown, Lockdown::None);
        assert_eq!(facts.btf, Btf { vmlinux: true, kvm: true });
        assert_eq!(facts.dev_kvm, DevKvm::Usable);
    }

    #[test]
    fn a_host_that_says_nothing_leaves_facts_unset() {
        let (_dir, host) = host(&[]);
        let facts = host.facts("6.1.0", "x86_64");
        assert_eq!(facts.backend(), Backend::None);
        assert_eq!((facts.cpus, facts.cap_eff, facts.cpu_flag.as_deref()), (0, 0, None));
        assert_eq!((facts.perf_event_paranoid, facts.lockdown), (None, Lockdown::Unknown));
        assert_eq!((facts.dev_kvm, facts.module_installed), (DevKvm::Missing, false));
    }

    #[test]
    fn a_module_without_a_state_is_built_in() {
        let (_dir, host) =
            host(&[("sys/module/kvm_pvm/parameters/x", "1"), ("sys/module/kvm/parameters/y", "1")]);
        let facts = host.facts("6.18.0", "x86_64");
        assert_eq!(facts.backend(), Backend::Pvm);
        assert_eq!(facts.module("kvm_pvm").expect("there").state, ModuleState::BuiltIn);
    }

    #[test]
    fn lists_and_maps_are_read() {
        assert_eq!(count_list("0\n"), 1);
        assert_eq!(count_list("0-3,8,10-11"), 7);
        assert_eq!(count_list(""), 0);
        assert_eq!(count_list("3-1,x,4294967295,0-4294967295"), 1);
        assert!(is_identity_map("0 0 4294967295\n") && is_identity_map(""));
        assert!(!is_identity_map("0 1000 1\n1 100000 65536\n"));
        assert_eq!(lockdown("none [confidentiality]"), Lockdown::Confidentiality);
    }

    #[test]
    fn this_host_can_be_gathered() {
        let facts = gather();
        assert!(facts.version() > (2, 6) && !facts.arch.is_empty() && facts.cpus > 0);
    }
}
