//! Everything since the start: VM → vCPU → reason, for reports.

use super::ids::{Reason, VcpuKey, VmId};
use super::stats::Sum;
use super::tick::{Life, Lost, OpenExit, Phase, PhaseTimes, Tick, VcpuInfo, VcpuTick, VmInfo};
use std::collections::BTreeMap;

/// Sums from the first tick on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// By VM, those that are gone too.
    pub vms: BTreeMap<VmId, VmTotals>,
    /// What was missed.
    pub lost: Lost,
    /// Ticks that never arrived.
    pub lost_ticks: u64,
    /// Ticks that did.
    pub ticks: u64,
    /// Sum of their lengths, ns.
    pub measured_ns: u64,
    /// End of the last one, ns of the probes' clock.
    pub end_ns: u64,
    last_seq: u64,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VmTotals {
    /// Who.
    pub info: VmInfo,
    /// When it ended, ns of the probes' clock.
    pub ended_ns: Option<u64>,
    /// Its vCPUs by number.
    pub vcpus: BTreeMap<u32, VcpuTotals>,
}

/// A vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VcpuTotals {
    /// Who.
    pub info: VcpuInfo,
    /// When its last thread ended, ns of the probes' clock.
    pub ended_ns: Option<u64>,
    /// Physical CPU of its last event.
    pub cpu: u32,
    /// What it did last, and since when (ns of the probes' clock).
    pub phase: (Phase, u64),
    /// The exit that it is still handling.
    pub open: Option<OpenExit>,
    /// Where its time went. Its sum is the wall time that was measured of it.
    pub time: PhaseTimes,
    /// Its reasons. Boxed, because a sum is a kilobyte.
    pub cells: BTreeMap<Reason, Box<Sum>>,
}

impl Totals {
    /// Adds a tick.
    pub fn apply(&mut self, tick: &Tick) {
        for life in &tick.life {
            self.live(life);
        }
        self.wait_out(tick);
        for vcpu in &tick.vcpus {
            self.vcpu(vcpu.key).apply(vcpu);
        }
        self.lost.add(&tick.lost);
        if self.ticks > 0 {
            let missed = tick.seq.saturating_sub(self.last_seq.saturating_add(1));
            self.lost_ticks = self.lost_ticks.saturating_add(missed);
        }
        self.ticks += 1;
        self.last_seq = tick.seq;
        self.measured_ns = self.measured_ns.saturating_add(tick.dur_ns);
        self.end_ns = tick.end_ns;
    }

    /// A living vCPU that a tick does not mention did all the while what it did before.
    fn wait_out(&mut self, tick: &Tick) {
        for (id, vm) in &mut self.vms {
            for (&number, vcpu) in vm.vcpus.iter_mut().filter(|(_, v)| v.ended_ns.is_none()) {
                let key = VcpuKey { vm: *id, vcpu: number };
                if tick.vcpus.binary_search_by_key(&key, |vcpu| vcpu.key).is_err() {
                    let mut time = PhaseTimes::default();
                    time.0[vcpu.phase.0 as usize] = tick.dur_ns;
                    vcpu.time.add(&time);
                }
            }
        }
    }

    fn live(&mut self, life: &Life) {
        match life {
            Life::Vm(info) => self.vm(info.id).info = info.clone(),
            Life::Vcpu(info) => {
                let vcpu = self.vcpu(info.key);
                vcpu.info = *info;
                vcpu.ended_ns = None;
            }
            Life::VcpuGone(key, at) => self.vcpu(*key).ended_ns = Some(*at),
            Life::VmGone(vm, at) => self.vm(*vm).ended_ns = Some(*at),
        }
    }

    fn vm(&mut self, id: VmId) -> &mut VmTotals {
        self.vms.entry(id).or_insert_with(|| VmTotals {
            info: VmInfo { id, name: format!("VM {}", id.0), ..VmInfo::default() },
            ..VmTotals::default()
        })
    }

    fn vcpu(&mut self, key: VcpuKey) -> &mut VcpuTotals {
        self.vm(key.vm).vcpus.entry(key.vcpu).or_insert_with(|| VcpuTotals {
            info: VcpuInfo { key, ..VcpuInfo::default() },
            ..VcpuTotals::default()
        })
    }
}

impl VcpuTotals {
    fn apply(&mut self, tick: &VcpuTick) {
        self.cpu = tick.cpu;
        self.phase = (tick.phase, tick.since_ns);
        self.open = tick.open;
        self.time.add(&tick.time);
        for cell in &tick.cells {
            self.cells.entry(cell.reason).or_default().add(cell);
        }
    }

    /// How old the exit still being handled is at `now_ns`, if it is of this reason.
    pub fn open_ns(&self, reason: Reason, now_ns: u64) -> Option<u64> {
        let open = self.open.filter(|open| open.reason == reason)?;
        Some(now_ns.saturating_sub(open.begun_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Isa;
    use crate::model::testing::{cell, sample_tick, vcpu};

    #[test]
    fn ticks_add_up() {
        let reason = Reason::exit(Isa::Vmx, 10);
        let mut totals = Totals::default();
        for (seq, times) in [(1, [500, 700]), (2, [300, 90_000]), (4, [1000, 1000])] {
            let vcpus = vec![vcpu(3, 1, 1_000, vec![cell(reason, &times)])];
            totals.apply(&Tick { seq, dur_ns: 1_000, vcpus, ..Tick::default() });
        }
        let vcpu = &totals.vms[&VmId(3)].vcpus[&1];
        let stats = vcpu.cells[&reason].stats();
        assert_eq!((stats.count, stats.timed, stats.total_ns), (6, 6, 93_500));
        let latency = stats.latency.expect("timed");
        assert_eq!((latency.min_ns, latency.max_ns), (300, 90_000));
        assert_eq!(vcpu.time.sum(), 3_000);
        assert_eq!((totals.ticks, totals.lost_ticks, totals.measured_ns), (3, 1, 3_000));
    }

    #[test]
    fn a_silent_vcpu_goes_on_with_what_it_did_until_it_ends() {
        let key = VcpuKey { vm: VmId(3), vcpu: 1 };
        let halted = |dur_ns| {
            let mut time = PhaseTimes::default();
            time.0[Phase::Blocked as usize] = dur_ns;
            VcpuTick { key, phase: Phase::Blocked, time, ..VcpuTick::default() }
        };
        let tick = |seq, dur_ns, vcpus| Tick { seq, dur_ns, vcpus, ..Tick::default() };
        let mut totals = Totals::default();
        totals.apply(&tick(1, 1_000, vec![]));
        totals.apply(&tick(2, 1_000, vec![halted(400)]));
        totals.apply(&tick(3, 2_000, vec![vcpu(3, 0, 2_000, vec![])]));
        let gone = |at, seq, vcpus| Tick {
            life: vec![Life::VcpuGone(key, at)],
            ..tick(seq, 1_000, vcpus)
        };
        totals.apply(&gone(4_500, 4, vec![halted(500)]));
        totals.apply(&tick(5, 1_000, vec![]));
        let vcpus = &totals.vms[&VmId(3)].vcpus;
        assert_eq!(vcpus[&1].time.get(Phase::Blocked), 400 + 2_000 + 500);
        assert_eq!(vcpus[&1].time.sum(), 2_900);
        assert_eq!(vcpus[&0].time.get(Phase::Guest), 2_000 + 2 * 1_000);
    }

    #[test]
    fn life_is_followed() {
        let mut totals = Totals::default();
        totals.apply(&sample_tick());
        assert_eq!(totals.vms[&VmId(1)].info.name, "web-7");
        assert_eq!(totals.vms[&VmId(1)].vcpus[&0].info.tid, 4712);
        assert_eq!(totals.vms[&VmId(9)].ended_ns, Some(9_000_000_000));
        let vcpu = &totals.vms[&VmId(1)].vcpus[&0];
        assert_eq!(vcpu.open_ns(Reason::exit(Isa::Vmx, 12), 10_000_000_000), Some(500_000_000));
        assert_eq!(vcpu.open_ns(Reason::exit(Isa::Vmx, 32), 10_000_000_000), None);
    }
}
