//! More of everything than is told of one by one (`tests/rigs/memory.sh`): what is refused is said by kind, and what is
//! counted stays exact.

use anyhow::{Result, ensure};
use kvmscope_tests::check::{self, Problems};
use kvmscope_tests::format::{Guest, Report};
use kvmscope_tests::rig::Output;
use kvmscope_tests::{sections, situation};

type Case = (&'static str, fn(&Output) -> Result<Problems>);

pub const CASES: [Case; 2] = [("many", many), ("flood", flood)];

/// A case's report and guests: every count equal, and single events that are not listed said by kind.
fn exact(output: &Output, case: &str, guests: &[&str]) -> Result<(Report, Vec<Guest>, Problems)> {
    let status = output.text(&format!("{case}.status"))?;
    let log = output.text(&format!("{case}.log"))?;
    ensure!(status.trim() == "0", "ended with status {}: {log}", status.trim());
    let report: Report = output.json(&format!("{case}.report.json"))?;
    let mut problems = check::sound(&report);
    let mut all = Vec::new();
    for name in guests {
        let guest: Guest = output.json(&format!("{name}.guest.json"))?;
        problems.extend(check::counts_equal(&report, &guest));
        all.push(guest);
    }
    let vms = all.iter().flat_map(|guest| guest.vms.clone()).collect();
    let together = Guest { vms, ..all[0].clone() };
    problems.extend(sections::vcpus_equal(&report, &together));
    problems.extend(sections::events_add_up(&report));
    for family in ["mmu", "mmio", "hypercall", "dirty", "roots", "ioctl"] {
        if !report.is_on(family) {
            problems.push(format!("family {family} is off"));
        }
    }
    Ok((report, all, problems))
}

/// One VM of 300 vCPUs, with every family on.
fn many(output: &Output) -> Result<Problems> {
    let (report, guests, mut problems) = exact(output, "many", &["many"])?;
    problems.extend(sections::ioctls_equal(&report, &guests[0]));
    let vcpus = guests[0].vms[0].vcpus.len();
    ensure!(vcpus == 300, "the guest had {vcpus} vCPUs");
    Ok(problems)
}

/// Page faults as fast as four vCPUs can make them, beside a guest that makes something of everything.
fn flood(output: &Output) -> Result<Problems> {
    let (report, guests, mut problems) = exact(output, "flood", &["flood", "beside"])?;
    for guest in &guests {
        problems.extend(sections::ioctls_equal(&report, guest));
    }
    for (seen, made) in situation::pairs(&report, &guests[1]) {
        let dirty = seen.memory.dirty.as_ref().map_or(0, |dirty| dirty.count);
        if dirty != made.dirty_log.pages || dirty == 0 {
            problems
                .push(format!("{dirty} pages became dirty, {} in the log", made.dirty_log.pages));
        }
    }
    let (listed, left_out) = report.events_of("fault");
    if left_out < listed.len() as u64 {
        problems.push(format!("{left_out} page faults left out is no flood"));
    }
    Ok(problems)
}
