//! Single events, and page faults by kind.

use super::*;
use crate::model::{
    detail::{KeyClass, KeyId, KeyTick},
    event::{Event, EventKind, LeftOut},
    ids::Isa,
};
use kvmscope_shared::{
    detail::{Key, class, fault},
    event::{self, kind},
    keys::{Times, charge_key, note_fixed},
};

const EPT_VIOLATION: u32 = 48;

/// A page fault in the first cell of a slot.
fn record(slot: u32, generation: u32, at_ns: u64) -> event::Event {
    event::Event {
        at_ns,
        kind: kind::FAULT,
        slot,
        generation,
        cell: slot * CELLS_PER_CHUNK,
        tgid: 7,
        tid: 70 + slot,
        cpu: 3,
        rip: 0x1000,
        handling_ns: 10,
        off_ns: 20,
        vmm_ns: 30,
        args: [0x4000, 0x782, 0, 0, 0, 0],
        ..event::Event::default()
    }
}

fn left_out(tick: &Tick) -> Vec<(EventKind, u64)> {
    tick.events_left_out.iter().map(|LeftOut { kind, count }| (*kind, *count)).collect()
}

#[test]
fn events_are_told_by_vcpu_and_reason_in_their_order() {
    let mut world = World::new();
    world.memory.claim(1, 4, 0);
    world.memory.exits(1, EPT_VIOLATION, &[100]);
    let call = event::Event { kind: kind::HYPERCALL, cell: 0, ..record(1, 1, 850) };
    world.reader.take_events(vec![record(1, 1, 900), record(1, 1, 800), call]);
    let tick = world.tick(1);
    let order: Vec<_> = tick.events.iter().map(|event| (event.at_ns, event.kind)).collect();
    let (fault, call) = (EventKind::Fault, EventKind::Hypercall);
    assert_eq!(order, [(800, fault), (850, call), (900, fault)]);
    let expected = Event {
        at_ns: 800,
        kind: fault,
        vm: VmId(1),
        vcpu: Some(4),
        tid: 71,
        cpu: 3,
        reason: Some(Reason::exit(Isa::Vmx, EPT_VIOLATION)),
        rip: 0x1000,
        handling_ns: 10,
        off_ns: 20,
        vmm_ns: 30,
        args: [0x4000, 0x782, 0, 0, 0, 0],
    };
    assert_eq!(tick.events[0], expected);
    assert_eq!(tick.events[1].reason, None, "in no exit");
    assert!(tick.events_left_out.is_empty());
    assert!(world.tick(2).events.is_empty());
}

#[test]
fn events_wait_for_a_slot_that_is_held_back() {
    let mut world = World::new();
    world.memory.claim(1, NO_VCPU_ID, 0);
    world.memory.at(1).kvm = 0;
    world.memory.exits(1, EPT_VIOLATION, &[100]);
    world.reader.take_events(vec![record(1, 1, 300)]);
    let tick = world.tick(1);
    assert!(tick.events.is_empty() && tick.events_left_out.is_empty());
    let slot = world.memory.at(1);
    (slot.kvm, slot.vcpu_id) = (0xa000, 3);
    slot.events += 1;
    assert_eq!(world.tick(2).events[0].vcpu, Some(3));
}

#[test]
fn events_of_a_slot_that_is_used_again_are_its_former_owners() {
    let mut world = World::new();
    world.memory.claim(1, 4, 0);
    world.memory.exits(1, EPT_VIOLATION, &[100]);
    world.memory.retire(1, 500);
    world.tick(1);
    world.memory.claim(1, 5, SECOND + 1);
    world.memory.exits(1, CPUID, &[100]);
    world.reader.take_events(vec![record(1, 1, 400), record(1, 2, SECOND + 2)]);
    let tick = world.tick(2);
    let told: Vec<_> = tick.events.iter().map(|e| (e.vcpu, e.reason.map(|r| r.code))).collect();
    assert_eq!(told, [(Some(4), Some(EPT_VIOLATION)), (Some(5), Some(CPUID))]);
    world.reader.take_events(vec![record(1, 1, 400)]);
    assert_eq!(left_out(&world.tick(3)), [(EventKind::Fault, 1)], "too long ago");
}

#[test]
fn events_of_a_thread_that_is_no_vcpu_are_its_vms() {
    let mut world = World::new();
    let ioctl = |at_ns| event::Event { kind: kind::IOCTL, slot: 0, ..record(0, 0, at_ns) };
    world.reader.take_events(vec![ioctl(10)]);
    let tick = world.tick(1);
    assert!(tick.events.is_empty() && tick.events_left_out.is_empty(), "no VM yet");
    world.memory.claim(1, 0, SECOND + 1);
    let tick = world.tick(2);
    assert_eq!((tick.events[0].vm, tick.events[0].vcpu), (VmId(1), None));
    let other = event::Event { tgid: 8, ..ioctl(2 * SECOND) };
    world.reader.take_events(vec![other]);
    assert!(left_out(&world.tick(11)).is_empty(), "it may yet become a VM");
    assert_eq!(left_out(&world.tick(12)), [(EventKind::Ioctl, 1)]);
}

#[test]
fn events_that_were_refused_are_counted_once_by_kind() {
    let mut world = World::new();
    world.memory.control.events_refused[kind::FAULT as usize] = 5;
    world.memory.control.events_refused[kind::XEN_HYPERCALL as usize] = 2;
    // Of nobody that was ever seen.
    world.reader.take_events(vec![record(3, 9, 1)]);
    let tick = world.tick(1);
    assert_eq!(left_out(&tick), [(EventKind::Fault, 6), (EventKind::XenHypercall, 2)]);
    world.memory.control.events_refused[kind::FAULT as usize] = 6;
    assert_eq!(left_out(&world.tick(2)), [(EventKind::Fault, 1)]);
    assert!(left_out(&world.tick(3)).is_empty());
}

#[test]
fn of_a_flood_the_newest_of_each_kind_are_told() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    let mut flood: Vec<_> = (1..=1_500).map(|at| record(1, 1, at)).collect();
    flood.push(event::Event { kind: kind::MMIO, ..record(1, 1, 1) });
    world.reader.take_events(flood);
    let tick = world.tick(1);
    assert_eq!(tick.events.len(), 1_001);
    assert_eq!((tick.events[0].kind, tick.events[1].at_ns), (EventKind::Mmio, 501));
    assert_eq!(left_out(&tick), [(EventKind::Fault, 500)]);
}

#[test]
fn page_faults_are_told_by_kind() {
    let id = |kind, code| KeyId {
        reason: Some(Reason::exit(Isa::Vmx, code)),
        class: KeyClass::Fault,
        value: Some(kind),
    };
    let mut world = World::new();
    world.detail = true;
    world.memory.claim(1, 0, 0);
    let meets = |world: &mut World, kind: u64, code: u32, ns: u64| {
        world.memory.exits(1, code, &[ns]);
        let kind_of = |c: &Cell| (c.slot, c.kind, c.code) == (1, KIND_EXIT, code);
        let cell = world.memory.cells.iter().position(kind_of).expect("taken") as u32;
        let place = &mut world.memory.details[1].faults[kind as usize];
        note_fixed(place, (class::FAULT, cell, kind));
        charge_key(place, Times { handling: ns, off: 2, vmm: 3 });
    };
    meets(&mut world, fault::ABSENT, EPT_VIOLATION, 100);
    meets(&mut world, fault::ABSENT, EPT_VIOLATION, 300);
    meets(&mut world, fault::OTHER, EPT_VIOLATION, 50);
    let keys = |tick: &Tick| of(tick, vcpu(0)).keys.clone();
    let absent = KeyTick {
        id: id(fault::ABSENT, EPT_VIOLATION),
        count: 2,
        timed: 2,
        total_ns: 400,
        off_ns: 4,
        vmm_ns: 6,
        max_ns: 305,
    };
    let told = keys(&world.tick(1));
    assert_eq!((told[0], told.len()), (absent, 2));
    assert_eq!((told[1].id.value, told[1].count), (Some(fault::OTHER), 1));
    // The same kind in another exit: what was told of it before is not told again.
    meets(&mut world, fault::ABSENT, 0, 7);
    let told = keys(&world.tick(2));
    assert_eq!((told[0].id, told[0].count, told.len()), (id(fault::ABSENT, 0), 1, 1));
    // A place that was never used tells nothing.
    assert_eq!(world.memory.details[1].faults[fault::WALK as usize], Key::default());
}
