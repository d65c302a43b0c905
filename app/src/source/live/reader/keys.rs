//! What changed in a slot's details: each key's and each class's "other", exactly.
//!
//! A key that loses its place has all it ever counted added to its class's "other", also what was
//! told of the key itself before. So that nothing is told twice, what was told of it is owed by
//! that "other" from then on.

use crate::model::{
    detail::{KeyClass, KeyId, KeyTick},
    ids::Reason,
};
use kvmscope_shared::detail::{Detail, KEYS, Key, Other, class, dirty, fault};
use std::collections::BTreeMap;

/// Keys in the making, by id.
pub type Keys = BTreeMap<KeyId, KeyTick>;

/// Places of keys: those that change hands, then those of page faults.
const PLACES: usize = KEYS + fault::COUNT;

/// A slot's details as they were told last.
pub struct SeenKeys {
    told: Box<[Key; PLACES]>,
    /// Reasons of the keys, by their cell.
    reasons: BTreeMap<u32, Option<Reason>>,
    others: [Other; class::COUNT],
    /// What "other" has to tell yet; below zero is what it told too much.
    balance: [Balance; class::COUNT],
    dirty: [u64; dirty::COUNT],
}

#[derive(Clone, Copy, Default)]
struct Balance {
    count: i64,
    timed: i64,
    wall_ns: i64,
}

impl Default for SeenKeys {
    fn default() -> Self {
        Self {
            told: Box::new([Key::default(); PLACES]),
            reasons: BTreeMap::new(),
            others: [Other::default(); class::COUNT],
            balance: [Balance::default(); class::COUNT],
            dirty: [0; dirty::COUNT],
        }
    }
}

impl SeenKeys {
    /// Adds what changed. The details are read twice, one after the other, because the probes may
    /// be giving a place away meanwhile: what is not the same key in both is told with the next
    /// look. `reason_of` answers for a cell of this slot.
    pub fn advance(
        &mut self,
        first: &Detail,
        second: &Detail,
        reason_of: impl Fn(u32) -> Option<Reason>,
        into: &mut Keys,
    ) {
        let (before, now) = (places(first), places(second));
        let places = before.zip(now).zip(self.told.iter_mut());
        for ((before, now), told) in places {
            if now.generation != told.generation {
                // Its "other" has these in it, now or in a moment.
                if let Some(balance) = self.balance.get_mut(told.class as usize) {
                    balance.owe(told);
                }
                *told = Key { generation: now.generation, ..Key::default() };
            }
            if identity(before) != identity(now) {
                continue;
            }
            let Some(class) = KeyClass::from_record(now.class) else { continue };
            let reason = match now.cell {
                0 => None,
                cell => *self.reasons.entry(cell).or_insert_with(|| reason_of(cell)),
            };
            let id = KeyId { reason, class, value: Some(now.value) };
            if let Some(change) = advance(told, now, id) {
                add(into, &change);
            }
        }
        for (counter, (told, now)) in self.dirty.iter_mut().zip(second.dirty).enumerate() {
            let count = now.saturating_sub(std::mem::replace(told, now));
            if count != 0 {
                let value = Some(counter as u64);
                let id = KeyId { reason: None, class: KeyClass::DirtyLog, value };
                add(into, &KeyTick { id, count, ..KeyTick::default() });
            }
        }
        // Read before the keys: who lost a place after that is owed for until the next look.
        for (number, other) in first.others.iter().enumerate() {
            let (Some(told), Some(balance)) =
                (self.others.get_mut(number), self.balance.get_mut(number))
            else {
                continue;
            };
            let grown = difference(told, other);
            balance.grow(&grown);
            let Some(class) = KeyClass::from_record(number as u32) else { continue };
            let tell = balance.take();
            if tell != Other::default() {
                let id = KeyId { reason: None, class, value: None };
                let Other { count, timed, wall_ns } = tell;
                add(into, &KeyTick { id, count, timed, total_ns: wall_ns, ..KeyTick::default() });
            }
        }
    }
}

/// All places of a slot's keys.
fn places(detail: &Detail) -> impl Iterator<Item = &Key> {
    detail.keys.iter().chain(&detail.faults)
}

/// What makes an entry the same key.
fn identity(key: &Key) -> (u64, u32, u32, u32) {
    (key.value, key.class, key.cell, key.generation)
}

/// What a key did since it was told last; `None` for nothing. Counters of different moments even
/// out, as what was told too much is not told again.
fn advance(told: &mut Key, now: &Key, id: KeyId) -> Option<KeyTick> {
    let step = |told: &mut u64, now: u64| {
        let grown = now.saturating_sub(*told);
        *told = now.max(*told);
        grown
    };
    let change = KeyTick {
        id,
        count: step(&mut told.count, now.count),
        timed: step(&mut told.timed, now.timed),
        total_ns: step(&mut told.total_ns, now.total_ns),
        off_ns: step(&mut told.off_ns, now.off_ns),
        vmm_ns: step(&mut told.vmm_ns, now.vmm_ns),
        max_ns: now.max_ns,
    };
    told.class = now.class;
    let nothing = KeyTick { id, max_ns: now.max_ns, ..KeyTick::default() };
    (change != nothing).then_some(change)
}

/// What "other" grew by since it was told last.
fn difference(told: &mut Other, now: &Other) -> Other {
    let last = std::mem::replace(told, *now);
    Other {
        count: now.count.saturating_sub(last.count),
        timed: now.timed.saturating_sub(last.timed),
        wall_ns: now.wall_ns.saturating_sub(last.wall_ns),
    }
}

impl Balance {
    fn owe(&mut self, told: &Key) {
        let wall_ns =
            [told.total_ns, told.off_ns, told.vmm_ns].into_iter().fold(0, u64::wrapping_add);
        self.count = self.count.saturating_sub_unsigned(told.count);
        self.timed = self.timed.saturating_sub_unsigned(told.timed);
        self.wall_ns = self.wall_ns.saturating_sub_unsigned(wall_ns);
    }

    fn grow(&mut self, by: &Other) {
        self.count = self.count.saturating_add_unsigned(by.count);
        self.timed = self.timed.saturating_add_unsigned(by.timed);
        self.wall_ns = self.wall_ns.saturating_add_unsigned(by.wall_ns);
    }

    /// Takes what there is to tell.
    fn take(&mut self) -> Other {
        let step = |balance: &mut i64| {
            let tell = (*balance).max(0);
            *balance -= tell;
            tell.unsigned_abs()
        };
        Other {
            count: step(&mut self.count),
            timed: step(&mut self.timed),
            wall_ns: step(&mut self.wall_ns),
        }
    }
}

/// Adds a key's change to the one of the same id: a key may have two places, and a vCPU two threads.
fn add(into: &mut Keys, change: &KeyTick) {
    into.entry(change.id).or_insert(KeyTick { id: change.id, ..KeyTick::default() }).add(change);
}
