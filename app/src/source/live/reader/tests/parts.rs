//! Polling, and waiting for a CPU after a wake-up.

use super::*;
use crate::model::detail::Halts;

const MS: u64 = 1_000_000;

#[test]
fn polling_is_taken_out_of_handling() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::KVM, 0);
    world.memory.goes(1, phase::GUEST, 300 * MS);
    let slot = world.memory.at(1);
    (slot.poll_ns, slot.polled, slot.waited) = (200 * MS, 7, 3);
    let tick = world.tick(1);
    let told = of(&tick, vcpu(0));
    assert_eq!(told.time.0, [0, 700 * MS, 100 * MS, 0, 0, 0, 0, 0, 200 * MS]);
    assert_eq!(told.halts, Halts { polled: 7, waited: 3 });
    assert_eq!(of(&world.tick(2), vcpu(0)).halts, Halts::default());
    assert_eq!(world.reader.counted().in_run_ns, 2 * SECOND);
}

#[test]
fn polling_that_began_before_the_interval_waits_for_handling_time() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::KVM, 900 * MS);
    assert_eq!(of(&world.tick(1), vcpu(0)).time.get(Phase::Kvm), 100 * MS);
    world.memory.at(1).poll_ns = 150 * MS;
    world.memory.goes(1, phase::GUEST, SECOND + 60 * MS);
    let tick = world.tick(2);
    assert_eq!(of(&tick, vcpu(0)).time.get(Phase::Polling), 60 * MS);
    world.memory.goes(1, phase::KVM, 2 * SECOND + 500 * MS);
    let tick = world.tick(3);
    assert_eq!(of(&tick, vcpu(0)).time.get(Phase::Polling), 90 * MS);
    assert_eq!(of(&tick, vcpu(0)).time.sum(), SECOND);
}

#[test]
fn waiting_after_a_wake_up_is_taken_out_of_sleep() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::GUEST, 0);
    // It waited long before it was watched.
    world.names.delays.insert(71, 55 * SECOND);
    let tick = world.tick(1);
    assert_eq!(of(&tick, vcpu(0)).time.get(Phase::Preempted), 0);
    world.memory.goes(1, phase::PREEMPTED, SECOND + 100 * MS);
    world.memory.goes(1, phase::BLOCKED, SECOND + 150 * MS);
    world.memory.goes(1, phase::GUEST, SECOND + 450 * MS);
    world.memory.goes(1, phase::VMM_BLOCKED, SECOND + 500 * MS);
    world.memory.goes(1, phase::GUEST, SECOND + 510 * MS);
    world.names.delays.insert(71, 55 * SECOND + 130 * MS);
    let tick = world.tick(2);
    let told = of(&tick, vcpu(0)).time;
    assert_eq!(told.0, [0, 640 * MS, 0, 0, 130 * MS, 220 * MS, 10 * MS, 0, 0]);
    let tick = world.tick(3);
    assert_eq!(of(&tick, vcpu(0)).time.get(Phase::Preempted), 0, "told once");
}

#[test]
fn a_wait_without_sleep_in_the_interval_waits_for_some() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::BLOCKED, 0);
    world.names.delays.insert(71, 0);
    world.tick(1);
    world.memory.goes(1, phase::VMM, SECOND + 20 * MS);
    world.memory.goes(1, phase::VMM_BLOCKED, SECOND + 40 * MS);
    world.memory.goes(1, phase::KVM, SECOND + 50 * MS);
    world.memory.goes(1, phase::KVM_BLOCKED, SECOND + 60 * MS);
    world.memory.goes(1, phase::GUEST, SECOND + 65 * MS);
    world.names.delays.insert(71, 45 * MS);
    let told = of(&world.tick(2), vcpu(0)).time;
    assert_eq!(told.0, [0, 935 * MS, 10 * MS, 20 * MS, 35 * MS, 0, 0, 0, 0]);
    world.memory.goes(1, phase::BLOCKED, 2 * SECOND + 500 * MS);
    let told = of(&world.tick(3), vcpu(0)).time;
    assert_eq!((told.get(Phase::Preempted), told.get(Phase::Blocked)), (10 * MS, 490 * MS));
    let total = world.totals.vms[&VmId(1)].vcpus[&0].time;
    assert_eq!((total.sum(), total.get(Phase::Preempted)), (3 * SECOND, 45 * MS));
}

#[test]
fn preemption_alone_moves_nothing() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::BLOCKED, 0);
    world.names.delays.insert(71, 9 * MS);
    world.tick(1);
    let mut delay = 9 * MS;
    for second in 1..=5 {
        let at = second * SECOND;
        world.memory.goes(1, phase::PREEMPTED, at + 100 * MS);
        world.memory.goes(1, phase::BLOCKED, at + 300 * MS);
        // The kernel's clock has it a little shorter each time.
        delay += 200 * MS - 700;
        world.names.delays.insert(71, delay);
        let told = of(&world.tick(second + 1), vcpu(0)).time;
        assert_eq!((told.get(Phase::Preempted), told.get(Phase::Blocked)), (200 * MS, 800 * MS));
    }
}

#[test]
fn a_wait_between_the_claim_and_the_first_tick_counts_from_the_first_look() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    let slot = *world.memory.at(1);
    world.reader.early_delay(1, &slot, 500);
    world.memory.goes(1, phase::BLOCKED, 0);
    world.memory.goes(1, phase::GUEST, 400 * MS);
    world.names.delays.insert(71, 500 + 30 * MS);
    let told = of(&world.tick(1), vcpu(0)).time;
    assert_eq!((told.get(Phase::Preempted), told.get(Phase::Blocked)), (30 * MS, 370 * MS));
}

#[test]
fn a_thread_that_ended_or_does_not_tell_keeps_its_sleep() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::BLOCKED, 0);
    world.tick(1);
    world.memory.goes(1, phase::GUEST, SECOND + 400 * MS);
    let told = of(&world.tick(2), vcpu(0)).time;
    assert_eq!((told.get(Phase::Preempted), told.get(Phase::Blocked)), (0, 400 * MS));
    // Its number is another vCPU's thread by now.
    world.names.delays.insert(71, 700 * MS);
    world.memory.goes(1, phase::BLOCKED, 2 * SECOND);
    world.memory.retire(1, 2 * SECOND + 300 * MS);
    let told = of(&world.tick(3), vcpu(0)).time;
    assert_eq!((told.get(Phase::Preempted), told.get(Phase::Blocked)), (0, 300 * MS));
}
