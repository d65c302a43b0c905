//! Halt polling, wake-ups and time on CPUs of a VM's vCPUs, in few lines.

use super::{indented, line};
use crate::export::Content;
use crate::export::scheduling::{OnCpu, WAKEUPS, on_cpus};
use crate::model::meters::MeterKind;
use crate::model::stats::Sum;
use crate::model::tick::Phase;
use crate::model::totals::{VcpuTotals, VmTotals};
use crate::state::save::table;
use crate::state::value::{Value, count, duration, rate, share};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Physical CPUs that have a column; what was on others is in one more.
const CPUS: usize = 8;

/// All of it.
pub fn scheduling(out: &mut String, content: &Content<'_>, vm: &VmTotals) {
    let vcpus: Vec<&VcpuTotals> = vm.vcpus.values().collect();
    halt_poll(out, content, &vcpus);
    wakeups(out, content, &vcpus);
    load(out, content, &vcpus);
    map(out, &vcpus);
}

fn print(out: &mut String, lines: Vec<Vec<String>>, heads: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let numeric: Vec<bool> = (0..heads.len()).map(|at| at > 0).collect();
    let lines: Vec<_> = std::iter::once(heads).chain(lines).collect();
    out.push('\n');
    indented(out, &table(&lines, &numeric));
}

fn heads(heads: &[&str]) -> Vec<String> {
    heads.iter().map(|head| (*head).to_owned()).collect()
}

fn called(vcpu: &VcpuTotals) -> String {
    format!("vCPU {}", vcpu.info.key.vcpu)
}

/// How much of each second.
fn of_second(ns: u64, over_ns: u64) -> String {
    match over_ns {
        0 => "-".to_owned(),
        over => duration((ns as f64 * 1e9 / over as f64) as u64),
    }
}

/// The window of halt polling, where it is known: how often vCPUs woke up stands with each of them anyway.
fn halt_poll(out: &mut String, content: &Content<'_>, vcpus: &[&VcpuTotals]) {
    let mut lines = Vec::new();
    for vcpu in vcpus {
        let Some(window) = vcpu.meters.window else { continue };
        let (polled, slept) = (vcpu.halts.polled, vcpu.halts.waited);
        let all = polled.saturating_add(slept);
        let succeeded = match all {
            0 => "-".to_owned(),
            all => share(polled as f64 / all as f64),
        };
        lines.push(vec![
            called(vcpu),
            duration(window.now_ns),
            count(window.grew),
            count(window.shrank),
            count(polled),
            count(slept),
            succeeded,
            of_second(vcpu.time.get(Phase::Polling), content.duration_ns),
        ]);
    }
    print(
        out,
        lines,
        heads(&[
            "halt polling",
            "window",
            "grew",
            "shrank",
            "polled",
            "slept",
            "success",
            "cost/s",
        ]),
    );
}

fn wakeup(kind: MeterKind) -> &'static str {
    match kind {
        MeterKind::Polled => "polled",
        MeterKind::PolledIdle => "polled, for nothing",
        MeterKind::Slept => "slept",
        MeterKind::SleptIdle => "slept, for nothing",
        MeterKind::Loaded | MeterKind::Late => "-",
    }
}

fn wakeups(out: &mut String, content: &Content<'_>, vcpus: &[&VcpuTotals]) {
    let mut lines = Vec::new();
    for vcpu in vcpus {
        for kind in WAKEUPS {
            let Some(sum) = vcpu.meters.of(kind) else { continue };
            let stats = sum.stats();
            let per_second = match content.duration_ns {
                0 => "-".to_owned(),
                over => rate(stats.count as f64 * 1e9 / over as f64),
            };
            let mut cells = vec![
                format!("{} {}", called(vcpu), wakeup(kind)),
                count(stats.count),
                per_second,
                duration(stats.total_ns),
            ];
            let latency = stats.latency;
            cells.extend(
                [
                    latency.map(|of| of.mean_ns),
                    latency.map(|of| of.p50_ns),
                    latency.map(|of| of.p99_ns),
                    latency.map(|of| of.max_ns),
                ]
                .map(|ns| Value::ns(ns).to_string()),
            );
            lines.push(cells);
        }
    }
    print(
        out,
        lines,
        heads(&["wake-ups", "count", "rate/s", "halted", "mean", "p50", "p99", "max"]),
    );
}

/// How long each vCPU was loaded on CPUs. An interval that is open at the end is in the total and the maximum.
fn load(out: &mut String, content: &Content<'_>, vcpus: &[&VcpuTotals]) {
    let mut lines = Vec::new();
    for vcpu in vcpus {
        let loaded = vcpu.meters.of(MeterKind::Loaded);
        let open_ns = vcpu.meters.loaded_open_ns;
        if loaded.is_none() && open_ns == 0 {
            continue;
        }
        let stats = loaded.map(Sum::stats).unwrap_or_default();
        let latency = stats.latency;
        let wall_ns = match vcpu.time.sum() {
            0 => content.duration_ns,
            ns => ns,
        };
        let total_ns = stats.total_ns.saturating_add(open_ns);
        let of_wall = match wall_ns {
            0 => "-".to_owned(),
            wall => share(total_ns as f64 / wall as f64),
        };
        let longest = latency.map_or(open_ns, |of| of.max_ns.max(open_ns));
        lines.push(vec![
            called(vcpu),
            duration(total_ns),
            of_wall,
            count(stats.count),
            Value::ns(latency.map(|of| of.mean_ns)).to_string(),
            Value::ns(latency.map(|of| of.min_ns)).to_string(),
            duration(longest),
            count(vcpu.meters.migrations),
            count(vcpu.meters.crossings),
            Value::ns((open_ns > 0).then_some(open_ns)).to_string(),
        ]);
    }
    print(
        out,
        lines,
        heads(&[
            "loaded on CPUs",
            "total",
            "of wall",
            "times",
            "mean",
            "min",
            "max",
            "migrations",
            "crossings",
            "open",
        ]),
    );
}

/// The map vCPU × CPU.
fn map(out: &mut String, vcpus: &[&VcpuTotals]) {
    let all: Vec<_> = vcpus.iter().map(|vcpu| (*vcpu, on_cpus(vcpu))).collect();
    let all: Vec<_> =
        all.into_iter().filter(|(_, on)| !on.cpus.is_empty() || on.other.0 > 0).collect();
    let mut by_cpu: BTreeMap<u64, u64> = BTreeMap::new();
    for on in all.iter().flat_map(|(_, on)| &on.cpus) {
        let sum = by_cpu.entry(on.cpu).or_default();
        *sum = sum.saturating_add(on.loaded_ns());
    }
    let mut busiest: Vec<(u64, u64)> = by_cpu.into_iter().collect();
    busiest.sort_by_key(|&(cpu, ns)| (Reverse(ns), cpu));
    let has_more = busiest.len() > CPUS || all.iter().any(|(_, on)| on.other.0 > 0);
    let mut shown: Vec<u64> = busiest.iter().take(CPUS).map(|(cpu, _)| *cpu).collect();
    shown.sort_unstable();
    let mut columns = vec!["time on".to_owned()];
    columns.extend(shown.iter().map(|cpu| format!("CPU {cpu}")));
    columns.extend(has_more.then(|| "others".to_owned()));
    let mut lines = Vec::new();
    for (vcpu, on) in &all {
        let mut cells = vec![called(vcpu)];
        let time = |cpu: &u64| on.cpus.iter().find(|on| on.cpu == *cpu).map(OnCpu::loaded_ns);
        cells.extend(shown.iter().map(|cpu| Value::ns(time(cpu)).to_string()));
        if has_more {
            let others = on.cpus.iter().filter(|on| !shown.contains(&on.cpu));
            let ns = others.map(OnCpu::loaded_ns).fold(on.other.1, u64::saturating_add);
            cells.push(Value::ns((ns > 0).then_some(ns)).to_string());
        }
        lines.push(cells);
    }
    print(out, lines, columns);
    if busiest.len() > CPUS {
        line!(out, "  Of {} CPUs those with most time are shown.", busiest.len());
    }
}
