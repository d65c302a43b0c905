//! Metrics for Prometheus: counters and histograms of a session, of bounded number.
//!
//! [`Metrics`] adds up ticks, live ones or those of a recording, and prints what came of it. Which metrics there
//! are is in [`families`]; the bounds are [`Limits`] and are told in `docs/export.md`.

pub mod families;
pub mod http;
mod print;
mod sink;
mod sums;
pub mod text;

pub use sink::MetricsSink;

use super::follow::World;
use crate::model::ids::{Kind, VcpuKey, VmId};
use crate::model::session::Session;
use crate::model::tick::{Lost, PhaseTimes, Tick, VmInfo};
use crate::model::totals::Totals;
use std::collections::{BTreeMap, BTreeSet};
use sums::{OTHER, Place, Reasons, VmSums, grow};
use text::Dialect;

/// How many series there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// VMs at a time that have series of their own.
    pub vms: usize,
    /// vCPUs at a time, over all VMs.
    pub vcpus: usize,
    /// Reasons of kernel exits, and as many of userspace exits, over all VMs.
    pub reasons: usize,
    /// For how long after its end a VM is still told of, ns; for ever where that is `None`.
    pub linger_ns: Option<u64>,
}

impl Limits {
    /// For a service that runs for months: a VM's last numbers are there for five minutes more.
    pub const LIVE: Self =
        Self { vms: 512, vcpus: 4096, reasons: 64, linger_ns: Some(300_000_000_000) };
    /// For a recording, which ends: those that ended in it are told of.
    pub const FILE: Self = Self { linger_ns: None, ..Self::LIVE };
}

/// What ticks added up to.
#[derive(Clone, Debug)]
pub struct Metrics {
    world: World,
    limits: Limits,
    exits: Reasons,
    userspace: Reasons,
    vms: BTreeMap<VmId, VmSums>,
    /// VMs that have no series of their own, together.
    rest: Option<Box<VmSums>>,
    /// Which VM has a label.
    labels: BTreeMap<String, VmId>,
    /// vCPUs that have series of their own.
    vcpus: usize,
    lost: Lost,
    lost_ticks: u64,
    ticks: u64,
    measured_ns: u64,
    end_ns: u64,
    last_seq: u64,
    own_cpu_ns: u64,
    steal_ns: u64,
    slow: u64,
}

impl Metrics {
    /// Nothing yet.
    pub fn new(session: Session, limits: Limits) -> Self {
        Self {
            world: World::new(session),
            limits,
            exits: Reasons::new(limits.reasons),
            userspace: Reasons::new(limits.reasons),
            vms: BTreeMap::new(),
            rest: None,
            labels: BTreeMap::new(),
            vcpus: 0,
            lost: Lost::default(),
            lost_ticks: 0,
            ticks: 0,
            measured_ns: 0,
            end_ns: 0,
            last_seq: 0,
            own_cpu_ns: 0,
            steal_ns: 0,
            slow: 0,
        }
    }

    /// Something in the session changed.
    pub fn session(&mut self, session: Session) {
        self.world.session = session;
    }

    /// Who is there, and what is known of the session.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Who is there where it begins, or after a gap.
    pub fn known(&mut self, totals: &Totals) {
        self.world.who.known(totals);
    }

    /// Adds a tick.
    pub fn apply(&mut self, tick: &Tick) {
        let silent = self.world.who.begin(tick);
        self.tell();
        for vcpu in &tick.vcpus {
            let places = self.places(vcpu);
            let has_room = self.has_room(vcpu.key);
            self.vm(vcpu.key.vm).add(vcpu, &places, has_room);
        }
        for (key, phase) in silent {
            let mut time = PhaseTimes::default();
            if let Some(part) = time.0.get_mut(phase as usize) {
                *part = tick.dur_ns;
            }
            let has_room = self.has_room(key);
            self.vm(key.vm).vcpu(key.vcpu, has_room).time.add(&time);
        }
        for beside in &tick.vms {
            self.vm(beside.id).beside(beside);
        }
        self.host(tick);
        self.world.who.end(tick);
        if let Some(linger_ns) = self.limits.linger_ns {
            self.forget(tick.end_ns.saturating_sub(linger_ns));
        }
    }

    fn host(&mut self, tick: &Tick) {
        self.lost.add(&tick.lost);
        if self.ticks > 0 {
            grow(&mut self.lost_ticks, tick.seq.saturating_sub(self.last_seq.saturating_add(1)));
        }
        self.ticks += 1;
        self.last_seq = tick.seq;
        grow(&mut self.measured_ns, tick.dur_ns);
        self.end_ns = tick.end_ns;
        grow(&mut self.own_cpu_ns, tick.host.own_cpu_ns);
        grow(&mut self.steal_ns, tick.host.steal_ns);
        grow(&mut self.slow, (tick.outliers.len() as u64).saturating_add(tick.outliers_left_out));
    }

    /// Gives every VM that lives its series and its label while there is room.
    fn tell(&mut self) {
        let living: Vec<VmInfo> = self.world.who.living().cloned().collect();
        for info in &living {
            if let Some(sums) = self.vms.get(&info.id) {
                let is_new = !is_label_of(&sums.label, info);
                if is_new {
                    self.labels.remove(&sums.label.clone());
                    self.name(info);
                }
            } else if self.vms.len() < self.limits.vms {
                self.vms.insert(info.id, VmSums::default());
                self.name(info);
            }
        }
    }

    /// Gives a VM a label that no other has. Live, one that ended makes way for one of its name that lives; a
    /// recording's sums are all told of.
    fn name(&mut self, info: &VmInfo) {
        let plain = text::bounded(&info.name);
        if let Some(&holder) = self.labels.get(&plain) {
            let lives = self.world.who.living().any(|vm| vm.id == holder);
            if !lives && holder != info.id && self.limits.linger_ns.is_some() {
                self.drop_vm(holder);
            }
        }
        let is_free = |label: &String| label != OTHER && !self.labels.contains_key(label);
        let label = labels(info, &plain).into_iter().find(is_free);
        let label = label.unwrap_or_else(|| format!("VM {}", info.id.0));
        self.labels.insert(label.clone(), info.id);
        if let Some(sums) = self.vms.get_mut(&info.id) {
            sums.label = label;
        }
    }

    fn drop_vm(&mut self, id: VmId) {
        if let Some(gone) = self.vms.remove(&id) {
            self.vcpus = self.vcpus.saturating_sub(gone.vcpus.len());
            self.labels.remove(&gone.label);
        }
        self.world.who.forget(id);
    }

    fn forget(&mut self, until_ns: u64) {
        for id in self.world.who.gone_by(until_ns) {
            self.drop_vm(id);
        }
    }

    /// The sums of a VM, or those of all that have none of their own.
    fn vm(&mut self, id: VmId) -> &mut VmSums {
        match self.vms.get_mut(&id) {
            Some(vm) => vm,
            None => self.rest.get_or_insert_with(|| {
                Box::new(VmSums { label: OTHER.to_owned(), ..VmSums::default() })
            }),
        }
    }

    /// Whether a vCPU has series of its own; from now on it has, if there is room.
    fn has_room(&mut self, key: VcpuKey) -> bool {
        let Some(vm) = self.vms.get(&key.vm) else { return false };
        if vm.vcpus.contains_key(&key.vcpu) {
            return true;
        }
        let has_room = self.vcpus < self.limits.vcpus;
        self.vcpus += usize::from(has_room);
        has_room
    }

    fn places(&mut self, vcpu: &crate::model::tick::VcpuTick) -> Vec<Place> {
        let names = &self.world.session.names;
        let place = |reason: crate::model::ids::Reason| match reason.kind {
            Kind::Exit => self.exits.place(reason, names),
            Kind::Userspace => self.userspace.place(reason, names),
        };
        vcpu.cells.iter().map(|cell| cell.reason).map(place).collect()
    }

    /// What it came to, as text.
    pub fn render(&self, dialect: Dialect) -> String {
        print::print(self, dialect)
    }

    /// VMs and vCPUs that live and have no series of their own.
    fn folded(&self) -> (usize, usize) {
        let own: BTreeSet<VmId> = self.vms.keys().copied().collect();
        let vms = self.world.who.living().filter(|vm| !own.contains(&vm.id)).count();
        let has_own = |key: &VcpuKey| {
            self.vms.get(&key.vm).is_some_and(|vm| vm.vcpus.contains_key(&key.vcpu))
        };
        let vcpus = self.world.who.vcpus().filter(|key| !has_own(key)).count();
        (vms, vcpus)
    }
}

/// What a VM may be called: as it is, else with what tells it from others of its name.
fn labels(info: &VmInfo, plain: &str) -> [String; 3] {
    [
        plain.to_owned(),
        format!("{plain} (pid {})", info.pid),
        format!("{plain} (pid {}, VM {})", info.pid, info.id.0),
    ]
}

fn is_label_of(label: &str, info: &VmInfo) -> bool {
    labels(info, &text::bounded(&info.name)).iter().any(|known| known == label)
}

#[cfg(test)]
mod tests;
