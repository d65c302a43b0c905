//! A recording that was made in the rig and is read here, where nothing of it was: its report is the guest's own
//! account, by equality, and so is everything that is made of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use kvmscope_tests::check::{self, Problems};
use kvmscope_tests::format::Report;
use kvmscope_tests::{sections, situation};
use serde_json::Value;

use crate::Rig;

/// What a vCPU's exits come to: VM, vCPU, what it is ("exits NPF", "keys port_out 1016").
type Sums = BTreeMap<(u64, u64, String), u64>;

/// Ranges that leave nothing out.
const ALL_OF_IT: [&str; 4] = ["..", "+0..", "0%..100%", "..-0s"];

/// Everything about the recording that `tests/rigs/situations.sh` makes.
pub fn recorded(rig: &Rig) -> Result<Problems> {
    let guest = rig.guest("recorded")?;
    let status = rig.output.text("recorded.status")?;
    let log = rig.output.text("recorded.log")?;
    ensure!(status.trim() == "0", "ended with status {}: {log}", status.trim());
    let whole = printed(rig, &["report", "--from", "FILE", "--format", "json"])?;
    let report: Report = serde_json::from_str(&whole).context("not as documented")?;

    let mut problems = rig.equal(&report, &guest);
    problems.extend(situation::keys_equal(&report, &guest));
    problems.extend(sections::vcpus_equal(&report, &guest));
    problems.extend(sections::ioctls_equal(&report, &guest));
    problems.extend(sections::events_add_up(&report));
    problems.extend(situation::time_is_accounted_for(&report, situation::UNACCOUNTED));
    if !guest.skipped.is_empty() {
        problems.push(format!("the guest left out {:?}", guest.skipped));
    }
    if check::vcpus(&report).any(|(vm, _)| vm.ended_unix_ns.is_none()) {
        problems.push("a VM ended, and the recording does not say so".to_owned());
    }

    let whole: Value = serde_json::from_str(&whole)?;
    for range in ALL_OF_IT {
        let args = ["report", "--from", "FILE", "--format", "json", "--range", range];
        if serde_json::from_str::<Value>(&printed(rig, &args)?)? != whole {
            problems.push(format!("--range {range} gives another report"));
        }
    }
    let piped = printed(rig, &["report", "--from", "-", "--format", "json"])?;
    if serde_json::from_str::<Value>(&piped)? != whole {
        problems.push("another report comes from a pipe".to_owned());
    }
    problems
        .extend(lines_add_up(&whole, &printed(rig, &["export", "FILE", "--format", "jsonl"])?)?);
    Ok(problems)
}

/// What the program of this machine prints about the rig's recording, which is FILE, or standard input.
fn printed(rig: &Rig, args: &[&str]) -> Result<String> {
    let file = rig.output.path("recorded.kvmscope");
    let mut command = Command::new(&rig.program);
    for arg in args {
        match *arg {
            "FILE" => command.arg(&file),
            arg => command.arg(arg),
        };
    }
    let input = File::open(&file).context("the rig left no recording")?;
    let output = command.stdin(Stdio::from(input)).output().context("cannot run it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{args:?} ended with {}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The exported lines add up to the report: exits by reason, and what they were about.
fn lines_add_up(report: &Value, lines: &str) -> Result<Problems> {
    let mut should = Sums::new();
    for vm in list(&report["vms"]) {
        let id = vm["id"].as_u64().context("a VM without a number")?;
        for vcpu in list(&vm["vcpus"]) {
            add(&mut should, id, vcpu)?;
        }
    }
    let mut is = Sums::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line)?;
        for vcpu in list(&line["vcpus"]) {
            add(&mut is, vcpu["vm"].as_u64().context("a vCPU without a VM")?, vcpu)?;
        }
    }
    ensure!(should.len() > 40, "a report with nothing in it: {should:?}");
    let differs = should.iter().filter(|&(what, count)| is.get(what) != Some(count));
    let differs = differs.map(|(what, count)| format!("{what:?}: {count} in the report only"));
    let more = is.iter().filter(|&(what, count)| should.get(what) != Some(count));
    Ok(differs.chain(more.map(|(what, n)| format!("{what:?}: {n} in the lines only"))).collect())
}

fn add(sums: &mut Sums, vm: u64, vcpu: &Value) -> Result<()> {
    let number = vcpu["vcpu"].as_u64().context("a vCPU without a number")?;
    for field in ["exits", "userspace_exits", "keys"] {
        for row in list(&vcpu[field]) {
            let what = format!("{field} {} {} {}", row["reason"], row["class"], row["value"]);
            let count = row["count"].as_u64().context("no count")?;
            if count > 0 {
                *sums.entry((vm, number, what)).or_default() += count;
            }
        }
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
