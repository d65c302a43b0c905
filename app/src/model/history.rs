//! The last minutes: a ring of encoded ticks, bounded in bytes and in time.
//!
//! A tick is named by its *place*, which counts from 0 in the order of arrival and never changes;
//! its `seq` is the source's own number, in which ticks may be missing. Such gaps are kept
//! ([`Meta::missed`]), not closed.

use super::codec::{self, CodecError, Part};
use super::tick::{Lost, Tick};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What is known of a kept tick without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Meta {
    /// The source's number.
    pub seq: u64,
    /// End, ns of the probes' clock.
    pub end_ns: u64,
    /// Length, ns.
    pub dur_ns: u64,
    /// Ticks that are missing between the one before and this one.
    pub missed: u64,
    /// Everything lost from the start of the session to its end.
    pub lost: Lost,
    /// Ticks missing from the start of the session to it.
    pub lost_ticks: u64,
    /// The probes' cost as sampled last up to it: run time (ns), runs, length of that tick (ns).
    pub probes: Option<(u64, u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    meta: Meta,
    /// Shared, so that a copy of the history costs little.
    bytes: Arc<[u8]>,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}

/// The kept ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    entries: VecDeque<Entry>,
    first: u64,
    bytes: usize,
    max_bytes: usize,
    max_age_ns: u64,
    latest: Meta,
    scratch: Vec<u8>,
}

impl History {
    /// Keeps at most `max_bytes` (but always the latest tick) and nothing that ended more than
    /// `max_age` before the latest.
    pub fn new(max_bytes: usize, max_age: Duration) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            bytes: 0,
            max_bytes,
            max_age_ns: u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX),
            latest: Meta::default(),
            scratch: Vec::new(),
        }
    }

    /// As [`Self::new`], going on from a tick that is not kept itself. Places begin with `first`.
    pub fn after(self, latest: Meta, first: u64) -> Self {
        Self { latest, first, ..self }
    }

    /// Adds the latest tick and drops the oldest ones that are too much. Answers its place.
    pub fn push(&mut self, tick: &Tick) -> Result<u64, CodecError> {
        self.scratch.clear();
        codec::encode(tick, &mut self.scratch)?;
        let meta = self.follow(tick);
        let entry = Entry { meta, bytes: self.scratch.as_slice().into() };
        self.bytes += entry.size();
        self.entries.push_back(entry);
        self.latest = meta;
        self.evict();
        Ok(self.first + self.entries.len() as u64 - 1)
    }

    /// What is known of a tick that follows the latest.
    fn follow(&self, tick: &Tick) -> Meta {
        let before = self.latest;
        // Nothing is missing before the first, nor when a source begins anew and counts from 1.
        let missed = match before.seq {
            0 => 0,
            seq => tick.seq.saturating_sub(seq.saturating_add(1)),
        };
        let mut lost = before.lost;
        lost.add(&tick.lost);
        let sampled = tick.host.probes.map(|(run_ns, runs)| (run_ns, runs, tick.dur_ns));
        Meta {
            seq: tick.seq,
            end_ns: tick.end_ns,
            dur_ns: tick.dur_ns,
            missed,
            lost,
            lost_ticks: before.lost_ticks.saturating_add(missed),
            probes: sampled.or(before.probes),
        }
    }

    fn evict(&mut self) {
        let oldest_ns = self.latest.end_ns.saturating_sub(self.max_age_ns);
        while self.entries.len() > 1 {
            let Some(front) = self.entries.front() else { return };
            if self.bytes <= self.max_bytes && front.meta.end_ns >= oldest_ns {
                return;
            }
            self.bytes -= front.size();
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// Places of the kept ticks: from the oldest to one past the latest.
    pub fn places(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.entries.len() as u64
    }

    /// Number of kept ticks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the kept ticks take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is known of the tick at a place, if it is kept.
    pub fn meta(&self, place: u64) -> Option<&Meta> {
        self.entry(place).map(|entry| &entry.meta)
    }

    /// The tick at a place; `None` when it is not kept.
    pub fn get(&self, place: u64) -> Option<Result<Tick, CodecError>> {
        self.entry(place).map(|entry| codec::decode(&entry.bytes))
    }

    /// A part of the tick at a place; `None` when it is not kept.
    pub fn part(&self, place: u64, part: Part) -> Option<Result<Tick, CodecError>> {
        self.entry(place).map(|entry| codec::decode_part(&entry.bytes, part))
    }

    fn entry(&self, place: u64) -> Option<&Entry> {
        let at = usize::try_from(place.checked_sub(self.first)?).ok()?;
        self.entries.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::sample_tick;

    fn tick(seq: u64) -> Tick {
        Tick { seq, end_ns: seq * 1_000_000_000, ..sample_tick() }
    }

    #[test]
    fn what_is_kept_is_found_by_its_place() {
        let mut history = History::new(1 << 20, Duration::from_secs(60));
        for seq in 1..=5 {
            assert_eq!(history.push(&tick(seq)), Ok(seq - 1));
        }
        assert_eq!(history.places(), 0..5);
        assert_eq!(history.get(2), Some(Ok(tick(3))));
        assert_eq!(history.get(5), None);
        assert_eq!(history.meta(4).map(|meta| meta.lost.pool_full), Some(10));
    }

    #[test]
    fn gaps_are_kept() {
        let mut history = History::new(1 << 20, Duration::from_secs(60));
        for seq in [1, 2, 5] {
            history.push(&tick(seq)).unwrap();
        }
        assert_eq!(history.meta(2).map(|meta| (meta.missed, meta.lost_ticks)), Some((2, 2)));
        assert_eq!(history.meta(1).map(|meta| meta.missed), Some(0));
    }

    #[test]
    fn the_oldest_leave_by_age() {
        let mut history = History::new(1 << 20, Duration::from_secs(10));
        for seq in 1..=30 {
            history.push(&tick(seq)).unwrap();
        }
        assert_eq!(history.places(), 19..30);
        assert_eq!(history.meta(19).map(|meta| meta.seq), Some(20));
        assert_eq!(history.meta(18), None);
    }

    #[test]
    fn the_oldest_leave_by_size() {
        let mut history = History::new(2000, Duration::from_secs(1000));
        for seq in 1..=100 {
            history.push(&tick(seq)).unwrap();
            assert!(history.bytes() <= 2000);
        }
        assert!(history.len() > 1);
        assert_eq!(history.places().end, 100);
        let kept: usize = history.entries.iter().map(Entry::size).sum();
        assert_eq!(history.bytes(), kept);
    }

    #[test]
    fn the_latest_is_always_kept() {
        let mut history = History::new(10, Duration::ZERO);
        history.push(&tick(1)).unwrap();
        history.push(&tick(2)).unwrap();
        assert_eq!(history.get(1), Some(Ok(tick(2))));
        assert_eq!(history.len(), 1);
    }
}
