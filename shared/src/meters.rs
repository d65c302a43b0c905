//! What a vCPU does beside exits, counted and timed: wake-ups, intervals on a CPU, timers. One [`Meters`] for
//! each slot, written by the slot's thread (or ordered with it), in a map of its own.

use crate::{cell::Extremes, hist::HIST_LEN, zeroed};

/// What is metered: index of [`Meters::meters`].
pub mod meter {
    /// A wake-up while polling, with something to do; the time halted, ns.
    pub const POLLED: usize = 0;
    /// A wake-up while polling, without.
    pub const POLLED_IDLE: usize = 1;
    /// A wake-up after sleep, with something to do.
    pub const SLEPT: usize = 2;
    /// A wake-up after sleep, without.
    pub const SLEPT_IDLE: usize = 3;
    /// An interval in which the vCPU was loaded on one CPU: in KVM_RUN and not switched out, ns.
    pub const LOADED: usize = 4;
    /// A timer that came late: `kvm_wait_lapic_expire` after the deadline, ticks of the guest's TSC.
    pub const LATE: usize = 5;
    /// Number of meters; the rest is reserved.
    pub const COUNT: usize = 8;
}

/// What happened to timers: index of [`Meters::timers`].
pub mod timer {
    /// The hardware's timer (VMX preemption timer) was started (`kvm_hv_timer_state`, in use).
    pub const HARDWARE: usize = 0;
    /// The kernel's timer (hrtimer) was started (`kvm_hv_timer_state`, not in use).
    pub const SOFTWARE: usize = 1;
    /// The guest wrote a deadline other than 0 (IA32_TSC_DEADLINE).
    pub const DEADLINE: usize = 2;
    /// The guest wrote deadline 0: disarmed.
    pub const DISARMED: usize = 3;
    /// The guest started the local APIC's counter in one-shot mode (TMICT, not 0).
    pub const ONE_SHOT: usize = 4;
    /// The same in periodic mode.
    pub const PERIODIC: usize = 5;
    /// The timer's interrupt was delivered to the local APIC, by the vCPU's own thread.
    pub const EXPIRED: usize = 6;
    /// It came late: of a single event alone, what is counted is [`super::meter::LATE`].
    pub const LATE: usize = 7;
    /// Places: a power of two.
    pub const COUNT: usize = 8;
}

/// Values of [`Meters::timer_now`].
pub mod timer_now {
    /// The hardware's timer.
    pub const HARDWARE: u64 = 1;
    /// The kernel's.
    pub const SOFTWARE: u64 = 2;
}

/// Set in [`Meters::lvtt`] where it is known.
pub const LVTT_KNOWN: u64 = 1 << 32;
/// [`Meters::loaded_node`] of a CPU that user space filled in.
pub const UNKNOWN_NODE: u32 = u32::MAX;

/// One of them. The meaning is that of [`crate::cell::Cell`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Meter {
    /// How many ended.
    pub count: u64,
    /// Their time, ns ([`meter::LATE`]: TSC ticks).
    pub total_ns: u64,
    /// Extremes of this and the previous epoch.
    pub extremes: [Extremes; 2],
    /// Times, as of [`crate::hist`].
    pub hist: [u32; HIST_LEN],
}

/// All of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Meters {
    /// By [`meter`].
    pub meters: [Meter; meter::COUNT],
    /// By [`timer`].
    pub timers: [u64; timer::COUNT],
    /// Whose timer is in use now ([`timer_now`]); 0 not known.
    pub timer_now: u64,
    /// The local APIC timer's vector and mode (LVTT), with [`LVTT_KNOWN`]; 0 not known.
    pub lvtt: u64,
    /// Window of halt polling now, ns, plus one; 0 not known (`kvm_halt_poll_ns`).
    pub window: u64,
    /// Times it grew.
    pub grew: u64,
    /// Times it shrank.
    pub shrank: u64,
    /// When the interval on a CPU began, ns of the probes' clock; 0 where none is open.
    pub loaded_ns: u64,
    /// The CPU of this interval, or of the last, plus one; 0 before the first.
    pub loaded_cpu: u32,
    /// Its NUMA node, or [`UNKNOWN_NODE`].
    pub loaded_node: u32,
    /// Intervals on another CPU than the one before.
    pub migrations: u64,
    /// Of them, on another NUMA node.
    pub crossings: u64,
}

const NO_EXTREMES: Extremes = Extremes { epoch: 0, min_ns: 0, max_ns: 0 };
const NO_METER: Meter =
    Meter { count: 0, total_ns: 0, extremes: [NO_EXTREMES; 2], hist: [0; HIST_LEN] };
zeroed!(Meter, NO_METER);
zeroed!(
    Meters,
    Self {
        meters: [NO_METER; meter::COUNT],
        timers: [0; timer::COUNT],
        timer_now: 0,
        lvtt: 0,
        window: 0,
        grew: 0,
        shrank: 0,
        loaded_ns: 0,
        loaded_cpu: 0,
        loaded_node: 0,
        migrations: 0,
        crossings: 0,
    }
);

const _: () = assert!(size_of::<Meter>() == 64 + 4 * HIST_LEN);
const _: () =
    assert!(size_of::<Meters>() == meter::COUNT * size_of::<Meter>() + 8 * timer::COUNT + 72);
