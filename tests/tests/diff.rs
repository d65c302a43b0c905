//! Comparisons by the whole program: each side says what the report of the same part says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kvmscope_tests::command::{json, kvmscope, printed, text};
use serde_json::Value;

/// A recording of 40 s of equal VMs: so many, with so many vCPUs and reasons each.
fn recording(folder: &Path, plan: &str) -> Result<PathBuf> {
    let file = folder.join(plan);
    printed(&["record", "--plan", plan, "--synthetic", "40", "-o", text(&file)?])?;
    Ok(file)
}

type Exits = BTreeMap<(String, String), u64>;

/// Kernel exits by VM and reason, as a report of a part has them.
fn reported(file: &Path, range: &str) -> Result<Exits> {
    let args = ["report", "--from", text(file)?, "--range", range, "--format", "json"];
    let mut exits = Exits::new();
    for vm in json(&args)?["vms"].as_array().context("VMs")? {
        let name = vm["name"].as_str().context("a name")?;
        for exit in vm["vcpus"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|vcpu| vcpu["exits"].as_array().into_iter().flatten())
        {
            let reason = exit["reason"].as_str().context("a reason")?;
            let count = exit["count"].as_u64().context("a count")?;
            *exits.entry((name.to_owned(), reason.to_owned())).or_default() += count;
        }
    }
    exits.retain(|_, count| *count > 0);
    ensure!(!exits.is_empty(), "no exits in {range}");
    Ok(exits)
}

/// The same of one side of a comparison.
fn side(diff: &Value, side: &str) -> Result<Exits> {
    let mut exits = Exits::new();
    for vm in diff["vms"].as_array().context("VMs")? {
        let name = vm["name"].as_str().context("a name")?;
        for reason in vm["reasons"].as_array().context("reasons")? {
            let key = (name.to_owned(), reason["reason"].as_str().context("a reason")?.to_owned());
            let count = reason[side]["count"].as_u64().unwrap_or(0);
            if reason["kind"] == "exit" && count > 0 {
                exits.insert(key, count);
            }
        }
    }
    Ok(exits)
}

#[test]
fn each_side_is_what_its_report_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (few, more) = (recording(folder.path(), "2x2x4")?, recording(folder.path(), "3x2x5")?);
    let diff = json(&["diff", text(&few)?, text(&more)?, "--json"])?;
    assert_eq!(side(&diff, "before")?, reported(&few, "..")?);
    assert_eq!(side(&diff, "after")?, reported(&more, "..")?);
    let seen: BTreeMap<&str, &str> = diff["vms"]
        .as_array()
        .context("VMs")?
        .iter()
        .filter_map(|vm| Some((vm["name"].as_str()?, vm["seen"].as_str()?)))
        .collect();
    assert_eq!(seen, [("vm-1", "both"), ("vm-2", "both"), ("vm-3", "after")].into());
    // The other way round what was new has vanished.
    let back = json(&["diff", text(&more)?, text(&few)?, "--json"])?;
    assert_eq!(side(&back, "after")?, side(&diff, "before")?);
    Ok(())
}

#[test]
fn two_parts_of_one_recording_are_compared() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = recording(folder.path(), "2x2x4")?;
    let ranges = ["..+25s", "-15s.."];
    let args = ["diff", text(&file)?, "--range", ranges[0], "--range", ranges[1], "--json"];
    let diff = json(&args)?;
    assert_eq!(side(&diff, "before")?, reported(&file, ranges[0])?);
    assert_eq!(side(&diff, "after")?, reported(&file, ranges[1])?);
    let measured = |side: &str| diff[side]["measured_ns"].as_u64();
    assert_eq!(
        (measured("before"), measured("after")),
        (Some(25_000_000_000), Some(15_000_000_000))
    );
    Ok(())
}

#[test]
fn without_a_terminal_it_is_text_and_what_is_no_recording_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = recording(folder.path(), "1x1x2")?;
    let printed = printed(&["diff", text(&file)?, text(&file)?])?;
    ensure!(printed.starts_with("before  ") && printed.contains("\nafter   "), "{printed}");
    let foreign = folder.path().join("foreign");
    std::fs::write(&foreign, "not a recording")?;
    for args in [vec![text(&file)?, text(&foreign)?], vec![text(&file)?]] {
        let output = kvmscope(&[&["diff"], &args[..]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("kvmscope: "), "{args:?}: {said}");
    }
    Ok(())
}
