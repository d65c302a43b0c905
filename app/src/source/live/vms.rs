//! Which VM a process is: its name and kind of VMM, from `/proc`.
//!
//! [`describe`] is pure: it gets [`ProcFacts`] and answers. [`facts`] and [`scan`] read `/proc` and
//! decide nothing. Names are what the process says about itself, raw apart from a bound on their
//! length: whoever shows them makes them safe to show.

mod describe;
mod facts;
mod options;
mod scan;
mod start;
mod threads;

pub use describe::{Description, MAX_NAME, describe};
pub use facts::{ProcFacts, read_cgroup, read_facts};
pub use scan::{KvmProcess, Scan, kvm_vm_pids, why_no_vm};
pub use start::{read_start_unix_ns, same_start};
pub use threads::vcpu_from_thread_name;
