//! What a comparison says of two measurements.

use super::testing::{SECOND, Second, measured, sample, sample_diff, session, side, vmx};
use super::*;
use crate::model::testing::any_tick;
use crate::model::tick::{Phase, Tick};
use proptest::prelude::*;

#[test]
fn what_changed_most_is_first() {
    let diff = sample_diff();
    let names: Vec<_> = diff.vms.iter().map(|vm| (vm.name.as_str(), vm.all.seen)).collect();
    let both = Where::Both;
    let expected = [
        ("web-7", both),
        ("db-1", both),
        ("idle-win", both),
        ("ci-10", Where::After),
        ("ci-9", Where::Before),
    ];
    assert_eq!(names, expected);
    let most: Vec<_> =
        diff.most().iter().map(|(vm, reason)| format!("{} {}", vm.name, reason.name)).collect();
    assert_eq!(most[0], "web-7 EPT_MISCONFIG");
    assert!(!most.iter().any(|line| line.starts_with("ci-")), "{most:?}");
    assert!(!most.iter().any(|line| line.starts_with("idle-win")), "{most:?}");
}

/// 400 exits a second, 360 of 90 µs and 40 of 540 µs, over 60 s; 30 a second over 30 s.
#[test]
fn numbers_are_per_second() {
    let diff = sample_diff();
    let web = &diff.vms[0];
    let misconfig = &web.all.reasons[0];
    assert_eq!((misconfig.name.as_str(), misconfig.seen), ("EPT_MISCONFIG", Where::Both));
    let Both { before, after } = misconfig.numbers;
    assert_eq!((before.count, before.rate, after.count, after.rate), (24_000, 400.0, 900, 30.0));
    assert_eq!(before.time, 54_000_000.0);
    assert_eq!(after.time, 27.0 * 88_000.0 + 3.0 * 528_000.0);
    assert_eq!(misconfig.change(), after.time - before.time);
    // Of two vCPUs' wall time.
    assert!((before.of_time - 0.027).abs() < 1e-9, "{}", before.of_time);
    let one = web.vcpus.iter().find(|vcpu| vcpu.vcpu == 0).expect("vCPU 0");
    let on_one = &one.entity.reasons[0].numbers.before;
    assert!((on_one.of_time - 0.054).abs() < 1e-9, "{}", on_one.of_time);
    let within = |ns: Option<u64>, of: u64| ns.is_some_and(|ns| ns.abs_diff(of) * 8 <= of);
    assert!(within(before.p50_ns, 90_000) && within(before.p99_ns, 540_000));
    assert_eq!(web.vcpus[0].vcpu, 0, "the vCPU that changed most is first");
}

#[test]
fn reasons_come_and_go() {
    let diff = sample_diff();
    let reasons = &diff.vms[0].all.reasons;
    let seen = |name: &str, kind: Kind| {
        let is_it = |r: &&ReasonDiff| r.name == name && r.reason.kind == kind;
        reasons.iter().find(is_it).map(|reason| reason.seen)
    };
    assert_eq!(seen("PREEMPTION_TIMER", Kind::Exit), Some(Where::After));
    assert_eq!(seen("IO", Kind::Userspace), Some(Where::Before));
    assert_eq!(seen("MSR_WRITE", Kind::Exit), Some(Where::Both));
}

#[test]
fn time_that_went_elsewhere_is_told() {
    let diff = sample_diff();
    let (part, change) = diff.vms[1].all.moved().expect("both sides have times");
    assert_eq!((part, (change * 1000.0).round()), (Part::Waiting, 370.0));
    assert!(diff.vms[3].all.parts().is_empty(), "there is nothing to compare with");
    let sum: f64 = diff.vms[0].all.parts().iter().map(|(_, both)| both.change()).sum();
    assert!(sum.abs() < 1e-9);
}

/// A VM that was there for a third of the time is as busy as it was while it was there; a gap is no time at all.
#[test]
fn rates_are_of_the_time_that_was_measured() {
    let second = [Second { who: (1, 0), cells: vec![(vmx(1), 100, 1_000)], parts: &[] }];
    let mut totals = measured(10, &[(1, "a", 5)], &second);
    let session = session("6.12.8", &["exit"]);
    let rate = |totals: &Totals, gaps: &[(u64, u64)]| {
        let mut side = side(&session, totals);
        side.gaps = gaps.to_vec();
        let diff = diff(&side, &side, &[]).expect("no wishes");
        let vm = &diff.vms[0];
        (vm.all.reasons[0].numbers.before.rate, vm.all.present_ns.before)
    };
    assert_eq!(rate(&totals, &[]), (100.0, 10 * SECOND));
    // Ten seconds of data in fifteen.
    totals.end_ns = 25 * SECOND;
    assert_eq!(rate(&totals, &[(12 * SECOND, 17 * SECOND)]), (100.0, 10 * SECOND));
    let vm = totals.vms.get_mut(&crate::model::ids::VmId(1)).expect("it is there");
    vm.ended_ns = Some(18 * SECOND);
    let (rate, present) = rate(&totals, &[(12 * SECOND, 17 * SECOND)]);
    assert_eq!(present, 3 * SECOND);
    assert!((rate - 1000.0 / 3.0).abs() < 1e-9);
}

fn kinds(before: &Side<'_>, after: &Side<'_>) -> Vec<&'static str> {
    let diff = diff(before, after, &[]).expect("no wishes");
    diff.warnings.iter().map(|warning| warning.kind).collect()
}

#[test]
fn what_was_not_measured_alike_is_said() {
    let diff = sample_diff();
    let texts: Vec<&str> = diff.warnings.iter().map(|warning| warning.text.as_str()).collect();
    insta::assert_snapshot!("warnings", texts.join("\n"));
}

#[test]
fn what_is_alike_needs_no_word() {
    let ((session, totals), _) = sample();
    let side = side(&session, &totals);
    assert_eq!(kinds(&side, &side), Vec::<&str>::new());
}

#[test]
fn every_difference_in_measuring_is_found() {
    let ((session, mut totals), _) = sample();
    let whole = totals.clone();
    let base = side(&session, &whole);
    let mut other = session.clone();
    other.host.backend = "svm".to_owned();
    other.apicv = Some(true);
    other.probes.retain(|probe| probe.family != "sched");
    assert_eq!(kinds(&base, &side(&other, &whole)), ["backend", "apicv", "families"]);
    totals.lost.pool_full = 1_000_000;
    totals.lost_ticks = 3;
    totals.measured_ns = 4 * SECOND;
    let mut bad = side(&session, &totals);
    bad.gaps = vec![(20 * SECOND, 30 * SECOND)];
    assert_eq!(kinds(&base, &bad), ["lost", "lost-ticks", "short", "gaps"]);
    let empty = Totals::default();
    assert_eq!(kinds(&base, &side(&session, &empty)), ["empty", "one-side"]);
}

/// Records that the ring lost are single events; nothing here is made of them.
#[test]
fn losses_that_change_no_number_are_no_matter() {
    let ((session, mut totals), _) = sample();
    totals.lost.ring = 1_000_000;
    let side = side(&session, &totals);
    assert_eq!(kinds(&side, &side), Vec::<&str>::new());
}

#[test]
fn halts_cost_what_kvm_does_for_them() {
    let sum = |total_ns, off_ns, vmm_ns| Sum { total_ns, off_ns, vmm_ns, ..Sum::default() };
    let time = |reason, sum: &Sum| numbers::exit_time_ns(reason, sum);
    assert_eq!(time(vmx(30), &sum(10, 200, 3_000)), 3_010);
    assert_eq!(time(vmx(12), &sum(10, 200, 3_000)), 10);
    assert_eq!(time(Reason::userspace(2), &sum(500, 200, 0)), 500);
    assert_eq!(time(Reason::userspace(5), &sum(500, 200, 0)), 300);
}

#[test]
fn text_reads_well_and_fits() {
    let text = text::report(&sample_diff());
    for line in text.lines() {
        assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{line}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn names_cannot_reach_the_terminal_and_are_cut() {
    let evil = "evil\u{1b}[2J and a name that is much longer than there is room for in any line";
    let second = [Second {
        who: (1, 0),
        cells: vec![(vmx(1), 100, 1_000)],
        parts: &[(Phase::Guest, 1_000)],
    }];
    let totals = measured(10, &[(1, evil, 5)], &second);
    let session = session("6.12.8\u{1b}[2J", &["exit"]);
    let both = Side::new("\u{1b}]0;title\u{7}", &session, &totals);
    let text = text::report(&diff(&both, &both, &[]).expect("no wishes"));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 80), "{text}");
}

fn totals(ticks: &[Tick]) -> Totals {
    let mut totals = Totals::default();
    ticks.iter().for_each(|tick| totals.apply(tick));
    totals
}

/// Changes by who and what, in no order.
fn changes(diff: &Diff) -> Vec<String> {
    let mut all = Vec::new();
    let mut entity = |who: String, entity: &Entity, sign: f64| {
        let numbers = entity.load.map(|load| load.numbers);
        let rate = numbers.map(|n| n.rate).change() * sign;
        all.push(format!("{who}: {} {}", rate + 0.0, entity.change() * sign + 0.0));
        for (part, both) in entity.parts() {
            all.push(format!("{who} {part:?}: {}", both.change() * sign + 0.0));
        }
        for reason in &entity.reasons {
            all.push(format!("{who} {:?}: {}", reason.reason, reason.change() * sign + 0.0));
        }
    };
    let _ = &mut entity;
    for vm in &diff.vms {
        let name = vm.names.before.clone().max(vm.names.after.clone());
        let pid = vm.pids.before.max(vm.pids.after);
        entity(format!("{name} {pid}"), &vm.all, 1.0);
        for vcpu in &vm.vcpus {
            entity(format!("{name} {pid} {}", vcpu.vcpu), &vcpu.entity, 1.0);
        }
    }
    all.sort();
    all
}

/// The same with every sign turned around.
fn negated(mut diff: Diff) -> Diff {
    let turn = |entity: &mut Entity| {
        std::mem::swap(&mut entity.load.before, &mut entity.load.after);
        for reason in &mut entity.reasons {
            std::mem::swap(&mut reason.numbers.before, &mut reason.numbers.after);
        }
    };
    for vm in &mut diff.vms {
        turn(&mut vm.all);
        vm.vcpus.iter_mut().for_each(|vcpu| turn(&mut vcpu.entity));
    }
    diff
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_side_does_not_differ_from_itself(ticks in prop::collection::vec(any_tick(), 1..4)) {
        let (session, totals) = (Session::default(), totals(&ticks));
        let side = side(&session, &totals);
        let diff = diff(&side, &side, &[]).expect("no wishes");
        prop_assert!(diff.most().is_empty());
        for vm in &diff.vms {
            prop_assert_eq!(vm.all.seen, Where::Both);
            for entity in std::iter::once(&vm.all).chain(vm.vcpus.iter().map(|v| &v.entity)) {
                prop_assert_eq!(entity.change(), 0.0);
                prop_assert!(entity.parts().iter().all(|(_, both)| both.change() == 0.0));
                prop_assert!(entity.reasons.iter().all(|reason| reason.change() == 0.0));
            }
        }
    }

    #[test]
    fn the_other_way_round_everything_is_negated(
        a in prop::collection::vec(any_tick(), 1..3), b in prop::collection::vec(any_tick(), 1..3),
    ) {
        let (session, a, b) = (Session::default(), totals(&a), totals(&b));
        let there = diff(&side(&session, &a), &side(&session, &b), &[]).expect("no wishes");
        let back = diff(&side(&session, &b), &side(&session, &a), &[]).expect("no wishes");
        prop_assert_eq!(changes(&there), changes(&negated(back.clone())));
        let most = |diff: &Diff| -> Vec<f64> {
            diff.most().iter().map(|(_, reason)| reason.change()).collect()
        };
        let turned: Vec<f64> = most(&back).into_iter().map(|change| -change).collect();
        prop_assert_eq!(most(&there), turned);
    }

    /// Whatever is measured can be printed.
    #[test]
    fn text_and_json_are_made_of_everything(ticks in prop::collection::vec(any_tick(), 1..3)) {
        let (session, totals) = (Session::default(), totals(&ticks));
        let (none, side) = (Totals::default(), side(&session, &totals));
        for other in [&totals, &none] {
            let diff = diff(&super::testing::side(&session, other), &side, &[]).expect("no wishes");
            let text = text::report(&diff);
            for line in text.lines() {
                prop_assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{}", line);
            }
            let json = json::report(&diff).expect("serialises");
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        }
    }
}

/// Every field of a document with the objects around it.
fn fields(value: &serde_json::Value, at: &str, all: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (field, value) in object {
                let here = format!("{at}.{field}");
                fields(value, &here, all);
                all.insert(here);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| fields(value, at, all)),
        _ => {}
    }
}

const DOCUMENT: &str = include_str!("../../../docs/diff.md");

/// The example of the description has every field, and none that is not there; each is described.
#[test]
fn the_document_is_described() {
    let example = DOCUMENT.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = serde_json::from_str(example.expect("an example")).expect("is JSON");
    let json = json::report(&sample_diff()).expect("serialises");
    let real: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    let (mut shown, mut there) = (BTreeSet::new(), BTreeSet::new());
    fields(&example, "", &mut shown);
    fields(&real, "", &mut there);
    // The example leaves out what is a second time in a vCPU.
    let again = |field: &String| {
        [".vms.vcpus.wall_time.", ".vms.vcpus.reasons."].iter().any(|of| field.starts_with(of))
    };
    let there: BTreeSet<String> = there.into_iter().filter(|field| !again(field)).collect();
    assert_eq!(shown, there);
    let described = DOCUMENT.split("## JSON").nth(1).expect("a section");
    let described = described.rsplit("```").next().expect("tables behind the example");
    for field in &there {
        let name = field.rsplit('.').next().expect("a name");
        let words = [format!("`{name}`"), format!("`{name}[]`")];
        assert!(words.iter().any(|word| described.contains(word)), "{name} is not described");
    }
}

#[test]
fn every_warning_is_described() {
    let source = include_str!("alike.rs");
    let kinds = source.split("warning(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let kinds: BTreeSet<&str> =
        kinds.chain(["backend", "kernel", "host", "cpus", "apicv"]).collect();
    assert!(kinds.len() > 15, "{kinds:?}");
    for kind in kinds {
        assert!(DOCUMENT.contains(&format!("`{kind}`")), "{kind}");
    }
}

#[test]
fn json_has_the_same_numbers() {
    let diff = sample_diff();
    let json = json::report(&diff).expect("serialises");
    let json: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    let reason = &json["vms"][0]["reasons"][0];
    assert_eq!((&reason["reason"], &reason["seen"]), (&"EPT_MISCONFIG".into(), &"both".into()));
    assert_eq!(reason["before"]["rate"], 400.0);
    assert_eq!(reason["change"]["rate_ratio"], 0.075);
    assert_eq!(reason["change"]["exit_ns_per_second"], diff.vms[0].all.reasons[0].change());
    let gone = &json["vms"][4];
    assert_eq!(
        (&gone["seen"], &gone["pids"]["after"]),
        (&"before".into(), &serde_json::Value::Null)
    );
    assert_eq!(gone["change"]["p50_ns"], serde_json::Value::Null);
    assert_eq!(gone["change"]["rate_ratio"], 0.0);
}
