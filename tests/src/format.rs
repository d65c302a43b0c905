//! The JSON that the program prints, as a program that reads it would declare it. Written
//! from the documentation and not shared with the program, so that a change there is seen.

use std::collections::BTreeMap;

use serde::Deserialize;

mod irq;
mod memory;

pub use irq::{
    Apicv, Delivery, Eoi, Exception, HaltPoll, Inhibit, Injected, Interrupts, Ipi, Late, Load,
    OnCpu, Route, Scheduling, Timers, Wakeup,
};
pub use memory::{
    Access, Calls, Dirty, DirtyPage, DirtySlot, Event, Family, Fault, Hypercall, Ioctl, LeftOut,
    Memory, Page, Root,
};

/// `kvmscope report --format json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Always 1.
    pub schema: u32,
    /// Where it was measured.
    pub host: Host,
    /// When measuring began.
    pub started_unix_ns: u64,
    /// How long it went on.
    pub duration_ns: u64,
    /// What was missed.
    pub lost: Lost,
    /// Every probe, attached or not.
    pub probes: Vec<Probe>,
    /// Every VM that did something.
    pub vms: Vec<Vm>,
    /// What stands out.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Slow exits.
    #[serde(default)]
    pub outliers: Vec<Outlier>,
    /// Slow exits that are not among them.
    #[serde(default)]
    pub outliers_left_out: u64,
    /// Families of probes.
    #[serde(default)]
    pub families: Vec<Family>,
    /// Single events.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Events that are not among them.
    #[serde(default)]
    pub events_left_out: Vec<LeftOut>,
    /// Kernel stacks at a function.
    #[serde(default)]
    pub stacks: Vec<Stack>,
    /// Interrupts into a VM that is not known.
    #[serde(default)]
    pub routes_unknown: Vec<Route>,
    /// Interrupts that found no row.
    #[serde(default)]
    pub routes_left_out: u64,
}

/// Calls of a function with one kernel stack.
#[derive(Clone, Debug, Deserialize)]
pub struct Stack {
    /// What was called.
    pub function: String,
    /// How often.
    pub count: u64,
    /// The function first, then who called.
    pub frames: Vec<Frame>,
}

/// A place in the kernel.
#[derive(Clone, Debug, Deserialize)]
pub struct Frame {
    /// Its address.
    pub address: u64,
    /// The function with the offset in it.
    pub symbol: Option<String>,
}

/// What stands out.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// Short name of the rule.
    pub rule: String,
    /// Which VM.
    pub vm: u64,
    /// Which vCPU, if one.
    pub vcpu: Option<u32>,
    /// In words.
    pub text: String,
}

/// A slow exit.
#[derive(Clone, Debug, Deserialize)]
pub struct Outlier {
    /// Which VM.
    pub vm: u64,
    /// Which vCPU.
    pub vcpu: u32,
    /// Why.
    pub reason: String,
    /// Class of what it was about, if that is known.
    pub class: Option<String>,
    /// Handling time.
    pub handling_ns: u64,
    /// In the VMM meanwhile.
    pub vmm_ns: u64,
}

/// Where a report was measured.
#[derive(Clone, Debug, Deserialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// `vmx`, `svm`, `pvm`, ….
    pub backend: String,
    /// Processors.
    pub cpus: u32,
}

/// What was missed, by cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Lost {
    /// Probe runs that the kernel skipped.
    pub missed_runs: u64,
    /// Records without room in the ring.
    pub ring: u64,
    /// Exits without a free cell.
    pub pool_full: u64,
    /// Exits of threads without a free slot.
    pub slots_full: u64,
}

/// One probe.
#[derive(Clone, Debug, Deserialize)]
pub struct Probe {
    /// Its name.
    pub name: String,
    /// What it belongs to.
    pub family: String,
    /// Whether it runs.
    pub attached: bool,
    /// Why not.
    pub why: Option<String>,
}

/// One VM.
#[derive(Clone, Debug, Deserialize)]
pub struct Vm {
    /// Number of the VM.
    pub id: u64,
    /// Its VMM.
    pub pid: u32,
    /// What it is called.
    pub name: String,
    /// Start of its VMM.
    pub started_unix_ns: u64,
    /// End, if it ended.
    pub ended_unix_ns: Option<u64>,
    /// By vCPU.
    pub vcpus: Vec<Vcpu>,
    /// What all of them did with memory.
    #[serde(default)]
    pub memory: Memory,
    /// What was called.
    #[serde(default)]
    pub calls: Calls,
    /// Interrupts of all of them, and what others send.
    #[serde(default)]
    pub interrupts: Interrupts,
    /// The VMM's threads that are no vCPUs.
    #[serde(default)]
    pub other_threads: Option<OtherThreads>,
}

/// The VMM's threads that are no vCPUs.
#[derive(Clone, Debug, Deserialize)]
pub struct OtherThreads {
    /// CPU time.
    pub cpu_ns: u64,
}

/// One vCPU.
#[derive(Clone, Debug, Deserialize)]
pub struct Vcpu {
    /// Its number.
    pub vcpu: u32,
    /// The thread that runs it.
    pub tid: u32,
    /// Where its time went.
    #[serde(default)]
    pub time: Time,
    /// Wake-ups from halts.
    #[serde(default)]
    pub halts: Halts,
    /// What its exits were about.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// Who ran while it waited for a CPU.
    #[serde(default)]
    pub culprits: Vec<Culprit>,
    /// Kernel exits by reason.
    pub exits: Vec<Cell>,
    /// Userspace exits by reason.
    pub userspace_exits: Vec<Cell>,
    /// What it did with memory.
    #[serde(default)]
    pub memory: Memory,
    /// What it called.
    #[serde(default)]
    pub calls: Calls,
    /// Its interrupts and timers.
    #[serde(default)]
    pub interrupts: Interrupts,
    /// Halt polling, wake-ups, time on CPUs.
    #[serde(default)]
    pub scheduling: Scheduling,
}

/// Wall time of a vCPU.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Time {
    /// In the guest.
    pub guest_ns: u64,
    /// KVM's handling.
    pub kvm_ns: u64,
    /// VMM, on a CPU.
    pub vmm_ns: u64,
    /// VMM, asleep.
    pub vmm_asleep_ns: u64,
    /// Halted, asleep.
    pub halted_ns: u64,
    /// Halted, polling.
    pub polling_ns: u64,
    /// Asleep in KVM, not halted.
    pub kvm_asleep_ns: u64,
    /// Waiting for a CPU.
    pub waiting_ns: u64,
    /// Nothing told.
    pub unknown_ns: u64,
}

impl Time {
    /// All parts together.
    pub fn sum(&self) -> u64 {
        self.guest_ns
            + self.kvm_ns
            + self.vmm_ns
            + self.vmm_asleep_ns
            + self.halted_ns
            + self.polling_ns
            + self.kvm_asleep_ns
            + self.waiting_ns
            + self.unknown_ns
    }
}

/// Wake-ups from halts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Halts {
    /// While polling.
    pub polled: u64,
    /// After sleeping.
    pub waited: u64,
}

/// What an exit was about.
#[derive(Clone, Debug, Deserialize)]
pub struct Key {
    /// Name of the exit's reason, where there was an exit.
    pub reason: Option<String>,
    /// What the value is.
    pub class: String,
    /// The value; none is "other".
    pub value: Option<u64>,
    /// What it is called.
    pub name: Option<String>,
    /// How often.
    pub count: u64,
    /// In the VMM meanwhile.
    pub vmm_ns: u64,
}

/// Who ran while a vCPU waited.
#[derive(Clone, Debug, Deserialize)]
pub struct Culprit {
    /// Its thread group.
    pub pid: u32,
    /// Name of the thread.
    pub comm: String,
    /// How long.
    pub total_ns: u64,
}

/// Numbers of one reason.
#[derive(Clone, Debug, Deserialize)]
pub struct Cell {
    /// Name of the reason.
    pub reason: String,
    /// Its number.
    pub code: i64,
    /// How many.
    pub count: u64,
    /// How many of them have a time.
    pub timed: u64,
    /// Age of one that is still being handled.
    pub open_ns: Option<u64>,
    /// Handling time in all.
    pub total_ns: u64,
    /// Off the CPU meanwhile.
    pub off_cpu_ns: u64,
    /// In the VMM meanwhile.
    pub vmm_ns: u64,
    /// Shortest.
    pub min_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90% are at most this.
    pub p90_ns: u64,
    /// 99%.
    pub p99_ns: u64,
    /// 99.9%.
    pub p999_ns: u64,
}

/// `kvmscope guest --format json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Guest {
    /// Always 1.
    pub schema: u32,
    /// The VMM.
    pub pid: u32,
    /// `vmx`, `svm`, `pvm` or `unknown`.
    pub backend: String,
    /// By VM.
    pub vms: Vec<GuestVm>,
    /// What was asked for and left out.
    pub skipped: Vec<Skipped>,
    /// What the process did beside its vCPUs.
    #[serde(default)]
    pub beside: Beside,
    /// KVM ioctls of the process, by name.
    #[serde(default)]
    pub ioctls: BTreeMap<String, GuestIoctl>,
}

/// How often the guest's VMM made an ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct GuestIoctl {
    /// The command.
    pub command: u32,
    /// Calls.
    pub count: u64,
    /// Those of them that failed.
    pub failed: u64,
}

/// What the guest's process did beside its vCPUs.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Beside {
    /// CPU time of the VMM's other threads together.
    pub other_threads_ns: u64,
    /// One by one.
    pub other_threads: Vec<OtherThread>,
    /// The process of the busy neighbour.
    pub neighbour_pid: Option<u32>,
}

/// A thread of the VMM that runs no vCPU.
#[derive(Clone, Debug, Deserialize)]
pub struct OtherThread {
    /// Its name.
    pub comm: String,
    /// Its CPU time.
    pub cpu_ns: u64,
}

/// One VM of the guest.
#[derive(Clone, Debug, Deserialize)]
pub struct GuestVm {
    /// By vCPU.
    pub vcpus: Vec<GuestVcpu>,
    /// KVM ioctls on the VM and its vCPUs, by name.
    #[serde(default)]
    pub ioctls: BTreeMap<String, GuestIoctl>,
    /// What the VMM sent through the VM's interrupt controllers.
    #[serde(default)]
    pub routes: Vec<GuestRoute>,
}

/// What came through a chip in one way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GuestRoute {
    /// `pic`, `ioapic`, `msi` or `line`.
    pub chip: String,
    /// Pin, GSI or address.
    pub a: u64,
    /// What else: mode and mask, redirection entry, data, level.
    pub b: u64,
    /// `waker`, `vcpu` or `kernel`.
    pub sender: String,
    /// How many.
    pub count: u64,
    /// Of them, coalesced.
    pub coalesced: u64,
}

/// Interrupts or exceptions that a handler of the guest counted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GuestInterrupt {
    /// Vector.
    pub vector: u8,
    /// What made them.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// What the guest did with its local APIC's timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GuestTimers {
    /// Deadlines other than 0.
    pub deadlines: u64,
    /// Deadlines taken back.
    pub disarmed: u64,
    /// One-shot counters started.
    pub one_shot: u64,
    /// Periodic counters started.
    pub periodic: u64,
    /// Interrupts.
    pub expired: u64,
}

/// One vCPU of the guest.
#[derive(Clone, Debug, Deserialize)]
pub struct GuestVcpu {
    /// Its number.
    pub vcpu: u32,
    /// The thread that ran it last.
    pub tid: u32,
    /// All threads that ran it.
    pub tids: Vec<u32>,
    /// What it made, by kind.
    pub made: BTreeMap<String, u64>,
    /// What KVM's log of dirty pages said.
    #[serde(default)]
    pub dirty_log: DirtyLog,
    /// How often its doorbell rang.
    #[serde(default)]
    pub rang: u64,
    /// HLTs in which it waited for an interrupt.
    #[serde(default)]
    pub waits: u64,
    /// What its handlers counted.
    #[serde(default)]
    pub interrupts: Vec<GuestInterrupt>,
    /// How often its thread changed to another CPU.
    #[serde(default)]
    pub moves: u64,
    /// Which exits that must be.
    pub expect: Expect,
    /// Times that the guest and its VMM measured.
    #[serde(default)]
    pub measured: Measured,
}

/// What KVM's log of dirty pages said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct DirtyLog {
    /// How often it was read.
    pub reads: u64,
    /// Pages in all of them.
    pub pages: u64,
}

/// Times of a vCPU from its first KVM_RUN to the end of its work, by the guest and its VMM.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// All of it.
    pub wall_ns: u64,
    /// Inside KVM_RUN.
    pub run_ns: u64,
    /// Outside.
    pub vmm_ns: u64,
    /// The VMM's sleep.
    pub vmm_asleep_ns: u64,
    /// CPU time of its threads.
    pub cpu_ns: Option<u64>,
    /// Their waiting for a CPU.
    pub waiting_ns: Option<u64>,
    /// Halts inside KVM, by the guest's clock.
    pub halted_ns: u64,
    /// Computing without exits, from begin to end, by the guest's clock.
    pub spun_ns: u64,
    /// The part of it that the guest ran.
    pub guest_ns: u64,
    /// On one instruction, by the guest's clock.
    pub looped_ns: u64,
}

/// Exits that must have happened, by reason. What is not named may be anything.
#[derive(Clone, Debug, Deserialize)]
pub struct Expect {
    /// Kernel exits.
    pub exits: BTreeMap<String, u64>,
    /// Userspace exits.
    pub userspace_exits: BTreeMap<String, u64>,
    /// What they were about; a class that is named has all its keys here.
    #[serde(default)]
    pub keys: Vec<KeyCount>,
    /// Hypercalls with their arguments.
    #[serde(default)]
    pub hypercalls: Vec<HypercallCount>,
    /// The least number of MMU roots that were loaded.
    #[serde(default)]
    pub roots_at_least: u64,
    /// Writes to its timer, and expiries.
    #[serde(default)]
    pub timers: GuestTimers,
}

/// How often a hypercall was made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HypercallCount {
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub args: [u32; 4],
    /// How often.
    pub count: u64,
}

/// How often one key came.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeyCount {
    /// `port_out`, `msr_write`, `page`, ….
    pub class: String,
    /// The port, MSR, address, ….
    pub value: u64,
    /// How often.
    pub count: u64,
}

/// A kind that the guest left out.
#[derive(Clone, Debug, Deserialize)]
pub struct Skipped {
    /// Which.
    pub kind: String,
    /// Why.
    pub why: String,
}

impl Vcpu {
    /// How many kernel exits of a reason there were; none is 0.
    pub fn exits_of(&self, reason: &str) -> u64 {
        count(&self.exits, reason)
    }

    /// How many userspace exits of a reason there were; none is 0.
    pub fn userspace_exits_of(&self, reason: &str) -> u64 {
        count(&self.userspace_exits, reason)
    }
}

fn count(cells: &[Cell], reason: &str) -> u64 {
    cells.iter().filter(|cell| cell.reason == reason).map(|cell| cell.count).sum()
}
