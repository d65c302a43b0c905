//! What `kvmscope guest` prints: what was made, and which exits that must have been.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::backend::Backend;
use super::expect::Expect;
use super::ioctls::IoctlCounts;
use super::keys::KeyCount;
use super::load::OtherThread;
use super::measure::Measured;
use super::op::{Counts, Op};
use super::routes::{InterruptCount, RouteCount};
use super::vcpu::DirtyLog;

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
    /// What the process did beside its vCPUs.
    #[serde(default)]
    pub beside: Beside,
    /// KVM ioctls of this process, by name.
    #[serde(default)]
    pub ioctls: IoctlCounts,
}

/// Load beside the vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// CPU time of `other_threads` together, in ns.
    pub other_threads_ns: u64,
    /// Threads of the VMM that run no vCPU, but for its first one.
    pub other_threads: Vec<OtherThread>,
    /// The process of the busy neighbour.
    pub neighbour_pid: Option<u32>,
}

/// One VM's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VmOutcome {
    /// From 0.
    pub vm: u32,
    /// By vCPU.
    pub vcpus: Vec<VcpuOutcome>,
    /// KVM ioctls on the VM and its vCPUs, by name.
    #[serde(default)]
    pub ioctls: IoctlCounts,
    /// What the VMM sent through the VM's interrupt controllers.
    #[serde(default)]
    pub routes: Vec<RouteCount>,
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
    /// HLTs (or with halts inside KVM OUTs to port 0x510) with which rounds ended; they come on top
    /// of `made`.
    pub control: u64,
    /// Pages of its own that the guest touched once; they come on top of `made.touch`.
    pub own_pages: u64,
    /// Userspace exits that the VMM saw, by reason.
    pub userspace: BTreeMap<String, u64>,
    /// KVM_RUN calls; more than userspace exits when a signal came in between.
    pub runs: u64,
    /// From the first round's beginning to the last one's end.
    pub elapsed_ns: u64,
    /// What KVM's log of dirty pages said; as many pages as `made.dirty`.
    #[serde(default)]
    pub dirty_log: DirtyLog,
    /// How often the doorbell's eventfd was signalled; as often as `made.doorbell`.
    #[serde(default)]
    pub rang: u64,
    /// HLTs in which it waited for an interrupt; they come on top of `made.halt`.
    #[serde(default)]
    pub waits: u64,
    /// Interrupts and exceptions that the guest's handlers counted.
    #[serde(default)]
    pub interrupts: Vec<InterruptCount>,
    /// How often its thread changed to another CPU.
    #[serde(default)]
    pub moves: u64,
    /// Exits that this must have made.
    pub expect: Expect,
    /// Times that were measured meanwhile.
    #[serde(default)]
    pub measured: Measured,
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
                let on_top = [
                    ("ends of rounds", vcpu.control),
                    ("own pages", vcpu.own_pages),
                    ("waits for an interrupt", vcpu.waits),
                    ("changes of the CPU", vcpu.moves),
                ];
                writeln!(f, "  on top     {}", list(on_top))?;
                let handled = vcpu.interrupts.iter().map(|handled| (&*handled.kind, handled.count));
                writeln!(f, "  handled    {}", list(handled))?;
                writeln!(f, "  exits      {}", list(pairs(&vcpu.expect.exits)))?;
                writeln!(f, "  userspace  {}", list(pairs(&vcpu.expect.userspace_exits)))?;
                writeln!(f, "  keys       {}", top_keys(&vcpu.expect.keys))?;
                let measured = &vcpu.measured;
                let times = [
                    ("KVM_RUN", measured.run_ns),
                    ("VMM", measured.vmm_ns),
                    ("of it asleep", measured.vmm_asleep_ns),
                    ("waiting for a CPU", measured.waiting_ns.unwrap_or(0)),
                    ("halted", measured.halted_ns),
                    ("computing", measured.guest_ns),
                    ("on one instruction", measured.looped_ns),
                ];
                writeln!(f, "  µs         {}", list(times.map(|(name, ns)| (name, ns / 1000))))?;
            }
        }
        for thread in &self.beside.other_threads {
            writeln!(f, "\nthread {}: {} µs of CPU", thread.comm, thread.cpu_ns / 1000)?;
        }
        let ioctls = self.ioctls.iter().map(|(name, ioctl)| (name.as_str(), ioctl.count));
        writeln!(f, "\nioctls: {}", list(ioctls))?;
        for skipped in &self.skipped {
            writeln!(f, "\n{} was left out: {}", skipped.kind, skipped.why)?;
        }
        Ok(())
    }
}

fn pairs(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    counts.iter().map(|(name, &count)| (name.as_str(), count))
}

/// How many keys are written for people.
const KEYS: usize = 12;

fn top_keys(keys: &[KeyCount]) -> String {
    let mut most: Vec<&KeyCount> = keys.iter().collect();
    most.sort_by_key(|key| std::cmp::Reverse(key.count));
    let texts: Vec<String> = most
        .iter()
        .take(KEYS)
        .map(|key| format!("{} {:#x} {}", key.class, key.value, key.count))
        .collect();
    match most.len().saturating_sub(KEYS) {
        0 => texts.join(", "),
        more => format!("{}, and {more} more", texts.join(", ")),
    }
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
