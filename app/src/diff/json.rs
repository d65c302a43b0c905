//! The comparison as JSON, described in `docs/diff.md`. What is there under `schema` 1 stays as it is; fields may
//! be added.

use super::{About, Both, Diff, Entity, Load, Numbers, ReasonDiff, VmDiff, Where};
use crate::model::ids::Kind;
use crate::state::rows::Part;
use kvmscope_shared::column::hardware_code;
use serde::Serialize;

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// Everything that was compared, as one line of JSON.
pub fn report(diff: &Diff) -> serde_json::Result<String> {
    let document = Document {
        schema: SCHEMA,
        before: Measured::new(&diff.about.before),
        after: Measured::new(&diff.about.after),
        warnings: diff
            .warnings
            .iter()
            .map(|warning| Said { kind: warning.kind, text: &warning.text })
            .collect(),
        vms: diff.vms.iter().map(Vm::new).collect(),
    };
    serde_json::to_string(&document)
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: u32,
    before: Measured<'a>,
    after: Measured<'a>,
    warnings: Vec<Said<'a>>,
    vms: Vec<Vm<'a>>,
}

#[derive(Debug, Serialize)]
struct Measured<'a> {
    label: &'a str,
    host: &'a str,
    kernel: &'a str,
    backend: &'a str,
    from_unix_ns: u64,
    until_unix_ns: u64,
    measured_ns: u64,
    gaps: usize,
    gaps_ns: u64,
    lost: u64,
}

impl<'a> Measured<'a> {
    fn new(about: &'a About) -> Self {
        Self {
            label: &about.label,
            host: &about.host,
            kernel: &about.kernel,
            backend: &about.backend,
            from_unix_ns: about.from_unix_ns,
            until_unix_ns: about.until_unix_ns,
            measured_ns: about.measured_ns,
            gaps: about.gaps,
            gaps_ns: about.gaps_ns,
            lost: about.lost,
        }
    }
}

#[derive(Debug, Serialize)]
struct Said<'a> {
    kind: &'static str,
    text: &'a str,
}

#[derive(Debug, Serialize)]
struct Vm<'a> {
    name: &'a str,
    names: Sides<Option<&'a str>>,
    pids: Sides<Option<u32>>,
    present_ns: Sides<Option<u64>>,
    vmm: &'a str,
    #[serde(flatten)]
    all: Whole<'a>,
    vcpus: Vec<Vcpu<'a>>,
}

impl<'a> Vm<'a> {
    fn new(vm: &'a VmDiff) -> Self {
        let seen = vm.all.seen;
        Self {
            name: &vm.name,
            names: there(seen, Both::new(vm.names.before.as_str(), vm.names.after.as_str())),
            pids: there(seen, vm.pids),
            present_ns: there(seen, vm.all.present_ns),
            vmm: &vm.vmm,
            all: Whole::new(&vm.all),
            vcpus: vm
                .vcpus
                .iter()
                .map(|vcpu| Vcpu { vcpu: vcpu.vcpu, whole: Whole::new(&vcpu.entity) })
                .collect(),
        }
    }
}

/// A value of each side.
#[derive(Debug, Serialize)]
struct Sides<T> {
    before: T,
    after: T,
}

/// `null` on the side where there was nothing.
fn there<T>(seen: Where, both: Both<T>) -> Sides<Option<T>> {
    let Both { before, after } = both;
    Sides {
        before: (seen != Where::After).then_some(before),
        after: (seen != Where::Before).then_some(after),
    }
}

#[derive(Debug, Serialize)]
struct Vcpu<'a> {
    vcpu: u32,
    #[serde(flatten)]
    whole: Whole<'a>,
}

/// A VM or a vCPU.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    seen: &'static str,
    exits: Sides<Cell>,
    change: Change,
    vcpu_count: Sides<usize>,
    userspace_rate: Sides<f64>,
    wall_time: Vec<Share>,
    reasons: Vec<OfReason<'a>>,
}

impl<'a> Whole<'a> {
    fn new(entity: &'a Entity) -> Self {
        let load = &entity.load;
        let sides =
            |of: fn(&Load) -> f64| Sides { before: of(&load.before), after: of(&load.after) };
        let numbers = load.map(|load| load.numbers);
        Self {
            seen: seen_word(entity.seen),
            exits: cells(&numbers),
            change: Change::new(&numbers),
            vcpu_count: Sides { before: load.before.vcpus, after: load.after.vcpus },
            userspace_rate: sides(|load| load.user_rate),
            wall_time: entity
                .parts()
                .into_iter()
                .map(|(part, both)| Share {
                    part: part_word(part),
                    before: both.before,
                    after: both.after,
                    change: both.change(),
                })
                .collect(),
            reasons: entity.reasons.iter().map(OfReason::new).collect(),
        }
    }
}

fn seen_word(seen: Where) -> &'static str {
    match seen {
        Where::Both => "both",
        Where::Before => "before",
        Where::After => "after",
    }
}

/// As in reports, where their times are.
fn part_word(part: Part) -> &'static str {
    match part {
        Part::Guest => "guest",
        Part::Kvm => "kvm",
        Part::Vmm => "vmm",
        Part::VmmAsleep => "vmm_asleep",
        Part::Polling => "polling",
        Part::Halted => "halted",
        Part::KvmAsleep => "kvm_asleep",
        Part::Waiting => "waiting",
        Part::Unknown => "unknown",
    }
}

#[derive(Debug, Serialize)]
struct Share {
    part: &'static str,
    before: f64,
    after: f64,
    change: f64,
}

fn cells(numbers: &Both<Numbers>) -> Sides<Cell> {
    Sides { before: Cell::new(&numbers.before), after: Cell::new(&numbers.after) }
}

#[derive(Debug, Serialize)]
struct Cell {
    count: u64,
    timed: u64,
    rate: f64,
    share_of_exits: f64,
    exit_ns_per_second: f64,
    share_of_time: f64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
}

impl Cell {
    fn new(numbers: &Numbers) -> Self {
        Self {
            count: numbers.count,
            timed: numbers.timed,
            rate: numbers.rate,
            share_of_exits: numbers.of_exits,
            exit_ns_per_second: numbers.time,
            share_of_time: numbers.of_time,
            p50_ns: numbers.p50_ns,
            p99_ns: numbers.p99_ns,
            max_ns: numbers.max_ns,
        }
    }
}

#[derive(Debug, Serialize)]
struct Change {
    rate: f64,
    rate_ratio: Option<f64>,
    exit_ns_per_second: f64,
    share_of_exits: f64,
    share_of_time: f64,
    p50_ns: Option<i64>,
    p50_ratio: Option<f64>,
    p99_ns: Option<i64>,
    p99_ratio: Option<f64>,
}

impl Change {
    fn new(numbers: &Both<Numbers>) -> Self {
        let of = |of: fn(&Numbers) -> f64| numbers.map(of).change();
        let rates = numbers.map(|n| n.rate);
        let (p50, p99) = (numbers.map(|n| n.p50_ns), numbers.map(|n| n.p99_ns));
        Self {
            rate: rates.change(),
            rate_ratio: rates.ratio(),
            exit_ns_per_second: of(|n| n.time),
            share_of_exits: of(|n| n.of_exits),
            share_of_time: of(|n| n.of_time),
            p50_ns: difference(&p50),
            p50_ratio: ratio(&p50),
            p99_ns: difference(&p99),
            p99_ratio: ratio(&p99),
        }
    }
}

fn difference(both: &Both<Option<u64>>) -> Option<i64> {
    let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    Some(signed(both.after?).saturating_sub(signed(both.before?)))
}

fn ratio(both: &Both<Option<u64>>) -> Option<f64> {
    Both::new(both.before? as f64, both.after? as f64).ratio()
}

#[derive(Debug, Serialize)]
struct OfReason<'a> {
    reason: &'a str,
    kind: &'static str,
    code: u32,
    idle: bool,
    seen: &'static str,
    before: Cell,
    after: Cell,
    change: Change,
}

impl<'a> OfReason<'a> {
    fn new(reason: &'a ReasonDiff) -> Self {
        let Sides { before, after } = cells(&reason.numbers);
        Self {
            reason: &reason.name,
            kind: match reason.reason.kind {
                Kind::Exit => "exit",
                Kind::Userspace => "userspace",
            },
            code: hardware_code(reason.reason.code),
            idle: reason.reason.is_idle(),
            seen: seen_word(reason.seen),
            before,
            after,
            change: Change::new(&reason.numbers),
        }
    }
}
