//! Slow exits of the kept ticks, newest first.

use super::fields::{Field, Row, field};
use super::nav::{OutlierId, RowId, Scope};
use super::now::Now;
use super::value::{Value, moment};
use super::{State, nav::Who};
use crate::model::detail::{KeyClass, Outlier};
use crate::model::tick::Tick;
use crate::trace::keys;
use std::collections::VecDeque;

/// Slow exits that are kept, of everyone together. Where they are more, the oldest give way before
/// their ticks do.
const KEPT: usize = 10_000;
/// Rows of the list.
pub const SHOWN: usize = 200;

/// Slow exits, tick by tick.
#[derive(Debug, Default)]
pub(super) struct Slow {
    ticks: VecDeque<(u64, Vec<Outlier>, u64)>,
    kept: usize,
}

impl Slow {
    /// Adds those of the latest tick.
    pub fn push(&mut self, place: u64, tick: &Tick) {
        if tick.outliers.is_empty() && tick.outliers_left_out == 0 {
            return;
        }
        self.kept += tick.outliers.len();
        self.ticks.push_back((place, tick.outliers.clone(), tick.outliers_left_out));
        while self.kept > KEPT && self.ticks.len() > 1 {
            self.drop_first();
        }
    }

    /// Forgets those before a place.
    pub fn forget(&mut self, oldest: u64) {
        while self.ticks.front().is_some_and(|(place, ..)| *place < oldest) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, list, _)) = self.ticks.pop_front() {
            self.kept -= list.len();
        }
    }
}

/// The slow exits of a scope.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Outliers {
    /// The newest, newest first: [`SHOWN`] at most.
    pub rows: Vec<OutlierRow>,
    /// How many there are.
    pub all: usize,
    /// How many were left out by the rate limit, of every scope together.
    pub left_out: u64,
}

/// A slow exit with its names.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct OutlierRow {
    /// It.
    pub outlier: Outlier,
    /// When it ended, ns since the Unix epoch.
    pub end_unix_ns: u64,
    /// Name of its VM.
    pub vm: String,
    /// Name of its reason.
    pub reason: String,
    /// What it was about: number and, where it has one, name.
    pub about: Option<String>,
    /// Name of the VM whose thread took its CPU, if a VM's.
    pub by_vm: Option<String>,
}

impl OutlierRow {
    fn new(outlier: &Outlier, now: &Now<'_>) -> Self {
        Self {
            end_unix_ns: now.session.unix_ns(outlier.end_ns),
            vm: now.name(outlier.key.vm),
            reason: now.session.names.name(outlier.reason).into_owned(),
            about: outlier.about.map(|(class, value)| about(class, value)),
            by_vm: outlier.by.as_ref().and_then(|(tid, _)| now.vm_of_thread(*tid)),
            outlier: outlier.clone(),
        }
    }

    /// What makes it itself.
    pub fn which(&self) -> OutlierId {
        (self.outlier.key, self.outlier.end_ns)
    }

    /// Who took its CPU: "qemu-kvm 4711", and the VM if it belongs to one.
    pub fn by(&self) -> Option<String> {
        let (tid, comm) = self.outlier.by.as_ref()?;
        Some(match &self.by_vm {
            Some(vm) => format!("{comm} {tid} ({vm})"),
            None => format!("{comm} {tid}"),
        })
    }
}

/// A key in words: "0x608 ACPI PM timer".
fn about(class: KeyClass, value: u64) -> String {
    let number = keys::number(class, value);
    match keys::name(class, value) {
        Some(name) => format!("{number} {name}"),
        None => number,
    }
}

fn text(text: String) -> Value {
    if text.is_empty() { Value::None } else { Value::Text(text.into()) }
}

impl Row for OutlierRow {
    fn id(&self) -> RowId {
        RowId::Vcpu(self.outlier.key)
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        field!("time", "time", 12, false, |r| text(moment(r.end_unix_ns)), "when it ended"),
        field!("vm", "VM", 12, false, |r| text(r.vm.clone()), "whose"),
        field!("vcpu", "vCPU", 4, true, |r| Value::Count(r.outlier.key.vcpu.into()), "number of the vCPU"),
        field!("reason", "reason", 16, false, |r| text(r.reason.clone()), "the exit reason"),
        field!("about", "about", 20, false, |r| r.about.clone().map_or(Value::None, text), "what it was about"),
        field!("wall", "wall", 5, true, |r| Value::Ns(r.outlier.wall_ns()), "from exit to entry"),
        field!("handling", "handl", 5, true, |r| Value::Ns(r.outlier.handling_ns), "handled on a CPU"),
        field!("asleep", "asleep", 6, true, |r| Value::Ns(r.outlier.asleep_ns), "asleep in KVM"),
        field!("wait", "wait", 5, true, |r| Value::Ns(r.outlier.wait_ns), "preempted, without a CPU"),
        field!("invmm", "inVMM", 5, true, |r| Value::Ns(r.outlier.vmm_ns), "outside KVM_RUN, in the VMM"),
        field!("by", "who took its CPU", 18, false, |r| r.by().map_or(Value::None, text), "who ran last in its place, thread and VM"),
        field!("rip", "guest RIP", 18, true, |r| text(format!("{:#x}", r.outlier.rip)), "guest instruction pointer"),
        field!("cpu", "CPU", 4, true, |r| Value::Text(r.outlier.cpu.to_string().into()), "physical CPU on which it ended"),
    ];
}

impl State {
    /// The slow exits of this level's scope up to the displayed tick.
    pub fn outliers(&self) -> &Outliers {
        self.views.outliers.get_or_init(|| {
            let Some(now) = self.now() else { return Outliers::default() };
            let scope = self.level().scope;
            let mut outliers = Outliers::default();
            let ticks = self.slow.ticks.iter().rev();
            for (_, list, left_out) in ticks.skip_while(|(place, ..)| *place > now.shown.place) {
                outliers.left_out = outliers.left_out.saturating_add(*left_out);
                for outlier in list.iter().rev().filter(|outlier| is_in(scope, outlier)) {
                    outliers.all += 1;
                    if outliers.rows.len() < SHOWN {
                        outliers.rows.push(OutlierRow::new(outlier, &now));
                    }
                }
            }
            outliers
        })
    }

    /// The slow exit that the cursor is on.
    pub fn selected_outlier(&self) -> Option<&OutlierRow> {
        self.outliers().rows.get(self.cursor_in(super::Pane::Outliers)?)
    }
}

fn is_in(scope: Scope, outlier: &Outlier) -> bool {
    let (who, reason) = match scope {
        Scope::Host => return true,
        Scope::Vm(vm) => (Who::Vm(vm), None),
        Scope::Reasons(who) => (who, None),
        Scope::Reason(who, reason) => (who, Some(reason)),
    };
    who.contains(outlier.key) && reason.is_none_or(|reason| reason == outlier.reason)
}
