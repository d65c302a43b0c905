use super::super::testing::{
    DETAILED_NS, INTERRUPTED_NS, REMEMBERED_NS, detailed, interrupted, remembered, sample,
};
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

/// With memory, calls and events.
fn with_memory() -> Value {
    let (session, totals) = remembered();
    let content = Content::new(&session, &totals, REMEMBERED_NS);
    serde_json::from_str(&report(&content).expect("serialises")).expect("is JSON")
}

/// With interrupts and scheduling.
fn with_interrupts() -> Value {
    let (session, totals) = interrupted();
    let content = Content::new(&session, &totals, INTERRUPTED_NS);
    serde_json::from_str(&report(&content).expect("serialises")).expect("is JSON")
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
fn memory_calls_and_events_are_there_in_full() {
    let report = with_memory();
    let mut shown = serde_json::Map::new();
    for field in ["families", "events_left_out", "stacks", "stacks_left_out", "dirty_elsewhere"] {
        shown.insert(field.to_owned(), report[field].clone());
    }
    let vm = &report["vms"][0];
    for field in ["memory", "calls"] {
        shown.insert(field.to_owned(), vm[field].clone());
        let of_vcpu = vm["vcpus"][1][field].clone();
        shown.insert(format!("{field} of vCPU 1"), of_vcpu);
    }
    // Of each kind one.
    let events = report["events"].as_array().expect("a list");
    let mut kinds = std::collections::BTreeSet::new();
    let events = events.iter().filter(|event| kinds.insert(event["kind"].as_str()));
    shown.insert("events".to_owned(), events.cloned().collect());
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).expect("serialises"));
}

/// What is listed, and what is not, adds up; a VM has what its vCPUs have.
#[test]
fn memory_adds_up() {
    let report = with_memory();
    let vm = &report["vms"][0];
    let sum = |list: &Value| -> u64 {
        let list = list.as_array().expect("a list");
        list.iter().filter_map(|entry| entry["count"].as_u64()).sum()
    };
    let of = |place: &Value, field: &str| {
        let other = place[format!("{field}_other").as_str()].as_u64().unwrap_or(0);
        sum(&place[field]) + other
    };
    assert_eq!(of(&vm["memory"], "pages"), (24..=30).sum::<u64>() + 900 + 60);
    assert_eq!(of(&vm["memory"], "faults"), 262_144 + 4_000 + 12);
    assert_eq!(sum(&vm["memory"]["dirty"]["slots"]), 5_002);
    for (section, field) in [("memory", "faults"), ("memory", "pages"), ("memory", "mmio")] {
        let vcpus = vm["vcpus"].as_array().expect("a list");
        let all: u64 = vcpus.iter().map(|vcpu| of(&vcpu[section], field)).sum();
        assert_eq!(all, of(&vm[section], field), "{field}");
    }
}

#[test]
fn what_is_off_is_null_and_says_why() {
    let report = parsed();
    let vm = &report["vms"][0];
    for path in ["faults", "pages", "mmio", "dirty", "roots", "loads"] {
        assert_eq!(vm["memory"][path], Value::Null, "{path}");
        assert_eq!(vm["vcpus"][0]["memory"][path], Value::Null, "{path}");
    }
    assert_eq!((&vm["calls"]["hypercalls"], &vm["calls"]["ioctls"]), (&Value::Null, &Value::Null));
    assert_eq!(report["events"], Value::Array(Vec::new()));
    let report = with_memory();
    let families = report["families"].as_array().expect("a list");
    let of = |name: &str| families.iter().find(|family| family["name"] == name).expect("there");
    assert_eq!((&of("mmu")["on"], &of("mmu")["why"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(of("culprits")["why"], "off; attached with --probes culprits");
    assert_eq!(report["vms"][1]["memory"]["dirty"]["logs"], Value::Null);
    // On, and nothing happened in the other VM.
    assert_eq!(report["vms"][1]["memory"]["faults"], Value::Array(Vec::new()));
}

/// Of a family that is on, what a probe would tell that cannot be attached.
#[test]
fn what_a_refused_probe_would_tell_is_null() {
    for (hook, field) in [
        ("kprobe:mark_page_dirty_in_slot", "dirty"),
        ("kprobe:load_mmu_pgd", "roots"),
        ("kprobe:kvm_arch_vcpu_load", "loads"),
    ] {
        let (mut session, totals) = remembered();
        let memory_of_second = |session: &Session| -> Value {
            let content = Content::new(session, &totals, REMEMBERED_NS);
            let text = report(&content).expect("serialises");
            let report: Value = serde_json::from_str(&text).expect("is JSON");
            report["vms"][1]["memory"][field].clone()
        };
        assert!(!memory_of_second(&session).is_null(), "{field}");
        let probe = session.probes.iter_mut().find(|probe| probe.name == hook).expect("there");
        probe.attached = false;
        assert_eq!(memory_of_second(&session), Value::Null, "{field}");
    }
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
        "/families/0/name",
        "/families/0/on",
        "/families/0/why",
        "/events",
        "/events_left_out",
        "/vms/0/memory/faults",
        "/vms/0/memory/pages",
        "/vms/0/memory/pages_other",
        "/vms/0/memory/mmio",
        "/vms/0/memory/mmio_other",
        "/vms/0/memory/dirty",
        "/vms/0/memory/roots",
        "/vms/0/memory/roots_other",
        "/vms/0/calls/hypercalls",
        "/vms/0/calls/hypercalls_other",
        "/vms/0/calls/ioctls",
        "/vms/0/vcpus/0/memory/faults",
        "/vms/0/vcpus/0/calls/hypercalls",
        "/detail_bounds/events_per_kind",
        "/detail_bounds/events_per_second",
        "/detail_bounds/listed",
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

/// Sections of the description, by the field whose objects they are about.
const SECTIONS: [(&str, &str); 16] = [
    ("", "## The document"),
    ("vms", "## A VM"),
    ("vcpus", "## A vCPU"),
    ("exits", "## A reason"),
    ("userspace_exits", "## A reason"),
    ("keys", "## A key"),
    ("memory", "## Memory"),
    ("calls", "## Calls"),
    ("interrupts", "## Interrupts"),
    ("routes_unknown", "## Interrupts"),
    ("scheduling", "## Scheduling"),
    ("stacks", "## A stack"),
    ("events", "## An event"),
    ("culprits", "## A culprit"),
    ("outliers", "## An outlier"),
    ("findings", "## A finding"),
];

/// Every field is described in the section of what it belongs to.
#[test]
fn every_field_is_documented() {
    let text = include_str!("../../../../docs/json.md");
    let mut fields = std::collections::BTreeSet::new();
    collect(&with_details(), "", &mut fields);
    collect(&with_memory(), "", &mut fields);
    collect(&with_interrupts(), "", &mut fields);
    assert!(fields.len() > 190, "{}: {fields:?}", fields.len());
    for (place, field) in &fields {
        let (_, head) = SECTIONS.iter().find(|(of, _)| of == place).expect("a section");
        let begin = text.find(&format!("{head}\n")).unwrap_or_else(|| panic!("no {head}"));
        let section = &text[begin + head.len()..];
        let section = &section[..section.find("\n## ").unwrap_or(section.len())];
        // By itself, or with what it is a part of ("host.kernel"), or of which others are parts.
        let words = [format!("`{field}`"), format!("`{field}[]`"), format!("`{field}.")];
        let parts = [format!(".{field}`"), format!(".{field}[]`"), format!("`{field}[].")];
        let is_there = words.iter().chain(&parts).any(|word| section.contains(word));
        assert!(is_there, "{field} under {head}");
    }
}

/// The example of the description has every field, and none that is not there.
#[test]
fn the_example_is_whole() {
    let text = include_str!("../../../../docs/json.md");
    let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = serde_json::from_str(example.expect("an example")).expect("is JSON");
    let (mut shown, mut fields) = Default::default();
    collect(&example, "", &mut shown);
    collect(&with_details(), "", &mut fields);
    collect(&with_memory(), "", &mut fields);
    collect(&with_interrupts(), "", &mut fields);
    assert_eq!(shown, fields);
}

/// What is described is there.
#[test]
fn every_description_has_its_field() {
    let mut fields = std::collections::BTreeSet::new();
    collect(&with_details(), "", &mut fields);
    collect(&with_memory(), "", &mut fields);
    collect(&with_interrupts(), "", &mut fields);
    let fields: std::collections::BTreeSet<String> =
        fields.into_iter().map(|(_, field)| field).collect();
    let text = include_str!("../../../../docs/json.md");
    // The first column of each table of fields.
    let mut described = 0;
    let mut is_of_fields = false;
    for line in text.lines() {
        is_of_fields = line.starts_with("| field") || (is_of_fields && line.starts_with('|'));
        let cell = line.split('|').nth(1).filter(|_| is_of_fields).unwrap_or("");
        for name in cell.split('`').skip(1).step_by(2) {
            let last = name.trim_end_matches("[]").rsplit('.').next().unwrap_or(name);
            assert!(fields.contains(last), "{name} is described and nowhere");
            described += 1;
        }
    }
    assert!(described > 120, "{described}");
}

/// The fields of all objects, each with the nearest field around it that has a section.
fn collect(value: &Value, at: &str, fields: &mut std::collections::BTreeSet<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (field, value) in object {
                fields.insert((at.to_owned(), field.clone()));
                let has_section = SECTIONS.iter().any(|(of, _)| of == field);
                collect(value, if has_section { field } else { at }, fields);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, at, fields)),
        _ => {}
    }
}
