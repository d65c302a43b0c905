//! Rows of the screen's lists: VMs, vCPUs and reasons alike, with the fields that one sorts and filters by.

use crate::diff::words::{percent, points, signed_ns, times};
use crate::diff::{Both, Diff, Entity, Load, Numbers, ReasonDiff, Where};
use crate::model::ids::{Kind, VcpuKey, VmId};
use crate::state::fields::{Field, FieldInfo, Row, field, infos};
use crate::state::rows::Part;
use crate::state::value::Value;
use crate::state::{RowId, Sort};

/// What a level lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The VMs.
    All,
    /// The vCPUs of a VM, by its place in [`Diff::vms`], after a row for all of them.
    Vm(usize),
    /// The reasons of a VM, or of one of its vCPUs by place.
    Reasons(usize, Option<usize>),
    /// One of these reasons, by place.
    Reason(usize, Option<usize>, usize),
}

impl Place {
    /// Whose reasons these are.
    pub fn entity<'a>(&self, diff: &'a Diff) -> Option<&'a Entity> {
        let (vm, vcpu) = match *self {
            Self::All => return None,
            Self::Vm(vm) => (vm, None),
            Self::Reasons(vm, vcpu) | Self::Reason(vm, vcpu, _) => (vm, vcpu),
        };
        let vm = diff.vms.get(vm)?;
        match vcpu {
            None => Some(&vm.all),
            Some(at) => vm.vcpus.get(at).map(|vcpu| &vcpu.entity),
        }
    }

    /// The one reason.
    pub fn reason<'a>(&self, diff: &'a Diff) -> Option<&'a ReasonDiff> {
        match self {
            Self::Reason(_, _, at) => self.entity(diff)?.reasons.get(*at),
            _ => None,
        }
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffRow {
    /// What it leads to.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Where it was seen.
    pub seen: Where,
    /// Whether it is idle, which is no work.
    pub idle: bool,
    /// Its numbers.
    pub numbers: Both<Numbers>,
    /// The part of its wall time that changed most.
    pub moved: Option<(Part, f64)>,
}

impl DiffRow {
    fn of_entity(place: Place, name: String, entity: &Entity) -> Self {
        Self {
            place,
            name,
            seen: entity.seen,
            idle: false,
            numbers: entity.load.map(|Load { numbers, .. }| *numbers),
            moved: entity.moved(),
        }
    }

    /// How much exit time it has more than before, ns per second.
    pub fn change(&self) -> f64 {
        self.both(|numbers| numbers.time).change()
    }

    /// A number of both sides.
    pub fn both<T>(&self, of: fn(&Numbers) -> T) -> Both<T> {
        self.numbers.map(of)
    }

    /// A time in words, with its sign.
    pub fn change_text(&self) -> String {
        signed_ns(self.change())
    }

    /// How many times as often, in words.
    pub fn ratio_text(&self) -> String {
        times(&self.both(|n| n.rate))
    }

    /// What moved, in words: "waiting +37.0".
    pub fn moved_text(&self) -> String {
        match self.moved {
            Some((part, change)) if points(change) != points(0.0) => {
                format!("{} {}", part.label(), points(change))
            }
            _ => String::new(),
        }
    }

    fn direction(&self) -> &'static str {
        match (self.seen, self.change()) {
            (Where::Both, change) if change > 0.0 => "more",
            (Where::Both, change) if change < 0.0 => "less",
            (Where::Both, _) => "same",
            (seen, _) => seen.word(),
        }
    }
}

/// The rows of a level, in the order of the comparison.
pub fn rows(diff: &Diff, place: Place) -> Vec<DiffRow> {
    match place {
        Place::All => {
            let vms = diff.vms.iter().enumerate();
            vms.map(|(at, vm)| DiffRow::of_entity(Place::Vm(at), vm.name.clone(), &vm.all))
                .collect()
        }
        Place::Vm(at) => {
            let Some(vm) = diff.vms.get(at) else { return Vec::new() };
            let all = DiffRow::of_entity(Place::Reasons(at, None), "all vCPUs".to_owned(), &vm.all);
            let vcpus = vm.vcpus.iter().enumerate().map(|(n, vcpu)| {
                let name = format!("vCPU {}", vcpu.vcpu);
                DiffRow::of_entity(Place::Reasons(at, Some(n)), name, &vcpu.entity)
            });
            std::iter::once(all).chain(vcpus).collect()
        }
        Place::Reasons(vm, vcpu) => {
            let Some(entity) = place.entity(diff) else { return Vec::new() };
            let reasons = entity.reasons.iter().enumerate();
            reasons
                .map(|(n, reason)| DiffRow {
                    place: Place::Reason(vm, vcpu, n),
                    name: reason_name(reason),
                    seen: reason.seen,
                    idle: reason.reason.is_idle(),
                    numbers: reason.numbers,
                    moved: None,
                })
                .collect()
        }
        Place::Reason(..) => Vec::new(),
    }
}

/// A reason's name; "u:" before one of a userspace exit.
pub fn reason_name(reason: &ReasonDiff) -> String {
    match reason.reason.kind {
        Kind::Exit => reason.name.clone(),
        Kind::Userspace => format!("u:{}", reason.name),
    }
}

/// The fields of a level's rows.
pub fn fields() -> Vec<FieldInfo> {
    infos::<DiffRow>()
}

/// By which rows are sorted before the person says otherwise: the order of the comparison.
pub const BY_CHANGE: Sort = Sort { key: "change", descending: true };

/// Puts rows in order. Of equals the order of the comparison stays.
pub fn sort(rows: &mut [DiffRow], sort: Sort) {
    if sort == BY_CHANGE {
        return;
    }
    rows.sort_by(|a, b| {
        let value = |row: &DiffRow| row.value(sort.key).unwrap_or(Value::None);
        let order = value(a).order(&value(b));
        // Together with all of them, a VM's vCPUs stay below.
        let first = |row: &DiffRow| !matches!(row.place, Place::Reasons(_, None));
        let order = if sort.descending { order.reverse() } else { order };
        first(a).cmp(&first(b)).then(order)
    });
}

fn change_of(row: &DiffRow, of: fn(&Numbers) -> Option<u64>) -> Value {
    let both = row.both(of);
    match (both.before, both.after) {
        (Some(before), Some(after)) => Value::Ns(before.abs_diff(after)),
        _ => Value::None,
    }
}

fn ratio(row: &DiffRow) -> Value {
    let rates = row.both(|n| n.rate);
    match (rates.ratio(), rates.after > 0.0) {
        (Some(ratio), _) => Value::Factor(ratio),
        (None, true) => Value::Factor(f64::INFINITY),
        (None, false) => Value::None,
    }
}

fn per_second(ns: f64) -> Value {
    Value::Ns(ns.abs().round() as u64)
}

impl Row for DiffRow {
    fn id(&self) -> RowId {
        let vm = |at: usize| VmId(u32::try_from(at).unwrap_or(u32::MAX));
        match self.place {
            Place::All => RowId::All(VmId(u32::MAX)),
            Place::Vm(at) => RowId::Vm(vm(at)),
            Place::Reasons(at, None) => RowId::All(vm(at)),
            Place::Reasons(at, Some(n)) | Place::Reason(at, _, n) => {
                RowId::Vcpu(VcpuKey { vm: vm(at), vcpu: u32::try_from(n).unwrap_or(u32::MAX) })
            }
        }
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        field!("name", "name", 16, false, |r| Value::Text(r.name.clone().into()), "the VM, the vCPU or the exit reason; u: is an exit to the VMM"),
        field!("change", "change", 7, true, |r| per_second(r.change()), "by how much exit time (handling and VMM) per second changed, whatever the direction"),
        field!("dir", "dir", 4, false, |r| Value::Text(r.direction().into()), "more exit time, less, same; new or gone where it is on one side only"),
        field!("time_before", "before", 6, true, |r| per_second(r.numbers.before.time), "exit time per second before"),
        field!("time", "after", 5, true, |r| per_second(r.numbers.after.time), "exit time per second after"),
        field!("exits_before", "before", 6, true, |r| Value::Rate(r.numbers.before.rate), "exits per second before"),
        field!("exits", "after", 5, true, |r| Value::Rate(r.numbers.after.rate), "exits per second after"),
        field!("ratio", "ratio", 5, true, ratio, "how many times as often it happens"),
        field!("p50_before", "before", 6, true, |r| Value::ns(r.numbers.before.p50_ns), "median handling time before, idle exits left out"),
        field!("p50", "after", 5, true, |r| Value::ns(r.numbers.after.p50_ns), "median handling time after"),
        field!("p50_change", "change", 6, true, |r| change_of(r, |n| n.p50_ns), "by how much the median changed, whatever the direction"),
        field!("p99_before", "before", 6, true, |r| Value::ns(r.numbers.before.p99_ns), "99th percentile of the handling time before"),
        field!("p99", "after", 5, true, |r| Value::ns(r.numbers.after.p99_ns), "99th percentile of the handling time after"),
        field!("p99_change", "change", 6, true, |r| change_of(r, |n| n.p99_ns), "by how much the 99th percentile changed, whatever the direction"),
        field!("share_before", "before", 6, true, |r| Value::Share(r.numbers.before.of_time), "exit time as a share of wall time before"),
        field!("share", "after", 5, true, |r| Value::Share(r.numbers.after.of_time), "exit time as a share of wall time after"),
        field!("of_exits_before", "before", 6, true, |r| Value::Share(r.numbers.before.of_exits), "share of the exits of its kind before"),
        field!("of_exits", "after", 5, true, |r| Value::Share(r.numbers.after.of_exits), "share of the exits of its kind after"),
        field!("moved", "moved", 5, true, |r| r.moved.map_or(Value::None, |(_, change)| Value::Share(change.abs())), "share of wall time by which one part of it changed, the part that changed most"),
    ];
}

/// Columns for copying: one line that can stand alone.
pub fn line(row: &DiffRow) -> String {
    let pair = |of: fn(&DiffRow) -> (Value, Value)| {
        let (before, after) = of(row);
        format!("{before} -> {after}")
    };
    let exits = pair(|r| (Value::Rate(r.numbers.before.rate), Value::Rate(r.numbers.after.rate)));
    let time = pair(|r| (per_second(r.numbers.before.time), per_second(r.numbers.after.time)));
    let p99 = pair(|r| (Value::ns(r.numbers.before.p99_ns), Value::ns(r.numbers.after.p99_ns)));
    let shares = row.both(|n| n.of_time).map(|share| percent(*share));
    let text = format!(
        "{}  exits/s {exits} {}  time/s {time} {}  of wall {} -> {}  p99 {p99}",
        row.name,
        row.ratio_text(),
        row.change_text(),
        shares.before,
        shares.after,
    );
    crate::state::save::clean(text.trim_end())
}
