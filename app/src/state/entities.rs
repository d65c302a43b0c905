//! Who is known: every VM and vCPU of the session that has not been forgotten.
//!
//! Whether one exists at a moment is told by when it came and ended, so stepping back shows who
//! was there then, although the ticks that brought them may long have left the history.

use super::load::Loader;
use crate::model::ids::{VcpuKey, VmId};
use crate::model::tick::{Life, OpenExit, Phase, Tick, VcpuInfo, VcpuTick, VmInfo};
use crate::model::totals::Totals;
use std::collections::{BTreeMap, VecDeque};

/// Most VMs that are gone and kept; the oldest are forgotten first.
const MAX_GONE: usize = 1000;

/// When something was there, ns of the probes' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// End of the tick that brought it.
    pub came_ns: u64,
    /// When it ended.
    pub ended_ns: Option<u64>,
}

impl Span {
    /// Whether it had come by then.
    pub fn known_at(&self, ns: u64) -> bool {
        self.came_ns <= ns
    }

    /// When it had ended by then, if it had.
    pub fn ended_at(&self, ns: u64) -> Option<u64> {
        self.ended_ns.filter(|&ended| ended <= ns)
    }
}

/// A VM.
#[derive(Clone, Debug)]
pub(super) struct Vm {
    pub info: VmInfo,
    pub span: Span,
    /// Not to be shown as gone any more.
    pub cleared: bool,
    pub vcpus: BTreeMap<u32, Vcpu>,
    pub series: Trail,
}

/// A vCPU.
#[derive(Clone, Debug)]
pub(super) struct Vcpu {
    pub info: VcpuInfo,
    pub span: Span,
    /// Not to be shown as gone any more.
    pub cleared: bool,
    /// What it was doing at the end of the last tick that has something of it.
    pub doing: Option<Doing>,
    /// Once it is gone: its last numbers, and the length of their tick, ns.
    pub last: Option<(Box<VcpuTick>, u64)>,
    pub series: Trail,
}

/// What a vCPU was doing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing {
    /// The tick that tells.
    pub place: u64,
    pub cpu: u32,
    pub phase: Phase,
    pub since_ns: u64,
    pub open: Option<OpenExit>,
}

/// Rate and p99 of a row, one value for each tick since it first did something. The tick's number
/// is its place in the order of arrival ([`crate::model::history`]).
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    first: u64,
    values: VecDeque<(f32, f32)>,
}

impl Trail {
    /// Notes a tick's values; ticks since the last note were zero. Forgets those before `oldest`.
    pub fn push(&mut self, tick: u64, oldest: u64, value: (f32, f32)) {
        if self.values.is_empty() {
            self.first = tick;
        }
        self.drop_before(oldest);
        if self.values.is_empty() {
            self.first = tick;
        }
        while self.first + (self.values.len() as u64) < tick {
            self.values.push_back((0.0, 0.0));
        }
        self.values.push_back(value);
    }

    fn drop_before(&mut self, oldest: u64) {
        while self.first < oldest && self.values.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// The value of a tick.
    pub fn get(&self, tick: u64) -> (f32, f32) {
        let at = tick.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.values.get(at)).copied().unwrap_or_default()
    }
}

/// Everyone.
#[derive(Clone, Debug, Default)]
pub(super) struct Entities {
    pub vms: BTreeMap<VmId, Vm>,
}

impl Entities {
    /// Everybody who was there before the first tick. Who had ended by then is not among them.
    pub fn known(totals: &Totals) -> Self {
        let mut known = Self::default();
        for (&id, vm) in totals.vms.iter().filter(|(_, vm)| vm.ended_ns.is_none()) {
            known.vm_mut(id, 0).info = vm.info.clone();
            for (&vcpu, told) in vm.vcpus.iter().filter(|(_, vcpu)| vcpu.ended_ns.is_none()) {
                let (phase, since_ns) = told.phase;
                let vcpu = known.vcpu_mut(VcpuKey { vm: id, vcpu }, 0);
                vcpu.info = told.info;
                vcpu.doing =
                    Some(Doing { place: 0, cpu: told.cpu, phase, since_ns, open: told.open });
            }
        }
        known
    }

    /// Everybody who was there at a moment, as a recording that begins then wants to know it.
    pub fn there(&self, at_ns: u64) -> Totals {
        let mut life = Vec::new();
        let here = |span: &Span| span.known_at(at_ns) && span.ended_at(at_ns).is_none();
        for vm in self.vms.values().filter(|vm| here(&vm.span)) {
            life.push(Life::Vm(vm.info.clone()));
            let vcpus = vm.vcpus.values().filter(|vcpu| here(&vcpu.span));
            life.extend(vcpus.map(|vcpu| Life::Vcpu(vcpu.info)));
        }
        let mut totals = Totals::default();
        totals.apply(&Tick { end_ns: at_ns, life, ..Tick::default() });
        totals.who_is_there()
    }

    pub fn vcpu(&self, key: VcpuKey) -> Option<&Vcpu> {
        self.vms.get(&key.vm)?.vcpus.get(&key.vcpu)
    }

    /// A VM, which is new if it was never heard of.
    pub fn vm_mut(&mut self, id: VmId, now_ns: u64) -> &mut Vm {
        self.vms.entry(id).or_insert_with(|| Vm {
            info: VmInfo { id, name: format!("VM {}", id.0), ..VmInfo::default() },
            span: Span { came_ns: now_ns, ended_ns: None },
            cleared: false,
            vcpus: BTreeMap::new(),
            series: Trail::default(),
        })
    }

    /// A vCPU, which is new if it was never heard of.
    pub fn vcpu_mut(&mut self, key: VcpuKey, now_ns: u64) -> &mut Vcpu {
        self.vm_mut(key.vm, now_ns).vcpus.entry(key.vcpu).or_insert_with(|| Vcpu {
            info: VcpuInfo { key, ..VcpuInfo::default() },
            span: Span { came_ns: now_ns, ended_ns: None },
            cleared: false,
            doing: None,
            last: None,
            series: Trail::default(),
        })
    }

    /// Takes in a tick that has this place. `before` answers what an earlier tick had of a vCPU,
    /// with that tick's length. Costs what changed.
    pub fn apply(
        &mut self,
        tick: &Tick,
        place: u64,
        oldest: u64,
        before: impl Fn(u64, VcpuKey) -> Option<(VcpuTick, u64)>,
    ) {
        let now_ns = tick.end_ns;
        for life in &tick.life {
            match life {
                Life::Vm(info) => self.vm_mut(info.id, now_ns).info = info.clone(),
                Life::Vcpu(info) => {
                    let vcpu = self.vcpu_mut(info.key, now_ns);
                    vcpu.info = *info;
                    vcpu.span.ended_ns = None;
                    vcpu.last = None;
                }
                Life::VcpuGone(key, at) => self.vcpu_mut(*key, now_ns).span.ended_ns = Some(*at),
                Life::VmGone(id, at) => {
                    let vm = self.vm_mut(*id, now_ns);
                    vm.span.ended_ns = Some(*at);
                    for vcpu in vm.vcpus.values_mut() {
                        vcpu.span.ended_ns.get_or_insert(*at);
                    }
                }
            }
        }
        self.measure(tick, place, oldest);
        self.keep_last(tick, before);
    }

    /// Notes what the tick measured.
    fn measure(&mut self, tick: &Tick, place: u64, oldest: u64) {
        let mut all = Loader::default();
        let mut one = Loader::default();
        for of_vm in tick.vcpus.chunk_by(|a, b| a.key.vm == b.key.vm) {
            let Some(first) = of_vm.first() else { continue };
            all.clear();
            for measured in of_vm {
                one.clear();
                for cell in &measured.cells {
                    one.add(cell);
                    all.add(cell);
                }
                let vcpu = self.vcpu_mut(measured.key, tick.end_ns);
                vcpu.series.push(place, oldest, one.trail(tick.dur_ns));
                vcpu.doing = Some(Doing {
                    place,
                    cpu: measured.cpu,
                    phase: measured.phase,
                    since_ns: measured.since_ns,
                    open: measured.open,
                });
            }
            let vm = self.vm_mut(first.key.vm, tick.end_ns);
            vm.series.push(place, oldest, all.trail(tick.dur_ns));
        }
    }

    /// Keeps the last numbers of the vCPUs that this tick says are gone.
    fn keep_last(&mut self, tick: &Tick, before: impl Fn(u64, VcpuKey) -> Option<(VcpuTick, u64)>) {
        for life in &tick.life {
            let (vm, one) = match life {
                Life::VcpuGone(key, _) => (key.vm, Some(key.vcpu)),
                Life::VmGone(vm, _) => (*vm, None),
                _ => continue,
            };
            let Some(vm) = self.vms.get_mut(&vm) else { continue };
            for (&number, vcpu) in &mut vm.vcpus {
                let concerned = one.is_none_or(|one| one == number);
                if !concerned || vcpu.span.ended_ns.is_none() || vcpu.last.is_some() {
                    continue;
                }
                let key = vcpu.info.key;
                let here = tick.vcpus.binary_search_by_key(&key, |vcpu| vcpu.key).ok();
                vcpu.last = match here.and_then(|at| tick.vcpus.get(at)) {
                    Some(measured) => Some((Box::new(measured.clone()), tick.dur_ns)),
                    None => vcpu
                        .doing
                        .and_then(|doing| before(doing.place, key))
                        .map(|(measured, dur_ns)| (Box::new(measured), dur_ns)),
                };
            }
        }
    }

    /// Marks what had ended by then as not to be shown any more.
    pub fn clear_gone(&mut self, ns: u64) {
        for vm in self.vms.values_mut() {
            vm.cleared |= vm.span.ended_at(ns).is_some();
            for vcpu in vm.vcpus.values_mut() {
                vcpu.cleared |= vcpu.span.ended_at(ns).is_some();
            }
        }
    }

    /// Forgets VMs that ended: cleared ones once the history has nothing of them, and the oldest
    /// when they are too many. Answers whether there were any.
    pub fn forget(&mut self, oldest_ns: u64) -> bool {
        let before = self.vms.len();
        let gone = |vm: &Vm| vm.span.ended_ns.is_some_and(|ended| ended < oldest_ns);
        self.vms.retain(|_, vm| !(vm.cleared && gone(vm)));
        let mut ended: Vec<_> =
            self.vms.iter().filter_map(|(&id, vm)| Some((vm.span.ended_ns?, id))).collect();
        if ended.len() > MAX_GONE {
            ended.sort_unstable();
            for (_, id) in ended.drain(..ended.len() - MAX_GONE) {
                self.vms.remove(&id);
            }
        }
        self.vms.len() < before
    }
}
