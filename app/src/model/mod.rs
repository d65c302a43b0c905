//! The data: what a tick is, who VMs and vCPUs are, and how histograms answer.
//!
//! Nothing here does I/O, reads a clock or knows where the data comes from.

pub mod codec;
pub mod detail;
pub mod event;
pub mod hist;
pub mod history;
pub mod ids;
pub mod meters;
pub mod session;
pub mod stack;
pub mod stats;
#[cfg(test)]
pub(crate) mod testing;
pub mod tick;
pub mod totals;
