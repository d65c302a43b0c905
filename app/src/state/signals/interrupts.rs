//! Rows of the Interrupts tab: vectors, timers, chips, inter-processor interrupts.

use super::{ChipId, SignalId, Sums, VcpuSum};
use crate::model::detail::KeyClass;
use crate::model::ids::{VcpuKey, VmId};
use crate::model::meters::{Chip, Sender};
use crate::model::totals::KeySum;
use crate::state::activity::HotId;
use crate::state::fields::{Field, Row};
use crate::state::load::{per_second, ratio};
use crate::state::nav::RowId;
use crate::state::value::Value;
use crate::trace::irqchip::{self, Mode};
use crate::trace::keys;
use kvmscope_shared::detail::{HAS_ERROR, PARAVIRTUAL, REINJECTED, SOFT};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Rows of a pane.
const SHOWN: usize = 200;

pub(super) fn text(text: &str) -> Value {
    if text.is_empty() { Value::None } else { Value::Text(text.to_owned().into()) }
}

pub(super) fn some_rate(rate: f64) -> Value {
    if rate > 0.0 { Value::Rate(rate) } else { Value::None }
}

/// Interrupts and exceptions of the last seconds.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Vectors {
    /// Most first.
    pub rows: Vec<VectorRow>,
    /// Interrupts put into guests by KVM, per second.
    pub injected: f64,
    /// Deliveries to local APICs, per second.
    pub delivered: f64,
    /// Of them by the hardware, per second.
    pub posted: f64,
}

/// A vector.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VectorRow {
    /// Whether it is an exception's.
    pub exception: bool,
    /// The vector; `None` is "other".
    pub vector: Option<u64>,
    /// What it is.
    pub what: String,
    /// Put into the guest by KVM, per second.
    pub injected: f64,
    /// Of them software interrupts (of exceptions: with an error code), per second.
    pub soft: f64,
    /// Of them tried before, per second.
    pub again: f64,
    /// Delivered to local APICs, per second.
    pub delivered: f64,
    /// Of them by the hardware, per second.
    pub posted: f64,
    /// Ends of interrupt, per second.
    pub eois: f64,
    /// The VM with most of it, and its share; where it is of several.
    pub most: Option<(String, f64)>,
}

impl Row for VectorRow {
    fn id(&self) -> RowId {
        RowId::Vm(VmId(0))
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "what", title: "vector", width: 24, numeric: false, about: "the vector, and what it is where that is known", value: |r| text(&r.what) },
        Field { key: "injected", title: "injected", width: 8, numeric: true, about: "put into guests by KVM, per second", value: |r| some_rate(r.injected) },
        Field { key: "soft", title: "soft", width: 5, numeric: true, about: "of them software interrupts, per second", value: |r| if r.exception { Value::None } else { some_rate(r.soft) } },
        Field { key: "error", title: "error", width: 5, numeric: true, about: "exceptions with an error code, per second", value: |r| if r.exception { some_rate(r.soft) } else { Value::None } },
        Field { key: "again", title: "again", width: 5, numeric: true, about: "injections that were tried before, per second", value: |r| some_rate(r.again) },
        Field { key: "delivered", title: "delivered", width: 9, numeric: true, about: "put into local APICs, per second", value: |r| some_rate(r.delivered) },
        Field { key: "posted", title: "posted", width: 6, numeric: true, about: "of them delivered by the hardware (posted interrupts, AVIC), per second", value: |r| some_rate(r.posted) },
        Field { key: "eoi", title: "EOI", width: 5, numeric: true, about: "ends of interrupt that KVM saw, per second", value: |r| some_rate(r.eois) },
        Field { key: "most", title: "most by", width: 12, numeric: false, about: "the VM with most of it, and its share", value: |r| r.most.as_ref().map_or(Value::None, |(vm, share)| Value::Text(format!("{} {vm}", crate::state::value::share(*share)).into())) },
    ];
}

impl super::list::Signal for VectorRow {
    fn signal(&self) -> SignalId {
        SignalId::Vector(self.exception, self.vector)
    }
}

/// Counts behind a [`VectorRow`].
#[derive(Clone, Debug, Default)]
struct Counts {
    injected: u64,
    soft: u64,
    again: u64,
    delivered: u64,
    posted: u64,
    eois: u64,
    vms: BTreeMap<VmId, u64>,
}

impl Counts {
    fn add_vm(&mut self, vm: Option<VmId>, count: u64) {
        if let Some(vm) = vm {
            let sum = self.vms.entry(vm).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

/// Adds `n` to a number.
fn add(sum: &mut u64, n: u64) {
    *sum = sum.saturating_add(n);
}

/// The rows of vectors.
pub(super) fn vectors(
    host: bool,
    found: &HashMap<HotId, KeySum>,
    sums: &Sums,
    name: &dyn Fn(VmId) -> String,
) -> Vectors {
    let mut by: BTreeMap<(bool, Option<u64>), Counts> = BTreeMap::new();
    for (id, sum) in found.iter().filter(|(_, sum)| sum.count > 0) {
        let (exception, flags) = match id.class {
            KeyClass::Injected => (false, SOFT | REINJECTED),
            KeyClass::Exception => (true, HAS_ERROR | REINJECTED),
            KeyClass::Eoi => (false, PARAVIRTUAL),
            _ => continue,
        };
        // An end of nothing, and what is no vector, keep their numbers.
        let vector = id.value.map(|value| keys::vector_of(value, flags));
        let counts = by.entry((exception, vector)).or_default();
        if id.class == KeyClass::Eoi {
            add(&mut counts.eois, sum.count);
            continue;
        }
        add(&mut counts.injected, sum.count);
        let value = id.value.unwrap_or(0);
        if value & SOFT != 0 {
            add(&mut counts.soft, sum.count);
        }
        if value & REINJECTED != 0 {
            add(&mut counts.again, sum.count);
        }
        counts.add_vm(id.vm, sum.count);
    }
    for (&(vm, key), &count) in &sums.delivered {
        let accepted = irqchip::accepted(key);
        // Of an NMI, INIT, start-up the vector is none.
        let vector = if accepted.mode.has_vector() || accepted.mode == Mode::ExtInt {
            Some(accepted.vector.into())
        } else {
            Some(NO_VECTOR | u64::from(mode_bits(accepted.mode)))
        };
        let counts = by.entry((false, vector)).or_default();
        // KVM tells of a posted one twice: it is among the others already.
        if accepted.posted {
            add(&mut counts.posted, count);
            continue;
        }
        add(&mut counts.delivered, count);
        if counts.injected == 0 {
            counts.add_vm(Some(vm), count);
        }
    }
    let all = |of: fn(&Counts) -> u64| {
        let sum = by.iter().filter(|((exception, _), _)| !exception).map(|(_, c)| of(c));
        per_second(sum.fold(0, u64::saturating_add), sums.over_ns)
    };
    let (injected, delivered, posted) =
        (all(|c| c.injected), all(|c| c.delivered), all(|c| c.posted));
    let weight = |counts: &Counts| counts.injected.max(counts.delivered).max(counts.eois);
    let mut order: Vec<_> = by.into_iter().collect();
    order.sort_by_key(|((exception, vector), counts)| {
        (vector.is_none(), Reverse(weight(counts)), *exception, *vector)
    });
    order.truncate(SHOWN);
    let rate = |n| per_second(n, sums.over_ns);
    let rows = order
        .into_iter()
        .map(|((exception, vector), counts)| {
            let whole = counts.vms.values().copied().fold(0, u64::saturating_add);
            let most = counts.vms.iter().max_by_key(|(vm, count)| (**count, Reverse(**vm)));
            VectorRow {
                exception,
                vector,
                what: what(exception, vector),
                injected: rate(counts.injected),
                soft: rate(counts.soft),
                again: rate(counts.again),
                delivered: rate(counts.delivered),
                posted: rate(counts.posted),
                eois: rate(counts.eois),
                most: most.filter(|_| host).map(|(&vm, &n)| (name(vm), ratio(n, whole))),
            }
        })
        .collect();
    Vectors { rows, injected, delivered, posted }
}

/// Set in the number of a row that is about a delivery mode without a vector.
const NO_VECTOR: u64 = 1 << 63;

fn mode_bits(mode: Mode) -> u8 {
    (0..8u8).find(|&bits| Mode::from_bits(bits.into()) == mode).unwrap_or(0)
}

fn what(exception: bool, vector: Option<u64>) -> String {
    match vector {
        None if exception => "other exceptions".to_owned(),
        None => "other vectors".to_owned(),
        Some(u64::MAX) => "EOI of nothing".to_owned(),
        Some(value) if value & NO_VECTOR != 0 => Mode::from_bits(value).word().to_owned(),
        Some(value) if exception => match keys::name(KeyClass::Exception, value) {
            Some(name) => name.into_owned(),
            None => format!("exception {}", keys::number(KeyClass::Exception, value)),
        },
        Some(value) => match u8::try_from(value) {
            Ok(vector) => keys::vector_text(vector),
            Err(_) => format!("{value:#x}, no vector"),
        },
    }
}

/// The timers of a VM or a vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct TimerRow {
    /// Whose.
    pub row: RowId,
    /// In a word.
    pub name: String,
    /// What they did.
    pub sum: VcpuSum,
    /// Over how long, ns.
    pub over_ns: u64,
}

impl TimerRow {
    /// Which timer is in use now.
    pub fn now(&self) -> &'static str {
        match self.sum.timers.is_hardware {
            _ if self.sum.both_timers => "both",
            Some(true) => "hardware",
            Some(false) => "kernel",
            None => "",
        }
    }

    fn rate(&self, n: u64) -> Value {
        some_rate(per_second(n, self.over_ns))
    }
}

impl Row for TimerRow {
    fn id(&self) -> RowId {
        self.row
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "who", title: "timers of", width: 10, numeric: false, about: "the VM, or the vCPU", value: |r| text(&r.name) },
        Field { key: "now", title: "now", width: 8, numeric: false, about: "which timer is in use: the hardware's (VMX preemption timer), or the kernel's", value: |r| text(r.now()) },
        Field { key: "expired", title: "expired", width: 7, numeric: true, about: "interrupts of the timer that were delivered, per second", value: |r| r.rate(r.sum.timers.expired) },
        Field { key: "deadlines", title: "deadline", width: 8, numeric: true, about: "deadlines that the guest wrote (IA32_TSC_DEADLINE), per second", value: |r| r.rate(r.sum.timers.deadlines) },
        Field { key: "disarmed", title: "disarmed", width: 8, numeric: true, about: "deadlines taken back (0 written), per second", value: |r| r.rate(r.sum.timers.disarmed) },
        Field { key: "one_shot", title: "one-shot", width: 8, numeric: true, about: "one-shot counters started, per second", value: |r| r.rate(r.sum.timers.one_shot) },
        Field { key: "periodic", title: "periodic", width: 8, numeric: true, about: "periodic counters started, per second", value: |r| r.rate(r.sum.timers.periodic) },
        Field { key: "late", title: "late", width: 5, numeric: true, about: "timers that came late, per second", value: |r| r.rate(r.sum.late.count) },
        Field { key: "late_mean", title: "by TSC", width: 6, numeric: true, about: "how late in the mean, in ticks of the guest's TSC", value: |r| r.sum.late.total_ns.checked_div(r.sum.late.count).map_or(Value::None, Value::Count) },
        Field { key: "late_max", title: "max TSC", width: 7, numeric: true, about: "how late at most, in ticks of the guest's TSC", value: |r| if r.sum.late.count == 0 { Value::None } else { Value::Count(r.sum.late.max_ns) } },
        Field { key: "to_hardware", title: "to hw", width: 5, numeric: true, about: "the hardware's timer took over, per second", value: |r| r.rate(r.sum.timers.hardware) },
        Field { key: "to_kernel", title: "to kernel", width: 9, numeric: true, about: "the kernel's timer took over, per second", value: |r| r.rate(r.sum.timers.software) },
    ];
}

impl super::list::Signal for TimerRow {
    fn signal(&self) -> SignalId {
        SignalId::Of(self.row)
    }

    fn points_to(&self) -> Option<RowId> {
        Some(self.row)
    }
}

/// The timers of those that have some, those who expire most first.
pub(super) fn timers(members: Vec<(RowId, String, String)>, sums: &Sums) -> Vec<TimerRow> {
    let row = |(row, name, _): (RowId, String, String)| {
        let sum = match row {
            RowId::Vcpu(key) => sums.vcpus.get(&key).copied(),
            RowId::Vm(vm) => sums.of_vm(vm),
            _ => None,
        }?;
        let some = sum.has_timers || sum.late.count > 0;
        some.then_some(TimerRow { row, name, sum, over_ns: sums.over_ns })
    };
    let mut rows: Vec<TimerRow> = members.into_iter().filter_map(row).collect();
    rows.sort_by_key(|r| (Reverse(r.sum.timers.expired.max(r.sum.timers.deadlines)), r.row));
    rows
}

/// What goes through a chip.
#[derive(Clone, Debug, PartialEq)]
pub struct ChipRow {
    /// Which.
    pub route: ChipId,
    /// Its VM's name; "unknown" where that is not known.
    pub vm: String,
    /// Decoded.
    pub decoded: irqchip::Route,
    /// Who: "qemu 4003", "interrupt".
    pub by: String,
    /// Per second.
    pub rate: f64,
    /// Coalesced, per second.
    pub coalesced: f64,
}

impl ChipRow {
    fn vector(&self) -> Value {
        self.decoded.vector.map_or(Value::None, |v| text(&keys::vector_text(v)))
    }

    fn how(&self) -> String {
        let decoded = &self.decoded;
        let words = [
            decoded.mode.map(Mode::word),
            decoded.level.map(|level| if level { "level" } else { "edge" }),
            decoded.raised.map(|up| if up { "raised" } else { "lowered" }),
            decoded.masked.then_some("masked"),
            decoded.posted.then_some("posted"),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl Row for ChipRow {
    fn id(&self) -> RowId {
        RowId::Vm(self.route.vm.unwrap_or_default())
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "chip", title: "chip", width: 6, numeric: false, about: "PIC, IOAPIC, MSI, a line of the VM, or a local APIC", value: |r| text(irqchip::chip(r.route.chip)) },
        Field { key: "through", title: "pin, address", width: 12, numeric: false, about: "pin, GSI, or the message's address and data", value: |r| text(&r.decoded.through) },
        Field { key: "vm", title: "into", width: 8, numeric: false, about: "the VM", value: |r| text(&r.vm) },
        Field { key: "vector", title: "vector", width: 6, numeric: false, about: "the vector", value: |r| r.vector() },
        Field { key: "to", title: "to", width: 8, numeric: false, about: "destination: an APIC, a logical set, a vCPU", value: |r| r.decoded.to.as_deref().map_or(Value::None, text) },
        Field { key: "how", title: "how", width: 10, numeric: false, about: "delivery mode, trigger, masked, raised or lowered", value: |r| text(&r.how()) },
        Field { key: "by", title: "by", width: 8, numeric: false, about: "who sent it: a thread of the VMM, vhost, a kernel worker (irqfd), an interrupt of the host", value: |r| text(&r.by) },
        Field { key: "rate", title: "/s", width: 5, numeric: true, about: "per second, in the last seconds", value: |r| Value::Rate(r.rate) },
        Field { key: "coalesced", title: "coalesced", width: 9, numeric: true, about: "not delivered, as one like it was still waiting; per second", value: |r| some_rate(r.coalesced) },
    ];
}

impl super::list::Signal for ChipRow {
    fn signal(&self) -> SignalId {
        SignalId::Chip(self.route)
    }

    fn points_to(&self) -> Option<RowId> {
        self.route.vm.map(RowId::Vm)
    }
}

/// Who sends, in words.
fn by(id: &ChipId, comm: &str) -> String {
    match (id.sender, comm) {
        (Sender::Interrupt, _) => "host interrupt".to_owned(),
        (Sender::Vcpu, "") => "vCPU".to_owned(),
        (Sender::Vcpu, comm) => format!("vCPU {comm}"),
        (_, "") => format!("process {}", id.pid),
        (Sender::Kernel, comm) => format!("{comm} (kernel)"),
        (_, comm) => format!("{comm} {}", id.pid),
    }
}

/// What goes through chips, most first.
pub(super) fn chips(sums: &Sums, name: &dyn Fn(VmId) -> String) -> Vec<ChipRow> {
    let mut order: Vec<_> = sums.routes.iter().collect();
    order.sort_by_key(|(id, sum)| (Reverse(sum.count), **id));
    let row = |(id, sum): (&ChipId, &super::sums::RouteSum)| ChipRow {
        route: *id,
        vm: id.vm.map_or_else(|| "unknown".to_owned(), name),
        decoded: irqchip::route(id.chip, id.a, id.b),
        by: by(id, &sum.comm),
        rate: per_second(sum.count, sums.over_ns),
        coalesced: per_second(sum.coalesced, sums.over_ns),
    };
    // What local APICs take follows from the rest; where there is little room it is last.
    let (lapic, chips): (Vec<_>, Vec<_>) =
        order.into_iter().partition(|(id, _)| id.chip == Chip::Lapic);
    chips.into_iter().chain(lapic).take(SHOWN).map(row).collect()
}

/// An inter-processor interrupt.
#[derive(Clone, Debug, PartialEq)]
pub struct IpiRow {
    /// Who sent it.
    pub from: VcpuKey,
    /// Its VM's name.
    pub vm: String,
    /// Its key; `None` is "other".
    pub key: Option<u64>,
    /// Per second.
    pub rate: f64,
    /// Share of its vCPU's.
    pub share: f64,
}

impl IpiRow {
    fn what(&self) -> String {
        self.key.map_or_else(|| "other IPIs".to_owned(), |key| irqchip::ipi(key).what())
    }

    fn to(&self) -> Value {
        self.key.map_or(Value::None, |key| text(&irqchip::ipi(key).to()))
    }

    fn mode(&self) -> Value {
        self.key.map_or(Value::None, |key| text(irqchip::ipi(key).mode.word()))
    }
}

impl Row for IpiRow {
    fn id(&self) -> RowId {
        RowId::Vcpu(self.from)
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "vm", title: "VM", width: 8, numeric: false, about: "whose", value: |r| text(&r.vm) },
        Field { key: "from", title: "from", width: 8, numeric: false, about: "the vCPU that sent it", value: |r| text(&format!("vCPU {}", r.from.vcpu)) },
        Field { key: "to", title: "to", width: 10, numeric: false, about: "its destination: an APIC, a logical set, itself, all, all others", value: |r| r.to() },
        Field { key: "what", title: "what", width: 20, numeric: false, about: "vector, NMI, INIT, start-up", value: |r| text(&r.what()) },
        Field { key: "mode", title: "mode", width: 7, numeric: false, about: "delivery mode", value: |r| r.mode() },
        Field { key: "rate", title: "/s", width: 5, numeric: true, about: "per second, in the last seconds", value: |r| Value::Rate(r.rate) },
        Field { key: "share", title: "share", width: 5, numeric: true, about: "share of the vCPU's IPIs", value: |r| Value::Share(r.share) },
    ];
}

impl super::list::Signal for IpiRow {
    fn signal(&self) -> SignalId {
        SignalId::Ipi(self.from, self.key)
    }

    fn points_to(&self) -> Option<RowId> {
        Some(RowId::Vcpu(self.from))
    }
}

/// IPIs, most first.
pub(super) fn ipis(
    found: &HashMap<HotId, KeySum>,
    over_ns: u64,
    name: &dyn Fn(VmId) -> String,
) -> Vec<IpiRow> {
    let mine = || found.iter().filter(|(id, sum)| id.class == KeyClass::Ipi && sum.count > 0);
    let mut whole: HashMap<VcpuKey, u64> = HashMap::new();
    let from = |id: &HotId| id.vm.zip(id.vcpu).map(|(vm, vcpu)| VcpuKey { vm, vcpu });
    for (id, sum) in mine() {
        if let Some(key) = from(id) {
            add(whole.entry(key).or_default(), sum.count);
        }
    }
    let mut order: Vec<_> =
        mine().filter_map(|(id, sum)| Some((from(id)?, id.value, sum.count))).collect();
    order.sort_by_key(|&(key, value, count)| (value.is_none(), Reverse(count), key, value));
    order.truncate(SHOWN);
    let row = |(from, key, count)| IpiRow {
        from,
        vm: name(from.vm),
        key,
        rate: per_second(count, over_ns),
        share: ratio(count, whole.get(&from).copied().unwrap_or(0)),
    };
    order.into_iter().map(row).collect()
}
