//! The program on this machine's own KVM, whatever its backend: userspace exits are exact
//! everywhere, kernel exits where the backend makes them. As root, in plain `cargo test`;
//! elsewhere each test says that it was skipped and why.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use kvmscope_tests::check::{self, Problems};
use kvmscope_tests::format::{Guest, GuestIoctl, GuestTimers, Report};
use kvmscope_tests::program::debug;
use kvmscope_tests::situation::{self, compare, first};
use kvmscope_tests::skip::{skipped, why_not_live};

/// Runs a live test, or says why not.
fn live(name: &str, test: fn(&Path) -> Result<Problems>) {
    if let Some(why) = why_not_live() {
        return skipped(name, &why);
    }
    let problems = test(debug()).expect("the program does its work");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn done(output: Output) -> Result<Output> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}: {said}", output.status);
    Ok(output)
}

/// The guest as the report's command: its own account and the report.
fn watch(program: &Path, guest: &[&str]) -> Result<(Report, Guest, Problems)> {
    watch_with(program, &[], guest)
}

/// The same with options of `report`.
fn watch_with(
    program: &Path,
    options: &[&str],
    guest: &[&str],
) -> Result<(Report, Guest, Problems)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.json");
    let output = done(
        Command::new(program)
            .args(["report", "--format", "json", "-o"])
            .arg(&file)
            .args(options)
            .arg("--")
            .arg(program)
            .args(["guest", "--format", "json"])
            .args(guest)
            .output()?,
    )?;
    let mut report: Report = serde_json::from_slice(&std::fs::read(&file)?)
        .context("the report is not as documented")?;
    let guest: Guest = serde_json::from_slice(&output.stdout)
        .context("the guest's account is not as documented")?;
    // Other VMs of this machine, other tests' guests among them, are not this test's.
    report.vms.retain(|vm| vm.pid == guest.pid);
    let mut problems = check::sound(&report);
    problems.extend(check::counts_equal(&report, &guest));
    Ok((report, guest, problems))
}

/// Share of a vCPU's time that may be unaccounted for: kernels were seen that leave out a context switch now and
/// then, in their own trace too, and where a thread was between two others is then not known.
const UNTOLD: f64 = 0.2;

#[test]
fn every_kind_is_counted_exactly() {
    live("every_kind_is_counted_exactly", |program| {
        let (report, guest, mut problems) = watch(program, &["--vcpus", "2", "--all", "300"])?;
        if report.host.backend != guest.backend {
            problems.push(format!("backends {} and {}", report.host.backend, guest.backend));
        }
        Ok(problems)
    });
}

#[test]
fn vms_of_one_process_are_told_apart() {
    live("vms_of_one_process_are_told_apart", |program| {
        let (report, guest, problems) =
            watch(program, &["--vms", "3", "--vcpus", "2", "--out", "50"])?;
        if check::vcpus(&report).any(|(_, vcpu)| !vcpu.exits.is_empty()) {
            return Ok(problems);
        }
        // What tells them apart comes with kvm_entry. On a backend where that is silent the
        // process is one VM, and what it did must still be all there.
        Ok(check::userspace_sums_equal(&report, &guest))
    });
}

#[test]
fn a_vcpu_may_change_threads() {
    live("a_vcpu_may_change_threads", |program| {
        let (_, _, problems) = watch(program, &["--vcpus", "2", "--out", "99", "--move-thread"])?;
        Ok(problems)
    });
}

#[test]
fn a_thread_may_die_while_the_vmm_handles_its_exit() {
    live("a_thread_may_die_while_the_vmm_handles_its_exit", |program| {
        let (_, _, problems) = watch(program, &["--vcpus", "2", "--out", "99", "--die"])?;
        Ok(problems)
    });
}

#[test]
fn a_vm_that_lived_for_milliseconds_leaves_a_row() {
    live("a_vm_that_lived_for_milliseconds_leaves_a_row", |program| {
        let (report, _, mut problems) = watch(program, &["--out", "1"])?;
        if report.vms.iter().any(|vm| vm.ended_unix_ns.is_none() || vm.name.is_empty()) {
            problems.push(format!("it has no end or no name: {:?}", report.vms));
        }
        Ok(problems)
    });
}

#[test]
fn what_exits_were_about_is_counted_exactly() {
    live("what_exits_were_about_is_counted_exactly", |program| {
        let (report, guest, mut problems) = watch(program, &["--vcpus", "2", "--all", "300"])?;
        problems.extend(situation::keys_equal(&report, &guest));
        Ok(problems)
    });
}

#[test]
fn mmio_has_its_counts_and_the_vmms_time_without_any_other_family() {
    live("mmio_has_its_counts_and_the_vmms_time_without_any_other_family", |program| {
        const SLEEP_US: u64 = 2_000;
        let (reads, writes) = (20, 30);
        let guest = ["--mmio-read", "20", "--mmio-write", "30", "--vmm-sleep-us", "2000"];
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("report.json");
        let output = Command::new(program)
            .args(["report", "--probes", "mmio", "--format", "json", "-o"])
            .arg(&file)
            .arg("--")
            .arg(program)
            .args(["guest", "--format", "json"])
            .args(guest)
            .output()?;
        let guest: Guest = serde_json::from_slice(&done(output)?.stdout)?;
        let mut report: Report = serde_json::from_slice(&std::fs::read(&file)?)?;
        report.vms.retain(|vm| vm.pid == guest.pid);
        let mut problems = situation::keys_equal(&report, &guest);
        let (seen, _) = first(&report, &guest)?;
        for (class, count) in [("mmio_read", reads), ("mmio_write", writes)] {
            let keys = || seen.keys.iter().filter(|key| key.class == class);
            let made: u64 = keys().map(|key| key.count).sum();
            let vmm_ns: u64 = keys().map(|key| key.vmm_ns).sum();
            // The time of the last waits for something to come after it.
            if made != count || vmm_ns < (count - 1) * SLEEP_US * 1_000 {
                problems.push(format!("{class}: {made} of {count}, {vmm_ns} ns in the VMM"));
            }
        }
        Ok(problems)
    });
}

#[test]
fn a_vmm_that_sleeps_is_told_from_one_that_computes() {
    live("a_vmm_that_sleeps_is_told_from_one_that_computes", |program| {
        let mut problems = Problems::new();
        for (how, asleep) in [("--vmm-sleep-us", true), ("--vmm-spin-us", false)] {
            let (report, guest, found) = watch(program, &["--out", "40", how, "5000"])?;
            problems.extend(found);
            problems.extend(situation::time_is_accounted_for(&report, UNTOLD));
            let (seen, made) = first(&report, &guest)?;
            let (time, measured) = (seen.time, made.measured);
            // Other tests want the processors too, which is neither.
            let vmm = time.vmm_ns + time.vmm_asleep_ns;
            compare(&mut problems, how, vmm + time.waiting_ns + time.unknown_ns, measured.vmm_ns);
            if (time.vmm_asleep_ns > time.vmm_ns) != asleep {
                problems.push(format!("{how}: {time:?}"));
            }
        }
        Ok(problems)
    });
}

#[test]
fn a_starved_vcpu_waits_and_its_neighbour_is_named() {
    live("a_starved_vcpu_waits_and_its_neighbour_is_named", |program| {
        let guest = ["--cpuid", "1", "--spin-us", "400000", "--pin", "0", "--neighbour", "0"];
        let (report, guest, mut problems) = watch_with(program, &["--probes", "all"], &guest)?;
        problems.extend(situation::time_is_accounted_for(&report, UNTOLD));
        let (seen, made) = first(&report, &guest)?;
        let waiting = made.measured.waiting_ns.context("no schedstat")?;
        // The guest measures from its first KVM_RUN to the end of its work. The thread may wait before and
        // after that too, the longer the more other tests want the processor.
        let beside = seen.time.sum().saturating_sub(made.measured.wall_ns);
        let is = seen.time.waiting_ns;
        let untold = seen.time.unknown_ns;
        if is + untold < waiting * 95 / 100 || is > waiting * 105 / 100 + beside {
            problems.push(format!("waiting {is} ns of {waiting} ns, {beside} ns beside the work"));
        }
        // Others may have been there as well, so the neighbour need not be all of it. Whom it waited for comes
        // from the scheduler's own account, so it covers what a switch that was not seen left untold as well.
        let all: u64 = seen.culprits.iter().map(|culprit| culprit.total_ns).sum();
        let named = seen.culprits.iter().any(|culprit| culprit.comm == "neighbour");
        if !named || all < waiting * 8 / 10 || all > (is + untold) * 105 / 100 {
            let of = format!("{is} ns of {waiting} ns waited, {untold} ns untold");
            problems.push(format!("{all} ns named, {of}: {:?}", seen.culprits));
        }
        Ok(problems)
    });
}

#[test]
fn slow_exits_are_told_of_one_by_one() {
    live("slow_exits_are_told_of_one_by_one", |program| {
        let guest = ["--out", "20", "--cpuid", "200", "--vmm-sleep-us", "5000"];
        let (report, _, mut problems) = watch_with(program, &["--outlier", "2ms"], &guest)?;
        let ids: Vec<u64> = report.vms.iter().map(|vm| vm.id).collect();
        let slow = || report.outliers.iter().filter(|slow| ids.contains(&slow.vm));
        let out = slow().filter(|slow| slow.class.as_deref() == Some("port_out")).count();
        // The last has no entry after it where the guest ends in it.
        if !(19..=20).contains(&out) || slow().any(|slow| slow.vmm_ns < 5_000_000) {
            problems.push(format!("{out} slow exits of 20: {:?}", report.outliers));
        }
        Ok(problems)
    });
}

#[test]
fn what_the_vmm_asks_of_kvm_is_counted_exactly() {
    live("what_the_vmm_asks_of_kvm_is_counted_exactly", |program| {
        let families = ["--probes", "exit,userspace,ioctl"];
        let guest = ["--vms", "2", "--vcpus", "3", "--out", "300", "--mmio-write", "50"];
        let (report, guest, told_apart) = watch_with(program, &families, &guest)?;
        // As in `vms_of_one_process_are_told_apart`.
        let mut problems = match check::vcpus(&report).any(|(_, vcpu)| !vcpu.exits.is_empty()) {
            true => told_apart,
            false => check::userspace_sums_equal(&report, &guest),
        };
        let mut seen: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for ioctl in report.vms.iter().filter_map(|vm| vm.calls.ioctls.as_ref()).flatten() {
            let sum = seen.entry(ioctl.command).or_default();
            *sum = (sum.0 + ioctl.count, sum.1 + ioctl.failed);
            if ioctl.name.is_none() || ioctl.total_ns < ioctl.max_ns || ioctl.max_ns == 0 {
                problems.push(format!("{ioctl:?}"));
            }
        }
        let of = |ioctl: &GuestIoctl| (ioctl.command, (ioctl.count, ioctl.failed));
        let made: BTreeMap<u32, (u64, u64)> = guest.ioctls.values().map(of).collect();
        if seen != made {
            problems.push(format!("{seen:x?} counted, {made:x?} made"));
        }
        Ok(problems)
    });
}

/// By whatever way an interrupt comes, and whichever backend puts it in: what local APICs were sent, what timers
/// did, which exceptions were put in.
#[test]
fn interrupts_are_those_that_the_guest_took() {
    live("interrupts_are_those_that_the_guest_took", |program| {
        let families = ["--probes", "irq,irqchip,timer,wakeup,vcpu-load"];
        let guest = [
            "--vcpus", "2", "--ipi", "40", "--msi", "20", "--irqfd", "30", "--gp", "11", "--ud",
            "12",
        ];
        let timers = ["--timer-one-shot", "21", "--timer-deadline", "22", "--timer-disarm", "23"];
        let (report, guest, mut problems) =
            watch_with(program, &families, &[&guest[..], &timers[..]].concat())?;
        let [vm] = &report.vms[..] else { anyhow::bail!("{} VMs", report.vms.len()) };
        let mut same = |what: String, made: u64, told: Option<u64>| {
            if told != Some(made) {
                problems.push(format!("{what}: {made} by the guest, {told:?} in the report"));
            }
        };
        for vcpu in guest.vms.iter().flat_map(|vm| &vm.vcpus) {
            for taken in &vcpu.interrupts {
                let vector = u64::from(taken.vector);
                if !["gp", "ud"].contains(&&*taken.kind) {
                    let told = vm.interrupts.received_of(vcpu.vcpu, vector);
                    same(format!("vCPU {} {vector:#x}", vcpu.vcpu), taken.count, told);
                }
            }
        }
        let vcpus = || guest.vms.iter().flat_map(|vm| &vm.vcpus);
        for (kind, vector) in [("gp", 13), ("ud", 6)] {
            let put = vm.interrupts.exceptions.iter().flatten();
            let told =
                put.filter(|put| put.vector == vector && !put.reinjected).map(|put| put.count);
            same(kind.to_owned(), vcpus().map(|vcpu| vcpu.made[kind]).sum(), Some(told.sum()));
        }
        let timers = vm.interrupts.timers.as_ref().context("no timers")?;
        let sum = |of: fn(&GuestTimers) -> u64| vcpus().map(|vcpu| of(&vcpu.expect.timers)).sum();
        same("one-shot".into(), sum(|timers| timers.one_shot), Some(timers.one_shot));
        same("deadlines".into(), sum(|timers| timers.deadlines), Some(timers.deadlines));
        same("disarmed".into(), sum(|timers| timers.disarmed), Some(timers.disarmed));
        same("expired".into(), sum(|timers| timers.expired), Some(timers.expired));
        Ok(problems)
    });
}

/// Where functions cannot be probed, or have gone, each such probe says so, and the rest counts on.
#[test]
fn function_probes_are_attached_or_say_why_not() {
    live("function_probes_are_attached_or_say_why_not", |program| {
        let options = ["--probes", "userspace,dirty,roots"];
        let (report, _, mut problems) = watch_with(program, &options, &["--out", "40"])?;
        for probe in &report.probes {
            let ours = ["dirty", "roots"].contains(&&*probe.family);
            if ours && !probe.attached && probe.why.as_ref().is_none_or(|why| why.len() < 40) {
                problems.push(format!("{}: {:?}", probe.name, probe.why));
            }
        }
        let functions = report.probes.iter().filter(|probe| probe.name.starts_with("kprobe:"));
        ensure!(functions.count() == 3, "not three functions among {:?}", report.probes);
        Ok(problems)
    });
}
