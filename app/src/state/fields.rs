//! The fields of each kind of row, one table each. A line in it gives the column's title and
//! width, the key for sorting and filtering, and the value; everything that lists fields reads it.

use super::keys::KeyRow;
use super::nav::{RowId, Scope};
use super::rows::{Load, Part, ReasonRow, VcpuRow, VmRow};
use super::value::Value;
use std::borrow::Cow;

/// One field of a kind of row.
pub struct Field<R: 'static> {
    /// Key in filters, in the configuration and for sorting.
    pub key: &'static str,
    /// Title of the column.
    pub title: &'static str,
    /// Characters that the column needs.
    pub width: u16,
    /// Whether it holds numbers, which stand at the right edge.
    pub numeric: bool,
    /// What it is, in a sentence, for the help.
    pub about: &'static str,
    /// Its value in a row.
    pub value: fn(&R) -> Value,
}

/// A row of some table.
pub trait Row: Sized + 'static {
    /// The fields of such rows, in the order in which they are shown.
    const FIELDS: &'static [Field<Self>];

    /// Whose row it is.
    fn id(&self) -> RowId;

    /// The value of the field with this key; `None` when there is no such field.
    fn value(&self, key: &str) -> Option<Value> {
        Self::FIELDS.iter().find(|field| field.key == key).map(|field| (field.value)(self))
    }
}

/// What is known of a field without its row's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// See [`Field::key`].
    pub key: &'static str,
    /// See [`Field::title`].
    pub title: &'static str,
    /// See [`Field::width`].
    pub width: u16,
    /// See [`Field::numeric`].
    pub numeric: bool,
    /// See [`Field::about`].
    pub about: &'static str,
}

/// The fields of a kind of row.
pub fn infos<R: Row>() -> Vec<FieldInfo> {
    R::FIELDS
        .iter()
        .map(|&Field { key, title, width, numeric, about, .. }| FieldInfo {
            key,
            title,
            width,
            numeric,
            about,
        })
        .collect()
}

/// The fields of a level's rows.
pub fn of(scope: Scope) -> Vec<FieldInfo> {
    match scope {
        Scope::Host => infos::<VmRow>(),
        Scope::Vm(_) => infos::<VcpuRow>(),
        Scope::Reasons(_) => infos::<ReasonRow>(),
        Scope::Reason(..) => infos::<KeyRow>(),
    }
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::None } else { Value::Text(Cow::Owned(text.to_owned())) }
}

/// Parts of wall time together. The fields made of it add up to all of it.
fn part(load: &Load, parts: &[Part]) -> Value {
    if load.split.0.sum() == 0 { Value::None } else { Value::Share(load.split.shares(parts)) }
}

fn change(factor: Option<f64>) -> Value {
    factor.map_or(Value::None, Value::Factor)
}

fn top(load: &Load) -> Value {
    load.top.as_ref().map_or(Value::None, |top| text(&top.name))
}

/// A column: key, title, width, whether it is a number, how a row's value is had, and what it says.
macro_rules! field {
    ($key:literal, $title:literal, $width:literal, $numeric:literal, $value:expr, $about:literal) => {
        $crate::state::fields::Field {
            key: $key,
            title: $title,
            width: $width,
            numeric: $numeric,
            about: $about,
            value: $value,
        }
    };
}
pub(crate) use field;

impl Row for VmRow {
    fn id(&self) -> RowId {
        RowId::Vm(self.id)
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        field!("name", "VM", 16, false, |r| text(&r.name), "what the VMM calls the guest"),
        field!("vmm", "VMM", 6, false, |r| text(&r.vmm), "kind of VMM"),
        field!("pid", "PID", 7, true, |r| Value::Text(r.pid.to_string().into()), "thread group of the VMM"),
        field!("vcpus", "vCPU", 4, true, |r| Value::Count(r.vcpus as u64), "number of vCPUs"),
        field!("exits", "exits/s", 7, true, |r| Value::Rate(r.load.rate), "kernel exits per second"),
        field!("change", "change", 6, true, |r| change(r.load.change), "exits per second against the baseline (key b)"),
        field!("user", "user/s", 7, true, |r| Value::Rate(r.load.user_rate), "exits to the VMM per second"),
        field!("p50", "p50", 6, true, |r| Value::ns(r.load.p50_ns), "median handling time, idle exits left out"),
        field!("p99", "p99", 6, true, |r| Value::ns(r.load.p99_ns), "99th percentile of the handling time, idle exits left out"),
        field!("max", "max", 6, true, |r| Value::ns(r.load.max_ns), "largest handling time, idle exits left out"),
        field!("share", "handl", 5, true, |r| Value::Share(r.load.handling), "handling time as a share of the vCPUs' wall time, idle exits left out"),
        field!("guest", "guest", 5, true, |r| part(&r.load, &[Part::Guest]), "share of wall time in the guest"),
        field!("kvm", "KVM", 5, true, |r| part(&r.load, &[Part::Kvm]), "share of wall time in KVM, on a CPU, polling left out"),
        field!("invmm", "inVMM", 5, true, |r| part(&r.load, &[Part::Vmm, Part::VmmAsleep]), "share of wall time in the VMM, on a CPU or asleep"),
        field!("poll", "poll", 5, true, |r| part(&r.load, &[Part::Polling]), "share of wall time halted with KVM polling for a wake-up, on a CPU"),
        field!("halted", "halt", 5, true, |r| part(&r.load, &[Part::Halted]), "share of wall time halted, asleep"),
        field!("wait", "wait", 5, true, |r| part(&r.load, &[Part::Waiting]), "share of wall time waiting for a CPU"),
        field!("other", "other", 5, true, |r| part(&r.load, &[Part::KvmAsleep]), "share of wall time asleep in KVM, not for a halt (for a page, a lock)"),
        field!("unacc", "unacc", 5, true, |r| part(&r.load, &[Part::Unknown]), "share of wall time that no event accounts for"),
        field!("reason", "top reason", 18, false, |r| top(&r.load), "the reason that took most handling time, idle ones left out"),
    ];
}

impl Row for VcpuRow {
    fn id(&self) -> RowId {
        self.id
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        field!("name", "vCPU", 9, false, |r| text(&r.label), "the vCPU"),
        field!("vcpu", "id", 4, true, |r| r.key.map_or(Value::None, |key| Value::Count(key.vcpu.into())), "number of the vCPU"),
        field!("tid", "TID", 7, true, |r| if r.tid == 0 { Value::None } else { Value::Text(r.tid.to_string().into()) }, "its thread"),
        field!("cpu", "CPU", 4, true, |r| r.cpu.map_or(Value::None, |cpu| Value::Text(cpu.to_string().into())), "physical CPU of its last event"),
        field!("state", "state", 10, false, |r| r.phase.map_or(Value::None, |(phase, _)| Value::Text(phase_word(phase).into())), "what it is doing"),
        field!("since", "for", 6, true, |r| Value::ns(r.phase.map(|(_, ns)| ns)), "for how long it has been doing that"),
        field!("exits", "exits/s", 7, true, |r| Value::Rate(r.load.rate), "kernel exits per second"),
        field!("change", "change", 6, true, |r| change(r.load.change), "exits per second against the baseline (key b)"),
        field!("user", "user/s", 7, true, |r| Value::Rate(r.load.user_rate), "exits to the VMM per second"),
        field!("p50", "p50", 6, true, |r| Value::ns(r.load.p50_ns), "median handling time, idle exits left out"),
        field!("p99", "p99", 6, true, |r| Value::ns(r.load.p99_ns), "99th percentile of the handling time, idle exits left out"),
        field!("max", "max", 6, true, |r| Value::ns(r.load.max_ns), "largest handling time, idle exits left out"),
        field!("share", "handl", 5, true, |r| Value::Share(r.load.handling), "handling time as a share of wall time, idle exits left out"),
        field!("guest", "guest", 5, true, |r| part(&r.load, &[Part::Guest]), "share of wall time in the guest"),
        field!("kvm", "KVM", 5, true, |r| part(&r.load, &[Part::Kvm]), "share of wall time in KVM, on a CPU, polling left out"),
        field!("invmm", "inVMM", 5, true, |r| part(&r.load, &[Part::Vmm, Part::VmmAsleep]), "share of wall time in the VMM, on a CPU or asleep"),
        field!("poll", "poll", 5, true, |r| part(&r.load, &[Part::Polling]), "share of wall time halted with KVM polling for a wake-up, on a CPU"),
        field!("halted", "halt", 5, true, |r| part(&r.load, &[Part::Halted]), "share of wall time halted, asleep"),
        field!("wait", "wait", 5, true, |r| part(&r.load, &[Part::Waiting]), "share of wall time waiting for a CPU"),
        field!("other", "other", 5, true, |r| part(&r.load, &[Part::KvmAsleep]), "share of wall time asleep in KVM, not for a halt (for a page, a lock)"),
        field!("unacc", "unacc", 5, true, |r| part(&r.load, &[Part::Unknown]), "share of wall time that no event accounts for"),
        field!("reason", "top reason", 18, false, |r| top(&r.load), "the reason that took most handling time, idle ones left out"),
        field!("open", "open", 6, true, |r| Value::ns(r.open.as_ref().map(|open| open.age_ns)), "age of the exit being handled"),
    ];
}

impl Row for ReasonRow {
    fn id(&self) -> RowId {
        RowId::Reason(self.reason)
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        field!("name", "reason", 18, false, |r| text(&r.name), "the exit reason"),
        field!("kind", "to", 6, false, |r| Value::Text(kind_word(r).into()), "kernel exits, exits to the VMM, or idle"),
        field!("exits", "exits/s", 7, true, |r| Value::Rate(r.rate), "exits per second"),
        field!("change", "change", 6, true, |r| change(r.change), "exits per second against the baseline (key b)"),
        field!("count", "count", 7, true, |r| Value::Count(r.window.count), "exits in the window"),
        field!("of_exits", "exits", 5, true, |r| Value::Share(r.of_exits), "share of the exits of its kind"),
        field!("share", "time", 5, true, |r| Value::Share(r.of_time), "handling time as a share of wall time"),
        field!("total", "total", 6, true, |r| Value::Ns(r.window.total_ns), "handling time in the window"),
        field!("mean", "mean", 6, true, |r| Value::ns(r.now.latency.map(|l| l.mean_ns)), "mean handling time"),
        field!("min", "min", 6, true, |r| Value::ns(r.now.latency.map(|l| l.min_ns)), "smallest handling time"),
        field!("p50", "p50", 6, true, |r| Value::ns(r.now.latency.map(|l| l.p50_ns)), "median handling time"),
        field!("p90", "p90", 6, true, |r| Value::ns(r.now.latency.map(|l| l.p90_ns)), "90th percentile of the handling time"),
        field!("p99", "p99", 6, true, |r| Value::ns(r.now.latency.map(|l| l.p99_ns)), "99th percentile of the handling time"),
        field!("p999", "p99.9", 6, true, |r| Value::ns(r.now.latency.map(|l| l.p999_ns)), "99.9th percentile of the handling time"),
        field!("max", "max", 6, true, |r| Value::ns(r.now.latency.map(|l| l.max_ns)), "largest handling time"),
        field!("off", "offCPU", 6, true, |r| Value::Ns(r.now.off_ns), "its time off the CPU"),
        field!("invmm", "inVMM", 6, true, |r| Value::Ns(r.now.vmm_ns), "its time in the VMM"),
        field!("open", "open", 6, true, |r| Value::ns(r.open_ns), "age of the exit still being handled"),
        field!("code", "code", 6, true, |r| Value::Text(r.reason.code.to_string().into()), "number of the reason"),
        field!("what", "what", 18, false, |r| r.what.as_ref().map_or(Value::None, |top| Value::Text(top.with_share().into())), "what most of its exits are about, and their share"),
    ];
}

fn kind_word(row: &ReasonRow) -> &'static str {
    use crate::model::ids::Kind;
    match (row.idle, row.reason.kind) {
        (true, _) => "idle",
        (false, Kind::Exit) => "kernel",
        (false, Kind::Userspace) => "VMM",
    }
}

/// A phase in a word or two.
pub fn phase_word(phase: crate::model::tick::Phase) -> &'static str {
    use crate::model::tick::Phase;
    match phase {
        Phase::Unknown => "unknown",
        Phase::Guest => "guest",
        Phase::Kvm => "KVM",
        Phase::Vmm => "VMM",
        Phase::Preempted => "waiting",
        Phase::Blocked => "halted",
        Phase::VmmBlocked => "VMM asleep",
        Phase::KvmBlocked => "KVM asleep",
        Phase::Polling => "polling",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check<R: Row>() {
        let keys: BTreeSet<_> = R::FIELDS.iter().map(|field| field.key).collect();
        assert_eq!(keys.len(), R::FIELDS.len(), "a key is there twice");
        for field in R::FIELDS {
            assert!(
                field.key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            );
            assert!(usize::from(field.width) >= field.title.chars().count(), "{}", field.key);
            assert!(!field.about.is_empty());
        }
    }

    #[test]
    fn every_table_is_sound() {
        check::<VmRow>();
        check::<VcpuRow>();
        check::<ReasonRow>();
        check::<KeyRow>();
    }
}
