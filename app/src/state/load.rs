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
///
/// Handling times are those of kernel exits. A VM or vCPU that made none but did return to the
/// VMM is one whose kernel exits cannot be seen (a backend whose `kvm_exit` is silent): then its
/// userspace exits stand in, rather than nothing.
#[derive(Default)]
pub(super) struct Loader {
    rate: f64,
    user_rate: f64,
    exits: u64,
    user: u64,
    seen_exits: bool,
    kernel_side: Side,
    user_side: Side,
}

/// Handling times of what is work, of one kind of exit.
#[derive(Default)]
struct Side {
    work_ns: u64,
    min_ns: u64,
    max_ns: u64,
    hist: Hist,
    /// Count and handling time of each reason.
    reasons: Vec<(Reason, u64, u64)>,
}

impl Side {
    fn clear(&mut self) {
        let mut reasons = std::mem::take(&mut self.reasons);
        reasons.clear();
        *self = Self { reasons, ..Self::default() };
    }

    fn add(&mut self, cell: &CellTick) {
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

    fn quantile(&self, q: f64) -> Option<u64> {
        self.hist.quantile(q, self.min_ns, self.max_ns)
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

impl Loader {
    /// Forgets everything.
    pub fn clear(&mut self) {
        let (mut kernel_side, mut user_side) =
            (std::mem::take(&mut self.kernel_side), std::mem::take(&mut self.user_side));
        kernel_side.clear();
        user_side.clear();
        *self = Self { kernel_side, user_side, ..Self::default() };
    }

    /// Adds a cell of the interval that is being added up.
    pub fn add(&mut self, cell: &CellTick) {
        match cell.reason.kind {
            Kind::Exit => {
                self.exits = self.exits.saturating_add(cell.count);
                self.seen_exits |= cell.count > 0;
            }
            Kind::Userspace => self.user = self.user.saturating_add(cell.count),
        }
        if is_work(cell.reason) {
            self.kernel_side.add(cell);
        } else if cell.reason.kind == Kind::Userspace && !cell.reason.is_idle() {
            self.user_side.add(cell);
        }
    }

    /// The exits added since the last call happened in an interval of this length. Rates of vCPUs
    /// whose last numbers are of different ticks are so each taken over their own.
    pub fn interval(&mut self, dur_ns: u64) {
        self.rate += per_second(std::mem::take(&mut self.exits), dur_ns);
        self.user_rate += per_second(std::mem::take(&mut self.user), dur_ns);
    }

    fn side(&self) -> &Side {
        if self.seen_exits { &self.kernel_side } else { &self.user_side }
    }

    /// Rate and p99, for a sparkline.
    pub fn trail(&self, dur_ns: u64) -> (f32, f32) {
        let p99 = self.side().quantile(0.99).unwrap_or(0);
        let exits = if self.seen_exits { self.exits } else { self.user };
        (per_second(exits, dur_ns) as f32, p99 as f32)
    }

    /// What it adds up to, in this much wall time, which went there.
    pub fn load(&self, time: PhaseTimes, wall_ns: u64, names: &ReasonNames) -> Load {
        let side = self.side();
        Load {
            rate: self.rate,
            user_rate: self.user_rate,
            p50_ns: side.quantile(0.5),
            p99_ns: side.quantile(0.99),
            max_ns: (side.hist.total() > 0).then_some(side.max_ns),
            handling: ratio(side.work_ns, wall_ns),
            split: Split(time),
            top: side.top(names),
            change: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Isa;

    fn cell(reason: Reason, count: u64) -> CellTick {
        let hist = vec![(20, count as u32)];
        CellTick { reason, count, total_ns: 1_000, max_ns: 1_000, hist, ..CellTick::default() }
    }

    fn load(cells: &[CellTick]) -> Load {
        let mut loader = Loader::default();
        cells.iter().for_each(|cell| loader.add(cell));
        loader.interval(1_000_000_000);
        loader.load(PhaseTimes::default(), 1_000_000, &ReasonNames::default())
    }

    #[test]
    fn userspace_exits_stand_in_only_where_there_are_no_kernel_exits() {
        let user = cell(Reason::userspace(2), 5);
        let hlt = cell(Reason::exit(Isa::Vmx, 12), 3);
        let silent = load(std::slice::from_ref(&user));
        assert!(silent.p99_ns.is_some());
        assert_eq!(silent.top.map(|top| top.reason), Some(user.reason));
        assert_eq!((silent.rate, silent.user_rate), (0.0, 5.0));
        let idle = load(&[hlt, user]);
        assert_eq!(idle.p99_ns, None, "an idle vCPU's kernel exits are seen");
        assert_eq!(idle.top, None);
    }
}
