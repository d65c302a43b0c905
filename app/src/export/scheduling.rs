//! Halt polling, wake-ups and time on CPUs of a vCPU, as JSON, and the sums that text shows too. A part whose
//! family is off is `null`.

use super::sections::part;
use crate::model::detail::KeyClass;
use crate::model::meters::MeterKind;
use crate::model::session::Session;
use crate::model::stats::Sum;
use crate::model::tick::Phase;
use crate::model::totals::VcpuTotals;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Kinds of wake-ups.
pub const WAKEUPS: [MeterKind; 4] =
    [MeterKind::Polled, MeterKind::PolledIdle, MeterKind::Slept, MeterKind::SleptIdle];

/// A vCPU's time on one physical CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct OnCpu {
    /// Which.
    pub cpu: u64,
    /// Intervals that ended.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The longest of them, ns.
    pub max_ns: u64,
    /// How long the one lasts that is open, ns.
    pub open_ns: u64,
}

impl OnCpu {
    /// All time, ns.
    pub fn loaded_ns(&self) -> u64 {
        self.total_ns.saturating_add(self.open_ns)
    }
}

/// A vCPU's time on physical CPUs.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct OnCpus {
    /// By CPU, most time first.
    pub cpus: Vec<OnCpu>,
    /// Intervals that ended on CPUs that found no place in the table of keys, and their time, ns.
    pub other: (u64, u64),
}

/// Where a vCPU was loaded, the interval that is open at the end too.
pub fn on_cpus(vcpu: &VcpuTotals) -> OnCpus {
    let mut cpus: BTreeMap<u64, OnCpu> = BTreeMap::new();
    let mut other = (0u64, 0u64);
    for (id, sum) in vcpu.keys.iter().filter(|(id, _)| id.class == KeyClass::OnCpu) {
        let Some(cpu) = id.value else {
            other = (other.0.saturating_add(sum.count), other.1.saturating_add(sum.wall_ns()));
            continue;
        };
        let on = cpus.entry(cpu).or_insert(OnCpu { cpu, ..OnCpu::default() });
        on.count = on.count.saturating_add(sum.count);
        on.total_ns = on.total_ns.saturating_add(sum.wall_ns());
        on.max_ns = on.max_ns.max(sum.max_ns);
    }
    if vcpu.meters.loaded_open_ns > 0 {
        let cpu = u64::from(vcpu.cpu);
        let on = cpus.entry(cpu).or_insert(OnCpu { cpu, ..OnCpu::default() });
        on.open_ns = vcpu.meters.loaded_open_ns;
    }
    let mut cpus: Vec<OnCpu> = cpus.into_values().collect();
    cpus.sort_by_key(|on| (Reverse(on.loaded_ns()), on.cpu));
    OnCpus { cpus, other }
}

/// Halt polling, wake-ups, time on CPUs.
#[derive(Debug, Serialize)]
pub struct Scheduling {
    halt_poll: Option<HaltPoll>,
    wakeups: Option<Vec<Wakeup>>,
    load: Option<Load>,
}

#[derive(Debug, Serialize)]
struct HaltPoll {
    window_ns: Option<u64>,
    grew: u64,
    shrank: u64,
    polled: u64,
    slept: u64,
    polling_ns: u64,
}

#[derive(Debug, Serialize)]
struct Wakeup {
    kind: &'static str,
    #[serde(flatten)]
    times: Times,
}

#[derive(Debug, Serialize)]
struct Load {
    #[serde(flatten)]
    times: Times,
    open_ns: u64,
    loaded_ns: u64,
    migrations: u64,
    crossings: u64,
    cpus: Vec<OnCpu>,
    cpus_other: u64,
    cpus_other_ns: u64,
}

#[derive(Debug, Serialize)]
struct Times {
    count: u64,
    total_ns: u64,
    min_ns: u64,
    max_ns: u64,
    mean_ns: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
}

impl Times {
    fn new(sum: &Sum) -> Self {
        let stats = sum.stats();
        let latency = stats.latency.unwrap_or_default();
        Self {
            count: stats.count,
            total_ns: stats.total_ns,
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

impl Scheduling {
    /// Of a vCPU.
    pub fn new(session: &Session, vcpu: &VcpuTotals) -> Self {
        let (meters, halts) = (&vcpu.meters, vcpu.halts);
        let window = meters.window;
        let halt_poll = HaltPoll {
            window_ns: window.map(|window| window.now_ns),
            grew: window.map_or(0, |window| window.grew),
            shrank: window.map_or(0, |window| window.shrank),
            polled: halts.polled,
            slept: halts.waited,
            polling_ns: vcpu.time.get(Phase::Polling),
        };
        let polls = window.is_some() || halts.polled > 0 || halts.waited > 0;
        let kinds = WAKEUPS.into_iter().filter_map(|kind| Some((kind, meters.of(kind)?)));
        let wakeups: Vec<Wakeup> =
            kinds.map(|(kind, sum)| Wakeup { kind: kind.word(), times: Times::new(sum) }).collect();
        Self {
            halt_poll: part(polls, session, &["halt-poll"], halt_poll),
            wakeups: part(!wakeups.is_empty(), session, &["wakeup"], wakeups),
            load: Load::new(session, vcpu),
        }
    }
}

impl Load {
    fn new(session: &Session, vcpu: &VcpuTotals) -> Option<Self> {
        let meters = &vcpu.meters;
        let nothing = Sum::default();
        let loaded = meters.of(MeterKind::Loaded).unwrap_or(&nothing);
        let OnCpus { cpus, other } = on_cpus(vcpu);
        let is_there = loaded.count > 0 || meters.loaded_open_ns > 0;
        let load = Self {
            times: Times::new(loaded),
            open_ns: meters.loaded_open_ns,
            loaded_ns: loaded.total_ns.saturating_add(meters.loaded_open_ns),
            migrations: meters.migrations,
            crossings: meters.crossings,
            cpus,
            cpus_other: other.0,
            cpus_other_ns: other.1,
        };
        part(is_there, session, &["vcpu-load"], load)
    }
}
