//! Whose a record of a ring buffer is: it knows slots and cells, which may be used again by now.

use super::seen::Seen;
use crate::{
    model::ids::{Reason, VcpuKey},
    source::live::memory::Memory,
};
use kvmscope_shared::{cell::Cell, slot::life};
use std::collections::BTreeMap;

/// Who had slots that were recycled.
#[derive(Default)]
pub struct Gone {
    parted: BTreeMap<(u32, u32), Parted>,
    /// Recycled in the tick before; forgotten after this one.
    older: BTreeMap<(u32, u32), Parted>,
}

/// What a slot was when it was recycled.
struct Parted {
    key: VcpuKey,
    reasons: Vec<(u32, Reason)>,
}

/// Whose a record is.
pub enum Whose {
    /// A vCPU's, and the reason of the exit that the record names, where that is known.
    Of(VcpuKey, Option<Reason>),
    /// A slot's that has not told its VM yet.
    Untold,
    /// Of nobody that is known.
    Nobody,
}

/// The reason of a cell, if it is this slot's.
pub fn reason_of(memory: &dyn Memory, slot: u32, generation: u32, cell: u32) -> Option<Reason> {
    if cell == 0 || cell >= memory.cells() {
        return None;
    }
    let Cell { slot: owner, generation: of, kind, isa, code, .. } = memory.cell(cell);
    ((owner, of) == (slot, generation)).then(|| Reason::from_cell(kind, isa, code))
}

impl Gone {
    /// A slot is recycled: a record of it may still come.
    pub fn part(&mut self, index: u32, seen: &Seen, memory: &dyn Memory) {
        let reason = |number| {
            reason_of(memory, index, seen.generation, number).map(|reason| (number, reason))
        };
        let reasons = seen.cells.iter().filter_map(|cell| reason(cell.number)).collect();
        self.parted.insert((index, seen.generation), Parted { key: seen.key, reasons });
    }

    /// A tick has been made: what was recycled before it is forgotten.
    pub fn age(&mut self) {
        self.older = std::mem::take(&mut self.parted);
    }

    /// Whose a record is that names this slot, its generation and a cell.
    pub fn whose(
        &self,
        memory: &dyn Memory,
        seen: &[Option<Seen>],
        (slot, generation, cell): (u32, u32, u32),
    ) -> Whose {
        let who = (slot, generation);
        if let Some(parted) = self.parted.get(&who).or_else(|| self.older.get(&who)) {
            let reason = parted.reasons.iter().find(|(number, _)| *number == cell);
            return Whose::Of(parted.key, reason.map(|(_, reason)| *reason));
        }
        let known = seen.get(slot as usize).and_then(Option::as_ref);
        match known.filter(|seen| seen.generation == generation) {
            Some(seen) => Whose::Of(seen.key, reason_of(memory, slot, generation, cell)),
            None if slot < memory.slots()
                && memory.life(slot) != life::FREE
                && memory.slot(slot).generation == generation =>
            {
                Whose::Untold
            }
            None => Whose::Nobody,
        }
    }
}
