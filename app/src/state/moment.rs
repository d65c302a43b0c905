//! Which moment is shown: the kept ticks, and the one that is displayed.

use super::header::Position;
use crate::model::codec::Part;
use crate::model::history::{History, Meta};
use crate::model::session::Session;
use crate::model::tick::Tick;
use std::ops::Range;
use std::time::Duration;

/// The kept ticks and the displayed one.
#[derive(Debug)]
pub(super) struct Moments {
    history: History,
    shown: Option<Shown>,
    live: bool,
}

/// The displayed tick, decoded.
#[derive(Debug)]
pub(super) struct Shown {
    pub place: u64,
    pub tick: Tick,
}

impl Moments {
    pub fn new(max_bytes: usize, max_age: Duration) -> Self {
        Self { history: History::new(max_bytes, max_age), shown: None, live: true }
    }

    /// As [`Self::new`], going on from a tick that is not kept itself. Places begin with `first`.
    pub fn after(max: (usize, Duration), latest: Meta, first: u64) -> Self {
        let history = History::new(max.0, max.1).after(latest, first);
        Self { history, shown: None, live: true }
    }

    /// The kept ticks.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Shows the tick that ends at a moment, if it is kept, and stays there.
    pub fn show_end(&mut self, end_ns: u64) {
        let mut places = self.history.places().rev();
        let here = |place: &u64| self.meta(*place).is_some_and(|meta| meta.end_ns == end_ns);
        if let Some(place) = places.find(here) {
            self.live = false;
            self.show(place);
        }
    }

    /// Begin of the oldest kept tick, ns of the probes' clock; 0 where none is kept.
    pub fn oldest_begin_ns(&self) -> u64 {
        self.meta(self.oldest()).map_or(0, |meta| meta.end_ns.saturating_sub(meta.dur_ns))
    }

    /// End of the latest tick, ns of the probes' clock; 0 where none is kept.
    pub fn latest_ns(&self) -> u64 {
        self.meta(self.history.places().end.saturating_sub(1)).map_or(0, |meta| meta.end_ns)
    }

    pub fn shown(&self) -> Option<&Shown> {
        self.shown.as_ref()
    }

    pub fn live(&self) -> bool {
        self.live
    }

    /// Adds the latest tick; shows it unless the person has stopped at another one. A displayed
    /// tick that is not kept any more gives way to the oldest kept one, because all that is shown
    /// beside it has left with it. Answers the tick's place.
    pub fn push(&mut self, tick: Tick) -> Option<u64> {
        // Encoding fails for no tick that there can be; one that it did fail for would be a gap.
        let place = self.history.push(&tick).ok()?;
        let oldest = self.history.places().start;
        match &self.shown {
            Some(shown) if !self.live => {
                if shown.place < oldest {
                    self.show(oldest);
                }
            }
            _ => self.shown = Some(Shown { place, tick }),
        }
        Some(place)
    }

    /// The place of the next tick that is pushed.
    pub fn next_place(&self) -> u64 {
        self.history.places().end
    }

    /// The oldest kept place.
    pub fn oldest(&self) -> u64 {
        self.history.places().start
    }

    /// End of the oldest kept tick, ns of the probes' clock.
    pub fn oldest_ns(&self) -> u64 {
        self.meta(self.oldest()).map_or(0, |meta| meta.end_ns)
    }

    fn show(&mut self, place: u64) {
        if self.shown.as_ref().is_some_and(|shown| shown.place == place) {
            return;
        }
        if let Some(Ok(tick)) = self.history.get(place) {
            self.shown = Some(Shown { place, tick });
        }
    }

    /// Stops at the displayed tick.
    pub fn freeze(&mut self) {
        self.live = false;
    }

    /// Shows the latest tick and follows.
    pub fn go_live(&mut self) {
        self.live = true;
        if !self.history.is_empty() {
            self.show(self.history.places().end - 1);
        }
    }

    /// Stops at the tick this many places from the displayed one, or at the end of what is kept.
    pub fn step(&mut self, by: i64) {
        self.live = false;
        let Some(shown) = &self.shown else { return };
        let places = self.history.places();
        let place = shown.place.saturating_add_signed(by);
        self.show(place.clamp(places.start, places.end.saturating_sub(1)));
    }

    pub fn meta(&self, place: u64) -> Option<&Meta> {
        self.history.meta(place)
    }

    /// What is known of the displayed tick.
    pub fn shown_meta(&self) -> Option<&Meta> {
        self.meta(self.shown.as_ref()?.place)
    }

    /// A part of a kept tick; `None` when it is not kept (or cannot be read, which is a gap).
    pub fn part(&self, place: u64, part: Part) -> Option<Tick> {
        self.history.part(place, part)?.ok()
    }

    /// Places of the displayed tick and of those before it, at most this many.
    pub fn window(&self, ticks: usize) -> Range<u64> {
        let Some(shown) = &self.shown else { return 0..0 };
        let end = shown.place + 1;
        end.saturating_sub(ticks as u64).max(self.oldest())..end
    }

    /// Places of the ticks that lie in the time before the displayed one.
    pub fn before(&self, time: Duration) -> Range<u64> {
        let Some(shown) = &self.shown else { return 0..0 };
        let begin = shown.tick.end_ns.saturating_sub(shown.tick.dur_ns);
        let from_ns = begin.saturating_sub(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let mut first = shown.place;
        while first > self.oldest()
            && self.meta(first - 1).is_some_and(|meta| meta.end_ns > from_ns)
        {
            first -= 1;
        }
        first..shown.place
    }

    pub fn position(&self, session: &Session, window: usize) -> Position {
        let (Some(shown), places) = (&self.shown, self.history.places()) else {
            return Position { live: self.live, ..Position::default() };
        };
        let begin = |place| self.meta(place).map_or(0, |m| m.end_ns.saturating_sub(m.dur_ns));
        let end_ns = shown.tick.end_ns;
        let latest_ns = self.meta(places.end.saturating_sub(1)).map_or(end_ns, |m| m.end_ns);
        Position {
            live: self.live,
            seq: shown.tick.seq,
            end_unix_ns: session.unix_ns(end_ns),
            dur_ns: shown.tick.dur_ns,
            ahead: (places.end.saturating_sub(shown.place + 1)) as usize,
            behind: shown.place.saturating_sub(places.start) as usize,
            age_ns: latest_ns.saturating_sub(end_ns),
            window_ns: end_ns.saturating_sub(begin(self.window(window).start)),
            kept_ns: latest_ns.saturating_sub(begin(places.start)),
        }
    }
}
