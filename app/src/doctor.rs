//! What works on this host, what does not, why, and what to do.
//!
//! [`gather()`] reads the host and decides nothing; [`findings()`] decides and reads nothing. Whether
//! a probe loads and attaches is not guessed from versions: the live source tries it, and its
//! answers come in as [`crate::model::session::ProbeStatus`]. Text and JSON are made from findings.

mod facts;
mod findings;
mod gather;
mod render;
mod silent;

pub use facts::{
    Backend, Btf, Capability, DevKvm, Facts, Lockdown, Module, ModuleState, Tracefs, Tracepoint,
    Vms,
};
pub use findings::{Finding, KVM_MODULE, Severity, blocker, findings};
pub use gather::gather;
pub use render::{json, text};
pub use silent::{SilentBackend, silent_backend};
