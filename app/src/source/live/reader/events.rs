//! Single events: from the probes' records, which know slots and cells, to VMs, vCPUs and reasons.

use super::{
    gone::{Gone, Whose},
    routes::{self, Routes, whose_sender},
    seen::Seen,
};
use crate::{
    model::event::{self, EventKind, LeftOut},
    source::live::{
        identity::{Home, Identities},
        memory::Memory,
    },
};
use kvmscope_shared::event::{Event, kind};
use std::collections::BTreeMap;

/// Most records that wait for their slot, or their process, to tell who it is.
const MAX_HELD: usize = 4096;
/// How long they wait at most, ns: a VMM may set up a VM for seconds before the first vCPU runs.
const HOLD_NS: u64 = 10_000_000_000;
/// Most events of one kind that a tick has. A list is for reading; history has room for some.
const MAX_TOLD: usize = 1000;

/// Records that came and wait to be told.
#[derive(Default)]
pub struct Events {
    records: Vec<Event>,
    /// Refused by the probes, by kind, as told last.
    refused: [u64; kind::COUNT],
}

/// What a tick has of them.
#[derive(Default)]
pub struct Told {
    /// In the order in which they happened.
    pub events: Vec<event::Event>,
    /// Left out, by kind.
    pub left_out: Vec<LeftOut>,
}

impl Events {
    /// Takes records, to be told with the next tick.
    pub fn take(&mut self, records: Vec<Event>) {
        self.records.extend(records);
    }

    /// Forgets everything: the maps are new.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The events of a tick that ends at `now_ns`, where `refused` is what the probes count. `last`
    /// holds nothing back.
    pub fn tell(
        &mut self,
        memory: &dyn Memory,
        (seen, gone, who, routes): (&[Option<Seen>], &Gone, &Identities, &Routes),
        refused: &[u64; kind::COUNT],
        (now_ns, last): (u64, bool),
    ) -> Told {
        let mut left_out: BTreeMap<EventKind, u64> = BTreeMap::new();
        for (number, (told, now)) in (0..).zip(self.refused.iter_mut().zip(refused)) {
            let grown = now.saturating_sub(*told);
            *told = *now;
            if let Some(kind) = EventKind::from_record(number) {
                *left_out.entry(kind).or_default() += grown;
            }
        }
        let filtered = memory.control().filters != 0;
        let mut events: BTreeMap<EventKind, Vec<event::Event>> = BTreeMap::new();
        let mut held = Vec::new();
        for record in std::mem::take(&mut self.records) {
            let Some(kind) = EventKind::from_record(record.kind) else { continue };
            let waits =
                !last && held.len() < MAX_HELD && now_ns.saturating_sub(record.at_ns) < HOLD_NS;
            let whose = if record.slot == 0 && kind == EventKind::Route {
                let of = record.args[4] as u32;
                let name = || routes.kernel_thread(record.tgid).unwrap_or_default();
                match whose_sender((of, record.tgid, 0), name, who, waits) {
                    routes::Whose::Told(None) if filtered => {
                        // It may be another's than the VMs that are watched.
                        *left_out.entry(kind).or_default() += 1;
                        continue;
                    }
                    // No VM has the number 0: not known.
                    routes::Whose::Told(vm) => Some((vm.unwrap_or_default(), None, None)),
                    routes::Whose::Untold => None,
                }
            } else if record.slot == 0 {
                // An ioctl says of which VM; one that never runs is its process's.
                let kvm = if kind == EventKind::Ioctl { record.args[4] } else { 0 };
                match who.home(record.tgid, kvm) {
                    Home::Vm { id, .. } => Some((id, None, None)),
                    Home::Perhaps(id) if !waits => id.map(|id| (id, None, None)),
                    Home::Perhaps(_) => None,
                }
            } else {
                match gone.whose(memory, seen, (record.slot, record.generation, record.cell)) {
                    Whose::Of(key, reason) => Some((key.vm, Some(key.vcpu), reason)),
                    Whose::Untold => None,
                    Whose::Nobody => {
                        *left_out.entry(kind).or_default() += 1;
                        continue;
                    }
                }
            };
            match whose {
                Some((vm, vcpu, reason)) => {
                    events.entry(kind).or_default().push(event::Event {
                        at_ns: record.at_ns,
                        kind,
                        vm,
                        vcpu,
                        tid: record.tid,
                        cpu: record.cpu,
                        reason,
                        rip: record.rip,
                        handling_ns: record.handling_ns,
                        off_ns: record.off_ns,
                        vmm_ns: record.vmm_ns,
                        args: record.args,
                    });
                }
                None if waits => held.push(record),
                None => *left_out.entry(kind).or_default() += 1,
            }
        }
        self.records = held;
        let mut all = Vec::new();
        for (kind, mut of) in events {
            of.sort_by_key(|event| event.at_ns);
            // The newest stay.
            let over = of.len().saturating_sub(MAX_TOLD);
            *left_out.entry(kind).or_default() += over as u64;
            all.extend(of.drain(over..));
        }
        all.sort_by_key(|event| event.at_ns);
        let left_out = left_out.into_iter().filter(|(_, count)| *count != 0);
        Told {
            events: all,
            left_out: left_out.map(|(kind, count)| LeftOut { kind, count }).collect(),
        }
    }
}
