//! Who is known: every VM and vCPU of the session that has not been forgotten.
//!
//! Whether one exists at a moment is told by when it came and ended, so stepping back shows who
//! was there then, although the ticks that brought them may long have left the history.

use crate::model::ids::{VcpuKey, VmId};
use crate::model::tick::{VcpuInfo, VcpuTick, VmInfo};
use std::collections::BTreeMap;

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
    /// What the last tick with something of it said, with that tick's length.
    pub last: Option<(Box<VcpuTick>, u64)>,
    pub series: Trail,
}

/// Rate and p99 of a row, one value for each tick since it first did something. The tick's number
/// is its place in the order of arrival ([`super::time`]).
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    first: u64,
    values: std::collections::VecDeque<(f32, f32)>,
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
            last: None,
            series: Trail::default(),
        })
    }

    /// Forgets VMs that ended before the oldest kept tick, if they are cleared or too many.
    pub fn forget(&mut self, oldest_ns: u64) {
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
    }
}
