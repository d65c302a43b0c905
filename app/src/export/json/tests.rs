use super::super::testing::{DETAILED_NS, detailed, sample};
use super::*;
use crate::findings::{Thresholds, facts_of, findings};
use serde_json::Value;

fn parsed() -> Value {
    let (session, totals) = sample();
    let text = report(&Content::new(&session, &totals, 3_000_000_000)).expect("serialises");
    serde_json::from_str(&text).expect("is JSON")
}

/// With details, findings and a symbol.
fn with_details() -> Value {
    let (session, totals) = detailed();
    let found = findings(&facts_of(&totals, &session.names), &Thresholds::default());
    let code = |vm: &str, rip: u64| {
        (vm == "web-7" && rip == 0xffff_ffff_8123_4567).then(|| "acpi_pm_read+0x7".to_owned())
    };
    let content = Content::new(&session, &totals, DETAILED_NS);
    let text = report(&Content { findings: &found, code: &code, ..content }).expect("serialises");
    serde_json::from_str(&text).expect("is JSON")
}

/// The first document of schema 1 is still in today's, field by field.
#[test]
fn nothing_that_was_there_has_changed() {
    let first: Value = serde_json::from_str(include_str!("first.json")).expect("is JSON");
    assert_contains(&parsed(), &first, "");
}

fn assert_contains(now: &Value, then: &Value, at: &str) {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            for (field, value) in then {
                let Some(now) = now.get(field) else { panic!("{at}/{field} is gone") };
                assert_contains(now, value, &format!("{at}/{field}"));
            }
        }
        (Value::Array(now), Value::Array(then)) => {
            assert_eq!(now.len(), then.len(), "{at}");
            for (n, (now, then)) in now.iter().zip(then).enumerate() {
                assert_contains(now, then, &format!("{at}/{n}"));
            }
        }
        _ => assert_eq!(now, then, "{at}"),
    }
}

#[test]
fn details_are_there_in_full() {
    let report = with_details();
    let mut shown = serde_json::Map::new();
    for field in ["findings", "outliers", "outliers_left_out", "detail_bounds"] {
        shown.insert(field.to_owned(), report[field].clone());
    }
    let vm = &report["vms"][0];
    for field in ["other_threads", "throttled_ns"] {
        shown.insert(field.to_owned(), vm[field].clone());
    }
    for field in ["time", "halts", "keys", "culprits"] {
        shown.insert(field.to_owned(), vm["vcpus"][0][field].clone());
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).expect("serialises"));
}

#[test]
fn without_details_their_fields_are_empty() {
    let report = parsed();
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert_eq!(report["outliers"], Value::Array(Vec::new()));
    let vm = &report["vms"][0];
    assert_eq!((&vm["other_threads"], &vm["throttled_ns"]), (&Value::Null, &Value::Null));
    assert_eq!(vm["vcpus"][0]["keys"], Value::Array(Vec::new()));
    assert_eq!(vm["vcpus"][0]["culprits"], Value::Array(Vec::new()));
}

/// Keys, "other" too, add up to the exits that they are about.
#[test]
fn keys_add_up_to_what_was_noted() {
    let report = with_details();
    let vcpu = &report["vms"][0]["vcpus"][0];
    let keys = vcpu["keys"].as_array().expect("a list");
    let of = |class: &str| {
        let of_class = keys.iter().filter(|key| key["class"] == class);
        of_class.filter_map(|key| key["count"].as_u64()).sum::<u64>()
    };
    let io = vcpu["exits"].as_array().expect("a list");
    let io = io.iter().find(|cell| cell["reason"] == "IO_INSTRUCTION").expect("is there");
    assert_eq!(of("port_in"), io["count"].as_u64().expect("a number"));
    let other = keys.iter().find(|key| key["value"].is_null()).expect("is there");
    for field in ["reason", "code", "key", "name"] {
        assert_eq!(other[field], Value::Null, "{field}");
    }
}

/// What is promised under schema 1. Only ever add to this list.
#[test]
fn every_promised_field_is_there() {
    let report = parsed();
    for path in [
        "/schema",
        "/host/kernel",
        "/host/backend",
        "/host/cpus",
        "/started_unix_ns",
        "/duration_ns",
        "/lost/missed_runs",
        "/lost/ring",
        "/lost/pool_full",
        "/lost/slots_full",
        "/probes/0/name",
        "/probes/0/family",
        "/probes/0/attached",
        "/probes/0/why",
        "/vms/0/id",
        "/vms/0/pid",
        "/vms/0/name",
        "/vms/0/started_unix_ns",
        "/vms/0/ended_unix_ns",
        "/vms/0/vcpus/0/vcpu",
        "/vms/0/vcpus/0/tid",
        "/vms/0/vcpus/0/time/polling_ns",
        "/vms/0/vcpus/0/time/kvm_asleep_ns",
        "/vms/0/vcpus/0/halts/polled",
        "/vms/0/vcpus/0/halts/waited",
        "/vms/0/vcpus/0/keys",
        "/vms/0/vcpus/0/culprits",
        "/vms/0/other_threads",
        "/vms/0/throttled_ns",
        "/findings",
        "/outliers",
        "/outliers_left_out",
        "/detail_bounds/keys_per_vcpu",
        "/detail_bounds/outliers",
        "/detail_bounds/outliers_per_second",
    ] {
        assert!(report.pointer(path).is_some(), "{path}");
    }
    for list in ["exits", "userspace_exits"] {
        let cell = &report["vms"][0]["vcpus"][0][list][0];
        for field in "reason code count timed open_ns total_ns off_cpu_ns vmm_ns min_ns max_ns \
                      p50_ns p90_ns p99_ns p999_ns"
            .split_whitespace()
        {
            assert!(cell.get(field).is_some(), "{list} {field}");
        }
    }
    assert_eq!(report["schema"], 1);
}

#[test]
fn numbers_are_those_of_the_totals() {
    let report = parsed();
    let vcpu = &report["vms"][0]["vcpus"][0];
    let hlt = &vcpu["exits"][0];
    assert_eq!((&hlt["reason"], &hlt["code"]), (&Value::from("HLT"), &Value::from(12)));
    assert_eq!((&hlt["count"], &hlt["timed"]), (&Value::from(3), &Value::from(2)));
    assert_eq!(hlt["open_ns"], 250_000_000);
    assert_eq!(hlt["idle"], true);
    let write = &vcpu["exits"][1];
    assert_eq!(write["reason"], "MSR_WRITE");
    assert_eq!(write["open_ns"], Value::Null);
    assert_eq!((&write["min_ns"], &write["max_ns"]), (&Value::from(900), &Value::from(88_000)));
    assert_eq!(vcpu["userspace_exits"][0]["reason"], "IO");
    assert_eq!(vcpu["time"]["guest_ns"], 3_000_000_000u64);
    assert_eq!(report["probes"][1]["why"], "The kernel has no such tracepoint.");
    assert_eq!(report["vms"][1]["ended_unix_ns"], 1_700_000_002_500_000_000u64);
    assert_eq!(report["lost"]["pool_full"], 7);
}

#[test]
fn an_exit_open_since_before_has_a_line_of_its_own() {
    let report = parsed();
    let cell = &report["vms"][1]["vcpus"][0]["exits"][0];
    assert_eq!((&cell["code"], &cell["count"]), (&Value::from(30), &Value::from(0)));
    assert_eq!(cell["open_ns"], 3_000_000_000u64);
    assert_eq!((&cell["timed"], &cell["p50_ns"]), (&Value::from(0), &Value::from(0)));
}

/// Every field, wherever it stands, is described.
#[test]
fn every_field_is_documented() {
    let text = include_str!("../../../../docs/json.md");
    let mut fields = std::collections::BTreeSet::new();
    collect(&with_details(), &mut fields);
    assert!(fields.len() > 80, "{fields:?}");
    for field in &fields {
        // By itself, or as a part of something ("host.kernel").
        let words = [format!("{field}`"), format!("{field}[]`"), format!("`{field}.")];
        assert!(words.iter().any(|word| text.contains(word)), "{field}");
    }
}

fn collect(value: &Value, fields: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (field, value) in object {
                fields.insert(field.clone());
                collect(value, fields);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, fields)),
        _ => {}
    }
}
