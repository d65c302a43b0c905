//! Keys added up: which belong to a reason, over a tick and over the window.

use super::{KeyRow, RipRow, To, TopKey, direction, is_fine, is_shared, words};
use crate::model::detail::{KeyClass, KeyId, KeyTick};
use crate::model::ids::{Kind, Reason};
use crate::model::totals::KeySum;
use crate::state::load::{per_second, ratio};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// Keys that are kept apart here, of all vCPUs together; more are added to "other".
pub(super) const KEPT: usize = 256;
/// Instruction pointers that are shown.
const RIPS: usize = 64;

/// The userspace exit (`KVM_EXIT_*`, include/uapi/linux/kvm.h) by which the VMM is asked about keys
/// of a class.
fn to_vmm(class: KeyClass) -> Option<Reason> {
    Some(Reason::userspace(match class {
        KeyClass::PortIn | KeyClass::PortOut => 2,
        KeyClass::Hypercall => 3,
        KeyClass::MmioRead | KeyClass::MmioWrite => 6,
        KeyClass::HvHypercall => 27,
        KeyClass::MsrRead => 29,
        KeyClass::MsrWrite => 30,
        _ => return None,
    }))
}

/// Whether exits of a key went to the VMM, as far as is known.
fn went_out(key: &KeyTick) -> bool {
    key.vmm_ns > 0 || key.id.reason.is_none()
}

/// Of a vCPU's keys those that belong to a reason, and every "other", under the identity that they
/// have there.
pub(in crate::state) fn of_reason(keys: &[KeyTick], reason: Reason) -> Vec<KeyTick> {
    let id = |id: KeyId| match reason.kind {
        Kind::Userspace => KeyId { reason: None, ..id },
        Kind::Exit => id,
    };
    let named = |key: &&KeyTick| key.id.value.is_none() || belongs(key, reason);
    let mut found: Vec<KeyTick> = keys.iter().filter(named).copied().collect();
    if reason.kind == Kind::Userspace {
        // Guest code is only known by kernel exit: that of the exits which went to the VMM.
        let from: BTreeSet<Reason> = found.iter().filter_map(|key| key.id.reason).collect();
        let code = keys.iter().filter(|key| {
            let known = key.id.reason.is_some_and(|reason| from.contains(&reason));
            key.id.class == KeyClass::Rip && known && key.vmm_ns > 0
        });
        found.extend(code);
    }
    found.into_iter().map(|key| KeyTick { id: id(key.id), ..key }).collect()
}

fn belongs(key: &KeyTick, reason: Reason) -> bool {
    match reason.kind {
        Kind::Exit => key.id.reason == Some(reason),
        Kind::Userspace => to_vmm(key.id.class) == Some(reason) && went_out(key),
    }
}

/// Keys added up by identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::state) struct KeySums(pub(super) HashMap<KeyId, KeySum>);

impl KeySums {
    /// Adds keys of one vCPU.
    pub fn add(&mut self, keys: &[KeyTick]) {
        for key in keys {
            self.0.entry(key.id).or_default().add(key);
        }
    }

    /// The same, of one reason or of all; pages and instruction pointers only where there is time
    /// for them.
    pub fn add_some(&mut self, keys: &[KeyTick], only: Option<Reason>, fine: bool) {
        let wanted = |key: &&KeyTick| {
            key.id.value.is_some()
                && (fine || !is_fine(key.id.class))
                && only.is_none_or(|reason| belongs(key, reason))
        };
        for key in keys.iter().filter(wanted) {
            self.0.entry(key.id).or_default().add(key);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes back what [`Self::merge`] added.
    pub fn subtract(&mut self, other: &Self) {
        for (id, theirs) in &other.0 {
            if let Some(sum) = self.0.get_mut(id) {
                sum.subtract(theirs);
                if sum.is_over() {
                    self.0.remove(id);
                }
            }
        }
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &Self) {
        for (id, theirs) in &other.0 {
            self.0.entry(*id).or_default().merge(theirs);
        }
    }

    /// The same, with at most [`KEPT`] keys of their own; the rarest go to "other".
    pub fn bounded(mut self) -> Self {
        let own = |id: &KeyId| id.value.is_some();
        let Some(extra) = self.0.keys().filter(|id| own(id)).count().checked_sub(KEPT) else {
            return self;
        };
        let mut order: Vec<(u64, KeyId)> =
            self.0.iter().filter(|(id, _)| own(id)).map(|(id, sum)| (sum.count, *id)).collect();
        order.sort_unstable();
        for (_, id) in order.into_iter().take(extra) {
            if let Some(sum) = self.0.remove(&id) {
                self.fold_into_other(id.class, &sum);
            }
        }
        self
    }

    fn fold_into_other(&mut self, class: KeyClass, sum: &KeySum) {
        let id = KeyId { reason: None, class, value: None };
        let KeySum { count, timed, .. } = *sum;
        let sum = KeySum { count, timed, total_ns: sum.wall_ns(), ..KeySum::default() };
        self.0.entry(id).or_default().merge(&sum);
    }

    pub(super) fn get(&self, id: &KeyId) -> KeySum {
        self.0.get(id).copied().unwrap_or_default()
    }

    /// The keys that most exits of a reason were about, most first; guest code where nothing else
    /// is known.
    pub fn top(&self, reason: Reason, exits: u64, dur_ns: u64, most: usize) -> Vec<TopKey> {
        let mut found: Vec<(Reverse<u64>, KeyId)> = self
            .0
            .iter()
            .filter(|(id, sum)| id.value.is_some() && sum.count > 0)
            .filter(|&(id, sum)| match reason.kind {
                Kind::Exit => id.reason == Some(reason),
                // Of a key that now and then goes there it is not known how often.
                Kind::Userspace => {
                    to_vmm(id.class) == Some(reason)
                        && (To::of(id, sum) == Some(To::Vmm) || id.reason.is_none())
                }
            })
            .map(|(id, sum)| (Reverse(sum.count), *id))
            .collect();
        if found.iter().any(|(_, id)| id.class != KeyClass::Rip) {
            found.retain(|(_, id)| id.class != KeyClass::Rip);
        }
        found.sort_unstable();
        found.truncate(most);
        let top = |(Reverse(count), id): (Reverse<u64>, KeyId)| {
            let (number, name) = words(&id);
            let kind = if id.class == KeyClass::Rip { "RIP " } else { "" };
            TopKey {
                number: format!("{kind}{number}"),
                name,
                way: direction(id.class),
                rate: per_second(count, dur_ns),
                share: ratio(count, exits).min(1.0),
            }
        };
        found.into_iter().map(top).collect()
    }
}

/// What a reason's keys are shown with.
#[derive(Clone, Copy)]
pub(in crate::state) struct Tables<'a> {
    /// Which reason.
    pub reason: Reason,
    /// The displayed tick.
    pub now: &'a KeySums,
    /// The window up to it.
    pub window: &'a KeySums,
    /// The reason's exits in the displayed tick.
    pub exits: u64,
    /// Length of the displayed tick, ns.
    pub dur_ns: u64,
}

impl Tables<'_> {
    /// The keys that are no instruction pointers, "other" last, else by count.
    pub fn keys(&self) -> Vec<KeyRow> {
        let ids = self.ids(|class| class != KeyClass::Rip, KEPT);
        let row = |id: KeyId| {
            let (number, name) = words(&id);
            let (now, window) = (self.now.get(&id), self.window.get(&id));
            KeyRow {
                id,
                number,
                name,
                rate: per_second(now.count, self.dur_ns),
                share: self.share(&id, &now),
                now,
                window,
            }
        };
        ids.into_iter().map(row).collect()
    }

    /// The instruction pointers, "other" last, else by count.
    pub fn rips(&self, symbol: impl Fn(u64) -> Option<String>) -> Vec<RipRow> {
        let ids = self.ids(|class| class == KeyClass::Rip, RIPS);
        let row = |id: KeyId| {
            let now = self.now.get(&id);
            RipRow {
                rip: id.value,
                symbol: id.value.and_then(&symbol),
                rate: per_second(now.count, self.dur_ns),
                share: self.share(&id, &now),
                count: self.window.get(&id).count,
            }
        };
        ids.into_iter().map(row).collect()
    }

    fn share(&self, id: &KeyId, now: &KeySum) -> Option<f64> {
        // How often a key went to the VMM is not counted, only how long it was there.
        let unknown = self.reason.kind == Kind::Userspace && To::of(id, now) == Some(To::Both);
        if unknown || (id.value.is_none() && is_shared(id.class)) {
            return None;
        }
        // What was noted in this tick may belong to an exit that was counted in the one before.
        Some(ratio(now.count, self.exits).min(1.0))
    }

    /// At most so many keys of some classes, by count now, then in the window; after them every
    /// "other" of a class that is there.
    fn ids(&self, wanted: impl Fn(KeyClass) -> bool, most: usize) -> Vec<KeyId> {
        let mut found: Vec<(Reverse<(u64, u64)>, KeyId)> = self
            .window
            .0
            .iter()
            .filter(|(id, _)| wanted(id.class) && id.value.is_some())
            .map(|(id, sum)| (Reverse((self.now.get(id).count, sum.count)), *id))
            .collect();
        found.sort_unstable();
        found.truncate(most);
        let classes: BTreeSet<KeyClass> = found.iter().map(|(_, id)| id.class).collect();
        let other = |class| KeyId { reason: None, class, value: None };
        let others = classes.into_iter().map(other).filter(|id| self.window.get(id).count > 0);
        found.into_iter().map(|(_, id)| id).chain(others).collect()
    }
}
