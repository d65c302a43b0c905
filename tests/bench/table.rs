//! The tables of `docs/cost.md`.

use crate::figures::{BARE, DEFAULTS, EVENTS, EVERYTHING, FAMILIES, KINDS, Measured, Subject};

const BEGIN: &str = "<!-- tests/bench/run writes from here -->";
const END: &str = "<!-- to here -->";

/// Columns of what single families look at.
const OF_EVENTS: &str = "first touch | logged write | MMIO to the VMM | MMIO in KVM | hypercall | IPI to itself | #GP | timer set and taken back | line set three times |";
/// What begins their lines.
const RULE: &str = "|---|---|---|---|---|---|---|---|---|---|";

/// The tables of each kernel.
pub fn markdown(measured: &[Measured]) -> String {
    let mut text = String::new();
    for one in measured {
        text += &format!("\nKernel {}:\n\n", one.kernel);
        text += "| instructions added per | CPUID exit | OUT exit | context switch | system call | counts |\n";
        text += "|---|---|---|---|---|---|\n";
        for subject in &one.subjects {
            text += &format!("{} {} |\n", row(subject, &KINDS), subject.counts);
        }
        text += &format!("\n| instructions added per | {OF_EVENTS}\n{RULE}\n");
        for subject in one.subjects.iter().filter(|one| one.instructions.contains_key(EVENTS[0])) {
            text += &row(subject, &EVENTS);
            text.push('\n');
        }
        text += &kept(one);
    }
    text
}

fn row(subject: &Subject, kinds: &[&str]) -> String {
    let mut row = format!("| {} |", title(&subject.name));
    for &kind in kinds {
        let figure = subject.instructions.get(kind).copied().unwrap_or(f64::NAN).round();
        // No minus before a zero.
        row += &format!(" {} |", figure + 0.0);
    }
    row
}

/// What is left of a guest's throughput with families beside the defaults.
fn kept(one: &Measured) -> String {
    let mut text =
        format!("\n| throughput kept in a loop of | CPUID exit | OUT exit | {OF_EVENTS}\n");
    text += &format!("{RULE}---|---|\n");
    let kept = |one: &&Subject| one.name.starts_with(FAMILIES) || one.name == EVERYTHING;
    for subject in one.subjects.iter().filter(kept) {
        text += &format!("| {} |", title(&subject.name));
        for kind in ["cpuid", "out"].into_iter().chain(EVENTS) {
            let share = one.kept(&subject.name, kind).unwrap_or(f64::NAN);
            text += &format!(" {:.0}% |", share * 100.0);
        }
        text.push('\n');
    }
    text
}

fn title(name: &str) -> String {
    match name {
        BARE => "nothing attached (all instructions)".to_owned(),
        "empty-raw-raw" => "empty programs, raw kvm_exit and raw kvm_entry".to_owned(),
        "empty-tp-raw" => "empty programs, classic kvm_exit and raw kvm_entry".to_owned(),
        "empty-tp-tp" => "empty programs, classic kvm_exit and kvm_entry".to_owned(),
        "empty-all" => "empty programs, every hook of the defaults, raw".to_owned(),
        "empty-syscalls" => "empty programs, raw sys_enter and raw sys_exit".to_owned(),
        DEFAULTS => "**kvmscope**".to_owned(),
        FAMILIES => "kvmscope, with memory and calls".to_owned(),
        "families-ioctl" => "kvmscope, with memory and calls and ioctl".to_owned(),
        "report" => "kvmscope report, with details".to_owned(),
        EVERYTHING => "kvmscope, everything".to_owned(),
        "bpftrace-count" => "bpftrace, count by reason".to_owned(),
        "bpftrace-histogram" => "bpftrace, count and histogram by reason".to_owned(),
        "perf-kvm-stat" => "perf kvm stat record".to_owned(),
        other => match other.strip_prefix("family-") {
            Some(family) => format!("kvmscope --probes {family}"),
            None => other.to_owned(),
        },
    }
}

/// The document with the tables in their place; `None` when it has none.
pub fn replaced(document: &str, tables: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tables_are_replaced() {
        let document = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&document, "new\n").expect("a place");
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced("nothing", "new"), None);
    }

    #[test]
    fn no_minus_before_a_zero() {
        let instructions = KINDS.iter().map(|kind| ((*kind).to_owned(), -0.2)).collect();
        let subject =
            Subject { name: "defaults".to_owned(), instructions, counts: "exact".to_owned() };
        assert_eq!(row(&subject, &KINDS), "| **kvmscope** | 0 | 0 | 0 | 0 |");
    }
}
