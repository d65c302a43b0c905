//! Keys and slow exits.

use super::*;
use crate::model::{
    detail::{KeyClass, KeyId, KeyTick},
    ids::Isa,
};
use kvmscope_shared::detail::{Detail, Key, Outlier, class};
use proptest::prelude::*;

const MSR_WRITE: u32 = 32;

fn id(code: u32, class: KeyClass, value: u64) -> KeyId {
    KeyId { reason: Some(Reason::exit(Isa::Vmx, code)), class, value: Some(value) }
}

fn other(class: KeyClass) -> KeyId {
    KeyId { reason: None, class, value: None }
}

fn key(tick: &Tick, id: KeyId) -> KeyTick {
    let keys: Vec<&KeyTick> = tick.vcpus.iter().flat_map(|v| &v.keys).collect();
    assert!(tick.vcpus.iter().all(|v| v.keys.is_sorted_by(|a, b| a.id < b.id)), "{keys:?}");
    **keys.iter().find(|key| key.id == id).unwrap_or_else(|| panic!("{id:?} in {keys:?}"))
}

fn detailed() -> World {
    let mut world = World::new();
    world.detail = true;
    world.memory.claim(1, 0, 0);
    world
}

#[test]
fn keys_are_told_as_differences() {
    let mut world = detailed();
    let pm_timer = (class::PORT_IN, 0x608);
    world.memory.about(1, 3, pm_timer, IO, 1_000);
    world.memory.about(1, 3, pm_timer, IO, 4_000);
    world.memory.about(1, 9, (class::MSR_WRITE, 0x6e0), MSR_WRITE, 70);
    let tick = world.tick(1);
    let expected = KeyTick {
        id: id(IO, KeyClass::PortIn, 0x608),
        count: 2,
        timed: 2,
        total_ns: 5_000,
        off_ns: 4,
        vmm_ns: 6,
        max_ns: 4_005,
    };
    assert_eq!(key(&tick, expected.id), expected);
    assert_eq!(key(&tick, id(MSR_WRITE, KeyClass::MsrWrite, 0x6e0)).total_ns, 70);
    world.memory.about(1, 3, pm_timer, IO, 10);
    let tick = world.tick(2);
    let told = key(&tick, expected.id);
    assert_eq!((told.count, told.total_ns, told.max_ns), (1, 10, 4_005));
    assert_eq!(of(&tick, vcpu(0)).keys.len(), 1, "what did nothing is absent");
    assert!(of(&world.tick(3), vcpu(0)).keys.is_empty());
}

#[test]
fn a_key_without_an_exit_has_no_reason() {
    let mut world = detailed();
    world.memory.at(1).events += 1;
    world.memory.details[1].keys[0] =
        Key { class: class::PORT_OUT, value: 0x70, count: 3, generation: 1, ..Key::default() };
    let tick = world.tick(1);
    let id = KeyId { reason: None, class: KeyClass::PortOut, value: Some(0x70) };
    assert_eq!(key(&tick, id).count, 3);
}

#[test]
fn a_key_that_loses_its_place_is_not_told_twice() {
    let mut world = detailed();
    let (first, second) = ((class::PAGE, 0x1000), (class::PAGE, 0x2000));
    for _ in 0..5 {
        world.memory.about(1, 70, first, 48, 10);
    }
    assert_eq!(key(&world.tick(1), id(48, KeyClass::Page, 0x1000)).count, 5);
    world.memory.about(1, 70, first, 48, 10);
    world.memory.about(1, 70, second, 48, 500);
    world.memory.about(1, 70, second, 48, 300);
    let tick = world.tick(2);
    let told = key(&tick, id(48, KeyClass::Page, 0x2000));
    assert_eq!((told.count, told.total_ns, told.max_ns), (2, 800, 505));
    let told = key(&tick, other(KeyClass::Page));
    assert_eq!((told.count, told.timed, told.total_ns, told.max_ns), (1, 1, 15, 0));
    // And back again: nothing is owed any more.
    world.memory.about(1, 70, first, 48, 10);
    let tick = world.tick(3);
    assert_eq!(key(&tick, id(48, KeyClass::Page, 0x1000)).count, 1);
    assert!(of(&tick, vcpu(0)).keys.iter().all(|key| key.id != other(KeyClass::Page)));
}

#[test]
fn what_is_owed_is_carried_to_the_next_tick() {
    let mut world = detailed();
    for _ in 0..5 {
        world.memory.about(1, 70, (class::PAGE, 0x1000), 48, 10);
    }
    world.tick(1);
    // The place is another's already, and "other" has not followed yet.
    let before = world.memory.details[1].others;
    world.memory.about(1, 70, (class::PAGE, 0x2000), 48, 10);
    let after = std::mem::replace(&mut world.memory.details[1].others, before);
    world.memory.about_other(1, class::PAGE, 48, 10);
    world.memory.about_other(1, class::PAGE, 48, 10);
    let tick = world.tick(2);
    assert!(of(&tick, vcpu(0)).keys.iter().all(|key| key.id != other(KeyClass::Page)), "owed");
    world.memory.details[1].others[class::PAGE as usize].count += after[14].count;
    world.memory.at(1).events += 1;
    assert_eq!(key(&world.tick(3), other(KeyClass::Page)).count, 2);
}

#[test]
fn keys_of_two_threads_and_two_places_add_up() {
    let mut world = detailed();
    let port = (class::PORT_OUT, 0x3f8);
    world.memory.about(1, 0, port, IO, 100);
    world.memory.about(1, 1, port, IO, 900);
    world.memory.claim(2, 0, 10);
    world.memory.about(2, 0, port, IO, 20);
    let told = key(&world.tick(1), id(IO, KeyClass::PortOut, 0x3f8));
    assert_eq!((told.count, told.total_ns, told.max_ns), (3, 1_020, 905));
}

#[test]
fn details_are_read_once_more_after_they_were_turned_off() {
    let mut world = detailed();
    world.memory.about(1, 0, (class::CPUID, 1), CPUID, 100);
    world.tick(1);
    world.memory.about(1, 0, (class::CPUID, 1), CPUID, 100);
    world.detail = false;
    assert_eq!(key(&world.tick(2), id(CPUID, KeyClass::Cpuid, 1)).count, 1);
    world.memory.exits(1, CPUID, &[5]);
    world.memory.details[1].keys[0].count = 99;
    assert!(of(&world.tick(3), vcpu(0)).keys.is_empty(), "not looked at");
}

#[test]
fn the_last_of_a_retired_slots_keys_are_told_and_the_table_is_emptied() {
    let mut world = detailed();
    world.memory.about(1, 0, (class::CPUID, 1), CPUID, 100);
    world.tick(1);
    world.memory.about(1, 0, (class::CPUID, 1), CPUID, 100);
    world.memory.retire(1, SECOND + 1);
    assert_eq!(key(&world.tick(2), id(CPUID, KeyClass::Cpuid, 1)).count, 1);
    assert_eq!(world.memory.details[1], Detail::default());
    // The slot's next thread begins anew.
    world.memory.claim(1, 5, 2 * SECOND);
    world.memory.about(1, 0, (class::CPUID, 7), CPUID, 100);
    assert_eq!(key(&world.tick(3), id(CPUID, KeyClass::Cpuid, 7)).count, 1);
}

#[test]
fn a_place_that_is_given_away_while_it_is_read_waits_for_the_next_look() {
    let old = Key { class: class::PAGE, value: 0x1000, count: 5, generation: 1, ..Key::default() };
    let new = Key { value: 0x2000, count: 2, generation: 2, ..old };
    let mut seen = keys::SeenKeys::default();
    let look = |seen: &mut keys::SeenKeys, first: Detail, second: Detail| {
        let mut told = keys::Keys::new();
        seen.advance(&first, &second, |_| None, &mut told);
        told.into_values().map(|key| (key.id.value, key.count)).collect::<Vec<_>>()
    };
    let table = |key: Key, other: u64| {
        let mut detail = Detail::default();
        detail.keys[3] = key;
        detail.others[class::PAGE as usize].count = other;
        detail
    };
    assert_eq!(look(&mut seen, table(old, 0), table(old, 0)), [(Some(0x1000), 5)]);
    assert_eq!(look(&mut seen, table(old, 0), table(new, 5)), []);
    assert_eq!(look(&mut seen, table(new, 5), table(new, 5)), [(Some(0x2000), 2)]);
    // Half written: the value is new, the rest not yet.
    let half = Key { value: 0x3000, ..new };
    assert_eq!(look(&mut seen, table(new, 5), table(half, 5)), []);
    let newest = Key { count: 1, generation: 3, ..half };
    assert_eq!(look(&mut seen, table(newest, 7), table(newest, 7)), [(Some(0x3000), 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Keys and others together are everything that was noted, however places change hands.
    #[test]
    fn nothing_noted_is_lost_or_told_twice(
        steps in prop::collection::vec((0usize..4, 0u64..6, 0u32..10, 1u64..1_000), 1..120),
    ) {
        let mut world = detailed();
        let (mut noted, mut wall_ns, mut second) = (0, 0, 0);
        for (place, value, what, ns) in steps {
            match what {
                0 | 1 => {
                    second += 1;
                    world.tick(second);
                    continue;
                }
                2 => world.memory.about_other(1, class::PAGE, 48, ns),
                3 => world.memory.about(1, place, (class::RIP, value), IO, ns),
                _ => world.memory.about(1, place, (class::PAGE, value), 48, ns),
            }
            noted += 1;
            wall_ns += ns + 5;
        }
        world.memory.retire(1, second * SECOND + 1);
        world.tick(second + 1);
        let keys = &world.totals.vms[&VmId(1)].vcpus[&0].keys;
        prop_assert_eq!(keys.values().map(|key| key.count).sum::<u64>(), noted);
        prop_assert_eq!(keys.values().map(|key| key.timed).sum::<u64>(), noted);
        let sum: u64 = keys.values().map(|key| key.total_ns + key.off_ns + key.vmm_ns).sum();
        prop_assert_eq!(sum, wall_ns);
        let others = keys.iter().filter(|(id, _)| id.value.is_none());
        prop_assert!(others.map(|(_, key)| key.max_ns).all(|ns| ns == 0));
    }
}

/// A record about the first cell of a slot.
fn record(slot: u32, generation: u32, end_ns: u64) -> Outlier {
    Outlier {
        slot,
        generation,
        cell: slot * CELLS_PER_CHUNK,
        end_ns,
        class: class::PORT_IN,
        key: 0x608,
        handling_ns: 10,
        off_ns: 30,
        wait_ns: 20,
        vmm_ns: 40,
        by_tid: 77,
        by_comm: *b"cc1\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ..Outlier::default()
    }
}

#[test]
fn outliers_are_told_by_vcpu_and_reason() {
    let mut world = World::new();
    world.memory.claim(1, 4, 0);
    world.memory.exits(1, IO, &[100]);
    world.reader.take_outliers(vec![record(1, 1, 900), record(1, 1, 800)]);
    let tick = world.tick(1);
    assert_eq!(tick.outliers.iter().map(|o| o.end_ns).collect::<Vec<_>>(), [800, 900]);
    let told = &tick.outliers[0];
    assert_eq!((told.key, told.reason), (vcpu(4), Reason::exit(Isa::Vmx, IO)));
    assert_eq!(told.about, Some((KeyClass::PortIn, 0x608)));
    let times = (told.handling_ns, told.asleep_ns, told.wait_ns, told.vmm_ns);
    assert_eq!(times, (10, 10, 20, 40));
    assert_eq!(told.by, Some((77, "cc1".to_owned())));
    assert_eq!(tick.outliers_left_out, 0);
    assert!(world.tick(2).outliers.is_empty());
}

#[test]
fn outliers_of_a_slot_that_is_recycled_are_told() {
    let mut world = World::new();
    world.memory.claim(1, 4, 0);
    world.memory.exits(1, IO, &[100]);
    world.memory.retire(1, 500);
    world.reader.take_outliers(vec![record(1, 1, 300)]);
    assert_eq!(world.tick(1).outliers[0].key, vcpu(4));
    // It was told after the records were read, and before the slot was.
    world.reader.take_outliers(vec![record(1, 1, 400)]);
    world.memory.claim(1, 5, SECOND + 1);
    world.memory.exits(1, CPUID, &[100]);
    world.reader.take_outliers(vec![record(1, 2, SECOND + 2)]);
    let tick = world.tick(2);
    let told: Vec<_> = tick.outliers.iter().map(|o| (o.key, o.reason.code)).collect();
    assert_eq!(told, [(vcpu(4), IO), (vcpu(5), CPUID)]);
    world.reader.take_outliers(vec![record(1, 1, 400)]);
    let tick = world.tick(3);
    assert_eq!((tick.outliers.len(), tick.outliers_left_out), (0, 1), "too long ago");
}

#[test]
fn outliers_wait_for_a_slot_that_is_held_back() {
    let mut world = World::new();
    world.memory.claim(1, NO_VCPU_ID, 0);
    world.memory.at(1).kvm = 0;
    world.memory.exits(1, IO, &[100]);
    world.reader.take_outliers(vec![record(1, 1, 300)]);
    let tick = world.tick(1);
    assert_eq!((tick.outliers.len(), tick.outliers_left_out), (0, 0));
    let slot = world.memory.at(1);
    (slot.kvm, slot.vcpu_id) = (0xa000, 3);
    slot.events += 1;
    assert_eq!(world.tick(2).outliers[0].key, vcpu(3));
}

#[test]
fn outliers_that_were_refused_or_lost_are_counted_once() {
    let mut world = World::new();
    world.memory.control.outliers_refused = 5;
    world.memory.control.ring_full = 2;
    // Of nobody that was ever seen.
    world.reader.take_outliers(vec![record(3, 9, 1)]);
    let tick = world.tick(1);
    assert_eq!((tick.outliers_left_out, tick.lost.ring), (6, 2));
    world.memory.control.outliers_refused = 6;
    let tick = world.tick(2);
    assert_eq!((tick.outliers_left_out, tick.lost.ring), (1, 0));
    assert_eq!((world.totals.outliers_left_out, world.totals.lost.ring), (7, 2));
}
