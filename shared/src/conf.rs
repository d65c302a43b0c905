//! The control page: what user space tells the probes while they run, and what they count as lost.

use crate::{column::COLUMNS, zeroed};

/// Most thread groups that `--pid` can name; the filter is looked at once per thread.
pub const MAX_FILTER: usize = 16;

/// Bits of [`Control::details`].
pub mod detail {
    /// Guest instruction pointers by reason.
    pub const RIP: u32 = 1;
    /// Vectors of interrupts and exceptions that made an exit (VMX).
    pub const VECTOR: u32 = 2;
    /// Nothing more than that what an exit to user space was about gets its time, where `kvm_exit` never
    /// fires: each such time is looked at then ([`super::Control::outlier_ns`]).
    pub const DWELL: u32 = 4;
}

/// From which time on an exit is an outlier, ns, by column ([`crate::column::column_of`]);
/// `u64::MAX`: never. Codes without a column go by the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Limits {
    /// By column.
    pub ns: [u64; COLUMNS],
}
zeroed!(Limits, Self { ns: [u64::MAX; COLUMNS] });

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
    /// Details that are kept at the end of an exit: see [`detail`].
    pub details: u32,
    /// Exits that lasted at least this long, ns, are looked at again when they end, for `details` and
    /// [`Limits`]: 0 with `details`, else the least of the limits. `u64::MAX`: none.
    pub outlier_ns: u64,
    /// Outliers that the token bucket refused.
    pub outliers_refused: u64,
    /// Outliers that the ring buffer had no room for.
    pub ring_full: u64,
    /// The vendor whose error codes page faults have, as [`crate::slot::Slot::isa`]; 0 for another.
    pub isa: u32,
    /// Keeps what follows at eight.
    pub pad: u32,
    /// Kinds of events that are told of, by bit ([`crate::event::kind`]). Page faults are counted by
    /// kind where they are told of.
    pub events: u64,
    /// Events that were not told of, by kind: over the rate, or without room in the ring buffer.
    pub events_refused: [u64; crate::event::kind::COUNT],
    /// Pages of logged memory slots that threads marked as dirty that are no vCPU's (family `dirty`).
    pub dirty_elsewhere: u64,
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
        details: 0,
        outlier_ns: u64::MAX,
        outliers_refused: 0,
        ring_full: 0,
        isa: 0,
        pad: 0,
        events: 0,
        events_refused: [0; crate::event::kind::COUNT],
        dirty_elsewhere: 0,
    }
);

const _: () = assert!(
    size_of::<Control>()
        == 40 + 4 * (MAX_FILTER + 2) + 24 + 8 + 8 + 8 * crate::event::kind::COUNT + 8
);
