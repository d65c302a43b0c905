//! Who is there, apart from what adds up: where sums of a later while begin, and where they go on after a gap.

use super::{Meters, Totals, VcpuTotals, VmTotals};
use crate::model::ids::VcpuKey;

impl Totals {
    /// Everybody who is there, in the state they are in, without anything that adds up: where sums of a later
    /// while begin.
    pub fn who_is_there(&self) -> Self {
        let alive = |vm: &&VmTotals| vm.ended_ns.is_none();
        let vms = self.vms.values().filter(alive).map(|vm| (vm.info.id, vm.who_is_there()));
        Self { vms: vms.collect(), end_ns: self.end_ns, last_seq: self.last_seq, ..Self::default() }
    }

    /// Takes over from a later state who is there, and in which state, without anything that adds up: after
    /// ticks that are missing.
    pub fn meet(&mut self, later: &Self) {
        for (id, theirs) in &later.vms {
            let vm = self.vm(*id);
            vm.info.clone_from(&theirs.info);
            (vm.ended_ns, vm.apicv_inhibits) = (theirs.ended_ns, theirs.apicv_inhibits);
            for (number, theirs) in &theirs.vcpus {
                let vcpu = self.vcpu(VcpuKey { vm: *id, vcpu: *number });
                (vcpu.info, vcpu.ended_ns, vcpu.cpu) = (theirs.info, theirs.ended_ns, theirs.cpu);
                (vcpu.phase, vcpu.open) = (theirs.phase, theirs.open);
                vcpu.meters.loaded_open_ns = theirs.meters.loaded_open_ns;
            }
        }
    }

    /// Number of the last tick, by which missing ones are known.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The same after a tick of this number.
    pub(crate) fn after(self, last_seq: u64) -> Self {
        Self { last_seq, ..self }
    }
}

impl VmTotals {
    fn who_is_there(&self) -> Self {
        let alive = self.vcpus.iter().filter(|(_, vcpu)| vcpu.ended_ns.is_none());
        let vcpus = alive.map(|(&number, vcpu)| (number, vcpu.who_is_there()));
        let apicv_inhibits = self.apicv_inhibits;
        Self { info: self.info.clone(), vcpus: vcpus.collect(), apicv_inhibits, ..Self::default() }
    }
}

impl VcpuTotals {
    fn who_is_there(&self) -> Self {
        let Self { info, cpu, phase, open, .. } = *self;
        let loaded_open_ns = self.meters.loaded_open_ns;
        let meters = Meters { loaded_open_ns, ..Meters::default() };
        Self { info, cpu, phase, open, meters, ..Self::default() }
    }
}
