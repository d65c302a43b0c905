//! The control page: what user space tells the probes while they run, and what they count as lost.

use crate::zeroed;

/// Most thread groups that `--pid` can name; the filter is looked at once per thread.
pub const MAX_FILTER: usize = 16;

/// One page shared with the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// The epoch that [`crate::cell::Extremes`] are kept for; user space counts it up each tick.
    pub epoch: u64,
    /// Slots claimed since the start; counts up, so that user space sees a new thread cheaply.
    pub claims: u64,
    /// Slots retired since the start.
    pub retires: u64,
    /// Exits of threads that found no free slot.
    pub slots_full: u64,
    /// Exits whose reason found no free cell.
    pub pool_full: u64,
    /// How many of `filter` count; 0 watches every VM.
    pub filters: u32,
    /// Thread groups to watch.
    pub filter: [u32; MAX_FILTER],
    /// Keeps the size a multiple of eight.
    pub pad: u32,
}
zeroed!(
    Control,
    Self {
        epoch: 0,
        claims: 0,
        retires: 0,
        slots_full: 0,
        pool_full: 0,
        filters: 0,
        filter: [0; MAX_FILTER],
        pad: 0,
    }
);

const _: () = assert!(size_of::<Control>() == 40 + 4 * (MAX_FILTER + 2));
