use super::*;
use crate::export::testing::{export, recording};
use crate::record::Item;
use micropb::{PbDecoder, WIRE_TYPE_I64, WIRE_TYPE_LEN, WIRE_TYPE_VARINT};

/// What a message has in it: numbers of fields and their values, as any reader of the format sees them.
#[derive(Debug, Clone)]
enum Field {
    Number(u64),
    Double(f64),
    Bytes(Vec<u8>),
}

fn fields(bytes: &[u8]) -> Vec<(u32, Field)> {
    let mut rest = PbDecoder::new(bytes);
    let mut fields = Vec::new();
    while !rest.as_reader().is_empty() {
        let tag = rest.decode_tag().expect("a tag");
        let field = match tag.wire_type() {
            WIRE_TYPE_VARINT => Field::Number(rest.decode_varint64().expect("a number")),
            WIRE_TYPE_I64 => Field::Double(rest.decode_double().expect("a double")),
            WIRE_TYPE_LEN => {
                let length = rest.decode_varint32().expect("a length") as usize;
                let bytes = rest.as_reader()[..length].to_vec();
                rest.skip_bytes(length).expect("so many");
                Field::Bytes(bytes)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((tag.field_num(), field));
    }
    fields
}

fn number(fields: &[(u32, Field)], wanted: u32) -> Option<u64> {
    fields.iter().find_map(|(field, value)| match value {
        Field::Number(n) if *field == wanted => Some(*n),
        _ => None,
    })
}

fn messages(fields: &[(u32, Field)], wanted: u32) -> Vec<Vec<u8>> {
    let bytes = fields.iter().filter_map(|(field, value)| match value {
        Field::Bytes(bytes) if *field == wanted => Some(bytes.clone()),
        _ => None,
    });
    bytes.collect()
}

fn text(fields: &[(u32, Field)], wanted: u32) -> Option<String> {
    let bytes = messages(fields, wanted).into_iter().next()?;
    Some(String::from_utf8(bytes).expect("UTF-8"))
}

/// A trace as it is read.
#[derive(Debug, Default)]
struct Trace {
    clocks: Vec<(u64, u64)>,
    rows: Vec<(u64, Option<u64>, String)>,
    events: Vec<(u64, Seen)>,
}

#[derive(Debug)]
struct Seen {
    kind: u64,
    track: u64,
    name: Option<String>,
    value: Option<f64>,
    notes: Vec<(String, String)>,
}

fn trace(items: Vec<Item>) -> Trace {
    let mut out = Vec::new();
    export(&mut Perfetto::new(&mut out), items, None);
    let mut trace = Trace::default();
    for packet in messages(&fields(&out), 1) {
        let packet = fields(&packet);
        assert_eq!(number(&packet, 10), Some(1), "one sequence");
        for snapshot in messages(&packet, 6) {
            let snapshot = fields(&snapshot);
            assert_eq!(
                (number(&snapshot, 2), number(&packet, 13)),
                (Some(CLOCK_MONOTONIC), Some(1))
            );
            assert!(trace.rows.is_empty() && trace.events.is_empty(), "first of all");
            let clocks = messages(&snapshot, 1).into_iter().map(|clock| fields(&clock));
            trace.clocks = clocks
                .map(|clock| (number(&clock, 1).expect("an id"), number(&clock, 2).expect("ns")))
                .collect();
        }
        for row in messages(&packet, 60) {
            let row = fields(&row);
            let name = text(&row, 2).expect("a name");
            trace.rows.push((number(&row, 1).expect("a number"), number(&row, 5), name));
        }
        for event in messages(&packet, 11) {
            let event = fields(&event);
            let notes = messages(&event, 4).into_iter().map(|note| fields(&note));
            let value = |note: &[(u32, Field)]| {
                text(note, 6).or(number(note, 3).map(|n| n.to_string())).expect("a value")
            };
            let seen = Seen {
                kind: number(&event, 9).expect("a kind"),
                track: number(&event, 11).expect("a track"),
                name: text(&event, 23),
                value: event.iter().find_map(|(field, value)| match value {
                    Field::Double(value) if *field == 44 => Some(*value),
                    _ => None,
                }),
                notes: notes.map(|note| (text(&note, 10).expect("a name"), value(&note))).collect(),
            };
            assert_eq!(number(&packet, 58), Some(CLOCK_MONOTONIC));
            trace.events.push((number(&packet, 8).expect("a moment"), seen));
        }
    }
    trace
}

/// Names of tracks by their numbers, with those above them.
fn names(trace: &Trace) -> BTreeMap<u64, String> {
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    for (number, parent, name) in &trace.rows {
        let above = parent.map(|parent| format!("{}/", names[&parent])).unwrap_or_default();
        let before = names.insert(*number, format!("{above}{name}"));
        assert_eq!(before, None, "told of once");
    }
    names
}

/// Slices by track: name, begin, end.
fn slices(trace: &Trace) -> BTreeMap<String, Vec<(String, u64, u64)>> {
    let names = names(trace);
    let mut events: Vec<&(u64, Seen)> = trace.events.iter().collect();
    // As whoever reads it does.
    events.sort_by_key(|(at_ns, _)| *at_ns);
    let mut slices: BTreeMap<String, Vec<(String, u64, u64)>> = BTreeMap::new();
    let mut open: BTreeMap<u64, (String, u64)> = BTreeMap::new();
    for (at_ns, event) in events {
        match event.kind {
            kind::BEGIN => {
                let name = event.name.clone().expect("a name");
                let before = open.insert(event.track, (name, *at_ns));
                assert_eq!(before, None, "{} overlaps", names[&event.track]);
            }
            kind::END => {
                let (name, from) = open.remove(&event.track).expect("it began");
                let track = names[&event.track].clone();
                slices.entry(track).or_default().push((name, from, *at_ns));
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    slices
}

#[test]
fn a_small_session_as_a_trace() {
    let trace = trace(recording());
    let names = names(&trace);
    let mut text = String::new();
    for (at_ns, event) in &trace.events {
        let what = ["", "begin", "end", "instant", "counter"][event.kind as usize];
        text += &format!("{at_ns} {}: {what}", names[&event.track]);
        text += &event.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        text += &event.value.map(|n| format!(" {n}")).unwrap_or_default();
        for (name, value) in &event.notes {
            text += &format!(" {name}={value}");
        }
        text.push('\n');
    }
    let version = format!("kvmscope={}", env!("CARGO_PKG_VERSION"));
    insta::assert_snapshot!("perfetto", text.replace(&version, "kvmscope=X"));
}

#[test]
fn the_trace_begins_with_its_clocks() {
    let trace = trace(recording());
    let second = 1_000_000_000;
    let (monotonic, wall) =
        ((CLOCK_MONOTONIC, 10 * second), (CLOCK_REALTIME, 1_700_000_000 * second));
    assert!(
        trace.clocks.contains(&monotonic) && trace.clocks.contains(&wall),
        "{:?}",
        trace.clocks
    );
    assert!(trace.events.len() > 20);
}

/// The lengths of slices are the times of the report.
#[test]
fn time_on_tracks_is_that_of_the_report() {
    let items = recording();
    let mut totals = Totals::default();
    for item in &items {
        if let Item::Tick(tick) = item {
            totals.apply(tick);
        }
    }
    let slices = slices(&trace(items));
    for vm in totals.vms.values() {
        for (number, vcpu) in &vm.vcpus {
            if vm.ended_ns.is_some() {
                continue;
            }
            let track = format!("{} (VM {})/vCPU {number}", vm.info.name, vm.info.id.0);
            for phase in Phase::ALL {
                let of = slices[&track].iter().filter(|(name, _, _)| name == state_word(phase));
                let ns: u64 = of.map(|(_, from, until)| until - from).sum();
                assert_eq!(ns, vcpu.time.get(phase), "{track} {phase:?}");
            }
        }
    }
}

#[test]
fn slow_exits_gaps_and_rates_are_there() {
    let trace = trace(recording());
    let slices = slices(&trace);
    let slow = &slices["web-7 (VM 1)/vCPU 0/slow exits"];
    assert_eq!(slow.len(), 2);
    assert!(slow.iter().all(|(_, from, until)| from < until || until - from == 0));
    let second = 1_000_000_000;
    let gap = ("no data".to_owned(), 53 * second, 60 * second);
    assert_eq!(slices["KVM on db-42/no data"], [gap]);
    let names = names(&trace);
    let rate = |track: &str| -> Vec<(u64, f64)> {
        let of = trace.events.iter().filter(|(_, event)| names[&event.track] == track);
        of.map(|(at_ns, event)| (at_ns / second, event.value.expect("a counter"))).collect()
    };
    // Three exits in the first second, two in the next, one in the third; then 36,100 in forty.
    let expected = [(10, 3.0), (11, 2.0), (12, 1.0), (13, 902.5)];
    assert_eq!(rate("web-7 (VM 1)/exits/s"), expected);
    assert_eq!(rate("web-7 (VM 1)/vCPU 0/exits/s"), expected);
    assert_eq!(rate("web-7 (VM 1)/MSR_WRITE/s"), [(10, 3.0), (11, 0.0)]);
}
