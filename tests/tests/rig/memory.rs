//! The test guest's own account of page faults, MMIO, hypercalls, dirty pages, roots and ioctls is the
//! kernel's (`tests/rigs/memory.sh`): what the probes are tested against is itself tested.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use kvmscope_tests::check::Problems;
use kvmscope_tests::format::{Guest, GuestVcpu};
use kvmscope_tests::hist::{self, Hist};
use kvmscope_tests::program::{Profile, kvmscope};
use kvmscope_tests::rig::{self, Output, Vendor};

use crate::{floods, nothing_is_wrong};

rigs! {
    guest_svm_6_1: Svm "6.1" 50;
    guest_svm_6_12: Svm "6.12" 50;
    guest_svm_newest: Svm "newest" 50;
    guest_vmx_6_1: Vmx "6.1" 15;
}

const CASES: [&str; 9] = [
    "exec",
    "touch",
    "dirty",
    "walk",
    "slots",
    "doorbell",
    "mmio-kernel",
    "hypercalls",
    "together",
];

const NO_PAGE_LOG: &str = "no-page-log";

/// What the kernel counted, by the class of key that the guest has for it, and value.
type Counted = BTreeMap<(&'static str, u64), u64>;

/// Classes of which the kernel counts every key.
const CLASSES: [&str; 6] = ["page", "fault", "mmio_write", "mmio_fast", "hypercall", "dirty_page"];

fn all_cases(vendor: Vendor, kernel: &'static str, few: u32) {
    let script = format!("few={few}\n{}", include_str!("../../rigs/memory.sh"));
    let program = kvmscope(Profile::Release).expect("it is built");
    let output = rig::run(vendor, kernel, "guest", &program, &script).expect("the rig runs");
    // The last case is made where the processor can do without its log of pages.
    let more = (vendor == Vendor::Vmx).then_some(NO_PAGE_LOG);
    let made = CASES.into_iter().chain(more).map(|case| (case, agrees(&output, vendor, case)));
    // Where the emulator is fast enough.
    let floods: &[_] = if vendor == Vendor::Svm { &floods::CASES } else { &[] };
    let flooded = floods.iter().map(|(case, check)| (*case, check(&output)));
    nothing_is_wrong(vendor, kernel, made.chain(flooded));
}

fn agrees(output: &Output, vendor: Vendor, case: &str) -> Result<Problems> {
    let status = output.text(&format!("{case}.status"))?;
    ensure!(
        status.trim() == "0",
        "status {}: {}",
        status.trim(),
        output.text(&format!("{case}.log"))?
    );
    let guest: Guest = output.json(&format!("{case}.guest.json"))?;
    ensure!(guest.skipped.is_empty(), "left out: {:?}", guest.skipped);
    let hist = |name: &str| hist::parse(&output.text(&format!("{case}.{name}.hist"))?);
    let mut counted = Counted::new();
    faults(vendor, &hist("fault")?, &mut counted);
    let mut reads = Counted::new();
    for (keys, count) in hist("mmio")? {
        let (kind, gpa) = (keys[0], keys[1] as u64);
        match kind {
            // Type 0 tells of a read that the VMM will answer; type 1 follows when it has.
            0 => {}
            1 => *reads.entry(("mmio_read", gpa)).or_default() += count,
            _ => *counted.entry(("mmio_write", gpa)).or_default() += count,
        }
    }
    counted.extend(reads);
    let fast =
        hist("fast")?.into_iter().map(|(keys, count)| (("mmio_fast", keys[0] as u64), count));
    counted.extend(fast);
    let dirty = hist("dirty")?.into_iter();
    counted.extend(dirty.map(|(keys, count)| (("dirty_page", (keys[0] as u64) << 12), count)));
    let hypercalls = hist("hypercall")?;
    for (keys, &count) in &hypercalls {
        *counted.entry(("hypercall", keys[0] as u64)).or_default() += count;
    }

    let vcpus: Vec<&GuestVcpu> = guest.vms.iter().flat_map(|vm| &vm.vcpus).collect();
    let mut made = Counted::new();
    for key in vcpus.iter().flat_map(|vcpu| &vcpu.expect.keys) {
        let class = CLASSES.iter().find(|&&class| class == key.class);
        let class = if key.class == "mmio_read" { Some(&"mmio_read") } else { class };
        let Some(class) = class else { continue };
        *made.entry((class, key.value)).or_default() += key.count;
    }
    ensure!(made.keys().any(|key| key.0 == "fault"), "the guest answers for no faults");
    let mut problems = Problems::new();
    for key in made.keys().chain(counted.keys()).collect::<std::collections::BTreeSet<_>>() {
        let at = |counts: &Counted| counts.get(key).copied().unwrap_or(0);
        if at(&made) != at(&counted) {
            let (class, value) = key;
            let (guest, kernel) = (at(&made), at(&counted));
            problems
                .push(format!("{class} {value:#x}: {guest} by the guest, {kernel} by the kernel"));
        }
    }
    problems.extend(arguments(&vcpus, &hypercalls));
    problems.extend(dirty_logs(&vcpus));
    let roots: u64 = hist("root")?.values().sum();
    let least: u64 = vcpus.iter().map(|vcpu| vcpu.expect.roots_at_least).sum();
    // The probe on kvm_intel is gone once that was taken out and put in again.
    if case != NO_PAGE_LOG && (roots < least || least == 0) {
        problems.push(format!("{roots} roots were loaded, at least {least} said"));
    }
    problems.extend(ioctls(&guest, &hist("ioctl")?)?);
    Ok(problems)
}

/// Pages and kinds of faults, from address and error code.
fn faults(vendor: Vendor, hist: &Hist, counted: &mut Counted) {
    for (keys, &count) in hist {
        let (address, code) = (keys[0] as u64, keys[1] as u64);
        *counted.entry(("page", address & !0xfff)).or_default() += count;
        *counted.entry(("fault", kind(vendor, code))).or_default() += count;
    }
}

/// The kind of a fault as docs/guest.md numbers them: 0 absent, 1 write-protected, 2 not executable, 3 not
/// readable, 4 in a walk of the guest's page tables, 5 marked as MMIO.
fn kind(vendor: Vendor, code: u64) -> u64 {
    let bit = |number: u32| code >> number & 1 == 1;
    let (walk, mmio, present, write, fetch) = match vendor {
        // AMD APM volume 2, 15.25.6: the bits of a page fault, 32 for the final address, 33 for a walk.
        Vendor::Svm => (bit(33), bit(3), bit(0), bit(1), bit(4)),
        // Intel SDM volume 3, table 29-7: read, write, fetch; then what the entry allowed; 7 a linear address
        // is known, 8 it was translated.
        Vendor::Vmx => (bit(7) && !bit(8), false, code & 0b11_1000 != 0, bit(1), bit(2)),
    };
    match (walk, mmio, present) {
        (true, ..) => 4,
        (_, true, _) => 5,
        (_, _, false) => 0,
        _ if write => 1,
        _ if fetch => 2,
        _ => 3,
    }
}

/// The kernel saw the first and third argument that the guest says it passed.
fn arguments(vcpus: &[&GuestVcpu], hist: &Hist) -> Problems {
    let mut made: BTreeMap<Vec<i64>, u64> = BTreeMap::new();
    for call in vcpus.iter().flat_map(|vcpu| &vcpu.expect.hypercalls) {
        let keys = [call.number, call.args[0], call.args[2]].map(i64::from).to_vec();
        *made.entry(keys).or_default() += call.count;
    }
    if &made == hist {
        return Problems::new();
    }
    vec![format!("hypercalls {made:?} by the guest, {hist:?} by the kernel")]
}

/// What KVM's own log named is what was written.
fn dirty_logs(vcpus: &[&GuestVcpu]) -> Problems {
    let off = vcpus.iter().filter(|vcpu| vcpu.dirty_log.pages != vcpu.made["dirty"]);
    let rang = vcpus.iter().filter(|vcpu| vcpu.rang != vcpu.made["doorbell"]);
    off.chain(rang).map(|vcpu| format!("vCPU {}: {vcpu:?}", vcpu.vcpu)).collect()
}

/// Every KVM ioctl that the kernel saw is counted, and no other.
fn ioctls(guest: &Guest, hist: &Hist) -> Result<Problems> {
    const KVMIO: u64 = 0xae;
    let seen: BTreeMap<u32, u64> = hist
        .iter()
        .map(|(keys, &count)| (keys[0] as u64 as u32, count))
        .filter(|&(command, _)| u64::from(command) >> 8 & 0xff == KVMIO)
        .collect();
    let made: BTreeMap<u32, u64> =
        guest.ioctls.values().map(|ioctl| (ioctl.command, ioctl.count)).collect();
    let run = guest.ioctls.get("KVM_RUN").context("no KVM_RUN")?;
    ensure!(run.failed <= run.count, "{run:?}");
    Ok(if seen == made {
        Problems::new()
    } else {
        vec![format!("ioctls {made:x?} by the guest, {seen:x?} by the kernel")]
    })
}
