//! What a tick needs besides the probes' memory, and what all ticks add up to.

use crate::model::ids::Kind;
use crate::model::stack::StackOf;
use crate::model::tick::{HostTick, Phase, Tick};

/// `KVM_EXIT_INTR`.
const EXIT_INTR: u32 = 10;
/// What tells whether the backend fires `kvm_exit` at all: sums over all vCPUs since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Kernel exits.
    pub exits: u64,
    /// Userspace exits but for INTR, which a signal makes before the guest was entered.
    pub userspace: u64,
    /// Time on a CPU inside KVM_RUN, ns.
    pub in_run_ns: u64,
}

impl Counted {
    /// Adds a tick.
    pub fn add(&mut self, tick: &Tick) {
        for vcpu in &tick.vcpus {
            let in_run = [Phase::Kvm, Phase::Guest, Phase::Polling];
            self.in_run_ns += in_run.into_iter().map(|phase| vcpu.time.get(phase)).sum::<u64>();
            for cell in &vcpu.cells {
                match cell.reason.kind {
                    Kind::Exit => self.exits += cell.count,
                    Kind::Userspace if cell.reason.code != EXIT_INTR => {
                        self.userspace += cell.count
                    }
                    Kind::Userspace => {}
                }
            }
        }
    }
}

/// What a tick needs besides the memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Now, ns of the probes' clock.
    pub now_ns: u64,
    /// Runs missed since the probes were loaded.
    pub missed_runs: u64,
    /// What the host did.
    pub host: HostTick,
    /// Whether this is the last tick: nothing is held back.
    pub last: bool,
    /// Whether details are kept (family `detail`). What was kept before it was turned off is still
    /// read once.
    pub detail: bool,
    /// Whether what is sent by whom is counted (families `irq` and `irqchip`); after they were turned off
    /// it is still read once.
    pub routes: bool,
    /// Whether a family that keeps meters is on; as `detail`.
    pub meters: bool,
    /// The function whose callers are counted, if any are.
    pub stacks: Option<StackOf>,
    /// Whether KVM's ioctls are counted (family `ioctl`). What was counted before it was turned off is
    /// still read.
    pub ioctls: bool,
}
