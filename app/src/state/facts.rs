//! The last seconds of everyone, added up: what findings look at. Read from the kept ticks, each
//! once, and added up once per displayed tick.

use super::moment::Moments;
use super::now::{Now, Seen, went_on};
use super::slid::Slid;
use crate::findings::{
    Facts, Finding, MeterFacts, ReasonFacts, Thresholds, VcpuFacts, VmFacts, findings, relevant,
};
use crate::model::codec::Part;
use crate::model::detail::{CulpritTick, Halts, KeyId, KeyTick, VmTick};
use crate::model::ids::{Reason, VcpuKey, VmId};
use crate::model::tick::{PhaseTimes, Tick};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Ticks that are added up, unless they are very short or very long.
const TICKS: u64 = 10;
/// At least this long, ns: what is over in a moment is no finding.
const LEAST_NS: u64 = 5_000_000_000;
/// Not longer than this, ns, for ticks that are long: a finding is about now.
const MOST_NS: u64 = 10_000_000_000;

/// What a moment is about: everyone's last seconds, and what stands out in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathered {
    pub facts: Arc<Facts>,
    pub found: Arc<Vec<Finding>>,
    /// How many of them the host has, those alike taken together.
    pub count: usize,
}

/// The last seconds, tick by tick.
#[derive(Debug, Default)]
pub(super) struct Recent {
    slid: Slid<(), Slice>,
    /// What they add up to, and the place of the tick that it is for.
    gathered: Option<(u64, Gathered)>,
}

/// What a tick had, as far as it matters here.
#[derive(Debug, Default)]
struct Slice {
    end_ns: u64,
    dur_ns: u64,
    vcpus: Vec<Brief>,
    vms: Vec<VmTick>,
}

#[derive(Debug)]
struct Brief {
    key: VcpuKey,
    time: PhaseTimes,
    halts: Halts,
    cells: Vec<ReasonFacts>,
    keys: Vec<KeyTick>,
    culprits: Vec<CulpritTick>,
    meters: MeterFacts,
}

impl Slice {
    fn new(tick: &Tick) -> Self {
        let cell = |cell: &crate::model::tick::CellTick| ReasonFacts {
            reason: cell.reason,
            name: String::new(),
            count: cell.count,
            timed: cell.timed(),
            total_ns: cell.total_ns,
            off_ns: cell.off_ns,
            vmm_ns: cell.vmm_ns,
            max_ns: cell.max_ns,
        };
        let brief = |vcpu: &crate::model::tick::VcpuTick| Brief {
            key: vcpu.key,
            time: vcpu.time,
            halts: vcpu.halts,
            cells: vcpu.cells.iter().map(cell).collect(),
            keys: vcpu.keys.clone(),
            culprits: vcpu.culprits.clone(),
            meters: {
                let mut meters = MeterFacts::default();
                meters.add(&vcpu.meters);
                meters
            },
        };
        Self {
            end_ns: tick.end_ns,
            dur_ns: tick.dur_ns,
            vcpus: tick.vcpus.iter().map(brief).collect(),
            vms: tick.vms.clone(),
        }
    }

    fn vcpu(&self, key: VcpuKey) -> Option<&Brief> {
        self.vcpus.get(self.vcpus.binary_search_by_key(&key, |vcpu| vcpu.key).ok()?)
    }
}

/// Places of the ticks that are added up for the displayed one.
pub(super) fn places(moments: &Moments) -> Range<u64> {
    let window = moments.window(usize::MAX);
    let (mut first, mut over_ns) = (window.end, 0u64);
    while first > window.start {
        let Some(meta) = moments.meta(first - 1) else { break };
        let (ticks, dur_ns) = (window.end - first, meta.dur_ns);
        if ticks > 0 && (over_ns.saturating_add(dur_ns) > MOST_NS)
            || (ticks >= TICKS && over_ns >= LEAST_NS)
        {
            break;
        }
        over_ns = over_ns.saturating_add(dur_ns);
        first -= 1;
    }
    first..window.end
}

impl Recent {
    /// What the seconds up to the displayed tick add up to.
    pub fn gather(&mut self, now: Now<'_>, thresholds: &Thresholds) -> Gathered {
        if let Some((place, gathered)) = &self.gathered
            && *place == now.shown.place
        {
            return gathered.clone();
        }
        self.look(places(now.moments), now);
        let facts = self.add_up(now);
        let found = findings(&facts, thresholds);
        let gathered = Gathered {
            count: relevant(&found, None, None).len(),
            facts: Arc::new(facts),
            found: Arc::new(found),
        };
        self.gathered = Some((now.shown.place, gathered.clone()));
        gathered
    }

    /// Reads what the places have, as far as it is not read already.
    fn look(&mut self, places: Range<u64>, now: Now<'_>) {
        self.slid.look((), places, |place| {
            // The displayed one is there already; one that cannot be read is a gap.
            if place == now.shown.place {
                return Slice::new(now.tick());
            }
            let tick = now.moments.part(place, Part::ALL.without_events());
            tick.map(|tick| Slice::new(&tick)).unwrap_or_default()
        });
    }

    fn add_up(&self, now: Now<'_>) -> Facts {
        let over = self.slid.slices().map(|slice| slice.dur_ns);
        let living = now.vms().filter(|vm| vm.span.ended_at(now.end_ns()).is_none());
        let vm = |vm: &super::entities::Vm| {
            let info = &vm.info;
            let vcpus = now.vcpus(vm).filter(|seen| seen.ended_ns.is_none());
            VmFacts {
                id: info.id,
                name: info.name.clone(),
                pid: info.pid,
                beside: self.beside(info.id),
                vcpus: vcpus.map(|seen| self.vcpu(now, &seen)).collect(),
            }
        };
        Facts { over_ns: over.fold(0, u64::saturating_add), vms: living.map(vm).collect() }
    }

    fn vcpu(&self, now: Now<'_>, seen: &Seen<'_>) -> VcpuFacts {
        let key = seen.vcpu.info.key;
        let mut facts = VcpuFacts { key, ..VcpuFacts::default() };
        let mut reasons: BTreeMap<Reason, ReasonFacts> = BTreeMap::new();
        let mut keys: BTreeMap<KeyId, KeyTick> = BTreeMap::new();
        let mut culprits: Vec<CulpritTick> = Vec::new();
        for slice in self.slid.slices() {
            let Some(brief) = slice.vcpu(key) else {
                if seen.vcpu.span.known_at(slice.end_ns) {
                    facts.time.add(&went_on(seen.vcpu, slice.end_ns, slice.dur_ns));
                }
                continue;
            };
            facts.time.add(&brief.time);
            facts.halts.add(&brief.halts);
            for cell in &brief.cells {
                match reasons.get_mut(&cell.reason) {
                    Some(sum) => add_reason(sum, cell),
                    None => {
                        let name = now.session.names.name(cell.reason).into_owned();
                        reasons.insert(cell.reason, ReasonFacts { name, ..cell.clone() });
                    }
                }
            }
            for tick in &brief.keys {
                keys.entry(tick.id).and_modify(|sum| sum.add(tick)).or_insert_with(|| *tick);
            }
            add_culprits(&mut culprits, &brief.culprits);
            facts.meters.merge(brief.meters);
        }
        sort_culprits(&mut culprits);
        facts.reasons = reasons.into_values().collect();
        facts.keys = keys.into_values().collect();
        facts.culprits = culprits;
        if let Some((_, phase, since_ns, open)) = now.doing(seen) {
            facts.doing = (phase, now.end_ns().saturating_sub(since_ns));
            facts.open = open.map(|open| (open, now.end_ns().saturating_sub(open.begun_ns)));
        }
        facts
    }

    /// What a VM did beside its vCPUs in the ticks in which it was looked at.
    fn beside(&self, id: VmId) -> Option<VmTick> {
        let mut sum: Option<VmTick> = None;
        for tick in self.slid.slices().flat_map(|slice| &slice.vms).filter(|tick| tick.id == id) {
            match &mut sum {
                None => sum = Some(tick.clone()),
                Some(sum) => add_beside(sum, tick),
            }
        }
        if let Some(sum) = &mut sum {
            sum.threads.sort_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(&b.0)));
        }
        sum
    }
}

/// Adds another interval's, or another vCPU's.
pub(super) fn add_reason(sum: &mut ReasonFacts, more: &ReasonFacts) {
    sum.count = sum.count.saturating_add(more.count);
    sum.timed = sum.timed.saturating_add(more.timed);
    sum.total_ns = sum.total_ns.saturating_add(more.total_ns);
    sum.off_ns = sum.off_ns.saturating_add(more.off_ns);
    sum.vmm_ns = sum.vmm_ns.saturating_add(more.vmm_ns);
    sum.max_ns = sum.max_ns.max(more.max_ns);
}

/// Adds those who took the CPU, each thread group once.
pub(super) fn add_culprits(sum: &mut Vec<CulpritTick>, more: &[CulpritTick]) {
    for one in more {
        // "Other" has the idle task's number and no name.
        let same =
            |c: &&mut CulpritTick| c.pid == one.pid && c.comm.is_empty() == one.comm.is_empty();
        match sum.iter_mut().find(same) {
            Some(known) => {
                known.ns = known.ns.saturating_add(one.ns);
                known.count = known.count.saturating_add(one.count);
            }
            None => sum.push(one.clone()),
        }
    }
}

/// Most time first.
pub(super) fn sort_culprits(culprits: &mut [CulpritTick]) {
    culprits.sort_by(|a, b| b.ns.cmp(&a.ns).then(a.pid.cmp(&b.pid)));
}

fn add_beside(sum: &mut VmTick, more: &VmTick) {
    sum.over_ns = sum.over_ns.saturating_add(more.over_ns);
    sum.others_ns = sum.others_ns.saturating_add(more.others_ns);
    sum.throttled_ns = match (sum.throttled_ns, more.throttled_ns) {
        (None, other) | (other, None) => other,
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
    };
    for (tid, comm, ns) in &more.threads {
        match sum.threads.iter_mut().find(|(known, ..)| known == tid) {
            Some((_, _, time)) => *time = time.saturating_add(*ns),
            None => sum.threads.push((*tid, comm.clone(), *ns)),
        }
    }
}
