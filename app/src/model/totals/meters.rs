//! What vCPUs did beside exits over a whole session.

use crate::model::meters::{MeterKind, MetersTick, TimerTick, WindowTick};
use crate::model::stats::Sum;
use std::collections::BTreeMap;

/// Wake-ups, timers, halt polling and time on CPUs of a vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Meters {
    /// Its meters; of a sum only the count, the time, the extremes and the histogram mean something. Boxed,
    /// because a sum is a kilobyte.
    pub kinds: BTreeMap<MeterKind, Box<Sum>>,
    /// Its timers; `None` where nothing happened to them.
    pub timers: Option<TimerTick>,
    /// Halt polling's window, the last that is known, and its changes.
    pub window: Option<WindowTick>,
    /// Intervals on another CPU than the one before.
    pub migrations: u64,
    /// Of them, on another NUMA node.
    pub crossings: u64,
    /// How long the interval on a CPU lasts that is open at the end, ns; 0 where none is.
    pub loaded_open_ns: u64,
}

impl Meters {
    /// Adds an interval.
    pub(super) fn add(&mut self, tick: &MetersTick) {
        for meter in &tick.meters {
            self.kinds.entry(meter.kind).or_default().add_meter(meter);
        }
        if let Some(timers) = &tick.timers {
            self.timers.get_or_insert_default().add(timers, true);
        }
        if let Some(window) = &tick.window {
            let sum = self.window.get_or_insert_default();
            sum.now_ns = window.now_ns;
            sum.grew = sum.grew.saturating_add(window.grew);
            sum.shrank = sum.shrank.saturating_add(window.shrank);
        }
        self.migrations = self.migrations.saturating_add(tick.migrations);
        self.crossings = self.crossings.saturating_add(tick.crossings);
        self.loaded_open_ns = tick.loaded_open_ns;
    }

    /// An interval in which nothing happened to the vCPU: if it was on a CPU, it still is.
    pub(super) fn wait_out(&mut self, dur_ns: u64) {
        if self.loaded_open_ns > 0 {
            self.loaded_open_ns = self.loaded_open_ns.saturating_add(dur_ns);
        }
    }

    /// One of its meters.
    pub fn of(&self, kind: MeterKind) -> Option<&Sum> {
        self.kinds.get(&kind).map(Box::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{VcpuKey, VmId};
    use crate::model::testing::sample_meters;
    use crate::model::tick::{Life, Tick, VcpuInfo, VcpuTick};
    use crate::model::totals::Totals;

    const KEY: VcpuKey = VcpuKey { vm: VmId(1), vcpu: 0 };

    fn tick(seq: u64, meters: Option<MetersTick>) -> Tick {
        let vcpus = meters.map(|meters| VcpuTick { key: KEY, meters, ..VcpuTick::default() });
        let vcpus = vcpus.into_iter().collect();
        Tick { seq, dur_ns: 1_000, vcpus, ..Tick::default() }
    }

    #[test]
    fn meters_add_up_and_the_last_state_stays() {
        let mut totals = Totals::default();
        totals.apply(&tick(1, Some(sample_meters())));
        let mut second = sample_meters();
        second.meters[0].min_ns = 7;
        second.timers = Some(TimerTick {
            hardware: 1,
            disarmed: 2,
            one_shot: 3,
            periodic: 4,
            expired: 5,
            deadlines: 1,
            is_hardware: Some(true),
            ..TimerTick::default()
        });
        second.window = Some(WindowTick { now_ns: 40_000, grew: 1, shrank: 5 });
        totals.apply(&tick(2, Some(second)));
        totals.apply(&tick(3, Some(MetersTick::default())));
        let sum = &totals.vms[&VmId(1)].vcpus[&0].meters;
        let polled = sum.of(MeterKind::Polled).expect("is there").stats();
        assert_eq!((polled.count, polled.timed, polled.total_ns), (6, 6, 180_000));
        let latency = polled.latency.expect("timed");
        assert_eq!((latency.min_ns, latency.max_ns), (7, 40_000));
        let timers = TimerTick {
            hardware: 1,
            software: 4,
            deadlines: 10,
            disarmed: 2,
            one_shot: 3,
            periodic: 4,
            expired: 5,
            is_hardware: Some(true),
        };
        assert_eq!(sum.timers, Some(timers));
        assert_eq!(sum.window, Some(WindowTick { now_ns: 40_000, grew: 3, shrank: 6 }));
        assert_eq!((sum.migrations, sum.crossings, sum.loaded_open_ns), (4, 2, 0));
    }

    #[test]
    fn a_vcpu_that_is_on_a_cpu_stays_there_until_it_tells_otherwise() {
        let mut totals = Totals::default();
        let info = VcpuInfo { key: KEY, ..VcpuInfo::default() };
        let open = |loaded_open_ns| MetersTick { loaded_open_ns, ..MetersTick::default() };
        totals.apply(&Tick { life: vec![Life::Vcpu(info)], ..tick(1, Some(open(300))) });
        totals.apply(&tick(2, None));
        let of = |totals: &Totals| totals.vms[&VmId(1)].vcpus[&0].meters.loaded_open_ns;
        assert_eq!(of(&totals), 1_300);
        let gone = vec![Life::VcpuGone(KEY, 5)];
        totals.apply(&Tick { life: gone, ..tick(3, None) });
        assert_eq!(of(&totals), 1_300, "one that ended does not go on");
        totals.apply(&tick(4, Some(open(0))));
        totals.apply(&tick(5, None));
        assert_eq!(of(&totals), 0);
    }
}
