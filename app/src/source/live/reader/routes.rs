//! Who sends interrupts (families `irq` and `irqchip`): from the probes' rows to VMs.
//!
//! KVM does not say into which VM something is sent. It is the sender's: of a vCPU's thread the VM that it
//! runs, of another thread the only VM of its process, of vhost's kernel threads that of the process they
//! are named after. Of a worker, an interrupt and a process without a VM, or with several, it is not known.

use super::Freed;
use crate::{
    model::{
        ids::VmId,
        meters::{Chip, RouteTick, Sender},
    },
    source::live::{
        identity::{Home, Identities, Names, comm},
        memory::Memory,
    },
};
use kvmscope_shared::route::{Route, RouteTally, sender};
use std::collections::BTreeMap;

/// How long a process that has no VM yet is waited for to have one, ns: a VMM sets lines before the first
/// vCPU runs. What serves a VM from a process of its own (vhost-user) never has one.
const HOLD_NS: u64 = 2_000_000_000;
/// Ticks without a change after which a row is given back, where few are left.
const IDLE: u32 = 10;

/// What was told of each row.
#[derive(Default)]
pub struct Routes {
    told: Vec<Told>,
    /// What found no row, as told last.
    unplaced: u64,
    /// Whether something was left out as it may be another's than the VMs that are watched.
    nobodys: bool,
}

#[derive(Clone, Copy, Default)]
struct Told {
    route: Route,
    tally: RouteTally,
    /// When it was seen first, ns.
    since_ns: u64,
    /// Ticks without a change.
    idle: u32,
    /// Nothing leads to it any more: it is read once more, and given back.
    leaving: bool,
}

/// What a tick has of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Most first.
    pub routes: Vec<RouteTick>,
    /// What found no row.
    pub left_out: u64,
}

/// Whose something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This VM's, or of a VM that is not known.
    Told(Option<VmId>),
    /// Of a process that may have a VM soon.
    Untold,
}

impl Routes {
    /// Forgets everything: the maps are new.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether something was left out, since the start, because with `--pid` only the VMs named are told
    /// of and KVM does not say whose it was.
    pub fn left_nobodys_out(&self) -> bool {
        self.nobodys
    }

    /// The name of a kernel thread that sent something, by its thread group.
    pub fn kernel_thread(&self, tgid: u32) -> Option<String> {
        let its = |told: &&Told| {
            told.route.tgid == tgid && u32::from(told.route.sender) == sender::KERNEL
        };
        self.told.iter().find(its).map(|told| comm(&told.route.comm))
    }

    /// What was sent since the last tick, at `now_ns`; and rows that are not used any more. `last` holds
    /// nothing back.
    pub fn advance(
        &mut self,
        memory: &dyn Memory,
        who: &Identities,
        names: &mut dyn Names,
        (now_ns, last): (u64, bool),
        freed: &mut Vec<Freed>,
    ) -> Sent {
        let rows = memory.route_rows();
        if rows == 0 {
            return Sent::default();
        }
        self.told.resize(rows as usize, Told::default());
        let unplaced = memory.route_tally(0).count;
        let left_out = unplaced.saturating_sub(std::mem::replace(&mut self.unplaced, unplaced));
        let filtered = memory.control().filters != 0;
        let used = self.told.iter().filter(|told| told.route.chip != 0).count() as u32;
        let scarce = used >= rows / 4 * 3;
        let mut alive: BTreeMap<u32, bool> = BTreeMap::new();
        let mut sent: BTreeMap<RouteTick, RouteTally> = BTreeMap::new();
        for (row, told) in (0..).zip(&mut self.told).skip(1) {
            let route = memory.route(row);
            if route.chip == 0 {
                continue;
            }
            if told.route != route {
                if memory.route(row) != route {
                    // Its owner is being written.
                    continue;
                }
                *told = Told { route, since_ns: now_ns, ..Told::default() };
            }
            let tally = memory.route_tally(row);
            let changed = tally != told.tally;
            let waits = !last && now_ns.saturating_sub(told.since_ns) < HOLD_NS;
            let whose = if changed { whose(&route, who, waits) } else { Whose::Untold };
            if let Whose::Told(vm) = whose {
                let grown = RouteTally {
                    count: tally.count.saturating_sub(told.tally.count),
                    coalesced: tally.coalesced.saturating_sub(told.tally.coalesced),
                };
                told.tally = tally;
                if filtered && vm.is_none() && !is_threads(&route) {
                    self.nobodys = true;
                } else if let Some(tick) = named(&route, vm) {
                    let sum = sent.entry(tick).or_default();
                    sum.count += grown.count;
                    sum.coalesced += grown.coalesced;
                }
            }
            told.idle = if changed { 0 } else { told.idle.saturating_add(1) };
            if told.leaving {
                if !changed || whose != Whose::Untold {
                    *told = Told::default();
                    freed.push(Freed::RouteRow(row));
                }
            } else if !changed
                && (scarce && told.idle >= IDLE || {
                    // Looked at where nothing happens alone.
                    is_threads(&route)
                        && !*alive.entry(route.tgid).or_insert_with(|| {
                            who.vm_of_process(route.tgid).is_some() || names.alive(route.tgid, 0)
                        })
                })
            {
                told.leaving = true;
                freed.push(Freed::Route(route));
            }
        }
        let whole = |(tick, tally): (RouteTick, RouteTally)| RouteTick {
            count: tally.count,
            coalesced: tally.coalesced,
            ..tick
        };
        let mut routes: Vec<RouteTick> = sent.into_iter().map(whole).collect();
        routes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.cmp(b)));
        Sent { routes, left_out }
    }
}

/// Whether it is a process's, whose end can be seen.
fn is_threads(route: &Route) -> bool {
    matches!(u32::from(route.sender), sender::THREAD | sender::VCPU)
}

/// A row without its numbers; `None` of a chip or sender that is none.
fn named(route: &Route, vm: Option<VmId>) -> Option<RouteTick> {
    let of = u32::from(route.sender);
    Some(RouteTick {
        chip: Chip::from_record(u32::from(route.chip).checked_sub(1)?)?,
        vm,
        sender: Sender::from_record(of)?,
        pid: route.tgid,
        comm: comm(&route.comm),
        a: route.a,
        b: route.b,
        ..RouteTick::default()
    })
}

/// Whose a row is; `waits` is whether a process may have a VM yet.
fn whose(route: &Route, who: &Identities, waits: bool) -> Whose {
    whose_sender((u32::from(route.sender), route.tgid, route.kvm), || comm(&route.comm), who, waits)
}

/// Whose what a sender sends is: sender, thread group, address of the `struct kvm` or 0; and the name of
/// the thread.
pub fn whose_sender(
    (of, tgid, kvm): (u32, u32, u64),
    name: impl Fn() -> String,
    who: &Identities,
    waits: bool,
) -> Whose {
    match of {
        sender::VCPU | sender::THREAD => match who.home(tgid, kvm) {
            Home::Vm { id, .. } if kvm != 0 => Whose::Told(Some(id)),
            Home::Perhaps(_) if waits => Whose::Untold,
            _ => Whose::Told(who.only_vm_of_process(tgid)),
        },
        sender::KERNEL => Whose::Told(vhosts(&name()).and_then(|pid| who.only_vm_of_process(pid))),
        _ => Whose::Told(None),
    }
}

/// The process that a kernel thread of vhost works for (before 6.4, and where the VMM asks for it).
fn vhosts(name: &str) -> Option<u32> {
    name.strip_prefix("vhost-")?.parse().ok()
}
