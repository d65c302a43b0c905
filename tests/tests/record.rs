//! Recordings by the whole program: what is recorded is reported as if it had been watched, whatever ends it.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kvmscope_tests::check;
use kvmscope_tests::command::{json, kvmscope, printed, said, text};
use kvmscope_tests::format::{Guest, Report};
use kvmscope_tests::program::debug;
use kvmscope_tests::skip::{skipped, why_not_live};
use serde_json::Value;

/// A small invented host, for tests that are not about what happens on it.
const SMALL: [&str; 2] = ["--plan", "2x2x4"];

/// A report.
fn reported(args: &[&str]) -> Result<Value> {
    json(&[&["report", "--format", "json"], args].concat())
}

/// Arguments of recording so many of its ticks.
fn small<'a>(ticks: &'a str, output: &'a str) -> [&'a str; 7] {
    ["record", SMALL[0], SMALL[1], "--synthetic", ticks, "-o", output]
}

/// A report of so many of its ticks, but for notices.
fn live(ticks: u64) -> Result<Value> {
    let mut report = reported(&[SMALL[0], SMALL[1], "--synthetic", &ticks.to_string()])?;
    report["notices"] = Value::Null;
    Ok(report)
}

#[test]
fn what_is_recorded_is_reported_as_if_it_had_been_watched() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    let output = kvmscope(&["record", "--synthetic", "65", "-o", text(&file)?])?;
    ensure!(output.status.success(), "{}", said(&output));
    ensure!(said(&output).contains("65 ticks, nothing lost"), "{}", said(&output));
    for format in ["text", "json"] {
        let watched = printed(&["report", "--synthetic", "65", "--format", format])?;
        let reported = printed(&["report", "--from", text(&file)?, "--format", format])?;
        assert_eq!(reported, watched, "{format}");
    }
    Ok(())
}

#[test]
fn lines_on_standard_input_are_marks_where_that_is_asked_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    let mut recording = Command::new(debug())
        .args(["record", "--synthetic", "3", "--marks", "-o", text(&file)?])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    recording.stdin.take().context("a pipe")?.write_all(b"backup begins\n\n")?;
    ensure!(recording.wait()?.success(), "recording failed");
    let report = reported(&["--from", text(&file)?])?;
    // The invented host has its own clock: they are of its first second.
    let expected = ["Marked at 22:13:21 UTC: backup begins", "Marked at 22:13:21 UTC."];
    assert_eq!(report["notices"], Value::from(expected.to_vec()));
    let status = kvmscope(&["record", "--marks", "-o", "-", "--", "true"])?.status;
    assert_eq!(status.code(), Some(2), "a command has the standard input");
    Ok(())
}

#[test]
fn a_pipe_is_as_good_as_a_file() -> Result<()> {
    let mut recording = Command::new(debug())
        .args(small("70", "-"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let pipe = recording.stdout.take().context("a pipe")?;
    let report = Command::new(debug())
        .args(["report", "--from", "-", "--format", "json"])
        .stdin(pipe)
        .output()?;
    ensure!(recording.wait()?.success(), "recording failed");
    let mut report: Value = serde_json::from_slice(&report.stdout)?;
    report["notices"] = Value::Null;
    assert_eq!(report, live(70)?);
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_failure() -> Result<()> {
    let mut recording = Command::new(debug())
        .args(small("100000", "-"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    drop(recording.stdout.take());
    ensure!(recording.wait()?.success(), "it failed");
    Ok(())
}

#[test]
fn ranges_are_parts_of_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    printed(&small("100", text(&file)?))?;
    let from = ["--from", text(&file)?];
    let exits = |range: &str| -> Result<(u64, u64)> {
        let report = reported(&[&from[..], &["--range", range]].concat())?;
        let cells = report["vms"].as_array().context("VMs")?.iter();
        let cells = cells.flat_map(|vm| vm["vcpus"].as_array().into_iter().flatten());
        let cells = cells.flat_map(|vcpu| vcpu["exits"].as_array().into_iter().flatten());
        let count = cells.filter_map(|cell| cell["count"].as_u64()).sum();
        Ok((report["duration_ns"].as_u64().context("a duration")?, count))
    };
    let (all, whole) = exits("..")?;
    let parts = [exits("..+30s")?, exits("+30s..75%")?, exits("-25s..")?];
    assert_eq!(parts.iter().map(|part| part.0).sum::<u64>(), all);
    assert_eq!(parts.iter().map(|part| part.1).sum::<u64>(), whole);
    assert_eq!(parts.map(|part| part.0 / 1_000_000_000), [30, 45, 25]);
    for wrong in ["+9..+5", "x..", "12:41:03"] {
        let output = kvmscope(&[&from[..], &["--range", wrong]].concat())?;
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", said(&output));
    }
    Ok(())
}

/// Waits until the file has so many bytes.
fn grown(file: &Path, bytes: u64) -> Result<()> {
    let begin = Instant::now();
    while !file.metadata().is_ok_and(|there| there.len() >= bytes) {
        ensure!(begin.elapsed() < Duration::from_secs(60), "it does not grow");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether what a file has until it ends is what watching for as long says; the notices of the report.
fn is_whole_until_its_end(file: &Path) -> Result<String> {
    let mut report = reported(&["--from", text(file)?])?;
    let notices = report["notices"].to_string();
    report["notices"] = Value::Null;
    let ticks = report["duration_ns"].as_u64().context("a duration")? / 1_000_000_000;
    ensure!(ticks > 0, "nothing is there: {notices}");
    assert_eq!(report, live(ticks)?);
    Ok(notices)
}

#[test]
fn killed_at_any_moment_it_has_everything_until_then() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (number, bytes) in [10_000, 50_000, 250_000].into_iter().enumerate() {
        let file = folder.path().join(number.to_string());
        let mut recording = Command::new(debug())
            .args(small("1000000", text(&file)?))
            .stderr(Stdio::null())
            .spawn()?;
        let result = grown(&file, bytes);
        recording.kill()?;
        recording.wait()?;
        result?;
        let notices = is_whole_until_its_end(&file)?;
        ensure!(notices.contains("The recording is not whole: it was not finished"), "{notices}");
    }
    Ok(())
}

#[test]
fn a_full_disk_ends_the_recording_with_a_sentence_and_the_file_can_be_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    // Blocks of 1024 bytes.
    let output = Command::new("bash")
        .args(["-c", "ulimit -f 200; exec \"$@\"", "bash"])
        .arg(debug())
        .args(small("1000000", text(&file)?))
        .output()?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = said(&output);
    ensure!(told.contains("stopped: the file is as large as files may be here"), "{told}");
    let length = file.metadata()?.len();
    ensure!((150_000..=200 * 1024).contains(&length), "{length}");
    is_whole_until_its_end(&file)?;
    Ok(())
}

#[test]
fn a_file_that_was_removed_ends_the_recording_with_a_sentence() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    let mut recording = Command::new(debug())
        .args(small("1000000", text(&file)?))
        .stderr(Stdio::piped())
        .spawn()?;
    let removed = grown(&file, 1).and_then(|()| Ok(std::fs::remove_file(&file)?));
    if removed.is_err() {
        recording.kill()?;
    }
    let output = recording.wait_with_output()?;
    removed?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    ensure!(said(&output).contains("recording stopped: "), "{}", said(&output));
    ensure!(said(&output).contains(" was removed"), "{}", said(&output));
    Ok(())
}

/// What a recording says of one process until now, its notices, and whether that is all that the guest in it did.
fn seen(file: &Path, guest: &Guest) -> Result<(Report, String, Vec<String>)> {
    let from = reported(&["--from", text(file)?])?;
    let notices = from["notices"].to_string();
    let mut report: Report = serde_json::from_value(from)?;
    report.vms.retain(|vm| vm.pid == guest.pid);
    let problems = check::counts_equal(&report, guest);
    Ok((report, notices, problems))
}

#[test]
fn killed_while_it_measures_it_has_all_that_a_guest_did() -> Result<()> {
    if let Some(why) = why_not_live() {
        skipped("killed_while_it_measures_it_has_all_that_a_guest_did", &why);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    let mut recording = Command::new(debug())
        .args(["record", "--interval", "0.1", "-o", text(&file)?])
        .stderr(Stdio::null())
        .spawn()?;
    let watched = || -> Result<Guest> {
        // Probes are attached before there is a file.
        grown(&file, 1)?;
        let guest = ["guest", "--vcpus", "2", "--all", "300", "--format", "json"];
        let guest: Guest = serde_json::from_str(&printed(&guest)?)?;
        let begin = Instant::now();
        loop {
            // It can be read while it is being written.
            let (_, notices, problems) = seen(&file, &guest)?;
            if problems.is_empty() {
                ensure!(notices.contains("it is still being written"), "{notices}");
                return Ok(guest);
            }
            ensure!(begin.elapsed() < Duration::from_secs(60), "{}", problems.join("\n"));
        }
    };
    let guest = watched();
    recording.kill()?;
    recording.wait()?;
    let (report, notices, problems) = seen(&file, &guest?)?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    ensure!(notices.contains("The recording is not whole: it was not finished"), "{notices}");
    assert_eq!(report.vms.len(), 1);
    Ok(())
}

#[test]
fn files_are_private_and_nothing_is_written_over_unasked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    let record = ["record", "--synthetic", "3", "-o", text(&file)?];
    let as_sudo = |args: &[&str]| {
        Command::new(debug()).args(args).env("SUDO_UID", "12345").env("SUDO_GID", "23456").output()
    };
    let output = as_sudo(&record)?;
    ensure!(output.status.success(), "{}", said(&output));
    let there = file.metadata()?;
    assert_eq!(there.permissions().mode() & 0o777, 0o600);
    if rustix::process::geteuid().is_root() {
        assert_eq!((there.uid(), there.gid()), (12345, 23456));
    }
    let before = std::fs::read(&file)?;
    let output = kvmscope(&record)?;
    assert_eq!(output.status.code(), Some(1));
    ensure!(said(&output).contains("--force"), "{}", said(&output));
    assert_eq!(std::fs::read(&file)?, before);
    let output = kvmscope(&[&record[..], &["--force"]].concat())?;
    ensure!(output.status.success(), "{}", said(&output));
    assert_ne!(std::fs::read(&file)?, before, "each recording has a name of its own");
    Ok(())
}

#[test]
fn large_recordings_are_several_files_that_stand_each_for_itself() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    let arguments = ["record", "--synthetic", "150", "--max-size", "1M", "-o", text(&file)?];
    let told = said(&kvmscope(&arguments)?);
    ensure!(told.contains("files, the last"), "{told}");
    let mut ns = 0;
    for number in 0.. {
        let part = match number {
            0 => file.clone(),
            number => folder.path().join(format!("r.{number}")),
        };
        let Ok(there) = part.metadata() else { break };
        ensure!(there.len() <= 1 << 20, "{}", there.len());
        let report = reported(&["--from", text(&part)?])?;
        ensure!(report["vms"][0]["name"].as_str().is_some_and(|name| !name.starts_with("VM ")));
        ns += report["duration_ns"].as_u64().context("a duration")?;
    }
    assert_eq!(ns, 150_000_000_000);
    Ok(())
}

/// CRC-32 as in zip files.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn what_another_version_wrote_is_refused_by_its_number() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    printed(&["record", "--synthetic", "3", "-o", text(&file)?])?;
    let mut bytes = std::fs::read(&file)?;
    bytes[8..10].copy_from_slice(&7u16.to_le_bytes());
    bytes[32..48].copy_from_slice(b"9.8.7\0\0\0\0\0\0\0\0\0\0\0");
    let crc = crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    std::fs::File::create(&file)?.write_all(&bytes)?;
    let output = kvmscope(&["report", "--from", text(&file)?])?;
    assert_eq!(output.status.code(), Some(1));
    let told = said(&output);
    ensure!(told.contains("version 7.0") && told.contains("kvmscope 9.8.7"), "{told}");
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("r");
    let name = text(&file)?;
    for (arguments, part) in [
        (&["record", "-o", "-", "--max-size", "1M", "--synthetic", "1"][..], "--max-size"),
        (&["record", "-o", name, "--vm", "web", "--synthetic", "1"], "--vm"),
        (&["record", "-o", name, "--max-size", "5"], "1M"),
        (&["record"], "--output"),
        (&["report", "--range", "..", "--duration", "1"], "--from"),
        (&["report", "--from", name, "--duration", "1"], "cannot be used with"),
    ] {
        let output = kvmscope(arguments)?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        ensure!(said(&output).contains(part), "{arguments:?}: {}", said(&output));
    }
    let output = kvmscope(&["report", "--from", name])?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    Ok(())
}
