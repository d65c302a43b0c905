//! The window of one vCPU or VM: its cells tick by tick, and the keys of a reason. Kept between
//! frames, because it is read from the encoded ticks, and only its ends change when time goes on.

use super::detail::{Detail, Point};
use super::keys::{self, KeySums};
use super::load::per_second;
use super::moment::{Moments, Shown};
use super::nav::Who;
use super::now::Now;
use crate::model::codec::Part;
use crate::model::detail::Outlier;
use crate::model::hist::sparse_quantile;
use crate::model::ids::Reason;
use crate::model::stats::{Stats, Sum, add_cell};
use crate::model::tick::{CellTick, Tick, VcpuTick};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Top keys of a detail.
const TOP: usize = 5;

/// Whose window, and of which reason; `None` is all of them.
pub(super) type Target = (Who, Option<Reason>);

/// Cells of a target, tick by tick.
#[derive(Debug, Default)]
pub(super) struct Focus {
    target: Option<Target>,
    first: u64,
    slices: VecDeque<Slice>,
    /// The keys of all slices together.
    keys: KeySums,
}

/// What one tick has of a target. Keys and outliers only where it is about one reason.
#[derive(Debug, Default)]
struct Slice {
    cells: Vec<CellTick>,
    keys: KeySums,
    /// The last one.
    outlier: Option<Outlier>,
}

impl Focus {
    /// Reads what the places have of a target, as far as it is not read already.
    pub fn look(&mut self, target: Target, places: Range<u64>, moments: &Moments) {
        let end = self.first + self.slices.len() as u64;
        let goes_on = self.target == Some(target)
            && (self.first..=end).contains(&places.start)
            && places.end >= end;
        if !goes_on {
            self.target = Some(target);
            self.slices.clear();
            self.keys = KeySums::default();
            self.first = places.start;
        }
        while self.first < places.start
            && let Some(slice) = self.slices.pop_front()
        {
            self.keys.subtract(&slice.keys);
            self.first += 1;
        }
        for place in self.first + self.slices.len() as u64..places.end {
            let slice = slice(target, place, moments);
            self.keys.merge(&slice.keys);
            self.slices.push_back(slice);
        }
    }

    /// The tick's cell of a reason.
    fn cell(slice: &Slice, reason: Reason) -> Option<&CellTick> {
        let cells = &slice.cells;
        cells.get(cells.binary_search_by_key(&reason, |cell| cell.reason).ok()?)
    }

    /// The keys of the window.
    pub fn keys(&self) -> &KeySums {
        &self.keys
    }

    /// The keys of a reason in the last tick of the window, and the reason's exits in it; `None`
    /// where there are none.
    pub fn last(&self, reason: Reason) -> Option<(&KeySums, u64)> {
        let slice = self.slices.back().filter(|slice| !slice.keys.is_empty())?;
        Some((&slice.keys, Self::cell(slice, reason).map_or(0, |cell| cell.count)))
    }

    /// The last outlier of the window.
    pub fn outlier(&self) -> Option<&Outlier> {
        self.slices.iter().rev().find_map(|slice| slice.outlier.as_ref())
    }

    /// The window's numbers by reason.
    pub fn sums(&self) -> BTreeMap<Reason, Box<Sum>> {
        let mut sums: BTreeMap<Reason, Box<Sum>> = BTreeMap::new();
        for cell in self.slices.iter().flat_map(|slice| &slice.cells) {
            sums.entry(cell.reason).or_default().add(cell);
        }
        sums
    }

    /// Rate and p99 of a reason, tick by tick.
    pub fn series(&self, reason: Reason, moments: &Moments) -> super::detail::Series {
        let mut series = super::detail::Series::default();
        for (place, slice) in (self.first..).zip(&self.slices) {
            let dur_ns = moments.meta(place).map_or(0, |meta| meta.dur_ns);
            let cell = Self::cell(slice, reason);
            series.rate.push(cell.map_or(0.0, |cell| per_second(cell.count, dur_ns) as f32));
            series.p99.push(cell.and_then(p99).unwrap_or(0) as f32);
        }
        series
    }

    /// A reason's window tick by tick.
    fn points(&self, reason: Reason, now: &Now<'_>) -> Vec<Point> {
        let point = |(place, slice): (u64, &Slice)| {
            let meta = now.moments.meta(place).copied().unwrap_or_default();
            let cell = Self::cell(slice, reason);
            Point {
                end_unix_ns: now.session.unix_ns(meta.end_ns),
                dur_ns: meta.dur_ns,
                missed: meta.missed,
                rate: cell.map_or(0.0, |cell| per_second(cell.count, meta.dur_ns)),
                p99_ns: cell.and_then(p99),
                hist: cell.map(|cell| cell.hist.clone()).unwrap_or_default(),
            }
        };
        (self.first..).zip(&self.slices).map(point).collect()
    }

    /// Everything about a reason that the focus looks at.
    pub fn detail(&self, who: Who, reason: Reason, now: &Now<'_>) -> Detail {
        let mut window = Sum::default();
        for cell in self.slices.iter().filter_map(|slice| Self::cell(slice, reason)) {
            window.add(cell);
        }
        let stats: Stats = window.stats();
        let sums = now.sums_with_keys(who, Some(reason));
        Detail {
            who,
            label: now.label(who),
            row: now.reason_row(who, reason, &sums, stats),
            top: sums.top(reason, TOP),
            hist: Box::new(*window.hist.counts()),
            points: self.points(reason, now),
        }
    }
}

fn p99(cell: &CellTick) -> Option<u64> {
    sparse_quantile(&cell.hist, 0.99, cell.min_ns, cell.max_ns)
}

/// Of the displayed tick nothing need be decoded again.
fn slice(target: Target, place: u64, moments: &Moments) -> Slice {
    let (who, reason) = target;
    match moments.shown() {
        Some(Shown { place: shown, tick }) if *shown == place => {
            let vcpus = tick.vcpus.iter().filter(|vcpu| who.contains(vcpu.key));
            made(target, tick, vcpus.map(Cow::Borrowed))
        }
        _ => {
            let part = match who {
                Who::Vm(vm) => Part::vm(vm, reason),
                Who::Vcpu(key) => Part::vcpu(key, reason),
            };
            // A tick that cannot be read is one of which nothing is known.
            let Some(mut tick) = moments.part(place, part) else { return Slice::default() };
            let vcpus = std::mem::take(&mut tick.vcpus);
            made(target, &tick, vcpus.into_iter().map(Cow::Owned))
        }
    }
}

fn made<'a>(
    (who, reason): Target,
    tick: &Tick,
    vcpus: impl Iterator<Item = Cow<'a, VcpuTick>>,
) -> Slice {
    let (mut cells, mut keys) = (Vec::new(), KeySums::default());
    for vcpu in vcpus {
        if let Some(reason) = reason {
            keys.add(&keys::of_reason(&vcpu.keys, reason));
        }
        let wanted = |cell: &CellTick| reason.is_none_or(|reason| cell.reason == reason);
        match vcpu {
            Cow::Owned(vcpu) if cells.is_empty() => cells = vcpu.cells,
            vcpu => vcpu
                .cells
                .iter()
                .filter(|cell| wanted(cell))
                .for_each(|cell| add_cell(&mut cells, cell)),
        }
    }
    let alike = |outlier: &&Outlier| who.contains(outlier.key) && Some(outlier.reason) == reason;
    let outlier = tick.outliers.iter().rev().find(alike).cloned();
    Slice { cells, keys: keys.bounded(), outlier }
}
