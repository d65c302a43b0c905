//! Pictures of plain data. None of them knows the state.

pub mod bars;
pub mod heatmap;
pub mod histogram;
pub mod latency;
pub mod spark;
pub mod table;
