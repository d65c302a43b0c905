//! The maps of families `irq` and `irqchip`: what is sent by whom.

use super::Mapped;
use kvmscope_shared::route::{Contexts, Route, RouteTally};
use std::{io, os::fd::AsFd};

/// Rows of what is sent, and how interrupts are told from threads.
pub struct RouteMaps {
    routes: Mapped<Route>,
    tallies: Mapped<RouteTally>,
    /// Tallies of a row.
    shards: u32,
    contexts: Mapped<Contexts>,
}

impl RouteMaps {
    /// Maps the arrays of so many rows, each with so many tallies. Fails with the kernel's error.
    pub fn new(
        (rows, shards): (u32, u32),
        routes: impl AsFd,
        tallies: impl AsFd,
        contexts: impl AsFd,
    ) -> io::Result<Self> {
        Ok(Self {
            routes: Mapped::new(routes, rows)?,
            tallies: Mapped::new(tallies, rows * shards)?,
            shards,
            contexts: Mapped::new(contexts, 1)?,
        })
    }

    /// Tells the probes how an interrupt is told from a thread. Before they are attached.
    pub fn set_contexts(&mut self, contexts: Contexts) {
        // SAFETY: in bounds; user space alone writes it.
        unsafe { self.contexts.at(0).write_volatile(contexts) }
    }

    /// Rows, row 0 included.
    pub(super) fn rows(&self) -> u32 {
        self.routes.len
    }

    /// What a row is about.
    pub(super) fn route(&self, row: u32) -> Route {
        self.routes.read(row)
    }

    /// What a row came to on all CPUs.
    pub(super) fn tally(&self, row: u32) -> RouteTally {
        let mut sum = RouteTally::default();
        for shard in 0..self.shards {
            let one = self.tallies.read(row * self.shards + shard);
            sum.count += one.count;
            sum.coalesced += one.coalesced;
        }
        sum
    }

    /// Clears a row that nothing leads to any more.
    pub fn clear(&mut self, row: u32) {
        for shard in 0..self.shards {
            // SAFETY: in bounds; no probe finds this row.
            unsafe {
                self.tallies.at(row * self.shards + shard).write_volatile(RouteTally::default())
            }
        }
        // SAFETY: as above.
        unsafe { self.routes.at(row).write_volatile(Route::default()) }
    }
}
