//! A cell: what one vCPU's thread did for one reason.

use crate::{hist::HIST_LEN, zeroed};

/// Smallest and largest handling time of one epoch (one tick of the program).
///
/// Two of them take turns: epoch `e` uses bank `e & 1` and the probe itself starts a bank over
/// when it finds an older epoch in it, so user space only reads. A bank whose `epoch` is not the
/// one asked for holds nothing of that epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Extremes {
    /// The epoch these belong to; epochs count from 1.
    pub epoch: u64,
    /// Smallest handling time, ns.
    pub min_ns: u64,
    /// Largest handling time, ns.
    pub max_ns: u64,
}
zeroed!(Extremes, Self { epoch: 0, min_ns: 0, max_ns: 0 });

/// Counters of one (slot, kind, reason). Written only by the thread that owns the slot.
///
/// How many of the exits were timed is the sum of the histogram, so it is not kept twice.
/// Of a timed *kernel exit*, `kvm_exit` to `kvm_entry` is `total + off + vmm`, each wall time of
/// its own: handling on a CPU, off the CPU inside KVM_RUN, outside KVM_RUN. Of a *userspace exit*
/// `total` is the whole time outside KVM_RUN, and `off` is the part of it off the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Cell {
    /// The slot it belongs to.
    pub slot: u32,
    /// The slot's generation when the cell was taken; a cell of an older one is not to be read.
    pub generation: u32,
    /// [`crate::slot::KIND_EXIT`] or [`crate::slot::KIND_USERSPACE`].
    pub kind: u32,
    /// The reason's number, without flag bits.
    pub code: u32,
    /// Flag bits seen with the code, or-ed together (VMX bits 16 to 31).
    pub flags: u32,
    /// `isa` of the records, 0 for userspace exits.
    pub isa: u32,
    /// Exits that began.
    pub count: u64,
    /// Handling time of the timed ones, ns.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Extremes of this and the previous epoch.
    pub extremes: [Extremes; 2],
    /// Handling times, [`crate::hist::BUCKETS`] of them in use. Wraps at 2^32; the reader takes differences.
    pub hist: [u32; HIST_LEN],
}
zeroed!(
    Cell,
    Self {
        slot: 0,
        generation: 0,
        kind: 0,
        code: 0,
        flags: 0,
        isa: 0,
        count: 0,
        total_ns: 0,
        off_ns: 0,
        vmm_ns: 0,
        extremes: [Extremes { epoch: 0, min_ns: 0, max_ns: 0 }; 2],
        hist: [0; HIST_LEN],
    }
);

/// Cells that belong to a slot from the start; the index of the first is `slot * CELLS_PER_CHUNK`.
/// More come from the pool, one chunk at a time.
pub const CELLS_PER_CHUNK: u32 = 16;

const _: () = assert!(size_of::<Extremes>() == 24);
const _: () = assert!(size_of::<Cell>() == 24 + 32 + 48 + 4 * HIST_LEN);
const _: () = assert!(size_of::<Cell>().is_multiple_of(8));
