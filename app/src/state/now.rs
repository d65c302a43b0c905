//! The displayed tick, read together with who is known: what rows are made of.

use super::baseline::Taken;
use super::entities::{Entities, Vcpu, Vm};
use super::keys::{self, KeySums, TopKey};
use super::load::{Loader, per_second, ratio};
use super::moment::{Moments, Shown};
use super::nav::{RowId, Who};
use super::rows::{Load, Open, ReasonRow, VcpuRow, VmRow};
use crate::model::ids::{Kind, Reason, VcpuKey, VmId};
use crate::model::session::Session;
use crate::model::stats::{Stats, Sum};
use crate::model::tick::{OpenExit, Phase, PhaseTimes, Tick, VcpuTick};
use std::collections::BTreeMap;

/// What there is to read.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub session: &'a Session,
    pub entities: &'a Entities,
    pub moments: &'a Moments,
    pub shown: &'a Shown,
    /// The baseline, where one was taken.
    pub taken: Option<&'a Taken>,
}

/// A vCPU at the displayed tick.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub vcpu: &'a Vcpu,
    /// Its numbers: the displayed tick's, or the last ones of a vCPU that is gone. `None` when it
    /// did nothing.
    pub measured: Option<&'a VcpuTick>,
    /// Length of the tick that they are of, ns.
    pub dur_ns: u64,
    pub time: PhaseTimes,
    /// Wall time that shares are of, ns.
    pub wall_ns: u64,
    pub ended_ns: Option<u64>,
}

/// Cells of several vCPUs added up by reason, with the time they happened in.
#[derive(Default)]
pub(super) struct Sums {
    pub reasons: BTreeMap<Reason, Box<Sum>>,
    /// Length of the tick, ns.
    pub dur_ns: u64,
    /// Wall time of the vCPUs together, ns.
    pub wall_ns: u64,
    /// Since when an exit of a reason is open, the oldest; ns of the probes' clock.
    pub open: BTreeMap<Reason, u64>,
    /// What exits were about, where that was asked for.
    pub keys: KeySums,
}

impl Sums {
    /// What most exits of a reason were about.
    pub fn top(&self, reason: Reason, most: usize) -> Vec<TopKey> {
        let exits = self.reasons.get(&reason).map_or(0, |sum| sum.count);
        self.keys.top(reason, exits, self.dur_ns, most)
    }
}

/// The time of a vCPU in a tick that says nothing about it.
pub(super) fn went_on(vcpu: &Vcpu, end_ns: u64, dur_ns: u64) -> PhaseTimes {
    let mut time = PhaseTimes::default();
    if let Some(doing) = vcpu.doing.filter(|doing| doing.since_ns <= end_ns) {
        time.0[doing.phase as usize] = dur_ns;
    }
    time
}

impl<'a> Now<'a> {
    pub fn tick(&self) -> &'a Tick {
        &self.shown.tick
    }

    pub fn end_ns(&self) -> u64 {
        self.shown.tick.end_ns
    }

    /// The VMs to be shown.
    pub fn vms(self) -> impl Iterator<Item = &'a Vm> {
        let now = self.end_ns();
        self.entities.vms.values().filter(move |vm| {
            vm.span.known_at(now) && !(vm.cleared && vm.span.ended_at(now).is_some())
        })
    }

    /// The vCPUs of a VM to be shown.
    pub fn vcpus(self, vm: &'a Vm) -> impl Iterator<Item = Seen<'a>> {
        let now = self.end_ns();
        let vcpus = vm.vcpus.values().filter(move |vcpu| {
            let gone = vcpu.cleared && vcpu.span.ended_at(now).is_some();
            vcpu.span.known_at(now) && !(gone && vm.span.ended_at(now).is_none())
        });
        vcpus.map(move |vcpu| self.seen(vcpu))
    }

    /// The vCPUs that someone is.
    pub fn of(self, who: Who) -> Vec<Seen<'a>> {
        match who {
            Who::Vm(id) => {
                let vm = self.entities.vms.get(&id);
                vm.map(|vm| self.vcpus(vm).collect()).unwrap_or_default()
            }
            Who::Vcpu(key) => {
                self.entities.vcpu(key).map(|vcpu| self.seen(vcpu)).into_iter().collect()
            }
        }
    }

    fn measured(&self, key: VcpuKey) -> Option<&'a VcpuTick> {
        let vcpus = &self.shown.tick.vcpus;
        vcpus.get(vcpus.binary_search_by_key(&key, |vcpu| vcpu.key).ok()?)
    }

    fn seen(&self, vcpu: &'a Vcpu) -> Seen<'a> {
        let ended_ns = vcpu.span.ended_at(self.end_ns());
        let here = self.measured(vcpu.info.key);
        let (measured, dur_ns) = match (here, ended_ns, &vcpu.last) {
            (None, Some(_), Some((last, dur_ns))) => (Some(last.as_ref()), *dur_ns),
            _ => (here, self.tick().dur_ns),
        };
        let time = match measured {
            Some(measured) => measured.time,
            None if ended_ns.is_some() => PhaseTimes::default(),
            None => self.unchanged(vcpu),
        };
        let wall_ns = if time.sum() == 0 { dur_ns } else { time.sum() };
        Seen { vcpu, measured, dur_ns, time, wall_ns, ended_ns }
    }

    /// The time of a vCPU that the tick says nothing about: it went on with what it was doing, if
    /// that is known for then.
    fn unchanged(&self, vcpu: &Vcpu) -> PhaseTimes {
        went_on(vcpu, self.end_ns(), self.tick().dur_ns)
    }

    pub fn name(&self, vm: VmId) -> String {
        self.entities.vms.get(&vm).map_or_else(|| format!("VM {}", vm.0), |vm| vm.info.name.clone())
    }

    /// The name of the VM whose vCPU runs in this thread.
    pub fn vm_of_thread(&self, tid: u32) -> Option<String> {
        let runs = |vm: &&Vm| {
            let alive = vm.span.ended_at(self.end_ns()).is_none();
            alive && vm.vcpus.values().any(|vcpu| vcpu.info.tid == tid)
        };
        self.entities.vms.values().find(runs).map(|vm| vm.info.name.clone())
    }

    fn open(&self, open: OpenExit) -> Open {
        Open {
            reason: open.reason,
            name: self.session.names.name(open.reason).into_owned(),
            age_ns: self.end_ns().saturating_sub(open.begun_ns),
            rip: open.rip,
            info1: open.info1,
            info2: open.info2,
        }
    }

    pub fn vm_rows(&self) -> Vec<VmRow> {
        let mut loader = Loader::default();
        self.vms().map(|vm| self.vm_row(vm, &mut loader)).collect()
    }

    fn vm_row(self, vm: &'a Vm, loader: &mut Loader) -> VmRow {
        let ended_ns = vm.span.ended_at(self.end_ns());
        let (vcpus, load) = self.loaded(self.vcpus(vm), ended_ns.is_some(), loader);
        let load = self.compared(load, RowId::Vm(vm.info.id));
        VmRow {
            id: vm.info.id,
            name: vm.info.name.clone(),
            vmm: vm.info.vmm.clone(),
            pid: vm.info.pid,
            vcpus,
            load,
            started_unix_ns: vm.info.started_unix_ns,
            ended_unix_ns: ended_ns.map(|ns| self.session.unix_ns(ns)),
        }
    }

    /// Number and load of vCPUs together; those that are gone count only if all of them are.
    fn loaded(
        self,
        vcpus: impl Iterator<Item = Seen<'a>>,
        gone: bool,
        loader: &mut Loader,
    ) -> (usize, Load) {
        loader.clear();
        let (mut number, mut time, mut wall_ns) = (0, PhaseTimes::default(), 0u64);
        for seen in vcpus.filter(|seen| gone || seen.ended_ns.is_none() || self.has(seen)) {
            number += usize::from(gone || seen.ended_ns.is_none());
            time.add(&seen.time);
            wall_ns = wall_ns.saturating_add(seen.wall_ns);
            for cell in seen.measured.iter().flat_map(|measured| &measured.cells) {
                loader.add(cell);
            }
            loader.interval(seen.dur_ns);
        }
        (number, loader.load(time, wall_ns, &self.session.names))
    }

    /// With what changed since the baseline.
    fn compared(&self, load: Load, row: RowId) -> Load {
        let change = self.taken.and_then(|taken| taken.change(row, load.rate, load.user_rate));
        Load { change, ..load }
    }

    /// Whether the displayed tick itself has numbers of a vCPU.
    fn has(&self, seen: &Seen<'_>) -> bool {
        self.measured(seen.vcpu.info.key).is_some()
    }

    /// The rows of a VM's vCPUs, and the one for all of them.
    pub fn vcpu_rows(self, vm: VmId) -> (Option<VcpuRow>, Vec<VcpuRow>) {
        let Some(vm) = self.entities.vms.get(&vm) else { return (None, Vec::new()) };
        let mut loader = Loader::default();
        let ended_ns = vm.span.ended_at(self.end_ns());
        let (_, load) = self.loaded(self.vcpus(vm), ended_ns.is_some(), &mut loader);
        let load = self.compared(load, RowId::All(vm.info.id));
        let all = VcpuRow {
            id: RowId::All(vm.info.id),
            key: None,
            label: "all".to_owned(),
            tid: 0,
            guessed: false,
            cpu: None,
            phase: None,
            open: None,
            load,
            ended_unix_ns: ended_ns.map(|ns| self.session.unix_ns(ns)),
        };
        let rows = self.vcpus(vm).map(|seen| self.vcpu_row(seen, &mut loader)).collect();
        (Some(all), rows)
    }

    fn vcpu_row(self, seen: Seen<'a>, loader: &mut Loader) -> VcpuRow {
        let info = seen.vcpu.info;
        let (_, load) = self.loaded(std::iter::once(seen), true, loader);
        let load = self.compared(load, RowId::Vcpu(info.key));
        let doing = self.doing(&seen);
        VcpuRow {
            id: RowId::Vcpu(info.key),
            key: Some(info.key),
            label: format!("vCPU {}", info.key.vcpu),
            tid: info.tid,
            guessed: info.guessed,
            cpu: doing.map(|(cpu, ..)| cpu),
            phase: doing
                .filter(|_| seen.ended_ns.is_none())
                .map(|(_, phase, since_ns, _)| (phase, self.end_ns().saturating_sub(since_ns))),
            open: doing
                .filter(|_| seen.ended_ns.is_none())
                .and_then(|(.., open)| open.map(|open| self.open(open))),
            load,
            ended_unix_ns: seen.ended_ns.map(|ns| self.session.unix_ns(ns)),
        }
    }

    /// CPU, phase, since when, open exit: from the numbers, or what it has been doing since.
    pub fn doing(&self, seen: &Seen<'_>) -> Option<(u32, Phase, u64, Option<OpenExit>)> {
        if let Some(measured) = seen.measured {
            return Some((measured.cpu, measured.phase, measured.since_ns, measured.open));
        }
        let doing = seen.vcpu.doing.filter(|doing| doing.since_ns <= self.end_ns())?;
        Some((doing.cpu, doing.phase, doing.since_ns, doing.open))
    }

    /// The displayed tick's cells of someone, added up by reason.
    pub fn sums(&self, who: Who) -> Sums {
        let mut sums = Sums { dur_ns: self.tick().dur_ns, ..Sums::default() };
        for seen in self.of(who) {
            sums.wall_ns = sums.wall_ns.saturating_add(seen.wall_ns);
            if let Some(measured) = seen.measured {
                sums.dur_ns = seen.dur_ns;
                for cell in &measured.cells {
                    sums.reasons.entry(cell.reason).or_default().add(cell);
                }
            }
            let open = self.doing(&seen).filter(|_| seen.ended_ns.is_none());
            if let Some((.., Some(open))) = open {
                let oldest = sums.open.entry(open.reason).or_insert(open.begun_ns);
                *oldest = (*oldest).min(open.begun_ns);
            }
        }
        sums
    }

    /// As [`Self::sums`], with what the exits of one reason or of all were about; then of many
    /// vCPUs without pages and instruction pointers.
    pub fn sums_with_keys(&self, who: Who, only: Option<Reason>) -> Sums {
        let mut sums = self.sums(who);
        let vcpus = self.of(who);
        let fine = only.is_some() || vcpus.len() <= keys::FEW;
        for measured in vcpus.into_iter().filter_map(|seen| seen.measured) {
            sums.keys.add_some(&measured.keys, only, fine);
        }
        sums
    }

    /// The exit of a reason that is open longest at the end of the displayed tick, and whose.
    pub fn open_exit(&self, who: Who, reason: Reason) -> Option<(VcpuKey, Open)> {
        let open = |seen: Seen<'a>| {
            let (.., open) = self.doing(&seen).filter(|_| seen.ended_ns.is_none())?;
            let open = open.filter(|open| open.reason == reason)?;
            Some((seen.vcpu.info.key, self.open(open)))
        };
        self.of(who).into_iter().filter_map(open).max_by_key(|(_, open)| open.age_ns)
    }

    /// The last known keys of a reason, the length (ns) of the tick that they are of, and the
    /// reason's exits in it.
    pub fn keys(&self, who: Who, reason: Reason) -> (KeySums, u64, u64) {
        let (mut sums, mut dur_ns, mut exits) = (KeySums::default(), self.tick().dur_ns, 0u64);
        for seen in self.of(who) {
            let Some(measured) = seen.measured else { continue };
            dur_ns = seen.dur_ns;
            sums.add(&keys::of_reason(&measured.keys, reason));
            let cell = measured.cells.iter().find(|cell| cell.reason == reason);
            exits = exits.saturating_add(cell.map_or(0, |cell| cell.count));
        }
        (sums.bounded(), dur_ns, exits)
    }

    /// A row of a reason of someone; `window` is what the window says of it.
    pub fn reason_row(&self, who: Who, reason: Reason, sums: &Sums, window: Stats) -> ReasonRow {
        let of_kind = |kind: Kind| -> u64 {
            let alike = sums.reasons.iter().filter(|(reason, _)| reason.kind == kind);
            alike.map(|(_, sum)| sum.count).fold(0, u64::saturating_add)
        };
        let sum = sums.reasons.get(&reason);
        let now = sum.map(|sum| sum.stats()).unwrap_or_default();
        let rate = per_second(now.count, sums.dur_ns);
        ReasonRow {
            reason,
            change: self.taken.and_then(|taken| taken.reason_change(who, reason, rate)),
            name: self.session.names.name(reason).into_owned(),
            idle: reason.is_idle(),
            flags: sum.map_or(0, |sum| sum.flags),
            rate,
            of_exits: ratio(now.count, of_kind(reason.kind)),
            of_time: ratio(now.total_ns, sums.wall_ns),
            now,
            window,
            open_ns: sums.open.get(&reason).map(|&begun| self.end_ns().saturating_sub(begun)),
            what: sums.top(reason, 1).pop(),
        }
    }

    /// A name for someone, that says where they are.
    pub fn label(&self, who: Who) -> String {
        match who {
            Who::Vm(vm) => format!("all vCPUs of {}", self.name(vm)),
            Who::Vcpu(key) => format!("vCPU {} of {}", key.vcpu, self.name(key.vm)),
        }
    }
}
