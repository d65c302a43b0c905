//! The report as text: a table for each vCPU, after what would make its numbers wrong.

use crate::model::ids::Kind;
use crate::model::session::{Origin, Session};
use crate::model::stats::Stats;
use crate::model::tick::PhaseTimes;
use crate::model::totals::{Totals, VcpuTotals, VmTotals};
use crate::state::rows::Split;
use crate::state::save::{clean, table};
use crate::state::value::{Value, duration, rate, share};
use std::fmt::Write;

/// Everything that was measured in `duration_ns`.
pub fn report(session: &Session, totals: &Totals, duration_ns: u64) -> String {
    let mut out = String::new();
    head(&mut out, session, totals, duration_ns);
    if totals.vms.is_empty() {
        out.push_str("\nNo VM ran.\n");
    }
    for vm in totals.vms.values() {
        of_vm(&mut out, session, totals, vm, duration_ns);
    }
    out
}

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}

fn head(out: &mut String, session: &Session, totals: &Totals, duration_ns: u64) {
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
    for probe in session.probes.iter().filter(|probe| !probe.attached && !probe.is_off()) {
        let why = probe.why.as_deref().unwrap_or("No reason is known.");
        line!(out, "Not attached: {}. {}", clean(&probe.name), clean(why));
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

fn of_vm(out: &mut String, session: &Session, totals: &Totals, vm: &VmTotals, duration_ns: u64) {
    let info = &vm.info;
    let nth =
        if info.nth > 0 { format!("  its VM number {}", info.nth + 1) } else { String::new() };
    let ended = match vm.ended_ns {
        Some(ns) => {
            format!("  ended {} after the start", duration(ns.saturating_sub(session.started_ns)))
        }
        None => String::new(),
    };
    line!(out, "\nVM {}  {}  pid {}{nth}{ended}", clean(&info.name), clean(&info.vmm), info.pid);
    for vcpu in vm.vcpus.values() {
        of_vcpu(out, session, totals, vcpu, info.pid, duration_ns);
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

fn of_vcpu(
    out: &mut String,
    session: &Session,
    totals: &Totals,
    vcpu: &VcpuTotals,
    pid: u32,
    duration_ns: u64,
) {
    let guessed = if vcpu.info.guessed { " (number guessed)" } else { "" };
    let time = time_words(vcpu.time);
    line!(out, "\n  vCPU {}{guessed}  tid {}{time}", vcpu.info.key.vcpu, vcpu.info.tid);
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
    let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
    for (reason, stats) in rows {
        let kind = match (reason.is_idle(), reason.kind) {
            (true, _) => "idle",
            (false, Kind::Exit) => "kernel",
            (false, Kind::Userspace) => "VMM",
        };
        let mut cells = vec![
            pid.to_string(),
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
    for line in table(&lines, &NUMERIC).lines() {
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

/// `  guest 61%  KVM 3.0%  halted 36%`
fn time_words(time: PhaseTimes) -> String {
    let split = Split(time);
    split.parts().map(|(part, n)| format!("  {} {}", part.label(), share(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;

    #[test]
    fn the_report_reads_well() {
        let (session, totals) = sample();
        insta::assert_snapshot!(report(&session, &totals, 3_000_000_000));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let text = report(&Session::default(), &Totals::default(), 0);
        assert!(text.contains("No VM ran."));
        assert!(text.contains("Nothing was lost."));
    }

    #[test]
    fn names_cannot_reach_the_terminal() {
        let (session, totals) = sample();
        let text = report(&session, &totals, 3_000_000_000);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
