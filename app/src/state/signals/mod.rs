//! The last seconds of what vCPUs do beside exits: interrupts and their chips, timers, time on CPUs, halt
//! polling, wake-ups. Read from the kept ticks, each once, and slid along with time.

mod apicv;
mod changes;
mod interrupts;
mod list;
mod scheduling;
mod sums;
mod windows;

pub(super) use apicv::Apicv;
use changes::Changes;
pub use interrupts::{ChipRow, IpiRow, TimerRow, VectorRow, Vectors};
pub use scheduling::{OnCpuRow, OnCpus, PollingRow, TakerRow, WakeupRow};
pub use sums::{Brief, MeterSum, Sums, VcpuSum};
pub(super) use windows::Windows;

use super::facts::places;
use super::load::{per_second, ratio};
use super::moment::{Moments, Shown};
use super::nav::{RowId, Scope, Tab, Who};
use super::slid::Slid;
use super::value::Value;
use super::{Pane, State};
use crate::model::codec::Part;
use crate::model::ids::{VcpuKey, VmId};
use crate::model::meters::{Chip, MeterKind, Sender};
use crate::model::tick::Phase;
use std::cell::OnceCell;
use sums::{Slice, Whose, made};

/// What goes through a chip, from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChipId {
    /// Through what.
    pub chip: Chip,
    /// Into which VM; `None` where that is not known.
    pub vm: Option<VmId>,
    /// Who.
    pub sender: Sender,
    /// Its process.
    pub pid: u32,
    /// As they stand with [`kvmscope_shared::route::chip`].
    pub a: u64,
    /// As `a`.
    pub b: u64,
}

/// What makes a row itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalId {
    /// An interrupt's vector (an exception's where true); `None` is "other".
    Vector(bool, Option<u64>),
    /// A timer, a place in the map of CPUs, a window of halt polling: whose.
    Of(RowId),
    /// A chip.
    Chip(ChipId),
    /// An IPI: from whom, its key.
    Ipi(VcpuKey, Option<u64>),
    /// A kind of wake-ups.
    Wakeup(MeterKind),
    /// Who took a CPU: process, and whether it has a name.
    Taker(u32, bool),
}

/// A number of a VM or vCPU in the tables of these tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gauge {
    /// Interrupts through chips, of a VM only.
    Sent,
    /// Interrupts that came to local APICs.
    Arrived,
    /// Expiries of timers.
    Expired,
    /// Whether the processor delivers interrupts, and why not; of a VM, in words.
    Apicv,
    /// Share of wall time loaded on a CPU.
    Loaded,
    /// Intervals on a CPU that ended.
    Intervals,
    /// Their mean length.
    MeanInterval,
    /// The shortest.
    LeastInterval,
    /// The longest, the open one included.
    MostInterval,
    /// The open one; of a VM the longest.
    Open,
    /// Intervals on another CPU than the one before.
    Migrations,
    /// Of them, on another NUMA node.
    Crossings,
    /// Wake-ups.
    Wakeups,
}

/// The last seconds of a scope in a tab, tick by tick.
#[derive(Debug, Default)]
pub(super) struct Signals {
    slid: Slid<(Scope, Tab), Slice>,
    sums: Sums,
}

impl Signals {
    fn look(&mut self, scope: Scope, tab: Tab, moments: &Moments) {
        let read = |place| slice(scope, tab, place, moments);
        if self.slid.look((scope, tab), places(moments), read) {
            self.sums = Sums::of(self.slid.slices());
        }
    }
}

fn slice(scope: Scope, tab: Tab, place: u64, moments: &Moments) -> Slice {
    let whose = Whose::of(scope);
    match moments.shown() {
        Some(Shown { place: shown, tick }) if *shown == place => made(whose, tab, tick),
        _ => {
            // What comes to a vCPU is told by the others, so all of its VM is read.
            let part = match scope.vm() {
                None => Part::ALL.without_events(),
                Some(vm) => Part::vm(vm, None),
            };
            moments.part(place, part).map(|tick| made(whose, tab, &tick)).unwrap_or_default()
        }
    }
}

/// What the screen reads, made when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct SignalViews {
    vectors: OnceCell<Vectors>,
    timers: OnceCell<Vec<TimerRow>>,
    chips: OnceCell<Vec<ChipRow>>,
    ipis: OnceCell<Vec<IpiRow>>,
    on_cpus: OnceCell<OnCpus>,
    takers: OnceCell<Vec<TakerRow>>,
    polling: OnceCell<Vec<PollingRow>>,
    wakeups: OnceCell<Vec<WakeupRow>>,
}

impl State {
    fn sums(&self) -> std::cell::RefMut<'_, Sums> {
        let mut signals = self.signals.borrow_mut();
        let level = self.level();
        signals.look(level.scope, level.tab, &self.moments);
        std::cell::RefMut::map(signals, |signals| &mut signals.sums)
    }

    /// Whose numbers a scope has rows of: the host's are its VMs', a VM's its vCPUs'.
    fn members(&self) -> Vec<(RowId, String, String)> {
        let Some(now) = self.now() else { return Vec::new() };
        let of = |who: Who| {
            let one = |seen: super::now::Seen<'_>| {
                let key = seen.vcpu.info.key;
                (RowId::Vcpu(key), format!("vCPU {}", key.vcpu), now.name(key.vm))
            };
            let living = now.of(who).into_iter().filter(|seen| seen.ended_ns.is_none());
            living.map(one).collect()
        };
        match self.level().scope {
            Scope::Host => {
                let living = now.vms().filter(|vm| vm.span.ended_at(now.end_ns()).is_none());
                let row = |vm: &super::entities::Vm| {
                    (RowId::Vm(vm.info.id), vm.info.name.clone(), vm.info.name.clone())
                };
                living.map(row).collect()
            }
            Scope::Vm(vm) => of(Who::Vm(vm)),
            Scope::Reasons(who) | Scope::Reason(who, _) => of(who),
        }
    }

    /// A number of a row's last seconds; `None` where a row has no such thing.
    pub fn gauge(&self, row: RowId, gauge: Gauge) -> Value {
        let sums = self.sums();
        let over_ns = sums.over_ns;
        let sum = match row {
            RowId::Vcpu(key) => sums.vcpus.get(&key).copied(),
            RowId::Vm(vm) | RowId::All(vm) => sums.of_vm(vm),
            _ => None,
        };
        let rate = |n: u64| Value::Rate(per_second(n, over_ns));
        let vm = match row {
            RowId::Vm(vm) | RowId::All(vm) => Some(vm),
            _ => None,
        };
        match gauge {
            Gauge::Apicv => {
                let text = vm.and_then(|vm| self.apicv_of(vm));
                return text.map_or(Value::None, |text| Value::Text(text.into()));
            }
            Gauge::Sent => return vm.map_or(Value::None, |vm| rate(sums.sent(vm))),
            Gauge::Arrived => {
                let vcpu = if let RowId::Vcpu(key) = row { Some(key.vcpu) } else { None };
                let vm = vm.or(if let RowId::Vcpu(key) = row { Some(key.vm) } else { None });
                return vm.map_or(Value::None, |vm| rate(sums.arrived(vm, vcpu)));
            }
            _ => {}
        }
        let Some(sum) = sum else { return Value::None };
        let ns = |ns: u64| if ns == 0 { Value::None } else { Value::Ns(ns) };
        match gauge {
            Gauge::Expired => rate(sum.timers.expired),
            Gauge::Loaded => {
                let on = [Phase::Guest, Phase::Kvm, Phase::Polling];
                let on = on.into_iter().map(|p| sum.time.get(p)).fold(0, u64::saturating_add);
                Value::Share(ratio(on, sum.time.sum()))
            }
            Gauge::Intervals => rate(sum.loaded.count),
            Gauge::MeanInterval => Value::ns(sum.loaded.total_ns.checked_div(sum.loaded.count)),
            Gauge::LeastInterval => ns(sum.loaded.min_ns),
            Gauge::MostInterval => ns(sum.loaded.max_ns.max(sum.open_ns)),
            Gauge::Open => ns(sum.open_ns),
            Gauge::Migrations => rate(sum.migrations),
            Gauge::Crossings => rate(sum.crossings),
            Gauge::Wakeups => rate(sum.wakeups.iter().copied().fold(0, u64::saturating_add)),
            Gauge::Sent | Gauge::Arrived | Gauge::Apicv => Value::None,
        }
    }

    /// How long all of it is about, ns: the last seconds.
    pub fn signals_over_ns(&self) -> u64 {
        self.sums().over_ns
    }

    /// Interrupts and exceptions by vector.
    pub fn vectors(&self) -> &Vectors {
        self.views.signals.vectors.get_or_init(|| {
            let Some(now) = self.now() else { return Vectors::default() };
            let host = self.level().scope == Scope::Host;
            let sums = self.sums();
            interrupts::vectors(host, &self.activity().sums.keys, &sums, &|vm| now.name(vm))
        })
    }

    /// Timers, of each VM or vCPU.
    pub fn timers(&self) -> &[TimerRow] {
        self.views.signals.timers.get_or_init(|| interrupts::timers(self.members(), &self.sums()))
    }

    /// What goes through chips.
    pub fn chips(&self) -> &[ChipRow] {
        self.views.signals.chips.get_or_init(|| {
            let Some(now) = self.now() else { return Vec::new() };
            interrupts::chips(&self.sums(), &|vm| now.name(vm))
        })
    }

    /// Inter-processor interrupts.
    pub fn ipis(&self) -> &[IpiRow] {
        self.views.signals.ipis.get_or_init(|| {
            let Some(now) = self.now() else { return Vec::new() };
            let activity = self.activity();
            let sums = &activity.sums;
            interrupts::ipis(&sums.keys, sums.over_ns, &|vm| now.name(vm))
        })
    }

    /// Who was loaded on which CPU.
    pub fn on_cpus(&self) -> &OnCpus {
        self.views.signals.on_cpus.get_or_init(|| scheduling::on_cpus(self.members(), &self.sums()))
    }

    /// Who took CPUs from the vCPUs of this level.
    pub fn takers(&self) -> &[TakerRow] {
        self.views.signals.takers.get_or_init(|| {
            let Some(now) = self.now() else { return Vec::new() };
            let facts = self.facts();
            let who = match self.level().scope {
                Scope::Host => None,
                Scope::Vm(vm) => Some(Who::Vm(vm)),
                Scope::Reasons(who) | Scope::Reason(who, _) => Some(who),
            };
            scheduling::takers(&facts, who, &|vm| now.name(vm))
        })
    }

    /// Halt polling, of each VM or vCPU.
    pub fn polling(&self) -> &[PollingRow] {
        self.views.signals.polling.get_or_init(|| {
            let window = self.moments.window(self.limits.window);
            scheduling::polling(self.members(), &self.sums(), &self.windows, window)
        })
    }

    /// Wake-ups by kind.
    pub fn wakeups(&self) -> &[WakeupRow] {
        self.views.signals.wakeups.get_or_init(|| scheduling::wakeups(&self.sums()))
    }

    /// Whether a pane is one of these.
    pub(super) fn is_signal(pane: Pane) -> bool {
        matches!(
            pane,
            Pane::Vectors
                | Pane::Timers
                | Pane::Chips
                | Pane::Ipis
                | Pane::OnCpus
                | Pane::Takers
                | Pane::Polling
                | Pane::Wakeups
        )
    }
}
