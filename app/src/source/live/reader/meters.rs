//! What changed in a slot's meters, exactly, although the probes may be in the middle of writing them.

use super::cells::{extremes, grown};
use crate::model::meters::{MeterKind, MeterTick, MetersTick, TimerTick, WindowTick};
use kvmscope_shared::{
    meters::{Meter, Meters, timer, timer_now},
    slot::{Slot, life},
};

/// A slot's meters as they were told last.
#[derive(Default)]
pub struct SeenMeters {
    told: Option<Box<Meters>>,
    /// Whether an interval on a CPU was open.
    open: bool,
}

/// The moment at which meters are read.
#[derive(Clone, Copy)]
pub struct At {
    /// The epoch that just ended.
    pub epoch: u64,
    /// Whether no epoch since they were told last went by unread.
    pub whole: bool,
    /// Now, ns of the probes' clock.
    pub now_ns: u64,
}

impl SeenMeters {
    /// Whether an interval on a CPU is open: what is told of it grows without an event.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What changed since they were told last, and what is now. A time whose bucket has not followed yet
    /// comes with the next change.
    pub fn advance(&mut self, slot: &Slot, now: &Meters, at: At) -> MetersTick {
        let told = self.told.get_or_insert_default();
        let pairs = MeterKind::ALL.into_iter().filter_map(|kind| {
            let number = kind as usize;
            advance(kind, told.meters.get_mut(number)?, now.meters.get(number)?, at)
        });
        let meters = pairs.collect();
        let mut step = Step { told: &mut told.timers, now: &now.timers };
        let timers = TimerTick {
            hardware: step.of(timer::HARDWARE),
            software: step.of(timer::SOFTWARE),
            deadlines: step.of(timer::DEADLINE),
            disarmed: step.of(timer::DISARMED),
            one_shot: step.of(timer::ONE_SHOT),
            periodic: step.of(timer::PERIODIC),
            expired: step.of(timer::EXPIRED),
            is_hardware: None,
        };
        let is_hardware = match now.timer_now {
            timer_now::HARDWARE => Some(true),
            timer_now::SOFTWARE => Some(false),
            _ => None,
        };
        let window = now.window.checked_sub(1).map(|now_ns| WindowTick {
            now_ns,
            grew: grew(&mut told.grew, now.grew),
            shrank: grew(&mut told.shrank, now.shrank),
        });
        self.open = now.loaded_ns != 0 && slot.life == life::LIVE;
        MetersTick {
            meters,
            timers: (timers != TimerTick::default()).then_some(TimerTick { is_hardware, ..timers }),
            window,
            migrations: grew(&mut told.migrations, now.migrations),
            crossings: grew(&mut told.crossings, now.crossings),
            loaded_open_ns: if self.open { at.now_ns.saturating_sub(now.loaded_ns) } else { 0 },
        }
    }
}

/// Counters of timers.
struct Step<'a> {
    told: &'a mut [u64; timer::COUNT],
    now: &'a [u64; timer::COUNT],
}

impl Step<'_> {
    fn of(&mut self, what: usize) -> u64 {
        match (self.told.get_mut(what), self.now.get(what)) {
            (Some(told), Some(now)) => grew(told, *now),
            _ => 0,
        }
    }
}

/// What a counter grew by since it was told last.
fn grew(told: &mut u64, now: u64) -> u64 {
    let grown = now.saturating_sub(*told);
    *told = now.max(*told);
    grown
}

fn advance(kind: MeterKind, told: &mut Meter, now: &Meter, at: At) -> Option<MeterTick> {
    if told.count == now.count {
        return None;
    }
    let hist = grown(&told.hist, &now.hist);
    if hist.is_empty() {
        return None;
    }
    let count = hist.iter().map(|&(_, n)| u64::from(n)).sum();
    let epoch = at.whole.then_some(at.epoch);
    let (min_ns, max_ns) = extremes(&told.extremes, &now.extremes, epoch, &hist);
    let total_ns = now.total_ns.wrapping_sub(told.total_ns);
    // As many as were told: one that was counted and has no bucket yet is still to come.
    *told = Meter { count: told.count.wrapping_add(count), ..*now };
    Some(MeterTick { kind, count, total_ns, min_ns, max_ns, hist })
}
