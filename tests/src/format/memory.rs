//! Memory, calls and single events in the report.

use super::{Report, Vcpu};
use serde::Deserialize;

/// A family of probes.
#[derive(Clone, Debug, Deserialize)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Whether any of it is attached.
    pub on: bool,
    /// Why not.
    pub why: Option<String>,
}

/// What a VM or a vCPU did with memory; nothing where the family is off.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Memory {
    /// Page faults by kind.
    pub faults: Option<Vec<Fault>>,
    /// Hottest pages.
    pub pages: Option<Vec<Page>>,
    /// Faults on other pages.
    pub pages_other: u64,
    /// MMIO by address.
    pub mmio: Option<Vec<Access>>,
    /// Accesses to other addresses.
    pub mmio_other: u64,
    /// Pages that were written.
    pub dirty: Option<Dirty>,
    /// MMU roots.
    pub roots: Option<Vec<Root>>,
    /// Loads of other roots.
    pub roots_other: u64,
    /// CPUs that vCPUs were loaded on.
    #[serde(default)]
    pub loads: Option<Vec<Load>>,
}

/// Page faults of a kind.
#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    /// Which; see `docs/json.md`.
    pub kind: u64,
    /// In words.
    pub name: Option<String>,
    /// How many.
    pub count: u64,
    /// How many of them have a time.
    pub timed: u64,
    /// Handling time in all.
    pub total_ns: u64,
}

/// Page faults of a page.
#[derive(Clone, Debug, Deserialize)]
pub struct Page {
    /// Where.
    pub address: u64,
    /// How many.
    pub count: u64,
}

/// MMIO at an address.
#[derive(Clone, Debug, Deserialize)]
pub struct Access {
    /// `read`, `write` or `doorbell`.
    pub access: String,
    /// Where.
    pub address: u64,
    /// What is there.
    pub name: Option<String>,
    /// Whether the VMM answered.
    pub to_vmm: Option<bool>,
    /// How many.
    pub count: u64,
    /// How many of them have a time.
    pub timed: u64,
    /// In the VMM meanwhile.
    pub vmm_ns: u64,
}

/// Pages that were written while dirty logging was on.
#[derive(Clone, Debug, Deserialize)]
pub struct Dirty {
    /// How many.
    pub count: u64,
    /// By slot.
    pub slots: Vec<DirtySlot>,
    /// Hottest pages.
    pub pages: Vec<DirtyPage>,
    /// Writes of other pages.
    pub pages_other: u64,
    /// All marks in slots that log.
    pub marked: u64,
    /// Whether what KVM marked is logged.
    pub logs: Option<bool>,
    /// The processor's log was full.
    pub pml_full: u64,
    /// A dirty ring was full.
    pub ring_full: u64,
}

/// Pages that were written, of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DirtySlot {
    /// Its number.
    pub slot: u64,
    /// Its address space.
    pub space: u64,
    /// How many.
    pub count: u64,
}

/// A page that was written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DirtyPage {
    /// Where.
    pub address: u64,
    /// How often.
    pub count: u64,
}

/// An MMU root.
#[derive(Clone, Debug, Deserialize)]
pub struct Root {
    /// Where the host has it.
    pub address: u64,
    /// Levels of the page table.
    pub level: u64,
    /// Loads.
    pub count: u64,
}

/// Loads of vCPUs on a CPU.
#[derive(Clone, Debug, Deserialize)]
pub struct Load {
    /// Its number.
    pub cpu: u32,
    /// How many.
    pub count: u64,
}

/// What was called; nothing where the family is off.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Calls {
    /// Hypercalls by number.
    pub hypercalls: Option<Vec<Hypercall>>,
    /// Hypercalls of other numbers.
    pub hypercalls_other: u64,
    /// Of a VM: the ioctls of its VMM.
    #[serde(default)]
    pub ioctls: Option<Vec<Ioctl>>,
}

/// Hypercalls of a number.
#[derive(Clone, Debug, Deserialize)]
pub struct Hypercall {
    /// `kvm`, `hyper-v` or `xen`.
    pub abi: String,
    /// Which.
    pub number: u64,
    /// What it is called.
    pub name: Option<String>,
    /// Whether nothing is known to answer it.
    pub unknown: bool,
    /// How many.
    pub count: u64,
}

/// Ioctls of a command.
#[derive(Clone, Debug, Deserialize)]
pub struct Ioctl {
    /// Which.
    pub command: u32,
    /// What it is called.
    pub name: Option<String>,
    /// How many.
    pub count: u64,
    /// How many of them answered with an error.
    pub failed: u64,
    /// All their time.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// A single event.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// What it is.
    pub kind: String,
    /// When.
    pub at_unix_ns: u64,
    /// Which VM.
    pub vm: u64,
    /// Which vCPU, if one's.
    pub vcpu: Option<u32>,
    /// The thread.
    pub tid: u32,
    /// The exit in which it happened.
    pub reason: Option<String>,
    /// In words.
    pub what: String,
    /// Where.
    pub address: Option<u64>,
    /// Guest instruction pointer.
    pub rip: u64,
    /// How long it took.
    pub wall_ns: u64,
    /// In the VMM meanwhile.
    pub vmm_ns: u64,
    /// By kind.
    pub args: [u64; 6],
}

/// Events that are not listed.
#[derive(Clone, Debug, Deserialize)]
pub struct LeftOut {
    /// Of which kind.
    pub kind: String,
    /// How many.
    pub count: u64,
}

impl Report {
    /// Whether a family is on.
    pub fn is_on(&self, family: &str) -> bool {
        self.families.iter().any(|known| known.name == family && known.on)
    }

    /// Events of a kind: those that are listed, and how many are not.
    pub fn events_of(&self, kind: &str) -> (Vec<&Event>, u64) {
        let left = self.events_left_out.iter().filter(|left| left.kind == kind);
        let events = self.events.iter().filter(|event| event.kind == kind).collect();
        (events, left.map(|left| left.count).sum())
    }
}

impl Memory {
    /// Page faults of a kind; `None` where the family is off.
    pub fn faults_of(&self, kind: u64) -> Option<u64> {
        let faults = self.faults.as_ref()?.iter().filter(|fault| fault.kind == kind);
        Some(faults.map(|fault| fault.count).sum())
    }

    /// Accesses of a kind at an address; `None` where the family is off.
    pub fn mmio_at(&self, access: &str, address: u64) -> Option<u64> {
        let all = self.mmio.as_ref()?.iter();
        let of = all.filter(|mmio| mmio.access == access && mmio.address == address);
        Some(of.map(|mmio| mmio.count).sum())
    }
}

impl Calls {
    /// Hypercalls of a number; `None` where the family is off.
    pub fn hypercalls_of(&self, abi: &str, number: u64) -> Option<u64> {
        let all = self.hypercalls.as_ref()?.iter();
        let of = all.filter(|call| call.abi == abi && call.number == number);
        Some(of.map(|call| call.count).sum())
    }

    /// Ioctls of a name (calls, failed); `None` where the family is off.
    pub fn ioctls_of(&self, name: &str) -> Option<(u64, u64)> {
        let all = self.ioctls.as_ref()?.iter().filter(|call| call.name.as_deref() == Some(name));
        Some(all.fold((0, 0), |(count, failed), call| (count + call.count, failed + call.failed)))
    }
}

impl Vcpu {
    /// How often a key of a class was met, whatever the exit.
    pub fn keys_of(&self, class: &str, value: u64) -> u64 {
        let keys = self.keys.iter();
        let of = keys.filter(|key| key.class == class && key.value == Some(value));
        of.map(|key| key.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the documentation, as it stands there.
    fn example() -> Report {
        let text = include_str!("../../../docs/json.md");
        let json = text.split("```json").nth(1).and_then(|rest| rest.split("```").next());
        serde_json::from_str(json.expect("an example")).expect("is a report")
    }

    #[test]
    fn the_documentation_s_example_is_read() {
        let report = example();
        assert!(report.is_on("exit") && !report.is_on("culprits"));
        let vm = &report.vms[0];
        assert_eq!((vm.memory.faults_of(1), vm.memory.faults_of(0)), (Some(3000), Some(0)));
        assert_eq!(vm.memory.mmio_at("read", 0xfed0_00f0), Some(2100));
        let dirty = vm.memory.dirty.as_ref().expect("a section");
        assert_eq!((dirty.count, dirty.marked, dirty.logs), (5000, 5400, Some(true)));
        let loads: Vec<_> = vm.memory.loads.iter().flatten().map(|l| (l.cpu, l.count)).collect();
        assert_eq!((vm.memory.roots.as_ref().map(Vec::len), loads), (Some(1), vec![(7, 52)]));
        assert_eq!(vm.calls.hypercalls_of("kvm", 10), Some(500));
        assert_eq!(vm.calls.hypercalls_of("xen", 10), Some(0));
        assert_eq!(vm.calls.ioctls_of("KVM_SET_USER_MEMORY_REGION"), Some((6, 1)));
        assert!(vm.vcpus[0].calls.ioctls.is_none());
        let (faults, left) = report.events_of("fault");
        assert_eq!((faults.len(), left, faults[0].address), (1, 2999, Some(0x41000)));
        assert_eq!(vm.vcpus[0].keys_of("msr_write", 0x6e0), 3);
    }
}
