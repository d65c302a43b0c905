//! Interrupts and timers, as JSON. A part whose family is off is `null`; `families[]` says why.

use super::irqs::{self, Counted, Deliveries, Delivery, Eoi, Exception, Injected};
use super::sections::{LISTED, part};
use crate::model::detail::KeyClass;
use crate::model::meters::{Chip, MeterKind, RouteTick, TimerTick};
use crate::model::session::Session;
use crate::model::stats::Sum;
use crate::model::totals::{Totals, VcpuTotals, VmTotals};
use crate::trace::irqchip::{self, Ipi, Mode, Sent};
use crate::trace::keys;
use serde::Serialize;
use std::borrow::Cow;

/// Interrupts of a VM or a vCPU.
#[derive(Debug, Serialize)]
pub struct Interrupts {
    injected: Option<Vec<Entry<Injected>>>,
    injected_other: u64,
    exceptions: Option<Vec<Entry<Exception>>>,
    exceptions_other: u64,
    eois: Option<Vec<Entry<Eoi>>>,
    eois_other: u64,
    ipis: Option<Vec<Entry<SentIpi>>>,
    ipis_other: u64,
    delivered: Option<Vec<Delivered>>,
    delivered_other: u64,
    received: Option<Vec<Delivered>>,
    received_other: u64,
    timers: Option<Timers>,
    routes: Option<Vec<Route>>,
    routes_other: u64,
    apicv: Option<Apicv>,
}

/// Whether the processor may deliver interrupts by itself, and why it does not.
#[derive(Debug, Serialize)]
struct Apicv {
    allowed: Option<bool>,
    inhibits: Option<Vec<Inhibit>>,
}

#[derive(Debug, Serialize)]
struct Inhibit {
    bit: u32,
    name: Option<String>,
}

impl Apicv {
    fn new(session: &Session, vm: &VmTotals) -> Option<Self> {
        let inhibit =
            |(bit, name): (u32, Option<&str>)| Inhibit { bit, name: name.map(str::to_owned) };
        let inhibits = vm.apicv_inhibits.map(|bits| session.inhibits(bits).map(inhibit).collect());
        let is_there = session.apicv.is_some() || vm.apicv_inhibits.is_some();
        is_there.then_some(Self { allowed: session.apicv, inhibits })
    }
}

/// What it is, what it is called, and how often it was.
#[derive(Debug, Serialize)]
struct Entry<T> {
    #[serde(flatten)]
    what: T,
    name: Option<Cow<'static, str>>,
    count: u64,
}

#[derive(Debug, Serialize)]
struct SentIpi {
    from: u32,
    mode: &'static str,
    vector: u8,
    shorthand: &'static str,
    logical: bool,
    destination: u32,
    level: bool,
    assert: bool,
    icr: u32,
}

impl SentIpi {
    fn new(from: u32, ipi: &Ipi) -> Self {
        Self {
            from,
            mode: ipi.mode.word(),
            vector: ipi.vector,
            shorthand: ipi.shorthand.word(),
            logical: ipi.logical,
            destination: ipi.destination,
            level: ipi.level,
            assert: ipi.assert,
            icr: ipi.icr,
        }
    }
}

/// What came to a local APIC; `from` is whose thread delivered it.
#[derive(Debug, Serialize)]
struct Delivered {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u32>,
    to: u32,
    vector: u8,
    name: Option<Cow<'static, str>>,
    mode: &'static str,
    level: bool,
    count: u64,
    posted: u64,
}

impl Delivered {
    fn new(one: &Delivery) -> Self {
        let Delivery { from, what, count, posted } = *one;
        Self {
            from,
            to: what.vcpu,
            vector: what.vector,
            name: named(what.mode, what.vector),
            mode: what.mode.word(),
            level: what.level,
            count,
            posted,
        }
    }
}

/// The name of a vector, where the mode has one.
fn named(mode: Mode, vector: u8) -> Option<Cow<'static, str>> {
    mode.has_vector().then(|| keys::vector_name(vector)).flatten()
}

/// Of a vector that may be none.
fn name(vector: u64) -> Option<Cow<'static, str>> {
    keys::vector_name(u8::try_from(vector).ok()?)
}

fn list<T, U>(
    counted: &Counted<T>,
    entry: impl Fn(&T) -> (U, Option<Cow<'static, str>>),
) -> Vec<Entry<U>> {
    let entry = |(what, count, _): &(T, u64, _)| {
        let (what, name) = entry(what);
        Entry { what, name, count: *count }
    };
    counted.first.iter().map(entry).collect()
}

/// Whether and which times late timers were late, in ticks of the guest's TSC.
#[derive(Debug, Serialize)]
struct Ticks {
    count: u64,
    total_ticks: u64,
    min_ticks: u64,
    max_ticks: u64,
    mean_ticks: u64,
    p50_ticks: u64,
    p99_ticks: u64,
}

impl Ticks {
    fn new(sum: &Sum) -> Self {
        let stats = sum.stats();
        let latency = stats.latency.unwrap_or_default();
        Self {
            count: stats.count,
            total_ticks: stats.total_ns,
            min_ticks: latency.min_ns,
            max_ticks: latency.max_ns,
            mean_ticks: latency.mean_ns,
            p50_ticks: latency.p50_ns,
            p99_ticks: latency.p99_ns,
        }
    }
}

/// What happened to timers.
#[derive(Debug, Serialize)]
pub struct TimerCounts {
    /// The hardware's timer was started.
    hardware: u64,
    /// The kernel's timer was started.
    software: u64,
    /// Deadlines written.
    deadlines: u64,
    /// Deadlines taken back.
    disarmed: u64,
    /// One-shot counters started.
    one_shot: u64,
    /// Periodic counters started.
    periodic: u64,
    /// Interrupts that were delivered.
    expired: u64,
}

impl TimerCounts {
    /// The counts without the state.
    pub fn new(timers: &TimerTick) -> Self {
        let TimerTick {
            hardware, software, deadlines, disarmed, one_shot, periodic, expired, ..
        } = *timers;
        Self { hardware, software, deadlines, disarmed, one_shot, periodic, expired }
    }
}

#[derive(Debug, Serialize)]
struct Timers {
    #[serde(flatten)]
    counts: TimerCounts,
    hardware_now: Option<bool>,
    late: Ticks,
}

impl Timers {
    fn new(session: &Session, vcpus: &[&VcpuTotals]) -> Option<Self> {
        let mut timers: Option<TimerTick> = None;
        let mut late = Sum::default();
        for vcpu in vcpus {
            if let Some(of) = &vcpu.meters.timers {
                timers.get_or_insert_default().add(of, true);
            }
            if let Some(of) = vcpu.meters.of(MeterKind::Late) {
                late.merge(of);
            }
        }
        let is_there = timers.is_some() || late.count > 0;
        let timers = timers.unwrap_or_default();
        let timers = Self {
            counts: TimerCounts::new(&timers),
            // vCPUs may differ.
            hardware_now: timers.is_hardware.filter(|_| vcpus.len() == 1),
            late: Ticks::new(&late),
        };
        part(is_there, session, &["timer"], timers)
    }
}

/// Interrupts of one kind from one sender. What a chip does not have is `null`.
#[derive(Debug, Default, Serialize)]
pub struct Route {
    chip: &'static str,
    sender: &'static str,
    pid: u32,
    comm: String,
    count: u64,
    coalesced: u64,
    a: u64,
    b: u64,
    pin: Option<u64>,
    gsi: Option<u64>,
    source: Option<u64>,
    asserted: Option<bool>,
    address: Option<u64>,
    data: Option<u64>,
    vector: Option<u8>,
    name: Option<Cow<'static, str>>,
    mode: Option<&'static str>,
    logical: Option<bool>,
    destination: Option<u32>,
    level: Option<bool>,
    masked: Option<bool>,
    vcpu: Option<u32>,
    posted: Option<u64>,
}

impl Route {
    fn new((row, posted): &(RouteTick, Option<u64>)) -> Self {
        let RouteTick { chip, a, b, .. } = *row;
        let route = Self {
            chip: chip.word(),
            sender: row.sender.word(),
            pid: row.pid,
            comm: row.comm.clone(),
            count: row.count,
            coalesced: row.coalesced,
            a,
            b,
            ..Self::default()
        };
        match chip {
            Chip::Pic => {
                Self { pin: Some(a), level: Some(b & 1 != 0), masked: Some(b & 2 != 0), ..route }
            }
            Chip::Ioapic => {
                let sent = irqchip::ioapic(b);
                Self { pin: Some(a), masked: Some(sent.masked), ..route.sent(&sent) }
            }
            Chip::Msi => {
                Self { address: Some(a), data: Some(b), ..route.sent(&irqchip::msi(a, b)) }
            }
            Chip::Line => {
                Self { gsi: Some(a), source: Some(b >> 1), asserted: Some(b & 1 != 0), ..route }
            }
            Chip::Lapic => {
                let what = irqchip::accepted(a);
                Self {
                    vector: Some(what.vector),
                    name: named(what.mode, what.vector),
                    mode: Some(what.mode.word()),
                    level: Some(what.level),
                    vcpu: Some(what.vcpu),
                    posted: *posted,
                    ..route
                }
            }
        }
    }

    fn sent(self, sent: &Sent) -> Self {
        Self {
            vector: Some(sent.vector),
            name: named(sent.mode, sent.vector),
            mode: Some(sent.mode.word()),
            logical: Some(sent.logical),
            destination: Some(sent.destination),
            level: Some(sent.level),
            ..self
        }
    }
}

/// The first of some rows, and how many interrupts the others are.
fn listed(rows: &[RouteTick], other: u64) -> (Vec<Route>, u64) {
    let rows = irqs::with_posted(rows);
    let rest = rows.get(LISTED..).unwrap_or_default();
    let rest = rest.iter().fold(other, |sum, (row, _)| sum.saturating_add(row.count));
    (rows.iter().take(LISTED).map(Route::new).collect(), rest)
}

/// Interrupts of which the VM is not known.
pub fn unknown(totals: &Totals) -> (Vec<Route>, u64) {
    listed(&totals.routes.of(None), totals.routes.other(None))
}

impl Interrupts {
    /// Of a VM; `rows` are those of it, `received` what came to its local APICs.
    pub fn of_vm(
        session: &Session,
        totals: &Totals,
        vm: &VmTotals,
        rows: &[RouteTick],
        received: &Deliveries,
    ) -> Self {
        let vcpus: Vec<&VcpuTotals> = vm.vcpus.values().collect();
        let (routes, routes_other) = listed(rows, totals.routes.other(Some(vm.info.id)));
        let is_there = !routes.is_empty() || routes_other > 0;
        let routes = part(is_there, session, &["irqchip", "irq"], routes);
        let apicv = Apicv::new(session, vm);
        let all = Self::new(session, &vcpus, &received.to(None, LISTED));
        Self { routes, routes_other, apicv, ..all }
    }

    /// Of a vCPU; `received` is what came to all local APICs of its VM.
    pub fn of_vcpu(session: &Session, vcpu: &VcpuTotals, received: &Deliveries) -> Self {
        let received = received.to(Some(vcpu.info.key.vcpu), LISTED);
        Self::new(session, &[vcpu], &received)
    }

    fn new(session: &Session, vcpus: &[&VcpuTotals], received: &Deliveries) -> Self {
        let injected = irqs::injected(vcpus, LISTED);
        let exceptions = irqs::exceptions(vcpus, LISTED);
        let eois = irqs::eois(vcpus, LISTED);
        let ipis = irqs::ipis(vcpus, LISTED);
        let delivered = Deliveries::by(vcpus).to(None, LISTED);
        let irq = &["irq"];
        Self {
            injected_other: injected.rest,
            exceptions_other: exceptions.rest,
            eois_other: eois.rest,
            ipis_other: ipis.rest,
            delivered_other: delivered.rest,
            received_other: received.rest,
            injected: part(
                !injected.is_empty(),
                session,
                irq,
                list(&injected, |what| {
                    // What a program says is no interrupt of a device.
                    (*what, (!what.soft).then(|| name(what.vector)).flatten())
                }),
            ),
            exceptions: part(
                !exceptions.is_empty(),
                session,
                irq,
                list(&exceptions, |what| (*what, keys::name(KeyClass::Exception, what.vector))),
            ),
            eois: part(
                !eois.is_empty(),
                session,
                irq,
                list(&eois, |what| (*what, what.vector.and_then(name))),
            ),
            ipis: part(
                !ipis.is_empty(),
                session,
                irq,
                list(&ipis, |(from, ipi)| (SentIpi::new(*from, ipi), named(ipi.mode, ipi.vector))),
            ),
            delivered: part(
                !delivered.is_empty(),
                session,
                irq,
                delivered.first.iter().map(Delivered::new).collect(),
            ),
            received: part(
                !received.is_empty(),
                session,
                irq,
                received.first.iter().map(Delivered::new).collect(),
            ),
            timers: Timers::new(session, vcpus),
            routes: None,
            routes_other: 0,
            apicv: None,
        }
    }
}
