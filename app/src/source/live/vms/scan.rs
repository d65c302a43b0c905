//! Which processes hold VMs: a scan of `/proc/*/fd`.

use super::facts::ProcFacts;
use rustix::fs::{Dir, Mode, OFlags, open, openat, readlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::path::Path;

/// Most file descriptors of one process that are looked at. QEMU with many disks and vhost queues
/// has some thousands.
const MAX_FDS: usize = 1 << 17;

/// A process that holds a VM, or vCPUs of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvmProcess {
    /// Thread group.
    pub pid: u32,
    /// File descriptors of VMs (`anon_inode:kvm-vm`). A duplicated one counts twice.
    pub vms: u32,
    /// File descriptors of vCPUs (`anon_inode:kvm-vcpu:N`). A duplicated one counts twice.
    pub vcpus: u32,
}

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Scan {
    /// Processes with VMs, by pid.
    pub processes: Vec<KvmProcess>,
    /// Processes whose descriptors this one may not see: there may be more VMs among them.
    /// Not zero means that CAP_SYS_PTRACE is missing.
    pub refused: u32,
}

impl Scan {
    /// vCPUs of all VMs found.
    pub fn vcpus(&self) -> u32 {
        self.processes.iter().map(|process| process.vcpus).sum()
    }

    /// What was found about one process.
    pub fn of(&self, pid: u32) -> Option<&KvmProcess> {
        self.processes.iter().find(|process| process.pid == pid)
    }
}

/// Why a process cannot be watched as a VM's, in a sentence; `None` when it can, or when that
/// cannot be known because processes were refused to the scan.
///
/// `facts` are those of `pid`, `None` when there is no such process.
pub fn why_no_vm(pid: u32, facts: Option<&ProcFacts>, scan: &Scan) -> Option<String> {
    let Some(facts) = facts else {
        return Some(format!("there is no process {pid}; {}", others(scan)));
    };
    if scan.of(pid).is_some() || scan.refused > 0 {
        return None;
    }
    // A name may hold anything; the sentence goes to a terminal.
    let comm: String = facts.comm.chars().filter(|c| !c.is_control()).collect();
    Some(format!("process {pid} ({comm}) holds no VM; {}", others(scan)))
}

/// What could be meant instead.
fn others(scan: &Scan) -> String {
    if scan.processes.is_empty() {
        return "no process holds a VM now (`kvmscope demo` starts one)".to_owned();
    }
    let pids: Vec<String> = scan.processes.iter().take(8).map(|p| p.pid.to_string()).collect();
    let more = if scan.processes.len() > pids.len() { ", …" } else { "" };
    format!("these hold VMs: {}{more}", pids.join(", "))
}

/// Scans every process. Takes some milliseconds per thousand descriptors; processes that end
/// meanwhile are left out. Errors only when `/proc` cannot be listed.
pub fn kvm_vm_pids() -> io::Result<Scan> {
    scan_in(Path::new("/proc"))
}

fn scan_in(proc: &Path) -> io::Result<Scan> {
    let root = open(proc, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut scan = Scan::default();
    // One buffer for every link of every process.
    let mut link = Vec::with_capacity(64);
    for entry in Dir::read_from(&root)? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = number(entry.file_name()) else { continue };
        let path = format!("{pid}/fd");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = match openat(&root, path.as_str(), flags, Mode::empty()) {
            Ok(fds) => fds,
            Err(Errno::ACCESS | Errno::PERM) => {
                scan.refused += 1;
                continue;
            }
            // It ended.
            Err(_) => continue,
        };
        let Ok(dir) = Dir::read_from(&fds) else { continue };
        let (mut vms, mut vcpus) = (0, 0);
        for fd in dir.take(MAX_FDS).filter_map(Result::ok) {
            let Ok(target) = readlinkat(&fds, fd.file_name(), link) else {
                link = Vec::new();
                continue;
            };
            match holds(target.to_bytes()) {
                Some(Held::Vm) => vms += 1,
                Some(Held::Vcpu) => vcpus += 1,
                None => {}
            }
            link = target.into_bytes();
        }
        if vms > 0 || vcpus > 0 {
            scan.processes.push(KvmProcess { pid, vms, vcpus });
        }
    }
    scan.processes.sort_unstable_by_key(|process| process.pid);
    Ok(scan)
}

#[derive(Debug, PartialEq, Eq)]
enum Held {
    Vm,
    Vcpu,
}

/// What a descriptor's link says. "kvm-vcpu-stats:N" is a file of statistics, not a vCPU.
fn holds(target: &[u8]) -> Option<Held> {
    let name = target.strip_prefix(b"anon_inode:")?;
    if name == b"kvm-vm" || name == b"[kvm-vm]" {
        Some(Held::Vm)
    } else if name.strip_prefix(b"[").unwrap_or(name).starts_with(b"kvm-vcpu:") {
        Some(Held::Vcpu)
    } else {
        None
    }
}

fn number(name: &CStr) -> Option<u32> {
    name.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_say_what_they_are() {
        assert_eq!(holds(b"anon_inode:kvm-vm"), Some(Held::Vm));
        assert_eq!(holds(b"anon_inode:kvm-vcpu:12"), Some(Held::Vcpu));
        for other in ["anon_inode:kvm-vcpu-stats:1", "anon_inode:kvm-vmx", "/dev/kvm", "socket:[1]"]
        {
            assert_eq!(holds(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn only_processes_with_vms_are_found() {
        let proc = tempfile::tempdir().expect("a directory");
        let process = |pid: &str, links: &[&str]| {
            let fd = proc.path().join(pid).join("fd");
            fs::create_dir_all(&fd).expect("created");
            for (nth, target) in links.iter().enumerate() {
                symlink(target, fd.join(nth.to_string())).expect("linked");
            }
        };
        process(
            "7",
            &["/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0", "anon_inode:kvm-vcpu:1"],
        );
        process("12", &["/dev/null", "socket:[7]"]);
        process(
            "3",
            &["anon_inode:kvm-vm", "anon_inode:kvm-vm", "/a/very/long/link".repeat(9).as_str()],
        );
        process("self", &["anon_inode:kvm-vm"]);
        fs::create_dir(proc.path().join("9")).expect("created");

        let scan = scan_in(proc.path()).expect("scanned");
        let expected =
            [KvmProcess { pid: 3, vms: 2, vcpus: 0 }, KvmProcess { pid: 7, vms: 1, vcpus: 2 }];
        assert_eq!(scan.processes, expected);
        assert_eq!((scan.vcpus(), scan.refused), (2, 0));
        assert!(scan.of(7).is_some() && scan.of(12).is_none());
    }

    #[test]
    fn a_process_without_a_vm_is_told_what_has_one() {
        let facts = ProcFacts { comm: "ba\u{1b}sh".into(), ..ProcFacts::default() };
        let mut scan = Scan::default();
        let none = why_no_vm(7, Some(&facts), &scan).expect("a sentence");
        assert!(
            none.starts_with("process 7 (bash) holds no VM; no process holds a VM now"),
            "{none}"
        );
        assert!(why_no_vm(7, None, &scan).expect("a sentence").contains("there is no process 7"));

        scan.processes = (1..=9).map(|pid| KvmProcess { pid, vms: 1, vcpus: 1 }).collect();
        let some = why_no_vm(77, Some(&facts), &scan).expect("a sentence");
        assert!(some.ends_with("these hold VMs: 1, 2, 3, 4, 5, 6, 7, 8, …"), "{some}");
        assert_eq!(why_no_vm(7, Some(&facts), &scan), None);
        scan.refused = 1;
        assert_eq!(why_no_vm(77, Some(&facts), &scan), None, "not known");
    }

    #[test]
    fn no_proc_is_an_error() {
        assert!(scan_in(Path::new("/nonexistent")).is_err());
    }
}
