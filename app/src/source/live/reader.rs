//! From the probes' memory to a tick: differences since the tick before.
//!
//! Reads every slot's life and event count, and only what changed further: the cost of a tick
//! follows what happened. A slot is looked at once more in the tick after its last event, because
//! the probe may have been in the middle of it. Pure but for the memory and the names it is given.

mod cells;
#[cfg(test)]
mod tests;

use super::{
    identity::{Identities, Names},
    memory::Memory,
};
use crate::model::{
    ids::{Kind, Reason, VcpuKey},
    stats::add_cell,
    tick::{HostTick, Lost, OpenExit, Phase, PhaseTimes, Tick, VcpuTick},
};
use cells::SeenCell;
use kvmscope_shared::{
    cell::{CELLS_PER_CHUNK, Cell},
    column::{column_of, split_reason},
    slot::{KIND_EXIT, Slot, life},
};
use std::collections::{BTreeMap, BTreeSet};

/// Something that was read to the end and can be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// A slot.
    Slot(u32),
    /// A chunk of the pool, by its first cell.
    Chunk(u32),
    /// A key of the map of codes without a column.
    Unknown(u64),
}

/// `KVM_EXIT_INTR`.
const EXIT_INTR: u32 = 10;
/// How long a slot that has not told its VM yet is held back, ns.
const HOLD_NS: u64 = 2_000_000_000;

/// What is known of a slot from the tick before.
struct Seen {
    generation: u32,
    key: VcpuKey,
    events: u64,
    /// Changed in the tick before: look once more.
    settle: bool,
    /// When it was read last, and the phase it was in then.
    at_ns: u64,
    phase: Phase,
    /// Time in each phase up to `at_ns`.
    time: [u64; 7],
    cells: Vec<SeenCell>,
}

/// A vCPU's changes in the making.
#[derive(Default)]
struct Change {
    tick: VcpuTick,
    /// Whether what it does is told by a slot that lives.
    live: bool,
}

/// The reader and what it remembers.
pub struct Reader {
    seen: Vec<Option<Seen>>,
    who: Identities,
    seq: u64,
    last_ns: u64,
    lost: Lost,
    /// Whether `kvm_entry` fires here, so that a slot will tell its VM.
    entries: bool,
    counted: Counted,
}

/// What tells whether the backend fires `kvm_exit` at all: sums over all vCPUs since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Kernel exits.
    pub exits: u64,
    /// Userspace exits but for INTR, which a signal makes before the guest was entered.
    pub userspace: u64,
    /// Time on a CPU inside KVM_RUN, ns.
    pub in_run_ns: u64,
}

impl Counted {
    /// Adds a tick.
    pub fn add(&mut self, tick: &Tick) {
        for vcpu in &tick.vcpus {
            self.in_run_ns += vcpu.time.get(Phase::Kvm) + vcpu.time.get(Phase::Guest);
            for cell in &vcpu.cells {
                match cell.reason.kind {
                    Kind::Exit => self.exits += cell.count,
                    Kind::Userspace if cell.reason.code != EXIT_INTR => {
                        self.userspace += cell.count
                    }
                    Kind::Userspace => {}
                }
            }
        }
    }
}

/// What a tick needs besides the memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Now, ns of the probes' clock.
    pub now_ns: u64,
    /// Runs missed since the probes were loaded.
    pub missed_runs: u64,
    /// What the host did.
    pub host: HostTick,
    /// Whether this is the last tick: nothing is held back.
    pub last: bool,
}

impl Reader {
    /// A reader of `slots` slots whose first interval begins at `now_ns`. `entries` is whether
    /// `kvm_entry` is expected to fire.
    pub fn new(slots: u32, now_ns: u64, entries: bool) -> Self {
        Self {
            seen: (0..slots).map(|_| None).collect(),
            who: Identities::default(),
            seq: 0,
            last_ns: now_ns,
            lost: Lost::default(),
            entries,
            counted: Counted::default(),
        }
    }

    /// The probes were loaded anew, into new maps: nothing of the old ones is left.
    pub fn restart(&mut self, slots: u32) {
        self.seen = (0..slots).map(|_| None).collect();
        self.lost = Lost::default();
    }

    /// A tick without probes: time passes.
    pub fn empty_tick(&mut self, moment: Moment, names: &mut dyn Names) -> Tick {
        let mut tick = Tick {
            seq: self.seq + 1,
            end_ns: moment.now_ns,
            dur_ns: moment.now_ns.saturating_sub(self.last_ns),
            host: moment.host,
            ..Tick::default()
        };
        self.who.sweep(moment.now_ns, moment.last, names, &mut tick.life);
        self.seq += 1;
        self.last_ns = moment.now_ns;
        tick
    }

    /// What was counted since the start.
    pub fn counted(&self) -> Counted {
        self.counted
    }

    /// Whether any vCPU thread lives.
    pub fn any_live(&self) -> bool {
        self.who.any_live()
    }

    /// Whether slots must not wait for a `kvm_entry` that never comes.
    pub fn expect_no_entries(&mut self) {
        self.entries = false;
    }

    /// Makes the next tick, and says what can be used again.
    pub fn tick(
        &mut self,
        memory: &mut dyn Memory,
        names: &mut dyn Names,
        moment: Moment,
    ) -> (Tick, Vec<Freed>) {
        let control = memory.control();
        let epoch = control.epoch;
        memory.set_epoch(epoch + 1);
        let now = moment.now_ns;
        let mut tick = Tick {
            seq: self.seq + 1,
            end_ns: now,
            dur_ns: now.saturating_sub(self.last_ns),
            host: moment.host,
            ..Tick::default()
        };
        let mut changes: BTreeMap<VcpuKey, Change> = BTreeMap::new();
        let mut freed = Vec::new();
        for index in 1..memory.slots().min(self.seen.len() as u32) {
            let alive = memory.life(index);
            if alive == life::FREE {
                continue;
            }
            let unchanged = alive == life::LIVE && self.is_unchanged(memory, index);
            let held = !unchanged
                && self.read_slot(memory, names, index, epoch, &moment, &mut tick, &mut changes);
            if alive == life::RETIRED && !held {
                self.recycle(memory, index, now, &mut tick, &mut freed);
            }
        }
        // A vCPU whose old thread alone had something to tell: the tick must say what the one
        // that lives is doing, though nothing happened there.
        for index in self.living_of(&changes) {
            self.read_slot(memory, names, index, epoch, &moment, &mut tick, &mut changes);
        }
        self.who.sweep(now, moment.last, names, &mut tick.life);
        tick.vcpus = changes.into_values().map(|change| change.tick).collect();
        self.counted.add(&tick);
        let total = Lost {
            missed_runs: moment.missed_runs,
            ring: 0,
            pool_full: control.pool_full,
            slots_full: control.slots_full,
        };
        tick.lost = difference(&total, &self.lost);
        self.lost = total;
        self.seq += 1;
        self.last_ns = now;
        (tick, freed)
    }

    /// Whether nothing happened in a slot since it was read to its end.
    fn is_unchanged(&self, memory: &dyn Memory, index: u32) -> bool {
        self.seen
            .get(index as usize)
            .and_then(Option::as_ref)
            .is_some_and(|seen| !seen.settle && seen.events == memory.events(index))
    }

    /// Slots of the vCPUs that no living slot has told of.
    fn living_of(&self, changes: &BTreeMap<VcpuKey, Change>) -> Vec<u32> {
        if changes.values().all(|change| change.live) {
            return Vec::new();
        }
        let silent = |seen: &Seen| changes.get(&seen.key).is_some_and(|change| !change.live);
        let slots = (0..).zip(&self.seen);
        slots.filter(|(_, seen)| seen.as_ref().is_some_and(silent)).map(|(i, _)| i).collect()
    }

    /// Reads one used slot into `changes`; whether it is held back until it tells who it is.
    #[expect(clippy::too_many_arguments, reason = "the parts of one tick, not a concept")]
    fn read_slot(
        &mut self,
        memory: &mut dyn Memory,
        names: &mut dyn Names,
        index: u32,
        epoch: u64,
        moment: &Moment,
        tick: &mut Tick,
        changes: &mut BTreeMap<VcpuKey, Change>,
    ) -> bool {
        let Some(place) = self.seen.get_mut(index as usize) else { return false };
        let slot = consistent(memory, index);
        let known = place.as_ref().is_some_and(|seen| seen.generation == slot.generation);
        if !known {
            if !moment.last && self.entries && untold(&slot, moment.now_ns) {
                return true;
            }
            let key = self.who.enter(&slot, names, &mut tick.life);
            *place = Some(Seen::new(&slot, key));
        }
        let Some(seen) = place else { return false };
        if self.who.is_other(seen.key, &slot) {
            seen.key = self.who.correct(seen.key, &slot, moment.now_ns, names, &mut tick.life);
        }
        let change = changes.entry(seen.key).or_default();
        change.tick.key = seen.key;
        change.tick.time.add(&seen.advance(&slot, self.last_ns, moment.now_ns));
        change.doing(memory, &slot);
        seen.settle = seen.events != slot.events;
        seen.events = slot.events;
        seen.find_cells(memory, index, &slot);
        for cell in &mut seen.cells {
            if let Some(difference) = cell.advance(&memory.cell(cell.number), epoch) {
                add_cell(&mut change.tick.cells, &difference);
            }
        }
        false
    }

    fn recycle(
        &mut self,
        memory: &mut dyn Memory,
        index: u32,
        now: u64,
        tick: &mut Tick,
        freed: &mut Vec<Freed>,
    ) {
        let Some(seen) = self.seen.get_mut(index as usize).and_then(Option::take) else { return };
        let slot = memory.slot(index);
        let at = if slot.retired_ns == 0 { now } else { slot.retired_ns };
        self.who.leave(seen.key, at, &mut tick.life);
        // The newest chunk may have no cell in it: it is taken before the cell is.
        let mut chunks = BTreeSet::from([slot.extra_chunk]);
        for cell in &seen.cells {
            let Cell { kind, code, .. } = memory.cell(cell.number);
            if column_of(kind, code).is_none() {
                let key = u64::from(index) << 33 | u64::from(kind & 1) << 32 | u64::from(code);
                freed.push(Freed::Unknown(key));
            }
            memory.clear_cell(cell.number);
            chunks.insert(cell.number - cell.number % CELLS_PER_CHUNK);
        }
        // The pool begins after the slots' own chunks.
        let pool = chunks.into_iter().filter(|&first| first >= memory.slots() * CELLS_PER_CHUNK);
        freed.extend(pool.map(Freed::Chunk));
        memory.clear_slot(index);
        freed.push(Freed::Slot(index));
    }
}

impl Change {
    /// Takes in what a slot's thread is doing: one that lives speaks over one that ended, and of
    /// two that live the one that did something last.
    fn doing(&mut self, memory: &dyn Memory, slot: &Slot) {
        let live = slot.life == life::LIVE;
        if (live, slot.since_ns) < (self.live, self.tick.since_ns) {
            return;
        }
        self.live = live;
        self.tick.cpu = slot.cpu;
        self.tick.phase = Phase::from_slot(slot.phase);
        self.tick.since_ns = slot.since_ns;
        self.tick.open = open_exit(memory, slot);
    }
}

impl Seen {
    fn new(slot: &Slot, key: VcpuKey) -> Self {
        Self {
            generation: slot.generation,
            key,
            events: 0,
            settle: false,
            at_ns: slot.claimed_ns,
            phase: Phase::Unknown,
            time: [0; 7],
            cells: Vec::new(),
        }
    }

    /// Time in each phase since the end of the tick before, or since the slot was claimed.
    ///
    /// Ticks without a change are counted by whoever reads them, as time in the last phase; so
    /// here they are skipped the same way.
    fn advance(&mut self, slot: &Slot, tick_began: u64, now: u64) -> PhaseTimes {
        if let Some(skipped) = tick_began.checked_sub(self.at_ns)
            && self.events != 0
        {
            self.time[self.phase as usize] += skipped;
        }
        let end = if slot.life == life::RETIRED { slot.retired_ns } else { now.max(slot.since_ns) };
        let phase = Phase::from_slot(slot.phase);
        let mut time = [0; 7];
        time.copy_from_slice(&slot.phase_ns[..7]);
        time[phase as usize] += end.saturating_sub(slot.since_ns);
        let mut spent = PhaseTimes::default();
        for ((spent, new), told) in spent.0.iter_mut().zip(time).zip(&mut self.time) {
            *spent = new.saturating_sub(*told);
            // What fields of different moments told too much is not told again.
            *told = new.max(*told);
        }
        self.at_ns = end;
        self.phase = phase;
        spent
    }

    /// Finds the cells that the slot has taken.
    fn find_cells(&mut self, memory: &dyn Memory, index: u32, slot: &Slot) {
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

/// Whether a slot has not told its VM yet and still may.
fn untold(slot: &Slot, now: u64) -> bool {
    slot.life == life::LIVE
        && slot.kvm == 0
        && (slot.cells_used == 0 || now.saturating_sub(slot.claimed_ns) < HOLD_NS)
}

/// A slot's head, read until it did not change meanwhile; after a few tries as it is: each field
/// is a number that was right at some moment, and the next tick sees the rest.
fn consistent(memory: &dyn Memory, index: u32) -> Slot {
    let mut slot = memory.slot(index);
    for _ in 0..8 {
        let again = memory.slot(index);
        if again == slot {
            break;
        }
        slot = again;
    }
    slot
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

fn difference(now: &Lost, last: &Lost) -> Lost {
    Lost {
        missed_runs: now.missed_runs.saturating_sub(last.missed_runs),
        ring: now.ring.saturating_sub(last.ring),
        pool_full: now.pool_full.saturating_sub(last.pool_full),
        slots_full: now.slots_full.saturating_sub(last.slots_full),
    }
}
