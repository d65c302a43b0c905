use super::*;

/// systemd with everything in one hierarchy.
const UNIFIED: &str = "\
25 30 0:23 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
32 25 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";
/// Each controller apart, and an empty v2 beside them.
const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
";
const V1_TASK: &str = "\
9:name=systemd:/machine.slice/machine-qemu\\x2d1\\x2dweb.scope
3:cpuset:/
2:cpu,cpuacct:/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/vcpu0
0::/
";
const V2_TASK: &str = "0::/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/vcpu0\n";
const V2_STAT: &str = "\
usage_usec 93118
user_usec 55012
system_usec 38106
nr_periods 21
nr_throttled 19
throttled_usec 1530287
nr_bursts 0
burst_usec 0
";
const V1_STAT: &str =
    "nr_periods 0\nnr_throttled 0\nthrottled_time 42\nnr_bursts 0\nburst_time 0\n";

fn mount(version: Version, root: &str, point: &str) -> Mount {
    Mount { version, root: root.into(), point: point.into() }
}

#[test]
fn the_controller_is_found_where_it_is() {
    assert_eq!(cpu_mount(UNIFIED), Some(mount(Version::V2, "/", "/sys/fs/cgroup")));
    assert_eq!(cpu_mount(HYBRID), Some(mount(Version::V1, "/", "/sys/fs/cgroup/cpu,cpuacct")));
    assert_eq!(cpu_mount("garbage\n1 2 3 - cgroup2\n"), None);
    let odd = "1 2 0:1 /a /mnt/my\\040groups rw - cgroup2 none rw";
    assert_eq!(cpu_mount(odd), Some(mount(Version::V2, "/a", "/mnt/my groups")));
}

#[test]
fn a_tasks_group_is_the_one_of_the_controller() {
    let v1 = "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/vcpu0";
    assert_eq!(group_of(V1_TASK, Version::V1), Some(v1));
    assert_eq!(group_of(V1_TASK, Version::V2), Some("/"));
    let v2 = "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/vcpu0";
    assert_eq!(group_of(V2_TASK, Version::V2), Some(v2));
    assert_eq!(group_of(V2_TASK, Version::V1), None);
    assert_eq!(group_of("", Version::V2), None);
}

#[test]
fn levels_are_the_group_and_those_above_but_the_topmost() {
    let unified = mount(Version::V2, "/", "/sys/fs/cgroup");
    let levels = unified.levels("/a/b c/d");
    assert_eq!(levels, ["/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b c", "/sys/fs/cgroup/a/b c/d"]);
    assert!(unified.levels("/").is_empty());
    assert!(unified.levels("/../other").is_empty(), "outside of the namespace");
    let part = mount(Version::V1, "/docker/1", "/cg");
    assert_eq!(part.levels("/docker/1/x"), ["/cg/x"]);
    assert!(part.levels("/docker/12").is_empty());
}

#[test]
fn quotas_and_times_are_read_in_both_versions() {
    assert!(has_quota("50000 100000\n") && has_quota("20000\n"));
    assert!(!has_quota("max 100000\n") && !has_quota("-1\n") && !has_quota(""));
    assert_eq!(throttled_ns(V2_STAT), Some(1_530_287_000));
    assert_eq!(throttled_ns(V1_STAT), Some(42));
    assert_eq!(throttled_ns("usage_usec 5\n"), None);
}

/// Files by path.
fn files(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

fn look(
    throttle: &mut Throttle,
    groups: &[&str],
    files: &BTreeMap<String, String>,
) -> io::Result<Option<u64>> {
    let mount = mount(Version::V2, "/", "/cg");
    let groups = groups.iter().map(|g| (*g).to_owned()).collect();
    throttle.look(&mount, &groups, |path| {
        files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

#[test]
fn throttled_time_is_a_difference_and_those_above_count_once() {
    let mut throttle = Throttle::default();
    let groups = ["/vm/vcpu0", "/vm/vcpu1"];
    let at = |vm: &str, vcpu: &str| {
        files(&[
            ("/cg/vm/cpu.max", "50000 100000\n"),
            ("/cg/vm/cpu.stat", vm),
            ("/cg/vm/vcpu0/cpu.max", "max 100000\n"),
            ("/cg/vm/vcpu1/cpu.max", "20000 100000\n"),
            ("/cg/vm/vcpu1/cpu.stat", vcpu),
        ])
    };
    let first = at("throttled_usec 7\n", "throttled_usec 100\n");
    assert_eq!(look(&mut throttle, &groups, &first).expect("read"), Some(0));
    let second = at("throttled_usec 9\n", "throttled_usec 101\n");
    assert_eq!(look(&mut throttle, &groups, &second).expect("read"), Some(3_000));
    assert_eq!(look(&mut throttle, &groups, &second).expect("read"), Some(0));
}

#[test]
fn without_a_quota_there_is_none() {
    let mut throttle = Throttle::default();
    let none = files(&[("/cg/vm/cpu.max", "max 100000\n"), ("/cg/vm/cpu.stat", V2_STAT)]);
    assert_eq!(look(&mut throttle, &["/vm"], &none).expect("read"), None);
    assert_eq!(look(&mut throttle, &["/"], &none).expect("read"), None);
    assert_eq!(look(&mut throttle, &["/off"], &none).expect("no file is no quota"), None);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let mut throttle = Throttle::default();
    let only_quota = files(&[("/cg/vm/cpu.max", "50000 100000\n")]);
    assert_eq!(look(&mut throttle, &["/vm"], &only_quota).expect("removed just now"), None);
    let mount = mount(Version::V2, "/", "/cg");
    let groups = BTreeSet::from(["/vm".to_owned()]);
    let refused = throttle.look(&mount, &groups, |_| Err(io::ErrorKind::PermissionDenied.into()));
    assert!(refused.is_err());
}
