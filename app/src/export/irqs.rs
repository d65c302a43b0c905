//! Interrupts of a VM or a vCPU, from its keys and from the rows of other threads: for text and JSON alike.

use crate::model::detail::KeyClass;
use crate::model::meters::{Chip, RouteTick};
use crate::model::totals::VcpuTotals;
use crate::trace::irqchip::{Accepted, Ipi, accepted, ipi};
use crate::trace::keys::vector_of;
use kvmscope_shared::detail::{HAS_ERROR, PARAVIRTUAL, REINJECTED, SOFT};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Different things of one kind, most first.
#[derive(Debug)]
pub struct Counted<T> {
    /// What, how often, of which vCPUs.
    pub first: Vec<(T, u64, BTreeSet<u32>)>,
    /// How often others, and those that found no place in a table of keys.
    pub rest: u64,
}

impl<T> Counted<T> {
    /// Whether there is anything.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest == 0
    }
}

/// Keys of a class over all reasons, the `most` that were met most often. What a key is may depend on the vCPU.
pub fn counted<T: Ord>(
    vcpus: &[&VcpuTotals],
    class: KeyClass,
    most: usize,
    of: impl Fn(u32, u64) -> T,
) -> Counted<T> {
    let mut sums: BTreeMap<T, (u64, BTreeSet<u32>)> = BTreeMap::new();
    let mut rest = 0u64;
    for vcpu in vcpus {
        let number = vcpu.info.key.vcpu;
        for (id, key) in vcpu.keys.iter().filter(|(id, _)| id.class == class) {
            match id.value {
                Some(value) => add(&mut sums, of(number, value), key.count, number),
                None => rest = rest.saturating_add(key.count),
            }
        }
    }
    ranked(sums, rest, most)
}

fn add<T: Ord>(sums: &mut BTreeMap<T, (u64, BTreeSet<u32>)>, what: T, count: u64, vcpu: u32) {
    let sum = sums.entry(what).or_default();
    sum.0 = sum.0.saturating_add(count);
    sum.1.insert(vcpu);
}

fn ranked<T: Ord>(
    sums: BTreeMap<T, (u64, BTreeSet<u32>)>,
    mut rest: u64,
    most: usize,
) -> Counted<T> {
    let mut first: Vec<_> =
        sums.into_iter().map(|(what, (count, vcpus))| (what, count, vcpus)).collect();
    // Stable: of equals the order is their own.
    first.sort_by_key(|(_, count, _)| Reverse(*count));
    for (_, count, _) in first.get(most..).unwrap_or_default() {
        rest = rest.saturating_add(*count);
    }
    first.truncate(most);
    Counted { first, rest }
}

/// An interrupt that was put into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Injected {
    /// Which; above 255 only where the record was nonsense.
    pub vector: u64,
    /// By an instruction (INT n).
    pub soft: bool,
    /// Tried before.
    pub reinjected: bool,
}

/// Interrupts that were put into the guest.
pub fn injected(vcpus: &[&VcpuTotals], most: usize) -> Counted<Injected> {
    counted(vcpus, KeyClass::Injected, most, |_, value| Injected {
        vector: vector_of(value, SOFT | REINJECTED),
        soft: value & SOFT != 0,
        reinjected: value & REINJECTED != 0,
    })
}

/// An exception that was put into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Exception {
    /// Which.
    pub vector: u64,
    /// Whether it has an error code.
    pub error_code: bool,
    /// Tried before.
    pub reinjected: bool,
}

/// Exceptions that were put into the guest.
pub fn exceptions(vcpus: &[&VcpuTotals], most: usize) -> Counted<Exception> {
    counted(vcpus, KeyClass::Exception, most, |_, value| Exception {
        vector: vector_of(value, HAS_ERROR | REINJECTED),
        error_code: value & HAS_ERROR != 0,
        reinjected: value & REINJECTED != 0,
    })
}

/// An end of interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Eoi {
    /// Of which; `None` where none was in service.
    pub vector: Option<u64>,
    /// Told by a flag in the guest's memory.
    pub paravirtual: bool,
}

/// Ends of interrupts.
pub fn eois(vcpus: &[&VcpuTotals], most: usize) -> Counted<Eoi> {
    counted(vcpus, KeyClass::Eoi, most, |_, value| match value {
        u64::MAX => Eoi { vector: None, paravirtual: false },
        _ => Eoi {
            vector: Some(vector_of(value, PARAVIRTUAL)),
            paravirtual: value & PARAVIRTUAL != 0,
        },
    })
}

/// Inter-processor interrupts, by the vCPU that sent them.
pub fn ipis(vcpus: &[&VcpuTotals], most: usize) -> Counted<(u32, Ipi)> {
    counted(vcpus, KeyClass::Ipi, most, |from, value| (from, ipi(value)))
}

/// Deliveries of one kind to a local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The vCPU whose thread delivered, where that is asked.
    pub from: Option<u32>,
    /// What, to whom.
    pub what: Accepted,
    /// How many.
    pub count: u64,
    /// Of them: those that the hardware took over.
    pub posted: u64,
}

/// Deliveries, most first.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// What, how often.
    pub first: Vec<Delivery>,
    /// How often others, and those that found no place in a table of keys.
    pub rest: u64,
}

/// By sender and what is delivered: how many, and of them posted.
type ByWhat = BTreeMap<(Option<u32>, Accepted), (u64, u64)>;

/// KVM tells of a delivery that the hardware takes over twice: as of any other, and as of a posted one.
fn deliver(sums: &mut ByWhat, from: Option<u32>, number: u64, count: u64) {
    let told = accepted(number);
    let sum = sums.entry((from, Accepted { posted: false, ..told })).or_default();
    let part = if told.posted { &mut sum.1 } else { &mut sum.0 };
    *part = part.saturating_add(count);
}

impl Deliveries {
    fn new(sums: ByWhat, rest: u64) -> Self {
        let one = |((from, what), (count, posted))| Delivery { from, what, count, posted };
        let mut first: Vec<Delivery> = sums.into_iter().map(one).collect();
        first.sort_by_key(|one| Reverse(one.count));
        Self { first, rest }
    }

    /// What vCPUs' own threads put into local APICs, by the vCPU that did.
    pub fn by(vcpus: &[&VcpuTotals]) -> Self {
        let (mut sums, mut rest) = (ByWhat::new(), 0u64);
        for vcpu in vcpus {
            let from = Some(vcpu.info.key.vcpu);
            for (id, key) in vcpu.keys.iter().filter(|(id, _)| id.class == KeyClass::Delivered) {
                match id.value {
                    Some(number) => deliver(&mut sums, from, number, key.count),
                    None => rest = rest.saturating_add(key.count),
                }
            }
        }
        Self::new(sums, rest)
    }

    /// What came to local APICs of a VM, whoever sent it. What is known to be of this VM is there alone: an
    /// interrupt of the host may have delivered more.
    pub fn received(vcpus: &[&VcpuTotals], routes: &[RouteTick]) -> Self {
        let mut sums = ByWhat::new();
        let keys = vcpus.iter().flat_map(|vcpu| &vcpu.keys);
        for (id, key) in keys.filter(|(id, _)| id.class == KeyClass::Delivered) {
            if let Some(number) = id.value {
                deliver(&mut sums, None, number, key.count);
            }
        }
        for route in routes.iter().filter(|route| route.chip == Chip::Lapic) {
            deliver(&mut sums, None, route.a, route.count);
        }
        Self::new(sums, 0)
    }

    /// The `most` of them, those to one vCPU where one is asked about.
    pub fn to(&self, vcpu: Option<u32>, most: usize) -> Self {
        let is_asked = |one: &&Delivery| vcpu.is_none_or(|to| one.what.vcpu == to);
        let mut first: Vec<Delivery> = self.first.iter().filter(is_asked).copied().collect();
        let rest = first.get(most..).unwrap_or_default();
        let rest = rest.iter().fold(self.rest, |sum, one| sum.saturating_add(one.count));
        first.truncate(most);
        Self { first, rest }
    }

    /// Whether there is anything.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest == 0
    }
}

/// Rows with how many of them the hardware took over (`None` where no local APIC is meant), most first.
/// Deliveries that KVM tells of twice are one row.
pub fn with_posted(rows: &[RouteTick]) -> Vec<(RouteTick, Option<u64>)> {
    let is_posted = |row: &RouteTick| row.chip == Chip::Lapic && accepted(row.a).posted;
    let as_any = |row: &RouteTick| RouteTick {
        a: Accepted { posted: false, ..accepted(row.a) }.key(),
        count: 0,
        coalesced: 0,
        ..row.clone()
    };
    let mut posted: BTreeMap<RouteTick, u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| is_posted(row)) {
        let sum = posted.entry(as_any(row)).or_default();
        *sum = sum.saturating_add(row.count);
    }
    let mut all = Vec::new();
    for row in rows.iter().filter(|row| !is_posted(row)) {
        let of = (row.chip == Chip::Lapic).then(|| posted.remove(&as_any(row)).unwrap_or(0));
        all.push((row.clone(), of));
    }
    // Those whose other half found no row.
    all.extend(posted.into_iter().map(|(row, count)| (row, Some(count))));
    all
}
