//! The live source: loads the probes, reads their maps once per tick.

pub mod vms;
