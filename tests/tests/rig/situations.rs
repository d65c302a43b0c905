//! Where time goes and what exits are about, in situations that the guest makes on purpose
//! (`tests/rigs/situations.sh`): counts by equality, times within 5% of what the guest measured.

use anyhow::{Context, Result, ensure};
use kvmscope_tests::check::{self, Problems};
use kvmscope_tests::format::{Guest, Report, Vcpu};
use kvmscope_tests::rig::Vendor;
use kvmscope_tests::situation::{self, compare, first};

use crate::{Case, Rig};

pub const CASES: [Case; 11] = [
    ("spread", spread),
    ("page", page),
    ("halt", halt),
    ("poll", poll),
    ("spin", spin),
    ("asleep", asleep),
    ("busy", busy),
    ("starved", starved),
    ("io", io),
    ("slow", slow),
    ("stuck", stuck),
];

/// A case's report and guest: counts and keys equal, time accounted for.
fn sound(rig: &Rig, case: &str) -> Result<(Report, Guest, Problems)> {
    let (report, guest, mut problems) = rig.exact(case)?;
    problems.extend(situation::time_is_accounted_for(&report));
    Ok((report, guest, problems))
}

/// 300 ports share a table of fewer places: everything is there, some of it as "other".
fn spread(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "spread")?;
    problems.extend(situation::keys_equal(&report, &guest));
    let (seen, _) = first(&report, &guest)?;
    let ports = || seen.keys.iter().filter(|key| key.class == "port_out");
    ensure!(ports().any(|key| key.value.is_none()), "no other among {:?}", seen.keys);
    let named = ports().filter(|key| key.value.is_some()).count();
    if named < 16 {
        problems.push(format!("only {named} of 300 ports have a place"));
    }
    Ok(problems)
}

/// Faults on one and the same page are one key, and each is of a kind.
fn page(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "page")?;
    problems.extend(situation::keys_equal(&report, &guest));
    problems.extend(situation::faults_by_kind(&report));
    let (seen, _) = first(&report, &guest)?;
    let pages = seen.keys.iter().filter(|key| key.class == "page");
    let (most, all) =
        (pages.clone().map(|key| key.count).max(), pages.map(|key| key.count).sum::<u64>());
    if most.unwrap_or(0) * 10 < all * 9 {
        problems.push(format!("{most:?} of {all} faults on the page that is hammered"));
    }
    Ok(problems)
}

/// How long the guest was halted, handling included, as it measured it too.
fn halts_ns(seen: &Vcpu) -> u64 {
    let halts = seen.exits.iter().filter(|cell| cell.reason == "HLT");
    halts.map(|cell| cell.total_ns + cell.off_cpu_ns + cell.vmm_ns).sum()
}

/// Halts that sleep are halted time, and nobody polled.
fn halt(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "halt")?;
    let (seen, made) = first(&report, &guest)?;
    let measured = made.measured;
    let time = seen.time;
    compare(&mut problems, "halted", halts_ns(seen), measured.halted_ns);
    if time.halted_ns < measured.halted_ns * 85 / 100 {
        problems.push(format!("{time:?} of {} ns halted", measured.halted_ns));
    }
    // Going to sleep is not told from polling; on an emulated processor it takes its time.
    let polled = time.polling_ns > measured.halted_ns * 3 / 100;
    if seen.halts.polled != 0 || seen.halts.waited == 0 || polled {
        problems.push(format!("{:?} with polling off, {} ns polled", seen.halts, time.polling_ns));
    }
    Ok(problems)
}

/// Short halts are polled once KVM has found out that it is worth it, and that is polling time.
fn poll(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "poll")?;
    let (seen, made) = first(&report, &guest)?;
    let measured = made.measured;
    let time = seen.time;
    compare(&mut problems, "halted and polling", halts_ns(seen), measured.halted_ns);
    let idle = time.halted_ns + time.polling_ns;
    // Whoever wakes it needs a CPU, and with a single one KVM gives up polling for it.
    let succeeds = match rig.vendor {
        Vendor::Svm => seen.halts.polled > 0 && time.polling_ns > time.halted_ns,
        Vendor::Vmx => seen.halts.polled == 0 && time.polling_ns > 0,
    };
    if !succeeds || idle < measured.halted_ns * 80 / 100 {
        problems.push(format!("{:?}, {} ns polled: {time:?}", seen.halts, time.polling_ns));
    }
    Ok(problems)
}

fn spin(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "spin")?;
    let (seen, made) = first(&report, &guest)?;
    let measured = made.measured;
    // The guest's clock goes on while KVM handles the host's interrupts.
    let (time, spun) = (seen.time, measured.spun_ns);
    compare(&mut problems, "guest", time.guest_ns + time.kvm_ns + time.waiting_ns, spun);
    if time.guest_ns < spun / 2 {
        problems.push(format!("only {} ns of {spun} ns are in the guest", time.guest_ns));
    }
    Ok(problems)
}

fn asleep(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "asleep")?;
    let (seen, made) = first(&report, &guest)?;
    let measured = made.measured;
    let time = seen.time;
    let vmm = time.vmm_ns + time.vmm_asleep_ns;
    compare(&mut problems, "VMM, with waits", vmm + time.waiting_ns, measured.vmm_ns);
    if time.vmm_asleep_ns < time.vmm_ns {
        problems.push(format!("a VMM that sleeps: {time:?}"));
    }
    Ok(problems)
}

fn busy(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "busy")?;
    let (seen, made) = first(&report, &guest)?;
    let measured = made.measured;
    let time = seen.time;
    let vmm = time.vmm_ns + time.vmm_asleep_ns;
    compare(&mut problems, "VMM, with waits", vmm + time.waiting_ns, measured.vmm_ns);
    if time.vmm_asleep_ns > time.vmm_ns {
        problems.push(format!("a VMM that computes: {time:?}"));
    }
    Ok(problems)
}

/// On one CPU with a busy neighbour: it waits, and the neighbour is named.
fn starved(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "starved")?;
    let (seen, made) = first(&report, &guest)?;
    let measured = made.measured;
    let waiting = measured.waiting_ns.context("no schedstat")?;
    compare(&mut problems, "waiting", seen.time.waiting_ns, waiting);
    let by: u64 = seen.culprits.iter().filter(|c| c.comm == "neighbour").map(|c| c.total_ns).sum();
    if by < waiting * 8 / 10 || by > waiting * 105 / 100 {
        problems.push(format!("{by} ns by the neighbour of {waiting} ns: {:?}", seen.culprits));
    }
    if !report.findings.iter().any(|finding| finding.text.contains("neighbour")) {
        problems.push(format!("the neighbour is in no finding: {:?}", report.findings));
    }
    Ok(problems)
}

/// The VMM's other threads.
fn io(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "io")?;
    let measured = guest.beside.other_threads_ns;
    let vm = report.vms.first().context("no VM")?;
    let other = vm.other_threads.as_ref().context("no other threads")?;
    // The VMM's main thread is among them too.
    if other.cpu_ns < measured * 95 / 100 {
        problems.push(format!("{} ns of other threads instead of {measured} ns", other.cpu_ns));
    }
    Ok(problems)
}

/// Twenty exits of 5 ms among two hundred fast ones, over 2 ms.
fn slow(rig: &Rig) -> Result<Problems> {
    let (report, _, mut problems) = sound(rig, "slow")?;
    let io = report.outliers.iter().filter(|slow| slow.reason == rig.io_exit());
    let all = io.clone().count() as u64;
    // The last OUT has no entry after it where the guest ends in it.
    if !(19..=20).contains(&all) || report.outliers_left_out != 0 {
        let left = report.outliers_left_out;
        problems.push(format!("{all} slow exits of 20, {left} left out: {:?}", report.outliers));
    }
    if io.clone().any(|slow| slow.vmm_ns < 5_000_000 || slow.handling_ns > slow.vmm_ns) {
        problems.push(format!("their time was in the VMM: {:?}", report.outliers));
    }
    Ok(problems)
}

fn stuck(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "stuck")?;
    let (seen, _) = first(&report, &guest)?;
    let vmm = seen.time.vmm_ns + seen.time.vmm_asleep_ns;
    if vmm < 2_900_000_000 {
        problems.push(format!("{vmm} ns in the VMM, which sat in one exit for 3 s"));
    }
    Ok(problems)
}

/// The keys and times of the cases that all kernels have.
pub fn all_kinds(rig: &Rig) -> Result<Problems> {
    let (report, guest, _) = rig.exact("all")?;
    let mut problems = situation::keys_equal(&report, &guest);
    problems.extend(situation::time_is_accounted_for(&report));
    if check::vcpus(&report).any(|(_, vcpu)| vcpu.keys.iter().all(|key| key.class != "rip")) {
        problems.push("a vCPU without guest instruction pointers".to_owned());
    }
    Ok(problems)
}
