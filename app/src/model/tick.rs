//! A tick: what changed since the one before it, and nothing else.
//!
//! Live, replay and synthetic sources make it, state applies it, the codec encodes it, history
//! keeps it encoded. Everything in it is a difference over the interval, except where it says
//! "at the end"; cells, vCPUs and VMs that did nothing are absent.

use super::detail::{CulpritTick, Halts, KeyTick, Outlier, VmTick};
use super::event::{Event, LeftOut};
use super::ids::{Reason, VcpuKey, VmId};
use super::meters::{MetersTick, RouteTick};
use super::stack::StackTick;
use serde::{Deserialize, Serialize};

/// One interval's changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Tick {
    /// Counts from 1 without gaps; a gap means ticks were lost.
    pub seq: u64,
    /// End of the interval, ns of the probes' clock (CLOCK_MONOTONIC).
    pub end_ns: u64,
    /// Length of the interval, ns.
    pub dur_ns: u64,
    /// What was missed in the interval.
    pub lost: Lost,
    /// VMs and vCPUs that came, changed or went, in the order it happened.
    pub life: Vec<Life>,
    /// vCPUs with a change, sorted by key, each at most once.
    pub vcpus: Vec<VcpuTick>,
    /// What the host did meanwhile.
    pub host: HostTick,
    /// What VMs did beside running their vCPUs, sorted by VM; those that were looked at.
    pub vms: Vec<VmTick>,
    /// Slow exits, in the order in which they ended: a sample where they are many.
    pub outliers: Vec<Outlier>,
    /// Slow exits that are left out of it: over the rate that is let through.
    pub outliers_left_out: u64,
    /// Single events, in the order in which they happened: a sample where they are many.
    pub events: Vec<Event>,
    /// Events that are left out of it, by kind, ascending; kinds without any are absent.
    pub events_left_out: Vec<LeftOut>,
    /// Kernel stacks at the function that was chosen, most calls first, at most
    /// [`MAX_STACKS`](super::stack::MAX_STACKS) (family `roots`).
    pub stacks: Vec<StackTick>,
    /// Calls with stacks that are left out of it.
    pub stacks_left_out: u64,
    /// Pages of logged memory slots that threads marked as dirty that are no vCPU's, of whatever VM (family
    /// `dirty`).
    pub dirty_elsewhere: u64,
    /// Interrupts that were sent by other threads than vCPUs, or through chips, most first.
    pub routes: Vec<RouteTick>,
    /// Interrupts that found no row there.
    pub routes_left_out: u64,
}

/// Events and ticks that were not measured, by cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Lost {
    /// Probe runs that the kernel skipped (its `recursion_misses`).
    pub missed_runs: u64,
    /// Records that the ring buffer had no room for.
    pub ring: u64,
    /// Exits whose reason found no free cell.
    pub pool_full: u64,
    /// Exits of threads that found no free slot.
    pub slots_full: u64,
}

impl Lost {
    /// Everything lost, whatever the cause.
    pub fn sum(&self) -> u64 {
        let parts = [self.missed_runs, self.ring, self.pool_full, self.slots_full];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// Adds another interval's losses.
    pub fn add(&mut self, other: &Lost) {
        self.missed_runs = self.missed_runs.saturating_add(other.missed_runs);
        self.ring = self.ring.saturating_add(other.ring);
        self.pool_full = self.pool_full.saturating_add(other.pool_full);
        self.slots_full = self.slots_full.saturating_add(other.slots_full);
    }
}

/// A VM or vCPU came, changed or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// A VM was seen for the first time, or something about it became known (its name, say).
    Vm(VmInfo),
    /// A vCPU was seen for the first time, or runs in another thread now.
    Vcpu(VcpuInfo),
    /// The last thread of a vCPU ended, at ns of the probes' clock.
    VcpuGone(VcpuKey, u64),
    /// The VM is gone, at ns of the probes' clock. Its numbers stay.
    VmGone(VmId, u64),
}

/// Who a VM is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct VmInfo {
    /// Our number for it.
    pub id: VmId,
    /// Thread group of its VMM.
    pub pid: u32,
    /// Name: what the VMM calls the guest, else comm and pid.
    pub name: String,
    /// Kind of VMM in a short word ("qemu", "firecracker", …), or the process's comm.
    pub vmm: String,
    /// Start of the VMM, ns since the Unix epoch; 0 when unknown.
    pub started_unix_ns: u64,
    /// Which VM of that process, counting from 0.
    pub nth: u32,
}

/// Who a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct VcpuInfo {
    /// VM and vCPU.
    pub key: VcpuKey,
    /// The thread it runs in now.
    pub tid: u32,
    /// Whether `vcpu_id` is a guess (from the thread's name or order), because no `kvm_entry` told.
    pub guessed: bool,
}

/// What a vCPU is doing. Shown as a word; see [`kvmscope_shared::slot::phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[repr(u8)]
pub enum Phase {
    /// No event has told yet.
    #[default]
    Unknown = 0,
    /// In the guest.
    Guest = 1,
    /// In KVM_RUN, on a CPU, outside the guest.
    Kvm = 2,
    /// Outside KVM_RUN, on a CPU.
    Vmm = 3,
    /// Off the CPU although it could run.
    Preempted = 4,
    /// Asleep, halted.
    Blocked = 5,
    /// Asleep outside KVM_RUN, not for a halt.
    VmmBlocked = 6,
    /// Asleep in KVM_RUN, not for a halt (for a page, a lock).
    KvmBlocked = 7,
    /// Halted and polling for a wake-up, on a CPU. A part of time; as a state it is `Kvm`.
    Polling = 8,
}

impl Phase {
    /// Every phase in the order of its number; [`PhaseTimes`] is indexed by it.
    pub const ALL: [Self; PHASES] = [
        Self::Unknown,
        Self::Guest,
        Self::Kvm,
        Self::Vmm,
        Self::Preempted,
        Self::Blocked,
        Self::VmmBlocked,
        Self::KvmBlocked,
        Self::Polling,
    ];

    /// From [`kvmscope_shared::slot::Slot::phase`]; an unknown number is `Unknown`.
    pub fn from_slot(phase: u32) -> Self {
        Self::ALL.get(phase as usize).copied().unwrap_or_default()
    }
}

/// Number of phases.
pub const PHASES: usize = 9;

/// Wall time by phase, ns, indexed by `Phase as usize`. Adds up to the vCPU's part of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PhaseTimes(pub [u64; PHASES]);

impl PhaseTimes {
    /// Time in one phase, ns.
    pub fn get(&self, phase: Phase) -> u64 {
        self.0[phase as usize]
    }

    /// All phases together, ns.
    pub fn sum(&self) -> u64 {
        self.0.iter().copied().fold(0, u64::saturating_add)
    }

    /// Moves at most `most` ns from one phase to another; answers how much there was to move.
    pub fn shift(&mut self, from: Phase, to: Phase, most: u64) -> u64 {
        let moved = most.min(self.get(from));
        self.0[from as usize] -= moved;
        self.0[to as usize] = self.get(to).saturating_add(moved);
        moved
    }

    /// Adds another interval's times.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }
}

/// One vCPU's changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct VcpuTick {
    /// VM and vCPU.
    pub key: VcpuKey,
    /// Physical CPU of its last event.
    pub cpu: u32,
    /// What it is doing at the end of the interval.
    pub phase: Phase,
    /// Since when, ns of the probes' clock.
    pub since_ns: u64,
    /// The exit it is handling at the end of the interval, if any.
    pub open: Option<OpenExit>,
    /// Where the interval went. Run-queue wait after a wake-up is in `Preempted` here, and polling
    /// not in `Kvm`.
    pub time: PhaseTimes,
    /// How often it woke up from a halt.
    pub halts: Halts,
    /// Keys with a change, sorted by id, each at most once (family `detail`).
    pub keys: Vec<KeyTick>,
    /// Who ran while it waited for a CPU, most first (family `culprits`).
    pub culprits: Vec<CulpritTick>,
    /// What it did beside exits.
    pub meters: MetersTick,
    /// Reasons with a change, sorted by reason, each at most once.
    pub cells: Vec<CellTick>,
}

/// A kernel exit that has not seen its entry yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct OpenExit {
    /// Why.
    pub reason: Reason,
    /// When it began, ns of the probes' clock.
    pub begun_ns: u64,
    /// Guest instruction pointer.
    pub rip: u64,
    /// Qualification (VMX) or EXITINFO1 (SVM).
    pub info1: u64,
    /// IDT-vectoring information (VMX) or EXITINFO2 (SVM).
    pub info2: u64,
}

/// One reason's changes on one vCPU. The meaning of the times is that of
/// [`kvmscope_shared::cell::Cell`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CellTick {
    /// What it is about.
    pub reason: Reason,
    /// Flag bits seen with it since the start (VMX bits 16 to 31).
    pub flags: u32,
    /// Exits that began in the interval.
    pub count: u64,
    /// Handling time of those that ended in it, ns.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Smallest handling time that ended in the interval, ns; 0 when none did.
    pub min_ns: u64,
    /// Largest, ns.
    pub max_ns: u64,
    /// (bucket of [`kvmscope_shared::hist`], exits), ascending, no zeros. Their sum is how many
    /// ended (were timed) in the interval.
    pub hist: Vec<(u8, u32)>,
}

impl CellTick {
    /// Exits that ended in the interval.
    pub fn timed(&self) -> u64 {
        self.hist.iter().map(|&(_, n)| u64::from(n)).sum()
    }
}

/// What the whole host did in the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct HostTick {
    /// Steal time of the host itself (it may be a VM too), ns over all CPUs; `/proc/stat`.
    pub steal_ns: u64,
    /// CPU time of this program, ns.
    pub own_cpu_ns: u64,
    /// Run time of the probes, ns, and how many runs, when it was sampled.
    pub probes: Option<(u64, u64)>,
}
