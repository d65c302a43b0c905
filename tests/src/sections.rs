//! What a report says of memory and calls beside what the guest made: counts by equality.

use std::collections::BTreeMap;

use crate::check::Problems;
use crate::format::{Calls, Guest, GuestVcpu, Memory, Report};
use crate::situation::pairs;

/// What was counted, by what it is ("fault 1", "read 0x1800000", "hypercall 10").
type Counts = BTreeMap<String, u64>;

/// Page faults by kind, MMIO by address and hypercalls by number are what each vCPU of the guest made, and
/// there are no others.
pub fn vcpus_equal(report: &Report, guest: &Guest) -> Problems {
    let mut problems = Problems::new();
    let pairs = pairs(report, guest);
    if pairs.is_empty() {
        problems.push("none of the guest's vCPUs is in the report".to_owned());
    }
    for (seen, made) in pairs {
        let at = format!("vCPU {} (thread {})", seen.vcpu, seen.tid);
        let (is, should) = (told(&seen.memory, &seen.calls), expected(made));
        if should.is_empty() {
            problems.push(format!("{at}: the guest answers for nothing"));
        }
        for what in is.keys().chain(should.keys()).collect::<std::collections::BTreeSet<_>>() {
            let count = |counts: &Counts| counts.get(what).copied().unwrap_or(0);
            if count(&is) != count(&should) {
                problems.push(format!(
                    "{at}: {what} {} times instead of {}",
                    count(&is),
                    count(&should)
                ));
            }
        }
    }
    problems
}

fn told(memory: &Memory, calls: &Calls) -> Counts {
    let faults = memory.faults.iter().flatten();
    let faults = faults.map(|fault| (format!("fault {}", fault.kind), fault.count));
    let mmio = memory.mmio.iter().flatten();
    let mmio = mmio.map(|mmio| (format!("{} {:#x}", mmio.access, mmio.address), mmio.count));
    let calls = calls.hypercalls.iter().flatten();
    let calls = calls.map(|call| (format!("{} hypercall {}", call.abi, call.number), call.count));
    faults.chain(mmio).chain(calls).collect()
}

fn expected(made: &GuestVcpu) -> Counts {
    let what = |class: &str, value: u64| match class {
        "fault" => Some(format!("fault {value}")),
        "mmio_read" => Some(format!("read {value:#x}")),
        "mmio_write" => Some(format!("write {value:#x}")),
        "mmio_fast" => Some(format!("doorbell {value:#x}")),
        "hypercall" => Some(format!("kvm hypercall {value}")),
        _ => None,
    };
    let keys = made.expect.keys.iter().filter(|key| key.count > 0);
    keys.filter_map(|key| Some((what(&key.class, key.value)?, key.count))).collect()
}

/// Every ioctl of the guest's process is counted, under its name and with its failures, and no other.
pub fn ioctls_equal(report: &Report, guest: &Guest) -> Problems {
    let mut is: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut problems = Problems::new();
    for vm in report.vms.iter().filter(|vm| vm.pid == guest.pid) {
        for ioctl in vm.calls.ioctls.iter().flatten() {
            let sum = is.entry(ioctl.command).or_default();
            (sum.0, sum.1) = (sum.0 + ioctl.count, sum.1 + ioctl.failed);
            let name = ioctl.name.as_deref().unwrap_or("without a name");
            if guest.ioctls.get(name).is_none_or(|made| made.command != ioctl.command) {
                problems.push(format!("ioctl {:#x} is called {name}", ioctl.command));
            }
        }
    }
    let made: BTreeMap<u32, (u64, u64)> =
        guest.ioctls.values().map(|made| (made.command, (made.count, made.failed))).collect();
    if made.is_empty() {
        problems.push("the guest answers for no ioctls".to_owned());
    }
    if is != made {
        problems.push(format!("ioctls {is:x?} instead of {made:x?}"));
    }
    problems
}

/// Single events of a kind and those that were left out are as many as were counted.
pub fn events_add_up(report: &Report) -> Problems {
    let sum = |of: &dyn Fn(&Memory, &Calls) -> u64| -> u64 {
        report.vms.iter().map(|vm| of(&vm.memory, &vm.calls)).sum()
    };
    let counted = [
        ("fault", sum(&|memory, _| memory.faults.iter().flatten().map(|fault| fault.count).sum())),
        (
            "mmio",
            sum(&|memory, _| {
                let all = memory.mmio.iter().flatten().filter(|mmio| mmio.access != "doorbell");
                all.map(|mmio| mmio.count).sum::<u64>() + memory.mmio_other
            }),
        ),
        (
            "hypercall",
            sum(&|_, calls| {
                let all = calls.hypercalls.iter().flatten().filter(|call| call.abi == "kvm");
                all.map(|call| call.count).sum::<u64>() + calls.hypercalls_other
            }),
        ),
    ];
    let mut problems = Problems::new();
    for (kind, counted) in counted {
        let (listed, left_out) = report.events_of(kind);
        if listed.len() as u64 + left_out != counted {
            let listed = listed.len();
            problems.push(format!("{listed} events {kind} and {left_out} left out of {counted}"));
        }
        if counted > 0 && listed.is_empty() {
            problems.push(format!("none of {counted} events {kind} is listed"));
        }
        problems.extend(
            listed
                .iter()
                .filter(|event| event.what.is_empty() || event.what.contains('\n'))
                .map(|event| format!("an event without words: {event:?}")),
        );
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(faults: u64, left_out: u64, ioctls: u64) -> Report {
        let section = format!(
            r#""memory":{{"faults":[{{"kind":1,"name":"write-protected","count":{faults},"timed":0,"total_ns":0}}],
            "pages":[],"pages_other":0,"mmio":[{{"access":"doorbell","address":4096,"name":null,"to_vmm":false,
            "count":3,"timed":0,"vmm_ns":0}}],"mmio_other":0,"dirty":null,"roots":null,"roots_other":0}},
            "calls":{{"hypercalls":[],"hypercalls_other":0,"ioctls":[{{"command":44672,"name":"KVM_RUN",
            "count":{ioctls},"failed":0,"total_ns":9,"max_ns":9}}]}}"#
        );
        serde_json::from_str(&format!(
            r#"{{"schema":1,"host":{{"kernel":"6.1.0","backend":"svm","cpus":2}},
            "started_unix_ns":1,"duration_ns":2,
            "lost":{{"missed_runs":0,"ring":0,"pool_full":0,"slots_full":0}},"probes":[],
            "events":[{{"kind":"fault","at_unix_ns":1,"vm":1,"vcpu":0,"tid":71,"reason":null,"what":"write",
              "address":1,"rip":0,"wall_ns":0,"vmm_ns":0,"args":[0,0,0,0,0,0]}}],
            "events_left_out":[{{"kind":"fault","count":{left_out}}}],
            "vms":[{{"id":1,"pid":70,"name":"g","started_unix_ns":1,"ended_unix_ns":2,{section},"vcpus":[
              {{"vcpu":0,"tid":71,"exits":[],"userspace_exits":[],{section}}}]}}]}}"#
        ))
        .expect("a report")
    }

    fn guest() -> Guest {
        serde_json::from_str(
            r#"{"schema":1,"pid":70,"backend":"svm","skipped":[],
            "ioctls":{"KVM_RUN":{"command":44672,"count":5,"failed":0}},
            "vms":[{"vcpus":[{"vcpu":0,"tid":71,"tids":[71],"made":{},
              "expect":{"exits":{},"userspace_exits":{},"keys":[
                {"class":"fault","value":1,"count":7},{"class":"mmio_fast","value":4096,"count":3},
                {"class":"page","value":4096,"count":7}]}}]}]}"#,
        )
        .expect("a guest")
    }

    #[test]
    fn what_is_equal_is_no_problem_and_what_is_not_is_one() {
        let good = report(7, 6, 5);
        for problems in
            [vcpus_equal(&good, &guest()), ioctls_equal(&good, &guest()), events_add_up(&good)]
        {
            assert_eq!(problems, Problems::new());
        }
        let bad = report(8, 5, 4);
        assert_eq!(
            vcpus_equal(&bad, &guest()),
            ["vCPU 0 (thread 71): fault 1 8 times instead of 7"]
        );
        assert_eq!(events_add_up(&bad), ["1 events fault and 5 left out of 8"]);
        assert_eq!(ioctls_equal(&bad, &guest()).len(), 1);
    }
}
