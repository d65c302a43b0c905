//! The objects of lines, as `schema.json` describes them.

use super::SCHEMA;
use super::vcpus::VcpuIn;
use crate::export::details::{OtherThreads, SlowExit};
use crate::export::follow::World;
use crate::export::parts::{Probe, probes};
use crate::export::sections::{Happened, NotListed};
use crate::export::stacks::Stack;
use crate::model::ids::VcpuKey;
use crate::model::session::{Origin, Session};
use crate::model::tick::{Phase, Tick, VcpuInfo, VmInfo};
use serde::Serialize;

/// A line. Times are integers in nanoseconds, and may exceed 2^53; `…_unix_ns` are moments since the Unix epoch.
/// Fields may be added: ignore those that you do not know.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line<'a> {
    /// The host, the probes and the names: first, and again when something changed.
    Session(SessionLine<'a>),
    /// A VM is there, or something about it became known.
    Vm(VmLine<'a>),
    /// A vCPU is there, or runs in another thread now.
    Vcpu(VcpuLine),
    /// A vCPU is gone.
    VcpuGone(VcpuWent),
    /// A VM is gone.
    VmGone(VmWent),
    /// An interval is over.
    Tick(Box<TickLine<'a>>),
    /// An exit that lasted longer than the threshold, of the tick before it.
    SlowExit(Box<SlowExit<'a>>),
    /// A single event, of the tick before it.
    Event(Box<Happened<'a>>),
    /// A note that somebody made.
    Mark(Note<'a>),
    /// Nothing is known of a while; nothing of it is zero.
    Gap(Nothing<'a>),
    /// Last.
    End(Ended<'a>),
}

/// The host, the probes and the names.
#[derive(Debug, Serialize)]
pub struct SessionLine<'a> {
    /// Version of these lines: 1.
    schema: u32,
    /// Host name.
    host: &'a str,
    /// Kernel release.
    kernel: &'a str,
    /// KVM's backend: `vmx`, `svm`, `pvm`, `none`.
    backend: &'a str,
    /// CPUs online.
    cpus: u32,
    /// When measuring began.
    started_unix_ns: u64,
    /// Why the numbers are invented; null when they were measured.
    synthetic: Option<&'a str>,
    /// What a reader should know: sentences.
    notices: &'a [String],
    /// The probes.
    probes: Vec<Probe<'a>>,
}

impl<'a> SessionLine<'a> {
    pub fn new(session: &'a Session) -> Self {
        Self {
            schema: SCHEMA,
            host: &session.host.name,
            kernel: &session.host.kernel,
            backend: &session.host.backend,
            cpus: session.host.cpus,
            started_unix_ns: session.started_unix_ns,
            synthetic: match &session.origin {
                Origin::Live => None,
                Origin::Synthetic { why, .. } => Some(why),
            },
            notices: &session.notices,
            probes: probes(session),
        }
    }
}

/// A VM.
#[derive(Debug, Serialize)]
pub struct VmLine<'a> {
    /// From when on this is so, to the tick.
    at_unix_ns: u64,
    /// Its number in this recording; never reused.
    vm: u32,
    /// What the VMM calls the guest.
    name: &'a str,
    /// Process of the VMM.
    pid: u32,
    /// Kind of VMM.
    vmm: &'a str,
    /// Which VM of that process, from 0.
    nth: u32,
    /// When the VMM was started; 0 when not known.
    started_unix_ns: u64,
}

impl<'a> VmLine<'a> {
    pub fn new(at_unix_ns: u64, info: &'a VmInfo) -> Self {
        Self {
            at_unix_ns,
            vm: info.id.0,
            name: &info.name,
            pid: info.pid,
            vmm: &info.vmm,
            nth: info.nth,
            started_unix_ns: info.started_unix_ns,
        }
    }
}

/// A vCPU.
#[derive(Debug, Serialize)]
pub struct VcpuLine {
    /// From when on this is so, to the tick.
    at_unix_ns: u64,
    /// Number of its VM.
    vm: u32,
    /// Name of its VM.
    name: String,
    /// KVM's number for it.
    vcpu: u32,
    /// The thread it runs in.
    tid: u32,
    /// Whether `vcpu` is a guess.
    guessed: bool,
}

impl VcpuLine {
    pub fn new(at_unix_ns: u64, name: &str, info: &VcpuInfo) -> Self {
        Self {
            at_unix_ns,
            vm: info.key.vm.0,
            name: name.to_owned(),
            vcpu: info.key.vcpu,
            tid: info.tid,
            guessed: info.guessed,
        }
    }
}

/// A vCPU that is gone.
#[derive(Debug, Serialize)]
pub struct VcpuWent {
    /// When.
    pub at_unix_ns: u64,
    /// Number of its VM.
    pub vm: u32,
    /// Name of its VM.
    pub name: String,
    /// KVM's number for it.
    pub vcpu: u32,
}

/// A VM that is gone.
#[derive(Debug, Serialize)]
pub struct VmWent {
    /// When.
    pub at_unix_ns: u64,
    /// Its number.
    pub vm: u32,
    /// Its name.
    pub name: String,
}

/// A note.
#[derive(Debug, Serialize)]
pub struct Note<'a> {
    /// At which moment.
    pub at_unix_ns: u64,
    /// What it says; may be empty.
    pub text: &'a str,
}

/// No data.
#[derive(Debug, Serialize)]
pub struct Nothing<'a> {
    /// After which moment.
    pub from_unix_ns: u64,
    /// Until which; as `from_unix_ns` where that is not known.
    pub until_unix_ns: u64,
    /// Why, in a sentence.
    pub why: &'a str,
}

/// How the recording ends.
#[derive(Debug, Serialize)]
pub struct Ended<'a> {
    /// Whether it was finished.
    pub clean: bool,
    /// Why not, in a sentence; or why the source ended by itself.
    pub why: Option<&'a str>,
}

/// What changed in an interval.
#[derive(Debug, Serialize)]
pub struct TickLine<'a> {
    /// Counts from 1; a jump means that ticks are missing.
    seq: u64,
    /// End of the interval.
    at_unix_ns: u64,
    /// The same on the probes' clock (CLOCK_MONOTONIC of the host).
    at_ns: u64,
    /// Its length.
    dur_ns: u64,
    /// What was not measured in it.
    lost: LostIn,
    /// What the host did meanwhile.
    host: HostIn,
    /// Every vCPU that lives.
    vcpus: Vec<VcpuIn<'a>>,
    /// What VMs did beside running their vCPUs; those that were looked at.
    vms: Vec<VmIn<'a>>,
    /// Slow exits that have no line, as they were too many.
    slow_exits_left_out: u64,
    /// Single events that have no line, by kind.
    events_left_out: Vec<NotListed>,
    /// Kernel stacks (family `roots`).
    stacks: Vec<Stack<'a>>,
    /// Calls with stacks that are not among them.
    stacks_left_out: u64,
    /// Dirty pages that were marked by threads that are no vCPUs (family `dirty`).
    dirty_elsewhere: u64,
}

impl<'a> TickLine<'a> {
    pub fn new(world: &'a World, tick: &'a Tick, silent: &[(VcpuKey, Phase)]) -> Self {
        let quiet = silent.iter().map(|&(key, phase)| VcpuIn::silent(world, key, phase, tick));
        let mut vcpus: Vec<(VcpuKey, VcpuIn<'a>)> =
            silent.iter().map(|(key, _)| *key).zip(quiet).collect();
        vcpus.extend(tick.vcpus.iter().map(|vcpu| (vcpu.key, VcpuIn::new(world, vcpu))));
        vcpus.sort_by_key(|(key, _)| *key);
        let (probe_run_ns, probe_runs) = tick.host.probes.unzip();
        Self {
            seq: tick.seq,
            at_unix_ns: world.session.unix_ns(tick.end_ns),
            at_ns: tick.end_ns,
            dur_ns: tick.dur_ns,
            lost: LostIn {
                missed_runs: tick.lost.missed_runs,
                ring: tick.lost.ring,
                pool_full: tick.lost.pool_full,
                slots_full: tick.lost.slots_full,
            },
            host: HostIn {
                steal_ns: tick.host.steal_ns,
                own_cpu_ns: tick.host.own_cpu_ns,
                probe_run_ns,
                probe_runs,
            },
            vcpus: vcpus.into_iter().map(|(_, vcpu)| vcpu).collect(),
            vms: tick
                .vms
                .iter()
                .map(|vm| VmIn {
                    vm: vm.id.0,
                    name: world.who.name(vm.id),
                    other_threads: (vm.over_ns > 0).then(|| OtherThreads::new(vm)),
                    throttled_ns: vm.throttled_ns,
                    ioctls: vm.ioctls.iter().map(IoctlIn::new).collect(),
                })
                .collect(),
            slow_exits_left_out: tick.outliers_left_out,
            events_left_out: tick.events_left_out.iter().copied().map(NotListed::new).collect(),
            stacks: tick.stacks.iter().map(Stack::new).collect(),
            stacks_left_out: tick.stacks_left_out,
            dirty_elsewhere: tick.dirty_elsewhere,
        }
    }
}

/// What was not measured, by cause.
#[derive(Debug, Serialize)]
struct LostIn {
    /// Probe runs that the kernel skipped.
    missed_runs: u64,
    /// Records that the ring buffer had no room for.
    ring: u64,
    /// Exits whose reason found no free cell.
    pool_full: u64,
    /// Exits of threads that found no free slot.
    slots_full: u64,
}

/// What the host did.
#[derive(Debug, Serialize)]
struct HostIn {
    /// Time that its own hypervisor took from it, over all CPUs.
    steal_ns: u64,
    /// CPU time of kvmscope.
    own_cpu_ns: u64,
    /// Run time of the probes, when it was sampled.
    probe_run_ns: Option<u64>,
    /// How often they ran, when it was sampled.
    probe_runs: Option<u64>,
}

/// What a VM did beside running its vCPUs.
#[derive(Debug, Serialize)]
struct VmIn<'a> {
    /// Its number.
    vm: u32,
    /// Its name.
    name: String,
    /// Threads of the VMM that are no vCPUs; null when nobody looked.
    other_threads: Option<OtherThreads<'a>>,
    /// Time that a CPU quota stopped it; null where there is none.
    throttled_ns: Option<u64>,
    /// KVM ioctls of its process (family `ioctl`).
    ioctls: Vec<IoctlIn>,
}

/// A KVM ioctl.
#[derive(Debug, Serialize)]
struct IoctlIn {
    /// The whole command.
    command: u32,
    /// Its name in `linux/kvm.h`; null when it has none.
    name: Option<&'static str>,
    /// Calls that ended.
    count: u64,
    /// Of them those that failed.
    failed: u64,
    /// Their time.
    total_ns: u64,
    /// The longest since the VM was first seen.
    max_ns: u64,
}

impl IoctlIn {
    fn new(ioctl: &crate::model::detail::IoctlTick) -> Self {
        let crate::model::detail::IoctlTick { command, count, failed, total_ns, max_ns } = *ioctl;
        let name = crate::trace::ioctl::name(command);
        Self { command, name, count, failed, total_ns, max_ns }
    }
}
