//! When to draw: only what changed, soon after a key, else at most ten times a second.

use std::time::{Duration, Instant};

/// Between two drawings that nobody asked for.
const CALM: Duration = Duration::from_millis(100);
/// Between two drawings in any case: a held key repeats thirty times a second, a flood of events
/// must not.
const QUICK: Duration = Duration::from_millis(15);

/// Keeps the pace. Time is an argument.
#[derive(Debug, Default)]
pub struct Pace {
    drawn: Option<Instant>,
    changed: bool,
    asked: bool,
}

impl Pace {
    /// Something changed.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// The person did something and waits to see it.
    pub fn asked(&mut self) {
        self.changed = true;
        self.asked = true;
    }

    /// How long to wait before drawing; `None` when there is nothing to draw.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        if !self.changed {
            return None;
        }
        let Some(drawn) = self.drawn else { return Some(Duration::ZERO) };
        let due = drawn + if self.asked { QUICK } else { CALM };
        Some(due.saturating_duration_since(now))
    }

    /// It has been drawn.
    pub fn drawn(&mut self, now: Instant) {
        *self = Self { drawn: Some(now), changed: false, asked: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changed_nothing_drawn() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.wait(now), None);
        pace.changed();
        assert_eq!(pace.wait(now), Some(Duration::ZERO));
        pace.drawn(now);
        assert_eq!(pace.wait(now + Duration::from_secs(9)), None);
    }

    #[test]
    fn a_key_is_answered_sooner_than_a_tick() {
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.drawn(now);
        pace.changed();
        assert_eq!(pace.wait(now), Some(CALM));
        assert_eq!(pace.wait(now + CALM / 2), Some(CALM / 2));
        pace.asked();
        assert_eq!(pace.wait(now), Some(QUICK));
        assert_eq!(pace.wait(now + CALM), Some(Duration::ZERO));
    }
}
