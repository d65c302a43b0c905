//! Parts of a thread's time that its phases do not tell: polling, which is in "handling", and the
//! wait for a CPU after a wake-up, which is in "asleep".

use crate::model::{
    detail::Halts,
    tick::{Phase, PhaseTimes},
};
use kvmscope_shared::slot::{Slot, phase};

/// What was told of a slot's halts.
#[derive(Default)]
pub struct SeenHalts {
    polled: u64,
    waited: u64,
    poll_ns: u64,
}

impl SeenHalts {
    /// Wake-ups since it was told last; the time spent polling goes from handling to polling. What
    /// is more than the handling time of this interval began before it, and waits for the next.
    pub fn advance(&mut self, slot: &Slot, times: &mut PhaseTimes) -> Halts {
        let polling = slot.poll_ns.saturating_sub(self.poll_ns);
        self.poll_ns += times.shift(Phase::Kvm, Phase::Polling, polling);
        let step = |told: &mut u64, now: u64| {
            let grown = now.saturating_sub(*told);
            *told = now.max(*told);
            grown
        };
        Halts {
            polled: step(&mut self.polled, slot.polled),
            waited: step(&mut self.waited, slot.waited),
        }
    }
}

/// How far `run_delay` may lag behind what the probes saw of it, ns: both end a wait at the same
/// switch, but by different clocks, and are read one after the other.
const SLACK_NS: i64 = 2_000_000;

/// The wait for a CPU that `run_delay` has and the phases do not: `run_delay` less completed
/// preempted time, as far as it was told. `None` before the first look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenDelay(Option<i64>);

impl SeenDelay {
    /// As of a first look: what was waited before counts for nobody.
    pub fn at(slot: &Slot, run_delay: u64) -> Self {
        Self(Some(beyond(slot, run_delay)))
    }

    /// Moves what was waited after wake-ups since it was told last from sleep to the wait for a
    /// CPU, as far as there is sleep in this interval; the rest waits for the next. `run_delay` is
    /// ns, read before the slot was.
    pub fn advance(&mut self, slot: &Slot, run_delay: u64, times: &mut PhaseTimes) {
        let beyond = beyond(slot, run_delay);
        let told = self.0.get_or_insert(beyond);
        *told = (*told).min(beyond.saturating_add(SLACK_NS));
        for asleep in [Phase::Blocked, Phase::VmmBlocked, Phase::KvmBlocked] {
            let due = beyond.saturating_sub(*told).max(0).unsigned_abs();
            *told = told.saturating_add_unsigned(times.shift(asleep, Phase::Preempted, due));
        }
    }
}

fn beyond(slot: &Slot, run_delay: u64) -> i64 {
    run_delay.wrapping_sub(slot.phase_ns[phase::PREEMPTED as usize]).cast_signed()
}
