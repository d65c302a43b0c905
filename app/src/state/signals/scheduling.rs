//! Rows of the Scheduling tab: vCPUs on CPUs, who takes them, halt polling, wake-ups.

use super::interrupts::{some_rate, text};
use super::{MeterSum, SignalId, Sums, VcpuSum, Windows};
use crate::findings::Facts;
use crate::model::detail::CulpritTick;
use crate::model::ids::{VcpuKey, VmId};
use crate::model::meters::MeterKind;
use crate::model::tick::Phase;
use crate::state::facts::{add_culprits, sort_culprits};
use crate::state::fields::{Field, Row};
use crate::state::load::{per_second, ratio};
use crate::state::nav::{RowId, Who};
use crate::state::value::Value;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows of a pane.
const SHOWN: usize = 200;

/// Who was loaded on which CPU.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct OnCpus {
    /// VMs, or vCPUs.
    pub rows: Vec<OnCpuRow>,
    /// One more than the highest CPU that any was on.
    pub cpus: u64,
}

/// Where one was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct OnCpuRow {
    /// Who.
    pub row: RowId,
    /// In a word.
    pub name: String,
    /// Share of the last seconds by CPU, most first; of a VM, of all its vCPUs' together: CPUs.
    pub cpus: Vec<(u64, f64)>,
    /// The same of CPUs that found no place of their own.
    pub other: f64,
    /// Where the last event was; of a vCPU.
    pub now: Option<u32>,
}

impl OnCpuRow {
    /// Share on a CPU, or on several from this one on.
    pub fn share(&self, cpus: Range<u64>) -> f64 {
        self.cpus.iter().filter(|(cpu, _)| cpus.contains(cpu)).map(|(_, share)| share).sum()
    }

    /// The CPUs in words, those with most first.
    pub fn most(&self) -> String {
        let mut words: Vec<String> = self
            .cpus
            .iter()
            .take(4)
            .map(|(cpu, share)| format!("CPU {cpu} {}", crate::state::value::share(*share)))
            .collect();
        let more = self.cpus.len().saturating_sub(4);
        if more > 0 {
            words.push(format!("{more} more"));
        }
        words.join(", ")
    }
}

impl Row for OnCpuRow {
    fn id(&self) -> RowId {
        self.row
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "who", title: "on CPUs", width: 10, numeric: false, about: "the VM, or the vCPU", value: |r| text(&r.name) },
        Field { key: "now", title: "CPU now", width: 7, numeric: true, about: "the CPU of the last event", value: |r| r.now.map_or(Value::None, |cpu| text(&cpu.to_string())) },
        Field { key: "cpus", title: "CPUs", width: 4, numeric: true, about: "on how many CPUs it was", value: |r| Value::Count(r.cpus.len() as u64) },
        Field { key: "most", title: "most on", width: 24, numeric: false, about: "the CPUs on which it was most, share of the last seconds", value: |r| text(&r.most()) },
    ];
}

impl super::list::Signal for OnCpuRow {
    fn signal(&self) -> SignalId {
        SignalId::Of(self.row)
    }

    fn points_to(&self) -> Option<RowId> {
        Some(self.row)
    }
}

/// Time on each CPU of a vCPU, ns, with the open interval; `None` is "other". Never more than there was: an
/// interval that began before the last seconds is told whole when it ends.
fn times(key: VcpuKey, sum: &VcpuSum, sums: &Sums) -> BTreeMap<Option<u64>, f64> {
    let mut times: BTreeMap<Option<u64>, f64> = BTreeMap::new();
    for (&(_, cpu), on) in sums.on_cpus.range((key, None)..=(key, Some(u64::MAX))) {
        *times.entry(cpu).or_default() += on.total_ns as f64;
    }
    if sum.open_ns > 0 {
        let open = sum.open_ns.min(sums.over_ns) as f64;
        *times.entry(Some(sum.cpu.into())).or_default() += open;
    }
    let (whole, most) = (times.values().sum::<f64>(), sums.over_ns as f64);
    if whole > most {
        times.values_mut().for_each(|ns| *ns *= most / whole);
    }
    times
}

/// The map of who was on which CPU.
pub(super) fn on_cpus(members: Vec<(RowId, String, String)>, sums: &Sums) -> OnCpus {
    let over = sums.over_ns.max(1) as f64;
    let row = |(row, name, _): (RowId, String, String)| {
        let (mine, now): (Vec<VcpuKey>, Option<u32>) = match row {
            RowId::Vcpu(key) => (vec![key], sums.vcpus.get(&key).map(|sum| sum.cpu)),
            RowId::Vm(vm) => {
                let range = VcpuKey { vm, vcpu: 0 }..=VcpuKey { vm, vcpu: u32::MAX };
                (sums.vcpus.range(range).map(|(key, _)| *key).collect(), None)
            }
            _ => (Vec::new(), None),
        };
        let mut times: BTreeMap<Option<u64>, f64> = BTreeMap::new();
        for key in mine {
            let Some(sum) = sums.vcpus.get(&key) else { continue };
            for (cpu, ns) in self::times(key, sum, sums) {
                *times.entry(cpu).or_default() += ns;
            }
        }
        let other = times.remove(&None).unwrap_or(0.0) / over;
        let mut cpus: Vec<(u64, f64)> =
            times.into_iter().filter_map(|(cpu, ns)| Some((cpu?, ns / over))).collect();
        cpus.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let some = !cpus.is_empty() || other > 0.0;
        some.then_some(OnCpuRow { row, name, cpus, other, now })
    };
    let rows: Vec<OnCpuRow> = members.into_iter().filter_map(row).collect();
    let highest = rows.iter().flat_map(|row| &row.cpus).map(|(cpu, _)| *cpu).max();
    OnCpus { rows, cpus: highest.map_or(0, |cpu| cpu.saturating_add(1)) }
}

/// Someone who took CPUs.
#[derive(Clone, Debug, PartialEq)]
pub struct TakerRow {
    /// As it was seen.
    pub one: CulpritTick,
    /// Name of its VM.
    pub vm: Option<String>,
    /// ns per second.
    pub per_second: u64,
    /// Share of all the waiting.
    pub share: f64,
}

impl TakerRow {
    fn name(&self) -> String {
        match (self.one.comm.as_str(), self.one.pid) {
            ("", _) => "others".to_owned(),
            (comm, 0) => format!("{comm} (idle)"),
            (comm, pid) => format!("{comm} {pid}"),
        }
    }
}

impl Row for TakerRow {
    fn id(&self) -> RowId {
        RowId::Vm(self.one.vm.unwrap_or_default())
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "who", title: "who ran", width: 16, numeric: false, about: "who ran while vCPUs waited for their CPU: thread and process", value: |r| text(&r.name()) },
        Field { key: "vm", title: "of VM", width: 8, numeric: false, about: "the VM it belongs to", value: |r| r.vm.as_deref().map_or(Value::None, text) },
        Field { key: "ns", title: "per s", width: 6, numeric: true, about: "time it ran meanwhile, per second", value: |r| Value::Ns(r.per_second) },
        Field { key: "share", title: "share", width: 5, numeric: true, about: "share of the waiting", value: |r| Value::Share(r.share) },
        Field { key: "waits", title: "waits", width: 5, numeric: true, about: "waits that it had a part in", value: |r| Value::Count(r.one.count) },
        Field { key: "mean", title: "mean", width: 5, numeric: true, about: "its time in each of them", value: |r| Value::ns(r.one.ns.checked_div(r.one.count)) },
        Field { key: "cgroup", title: "cgroup", width: 16, numeric: false, about: "its cgroup", value: |r| text(&r.one.cgroup) },
    ];
}

impl super::list::Signal for TakerRow {
    fn signal(&self) -> SignalId {
        SignalId::Taker(self.one.pid, self.one.comm.is_empty())
    }

    fn points_to(&self) -> Option<RowId> {
        self.one.vm.map(RowId::Vm)
    }
}

/// Who took CPUs from someone's vCPUs (of everyone's where `None`), most first.
pub(super) fn takers(
    facts: &Facts,
    who: Option<Who>,
    name: &dyn Fn(VmId) -> String,
) -> Vec<TakerRow> {
    let (mut found, mut waited) = (Vec::new(), 0u64);
    let mine = facts.vms.iter().flat_map(|vm| &vm.vcpus);
    for vcpu in mine.filter(|vcpu| who.is_none_or(|who| who.contains(vcpu.key))) {
        waited = waited.saturating_add(vcpu.time.get(Phase::Preempted));
        add_culprits(&mut found, &vcpu.culprits);
    }
    sort_culprits(&mut found);
    found.truncate(SHOWN);
    let row = |one: CulpritTick| TakerRow {
        vm: one.vm.map(name),
        per_second: per_second(one.ns, facts.over_ns) as u64,
        share: ratio(one.ns, waited).min(1.0),
        one,
    };
    found.into_iter().map(row).collect()
}

/// Halt polling of a VM or a vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct PollingRow {
    /// Whose.
    pub row: RowId,
    /// In a word.
    pub name: String,
    /// What it did.
    pub sum: VcpuSum,
    /// Over how long, ns.
    pub over_ns: u64,
    /// The window tick by tick, ns, oldest first; of a VM the largest.
    pub trend: Vec<Option<f64>>,
    /// The same as a picture, where someone draws it.
    pub picture: String,
}

impl PollingRow {
    /// Wake-ups while polling, and all.
    fn woken(&self) -> (u64, u64) {
        let polled = self.sum.halts.polled;
        (polled, polled.saturating_add(self.sum.halts.waited))
    }

    /// Share of the wake-ups that came while polling.
    pub fn polled(&self) -> Option<f64> {
        let (polled, all) = self.woken();
        (all > 0).then(|| ratio(polled, all))
    }

    /// CPU time spent polling, ns per second.
    pub fn cost(&self) -> u64 {
        per_second(self.sum.time.get(Phase::Polling), self.over_ns) as u64
    }
}

impl Row for PollingRow {
    fn id(&self) -> RowId {
        self.row
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "who", title: "polling of", width: 10, numeric: false, about: "the VM, or the vCPU", value: |r| text(&r.name) },
        Field { key: "window", title: "window", width: 6, numeric: true, about: "how long KVM polls before it lets a halted vCPU sleep, now; of a VM the longest", value: |r| Value::ns(r.sum.window_ns) },
        Field { key: "trend", title: "window over time", width: 16, numeric: false, about: "the window over time", value: |r| text(&r.picture) },
        Field { key: "grew", title: "grew", width: 5, numeric: true, about: "times the window grew, per second", value: |r| some_rate(per_second(r.sum.grew, r.over_ns)) },
        Field { key: "shrank", title: "shrank", width: 6, numeric: true, about: "times it shrank, per second", value: |r| some_rate(per_second(r.sum.shrank, r.over_ns)) },
        Field { key: "polled", title: "success", width: 7, numeric: true, about: "share of the wake-ups that came while polling", value: |r| r.polled().map_or(Value::None, Value::Share) },
        Field { key: "halts", title: "halts/s", width: 7, numeric: true, about: "wake-ups from halts, per second", value: |r| Value::Rate(per_second(r.woken().1, r.over_ns)) },
        Field { key: "cost", title: "cost/s", width: 6, numeric: true, about: "CPU time spent polling, per second", value: |r| Value::Ns(r.cost()) },
    ];
}

impl super::list::Signal for PollingRow {
    fn signal(&self) -> SignalId {
        SignalId::Of(self.row)
    }

    fn points_to(&self) -> Option<RowId> {
        Some(self.row)
    }
}

/// Halt polling of those that halted, the costliest first.
pub(super) fn polling(
    members: Vec<(RowId, String, String)>,
    sums: &Sums,
    windows: &Windows,
    places: Range<u64>,
) -> Vec<PollingRow> {
    let row = |(row, name, _): (RowId, String, String)| {
        let (sum, vcpus) = match row {
            RowId::Vcpu(key) => {
                let next = VcpuKey { vcpu: key.vcpu.saturating_add(1), ..key };
                (sums.vcpus.get(&key).copied(), key..next)
            }
            RowId::Vm(vm) => {
                let key = |vm| VcpuKey { vm, vcpu: 0 };
                (sums.of_vm(vm), key(vm)..key(VmId(vm.0.saturating_add(1))))
            }
            _ => return None,
        };
        let trend = windows.trend(vcpus, places.clone());
        let mut sum = sum.unwrap_or_default();
        // It holds until it changes, also where nothing was told of it in the last seconds.
        let last = trend.last().copied().flatten().map(|ns| ns as u64);
        sum.window_ns = sum.window_ns.or(last);
        let halted = sum.halts.polled.saturating_add(sum.halts.waited) > 0;
        let some = halted || sum.window_ns.is_some();
        let (over_ns, picture) = (sums.over_ns, String::new());
        some.then_some(PollingRow { row, name, sum, over_ns, trend, picture })
    };
    let mut rows: Vec<PollingRow> = members.into_iter().filter_map(row).collect();
    rows.sort_by_key(|row| (Reverse(row.cost()), row.row));
    rows
}

/// Wake-ups of one kind.
#[derive(Clone, Debug)]
pub struct WakeupRow {
    /// Which.
    pub kind: MeterKind,
    /// Their times.
    pub sum: MeterSum,
    /// Per second.
    pub rate: f64,
    /// Share of all.
    pub share: f64,
    /// The histogram as a picture, where someone draws it.
    pub picture: String,
}

impl WakeupRow {
    /// Whether they were not valid: the vCPU had nothing to do.
    pub fn is_idle(&self) -> bool {
        matches!(self.kind, MeterKind::PolledIdle | MeterKind::SleptIdle)
    }

    fn word(&self) -> &'static str {
        match self.kind {
            MeterKind::Polled => "while polling",
            MeterKind::PolledIdle => "while polling, for nothing",
            MeterKind::Slept => "from sleep",
            _ => "from sleep, for nothing",
        }
    }

    fn quantile(&self, q: f64) -> Value {
        let brief = &self.sum.brief;
        Value::ns(self.sum.hist.quantile(q, brief.min_ns, brief.max_ns))
    }
}

impl Row for WakeupRow {
    fn id(&self) -> RowId {
        RowId::Vm(VmId(0))
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "what", title: "wake-ups", width: 14, numeric: false, about: "while KVM polled or from sleep; for nothing: the wake-up was not valid", value: |r| text(r.word()) },
        Field { key: "rate", title: "/s", width: 5, numeric: true, about: "per second, in the last seconds", value: |r| Value::Rate(r.rate) },
        Field { key: "share", title: "share", width: 5, numeric: true, about: "share of all wake-ups", value: |r| Value::Share(r.share) },
        Field { key: "mean", title: "mean", width: 5, numeric: true, about: "mean time halted", value: |r| Value::ns(r.sum.brief.total_ns.checked_div(r.sum.brief.count)) },
        Field { key: "p50", title: "p50", width: 5, numeric: true, about: "median time halted", value: |r| r.quantile(0.5) },
        Field { key: "p99", title: "p99", width: 5, numeric: true, about: "99th percentile of the time halted", value: |r| r.quantile(0.99) },
        Field { key: "max", title: "max", width: 5, numeric: true, about: "longest time halted", value: |r| Value::Ns(r.sum.brief.max_ns) },
        Field { key: "times", title: "times", width: 16, numeric: false, about: "how long they were halted: shorter at the left", value: |r| text(&r.picture) },
    ];
}

impl super::list::Signal for WakeupRow {
    fn signal(&self) -> SignalId {
        SignalId::Wakeup(self.kind)
    }
}

/// Wake-ups by kind, those that there were.
pub(super) fn wakeups(sums: &Sums) -> Vec<WakeupRow> {
    let kinds = [MeterKind::Polled, MeterKind::PolledIdle, MeterKind::Slept, MeterKind::SleptIdle];
    let of = |kind: &MeterKind| sums.meters.get(kind).filter(|sum| sum.brief.count > 0);
    let all = kinds.iter().filter_map(of).map(|sum| sum.brief.count).fold(0, u64::saturating_add);
    let row = |kind: MeterKind| {
        let sum = of(&kind)?.clone();
        Some(WakeupRow {
            kind,
            rate: per_second(sum.brief.count, sums.over_ns),
            share: ratio(sum.brief.count, all),
            sum,
            picture: String::new(),
        })
    };
    kinds.into_iter().filter_map(row).collect()
}
