//! The report as JSON, described in `docs/json.md`. What is there under `schema` 1 stays as it is;
//! fields may be added.

use crate::model::ids::{Kind, Reason};
use crate::model::session::{Origin, Session};
use crate::model::stats::Sum;
use crate::model::tick::Phase;
use crate::model::totals::{Totals, VcpuTotals, VmTotals};
use kvmscope_shared::column::hardware_code;
use serde::Serialize;

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// Everything that was measured in `duration_ns`, as one line of JSON.
pub fn report(session: &Session, totals: &Totals, duration_ns: u64) -> serde_json::Result<String> {
    serde_json::to_string(&document(session, totals, duration_ns))
}

/// The document, to be serialised.
pub fn document<'a>(session: &'a Session, totals: &'a Totals, duration_ns: u64) -> Report<'a> {
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
        probes: session
            .probes
            .iter()
            .map(|probe| Probe {
                name: &probe.name,
                family: &probe.family,
                attached: probe.attached,
                why: probe.why.as_deref(),
                how: &probe.how,
            })
            .collect(),
        vms: totals.vms.values().map(|vm| Vm::new(session, totals, vm)).collect(),
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
    vms: Vec<Vm<'a>>,
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
struct Probe<'a> {
    name: &'a str,
    family: &'a str,
    attached: bool,
    why: Option<&'a str>,
    how: &'a str,
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
    vcpus: Vec<Vcpu<'a>>,
}

impl<'a> Vm<'a> {
    fn new(session: &'a Session, totals: &'a Totals, vm: &'a VmTotals) -> Self {
        Self {
            id: vm.info.id.0,
            pid: vm.info.pid,
            name: &vm.info.name,
            vmm: &vm.info.vmm,
            nth: vm.info.nth,
            started_unix_ns: vm.info.started_unix_ns,
            ended_unix_ns: vm.ended_ns.map(|ns| session.unix_ns(ns)),
            vcpus: vm.vcpus.values().map(|vcpu| Vcpu::new(session, totals, vcpu)).collect(),
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
    exits: Vec<Cell<'a>>,
    userspace_exits: Vec<Cell<'a>>,
}

impl<'a> Vcpu<'a> {
    fn new(session: &'a Session, totals: &'a Totals, vcpu: &'a VcpuTotals) -> Self {
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
            time: Time::new(vcpu),
            exits: cells(Kind::Exit),
            userspace_exits: cells(Kind::Userspace),
        }
    }
}

/// Wall time of a vCPU, ns. Adds up to what was seen of it.
#[derive(Debug, Serialize)]
struct Time {
    guest_ns: u64,
    kvm_ns: u64,
    vmm_ns: u64,
    vmm_asleep_ns: u64,
    halted_ns: u64,
    polling_ns: u64,
    kvm_asleep_ns: u64,
    waiting_ns: u64,
    unknown_ns: u64,
}

impl Time {
    fn new(vcpu: &VcpuTotals) -> Self {
        let time = |phase| vcpu.time.get(phase);
        Self {
            guest_ns: time(Phase::Guest),
            kvm_ns: time(Phase::Kvm),
            vmm_ns: time(Phase::Vmm),
            vmm_asleep_ns: time(Phase::VmmBlocked),
            halted_ns: time(Phase::Blocked),
            polling_ns: time(Phase::Polling),
            kvm_asleep_ns: time(Phase::KvmBlocked),
            waiting_ns: time(Phase::Preempted),
            unknown_ns: time(Phase::Unknown),
        }
    }
}

fn state_word(phase: Phase) -> &'static str {
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
mod tests {
    use super::super::testing::sample;
    use super::*;
    use serde_json::Value;

    fn parsed() -> Value {
        let (session, totals) = sample();
        let text = report(&session, &totals, 3_000_000_000).expect("serialises");
        serde_json::from_str(&text).expect("is JSON")
    }

    /// What is promised under schema 1. Only ever add to this list.
    #[test]
    fn every_promised_field_is_there() {
        let report = parsed();
        for path in [
            "/schema",
            "/host/kernel",
            "/host/backend",
            "/host/cpus",
            "/started_unix_ns",
            "/duration_ns",
            "/lost/missed_runs",
            "/lost/ring",
            "/lost/pool_full",
            "/lost/slots_full",
            "/probes/0/name",
            "/probes/0/family",
            "/probes/0/attached",
            "/probes/0/why",
            "/vms/0/id",
            "/vms/0/pid",
            "/vms/0/name",
            "/vms/0/started_unix_ns",
            "/vms/0/ended_unix_ns",
            "/vms/0/vcpus/0/vcpu",
            "/vms/0/vcpus/0/tid",
        ] {
            assert!(report.pointer(path).is_some(), "{path}");
        }
        for list in ["exits", "userspace_exits"] {
            let cell = &report["vms"][0]["vcpus"][0][list][0];
            for field in "reason code count timed open_ns total_ns off_cpu_ns vmm_ns min_ns max_ns \
                          p50_ns p90_ns p99_ns p999_ns"
                .split_whitespace()
            {
                assert!(cell.get(field).is_some(), "{list} {field}");
            }
        }
        assert_eq!(report["schema"], 1);
    }

    #[test]
    fn numbers_are_those_of_the_totals() {
        let report = parsed();
        let vcpu = &report["vms"][0]["vcpus"][0];
        let hlt = &vcpu["exits"][0];
        assert_eq!((&hlt["reason"], &hlt["code"]), (&Value::from("HLT"), &Value::from(12)));
        assert_eq!((&hlt["count"], &hlt["timed"]), (&Value::from(3), &Value::from(2)));
        assert_eq!(hlt["open_ns"], 250_000_000);
        assert_eq!(hlt["idle"], true);
        let write = &vcpu["exits"][1];
        assert_eq!(write["reason"], "MSR_WRITE");
        assert_eq!(write["open_ns"], Value::Null);
        assert_eq!((&write["min_ns"], &write["max_ns"]), (&Value::from(900), &Value::from(88_000)));
        assert_eq!(vcpu["userspace_exits"][0]["reason"], "IO");
        assert_eq!(vcpu["time"]["guest_ns"], 3_000_000_000u64);
        assert_eq!(report["probes"][1]["why"], "The kernel has no such tracepoint.");
        assert_eq!(report["vms"][1]["ended_unix_ns"], 1_700_000_002_500_000_000u64);
        assert_eq!(report["lost"]["pool_full"], 7);
    }

    #[test]
    fn an_exit_open_since_before_has_a_line_of_its_own() {
        let report = parsed();
        let cell = &report["vms"][1]["vcpus"][0]["exits"][0];
        assert_eq!((&cell["code"], &cell["count"]), (&Value::from(30), &Value::from(0)));
        assert_eq!(cell["open_ns"], 3_000_000_000u64);
        assert_eq!((&cell["timed"], &cell["p50_ns"]), (&Value::from(0), &Value::from(0)));
    }
}
