//! Facts for tests of rules.

use super::{Facts, Finding, MeterFacts, ReasonFacts, Thresholds, VcpuFacts, VmFacts, findings};
use crate::model::detail::{CulpritTick, Halts, KeyClass, KeyId, KeyTick, VmTick};
use crate::model::ids::{Isa, Reason, VcpuKey, VmId};
use crate::model::tick::{OpenExit, Phase, PhaseTimes};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// A VM to be put together; what is added after a vCPU is that vCPU's.
pub struct Vm(VmFacts);

pub fn hlt() -> Reason {
    Reason::exit(Isa::Vmx, 12)
}

pub fn vmx(code: u32) -> Reason {
    Reason::exit(Isa::Vmx, code)
}

impl Vm {
    pub fn new(name: &str) -> Self {
        Self(VmFacts { id: VmId(1), name: name.to_owned(), pid: 4711, ..VmFacts::default() })
    }

    pub fn id(mut self, id: u32) -> Self {
        self.0.id = VmId(id);
        self
    }

    pub fn vcpu(mut self, times: &[(Phase, u64)]) -> Self {
        let mut time = PhaseTimes::default();
        for &(phase, ns) in times {
            time.0[phase as usize] += ns;
        }
        let vcpu = u32::try_from(self.0.vcpus.len()).expect("few");
        let key = VcpuKey { vm: self.0.id, vcpu };
        self.0.vcpus.push(VcpuFacts { key, time, ..VcpuFacts::default() });
        self
    }

    /// A vCPU that is in the guest for a second.
    pub fn busy(self) -> Self {
        self.vcpu(&[(Phase::Guest, SECOND)])
    }

    fn last(&mut self) -> &mut VcpuFacts {
        self.0.vcpus.last_mut().expect("a vCPU first")
    }

    pub fn reason(mut self, reason: Reason, name: &str, count: u64, total_ns: u64) -> Self {
        let (timed, name) = (count, name.to_owned());
        self.last().reasons.push(ReasonFacts {
            reason,
            name,
            count,
            timed,
            total_ns,
            ..ReasonFacts::default()
        });
        self
    }

    /// Changes the reason that was added last.
    pub fn with_reason(mut self, change: impl FnOnce(&mut ReasonFacts)) -> Self {
        change(self.last().reasons.last_mut().expect("a reason first"));
        self
    }

    pub fn halts(mut self, polled: u64, waited: u64) -> Self {
        self.last().halts = Halts { polled, waited };
        self
    }

    /// What the vCPU did beside exits.
    pub fn meters(mut self, meters: MeterFacts) -> Self {
        self.last().meters = meters;
        self
    }

    pub fn culprit(mut self, culprit: CulpritTick) -> Self {
        self.last().culprits.push(culprit);
        self
    }

    /// A key of the reason that was added last.
    pub fn key(mut self, class: KeyClass, value: impl Into<Option<u64>>, count: u64) -> Self {
        let vcpu = self.last();
        let value = value.into();
        let reason = vcpu.reasons.last().map(|r| r.reason).filter(|_| value.is_some());
        let id = KeyId { reason, class, value };
        vcpu.keys.push(KeyTick { id, count, timed: count, ..KeyTick::default() });
        self
    }

    /// Changes the key that was added last.
    pub fn with_key(mut self, change: impl FnOnce(&mut KeyTick)) -> Self {
        change(self.last().keys.last_mut().expect("a key first"));
        self
    }

    pub fn doing(mut self, phase: Phase, for_ns: u64) -> Self {
        self.last().doing = (phase, for_ns);
        self
    }

    pub fn open(mut self, open: OpenExit, for_ns: u64) -> Self {
        self.last().open = Some((open, for_ns));
        self
    }

    /// What it did beside its vCPUs, over a second.
    pub fn beside(mut self, change: impl FnOnce(&mut VmTick)) -> Self {
        let mut beside = VmTick { id: self.0.id, over_ns: SECOND, ..VmTick::default() };
        change(&mut beside);
        self.0.beside = Some(beside);
        self
    }

    pub fn facts(self) -> Facts {
        Facts { over_ns: SECOND, vms: vec![self.0] }
    }
}

pub fn both(first: Vm, second: Vm) -> Facts {
    Facts { over_ns: SECOND, vms: vec![first.0, second.0] }
}

pub fn culprit(comm: &str, id: u32, vm: Option<u32>, ns: u64) -> CulpritTick {
    CulpritTick {
        pid: id,
        tid: id,
        comm: comm.to_owned(),
        vm: vm.map(VmId),
        ns,
        count: 1,
        ..CulpritTick::default()
    }
}

/// What one rule finds with the default thresholds. A rule that has a test has a line in the
/// documentation.
pub fn rules(facts: &Facts, rule: &str) -> Vec<Finding> {
    let documented = include_str!("../../../docs/findings.md");
    assert!(documented.contains(&format!("| `{rule}` |")), "{rule}");
    let mut all = findings(facts, &Thresholds::default());
    all.retain(|finding| finding.rule == rule);
    all
}

/// Its sentences.
pub fn texts(facts: &Facts, rule: &str) -> Vec<String> {
    rules(facts, rule).into_iter().map(|finding| finding.text).collect()
}
