//! Single events of a whole session: some of each kind, and how many more there were.

use crate::model::event::{Event, EventKind, LeftOut};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Events kept of each kind.
pub const MAX_EVENTS: usize = 100;

/// Of each kind at most [`MAX_EVENTS`]: of kinds that take time the slowest, of others the last.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Events {
    kinds: BTreeMap<EventKind, Kept>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Kept {
    events: Vec<Event>,
    left_out: u64,
}

/// Whether the slowest are kept rather than the last.
pub fn by_time(kind: EventKind) -> bool {
    matches!(kind, EventKind::Fault | EventKind::Mmio | EventKind::Ioctl)
}

impl Events {
    /// Adds a tick's, which are in the order in which they happened.
    pub(super) fn add(&mut self, events: &[Event], left_out: &[LeftOut]) {
        for event in events {
            self.kinds.entry(event.kind).or_default().events.push(*event);
        }
        for (&kind, kept) in &mut self.kinds {
            kept.shrink(kind);
        }
        for LeftOut { kind, count } in left_out {
            let kept = self.kinds.entry(*kind).or_default();
            kept.left_out = kept.left_out.saturating_add(*count);
        }
    }

    /// Those that are kept, in the order in which they happened.
    pub fn in_order(&self) -> Vec<&Event> {
        let mut all: Vec<&Event> = self.kinds.values().flat_map(|kept| &kept.events).collect();
        // Stable: of one moment those of a kind stay together.
        all.sort_by_key(|event| event.at_ns);
        all
    }

    /// Those of a kind: the slowest first, or the last first.
    pub fn of(&self, kind: EventKind) -> &[Event] {
        self.kinds.get(&kind).map_or(&[], |kept| &kept.events)
    }

    /// How many of each kind there were beyond those that are kept; kinds without any are absent.
    pub fn left_out(&self) -> impl Iterator<Item = LeftOut> + '_ {
        let all = self.kinds.iter().map(|(&kind, kept)| LeftOut { kind, count: kept.left_out });
        all.filter(|left| left.count > 0)
    }

    /// By kind those that are kept, and how many more there were.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (EventKind, &[Event], u64)> {
        self.kinds.iter().map(|(&kind, kept)| (kind, &kept.events[..], kept.left_out))
    }

    /// Of [`Self::kept`].
    pub(crate) fn of_kept(kinds: Vec<(EventKind, Vec<Event>, u64)>) -> Self {
        let kinds = kinds.into_iter();
        Self {
            kinds: kinds
                .map(|(kind, events, left_out)| (kind, Kept { events, left_out }))
                .collect(),
        }
    }

    /// Forgets events that are not wanted, without counting them as left out.
    pub fn retain(&mut self, wanted: impl Fn(&Event) -> bool) {
        for kept in self.kinds.values_mut() {
            kept.events.retain(&wanted);
        }
    }
}

impl Kept {
    fn shrink(&mut self, kind: EventKind) {
        // Of equals the later.
        self.events.sort_by_key(|event| {
            (Reverse(if by_time(kind) { event.wall_ns() } else { 0 }), Reverse(event.at_ns))
        });
        let over = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.truncate(MAX_EVENTS);
        self.left_out = self.left_out.saturating_add(over as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, at_ns: u64, handling_ns: u64) -> Event {
        Event { kind, at_ns, handling_ns, ..Event::default() }
    }

    #[test]
    fn the_slowest_faults_and_the_last_hypercalls_stay() {
        let mut events = Events::default();
        for tick in 0..4 {
            let of = |kind| (0..50).map(move |n| event(kind, tick * 50 + n, (n * 7) % 50 + 1));
            let all: Vec<Event> = of(EventKind::Fault).chain(of(EventKind::Hypercall)).collect();
            events.add(&all, &[LeftOut { kind: EventKind::Fault, count: 3 }]);
        }
        let faults = events.of(EventKind::Fault);
        assert_eq!(faults.len(), MAX_EVENTS);
        assert_eq!((faults[0].handling_ns, faults[MAX_EVENTS - 1].handling_ns), (50, 26));
        assert!(faults.is_sorted_by_key(|event| Reverse(event.handling_ns)));
        let calls = events.of(EventKind::Hypercall);
        assert_eq!((calls[0].at_ns, calls[MAX_EVENTS - 1].at_ns), (199, 100));
        let left: Vec<_> = events.left_out().map(|left| (left.kind, left.count)).collect();
        assert_eq!(left, [(EventKind::Fault, 112), (EventKind::Hypercall, 100)]);
        assert!(events.in_order().is_sorted_by_key(|event| event.at_ns));
        assert_eq!(events.in_order().len(), 2 * MAX_EVENTS);
    }

    #[test]
    fn of_events_without_a_time_the_last_stay() {
        let mut events = Events::default();
        let all: Vec<Event> = (0..150).map(|at| event(EventKind::Mmio, at, 0)).collect();
        events.add(&all, &[]);
        assert_eq!(events.of(EventKind::Mmio).last().map(|event| event.at_ns), Some(50));
        events.retain(|event| event.at_ns == 149);
        assert_eq!(events.of(EventKind::Mmio).len(), 1);
        assert_eq!(events.left_out().map(|left| left.count).sum::<u64>(), 50);
    }
}
