//! KVM's ioctls (family `ioctl`): from the probes' rows to VMs.

use super::Freed;
use crate::{
    model::{
        detail::{IoctlTick, VmTick},
        ids::VmId,
    },
    source::live::{
        identity::{Home, Identities, Names},
        memory::Memory,
    },
};
use kvmscope_shared::ioctl::{Call, Tally};
use std::collections::{BTreeMap, BTreeSet};

/// What was told of each row.
#[derive(Default)]
pub struct Ioctls {
    told: Vec<Told>,
    /// Thread groups that were found dead in the tick before.
    dead: BTreeSet<u32>,
    /// Calls that found no row.
    unplaced: u64,
}

#[derive(Clone, Copy, Default)]
struct Told {
    call: Call,
    tally: Tally,
}

impl Ioctls {
    /// Forgets everything: the maps are new.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether rows were ever looked at: there may be something in them.
    pub fn has_some(&self) -> bool {
        !self.told.is_empty()
    }

    /// Calls that found no row, since the probes were loaded.
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// What ended since the last tick, by VM, each with nothing else in it; and rows that nobody will
    /// use again. What a process calls before its first vCPU runs waits until then. `last` is the last tick.
    pub fn advance(
        &mut self,
        memory: &dyn Memory,
        who: &Identities,
        names: &mut dyn Names,
        last: bool,
        freed: &mut Vec<Freed>,
    ) -> Vec<VmTick> {
        let rows = memory.ioctl_rows();
        if rows == 0 {
            return Vec::new();
        }
        self.told.resize(rows as usize, Told::default());
        self.unplaced = memory.ioctl_tally(0).count;
        let mut ended: BTreeMap<VmId, BTreeMap<u32, IoctlTick>> = BTreeMap::new();
        // By thread group: whether it is dead.
        let mut seen: BTreeMap<u32, bool> = BTreeMap::new();
        for (row, told) in (0..).zip(&mut self.told).skip(1) {
            let call = memory.ioctl_call(row);
            if call.tgid == 0 {
                continue;
            }
            if told.call != call {
                *told = Told { call, tally: Tally::default() };
            }
            let dead = *seen.entry(call.tgid).or_insert_with(|| {
                who.vm_of_process(call.tgid).is_none() && !names.alive(call.tgid, 0)
            });
            // Once it was found dead, whatever it did was read after that.
            let over = dead && self.dead.contains(&call.tgid);
            let tally = memory.ioctl_tally(row);
            let home = who.home(call.tgid, call.kvm);
            let vm = match home {
                Home::Vm { id, .. } => Some(id),
                Home::Perhaps(id) if over || last => id,
                Home::Perhaps(_) => None,
            };
            let changed = tally != told.tally;
            if let Some(vm) = vm.filter(|_| changed) {
                let tick = ended.entry(vm).or_default().entry(call.command).or_default();
                add(tick, call.command, &tally, &told.tally);
                told.tally = tally;
            }
            let vm_over = matches!(home, Home::Vm { gone: true, .. }) && call.kvm != 0 && !changed;
            if over || vm_over {
                *told = Told::default();
                freed.push(Freed::Ioctl(row, call));
            }
        }
        self.dead = seen.into_iter().filter(|(_, dead)| *dead).map(|(tgid, _)| tgid).collect();
        let tick = |(id, by_command): (VmId, BTreeMap<u32, IoctlTick>)| VmTick {
            id,
            ioctls: by_command.into_values().collect(),
            ..VmTick::default()
        };
        ended.into_iter().map(tick).collect()
    }
}

/// Adds a row's change. Commands of a VM may be in several rows: what its process asked `/dev/kvm`.
fn add(tick: &mut IoctlTick, command: u32, now: &Tally, before: &Tally) {
    tick.command = command;
    tick.count += now.count.saturating_sub(before.count);
    tick.failed += now.failed.saturating_sub(before.failed);
    tick.total_ns += now.total_ns.saturating_sub(before.total_ns);
    tick.max_ns = tick.max_ns.max(now.max_ns);
}

/// Puts what the probes tell of VMs beside what else is known of them in a tick.
pub fn merge(vms: &mut Vec<VmTick>, ioctls: Vec<VmTick>) {
    for tick in ioctls {
        match vms.iter_mut().find(|vm| vm.id == tick.id) {
            Some(vm) => {
                (vm.ioctls, vm.apicv_inhibits) = (tick.ioctls, tick.apicv_inhibits);
            }
            None => vms.push(tick),
        }
    }
    vms.sort_by_key(|vm| vm.id);
}
