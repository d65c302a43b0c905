//! One reason, of one vCPU or of all of a VM: its numbers now, over the window, and over time.

use super::keys::TopKey;
use super::nav::Who;
use super::rows::ReasonRow;
use kvmscope_shared::hist::BUCKETS;

/// What the cursor's cell or the reason scope is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// Whose.
    pub who: Who,
    /// "vCPU 3 of web-7", or "all vCPUs of web-7".
    pub label: String,
    /// Its numbers.
    pub row: ReasonRow,
    /// What most of its exits are about, in the displayed tick, most first.
    pub top: Vec<TopKey>,
    /// Handling times of the window, by bucket of [`kvmscope_shared::hist`].
    pub hist: Box<[u64; BUCKETS]>,
    /// The window, oldest first: one point per tick.
    pub points: Vec<Point>,
}

/// One tick of a [`Detail`].
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Point {
    /// End of the tick, ns since the Unix epoch.
    pub end_unix_ns: u64,
    /// Its length, ns.
    pub dur_ns: u64,
    /// Ticks that are missing before it.
    pub missed: u64,
    /// Exits per second.
    pub rate: f64,
    /// 99th percentile, ns.
    pub p99_ns: Option<u64>,
    /// The latency heat map's column: (bucket, exits), ascending, no zeros.
    pub hist: Vec<(u8, u32)>,
}

/// A row's sparklines over the window, oldest first, one value per tick; shorter while the window
/// is not full yet. A tick in which the row did not exist is 0.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Series {
    /// Exits per second.
    pub rate: Vec<f32>,
    /// 99th percentile of the handling time (as in [`super::rows::Load`]), ns; 0 where none ended.
    pub p99: Vec<f32>,
}
