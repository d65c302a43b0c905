//! The reader on plain memory, in which the tests do what the probes do.

mod culprits;
mod detail;
mod events;
mod ioctls;
mod meters;
mod parts;
mod plain;
mod routes;

use super::*;
use crate::{
    model::{
        ids::{Reason, VmId},
        tick::{CellTick, Life, Phase, VcpuTick},
        totals::Totals,
    },
    source::live::identity::tests::TestNames,
};
use kvmscope_shared::{
    hist::bucket_of,
    slot::{KIND_EXIT, KIND_USERSPACE, NO_VCPU_ID, phase},
};
use plain::{POOL, Plain, SLOTS};

const SECOND: u64 = 1_000_000_000;
/// VMX reasons: CPUID, HLT, I/O.
const CPUID: u32 = 10;
const HLT: u32 = 12;
const IO: u32 = 30;

/// Memory and reader; time is in seconds.
struct World {
    memory: Plain,
    reader: Reader,
    totals: Totals,
    missed_runs: u64,
    names: TestNames,
    detail: bool,
    meters: bool,
}

impl World {
    fn new() -> Self {
        let reader = Reader::new(SLOTS, 0, true);
        Self {
            memory: Plain::new(),
            reader,
            totals: Totals::default(),
            missed_runs: 0,
            names: TestNames::default(),
            detail: false,
            meters: false,
        }
    }

    fn read(&mut self, now_ns: u64, last: bool) -> (Tick, Vec<Freed>) {
        let missed_runs = self.missed_runs;
        let (detail, meters) = (self.detail, self.meters);
        let (routes, ioctls) = (true, true);
        let moment = Moment {
            now_ns,
            missed_runs,
            last,
            detail,
            meters,
            routes,
            ioctls,
            ..Moment::default()
        };
        let (tick, freed) = self.reader.tick(&mut self.memory, &mut self.names, moment);
        self.totals.apply(&tick);
        (tick, freed)
    }

    fn tick(&mut self, second: u64) -> Tick {
        self.read(second * SECOND, false).0
    }
}

fn vcpu(vcpu: u32) -> VcpuKey {
    VcpuKey { vm: VmId(1), vcpu }
}

fn of(tick: &Tick, key: VcpuKey) -> &VcpuTick {
    tick.vcpus.iter().find(|v| v.key == key).expect("the vCPU is in the tick")
}

fn cell(tick: &Tick, code: u32) -> &CellTick {
    let cells = tick.vcpus.iter().flat_map(|v| &v.cells);
    let mut found = cells.filter(|cell| cell.reason.code == code);
    let cell = found.next().expect("the reason is in the tick");
    assert!(found.next().is_none(), "once");
    cell
}

#[test]
fn every_tick_has_what_came_since_the_one_before() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.exits(1, CPUID, &[1_000, 3_000]);
    let first = world.tick(1);
    assert_eq!((first.seq, first.dur_ns, first.end_ns), (1, SECOND, SECOND));
    let told = cell(&first, CPUID);
    assert_eq!((told.count, told.timed(), told.total_ns), (2, 2, 4_000));
    assert_eq!((told.min_ns, told.max_ns), (1_000, 3_000));

    world.memory.exits(1, CPUID, &[2_000]);
    world.memory.exits(1, HLT, &[70_000]);
    let second = world.tick(2);
    let told = cell(&second, CPUID);
    assert_eq!((told.count, told.total_ns, told.min_ns, told.max_ns), (1, 2_000, 2_000, 2_000));
    assert_eq!(cell(&second, HLT).total_ns, 70_000);

    let third = world.tick(3);
    assert!(of(&third, vcpu(0)).cells.is_empty(), "looked at once more: nothing followed");
    let fourth = world.tick(4);
    assert!(fourth.vcpus.is_empty(), "nothing happened");
    let sum = &world.totals.vms[&VmId(1)].vcpus[&0].cells[&cell(&first, CPUID).reason];
    assert_eq!((sum.count, sum.total_ns, sum.min_ns, sum.max_ns), (3, 6_000, 1_000, 3_000));
}

#[test]
fn an_open_exit_is_counted_and_not_timed() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.cell_of(1, KIND_EXIT, HLT).count += 1;
    let slot = world.memory.at(1);
    (slot.open_cell, slot.exit_reason, slot.exit_ns) = (CELLS_PER_CHUNK, HLT, 500);
    let tick = world.tick(1);
    let told = cell(&tick, HLT);
    assert_eq!((told.count, told.timed(), told.min_ns, told.max_ns), (1, 0, 0, 0));
    let open = of(&tick, vcpu(0)).open.expect("open");
    assert_eq!((open.reason, open.begun_ns), (told.reason, 500));
}

#[test]
fn a_time_in_flight_across_an_epochs_end_is_not_lost() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.exits(1, CPUID, &[1_000, 1_100]);
    let epoch = world.memory.control.epoch;
    world.tick(1);
    // The probe asked for the epoch before the reader ended it, and wrote after it was read.
    world.memory.times(1, CPUID, 9_001, epoch);
    let tick = world.tick(2);
    assert_eq!((cell(&tick, CPUID).min_ns, cell(&tick, CPUID).max_ns), (9_001, 9_001));
}

#[test]
fn what_ended_after_its_epoch_and_before_it_was_read_has_its_extremes() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.exits(1, CPUID, &[1_000_000]);
    // The reader has ended the epoch, and has not come to this cell yet.
    let next = world.memory.control.epoch + 1;
    world.memory.times(1, CPUID, 1_000_500, next);
    let tick = world.tick(1);
    let told = cell(&tick, CPUID);
    assert_eq!((told.timed(), told.hist.len()), (2, 1), "both fell into one bucket");
    assert_eq!((told.min_ns, told.max_ns), (1_000_000, 1_000_500));
}

#[test]
fn extremes_and_buckets_that_were_seen_apart_meet_again() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.exits(1, CPUID, &[1_000]);
    world.tick(1);
    // Read after the total was written and before the bucket was.
    let whole = *world.memory.cell_of(1, KIND_EXIT, CPUID);
    world.memory.exits(1, CPUID, &[777_777]);
    let after = *world.memory.cell_of(1, KIND_EXIT, CPUID);
    *world.memory.cell_of(1, KIND_EXIT, CPUID) = Cell { hist: whole.hist, ..after };
    let torn = world.tick(2);
    let told = cell(&torn, CPUID);
    assert_eq!((told.count, told.timed(), told.total_ns, told.max_ns), (1, 0, 0, 0));
    *world.memory.cell_of(1, KIND_EXIT, CPUID) = after;
    let tick = world.tick(3);
    let told = cell(&tick, CPUID);
    assert_eq!((told.count, told.timed(), told.total_ns), (0, 1, 777_777));
    assert_eq!((told.min_ns, told.max_ns), (777_777, 777_777));
}

#[test]
fn extremes_that_no_bank_has_any_more_are_those_of_the_buckets() {
    let mut world = World::new();
    world.memory.claim(1, NO_VCPU_ID, 0);
    world.memory.at(1).kvm = 0;
    world.memory.exits(1, CPUID, &[100, 5_000]);
    for tenth in 1..20 {
        assert!(world.read(tenth * SECOND / 10, false).0.vcpus.is_empty(), "held back");
    }
    world.memory.at(1).kvm = 0xa000;
    world.memory.exits(1, CPUID, &[700]);
    let tick = world.tick(3);
    let told = cell(&tick, CPUID);
    assert_eq!((told.timed(), told.total_ns), (3, 5_800));
    assert_eq!(bucket_of(told.min_ns), bucket_of(100));
    assert_eq!(bucket_of(told.max_ns), bucket_of(5_000));
    assert!(told.min_ns <= 100 && told.max_ns >= 5_000, "they are bounds: {told:?}");
}

#[test]
fn a_bucket_may_wrap() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.exits(1, CPUID, &[1_000]);
    world.memory.cell_of(1, KIND_EXIT, CPUID).hist[bucket_of(1_000)] = u32::MAX - 1;
    world.tick(1);
    world.memory.exits(1, CPUID, &[1_000; 5]);
    let tick = world.tick(2);
    assert_eq!(cell(&tick, CPUID).hist, [(bucket_of(1_000) as u8, 5)]);
}

#[test]
fn a_slot_is_held_back_until_it_tells_its_vm() {
    let mut world = World::new();
    world.memory.claim(1, NO_VCPU_ID, 0);
    world.memory.at(1).kvm = 0;
    world.memory.exits(1, CPUID, &[1_000]);
    let tick = world.tick(1);
    assert!(tick.vcpus.is_empty() && tick.life.is_empty(), "{tick:?}");
    let slot = world.memory.at(1);
    (slot.kvm, slot.vcpu_id) = (0xa000, 3);
    slot.events += 1;
    let tick = world.tick(2);
    assert_eq!(of(&tick, vcpu(3)).cells[0].count, 1);
    assert_eq!(of(&tick, vcpu(3)).time.sum(), 2 * SECOND, "from its beginning on");
    assert!(matches!(&tick.life[1], Life::Vcpu(info) if !info.guessed));
}

#[test]
fn nothing_is_held_back_for_ever() {
    let untold = |index, world: &mut World| {
        world.memory.claim(index, NO_VCPU_ID, 0);
        world.memory.at(index).kvm = 0;
    };
    let mut world = World::new();
    untold(1, &mut world);
    world.memory.exits(1, CPUID, &[1_000]);
    assert!(world.tick(1).vcpus.is_empty());
    assert_eq!(world.tick(2).vcpus.len(), 1, "it had its time");

    let mut world = World::new();
    untold(1, &mut world);
    assert!(world.tick(9).vcpus.is_empty(), "without a single exit there is no hurry");
    let (tick, _) = world.read(10 * SECOND, true);
    assert_eq!(tick.vcpus.len(), 1, "the last tick holds nothing back");
    assert!(matches!(&tick.life[1], Life::Vcpu(info) if info.guessed));

    let mut world = World::new();
    world.reader.expect_no_entries();
    untold(1, &mut world);
    assert_eq!(world.tick(1).vcpus.len(), 1, "no entry will come that could tell");
}

#[test]
fn phases_add_up_to_the_interval() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::GUEST, 0);
    world.memory.goes(1, phase::KVM, 300_000_000);
    world.memory.goes(1, phase::BLOCKED, 400_000_000);
    let tick = world.tick(1);
    let told = of(&tick, vcpu(0));
    assert_eq!(told.time.0, [0, 300_000_000, 100_000_000, 0, 0, 600_000_000, 0, 0, 0]);
    assert_eq!((told.phase, told.since_ns), (Phase::Blocked, 400_000_000));
    assert_eq!(of(&world.tick(2), vcpu(0)).time.get(Phase::Blocked), SECOND);
    for second in 3..=11 {
        assert!(world.tick(second).vcpus.is_empty(), "asleep");
    }
    world.memory.goes(1, phase::GUEST, 11 * SECOND + 250_000_000);
    let tick = world.tick(12);
    assert_eq!(of(&tick, vcpu(0)).time.0, [0, 750_000_000, 0, 0, 0, 250_000_000, 0, 0, 0]);
    let total = world.totals.vms[&VmId(1)].vcpus[&0].time;
    assert_eq!(total.sum(), 12 * SECOND);
    assert_eq!(total.get(Phase::Blocked), 600_000_000 + 10 * SECOND + 250_000_000);
}

#[test]
fn a_change_after_the_ticks_moment_is_not_told_twice() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::GUEST, 0);
    world.memory.goes(1, phase::KVM, SECOND + 1_000);
    assert_eq!(of(&world.tick(1), vcpu(0)).time.sum(), SECOND + 1_000);
    assert_eq!(of(&world.tick(2), vcpu(0)).time.sum(), SECOND - 1_000);
}

#[test]
fn fields_of_different_moments_even_out() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::GUEST, 0);
    world.memory.goes(1, phase::KVM, 600_000_000);
    let whole = *world.memory.at(1);
    // The phase's time was written, its beginning not yet.
    *world.memory.at(1) = Slot { since_ns: 0, phase: phase::GUEST, ..whole };
    world.tick(1);
    *world.memory.at(1) = Slot { events: whole.events + 1, ..whole };
    world.tick(2);
    world.memory.goes(1, phase::GUEST, 2_500_000_000);
    world.memory.goes(1, phase::KVM, 4_500_000_000);
    world.tick(5);
    let total = world.totals.vms[&VmId(1)].vcpus[&0].time;
    assert_eq!(total.get(Phase::Guest), 600_000_000 + 2 * SECOND);
}

#[test]
fn a_retired_slot_is_read_to_its_end_and_used_again() {
    let mut world = World::new();
    world.memory.claim(2, 0, 0);
    world.memory.exits(2, CPUID, &[1_000]);
    world.tick(1);
    world.memory.exits(2, CPUID, &[2_000]);
    world.memory.retire(2, SECOND + 500);
    let (tick, freed) = world.read(2 * SECOND, false);
    assert_eq!(cell(&tick, CPUID).total_ns, 2_000);
    assert_eq!(of(&tick, vcpu(0)).time.sum(), 500);
    assert_eq!(tick.life, [Life::VcpuGone(vcpu(0), SECOND + 500)]);
    assert_eq!(freed, [Freed::Slot(2)], "its own cells stay its own");
    assert_eq!(world.memory.slot(2), Slot { generation: 1, ..Slot::default() });
    assert!(world.memory.cells.iter().all(|c| *c == Cell::default()));
    assert_eq!(world.read(3 * SECOND, false).1, [], "freed once");
    let total = world.totals.vms[&VmId(1)].vcpus[&0].time;
    assert_eq!(total.sum(), SECOND + 500, "nothing after its end");
}

#[test]
fn more_reasons_than_a_chunk_come_from_the_pool_and_go_back() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    let codes: Vec<u32> = (0..20).collect();
    for &code in &codes {
        world.memory.exits(1, code, &[1_000 + u64::from(code)]);
    }
    let tick = world.tick(1);
    let told: Vec<(u32, u64)> =
        of(&tick, vcpu(0)).cells.iter().map(|c| (c.reason.code, c.total_ns)).collect();
    let made: Vec<(u32, u64)> = codes.iter().map(|&c| (c, 1_000 + u64::from(c))).collect();
    assert_eq!(told, made);
    world.memory.exits(1, 19, &[50]);
    assert_eq!(cell(&world.tick(2), 19).total_ns, 50);
    world.memory.retire(1, 2 * SECOND);
    let (_, freed) = world.read(3 * SECOND, false);
    assert_eq!(freed, [Freed::Chunk(POOL), Freed::Slot(1)]);
    assert!(world.memory.cells.iter().all(|c| *c == Cell::default()));
}

#[test]
fn a_chunk_without_a_cell_goes_back_too() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.at(1).extra_chunk = POOL + CELLS_PER_CHUNK;
    world.memory.retire(1, 500);
    let (_, freed) = world.read(SECOND, false);
    assert_eq!(freed, [Freed::Chunk(POOL + CELLS_PER_CHUNK), Freed::Slot(1)]);
}

#[test]
fn unknown_codes_are_counted_and_their_keys_freed_once() {
    let mut world = World::new();
    world.memory.claim(3, 0, 0);
    world.memory.exits(3, 0x2_0000, &[400]);
    world.memory.cell_of(3, KIND_USERSPACE, 99).count += 1;
    // Taken a moment ago, and nothing counted yet.
    world.memory.cell_of(3, KIND_EXIT, 0x3_0000);
    let tick = world.tick(1);
    assert_eq!(cell(&tick, 0x2_0000).count, 1);
    assert_eq!(cell(&tick, 99).reason, Reason::userspace(99));
    world.memory.retire(3, SECOND);
    let (_, freed) = world.read(2 * SECOND, false);
    let key = |kind: u32, code: u32| 3 << 33 | u64::from(kind) << 32 | u64::from(code);
    let keys = [key(KIND_EXIT, 0x2_0000), key(KIND_USERSPACE, 99), key(KIND_EXIT, 0x3_0000)];
    assert_eq!(freed[..3], keys.map(Freed::Unknown));
    assert_eq!(freed[3..], [Freed::Slot(3)]);
}

#[test]
fn two_threads_that_were_one_vcpu_are_one_row() {
    let mut world = World::new();
    world.memory.claim(2, 0, 0);
    world.memory.exits(2, IO, &[5_000]);
    world.memory.goes(2, phase::VMM_BLOCKED, 100_000_000);
    // It moved to a thread whose slot has a lower number.
    world.memory.claim(1, 0, 200_000_000);
    world.memory.goes(1, phase::GUEST, 300_000_000);
    world.memory.exits(1, IO, &[9_000]);
    world.memory.exits(1, CPUID, &[1_000]);
    let tick = world.tick(1);
    assert_eq!(tick.vcpus.len(), 1);
    let told = cell(&tick, IO);
    assert_eq!((told.count, told.total_ns, told.timed()), (2, 14_000, 2));
    assert_eq!((told.min_ns, told.max_ns), (5_000, 9_000));
    let reasons: Vec<u32> = tick.vcpus[0].cells.iter().map(|c| c.reason.code).collect();
    assert_eq!(reasons, [CPUID, IO]);
    assert_eq!(tick.vcpus[0].phase, Phase::Guest, "what it did last");
}

#[test]
fn the_end_of_an_old_thread_does_not_tell_what_the_vcpu_does() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.goes(1, phase::BLOCKED, 300);
    world.memory.claim(2, 0, 0);
    world.memory.goes(2, phase::VMM_BLOCKED, 200);
    world.tick(1);
    world.tick(2);
    assert!(world.tick(3).vcpus.is_empty());
    world.memory.retire(2, 3 * SECOND + 5);
    let tick = world.tick(4);
    let told = of(&tick, vcpu(0));
    assert_eq!((told.phase, told.since_ns), (Phase::Blocked, 300));
    assert_eq!(told.time.get(Phase::Blocked), SECOND);
    assert!(!tick.life.iter().any(|l| matches!(l, Life::VcpuGone(..))), "{:?}", tick.life);
}

#[test]
fn a_thread_that_a_vcpu_left_adds_no_time_of_its_own() {
    let mut world = World::new();
    world.memory.claim(2, 0, 0);
    world.memory.goes(2, phase::KVM, 0);
    world.memory.goes(2, phase::VMM, 200_000_000);
    world.memory.goes(2, phase::VMM_BLOCKED, 210_000_000);
    // It moved, and is in the guest since.
    world.memory.claim(1, 0, 300_000_000);
    world.memory.goes(1, phase::GUEST, 300_000_000);
    let tick = world.tick(1);
    let told = of(&tick, vcpu(0));
    assert_eq!(told.time.0, [0, 700_000_000, 200_000_000, 10_000_000, 0, 0, 90_000_000, 0, 0]);
    world.tick(2);
    // The old thread has something else to do; the vCPU goes on without an event.
    world.memory.goes(2, phase::VMM, 2_400_000_000);
    world.memory.goes(2, phase::VMM_BLOCKED, 2_500_000_000);
    for second in 3..=5 {
        let tick = world.tick(second);
        for told in &tick.vcpus {
            assert_eq!((told.phase, told.since_ns), (Phase::Guest, 300_000_000), "{second}");
            assert_eq!(told.time.sum(), SECOND, "{second}");
        }
    }
    let total = world.totals.vms[&VmId(1)].vcpus[&0].time;
    assert_eq!(total.sum(), 5 * SECOND);
    assert_eq!(total.get(Phase::Guest), 4_700_000_000);
}

#[test]
fn a_slot_used_again_between_two_ticks_is_another_thread() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.exits(1, CPUID, &[1_000, 1_000]);
    world.memory.retire(1, 500);
    world.read(SECOND, false);
    world.memory.claim(1, 4, SECOND + 10);
    world.memory.exits(1, CPUID, &[3_000]);
    world.memory.retire(1, SECOND + 50);
    let (tick, freed) = world.read(2 * SECOND, false);
    assert_eq!(freed, [Freed::Slot(1)]);
    assert_eq!(of(&tick, vcpu(4)).time.sum(), 40);
    let told = cell(&tick, CPUID);
    assert_eq!((told.count, told.total_ns, told.min_ns), (1, 3_000, 3_000));
    assert_eq!(world.memory.slot(1).generation, 2);
}

#[test]
fn losses_are_told_as_differences() {
    let mut world = World::new();
    world.memory.control.pool_full = 5;
    world.missed_runs = 2;
    let lost = world.tick(1).lost;
    assert_eq!((lost.pool_full, lost.slots_full, lost.missed_runs), (5, 0, 2));
    world.memory.control.slots_full = 7;
    world.missed_runs = 3;
    let lost = world.tick(2).lost;
    assert_eq!((lost.pool_full, lost.slots_full, lost.missed_runs), (0, 7, 1));
    assert_eq!(world.tick(3).lost, Lost::default());
    assert_eq!((world.totals.lost.pool_full, world.totals.lost.missed_runs), (5, 3));
    // Loaded anew, the probes count from the beginning.
    world.reader.restart(SLOTS);
    world.memory.control.pool_full = 1;
    world.missed_runs = 0;
    assert_eq!(world.tick(4).lost.pool_full, 1);
}
