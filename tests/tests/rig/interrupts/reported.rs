//! The report's account of a case beside the guest's, field by field as `docs/json.md` has them.

use std::collections::BTreeMap;

use kvmscope_tests::check::Problems;
use kvmscope_tests::hist::Hist;
use serde_json::Value;

use super::{CHANGING, Routes, Run};

type Counts = BTreeMap<u64, u64>;

/// What the kernel counted.
pub(super) struct Kernel {
    /// Interrupts put in, by vector.
    pub injected: Counts,
    /// Ends of interrupts, by vector.
    pub ends: Counts,
    /// Put into local APICs, by vector.
    pub delivered: Counts,
    /// `kvm_vcpu_wakeup`, by waited and valid.
    pub wakeups: Hist,
    /// What came through the chips.
    pub routes: Routes,
    /// How many the guest took more often than they were put in, at most.
    pub twice: u64,
    /// How many of its periodic timer's it did not take.
    pub in_vain: u64,
}

/// What differs.
pub(super) fn agrees(run: &Run, kernel: &Kernel, report: &Value) -> Problems {
    let mut problems = Problems::new();
    let mut same = |what: &str, guest: &Counts, report: Counts| {
        if *guest != report {
            problems.push(format!("{what}: {guest:x?} expected, {report:x?} in the report"));
        }
    };
    let vms = array(&report["vms"]);
    let rows = |field: &str| -> Vec<&Value> {
        vms.iter().flat_map(|vm| array(&vm["interrupts"][field])).collect()
    };
    let sum = |rows: &[&Value], key: &dyn Fn(&Value) -> Option<u64>| {
        let mut counts = Counts::new();
        for row in rows {
            if let Some(key) = key(row) {
                *counts.entry(key).or_default() += number(&row["count"]);
            }
        }
        counts
    };
    let first = |row: &Value| row["reinjected"] != true;
    // What the guest says nothing about (APICv) is in neither.
    if !run.keys("injected").is_empty() {
        let told = sum(&rows("injected"), &|row| first(row).then(|| number(&row["vector"])));
        same("injected", &kernel.injected, told);
        same("eois", &kernel.ends, sum(&rows("eois"), &|row| row["vector"].as_u64()));
    }
    let told = sum(&rows("exceptions"), &|row| {
        first(row).then(|| number(&row["vector"]) | u64::from(row["error_code"] == true) << 8)
    });
    same("exceptions", &run.keys("exception"), told);
    let told =
        sum(&rows("ipis"), &|row| Some(number(&row["icr"]) | number(&row["destination"]) << 32));
    same("ipis", &run.keys("ipi"), told);
    // For which VM a thread of a process with two sends, or a worker of the kernel, is not known.
    let unknown = array(&report["routes_unknown"]);
    let mut received = rows("received");
    received.extend(unknown.iter().filter(|row| row["chip"] == "lapic"));
    let told = sum(&received, &|row| (row["mode"] == "fixed").then(|| number(&row["vector"])));
    same("received", &kernel.delivered, told);
    same("wake-ups", &kernels_wakeups(&kernel.wakeups), told_wakeups(vms));
    let mut sources = rows("routes");
    sources.extend(unknown);
    problems.extend(routes(run, kernel, &sources));
    problems.extend(timers(run, kernel, vms));
    problems.extend(load(run, vms));
    problems
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn vcpus(vms: &[Value]) -> impl Iterator<Item = &Value> {
    vms.iter().flat_map(|vm| array(&vm["vcpus"]))
}

/// Wake-ups by kind, as the kernel counted them: bit 0 after sleep, bit 1 valid.
fn kernels_wakeups(hist: &Hist) -> Counts {
    let mut counts = Counts::new();
    for (keys, count) in hist {
        *counts.entry(u64::from(keys[0] != 0) | u64::from(keys[1] != 0) << 1).or_default() += count;
    }
    counts
}

fn told_wakeups(vms: &[Value]) -> Counts {
    let mut counts = Counts::new();
    for row in vcpus(vms).flat_map(|vcpu| array(&vcpu["scheduling"]["wakeups"])) {
        let kind = match row["kind"].as_str() {
            Some("polled_idle") => 0,
            Some("slept_idle") => 1,
            Some("polled") => 2,
            Some("slept") => 3,
            _ => continue,
        };
        *counts.entry(kind).or_default() += number(&row["count"]);
    }
    counts
}

/// What came through the chips: as the kernel has it, and by whom the guest's VMM has it sent. Where the guest took
/// one twice it was done before as much had been sent.
fn routes(run: &Run, kernel: &Kernel, told: &[&Value]) -> Problems {
    type Sent = BTreeMap<(String, u64, u64, &'static str), (u64, u64)>;
    let (mut guest, mut report, mut all) = (Sent::new(), Sent::new(), Routes::new());
    let add = |row: &mut (u64, u64), count: u64, coalesced: u64| {
        *row = (row.0 + count, row.1 + coalesced);
    };
    for row in run.guest.vms.iter().flat_map(|vm| &vm.routes) {
        let sender = ["waker", "vcpu", "kernel"].into_iter().find(|&name| name == row.sender);
        let key = (row.chip.clone(), row.a, row.b, sender.unwrap_or("?"));
        add(guest.entry(key).or_default(), row.count, row.coalesced);
    }
    for row in told {
        let chip = row["chip"].as_str().unwrap_or("?");
        let b = number(&row["b"]);
        let b = match chip {
            "lapic" => continue,
            "ioapic" => b & !CHANGING,
            _ => b,
        };
        let comm = row["comm"].as_str().unwrap_or("");
        let sender = match row["sender"].as_str() {
            Some("vcpu") => "vcpu",
            Some("kernel") => "kernel",
            Some("thread") if comm.starts_with("waker") => "waker",
            _ => "?",
        };
        let (a, count, coalesced) =
            (number(&row["a"]), number(&row["count"]), number(&row["coalesced"]));
        add(report.entry((chip.to_owned(), a, b, sender)).or_default(), count, coalesced);
        add(all.entry((chip.to_owned(), a, b)).or_default(), count, coalesced);
    }
    let mut problems = Problems::new();
    if all != kernel.routes {
        problems
            .push(format!("routes: {:x?} by the kernel, {all:x?} in the report", kernel.routes));
    }
    let missing = |(key, made): (&_, &(u64, u64))| {
        let told = report.get(key).copied().unwrap_or_default();
        // These have a line's raising and its lowering in one row.
        let each = if matches!(&*key.0, "pic" | "ioapic") { 2 } else { 1 };
        let fewer = made.0.checked_sub(told.0);
        fewer.is_none_or(|fewer| fewer > each * kernel.twice)
            || kernel.twice == 0 && made.1 != told.1
    };
    if guest.iter().any(missing) || report.keys().any(|key| !guest.contains_key(key)) {
        problems.push(format!("routes: {guest:x?} by the guest, {report:x?} in the report"));
    }
    problems
}

/// What was set is the guest's, what expired what the kernel put into local APICs with a timer's vector: as much as
/// the guest took, but for what it took twice.
fn timers(run: &Run, kernel: &Kernel, vms: &[Value]) -> Problems {
    const VECTORS: std::ops::RangeInclusive<u64> = 0x30..=0x32;
    let expired: u64 = kernel.delivered.range(VECTORS).map(|(_, count)| count).sum();
    let told = |field: &str| vms.iter().map(|vm| number(&vm["interrupts"]["timers"][field])).sum();
    let made = run.vcpus().map(|vcpu| vcpu.expect.timers);
    let (mut guest, mut report) = (BTreeMap::new(), BTreeMap::<&str, u64>::new());
    for timers in made {
        for (field, count) in [
            ("deadlines", timers.deadlines),
            ("disarmed", timers.disarmed),
            ("one_shot", timers.one_shot),
            ("periodic", timers.periodic),
        ] {
            *guest.entry(field).or_insert(0) += count;
            report.insert(field, told(field));
        }
    }
    let mut problems = Problems::new();
    if guest != report {
        problems.push(format!("timers: {guest:?} by the guest, {report:?} in the report"));
    }
    let taken: u64 = run.vcpus().map(|vcpu| vcpu.expect.timers.expired).sum();
    let twice = taken.checked_sub(expired - kernel.in_vain);
    if told("expired") != expired || twice.is_none_or(|twice| twice > kernel.twice) {
        let told = told("expired");
        problems
            .push(format!("expired: {taken} taken, {expired} by the kernel, {told} in the report"));
    }
    problems
}

/// Each vCPU was loaded, and moved as often as its thread was.
fn load(run: &Run, vms: &[Value]) -> Problems {
    let mut problems = Problems::new();
    for (made, told) in run.vcpus().zip(vcpus(vms)) {
        let load = &told["scheduling"]["load"];
        let migrations = number(&load["migrations"]);
        // Elsewhere the scheduler may move it too.
        if run.case == "moves" && migrations != made.moves {
            problems.push(format!("{migrations} migrations, {} moves", made.moves));
        }
        if number(&load["loaded_ns"]) == 0 {
            problems.push(format!("vCPU {} was never loaded on a CPU", made.vcpu));
        }
    }
    problems
}
