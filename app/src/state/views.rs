//! What the screen reads, made when it is first asked for and kept until something changes.

use super::activity::{Hot, Ioctls, Stacks};
use super::detail::Detail;
use super::fields::Row;
use super::header::Header;
use super::heat::HeatMap;
use super::keys::{KeyRow, RipRow, Told};
use super::nav::{Level, PANES, RowId, Sort};
use super::outliers::Outliers;
use super::probes::ProbeRow;
use super::rows::{ReasonRow, VcpuRow, VmRow};
use super::signals::SignalViews;
use super::time::TimeDetail;
use crate::findings::Finding;
use std::cell::OnceCell;
use std::cmp::Ordering;

/// The answers given since the last change.
#[derive(Debug, Default)]
pub(super) struct Views {
    pub header: OnceCell<Header>,
    pub vms: OnceCell<Table<VmRow>>,
    pub vcpus: OnceCell<Table<VcpuRow>>,
    pub reasons: OnceCell<Table<ReasonRow>>,
    pub heat: OnceCell<HeatMap>,
    pub detail: OnceCell<Option<Detail>>,
    pub findings: OnceCell<Vec<Finding>>,
    pub outliers: OnceCell<Outliers>,
    pub time: OnceCell<Option<TimeDetail>>,
    pub keys: OnceCell<Keys>,
    /// By pane.
    pub hot: [OnceCell<Hot>; PANES],
    pub ioctls: OnceCell<Ioctls>,
    pub stacks: OnceCell<Stacks>,
    pub probes: OnceCell<Vec<ProbeRow>>,
    pub signals: SignalViews,
}

/// What the reason scope shows beside its numbers.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub rows: Table<KeyRow>,
    pub rips: Vec<RipRow>,
    pub told: Vec<Told>,
    pub note: Option<String>,
}

/// The rows of a level as shown.
#[derive(Debug)]
pub(super) struct Table<R> {
    pub rows: Vec<R>,
    /// Rows that the filter hides.
    pub hidden: usize,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), hidden: 0 }
    }
}

impl<R: Row> Table<R> {
    /// Filters and sorts rows as a level says.
    pub fn new(mut rows: Vec<R>, level: &Level) -> Self {
        let all = rows.len();
        rows.retain(|row| level.filter.passes(row));
        let hidden = all - rows.len();
        Self { rows: sorted(rows, level.sort), hidden }
    }

    /// Where a row is.
    pub fn index(&self, id: RowId) -> Option<usize> {
        self.rows.iter().position(|row| row.id() == id)
    }
}

/// Sorted by a field, then by identity, so that rows that are alike stay where they are. Missing
/// values are at the end either way.
fn sorted<R: Row>(rows: Vec<R>, sort: Sort) -> Vec<R> {
    use super::value::Value;
    let Some(field) = R::FIELDS.iter().find(|field| field.key == sort.key) else { return rows };
    let mut keyed: Vec<(Value, R)> =
        rows.into_iter().map(|row| ((field.value)(&row), row)).collect();
    keyed.sort_by(|(a, row_a), (b, row_b)| {
        let order = match (a, b) {
            (Value::None, Value::None) => Ordering::Equal,
            (Value::None, _) => Ordering::Greater,
            (_, Value::None) => Ordering::Less,
            _ if sort.descending => b.order(a),
            _ => a.order(b),
        };
        order.then_with(|| row_a.id().cmp(&row_b.id()))
    });
    keyed.into_iter().map(|(_, row)| row).collect()
}
