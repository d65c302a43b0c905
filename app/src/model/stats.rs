//! Sums of cells over ticks, vCPUs or both, and the numbers that are shown of them.

use super::hist::Hist;
use super::meters::MeterTick;
use super::tick::CellTick;
use kvmscope_shared::hist::{bucket_mid, bucket_of};

/// Several [`CellTick`]s added up. The meaning of the times is that of
/// [`kvmscope_shared::cell::Cell`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sum {
    /// Exits that began.
    pub count: u64,
    /// Handling time of those that ended, ns.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Smallest handling time, ns; only meaningful when something was timed.
    pub min_ns: u64,
    /// Largest, ns.
    pub max_ns: u64,
    /// Flag bits seen.
    pub flags: u32,
    /// Handling times.
    pub hist: Hist,
}

impl Sum {
    /// Adds one cell's interval.
    pub fn add(&mut self, cell: &CellTick) {
        self.count = self.count.saturating_add(cell.count);
        self.total_ns = self.total_ns.saturating_add(cell.total_ns);
        self.off_ns = self.off_ns.saturating_add(cell.off_ns);
        self.vmm_ns = self.vmm_ns.saturating_add(cell.vmm_ns);
        self.flags |= cell.flags;
        if !cell.hist.is_empty() {
            self.extremes(cell.min_ns, cell.max_ns);
        }
        self.hist.add_sparse(&cell.hist);
    }

    /// Adds one meter's interval.
    pub fn add_meter(&mut self, meter: &MeterTick) {
        self.count = self.count.saturating_add(meter.count);
        self.total_ns = self.total_ns.saturating_add(meter.total_ns);
        if !meter.hist.is_empty() {
            self.extremes(meter.min_ns, meter.max_ns);
        }
        self.hist.add_sparse(&meter.hist);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.off_ns = self.off_ns.saturating_add(other.off_ns);
        self.vmm_ns = self.vmm_ns.saturating_add(other.vmm_ns);
        self.flags |= other.flags;
        if other.hist.total() > 0 {
            self.extremes(other.min_ns, other.max_ns);
        }
        self.hist.merge(&other.hist);
    }

    /// Takes in the extremes of something timed. Must be called before its buckets are added.
    fn extremes(&mut self, min_ns: u64, max_ns: u64) {
        self.min_ns = if self.hist.total() == 0 { min_ns } else { self.min_ns.min(min_ns) };
        self.max_ns = self.max_ns.max(max_ns);
    }

    /// Exits that ended (were timed).
    pub fn timed(&self) -> u64 {
        self.hist.total()
    }

    /// A quantile of the handling time, ns; `None` when nothing was timed.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        self.hist.quantile(q, self.min_ns, self.max_ns)
    }

    /// Extremes, mean and the usual quantiles, the latter by hdrhistogram: filled once for all of
    /// them. (Tables of thousands of vCPUs ask [`Self::quantile`] for one or two instead.)
    fn latency(&self) -> Option<Latency> {
        let timed = self.timed();
        let filled = (timed > 0).then(|| self.hist.to_hdr()).flatten()?;
        // Back to the middle of the kernel's bucket, so that a number is the same wherever it is
        // shown.
        let middle =
            |ns| bucket_mid(bucket_of(ns)).max(self.min_ns).min(self.max_ns.max(self.min_ns));
        let at = |q| middle(filled.value_at_quantile(q));
        Some(Latency {
            min_ns: self.min_ns,
            mean_ns: self.total_ns / timed,
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: self.max_ns,
        })
    }

    /// The numbers of it.
    pub fn stats(&self) -> Stats {
        let timed = self.timed();
        Stats {
            count: self.count,
            timed,
            total_ns: self.total_ns,
            off_ns: self.off_ns,
            vmm_ns: self.vmm_ns,
            latency: self.latency(),
        }
    }
}

/// Adds a cell to a list that is sorted by reason, to the entry of its reason.
pub fn add_cell(cells: &mut Vec<CellTick>, cell: &CellTick) {
    match cells.binary_search_by_key(&cell.reason, |cell| cell.reason) {
        Ok(at) => {
            if let Some(mine) = cells.get_mut(at) {
                merge_cell(mine, cell);
            }
        }
        Err(at) => cells.insert(at, cell.clone()),
    }
}

fn merge_cell(mine: &mut CellTick, cell: &CellTick) {
    mine.flags |= cell.flags;
    mine.count = mine.count.saturating_add(cell.count);
    mine.total_ns = mine.total_ns.saturating_add(cell.total_ns);
    mine.off_ns = mine.off_ns.saturating_add(cell.off_ns);
    mine.vmm_ns = mine.vmm_ns.saturating_add(cell.vmm_ns);
    if !cell.hist.is_empty() {
        let first = mine.hist.is_empty();
        mine.min_ns = if first { cell.min_ns } else { mine.min_ns.min(cell.min_ns) };
        mine.max_ns = mine.max_ns.max(cell.max_ns);
    }
    for &(bucket, n) in &cell.hist {
        match mine.hist.binary_search_by_key(&bucket, |&(bucket, _)| bucket) {
            Ok(at) => {
                if let Some((_, mine)) = mine.hist.get_mut(at) {
                    *mine = mine.saturating_add(n);
                }
            }
            Err(at) => mine.hist.insert(at, (bucket, n)),
        }
    }
}

/// What is shown of a [`Sum`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stats {
    /// Exits that began.
    pub count: u64,
    /// Exits that ended (were timed).
    pub timed: u64,
    /// Handling time of the timed ones, ns.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// How long one took; `None` when none was timed.
    pub latency: Option<Latency>,
}

/// Handling time of single exits, ns. Quantiles are within 12.5%, the others exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Latency {
    /// Smallest.
    pub min_ns: u64,
    /// Mean.
    pub mean_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90 of 100 took at most this.
    pub p90_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1000.
    pub p999_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{Isa, Reason};
    use crate::model::testing::cell;

    #[test]
    fn adding_cells_is_adding_sums() {
        let reason = Reason::exit(Isa::Vmx, 1);
        let parts = [cell(reason, &[500, 900]), cell(reason, &[]), cell(reason, &[100, 70_000])];
        let (mut cells, mut one, mut sum) = (Vec::new(), Sum::default(), Sum::default());
        for part in &parts {
            add_cell(&mut cells, part);
            sum.add(part);
        }
        one.add(&cells[0]);
        assert_eq!(one, sum);
        assert_eq!(cells, [cell(reason, &[500, 900, 100, 70_000])]);
    }

    #[test]
    fn what_was_not_timed_has_no_extremes() {
        let reason = Reason::exit(Isa::Vmx, 12);
        let mut sum = Sum::default();
        sum.add(&CellTick { reason, count: 3, ..CellTick::default() });
        assert_eq!(sum.stats().latency, None);
        sum.add(&cell(reason, &[5_000]));
        let latency = sum.stats().latency.expect("one was timed");
        assert_eq!((latency.min_ns, latency.mean_ns, latency.max_ns), (5_000, 5_000, 5_000));
        let mut merged = Sum::default();
        merged.merge(&sum);
        assert_eq!(merged, sum);
    }
}
