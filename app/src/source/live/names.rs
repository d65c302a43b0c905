//! Names of VMs from `/proc`, kept from the first look: a VM may be gone at the next.

use super::{
    host::now_ns,
    identity::{Named, Names},
    reader::culprits::Cgroups,
    schedstat,
    vms::{self, describe, read_facts, read_start_unix_ns, same_start, vcpu_from_thread_name},
};
use std::collections::HashMap;

/// Processes kept before the dead ones are forgotten.
const KEPT: usize = 1024;

fn is_alive(tgid: u32, start_ns: u64) -> bool {
    read_facts(tgid).is_ok_and(|now| same_start(start_ns, now.start_ticks) != Some(false))
}

/// A process as it was when it was first seen.
struct Known {
    facts: vms::ProcFacts,
    started_unix_ns: u64,
}

/// Names from `/proc`.
#[derive(Default)]
pub struct ProcNames {
    known: HashMap<(u32, u64), Known>,
    cgroups: Cgroups,
}

impl ProcNames {
    /// Reads `/proc` for a process that just became a VM, before it may be gone again.
    pub fn look(&mut self, tgid: u32, start_ns: u64) {
        if self.known.contains_key(&(tgid, start_ns)) {
            return;
        }
        let Ok(facts) = read_facts(tgid) else { return };
        if same_start(start_ns, facts.start_ticks) == Some(false) {
            return;
        }
        let started_unix_ns = read_start_unix_ns(tgid).unwrap_or(0);
        if self.known.len() >= KEPT {
            // Their VMs have their names by now.
            self.known.retain(|&(pid, start), _| is_alive(pid, start));
        }
        self.known.insert((tgid, start_ns), Known { facts, started_unix_ns });
    }
}

impl Names for ProcNames {
    fn name(&mut self, tgid: u32, start_ns: u64, comm: &str, nth: u32) -> Named {
        self.look(tgid, start_ns);
        match self.known.get(&(tgid, start_ns)) {
            Some(known) => {
                let named = describe(&known.facts, nth);
                Named { name: named.name, vmm: named.vmm, started_unix_ns: known.started_unix_ns }
            }
            None => {
                let facts =
                    vms::ProcFacts { pid: tgid, comm: comm.to_owned(), ..Default::default() };
                let named = describe(&facts, nth);
                Named { name: named.name, vmm: named.vmm, started_unix_ns: 0 }
            }
        }
    }

    fn alive(&mut self, tgid: u32, start_ns: u64) -> bool {
        is_alive(tgid, start_ns)
    }

    fn vcpu_of_thread(&self, thread: &str) -> Option<u32> {
        vcpu_from_thread_name(thread)
    }

    fn run_delay(&mut self, tid: u32) -> Option<u64> {
        schedstat::read(tid).map(|stat| stat.run_delay_ns)
    }

    fn cgroup(&mut self, tid: u32) -> String {
        self.cgroups.get(tid, now_ns(), |tid| vms::read_cgroup(tid).ok())
    }
}
