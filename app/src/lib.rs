//! kvmscope: what every KVM vCPU exits for, how long, and where its time goes, live.
//!
//! Data flows one way: a [`source`] reads the probes' maps once per tick and sends a
//! [`model::tick::Tick`]; state applies it; the screen draws state; exporters read it.

pub mod cli;
pub mod config;
pub mod diff;
pub mod doctor;
pub mod export;
pub mod findings;
pub mod guest;
pub mod model;
pub mod record;
pub mod source;
pub mod state;
pub mod symbols;
pub mod term;
pub mod trace;
pub mod ui;
