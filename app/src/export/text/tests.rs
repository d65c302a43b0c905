use super::super::testing::{DETAILED_NS, REMEMBERED_NS, detailed, remembered, sample};
use super::*;
use crate::findings::{Thresholds, facts_of, findings};
use crate::model::detail::KeyClass;
use crate::model::session::Session;
use crate::model::tick::Phase;
use crate::model::totals::Totals;
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
fn dirty_logging_that_is_off_is_said() {
    let (session, mut totals) = remembered();
    for vcpu in totals.vms.values_mut().flat_map(|vm| vm.vcpus.values_mut()) {
        vcpu.keys.retain(|id, _| !matches!(id.class, KeyClass::DirtySlot | KeyClass::DirtyPage));
    }
    let text = report(&Content::new(&session, &totals, REMEMBERED_NS));
    let said = |text: &str| text.matches("No page was written").count();
    // The other VM has none anyway.
    assert_eq!((said(&with_memory()), said(&text)), (1, 2), "{text}");
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
