//! Two measurements side by side: what changed between them, of each VM, vCPU and reason, and how far they
//! can be compared. What the numbers mean, and by what they are sorted, is written in `docs/diff.md`.
//!
//! Pure: two [`Side`]s in, a [`Diff`] out. Everything is per second that was measured, so sides of different
//! lengths and with gaps compare.

mod alike;
pub mod json;
mod matching;
mod numbers;
pub mod screen;
pub mod text;
mod words;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use alike::Warning;
pub use matching::MatchError;
pub use numbers::{Load, Numbers};

use crate::model::ids::{Kind, Reason};
use crate::model::session::Session;
use crate::model::stats::Sum;
use crate::model::totals::{Totals, VcpuTotals, VmTotals};
use crate::state::rows::{Part, Split};
use numbers::{Present, Seen};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Something before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Both<T> {
    /// Of the first measurement.
    pub before: T,
    /// Of the second.
    pub after: T,
}

impl<T> Both<T> {
    /// One of each.
    pub fn new(before: T, after: T) -> Self {
        Self { before, after }
    }

    /// The same of both.
    pub fn map<U>(&self, of: impl Fn(&T) -> U) -> Both<U> {
        Both { before: of(&self.before), after: of(&self.after) }
    }
}

impl Both<Option<u64>> {
    /// What a quantile has more than before, and 0 where that is less than the eighth to which it is known.
    pub fn notable(&self) -> f64 {
        match (self.before, self.after) {
            (Some(before), Some(after)) if before.abs_diff(after) > before.min(after) / 8 => {
                after as f64 - before as f64
            }
            _ => 0.0,
        }
    }
}

impl Both<f64> {
    /// What was added, or taken away.
    pub fn change(&self) -> f64 {
        self.after - self.before
    }

    /// The same, and 0 where it is less than a twentieth of the larger one: so much differs by chance.
    pub fn notable(&self) -> f64 {
        let change = self.change();
        if change.abs() * 20.0 < self.before.max(self.after) { 0.0 } else { change }
    }

    /// How many times as much; `None` where there was nothing before.
    pub fn ratio(&self) -> Option<f64> {
        (self.before > 0.0).then(|| self.after / self.before)
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Side<'a> {
    /// What the person calls it: a file, a range of one.
    pub label: String,
    /// The host, the names, the probes.
    pub session: &'a Session,
    /// The numbers.
    pub totals: &'a Totals,
    /// How long was measured, ns; gaps are not in it.
    pub measured_ns: u64,
    /// Stretches without data between its begin and its end, from and until in ns of the probes' clock.
    pub gaps: Vec<(u64, u64)>,
}

impl<'a> Side<'a> {
    /// A measurement without gaps, as long as its ticks are together.
    pub fn new(label: impl Into<String>, session: &'a Session, totals: &'a Totals) -> Self {
        let measured_ns = totals.measured_ns;
        Self { label: label.into(), session, totals, measured_ns, gaps: Vec::new() }
    }

    /// Time without data, ns.
    pub fn gaps_ns(&self) -> u64 {
        let lengths = self.gaps.iter().map(|(from, until)| until.saturating_sub(*from));
        lengths.fold(0, u64::saturating_add)
    }
}

/// What is known of one side, for headings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What the person calls it.
    pub label: String,
    /// Host name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// KVM's backend.
    pub backend: String,
    /// Begin, ns since the Unix epoch.
    pub from_unix_ns: u64,
    /// End, ns since the Unix epoch.
    pub until_unix_ns: u64,
    /// How long was measured, ns; gaps are not in it.
    pub measured_ns: u64,
    /// How many gaps.
    pub gaps: usize,
    /// Time in them, ns.
    pub gaps_ns: u64,
    /// Exits that were not counted, whatever the cause, and ticks that never arrived.
    pub lost: u64,
}

/// Where something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Where {
    /// In both measurements.
    Both,
    /// It is new: only after.
    After,
    /// It vanished: only before.
    Before,
}

impl Where {
    fn of(before: bool, after: bool) -> Self {
        match (before, after) {
            (true, false) => Self::Before,
            (false, true) => Self::After,
            _ => Self::Both,
        }
    }

    /// In a word, and nothing where it is in both.
    pub fn word(self) -> &'static str {
        match self {
            Self::Both => "",
            Self::After => "new",
            Self::Before => "gone",
        }
    }
}

/// A reason of a VM or a vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct ReasonDiff {
    /// Which.
    pub reason: Reason,
    /// Its name, as the later side calls it.
    pub name: String,
    /// Where it was met.
    pub seen: Where,
    /// Its numbers.
    pub numbers: Both<Numbers>,
    /// What they are of: counts, times, histogram.
    pub sums: Both<Box<Sum>>,
}

impl ReasonDiff {
    /// How much exit time it has more than before, ns per second: what reasons are sorted by.
    pub fn change(&self) -> f64 {
        self.numbers.map(|numbers| numbers.time).change()
    }

    /// Whether anything that lengths of measurements have no part in is another than before.
    fn differs(&self) -> bool {
        let alike = |n: &Numbers| (n.rate, n.time, n.p50_ns, n.p99_ns);
        alike(&self.numbers.before) != alike(&self.numbers.after)
    }
}

/// A VM, or a vCPU: its numbers, where its time went, its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Where it was seen.
    pub seen: Where,
    /// How long it was there while measuring, ns; what rates are of.
    pub present_ns: Both<u64>,
    /// Its numbers.
    pub load: Both<Load>,
    /// Its reasons, what changed most first.
    pub reasons: Vec<ReasonDiff>,
}

impl Entity {
    /// How much exit time it has more than before, ns per second: what VMs and vCPUs are sorted by.
    pub fn change(&self) -> f64 {
        self.load.map(|load| load.numbers.time).change()
    }

    /// Where its wall time went.
    pub fn split(&self) -> Both<Split> {
        self.load.map(|load| load.split)
    }

    /// The parts of its wall time that there are, with their shares (0 to 1), in the order in which they are
    /// drawn. Empty where nothing is known of one of the sides.
    pub fn parts(&self) -> Vec<(Part, Both<f64>)> {
        let split = self.split();
        if self.seen != Where::Both || split.before.0.sum() == 0 || split.after.0.sum() == 0 {
            return Vec::new();
        }
        let shares = Part::ALL.map(|part| (part, split.map(|split| split.share(part))));
        shares.into_iter().filter(|(_, both)| both.before > 0.0 || both.after > 0.0).collect()
    }

    /// The part of its wall time that changed most, with its change (-1 to 1).
    pub fn moved(&self) -> Option<(Part, f64)> {
        let parts = self.parts().into_iter().map(|(part, both)| (part, both.change()));
        // The first of equals, whichever side is which.
        parts.rev().max_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()))
    }
}

/// A vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct VcpuDiff {
    /// Its number.
    pub vcpu: u32,
    /// Its numbers.
    pub entity: Entity,
}

/// A VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmDiff {
    /// Its name; where names differ, or several VMs have one, what tells them apart is with it.
    pub name: String,
    /// Its name on each side; empty where it was not seen.
    pub names: Both<String>,
    /// Thread group of its VMM; 0 where it was not seen.
    pub pids: Both<u32>,
    /// Kind of VMM.
    pub vmm: String,
    /// All its vCPUs together.
    pub all: Entity,
    /// Its vCPUs, what changed most first.
    pub vcpus: Vec<VcpuDiff>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// The two measurements.
    pub about: Both<About>,
    /// How far they cannot be compared.
    pub warnings: Vec<Warning>,
    /// VMs that were seen on both sides, what changed most first; then those of one side.
    pub vms: Vec<VmDiff>,
}

impl Diff {
    /// The reasons of all VMs that are on both sides, what changed most first: VM and reason.
    pub fn most(&self) -> Vec<(&VmDiff, &ReasonDiff)> {
        let both = self.vms.iter().filter(|vm| vm.all.seen == Where::Both);
        let mut all: Vec<_> =
            both.flat_map(|vm| vm.all.reasons.iter().map(move |reason| (vm, reason))).collect();
        all.retain(|(_, reason)| reason.differs());
        all.sort_by(|(vm, a), (other, b)| by_change(a, b).then_with(|| vm.name.cmp(&other.name)));
        all
    }
}

/// Compares two measurements. `wishes` pair VMs whatever they are called, as `BEFORE=AFTER`.
///
/// # Errors
/// A wish that names no VM, or several.
pub fn diff(before: &Side<'_>, after: &Side<'_>, wishes: &[String]) -> Result<Diff, MatchError> {
    let pairs = matching::pairs(before, after, wishes)?;
    let mut warnings = alike::warnings(before, after);
    warnings.extend(alike::of_pairs(&pairs));
    let mut vms: Vec<VmDiff> = pairs.iter().map(|pair| of_vm(before, after, pair)).collect();
    warnings.extend(alike::of_vms(&vms, &before.label, &after.label));
    vms.sort_by(|a, b| {
        let alone = |vm: &VmDiff| vm.all.seen != Where::Both;
        alone(a)
            .cmp(&alone(b))
            .then_with(|| larger(a.all.change(), b.all.change()))
            .then_with(|| a.name.cmp(&b.name))
            .then_with(|| a.pids.before.max(a.pids.after).cmp(&b.pids.before.max(b.pids.after)))
    });
    Ok(Diff { about: Both::new(about(before), about(after)), warnings, vms })
}

fn about(side: &Side<'_>) -> About {
    let Side { session, totals, .. } = side;
    let (from_ns, until_ns) = numbers::span(side);
    About {
        label: side.label.clone(),
        host: session.host.name.clone(),
        kernel: session.host.kernel.clone(),
        backend: session.host.backend.clone(),
        from_unix_ns: session.unix_ns(from_ns),
        until_unix_ns: session.unix_ns(until_ns),
        measured_ns: side.measured_ns,
        gaps: side.gaps.len(),
        gaps_ns: side.gaps_ns(),
        lost: alike::lost_exits(&totals.lost).saturating_add(totals.lost_ticks),
    }
}

/// The larger change first, whichever direction it has.
fn larger(a: f64, b: f64) -> Ordering {
    b.abs().total_cmp(&a.abs())
}

fn by_change(a: &ReasonDiff, b: &ReasonDiff) -> Ordering {
    let rate = |reason: &ReasonDiff| reason.numbers.map(|numbers| numbers.rate).change();
    larger(a.change(), b.change())
        .then_with(|| larger(rate(a), rate(b)))
        .then_with(|| a.reason.cmp(&b.reason))
}

fn of_vm(before: &Side<'_>, after: &Side<'_>, pair: &matching::Pair<'_>) -> VmDiff {
    let vms = pair.vms;
    let present = Both::new(
        vms.before.map(|vm| Present::of_vm(before, vm)),
        vms.after.map(|vm| Present::of_vm(after, vm)),
    );
    let all = Both::new(vcpus(vms.before), vcpus(vms.after));
    let both = Both::new(
        present.before.map(|present| Seen::new(&all.before, present.ns)),
        present.after.map(|present| Seen::new(&all.after, present.ns)),
    );
    let numbers: BTreeSet<u32> =
        all.before.iter().chain(&all.after).map(|vcpu| vcpu.info.key.vcpu).collect();
    let one = |vm: Option<&VmTotals>, present: Option<Present<'_>>, number: u32| {
        let vcpu = vm?.vcpus.get(&number)?;
        Some(Seen::new(&[vcpu], present?.of_vcpu(vcpu)))
    };
    let mut rows: Vec<VcpuDiff> = numbers
        .into_iter()
        .map(|vcpu| {
            let seen = Both::new(
                one(vms.before, present.before, vcpu),
                one(vms.after, present.after, vcpu),
            );
            VcpuDiff { vcpu, entity: entity(after.session, before.session, &seen) }
        })
        .collect();
    rows.sort_by(|a, b| {
        larger(a.entity.change(), b.entity.change()).then_with(|| a.vcpu.cmp(&b.vcpu))
    });
    let name = |vm: Option<&VmTotals>| vm.map(|vm| vm.info.name.clone()).unwrap_or_default();
    let vmm = vms.after.or(vms.before).map(|vm| vm.info.vmm.clone());
    VmDiff {
        name: pair.name(),
        names: Both::new(name(vms.before), name(vms.after)),
        pids: vms.map(|vm| vm.map_or(0, |vm| vm.info.pid)),
        vmm: vmm.unwrap_or_default(),
        all: entity(after.session, before.session, &both),
        vcpus: rows,
    }
}

fn vcpus(vm: Option<&VmTotals>) -> Vec<&VcpuTotals> {
    vm.map(|vm| vm.vcpus.values().collect()).unwrap_or_default()
}

/// Names come from the first session that has them.
fn entity(session: &Session, other: &Session, seen: &Both<Option<Seen>>) -> Entity {
    let none = Seen::default();
    let both =
        Both::new(seen.before.as_ref().unwrap_or(&none), seen.after.as_ref().unwrap_or(&none));
    let kinds = [Kind::Exit, Kind::Userspace];
    // Where kernel exits cannot be seen, those to the VMM stand in: on both sides, or on none.
    let kernel = [both.before, both.after].iter().any(|seen| seen.has(Kind::Exit));
    let kind = if kernel { kinds[0] } else { kinds[1] };
    let mut reasons: Vec<Reason> =
        both.before.sums.keys().chain(both.after.sums.keys()).copied().collect();
    reasons.sort_unstable();
    reasons.dedup();
    let mut reasons: Vec<ReasonDiff> = reasons
        .into_iter()
        .map(|reason| ReasonDiff {
            reason,
            name: name(session, other, reason),
            seen: Where::of(both.before.met(reason), both.after.met(reason)),
            numbers: both.map(|seen| seen.numbers(reason)),
            sums: both.map(|seen| seen.sums.get(&reason).cloned().unwrap_or_default()),
        })
        .collect();
    reasons.sort_by(by_change);
    Entity {
        seen: Where::of(seen.before.is_some(), seen.after.is_some()),
        present_ns: both.map(|seen| seen.present_ns()),
        load: both.map(|seen| seen.load(kind)),
        reasons,
    }
}

/// What a session calls a reason; its number only where neither knows it.
fn name(session: &Session, other: &Session, reason: Reason) -> String {
    let name = session.names.name(reason);
    let unknown = name.starts_with(|c: char| c.is_ascii_digit());
    if unknown { other.names.name(reason).into_owned() } else { name.into_owned() }
}

/// Sums of someone's reasons.
type Sums = BTreeMap<Reason, Box<Sum>>;
