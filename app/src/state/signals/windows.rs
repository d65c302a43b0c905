//! Windows of halt polling over time: noted where they change.

use crate::model::ids::{VcpuKey, VmId};
use crate::model::tick::Tick;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Changes of a vCPU that are kept; the oldest leave first.
const KEPT: usize = 1_024;

/// From which tick on (by place) a vCPU had which window, ns.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    vcpus: BTreeMap<VcpuKey, VecDeque<(u64, u64)>>,
}

impl Windows {
    /// Adds the latest tick's. Forgets what was before `oldest`, but for the last of it, which holds on.
    pub fn push(&mut self, place: u64, oldest: u64, tick: &Tick) {
        for vcpu in &tick.vcpus {
            let Some(window) = vcpu.meters.window else { continue };
            let changes = self.vcpus.entry(vcpu.key).or_default();
            if changes.back().is_none_or(|&(_, ns)| ns != window.now_ns) {
                changes.push_back((place, window.now_ns));
            }
            while changes.len() > KEPT || changes.get(1).is_some_and(|&(at, _)| at <= oldest) {
                changes.pop_front();
            }
        }
    }

    /// Forgets VMs that are not kept.
    pub fn retain(&mut self, keep: impl Fn(VmId) -> bool) {
        self.vcpus.retain(|key, _| keep(key.vm));
    }

    /// A vCPU's window tick by tick, or the largest of a VM's; `None` where it was not known yet.
    pub fn trend(&self, vcpus: Range<VcpuKey>, places: Range<u64>) -> Vec<Option<f64>> {
        let mut out = vec![None; usize::try_from(places.end - places.start).unwrap_or(0)];
        for changes in self.vcpus.range(vcpus).map(|(_, changes)| changes) {
            let mut next = changes.iter().peekable();
            let mut now: Option<u64> = None;
            for (place, value) in (places.start..).zip(&mut out) {
                while let Some(&(_, ns)) = next.next_if(|(at, _)| *at <= place) {
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
        windows.push(3, 0, &tick(&[(0, 10)]));
        windows.push(5, 0, &tick(&[(0, 10), (1, 40)]));
        windows.push(6, 0, &tick(&[(0, 20), (1, 5)]));
        let key = |vcpu| VcpuKey { vm: VmId(1), vcpu };
        let one = windows.trend(key(0)..key(1), 2..8);
        assert_eq!(one, [None, Some(10.0), Some(10.0), Some(10.0), Some(20.0), Some(20.0)]);
        let all = windows.trend(key(0)..key(9), 4..8);
        assert_eq!(all, [Some(10.0), Some(40.0), Some(20.0), Some(20.0)]);
        // What is older than the history goes, but for what still holds.
        windows.push(9, 6, &tick(&[(0, 30)]));
        assert_eq!(windows.trend(key(0)..key(1), 7..10), [Some(20.0), Some(20.0), Some(30.0)]);
        assert_eq!(windows.vcpus[&key(0)].len(), 2);
        windows.retain(|_| false);
        assert!(windows.vcpus.is_empty());
    }
}
