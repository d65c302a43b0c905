//! Findings: what stands out, in plain words, each with its evidence and where to look next.
//!
//! Rules are pure: facts over an interval in, findings out. The screen gathers the facts over its
//! last seconds, a report over all that it measured.

use crate::model::detail::{CulpritTick, Halts, KeyTick, VmTick};
use crate::model::ids::{Reason, VcpuKey, VmId};
use crate::model::tick::{OpenExit, Phase, PhaseTimes};

/// What the rules look at.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Facts {
    /// The interval, ns.
    pub over_ns: u64,
    /// VMs that live.
    pub vms: Vec<VmFacts>,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VmFacts {
    /// Which.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Thread group of its VMM.
    pub pid: u32,
    /// What it did beside its vCPUs, added up over the interval, where it was looked at.
    pub beside: Option<VmTick>,
    /// Its vCPUs.
    pub vcpus: Vec<VcpuFacts>,
}

/// A vCPU.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VcpuFacts {
    /// Which.
    pub key: VcpuKey,
    /// Where the interval went.
    pub time: PhaseTimes,
    /// Its reasons, kernel exits and userspace exits.
    pub reasons: Vec<ReasonFacts>,
    /// What they were about; empty where the family `detail` is off.
    pub keys: Vec<KeyTick>,
    /// Wake-ups from halts.
    pub halts: Halts,
    /// Who ran while it waited; empty where the family `culprits` is off.
    pub culprits: Vec<CulpritTick>,
    /// What it is doing at the end, and for how long already, ns.
    pub doing: (Phase, u64),
    /// The exit that is being handled at the end, and for how long already, ns.
    pub open: Option<(OpenExit, u64)>,
}

/// A reason's numbers over the interval.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReasonFacts {
    /// Which.
    pub reason: Reason,
    /// Its name, as this kernel says it.
    pub name: String,
    /// Exits that began.
    pub count: u64,
    /// Exits that ended.
    pub timed: u64,
    /// Their handling time, ns.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Largest handling time, ns.
    pub max_ns: u64,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Something stands still or is lost.
    High,
    /// Time is wasted.
    Medium,
    /// Good to know.
    Low,
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Short name of the rule, for programs ("clock-source").
    pub rule: &'static str,
    /// How much it matters.
    pub weight: Weight,
    /// About which VM.
    pub vm: VmId,
    /// About which vCPU, if about one.
    pub vcpu: Option<u32>,
    /// About which reason, if about one: where `⏎` goes.
    pub reason: Option<Reason>,
    /// What stands out, in a sentence.
    pub text: String,
    /// The numbers that say so.
    pub evidence: Vec<String>,
    /// What to do or where to look, in a sentence; names the next key to press on the screen.
    pub next: String,
}
