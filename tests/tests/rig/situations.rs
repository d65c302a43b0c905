//! Where time goes and what exits are about, in situations that the guest makes on purpose
//! (`tests/rigs/situations.sh`): counts by equality, times within 5% (or 30 ms) of what the guest measured.

use anyhow::{Context, Result, ensure};
use kvmscope_tests::check::{self, Problems};
use kvmscope_tests::format::{Guest, Report, Vcpu};
use kvmscope_tests::rig::Vendor;
use kvmscope_tests::sections;
use kvmscope_tests::situation::{self, compare, first};

use crate::{Case, Rig, recorded};

pub const CASES: [Case; 15] = [
    ("spread", spread),
    ("page", page),
    ("dirty", dirty),
    ("halt", halt),
    ("poll", poll),
    ("spin", spin),
    ("asleep", asleep),
    ("busy", busy),
    ("starved", starved),
    ("io", io),
    ("slow", slow),
    ("stuck", stuck),
    ("memory", memory),
    ("calls", calls),
    ("recorded", recorded::recorded),
];

/// A case's report and guest: counts and keys equal, time accounted for.
fn sound(rig: &Rig, case: &str) -> Result<(Report, Guest, Problems)> {
    let (report, guest, mut problems) = rig.exact(case)?;
    problems.extend(situation::time_is_accounted_for(&report, situation::UNACCOUNTED));
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

/// Dirty pages are the guest's, by slot and page; each load of a root has a stack.
fn dirty(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = rig.exact("dirty")?;
    problems.extend(situation::keys_equal(&report, &guest));
    let functions =
        report.probes.iter().filter(|probe| ["dirty", "roots"].contains(&&*probe.family));
    for probe in functions.filter(|probe| !probe.attached) {
        problems.push(format!("{} is not attached: {:?}", probe.name, probe.why));
    }
    let (seen, made) = first(&report, &guest)?;
    let counted = |class: &str, value: Option<u64>| -> u64 {
        let of_class = seen.keys.iter().filter(|key| key.class == class);
        of_class.filter(|key| value.is_none() || key.value == value).map(|key| key.count).sum()
    };
    // Pages that were clean before: 1 of docs/json.md's counters.
    let (pages, logged) = (counted("dirty_log", Some(1)), made.dirty_log.pages);
    ensure!(logged > 0, "the guest's log has no pages");
    if pages != logged {
        problems.push(format!("{pages} pages became dirty, {logged} are in KVM's log"));
    }
    let told = seen.memory.dirty.as_ref().context("no section of dirty pages")?;
    let marks = counted("dirty_log", Some(0));
    if (told.count, told.marked, told.logs) != (logged, marks, Some(true)) {
        problems.push(format!("{told:?} instead of {logged} pages, {marks} marks"));
    }
    let loads = seen.memory.loads.iter().flatten();
    if loads.clone().map(|load| load.count).sum::<u64>() != counted("vcpu_load", None).max(1) {
        problems.push(format!("vCPU loads: {:?}", loads.collect::<Vec<_>>()));
    }
    let roots = counted("root", None);
    if roots < made.expect.roots_at_least.max(1) {
        problems.push(format!("{roots} roots instead of {} and more", made.expect.roots_at_least));
    }
    let calls: u64 = report.stacks.iter().map(|stack| stack.count).sum();
    if calls != roots {
        problems.push(format!("{calls} calls of load_mmu_pgd for {roots} loads of roots"));
    }
    for stack in &report.stacks {
        let top = stack.frames.first().and_then(|frame| frame.symbol.as_deref());
        let bottom = stack.frames.iter().filter_map(|frame| frame.symbol.as_deref());
        let named = top.is_some_and(|top| top.contains("load_mmu_pgd"))
            && bottom.clone().any(|symbol| symbol.starts_with("kvm_vcpu_ioctl+"));
        if stack.function != "load_mmu_pgd" || !named {
            problems.push(format!("{stack:?}"));
        }
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
    // In one of them the emulator may have stood still.
    let in_kvm = io.clone().filter(|slow| slow.handling_ns > slow.vmm_ns).count();
    if io.clone().any(|slow| slow.vmm_ns < 5_000_000) || in_kvm > 1 {
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
    problems.extend(situation::time_is_accounted_for(&report, situation::UNACCOUNTED));
    if check::vcpus(&report).any(|(_, vcpu)| vcpu.keys.iter().all(|key| key.class != "rip")) {
        problems.push("a vCPU without guest instruction pointers".to_owned());
    }
    Ok(problems)
}

/// Page faults by kind and MMIO by address, doorbells too, in the sections of the report as in its keys; and
/// single events of them.
fn memory(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "memory")?;
    problems.extend(situation::keys_equal(&report, &guest));
    problems.extend(sections::vcpus_equal(&report, &guest));
    problems.extend(sections::ioctls_equal(&report, &guest));
    problems.extend(sections::events_add_up(&report));
    let vm = report.vms.first().context("no VM")?;
    let mmio = vm.memory.mmio.as_ref().context("mmio is off")?;
    let to_vmm = |access: &str| mmio.iter().find(|mmio| mmio.access == access)?.to_vmm;
    if to_vmm("read") != Some(true) || !mmio.iter().any(|mmio| mmio.to_vmm == Some(false)) {
        problems.push(format!("who answered: {mmio:?}"));
    }
    Ok(problems)
}

/// Hypercalls by number, unknown ones flagged, ioctls by name, memory slots as they are set.
fn calls(rig: &Rig) -> Result<Problems> {
    let (report, guest, mut problems) = sound(rig, "calls")?;
    problems.extend(sections::vcpus_equal(&report, &guest));
    problems.extend(sections::ioctls_equal(&report, &guest));
    problems.extend(sections::events_add_up(&report));
    let vm = report.vms.first().context("no VM")?;
    let hypercalls = vm.calls.hypercalls.as_ref().context("hypercall is off")?;
    for call in hypercalls {
        if call.unknown != call.name.is_none() {
            problems.push(format!("unknown or not: {call:?}"));
        }
    }
    if hypercalls.iter().filter(|call| call.unknown).map(|call| call.count).sum::<u64>() != 7 {
        problems.push(format!("7 unknown hypercalls: {hypercalls:?}"));
    }
    let set = vm.calls.ioctls_of("KVM_SET_USER_MEMORY_REGION").context("ioctl is off")?;
    let (slots, left_out) = report.events_of("memslot");
    if slots.len() as u64 + left_out != set.0 || slots.is_empty() {
        problems.push(format!("{} memory slots and {left_out} more of {set:?}", slots.len()));
    }
    Ok(problems)
}
