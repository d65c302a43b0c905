//! What a vCPU has to do.

use std::time::Duration;

use super::chips::Chips;
use super::code::Targets;
use super::plan::{Pages, Plan};

/// What a vCPU has to do, and how its VMM behaves.
#[derive(Clone, Debug)]
pub struct Job {
    /// The work.
    pub plan: Plan,
    /// How long the guest computes in each round.
    pub spin: Duration,
    /// How long the VMM sleeps in each IO and MMIO exit.
    pub vmm_sleep: Duration,
    /// How long the VMM computes in each IO and MMIO exit.
    pub vmm_spin: Duration,
    /// How long the VMM leaves the first IO or MMIO exit unanswered.
    pub stuck: Duration,
    /// How long the guest stays on one instruction in its first round.
    pub stay: Duration,
    /// How long after it came to a halt inside KVM the vCPU is woken.
    pub halt: Duration,
    /// What the instructions are about.
    pub targets: Targets,
    /// OUT goes round so many ports.
    pub spread: Option<u16>,
    /// Interrupt controllers in the kernel.
    pub chips: Chips,
    /// How long the timers of its local APIC run.
    pub timer: Duration,
    /// So many vCPUs its VM has, for what goes from one to the next.
    pub vcpus: u32,
    /// The CPUs that its thread goes round, and how often it changes.
    pub moves: (Vec<usize>, u64),
    /// The guest has page tables of its own.
    pub paging: bool,
    /// How many pages are used before they are used again.
    pub pages: Pages,
    /// The CPU of its threads.
    pub pin: Option<usize>,
    /// Stop after so many userspace exits (those that end a round not counted), without
    /// going back into KVM_RUN.
    pub die_after: Option<u64>,
    /// Rest after each round at least as long as the round took.
    pub at_most_half: bool,
}

impl Job {
    /// `plan`, by a VMM that answers at once.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            spin: Duration::ZERO,
            vmm_sleep: Duration::ZERO,
            vmm_spin: Duration::ZERO,
            stuck: Duration::ZERO,
            stay: Duration::ZERO,
            halt: Duration::ZERO,
            targets: Targets::default(),
            spread: None,
            chips: Chips::default(),
            timer: Duration::ZERO,
            vcpus: 1,
            moves: (Vec::new(), 0),
            paging: false,
            pages: Pages::default(),
            pin: None,
            die_after: None,
            at_most_half: false,
        }
    }
}
