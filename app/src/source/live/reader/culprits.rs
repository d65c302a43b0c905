//! Who ran while a vCPU waited for its CPU: what changed in a slot's table since it was told last.

use crate::{
    model::{detail::CulpritTick, ids::VmId},
    source::live::{
        identity::{Identities, Names, comm},
        memory::Memory,
    },
};
use kvmscope_shared::waits::{CULPRITS, Culprit, IDLE, Waits};
use std::{cmp::Ordering, collections::HashMap};

/// What is known of a culprit beside its numbers.
pub trait Culprits {
    /// The VM whose process this is; of several, the first.
    fn vm(&self, pid: u32) -> Option<VmId>;
    /// The cgroup of a thread; empty where it is not known.
    fn cgroup(&mut self, tid: u32) -> String;
}

/// What identities and names know.
pub struct Known<'a>(pub &'a Identities, pub &'a mut dyn Names);

impl Culprits for Known<'_> {
    fn vm(&self, pid: u32) -> Option<VmId> {
        self.0.vm_of_process(pid)
    }
    fn cgroup(&mut self, tid: u32) -> String {
        self.1.cgroup(tid)
    }
}

/// The name that the idle task is given.
pub const IDLE_NAME: &str = "idle";

/// A slot's waits as they were told last.
#[derive(Clone, Debug, Default)]
pub struct SeenWaits {
    told: Waits,
}

/// A slot's waits, read until they did not change meanwhile, or after a few tries as they are.
pub fn read(memory: &dyn Memory, index: u32) -> Waits {
    let mut waits = memory.waits(index);
    for _ in 0..4 {
        let again = memory.waits(index);
        if again == waits {
            break;
        }
        waits = again;
    }
    waits
}

/// Adds what another thread of the same vCPU waited for.
pub fn add(to: &mut Vec<CulpritTick>, more: Vec<CulpritTick>) {
    for tick in more {
        let same = |t: &&mut CulpritTick| t.pid == tick.pid && (t.pid != 0 || t.comm == tick.comm);
        match to.iter_mut().find(same) {
            Some(known) => {
                known.ns = known.ns.saturating_add(tick.ns);
                known.count = known.count.saturating_add(tick.count);
            }
            None => to.push(tick),
        }
    }
    to.sort_by(most_first);
}

fn most_first(a: &CulpritTick, b: &CulpritTick) -> Ordering {
    b.ns.cmp(&a.ns).then_with(|| (a.pid, &a.comm).cmp(&(b.pid, &b.comm)))
}

impl SeenWaits {
    /// Whether there is more than was told, by a look at one number.
    pub fn is_behind(&self, memory: &dyn Memory, index: u32) -> bool {
        memory.waited_ns(index) != self.told.total_ns
    }

    /// What changed since the last call, most time first; together exactly what `total_ns` grew by.
    ///
    /// What is nobody's comes with pid 0 and an empty name, the idle task with pid 0 and
    /// [`IDLE_NAME`]. It is not read from [`Waits::other_ns`], where someone who lost its place is
    /// added although it was told by name before: it is what the others leave of the total.
    pub fn advance(&mut self, now: &Waits, who: &mut dyn Culprits) -> Vec<CulpritTick> {
        let total = now.total_ns.saturating_sub(self.told.total_ns);
        let waits = now.count.saturating_sub(self.told.count);
        if total == 0 {
            return Vec::new();
        }
        let mut ticks: Vec<CulpritTick> = Vec::new();
        let mut left = total;
        let mut told = *now;
        for place in 0..CULPRITS {
            let (ns, count) = grown(&self.told.culprits[place], &now.culprits[place]);
            // Read while it is written, the table may be ahead of its total; the rest is told with
            // the next change.
            let ns_now = ns.min(left);
            told.culprits[place].ns -= ns - ns_now;
            left -= ns_now;
            if ns_now != 0 {
                ticks.push(named(place, &now.culprits[place], ns_now, count, who));
            }
        }
        self.told = told;
        if left != 0 {
            ticks.push(CulpritTick { ns: left, count: waits, ..CulpritTick::default() });
        }
        ticks.sort_by(most_first);
        ticks
    }
}

/// What a place grew by: all that it has when it was given to another.
fn grown(told: &Culprit, now: &Culprit) -> (u64, u64) {
    if told.tgid == now.tgid && told.ns <= now.ns && told.count <= now.count {
        (now.ns - told.ns, now.count - told.count)
    } else {
        (now.ns, now.count)
    }
}

fn named(
    place: usize,
    culprit: &Culprit,
    ns: u64,
    count: u64,
    who: &mut dyn Culprits,
) -> CulpritTick {
    if place == IDLE {
        return CulpritTick { comm: IDLE_NAME.to_owned(), ns, count, ..CulpritTick::default() };
    }
    let comm = comm(&culprit.comm);
    // Before 6.4 a VM's vhost threads are the kernel's own, named after its process.
    let owner = comm.strip_prefix("vhost-").and_then(|pid| pid.parse().ok());
    let mut cgroup = who.cgroup(culprit.tid);
    if cgroup.is_empty() {
        // The thread has ended; its process may not have.
        cgroup = who.cgroup(culprit.tgid);
    }
    CulpritTick {
        pid: culprit.tgid,
        tid: culprit.tid,
        vm: who.vm(culprit.tgid).or_else(|| who.vm(owner?)),
        cgroup,
        // A thread may have no name; an empty one would say that it is nobody.
        comm: if comm.is_empty() { format!("({})", culprit.tid) } else { comm },
        ns,
        count,
    }
}

/// The cgroup that a `cgroup` file of `/proc` names: of v2 where it is not the root (of both, v1
/// has the controllers when v2's is), else the CPU controller's of v1, else any that is named.
pub fn cgroup_of(text: &str) -> &str {
    let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let cpu = |(controllers, _): &(&str, &str)| controllers.split(',').any(|c| c == "cpu");
    let paths = lines()
        .filter(|(controllers, _)| controllers.is_empty())
        .chain(lines().filter(cpu))
        .chain(lines())
        .map(|(_, path)| path);
    let mut best = "";
    for path in paths {
        if path != "/" {
            return path;
        }
        best = path;
    }
    best
}

/// Cgroups of threads, kept from the first look until there are many.
#[derive(Debug, Default)]
pub struct Cgroups {
    known: HashMap<u32, (u64, String)>,
}

/// Threads whose cgroup is kept.
const KEPT: usize = 256;
/// Time after which a thread is looked at again, ns: it may have been moved, or be another.
const AGE_NS: u64 = 10_000_000_000;

impl Cgroups {
    /// The cgroup of a thread at `now_ns`, by `read`, which has the text of its `cgroup` file.
    pub fn get(
        &mut self,
        tid: u32,
        now_ns: u64,
        read: impl FnOnce(u32) -> Option<String>,
    ) -> String {
        let is_new = |at: u64| now_ns.saturating_sub(at) < AGE_NS;
        let known = self.known.get(&tid);
        if let Some((at, group)) = known
            && is_new(*at)
        {
            return group.clone();
        }
        let group = match read(tid) {
            Some(text) => cgroup_of(&text).to_owned(),
            // It is gone: what it was is the best answer.
            None => known.map(|(_, group)| group.clone()).unwrap_or_default(),
        };
        if self.known.len() >= KEPT {
            self.known.retain(|_, (at, _)| is_new(*at));
        }
        if self.known.len() < KEPT {
            self.known.insert(tid, (now_ns, group.clone()));
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvmscope_shared::waits::Run;

    /// Process 40 is VM 3; every thread is in a cgroup of its own.
    struct Who;

    impl Culprits for Who {
        fn vm(&self, pid: u32) -> Option<VmId> {
            (pid == 40).then_some(VmId(3))
        }
        fn cgroup(&mut self, tid: u32) -> String {
            format!("/t{tid}")
        }
    }

    fn run(tgid: u32, name: &str) -> Run {
        let mut comm = [0; 16];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        Run { start_ns: 1, tid: tgid, tgid, comm }
    }

    /// A wait that ends at `now`, charged to one run, with `other` that is nobody's: what the probe does.
    fn wait(waits: &mut Waits, run: &Run, ns: u64, other: u64, now: u64) {
        let place = waits.place(run.tgid);
        waits.count += 1;
        waits.total_ns += ns + other;
        let evicted = waits.culprits[place].charge(run, ns, now);
        waits.other_ns += other + evicted;
    }

    fn told(ticks: &[CulpritTick]) -> Vec<(u32, &str, u64, u64)> {
        ticks.iter().map(|t| (t.pid, t.comm.as_str(), t.ns, t.count)).collect()
    }

    #[test]
    fn culprits_come_with_most_time_first() {
        let mut waits = Waits::default();
        wait(&mut waits, &run(0, "swapper/1"), 20, 0, 1);
        wait(&mut waits, &run(40, "qemu"), 300, 7, 2);
        wait(&mut waits, &run(50, "sh"), 50, 0, 3);
        wait(&mut waits, &run(40, "qemu"), 100, 0, 4);
        let mut seen = SeenWaits::default();
        let ticks = seen.advance(&waits, &mut Who);
        assert_eq!(
            told(&ticks),
            [(40, "qemu", 400, 2), (50, "sh", 50, 1), (0, "idle", 20, 1), (0, "", 7, 4)]
        );
        assert_eq!((ticks[0].vm, ticks[0].cgroup.as_str()), (Some(VmId(3)), "/t40"));
        assert_eq!((ticks[1].vm, ticks[2].cgroup.as_str()), (None, ""));
        assert!(seen.advance(&waits, &mut Who).is_empty(), "nothing is told twice");
        wait(&mut waits, &run(50, "sh"), 5, 0, 5);
        assert_eq!(told(&seen.advance(&waits, &mut Who)), [(50, "sh", 5, 1)]);
    }

    #[test]
    fn one_that_lost_its_place_is_not_told_twice() {
        let mut waits = Waits::default();
        let mut seen = SeenWaits::default();
        wait(&mut waits, &run(40, "qemu"), 1_000, 0, 1);
        assert_eq!(told(&seen.advance(&waits, &mut Who)), [(40, "qemu", 1_000, 1)]);
        // Of these 70 were not told when it goes, which is after the time that it keeps its place for.
        wait(&mut waits, &run(40, "qemu"), 70, 0, 2);
        for newcomer in 0..CULPRITS as u32 - 1 {
            wait(&mut waits, &run(100 + newcomer, "cc"), 1, 0, 100_000 + u64::from(newcomer));
        }
        let ticks = seen.advance(&waits, &mut Who);
        assert_eq!(ticks.iter().map(|t| t.ns).sum::<u64>(), 70 + 15);
        assert!(ticks.iter().all(|t| t.pid != 40), "{ticks:?}");
        assert_eq!(told(&ticks)[0], (0, "", 70, 16));
        assert_eq!(waits.other_ns, 1_070);
        // It comes back, to another's place.
        wait(&mut waits, &run(40, "qemu"), 9, 0, 200_000);
        let ticks = seen.advance(&waits, &mut Who);
        assert_eq!(told(&ticks), [(40, "qemu", 9, 1)]);
    }

    #[test]
    fn a_table_ahead_of_its_total_is_told_in_full_by_the_next() {
        let mut waits = Waits::default();
        let mut seen = SeenWaits::default();
        wait(&mut waits, &run(50, "sh"), 100, 0, 1);
        let mut torn = waits;
        torn.total_ns = 60;
        let first: u64 = seen.advance(&torn, &mut Who).iter().map(|t| t.ns).sum();
        wait(&mut waits, &run(50, "sh"), 10, 0, 2);
        let second: u64 = seen.advance(&waits, &mut Who).iter().map(|t| t.ns).sum();
        assert_eq!((first, second), (60, 50));
    }

    #[test]
    fn vhost_threads_belong_to_the_vm_they_are_named_after() {
        let mut waits = Waits::default();
        wait(&mut waits, &run(77, "vhost-40"), 5, 0, 1);
        wait(&mut waits, &run(78, "vhost-x"), 4, 0, 2);
        let ticks = SeenWaits::default().advance(&waits, &mut Who);
        assert_eq!((ticks[0].vm, ticks[1].vm), (Some(VmId(3)), None));
    }

    #[test]
    fn threads_of_one_vcpu_are_added_up() {
        let tick = |pid, comm: &str, ns| CulpritTick {
            pid,
            comm: comm.to_owned(),
            ns,
            count: 1,
            ..CulpritTick::default()
        };
        let mut all = vec![tick(40, "qemu", 9), tick(0, "idle", 3)];
        // The name is that of the thread seen last; the process is the same.
        add(&mut all, vec![tick(0, "", 8), tick(40, "IO", 1), tick(0, "idle", 6)]);
        assert_eq!(told(&all), [(40, "qemu", 10, 2), (0, "idle", 9, 2), (0, "", 8, 1)]);
    }

    #[test]
    fn a_thread_without_a_name_is_somebody() {
        let mut waits = Waits::default();
        wait(&mut waits, &run(77, ""), 5, 0, 1);
        let ticks = SeenWaits::default().advance(&waits, &mut Who);
        assert_eq!(told(&ticks), [(77, "(77)", 5, 1)]);
    }

    #[test]
    fn cgroups_of_both_versions_are_read() {
        for (text, group) in [
            ("0::/machine.slice/vm.scope\n", "/machine.slice/vm.scope"),
            ("0::/\n", "/"),
            ("0::/a:b/c\n", "/a:b/c"),
            // Hybrid: v2 beside v1, the controllers on either side.
            ("5:cpu,cpuacct:/lxc/7\n1:name=systemd:/init\n0::/\n", "/lxc/7"),
            ("5:cpu,cpuacct:/lxc/7\n0::/real\n", "/real"),
            // v1 alone.
            ("4:memory:/m\n3:cpuset:/\n2:cpu:/c\n", "/c"),
            ("4:memory:/m\n2:cpuacct,cpu:/\n", "/m"),
            ("2:cpu:/\n", "/"),
            ("", ""),
            ("garbage\n1:\n", ""),
        ] {
            assert_eq!(cgroup_of(text), group, "{text:?}");
        }
    }

    #[test]
    fn cgroups_are_kept_but_not_for_ever_nor_without_bound() {
        let mut groups = Cgroups::default();
        let text = |group: &str| Some(format!("0::{group}\n"));
        assert_eq!(groups.get(5, 1, |_| text("/a")), "/a");
        assert_eq!(groups.get(5, AGE_NS, |_| text("/b")), "/a", "kept");
        assert_eq!(groups.get(5, AGE_NS + 1, |_| text("/b")), "/b", "looked at again");
        let late = 3 * AGE_NS;
        assert_eq!(groups.get(5, late, |_| None), "/b", "gone: what it was");
        for tid in 0..10_000 {
            groups.get(tid, late, |_| text("/x"));
        }
        assert!(groups.known.len() <= KEPT);
        assert_eq!(groups.get(99_999, late, |_| text("/y")), "/y", "full, but answered");
    }
}
