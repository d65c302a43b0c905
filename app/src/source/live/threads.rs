//! What VMs do beside running their vCPUs: CPU time of the VMM's other threads and of vhost's kernel
//! threads, and time that a CPU quota stopped them.
//!
//! `/proc` is read, so it is bounded: some VMs in each tick, in turn, and each look says how long
//! ago the one before was. A thread that ends between two looks keeps what it did after the first.

mod proc;

pub use proc::ProcTasks;

use super::cgroup::{Mount, Throttle, Version, cpu_mount, group_of};
use crate::model::{detail::VmTick, ids::VmId};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// About as many files are read in one tick: those of one more VM are begun while there is room.
const MAX_FILES: usize = 512;
/// Most threads read of one VM, apart from those that run vCPUs.
const MAX_THREADS: usize = 256;
/// Busiest threads that are named.
const NAMED: usize = 5;

/// A VM that is there, and the threads of its process that run vCPUs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Process {
    /// The VM; where a process has several, the first.
    pub id: VmId,
    /// Its process.
    pub tgid: u32,
    /// When it began, ns of the probes' clock, if that was after the session did.
    pub began_ns: Option<u64>,
    /// Threads that run vCPUs.
    pub vcpus: BTreeSet<u32>,
}

/// Where facts come from: `/proc` when live.
pub trait Tasks {
    /// Threads of a process, and of the kernel on its behalf, ascending.
    fn threads(&mut self, tgid: u32) -> Vec<u32>;
    /// CPU time of a thread so far, ns.
    fn cpu_ns(&mut self, tid: u32) -> Option<u64>;
    /// Name of a thread.
    fn comm(&mut self, tid: u32) -> Option<String>;
    /// Text of a file.
    fn text(&mut self, path: &str) -> io::Result<String>;
}

/// What is known from look to look.
#[derive(Debug, Default)]
pub struct Beside {
    vms: BTreeMap<VmId, Known>,
    /// The VM looked at last; the next is the first after it.
    turn: VmId,
    /// Where quotas are; `None` before the first look, inside `None` for nowhere.
    mount: Option<Option<Mount>>,
    notices: Vec<String>,
}

#[derive(Debug, Default)]
struct Known {
    /// When it was looked at last, ns; `None` before the first time.
    at_ns: Option<u64>,
    /// CPU time of its threads then, ns.
    threads: BTreeMap<u32, u64>,
    /// Threads that ever ran one of its vCPUs: what they did then is no other thread's.
    vcpus: BTreeSet<u32>,
    throttle: Throttle,
}

impl Beside {
    /// Looks at as many of the VMs as there is room for. A VM that was there before the session is
    /// told of from its second look on.
    pub fn look(
        &mut self,
        processes: &[Process],
        now_ns: u64,
        tasks: &mut dyn Tasks,
    ) -> Vec<VmTick> {
        let there: BTreeMap<VmId, &Process> = processes.iter().map(|p| (p.id, p)).collect();
        self.vms.retain(|id, _| there.contains_key(id));
        for process in processes {
            self.vms.entry(process.id).or_default().vcpus.extend(&process.vcpus);
        }
        let after = there.range(self.turn..).filter(|(id, _)| **id > self.turn);
        let in_turn: Vec<&Process> =
            after.chain(there.range(..=self.turn)).map(|(_, process)| *process).collect();
        let (mut left, mut ticks) = (MAX_FILES, Vec::new());
        for process in in_turn {
            let mut others = tasks.threads(process.tgid);
            others.retain(|tid| !process.vcpus.contains(tid));
            others.truncate(MAX_THREADS);
            if left < MAX_FILES && others.len() + process.vcpus.len() > left {
                break;
            }
            self.turn = process.id;
            let (throttled_ns, files) = self.throttled(process, tasks);
            left = left.saturating_sub(others.len() + files);
            let Some(known) = self.vms.get_mut(&process.id) else { continue };
            ticks.extend(known.look(process, &others, throttled_ns, now_ns, tasks));
        }
        ticks.sort_by_key(|tick| tick.id);
        ticks
    }

    /// Sentences that came up since the last call.
    pub fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Throttled time of a VM since its last look, ns, and how many files told.
    fn throttled(&mut self, process: &Process, tasks: &mut dyn Tasks) -> (Option<u64>, usize) {
        let Self { vms, mount, notices, .. } = self;
        let mount = mount.get_or_insert_with(|| find_mount(tasks, notices));
        let (Some(mount), Some(known)) = (mount, vms.get_mut(&process.id)) else {
            return (None, 0);
        };
        let mut files = 0;
        let mut read = |path: &str| {
            files += 1;
            tasks.text(path)
        };
        let mut groups = BTreeSet::new();
        for tid in std::iter::once(&process.tgid).chain(&process.vcpus).take(MAX_THREADS) {
            // A thread that has ended is in no group.
            let Ok(text) = read(&format!("/proc/{tid}/cgroup")) else { continue };
            groups.extend(group_of(&text, mount.version).map(str::to_owned));
        }
        let throttled = known.throttle.look(mount, &groups, read).unwrap_or_else(|e| {
            notices.push(format!(
                "Whether a CPU quota stops a VM cannot be told: its cgroup below {} cannot be read ({e}).",
                mount.point
            ));
            None
        });
        (throttled, files)
    }
}

/// Where the CPU controller is, with a sentence where that is not as usual.
fn find_mount(tasks: &mut dyn Tasks, notices: &mut Vec<String>) -> Option<Mount> {
    let mount = tasks.text("/proc/self/mountinfo").ok().as_deref().and_then(cpu_mount);
    match &mount {
        None => notices.push(
            "Whether a CPU quota stops a VM cannot be told: no cgroup file system is mounted here."
                .to_owned(),
        ),
        Some(mount) if mount.version == Version::V1 => notices.push(format!(
            "CPU quotas are cgroup v1's here: they and the time they stop VMs are read below {} \
             (cpu.cfs_quota_us, throttled_time).",
            mount.point
        )),
        Some(_) => {}
    }
    mount
}

impl Known {
    fn look(
        &mut self,
        process: &Process,
        others: &[u32],
        throttled_ns: Option<u64>,
        now_ns: u64,
        tasks: &mut dyn Tasks,
    ) -> Option<VmTick> {
        let before = std::mem::take(&mut self.threads);
        // A process that began in the session has done everything in it.
        let since_ns = self.at_ns.or(process.began_ns);
        let mut ran: Vec<(u32, u64)> = Vec::new();
        for &tid in others {
            let Some(now) = tasks.cpu_ns(tid) else { continue };
            self.threads.insert(tid, now);
            let last = match before.get(&tid) {
                Some(&last) if last <= now => last,
                // Another thread has its number by now.
                Some(_) => 0,
                None if self.vcpus.contains(&tid) => now,
                None => 0,
            };
            ran.push((tid, now - last));
        }
        self.at_ns = Some(now_ns);
        let since_ns = since_ns?;
        ran.retain(|&(_, ns)| ns > 0);
        ran.sort_by_key(|&(tid, ns)| (std::cmp::Reverse(ns), tid));
        let name = |&(tid, ns): &(u32, u64)| (tid, tasks.comm(tid).unwrap_or_default(), ns);
        Some(VmTick {
            id: process.id,
            over_ns: now_ns.saturating_sub(since_ns),
            others_ns: ran.iter().map(|&(_, ns)| ns).fold(0, u64::saturating_add),
            threads: ran.iter().take(NAMED).map(name).collect(),
            throttled_ns,
            ..VmTick::default()
        })
    }
}

#[cfg(test)]
mod tests;
