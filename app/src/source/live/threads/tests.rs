use super::*;

/// Threads as (process, CPU time, name), and files.
#[derive(Default)]
struct Plain {
    threads: BTreeMap<u32, (u32, u64, &'static str)>,
    files: BTreeMap<String, String>,
    reads: usize,
}

/// A file that may not be read.
const REFUSED: &str = "refused";

impl Tasks for Plain {
    fn threads(&mut self, tgid: u32) -> Vec<u32> {
        self.threads.iter().filter(|(_, (of, ..))| *of == tgid).map(|(tid, _)| *tid).collect()
    }
    fn cpu_ns(&mut self, tid: u32) -> Option<u64> {
        self.reads += 1;
        self.threads.get(&tid).map(|(_, ns, _)| *ns)
    }
    fn comm(&mut self, tid: u32) -> Option<String> {
        self.threads.get(&tid).map(|(_, _, comm)| (*comm).to_owned())
    }
    fn text(&mut self, path: &str) -> io::Result<String> {
        match self.files.get(path).map(String::as_str) {
            None => Err(io::ErrorKind::NotFound.into()),
            Some(REFUSED) => Err(io::ErrorKind::PermissionDenied.into()),
            Some(text) => Ok(text.to_owned()),
        }
    }
}

fn vm(id: u32, tgid: u32, vcpus: &[u32]) -> Process {
    let vcpus = vcpus.iter().copied().collect();
    Process { id: VmId(id), tgid, began_ns: None, vcpus }
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn other_threads_are_told_from_the_second_look_on_busiest_first() {
    let mut tasks = Plain::default();
    tasks.threads.extend([
        (70, (70, 1_000, "qemu")),
        (71, (70, 9_000, "CPU 0/KVM")),
        (72, (70, 500, "IO iothread1")),
        (99, (70, 5, "vhost-70")),
        (80, (80, 7_777, "another")),
    ]);
    let mut beside = Beside::default();
    let processes = [vm(1, 70, &[71])];
    assert_eq!(beside.look(&processes, SECOND, &mut tasks), []);
    tasks.threads.extend([
        (70, (70, 1_010, "qemu")),
        (71, (70, 19_000, "CPU 0/KVM")),
        (72, (70, 900, "IO iothread1")),
        // New since.
        (73, (70, 30, "worker")),
    ]);
    let expected = VmTick {
        id: VmId(1),
        over_ns: 2 * SECOND,
        others_ns: 440,
        threads: vec![
            (72, "IO iothread1".into(), 400),
            (73, "worker".into(), 30),
            (70, "qemu".into(), 10),
        ],
        throttled_ns: None,
        ..VmTick::default()
    };
    assert_eq!(beside.look(&processes, 3 * SECOND, &mut tasks), [expected]);
    tasks.threads.remove(&72);
    // A number that was used again.
    tasks.threads.insert(73, (70, 4, "another"));
    let ticks = beside.look(&processes, 4 * SECOND, &mut tasks);
    assert_eq!((ticks[0].others_ns, ticks[0].over_ns), (4, SECOND));
}

#[test]
fn a_process_that_began_in_the_session_is_told_at_once() {
    let mut tasks = Plain::default();
    tasks.threads.extend([(70, (70, 1_000, "vmm")), (71, (70, 9_000, "vcpu0"))]);
    let process = Process { began_ns: Some(SECOND / 2), ..vm(1, 70, &[71]) };
    let ticks = Beside::default().look(&[process], SECOND, &mut tasks);
    assert_eq!((ticks[0].others_ns, ticks[0].over_ns), (1_000, SECOND / 2));
}

#[test]
fn what_a_thread_did_as_a_vcpu_is_not_told_again() {
    let mut tasks = Plain::default();
    tasks.threads.extend([(70, (70, 0, "vmm")), (71, (70, 9_000, "vcpu0"))]);
    let mut beside = Beside::default();
    beside.look(&[vm(1, 70, &[71])], SECOND, &mut tasks);
    let ticks = beside.look(&[vm(1, 70, &[])], 2 * SECOND, &mut tasks);
    assert_eq!(ticks[0].others_ns, 0);
    tasks.threads.insert(71, (70, 9_050, "vcpu0"));
    let ticks = beside.look(&[vm(1, 70, &[])], 3 * SECOND, &mut tasks);
    assert_eq!(ticks[0].others_ns, 50);
}

#[test]
fn many_vms_are_looked_at_in_turn() {
    let mut tasks = Plain::default();
    let processes: Vec<Process> = (1..=10).map(|id| vm(id, id * 1_000, &[])).collect();
    for process in &processes {
        let first = process.tgid;
        tasks.threads.extend((first..first + 100).map(|tid| (tid, (first, 1, "t"))));
    }
    let mut beside = Beside::default();
    let mut looked: BTreeMap<VmId, Vec<u64>> = BTreeMap::new();
    for second in 1..=9 {
        tasks.reads = 0;
        for tick in beside.look(&processes, second * SECOND, &mut tasks) {
            looked.entry(tick.id).or_default().push(tick.over_ns);
        }
        assert!(tasks.reads <= MAX_FILES, "{}", tasks.reads);
    }
    assert_eq!(looked.len(), 10);
    assert!(looked.values().flatten().all(|over_ns| *over_ns == 2 * SECOND), "{looked:?}");
}

#[test]
fn a_vm_of_very_many_threads_does_not_stop_the_others() {
    let mut tasks = Plain::default();
    let crowd = |from: u32| (from..from + 2_000).map(move |tid| (tid, (from, 1, "t")));
    tasks.threads.extend(crowd(1_000).chain(crowd(5_000)));
    tasks.threads.insert(70, (70, 1, "vmm"));
    let processes = [vm(1, 1_000, &[]), vm(2, 5_000, &[]), vm(3, 70, &[])];
    let mut beside = Beside::default();
    let looks = (1..=4).map(|second| beside.look(&processes, second * SECOND, &mut tasks).len());
    assert_eq!(looks.collect::<Vec<_>>(), [0, 1, 2, 2], "two, then the third and the first, …");
}

#[test]
fn a_quota_is_told_of_and_what_cannot_be_read_is_said() {
    let mut tasks = Plain::default();
    tasks.threads.extend([(70, (70, 0, "vmm")), (71, (70, 0, "vcpu0"))]);
    let mut file = |path: &str, text: &str| tasks.files.insert(path.into(), text.into());
    file("/proc/self/mountinfo", "1 2 0:1 / /cg rw - cgroup cgroup rw,cpu,cpuacct");
    file("/proc/70/cgroup", "2:cpu,cpuacct:/vm\n");
    file("/proc/71/cgroup", "2:cpu,cpuacct:/vm/vcpu0\n");
    file("/cg/vm/cpu.cfs_quota_us", "-1\n");
    file("/cg/vm/vcpu0/cpu.cfs_quota_us", "20000\n");
    file("/cg/vm/vcpu0/cpu.stat", "throttled_time 500\n");
    let processes = [vm(1, 70, &[71])];
    let mut beside = Beside::default();
    beside.look(&processes, SECOND, &mut tasks);
    let notices = beside.notices();
    assert!(matches!(&notices[..], [one] if one.contains("cgroup v1's here")), "{notices:?}");
    tasks.files.insert("/cg/vm/vcpu0/cpu.stat".into(), "throttled_time 800\n".into());
    let ticks = beside.look(&processes, 2 * SECOND, &mut tasks);
    assert_eq!(ticks[0].throttled_ns, Some(300));
    assert!(beside.notices().is_empty());
    tasks.files.insert("/cg/vm/vcpu0/cpu.stat".into(), REFUSED.into());
    let ticks = beside.look(&processes, 3 * SECOND, &mut tasks);
    assert_eq!(ticks[0].throttled_ns, None);
    assert!(beside.notices()[0].contains("cannot be read"));
}

#[test]
fn a_host_without_cgroups_says_so_once() {
    let mut tasks = Plain::default();
    tasks.threads.insert(70, (70, 0, "vmm"));
    let mut beside = Beside::default();
    beside.look(&[vm(1, 70, &[])], SECOND, &mut tasks);
    beside.look(&[vm(1, 70, &[])], 2 * SECOND, &mut tasks);
    let notices = beside.notices();
    assert!(matches!(&notices[..], [one] if one.contains("no cgroup file system")), "{notices:?}");
}
