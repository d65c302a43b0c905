//! How far two measurements cannot be compared: what was different about measuring, not what was measured.

use super::matching::Pair;
use super::{Both, Side, VmDiff, Where};
use crate::model::ids::Kind;
use crate::model::session::{Origin, Session};
use crate::model::tick::Lost;
use crate::state::value::{count, duration, share};
use std::collections::BTreeSet;

/// Something that makes a comparison less than it seems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Which, for programs.
    pub kind: &'static str,
    /// What, in sentences.
    pub text: String,
}

fn warning(kind: &'static str, text: impl Into<String>) -> Warning {
    Warning { kind, text: text.into() }
}

/// Below this, a measurement is too short to be compared: a guest does other things each second.
const SHORT_NS: u64 = 5_000_000_000;
/// A part of the exits that may be lost without a word: far below what changes from run to run.
const LOST_SHARE: f64 = 0.0001;

/// Exits that are missing in counts. What the ring had no room for are single events, which are not compared.
pub fn lost_exits(lost: &Lost) -> u64 {
    [lost.missed_runs, lost.pool_full, lost.slots_full].into_iter().fold(0, u64::saturating_add)
}

/// Of the sides as a whole.
pub fn warnings(before: &Side<'_>, after: &Side<'_>) -> Vec<Warning> {
    let sessions = Both::new(before.session, after.session);
    let mut all = Vec::new();
    origins(&mut all, &sessions);
    hosts(&mut all, &sessions);
    families(&mut all, &sessions);
    for (side, word) in [(before, "Before"), (after, "After")] {
        losses(&mut all, side, word);
        length(&mut all, side, word);
    }
    all
}

fn origins(all: &mut Vec<Warning>, sessions: &Both<&Session>) {
    let invented = sessions.map(|session| matches!(session.origin, Origin::Synthetic { .. }));
    let text = match (invented.before, invented.after) {
        (false, false) => return,
        (true, true) => "The numbers of both sides are invented.",
        (true, false) => "The numbers before are invented, those after are not.",
        (false, true) => "The numbers after are invented, those before are not.",
    };
    all.push(warning("invented", text));
}

fn hosts(all: &mut Vec<Warning>, sessions: &Both<&Session>) {
    let hosts = sessions.map(|session| &session.host);
    let mut differ = |kind, what: &str, of: Both<String>, more: &str| {
        if of.before != of.after {
            let Both { before, after } = of;
            all.push(warning(
                kind,
                format!("{what} differ: {before} before, {after} after.{more}"),
            ));
        }
    };
    let backends = hosts.map(|host| host.backend.clone());
    differ("backend", "KVM's backends", backends, " Their exit reasons are not the same ones.");
    differ("kernel", "Kernels", hosts.map(|host| host.kernel.clone()), "");
    differ("host", "Hosts", hosts.map(|host| host.name.clone()), "");
    differ("cpus", "Numbers of CPUs", hosts.map(|host| host.cpus.to_string()), "");
    let apicv = sessions.map(|session| match session.apicv {
        Some(true) => "allowed".to_owned(),
        Some(false) => "off".to_owned(),
        None => "not known".to_owned(),
    });
    differ("apicv", "APICv or AVIC", apicv, "");
}

/// What lacks where a family is not attached, of those that numbers here come from.
fn missing(family: &str) -> Option<&'static str> {
    match family {
        "exit" => Some("kernel exits are not counted there"),
        "userspace" => Some("userspace exits are not counted there"),
        "sched" => Some("time off the CPU counts as handling there"),
        "halt-poll" => Some("halt polling counts as KVM's handling there"),
        _ => None,
    }
}

fn families(all: &mut Vec<Warning>, sessions: &Both<&Session>) {
    let on = sessions.map(|session| attached(session));
    for (there, other, words) in
        [(&on.before, &on.after, ("before", "after")), (&on.after, &on.before, ("after", "before"))]
    {
        let only: Vec<&str> = there.difference(other).copied().collect();
        let (counted, more): (Vec<&str>, Vec<&str>) =
            only.iter().partition(|family| missing(family).is_some());
        for family in counted {
            let lacks = missing(family).unwrap_or_default();
            let text = format!(
                "Probes of {family} were attached {} and not {}: {lacks}.",
                words.0, words.1
            );
            all.push(warning("families", text));
        }
        if !more.is_empty() {
            let text = format!(
                "Attached {} and not {}: {}. Each probe makes the exits that it sees a little longer.",
                words.0,
                words.1,
                more.join(", ")
            );
            all.push(warning("families", text));
        }
    }
    probes(all, sessions);
}

fn attached(session: &Session) -> BTreeSet<&str> {
    let probes = session.probes.iter().filter(|probe| probe.attached && probe.family != "base");
    probes.map(|probe| probe.family.as_str()).collect()
}

/// Single probes of families that are on in both.
fn probes(all: &mut Vec<Warning>, sessions: &Both<&Session>) {
    let on = sessions.map(|session| attached(session));
    let names = sessions.map(|session| {
        let mine = session.probes.iter().filter(|probe| {
            let family = probe.family.as_str();
            let base = family == "base";
            probe.attached && (base || (on.before.contains(family) && on.after.contains(family)))
        });
        mine.map(|probe| probe.name.as_str()).collect::<BTreeSet<&str>>()
    });
    let lists = [
        ("before", names.before.difference(&names.after).copied().collect::<Vec<_>>()),
        ("after", names.after.difference(&names.before).copied().collect::<Vec<_>>()),
    ];
    for (word, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        all.push(warning("probes", format!("Attached only {word}: {}.", names.join(", "))));
    }
}

fn losses(all: &mut Vec<Warning>, side: &Side<'_>, word: &str) {
    let lost = lost_exits(&side.totals.lost);
    let cells = side.totals.vms.values().flat_map(|vm| vm.vcpus.values()).flat_map(|v| &v.cells);
    let counted = cells
        .filter(|(reason, _)| reason.kind == Kind::Exit)
        .fold(0u64, |sum, (_, cell)| sum.saturating_add(cell.count));
    let part = lost as f64 / (lost.saturating_add(counted)).max(1) as f64;
    if part >= LOST_SHARE {
        let text = format!(
            "{word}, {} exits or more were not counted, {} of all: rates are too low there.",
            count(lost),
            share(part)
        );
        all.push(warning("lost", text));
    }
    if side.totals.lost_ticks > 0 {
        let text = format!(
            "{word}, {} ticks never arrived. They count neither as exits nor as time.",
            side.totals.lost_ticks
        );
        all.push(warning("lost-ticks", text));
    }
}

fn length(all: &mut Vec<Warning>, side: &Side<'_>, word: &str) {
    if side.measured_ns == 0 {
        all.push(warning("empty", format!("{word}, nothing was measured.")));
    } else if side.measured_ns < SHORT_NS {
        let text = format!(
            "{word}, only {} were measured: what differs may be chance.",
            duration(side.measured_ns)
        );
        all.push(warning("short", text));
    }
    if !side.gaps.is_empty() {
        let text = format!(
            "{word}, there is no data for {} in {}. That time is left out.",
            duration(side.gaps_ns()),
            number(side.gaps.len(), "gap", "gaps")
        );
        all.push(warning("gaps", text));
    }
}

fn number(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Of how VMs were paired.
pub fn of_pairs(pairs: &[Pair<'_>]) -> Option<Warning> {
    let guessed = pairs.iter().filter(|pair| pair.ambiguous && !pair.wished);
    let mut names: Vec<&str> = guessed
        .filter_map(|pair| pair.vms.after.or(pair.vms.before).map(|vm| vm.info.name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| {
        let text = format!(
            "Several VMs are called {}: a process is compared with itself, the others in the order in which they \
             started. --match pid:BEFORE=pid:AFTER pairs them otherwise.",
            names.join(", ")
        );
        warning("same-name", text)
    })
}

/// Of the VMs that were paired: what is on one side only, and what was not there all the time.
pub fn of_vms(vms: &[VmDiff], before: &str, after: &str) -> Vec<Warning> {
    let mut all = Vec::new();
    let only = |seen: Where| -> Vec<&str> {
        vms.iter().filter(|vm| vm.all.seen == seen).map(|vm| vm.name.as_str()).collect()
    };
    let (gone, new) = (only(Where::Before), only(Where::After));
    if !gone.is_empty() || !new.is_empty() {
        let list = |names: &[&str], label: &str, word: &str| match names.is_empty() {
            true => String::new(),
            false => format!("Only {word} ({label}): {}. ", names.join(", ")),
        };
        let hint = match (gone.first(), new.first()) {
            (Some(gone), Some(new)) => {
                format!("--match '{gone}={new}' would compare these two.")
            }
            _ => String::new(),
        };
        let text = list(&gone, before, "before") + &list(&new, after, "after") + &hint;
        all.push(warning("one-side", text.trim_end()));
    }
    for vm in vms.iter().filter(|vm| vm.all.seen == Where::Both) {
        let vcpus = vm.all.load.map(|load| load.vcpus);
        if vcpus.before != vcpus.after {
            let text = format!(
                "{} had {} before and {} after.",
                vm.name,
                number(vcpus.before, "vCPU", "vCPUs"),
                number(vcpus.after, "vCPU", "vCPUs")
            );
            all.push(warning("vcpus", text));
        }
        let silent = vm.all.load.map(|load| load.numbers.count == 0 && load.user_rate > 0.0);
        if silent.before != silent.after {
            let word = if silent.before { "before" } else { "after" };
            let text = format!(
                "{} made no kernel exits {word}, only userspace exits: KVM's backend or its probe is silent there.",
                vm.name
            );
            all.push(warning("silent", text));
        }
    }
    all
}
