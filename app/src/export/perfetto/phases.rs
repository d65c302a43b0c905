//! Parts of time laid one after the other. Pure.

use crate::model::tick::{Phase, PhaseTimes};

/// What a track shows next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From this moment on, a part of time.
    Begin(u64, Phase),
    /// It ends at this moment.
    End(u64),
}

/// One vCPU's track of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    open: Option<(Phase, u64)>,
}

impl Phases {
    /// Lays the parts of an interval. The one that is open goes on first, if there is some of it; the others
    /// follow in the order of [`Phase::ALL`]. A vCPU that is new fills the end of the interval.
    pub fn lay(&mut self, begin_ns: u64, end_ns: u64, time: &PhaseTimes) -> Vec<Change> {
        let mut changes = Vec::new();
        let goes_on = self.open.is_some_and(|(_, until_ns)| until_ns == begin_ns);
        if !goes_on {
            changes.extend(self.close());
        }
        let is_new = !goes_on;
        let mut at_ns =
            if is_new { end_ns.saturating_sub(time.sum()).max(begin_ns) } else { begin_ns };
        let first = self.open.map(|(phase, _)| phase);
        let others = Phase::ALL.into_iter().filter(|phase| Some(*phase) != first);
        for phase in first.into_iter().chain(others) {
            // Readings of two clocks may come to a little more than the interval.
            let until_ns = at_ns.saturating_add(time.get(phase)).min(end_ns);
            if until_ns <= at_ns {
                continue;
            }
            match &mut self.open {
                Some((open, open_until)) if *open == phase => *open_until = until_ns,
                _ => {
                    changes.extend(self.close());
                    changes.push(Change::Begin(at_ns, phase));
                    self.open = Some((phase, until_ns));
                }
            }
            at_ns = until_ns;
        }
        changes
    }

    /// Ends what is open.
    pub fn close(&mut self) -> Option<Change> {
        self.open.take().map(|(_, until_ns)| Change::End(until_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Change::{Begin, End};
    use Phase::{Blocked, Guest, Kvm};
    use proptest::prelude::*;

    fn times(parts: &[(Phase, u64)]) -> PhaseTimes {
        let mut times = PhaseTimes::default();
        parts.iter().for_each(|&(phase, ns)| times.0[phase as usize] = ns);
        times
    }

    #[test]
    fn parts_follow_one_another_and_go_on() {
        let mut phases = Phases::default();
        let first = phases.lay(0, 100, &times(&[(Guest, 70), (Kvm, 30)]));
        assert_eq!(first, [Begin(0, Guest), End(70), Begin(70, Kvm)]);
        // What was open goes on, so that two ticks of the same are one piece.
        let second = phases.lay(100, 200, &times(&[(Guest, 60), (Kvm, 40)]));
        assert_eq!(second, [End(140), Begin(140, Guest)]);
        assert_eq!(phases.lay(200, 300, &times(&[(Guest, 100)])), []);
        assert_eq!(
            phases.lay(300, 400, &times(&[(Blocked, 100)])),
            [End(300), Begin(300, Blocked)]
        );
        // Nothing is known in between.
        assert_eq!(
            phases.lay(500, 600, &times(&[(Blocked, 100)])),
            [End(400), Begin(500, Blocked)]
        );
        assert_eq!((phases.close(), phases.close()), (Some(End(600)), None));
        // It came in the middle.
        assert_eq!(phases.lay(0, 100, &times(&[(Guest, 40)])), [Begin(60, Guest)]);
        assert_eq!(phases.lay(100, 200, &PhaseTimes::default()), []);
    }

    proptest! {
        /// Pieces do not overlap, and come to as much of each part as ticks told of.
        #[test]
        fn lengths_are_exact(ticks in prop::collection::vec(prop::array::uniform9(0u64..1_000), 1..20)) {
            let mut phases = Phases::default();
            let mut changes = Vec::new();
            let (mut begin_ns, mut told) = (0, PhaseTimes::default());
            for tick in ticks {
                let time = PhaseTimes(tick);
                let end_ns = begin_ns + time.sum();
                changes.extend(phases.lay(begin_ns, end_ns, &time));
                told.add(&time);
                begin_ns = end_ns;
            }
            changes.extend(phases.close());
            let mut shown = PhaseTimes::default();
            let mut last = 0;
            for pair in changes.chunks(2) {
                let [Begin(from, phase), End(until)] = pair else { panic!("{pair:?}") };
                prop_assert!(*from >= last && until > from);
                last = *until;
                shown.0[*phase as usize] += until - from;
            }
            prop_assert_eq!(shown, told);
        }
    }
}
