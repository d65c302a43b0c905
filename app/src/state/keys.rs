//! What a reason's exits were about: the keys behind it, and the guest code that made them.
//!
//! A kernel exit's keys say themselves which reason they belong to. An exit to the VMM has those of
//! its class (ports for IO, addresses for MMIO, …) that took time in the VMM, or whose kernel exit
//! nobody saw (a backend whose `kvm_exit` is silent).

mod sums;

pub(super) use sums::{KeySums, Tables, of_reason};

use super::fields::{Field, Row};
use super::nav::RowId;
use super::rows::Open;
use super::value::{self, Value};
use crate::model::detail::{KeyClass, KeyId, KeyTick, Outlier};
use crate::model::ids::{Reason, VcpuKey};
use crate::model::session::{Origin, Session};
use crate::model::totals::KeySum;
use crate::symbols::half;
use crate::trace::{keys as tables, qualification};
use kvmscope_shared::detail::{GROUP_SETS, WAYS};
use std::borrow::Cow;

/// Ports, MSRs and the like that the kernel keeps apart for each vCPU.
pub const THINGS: usize = GROUP_SETS * WAYS;
/// Pages and instruction pointers that it keeps apart for each vCPU.
pub const FINE: usize = GROUP_SETS * WAYS;

/// Up to so many vCPUs pages and instruction pointers count as top keys too; of more it takes long.
pub(super) const FEW: usize = 64;

/// The instruction pointers among keys: address, reason, how often.
pub(super) fn code(keys: &[KeyTick]) -> impl Iterator<Item = (u64, Reason, u64)> {
    let code = keys.iter().filter(|key| key.id.class == KeyClass::Rip);
    code.filter_map(|key| Some((key.id.value?, key.id.reason?, key.count)))
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// KVM alone.
    Kernel,
    /// The VMM: most of the time that was not sleep went by there.
    Vmm,
    /// KVM for the most part, and now and then the VMM.
    Both,
}

impl To {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Vmm => "VMM",
            Self::Both => "both",
        }
    }

    pub(super) fn of(id: &KeyId, sum: &KeySum) -> Option<Self> {
        let busy = sum.total_ns.saturating_add(sum.vmm_ns);
        // Of "other" the times are not told apart.
        match (id.value, sum.timed, sum.vmm_ns) {
            (None, ..) | (_, 0, _) => None,
            (.., 0) => Some(Self::Kernel),
            (.., vmm) if vmm >= busy / 2 => Some(Self::Vmm),
            _ => Some(Self::Both),
        }
    }
}

/// A key of a reason.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRow {
    /// Which. `reason` is `None` for an exit to the VMM and of "other".
    pub id: KeyId,
    /// Its number as people write it, or "other".
    pub number: String,
    /// What it is, or what "other" is.
    pub name: Option<Cow<'static, str>>,
    /// Per second, in the displayed tick.
    pub rate: f64,
    /// Share (0 to 1) of the reason's exits in the displayed tick; `None` of an "other" in which
    /// other reasons have a part, and of a key that only sometimes went to the VMM there.
    pub share: Option<f64>,
    /// The displayed tick.
    pub now: KeySum,
    /// The window up to the displayed tick.
    pub window: KeySum,
}

impl KeyRow {
    /// Number and name.
    pub fn text(&self) -> String {
        joined(&self.number, self.name.as_deref())
    }

    /// Whether it is what has no place of its own.
    pub fn is_other(&self) -> bool {
        self.id.value.is_none()
    }

    /// Who answered, over the window; `None` when not known.
    pub fn to(&self) -> Option<To> {
        To::of(&self.id, &self.window)
    }
}

/// Which way data went, in a letter or a word; empty where there is no such thing.
pub fn direction(class: KeyClass) -> &'static str {
    match class {
        KeyClass::PortIn => "in",
        KeyClass::PortOut => "out",
        KeyClass::MmioRead | KeyClass::MsrRead | KeyClass::CrRead => "r",
        KeyClass::MmioWrite | KeyClass::MmioFast | KeyClass::MsrWrite | KeyClass::CrWrite => "w",
        _ => "",
    }
}

impl Row for KeyRow {
    fn id(&self) -> RowId {
        RowId::Key(self.id)
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "name", title: "what", width: 28, numeric: false, about: "number and name of the MSR, port, address, leaf, …", value: |r| Value::Text(r.text().into()) },
        Field { key: "way", title: "way", width: 3, numeric: false, about: "read or written, in or out", value: |r| match direction(r.id.class) { "" => Value::None, word => Value::Text(word.into()) } },
        Field { key: "exits", title: "exits/s", width: 7, numeric: true, about: "exits about it per second", value: |r| Value::Rate(r.rate) },
        Field { key: "of_exits", title: "exits", width: 5, numeric: true, about: "share of the reason's exits", value: |r| r.share.map_or(Value::None, Value::Share) },
        Field { key: "mean", title: "mean", width: 6, numeric: true, about: "mean time from exit to entry in the window, VMM and sleep included", value: |r| Value::ns(r.window.mean_ns()) },
        Field { key: "max", title: "max", width: 6, numeric: true, about: "largest time from exit to entry since it was first seen", value: |r| if r.window.max_ns == 0 { Value::None } else { Value::Ns(r.window.max_ns) } },
        Field { key: "to", title: "to", width: 6, numeric: false, about: "who answered: the kernel, the VMM, or both", value: |r| r.to().map_or(Value::None, |to| Value::Text(to.word().into())) },
        Field { key: "total", title: "total", width: 6, numeric: true, about: "time from exit to entry in the window, all together", value: |r| Value::Ns(r.window.wall_ns()) },
        Field { key: "count", title: "count", width: 7, numeric: true, about: "exits about it in the window", value: |r| Value::Count(r.window.count) },
        Field { key: "class", title: "class", width: 12, numeric: false, about: "what kind of thing it is", value: |r| Value::Text(r.id.class.word().into()) },
    ];
}

/// Guest code that made exits of a reason.
#[derive(Clone, Debug, PartialEq)]
pub struct RipRow {
    /// Its instruction pointer; `None` for all that have no place of their own, of any reason.
    pub rip: Option<u64>,
    /// Its symbol.
    pub symbol: Option<String>,
    /// Per second, in the displayed tick.
    pub rate: f64,
    /// Share (0 to 1) of the reason's exits in the displayed tick; `None` of "other".
    pub share: Option<f64>,
    /// Exits in the window.
    pub count: u64,
}

impl RipRow {
    /// Which half of the address space: on x86-64 kernels live in the upper one.
    pub fn half(&self) -> &'static str {
        self.rip.map_or("", |rip| half(rip).word())
    }

    /// Its number, or "other" and what that is.
    pub fn number(&self) -> String {
        match self.rip {
            Some(rip) => tables::number(KeyClass::Rip, rip),
            None => format!("other, of any reason (beyond {FINE} kept per vCPU)"),
        }
    }
}

/// A single exit in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Whose.
    pub key: VcpuKey,
    /// When it ended, ns since the Unix epoch; `None` when it has not.
    pub ended_unix_ns: Option<u64>,
    /// From exit to entry, or how old it is, ns.
    pub wall_ns: u64,
    /// Of it: in the VMM, ns.
    pub vmm_ns: u64,
    /// Of it: waiting for a CPU, ns.
    pub wait_ns: u64,
    /// What it was about.
    pub about: Option<String>,
    /// Guest instruction pointer.
    pub rip: u64,
    /// Its symbol.
    pub symbol: Option<String>,
    /// What the hardware said about it, in words.
    pub words: Vec<String>,
}

impl Told {
    pub(super) fn open(key: VcpuKey, open: &Open, reason: Reason) -> Self {
        Self {
            key,
            ended_unix_ns: None,
            wall_ns: open.age_ns,
            vmm_ns: 0,
            wait_ns: 0,
            about: None,
            rip: open.rip,
            symbol: None,
            words: qualification::words(reason, open.info1, open.info2),
        }
    }

    pub(super) fn outlier(outlier: &Outlier, session: &Session) -> Self {
        let words = qualification::words(outlier.reason, outlier.info1, outlier.info2);
        // What the hardware has said already is not said again.
        let about = |(class, value)| {
            let (number, name) = self::words(&KeyId { reason: None, class, value: Some(value) });
            let said = words.iter().any(|word| word.split(' ').any(|part| part == number));
            (!said).then(|| joined(&number, name.as_deref()))
        };
        Self {
            key: outlier.key,
            ended_unix_ns: Some(session.unix_ns(outlier.end_ns)),
            wall_ns: outlier.wall_ns(),
            vmm_ns: outlier.vmm_ns,
            wait_ns: outlier.wait_ns,
            about: outlier.about.and_then(about),
            rip: outlier.rip,
            symbol: None,
            words,
        }
    }
}

impl Row for RipRow {
    fn id(&self) -> RowId {
        RowId::Key(KeyId { reason: None, class: KeyClass::Rip, value: self.rip })
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "name", title: "guest RIP", width: 18, numeric: false, about: "instruction pointer", value: |r| Value::Text(r.number().into()) },
        Field { key: "symbol", title: "symbol", width: 16, numeric: false, about: "function of the guest", value: |r| r.symbol.clone().map_or(Value::None, |s| Value::Text(s.into())) },
        Field { key: "half", title: "half", width: 6, numeric: false, about: "kernel or user half of the address space", value: |r| Value::Text(r.half().into()) },
        Field { key: "exits", title: "exits/s", width: 7, numeric: true, about: "exits per second", value: |r| Value::Rate(r.rate) },
        Field { key: "of_exits", title: "exits", width: 5, numeric: true, about: "share of the reason's exits", value: |r| r.share.map_or(Value::None, Value::Share) },
        Field { key: "count", title: "count", width: 7, numeric: true, about: "exits in the window", value: |r| Value::Count(r.count) },
    ];
}

/// The key that most exits of a reason were about, in the displayed tick.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TopKey {
    /// Its number as people write it; "RIP" before that of an instruction.
    pub number: String,
    /// What it is.
    pub name: Option<Cow<'static, str>>,
    /// Which way; see [`direction`].
    pub way: &'static str,
    /// Per second.
    pub rate: f64,
    /// Its share (0 to 1) of the reason's exits.
    pub share: f64,
}

impl TopKey {
    /// Number and name.
    pub fn text(&self) -> String {
        joined(&self.number, self.name.as_deref())
    }

    /// "0x608 ACPI PM timer 98%".
    pub fn with_share(&self) -> String {
        format!("{} {}", self.text(), value::share(self.share))
    }
}

/// Whether keys are told at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The probes that tell are attached.
    On,
    /// They are, apart from these: hook and why.
    Partly(Vec<(String, String)>),
    /// They are not attached yet.
    Attaching,
    /// They are not attached, and why.
    Off(String),
}

/// Whether a session's probes tell keys.
pub(super) fn watch(session: &Session, ended: bool) -> Watch {
    let detail = || session.probes.iter().filter(|probe| probe.family == "detail");
    let failed: Vec<_> = detail()
        .filter(|probe| !probe.attached)
        .filter_map(|probe| Some((probe.name.clone(), probe.why.clone()?)))
        .collect();
    if detail().any(|probe| probe.attached) {
        return if failed.is_empty() { Watch::On } else { Watch::Partly(failed) };
    }
    if let Some((_, why)) = failed.into_iter().next() {
        return Watch::Off(why);
    }
    match session.origin {
        Origin::Live if !ended => Watch::Attaching,
        Origin::Live => Watch::Off("they were not attached when the measurement ended".to_owned()),
        Origin::Synthetic { .. } => Watch::Off("the numbers are invented".to_owned()),
    }
}

fn joined(number: &str, name: Option<&str>) -> String {
    name.map_or_else(|| number.to_owned(), |name| format!("{number} {name}"))
}

/// Number and name of a key.
fn words(id: &KeyId) -> (String, Option<Cow<'static, str>>) {
    match id.value {
        Some(value) => (tables::number(id.class, value), tables::name(id.class, value)),
        None => {
            let kept = if is_fine(id.class) { FINE } else { THINGS };
            ("other".to_owned(), Some(format!("(beyond {kept} kept per vCPU)").into()))
        }
    }
}

fn is_fine(class: KeyClass) -> bool {
    matches!(class, KeyClass::Page | KeyClass::Rip)
}

/// Whether keys of a class come with several reasons, so that their "other" is not one's alone.
fn is_shared(class: KeyClass) -> bool {
    is_fine(class)
        || matches!(
            class,
            KeyClass::MmioRead | KeyClass::MmioWrite | KeyClass::MmioFast | KeyClass::Vector
        )
}

#[cfg(test)]
mod tests;
