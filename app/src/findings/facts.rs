//! Facts over everything that was measured, for reports.

use super::{Facts, MeterFacts, ReasonFacts, VcpuFacts, VmFacts};
use crate::model::detail::{KeyId, KeyTick};
use crate::model::ids::{Reason, VcpuKey};
use crate::model::meters::MeterKind;
use crate::model::session::ReasonNames;
use crate::model::stats::Sum;
use crate::model::tick::Phase;
use crate::model::totals::{KeySum, Meters, Totals, VcpuTotals, VmTotals};

/// What the totals come to. VMs that ended are there too, as they may be what was measured; they
/// and vCPUs that ended do nothing any more.
pub fn facts_of(totals: &Totals, names: &ReasonNames) -> Facts {
    Facts {
        over_ns: totals.measured_ns,
        vms: totals.vms.values().map(|vm| of_vm(vm, totals.end_ns, names)).collect(),
    }
}

fn of_vm(vm: &VmTotals, now_ns: u64, names: &ReasonNames) -> VmFacts {
    let of_vcpu = |(&vcpu, totals): (&u32, &VcpuTotals)| {
        let key = VcpuKey { vm: vm.info.id, vcpu };
        let ended = vm.ended_ns.is_some() || totals.ended_ns.is_some();
        of_vcpu(key, totals, (!ended).then_some(now_ns), names)
    };
    VmFacts {
        id: vm.info.id,
        name: vm.info.name.clone(),
        pid: vm.info.pid,
        beside: vm.beside.clone(),
        vcpus: vm.vcpus.iter().map(of_vcpu).collect(),
    }
}

/// `now_ns` is `None` for one that ended.
fn of_vcpu(
    key: VcpuKey,
    totals: &VcpuTotals,
    now_ns: Option<u64>,
    names: &ReasonNames,
) -> VcpuFacts {
    let age = |since_ns: u64| now_ns.map(|now| now.saturating_sub(since_ns));
    let (phase, since_ns) = totals.phase;
    VcpuFacts {
        key,
        time: totals.time,
        reasons: totals.cells.iter().map(|(&reason, sum)| of_reason(reason, sum, names)).collect(),
        keys: totals.keys.iter().map(|(id, sum)| of_key(*id, sum)).collect(),
        halts: totals.halts,
        culprits: totals.culprits.clone(),
        meters: of_meters(&totals.meters),
        doing: age(since_ns).map_or((Phase::Unknown, 0), |ns| (phase, ns)),
        open: totals.open.and_then(|open| Some((open, age(open.begun_ns)?))),
    }
}

fn of_meters(meters: &Meters) -> MeterFacts {
    let late = meters.of(MeterKind::Late);
    MeterFacts {
        migrations: meters.migrations,
        crossings: meters.crossings,
        late: late.map_or(0, |late| late.count),
        late_ticks: late.map_or(0, |late| late.total_ns),
    }
}

fn of_reason(reason: Reason, sum: &Sum, names: &ReasonNames) -> ReasonFacts {
    ReasonFacts {
        reason,
        name: names.name(reason).into_owned(),
        count: sum.count,
        timed: sum.timed(),
        total_ns: sum.total_ns,
        off_ns: sum.off_ns,
        vmm_ns: sum.vmm_ns,
        max_ns: sum.max_ns,
    }
}

fn of_key(id: KeyId, sum: &KeySum) -> KeyTick {
    let KeySum { count, timed, total_ns, off_ns, vmm_ns, max_ns } = *sum;
    KeyTick { id, count, timed, total_ns, off_ns, vmm_ns, max_ns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::detail::VmTick;
    use crate::model::ids::{Isa, VmId};
    use crate::model::testing::sample_tick;
    use crate::model::tick::{Life, Tick};
    use crate::source::synth::names;

    #[test]
    fn facts_are_the_totals() {
        let tick = sample_tick();
        let mut totals = Totals::default();
        totals.apply(&tick);
        let facts = facts_of(&totals, &names());
        assert_eq!(facts.over_ns, tick.dur_ns);
        let vm = &facts.vms[0];
        assert_eq!((vm.name.as_str(), vm.pid), ("web-7", 4711));
        let beside = VmTick { ioctls: Vec::new(), apicv_inhibits: None, ..tick.vms[0].clone() };
        assert_eq!(vm.beside, Some(beside));
        let vcpu = &vm.vcpus[0];
        assert_eq!((&vcpu.keys, &vcpu.culprits), (&tick.vcpus[0].keys, &tick.vcpus[0].culprits));
        assert_eq!((vcpu.time, vcpu.halts), (tick.vcpus[0].time, tick.vcpus[0].halts));
        assert_eq!(vcpu.doing, (Phase::Guest, 1_000_000));
        assert_eq!(vcpu.open.map(|(_, ns)| ns), Some(500_000_000));
        let write = &vcpu.reasons[0];
        assert_eq!((write.name.as_str(), write.count, write.timed), ("MSR_WRITE", 3, 3));
        assert_eq!((write.total_ns, write.max_ns), (90_100, 88_000));
        assert_eq!(write.reason, Reason::exit(Isa::Vmx, 32));
        let mut meters = MeterFacts::default();
        meters.add(&tick.vcpus[0].meters);
        assert_eq!((vcpu.meters, meters.migrations), (meters, 2));
    }

    #[test]
    fn what_ended_does_nothing() {
        let mut totals = Totals::default();
        totals.apply(&sample_tick());
        let gone = vec![Life::VmGone(VmId(1), 11_000_000_000)];
        totals.apply(&Tick { seq: 8, end_ns: 99_000_000_000, life: gone, ..Tick::default() });
        let vcpu = &facts_of(&totals, &names()).vms[0].vcpus[0];
        assert_eq!((vcpu.doing, vcpu.open), ((Phase::Unknown, 0), None));
        assert_eq!(vcpu.keys.len(), 2);
    }
}
