//! How fast a recording is played.

use std::fmt;

/// Tenths of real time, in the order of the keys.
const STEPS: [u32; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// A speed, from 0.1 to 100 times real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Speed {
    tenths: u32,
}

impl Default for Speed {
    fn default() -> Self {
        Self { tenths: 10 }
    }
}

impl Speed {
    /// From a number of times real time; `None` outside of 0.1 to 100.
    pub fn new(times: f64) -> Option<Self> {
        let tenths = (times * 10.0).round();
        (1.0..=1000.0).contains(&tenths).then_some(Self { tenths: tenths as u32 })
    }

    /// The next faster step; itself at the fastest.
    pub fn faster(self) -> Self {
        let next = STEPS.into_iter().find(|&tenths| tenths > self.tenths);
        Self { tenths: next.unwrap_or(self.tenths) }
    }

    /// The next slower step; itself at the slowest.
    pub fn slower(self) -> Self {
        let next = STEPS.into_iter().rev().find(|&tenths| tenths < self.tenths);
        Self { tenths: next.unwrap_or(self.tenths) }
    }

    /// How much of the recording (ns) is played in so much time (ns).
    pub fn recorded(self, real_ns: u64) -> u64 {
        let ns = u128::from(real_ns) * u128::from(self.tenths) / 10;
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// How long (ns) playing so much of the recording (ns) takes.
    pub fn real(self, recorded_ns: u64) -> u64 {
        let ns = u128::from(recorded_ns) * 10 / u128::from(self.tenths.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Speed {
    /// "0.5x", "20x".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenths % 10 {
            0 => write!(f, "{}x", self.tenths / 10),
            part => write!(f, "{}.{part}x", self.tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_go_from_a_tenth_to_a_hundred_and_stop_there() {
        let mut speed = Speed::default();
        let mut seen = vec![speed.to_string()];
        for _ in 0..8 {
            speed = speed.faster();
            seen.push(speed.to_string());
        }
        assert_eq!(seen, ["1x", "2x", "5x", "10x", "20x", "50x", "100x", "100x", "100x"]);
        let slowest = (0..20).fold(speed, |speed, _| speed.slower());
        assert_eq!(slowest.to_string(), "0.1x");
        assert_eq!(Speed::new(0.1), Some(slowest));
        assert_eq!(Speed::new(1.5).map(|speed| speed.faster().to_string()), Some("2x".to_owned()));
        assert_eq!([0.0, 0.04, 101.0, f64::NAN, -1.0].map(Speed::new), [None; 5]);
    }

    #[test]
    fn time_is_stretched() {
        let fast = Speed::new(100.0).expect("a speed");
        assert_eq!((fast.recorded(5), fast.real(1_000)), (500, 10));
        assert_eq!(Speed::default().slower().real(1_000), 2_000);
        assert_eq!(fast.recorded(u64::MAX), u64::MAX);
    }
}
