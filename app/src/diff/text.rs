//! The comparison as text, in 80 columns: what is not alike, what changed most, then each VM with its vCPUs and
//! their reasons.

use super::words::{part, per_second, percent, points, signed_ns, time, times};
use super::{About, Both, Diff, Entity, ReasonDiff, VmDiff, Where};
use crate::model::ids::Kind;
use crate::state::save::clean;
use crate::state::value::{self, duration, rate};
use crate::ui::format::{reason_short, truncate, wrap};
use unicode_width::UnicodeWidthStr;

/// Columns of a line.
const WIDTH: usize = 80;
/// Reasons in the list of what changed most.
const MOST: usize = 10;
/// In place of a number that does not exist.
const NONE: &str = "-";

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = std::fmt::Write::write_fmt($out, format_args!("{}\n", format_args!($($arg)*)));
    }};
}

/// Everything that was compared.
pub fn report(diff: &Diff) -> String {
    let mut out = String::new();
    side(&mut out, "before", &diff.about.before);
    side(&mut out, "after", &diff.about.after);
    if !diff.warnings.is_empty() {
        line!(&mut out, "\nNot measured alike:");
        for warning in &diff.warnings {
            for (n, text) in wrap(&clean(&warning.text), WIDTH - 4, '…').iter().enumerate() {
                line!(&mut out, "  {} {text}", if n == 0 { '-' } else { ' ' });
            }
        }
    }
    most(&mut out, diff);
    if diff.vms.is_empty() {
        line!(&mut out, "\nNo VM ran on either side.");
    }
    for vm in &diff.vms {
        of_vm(&mut out, vm);
    }
    out
}

fn side(out: &mut String, word: &str, about: &About) {
    let gaps = match about.gaps {
        0 => String::new(),
        1 => format!(", a gap of {} left out", duration(about.gaps_ns)),
        n => format!(", {n} gaps of {} left out", duration(about.gaps_ns)),
    };
    let lost = match about.lost {
        0 => String::new(),
        lost => format!(", lost {}", value::count(lost)),
    };
    line!(out, "{word:<7} {}", truncate(&clean(&about.label), WIDTH - 8, '…'));
    let facts = format!(
        "host {}, kernel {}, {}, from {} UTC, measured {}{gaps}{lost}",
        clean(&about.host),
        clean(&about.kernel),
        clean(&about.backend),
        value::moment(about.from_unix_ns),
        duration(about.measured_ns)
    );
    for text in wrap(&facts, WIDTH - 8, '…') {
        line!(out, "        {text}");
    }
}

/// A name in so many columns, filled up.
fn fitted(name: &str, width: usize) -> String {
    let name = truncate(&clean(name), width, '…');
    let pad = width.saturating_sub(name.width());
    format!("{name}{:pad$}", "")
}

/// A reason's name: "u:" before a userspace exit, marked where it is idle.
fn reason_name(reason: &ReasonDiff, width: usize) -> String {
    let before = if reason.reason.kind == Kind::Userspace { "u:" } else { "" };
    let after = if reason.reason.is_idle() { " idle" } else { "" };
    let name = clean(&reason.name);
    let name = format!("{before}{name}{after}");
    fitted(&reason_short(&name, width, '…'), width)
}

fn most(out: &mut String, diff: &Diff) {
    let most = diff.most();
    if !diff.vms.iter().any(|vm| vm.all.seen == Where::Both) {
        return;
    }
    if most.is_empty() {
        line!(out, "\nNothing changed.");
        return;
    }
    line!(out, "\nWhat changed most, by exit time (handling and VMM) per second:");
    line!(out, "  {:30}   {:<17}   {:<20}", "", "exits/s", "exit time per second");
    line!(
        out,
        "  {:<14}  {:<14} {:>6}{:>6}{:>6}  {:>6}{:>6}{:>8}",
        "VM",
        "reason",
        "before",
        "after",
        "ratio",
        "before",
        "after",
        "change"
    );
    for (vm, reason) in most.iter().take(MOST) {
        let numbers = &reason.numbers;
        let rates = numbers.map(|n| n.rate);
        line!(
            out,
            "  {}  {} {:>6}{:>6}{:>6}  {:>6}{:>6}{:>8}",
            fitted(&vm.name, 14),
            reason_name(reason, 14),
            rate(rates.before),
            rate(rates.after),
            times(&rates),
            per_second(numbers.before.time),
            per_second(numbers.after.time),
            signed_ns(reason.change())
        );
    }
    if most.len() > MOST {
        line!(out, "  ({} more below)", most.len() - MOST);
    }
}

fn of_vm(out: &mut String, vm: &VmDiff) {
    let seen = match vm.all.seen {
        Where::Both => "",
        Where::Before => "  only before",
        Where::After => "  only after",
    };
    let pid = match (vm.pids.before, vm.pids.after) {
        (0, pid) | (pid, 0) => format!("pid {pid}"),
        (a, b) if a == b => format!("pid {a}"),
        (a, b) => format!("pid {a} -> {b}"),
    };
    let rest = format!("  {}  {pid}{seen}", truncate(&clean(&vm.vmm), 12, '…'));
    let name = truncate(&clean(&vm.name), WIDTH - 3 - rest.width(), '…');
    line!(out, "\nVM {name}{rest}");
    of_entity(out, &vm.all);
    if vm.vcpus.len() < 2 {
        return;
    }
    for vcpu in &vm.vcpus {
        let seen = match vcpu.entity.seen.word() {
            "" => String::new(),
            word => format!("  {word}"),
        };
        line!(out, "\n  vCPU {}{seen}", vcpu.vcpu);
        of_entity(out, &vcpu.entity);
    }
}

/// The numbers of a VM or a vCPU, where its time went, its reasons.
fn of_entity(out: &mut String, entity: &Entity) {
    let numbers = entity.load.map(|load| load.numbers);
    let rates = numbers.map(|n| n.rate);
    let ns = |of: fn(&super::Numbers) -> Option<u64>| {
        let both = numbers.map(of).map(|ns| ns.map_or(NONE.to_owned(), time));
        arrow(&both)
    };
    let mut words = vec![
        format!("{} per second {}", arrow(&rates.map(|r| rate(*r))), times(&rates)),
        format!(
            "time/s {} {}",
            arrow(&numbers.map(|n| per_second(n.time))),
            signed_ns(entity.change())
        ),
    ];
    // Of what is idle alone, nothing is known.
    if numbers.before.timed > 0 || numbers.after.timed > 0 {
        words.push(format!("p50 {}", ns(|n| n.p50_ns)));
        words.push(format!("p99 {}", ns(|n| n.p99_ns)));
    }
    words_in(out, "  exits ", &words);
    let mut parts = entity.parts();
    // Stable: of equals the order in which they are drawn.
    parts.sort_by(|(_, a), (_, b)| super::larger(a.change(), b.change()));
    let parts: Vec<String> = parts
        .iter()
        .map(|(part, both)| {
            let shown = both.map(|share| percent(*share));
            format!("{} {} {}", part.label(), arrow(&shown), points(both.change()))
        })
        .collect();
    words_in(out, "  time  ", &parts);
    if entity.reasons.is_empty() {
        line!(out, "  No exits.");
        return;
    }
    heads(out);
    for reason in &entity.reasons {
        of_reason(out, reason);
    }
}

fn arrow(both: &Both<String>) -> String {
    format!("{} -> {}", both.before, both.after)
}

/// Words in lines, the first after a head, three columns apart.
fn words_in(out: &mut String, head: &str, words: &[String]) {
    let mut text = String::new();
    let mut first = true;
    let mut flush = |text: &mut String| {
        if !text.is_empty() {
            let head = if first { head } else { "" };
            line!(out, "{head:<8}{text}");
            first = false;
            text.clear();
        }
    };
    for word in words {
        if !text.is_empty() && text.width() + 3 + word.width() > WIDTH - 8 {
            flush(&mut text);
        }
        if !text.is_empty() {
            text.push_str("   ");
        }
        text.push_str(word);
    }
    flush(&mut text);
}

/// Width of a reason's name in its table: what 80 columns leave.
const REASON: usize = 15;

fn heads(out: &mut String) {
    let groups = format!(
        "  {:REASON$}{:^18} {:^18} {:^12} {:^12}",
        "", "exits/s", "of wall time", "p50", "p99"
    );
    line!(out, "{}", groups.trim_end());
    line!(
        out,
        "  {:REASON$}{:>6}{:>6}{:>6} {:>6}{:>6}{:>6} {:>6}{:>6} {:>6}{:>6}",
        "reason",
        "before",
        "after",
        "ratio",
        "before",
        "after",
        "+/-",
        "before",
        "after",
        "before",
        "after"
    );
}

fn of_reason(out: &mut String, reason: &ReasonDiff) {
    let numbers = &reason.numbers;
    let rates = numbers.map(|n| n.rate);
    let shares = numbers.map(|n| n.of_time);
    let p50 = numbers.map(|n| n.p50_ns.map_or(NONE.to_owned(), time));
    let p99 = numbers.map(|n| n.p99_ns.map_or(NONE.to_owned(), time));
    line!(
        out,
        "  {}{:>6}{:>6}{:>6} {:>6}{:>6}{:>6} {:>6}{:>6} {:>6}{:>6}",
        reason_name(reason, REASON),
        rate(rates.before),
        rate(rates.after),
        times(&rates),
        part(shares.before),
        part(shares.after),
        points(shares.change()),
        p50.before,
        p50.after,
        p99.before,
        p99.after
    );
}
