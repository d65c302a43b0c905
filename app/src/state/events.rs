//! Single events of the kept ticks: found by scope without looking at those of others, newest first.

use super::State;
use super::fields::{Field, Row};
use super::nav::{Pane, RowId, Scope, Who};
use super::value::{Value, moment};
use crate::model::detail::KeyClass;
use crate::model::event::{Event, EventKind};
use crate::model::ids::{Isa, Reason, VcpuKey, VmId};
use crate::model::tick::Tick;
use crate::trace::events::{address, is_unknown, memory, what};
use crate::trace::ioctl::{self, Memslot};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Events that are kept, of everyone together. Where they are more, the oldest give way before their
/// ticks do.
pub const KEPT: usize = 100_000;
/// Memory slots of a VM that are remembered, for the addresses of its page faults.
const SLOTS: usize = 4_096;

/// Which events stand in one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// Page faults, MMIO, loads of MMU roots.
    Memory,
    /// Hypercalls.
    Calls,
    /// Memory slots as they are set.
    Slots,
    /// Injections, routes, timer events.
    Interrupts,
    /// Wake-ups, changes of halt polling's window.
    Scheduling,
    /// KVM ioctls.
    Ioctls,
}

impl List {
    /// The list of a pane, if it has one.
    pub fn of(pane: Pane) -> Option<Self> {
        match pane {
            Pane::Events => Some(Self::Memory),
            Pane::Calls => Some(Self::Calls),
            Pane::Slots => Some(Self::Slots),
            Pane::Injections => Some(Self::Interrupts),
            Pane::Woken => Some(Self::Scheduling),
            Pane::Told => Some(Self::Ioctls),
            _ => None,
        }
    }

    /// The list in which a kind stands.
    fn of_kind(kind: EventKind) -> Self {
        match kind {
            EventKind::Fault | EventKind::Mmio | EventKind::Root => Self::Memory,
            EventKind::Hypercall | EventKind::HvHypercall | EventKind::XenHypercall => Self::Calls,
            EventKind::Memslot => Self::Slots,
            EventKind::Ioctl => Self::Ioctls,
            EventKind::Injection | EventKind::Exception | EventKind::Route | EventKind::Timer => {
                Self::Interrupts
            }
            EventKind::Wakeup | EventKind::HaltPoll => Self::Scheduling,
        }
    }

    /// The scope in which a list is looked for: a memory slot belongs to a VM, whoever sets it.
    fn scope(self, scope: Scope) -> Scope {
        match (self, scope, scope.vm()) {
            (Self::Slots, _, Some(vm)) | (_, Scope::Reasons(Who::Vm(vm)), _) => Scope::Vm(vm),
            _ => scope,
        }
    }
}

/// Where memory of a VM is: guest-physical address, size, address in the VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    gpa: u64,
    size: u64,
    hva: u64,
}

/// How far the log was after a tick.
#[derive(Clone, Copy, Debug)]
struct Mark {
    place: u64,
    /// Number of the event after its last one.
    end: u64,
    /// Events left out from the start to it, by kind.
    left_out: [u64; EventKind::ALL.len()],
}

/// The events, and for each scope which of them are its own. An event's number counts from 0 and never
/// changes.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: VecDeque<Event>,
    /// Number of the oldest kept one.
    first: u64,
    index: HashMap<(List, Scope), VecDeque<u64>>,
    marks: VecDeque<Mark>,
    /// Left out before the oldest mark.
    before: [u64; EventKind::ALL.len()],
    regions: HashMap<VmId, BTreeMap<u64, Region>>,
}

impl Log {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds those of the latest tick.
    pub fn push(&mut self, place: u64, tick: &Tick) {
        if tick.events.is_empty() && tick.events_left_out.is_empty() {
            return;
        }
        for event in &tick.events {
            let list = List::of_kind(event.kind);
            let number = self.end();
            self.events.push_back(*event);
            for scope in scopes(event).into_iter().flatten() {
                self.index.entry((list, scope)).or_default().push_back(number);
            }
            self.remember(event);
        }
        let mut left_out = self.marks.back().map_or(self.before, |mark| mark.left_out);
        for left in &tick.events_left_out {
            if let Some(sum) = left_out.get_mut(left.kind as usize) {
                *sum = sum.saturating_add(left.count);
            }
        }
        self.marks.push_back(Mark { place, end: self.end(), left_out });
        while self.events.len() > KEPT {
            self.drop_event();
        }
    }

    /// Forgets those before a place.
    pub fn forget(&mut self, oldest: u64) {
        while let Some(mark) = self.marks.front().filter(|mark| mark.place < oldest) {
            let mark = *mark;
            while self.first < mark.end && !self.events.is_empty() {
                self.drop_event();
            }
            self.before = mark.left_out;
            self.marks.pop_front();
        }
    }

    /// Forgets where the memory is of VMs that are not kept.
    pub fn retain(&mut self, keep: impl Fn(VmId) -> bool) {
        self.regions.retain(|&vm, _| keep(vm));
    }

    /// The oldest event leaves; it is the first wherever it stands.
    fn drop_event(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        self.first += 1;
        let list = List::of_kind(event.kind);
        for scope in scopes(&event).into_iter().flatten() {
            if let Some(numbers) = self.index.get_mut(&(list, scope)) {
                numbers.pop_front();
                if numbers.is_empty() {
                    self.index.remove(&(list, scope));
                }
            }
        }
    }

    fn remember(&mut self, event: &Event) {
        let [slot, _, gpa, size, hva, result] = event.args;
        if event.kind != EventKind::Memslot || (result as i64) < 0 {
            return;
        }
        let slots = self.regions.entry(event.vm).or_default();
        if size == 0 {
            slots.remove(&slot);
        } else if slots.len() < SLOTS || slots.contains_key(&slot) {
            slots.insert(slot, Region { gpa, size, hva });
        }
    }

    /// The slot in which an address is, and the address in the VMM.
    fn region(&self, vm: VmId, gpa: u64) -> Option<(u64, u64)> {
        let inside = |region: &Region| gpa.checked_sub(region.gpa).filter(|&at| at < region.size);
        self.regions.get(&vm)?.iter().find_map(|(&slot, region)| {
            inside(region).map(|at| (slot & 0xffff_ffff, region.hva.wrapping_add(at)))
        })
    }

    /// How far the log was at a place.
    fn mark(&self, place: u64) -> Option<&Mark> {
        let at = self.marks.partition_point(|mark| mark.place <= place);
        self.marks.get(at.checked_sub(1)?)
    }

    /// The numbers of a list's events up to a place, ascending: all of them, and how many count.
    fn numbers(&self, list: List, scope: Scope, place: u64) -> Option<(&VecDeque<u64>, usize)> {
        let numbers = self.index.get(&(list, list.scope(scope)))?;
        let end = self.mark(place)?.end;
        Some((numbers, numbers.partition_point(|&number| number < end)))
    }

    fn event(&self, number: u64) -> Option<&Event> {
        self.events.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

/// The scopes that an event belongs to.
fn scopes(event: &Event) -> [Option<Scope>; 5] {
    let vcpu = event.vcpu.map(|vcpu| Who::Vcpu(VcpuKey { vm: event.vm, vcpu }));
    let of = |who: Who| event.reason.map(|reason| Scope::Reason(who, reason));
    [
        Some(Scope::Host),
        Some(Scope::Vm(event.vm)),
        of(Who::Vm(event.vm)),
        vcpu.map(Scope::Reasons),
        vcpu.and_then(of),
    ]
}

/// An event with its names.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct EventRow {
    /// It.
    pub event: Event,
    /// Its number in the log.
    pub number: u64,
    /// When, ns since the Unix epoch.
    pub unix_ns: u64,
    /// Name of its VM.
    pub vm: String,
    /// What it was, in words.
    pub what: String,
    /// Guest code: its symbol, or its address.
    pub code: Option<String>,
    /// Memory slot and address in the VMM of a page fault, where its slots are known.
    pub region: Option<(u64, u64)>,
}

impl EventRow {
    fn memslot(&self) -> Option<Memslot> {
        let is = self.event.kind == EventKind::Memslot;
        is.then(|| Memslot::from_args(&self.event.args))
    }

    /// What an ioctl answered: what it made, or its error; nothing where that is 0.
    fn answer(&self) -> Option<String> {
        let answer =
            self.event.args.get(1).copied().filter(|_| self.event.kind == EventKind::Ioctl);
        answer.and_then(ioctl::result)
    }

    /// What kind of descriptor an ioctl was for.
    fn on(&self) -> &'static str {
        let [.., scope, _, _] = self.event.args;
        match (self.event.kind, ioctl::Scope::from_record(scope)) {
            (EventKind::Ioctl, Some(ioctl::Scope::System)) => "/dev/kvm",
            (EventKind::Ioctl, Some(ioctl::Scope::Vm)) => "VM",
            (EventKind::Ioctl, Some(ioctl::Scope::Vcpu)) => "vCPU",
            (EventKind::Ioctl, Some(ioctl::Scope::Device)) => "device",
            _ => "",
        }
    }

    /// Whether it is a hypercall whose number is unknown, or a call that failed.
    pub fn is_odd(&self) -> bool {
        let [number, result, .., answer] = self.event.args;
        match self.event.kind {
            EventKind::Hypercall => is_unknown(KeyClass::Hypercall, number),
            EventKind::HvHypercall => is_unknown(KeyClass::HvHypercall, number),
            EventKind::XenHypercall => is_unknown(KeyClass::XenHypercall, number),
            EventKind::Ioctl => result.cast_signed() < 0,
            EventKind::Memslot => answer.cast_signed() < 0,
            EventKind::Injection => number > 0xff,
            EventKind::Exception => true,
            EventKind::Wakeup => self.event.args[2] == 0,
            _ => false,
        }
    }

    /// Where it points: its reason, else its vCPU, else its VM.
    pub fn target(&self) -> Scope {
        let vm = self.event.vm;
        let who = self.event.vcpu.map(|vcpu| Who::Vcpu(VcpuKey { vm, vcpu }));
        match (who, self.event.reason) {
            (Some(who), Some(reason)) => Scope::Reason(who, reason),
            (Some(who), None) => Scope::Reasons(who),
            (None, _) => Scope::Vm(vm),
        }
    }
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::None } else { Value::Text(text.to_owned().into()) }
}

fn hex(value: Option<u64>) -> Value {
    value.map_or(Value::None, |value| Value::Text(format!("{value:#x}").into()))
}

/// Flags of a memory slot.
fn flags(slot: &Memslot) -> Value {
    text(&slot.flag_words().join(", "))
}

/// How long a halted vCPU had been halted.
fn halted(event: &Event) -> Value {
    if event.kind == EventKind::Wakeup { Value::Ns(event.args[0]) } else { Value::None }
}

fn took(ns: u64) -> Value {
    if ns == 0 { Value::None } else { Value::Ns(ns) }
}

impl Row for EventRow {
    fn id(&self) -> RowId {
        RowId::Vm(self.event.vm)
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "time", title: "time", width: 12, numeric: false, about: "when it happened, or ended where it took time", value: |r| text(&moment(r.unix_ns)) },
        Field { key: "vm", title: "VM", width: 8, numeric: false, about: "whose", value: |r| text(&r.vm) },
        Field { key: "vcpu", title: "vCPU", width: 4, numeric: true, about: "number of the vCPU", value: |r| r.event.vcpu.map_or(Value::None, |vcpu| Value::Count(vcpu.into())) },
        Field { key: "gpa", title: "GPA", width: 12, numeric: true, about: "guest-physical address; of an MMU root, the root's", value: |r| hex(address(&r.event)) },
        Field { key: "what", title: "what", width: 26, numeric: false, about: "what it was", value: |r| text(&r.what) },
        Field { key: "halted", title: "halted", width: 6, numeric: true, about: "how long it had been halted", value: |r| halted(&r.event) },
        Field { key: "took", title: "took", width: 5, numeric: true, about: "from exit to entry, all of it", value: |r| took(r.event.wall_ns()) },
        Field { key: "invmm", title: "inVMM", width: 5, numeric: true, about: "of it: outside KVM_RUN, in the VMM", value: |r| took(r.event.vmm_ns) },
        Field { key: "off", title: "offCPU", width: 6, numeric: true, about: "of it: off the CPU inside KVM_RUN", value: |r| took(r.event.off_ns) },
        Field { key: "rip", title: "guest RIP", width: 18, numeric: false, about: "guest code: symbol, or address", value: |r| r.code.as_deref().map_or(Value::None, text) },
        Field { key: "slot", title: "slot", width: 4, numeric: true, about: "memory slot of the address, where it is known (family ioctl, from before the VM starts)", value: |r| r.region.map_or(Value::None, |(slot, _)| Value::Count(slot)) },
        Field { key: "hva", title: "HVA", width: 14, numeric: true, about: "the address in the VMM, where it is known", value: |r| hex(r.memslot().map(|slot| slot.hva).or(r.region.map(|(_, hva)| hva))) },
        Field { key: "size", title: "size", width: 8, numeric: true, about: "size of the memory slot", value: |r| r.memslot().map_or(Value::None, |slot| Value::Text(memory(slot.size).into())) },
        Field { key: "flags", title: "flags", width: 15, numeric: false, about: "flags of the memory slot", value: |r| r.memslot().map_or(Value::None, |slot| flags(&slot)) },
        Field { key: "on", title: "on", width: 8, numeric: false, about: "what kind of descriptor the ioctl was for", value: |r| text(r.on()) },
        Field { key: "answer", title: "result", width: 7, numeric: false, about: "what the ioctl answered: an error, or a number where it is not 0", value: |r| r.answer().map_or(Value::None, |answer| text(&answer)) },
        Field { key: "cpu", title: "CPU", width: 4, numeric: true, about: "physical CPU", value: |r| Value::Text(r.event.cpu.to_string().into()) },
        Field { key: "tid", title: "TID", width: 7, numeric: true, about: "thread", value: |r| Value::Text(r.event.tid.to_string().into()) },
    ];
}

impl State {
    fn numbers(&self, list: List) -> Option<(&VecDeque<u64>, usize)> {
        let place = self.moments.shown()?.place;
        self.log.numbers(list, self.level().scope, place)
    }

    /// How many events a list has here, up to the displayed tick.
    pub fn event_count(&self, list: List) -> usize {
        self.numbers(list).map_or(0, |(_, count)| count)
    }

    /// How many were left out, over the rate that is let through, of the host in the time that is kept.
    pub fn events_left_out(&self, list: List) -> u64 {
        let Some(shown) = self.moments.shown() else { return 0 };
        let Some(mark) = self.log.mark(shown.place) else { return 0 };
        let kinds = EventKind::ALL.into_iter().filter(|kind| List::of_kind(*kind) == list);
        let of = |counts: &[u64], kind: EventKind| counts.get(kind as usize).copied().unwrap_or(0);
        kinds
            .map(|kind| of(&mark.left_out, kind).saturating_sub(of(&self.log.before, kind)))
            .fold(0, u64::saturating_add)
    }

    /// The number of the event in a row; the newest is in row 0.
    pub(super) fn event_number(&self, list: List, row: usize) -> Option<u64> {
        let (numbers, count) = self.numbers(list)?;
        numbers.get(count.checked_sub(row.checked_add(1)?)?).copied()
    }

    /// The row of an event; where it has left, the oldest.
    pub(super) fn event_at(&self, list: List, number: u64) -> Option<usize> {
        let (numbers, count) = self.numbers(list)?;
        let at = numbers.partition_point(|&other| other < number).min(count.checked_sub(1)?);
        Some(count - 1 - at)
    }

    /// A row of a list, newest first.
    pub fn event_row(&self, list: List, row: usize) -> Option<EventRow> {
        let number = self.event_number(list, row)?;
        let event = *self.log.event(number)?;
        let now = self.now()?;
        // Who sends an interrupt is always known, into which VM is not.
        let nobody = event.kind == EventKind::Route && event.vm == VmId(0);
        let vm = if nobody { "unknown".to_owned() } else { now.name(event.vm) };
        let code = (event.rip != 0).then(|| {
            let symbol = self.symbols.describe(&vm, event.rip);
            symbol.unwrap_or_else(|| format!("{:#x}", event.rip))
        });
        let is_fault = event.kind == EventKind::Fault;
        let region = is_fault.then(|| self.log.region(event.vm, event.args[0])).flatten();
        let what = what(&event, self.isa(event.reason));
        // Of several kinds in one list each says which it is.
        let what = match event.kind {
            EventKind::Mmio => format!("MMIO {what}"),
            EventKind::Root => format!("MMU root, {what}"),
            EventKind::Injection => format!("interrupt {what}"),
            // What it answered has a column.
            EventKind::Ioctl => ioctl::label(event.args[0] as u32).into_owned(),
            _ => what,
        };
        let unix_ns = self.session.unix_ns(event.at_ns);
        Some(EventRow { event, number, unix_ns, vm, what, code, region })
    }

    /// How error codes are to be read.
    fn isa(&self, reason: Option<Reason>) -> Isa {
        match reason.map(|reason| reason.isa) {
            Some(isa @ (Isa::Vmx | Isa::Svm)) => isa,
            _ if self.session.host.backend == "svm" => Isa::Svm,
            _ => Isa::Vmx,
        }
    }
}
