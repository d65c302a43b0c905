//! What exits were about, who took the CPU, slow exits and findings, as JSON.

use super::Content;
use crate::findings::Finding;
use crate::model::detail::{CulpritTick, KeyClass, KeyId, Outlier, VmTick};
use crate::model::ids::VmId;
use crate::model::session::Session;
use crate::model::totals::{KeySum, MAX_EVENTS, MAX_OUTLIERS, VcpuTotals};
use crate::trace::{keys, qualification};
use kvmscope_shared::column::hardware_code;
use kvmscope_shared::detail::{KEYS, OUTLIERS_PER_SECOND};
use kvmscope_shared::event::EVENTS_PER_SECOND;
use serde::Serialize;
use std::borrow::Cow;

#[derive(Debug, Serialize)]
pub struct Halts {
    polled: u64,
    waited: u64,
}

impl Halts {
    pub fn new(vcpu: &VcpuTotals) -> Self {
        Self { polled: vcpu.halts.polled, waited: vcpu.halts.waited }
    }
}

/// One key. `value` and what follows from it are null for "other".
#[derive(Debug, Serialize)]
pub struct Key<'a> {
    reason: Option<Cow<'a, str>>,
    code: Option<u32>,
    class: &'static str,
    value: Option<u64>,
    key: Option<String>,
    name: Option<Cow<'static, str>>,
    #[serde(flatten)]
    times: Times,
}

/// How often something was met, and times of exits about it.
#[derive(Debug, Serialize)]
pub struct Times {
    count: u64,
    timed: u64,
    total_ns: u64,
    off_cpu_ns: u64,
    vmm_ns: u64,
    max_ns: u64,
}

impl Times {
    pub fn new(sum: &KeySum) -> Self {
        let KeySum { count, timed, total_ns, off_ns, vmm_ns, max_ns } = *sum;
        Self { count, timed, total_ns, off_cpu_ns: off_ns, vmm_ns, max_ns }
    }
}

impl<'a> Key<'a> {
    pub fn new(content: &Content<'a>, vm: &str, id: KeyId, sum: &KeySum) -> Self {
        Self {
            reason: id.reason.map(|reason| content.session.names.name(reason)),
            code: id.reason.map(|reason| hardware_code(reason.code)),
            class: id.class.word(),
            value: id.value,
            key: id.value.map(|value| keys::number(id.class, value)),
            name: id.value.and_then(|value| name(content, vm, id.class, value)),
            times: Times::new(sum),
        }
    }
}

/// What a key is called; for an instruction pointer the guest's symbol.
pub fn name(
    content: &Content<'_>,
    vm: &str,
    class: KeyClass,
    value: u64,
) -> Option<Cow<'static, str>> {
    match class {
        KeyClass::Rip => (content.code)(vm, value).map(Cow::Owned),
        _ => keys::name(class, value),
    }
}

/// Someone who ran while the vCPU waited.
#[derive(Debug, Serialize)]
pub struct Culprit<'a> {
    pid: u32,
    tid: u32,
    comm: &'a str,
    vm: Option<u32>,
    cgroup: &'a str,
    total_ns: u64,
    count: u64,
}

impl<'a> Culprit<'a> {
    pub fn new(culprit: &'a CulpritTick) -> Self {
        Self {
            pid: culprit.pid,
            tid: culprit.tid,
            comm: &culprit.comm,
            vm: culprit.vm.map(|vm| vm.0),
            cgroup: &culprit.cgroup,
            total_ns: culprit.ns,
            count: culprit.count,
        }
    }
}

/// The VMM's threads that are no vCPUs.
#[derive(Debug, Serialize)]
pub struct OtherThreads<'a> {
    over_ns: u64,
    cpu_ns: u64,
    threads: Vec<OtherThread<'a>>,
}

#[derive(Debug, Serialize)]
struct OtherThread<'a> {
    tid: u32,
    comm: &'a str,
    cpu_ns: u64,
}

impl<'a> OtherThreads<'a> {
    pub fn new(beside: &'a VmTick) -> Self {
        let thread =
            |(tid, comm, ns): &'a (u32, String, u64)| OtherThread { tid: *tid, comm, cpu_ns: *ns };
        Self {
            over_ns: beside.over_ns,
            cpu_ns: beside.others_ns,
            threads: beside.threads.iter().map(thread).collect(),
        }
    }
}

/// One slow exit.
#[derive(Debug, Serialize)]
pub struct SlowExit<'a> {
    vm: u32,
    vcpu: u32,
    ended_unix_ns: u64,
    reason: Cow<'a, str>,
    code: u32,
    class: Option<&'static str>,
    value: Option<u64>,
    key: Option<String>,
    name: Option<Cow<'static, str>>,
    rip: u64,
    symbol: Option<String>,
    info1: u64,
    info2: u64,
    qualification: Vec<String>,
    wall_ns: u64,
    handling_ns: u64,
    kvm_asleep_ns: u64,
    waiting_ns: u64,
    vmm_ns: u64,
    cpu: u32,
    by: Option<By<'a>>,
}

/// Who took the CPU meanwhile.
#[derive(Debug, Serialize)]
struct By<'a> {
    tid: u32,
    comm: &'a str,
}

impl<'a> SlowExit<'a> {
    pub fn new(content: &Content<'a>, outlier: &'a Outlier) -> Self {
        let vm = vm_name(content, outlier);
        let about = outlier.about;
        Self {
            vm: outlier.key.vm.0,
            vcpu: outlier.key.vcpu,
            ended_unix_ns: content.session.unix_ns(outlier.end_ns),
            reason: content.session.names.name(outlier.reason),
            code: hardware_code(outlier.reason.code),
            class: about.map(|(class, _)| class.word()),
            value: about.map(|(_, value)| value),
            key: about.map(|(class, value)| keys::number(class, value)),
            name: about.and_then(|(class, value)| name(content, vm, class, value)),
            rip: outlier.rip,
            symbol: (content.code)(vm, outlier.rip),
            info1: outlier.info1,
            info2: outlier.info2,
            qualification: qualification::words(outlier.reason, outlier.info1, outlier.info2),
            wall_ns: outlier.wall_ns(),
            handling_ns: outlier.handling_ns,
            kvm_asleep_ns: outlier.asleep_ns,
            waiting_ns: outlier.wait_ns,
            vmm_ns: outlier.vmm_ns,
            cpu: outlier.cpu,
            by: outlier.by.as_ref().map(|(tid, comm)| By { tid: *tid, comm }),
        }
    }
}

/// The name of the VM of an outlier; empty where it is not known.
pub fn vm_name<'a>(content: &Content<'a>, outlier: &Outlier) -> &'a str {
    vm_called(content, outlier.key.vm)
}

/// The name of a VM; empty where it is not known.
pub fn vm_called<'a>(content: &Content<'a>, vm: VmId) -> &'a str {
    content.totals.vms.get(&vm).map_or("", |vm| vm.info.name.as_str())
}

/// What is kept at most.
#[derive(Debug, Serialize)]
pub struct Bounds {
    keys_per_vcpu: usize,
    outliers: usize,
    outliers_per_second: u64,
    events_per_kind: usize,
    events_per_second: u64,
    listed: usize,
}

/// The bounds of this program and its probes.
pub const BOUNDS: Bounds = Bounds {
    keys_per_vcpu: KEYS,
    outliers: MAX_OUTLIERS,
    outliers_per_second: OUTLIERS_PER_SECOND,
    events_per_kind: MAX_EVENTS,
    events_per_second: EVENTS_PER_SECOND,
    listed: super::sections::LISTED,
};

/// One finding.
#[derive(Debug, Serialize)]
pub struct Found<'a> {
    rule: &'static str,
    weight: &'static str,
    vm: u32,
    vcpu: Option<u32>,
    reason: Option<Cow<'a, str>>,
    text: &'a str,
    evidence: &'a [String],
    next: &'a str,
}

impl<'a> Found<'a> {
    pub fn new(session: &'a Session, finding: &'a Finding) -> Self {
        Self {
            rule: finding.rule,
            weight: finding.weight.word(),
            vm: finding.vm.0,
            vcpu: finding.vcpu,
            reason: finding.reason.map(|reason| session.names.name(reason)),
            text: &finding.text,
            evidence: &finding.evidence,
            next: &finding.next,
        }
    }
}
