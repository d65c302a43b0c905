//! From the probes' memory to a tick: differences since the tick before.
//!
//! Reads every slot's life and event count, and only what changed further: the cost of a tick
//! follows what happened. A slot is looked at once more in the tick after its last event, because
//! the probe may have been in the middle of it. Pure but for the memory and the names it is given.

mod cells;
pub mod culprits;
mod events;
mod gone;
pub mod ioctls;
mod keys;
mod meters;
mod moment;
mod parts;
pub mod routes;
mod seen;
mod slow;
mod stacks;
#[cfg(test)]
mod tests;

use super::{
    identity::{Identities, Names},
    memory::Memory,
    threads::Process,
};
use crate::model::{
    detail::VmTick,
    ids::{VcpuKey, VmId},
    session::Session,
    stats::add_cell,
    tick::{Lost, Tick, VmInfo},
};
use events::Events;
use gone::{Gone, reason_of};
use ioctls::Ioctls;
use kvmscope_shared::{
    cell::{CELLS_PER_CHUNK, Cell},
    column::column_of,
    detail::Outlier,
    event::Event,
    ioctl::Call,
    route::Route,
    slot::{Slot, life},
};
use meters::At;
pub use moment::{Counted, Moment};
use parts::SeenDelay;
use routes::Routes;
use seen::{Change, Seen};
use slow::Slow;
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
    /// A row of KVM ioctls, and whose it was.
    Ioctl(u32, Call),
    /// What a row of routes is about, which nobody will send for a while. The row itself is read once more.
    Route(Route),
    /// A row of routes that nothing leads to any more.
    RouteRow(u32),
}

/// How long a slot that has not told its VM yet is held back, ns.
const HOLD_NS: u64 = 2_000_000_000;

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
    /// Whether details were kept at the end of the tick before.
    detailed: bool,
    /// The same of meters.
    metered: bool,
    /// Outliers that the token bucket refused, as told last.
    refused: u64,
    slow: Slow,
    events: Events,
    gone: Gone,
    stacks: stacks::SeenStacks,
    /// Pages that threads dirtied that are no vCPUs, as told last.
    dirty_elsewhere: u64,
    /// Waits for a CPU of slots that were looked at before their first tick, by index and generation.
    early: BTreeMap<(u32, u32), SeenDelay>,
    ioctls: Ioctls,
    routes: Routes,
    /// Whether rows of routes were counted in at the end of the tick before.
    routed: bool,
    /// Why VMs have no APIC virtualization, of those of which it was read in this tick.
    inhibits: BTreeMap<VmId, u64>,
    /// In how many ticks each thread's wait for a CPU is read once.
    turns: usize,
}

/// Threads whose wait for a CPU is read in a tick; with more vCPUs each has its turn.
const DELAYS: usize = 1024;

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
            detailed: false,
            metered: false,
            refused: 0,
            slow: Slow::default(),
            events: Events::default(),
            gone: Gone::default(),
            stacks: stacks::SeenStacks::default(),
            dirty_elsewhere: 0,
            early: BTreeMap::new(),
            ioctls: Ioctls::default(),
            routes: Routes::default(),
            routed: false,
            inhibits: BTreeMap::new(),
            turns: 1,
        }
    }

    /// The probes were loaded anew, into new maps: nothing of the old ones is left.
    pub fn restart(&mut self, slots: u32) {
        self.seen = (0..slots).map(|_| None).collect();
        self.lost = Lost::default();
        self.refused = 0;
        self.detailed = false;
        self.metered = false;
        self.slow.clear();
        self.events.clear();
        self.gone = Gone::default();
        self.early.clear();
        self.ioctls.clear();
        self.routes.clear();
        self.routed = false;
        self.forget_stacks();
        self.dirty_elsewhere = 0;
    }

    /// KVM ioctls that were not counted, as there was no row left for them, since the probes were loaded.
    pub fn ioctls_unplaced(&self) -> u64 {
        self.ioctls.unplaced()
    }

    /// Whether something that was sent was left out as it may be meant for another VM than those watched.
    pub fn left_routes_out(&self) -> bool {
        self.routes.left_nobodys_out()
    }

    /// The stacks were cleared: those of another function follow.
    pub fn forget_stacks(&mut self) {
        self.stacks = stacks::SeenStacks::default();
    }

    /// Takes slow exits as the probes tell of them, for the next tick.
    pub fn take_outliers(&mut self, records: Vec<Outlier>) {
        self.slow.take(records);
    }

    /// Takes single events as the probes tell of them, for the next tick.
    pub fn take_events(&mut self, records: Vec<Event>) {
        self.events.take(records);
    }

    /// A thread was looked at soon after it was claimed: what it waits for a CPU from now on counts,
    /// not only from its first tick on. `run_delay` as of [`Names::run_delay`].
    pub fn early_delay(&mut self, index: u32, slot: &Slot, run_delay: u64) {
        if self.early.len() < DELAYS {
            self.early.insert((index, slot.generation), SeenDelay::at(slot, run_delay));
        }
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

    /// The processes of the VMs that live, and their threads that run vCPUs.
    pub fn processes(&self, session: &Session) -> Vec<Process> {
        let mut vcpus: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for seen in self.seen.iter().flatten() {
            if let Some(pid) = self.who.pid_of(seen.key.vm) {
                vcpus.entry(pid).or_default().insert(seen.tid);
            }
        }
        let process = |vm: &VmInfo| Process {
            id: vm.id,
            tgid: vm.pid,
            began_ns: vm
                .started_unix_ns
                .checked_sub(session.started_unix_ns)
                .map(|after| session.started_ns.saturating_add(after)),
            vcpus: vcpus.get(&vm.pid).cloned().unwrap_or_default(),
        };
        self.who.live().map(process).collect()
    }

    /// Whether any vCPU thread lives.
    pub fn any_live(&self) -> bool {
        self.who.any_live()
    }

    /// Whether slots must not wait for a `kvm_entry` that never comes.
    pub fn expect_no_entries(&mut self) {
        self.entries = false;
    }

    /// Makes the next tick, and says what can be used again. Of VMs it has what the probes tell alone
    /// ([`VmTick::ioctls`], [`VmTick::apicv_inhibits`]).
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
        let detail = moment.detail | std::mem::replace(&mut self.detailed, moment.detail);
        let meters = moment.meters | std::mem::replace(&mut self.metered, moment.meters);
        let moment = Moment { detail, meters, ..moment };
        self.turns = self.seen.iter().flatten().count() / DELAYS + 1;
        for index in 1..memory.slots().min(self.seen.len() as u32) {
            let alive = memory.life(index);
            if alive == life::FREE {
                continue;
            }
            let unchanged = alive == life::LIVE && self.is_unchanged(memory, index, moment.meters);
            let held = !unchanged
                && self.read_slot(memory, names, index, epoch, &moment, &mut tick, &mut changes);
            if alive == life::RETIRED && !held {
                self.recycle(memory, index, now, &mut tick, &mut freed);
            }
        }
        // A vCPU of several threads of which not all had something to tell: the tick must have
        // what the others did meanwhile, which may be the one that runs it.
        for index in self.untold_of(&changes) {
            self.read_slot(memory, names, index, epoch, &moment, &mut tick, &mut changes);
        }
        if moment.ioctls || self.ioctls.has_some() {
            tick.vms = self.ioctls.advance(memory, &self.who, names, moment.last, &mut freed);
        }
        for (id, bits) in std::mem::take(&mut self.inhibits) {
            let found = tick.vms.iter_mut().position(|vm| vm.id == id);
            let at = found.unwrap_or_else(|| {
                tick.vms.push(VmTick { id, ..VmTick::default() });
                tick.vms.len() - 1
            });
            if let Some(vm) = tick.vms.get_mut(at) {
                vm.apicv_inhibits = Some(bits);
            }
        }
        if moment.routes | std::mem::replace(&mut self.routed, moment.routes) {
            let until = (now, moment.last);
            let sent = self.routes.advance(memory, &self.who, names, until, &mut freed);
            (tick.routes, tick.routes_left_out) = (sent.routes, sent.left_out);
        }
        self.who.sweep(now, moment.last, names, &mut tick.life);
        let (outliers, nobodys) = self.slow.tell(memory, &self.seen, &self.gone, moment.last);
        tick.outliers = outliers;
        let whose = (self.seen.as_slice(), &self.gone, &self.who, &self.routes);
        let told = self.events.tell(memory, whose, &control.events_refused, (now, moment.last));
        (tick.events, tick.events_left_out) = (told.events, told.left_out);
        self.gone.age();
        let refused = control.outliers_refused.saturating_sub(self.refused);
        self.refused = control.outliers_refused;
        tick.outliers_left_out = refused.saturating_add(nobodys);
        if let Some(of) = moment.stacks {
            let whose = stacks::Known { seen: &self.seen, who: &self.who };
            (tick.stacks, tick.stacks_left_out) = self.stacks.advance(memory, of, &whose);
        }
        tick.dirty_elsewhere = control.dirty_elsewhere.saturating_sub(self.dirty_elsewhere);
        self.dirty_elsewhere = control.dirty_elsewhere;
        tick.vcpus = changes.into_values().map(Change::finish).collect();
        self.counted.add(&tick);
        let total = Lost {
            missed_runs: moment.missed_runs,
            ring: control.ring_full,
            pool_full: control.pool_full,
            slots_full: control.slots_full,
        };
        tick.lost = difference(&total, &self.lost);
        self.lost = total;
        self.seq += 1;
        self.last_ns = now;
        (tick, freed)
    }

    /// Whether nothing happened in a slot since it was read to its end. With `meters` an interval that
    /// is open is something: it grows.
    fn is_unchanged(&self, memory: &dyn Memory, index: u32, meters: bool) -> bool {
        let same = |seen: &Seen| !seen.settle && seen.events == memory.events(index);
        self.seen
            .get(index as usize)
            .and_then(Option::as_ref)
            .is_some_and(|seen| same(seen) && !(meters && seen.meters.is_open()))
    }

    /// Slots that were not read in this tick, of vCPUs that others have told of.
    fn untold_of(&self, changes: &BTreeMap<VcpuKey, Change>) -> Vec<u32> {
        let several = |key, change: &Change| !change.live() || self.who.threads_of(key) > 1;
        let keys: BTreeSet<VcpuKey> =
            changes.iter().filter(|(key, c)| several(**key, c)).map(|(key, _)| *key).collect();
        if keys.is_empty() {
            return Vec::new();
        }
        let untold = |seen: &Seen| seen.tick <= self.seq && keys.contains(&seen.key);
        let slots = (0..).zip(&self.seen);
        slots.filter(|(_, seen)| seen.as_ref().is_some_and(untold)).map(|(i, _)| i).collect()
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
        let its_turn = (index as usize + tick.seq as usize).is_multiple_of(self.turns);
        let Some(place) = self.seen.get_mut(index as usize) else { return false };
        // Before the slot: a wait that ends in between is then known to the probes, not the other
        // way round.
        let delay = place.as_ref().filter(|_| its_turn).and_then(|seen| names.run_delay(seen.tid));
        let slot = consistent(memory, index);
        let known = place.as_ref().is_some_and(|seen| seen.generation == slot.generation);
        if !known {
            if !moment.last && self.entries && untold(&slot, moment.now_ns) {
                return true;
            }
            let key = self.who.enter(&slot, names, &mut tick.life);
            let mut seen = Seen::new(&slot, key);
            seen.delay = self.early.remove(&(index, slot.generation)).unwrap_or_default();
            *place = Some(seen);
        }
        let Some(seen) = place else { return false };
        if self.who.is_other(seen.key, &slot) {
            seen.key = self.who.correct(seen.key, &slot, moment.now_ns, names, &mut tick.life);
        }
        let change = changes.entry(seen.key).or_insert_with(|| Change::new(seen.key));
        let mut spent = seen.advance(&slot, self.last_ns, moment.now_ns);
        change.tick.halts.add(&seen.halts.advance(&slot, &mut spent.times));
        if slot.life == life::LIVE {
            // Of a thread that is new here: from now on.
            let delay = if known { delay } else { names.run_delay(slot.tid) };
            if let Some(delay) = delay {
                seen.delay.advance(&slot, delay, &mut spent.times);
            }
        }
        change.spent(spent);
        change.doing(memory, &slot);
        if moment.detail {
            let (first, second) = (memory.detail(index), memory.detail(index));
            let reason = |cell| reason_of(memory, index, slot.generation, cell);
            let keys = seen.keys.get_or_insert_default();
            keys.advance(&first, &second, reason, &mut change.keys);
            if second.inhibits_epoch >= epoch {
                self.inhibits.insert(seen.key.vm, second.inhibits);
            }
        }
        seen.tick = tick.seq;
        seen.settle = seen.events != slot.events;
        seen.events = slot.events;
        seen.find_cells(memory, index, &slot);
        // One that was held back has seen epochs whose extremes are gone.
        let whole = known || slot.claimed_ns >= self.last_ns;
        for cell in &mut seen.cells {
            if let Some(difference) = cell.advance(&memory.cell(cell.number), epoch, whole) {
                add_cell(&mut change.tick.cells, &difference);
            }
        }
        if moment.meters {
            let at = At { epoch, whole, now_ns: moment.now_ns };
            let more = seen.meters.advance(&slot, &memory.meters(index), at);
            change.tick.meters.add(&more, slot.life == life::LIVE);
        }
        if seen.waits.is_behind(memory, index) {
            let mut known = culprits::Known(&self.who, names);
            let more = seen.waits.advance(&culprits::read(memory, index), &mut known);
            culprits::add(&mut change.tick.culprits, more);
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
        self.early.remove(&(index, seen.generation));
        self.gone.part(index, &seen, memory);
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
        memory.clear_detail(index);
        memory.clear_meters(index);
        memory.clear_waits(index);
        memory.clear_slot(index);
        freed.push(Freed::Slot(index));
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

fn difference(now: &Lost, last: &Lost) -> Lost {
    Lost {
        missed_runs: now.missed_runs.saturating_sub(last.missed_runs),
        ring: now.ring.saturating_sub(last.ring),
        pool_full: now.pool_full.saturating_sub(last.pool_full),
        slots_full: now.slots_full.saturating_sub(last.slots_full),
    }
}
