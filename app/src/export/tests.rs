//! Interrupts and scheduling in both formats.

use super::testing::{INTERRUPTED_NS, interrupted, sample};
use super::{Content, json, text};
use crate::model::detail::KeyClass;
use crate::model::totals::Totals;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

fn as_json() -> Value {
    let (session, totals) = interrupted();
    let content = Content::new(&session, &totals, INTERRUPTED_NS);
    serde_json::from_str(&json::report(&content).expect("serialises")).expect("is JSON")
}

fn as_text() -> String {
    let (session, totals) = interrupted();
    text::report(&Content::new(&session, &totals, INTERRUPTED_NS))
}

/// The sum of a field over a list.
fn sum(list: &Value, field: &str) -> u64 {
    let list = list.as_array().expect("a list");
    list.iter().map(|entry| entry[field].as_u64().expect("a number")).sum()
}

#[test]
fn interrupts_and_scheduling_are_there_in_full() {
    let report = as_json();
    let mut shown = serde_json::Map::new();
    for field in ["routes_unknown", "routes_unknown_other", "routes_left_out"] {
        shown.insert(field.to_owned(), report[field].clone());
    }
    let vm = &report["vms"][0];
    shown.insert("VM".to_owned(), vm["interrupts"].clone());
    shown.insert("vCPU 1".to_owned(), vm["vcpus"][1]["interrupts"].clone());
    for (n, name) in ["scheduling of vCPU 0", "scheduling of vCPU 1"].into_iter().enumerate() {
        shown.insert(name.to_owned(), vm["vcpus"][n]["scheduling"].clone());
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).expect("serialises"));
}

#[test]
fn interrupts_and_scheduling_read_well() {
    insta::assert_snapshot!(as_text());
}

#[test]
fn they_fit_a_hundred_columns_and_cannot_reach_the_terminal() {
    let text = as_text();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    let mut in_reasons = false;
    for line in text.lines() {
        in_reasons =
            line.contains("kind") && line.contains("of wall") || (in_reasons && !line.is_empty());
        assert!(in_reasons || line.width() <= 100, "{} {line}", line.width());
    }
}

/// A VM has what its vCPUs have; what is listed and what is not adds up to what was counted.
#[test]
fn interrupts_add_up() {
    let report = as_json();
    let vm = &report["vms"][0];
    for (field, all) in [
        ("injected", 4_878),
        ("exceptions", 92),
        ("eois", 4_501),
        ("ipis", 546),
        ("delivered", 4_609),
        // Vhost's 300 too.
        ("received", 4_909),
    ] {
        let other = format!("{field}_other");
        let of = |at: &Value| {
            let at = &at["interrupts"];
            sum(&at[field], "count") + at[other.as_str()].as_u64().expect("a number")
        };
        let vcpus = vm["vcpus"].as_array().expect("a list");
        assert_eq!(of(vm), all, "{field}");
        assert_eq!(vcpus.iter().map(of).sum::<u64>(), all, "{field}");
    }
    assert_eq!(sum(&vm["interrupts"]["routes"], "count"), 1_210);
}

#[test]
fn time_on_cpus_adds_up_with_what_is_open_and_what_has_no_place() {
    let report = as_json();
    let load = &report["vms"][0]["vcpus"][0]["scheduling"]["load"];
    let number = |field: &str| load[field].as_u64().expect("a number");
    assert_eq!(number("loaded_ns"), number("total_ns") + number("open_ns"));
    assert_eq!(number("open_ns"), 700_000_000);
    assert_eq!(sum(&load["cpus"], "open_ns"), number("open_ns"), "of the CPU that it is on");
    assert_eq!(load["cpus"][0]["cpu"], 3);
    assert_eq!(sum(&load["cpus"], "count") + number("cpus_other"), 52);
}

#[test]
fn what_is_off_is_null_and_what_did_not_happen_is_empty() {
    let (session, totals) = sample();
    let content = Content::new(&session, &totals, 3_000_000_000);
    let report: Value =
        serde_json::from_str(&json::report(&content).expect("serialises")).expect("is JSON");
    let vm = &report["vms"][0];
    for part in
        ["injected", "exceptions", "eois", "ipis", "delivered", "received", "timers", "routes"]
    {
        assert_eq!(vm["interrupts"][part], Value::Null, "{part}");
        assert_eq!(vm["vcpus"][0]["interrupts"][part], Value::Null, "{part}");
    }
    for part in ["halt_poll", "wakeups", "load"] {
        assert_eq!(vm["vcpus"][0]["scheduling"][part], Value::Null, "{part}");
    }
    // On, and nothing happened in the other VM.
    let report = as_json();
    let other = &report["vms"][1];
    assert_eq!(other["interrupts"]["injected"], Value::Array(Vec::new()));
    let vcpu = &other["vcpus"][0];
    assert_eq!(vcpu["scheduling"]["wakeups"], Value::Array(Vec::new()));
    assert_eq!(vcpu["scheduling"]["halt_poll"]["window_ns"], Value::Null);
    assert_eq!(vcpu["scheduling"]["load"]["loaded_ns"], 0);
}

/// What has a table of its own is not in the table of keys a second time.
#[test]
fn keys_with_tables_of_their_own_are_told_once() {
    let text = as_text();
    assert!(!text.contains("What they were about"), "{text}");
    assert!(!text.contains("other: "), "{text}");
}

#[test]
fn interrupts_that_the_processor_takes_itself_are_said() {
    let silent = |totals: &Totals| {
        let (session, _) = interrupted();
        let text = text::report(&Content::new(&session, totals, INTERRUPTED_NS));
        text.matches("KVM put no interrupt in itself").count()
    };
    let (_, mut totals) = interrupted();
    assert_eq!(silent(&totals), 0);
    for vcpu in totals.vms.values_mut().flat_map(|vm| vm.vcpus.values_mut()) {
        vcpu.keys.retain(|id, _| id.class != KeyClass::Injected);
    }
    assert_eq!(silent(&totals), 1);
}

#[test]
fn why_the_processor_does_not_deliver_is_said() {
    let (mut session, mut totals) = interrupted();
    let mut of = |allowed, inhibits, reason: &str| {
        session.apicv = allowed;
        session.host.backend = reason.to_owned();
        for vm in totals.vms.values_mut() {
            vm.apicv_inhibits = inhibits;
        }
        text::report(&Content::new(&session, &totals, INTERRUPTED_NS))
    };
    for (allowed, inhibits, backend, said) in [
        (Some(true), Some(0x104), "vmx", "  APICv is inhibited: ABSENT, bit 8.\n"),
        (Some(true), Some(0), "svm", "  AVIC is active.\n"),
        (Some(false), None, "svm", "  AVIC is off on this host.\n"),
        (None, Some(0), "none", "  Nothing inhibits APIC virtualization.\n"),
    ] {
        assert!(of(allowed, inhibits, backend).contains(said), "{said}");
    }
    for allowed in [Some(true), None] {
        let text = of(allowed, None, "vmx");
        assert!(!text.contains("APICv is") && !text.contains("inhibits"), "{text}");
    }
}

/// A report is of one VM or of all; what may be of any VM is there either way.
#[test]
fn routes_of_other_vms_go_with_them() {
    let (_, mut totals) = interrupted();
    totals.routes.retain(|vm| vm.0 == 2);
    let all = |vm| totals.routes.of(vm).len();
    assert_eq!((all(Some(crate::model::ids::VmId(1))), all(None)), (0, 2));
}
