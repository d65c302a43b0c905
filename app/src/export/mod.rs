//! What leaves the program other than the screen: text and JSON reports, and exports for other programs.
//!
//! Reports say the same of a session: everything since its start, from [`crate::model::totals`]. Exports go
//! through ticks one by one: lines of JSON, tables, traces, metrics.

pub mod csv;
mod details;
pub mod follow;
mod interrupts;
mod irqs;
pub mod json;
pub mod jsonl;
pub mod openmetrics;
mod parts;
pub mod perfetto;
mod scheduling;
mod sections;
pub mod sink;
mod stacks;
mod sums;
pub mod text;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use crate::findings::Finding;
use crate::model::session::Session;
use crate::model::totals::Totals;

/// Tells the name of guest code: of which VM (by name), at which instruction pointer.
pub type Code<'a> = &'a dyn Fn(&str, u64) -> Option<String>;

/// What a report is made of.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// The host, the names, the probes.
    pub session: &'a Session,
    /// The numbers.
    pub totals: &'a Totals,
    /// How long was measured, ns.
    pub duration_ns: u64,
    /// What stands out, what matters most first.
    pub findings: &'a [Finding],
    /// Names of guest code, where symbols were given.
    pub code: Code<'a>,
}

impl<'a> Content<'a> {
    /// The numbers alone.
    pub fn new(session: &'a Session, totals: &'a Totals, duration_ns: u64) -> Self {
        Self { session, totals, duration_ns, findings: &[], code: &|_, _| None }
    }
}
