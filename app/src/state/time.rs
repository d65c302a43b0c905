//! The Time tab: where a vCPU's wall time went and what is behind it, and what stands out.

use super::facts::{Gathered, Recent, add_culprits, sort_culprits};
use super::nav::{FindingId, Pane, Scope, Tab, Who};
use super::rows::{Part, Split};
use super::views::Views;
use super::{State, value};
use crate::findings::{Facts, Finding, ReasonFacts, Thresholds, VcpuFacts, relevant};
use crate::model::detail::{Halts, OutlierLimits, VmTick};
use crate::model::ids::{VcpuKey, VmId};
use crate::model::tick::PhaseTimes;
use std::sync::Arc;

/// vCPUs up to which findings are looked for in every tab. With more they are only in the Time
/// tab: adding up seconds of thousands takes longer than drawing a screen.
const EVERYWHERE: usize = 256;

/// Where someone's time went.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeDetail {
    /// Whose.
    pub who: Who,
    /// "vCPU 3 of web-7", or "all vCPUs of web-7".
    pub label: String,
    /// The displayed tick.
    pub split: Split,
    /// Length of the displayed tick, ns.
    pub dur_ns: u64,
    /// The window tick by tick, oldest first; `None` where nothing is known.
    pub trend: Vec<Option<PhaseTimes>>,
    /// How long all that follows is about, ns: the last seconds.
    pub over_ns: u64,
    /// Where they went.
    pub recent: Split,
    /// Wake-ups from halts.
    pub halts: Halts,
    /// Who ran while it waited, most first.
    pub culprits: Vec<Culprit>,
    /// What the VM did beside its vCPUs, where it was looked at.
    pub beside: Option<VmTick>,
    /// The reason scope's reason.
    pub reason: Option<ReasonFacts>,
}

/// Someone who took a vCPU's CPU.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Culprit {
    /// Name of the thread; empty for all that had no place in the table.
    pub comm: String,
    /// Thread group.
    pub pid: u32,
    /// Name of the VM it belongs to.
    pub vm: Option<String>,
    /// Its cgroup, empty where not known.
    pub cgroup: String,
    /// Time it ran while the vCPU waited, ns.
    pub ns: u64,
    /// Waits that it had a part in.
    pub count: u64,
}

impl TimeDetail {
    /// Wall time of a part per second, ns; of all its vCPUs together.
    pub fn per_second(&self, part: Part) -> u64 {
        let ns = self.split.share(part) * self.split.0.sum() as f64;
        if self.dur_ns == 0 { 0 } else { (ns * 1e9 / self.dur_ns as f64).round() as u64 }
    }

    /// The mean of a halt in a part of wall time, ns: time over wake-ups.
    pub fn mean(&self, part: Part, wakes: u64) -> Option<u64> {
        let ns = (self.recent.share(part) * self.recent.0.sum() as f64) as u64;
        ns.checked_div(wakes)
    }

    /// In a line, for the clipboard.
    pub(super) fn text(&self) -> String {
        let parts = self.split.parts();
        let parts: Vec<String> = parts
            .map(|(part, share)| format!("{} {}", part.label(), value::share(share)))
            .collect();
        format!("{}  {}", super::save::clean(&self.label), parts.join("  "))
    }
}

impl State {
    /// From which time on an exit is slow.
    pub fn outlier_limits(&self) -> &OutlierLimits {
        &self.outlier_limits
    }

    /// The limits that the source was started with.
    pub fn set_outlier_limits(&mut self, limits: OutlierLimits) {
        self.outlier_limits = limits;
    }

    /// From which sizes on something stands out, instead of the program's own.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
        *self.recent.borrow_mut() = Recent::default();
        self.views = Views::default();
    }

    fn gathered(&self) -> Gathered {
        let Some(now) = self.now() else { return Gathered::default() };
        self.recent.borrow_mut().gather(now, &self.thresholds)
    }

    /// Everyone's last seconds up to the displayed tick.
    pub fn facts(&self) -> Arc<Facts> {
        self.gathered().facts
    }

    /// How many findings there are for the whole host. `None` outside of the Time tab where vCPUs
    /// are many.
    pub fn finding_count(&self) -> Option<usize> {
        let vcpus = self.now()?.tick().vcpus.len();
        (self.level().tab == Tab::Time || vcpus <= EVERYWHERE).then(|| self.gathered().count)
    }

    /// The findings of this level's scope, most important first.
    pub fn scope_findings(&self) -> &[Finding] {
        self.views.findings.get_or_init(|| {
            let (vm, vcpu, reason) = match self.level().scope {
                Scope::Host => (None, None, None),
                Scope::Vm(vm) => (Some(vm), None, None),
                Scope::Reasons(who) => (Some(who.vm()), vcpu_of(who), None),
                Scope::Reason(who, reason) => (Some(who.vm()), vcpu_of(who), Some(reason)),
            };
            let mut found = relevant(&self.gathered().found, vm, vcpu);
            // At a reason: what is about it, and what is about none.
            found.retain(|f| reason.is_none_or(|r| f.reason.is_none_or(|its| its == r)));
            found
        })
    }

    /// The finding that the cursor is on.
    pub fn selected_finding(&self) -> Option<Finding> {
        self.scope_findings().get(self.cursor_in(Pane::Findings)?).cloned()
    }

    /// Index of the entry that a pane's cursor is on; `None` when there is none.
    pub fn cursor_in(&self, pane: Pane) -> Option<usize> {
        let level = self.level();
        match pane {
            Pane::Findings => {
                let found = self.scope_findings();
                let at =
                    level.finding.and_then(|id| found.iter().position(|f| finding_id(f) == id));
                (!found.is_empty()).then(|| at.unwrap_or(0))
            }
            Pane::Outliers => {
                let rows = &self.outliers().rows;
                let at = level.outlier.and_then(|id| rows.iter().position(|r| r.which() == id));
                (!rows.is_empty()).then(|| at.unwrap_or(0))
            }
            Pane::Parts => None,
            Pane::Table | Pane::Heat | Pane::Detail => self.cursor(),
            _ => self.cursor_in_list(pane),
        }
    }

    /// A VM's last seconds beside its vCPUs.
    pub fn beside(&self, vm: VmId) -> Option<VmTick> {
        let facts = self.facts();
        facts.vms.iter().find(|facts| facts.id == vm)?.beside.clone()
    }

    /// Where the time of this level's vCPU (or all of a VM's) went; `None` at other levels.
    pub fn time_detail(&self) -> Option<&TimeDetail> {
        self.views.time.get_or_init(|| self.make_time_detail()).as_ref()
    }

    fn make_time_detail(&self) -> Option<TimeDetail> {
        let now = self.now()?;
        let (who, reason) = match self.level().scope {
            Scope::Reasons(who) => (who, None),
            Scope::Reason(who, reason) => (who, Some(reason)),
            Scope::Host | Scope::Vm(_) => return None,
        };
        let mut time = PhaseTimes::default();
        let mut dur_ns = now.tick().dur_ns;
        for seen in now.of(who) {
            time.add(&seen.time);
            dur_ns = seen.dur_ns;
        }
        let trend = {
            let mut parts = self.parts.borrow_mut();
            parts.look(who, self.moments.window(self.limits.window), &self.moments);
            parts.times()
        };
        let facts = self.facts();
        let vm = facts.vms.iter().find(|vm| vm.id == who.vm());
        let mut detail = TimeDetail {
            who,
            label: now.label(who),
            split: Split(time),
            dur_ns,
            trend,
            over_ns: facts.over_ns,
            recent: Split::default(),
            halts: Halts::default(),
            culprits: Vec::new(),
            beside: vm.and_then(|vm| vm.beside.clone()),
            reason: None,
        };
        let vcpus = vm.into_iter().flat_map(|vm| &vm.vcpus).filter(|vcpu| who.contains(vcpu.key));
        self.add_vcpus(&mut detail, vcpus, reason);
        Some(detail)
    }

    fn add_vcpus<'a>(
        &self,
        detail: &mut TimeDetail,
        vcpus: impl Iterator<Item = &'a VcpuFacts>,
        reason: Option<crate::model::ids::Reason>,
    ) {
        let mut culprits = Vec::new();
        for vcpu in vcpus {
            detail.recent.0.add(&vcpu.time);
            detail.halts.add(&vcpu.halts);
            add_culprits(&mut culprits, &vcpu.culprits);
            for facts in vcpu.reasons.iter().filter(|facts| Some(facts.reason) == reason) {
                match &mut detail.reason {
                    Some(sum) => super::facts::add_reason(sum, facts),
                    None => detail.reason = Some(facts.clone()),
                }
            }
        }
        sort_culprits(&mut culprits);
        let name = |vm: VmId| self.now().map(|now| now.name(vm));
        let named = culprits.into_iter().map(|one| Culprit {
            vm: one.vm.and_then(name),
            comm: one.comm,
            pid: one.pid,
            cgroup: one.cgroup,
            ns: one.ns,
            count: one.count,
        });
        detail.culprits = named.collect();
    }
}

/// What makes a finding the same one in the next tick.
pub fn finding_id(found: &Finding) -> FindingId {
    (found.rule, found.vm, found.vcpu, found.reason)
}

/// Where a finding points.
pub(super) fn target(found: &Finding) -> Scope {
    let who = match found.vcpu {
        Some(vcpu) => Who::Vcpu(VcpuKey { vm: found.vm, vcpu }),
        None => Who::Vm(found.vm),
    };
    match (found.reason, found.vcpu) {
        (Some(reason), _) => Scope::Reason(who, reason),
        (None, Some(_)) => Scope::Reasons(who),
        (None, None) => Scope::Vm(found.vm),
    }
}

/// A finding as text, for the clipboard.
pub(super) fn finding_text(found: &Finding) -> String {
    let evidence = found.evidence.join("; ");
    let parts = [found.text.as_str(), evidence.as_str(), found.next.as_str()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    super::save::clean(&parts.join("  "))
}

fn vcpu_of(who: Who) -> Option<u32> {
    match who {
        Who::Vm(_) => None,
        Who::Vcpu(key) => Some(key.vcpu),
    }
}
