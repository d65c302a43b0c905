//! From the probes' memory to a tick: differences since the tick before.
//!
//! Reads every slot's life and event count, and only what changed further: the cost of a tick
//! follows what happened. A slot is looked at once more in the tick after its last event, because
//! the probe may have been in the middle of it. Pure but for the memory and the names it is given.

use super::{
    identity::{Identities, Names},
    memory::Memory,
};
use crate::model::{
    ids::{Kind, Reason, VcpuKey},
    tick::{CellTick, HostTick, Lost, OpenExit, Phase, PhaseTimes, Tick, VcpuTick},
};
use kvmscope_shared::{
    cell::{CELLS_PER_CHUNK, Cell},
    column::{column_of, split_reason},
    hist::BUCKETS,
    slot::{KIND_EXIT, Slot, life},
};
use std::collections::BTreeMap;

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

struct SeenCell {
    number: u32,
    last: Cell,
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
        let mut changes: BTreeMap<VcpuKey, VcpuTick> = BTreeMap::new();
        let mut freed = Vec::new();
        for index in 1..memory.slots().min(self.seen.len() as u32) {
            let alive = memory.life(index);
            if alive == life::FREE {
                continue;
            }
            let held =
                self.read_slot(memory, names, index, epoch, &moment, &mut tick, &mut changes);
            if alive == life::RETIRED && !held {
                self.recycle(memory, index, now, &mut tick, &mut freed);
            }
        }
        self.who.sweep(now, moment.last, names, &mut tick.life);
        tick.vcpus = changes.into_values().collect();
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
        changes: &mut BTreeMap<VcpuKey, VcpuTick>,
    ) -> bool {
        let Some(place) = self.seen.get_mut(index as usize) else { return false };
        let events = memory.events(index);
        if let Some(seen) = place
            && seen.events == events
            && !seen.settle
            && memory.life(index) == life::LIVE
        {
            return false;
        }
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
        let change = changes
            .entry(seen.key)
            .or_insert_with(|| VcpuTick { key: seen.key, ..VcpuTick::default() });
        change.time.add(&seen.advance(&slot, self.last_ns, moment.now_ns));
        if slot.life == life::LIVE || change.since_ns == 0 {
            change.cpu = slot.cpu;
            change.phase = Phase::from_slot(slot.phase);
            change.since_ns = slot.since_ns;
            change.open = open_exit(memory, &slot);
        }
        seen.settle = seen.events != slot.events;
        seen.events = slot.events;
        seen.find_cells(memory, index, &slot);
        for cell in &mut seen.cells {
            let now = memory.cell(cell.number);
            if let Some(difference) = cell_difference(&cell.last, &now, epoch) {
                merge_cell(&mut change.cells, difference);
            }
            cell.last = now;
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
        for cell in &seen.cells {
            if column_of(cell.last.kind, cell.last.code).is_none() {
                let key = u64::from(index) << 33
                    | u64::from(cell.last.kind & 1) << 32
                    | u64::from(cell.last.code);
                freed.push(Freed::Unknown(key));
            }
            memory.clear_cell(cell.number);
            let first = cell.number - cell.number % CELLS_PER_CHUNK;
            if first != index * CELLS_PER_CHUNK && !freed.contains(&Freed::Chunk(first)) {
                freed.push(Freed::Chunk(first));
            }
        }
        memory.clear_slot(index);
        freed.push(Freed::Slot(index));
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
        for ((spent, new), old) in spent.0.iter_mut().zip(time).zip(self.time) {
            *spent = new.saturating_sub(old);
        }
        self.at_ns = end;
        self.phase = phase;
        self.time = time;
        spent
    }

    /// Finds the cells that the slot has taken.
    fn find_cells(&mut self, memory: &dyn Memory, index: u32, slot: &Slot) {
        let used = slot.cells_used as usize;
        let own = used.min(CELLS_PER_CHUNK as usize);
        while self.cells.len() < own {
            let number = index * CELLS_PER_CHUNK + self.cells.len() as u32;
            self.cells.push(SeenCell { number, last: Cell::default() });
        }
        if used <= self.cells.len() {
            return;
        }
        // More than a chunk of reasons: rare, so the pool is searched.
        for number in memory.slots() * CELLS_PER_CHUNK..memory.cells() {
            if memory.cell_owner(number) == (index, slot.generation)
                && !self.cells.iter().any(|cell| cell.number == number)
            {
                self.cells.push(SeenCell { number, last: Cell::default() });
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

/// What changed in a cell, with the extremes of `epoch`; `None` for nothing.
fn cell_difference(last: &Cell, now: &Cell, epoch: u64) -> Option<CellTick> {
    let bank = now.extremes[(epoch & 1) as usize];
    let known = bank.epoch == epoch;
    let count = now.count.wrapping_sub(last.count);
    let hist: Vec<(u8, u32)> = (0..BUCKETS)
        .map(|i| (i as u8, now.hist[i].wrapping_sub(last.hist[i])))
        .filter(|&(_, n)| n != 0)
        .collect();
    if count == 0 && hist.is_empty() && !known {
        return None;
    }
    Some(CellTick {
        reason: Reason::from_cell(now.kind, now.isa, now.code),
        flags: now.flags,
        count,
        total_ns: now.total_ns.wrapping_sub(last.total_ns),
        off_ns: now.off_ns.wrapping_sub(last.off_ns),
        vmm_ns: now.vmm_ns.wrapping_sub(last.vmm_ns),
        min_ns: if known { bank.min_ns } else { 0 },
        max_ns: if known { bank.max_ns } else { 0 },
        hist,
    })
}

/// Adds a cell's changes to a vCPU's, sorted by reason: two threads may have been the same vCPU.
fn merge_cell(cells: &mut Vec<CellTick>, new: CellTick) {
    match cells.binary_search_by(|cell| cell.reason.cmp(&new.reason)) {
        Err(at) => cells.insert(at, new),
        Ok(at) => {
            let Some(old) = cells.get_mut(at) else { return };
            old.flags |= new.flags;
            old.count += new.count;
            old.total_ns += new.total_ns;
            old.off_ns += new.off_ns;
            old.vmm_ns += new.vmm_ns;
            old.min_ns = match (old.min_ns, new.min_ns) {
                (0, only) | (only, 0) => only,
                (a, b) => a.min(b),
            };
            old.max_ns = old.max_ns.max(new.max_ns);
            let mut hist: BTreeMap<u8, u32> = old.hist.iter().copied().collect();
            for (bucket, n) in new.hist {
                *hist.entry(bucket).or_default() += n;
            }
            old.hist = hist.into_iter().collect();
        }
    }
}

fn difference(now: &Lost, last: &Lost) -> Lost {
    Lost {
        missed_runs: now.missed_runs.saturating_sub(last.missed_runs),
        ring: now.ring.saturating_sub(last.ring),
        pool_full: now.pool_full.saturating_sub(last.pool_full),
        slots_full: now.slots_full.saturating_sub(last.slots_full),
    }
}
