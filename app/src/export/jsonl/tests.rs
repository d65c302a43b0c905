use super::*;
use crate::export::testing::{export, recording};
use crate::model::testing::{any_tick, sample_tick};
use crate::record::{Item, Key};
use proptest::prelude::*;
use serde_json::Value;

fn lines(items: Vec<Item>, only: Option<&str>) -> Vec<Value> {
    let mut out = Vec::new();
    export(&mut Jsonl::new(&mut out), items, only);
    let text = String::from_utf8(out).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA_TEXT).expect("JSON")
}

/// The part of a schema that a name stands for, or itself.
fn resolved<'a>(root: &'a Value, part: &'a Value) -> &'a Value {
    let part = part["anyOf"].get(0).unwrap_or(part);
    match part["$ref"].as_str() {
        Some(path) => root.pointer(path.trim_start_matches('#')).expect("a definition"),
        None => part,
    }
}

/// A value has the fields that a schema says, no more and no less, all the way down. (Types are checked by a
/// validator, in the package of whole-program tests.)
fn has_its_fields(root: &Value, part: &Value, value: &Value, path: &str) {
    let part = resolved(root, part);
    match value {
        Value::Object(object) => {
            let known = part["properties"].as_object().unwrap_or_else(|| panic!("{path}: {part}"));
            let names = |keys: &mut dyn Iterator<Item = &String>| {
                keys.cloned().collect::<std::collections::BTreeSet<String>>()
            };
            assert_eq!(names(&mut object.keys()), names(&mut known.keys()), "{path}");
            let required = part["required"].as_array().map(Vec::len);
            assert_eq!(required, Some(known.len()), "{path}: all are always there");
            for (name, value) in object {
                has_its_fields(root, &known[name], value, &format!("{path}.{name}"));
            }
        }
        Value::Array(list) => {
            for value in list {
                has_its_fields(root, &part["items"], value, path);
            }
        }
        _ => {}
    }
}

fn check(lines: &[Value]) {
    let root = schema();
    for line in lines {
        let kind = line["type"].as_str().expect("a kind");
        let all = root["oneOf"].as_array().expect("kinds");
        let part = all.iter().find(|part| part["properties"]["type"]["const"] == kind);
        has_its_fields(&root, part.expect("a kind that is told of"), line, kind);
    }
}

#[test]
fn a_small_session_as_lines() {
    let mut out = Vec::new();
    export(&mut Jsonl::new(&mut out), recording(), None);
    insta::assert_snapshot!("jsonl", String::from_utf8(out).expect("UTF-8"));
}

#[test]
fn every_line_has_the_fields_of_the_schema() {
    let lines = lines(recording(), None);
    check(&lines);
    let kinds: std::collections::BTreeSet<&str> =
        lines.iter().filter_map(|line| line["type"].as_str()).collect();
    let all =
        ["end", "event", "gap", "mark", "session", "slow_exit", "tick", "vcpu", "vm", "vm_gone"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn the_schema_is_told_of_in_the_documentation() {
    let docs = include_str!("../../../../docs/export.md");
    let schema = schema();
    let kinds = schema["oneOf"].as_array().expect("kinds of lines");
    assert_eq!(kinds.len(), 11);
    for kind in kinds {
        let name = kind["properties"]["type"]["const"].as_str().expect("a name");
        assert!(docs.contains(&format!("| `{name}` |")), "{name} is not in docs/export.md");
    }
}

#[test]
fn one_vm_alone_can_be_exported_and_who_was_there_before_is_told() {
    let mut totals = Totals::default();
    totals.apply(&sample_tick());
    let key = Key { at_ns: 5, totals, ..Key::default() };
    let items = vec![
        Item::Session(Box::default()),
        Item::Key(Box::new(key)),
        Item::Tick(Box::new(Tick { seq: 8, dur_ns: 7, ..Tick::default() })),
    ];
    let all = lines(items.clone(), None);
    let kinds: Vec<&str> = all.iter().filter_map(|line| line["type"].as_str()).collect();
    assert_eq!(kinds, ["session", "vm", "vcpu", "vm", "vcpu", "tick"]);
    assert_eq!(all[5]["vcpus"][0]["time"]["guest_ns"], 7, "a silent vCPU goes on: {}", all[5]);
    assert_eq!(all[5]["vcpus"][0]["cpu"], Value::Null);
    let one = lines(items, Some("web-7"));
    let names: Vec<&str> = one.iter().filter_map(|line| line["name"].as_str()).collect();
    assert_eq!(names, ["web-7", "web-7"]);
    assert_eq!(one.last().expect("a tick")["vcpus"].as_array().map(Vec::len), Some(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tick_has_the_fields_of_the_schema(tick in any_tick()) {
        let lines = lines(vec![Item::Session(Box::default()), Item::Tick(Box::new(tick))], None);
        check(&lines);
    }
}
