//! Slow exits: from the probes' records, which know slots and cells, to vCPUs and reasons.

use super::{
    gone::{Gone, Whose},
    seen::Seen,
};
use crate::{
    model::{
        detail::{self, KeyClass},
        ids::{Reason, VcpuKey},
    },
    source::live::{identity::comm, memory::Memory},
};
use kvmscope_shared::detail::Outlier;

/// Most records that wait for their slot to tell who it is.
const MAX_HELD: usize = 1024;

/// Records that came.
#[derive(Default)]
pub struct Slow {
    records: Vec<Outlier>,
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

    /// The slow exits of a tick in the order in which they ended, and how many records could not
    /// be told of anybody. `last` holds nothing back.
    pub fn tell(
        &mut self,
        memory: &dyn Memory,
        seen: &[Option<Seen>],
        gone: &Gone,
        last: bool,
    ) -> (Vec<detail::Outlier>, u64) {
        let (mut told, mut held, mut nobodys) = (Vec::new(), Vec::new(), 0);
        for record in std::mem::take(&mut self.records) {
            match gone.whose(memory, seen, (record.slot, record.generation, record.cell)) {
                Whose::Of(key, Some(reason)) => told.push(outlier(&record, key, reason)),
                Whose::Untold if !last && held.len() < MAX_HELD => held.push(record),
                _ => nobodys += 1,
            }
        }
        self.records = held;
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
