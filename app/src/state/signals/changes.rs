//! A number of each of some things over time: noted where it changes.

use std::collections::{BTreeMap, VecDeque};

/// From which tick on (by place) each had which number; the latest `KEPT` of each, the oldest leave first.
#[derive(Debug)]
pub struct Changes<K, const KEPT: usize> {
    of: BTreeMap<K, VecDeque<(u64, u64)>>,
}

impl<K, const KEPT: usize> Default for Changes<K, KEPT> {
    fn default() -> Self {
        Self { of: BTreeMap::new() }
    }
}

impl<K: Ord, const KEPT: usize> Changes<K, KEPT> {
    /// Adds what the tick at `place` told. Forgets what was before `oldest`, but for the last of it, which
    /// holds on.
    pub fn push(&mut self, key: K, (place, oldest): (u64, u64), value: u64) {
        let changes = self.of.entry(key).or_default();
        if changes.back().is_none_or(|&(_, known)| known != value) {
            changes.push_back((place, value));
        }
        while changes.len() > KEPT || changes.get(1).is_some_and(|&(at, _)| at <= oldest) {
            changes.pop_front();
        }
    }

    /// Forgets those that are not kept.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.of.retain(|key, _| keep(key));
    }

    /// What one had at a place; `None` where that was not known yet.
    pub fn at(&self, key: &K, place: u64) -> Option<u64> {
        let changes = self.of.get(key)?;
        changes.iter().rev().find(|(at, _)| *at <= place).map(|&(_, value)| value)
    }

    /// The changes of each of a range, oldest first.
    pub fn range(
        &self,
        keys: std::ops::Range<K>,
    ) -> impl Iterator<Item = impl Iterator<Item = (u64, u64)>> {
        self.of.range(keys).map(|(_, changes)| changes.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_holds() {
        let mut changes: Changes<u32, 4> = Changes::default();
        changes.push(1, (2, 0), 4);
        changes.push(1, (3, 0), 4);
        changes.push(1, (5, 0), 0);
        let at = |place| changes.at(&1, place);
        assert_eq!([at(1), at(2), at(4), at(5), at(9)], [None, Some(4), Some(4), Some(0), Some(0)]);
        assert_eq!(changes.at(&2, 5), None);
        assert_eq!(changes.range(1..2).flatten().collect::<Vec<_>>(), [(2, 4), (5, 0)]);
    }

    #[test]
    fn the_oldest_leave_but_what_holds_on() {
        let mut changes: Changes<u32, 3> = Changes::default();
        for place in 1..=5 {
            changes.push(7, (place, 0), place);
        }
        assert_eq!(changes.range(7..8).flatten().collect::<Vec<_>>(), [(3, 3), (4, 4), (5, 5)]);
        changes.push(7, (9, 5), 5);
        assert_eq!(changes.range(7..8).flatten().collect::<Vec<_>>(), [(5, 5)]);
        changes.retain(|_| false);
        assert_eq!(changes.at(&7, 9), None);
    }
}
