//! The report as text: what would make its numbers wrong, what stands out, what each VM did with memory
//! and called, its interrupts and scheduling, a table for each vCPU with what its exits were about, the
//! slowest exits, single events.

mod about;
mod interrupts;
mod scheduling;
mod sections;
mod slow;
mod stacks;

use super::Content;
use crate::model::ids::{Kind, Reason};
use crate::model::session::{Origin, Session};
use crate::model::stats::Stats;
use crate::model::tick::PhaseTimes;
use crate::model::totals::{VcpuTotals, VmTotals};
use crate::state::rows::{Part, Split};
use crate::state::save::{clean, table};
use crate::state::value::{Value, duration, rate, share};

/// Everything that was measured.
pub fn report(content: &Content<'_>) -> String {
    let mut out = String::new();
    head(&mut out, content);
    slow::findings(&mut out, content);
    if content.totals.vms.is_empty() {
        out.push_str("\nNo VM ran.\n");
    }
    for vm in content.totals.vms.values() {
        of_vm(&mut out, content, vm);
    }
    interrupts::unknown(&mut out, content);
    slow::outliers(&mut out, content);
    sections::happened(&mut out, content);
    stacks::stacks(&mut out, content);
    out
}

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = std::fmt::Write::write_fmt($out, format_args!("{}\n", format_args!($($arg)*)));
    }};
}
use line;

fn head(out: &mut String, content: &Content<'_>) {
    let Content { session, totals, duration_ns, .. } = *content;
    let host = &session.host;
    line!(
        out,
        "host {}  kernel {}  backend {}  {} CPUs  measured for {}",
        clean(&host.name),
        clean(&host.kernel),
        clean(&host.backend),
        host.cpus,
        duration(duration_ns)
    );
    if let Origin::Synthetic { why, command } = &session.origin {
        line!(out, "These numbers are invented. {} For real ones: {}", clean(why), clean(command));
    }
    for notice in &session.notices {
        line!(out, "Note: {}", clean(notice));
    }
    for (why, names) in not_attached(session) {
        line!(out, "Not attached: {}: {}", clean(&names.join(", ")), clean(why));
    }
    let off = super::sections::families(session);
    let off: Vec<&str> = off.iter().filter(|family| family.is_off()).map(|f| f.name()).collect();
    if !off.is_empty() {
        line!(out, "Not asked for with --probes: {}.", clean(&off.join(", ")));
    }
    let causes = [
        (totals.lost.missed_runs, "probe runs that the kernel skipped"),
        (totals.lost.ring, "records that the ring had no room for"),
        (totals.lost.pool_full, "exits whose reason found no free cell"),
        (totals.lost.slots_full, "exits of threads that found no free slot"),
        (totals.lost_ticks, "ticks"),
    ];
    let lost: Vec<_> =
        causes.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if lost.is_empty() {
        line!(out, "Nothing was lost.");
    } else {
        line!(out, "Lost, and missing below: {}.", lost.join(", "));
    }
}

/// Probes that were asked for and are not attached, by the reason why.
fn not_attached(session: &Session) -> Vec<(&str, Vec<&str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for probe in session.probes.iter().filter(|probe| !probe.attached && !probe.is_off()) {
        let why = probe.why.as_deref().unwrap_or("no reason is known");
        match all.iter_mut().find(|(other, _)| *other == why) {
            Some((_, names)) if names.contains(&probe.name.as_str()) => {}
            Some((_, names)) => names.push(&probe.name),
            None => all.push((why, vec![&probe.name])),
        }
    }
    all
}

fn of_vm(out: &mut String, content: &Content<'_>, vm: &VmTotals) {
    let info = &vm.info;
    let nth =
        if info.nth > 0 { format!("  its VM number {}", info.nth + 1) } else { String::new() };
    let ended = match vm.ended_ns {
        Some(ns) => {
            format!(
                "  ended {} after the start",
                duration(ns.saturating_sub(content.session.started_ns))
            )
        }
        None => String::new(),
    };
    line!(out, "\nVM {}  {}  pid {}{nth}{ended}", clean(&info.name), clean(&info.vmm), info.pid);
    about::beside(out, vm);
    sections::memory(out, content, vm);
    sections::calls(out, content, vm);
    interrupts::interrupts(out, content, vm);
    scheduling::scheduling(out, content, vm);
    for vcpu in vm.vcpus.values() {
        of_vcpu(out, content, vm, vcpu);
    }
}

const HEADS: [&str; 17] = [
    "pid", "tid", "vCPU", "kind", "reason", "count", "rate/s", "total", "of wall", "mean", "min",
    "p50", "p99", "max", "off-CPU", "VMM", "open",
];
const NUMERIC: [bool; 17] = [
    true, true, true, false, false, true, true, true, true, true, true, true, true, true, true,
    true, true,
];

fn of_vcpu(out: &mut String, content: &Content<'_>, vm: &VmTotals, vcpu: &VcpuTotals) {
    let Content { session, totals, duration_ns, .. } = *content;
    let guessed = if vcpu.info.guessed { " (number guessed)" } else { "" };
    line!(out, "\n  vCPU {}{guessed}  tid {}", vcpu.info.key.vcpu, vcpu.info.tid);
    if vcpu.time.sum() > 0 {
        for (n, line) in time_lines(vcpu.time).iter().enumerate() {
            line!(out, "  {}   {line}", if n == 0 { "time" } else { "    " });
        }
    }
    about::halts(out, vcpu, duration_ns);
    let wall_ns = if vcpu.time.sum() > 0 { vcpu.time.sum() } else { duration_ns };
    let mut rows: Vec<_> = vcpu.cells.iter().map(|(&reason, sum)| (reason, sum.stats())).collect();
    if let Some(open) = vcpu.open.filter(|open| !vcpu.cells.contains_key(&open.reason)) {
        rows.push((open.reason, Stats::default()));
    }
    if rows.is_empty() {
        line!(out, "  No exits.");
        return;
    }
    rows.sort_by_key(|(reason, stats)| (std::cmp::Reverse(stats.total_ns), *reason));
    let order: Vec<Reason> = rows.iter().map(|(reason, _)| *reason).collect();
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    for (reason, stats) in rows {
        let kind = match (reason.is_idle(), reason.kind) {
            (true, _) => "idle",
            (false, Kind::Exit) => "kernel",
            (false, Kind::Userspace) => "VMM",
        };
        let mut cells = vec![
            vm.info.pid.to_string(),
            vcpu.info.tid.to_string(),
            vcpu.info.key.vcpu.to_string(),
            kind.to_owned(),
            clean(&session.names.name(reason)),
        ];
        let open_ns = vcpu.open_ns(reason, totals.end_ns);
        cells.extend(numbers(&stats, duration_ns, wall_ns));
        cells.push(Value::ns(open_ns).to_string());
        lines.push(cells);
    }
    indented(out, &table(&lines, &NUMERIC));
    about::keys(out, content, &vm.info.name, vcpu, &order);
    about::culprits(out, content, vcpu);
}

fn indented(out: &mut String, table: &str) {
    for line in table.lines() {
        line!(out, "  {line}");
    }
}

/// The columns from `count` to `VMM`.
fn numbers(stats: &Stats, duration_ns: u64, wall_ns: u64) -> Vec<String> {
    let per_second =
        if duration_ns == 0 { 0.0 } else { stats.count as f64 * 1e9 / duration_ns as f64 };
    let of_wall = if wall_ns == 0 { 0.0 } else { stats.total_ns as f64 / wall_ns as f64 };
    let latency = |get: fn(&crate::model::stats::Latency) -> u64| {
        Value::ns(stats.latency.as_ref().map(get)).to_string()
    };
    vec![
        stats.count.to_string(),
        rate(per_second),
        duration(stats.total_ns),
        share(of_wall),
        latency(|l| l.mean_ns),
        latency(|l| l.min_ns),
        latency(|l| l.p50_ns),
        latency(|l| l.p99_ns),
        latency(|l| l.max_ns),
        duration(stats.off_ns),
        duration(stats.vmm_ns),
    ]
}

/// `guest 61.0%  KVM 3.0%  halted 36.0%`: the parts that are there. What is shown adds up to 100.
fn time_lines(time: PhaseTimes) -> Vec<String> {
    let split = Split(time);
    let mut parts: Vec<(Part, u64, f64)> = split
        .parts()
        .map(|(part, share)| (part, (share * 1000.0) as u64, (share * 1000.0).fract()))
        .collect();
    // What rounding down left over goes to those that lost most by it.
    let left = 1000u64.saturating_sub(parts.iter().map(|(_, tenths, _)| tenths).sum());
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|&a, &b| parts[b].2.total_cmp(&parts[a].2));
    for at in order.into_iter().take(usize::try_from(left).unwrap_or(0)) {
        parts[at].1 += 1;
    }
    let words = parts.iter().map(|(part, tenths, _)| match tenths {
        0 => format!("{} <0.1%", part.label()),
        _ => format!("{} {}.{}%", part.label(), tenths / 10, tenths % 10),
    });
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + word.len() <= TIME_WIDTH => {
                line.push_str("  ");
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Room for the parts of time in a line of 100 columns.
const TIME_WIDTH: usize = 91;

#[cfg(test)]
mod tests;
