//! Findings: what stands out, in plain words, each with its evidence and where to look next.
//!
//! Rules are pure: facts over an interval in, findings out. The screen gathers the facts over its
//! last seconds, a report over all that it measured.

pub mod facts;
mod rules;
#[cfg(test)]
mod testing;
pub mod thresholds;
pub mod words;

pub use facts::facts_of;
pub use thresholds::Thresholds;

use crate::model::detail::{CulpritTick, Halts, KeyTick, VmTick};
use crate::model::ids::{Reason, VcpuKey, VmId};
use crate::model::meters::{MeterKind, MetersTick};
use crate::model::tick::{OpenExit, Phase, PhaseTimes};

/// Everything that stands out, what matters most first; within a weight, what is furthest over its
/// threshold.
pub fn findings(facts: &Facts, thresholds: &Thresholds) -> Vec<Finding> {
    let looks = facts.vms.iter().map(|vm| rules::Look { vm, all: facts, limits: thresholds });
    let mut found: Vec<rules::Found> =
        looks.flat_map(|look| rules::RULES.iter().flat_map(move |rule| rule(&look))).collect();
    found.sort_by(|a, b| {
        let weights = a.finding.weight.cmp(&b.finding.weight);
        weights.then_with(|| b.size.total_cmp(&a.size))
    });
    found.into_iter().map(|found| found.finding).collect()
}

/// Those that are worth showing where one looks at everything (no VM), at a VM (its own and its
/// vCPUs') or at a vCPU (its own and its VM's), in the same order.
///
/// Where more than one vCPU is looked at, a rule that says the same of many vCPUs of a VM is
/// folded into its first finding, with the others named among the evidence.
pub fn relevant(findings: &[Finding], vm: Option<VmId>, vcpu: Option<u32>) -> Vec<Finding> {
    let here = findings.iter().filter(|finding| {
        vm.is_none_or(|vm| finding.vm == vm)
            && vcpu.is_none_or(|vcpu| finding.vcpu.is_none_or(|its| its == vcpu))
    });
    let mut out: Vec<(Finding, Vec<u32>)> = Vec::new();
    for finding in here {
        // Of one vCPU the same rule speaks twice only about two things.
        let same = |(first, others): &&mut (Finding, Vec<u32>)| {
            (first.rule, first.vm, first.reason) == (finding.rule, finding.vm, finding.reason)
                && first.vcpu.is_some()
                && first.vcpu != finding.vcpu
                && !finding.vcpu.is_some_and(|vcpu| others.contains(&vcpu))
        };
        match (out.iter_mut().find(same), finding.vcpu) {
            (Some((_, others)), Some(vcpu)) => others.push(vcpu),
            _ => out.push((finding.clone(), Vec::new())),
        }
    }
    out.into_iter().map(|(finding, others)| with_others(finding, others)).collect()
}

/// Vcpus that are named one by one.
const NAMED: usize = 8;

fn with_others(mut finding: Finding, mut others: Vec<u32>) -> Finding {
    others.sort_unstable();
    let names: Vec<String> = others.iter().take(NAMED).map(u32::to_string).collect();
    if !names.is_empty() {
        let more = match others.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let vcpus = if others.len() == 1 { "vCPU" } else { "vCPUs" };
        finding.evidence.push(format!("likewise {vcpus} {}{more}", names.join(", ")));
    }
    finding
}

/// What the rules look at.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Facts {
    /// The interval, ns.
    pub over_ns: u64,
    /// VMs that live.
    pub vms: Vec<VmFacts>,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VmFacts {
    /// Which.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Thread group of its VMM.
    pub pid: u32,
    /// What it did beside its vCPUs, added up over the interval, where it was looked at.
    pub beside: Option<VmTick>,
    /// Its vCPUs.
    pub vcpus: Vec<VcpuFacts>,
}

/// A vCPU.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VcpuFacts {
    /// Which.
    pub key: VcpuKey,
    /// Where the interval went.
    pub time: PhaseTimes,
    /// Its reasons, kernel exits and userspace exits.
    pub reasons: Vec<ReasonFacts>,
    /// What they were about; empty where the family `detail` is off.
    pub keys: Vec<KeyTick>,
    /// Wake-ups from halts.
    pub halts: Halts,
    /// Who ran while it waited; empty where the family `culprits` is off.
    pub culprits: Vec<CulpritTick>,
    /// What it did beside exits.
    pub meters: MeterFacts,
    /// What it is doing at the end, and for how long already, ns.
    pub doing: (Phase, u64),
    /// The exit that is being handled at the end, and for how long already, ns.
    pub open: Option<(OpenExit, u64)>,
}

/// What a vCPU did beside its exits, as far as rules look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MeterFacts {
    /// Intervals on another CPU than the one before (family `vcpu-load`).
    pub migrations: u64,
    /// Of them, on another NUMA node.
    pub crossings: u64,
    /// Timers that came late (family `timer`).
    pub late: u64,
    /// How late in all, in ticks of the guest's TSC.
    pub late_ticks: u64,
}

impl MeterFacts {
    /// Adds an interval.
    pub fn add(&mut self, tick: &MetersTick) {
        self.migrations = self.migrations.saturating_add(tick.migrations);
        self.crossings = self.crossings.saturating_add(tick.crossings);
        for late in tick.meters.iter().filter(|meter| meter.kind == MeterKind::Late) {
            self.late = self.late.saturating_add(late.count);
            self.late_ticks = self.late_ticks.saturating_add(late.total_ns);
        }
    }

    /// Adds another interval's.
    pub fn merge(&mut self, more: Self) {
        let Self { migrations, crossings, late, late_ticks } = more;
        self.migrations = self.migrations.saturating_add(migrations);
        self.crossings = self.crossings.saturating_add(crossings);
        self.late = self.late.saturating_add(late);
        self.late_ticks = self.late_ticks.saturating_add(late_ticks);
    }
}

/// A reason's numbers over the interval.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReasonFacts {
    /// Which.
    pub reason: Reason,
    /// Its name, as this kernel says it.
    pub name: String,
    /// Exits that began.
    pub count: u64,
    /// Exits that ended.
    pub timed: u64,
    /// Their handling time, ns.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Largest handling time, ns.
    pub max_ns: u64,
}

impl Weight {
    /// Its name in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Something stands still or is lost.
    High,
    /// Time is wasted.
    Medium,
    /// Good to know.
    Low,
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Short name of the rule, for programs ("clock-source").
    pub rule: &'static str,
    /// How much it matters.
    pub weight: Weight,
    /// About which VM.
    pub vm: VmId,
    /// About which vCPU, if about one.
    pub vcpu: Option<u32>,
    /// About which reason, if about one: where `⏎` goes.
    pub reason: Option<Reason>,
    /// What stands out, in a sentence.
    pub text: String,
    /// The numbers that say so.
    pub evidence: Vec<String>,
    /// What to do or where to look, in a sentence; names the next key to press on the screen.
    pub next: String,
}

#[cfg(test)]
mod tests {
    use super::testing::{MS, Vm, both};
    use super::*;
    use crate::model::detail::KeyClass;
    use crate::model::testing::any_tick;
    use crate::model::totals::Totals;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn waits(vm: Vm, ms: u64) -> Vm {
        vm.vcpu(&[(Phase::Guest, (1000 - ms) * MS), (Phase::Preempted, ms * MS)])
    }

    #[test]
    fn what_matters_most_comes_first() {
        let mut vm = Vm::new("web-7");
        for ms in [120, 700, 200, 50, 900] {
            vm = waits(vm, ms);
        }
        let found = findings(&vm.facts(), &Thresholds::default());
        let order: Vec<_> = found.iter().map(|f| (f.weight, f.vcpu)).collect();
        let (high, medium) = (Weight::High, Weight::Medium);
        assert_eq!(order, [(high, Some(4)), (high, Some(1)), (medium, Some(2)), (medium, Some(0))]);
    }

    #[test]
    fn thresholds_are_what_is_given() {
        let facts = waits(Vm::new("web-7"), 300).facts();
        let at = |waiting_percent| Thresholds { waiting_percent, ..Thresholds::default() };
        assert_eq!(findings(&facts, &at(30)).len(), 1);
        assert!(findings(&facts, &at(31)).is_empty());
        assert!(findings(&Facts::default(), &at(1)).is_empty());
    }

    #[test]
    fn what_is_relevant_depends_on_where_one_looks() {
        let mut web = Vm::new("web-7");
        for ms in [300, 400, 50, 350] {
            web = waits(web, ms);
        }
        let facts = both(web, waits(Vm::new("db-1").id(2), 200));
        let all = findings(&facts, &Thresholds::default());
        assert_eq!(all.len(), 4);
        let host = relevant(&all, None, None);
        let heads: Vec<_> = host.iter().map(|f| (f.vm.0, f.vcpu)).collect();
        assert_eq!(heads, [(1, Some(1)), (2, Some(0))]);
        assert_eq!(host[0].evidence.last().map(String::as_str), Some("likewise vCPUs 0, 3"));
        assert_eq!(host[1], all[3]);
        assert_eq!(relevant(&all, Some(VmId(2)), None), [all[3].clone()]);
        let one = relevant(&all, Some(VmId(1)), Some(3));
        assert_eq!(one, [all[1].clone()]);
        assert!(relevant(&all, Some(VmId(1)), Some(2)).is_empty());
    }

    #[test]
    fn two_things_of_one_vcpu_are_told_apart() {
        let mut vm = Vm::new("db-1");
        for _ in 0..2 {
            vm = vm.vcpu(&[(Phase::VmmBlocked, 1000 * MS)]);
            for port in [0x3fd, 0xabc1] {
                vm = vm.key(KeyClass::PortIn, port, 100).with_key(|key| key.vmm_ns = 400 * MS);
            }
        }
        let all = findings(&vm.facts(), &Thresholds::default());
        assert_eq!(all.len(), 4);
        let host = relevant(&all, None, None);
        assert_eq!(host.len(), 2);
        for finding in &host {
            let others = finding.evidence.last().map(String::as_str);
            assert!(matches!(others, Some("likewise vCPU 0" | "likewise vCPU 1")), "{finding:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever was measured: nothing overflows, and what is found is complete and documented.
        #[test]
        fn every_finding_is_whole(ticks in vec(any_tick(), 1..4)) {
            let mut totals = Totals::default();
            ticks.iter().for_each(|tick| totals.apply(tick));
            let facts = facts_of(&totals, &crate::source::synth::names());
            let found = findings(&facts, &Thresholds::default());
            prop_assert!(found.is_sorted_by_key(|finding| finding.weight));
            let documented = include_str!("../../../docs/findings.md");
            for finding in &found {
                prop_assert!(documented.contains(&format!("| `{}` |", finding.rule)), "{}", finding.rule);
                prop_assert!(!finding.evidence.is_empty() && !finding.evidence.iter().any(String::is_empty));
                prop_assert!(finding.next.ends_with('.') && !finding.text.ends_with('.'), "{finding:?}");
            }
            prop_assert!(relevant(&found, None, None).len() <= found.len());
        }
    }
}
