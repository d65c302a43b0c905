//! The probes' side, in plain memory.

use crate::source::live::memory::Memory;
use kvmscope_shared::{
    cell::{CELLS_PER_CHUNK, Cell, Extremes},
    column::ISA_VMX,
    conf::Control,
    detail::{Detail, Key},
    hist::bucket_of,
    ioctl::{Call, Tally},
    route::{Route, RouteTally},
    slot::{KIND_EXIT, Slot, life},
    waits::Waits,
};

/// Slots, slot 0 included.
pub const SLOTS: u32 = 6;
/// The first cell of the pool.
pub const POOL: u32 = SLOTS * CELLS_PER_CHUNK;

/// The maps, and the probes' side of them.
pub struct Plain {
    pub control: Control,
    pub slots: Vec<Slot>,
    pub cells: Vec<Cell>,
    pub details: Vec<Detail>,
    pub waits: Vec<Waits>,
    /// Rows of KVM ioctls.
    pub ioctls: Vec<(Call, Tally)>,
    /// Rows of what is sent by whom.
    pub routes: Vec<(Route, RouteTally)>,
}

impl Plain {
    pub fn new() -> Self {
        Self {
            control: Control { epoch: 1, ..Control::default() },
            slots: vec![Slot::default(); SLOTS as usize],
            cells: vec![Cell::default(); (POOL + 2 * CELLS_PER_CHUNK) as usize],
            details: vec![Detail::default(); SLOTS as usize],
            waits: vec![Waits::default(); SLOTS as usize],
            ioctls: vec![Default::default(); 4],
            routes: vec![Default::default(); 8],
        }
    }

    pub fn at(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// A thread of process 7 runs a vCPU.
    pub fn claim(&mut self, index: u32, vcpu_id: u32, at: u64) {
        let slot = self.at(index);
        *slot = Slot {
            owner: 70 + index,
            life: life::LIVE,
            generation: slot.generation + 1,
            tgid: 7,
            tid: 70 + index,
            vcpu_id,
            start_ns: 5,
            kvm: 0xa000,
            claimed_ns: at,
            since_ns: at,
            isa: ISA_VMX,
            events: 1,
            ..Slot::default()
        };
    }

    /// What a thread does changes.
    pub fn goes(&mut self, index: u32, to: u32, at: u64) {
        let slot = self.at(index);
        slot.phase_ns[slot.phase as usize] += at - slot.since_ns;
        slot.since_ns = at;
        slot.phase = to;
        slot.events += 1;
    }

    pub fn retire(&mut self, index: u32, at: u64) {
        let phase = self.at(index).phase;
        self.goes(index, phase, at);
        let slot = self.at(index);
        slot.retired_ns = at;
        slot.owner = 0;
        slot.life = life::RETIRED;
    }

    /// The cell of a reason, taken at its first use; the pool's chunks in their order.
    pub fn cell_of(&mut self, index: u32, kind: u32, code: u32) -> &mut Cell {
        let slot = self.slots[index as usize];
        let own = |c: &Cell| (c.slot, c.generation) == (index, slot.generation);
        let same = |c: &Cell| own(c) && c.kind == kind && c.code == code;
        let number = self.cells.iter().position(same).unwrap_or_else(|| {
            let used = slot.cells_used;
            let number = if used < CELLS_PER_CHUNK {
                index * CELLS_PER_CHUNK + used
            } else if used.is_multiple_of(CELLS_PER_CHUNK) {
                let chunk = self.cells.iter().skip(POOL as usize).position(|c| c.slot == 0);
                let chunk = POOL + chunk.expect("a free cell in the pool") as u32;
                self.at(index).extra_chunk = chunk;
                chunk
            } else {
                slot.extra_chunk + used % CELLS_PER_CHUNK
            };
            self.at(index).cells_used += 1;
            number as usize
        });
        let cell = &mut self.cells[number];
        let isa = if kind == KIND_EXIT { ISA_VMX } else { 0 };
        (cell.slot, cell.generation) = (index, slot.generation);
        (cell.kind, cell.code, cell.isa) = (kind, code, isa);
        cell
    }

    /// An exit begins and ends, `ns` later; the probe asked for the epoch when it was `epoch`.
    pub fn times(&mut self, index: u32, code: u32, ns: u64, epoch: u64) {
        self.at(index).events += 1;
        let cell = self.cell_of(index, KIND_EXIT, code);
        cell.count += 1;
        cell.total_ns += ns;
        let bucket = &mut cell.hist[bucket_of(ns)];
        *bucket = bucket.wrapping_add(1);
        extreme(cell, ns, epoch);
    }

    /// An exit of a reason is about a key, which is or comes into this place of the table, and
    /// takes so long. The key that had the place goes to its class's "other".
    pub fn about(
        &mut self,
        index: u32,
        place: usize,
        (class, value): (u32, u64),
        code: u32,
        ns: u64,
    ) {
        self.exits(index, code, &[ns]);
        let kind_of = |c: &Cell| (c.slot, c.kind, c.code) == (index, KIND_EXIT, code);
        let cell = self.cells.iter().position(kind_of).expect("just taken") as u32;
        let detail = &mut self.details[index as usize];
        let key = &mut detail.keys[place];
        if (key.class, key.value, key.cell) != (class, value, cell) {
            let other = &mut detail.others[key.class as usize];
            other.count += key.count;
            other.timed += key.timed;
            other.wall_ns += key.total_ns + key.off_ns + key.vmm_ns;
            let generation = key.generation + 1;
            *key = Key { class, value, cell, generation, ..Key::default() };
        }
        key.count += 1;
        key.timed += 1;
        key.total_ns += ns;
        key.off_ns += 2;
        key.vmm_ns += 3;
        key.max_ns = key.max_ns.max(ns + 5);
    }

    /// The same, of a key that finds no place.
    pub fn about_other(&mut self, index: u32, class: u32, code: u32, ns: u64) {
        self.exits(index, code, &[ns]);
        let other = &mut self.details[index as usize].others[class as usize];
        other.count += 1;
        other.timed += 1;
        other.wall_ns += ns + 5;
    }

    pub fn exits(&mut self, index: u32, code: u32, times: &[u64]) {
        for &ns in times {
            self.times(index, code, ns, self.control.epoch);
        }
    }
}

/// Takes a time into the extremes of an epoch.
fn extreme(cell: &mut Cell, ns: u64, epoch: u64) {
    let bank = &mut cell.extremes[(epoch & 1) as usize];
    if bank.epoch != epoch {
        *bank = Extremes { epoch, min_ns: ns, max_ns: ns };
    }
    bank.min_ns = bank.min_ns.min(ns);
    bank.max_ns = bank.max_ns.max(ns);
}

impl Memory for Plain {
    fn slots(&self) -> u32 {
        self.slots.len() as u32
    }
    fn cells(&self) -> u32 {
        self.cells.len() as u32
    }
    fn slot(&self, index: u32) -> Slot {
        self.slots[index as usize]
    }
    fn life(&self, index: u32) -> u32 {
        self.slots[index as usize].life
    }
    fn events(&self, index: u32) -> u64 {
        self.slots[index as usize].events
    }
    fn cell(&self, index: u32) -> Cell {
        self.cells[index as usize]
    }
    fn cell_owner(&self, index: u32) -> (u32, u32) {
        let cell = &self.cells[index as usize];
        (cell.slot, cell.generation)
    }
    fn control(&self) -> Control {
        self.control
    }
    fn set_epoch(&mut self, epoch: u64) {
        self.control.epoch = epoch;
    }
    fn clear_slot(&mut self, index: u32) {
        let slot = self.at(index);
        *slot = Slot { generation: slot.generation, ..Slot::default() };
    }
    fn clear_cell(&mut self, index: u32) {
        self.cells[index as usize] = Cell::default();
    }
    fn detail(&self, index: u32) -> Detail {
        self.details[index as usize]
    }
    fn clear_detail(&mut self, index: u32) {
        self.details[index as usize] = Detail::default();
    }
    fn waits(&self, index: u32) -> Waits {
        self.waits[index as usize]
    }
    fn clear_waits(&mut self, index: u32) {
        self.waits[index as usize] = Waits::default();
    }
    fn ioctl_rows(&self) -> u32 {
        self.ioctls.len() as u32
    }

    fn ioctl_call(&self, row: u32) -> Call {
        self.ioctls[row as usize].0
    }

    fn ioctl_tally(&self, row: u32) -> Tally {
        self.ioctls[row as usize].1
    }

    fn route_rows(&self) -> u32 {
        self.routes.len() as u32
    }

    fn route(&self, row: u32) -> Route {
        self.routes[row as usize].0
    }

    fn route_tally(&self, row: u32) -> RouteTally {
        self.routes[row as usize].1
    }
}
