use super::super::testing::{DETAILED_NS, REMEMBERED_NS, detailed, remembered, sample};
use super::*;
use crate::findings::{Thresholds, facts_of, findings};
use crate::model::detail::KeyClass;
use crate::model::session::{ProbeStatus, Session};
use crate::model::tick::Phase;
use crate::model::totals::Totals;
use kvmscope_shared::detail::dirty;
use unicode_width::UnicodeWidthStr;

fn plain(session: &Session, totals: &Totals) -> String {
    report(&Content::new(session, totals, 3_000_000_000))
}

fn with_details() -> String {
    let (session, totals) = detailed();
    let found = findings(&facts_of(&totals, &session.names), &Thresholds::default());
    let code = |vm: &str, rip: u64| {
        (vm == "web-7" && rip == 0xffff_ffff_8123_4567).then(|| "acpi_pm_read+0x7".to_owned())
    };
    let content = Content::new(&session, &totals, DETAILED_NS);
    report(&Content { findings: &found, code: &code, ..content })
}

#[test]
fn the_report_reads_well() {
    let (session, totals) = sample();
    insta::assert_snapshot!(plain(&session, &totals));
}

#[test]
fn details_read_well() {
    insta::assert_snapshot!(with_details());
}

fn with_memory() -> String {
    let (session, totals) = remembered();
    report(&Content::new(&session, &totals, REMEMBERED_NS))
}

#[test]
fn memory_and_calls_read_well() {
    insta::assert_snapshot!(with_memory());
}

#[test]
fn dirty_logging_that_is_off_is_said_where_it_is_certain() {
    let said = |is_kept: &dyn Fn(KeyClass, Option<u64>) -> bool, is_watched: bool| {
        let (mut session, mut totals) = remembered();
        session.probes.retain(|probe| is_watched || probe.family != "dirty");
        for vcpu in totals.vms.values_mut().flat_map(|vm| vm.vcpus.values_mut()) {
            vcpu.keys.retain(|id, _| is_kept(id.class, id.value));
        }
        let text = report(&Content::new(&session, &totals, REMEMBERED_NS));
        let count = |words: &str| text.matches(words).count();
        (count("Dirty logging is off for all memory"), count("KVM marked no page as dirty"))
    };
    use KeyClass::{DirtyLog, DirtyPage, DirtySlot};
    let is_of_dirty = |class| matches!(class, DirtyLog | DirtyPage | DirtySlot);
    // The other VM marked none.
    assert_eq!(said(&|_, _| true, true), (0, 1));
    let not_logged =
        |class, value| !is_of_dirty(class) || (class, value) == (DirtyLog, Some(dirty::NOT_LOGGED));
    assert_eq!(said(&not_logged, true), (1, 1));
    assert_eq!(said(&|class, _| !is_of_dirty(class), true), (0, 2));
    // Who does not look does not know.
    assert_eq!(said(&|class, _| !is_of_dirty(class), false), (0, 0));
}

/// Counters and CPUs are in the tables of memory, and nothing that exits were about.
#[test]
fn what_memory_tells_is_told_once() {
    let text = with_memory();
    let row = |what: &str| {
        let lines = text.lines().filter(|line| line.contains(what));
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let one = |what: &str| -> Vec<String> {
        let rows: Vec<Vec<String>> = row(what);
        assert_eq!(rows.len(), 1, "{what}: {rows:?} in {text}");
        rows.concat()
    };
    assert!(one("marks in slots that log").contains(&"5.9k".to_owned()));
    assert!(one("marks in slots that do not log").contains(&"11".to_owned()));
    assert!(one("(PML)").contains(&"9".to_owned()));
    assert!(one("on CPU 7").contains(&"52".to_owned()));
    assert!(one("on CPU 3").contains(&"40".to_owned()));
}

/// A probe that is attached for two families, and probes with one reason, are one line.
#[test]
fn a_reason_is_said_once() {
    let (mut session, totals) = sample();
    for name in ["kprobe:a", "stack:b", "kprobe:a"] {
        let why = Some("it is refused".to_owned());
        session.probes.push(ProbeStatus { name: name.into(), why, ..ProbeStatus::default() });
    }
    let text = plain(&session, &totals);
    assert!(text.contains("\nNot attached: kprobe:a, stack:b: it is refused\n"), "{text}");
}

/// The table of reasons is as wide as it is; everything around it fits a usual screen.
#[test]
fn details_fit_a_hundred_columns() {
    for text in [with_details(), with_memory()] {
        let mut in_reasons = false;
        for line in text.lines() {
            in_reasons = line.contains("of wall") || (in_reasons && !line.is_empty());
            assert!(in_reasons || line.width() <= 100, "{} {line}", line.width());
        }
    }
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let text = report(&Content::new(&Session::default(), &Totals::default(), 0));
    assert!(text.contains("No VM ran."));
    assert!(text.contains("Nothing was lost."));
}

#[test]
fn names_cannot_reach_the_terminal() {
    let (session, totals) = sample();
    for text in [plain(&session, &totals), with_details(), with_memory()] {
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}

#[test]
fn parts_of_time_add_up_to_all_of_it() {
    for parts in [[1, 1, 1], [2, 3, 995_000], [333, 333, 334], [1, 1, 10_000]] {
        let mut time = PhaseTimes::default();
        for (phase, ns) in [Phase::Guest, Phase::Kvm, Phase::Blocked].into_iter().zip(parts) {
            time.0[phase as usize] = ns;
        }
        let words = time_lines(time).join("  ");
        let numbers = words.split(['%', ' ']).filter_map(|word| word.parse::<f64>().ok());
        let tenths: u64 = numbers.map(|n| (n * 10.0).round() as u64).sum();
        assert_eq!(tenths, 1000, "{words}");
        assert_eq!(words.split("  ").count(), 3, "{words}");
    }
}

#[test]
fn all_parts_of_time_fit_two_lines() {
    let lines = time_lines(PhaseTimes([111; 9]));
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.width() <= 91), "{lines:?}");
    assert!(lines[1].ends_with("unaccounted 11.1%"));
}
