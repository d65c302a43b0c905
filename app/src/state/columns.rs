//! Which reasons have a column of their own in a heat map, and where.
//!
//! Columns stay where they are while one looks. A reason gets a free place at the right end; when
//! there is none, it takes the place of the least of those that are there, once it has mattered
//! more than twice as much as that one for a while.

use crate::model::ids::Reason;
use crate::model::tick::VcpuTick;
use std::collections::BTreeMap;

/// Part of what a reason matters that comes from the newest tick; the rest is what it mattered
/// before. At one tick per second a reason must matter for some seconds to push another one out.
const NEWEST: f64 = 0.15;
/// What matters less than this, and has no column, is forgotten.
const NOTHING: f64 = 1e-6;
/// How much more a reason must matter than one that has a column, to take it over.
const MUCH_MORE: f64 = 2.0;

/// The columns of one heat map.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    order: Vec<Reason>,
    scores: BTreeMap<Reason, f64>,
    place: Option<u64>,
}

impl Columns {
    /// Reasons that have a column, from left to right.
    pub fn order(&self) -> &[Reason] {
        &self.order
    }

    /// Reasons that happened lately and have no column.
    pub fn without(&self) -> impl Iterator<Item = Reason> + '_ {
        self.scores.keys().copied().filter(|reason| !self.order.contains(reason))
    }

    /// Whether there are such.
    pub fn has_other(&self) -> bool {
        self.without().next().is_some()
    }

    /// Takes in what mattered in the tick at a place, where there is room for `fit` columns.
    pub fn update<'a>(
        &mut self,
        place: u64,
        fit: usize,
        vcpus: impl Iterator<Item = &'a VcpuTick>,
    ) {
        if self.place.replace(place) != Some(place) {
            self.rate(&scores(vcpus));
        }
        while self.order.len() > fit {
            let Some(least) = self.least() else { return };
            self.order.remove(least);
        }
        while let Some((reason, score)) = self.best_without() {
            if self.order.len() < fit {
                self.order.push(reason);
                continue;
            }
            let Some(least) = self.least() else { return };
            let Some(place) = self.order.get_mut(least) else { return };
            if score <= MUCH_MORE * self.scores.get(place).copied().unwrap_or_default() {
                return;
            }
            *place = reason;
        }
    }

    fn rate(&mut self, newest: &BTreeMap<Reason, f64>) {
        for (reason, score) in &mut self.scores {
            *score *= 1.0 - NEWEST;
            *score += NEWEST * newest.get(reason).copied().unwrap_or_default();
        }
        for (&reason, &score) in newest {
            self.scores.entry(reason).or_insert(score * NEWEST);
        }
        let order = &self.order;
        self.scores.retain(|reason, score| *score > NOTHING || order.contains(reason));
    }

    /// Where the column is that matters least.
    fn least(&self) -> Option<usize> {
        let score = |reason: &Reason| self.scores.get(reason).copied().unwrap_or_default();
        let scores = self.order.iter().map(score).enumerate();
        scores.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
    }

    /// The reason without a column that matters most.
    fn best_without(&self) -> Option<(Reason, f64)> {
        let without = self.scores.iter().filter(|(reason, _)| !self.order.contains(reason));
        let best = without.max_by(|(_, a), (_, b)| a.total_cmp(b));
        best.map(|(&reason, &score)| (reason, score))
    }
}

/// How much each reason matters in a tick: its share of exits or of handling time, whichever is
/// larger. Idle time is not handling.
fn scores<'a>(vcpus: impl Iterator<Item = &'a VcpuTick>) -> BTreeMap<Reason, f64> {
    let mut sums: BTreeMap<Reason, (f64, f64)> = BTreeMap::new();
    let mut whole = (0.0, 0.0);
    for cell in vcpus.flat_map(|vcpu| &vcpu.cells) {
        let time = if cell.reason.is_idle() { 0.0 } else { cell.total_ns as f64 };
        let sum = sums.entry(cell.reason).or_default();
        *sum = (sum.0 + cell.count as f64, sum.1 + time);
        whole = (whole.0 + cell.count as f64, whole.1 + time);
    }
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    sums.into_iter()
        .map(|(reason, (count, time))| (reason, share(count, whole.0).max(share(time, whole.1))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Isa;
    use crate::model::testing::{cell, vcpu};

    fn reason(code: u32) -> Reason {
        Reason::exit(Isa::Vmx, code)
    }

    /// A vCPU with this many exits of each code.
    fn exits(counts: &[(u32, usize)]) -> Vec<VcpuTick> {
        let cells = counts.iter().map(|&(code, n)| cell(reason(code), &vec![1000; n])).collect();
        vec![vcpu(1, 0, 1_000_000, cells)]
    }

    fn codes(columns: &Columns) -> Vec<u32> {
        columns.order().iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn the_first_order_is_by_what_matters() {
        let mut columns = Columns::default();
        columns.update(0, 2, exits(&[(1, 5), (2, 70), (3, 25)]).iter());
        assert_eq!(codes(&columns), [2, 3]);
        assert!(columns.has_other());
    }

    #[test]
    fn columns_stay_when_their_order_changes() {
        let mut columns = Columns::default();
        columns.update(0, 3, exits(&[(1, 50), (2, 30), (3, 20)]).iter());
        for place in 1..50 {
            columns.update(place, 3, exits(&[(1, 1), (2, 9), (3, 90)]).iter());
        }
        assert_eq!(codes(&columns), [1, 2, 3]);
        assert!(!columns.has_other());
    }

    #[test]
    fn one_burst_takes_no_column_but_lasting_change_does() {
        let mut columns = Columns::default();
        for place in 0..20 {
            columns.update(place, 2, exits(&[(1, 60), (2, 40)]).iter());
        }
        columns.update(20, 2, exits(&[(1, 40), (2, 30), (3, 30)]).iter());
        assert_eq!(codes(&columns), [1, 2], "a burst");
        for place in 21..60 {
            columns.update(place, 2, exits(&[(1, 50), (3, 50)]).iter());
        }
        assert_eq!(codes(&columns), [1, 3], "in the place of the one that is no more");
    }

    #[test]
    fn what_happened_long_ago_is_not_other() {
        let mut columns = Columns::default();
        columns.update(0, 1, exits(&[(1, 9), (2, 1)]).iter());
        assert!(columns.has_other());
        for place in 1..100 {
            columns.update(place, 1, exits(&[(1, 9)]).iter());
        }
        assert!(!columns.has_other());
    }

    #[test]
    fn room_is_used_and_given_back() {
        let mut columns = Columns::default();
        let ticks = exits(&[(1, 50), (2, 30), (3, 20)]);
        columns.update(0, 1, ticks.iter());
        assert_eq!(codes(&columns), [1]);
        columns.update(0, 3, ticks.iter());
        assert_eq!(codes(&columns), [1, 2, 3]);
        columns.update(0, 2, ticks.iter());
        assert_eq!(codes(&columns), [1, 2]);
        columns.update(0, 0, ticks.iter());
        assert_eq!(codes(&columns), [0; 0]);
    }
}
