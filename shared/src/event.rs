//! Single events, for lists: a sample where they are many. What counts is counted elsewhere.
//!
//! Each goes through one ring buffer, under a token bucket per kind and CPU; what the bucket or the
//! ring refuses is counted by kind ([`crate::conf::Control::events_refused`]).

use crate::zeroed;

/// What an event is: [`Event::kind`], and what its arguments are. Below [`kind::COUNT`].
pub mod kind {
    /// A page fault of the guest (`kvm_page_fault`), told when its exit ends: GPA; error code as recorded
    /// (EPT qualification on VMX, PFERR bits on SVM).
    pub const FAULT: u32 = 0;
    /// An MMIO access that was emulated (`kvm_mmio`), told when its exit ends: GPA; size in bytes; 1 for a
    /// write; the value.
    pub const MMIO: u32 = 1;
    /// A KVM hypercall (`kvm_hypercall`): number, four arguments.
    pub const HYPERCALL: u32 = 2;
    /// A Hyper-V hypercall (`kvm_hv_hypercall`): code; 1 for a fast one; repeat count and index (low and high
    /// half); variable header size; GPA (or value) of the input; of the output.
    pub const HV_HYPERCALL: u32 = 3;
    /// A Xen hypercall (`kvm_xen_hypercall`): number, five arguments.
    pub const XEN_HYPERCALL: u32 = 4;
    /// Another MMU root was loaded: address of the root; level; 1 in guest mode of a nested guest.
    pub const ROOT: u32 = 5;
    /// A KVM ioctl ended: command; its result, sign-extended; file descriptor; what the descriptor is
    /// (0 system, 1 VM, 2 vCPU, 3 device, 4 not known); address of its `struct kvm`, or 0. Times:
    /// `handling_ns` is all of it.
    pub const IOCTL: u32 = 6;
    /// A memory slot was set (KVM_SET_USER_MEMORY_REGION and its successor): slot and address space (low and
    /// high half); flags; GPA; size in bytes; HVA; result, sign-extended.
    pub const MEMSLOT: u32 = 7;
    /// An interrupt was put into the guest (`kvm_inj_virq`): vector; 1 for a software one; 1 where it was
    /// tried before.
    pub const INJECTION: u32 = 8;
    /// An exception was put into the guest (`kvm_inj_exception`): vector; 1 with an error code; the error
    /// code; 1 where it was tried before.
    pub const EXCEPTION: u32 = 9;
    /// Someone set a line, or sent a message: chip ([`crate::route::chip`]), `a` and `b` as told
    /// there; 1 where it was coalesced; who, as [`crate::route::sender`].
    pub const ROUTE: u32 = 10;
    /// A halted vCPU went on (`kvm_vcpu_wakeup`): ns it was halted; 1 if it slept; 1 if the wake-up was
    /// valid.
    pub const WAKEUP: u32 = 11;
    /// Something about a timer: what ([`crate::meters::timer`]); ns or TSC ticks, where it has some.
    pub const TIMER: u32 = 12;
    /// The window of halt polling changed (`kvm_halt_poll_ns`): ns before; ns now.
    pub const HALT_POLL: u32 = 13;
    /// Number of kinds; the rest is reserved.
    pub const COUNT: usize = 16;
}

/// Arguments of an event.
pub const ARGS: usize = 6;
/// Events of one kind that one CPU may tell of per second, and at once after it told of none.
pub const EVENTS_PER_SECOND: u64 = 200;
/// Length of the ring buffer of events, in bytes: room for some 8000.
pub const EVENT_RING_BYTES: u32 = 1 << 20;

/// One event, as a record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When it happened, or ended where it took time, ns of the probes' clock.
    pub at_ns: u64,
    /// See [`kind`].
    pub kind: u32,
    /// The vCPU's slot; 0 where the thread is no vCPU's.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// Cell of the exit in which it happened, or 0.
    pub cell: u32,
    /// Thread group.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Physical CPU.
    pub cpu: u32,
    /// Keeps what follows at eight.
    pub pad: u32,
    /// Guest instruction pointer, or 0.
    pub rip: u64,
    /// Of its exit, where it is told at the end of one: handling time on a CPU, ns.
    pub handling_ns: u64,
    /// Time off the CPU inside KVM_RUN, ns.
    pub off_ns: u64,
    /// Time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// See [`kind`].
    pub args: [u64; ARGS],
}

zeroed!(
    Event,
    Self {
        at_ns: 0,
        kind: 0,
        slot: 0,
        generation: 0,
        cell: 0,
        tgid: 0,
        tid: 0,
        cpu: 0,
        pad: 0,
        rip: 0,
        handling_ns: 0,
        off_ns: 0,
        vmm_ns: 0,
        args: [0; ARGS],
    }
);

const _: () = assert!(size_of::<Event>() == 120);
