//! The release binary on real VM exits of both vendors, in stock kernels under emulators.
//!
//! `cargo build --release && cargo test -p kvmscope-tests --test rig -- --ignored` runs them;
//! `docs/rigs.md` says how the rigs work. In one boot of each kernel the script
//! `tests/rigs/cases.sh` makes all reports; everything about them is checked here.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use kvmscope_tests::check::{self, Problems};
use kvmscope_tests::format::{Cell, Guest, Report};
use kvmscope_tests::program::{Profile, kvmscope};
use kvmscope_tests::rig::{Output, Vendor};
use kvmscope_tests::{hist, rig};

/// A test for each rig: `all_cases` with what stands after its name.
macro_rules! rigs {
    ($($name:ident: $vendor:ident $kernel:literal $few:expr;)*) => { $(
        #[test]
        #[ignore = "rig: needs QEMU or Bochs and kernels, downloads them; see docs/rigs.md"]
        fn $name() {
            all_cases(Vendor::$vendor, $kernel, $few);
        }
    )* };
}

mod floods;
mod interrupts;
mod memory;
mod recorded;
mod situations;

rigs! {
    svm_5_10: Svm "5.10" None;
    svm_6_1: Svm "6.1" Some(30);
    svm_6_12: Svm "6.12" Some(30);
    svm_6_18: Svm "6.18" None;
    svm_newest: Svm "newest" None;
    vmx_6_1: Vmx "6.1" Some(15);
}

/// A case: its name and what must hold.
pub(crate) type Case = (&'static str, fn(&Rig) -> Result<Problems>);

const CASES: [Case; 11] = [
    ("doctor", doctor),
    ("all", all_kinds),
    ("all keys", situations::all_kinds),
    ("witness", witness),
    ("vms", several_vms),
    ("move", moved_to_another_thread),
    ("die", thread_dies),
    ("sleep", slow_vmm),
    ("brief", lived_for_milliseconds),
    ("middle", attached_in_the_middle),
    ("reload", module_reloaded),
];

/// One boot's output and where it came from.
pub(crate) struct Rig {
    vendor: Vendor,
    kernel: &'static str,
    output: Output,
    /// The same program on this machine.
    program: PathBuf,
}

/// `few` is how many of the slow things the situations make, where they are run on this kernel.
fn all_cases(vendor: Vendor, kernel: &'static str, few: Option<u32>) {
    let rig = boot(vendor, kernel, few).expect("the rig runs");
    let situations = few.map_or(&[][..], |_| &situations::CASES);
    let found = CASES.iter().chain(situations).map(|(name, check)| (*name, check(&rig)));
    nothing_is_wrong(vendor, kernel, found);
}

/// Fails unless every case was found without a problem; says all that there are.
pub(crate) fn nothing_is_wrong(
    vendor: Vendor,
    kernel: &str,
    cases: impl Iterator<Item = (&'static str, Result<Problems>)>,
) {
    let mut problems = Problems::new();
    for (name, found) in cases {
        match found {
            Ok(found) => problems.extend(found.into_iter().map(|what| format!("{name}: {what}"))),
            Err(error) => problems.push(format!("{name}: {error:#}")),
        }
    }
    assert!(problems.is_empty(), "{} {kernel}:\n{}", vendor.name(), problems.join("\n"));
}

fn boot(vendor: Vendor, kernel: &'static str, few: Option<u32>) -> Result<Rig> {
    // Bochs is some ten times slower than QEMU.
    let count = match vendor {
        Vendor::Svm => 1000,
        Vendor::Vmx => 500,
    };
    let mut script = format!("count={count}\n{}", include_str!("../../rigs/cases.sh"));
    if let Some(few) = few {
        script += &format!("few={few}\n{}", include_str!("../../rigs/situations.sh"));
    }
    let program = kvmscope(Profile::Release)?;
    let output = rig::run(vendor, kernel, "report", &program, &script)?;
    Ok(Rig { vendor, kernel, output, program })
}

impl Rig {
    /// A case's report, after the status with which it ended.
    fn report(&self, case: &str) -> Result<Report> {
        let status = self.output.text(&format!("{case}.status"))?;
        let log = self.output.text(&format!("{case}.log"))?;
        ensure!(status.trim() == "0", "ended with status {}: {log}", status.trim());
        self.output.json(&format!("{case}.report.json"))
    }

    /// What the vendor calls the exit that an OUT makes.
    pub(crate) fn io_exit(&self) -> &'static str {
        match self.vendor {
            Vendor::Svm => "IO",
            Vendor::Vmx => "IO_INSTRUCTION",
        }
    }

    pub(crate) fn guest(&self, case: &str) -> Result<Guest> {
        self.output.json(&format!("{case}.guest.json"))
    }

    /// What holds for every case in which the report's command is the guest.
    pub(crate) fn exact(&self, case: &str) -> Result<(Report, Guest, Problems)> {
        let report = self.report(case)?;
        let guest = self.guest(case)?;
        let problems = self.equal(&report, &guest);
        Ok((report, guest, problems))
    }

    /// What holds of every report of all of a guest's life.
    pub(crate) fn equal(&self, report: &Report, guest: &Guest) -> Problems {
        let mut problems = check::sound(report);
        problems.extend(check::counts_equal(report, guest));
        if report.host.backend != self.vendor.name() || guest.backend != self.vendor.name() {
            problems.push(format!("backend {} and {}", report.host.backend, guest.backend));
        }
        if guest.vms.iter().flat_map(|vm| &vm.vcpus).any(|vcpu| vcpu.expect.exits.is_empty()) {
            problems.push("the guest answers for no kernel exits".to_owned());
        }
        problems
    }
}

fn doctor(rig: &Rig) -> Result<Problems> {
    let mut problems = Problems::new();
    let status = rig.output.text("doctor.status")?;
    if status.trim() != "0" {
        problems.push(format!("status {}: {}", status.trim(), rig.output.text("doctor.log")?));
    }
    let text = rig.output.text("doctor.json")?;
    let findings: serde_json::Value = serde_json::from_str(&text).context("not JSON")?;
    if findings["schema"] != 1 {
        problems.push(format!("schema {}", findings["schema"]));
    }
    for what in ["kvm_exit", rig.vendor.name()] {
        if !text.contains(what) {
            problems.push(format!("{what} is not mentioned: {text}"));
        }
    }
    Ok(problems)
}

fn all_kinds(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = rig.exact("all")?;
    if !guest.skipped.is_empty() {
        problems.push(format!("the guest left out {:?}", guest.skipped));
    }
    if rig.kernel != "newest" && !report.host.kernel.starts_with(rig.kernel) {
        problems.push(format!("the kernel is {}", report.host.kernel));
    }
    for (vm, _) in check::vcpus(&report) {
        if vm.ended_unix_ns.is_none() {
            problems.push(format!("VM {} ended, and the report does not say so", vm.id));
        }
    }
    Ok(problems)
}

/// The kernel's own account and the report agree on every reason, interrupts included.
fn witness(rig: &Rig) -> Result<Problems> {
    let report = rig.report("all")?;
    let userspace;
    let mut problems;
    if let Ok(trace) = rig.output.text("all.trace") {
        let (exits, traced) = hist::parse_trace(&trace)?;
        ensure!(!exits.is_empty(), "the kernel's trace is empty");
        problems = check::trace_agrees(&report, &exits);
        userspace = traced;
    } else {
        let exits = hist::parse(&rig.output.text("all.exit.hist")?)?;
        ensure!(!exits.is_empty(), "the kernel's histogram is empty");
        problems = check::hist_agrees(&report, &exits);
        userspace = hist::parse(&rig.output.text("all.userspace.hist")?)?;
    }
    ensure!(!userspace.is_empty(), "the kernel counted no userspace exits");
    problems.extend(check::userspace_hist_agrees(&report, &userspace));
    Ok(problems)
}

fn several_vms(rig: &Rig) -> Result<Problems> {
    let (report, _, mut problems) = rig.exact("vms")?;
    if report.vms.len() != 3 {
        problems.push(format!("{} VMs instead of 3", report.vms.len()));
    }
    Ok(problems)
}

fn moved_to_another_thread(rig: &Rig) -> Result<Problems> {
    let (_, guest, mut problems) = rig.exact("move")?;
    if guest.vms[0].vcpus.iter().any(|vcpu| vcpu.tids.len() != 2) {
        problems.push("the guest's vCPUs did not change threads".to_owned());
    }
    Ok(problems)
}

fn thread_dies(rig: &Rig) -> Result<Problems> {
    let (_, _, problems) = rig.exact("die")?;
    Ok(problems)
}

/// The VMM sleeps 2 ms in each of 50 IO and 50 MMIO exits: that is the VMM's time, not KVM's.
fn slow_vmm(rig: &Rig) -> Result<Problems> {
    const SLEEP_NS: u64 = 2_000_000;
    let (report, _, mut problems) = rig.exact("sleep")?;
    let io = rig.io_exit();
    let mut seen = 0;
    for (_, vcpu) in check::vcpus(&report) {
        let slow =
            |cells: &[Cell], reason: &str| cells.iter().find(|c| c.reason == reason).cloned();
        let exit = slow(&vcpu.exits, io).context("no IO exit")?;
        seen += exit.timed;
        if exit.vmm_ns < SLEEP_NS * exit.timed {
            problems.push(format!("VMM time of {io}: {} ns of {}", exit.vmm_ns, exit.timed));
        }
        if exit.total_ns >= exit.vmm_ns {
            problems.push(format!("handling {} ns includes the VMM's time", exit.total_ns));
        }
    }
    if seen < 49 {
        problems.push(format!("only {seen} exits have a time"));
    }
    Ok(problems)
}

fn lived_for_milliseconds(rig: &Rig) -> Result<Problems> {
    let (report, _, mut problems) = rig.exact("brief")?;
    if report.vms.iter().any(|vm| vm.ended_unix_ns.is_none() || vm.name.is_empty()) {
        problems.push(format!("the VM has no end or no name: {:?}", report.vms));
    }
    Ok(problems)
}

/// Two seconds of a guest that makes 100 OUTs and CPUIDs a second on each vCPU for eight.
fn attached_in_the_middle(rig: &Rig) -> Result<Problems> {
    let report = rig.report("middle")?;
    let pid: u32 = rig.output.text("middle.pid")?.trim().parse().context("the guest's pid")?;
    let mut problems = check::sound(&report);
    let [vm] = &report.vms[..] else {
        problems.push(format!("{} VMs instead of one", report.vms.len()));
        return Ok(problems);
    };
    if vm.pid != pid || vm.vcpus.len() != 2 {
        problems.push(format!("pid {} with {} vCPUs", vm.pid, vm.vcpus.len()));
    }
    if vm.ended_unix_ns.is_some() {
        problems.push("the VM was alive at the end".to_owned());
    }
    for vcpu in &vm.vcpus {
        let outs = vcpu.userspace_exits_of("IO");
        // A busy machine makes fewer; it cannot make more than two seconds' worth and a bit.
        if !(20..=300).contains(&outs) {
            problems.push(format!("vCPU {}: {outs} OUTs in two seconds", vcpu.vcpu));
        }
        // Counted by another probe, which is attached a little later.
        let (cpuids, ios) = (vcpu.exits_of("CPUID"), vcpu.exits_of(rig.io_exit()));
        if cpuids == 0 || cpuids > outs + 1 || cpuids.abs_diff(ios) > 1 {
            problems.push(format!("vCPU {}: {cpuids} CPUIDs, {ios} IOs", vcpu.vcpu));
        }
    }
    Ok(problems)
}

/// One report over the removal and the return of KVM's modules, with a guest on each side.
fn module_reloaded(rig: &Rig) -> Result<Problems> {
    let log = rig.output.text("reload.log")?;
    let report = rig.report("reload")?;
    ensure!(log.contains("reload: status 0"), "a step failed: {log}");
    let mut problems = check::sound(&report);
    for part in ["before", "after"] {
        let guest: Guest = rig.output.json(&format!("reload.{part}.json"))?;
        let equal = check::counts_equal(&report, &guest);
        problems.extend(equal.into_iter().map(|what| format!("{part}: {what}")));
    }
    Ok(problems)
}
