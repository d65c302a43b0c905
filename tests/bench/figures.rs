//! From the files that a rig brought back to instructions per event, with every count checked.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kvmscope_tests::format::{Guest, Report};
use kvmscope_tests::{check, sections};
use serde::{Deserialize, Serialize};

use crate::budget::Problems;

/// What is made many times: a CPUID exit, an OUT exit with its way through the VMM, a context switch between two
/// processes that are no VMs, a system call of one.
pub const KINDS: [&str; 4] = ["cpuid", "out", "switch", "syscall"];
/// What single families look at, with the subjects that are about them: the first touch of a page; a write to a page
/// whose writes KVM logs; an MMIO write that the VMM answers and a read that KVM answers; a hypercall; an interrupt that
/// a vCPU sends itself while it halts; an exception that KVM puts in, for an MSR that it does not have; a deadline that
/// is set and taken back; a line that the VMM raises twice and lowers.
pub const EVENTS: [&str; 9] = [
    "touch",
    "dirty",
    "mmio_write",
    "mmio_kernel",
    "hypercall",
    "ipi",
    "gp",
    "timer_disarm",
    "line_masked",
];
/// The subject with nothing attached.
pub const BARE: &str = "bare";
/// The subject with what the screen attaches at first.
pub const DEFAULTS: &str = "defaults";
/// The subject with the families of memory and calls beside the defaults.
pub const FAMILIES: &str = "families";
/// The subject with every family that there is.
pub const EVERYTHING: &str = "everything";

/// One kernel's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The kernel's release.
    pub kernel: String,
    /// By subject, in the order in which they were measured.
    pub subjects: Vec<Subject>,
}

/// What was attached, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name in `tests/bench/inside.sh`.
    pub name: String,
    /// Instructions per event by kind: of `bare` all of them, of all others those added to bare.
    pub instructions: BTreeMap<String, f64>,
    /// Whether what it counted is what the guests made: "exact", or how not; empty for what does not count.
    pub counts: String,
}

impl Measured {
    /// A subject by name.
    pub fn subject(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// How much of the throughput that a guest has with the defaults alone is left with this subject, in a loop
    /// that does nothing but such events: instructions an event with the defaults, by those with the subject.
    pub fn kept(&self, subject: &str, kind: &str) -> Option<f64> {
        let of = |name: &str| self.subject(name)?.instructions.get(kind).copied();
        let bare = of(BARE)?;
        Some((bare + of(DEFAULTS)?) / (bare + of(subject)?))
    }
}

/// Reads one rig's output. The problems are counts of kvmscope that are wrong, and subjects that failed.
pub fn read(folder: &Path) -> Result<(Measured, Problems)> {
    let text = |name: &str| {
        std::fs::read_to_string(folder.join(name)).with_context(|| format!("cannot read {name}"))
    };
    let mut problems: Problems =
        text("failed").unwrap_or_default().lines().map(str::to_owned).collect();
    let kernel = text("kernel")?.trim().to_owned();
    let mut subjects = Vec::new();
    let mut bare = BTreeMap::new();
    for name in text("subjects")?.split_whitespace() {
        let Ok(found) = costs(&text, name) else {
            problems.push(format!("{kernel}: {name} was not measured to its end"));
            continue;
        };
        let guests = guests(&text, name)?;
        let counts = match text(&format!("{name}.report")) {
            Ok(report) => {
                let wrong = wrong_counts(&serde_json::from_str(&report)?, &guests, name);
                let counts = if wrong.is_empty() { "exact" } else { "wrong" };
                problems.extend(wrong.iter().map(|wrong| format!("{kernel}: {name}: {wrong}")));
                counts.to_owned()
            }
            Err(_) => text(&format!("{name}.counts"))
                .map_or(String::new(), |said| peer_counts(&said, &guests)),
        };
        let instructions = if name == BARE {
            bare = found.clone();
            found
        } else {
            ensure!(!bare.is_empty(), "nothing was measured without probes before {name}");
            let added = found.into_iter().map(|(kind, n)| {
                let without = bare.get(&kind).context("it was not measured without probes")?;
                Ok((kind, n - without))
            });
            added.collect::<Result<_>>()?
        };
        let instructions =
            instructions.into_iter().map(|(kind, n)| (kind, (n * 10.0).round() / 10.0));
        subjects.push(Subject {
            name: name.to_owned(),
            instructions: instructions.collect(),
            counts,
        });
    }
    Ok((Measured { kernel, subjects }, problems))
}

type Text<'a> = &'a dyn Fn(&str) -> Result<String>;

/// Instructions per event by kind: the least of all rounds, since whatever else runs only adds.
fn costs(text: Text<'_>, subject: &str) -> Result<BTreeMap<String, f64>> {
    let mut costs = BTreeMap::new();
    for kind in KINDS.into_iter().chain(EVENTS) {
        let mut least = f64::INFINITY;
        for round in 1.. {
            let Ok(said) = text(&format!("{subject}.{kind}.{round}")) else { break };
            least = least.min(cost(kind, &said)?);
        }
        ensure!(least.is_finite() || EVENTS.contains(&kind), "no round of {kind}");
        if least.is_finite() {
            costs.insert(kind.to_owned(), least);
        }
    }
    Ok(costs)
}

fn cost(kind: &str, said: &str) -> Result<f64> {
    if matches!(kind, "switch" | "syscall") {
        let mut words = said.split_whitespace().skip(1);
        let mut number = || -> Result<f64> { Ok(words.next().context("too few words")?.parse()?) };
        let count = number()?;
        return Ok(number()? / count);
    }
    let guest: serde_json::Value = serde_json::from_str(said)?;
    let vcpu = &guest["vms"][0]["vcpus"][0];
    let took = vcpu["elapsed_ns"].as_f64().context("no elapsed_ns")?;
    Ok(took / vcpu["made"][kind].as_f64().context("no count")?)
}

fn guests(text: Text<'_>, subject: &str) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for kind in ["cpuid", "out"].into_iter().chain(EVENTS) {
        for round in 1.. {
            let Ok(said) = text(&format!("{subject}.{kind}.{round}")) else { break };
            guests.push(serde_json::from_str(&said)?);
        }
    }
    Ok(guests)
}

/// What is wrong with a report of kvmscope under which these guests ran.
fn wrong_counts(report: &Report, guests: &[Guest], subject: &str) -> Problems {
    let mut problems = check::sound(report);
    for guest in guests {
        let mut guest = guest.clone();
        match subject {
            // Without a family that tells of VMs none is seen.
            "family-sched" => continue,
            other if other.starts_with("family-") && other != "family-exit" => guest
                .vms
                .iter_mut()
                .flat_map(|vm| &mut vm.vcpus)
                .for_each(|v| v.expect.exits.clear()),
            _ => {}
        }
        problems.extend(check::counts_equal(report, &guest));
        if subject.starts_with(FAMILIES) {
            problems.extend(sections::vcpus_equal(report, &guest));
        }
    }
    problems
}

/// SVM's numbers of the two reasons that the guests make most, as bpftrace prints them, and perf's names.
const REASONS: [(&str, &str, &str); 2] =
    [("CPUID", "@exits[114]:", "cpuid"), ("IO", "@exits[123]:", "io")];

/// What another program counted, against what the guests made.
fn peer_counts(said: &str, guests: &[Guest]) -> String {
    let mut wrong = Vec::new();
    for (reason, bpftrace, perf) in REASONS {
        let made: u64 = guests
            .iter()
            .flat_map(|guest| &guest.vms)
            .flat_map(|vm| &vm.vcpus)
            .filter_map(|vcpu| vcpu.expect.exits.get(reason))
            .sum();
        let counted = said.lines().find_map(|line| {
            let line = line.trim();
            let rest = line
                .strip_prefix(bpftrace)
                .or_else(|| line.strip_prefix(perf).filter(|rest| rest.starts_with(' ')))?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        });
        match counted {
            Some(counted) if counted == made => {}
            Some(counted) => wrong.push(format!("{counted} of {made} {reason}")),
            None => wrong.push(format!("no {reason} shown")),
        }
    }
    if wrong.is_empty() { "exact".to_owned() } else { wrong.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_per_event() {
        assert_eq!(cost("switch", "switch 100 2500\n").expect("a cost"), 25.0);
        let guest = r#"{"vms":[{"vcpus":[{"elapsed_ns":5000,"made":{"cpuid":10}}]}]}"#;
        assert_eq!(cost("cpuid", guest).expect("a cost"), 500.0);
        assert!(cost("out", guest).is_err());
    }

    #[test]
    fn what_is_kept_is_a_share_of_what_the_defaults_leave() {
        let subject = |name: &str, touch: f64| Subject {
            name: name.to_owned(),
            instructions: BTreeMap::from([("touch".to_owned(), touch)]),
            counts: String::new(),
        };
        let subjects =
            vec![subject(BARE, 3000.0), subject(DEFAULTS, 600.0), subject(FAMILIES, 1500.0)];
        let measured = Measured { kernel: "6.12.1-x".to_owned(), subjects };
        assert_eq!(measured.kept(FAMILIES, "touch"), Some(0.8));
        assert_eq!(measured.kept(FAMILIES, "cpuid"), None);
        assert_eq!(measured.kept("report", "touch"), None);
    }

    #[test]
    fn a_peers_counts_are_compared() {
        let guest = |reason: &str, n: u64| -> Guest {
            serde_json::from_str(&format!(
                r#"{{"schema":1,"pid":1,"backend":"svm","skipped":[],"vms":[{{"vcpus":[{{"vcpu":0,"tid":1,
                "tids":[1],"made":{{}},"expect":{{"exits":{{"{reason}":{n}}},"userspace_exits":{{}}}}}}]}}]}}"#
            ))
            .expect("a guest")
        };
        let guests = [guest("CPUID", 7), guest("IO", 3)];
        assert_eq!(peer_counts("@exits[114]: 7\n@exits[123]: 3\n", &guests), "exact");
        assert_eq!(peer_counts("   cpuid   7  12%\n   io   3  1%\n", &guests), "exact");
        assert_eq!(peer_counts("@exits[114]: 6\n", &guests), "6 of 7 CPUID, no IO shown");
    }
}
