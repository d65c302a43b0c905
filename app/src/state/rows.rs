//! The rows that tables show. Plain data: every number belongs to the displayed tick unless its
//! text says "window".

use super::keys::TopKey;
use super::nav::RowId;
use crate::model::ids::{Reason, VcpuKey, VmId};
use crate::model::stats::Stats;
use crate::model::tick::{PHASES, Phase, PhaseTimes};

/// A part of wall time, in the order in which it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// In the guest.
    Guest,
    /// KVM's handling, on a CPU.
    Kvm,
    /// The VMM, on a CPU.
    Vmm,
    /// The VMM, asleep.
    VmmAsleep,
    /// Halted, KVM polling for a wake-up.
    Polling,
    /// Halted, asleep.
    Halted,
    /// Asleep in KVM, not for a halt.
    KvmAsleep,
    /// Could run and had no CPU.
    Waiting,
    /// Nothing told.
    Unknown,
}

impl Part {
    /// Every part, in the order in which it is drawn.
    pub const ALL: [Self; PHASES] = [
        Self::Guest,
        Self::Kvm,
        Self::Vmm,
        Self::VmmAsleep,
        Self::Polling,
        Self::Halted,
        Self::KvmAsleep,
        Self::Waiting,
        Self::Unknown,
    ];

    /// Its name in a word or two.
    pub fn label(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Kvm => "KVM",
            Self::Vmm => "VMM",
            Self::VmmAsleep => "VMM asleep",
            Self::Polling => "polling",
            Self::Halted => "halted",
            Self::KvmAsleep => "KVM asleep",
            Self::Waiting => "waiting",
            Self::Unknown => "unaccounted",
        }
    }

    /// What it is, in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Self::Guest => "wall time in the guest",
            Self::Kvm => "in KVM, on a CPU, handling exits",
            Self::Vmm => "in the VMM, on a CPU",
            Self::VmmAsleep => "in the VMM, asleep",
            Self::Polling => "halted, but KVM polls for a wake-up on a CPU",
            Self::Halted => "halted, asleep",
            Self::KvmAsleep => "in KVM, asleep, not for a halt (for a page, a lock)",
            Self::Waiting => "could run but had no CPU",
            Self::Unknown => "unaccounted: no event tells",
        }
    }

    fn phase(self) -> Phase {
        match self {
            Self::Guest => Phase::Guest,
            Self::Kvm => Phase::Kvm,
            Self::Vmm => Phase::Vmm,
            Self::VmmAsleep => Phase::VmmBlocked,
            Self::Polling => Phase::Polling,
            Self::Halted => Phase::Blocked,
            Self::KvmAsleep => Phase::KvmBlocked,
            Self::Waiting => Phase::Preempted,
            Self::Unknown => Phase::Unknown,
        }
    }
}

/// Where wall time went. Shares add up to 1, or are all 0 when nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Split(pub PhaseTimes);

impl Split {
    /// The share (0 to 1) of a part.
    pub fn share(&self, part: Part) -> f64 {
        let sum = self.0.sum();
        if sum == 0 { 0.0 } else { self.0.get(part.phase()) as f64 / sum as f64 }
    }

    /// The share (0 to 1) of some parts together.
    pub fn shares(&self, parts: &[Part]) -> f64 {
        parts.iter().map(|&part| self.share(part)).sum()
    }

    /// The parts that are there, with their shares, in the order in which they are drawn.
    pub fn parts(&self) -> impl Iterator<Item = (Part, f64)> + '_ {
        Part::ALL.into_iter().map(|part| (part, self.share(part))).filter(|&(_, share)| share > 0.0)
    }
}

/// The reason that took most handling time, idle ones left out.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Top {
    /// Which.
    pub reason: Reason,
    /// Its name.
    pub name: String,
    /// Its share (0 to 1) of the handling time of all that is not idle.
    pub share: f64,
}

/// The numbers that VMs and vCPUs have in common.
///
/// `p50_ns`, `p99_ns`, `max_ns` and `handling` are about kernel exits that are work: idle ones
/// ([`Reason::is_idle`]) are counted in `rate` but left out of these. `None` where none ended.
/// Where a backend's `kvm_exit` is silent, they and `top` are about userspace exits instead.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Load {
    /// Kernel exits per second, idle ones too.
    pub rate: f64,
    /// Userspace exits per second.
    pub user_rate: f64,
    /// Median handling time, ns.
    pub p50_ns: Option<u64>,
    /// 99th percentile of the handling time, ns.
    pub p99_ns: Option<u64>,
    /// Largest handling time, ns.
    pub max_ns: Option<u64>,
    /// Handling time as a share of its vCPUs' wall time (0 to 1).
    pub handling: f64,
    /// Where wall time went.
    pub split: Split,
    /// What took most handling time.
    pub top: Option<Top>,
    /// How many times as many exits as in the baseline; infinite where it had none, `None` without a baseline.
    pub change: Option<f64>,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VmRow {
    /// Who.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Kind of VMM.
    pub vmm: String,
    /// Thread group of the VMM.
    pub pid: u32,
    /// vCPUs there are (of a VM that is gone: were).
    pub vcpus: usize,
    /// Its numbers; of one that is gone, those of the last tick in which it did something.
    pub load: Load,
    /// Start of the VMM, ns since the Unix epoch; 0 when unknown.
    pub started_unix_ns: u64,
    /// When it ended, ns since the Unix epoch.
    pub ended_unix_ns: Option<u64>,
}

/// A vCPU, or all vCPUs of a VM together ([`RowId::All`]).
#[derive(Clone, Debug, PartialEq)]
pub struct VcpuRow {
    /// Who.
    pub id: RowId,
    /// The vCPU; `None` for all of them.
    pub key: Option<VcpuKey>,
    /// "vCPU 3", or "all".
    pub label: String,
    /// Its thread; 0 for all.
    pub tid: u32,
    /// Whether its number is a guess.
    pub guessed: bool,
    /// Physical CPU of its last event.
    pub cpu: Option<u32>,
    /// What it does at the end of the tick, and for how long already, ns.
    pub phase: Option<(Phase, u64)>,
    /// The exit that it is handling at the end of the tick.
    pub open: Option<Open>,
    /// Its numbers.
    pub load: Load,
    /// When its last thread ended, ns since the Unix epoch.
    pub ended_unix_ns: Option<u64>,
}

/// An exit that has not seen its entry yet.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Open {
    /// Why.
    pub reason: Reason,
    /// Its name.
    pub name: String,
    /// How old it is at the end of the tick, ns.
    pub age_ns: u64,
    /// Guest instruction pointer.
    pub rip: u64,
    /// Qualification (VMX) or EXITINFO1 (SVM).
    pub info1: u64,
    /// IDT-vectoring information (VMX) or EXITINFO2 (SVM).
    pub info2: u64,
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReasonRow {
    /// Which.
    pub reason: Reason,
    /// Its name.
    pub name: String,
    /// Whether it means that the guest was idle.
    pub idle: bool,
    /// Flag bits seen with it.
    pub flags: u32,
    /// Exits per second.
    pub rate: f64,
    /// How many times as many as in the baseline; infinite where it had none, `None` without a baseline.
    pub change: Option<f64>,
    /// Share (0 to 1) of the exits of its kind.
    pub of_exits: f64,
    /// Handling time as a share (0 to 1) of wall time (of all vCPUs it is about).
    pub of_time: f64,
    /// The displayed tick.
    pub now: Stats,
    /// The window up to the displayed tick.
    pub window: Stats,
    /// Age of the oldest exit of this reason still open at the end of the tick, ns.
    pub open_ns: Option<u64>,
    /// What most of its exits are about, where that is known.
    pub what: Option<TopKey>,
}
