//! What a vCPU did in an interval, as an object of a line of a tick.

use crate::export::details::{Culprit, Key};
use crate::export::follow::World;
use crate::export::interrupts::TimerCounts;
use crate::export::parts::{Time, state_word};
use crate::model::hist::sparse_quantile;
use crate::model::ids::{Kind, VcpuKey};
use crate::model::meters::{MeterTick, WindowTick};
use crate::model::session::Session;
use crate::model::tick::{CellTick, Phase, PhaseTimes, Tick, VcpuTick};
use crate::model::totals::KeySum;
use kvmscope_shared::column::hardware_code;
use serde::Serialize;
use std::borrow::Cow;

/// What a vCPU did.
#[derive(Debug, Serialize)]
pub struct VcpuIn<'a> {
    /// Number of its VM.
    vm: u32,
    /// Name of its VM.
    name: String,
    /// KVM's number for it.
    vcpu: u32,
    /// Physical CPU of its last event; null where nothing happened.
    cpu: Option<u32>,
    /// What it does at the end.
    state: &'static str,
    /// Where the interval went.
    time: Time,
    /// Wake-ups from halts while KVM polled.
    halts_polled: u64,
    /// Wake-ups from halts after sleep.
    halts_slept: u64,
    /// Kernel exits by reason.
    exits: Vec<CellIn<'a>>,
    /// Userspace exits by reason.
    userspace_exits: Vec<CellIn<'a>>,
    /// What exits were about (family `detail` and others).
    keys: Vec<Key<'a>>,
    /// Who ran while it waited for a CPU (family `culprits`).
    culprits: Vec<Culprit<'a>>,
    /// Wake-ups, intervals on one CPU, late timers (in ticks of the guest's TSC).
    meters: Vec<MeterIn>,
    /// Timers; null where nothing happened.
    timers: Option<TimerCounts>,
    /// Halt polling's window; null where it is not known.
    halt_poll: Option<WindowIn>,
    /// Intervals on another CPU than the one before.
    migrations: u64,
    /// Of them, on another NUMA node.
    crossings: u64,
}

impl<'a> VcpuIn<'a> {
    /// One that the tick mentions.
    pub fn new(world: &'a World, vcpu: &'a VcpuTick) -> Self {
        let session = &world.session;
        let name = world.who.name(vcpu.key.vm);
        let content = world.content();
        let cells = |kind| {
            let cells = vcpu.cells.iter().filter(move |cell| cell.reason.kind == kind);
            cells.map(|cell| CellIn::new(session, cell)).collect()
        };
        let key = |key: &crate::model::detail::KeyTick| {
            let mut sum = KeySum::default();
            sum.add(key);
            Key::new(&content, &name, key.id, &sum)
        };
        let keys = vcpu.keys.iter().map(key).collect();
        Self {
            cpu: Some(vcpu.cpu),
            halts_polled: vcpu.halts.polled,
            halts_slept: vcpu.halts.waited,
            exits: cells(Kind::Exit),
            userspace_exits: cells(Kind::Userspace),
            keys,
            culprits: vcpu.culprits.iter().map(Culprit::new).collect(),
            meters: vcpu.meters.meters.iter().map(MeterIn::new).collect(),
            timers: vcpu.meters.timers.as_ref().map(TimerCounts::new),
            halt_poll: vcpu.meters.window.map(WindowIn::new),
            migrations: vcpu.meters.migrations,
            crossings: vcpu.meters.crossings,
            ..Self::idle(vcpu.key, name, vcpu.phase, &vcpu.time)
        }
    }

    /// One that did all the while what it did before.
    pub fn silent(world: &World, key: VcpuKey, phase: Phase, tick: &Tick) -> Self {
        let mut time = PhaseTimes::default();
        if let Some(part) = time.0.get_mut(phase as usize) {
            *part = tick.dur_ns;
        }
        Self::idle(key, world.who.name(key.vm), phase, &time)
    }

    fn idle(key: VcpuKey, name: String, phase: Phase, time: &PhaseTimes) -> Self {
        Self {
            vm: key.vm.0,
            name,
            vcpu: key.vcpu,
            cpu: None,
            state: state_word(phase),
            time: Time::new(time),
            halts_polled: 0,
            halts_slept: 0,
            exits: Vec::new(),
            userspace_exits: Vec::new(),
            keys: Vec::new(),
            culprits: Vec::new(),
            meters: Vec::new(),
            timers: None,
            halt_poll: None,
            migrations: 0,
            crossings: 0,
        }
    }
}

/// Exits of one reason in an interval. Quantiles are within 12.5%.
#[derive(Debug, Serialize)]
struct CellIn<'a> {
    /// Why.
    reason: Cow<'a, str>,
    /// The same as the hardware's or KVM's number.
    code: u32,
    /// Whether the guest was idle.
    idle: bool,
    /// Exits that began.
    count: u64,
    /// Exits that ended; what follows is about them, and null or zero where none did.
    timed: u64,
    /// Their handling time on a CPU in KVM; of userspace exits all time outside KVM_RUN.
    total_ns: u64,
    /// Their time off the CPU.
    off_cpu_ns: u64,
    /// Their time outside KVM_RUN.
    vmm_ns: u64,
    /// The shortest.
    min_ns: Option<u64>,
    /// Half took at most this.
    p50_ns: Option<u64>,
    /// 90 of 100 took at most this.
    p90_ns: Option<u64>,
    /// 99 of 100 took at most this.
    p99_ns: Option<u64>,
    /// The longest.
    max_ns: Option<u64>,
}

impl<'a> CellIn<'a> {
    fn new(session: &'a Session, cell: &CellTick) -> Self {
        let timed = cell.timed();
        let quantile = |q| sparse_quantile(&cell.hist, q, cell.min_ns, cell.max_ns);
        Self {
            reason: session.names.name(cell.reason),
            code: hardware_code(cell.reason.code),
            idle: cell.reason.is_idle(),
            count: cell.count,
            timed,
            total_ns: cell.total_ns,
            off_cpu_ns: cell.off_ns,
            vmm_ns: cell.vmm_ns,
            min_ns: (timed > 0).then_some(cell.min_ns),
            p50_ns: quantile(0.5),
            p90_ns: quantile(0.9),
            p99_ns: quantile(0.99),
            max_ns: (timed > 0).then_some(cell.max_ns),
        }
    }
}

/// A meter in an interval.
#[derive(Debug, Serialize)]
struct MeterIn {
    /// `polled`, `polled_idle`, `slept`, `slept_idle`: wake-ups; `loaded`: intervals on one CPU; `late`: timers.
    kind: &'static str,
    /// How many ended.
    count: u64,
    /// Their time.
    total_ns: u64,
    /// The shortest.
    min_ns: u64,
    /// The longest.
    max_ns: u64,
}

impl MeterIn {
    fn new(meter: &MeterTick) -> Self {
        let MeterTick { count, total_ns, min_ns, max_ns, .. } = *meter;
        Self { kind: meter.kind.word(), count, total_ns, min_ns, max_ns }
    }
}

/// Halt polling's window.
#[derive(Debug, Serialize)]
struct WindowIn {
    /// At the end.
    window_ns: u64,
    /// Times it grew.
    grew: u64,
    /// Times it shrank.
    shrank: u64,
}

impl WindowIn {
    fn new(window: WindowTick) -> Self {
        Self { window_ns: window.now_ns, grew: window.grew, shrank: window.shrank }
    }
}
