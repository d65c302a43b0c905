//! Heat maps: rows × reasons.

use super::nav::{ColumnId, RowId};

/// What colour means in a heat map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub enum Colour {
    /// Exits per second.
    #[default]
    Rate,
    /// Handling time as a share of wall time.
    TimeShare,
    /// 99th percentile of the handling time.
    P99,
    /// Rate against the mean rate of the minute before the displayed tick, or against the baseline that the
    /// person took.
    Change,
}

impl Colour {
    /// Every meaning, in the order of the key that changes it.
    pub const ALL: [Self; 4] = [Self::Rate, Self::TimeShare, Self::P99, Self::Change];

    /// The meaning in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rate => "exits/s",
            Self::TimeShare => "share of time",
            Self::P99 => "p99",
            Self::Change => "against the minute before",
        }
    }

    /// The next meaning.
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|&colour| colour == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }

    /// The values that the legend shows, ascending: the steps of the scale, which never moves, so
    /// that a colour means the same on every host. In the unit of [`Cell::value`].
    pub fn steps(self) -> &'static [f64] {
        match self {
            Self::Rate => &[1.0, 10.0, 100.0, 1e3, 1e4, 1e5],
            Self::TimeShare => &[0.0001, 0.001, 0.01, 0.03, 0.1, 0.3],
            Self::P99 => &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8],
            Self::Change => &[0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0],
        }
    }

    /// How strong a value is: 0 (nothing) to 1 (the last step or more), logarithmic between the
    /// steps. For [`Self::Change`]: -1 (an eighth or less) over 0 (the same) to 1 (eight times).
    pub fn level(self, value: f64) -> f64 {
        if self == Self::Change {
            if value <= 0.0 {
                return -1.0;
            }
            return (value.log2() / 3.0).clamp(-1.0, 1.0);
        }
        let steps = self.steps();
        if value <= 0.0 {
            return 0.0;
        }
        let n = steps.len() as f64;
        let mut level = 1.0;
        for (i, &step) in steps.iter().enumerate() {
            if value < step {
                let below = if i == 0 { step / 10.0 } else { steps[i - 1] };
                let part = ((value / below).ln() / (step / below).ln()).clamp(0.0, 1.0);
                level = (i as f64 + part) / n;
                break;
            }
        }
        // Something that happened is never drawn as nothing.
        level.max(0.02)
    }
}

/// A heat map as it is drawn now.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HeatMap {
    /// What colour means.
    pub colour: Colour,
    /// Its columns from left to right; "other" is last where there is one.
    pub columns: Vec<HeatColumn>,
    /// Its rows in the order of the level's table.
    pub rows: Vec<HeatRow>,
    /// Row and column that the cursor is on; `None` when there is nothing.
    pub cursor: Option<(usize, usize)>,
}

/// A column of a heat map.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatColumn {
    /// Which.
    pub id: ColumnId,
    /// Its name.
    pub title: String,
    /// Whether it means that the guest was idle.
    pub idle: bool,
    /// Whether it is about userspace exits.
    pub userspace: bool,
}

/// A row of a heat map.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatRow {
    /// Which.
    pub id: RowId,
    /// Its name.
    pub label: String,
    /// Whether it is gone; its cells are those of its last tick.
    pub gone: bool,
    /// One cell for each column.
    pub cells: Vec<Cell>,
}

/// A cell of a heat map.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Cell {
    /// The colour's value: exits per second, share (0 to 1), ns, or a factor. `None` when there
    /// is none: nothing happened, nothing was timed.
    pub value: Option<f64>,
    /// Exits per second.
    pub rate: f64,
    /// How strong, see [`Colour::level`].
    pub level: f64,
}
