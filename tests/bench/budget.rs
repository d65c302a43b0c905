//! What kvmscope may cost, and that it does not grow.

use crate::figures::{EVENTS, EVERYTHING, FAMILIES, KINDS, Measured};

/// Sentences about what is wrong; none is good.
pub type Problems = Vec<String>;

/// How much a figure may grow over the committed one, as a ratio.
const GROWTH: f64 = 1.03;
/// Growth below this is the noise of a timer interrupt more or less, instructions per event.
const NOISE: f64 = 8.0;

/// Least share of the throughput with the defaults alone that a guest keeps in an exit-heavy loop while these are on:
/// the families of memory and calls, and all that there are.
const KEPT: [(&str, &str, f64); 2] =
    [(FAMILIES, "the families of memory and calls", 2.0 / 3.0), (EVERYTHING, "every family", 0.5)];
/// What such loops do beside [`EVENTS`].
const LOOPS: [&str; 2] = ["cpuid", "out"];

/// The kinds of exits of which a guest makes nothing else. A line that the VMM sets makes none.
fn loops() -> impl Iterator<Item = &'static str> {
    LOOPS.into_iter().chain(EVENTS).filter(|&kind| kind != "line_masked")
}

/// Most instructions added per event by kvmscope's defaults, in the order of [`KINDS`].
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Start of the releases that they are for; others are only shown.
    pub kernel: &'static str,
    /// Instructions by kind.
    pub added: [f64; KINDS.len()],
}

impl Default for Budgets {
    /// 629 is what two empty classic tracepoint programs cost. For an OUT exit 900 was wanted; `docs/cost.md` says why it
    /// cannot be had with what is measured now, and this keeps what there is.
    fn default() -> Self {
        Self { kernel: "6.12.", added: [629.0, 1370.0, 150.0, NOISE] }
    }
}

/// The budgets that are broken.
pub fn broken(measured: &[Measured], budgets: &Budgets) -> Problems {
    let mut problems = Problems::new();
    for one in measured.iter().filter(|one| one.kernel.starts_with(budgets.kernel)) {
        let Some(defaults) = one.subject("defaults") else { continue };
        for (kind, budget) in KINDS.iter().zip(budgets.added) {
            let added = defaults.instructions.get(*kind).copied().unwrap_or(f64::INFINITY);
            if added > budget {
                problems.push(format!(
                    "{}: {kind}: {added} instructions added, the budget is {budget}",
                    one.kernel
                ));
            }
        }
    }
    problems
}

/// Loops in which families cost a guest more than they may, on any kernel. The families of memory and calls are without
/// ioctl, which is off unless it is named.
pub fn slowed(measured: &[Measured]) -> Problems {
    let mut problems = Problems::new();
    for (one, (subject, words, least)) in
        measured.iter().flat_map(|one| KEPT.map(|kept| (one, kept)))
    {
        if one.subject(subject).is_none() {
            continue;
        }
        for kind in loops() {
            // A figure that is missing is a problem too.
            let kept = one.kept(subject, kind).unwrap_or(0.0);
            if kept < least {
                problems.push(format!(
                    "{}: {kind}: with {words} {:.1}% of the throughput is left, {:.1}% must",
                    one.kernel,
                    kept * 100.0,
                    least * 100.0
                ));
            }
        }
    }
    problems
}

/// Figures of kvmscope that grew over the committed ones of the same series.
pub fn grown(measured: &[Measured], committed: &[Measured]) -> Problems {
    let mut problems = Problems::new();
    for one in measured {
        let Some(before) =
            committed.iter().find(|before| series(&before.kernel) == series(&one.kernel))
        else {
            problems.push(format!("no figures are committed for {}", one.kernel));
            continue;
        };
        let ours = |name: &str| {
            ["defaults", "report", EVERYTHING].contains(&name)
                || name.starts_with("family-")
                || name.starts_with(FAMILIES)
        };
        for subject in one.subjects.iter().filter(|subject| ours(&subject.name)) {
            let Some(old) = before.subject(&subject.name) else { continue };
            for (kind, &added) in &subject.instructions {
                let most =
                    old.instructions.get(kind).map_or(0.0, |&old| (old * GROWTH).max(old + NOISE));
                if added > most {
                    problems.push(format!(
                        "{}: {} {kind}: {added} instructions added, more than 3% over the committed figures (at most \
                         {most:.0}); if that is meant, commit new ones: tests/bench/run --commit",
                        one.kernel, subject.name
                    ));
                }
            }
        }
    }
    problems
}

/// "6.12" of "6.12.94+deb13-cloud-amd64".
fn series(release: &str) -> &str {
    let end = release.match_indices(['.', '-', '+']).nth(1).map_or(release.len(), |(at, _)| at);
    &release[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Subject;

    fn measured(kernel: &str, cpuid: f64) -> Measured {
        let added = [cpuid, 100.0, 10.0, 0.0];
        let instructions = KINDS.map(str::to_owned).into_iter().zip(added).collect();
        let defaults =
            Subject { name: "defaults".to_owned(), instructions, counts: "exact".to_owned() };
        Measured { kernel: kernel.to_owned(), subjects: vec![defaults] }
    }

    #[test]
    fn a_broken_budget_is_found_on_its_kernel_only() {
        assert_eq!(broken(&[measured("6.12.1-x", 629.0)], &Budgets::default()), Problems::new());
        assert_eq!(broken(&[measured("6.12.1-x", 629.1)], &Budgets::default()).len(), 1);
        assert_eq!(broken(&[measured("6.1.0-x", 700.0)], &Budgets::default()), Problems::new());
    }

    #[test]
    fn a_guest_keeps_two_thirds_and_with_everything_half() {
        let with = |cost: f64, all: f64| {
            let subject = |name: &str, cost: f64| Subject {
                name: name.to_owned(),
                instructions: loops().map(|kind| (kind.to_owned(), cost)).collect(),
                counts: String::new(),
            };
            let subjects = vec![
                subject("bare", 1000.0),
                subject("defaults", 200.0),
                subject(FAMILIES, cost),
                subject(EVERYTHING, all),
            ];
            Measured { kernel: "6.1.0-x".to_owned(), subjects }
        };
        let all = loops().count();
        assert_eq!(slowed(&[with(800.0, 1400.0)]), Problems::new());
        assert_eq!(slowed(&[with(801.0, 0.0)]).len(), all);
        assert_eq!(slowed(&[with(0.0, 1401.0)]).len(), all);
        let mut without = with(0.0, 0.0);
        without.subjects[2].instructions.remove("touch");
        assert_eq!(slowed(&[without]).len(), 1, "a figure that is missing is none that is good");
        assert_eq!(slowed(&[measured("6.1.0-x", 1.0)]), Problems::new());
    }

    #[test]
    fn growth_is_found_within_a_series() {
        let committed = [measured("6.12.1-x", 600.0), measured("6.1.0-x", 100.0)];
        assert_eq!(grown(&[measured("6.12.2-x", 617.0)], &committed), Problems::new());
        assert_eq!(grown(&[measured("6.12.2-x", 619.0)], &committed).len(), 1);
        assert_eq!(grown(&[measured("6.18.0-x", 1.0)], &committed).len(), 1);
    }
}
