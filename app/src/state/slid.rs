//! What is read from each of the last ticks: read once, kept while the same is looked at, and slid along with
//! time.

use std::collections::VecDeque;
use std::ops::Range;

/// What was read of a target, tick by tick.
#[derive(Debug)]
pub struct Slid<T, S> {
    target: Option<T>,
    first: u64,
    slices: VecDeque<S>,
}

impl<T, S> Default for Slid<T, S> {
    fn default() -> Self {
        Self { target: None, first: 0, slices: VecDeque::new() }
    }
}

impl<T: PartialEq, S> Slid<T, S> {
    /// Reads what these places have of a target, as far as it is not read already. Whether there is any
    /// change.
    pub fn look(&mut self, target: T, places: Range<u64>, read: impl Fn(u64) -> S) -> bool {
        let end = self.first + self.slices.len() as u64;
        let goes_on =
            self.target.as_ref() == Some(&target) && places.start < end && self.first < places.end;
        if goes_on && (self.first, end) == (places.start, places.end) {
            return false;
        }
        if !goes_on {
            *self = Self { target: Some(target), first: places.start, ..Self::default() };
        }
        while self.first < places.start && self.slices.pop_front().is_some() {
            self.first += 1;
        }
        // Back in time the newest leave, and older ones come.
        let most = usize::try_from(places.end.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.slices.truncate(most);
        for place in (places.start..self.first).rev() {
            self.slices.push_front(read(place));
            self.first = place;
        }
        for place in self.first + self.slices.len() as u64..places.end {
            self.slices.push_back(read(place));
        }
        true
    }

    /// All of it, oldest first.
    pub fn slices(&self) -> impl Iterator<Item = &S> {
        self.slices.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    #[test]
    fn what_is_read_already_is_not_read_again() {
        let mut slid = Slid::default();
        let read = RefCell::new(Vec::new());
        let mut look = |target, places| {
            read.borrow_mut().clear();
            let changed = slid.look(target, places, |place| read.borrow_mut().push(place));
            (changed, read.borrow().clone())
        };
        assert_eq!(look('a', 3..6), (true, vec![3, 4, 5]));
        assert_eq!(look('a', 3..6), (false, vec![]));
        assert_eq!(look('a', 5..8), (true, vec![6, 7]));
        assert_eq!(look('a', 4..7), (true, vec![4]));
        assert_eq!(look('b', 4..7), (true, vec![4, 5, 6]));
        assert_eq!(look('b', 9..11), (true, vec![9, 10]));
    }

    proptest! {
        #[test]
        fn it_has_what_it_was_asked_for(
            asked in prop::collection::vec((0u8..2, 0u64..20, 0u64..8), 1..20),
        ) {
            let mut slid = Slid::default();
            for (target, start, len) in asked {
                slid.look(target, start..start + len, |place| (target, place));
                let expected: Vec<_> = (start..start + len).map(|place| (target, place)).collect();
                prop_assert_eq!(slid.slices().copied().collect::<Vec<_>>(), expected);
            }
        }
    }
}
