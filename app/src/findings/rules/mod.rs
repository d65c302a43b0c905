//! The rules. Each looks at one VM and is a pure function.

mod apic;
mod clock;
mod device;
mod fault_storm;
mod halt_poll;
mod late;
mod migration;
mod nested;
mod reinjection;
mod rest;
mod same_rip;
mod spin;
mod steal;
mod stuck;
mod sums;

use super::thresholds::Thresholds;
use super::{Facts, Finding, VcpuFacts, VmFacts, Weight};
use crate::model::ids::Kind;
use crate::model::tick::{Phase, PhaseTimes};

/// One VM, among all others, and from where on something stands out.
pub(super) struct Look<'a> {
    pub vm: &'a VmFacts,
    pub all: &'a Facts,
    pub limits: &'a Thresholds,
}

/// A finding and how far it is over its threshold (1: just there), for sorting.
pub(super) struct Found {
    pub size: f64,
    pub finding: Finding,
}

type Rule = fn(&Look<'_>) -> Vec<Found>;

/// Every rule.
pub(super) const RULES: &[Rule] = &[
    stuck::find,
    fault_storm::find,
    same_rip::find,
    steal::find,
    halt_poll::find,
    clock::find,
    spin::find,
    device::find,
    apic::find,
    reinjection::find,
    late::find,
    migration::find,
    nested::find,
    rest::find,
];

impl Look<'_> {
    /// How long the vCPU was watched, ns: it may have come late or gone early.
    pub fn wall_ns(&self, vcpu: &VcpuFacts) -> u64 {
        match vcpu.time.sum() {
            0 => self.all.over_ns,
            sum => sum,
        }
    }

    /// How long the VM was watched, ns.
    pub fn vm_wall_ns(&self) -> u64 {
        let longest = self.vm.vcpus.iter().map(|vcpu| vcpu.time.sum()).max();
        longest.filter(|&ns| ns > 0).unwrap_or(self.all.over_ns)
    }

    /// All its vCPUs' time together.
    pub fn time(&self) -> PhaseTimes {
        let mut time = PhaseTimes::default();
        self.vm.vcpus.iter().for_each(|vcpu| time.add(&vcpu.time));
        time
    }

    /// The share of its vCPUs' time that is in the guest, where that is little: a VM that is idle.
    /// Time spent waiting for a CPU does not count: it says nothing about the guest. Without kernel
    /// exits (a backend that makes none) the guest's time cannot be told from KVM's, and both are taken.
    pub fn idle_guest_share(&self) -> Option<f64> {
        let time = self.time();
        let own_ns = time.sum().saturating_sub(time.get(Phase::Preempted));
        let mut reasons = self.vm.vcpus.iter().flat_map(|vcpu| &vcpu.reasons);
        let told = reasons.any(|of| of.reason.kind == Kind::Exit && of.count > 0);
        let kvm_ns = if told { 0 } else { time.get(Phase::Kvm) };
        let share = part(time.get(Phase::Guest).saturating_add(kvm_ns), own_ns);
        (own_ns > 0 && share * 100.0 <= self.limits.idle_guest_percent as f64).then_some(share)
    }

    /// A finding about the VM.
    pub fn about_vm(&self, rule: &'static str, weight: Weight, text: String) -> Finding {
        Finding {
            rule,
            weight,
            vm: self.vm.id,
            vcpu: None,
            reason: None,
            text: format!("{}: {text}", self.vm.name),
            evidence: Vec::new(),
            next: String::new(),
        }
    }

    /// A finding about one of its vCPUs.
    pub fn about(
        &self,
        vcpu: &VcpuFacts,
        rule: &'static str,
        weight: Weight,
        text: &str,
    ) -> Finding {
        let text = format!("vCPU {} {text}", vcpu.key.vcpu);
        Finding { vcpu: Some(vcpu.key.vcpu), ..self.about_vm(rule, weight, text) }
    }

    /// The name of a VM of the facts.
    pub fn name_of(&self, id: crate::model::ids::VmId) -> Option<&str> {
        self.all.vms.iter().find(|vm| vm.id == id).map(|vm| vm.name.as_str())
    }
}

/// A part of a whole, 0 to 1 (0 where there is no whole).
pub(super) fn part(some: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { some as f64 / of as f64 }
}

/// A count over a time, per second.
pub(super) fn per_second(count: u64, over_ns: u64) -> f64 {
    part(count, over_ns) * 1e9
}

/// How far a value is over its threshold; `None` below it.
pub(super) fn over(value: f64, threshold: u64) -> Option<f64> {
    let size = value / threshold.max(1) as f64;
    (size >= 1.0).then_some(size)
}
