//! What is known of a slot from tick to tick, and what the threads of a vCPU come to together.

use super::{
    cells::SeenCell,
    culprits::SeenWaits,
    keys::{Keys, SeenKeys},
    meters::SeenMeters,
    parts::{SeenDelay, SeenHalts},
};
use crate::{
    model::{
        ids::{Reason, VcpuKey},
        tick::{OpenExit, PHASES, Phase, PhaseTimes, VcpuTick},
    },
    source::live::memory::Memory,
};
use kvmscope_shared::{
    cell::CELLS_PER_CHUNK,
    column::split_reason,
    slot::{KIND_EXIT, Slot, life, phase},
};

/// What is known of a slot from the tick before.
pub struct Seen {
    /// Which thread it was; see [`Slot::generation`].
    pub generation: u32,
    /// The vCPU it is.
    pub key: VcpuKey,
    /// [`Slot::events`] when it was read.
    pub events: u64,
    /// Changed in the tick before: look once more.
    pub settle: bool,
    /// The tick in which it was read last.
    pub tick: u64,
    /// Its cells.
    pub cells: Vec<SeenCell>,
    /// What its exits were about, once that was read.
    pub keys: Option<SeenKeys>,
    /// What was told of its meters.
    pub meters: SeenMeters,
    /// Its thread.
    pub tid: u32,
    /// What was told of its halts.
    pub halts: SeenHalts,
    /// What was told of its waits for a CPU.
    pub delay: SeenDelay,
    /// Whom it waited for.
    pub waits: SeenWaits,
    /// When it was read last, and the phase it was in then.
    at_ns: u64,
    phase: Phase,
    /// Time in each phase up to `at_ns`.
    time: [u64; PHASES],
}

/// What a thread did from one moment to another, ns of the probes' clock.
pub struct Spent {
    from: u64,
    to: u64,
    /// By phase.
    pub times: PhaseTimes,
}

/// A vCPU's changes in the making.
pub struct Change {
    /// What they come to.
    pub tick: VcpuTick,
    /// Its keys.
    pub keys: Keys,
    /// How well the slot that told knows what the vCPU does; see [`Change::doing`].
    rank: (bool, bool, u64),
    /// How many threads told, and what they cover together.
    threads: u32,
    from: u64,
    to: u64,
}

/// Phases in the order in which time that threads have in common is taken off. Only one thread
/// can be inside KVM_RUN with a vCPU, but each that ever was counts its time outside.
const OUTSIDE_FIRST: [Phase; PHASES] = [
    Phase::VmmBlocked,
    Phase::Vmm,
    Phase::Unknown,
    Phase::Preempted,
    Phase::Blocked,
    Phase::KvmBlocked,
    Phase::Polling,
    Phase::Kvm,
    Phase::Guest,
];

impl Change {
    /// Nothing yet.
    pub fn new(key: VcpuKey) -> Self {
        let tick = VcpuTick { key, ..VcpuTick::default() };
        Self { tick, keys: Keys::new(), rank: (false, false, 0), threads: 0, from: u64::MAX, to: 0 }
    }

    /// Whether what it does is told by a slot that lives.
    pub fn live(&self) -> bool {
        self.rank.0
    }

    /// Adds what one of its threads did.
    pub fn spent(&mut self, spent: Spent) {
        self.tick.time.add(&spent.times);
        self.threads += 1;
        self.from = self.from.min(spent.from);
        self.to = self.to.max(spent.to);
    }

    /// Takes in what a slot's thread is doing: one that lives speaks over one that ended, one
    /// inside KVM_RUN over one outside, and else the one that did something last.
    pub fn doing(&mut self, memory: &dyn Memory, slot: &Slot) {
        let inside = match slot.phase {
            phase::GUEST | phase::KVM | phase::BLOCKED | phase::KVM_BLOCKED => true,
            phase::PREEMPTED => slot.resume != phase::VMM,
            _ => false,
        };
        let rank = (slot.life == life::LIVE, inside, slot.since_ns);
        if rank < self.rank {
            return;
        }
        self.rank = rank;
        self.tick.cpu = slot.cpu;
        self.tick.phase = Phase::from_slot(slot.phase);
        self.tick.since_ns = slot.since_ns;
        self.tick.open = open_exit(memory, slot);
    }

    /// The vCPU's tick. Its time is no more than the wall time that its threads cover.
    pub fn finish(mut self) -> VcpuTick {
        self.tick.keys = std::mem::take(&mut self.keys).into_values().collect();
        if self.threads < 2 {
            return self.tick;
        }
        let mut over = self.tick.time.sum().saturating_sub(self.to.saturating_sub(self.from));
        for phase in OUTSIDE_FIRST {
            let time = &mut self.tick.time.0[phase as usize];
            let taken = over.min(*time);
            *time -= taken;
            over -= taken;
        }
        self.tick
    }
}

impl Seen {
    /// A slot that is read for the first time.
    pub fn new(slot: &Slot, key: VcpuKey) -> Self {
        Self {
            generation: slot.generation,
            key,
            events: 0,
            settle: false,
            tick: 0,
            at_ns: slot.claimed_ns,
            phase: Phase::Unknown,
            time: [0; PHASES],
            cells: Vec::new(),
            keys: None,
            meters: SeenMeters::default(),
            tid: slot.tid,
            halts: SeenHalts::default(),
            delay: SeenDelay::default(),
            waits: SeenWaits::default(),
        }
    }

    /// Time in each phase since the end of the tick before, or since the slot was claimed.
    ///
    /// Ticks without a change are counted by whoever reads them, as time in the last phase; so
    /// here they are skipped the same way.
    pub fn advance(&mut self, slot: &Slot, tick_began: u64, now: u64) -> Spent {
        let from = if self.events == 0 { self.at_ns } else { self.at_ns.max(tick_began) };
        if let Some(skipped) = tick_began.checked_sub(self.at_ns)
            && self.events != 0
        {
            self.time[self.phase as usize] += skipped;
        }
        let end = if slot.life == life::RETIRED { slot.retired_ns } else { now.max(slot.since_ns) };
        let phase = Phase::from_slot(slot.phase);
        let mut time = [0; PHASES];
        time[..phase::COUNT].copy_from_slice(&slot.phase_ns);
        time[phase as usize] += end.saturating_sub(slot.since_ns);
        let mut times = PhaseTimes::default();
        for ((spent, new), told) in times.0.iter_mut().zip(time).zip(&mut self.time) {
            *spent = new.saturating_sub(*told);
            // What fields of different moments told too much is not told again.
            *told = new.max(*told);
        }
        self.at_ns = end;
        self.phase = phase;
        Spent { from, to: end, times }
    }

    /// Finds the cells that the slot has taken.
    pub fn find_cells(&mut self, memory: &dyn Memory, index: u32, slot: &Slot) {
        let used = slot.cells_used as usize;
        let own = used.min(CELLS_PER_CHUNK as usize);
        while self.cells.len() < own {
            let number = index * CELLS_PER_CHUNK + self.cells.len() as u32;
            self.cells.push(SeenCell::new(number));
        }
        if used <= self.cells.len() {
            return;
        }
        // More than a chunk of reasons: rare, so the pool is searched.
        for number in memory.slots() * CELLS_PER_CHUNK..memory.cells() {
            if memory.cell_owner(number) == (index, slot.generation)
                && !self.cells.iter().any(|cell| cell.number == number)
            {
                self.cells.push(SeenCell::new(number));
            }
        }
    }
}

fn open_exit(memory: &dyn Memory, slot: &Slot) -> Option<OpenExit> {
    if slot.open_cell == 0 || slot.open_cell >= memory.cells() || slot.life != life::LIVE {
        return None;
    }
    let (code, _) = split_reason(slot.isa, slot.exit_reason, slot.info1);
    Some(OpenExit {
        reason: Reason::from_cell(KIND_EXIT, slot.isa, code),
        begun_ns: slot.exit_ns,
        rip: slot.rip,
        info1: slot.info1,
        info2: slot.info2,
    })
}
