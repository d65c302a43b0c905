//! What exits were about over a whole session: bounded, and nothing lost. What has no place is in its class's
//! "other".

use crate::model::detail::{KeyClass, KeyId, KeyTick};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Keys kept of a vCPU: so many things, and so many of many values. The kernel's table is smaller, but who is
/// in it changes.
pub const MAX_KEYS: usize = 1024;
/// Keys of many values that may be beyond [`MAX_KEYS`] before those with least give way to newcomers.
const SLACK: usize = MAX_KEYS / 4;

/// Keys by id.
pub type Keys = BTreeMap<KeyId, KeySum>;

/// Classes of so many values that who is met often shows only after a while: when there are too many,
/// those with least go.
fn is_fine(class: KeyClass) -> bool {
    use KeyClass::{Delivered, DirtyPage, Ipi, Page, Rip};
    matches!(class, Page | Rip | DirtyPage | Ipi | Delivered)
}

/// Several [`KeyTick`]s added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KeySum {
    /// Times it was met.
    pub count: u64,
    /// Exits about it that ended.
    pub timed: u64,
    /// Their handling time, ns. Of "other" it has the other two in it.
    pub total_ns: u64,
    /// Their time off the CPU, ns.
    pub off_ns: u64,
    /// Their time outside KVM_RUN, ns.
    pub vmm_ns: u64,
    /// Largest time of one, all three together, ns; 0 of "other".
    pub max_ns: u64,
}

impl KeySum {
    /// Of one interval.
    pub fn of(key: &KeyTick) -> Self {
        let KeyTick { id: _, count, timed, total_ns, off_ns, vmm_ns, max_ns } = *key;
        Self { count, timed, total_ns, off_ns, vmm_ns, max_ns }
    }

    /// Adds an interval.
    pub fn add(&mut self, key: &KeyTick) {
        self.merge(&Self::of(key));
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.timed = self.timed.saturating_add(other.timed);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.off_ns = self.off_ns.saturating_add(other.off_ns);
        self.vmm_ns = self.vmm_ns.saturating_add(other.vmm_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Takes back what was added. The largest stays: it is one since the key was first seen.
    pub fn subtract(&mut self, other: &Self) {
        self.count = self.count.saturating_sub(other.count);
        self.timed = self.timed.saturating_sub(other.timed);
        self.total_ns = self.total_ns.saturating_sub(other.total_ns);
        self.off_ns = self.off_ns.saturating_sub(other.off_ns);
        self.vmm_ns = self.vmm_ns.saturating_sub(other.vmm_ns);
    }

    /// Whether all that was added was taken back.
    pub fn is_over(&self) -> bool {
        let Self { count, timed, total_ns, off_ns, vmm_ns, max_ns: _ } = *self;
        (count, timed, total_ns, off_ns, vmm_ns) == (0, 0, 0, 0, 0)
    }

    /// All their time together, ns.
    pub fn wall_ns(&self) -> u64 {
        self.total_ns.saturating_add(self.off_ns).saturating_add(self.vmm_ns)
    }

    /// Mean of all their time, ns; `None` where none was timed.
    pub fn mean_ns(&self) -> Option<u64> {
        self.wall_ns().checked_div(self.timed)
    }
}

/// Adds an interval.
pub(super) fn add(keys: &mut Keys, ticks: &[KeyTick]) {
    for key in ticks {
        let is_other = key.id.value.is_none();
        // Kinds of faults are few, and none is ever "other".
        let has_place = is_other || is_fine(key.id.class) || key.id.class == KeyClass::Fault;
        if has_place || keys.contains_key(&key.id) || things(keys) < MAX_KEYS {
            keys.entry(key.id).or_default().add(key);
        } else {
            give_up(keys, key);
        }
    }
    if keys.len() > MAX_KEYS + SLACK {
        shrink(keys);
    }
}

/// How many things there are; counted only where it matters.
fn things(keys: &Keys) -> usize {
    match keys.len() {
        few if few < MAX_KEYS => few,
        _ => keys.keys().filter(|id| !is_fine(id.class)).count(),
    }
}

/// Lets the fine keys with least go, where there are too many.
fn shrink(keys: &mut Keys) {
    let fine = keys.iter().filter(|(id, _)| is_fine(id.class) && id.value.is_some());
    let mut fine: Vec<(KeyId, KeySum)> = fine.map(|(id, sum)| (*id, *sum)).collect();
    if fine.len() <= MAX_KEYS + SLACK {
        return;
    }
    fine.sort_by_key(|(id, sum)| (Reverse(sum.count), *id));
    for (id, sum) in fine.drain(MAX_KEYS..) {
        keys.remove(&id);
        let KeySum { count, timed, total_ns, off_ns, vmm_ns, max_ns } = sum;
        give_up(keys, &KeyTick { id, count, timed, total_ns, off_ns, vmm_ns, max_ns });
    }
}

fn give_up(keys: &mut Keys, key: &KeyTick) {
    let times = [key.total_ns, key.off_ns, key.vmm_ns];
    let id = KeyId { reason: None, value: None, ..key.id };
    let total_ns = times.into_iter().fold(0, u64::saturating_add);
    let KeyTick { count, timed, .. } = *key;
    let other = KeyTick { id, count, timed, total_ns, ..KeyTick::default() };
    keys.entry(id).or_default().add(&other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{Isa, Reason};

    fn key(class: KeyClass, value: u64, count: u64) -> KeyTick {
        KeyTick {
            id: KeyId { reason: Some(Reason::exit(Isa::Vmx, 48)), class, value: Some(value) },
            count,
            timed: count,
            total_ns: 5 * count,
            off_ns: 6 * count,
            vmm_ns: 7 * count,
            max_ns: 18,
        }
    }

    fn counts(keys: &Keys, class: KeyClass) -> u64 {
        keys.iter().filter(|(id, _)| id.class == class).map(|(_, sum)| sum.count).sum()
    }

    fn other(keys: &Keys, class: KeyClass) -> KeySum {
        keys[&KeyId { reason: None, class, value: None }]
    }

    #[test]
    fn things_are_bounded_and_none_is_lost() {
        let mut keys = Keys::new();
        let ports: Vec<KeyTick> =
            (0..MAX_KEYS as u64 + 10).map(|n| key(KeyClass::PortIn, n, 1)).collect();
        for _ in 0..2 {
            add(&mut keys, &ports);
        }
        assert_eq!(keys.len(), MAX_KEYS + 1);
        let sum = other(&keys, KeyClass::PortIn);
        assert_eq!((sum.count, sum.timed, sum.total_ns), (20, 20, 20 * 18));
        assert_eq!((sum.off_ns, sum.vmm_ns, sum.max_ns), (0, 0, 0));
        assert_eq!(counts(&keys, KeyClass::PortIn), 2 * (MAX_KEYS as u64 + 10));
    }

    #[test]
    fn a_hot_page_that_comes_late_finds_a_place() {
        let mut keys = Keys::new();
        let page = |n: u64, count| key(KeyClass::Page, n << 12, count);
        let hot = 1 << 40;
        for round in 0..40 {
            let mut pages: Vec<KeyTick> = (0..100).map(|n| page(round * 100 + n, 1)).collect();
            pages.extend((round >= 20).then(|| page(hot, 50)));
            add(&mut keys, &pages);
            assert!(keys.len() <= MAX_KEYS + SLACK + 1);
        }
        assert_eq!(counts(&keys, KeyClass::Page), 40 * 100 + 20 * 50);
        assert!(other(&keys, KeyClass::Page).count > 0);
        assert_eq!(keys[&page(hot, 0).id].count, 20 * 50);
    }

    #[test]
    fn a_flood_of_pages_leaves_things_and_kinds_of_faults_alone() {
        let mut keys = Keys::new();
        for round in 0..30 {
            let mut flood: Vec<KeyTick> =
                (0..100).map(|n| key(KeyClass::Page, (round * 100 + n) << 12, 1)).collect();
            flood.push(key(KeyClass::Fault, round % 3, 100));
            flood.push(key(KeyClass::PortIn, round, 1));
            add(&mut keys, &flood);
        }
        let kinds = keys.keys().filter(|id| id.class == KeyClass::Fault);
        assert_eq!(kinds.filter(|id| id.value.is_some()).count(), 3);
        assert_eq!(counts(&keys, KeyClass::Fault), 30 * 100);
        assert!((0..30).all(|port| keys.contains_key(&key(KeyClass::PortIn, port, 1).id)));
    }
}
