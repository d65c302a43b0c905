//! The report as JSON, described in `docs/json.md`. What is there under `schema` 1 stays as it is;
//! fields may be added.

use super::Content;
use super::details::{BOUNDS, Bounds, Culprit, Found, Halts, Key, OtherThreads, SlowExit};
use super::interrupts::{self, Interrupts, Route};
use super::irqs::Deliveries;
use super::parts::{Probe, Time, probes, state_word};
use super::scheduling::Scheduling;
use super::sections::{Calls, Family, Happened, Hypercalls, Memory, NotListed, families};
use super::stacks::Stack;
use super::sums;
use crate::model::ids::{Kind, Reason};
use crate::model::session::{Origin, Session};
use crate::model::stats::Sum;
use crate::model::totals::{VcpuTotals, VmTotals};
use kvmscope_shared::column::hardware_code;
use serde::Serialize;

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// Everything that was measured, as one line of JSON.
pub fn report(content: &Content<'_>) -> serde_json::Result<String> {
    serde_json::to_string(&document(content))
}

/// The document, to be serialised.
pub fn document<'a>(content: &Content<'a>) -> Report<'a> {
    let Content { session, totals, duration_ns, findings, .. } = *content;
    let isa = sums::isa(session);
    let events = totals.events.in_order();
    let (routes_unknown, routes_unknown_other) = interrupts::unknown(totals);
    Report {
        schema: SCHEMA,
        host: Host {
            kernel: &session.host.kernel,
            backend: &session.host.backend,
            cpus: session.host.cpus,
            name: &session.host.name,
        },
        started_unix_ns: session.started_unix_ns,
        duration_ns,
        lost: LostRuns {
            missed_runs: totals.lost.missed_runs,
            ring: totals.lost.ring,
            pool_full: totals.lost.pool_full,
            slots_full: totals.lost.slots_full,
            ticks: totals.lost_ticks,
        },
        synthetic: match &session.origin {
            Origin::Live => None,
            Origin::Synthetic { why, .. } => Some(why),
        },
        notices: &session.notices,
        probes: probes(session),
        families: families(session),
        findings: findings.iter().map(|finding| Found::new(session, finding)).collect(),
        vms: totals.vms.values().map(|vm| Vm::new(content, vm)).collect(),
        outliers: totals.outliers.iter().map(|slow| SlowExit::new(content, slow)).collect(),
        outliers_left_out: totals.outliers_left_out,
        events: events.into_iter().map(|event| Happened::new(content, event, isa)).collect(),
        events_left_out: totals.events.left_out().map(NotListed::new).collect(),
        stacks: totals.stacks.iter().map(Stack::new).collect(),
        stacks_left_out: totals.stacks_left_out,
        dirty_elsewhere: totals.dirty_elsewhere,
        routes_unknown,
        routes_unknown_other,
        routes_left_out: totals.routes.left_out,
        detail_bounds: BOUNDS,
    }
}

/// The whole document.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    schema: u32,
    host: Host<'a>,
    started_unix_ns: u64,
    duration_ns: u64,
    lost: LostRuns,
    synthetic: Option<&'a str>,
    notices: &'a [String],
    probes: Vec<Probe<'a>>,
    families: Vec<Family<'a>>,
    findings: Vec<Found<'a>>,
    vms: Vec<Vm<'a>>,
    outliers: Vec<SlowExit<'a>>,
    outliers_left_out: u64,
    events: Vec<Happened<'a>>,
    events_left_out: Vec<NotListed>,
    stacks: Vec<Stack<'a>>,
    stacks_left_out: u64,
    dirty_elsewhere: u64,
    routes_unknown: Vec<Route>,
    routes_unknown_other: u64,
    routes_left_out: u64,
    detail_bounds: Bounds,
}

#[derive(Debug, Serialize)]
struct Host<'a> {
    kernel: &'a str,
    backend: &'a str,
    cpus: u32,
    name: &'a str,
}

/// [`crate::model::tick::Lost`], and the ticks that never arrived.
#[derive(Debug, Serialize)]
struct LostRuns {
    missed_runs: u64,
    ring: u64,
    pool_full: u64,
    slots_full: u64,
    ticks: u64,
}

#[derive(Debug, Serialize)]
struct Vm<'a> {
    id: u32,
    pid: u32,
    name: &'a str,
    vmm: &'a str,
    nth: u32,
    started_unix_ns: u64,
    ended_unix_ns: Option<u64>,
    other_threads: Option<OtherThreads<'a>>,
    throttled_ns: Option<u64>,
    memory: Memory,
    calls: Calls,
    interrupts: Interrupts,
    vcpus: Vec<Vcpu<'a>>,
}

impl<'a> Vm<'a> {
    fn new(content: &Content<'a>, vm: &'a VmTotals) -> Self {
        let session = content.session;
        let name = &vm.info.name;
        let routes = content.totals.routes.of(Some(vm.info.id));
        let vcpus: Vec<&VcpuTotals> = vm.vcpus.values().collect();
        let received = Deliveries::received(&vcpus, &routes);
        Self {
            id: vm.info.id.0,
            pid: vm.info.pid,
            name,
            vmm: &vm.info.vmm,
            nth: vm.info.nth,
            started_unix_ns: vm.info.started_unix_ns,
            ended_unix_ns: vm.ended_ns.map(|ns| session.unix_ns(ns)),
            other_threads: vm.beside.as_ref().map(OtherThreads::new),
            throttled_ns: vm.beside.as_ref().and_then(|beside| beside.throttled_ns),
            memory: Memory::new(session, &vcpus),
            calls: Calls::new(session, vm),
            interrupts: Interrupts::of_vm(session, content.totals, vm, &routes, &received),
            vcpus: vcpus.iter().map(|vcpu| Vcpu::new(content, name, &received, vcpu)).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Vcpu<'a> {
    vcpu: u32,
    tid: u32,
    guessed: bool,
    ended_unix_ns: Option<u64>,
    state: &'static str,
    time: Time,
    halts: Halts,
    exits: Vec<Cell<'a>>,
    userspace_exits: Vec<Cell<'a>>,
    keys: Vec<Key<'a>>,
    culprits: Vec<Culprit<'a>>,
    memory: Memory,
    calls: Hypercalls,
    interrupts: Interrupts,
    scheduling: Scheduling,
}

impl<'a> Vcpu<'a> {
    /// `vm` is the name of its VM, `received` what came to the VM's local APICs.
    fn new(content: &Content<'a>, vm: &str, received: &Deliveries, vcpu: &'a VcpuTotals) -> Self {
        let Content { session, totals, .. } = *content;
        let cells = |kind| {
            let open = vcpu.open.map(|open| open.reason).filter(|open| open.kind == kind);
            // An exit that began before the program did has no cell of its own yet.
            let unseen = open.filter(|open| !vcpu.cells.contains_key(open));
            let seen = vcpu.cells.iter().filter(move |(reason, _)| reason.kind == kind);
            let seen = seen.map(|(&reason, sum)| (reason, sum.as_ref().clone()));
            seen.chain(unseen.map(|reason| (reason, Sum::default())))
                .map(|(reason, sum)| {
                    Cell::new(session, reason, &sum, vcpu.open_ns(reason, totals.end_ns))
                })
                .collect()
        };
        Self {
            vcpu: vcpu.info.key.vcpu,
            tid: vcpu.info.tid,
            guessed: vcpu.info.guessed,
            ended_unix_ns: vcpu.ended_ns.map(|ns| session.unix_ns(ns)),
            state: state_word(vcpu.phase.0),
            time: Time::new(&vcpu.time),
            halts: Halts::new(vcpu),
            exits: cells(Kind::Exit),
            userspace_exits: cells(Kind::Userspace),
            keys: vcpu.keys.iter().map(|(&id, sum)| Key::new(content, vm, id, sum)).collect(),
            culprits: vcpu.culprits.iter().map(Culprit::new).collect(),
            memory: Memory::new(session, &[vcpu]),
            calls: Hypercalls::new(session, &[vcpu]),
            interrupts: Interrupts::of_vcpu(session, vcpu, received),
            scheduling: Scheduling::new(session, vcpu),
        }
    }
}

#[derive(Debug, Serialize)]
struct Cell<'a> {
    reason: std::borrow::Cow<'a, str>,
    code: u32,
    idle: bool,
    flags: u32,
    count: u64,
    timed: u64,
    open_ns: Option<u64>,
    total_ns: u64,
    off_cpu_ns: u64,
    vmm_ns: u64,
    min_ns: u64,
    max_ns: u64,
    mean_ns: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
}

impl<'a> Cell<'a> {
    fn new(session: &'a Session, reason: Reason, sum: &Sum, open_ns: Option<u64>) -> Self {
        let stats = sum.stats();
        // Zeros where nothing was timed; `timed` tells.
        let latency = stats.latency.unwrap_or_default();
        Self {
            reason: session.names.name(reason),
            code: hardware_code(reason.code),
            idle: reason.is_idle(),
            flags: sum.flags,
            count: stats.count,
            timed: stats.timed,
            open_ns,
            total_ns: stats.total_ns,
            off_cpu_ns: stats.off_ns,
            vmm_ns: stats.vmm_ns,
            min_ns: latency.min_ns,
            max_ns: latency.max_ns,
            mean_ns: latency.mean_ns,
            p50_ns: latency.p50_ns,
            p90_ns: latency.p90_ns,
            p99_ns: latency.p99_ns,
            p999_ns: latency.p999_ns,
        }
    }
}

#[cfg(test)]
mod tests;
