//! Makes the heat map that is shown.

use super::baseline::{Against, factor};
use super::columns::Columns;
use super::heat::{Cell, Colour, HeatColumn, HeatMap, HeatRow};
use super::load::{per_second, ratio};
use super::nav::{ColumnId, RowId, Who};
use super::now::{Now, Sums};
use crate::model::hist::sparse_quantile;
use crate::model::ids::{Kind, Reason};
use crate::model::stats::Sum;
use crate::model::tick::CellTick;

/// What a heat map is made of, apart from the rows.
pub(super) struct Maker<'a> {
    pub now: Now<'a>,
    pub columns: &'a Columns,
    pub colour: Colour,
    /// What it is compared with where colour means change.
    pub against: Against<'a>,
}

/// One reason of a row.
enum Entry<'a> {
    Cell(&'a CellTick),
    Sum(&'a Sum),
}

impl Entry<'_> {
    fn count(&self) -> u64 {
        match self {
            Self::Cell(cell) => cell.count,
            Self::Sum(sum) => sum.count,
        }
    }

    fn total_ns(&self) -> u64 {
        match self {
            Self::Cell(cell) => cell.total_ns,
            Self::Sum(sum) => sum.total_ns,
        }
    }

    fn p99(&self) -> Option<u64> {
        match self {
            Self::Cell(cell) => sparse_quantile(&cell.hist, 0.99, cell.min_ns, cell.max_ns),
            Self::Sum(sum) => sum.quantile(0.99),
        }
    }

    fn add_to(&self, into: &mut Sum) {
        match self {
            Self::Cell(cell) => into.add(cell),
            Self::Sum(sum) => into.merge(sum),
        }
    }
}

impl Maker<'_> {
    /// The columns.
    fn heads(&self) -> Vec<HeatColumn> {
        let named = self.columns.order().iter().map(|&reason| HeatColumn {
            id: ColumnId::Reason(reason),
            title: self.now.session.names.name(reason).into_owned(),
            idle: reason.is_idle(),
            userspace: reason.kind == Kind::Userspace,
        });
        let other = HeatColumn {
            id: ColumnId::Other,
            title: "other".to_owned(),
            idle: false,
            userspace: false,
        };
        named.chain(self.columns.has_other().then_some(other)).collect()
    }

    /// The map of these rows: identity, name, whether gone.
    pub fn map(&self, rows: impl Iterator<Item = (RowId, String, bool)>) -> HeatMap {
        let columns = self.heads();
        let rows = rows
            .map(|(id, label, gone)| HeatRow { id, label, gone, cells: self.cells(id, &columns) })
            .collect();
        HeatMap { colour: self.colour, columns, rows, cursor: None }
    }

    fn cells(&self, row: RowId, columns: &[HeatColumn]) -> Vec<Cell> {
        match row {
            RowId::Vm(vm) | RowId::All(vm) => {
                let Sums { reasons, dur_ns, wall_ns, .. } = self.now.sums(Who::Vm(vm));
                let entries = reasons.iter().map(|(&reason, sum)| (reason, Entry::Sum(sum)));
                self.fill(row, columns, entries, dur_ns, wall_ns)
            }
            RowId::Vcpu(key) => {
                let seen = self.now.of(Who::Vcpu(key));
                let Some(seen) = seen.first() else { return vec![Cell::default(); columns.len()] };
                let cells = seen.measured.iter().flat_map(|measured| &measured.cells);
                let entries = cells.map(|cell| (cell.reason, Entry::Cell(cell)));
                self.fill(row, columns, entries, seen.dur_ns, seen.wall_ns)
            }
            RowId::Reason(_) | RowId::Key(_) => Vec::new(),
        }
    }

    fn fill<'b>(
        &self,
        row: RowId,
        columns: &[HeatColumn],
        entries: impl Iterator<Item = (Reason, Entry<'b>)>,
        dur_ns: u64,
        wall_ns: u64,
    ) -> Vec<Cell> {
        let order = self.columns.order();
        let mut cells = vec![None; columns.len()];
        let mut other = Sum::default();
        for (reason, entry) in entries {
            match order.iter().position(|&column| column == reason) {
                Some(at) => {
                    let base = self.base(row, reason);
                    if let Some(cell) = cells.get_mut(at) {
                        *cell = Some(self.cell(&entry, dur_ns, wall_ns, base));
                    }
                }
                None => entry.add_to(&mut other),
            }
        }
        // What did not happen now may have happened in the minute before: that is a change too.
        let absent = Entry::Sum(&Sum::default());
        let finish = |(at, cell): (usize, Option<Cell>)| match (cell, order.get(at)) {
            (Some(cell), _) => cell,
            (None, Some(&reason)) => self.cell(&absent, dur_ns, wall_ns, self.base(row, reason)),
            (None, None) => self.cell(&Entry::Sum(&other), dur_ns, wall_ns, self.other_base(row)),
        };
        cells.into_iter().enumerate().map(finish).collect()
    }

    fn base(&self, row: RowId, reason: Reason) -> Option<f64> {
        if self.colour == Colour::Change { self.against.rate(row, reason) } else { None }
    }

    fn other_base(&self, row: RowId) -> Option<f64> {
        let rates = self.columns.without().map(|reason| self.base(row, reason));
        rates.fold(None, |sum, rate| rate.map(|rate| rate + sum.unwrap_or(0.0)).or(sum))
    }

    fn cell(&self, entry: &Entry<'_>, dur_ns: u64, wall_ns: u64, base: Option<f64>) -> Cell {
        let rate = per_second(entry.count(), dur_ns);
        let value = match self.colour {
            Colour::Rate => (entry.count() > 0).then_some(rate),
            Colour::TimeShare => (entry.total_ns() > 0).then(|| ratio(entry.total_ns(), wall_ns)),
            Colour::P99 => entry.p99().map(|ns| ns as f64),
            Colour::Change => base.and_then(|base| factor(rate, base)),
        };
        let level = value.map_or(0.0, |value| self.colour.level(value));
        Cell { value, rate, level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_ascend_over_the_steps() {
        for colour in [Colour::Rate, Colour::TimeShare, Colour::P99] {
            let levels: Vec<_> = colour.steps().iter().map(|&step| colour.level(step)).collect();
            assert!(levels.windows(2).all(|pair| pair[0] < pair[1]), "{colour:?}: {levels:?}");
            assert_eq!(levels.last(), Some(&1.0));
            assert_eq!(colour.level(0.0), 0.0);
            assert!(colour.level(f64::MIN_POSITIVE) > 0.0, "something is not nothing");
        }
    }
}
