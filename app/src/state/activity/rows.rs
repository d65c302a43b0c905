//! The rows made of the last seconds: keys by pane, ioctls.

use super::{HotId, Sums, is_unknown};
use crate::model::detail::{IoctlTick, KeyClass, KeyId};
use crate::model::ids::VmId;
use crate::model::totals::KeySum;
use crate::state::Pane;
use crate::state::fields::{Field, Row};
use crate::state::keys::To;
use crate::state::load::{per_second, ratio};
use crate::state::nav::RowId;
use crate::state::value::{self, Value};
use crate::trace::{ioctl, keys as tables};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Rows of a pane; what is not shown is counted.
const SHOWN: usize = 200;

/// The rows of a pane.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Hot {
    /// Most first, "other" last.
    pub rows: Vec<HotRow>,
    /// How many there are.
    pub all: usize,
    /// Everything together, per second.
    pub rate: f64,
}

/// Something that was met in the last seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct HotRow {
    /// Which, of whom.
    pub id: HotId,
    /// Name of its VM; empty where it is of all together.
    pub vm: String,
    /// Number and name.
    pub what: Cow<'static, str>,
    /// Per second.
    pub rate: f64,
    /// Share (0 to 1) of what its pane shows; of an MMU root, of its vCPU's loads.
    pub share: f64,
    /// The last seconds.
    pub sum: KeySum,
    /// The VM with most of it, and its share; where it is of several.
    pub most: Option<(String, f64)>,
    /// Roots that its vCPU loaded; of a load on a CPU: CPUs on which it was loaded.
    pub roots: Option<u64>,
}

impl HotRow {
    /// Whether it is what has no place of its own.
    pub fn is_other(&self) -> bool {
        self.id.value.is_none()
    }

    /// Whether it is a hypercall whose number is unknown.
    pub fn is_unknown(&self) -> bool {
        is_unknown(self.id.class, self.id.value)
    }

    /// Who answered; `None` where that is not known.
    pub fn to(&self) -> Option<To> {
        let id = KeyId { reason: None, class: self.id.class, value: self.id.value };
        To::of(&id, &self.sum)
    }

    fn way(&self) -> &'static str {
        match self.id.class {
            KeyClass::MmioRead => "read",
            KeyClass::MmioWrite => "write",
            KeyClass::MmioFast => "fast",
            KeyClass::Hypercall => "KVM",
            KeyClass::HvHypercall => "Hyper-V",
            KeyClass::XenHypercall => "Xen",
            _ => "",
        }
    }

    /// Bytes per second, of dirty pages.
    fn bytes(&self) -> Value {
        match self.id.class {
            KeyClass::DirtySlot | KeyClass::DirtyPage => {
                let bytes = (self.rate * 4096.0) as u64;
                Value::Text(format!("{}B/s", value::count(bytes)).into())
            }
            _ => Value::None,
        }
    }
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::None } else { Value::Text(text.to_owned().into()) }
}

impl Row for HotRow {
    fn id(&self) -> RowId {
        RowId::Key(KeyId { reason: None, class: self.id.class, value: self.id.value })
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "what", title: "what", width: 24, numeric: false, about: "what it is", value: |r| text(&r.what) },
        Field { key: "vm", title: "VM", width: 9, numeric: false, about: "whose", value: |r| text(&r.vm) },
        Field { key: "vcpu", title: "vCPU", width: 4, numeric: true, about: "number of the vCPU", value: |r| r.id.vcpu.map_or(Value::None, |vcpu| Value::Count(vcpu.into())) },
        Field { key: "way", title: "way", width: 7, numeric: false, about: "read, write, fast (a doorbell); whose hypercall", value: |r| text(r.way()) },
        Field { key: "level", title: "level", width: 5, numeric: true, about: "level of the MMU root", value: |r| match (r.id.class, r.id.value) { (KeyClass::Root, Some(value)) => Value::Count(value & 15), _ => Value::None } },
        Field { key: "rate", title: "/s", width: 5, numeric: true, about: "per second, in the last seconds", value: |r| Value::Rate(r.rate) },
        Field { key: "share", title: "share", width: 5, numeric: true, about: "share of all that the pane shows", value: |r| Value::Share(r.share) },
        Field { key: "mean", title: "mean", width: 5, numeric: true, about: "mean time from exit to entry, VMM and sleep included", value: |r| Value::ns(r.sum.mean_ns()) },
        Field { key: "max", title: "max", width: 5, numeric: true, about: "largest time from exit to entry since it was first seen", value: |r| if r.sum.max_ns == 0 { Value::None } else { Value::Ns(r.sum.max_ns) } },
        Field { key: "to", title: "to", width: 6, numeric: false, about: "who answered: the kernel, the VMM, or both", value: |r| r.to().map_or(Value::None, |to| Value::Text(to.word().into())) },
        Field { key: "bytes", title: "dirtied", width: 8, numeric: true, about: "pages of 4 KiB per second, as bytes", value: |r| r.bytes() },
        Field { key: "roots", title: "among", width: 5, numeric: true, about: "how many different roots the vCPU loaded, or CPUs it was loaded on", value: |r| r.roots.map_or(Value::None, Value::Count) },
        Field { key: "most", title: "most by", width: 12, numeric: false, about: "the VM with most of it, and its share", value: |r| r.most.as_ref().map_or(Value::None, |(vm, share)| Value::Text(format!("{} {vm}", value::share(*share)).into())) },
        Field { key: "count", title: "count", width: 5, numeric: true, about: "in the last seconds", value: |r| Value::Count(r.sum.count) },
    ];
}

/// The classes that a pane shows, and whether the host's are added up over VMs.
fn classes(pane: Pane) -> (&'static [KeyClass], bool) {
    use KeyClass as K;
    match pane {
        Pane::Faults => (&[K::Fault], true),
        Pane::Pages => (&[K::Page], false),
        Pane::Mmio => (&[K::MmioRead, K::MmioWrite, K::MmioFast], false),
        Pane::Dirty => (&[K::DirtySlot, K::DirtyPage], false),
        Pane::Roots => (&[K::Root, K::VcpuLoad], false),
        Pane::Hypercalls => (&[K::Hypercall, K::HvHypercall, K::XenHypercall], true),
        _ => (&[], false),
    }
}

/// A key in words.
fn what(id: &HotId) -> Cow<'static, str> {
    let Some(value) = id.value else {
        return match id.class {
            KeyClass::MmioRead | KeyClass::MmioWrite | KeyClass::MmioFast => "other addresses",
            KeyClass::Page | KeyClass::DirtyPage => "other pages",
            KeyClass::DirtySlot => "other slots",
            KeyClass::Root => "other roots",
            KeyClass::VcpuLoad => "other CPUs",
            _ => "other numbers",
        }
        .into();
    };
    let (number, name) = (tables::number(id.class, value), tables::name(id.class, value));
    match (id.class, name) {
        (KeyClass::Fault, name) => name.unwrap_or_else(|| number.into()),
        (KeyClass::DirtySlot, _) => format!("slot {number}").into(),
        (KeyClass::DirtyPage, _) => format!("page {number}").into(),
        (KeyClass::VcpuLoad, _) => format!("on CPU {number}").into(),
        // Some numbers have a name elsewhere, and no answer here.
        (_, Some(name)) if is_unknown(id.class, id.value) => {
            format!("{number} unknown ({name})").into()
        }
        (_, Some(name)) => format!("{number} {name}").into(),
        (_, None) if is_unknown(id.class, id.value) => format!("{number} unknown").into(),
        (_, None) => number.into(),
    }
}

/// What is counted of a vCPU.
type OfVcpu = (KeyClass, Option<VmId>, Option<u32>);

/// The rows of a pane.
pub(super) fn hot(pane: Pane, host: bool, sums: &Sums, name: &dyn Fn(VmId) -> String) -> Hot {
    let (classes, together) = classes(pane);
    let together = together && host;
    let mut found: HashMap<HotId, (KeySum, Option<(u64, VmId)>)> = HashMap::new();
    // Of a vCPU's roots, and of its loads: how many, and on how many different ones.
    let mut of_vcpu: HashMap<OfVcpu, (u64, u64)> = HashMap::new();
    for (id, sum) in
        sums.keys.iter().filter(|(id, sum)| classes.contains(&id.class) && sum.count > 0)
    {
        let to = if together { HotId { vm: None, ..*id } } else { *id };
        let (whole, most) = found.entry(to).or_default();
        whole.merge(sum);
        let mine = id.vm.map(|vm| (sum.count, vm));
        // Of two with as many the first, whatever the order in the map.
        let better = |(count, vm): (u64, VmId)| (count, Reverse(vm));
        if together && mine.map(better) > most.map(better) {
            *most = mine;
        }
        if id.vcpu.is_some() {
            let (loads, different) = of_vcpu.entry((id.class, id.vm, id.vcpu)).or_default();
            *loads = loads.saturating_add(sum.count);
            *different += 1;
        }
    }
    // Pages of a slot are in its number already; loads of a vCPU are no roots.
    let total = |class: KeyClass| -> u64 {
        let alike = found.iter().filter(|(id, _)| match pane {
            Pane::Dirty | Pane::Roots => id.class == class,
            _ => true,
        });
        alike.map(|(_, (sum, _))| sum.count).fold(0, u64::saturating_add)
    };
    let totals: BTreeMap<KeyClass, u64> =
        classes.iter().map(|&class| (class, total(class))).collect();
    let all = found.len();
    let mut order: Vec<(bool, bool, Reverse<u64>, HotId)> = found
        .iter()
        .map(|(id, (sum, _))| {
            let second = matches!(id.class, KeyClass::DirtyPage | KeyClass::VcpuLoad);
            (second, id.value.is_none(), Reverse(sum.count), *id)
        })
        .collect();
    order.sort_unstable();
    // As many of either kind.
    let first = order.iter().filter(|(second, ..)| !second).count();
    order.truncate(first.saturating_add(SHOWN));
    order.drain(SHOWN.min(first)..first);
    let row = |(.., id): (bool, bool, Reverse<u64>, HotId)| {
        let (sum, most) = found.get(&id).copied().unwrap_or_default();
        let of_vcpu = of_vcpu.get(&(id.class, id.vm, id.vcpu));
        let whole =
            of_vcpu.map_or_else(|| totals.get(&id.class).copied(), |(loads, _)| Some(*loads));
        HotRow {
            id,
            vm: id.vm.map(name).unwrap_or_default(),
            what: what(&id),
            rate: per_second(sum.count, sums.over_ns),
            share: ratio(sum.count, whole.unwrap_or(0)),
            sum,
            most: most.map(|(count, vm)| (name(vm), ratio(count, sum.count))),
            roots: of_vcpu.map(|(_, different)| *different),
        }
    };
    let rows = order.into_iter().map(row).collect();
    let whole = classes.first().and_then(|class| totals.get(class)).copied().unwrap_or(0);
    Hot { rows, all, rate: per_second(whole, sums.over_ns) }
}

/// Ioctls of the last seconds.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Ioctls {
    /// Most first.
    pub rows: Vec<IoctlRow>,
    /// All together, per second.
    pub rate: f64,
    /// Those that failed, per second.
    pub failed: f64,
}

/// One KVM ioctl.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct IoctlRow {
    /// The command.
    pub command: u32,
    /// Per second.
    pub rate: f64,
    /// Share (0 to 1) that failed.
    pub failed: f64,
    /// The last seconds.
    pub sum: IoctlTick,
    /// The VM with most of it, and its share; where it is of several.
    pub most: Option<(String, f64)>,
}

impl IoctlRow {
    /// Its name, or its number.
    pub fn name(&self) -> String {
        ioctl::label(self.command).into_owned()
    }
}

impl Row for IoctlRow {
    fn id(&self) -> RowId {
        let value = Some(u64::from(self.command));
        RowId::Key(KeyId { reason: None, class: KeyClass::Hypercall, value })
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "what", title: "ioctl", width: 24, numeric: false, about: "the command", value: |r| text(&r.name()) },
        Field { key: "rate", title: "/s", width: 5, numeric: true, about: "per second, in the last seconds", value: |r| Value::Rate(r.rate) },
        Field { key: "failed", title: "failed", width: 6, numeric: true, about: "share that failed", value: |r| Value::Share(r.failed) },
        Field { key: "mean", title: "mean", width: 5, numeric: true, about: "mean time", value: |r| Value::ns(r.sum.total_ns.checked_div(r.sum.count)) },
        Field { key: "max", title: "max", width: 5, numeric: true, about: "largest time since the VM was first seen", value: |r| Value::Ns(r.sum.max_ns) },
        Field { key: "count", title: "count", width: 5, numeric: true, about: "in the last seconds", value: |r| Value::Count(r.sum.count) },
        Field { key: "most", title: "most by", width: 12, numeric: false, about: "the VM with most of it, and its share", value: |r| r.most.as_ref().map_or(Value::None, |(vm, share)| Value::Text(format!("{} {vm}", value::share(*share)).into())) },
    ];
}

/// The ioctls of all VMs that were looked at, by command.
pub(super) fn ioctls(host: bool, sums: &Sums, name: &dyn Fn(VmId) -> String) -> Ioctls {
    let mut found: BTreeMap<u32, (IoctlTick, Option<(u64, VmId)>)> = BTreeMap::new();
    for (&(vm, command), sum) in &sums.ioctls {
        let (whole, most) = found.entry(command).or_default();
        whole.add(sum);
        if host && most.is_none_or(|(count, _)| sum.count > count) {
            *most = Some((sum.count, vm));
        }
    }
    let mut rows: Vec<IoctlRow> = found
        .into_iter()
        .map(|(command, (sum, most))| IoctlRow {
            command,
            rate: per_second(sum.count, sums.over_ns),
            failed: ratio(sum.failed, sum.count),
            sum,
            most: most.map(|(count, vm)| (name(vm), ratio(count, sum.count))),
        })
        .collect();
    rows.sort_by_key(|row| Reverse(row.sum.count));
    let all = |of: fn(&IoctlTick) -> u64| {
        let sum = rows.iter().map(|row| of(&row.sum)).fold(0, u64::saturating_add);
        per_second(sum, sums.over_ns)
    };
    let (rate, failed) = (all(|sum| sum.count), all(|sum| sum.failed));
    Ioctls { rows, rate, failed }
}
