//! Exports by the whole program: every format says what the report of the same recording says, and metrics are
//! there for whoever asks over HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kvmscope_tests::command::{kvmscope, printed, said, text};
use kvmscope_tests::program::{debug, workspace};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A recording of an invented host: VMs that come and go, slow exits, events.
fn recording(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("r");
    printed(&["record", "--synthetic", "60", "-o", text(&file)?])?;
    Ok(file)
}

type Exits = BTreeMap<(String, u64, String), u64>;

/// Kernel exits of a recording by VM, vCPU and reason, as its report has them.
fn reported(file: &Path) -> Result<Exits> {
    let report: Value =
        serde_json::from_str(&printed(&["report", "--from", text(file)?, "--format", "json"])?)?;
    let mut exits = Exits::new();
    for vm in report["vms"].as_array().context("VMs")? {
        for vcpu in vm["vcpus"].as_array().context("vCPUs")? {
            let key = (vm["name"].as_str().context("a name")?, vcpu["vcpu"].as_u64().context("n")?);
            add(&mut exits, key, &vcpu["exits"])?;
        }
    }
    ensure!(exits.len() > 100, "{} are few", exits.len());
    Ok(exits)
}

fn add(exits: &mut Exits, (vm, vcpu): (&str, u64), list: &Value) -> Result<()> {
    for exit in list.as_array().context("exits")? {
        let reason = exit["reason"].as_str().context("a reason")?.to_owned();
        let count = exit["count"].as_u64().context("a count")?;
        if count > 0 {
            *exits.entry((vm.to_owned(), vcpu, reason)).or_default() += count;
        }
    }
    Ok(())
}

#[test]
fn lines_are_as_the_schema_says_and_add_up_to_the_report() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = recording(folder.path())?;
    let schema: Value = serde_json::from_str(&printed(&["export", "--schema"])?)?;
    ensure!(jsonschema::meta::is_valid(&schema), "it is no JSON Schema");
    let validator = jsonschema::validator_for(&schema)?;
    let mut exits = Exits::new();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for line in printed(&["export", text(&file)?, "--format", "jsonl"])?.lines() {
        let line: Value = serde_json::from_str(line)?;
        if let Err(error) = validator.validate(&line) {
            anyhow::bail!("{error} at {} of {line}", error.instance_path());
        }
        *kinds.entry(line["type"].as_str().context("a kind")?.to_owned()).or_default() += 1;
        for vcpu in line["vcpus"].as_array().into_iter().flatten() {
            let name = vcpu["name"].as_str().context("a name")?;
            add(&mut exits, (name, vcpu["vcpu"].as_u64().context("n")?), &vcpu["exits"])?;
        }
    }
    assert_eq!((kinds["session"], kinds["tick"], kinds["end"]), (1, 60, 1));
    ensure!(kinds["event"] > 100 && kinds["slow_exit"] > 0, "{kinds:?}");
    assert_eq!(exits, reported(&file)?);
    // What is not as it says is found.
    for wrong in
        [r#"{"type":"tock"}"#, r#"{"type":"end","clean":1,"why":null}"#, r#"{"type":"end"}"#]
    {
        ensure!(!validator.is_valid(&serde_json::from_str(wrong)?), "{wrong}");
    }
    Ok(())
}

#[test]
fn the_table_adds_up_to_the_report() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = recording(folder.path())?;
    let out = folder.path().join("out.csv");
    printed(&["export", text(&file)?, "--format", "csv", "-o", text(&out)?])?;
    let table = std::fs::read_to_string(&out)?;
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().context("a head")?;
    let at = |name: &str| head.iter().position(|column| *column == name).context("a column");
    let (vm, vcpu, kind) = (at("vm")?, at("vcpu")?, at("kind")?);
    let (reason, count) = (at("reason")?, at("count")?);
    let mut exits = Exits::new();
    for row in lines.filter(|row| row[kind] == "exit" && row[count] != "0") {
        let key = (row[vm].to_owned(), row[vcpu].parse()?, row[reason].to_owned());
        *exits.entry(key).or_default() += row[count].parse::<u64>()?;
    }
    assert_eq!(exits, reported(&file)?);
    Ok(())
}

/// The value of each sample of kernel exits.
fn exits_of(metrics: &str) -> Result<Exits> {
    let mut exits = Exits::new();
    let samples = metrics.lines().filter_map(|line| line.strip_prefix("kvmscope_exits_total{"));
    for sample in samples {
        let (labels, value) = sample.rsplit_once("} ").context("a value")?;
        let label = |name: &str| {
            let begin = format!("{name}=\"");
            let mut all = labels.split(',');
            all.find_map(|label| label.strip_prefix(&begin)?.strip_suffix('"')).context("a label")
        };
        // One that was started again under its name has the process beside it.
        let vm = label("vm")?.split(" (pid").next().unwrap_or_default().to_owned();
        let key = (vm, label("vcpu")?.parse()?, label("reason")?.to_owned());
        *exits.entry(key).or_default() += value.parse::<u64>()?;
    }
    Ok(exits)
}

#[test]
fn metrics_and_a_trace_come_from_a_pipe_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = recording(folder.path())?;
    for format in ["openmetrics", "prometheus", "perfetto", "csv", "jsonl"] {
        let from_file = kvmscope(&["export", text(&file)?, "--format", format])?;
        ensure!(from_file.status.success(), "{format}: {}", said(&from_file));
        let from_pipe = Command::new(debug())
            .args(["export", "-", "--format", format])
            .stdin(std::fs::File::open(&file)?)
            .output()?;
        ensure!(from_pipe.status.success(), "{format}: {}", said(&from_pipe));
        ensure!(from_pipe.stdout == from_file.stdout, "{format} differs");
        match format {
            "openmetrics" | "prometheus" => {
                let metrics = String::from_utf8(from_file.stdout)?;
                assert_eq!(metrics.ends_with("# EOF\n"), format == "openmetrics");
                let mut exits = exits_of(&metrics)?;
                exits.retain(|_, count| *count > 0);
                assert_eq!(exits, reported(&file)?);
            }
            "perfetto" => ensure!(from_file.stdout.len() > 100_000, "a small trace"),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn a_range_has_its_own_ticks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = recording(folder.path())?;
    for (range, count) in [("+10s..+15s", 5), ("-4s..", 4), ("..5%", 3)] {
        let lines = printed(&["export", text(&file)?, "--format", "jsonl", "--range", range])?;
        let ticks = lines.lines().filter(|line| line.starts_with(r#"{"type":"tick""#));
        assert_eq!(ticks.count(), count, "{range}");
        // Who was there before is told of.
        ensure!(lines.contains(r#"{"type":"vm""#), "{range}: {lines}");
    }
    let wrong = kvmscope(&["export", text(&file)?, "--format", "csv", "--range", "+9..+3"])?;
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    Ok(())
}

/// The program while it serves, and what it says.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(more: &[&str]) -> Result<Self> {
        let mut child = Command::new(debug())
            .args(["export", "--synthetic", "1", "--interval", "0.1", "--listen", "127.0.0.1:0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stderr.take().context("a pipe")?).read_line(&mut line)?;
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.with_context(|| format!("no address: {line:?}"))?.to_owned();
        Ok(Self { child, address })
    }

    fn get(&self, accept: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn end(mut self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn metrics_are_served_until_a_signal_comes() -> Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let serving = Serving::start(&[])?;
        let mut before = 0;
        // Numbers grow while nobody does anything about it.
        for _ in 0..100 {
            let answer = serving.get("application/openmetrics-text; version=1.0.0")?;
            ensure!(
                answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("# EOF\n"),
                "{answer}"
            );
            let now = exits_of(&answer)?.values().sum();
            ensure!(now >= before, "{before} exits, then {now}");
            if before > 0 && now > before {
                break;
            }
            before = now;
            std::thread::sleep(Duration::from_millis(100));
        }
        ensure!(before > 0, "no exits");
        ensure!(
            serving.get("*/*")?.contains("# TYPE kvmscope_exits_total counter"),
            "older format"
        );
        serving.end(signal)?;
    }
    Ok(())
}

#[test]
fn a_busy_port_is_said_before_anything_is_attached() -> Result<()> {
    let serving = Serving::start(&[])?;
    let second = kvmscope(&["export", "--synthetic", "1", "--listen", &serving.address])?;
    assert_eq!(second.status.code(), Some(1));
    ensure!(said(&second).contains("is in use by another program"), "{}", said(&second));
    Ok(())
}

/// The unit is one that systemd understands, where there is systemd to ask.
#[test]
fn systemd_understands_the_unit() -> Result<()> {
    let unit = std::fs::read_to_string(workspace().join("assets/kvmscope-export.service"))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kvmscope-export.service");
    // It need not be installed here.
    std::fs::write(&file, unit.replace("/usr/local/bin/kvmscope", text(debug())?))?;
    let Ok(output) = Command::new("systemd-analyze").args(["verify", text(&file)?]).output() else {
        eprintln!("skipped: there is no systemd-analyze");
        return Ok(());
    };
    ensure!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    Ok(())
}
