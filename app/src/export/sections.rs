//! Memory, calls and single events, as JSON. A part whose family is off is `null`; `families[]` says why.

use super::Content;
use super::details::{Times, vm_called};
use super::sums::{
    self, DIRTY_LOG, DIRTY_PAGES, DIRTY_SLOTS, DirtyLog, FAULTS, HYPERCALLS, LOADS, MMIO, PAGES,
    ROOTS, ranked,
};
use crate::model::detail::{IoctlTick, KeyClass};
use crate::model::event::{Event, LeftOut};
use crate::model::ids::Isa;
use crate::model::session::{OFF, Session};
use crate::model::totals::{KeySum, VcpuTotals, VmTotals};
use crate::trace::{events, ioctl, keys};
use kvmscope_shared::column::hardware_code;
use kvmscope_shared::event::ARGS;
use serde::Serialize;
use std::borrow::Cow;

/// Pages, addresses, roots and hypercalls that are listed at most.
pub const LISTED: usize = 100;

/// A family of probes.
#[derive(Debug, Serialize)]
pub struct Family<'a> {
    name: &'a str,
    on: bool,
    why: Option<&'a str>,
}

impl<'a> Family<'a> {
    /// As `--probes` takes it.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether nothing of it is attached because nobody asked for it.
    pub fn is_off(&self) -> bool {
        self.why.is_some_and(|why| !self.on && why.starts_with(OFF))
    }
}

/// Every family that a probe belongs to.
pub fn families(session: &Session) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for probe in &session.probes {
        match families.iter_mut().find(|family| family.name == probe.family) {
            Some(family) => family.on |= probe.attached,
            None => families.push(Family {
                name: &probe.family,
                on: probe.attached,
                why: probe.why.as_deref(),
            }),
        }
    }
    for family in families.iter_mut().filter(|family| family.on) {
        family.why = None;
    }
    families
}

/// What a VM or a vCPU did with memory.
#[derive(Debug, Serialize)]
pub struct Memory {
    faults: Option<Vec<Fault>>,
    pages: Option<Vec<Page>>,
    pages_other: u64,
    mmio: Option<Vec<Access>>,
    mmio_other: u64,
    dirty: Option<Dirty>,
    roots: Option<Vec<Root>>,
    roots_other: u64,
    loads: Option<Vec<Load>>,
    loads_other: u64,
}

#[derive(Debug, Serialize)]
struct Fault {
    kind: u64,
    name: Option<Cow<'static, str>>,
    #[serde(flatten)]
    times: Times,
}

#[derive(Debug, Serialize)]
struct Page {
    address: u64,
    #[serde(flatten)]
    times: Times,
}

#[derive(Debug, Serialize)]
struct Access {
    access: &'static str,
    address: u64,
    name: Option<Cow<'static, str>>,
    to_vmm: Option<bool>,
    #[serde(flatten)]
    times: Times,
}

#[derive(Debug, Serialize)]
struct Dirty {
    count: u64,
    slots: Vec<DirtySlot>,
    slots_other: u64,
    pages: Vec<DirtyPage>,
    pages_other: u64,
    marked: u64,
    not_logged: u64,
    logs: Option<bool>,
    pml_full: u64,
    ring_pushes: u64,
    ring_full: u64,
}

#[derive(Debug, Serialize)]
struct DirtySlot {
    slot: u64,
    space: u64,
    count: u64,
}

#[derive(Debug, Serialize)]
struct DirtyPage {
    address: u64,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Root {
    address: u64,
    level: u64,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Load {
    cpu: u64,
    count: u64,
}

/// The part where there is something, or could have been.
pub(super) fn part<T>(is_there: bool, session: &Session, families: &[&str], part: T) -> Option<T> {
    (is_there || families.iter().any(|family| session.has(family))).then_some(part)
}

/// The same of what a single probe tells.
fn told<T>(is_there: bool, session: &Session, hook: &str, part: T) -> Option<T> {
    (is_there || sums::is_attached(session, hook)).then_some(part)
}

impl Memory {
    /// Of these vCPUs together.
    pub fn new(session: &Session, vcpus: &[&VcpuTotals]) -> Self {
        let faults = ranked(vcpus, FAULTS, usize::MAX);
        let pages = ranked(vcpus, PAGES, LISTED);
        let mmio = ranked(vcpus, MMIO, LISTED);
        let roots = ranked(vcpus, ROOTS, LISTED);
        let loads = ranked(vcpus, LOADS, LISTED);
        let fault = |(_, kind, sum): &(KeyClass, u64, KeySum)| Fault {
            kind: *kind,
            name: keys::name(KeyClass::Fault, *kind),
            times: Times::new(sum),
        };
        let page = |(_, address, sum): &(KeyClass, u64, KeySum)| Page {
            address: *address,
            times: Times::new(sum),
        };
        let access = |(class, address, sum): &(KeyClass, u64, KeySum)| Access {
            access: match class {
                KeyClass::MmioRead => "read",
                KeyClass::MmioWrite => "write",
                _ => "doorbell",
            },
            address: *address,
            name: keys::name(*class, *address),
            to_vmm: sums::to_vmm(*class, sum),
            times: Times::new(sum),
        };
        let root = |(_, root, sum): &(KeyClass, u64, KeySum)| Root {
            address: root & !0xfff,
            level: root & 0xfff,
            count: sum.count,
        };
        let load = |(_, cpu, sum): &(KeyClass, u64, KeySum)| Load { cpu: *cpu, count: sum.count };
        Self {
            faults: part(
                !faults.is_empty(),
                session,
                &["mmu"],
                faults.first.iter().map(fault).collect(),
            ),
            pages: part(
                !pages.is_empty(),
                session,
                &["mmu", "detail"],
                pages.first.iter().map(page).collect(),
            ),
            pages_other: pages.rest.count,
            mmio: part(
                !mmio.is_empty(),
                session,
                &["mmio", "detail"],
                mmio.first.iter().map(access).collect(),
            ),
            mmio_other: mmio.rest.count,
            dirty: Dirty::new(session, vcpus),
            roots: told(
                !roots.is_empty(),
                session,
                sums::ROOT_LOADS,
                roots.first.iter().map(root).collect(),
            ),
            roots_other: roots.rest.count,
            loads: told(
                !loads.is_empty(),
                session,
                sums::VCPU_LOADS,
                loads.first.iter().map(load).collect(),
            ),
            loads_other: loads.rest.count,
        }
    }
}

impl Dirty {
    fn new(session: &Session, vcpus: &[&VcpuTotals]) -> Option<Self> {
        let slots = ranked(vcpus, DIRTY_SLOTS, usize::MAX);
        let pages = ranked(vcpus, DIRTY_PAGES, LISTED);
        let slot = |(_, slot, sum): &(KeyClass, u64, KeySum)| DirtySlot {
            slot: slot & 0xffff,
            space: slot >> 16,
            count: sum.count,
        };
        let page = |(_, address, sum): &(KeyClass, u64, KeySum)| DirtyPage {
            address: *address,
            count: sum.count,
        };
        let log = DirtyLog::new(vcpus);
        // Exits are counted without the family too, and make no section of it.
        let is_there = !slots.is_empty() || !ranked(vcpus, DIRTY_LOG, 0).is_empty();
        let dirty = Self {
            count: slots.count(),
            slots: slots.first.iter().map(slot).collect(),
            slots_other: slots.rest.count,
            pages: pages.first.iter().map(page).collect(),
            pages_other: pages.rest.count,
            marked: log.marked,
            not_logged: log.not_logged,
            logs: log.logs(),
            pml_full: log.pml_full,
            ring_pushes: log.ring_pushes,
            ring_full: log.ring_full,
        };
        told(is_there, session, sums::MARKS, dirty)
    }
}

/// What a VM called, and what was called for it.
#[derive(Debug, Serialize)]
pub struct Calls {
    #[serde(flatten)]
    hypercalls: Hypercalls,
    ioctls: Option<Vec<Ioctl>>,
}

/// What a vCPU called.
#[derive(Debug, Serialize)]
pub struct Hypercalls {
    hypercalls: Option<Vec<Hypercall>>,
    hypercalls_other: u64,
}

#[derive(Debug, Serialize)]
struct Hypercall {
    abi: &'static str,
    number: u64,
    name: Option<Cow<'static, str>>,
    unknown: bool,
    #[serde(flatten)]
    times: Times,
}

#[derive(Debug, Serialize)]
struct Ioctl {
    command: u32,
    name: Option<&'static str>,
    scope: Option<&'static str>,
    count: u64,
    failed: u64,
    total_ns: u64,
    mean_ns: u64,
    max_ns: u64,
}

impl Hypercalls {
    /// Of these vCPUs together.
    pub fn new(session: &Session, vcpus: &[&VcpuTotals]) -> Self {
        let calls = ranked(vcpus, HYPERCALLS, LISTED);
        let call = |(class, number, sum): &(KeyClass, u64, KeySum)| Hypercall {
            abi: abi(*class),
            number: *number,
            name: events::hypercall_name(*class, *number),
            unknown: events::is_unknown(*class, *number),
            times: Times::new(sum),
        };
        let list = calls.first.iter().map(call).collect();
        Self {
            hypercalls: part(!calls.is_empty(), session, &["hypercall", "detail"], list),
            hypercalls_other: calls.rest.count,
        }
    }
}

/// Whose numbers these are.
fn abi(class: KeyClass) -> &'static str {
    match class {
        KeyClass::HvHypercall => "hyper-v",
        KeyClass::XenHypercall => "xen",
        _ => "kvm",
    }
}

impl Calls {
    /// Of a VM.
    pub fn new(session: &Session, vm: &VmTotals) -> Self {
        let vcpus: Vec<&VcpuTotals> = vm.vcpus.values().collect();
        let mut ioctls: Vec<&IoctlTick> = vm.ioctls.values().collect();
        ioctls.sort_by_key(|ioctl| (std::cmp::Reverse(ioctl.count), ioctl.command));
        let ioctls = ioctls.into_iter().map(|ioctl| Ioctl {
            command: ioctl.command,
            name: ioctl::name(ioctl.command),
            scope: ioctl::scope(ioctl.command).map(ioctl::Scope::word),
            count: ioctl.count,
            failed: ioctl.failed,
            total_ns: ioctl.total_ns,
            mean_ns: ioctl.total_ns.checked_div(ioctl.count).unwrap_or(0),
            max_ns: ioctl.max_ns,
        });
        Self {
            hypercalls: Hypercalls::new(session, &vcpus),
            ioctls: part(!vm.ioctls.is_empty(), session, &["ioctl"], ioctls.collect()),
        }
    }
}

/// A single event.
#[derive(Debug, Serialize)]
pub struct Happened<'a> {
    kind: &'static str,
    at_unix_ns: u64,
    vm: u32,
    vcpu: Option<u32>,
    tid: u32,
    cpu: u32,
    reason: Option<Cow<'a, str>>,
    code: Option<u32>,
    what: String,
    details: Vec<String>,
    address: Option<u64>,
    rip: u64,
    symbol: Option<String>,
    wall_ns: u64,
    handling_ns: u64,
    off_cpu_ns: u64,
    vmm_ns: u64,
    args: [u64; ARGS],
}

impl<'a> Happened<'a> {
    /// In words too; `isa` is the host's.
    pub fn new(content: &Content<'a>, event: &Event, isa: Isa) -> Self {
        let vm = vm_called(content, event.vm);
        Self {
            kind: event.kind.word(),
            at_unix_ns: content.session.unix_ns(event.at_ns),
            vm: event.vm.0,
            vcpu: event.vcpu,
            tid: event.tid,
            cpu: event.cpu,
            reason: event.reason.map(|reason| content.session.names.name(reason)),
            code: event.reason.map(|reason| hardware_code(reason.code)),
            what: events::what(event, isa),
            details: events::details(event, isa),
            address: events::address(event),
            rip: event.rip,
            symbol: (event.rip != 0).then(|| (content.code)(vm, event.rip)).flatten(),
            wall_ns: event.wall_ns(),
            handling_ns: event.handling_ns,
            off_cpu_ns: event.off_ns,
            vmm_ns: event.vmm_ns,
            args: event.args,
        }
    }
}

/// How many events are not in the list.
#[derive(Debug, Serialize)]
pub struct NotListed {
    kind: &'static str,
    count: u64,
}

impl NotListed {
    /// Of one kind.
    pub fn new(left_out: LeftOut) -> Self {
        Self { kind: left_out.kind.word(), count: left_out.count }
    }
}
