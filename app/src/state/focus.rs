//! The window of one vCPU or VM: its cells tick by tick. Kept between frames, because it is read
//! from the encoded ticks, and only its ends change when time goes on.

use super::detail::{Detail, Point};
use super::load::per_second;
use super::moment::Moments;
use super::nav::Who;
use super::now::Now;
use crate::model::codec::Part;
use crate::model::hist::sparse_quantile;
use crate::model::ids::Reason;
use crate::model::stats::{Stats, Sum, add_cell};
use crate::model::tick::CellTick;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Whose window, and of which reason; `None` is all of them.
pub(super) type Target = (Who, Option<Reason>);

/// Cells of a target, tick by tick.
#[derive(Debug, Default)]
pub(super) struct Focus {
    target: Option<Target>,
    first: u64,
    slices: VecDeque<Vec<CellTick>>,
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
            self.first = places.start;
        }
        while self.first < places.start && self.slices.pop_front().is_some() {
            self.first += 1;
        }
        for place in self.first + self.slices.len() as u64..places.end {
            self.slices.push_back(slice(target, place, moments));
        }
    }

    /// The tick's cell of a reason.
    fn cell(slice: &[CellTick], reason: Reason) -> Option<&CellTick> {
        slice.get(slice.binary_search_by_key(&reason, |cell| cell.reason).ok()?)
    }

    /// The window's numbers by reason.
    pub fn sums(&self) -> BTreeMap<Reason, Box<Sum>> {
        let mut sums: BTreeMap<Reason, Box<Sum>> = BTreeMap::new();
        for cell in self.slices.iter().flatten() {
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
        let point = |(place, slice): (u64, &Vec<CellTick>)| {
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
        Detail {
            who,
            label: now.label(who),
            row: now.reason_row(reason, &now.sums(who), stats),
            hist: Box::new(*window.hist.counts()),
            points: self.points(reason, now),
        }
    }
}

fn p99(cell: &CellTick) -> Option<u64> {
    sparse_quantile(&cell.hist, 0.99, cell.min_ns, cell.max_ns)
}

fn slice((who, reason): Target, place: u64, moments: &Moments) -> Vec<CellTick> {
    let part = match who {
        Who::Vm(vm) => Part::vm(vm, reason),
        Who::Vcpu(key) => Part::vcpu(key, reason),
    };
    let mut cells = Vec::new();
    // A tick that cannot be read is one of which nothing is known.
    for vcpu in moments.part(place, part).into_iter().flat_map(|tick| tick.vcpus) {
        if cells.is_empty() {
            cells = vcpu.cells;
        } else {
            vcpu.cells.iter().for_each(|cell| add_cell(&mut cells, cell));
        }
    }
    cells
}
