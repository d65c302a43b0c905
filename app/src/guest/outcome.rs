//! What `kvmscope guest` prints: what was made, and which exits that must have been.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::backend::Backend;
use super::expect::Expect;
use super::op::{Counts, Op};

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// 1; fields may be added under it, none changes its meaning.
    pub schema: u32,
    /// This process.
    pub pid: u32,
    /// What runs guests on this host.
    pub backend: Backend,
    /// By VM, in the order of creation.
    pub vms: Vec<VmOutcome>,
    /// Kinds that were asked for and left out.
    pub skipped: Vec<Skipped>,
}

/// One VM's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VmOutcome {
    /// From 0.
    pub vm: u32,
    /// By vCPU.
    pub vcpus: Vec<VcpuOutcome>,
}

/// One vCPU's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VcpuOutcome {
    /// `vcpu_id`.
    pub vcpu: u32,
    /// The thread that ran it last.
    pub tid: u32,
    /// All threads that ran it, first to last.
    pub tids: Vec<u32>,
    /// How it ended: `done`, or `died` in the middle of a userspace exit as asked for.
    pub ended: String,
    /// What the guest made, by its own count.
    pub made: Counts,
    /// HLTs with which rounds ended; they come on top of `made.hlt`.
    pub control: u64,
    /// Pages of its own that the guest touched once; they come on top of `made.touch`.
    pub own_pages: u64,
    /// Userspace exits that the VMM saw, by reason.
    pub userspace: BTreeMap<String, u64>,
    /// KVM_RUN calls; more than userspace exits when a signal came in between.
    pub runs: u64,
    /// From the first round's beginning to the last one's end.
    pub elapsed_ns: u64,
    /// Exits that this must have made.
    pub expect: Expect,
}

/// A kind that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub kind: String,
    /// A sentence.
    pub why: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "backend {}, pid {}", self.backend.name(), self.pid)?;
        for vm in &self.vms {
            for vcpu in &vm.vcpus {
                write!(f, "\nVM {} vCPU {} (thread {})", vm.vm, vcpu.vcpu, vcpu.tid)?;
                let millis = vcpu.elapsed_ns as f64 / 1e6;
                writeln!(f, ": {} after {} KVM_RUNs, {millis:.1} ms", vcpu.ended, vcpu.runs)?;
                let made = Op::ALL.map(|op| (op.name(), vcpu.made.get(op)));
                writeln!(f, "  made       {}", list(made))?;
                let on_top =
                    [("ends of rounds (HLT)", vcpu.control), ("own pages", vcpu.own_pages)];
                writeln!(f, "  on top     {}", list(on_top))?;
                writeln!(f, "  exits      {}", list(pairs(&vcpu.expect.exits)))?;
                writeln!(f, "  userspace  {}", list(pairs(&vcpu.expect.userspace_exits)))?;
            }
        }
        for skipped in &self.skipped {
            writeln!(f, "\n{} was left out: {}", skipped.kind, skipped.why)?;
        }
        Ok(())
    }
}

fn pairs(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    counts.iter().map(|(name, &count)| (name.as_str(), count))
}

/// `a 1, b 2` of those that are not zero.
fn list<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let texts: Vec<String> = counts
        .into_iter()
        .filter(|&(_, count)| count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if texts.is_empty() { "nothing that is known".to_owned() } else { texts.join(", ") }
}
