//! Windows of halt polling over time: noted where they change.

use super::Changes;
use crate::model::ids::VcpuKey;
use crate::model::tick::Tick;
use std::ops::Range;

/// Windows by vCPU, ns.
pub(crate) type Windows = Changes<VcpuKey, 1_024>;

impl Windows {
    /// Adds the latest tick's, at a place; the oldest tick that is kept is at `oldest`.
    pub fn add(&mut self, place: u64, oldest: u64, tick: &Tick) {
        for (key, window) in tick.vcpus.iter().filter_map(|v| Some((v.key, v.meters.window?))) {
            self.push(key, (place, oldest), window.now_ns);
        }
    }

    /// A vCPU's window tick by tick, or the largest of a VM's; `None` where it was not known yet.
    pub fn trend(&self, vcpus: Range<VcpuKey>, places: Range<u64>) -> Vec<Option<f64>> {
        let mut out = vec![None; usize::try_from(places.end - places.start).unwrap_or(0)];
        for changes in self.range(vcpus) {
            let mut next = changes.peekable();
            let mut now: Option<u64> = None;
            for (place, value) in (places.start..).zip(&mut out) {
                while let Some((_, ns)) = next.next_if(|(at, _)| *at <= place) {
                    now = Some(ns);
                }
                if let Some(ns) = now {
                    *value = Some(value.map_or(ns as f64, |known: f64| known.max(ns as f64)));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::VmId;
    use crate::model::meters::{MetersTick, WindowTick};
    use crate::model::tick::VcpuTick;

    fn tick(vcpus: &[(u32, u64)]) -> Tick {
        let vcpu = |&(vcpu, now_ns): &(u32, u64)| VcpuTick {
            key: VcpuKey { vm: VmId(1), vcpu },
            meters: MetersTick {
                window: Some(WindowTick { now_ns, grew: 0, shrank: 0 }),
                ..MetersTick::default()
            },
            ..VcpuTick::default()
        };
        Tick { vcpus: vcpus.iter().map(vcpu).collect(), ..Tick::default() }
    }

    #[test]
    fn a_window_holds_until_it_changes() {
        let mut windows = Windows::default();
        windows.add(3, 0, &tick(&[(0, 10)]));
        windows.add(5, 0, &tick(&[(0, 10), (1, 40)]));
        windows.add(6, 0, &tick(&[(0, 20), (1, 5)]));
        let key = |vcpu| VcpuKey { vm: VmId(1), vcpu };
        let one = windows.trend(key(0)..key(1), 2..8);
        assert_eq!(one, [None, Some(10.0), Some(10.0), Some(10.0), Some(20.0), Some(20.0)]);
        let all = windows.trend(key(0)..key(9), 4..8);
        assert_eq!(all, [Some(10.0), Some(40.0), Some(20.0), Some(20.0)]);
        // What is older than the history goes, but for what still holds.
        windows.add(9, 6, &tick(&[(0, 30)]));
        assert_eq!(windows.trend(key(0)..key(1), 7..10), [Some(20.0), Some(20.0), Some(30.0)]);
        assert_eq!(windows.range(key(0)..key(1)).map(Iterator::count).sum::<usize>(), 2);
        windows.retain(|_| false);
        assert_eq!(windows.range(key(0)..key(9)).count(), 0);
    }
}
