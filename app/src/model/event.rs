//! Single events, for lists: page faults, MMIO, hypercalls, ioctls. Parts of a [`super::tick::Tick`].
//!
//! They are a sample where they are many; what is left out is counted by kind. Counts, rates and times
//! of all come from keys ([`super::detail::KeyTick`]), never from here.

use super::ids::{Reason, VmId};
use kvmscope_shared::event::{ARGS, kind};
use serde::{Deserialize, Serialize};

/// What an event is. The numbers, and what the arguments of each are, stand with
/// [`kvmscope_shared::event::kind`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[repr(u8)]
pub enum EventKind {
    /// A page fault of the guest.
    #[default]
    Fault = kind::FAULT as u8,
    /// An MMIO access that was emulated.
    Mmio = kind::MMIO as u8,
    /// A KVM hypercall.
    Hypercall = kind::HYPERCALL as u8,
    /// A Hyper-V hypercall.
    HvHypercall = kind::HV_HYPERCALL as u8,
    /// A Xen hypercall.
    XenHypercall = kind::XEN_HYPERCALL as u8,
    /// Another MMU root was loaded.
    Root = kind::ROOT as u8,
    /// A KVM ioctl ended.
    Ioctl = kind::IOCTL as u8,
    /// A memory slot was set.
    Memslot = kind::MEMSLOT as u8,
    /// An interrupt was put into the guest.
    Injection = kind::INJECTION as u8,
    /// An exception was put into the guest.
    Exception = kind::EXCEPTION as u8,
    /// Someone set a line or sent a message.
    Route = kind::ROUTE as u8,
    /// A halted vCPU went on.
    Wakeup = kind::WAKEUP as u8,
    /// Something about a timer.
    Timer = kind::TIMER as u8,
    /// The window of halt polling changed.
    HaltPoll = kind::HALT_POLL as u8,
}

impl EventKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 14] = [
        Self::Fault,
        Self::Mmio,
        Self::Hypercall,
        Self::HvHypercall,
        Self::XenHypercall,
        Self::Root,
        Self::Ioctl,
        Self::Memslot,
        Self::Injection,
        Self::Exception,
        Self::Route,
        Self::Wakeup,
        Self::Timer,
        Self::HaltPoll,
    ];

    /// From [`kvmscope_shared::event::Event::kind`]; `None` for a number that is none.
    pub fn from_record(kind: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u32 == kind)
    }

    /// Its name in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Mmio => "mmio",
            Self::Hypercall => "hypercall",
            Self::HvHypercall => "hv_hypercall",
            Self::XenHypercall => "xen_hypercall",
            Self::Root => "root",
            Self::Ioctl => "ioctl",
            Self::Memslot => "memslot",
            Self::Injection => "injection",
            Self::Exception => "exception",
            Self::Route => "route",
            Self::Wakeup => "wakeup",
            Self::Timer => "timer",
            Self::HaltPoll => "halt_poll",
        }
    }
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Event {
    /// When it happened, or ended where it took time, ns of the probes' clock.
    pub at_ns: u64,
    /// What it is.
    pub kind: EventKind,
    /// Whose VM; of [`EventKind::Route`] 0, which no VM has, where it is not known.
    pub vm: VmId,
    /// Which vCPU; `None` where the thread is no vCPU's (an ioctl of the VMM's main thread, say).
    pub vcpu: Option<u32>,
    /// The thread.
    pub tid: u32,
    /// Physical CPU.
    pub cpu: u32,
    /// The exit in which it happened, where one was being handled.
    pub reason: Option<Reason>,
    /// Guest instruction pointer; 0 where there is none.
    pub rip: u64,
    /// Handling time of that exit on a CPU, ns; of an ioctl all its time. 0 where not known.
    pub handling_ns: u64,
    /// Time of that exit off the CPU inside KVM_RUN, ns.
    pub off_ns: u64,
    /// Time of that exit outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// What is meant by each stands with [`kvmscope_shared::event::kind`].
    pub args: [u64; ARGS],
}

impl Event {
    /// All the time it took, ns.
    pub fn wall_ns(&self) -> u64 {
        self.handling_ns.saturating_add(self.off_ns).saturating_add(self.vmm_ns)
    }
}

/// Events that a tick leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LeftOut {
    /// Of which kind.
    pub kind: EventKind,
    /// How many: over the rate that is let through, without room in the ring buffer, or of nobody.
    pub count: u64,
}
