//! What a recording, or a range of it, comes to.

use super::{End, Gap, Item, Mark};
use crate::model::{session::Session, totals::Totals};

/// Sums of ticks, with what else is to be said of them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sums {
    /// The session as it was said last.
    pub session: Session,
    /// Sums of the range alone, with everybody who was there at its begin.
    pub totals: Totals,
    /// Begin of it, ns of the probes' clock: the moment asked for, or the begin of the recording where that is
    /// later.
    pub from_ns: u64,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// Notes.
    pub marks: Vec<Mark>,
    /// How it ended; `None` while it has not.
    pub end: Option<End>,
    until_ns: u64,
    has_begun: bool,
}

impl Sums {
    /// Of ticks that end after a moment and not after another, ns of the probes' clock.
    pub fn new(from_ns: u64, until_ns: u64) -> Self {
        Self { from_ns, until_ns, ..Self::default() }
    }

    /// Adds the next thing. Whatever is not in the range is only looked at for who is there.
    pub fn add(&mut self, item: Item) {
        match item {
            Item::Session(session) => self.session = *session,
            Item::Key(key) if !self.has_begun => {
                self.has_begun = true;
                self.from_ns = self.from_ns.max(key.at_ns);
                self.totals = key.totals.who_is_there();
            }
            // After a gap: who came and went in it. Sums of what is missing are not taken from it, as a gap
            // is no data.
            Item::Key(key) => self.totals.meet(&key.totals),
            Item::Tick(tick) if tick.end_ns <= self.from_ns => {
                self.totals.apply(&tick);
                self.totals = self.totals.who_is_there();
            }
            Item::Tick(tick) if tick.end_ns <= self.until_ns => self.totals.apply(&tick),
            Item::Mark(mark) => {
                if mark.at_ns > self.from_ns && mark.at_ns <= self.until_ns {
                    self.marks.push(mark);
                }
            }
            Item::Gap(gap) => {
                if gap.until_ns > self.from_ns && gap.from_ns <= self.until_ns {
                    self.gaps.push(gap);
                }
            }
            Item::End(end) => self.end = Some(end),
            Item::Tick(_) => {}
        }
    }

    /// How long it is, ns.
    pub fn duration_ns(&self) -> u64 {
        self.totals.end_ns.saturating_sub(self.from_ns)
    }

    /// The session as if it had begun with the range, for what says when it was.
    pub fn session_of_range(&self) -> Session {
        let started_unix_ns = self.session.unix_ns(self.from_ns);
        Session { started_ns: self.from_ns, started_unix_ns, ..self.session.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::sample_tick;
    use crate::model::tick::Tick;
    use crate::record::Key;

    fn tick(seq: u64) -> Tick {
        Tick { seq, end_ns: seq * 100, dur_ns: 100, ..sample_tick() }
    }

    fn key(at_ns: u64, totals: &Totals) -> Item {
        Item::Key(Box::new(Key { at_ns, totals: totals.clone(), whole: true }))
    }

    #[test]
    fn a_range_has_its_own_ticks_and_who_was_there() {
        let mut before = Totals::default();
        before.apply(&tick(1));
        let mut sums = Sums::new(200, 400);
        sums.add(key(100, &before));
        for seq in 2..=6 {
            sums.add(Item::Tick(Box::new(tick(seq))));
        }
        before.apply(&tick(2));
        let mut expected = before.who_is_there();
        expected.apply(&tick(3));
        expected.apply(&tick(4));
        assert_eq!(sums.totals, expected);
        assert_eq!((sums.totals.ticks, sums.duration_ns()), (2, 200));
    }

    #[test]
    fn who_came_in_a_gap_is_known_after_it_and_its_numbers_are_not() {
        let mut all = Totals::default();
        let mut sums = Sums::new(0, u64::MAX);
        sums.add(key(0, &all));
        let quiet = Tick { life: Vec::new(), vcpus: Vec::new(), ..tick(1) };
        sums.add(Item::Tick(Box::new(quiet.clone())));
        all.apply(&quiet);
        all.apply(&tick(2));
        sums.add(Item::Gap(Gap { from_ns: 100, until_ns: 200, why: "damaged".into() }));
        sums.add(key(200, &all));
        let vm = &sums.totals.vms[&crate::model::ids::VmId(1)];
        assert_eq!(vm.info.name, "web-7");
        assert!(vm.vcpus[&0].cells.is_empty());
        assert_eq!((sums.totals.ticks, sums.gaps.len()), (1, 1));
    }
}
