//! Name and kind of a VM from the facts of its process. Pure.

use super::facts::ProcFacts;
use super::options::{qemu_name, socket_name, value};
use std::path::Path;

/// Longest name, characters. libvirt and Kubernetes stay below; a hostile process may not.
pub const MAX_NAME: usize = 128;

/// What a VM is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Name of the guest; comm and pid where nothing says it. Raw: not safe to print as it is.
    pub name: String,
    /// Kind of VMM: "qemu", "firecracker", "cloud-hypervisor", "crosvm", "kvmtool", "guest"
    /// (kvmscope's own), else the process's comm.
    pub vmm: String,
}

/// The VMMs that are known by sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vmm {
    Qemu,
    Firecracker,
    CloudHypervisor,
    Crosvm,
    Kvmtool,
    Guest,
}

impl Vmm {
    fn word(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Firecracker => "firecracker",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Crosvm => "crosvm",
            Self::Kvmtool => "kvmtool",
            Self::Guest => "guest",
        }
    }
}

/// Names the `nth` VM (from 0) of a process. The second and later ones have "#nth" behind the
/// name, since a process has one name for all of them.
pub fn describe(facts: &ProcFacts, nth: u32) -> Description {
    let vmm = recognise(facts);
    let name = match vmm {
        Some(Vmm::Qemu) => qemu(facts),
        Some(Vmm::Firecracker) => firecracker(facts),
        Some(Vmm::CloudHypervisor) => cloud_hypervisor(facts),
        Some(Vmm::Crosvm) => crosvm(facts),
        Some(Vmm::Kvmtool) => value(&facts.cmdline, &["--name", "-n"]).map(str::to_owned),
        Some(Vmm::Guest) => value(&facts.cmdline, &["--name"]).map(str::to_owned),
        None => None,
    };
    let name = name
        .or_else(|| libvirt_name(&facts.cgroup))
        // A guest of ours in a pod is not the pod's guest.
        .or_else(|| (vmm != Some(Vmm::Guest)).then(|| pod(&facts.cgroup)).flatten())
        .or_else(|| qemu_uuid(facts, vmm))
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(|| format!("{}[{}]", facts.comm, facts.pid));
    let mut name: String = name.chars().take(MAX_NAME).collect();
    if nth > 0 {
        name += &format!("#{nth}");
    }
    let vmm = vmm.map_or_else(|| facts.comm.clone(), |vmm| vmm.word().to_owned());
    Description { name, vmm: vmm.chars().take(MAX_NAME).collect() }
}

/// By the program, the name it was called by, and the process's name, in this order: the first is
/// the hardest to get wrong and is not always known.
fn recognise(facts: &ProcFacts) -> Option<Vmm> {
    let exe = facts.exe.as_deref().and_then(base);
    let called = facts.cmdline.first().and_then(|path| base(Path::new(path)));
    let candidates = [exe, called, Some(facts.comm.as_str())];
    candidates.into_iter().flatten().find_map(|program| by_program(program, &facts.cmdline))
}

fn base(path: &Path) -> Option<&str> {
    // A program that was replaced while it runs reads "/usr/bin/qemu-system-x86_64 (deleted)".
    path.file_name()?.to_str().map(|name| name.strip_suffix(" (deleted)").unwrap_or(name))
}

fn by_program(program: &str, cmdline: &[String]) -> Option<Vmm> {
    let begins = |with: &str| program.starts_with(with);
    // "kvm" is QEMU on Debian and Proxmox; comm cuts "qemu-system-x86_64" to 15 bytes.
    if begins("qemu-system") || begins("qemu-kvm") || program == "qemu" || program == "kvm" {
        Some(Vmm::Qemu)
    } else if begins("firecracker") {
        Some(Vmm::Firecracker)
    } else if begins("cloud-hyperviso") {
        Some(Vmm::CloudHypervisor)
    } else if begins("crosvm") {
        Some(Vmm::Crosvm)
    } else if begins("lkvm") || program == "kvmtool" {
        Some(Vmm::Kvmtool)
    } else if program == "kvmscope" && cmdline.iter().skip(1).any(|word| word == "guest") {
        Some(Vmm::Guest)
    } else {
        None
    }
}

fn qemu(facts: &ProcFacts) -> Option<String> {
    let name = value(&facts.cmdline, &["-name", "--name"]).and_then(qemu_name)?;
    // KubeVirt calls the domain NAMESPACE_NAME; a namespace has no underscore.
    if facts.cgroup.contains("kubepods")
        && let Some((namespace, guest)) = name.split_once('_')
        && !namespace.is_empty()
        && !guest.is_empty()
    {
        return Some(format!("{namespace}/{guest}"));
    }
    Some(name)
}

fn qemu_uuid(facts: &ProcFacts, vmm: Option<Vmm>) -> Option<String> {
    let uuid = value(&facts.cmdline, &["-uuid", "--uuid"]);
    uuid.filter(|_| vmm == Some(Vmm::Qemu)).map(str::to_owned)
}

fn firecracker(facts: &ProcFacts) -> Option<String> {
    // "anonymous-instance" is what Firecracker calls itself without --id.
    let id = value(&facts.cmdline, &["--id"]).filter(|id| *id != "anonymous-instance");
    let socket = || value(&facts.cmdline, &["--api-sock"]).and_then(socket_name);
    id.or_else(socket).map(str::to_owned)
}

fn cloud_hypervisor(facts: &ProcFacts) -> Option<String> {
    value(&facts.cmdline, &["--api-socket"]).and_then(socket_name).map(str::to_owned)
}

fn crosvm(facts: &ProcFacts) -> Option<String> {
    let name = value(&facts.cmdline, &["--name"]);
    let socket = || value(&facts.cmdline, &["--socket", "-s"]).and_then(socket_name);
    name.or_else(socket).map(str::to_owned)
}

/// The domain's name in libvirt's scope: `machine-qemu\x2d3\x2dweb\x2d7.scope` with systemd,
/// `qemu-3-web-7.libvirt-qemu` without.
fn libvirt_name(cgroup: &str) -> Option<String> {
    components(cgroup).find_map(|part| {
        let unescaped = unescape(part);
        let machine = match unescaped.strip_suffix(".scope") {
            Some(scope) => scope.strip_prefix("machine-")?,
            None => unescaped.strip_suffix(".libvirt-qemu")?,
        };
        let (driver, rest) = machine.split_once('-')?;
        let (id, name) = rest.split_once('-')?;
        let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
        let known = matches!(driver, "qemu" | "ch");
        (digits && known && !name.is_empty()).then(|| name.to_owned())
    })
}

/// "pod/UID" of the Kubernetes pod: `kubepods-burstable-pod1b4e28ba_2fa1_….slice` with systemd,
/// `kubepods/burstable/pod1b4e28ba-2fa1-…` without.
fn pod(cgroup: &str) -> Option<String> {
    if !cgroup.contains("kubepods") {
        return None;
    }
    components(cgroup).find_map(|part| {
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid =
            part.rsplit_once("-pod").map(|(_, uid)| uid).or_else(|| part.strip_prefix("pod"))?;
        let hex = |c: char| c.is_ascii_hexdigit() || c == '-' || c == '_';
        let fine = uid.len() >= 32 && uid.chars().all(hex);
        fine.then(|| format!("pod/{}", uid.replace('_', "-")))
    })
}

fn components(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.split(['/', '\n']).filter(|part| !part.is_empty())
}

/// systemd's `\x2d` for "-".
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.strip_prefix(b"x").and_then(|hex| hex.get(..2));
        let byte = code
            .filter(|_| *first == b'\\')
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
