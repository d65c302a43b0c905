//! How a slot's table of keys is kept: what the probes do to it, apart from how they reach memory.
//!
//! See [`crate::detail`] for what it promises. The probes are compiled for a verifier that wants
//! each index masked by an instruction, so elements are reached through [`Table`].

use crate::detail::{GROUP_SETS, KEYS, Key, Other, WAYS, class};

/// The entry that an exit is about, in `Slot::open_key`: its number plus one. Above [`KEYS`] it is
/// a key without a place: [`KEYS`] plus its class. 0 is none.
pub type Open = u32;

/// Most points that a key can have: what was hot an hour ago makes room after as many newcomers.
pub const SCORE_MAX: u32 = 1024;

/// A slot's keys and others.
pub trait Table {
    /// An entry, below [`KEYS`].
    fn key(&mut self, entry: u32) -> &mut Key;
    /// The others of a class, below [`class::COUNT`].
    fn other(&mut self, class: u32) -> &mut Other;
}

/// The times of an exit, ns; see [`Key`].
#[derive(Clone, Copy)]
pub struct Times {
    /// Handling.
    pub handling: u64,
    /// Off the CPU.
    pub off: u64,
    /// Outside KVM_RUN.
    pub vmm: u64,
}

impl Times {
    /// All three together.
    #[inline(always)]
    pub fn wall(&self) -> u64 {
        self.handling + self.off + self.vmm
    }
}

/// The group of each class, two bits apiece: 0 is things. See [`crate::detail`].
const GROUP_OF: u64 = {
    const { assert!(class::COUNT == 32, "two bits of 64 for each class") };
    let fine = 1 << (2 * class::PAGE) | 1 << (2 * class::RIP) | 1 << (2 * class::DIRTY_PAGE);
    let interrupts = 1 << (2 * class::INJECTED)
        | 1 << (2 * class::EXCEPTION)
        | 1 << (2 * class::EOI)
        | 1 << (2 * class::IPI)
        | 1 << (2 * class::DELIVERED);
    let cpus = 1 << (2 * class::VCPU_LOAD) | 1 << (2 * class::ON_CPU);
    fine + interrupts * 2 + cpus * 3
};

/// The group of a class.
#[inline(always)]
fn group_of(class: u32) -> u32 {
    (GROUP_OF >> (2 * class)) as u32 & 3
}

/// First entry of the set that a key belongs to.
#[inline(always)]
pub fn set_of(class: u32, cell: u32, value: u64) -> u32 {
    const { assert!(GROUP_SETS == 16, "four bits of the hash are taken") };
    let mixed = value ^ u64::from(cell) << 32 ^ u64::from(class) << 56;
    // Fibonacci hashing: the upper bits depend on all below.
    let set = (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as u32;
    (set + group_of(class) * GROUP_SETS as u32) * WAYS as u32
}

/// Notes a key and counts it `times` (0 or 1) times; `kept` are two entries that the exit being
/// handled is about, which keep their places.
#[inline(always)]
pub fn note(
    table: &mut impl Table,
    (class, cell, value): (u32, u32, u64),
    times: u64,
    kept: [Open; 2],
) -> Open {
    let first = set_of(class, cell, value);
    let (mut weakest, mut least) = (first, u32::MAX);
    for way in 0..WAYS as u32 {
        let key = table.key(first + way);
        if key.value == value && key.cell == cell && key.class == class {
            key.count += times;
            if key.score < SCORE_MAX {
                key.score += 1;
            }
            return first + way + 1;
        }
        if key.score < least {
            (weakest, least) = (first + way, key.score);
        }
    }
    let key = table.key(weakest);
    if least > 0 || kept[0] == weakest + 1 || kept[1] == weakest + 1 {
        if least > 0 {
            key.score = least - 1;
        }
        table.other(class).count += times;
        return KEYS as u32 + class;
    }
    let before = *key;
    key.value = value;
    key.class = class;
    key.cell = cell;
    key.generation = before.generation.wrapping_add(1);
    key.score = 1;
    key.count = times;
    key.timed = 0;
    key.total_ns = 0;
    key.off_ns = 0;
    key.vmm_ns = 0;
    key.max_ns = 0;
    if before.class != class::NONE {
        let other = table.other(before.class);
        other.count += before.count;
        other.timed += before.timed;
        other.wall_ns += before.total_ns + before.off_ns + before.vmm_ns;
    }
    weakest + 1
}

/// Charges an exit that ended to what it was about.
#[inline(always)]
pub fn charge(table: &mut impl Table, open: Open, times: Times) {
    if open == 0 {
        return;
    }
    if open > KEYS as u32 {
        let other = table.other(open - KEYS as u32);
        other.timed += 1;
        other.wall_ns += times.wall();
        return;
    }
    charge_key(table.key(open - 1), times);
}

/// Counts a key that has a place of its own, where it is met in the exit of `cell` (0 for none).
#[inline(always)]
pub fn note_fixed(key: &mut Key, (class, cell, value): (u32, u32, u64)) {
    key.value = value;
    if cell != 0 {
        key.cell = cell;
    }
    key.count += 1;
    // Last: an entry without a class is not read.
    key.class = class;
}

/// Charges an exit that ended to a key.
#[inline(always)]
pub fn charge_key(key: &mut Key, times: Times) {
    let wall = times.wall();
    key.timed += 1;
    key.total_ns += times.handling;
    key.off_ns += times.off;
    key.vmm_ns += times.vmm;
    if wall > key.max_ns {
        key.max_ns = wall;
    }
}

/// The key of a CPUID exit: the leaf, and in the upper half the sub-leaf where that leaf has some
/// (SDM volume 2, CPUID; APM volume 3, appendix E). Elsewhere ECX holds anything.
#[inline(always)]
pub fn cpuid_key(leaf: u32, index: u32) -> u64 {
    let has = matches!(
        leaf,
        4 | 7
            | 0xb
            | 0xd
            | 0xf
            | 0x10
            | 0x12
            | 0x14
            | 0x17
            | 0x18
            | 0x1b
            | 0x1d
            | 0x1e
            | 0x1f
            | 0x20
            | 0x23
            | 0x24
            | 0x29
            | 0x8000_001d
            | 0x8000_0020
            | 0x8000_0026
    );
    u64::from(leaf) | if has { u64::from(index) << 32 } else { 0 }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::detail::Detail;
    use proptest::prelude::*;
    use std::vec::Vec;

    struct Plain(Detail);

    impl Table for Plain {
        fn key(&mut self, entry: u32) -> &mut Key {
            &mut self.0.keys[entry as usize]
        }
        fn other(&mut self, class: u32) -> &mut Other {
            &mut self.0.others[class as usize]
        }
    }

    impl Plain {
        /// (count, timed, wall) of a class.
        fn sums(&self, class: u32) -> (u64, u64, u64) {
            let other = self.0.others[class as usize];
            let keys = self.0.keys.iter().filter(|key| key.class == class);
            keys.fold((other.count, other.timed, other.wall_ns), |(count, timed, wall), key| {
                let own = key.total_ns + key.off_ns + key.vmm_ns;
                (count + key.count, timed + key.timed, wall + own)
            })
        }

        fn of(&self, value: u64) -> Option<&Key> {
            self.0.keys.iter().find(|key| key.class != class::NONE && key.value == value)
        }
    }

    fn times(wall: u64) -> Times {
        Times { handling: wall - wall / 2, off: 0, vmm: wall / 2 }
    }

    /// Notes a key of an exit and ends the exit.
    fn exit(table: &mut Plain, class: u32, value: u64, wall: u64) -> Open {
        let open = note(table, (class, 3, value), 1, [0, 0]);
        charge(table, open, times(wall));
        open
    }

    #[test]
    fn few_keys_are_exact() {
        let mut table = Plain(Detail::default());
        for round in 1..=10u64 {
            for value in [0x6e0, 0x1b, 0x10] {
                exit(&mut table, class::MSR_WRITE, value, 100 * round);
            }
        }
        for value in [0x6e0, 0x1b, 0x10] {
            let key = table.of(value).expect("has a place");
            assert_eq!((key.count, key.timed, key.max_ns, key.cell), (10, 10, 1_000, 3));
            assert_eq!(key.total_ns + key.vmm_ns, 5_500);
        }
        assert!(table.0.others.iter().all(|other| *other == Other::default()));
    }

    #[test]
    fn a_flood_of_pages_leaves_an_msr_its_place() {
        let mut table = Plain(Detail::default());
        exit(&mut table, class::MSR_WRITE, 0x6e0, 1);
        for page in 0..100_000u64 {
            exit(&mut table, class::PAGE, page << 12, 1);
        }
        assert_eq!(table.of(0x6e0).map(|key| key.count), Some(1));
        assert_eq!(table.sums(class::PAGE), (100_000, 100_000, 100_000));
    }

    #[test]
    fn groups_take_no_place_from_each_other() {
        let mut table = Plain(Detail::default());
        let one_each = [class::MSR_WRITE, class::PAGE, class::INJECTED, class::ON_CPU];
        for class in one_each {
            exit(&mut table, class, 0xffff_0000, 1);
            for other in one_each.into_iter().filter(|&other| other != class) {
                (0..10_000).for_each(|value| _ = exit(&mut table, other, value << 12, 1));
            }
            let of = |key: &&Key| key.class == class && key.value == 0xffff_0000;
            assert_eq!(table.0.keys.iter().filter(of).map(|key| key.count).sum::<u64>(), 1);
            table = Plain(Detail::default());
        }
        let last = (1..class::COUNT as u32).map(|class| set_of(class, 3, 0x1234)).max();
        assert!(last.is_some_and(|first| first as usize + WAYS <= KEYS));
    }

    #[test]
    fn a_key_that_comes_often_gets_in_and_stays() {
        let mut table = Plain(Detail::default());
        for page in 0..5_000u64 {
            exit(&mut table, class::PAGE, page << 12, 1);
        }
        let hot = 0xffff_f000;
        for page in 0..2_000u64 {
            exit(&mut table, class::PAGE, (1 << 30) + (page << 12), 1);
            exit(&mut table, class::PAGE, hot, 1);
        }
        let key = table.of(hot).expect("has a place");
        assert!(key.count > 1_900, "{}", key.count);
    }

    #[test]
    fn what_is_no_longer_met_makes_room() {
        let mut table = Plain(Detail::default());
        let set = set_of(class::PAGE, 3, 0);
        let mut same = (0..1u64 << 20).map(|n| n << 12);
        let mut next = || same.find(|page| set_of(class::PAGE, 3, *page) == set).expect("another");
        for page in [next(), next(), next(), next()] {
            (0..100_000).for_each(|_| _ = exit(&mut table, class::PAGE, page, 1));
        }
        let newcomer = next();
        for _ in 0..=SCORE_MAX {
            exit(&mut table, class::PAGE, newcomer, 1);
        }
        assert!(table.of(newcomer).is_some());
    }

    #[test]
    fn what_the_exit_is_about_keeps_its_place() {
        let mut table = Plain(Detail::default());
        let open = note(&mut table, (class::PORT_OUT, 3, 0x80), 1, [0, 0]);
        let set = set_of(class::PORT_OUT, 3, 0x80);
        table.key(open - 1).score = 0;
        let mut same = (0..0x1_0000).filter(|port| set_of(class::PORT_OUT, 3, *port) == set);
        let others: Vec<u64> = same.by_ref().filter(|port| *port != 0x80).take(4).collect();
        for port in &others[..3] {
            note(&mut table, (class::PORT_OUT, 3, *port), 1, [open, 0]);
        }
        let refused = note(&mut table, (class::PORT_OUT, 3, others[3]), 1, [open, 0]);
        assert_eq!(refused, KEYS as u32 + class::PORT_OUT);
        let taken = note(&mut table, (class::PORT_OUT, 3, others[3]), 1, [0, 0]);
        assert_eq!(taken, open, "and no longer than that");
    }

    #[test]
    fn a_leaf_without_sub_leaves_is_one_key() {
        assert_eq!(cpuid_key(0, 77), 0);
        assert_eq!(cpuid_key(7, 1), 1 << 32 | 7);
        assert_eq!(cpuid_key(0x8000_001d, 3), 3 << 32 | 0x8000_001d);
    }

    #[test]
    fn opening_without_counting_counts_once_it_is_read() {
        let mut table = Plain(Detail::default());
        let key = (class::MMIO_READ, 3, 0xfed0_0000);
        let open = note(&mut table, key, 0, [0, 0]);
        assert_eq!(note(&mut table, key, 1, [open, 0]), open);
        assert_eq!(table.of(0xfed0_0000).map(|key| key.count), Some(1));
    }

    proptest! {
        #[test]
        fn sums_are_exact(
            exits in proptest::collection::vec((1u32..16, 0u64..200, 0u64..1_000, any::<bool>()), 0..600)
        ) {
            let mut table = Plain(Detail::default());
            let mut sums = [(0u64, 0u64, 0u64); class::COUNT];
            let mut last = 0;
            for (class, value, wall, ends) in exits {
                let open = note(&mut table, (class, value as u32 % 5, value), 1, [last, 0]);
                let sum = &mut sums[class as usize];
                sum.0 += 1;
                last = if ends {
                    charge(&mut table, open, times(wall));
                    (sum.1, sum.2) = (sum.1 + 1, sum.2 + wall);
                    0
                } else {
                    open
                };
            }
            for class in 1..class::COUNT as u32 {
                prop_assert_eq!(table.sums(class), sums[class as usize]);
            }
        }
    }
}
