//! Threads from `/proc`.
//!
//! vhost's threads are the VMM's own from Linux 6.4 on (and stay kernel threads where the VMM asks for
//! that, from 6.17); before, they are kernel threads called "vhost-PID" (`vhost_dev_set_owner`,
//! drivers/vhost/vhost.c), which are looked for now and then where vhost is there at all.

use super::super::schedstat;
use super::Tasks;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    path::Path,
    time::{Duration, Instant},
};

/// Most bytes of a file that are read.
const MAX_TEXT: u64 = 1 << 20;
/// How often all processes are listed, for kernel threads of vhost.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// Processes whose name is read with one look at a VM.
const NAMES_AT_ONCE: usize = 64;

/// Threads from `/proc`.
#[derive(Debug, Default)]
pub struct ProcTasks {
    vhost: Vhost,
}

/// Kernel threads of vhost by the process that they work for.
#[derive(Debug, Default)]
struct Vhost {
    listed: Option<Instant>,
    /// Processes whose name was read.
    known: BTreeSet<u32>,
    /// Workers, and whose they are.
    workers: BTreeMap<u32, u32>,
    /// Listed, and not known yet.
    unknown: Vec<u32>,
}

impl Tasks for ProcTasks {
    fn threads(&mut self, tgid: u32) -> Vec<u32> {
        let mut threads: Vec<u32> = numbers(&format!("/proc/{tgid}/task")).collect();
        self.vhost.follow();
        let workers = self.vhost.workers.iter().filter(|(_, owner)| **owner == tgid);
        threads.extend(workers.map(|(tid, _)| *tid));
        threads.sort_unstable();
        threads
    }

    fn cpu_ns(&mut self, tid: u32) -> Option<u64> {
        schedstat::read(tid).map(|stat| stat.cpu_ns)
    }

    fn comm(&mut self, tid: u32) -> Option<String> {
        comm(tid)
    }

    fn text(&mut self, path: &str) -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(MAX_TEXT).read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Vhost {
    /// Goes on looking for workers. A process that got the number of another between two lists goes
    /// unnoticed until that one is gone from a list.
    fn follow(&mut self) {
        if self.unknown.is_empty() && self.listed.is_none_or(|at| at.elapsed() >= LIST_EVERY) {
            self.listed = Some(Instant::now());
            if !Path::new("/sys/module/vhost").exists() {
                (self.known, self.workers) = Default::default();
                return;
            }
            let there: BTreeSet<u32> = numbers("/proc").collect();
            self.known.retain(|pid| there.contains(pid));
            self.workers.retain(|pid, _| there.contains(pid));
            self.unknown = there.difference(&self.known).copied().collect();
        }
        let rest = self.unknown.len().saturating_sub(NAMES_AT_ONCE);
        for pid in self.unknown.drain(rest..) {
            let worker = comm(pid).as_deref().and_then(works_for);
            // A process may call itself anything; a kernel thread has no command line.
            let no_command =
                |_: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.is_empty());
            self.known.insert(pid);
            if let Some(owner) = worker.filter(no_command) {
                self.workers.insert(pid, owner);
            }
        }
    }
}

/// The process that a kernel thread of this name works for.
fn works_for(comm: &str) -> Option<u32> {
    comm.strip_prefix("vhost-")?.parse().ok()
}

fn comm(tid: u32) -> Option<String> {
    let comm = fs::read(format!("/proc/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&comm).trim_end_matches('\n').to_owned())
}

/// Entries of a directory that are numbers; none where it cannot be read.
fn numbers(dir: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vhost_workers_carry_their_owners_number() {
        assert_eq!(works_for("vhost-4711"), Some(4711));
        for other in ["vhost-", "vhost-47a", "vhost", "kvm-nx-lpage-re", "vhost-4711-1"] {
            assert_eq!(works_for(other), None, "{other}");
        }
    }

    #[test]
    fn this_process_can_be_read() {
        let mut tasks = ProcTasks::default();
        let own = std::process::id();
        let threads = tasks.threads(own);
        assert!(threads.contains(&own) && threads.is_sorted(), "{threads:?}");
        assert!(tasks.comm(own).is_some_and(|comm| !comm.is_empty()));
        assert!(tasks.text("/proc/self/mountinfo").is_ok_and(|text| text.contains(" / ")));
        assert!(tasks.threads(u32::MAX).is_empty());
        assert!(tasks.comm(u32::MAX).is_none() && tasks.cpu_ns(u32::MAX).is_none());
    }
}
