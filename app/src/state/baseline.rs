//! The minute before the displayed tick: how often each cell of a heat map happened then.

use super::load::per_second;
use super::moment::Moments;
use super::nav::{RowId, Scope};
use crate::model::codec::Part;
use crate::model::ids::Reason;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// How far it looks back.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

type Counts = HashMap<(RowId, Reason), u64>;

/// Counts of a heat map's cells over some ticks. Kept between frames and slid along with time.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    scope: Option<Scope>,
    first: u64,
    /// By tick: its length (ns) and its counts.
    slices: VecDeque<(u64, Counts)>,
    sum: Counts,
    sum_ns: u64,
}

impl Baseline {
    /// Reads what the places have of a scope, as far as it is not read already.
    pub fn look(&mut self, scope: Scope, places: Range<u64>, moments: &Moments) {
        let end = self.first + self.slices.len() as u64;
        let goes_on = self.scope == Some(scope)
            && (self.first..=end).contains(&places.start)
            && places.end >= end;
        if !goes_on {
            *self = Self { scope: Some(scope), first: places.start, ..Self::default() };
        }
        while self.first < places.start {
            let Some((dur_ns, counts)) = self.slices.pop_front() else { break };
            self.first += 1;
            self.sum_ns = self.sum_ns.saturating_sub(dur_ns);
            for (cell, n) in counts {
                if let Some(sum) = self.sum.get_mut(&cell) {
                    *sum = sum.saturating_sub(n);
                }
            }
        }
        for place in self.first + self.slices.len() as u64..places.end {
            let slice = slice(scope, place, moments);
            self.sum_ns = self.sum_ns.saturating_add(slice.0);
            for (&cell, &n) in &slice.1 {
                let sum = self.sum.entry(cell).or_default();
                *sum = sum.saturating_add(n);
            }
            self.slices.push_back(slice);
        }
    }

    /// Exits per second of a cell; `None` when there is no time before.
    pub fn rate(&self, row: RowId, reason: Reason) -> Option<f64> {
        let n = self.sum.get(&(row, reason)).copied().unwrap_or_default();
        (self.sum_ns > 0).then(|| per_second(n, self.sum_ns))
    }
}

fn slice(scope: Scope, place: u64, moments: &Moments) -> (u64, Counts) {
    let mut counts = Counts::new();
    let part =
        scope.vm().map_or(Part::ALL, |vm| Part::vm(vm, None)).without_hist().without_events();
    let Some(tick) = moments.part(place, part) else { return (0, counts) };
    for of_vm in tick.vcpus.chunk_by(|a, b| a.key.vm == b.key.vm) {
        // First added up by reason, of which there are few, and then hashed.
        let mut sums: BTreeMap<Reason, u64> = BTreeMap::new();
        for (key, cell) in of_vm.iter().flat_map(|vcpu| vcpu.cells.iter().map(|c| (vcpu.key, c))) {
            let sum = sums.entry(cell.reason).or_default();
            *sum = sum.saturating_add(cell.count);
            if scope != Scope::Host {
                counts.insert((RowId::Vcpu(key), cell.reason), cell.count);
            }
        }
        let Some(vm) = of_vm.first().map(|vcpu| vcpu.key.vm) else { continue };
        let row = if scope == Scope::Host { RowId::Vm(vm) } else { RowId::All(vm) };
        counts.extend(sums.into_iter().map(|(reason, n)| ((row, reason), n)));
    }
    (tick.dur_ns, counts)
}
