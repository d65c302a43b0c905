//! What stands out, and the slowest exits.

use super::about::rip;
use super::line;
use crate::export::{Content, details::vm_name};
use crate::findings::{relevant, words};
use crate::model::detail::Outlier;
use crate::state::save::{clean, table};
use crate::state::value::duration;
use crate::trace::{keys, qualification};
use crate::ui::format::{truncate, wrap};

/// Width of sentences.
const WIDTH: usize = 100;
/// Outliers that are shown; JSON has more.
const OUTLIERS: usize = 20;

/// What stands out, each with its numbers and what to do.
pub fn findings(out: &mut String, content: &Content<'_>) {
    let findings = relevant(content.findings, None, None);
    if findings.is_empty() {
        return;
    }
    line!(out, "\nWhat stands out:");
    for finding in &findings {
        let next = format!("Next: {}", finding.next);
        sentence(out, &format!("  {:<8}", finding.weight.word()), &finding.text);
        sentence(out, "          ", &format!("{}.", finding.evidence.join("; ")));
        sentence(out, "          ", &next);
    }
}

fn sentence(out: &mut String, head: &str, text: &str) {
    let lines = wrap(&clean(text), WIDTH.saturating_sub(head.len()), '…');
    for (n, text) in lines.iter().enumerate() {
        let head = if n == 0 { head.to_owned() } else { " ".repeat(head.len()) };
        line!(out, "{head}{text}");
    }
}

const HEADS: [&str; 10] =
    ["at", "VM", "vCPU", "reason", "took", "KVM", "asleep", "waiting", "VMM", "CPU"];
const NUMERIC: [bool; 10] = [true, false, true, false, true, true, true, true, true, true];

/// The slowest exits; under each what it was about.
pub fn outliers(out: &mut String, content: &Content<'_>) {
    let all = &content.totals.outliers;
    let shown = all.len().min(OUTLIERS);
    let left_out = content.totals.outliers_left_out.saturating_add((all.len() - shown) as u64);
    if shown == 0 && left_out == 0 {
        return;
    }
    let more = match left_out {
        0 => String::new(),
        n => format!(" ({n} more: less slow, or over the rate that is let through)"),
    };
    line!(out, "\nSlow exits, slowest first{more}:");
    let lines = all.iter().take(shown).map(|outlier| row(content, outlier));
    let lines: Vec<_> = std::iter::once(HEADS.map(str::to_owned).to_vec()).chain(lines).collect();
    let table = table(&lines, &NUMERIC);
    let mut lines = table.lines();
    if let Some(heads) = lines.next().filter(|_| shown > 0) {
        line!(out, "  {heads}");
    }
    for (line, outlier) in lines.zip(all) {
        line!(out, "  {line}");
        sentence(out, "      ", &what(content, outlier));
    }
}

fn row(content: &Content<'_>, outlier: &Outlier) -> Vec<String> {
    let at = outlier.end_ns.saturating_sub(content.session.started_ns);
    let times = [
        outlier.wall_ns(),
        outlier.handling_ns,
        outlier.asleep_ns,
        outlier.wait_ns,
        outlier.vmm_ns,
    ];
    let mut cells = vec![
        format!("{:.3}s", at as f64 / 1e9),
        truncate(&clean(vm_name(content, outlier)), 16, '…'),
        outlier.key.vcpu.to_string(),
        truncate(&clean(&content.session.names.name(outlier.reason)), 20, '…'),
    ];
    cells.extend(times.map(duration));
    cells.push(outlier.cpu.to_string());
    cells
}

/// What it was about, where it came from, its qualification, who ran meanwhile.
fn what(content: &Content<'_>, outlier: &Outlier) -> String {
    let vm = vm_name(content, outlier);
    let mut parts: Vec<String> = Vec::new();
    parts.extend(outlier.about.map(|(class, value)| words::thing(class, value)));
    // What the key says already need not be said again.
    let said = outlier.about.map(|(class, value)| keys::number(class, value));
    let mut said_of_it = qualification::words(outlier.reason, outlier.info1, outlier.info2);
    said_of_it.retain(|word| said.as_ref().is_none_or(|said| !word.contains(said.as_str())));
    parts.extend((!said_of_it.is_empty()).then(|| said_of_it.join(", ")));
    parts.push(rip(content, vm, outlier.rip));
    parts.extend(outlier.by.as_ref().map(|(tid, comm)| format!("{comm} {tid} ran meanwhile")));
    parts.join("; ")
}
