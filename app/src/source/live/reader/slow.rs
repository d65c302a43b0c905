//! Slow exits: from the probes' records, which know slots and cells, to vCPUs and reasons.

use super::seen::Seen;
use crate::{
    model::{
        detail::{self, KeyClass},
        ids::{Reason, VcpuKey},
    },
    source::live::{identity::comm, memory::Memory},
};
use kvmscope_shared::{cell::Cell, detail::Outlier};
use std::collections::BTreeMap;

/// Most records that wait for their slot to tell who it is.
const MAX_HELD: usize = 1024;

/// Records that came, and who had slots that are used again.
#[derive(Default)]
pub struct Slow {
    records: Vec<Outlier>,
    parted: BTreeMap<(u32, u32), Parted>,
    /// Recycled in the tick before; forgotten after this one.
    older: BTreeMap<(u32, u32), Parted>,
}

/// What a slot was when it was recycled.
struct Parted {
    key: VcpuKey,
    reasons: Vec<(u32, Reason)>,
}

/// The reason of a cell, if it is this slot's.
pub fn reason_of(memory: &dyn Memory, slot: u32, generation: u32, cell: u32) -> Option<Reason> {
    if cell == 0 || cell >= memory.cells() {
        return None;
    }
    let Cell { slot: owner, generation: of, kind, isa, code, .. } = memory.cell(cell);
    ((owner, of) == (slot, generation)).then(|| Reason::from_cell(kind, isa, code))
}

impl Slow {
    /// Takes records, to be told with the next tick.
    pub fn take(&mut self, records: Vec<Outlier>) {
        self.records.extend(records);
    }

    /// Forgets everything: the maps are new.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A slot is recycled: a record of it may still come.
    pub fn part(&mut self, index: u32, seen: &Seen, memory: &dyn Memory) {
        let reason = |number| {
            reason_of(memory, index, seen.generation, number).map(|reason| (number, reason))
        };
        let reasons = seen.cells.iter().filter_map(|cell| reason(cell.number)).collect();
        self.parted.insert((index, seen.generation), Parted { key: seen.key, reasons });
    }

    /// The slow exits of a tick in the order in which they ended, and how many records could not
    /// be told of anybody. `last` holds nothing back.
    pub fn tell(
        &mut self,
        memory: &dyn Memory,
        seen: &[Option<Seen>],
        last: bool,
    ) -> (Vec<detail::Outlier>, u64) {
        let (mut told, mut held, mut nobodys) = (Vec::new(), Vec::new(), 0);
        for record in std::mem::take(&mut self.records) {
            let who = (record.slot, record.generation);
            if let Some(parted) = self.parted.get(&who).or_else(|| self.older.get(&who)) {
                let reason = parted.reasons.iter().find(|(cell, _)| *cell == record.cell);
                match reason {
                    Some((_, reason)) => told.push(outlier(&record, parted.key, *reason)),
                    None => nobodys += 1,
                }
                continue;
            }
            let known = seen.get(record.slot as usize).and_then(Option::as_ref);
            let known = known.filter(|seen| seen.generation == record.generation);
            let reason = reason_of(memory, record.slot, record.generation, record.cell);
            match (known, reason) {
                (Some(seen), Some(reason)) => told.push(outlier(&record, seen.key, reason)),
                // It has not told its VM yet.
                (None, Some(_)) if !last && held.len() < MAX_HELD => held.push(record),
                _ => nobodys += 1,
            }
        }
        self.records = held;
        self.older = std::mem::take(&mut self.parted);
        told.sort_by_key(|outlier| outlier.end_ns);
        (told, nobodys)
    }
}

fn outlier(record: &Outlier, key: VcpuKey, reason: Reason) -> detail::Outlier {
    detail::Outlier {
        key,
        end_ns: record.end_ns,
        reason,
        about: KeyClass::from_record(record.class).map(|class| (class, record.key)),
        rip: record.rip,
        info1: record.info1,
        info2: record.info2,
        handling_ns: record.handling_ns,
        asleep_ns: record.off_ns.saturating_sub(record.wait_ns),
        wait_ns: record.wait_ns.min(record.off_ns),
        vmm_ns: record.vmm_ns,
        cpu: record.cpu,
        by: (record.by_tid != 0).then(|| (record.by_tid, comm(&record.by_comm))),
    }
}
