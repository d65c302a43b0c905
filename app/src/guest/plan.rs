//! How the work of a vCPU is divided into rounds, and when each is due. Pure arithmetic.

use std::time::Duration;

use super::code::{DIRTY_USUALLY, TOUCH_PAGES, WALK_TABLES};
use super::op::Counts;

/// One round: what the guest makes before it says that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// How many of each kind.
    pub counts: Counts,
    /// Not before this long after the vCPU began.
    pub due: Duration,
}

/// How many pages of each kind are used before they are used again; a round uses no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// To touch.
    pub touch: u64,
    /// To dirty.
    pub dirty: u64,
    /// Page tables to walk.
    pub walk: u64,
}

impl Default for Pages {
    fn default() -> Self {
        Self { touch: TOUCH_PAGES, dirty: DIRTY_USUALLY, walk: WALK_TABLES }
    }
}

impl Pages {
    /// In how many rounds `total` can be made.
    fn rounds(&self, total: &Counts) -> u64 {
        let pages = [(total.touch, self.touch), (total.dirty, self.dirty), (total.walk, self.walk)];
        let rounds = pages.map(|(count, pages)| count.div_ceil(pages.max(1)));
        // One change of the slots a round, so that the guest runs after each.
        rounds.into_iter().max().unwrap_or(0).max(total.slots)
    }
}

/// The work of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Exactly `total`, spread evenly over `rounds`.
    Exact {
        /// What is made in all.
        total: Counts,
        /// In how many rounds.
        rounds: u64,
        /// From one round's beginning to the next; zero is as fast as possible.
        period: Duration,
    },
    /// `each` in every round, until it is stopped.
    Endless {
        /// What every round makes.
        each: Counts,
        /// From one round's beginning to the next.
        period: Duration,
    },
}

impl Plan {
    /// `total` in as few rounds as the pages to touch allow, or, with a rate, in rounds that
    /// make at most one of each kind.
    pub fn exact(total: Counts, pages: &Pages, rate_hz: Option<f64>, at_least: u64) -> Self {
        let (wanted, period) = match rate_hz {
            Some(hz) => (total.largest(), Duration::from_secs_f64(1.0 / hz)),
            None => (pages.rounds(&total), Duration::ZERO),
        };
        Self::Exact { total, rounds: wanted.max(at_least).max(1), period }
    }

    /// Round number `index`, from 0; `None` after the last.
    pub fn round(&self, index: u64) -> Option<Round> {
        match *self {
            Self::Exact { total, rounds, period } => (index < rounds).then(|| Round {
                counts: Counts::from_fn(|op| share(total.get(op), rounds, index)),
                due: times(period, index),
            }),
            Self::Endless { each, period } => {
                Some(Round { counts: each, due: times(period, index) })
            }
        }
    }

    /// How many rounds there are; `None` when it does not end.
    pub fn rounds(&self) -> Option<u64> {
        match *self {
            Self::Exact { rounds, .. } => Some(rounds),
            Self::Endless { .. } => None,
        }
    }
}

/// Part `index` of `total` when it is divided into `parts` as evenly as whole numbers allow.
/// The parts add up to `total` exactly.
fn share(total: u64, parts: u64, index: u64) -> u64 {
    let up_to = |index: u64| (u128::from(total) * u128::from(index) / u128::from(parts)) as u64;
    up_to(index + 1) - up_to(index)
}

/// `period * count`, at most the longest duration there is.
fn times(period: Duration, count: u64) -> Duration {
    let nanos = period.as_nanos().saturating_mul(u128::from(count));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::op::Op;
    use super::*;

    fn sum(plan: &Plan) -> Counts {
        let mut sum = Counts::default();
        for index in 0.. {
            let Some(round) = plan.round(index) else { break };
            for op in Op::ALL {
                sum.set(op, sum.get(op) + round.counts.get(op));
            }
        }
        sum
    }

    #[test]
    fn rounds_add_up_to_what_was_asked_for() {
        let total = Counts { out: 10_000_000, cpuid: 7, touch: 10_001, ..Counts::default() };
        for at_least in [1, 2, 3, 1000] {
            let plan = Plan::exact(total, &Pages::default(), None, at_least);
            assert_eq!(sum(&plan), total, "{at_least}");
        }
    }

    #[test]
    fn no_round_touches_more_pages_than_there_are() {
        for touch in [0, 1, TOUCH_PAGES, TOUCH_PAGES + 1, 10_000_000] {
            let total = Counts { touch, ..Counts::default() };
            let plan = Plan::exact(total, &Pages::default(), None, 1);
            let rounds = plan.rounds().expect("it ends");
            for index in [0, rounds / 2, rounds - 1] {
                let round = plan.round(index).expect("a round");
                assert!(round.counts.touch <= TOUCH_PAGES, "{touch}: {round:?}");
            }
        }
    }

    #[test]
    fn a_round_uses_as_many_pages_and_changes_of_slots_as_it_may() {
        let pages = Pages { touch: 100, dirty: 50, walk: 8 };
        let rounds = |total| Plan::exact(total, &pages, None, 1).rounds();
        assert_eq!(rounds(Counts { touch: 300, ..Counts::default() }), Some(3));
        assert_eq!(rounds(Counts { touch: 300, dirty: 201, ..Counts::default() }), Some(5));
        assert_eq!(rounds(Counts { walk: 80, ..Counts::default() }), Some(10));
        let total = Counts { slots: 7, out: 70, ..Counts::default() };
        let plan = Plan::exact(total, &pages, None, 1);
        assert_eq!(
            plan.round(6).map(|round| (round.counts.slots, round.counts.out)),
            Some((1, 10))
        );
    }

    #[test]
    fn a_rate_makes_at_most_one_of_each_kind_per_round() {
        let total = Counts { out: 100, hlt: 33, ..Counts::default() };
        let plan = Plan::exact(total, &Pages::default(), Some(50.0), 1);
        assert_eq!(plan.rounds(), Some(100));
        assert_eq!(sum(&plan), total);
        for index in 0..100 {
            let round = plan.round(index).expect("a round");
            assert_eq!(round.due, Duration::from_millis(20) * index as u32);
            assert!(round.counts.largest() <= 1);
        }
    }

    #[test]
    fn nothing_to_do_is_one_empty_round() {
        let plan = Plan::exact(Counts::default(), &Pages::default(), None, 1);
        assert_eq!(plan.rounds(), Some(1));
        assert_eq!(sum(&plan), Counts::default());
    }
}
