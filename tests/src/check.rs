//! What a report must satisfy. Each check gives a sentence for everything that is wrong, so
//! that one run of a rig shows all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::format::{Calls, Cell, Guest, GuestVcpu, Lost, Memory, Report, Vcpu, Vm};
use crate::hist::{Hist, Traced};

/// Sentences about what is wrong; none is good.
pub type Problems = Vec<String>;

/// Nothing lost, every probe attached, every number within its bounds.
pub fn sound(report: &Report) -> Problems {
    let mut problems = Problems::new();
    if report.schema != 1 {
        problems.push(format!("schema is {}", report.schema));
    }
    let nothing = Lost { missed_runs: 0, ring: 0, pool_full: 0, slots_full: 0 };
    if report.lost != nothing {
        problems.push(format!("something was lost: {:?}", report.lost));
    }
    if report.probes.is_empty() {
        problems.push("no probes are listed".to_owned());
    }
    // One that nobody asked for says so first.
    let off = |why: &Option<String>| why.as_ref().is_some_and(|why| why.starts_with("off; "));
    // Function probes are optional: a kernel built without them says so.
    let cannot = |why: &Option<String>| {
        why.as_ref().is_some_and(|why| why.contains("built without function probes"))
    };
    let excused = |why: &Option<String>| off(why) || cannot(why);
    for probe in report.probes.iter().filter(|probe| !probe.attached && !excused(&probe.why)) {
        problems.push(format!("probe {} is not attached: {:?}", probe.name, probe.why));
    }
    problems.extend(report.vms.iter().flat_map(memory_adds_up));
    for (vm, vcpu) in vcpus(report) {
        for (kind, cells) in [("exit", &vcpu.exits), ("userspace exit", &vcpu.userspace_exits)] {
            for cell in cells {
                let at = format!("VM {} vCPU {} {kind} {}", vm.id, vcpu.vcpu, cell.reason);
                problems.extend(cell_sound(cell).into_iter().map(|what| format!("{at}: {what}")));
            }
        }
    }
    problems
}

/// What a vCPU did with memory and called is what its keys say, and what a VM did is what its vCPUs did.
fn memory_adds_up(vm: &Vm) -> Problems {
    let mut problems = Problems::new();
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for vcpu in &vm.vcpus {
        for (what, classes, count) in sections(&vcpu.memory, &vcpu.calls) {
            let keys = vcpu.keys.iter().filter(|key| classes.contains(&key.class.as_str()));
            let noted: u64 = keys.map(|key| key.count).sum();
            if noted != count {
                let at = format!("VM {} vCPU {}", vm.id, vcpu.vcpu);
                problems.push(format!("{at}: {count} {what}, and {noted} by its keys"));
            }
            *sums.entry(what).or_default() += count;
        }
    }
    for (what, _, count) in sections(&vm.memory, &vm.calls) {
        let of_vcpus = sums.get(what).copied().unwrap_or(0);
        if of_vcpus != count {
            problems.push(format!("VM {}: {count} {what}, and {of_vcpus} by its vCPUs", vm.id));
        }
    }
    problems
}

/// What is counted, by which classes of keys, how often.
fn sections(memory: &Memory, calls: &Calls) -> [(&'static str, &'static [&'static str], u64); 6] {
    fn sum<T>(list: Option<&Vec<T>>, count: impl Fn(&T) -> u64) -> u64 {
        list.into_iter().flatten().map(count).sum()
    }
    let dirty = memory.dirty.as_ref();
    [
        ("page faults", &["fault"], sum(memory.faults.as_ref(), |fault| fault.count)),
        (
            "faults of pages",
            &["page"],
            sum(memory.pages.as_ref(), |page| page.count) + memory.pages_other,
        ),
        (
            "MMIO accesses",
            &["mmio_read", "mmio_write", "mmio_fast"],
            sum(memory.mmio.as_ref(), |mmio| mmio.count) + memory.mmio_other,
        ),
        (
            "pages written",
            &["dirty_page"],
            sum(dirty.map(|dirty| &dirty.pages), |page| page.count)
                + dirty.map_or(0, |dirty| dirty.pages_other),
        ),
        (
            "loads of roots",
            &["root"],
            sum(memory.roots.as_ref(), |root| root.count) + memory.roots_other,
        ),
        (
            "hypercalls",
            &["hypercall", "hv_hypercall", "xen_hypercall"],
            sum(calls.hypercalls.as_ref(), |call| call.count) + calls.hypercalls_other,
        ),
    ]
}

fn cell_sound(cell: &Cell) -> Problems {
    let mut problems = Problems::new();
    // One that began before the program did has only an age.
    if cell.count == 0 && cell.open_ns.is_none() {
        problems.push("listed with a count of 0".to_owned());
    }
    if cell.timed > cell.count {
        problems.push(format!("timed {} of {}", cell.timed, cell.count));
    }
    if cell.timed > 0 {
        let rising =
            [cell.min_ns, cell.p50_ns, cell.p90_ns, cell.p99_ns, cell.p999_ns, cell.max_ns];
        // The least may be 0: the probes' clock may step back a little between processors.
        if !rising.is_sorted() || cell.max_ns == 0 {
            problems.push(format!("min, p50, p90, p99, p99.9, max are {rising:?} ns"));
        }
        let bounds =
            cell.min_ns.saturating_mul(cell.timed)..=cell.max_ns.saturating_mul(cell.timed);
        if !bounds.contains(&cell.total_ns) {
            problems.push(format!("total {} ns is not within {bounds:?}", cell.total_ns));
        }
    }
    problems
}

/// Every exit that the guest answers for is in the report, as often as it made it and under
/// the right vCPU; and no more than one exit per thread of a vCPU is without a time: the last.
pub fn counts_equal(report: &Report, guest: &Guest) -> Problems {
    let mut problems = Problems::new();
    let repeats = repeats_faults(&report.host.kernel);
    let vms: Vec<&Vm> = report.vms.iter().filter(|vm| vm.pid == guest.pid).collect();
    if vms.len() != guest.vms.len() {
        problems.push(format!("{} VMs instead of {}", vms.len(), guest.vms.len()));
    }
    for (nth, made) in guest.vms.iter().enumerate() {
        // The order in which VMs are seen is not that in which they were made.
        let tids: BTreeSet<u32> = made.vcpus.iter().flat_map(|v| v.tids.iter().copied()).collect();
        let seen: Vec<&&Vm> =
            vms.iter().filter(|vm| vm.vcpus.iter().any(|v| tids.contains(&v.tid))).collect();
        let [vm] = seen[..] else {
            problems.push(format!("VM {nth} of the guest is {} VMs of the report", seen.len()));
            continue;
        };
        if vm.vcpus.len() != made.vcpus.len() {
            let (is, should) = (vm.vcpus.len(), made.vcpus.len());
            problems.push(format!("VM {nth} has {is} vCPUs instead of {should}"));
        }
        for vcpu in &made.vcpus {
            let at = format!("VM {nth} vCPU {}", vcpu.vcpu);
            match vm.vcpus.iter().find(|seen| seen.vcpu == vcpu.vcpu) {
                Some(seen) => {
                    let found = vcpu_equal(seen, vcpu, repeats);
                    problems.extend(found.into_iter().map(|what| format!("{at}: {what}")));
                }
                None => problems.push(format!("{at} is not in the report")),
            }
        }
    }
    problems
}

/// All vCPUs of the guest together made as many userspace exits of each reason as the report has.
pub fn userspace_sums_equal(report: &Report, guest: &Guest) -> Problems {
    let mut made: BTreeMap<&str, u64> = BTreeMap::new();
    for vcpu in guest.vms.iter().flat_map(|vm| &vm.vcpus) {
        for (reason, count) in &vcpu.expect.userspace_exits {
            *made.entry(reason).or_default() += count;
        }
    }
    let mut problems = Problems::new();
    if made.is_empty() {
        problems.push("the guest answers for nothing".to_owned());
    }
    for (reason, count) in made {
        let is: u64 = vcpus(report).map(|(_, vcpu)| vcpu.userspace_exits_of(reason)).sum();
        if is != count {
            problems.push(format!("{is} userspace exits {reason} in all instead of {count}"));
        }
    }
    problems
}

/// Whether this kernel sends a page fault back to the guest, to be made again, when any memory of
/// the process changes meanwhile: before 5.13 an MMU notifier stops faults of every VM of the
/// process, whatever the range (`kvm_mmu_notifier_invalidate_range_start`, virt/kvm/kvm_main.c).
fn repeats_faults(kernel: &str) -> bool {
    let mut parts = kernel.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version < (5, 13)
}

/// Whether that many exits of a reason are what the guest made. Page faults may be a few more where
/// the kernel repeats them: each is then a real exit, which the guest cannot know of.
fn is_right(reason: &str, is: u64, made: u64, repeats_faults: bool) -> bool {
    let fault = matches!(reason, "NPF" | "EPT_VIOLATION");
    is == made || (repeats_faults && fault && (made..=made + 5 + made / 100).contains(&is))
}

fn vcpu_equal(seen: &Vcpu, made: &GuestVcpu, repeats_faults: bool) -> Problems {
    let mut problems = Problems::new();
    if seen.tid != made.tid {
        problems.push(format!("thread {} instead of {}", seen.tid, made.tid));
    }
    if made.expect.userspace_exits.is_empty() {
        problems.push("the guest answers for nothing".to_owned());
    }
    for (reason, &count) in &made.expect.exits {
        let is = seen.exits_of(reason);
        if !is_right(reason, is, count, repeats_faults) {
            problems.push(format!("{is} exits {reason} instead of {count}"));
        }
    }
    for (reason, &count) in &made.expect.userspace_exits {
        let is = seen.userspace_exits_of(reason);
        if is != count {
            problems.push(format!("{is} userspace exits {reason} instead of {count}"));
        }
    }
    let threads = made.tids.len() as u64;
    for (kind, cells) in [("exits", &seen.exits), ("userspace exits", &seen.userspace_exits)] {
        let untimed: u64 = cells.iter().map(|cell| cell.count - cell.timed.min(cell.count)).sum();
        if untimed > threads {
            problems.push(format!("{untimed} {kind} have no time, with {threads} threads"));
        }
    }
    problems
}

/// SVM's code of an MSR exit. A report has two reasons under it, reads and writes; the kernel one.
const SVM_MSR: i64 = 0x7c;

/// The kernel's own histogram by reason and vCPU has the same counts as the report, reason by
/// reason, those included that the guest does not answer for.
pub fn hist_agrees(report: &Report, hist: &Hist) -> Problems {
    let mut seen: BTreeMap<Vec<i64>, u64> = BTreeMap::new();
    for (_, vcpu) in vcpus(report) {
        for cell in &vcpu.exits {
            *seen.entry(vec![cell.code, i64::from(vcpu.vcpu)]).or_default() += cell.count;
        }
    }
    differences("reason, vCPU", &seen, hist)
}

/// The same by name, where the kernel's account is a trace.
pub fn trace_agrees(report: &Report, trace: &Traced) -> Problems {
    let mut seen = Traced::new();
    for (_, vcpu) in vcpus(report) {
        for cell in &vcpu.exits {
            let reason = if cell.code == SVM_MSR { "MSR" } else { cell.reason.as_str() };
            *seen.entry((reason.to_owned(), vcpu.vcpu)).or_default() += cell.count;
        }
    }
    differences("reason, vCPU", &seen, trace)
}

/// The same for userspace exits, whose event has no vCPU: by reason.
pub fn userspace_hist_agrees(report: &Report, hist: &Hist) -> Problems {
    let mut seen: BTreeMap<Vec<i64>, u64> = BTreeMap::new();
    for (_, vcpu) in vcpus(report) {
        for cell in &vcpu.userspace_exits {
            *seen.entry(vec![cell.code]).or_default() += cell.count;
        }
    }
    differences("userspace reason", &seen, hist)
}

fn differences<K: Ord + Debug>(
    what: &str,
    seen: &BTreeMap<K, u64>,
    hist: &BTreeMap<K, u64>,
) -> Problems {
    let keys: BTreeSet<&K> = seen.keys().chain(hist.keys()).collect();
    keys.into_iter()
        .map(|key| (key, seen.get(key).unwrap_or(&0), hist.get(key).unwrap_or(&0)))
        .filter(|(_, seen, kernel)| seen != kernel)
        .map(|(key, seen, kernel)| format!("{what} {key:?}: {seen}, the kernel counted {kernel}"))
        .collect()
}

/// All vCPUs of a report with their VM.
pub fn vcpus(report: &Report) -> impl Iterator<Item = (&Vm, &Vcpu)> {
    report.vms.iter().flat_map(|vm| vm.vcpus.iter().map(move |vcpu| (vm, vcpu)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Key;

    fn report() -> Report {
        serde_json::from_str(
            r#"{"schema":1,"host":{"kernel":"6.1.0","backend":"svm","cpus":2},
            "started_unix_ns":1,"duration_ns":2,
            "lost":{"missed_runs":0,"ring":0,"pool_full":0,"slots_full":0},
            "probes":[{"name":"kvm_exit","family":"exit","attached":true,"why":null}],
            "vms":[{"id":1,"pid":70,"name":"g","started_unix_ns":1,"ended_unix_ns":2,"vcpus":[
              {"vcpu":0,"tid":71,"exits":[{"reason":"IO","code":123,"count":3,"timed":2,
                "open_ns":null,"total_ns":30,"off_cpu_ns":0,"vmm_ns":0,"min_ns":10,"max_ns":20,
                "p50_ns":10,"p90_ns":20,"p99_ns":20,"p999_ns":20}],
              "userspace_exits":[]}]}]}"#,
        )
        .expect("a report")
    }

    fn guest(io: u64) -> Guest {
        serde_json::from_str(&format!(
            r#"{{"schema":1,"pid":70,"backend":"svm","skipped":[],"vms":[{{"vcpus":[
            {{"vcpu":0,"tid":71,"tids":[71],"made":{{}},
            "expect":{{"exits":{{"IO":{io}}},"userspace_exits":{{"MMIO":0}}}}}}]}}]}}"#
        ))
        .expect("a guest")
    }

    #[test]
    fn only_old_kernels_may_repeat_faults_and_only_a_few() {
        assert!(repeats_faults("5.10.0-46-cloud-amd64"));
        assert!(!repeats_faults("5.13.0") && !repeats_faults("6.1.0-56-cloud-amd64"));
        assert!(is_right("NPF", 602, 602, false) && !is_right("NPF", 603, 602, false));
        assert!(is_right("NPF", 603, 602, true));
        assert!(!is_right("NPF", 601, 602, true) && !is_right("NPF", 700, 602, true));
        assert!(!is_right("CPUID", 603, 602, true));
    }

    #[test]
    fn memory_that_does_not_add_up_is_a_problem() {
        let memory = |count: u64, other: u64| -> Memory {
            serde_json::from_str(&format!(
                r#"{{"faults":[],"pages":[{{"address":4096,"count":{count}}}],"pages_other":{other},
                "mmio":null,"mmio_other":0,"dirty":null,"roots":null,"roots_other":0}}"#
            ))
            .expect("is memory")
        };
        let key = |value: Option<u64>, count| Key {
            reason: None,
            class: "page".to_owned(),
            value,
            name: None,
            count,
            vmm_ns: 0,
        };
        let mut vm = report().vms.remove(0);
        vm.vcpus[0].keys = vec![key(Some(4096), 5), key(None, 2)];
        (vm.memory, vm.vcpus[0].memory) = (memory(5, 2), memory(5, 2));
        assert_eq!(memory_adds_up(&vm), Problems::new());
        vm.memory = memory(5, 3);
        assert_eq!(memory_adds_up(&vm), ["VM 1: 8 faults of pages, and 7 by its vCPUs"]);
        (vm.memory, vm.vcpus[0].memory) = (memory(4, 2), memory(4, 2));
        assert_eq!(memory_adds_up(&vm), ["VM 1 vCPU 0: 6 faults of pages, and 7 by its keys"]);
    }

    #[test]
    fn a_good_report_has_no_problems() {
        assert_eq!(sound(&report()), Problems::new());
        assert_eq!(counts_equal(&report(), &guest(3)), Problems::new());
        let hist = Hist::from([(vec![123, 0], 3)]);
        assert_eq!(hist_agrees(&report(), &hist), Problems::new());
    }

    #[test]
    fn a_count_that_differs_is_found() {
        let problems = counts_equal(&report(), &guest(4));
        assert_eq!(problems, ["VM 0 vCPU 0: 3 exits IO instead of 4"]);
        let hist = Hist::from([(vec![123, 0], 3), (vec![96, 0], 1)]);
        assert_eq!(hist_agrees(&report(), &hist).len(), 1);
    }

    #[test]
    fn a_vm_that_is_missing_is_found() {
        let mut report = report();
        report.vms.clear();
        assert_eq!(counts_equal(&report, &guest(3)).len(), 2);
    }

    #[test]
    fn what_is_lost_or_out_of_bounds_is_found() {
        let mut lost = report();
        lost.lost.slots_full = 1;
        assert_eq!(sound(&lost).len(), 1);
        let mut detached = report();
        detached.probes[0].attached = false;
        assert_eq!(sound(&detached).len(), 1);
        let mut cell = report();
        cell.vms[0].vcpus[0].exits[0].p50_ns = 21;
        assert_eq!(sound(&cell).len(), 1);
        let mut untimed = report();
        untimed.vms[0].vcpus[0].exits[0].timed = 1;
        assert!(!counts_equal(&untimed, &guest(3)).is_empty());
    }
}
