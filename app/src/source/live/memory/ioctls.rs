//! The maps of family `ioctl`.

use super::Mapped;
use kvmscope_shared::ioctl::{Call, Handlers, Tally};
use std::{io, os::fd::AsFd};

/// Rows of KVM ioctls, and the functions by which descriptors are known.
pub struct IoctlMaps {
    calls: Mapped<Call>,
    tallies: Mapped<Tally>,
    /// Tallies of a row.
    shards: u32,
    handlers: Mapped<Handlers>,
}

impl IoctlMaps {
    /// Maps the arrays of so many rows, each with so many tallies. Fails with the kernel's error.
    pub fn new(
        (rows, shards): (u32, u32),
        calls: impl AsFd,
        tallies: impl AsFd,
        handlers: impl AsFd,
    ) -> io::Result<Self> {
        Ok(Self {
            calls: Mapped::new(calls, rows)?,
            tallies: Mapped::new(tallies, rows * shards)?,
            shards,
            handlers: Mapped::new(handlers, 1)?,
        })
    }

    /// Tells the probes how to know KVM's descriptors. Before they are attached.
    pub fn set_handlers(&mut self, handlers: Handlers) {
        // SAFETY: in bounds; user space alone writes it.
        unsafe { self.handlers.at(0).write_volatile(handlers) }
    }

    /// Rows, row 0 included.
    pub(super) fn rows(&self) -> u32 {
        self.calls.len
    }

    /// Whose a row is.
    pub(super) fn call(&self, row: u32) -> Call {
        self.calls.read(row)
    }

    /// What a row came to on all CPUs.
    pub(super) fn tally(&self, row: u32) -> Tally {
        let mut sum = Tally::default();
        for shard in 0..self.shards {
            let one = self.tallies.read(row * self.shards + shard);
            sum.count += one.count;
            sum.failed += one.failed;
            sum.total_ns += one.total_ns;
            sum.max_ns = sum.max_ns.max(one.max_ns);
        }
        sum
    }

    /// Clears a row that no call leads to any more.
    pub fn clear(&mut self, row: u32) {
        for shard in 0..self.shards {
            // SAFETY: in bounds; no probe finds this row.
            unsafe { self.tallies.at(row * self.shards + shard).write_volatile(Tally::default()) }
        }
        // SAFETY: as above.
        unsafe { self.calls.at(row).write_volatile(Call::default()) }
    }
}
