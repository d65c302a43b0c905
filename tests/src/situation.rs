//! What must hold of where time went and what exits were about, beside their counts.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::check::{Problems, vcpus};
use crate::format::{Guest, GuestVcpu, Report, Vcpu};

/// The share of a vCPU's time that may be unaccounted for.
pub const UNACCOUNTED: f64 = 0.01;
/// How far a time may be from what the guest measured.
const CLOSE: f64 = 0.05;
/// What an emulator may stand still meanwhile, on a machine that has other things to do, ns.
const STALL_NS: f64 = 30_000_000.0;
/// The least time that is compared, ns: shorter ones are lost in an emulator's own unevenness.
const LEAST_NS: u64 = 50_000_000;

/// Adds a sentence unless a time (ns) is what the guest measured.
pub fn compare(problems: &mut Problems, what: &str, is: u64, measured: u64) {
    if measured < LEAST_NS {
        problems.push(format!("{what}: the guest measured {measured} ns, too little to compare"));
    } else if (is as f64 - measured as f64).abs() > (measured as f64 * CLOSE).max(STALL_NS) {
        problems.push(format!("{what}: {is} ns, the guest measured {measured} ns"));
    }
}

/// Every vCPU's parts of time are all there. vCPUs that lived for less than a millisecond had no time
/// to tell.
pub fn time_is_accounted_for(report: &Report, most: f64) -> Problems {
    let mut problems = Problems::new();
    for (vm, vcpu) in vcpus(report).filter(|(_, vcpu)| vcpu.time.sum() > 1_000_000) {
        let (unknown, sum) = (vcpu.time.unknown_ns, vcpu.time.sum());
        if unknown as f64 > sum as f64 * most {
            let at = format!("VM {} vCPU {}", vm.id, vcpu.vcpu);
            problems.push(format!("{at}: {unknown} ns of {sum} ns are not accounted for"));
        }
    }
    problems
}

/// The vCPUs of the guest beside those of the report, by thread.
pub fn pairs<'a>(report: &'a Report, guest: &'a Guest) -> Vec<(&'a Vcpu, &'a GuestVcpu)> {
    let made = || guest.vms.iter().flat_map(|vm| &vm.vcpus);
    vcpus(report)
        .filter_map(|(_, seen)| Some((seen, made().find(|made| made.tids.contains(&seen.tid))?)))
        .collect()
}

/// The first vCPU, seen and made.
///
/// # Errors
/// Where it is not in the report.
pub fn first<'a>(report: &'a Report, guest: &'a Guest) -> Result<(&'a Vcpu, &'a GuestVcpu)> {
    pairs(report, guest).into_iter().next().context("the guest's vCPU is not in the report")
}

/// Reasons of exits that are page faults.
const FAULTS: [&str; 2] = ["NPF", "EPT_VIOLATION"];

/// Page faults by kind are all page faults there were, and each kind has a name.
pub fn faults_by_kind(report: &Report) -> Problems {
    let mut problems = Problems::new();
    let mut all = 0;
    for (_, vcpu) in vcpus(report) {
        let kinds = || vcpu.keys.iter().filter(|key| key.class == "fault");
        let faults: u64 = kinds().map(|key| key.count).sum();
        let exits: u64 = FAULTS.iter().map(|reason| vcpu.exits_of(reason)).sum();
        if faults != exits {
            problems.push(format!("vCPU {}: {faults} faults by kind of {exits}", vcpu.vcpu));
        }
        problems.extend(
            kinds()
                .filter(|key| key.name.is_none() || key.value.is_none())
                .map(|key| format!("vCPU {}: a fault of no kind: {key:?}", vcpu.vcpu)),
        );
        all += faults;
    }
    if all == 0 {
        problems.push("no page fault was seen".to_owned());
    }
    problems
}

/// Every key that the guest answers for is in the report, as often as it made it. Those that found no
/// place in the kernel's table are in "other" of their class, so a class adds up all the same.
pub fn keys_equal(report: &Report, guest: &Guest) -> Problems {
    let mut problems = Problems::new();
    let mut asked = 0;
    for (seen, made) in pairs(report, guest) {
        let at = format!("vCPU {} (thread {})", seen.vcpu, seen.tid);
        let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
        for key in &made.expect.keys {
            asked += 1;
            *classes.entry(&key.class).or_default() += key.count;
            let of_class = || seen.keys.iter().filter(|seen| seen.class == key.class);
            let is: u64 =
                of_class().filter(|seen| seen.value == Some(key.value)).map(|key| key.count).sum();
            let other = of_class().any(|seen| seen.value.is_none() && seen.count > 0);
            if is != key.count && !other {
                let (class, value) = (&key.class, key.value);
                problems
                    .push(format!("{at}: {class} {value:#x} {is} times instead of {}", key.count));
            }
        }
        for (class, count) in classes {
            let is: u64 =
                seen.keys.iter().filter(|key| key.class == class).map(|key| key.count).sum();
            if is != count {
                problems.push(format!("{at}: {class} {is} times in all instead of {count}"));
            }
        }
    }
    if asked == 0 {
        problems.push("the guest answers for no keys".to_owned());
    }
    problems
}
