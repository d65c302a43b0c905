//! What the report's JSON and lines of JSON say alike.

use crate::model::session::Session;
use crate::model::tick::{Phase, PhaseTimes};
use serde::Serialize;

/// A probe.
#[derive(Debug, Serialize)]
pub struct Probe<'a> {
    /// Its hook, as the kernel names it.
    name: &'a str,
    /// The family it belongs to.
    family: &'a str,
    /// Whether it is attached.
    attached: bool,
    /// Why not, in a sentence.
    why: Option<&'a str>,
    /// How it is attached.
    how: &'a str,
}

/// The probes.
pub fn probes(session: &Session) -> Vec<Probe<'_>> {
    let all = session.probes.iter();
    all.map(|probe| Probe {
        name: &probe.name,
        family: &probe.family,
        attached: probe.attached,
        why: probe.why.as_deref(),
        how: &probe.how,
    })
    .collect()
}

/// Wall time of a vCPU, ns. Adds up to what was seen of it.
#[derive(Debug, Serialize)]
pub struct Time {
    /// In the guest.
    guest_ns: u64,
    /// In KVM_RUN on a CPU, outside the guest; polling left out.
    kvm_ns: u64,
    /// Outside KVM_RUN, on a CPU.
    vmm_ns: u64,
    /// Asleep outside KVM_RUN.
    vmm_asleep_ns: u64,
    /// Halted and asleep.
    halted_ns: u64,
    /// Halted and polling for a wake-up.
    polling_ns: u64,
    /// Asleep in KVM_RUN, not halted.
    kvm_asleep_ns: u64,
    /// Waiting for a CPU.
    waiting_ns: u64,
    /// No event tells.
    unknown_ns: u64,
}

impl Time {
    /// In what each phase is called here.
    pub fn new(time: &PhaseTimes) -> Self {
        Self {
            guest_ns: time.get(Phase::Guest),
            kvm_ns: time.get(Phase::Kvm),
            vmm_ns: time.get(Phase::Vmm),
            vmm_asleep_ns: time.get(Phase::VmmBlocked),
            halted_ns: time.get(Phase::Blocked),
            polling_ns: time.get(Phase::Polling),
            kvm_asleep_ns: time.get(Phase::KvmBlocked),
            waiting_ns: time.get(Phase::Preempted),
            unknown_ns: time.get(Phase::Unknown),
        }
    }
}

/// What a vCPU does, in a word.
pub fn state_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Unknown => "unknown",
        Phase::Guest => "guest",
        Phase::Kvm => "kvm",
        Phase::Vmm => "vmm",
        Phase::VmmBlocked => "vmm_asleep",
        Phase::Blocked => "halted",
        Phase::Preempted => "waiting",
        Phase::KvmBlocked => "kvm_asleep",
        Phase::Polling => "polling",
    }
}
