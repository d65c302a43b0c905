//! Adding cells up to the numbers that a VM or a vCPU is shown by.

use super::rows::{Load, Split, Top};
use crate::model::hist::Hist;
use crate::model::ids::{Kind, Reason};
use crate::model::session::ReasonNames;
use crate::model::tick::{CellTick, PhaseTimes};

/// Whether a reason's handling time is work of the host for the guest.
pub(super) fn is_work(reason: Reason) -> bool {
    reason.kind == Kind::Exit && !reason.is_idle()
}

/// Per second, of a number of things in an interval.
pub(super) fn per_second(n: u64, dur_ns: u64) -> f64 {
    if dur_ns == 0 { 0.0 } else { n as f64 * 1e9 / dur_ns as f64 }
}

/// A part of a whole, 0 where there is no whole.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Adds up cells. Used again and again, so that it allocates once.
#[derive(Default)]
pub(super) struct Loader {
    rate: f64,
    user_rate: f64,
    exits: u64,
    user: u64,
    work_ns: u64,
    min_ns: u64,
    max_ns: u64,
    hist: Hist,
    /// Count and handling time of each reason that is work.
    reasons: Vec<(Reason, u64, u64)>,
}

impl Loader {
    /// Forgets everything.
    pub fn clear(&mut self) {
        let mut reasons = std::mem::take(&mut self.reasons);
        reasons.clear();
        *self = Self { reasons, ..Self::default() };
    }

    /// Adds a cell of the interval that is being added up.
    pub fn add(&mut self, cell: &CellTick) {
        match cell.reason.kind {
            Kind::Exit => self.exits = self.exits.saturating_add(cell.count),
            Kind::Userspace => self.user = self.user.saturating_add(cell.count),
        }
        if !is_work(cell.reason) {
            return;
        }
        self.work_ns = self.work_ns.saturating_add(cell.total_ns);
        if !cell.hist.is_empty() {
            let first = self.hist.total() == 0;
            self.min_ns = if first { cell.min_ns } else { self.min_ns.min(cell.min_ns) };
            self.max_ns = self.max_ns.max(cell.max_ns);
            self.hist.add_sparse(&cell.hist);
        }
        match self.reasons.iter_mut().find(|(reason, ..)| *reason == cell.reason) {
            Some((_, count, total_ns)) => {
                *count = count.saturating_add(cell.count);
                *total_ns = total_ns.saturating_add(cell.total_ns);
            }
            None => self.reasons.push((cell.reason, cell.count, cell.total_ns)),
        }
    }

    /// The exits added since the last call happened in an interval of this length. Rates of vCPUs
    /// whose last numbers are of different ticks are so each taken over their own.
    pub fn interval(&mut self, dur_ns: u64) {
        self.rate += per_second(std::mem::take(&mut self.exits), dur_ns);
        self.user_rate += per_second(std::mem::take(&mut self.user), dur_ns);
    }

    /// Rate and p99, for a sparkline.
    pub fn trail(&self, dur_ns: u64) -> (f32, f32) {
        let p99 = self.quantile(0.99).unwrap_or(0);
        (per_second(self.exits, dur_ns) as f32, p99 as f32)
    }

    fn quantile(&self, q: f64) -> Option<u64> {
        self.hist.quantile(q, self.min_ns, self.max_ns)
    }

    /// What it adds up to, in this much wall time, which went there.
    pub fn load(&self, time: PhaseTimes, wall_ns: u64, names: &ReasonNames) -> Load {
        Load {
            rate: self.rate,
            user_rate: self.user_rate,
            p50_ns: self.quantile(0.5),
            p99_ns: self.quantile(0.99),
            max_ns: (self.hist.total() > 0).then_some(self.max_ns),
            handling: ratio(self.work_ns, wall_ns),
            split: Split(time),
            top: self.top(names),
        }
    }

    /// The reason with most handling time; with most exits where no handling time is known.
    fn top(&self, names: &ReasonNames) -> Option<Top> {
        let timed = self.work_ns > 0;
        let weight =
            |&(_, count, total_ns): &(Reason, u64, u64)| if timed { total_ns } else { count };
        let best = self.reasons.iter().max_by_key(|&entry| (weight(entry), entry.0))?;
        let whole = self.reasons.iter().map(weight).fold(0, u64::saturating_add);
        (whole > 0).then(|| Top {
            reason: best.0,
            name: names.name(best.0).into_owned(),
            share: ratio(weight(best), whole),
        })
    }
}
