//! Meters in a tick.

use super::{plain::extreme, *};
use crate::model::meters::{MeterKind, MeterTick, MetersTick, TimerTick, WindowTick};
use kvmscope_shared::meters::{Meter, meter, timer, timer_now};

impl World {
    fn metered() -> Self {
        let mut world = Self::new();
        world.meters = true;
        world.memory.claim(1, 0, 0);
        world
    }

    /// A slot's meter counts these, in the epoch of now.
    fn meter(&mut self, index: u32, which: usize, amounts: &[u64]) {
        let epoch = self.memory.control.epoch;
        for &amount in amounts {
            let meter = &mut self.memory.meters[index as usize].meters[which];
            meter.count += 1;
            meter.total_ns += amount;
            meter.hist[bucket_of(amount)] += 1;
            extreme(&mut meter.extremes, amount, epoch);
            self.memory.at(index).events += 1;
        }
    }
}

fn told(tick: &Tick) -> &MetersTick {
    &of(tick, vcpu(0)).meters
}

/// Kind, count, total, least, greatest.
fn numbers(meter: &MeterTick) -> (MeterKind, u64, u64, u64, u64) {
    (meter.kind, meter.count, meter.total_ns, meter.min_ns, meter.max_ns)
}

fn all(tick: &Tick) -> Vec<(MeterKind, u64, u64, u64, u64)> {
    told(tick).meters.iter().map(numbers).collect()
}

#[test]
fn each_meter_has_what_came_since_the_tick_before() {
    let mut world = World::metered();
    world.meter(1, meter::SLEPT, &[1_000_000, 3_000_000]);
    world.meter(1, meter::POLLED_IDLE, &[7_000]);
    let tick = world.tick(1);
    let polled = (MeterKind::PolledIdle, 1, 7_000, 7_000, 7_000);
    assert_eq!(all(&tick), [polled, (MeterKind::Slept, 2, 4_000_000, 1_000_000, 3_000_000)]);
    let hist = &told(&tick).meters[1].hist;
    assert_eq!(*hist, [(bucket_of(1_000_000) as u8, 1), (bucket_of(3_000_000) as u8, 1)]);
    world.meter(1, meter::SLEPT, &[2_000_000]);
    let tick = world.tick(2);
    assert_eq!(all(&tick), [(MeterKind::Slept, 1, 2_000_000, 2_000_000, 2_000_000)]);
    assert_eq!(all(&world.tick(3)), [], "looked at once more: nothing followed");
}

#[test]
fn a_time_without_its_bucket_is_told_when_it_has_one() {
    let mut world = World::metered();
    world.meter(1, meter::LOADED, &[1_000]);
    world.tick(1);
    let before = world.memory.meters[1].meters[meter::LOADED];
    world.meter(1, meter::LOADED, &[5_000]);
    let after = world.memory.meters[1].meters[meter::LOADED];
    world.memory.meters[1].meters[meter::LOADED] = Meter { hist: before.hist, ..after };
    assert_eq!(all(&world.tick(2)), []);
    world.memory.meters[1].meters[meter::LOADED] = after;
    assert_eq!(all(&world.tick(3)), [(MeterKind::Loaded, 1, 5_000, 5_000, 5_000)]);
}

#[test]
fn extremes_of_an_epoch_that_nobody_read_are_those_of_the_buckets() {
    let mut world = World::metered();
    world.memory.claim(1, NO_VCPU_ID, 0);
    world.memory.at(1).kvm = 0;
    world.meter(1, meter::SLEPT, &[100_000, 900_000]);
    for tenth in 1..20 {
        let (tick, _) = world.read(tenth * SECOND / 10, false);
        assert!(tick.vcpus.is_empty(), "held back");
    }
    world.memory.at(1).kvm = 0xa000;
    world.meter(1, meter::SLEPT, &[200_000]);
    let tick = world.tick(3);
    let [(_, count, total, least, greatest)] = all(&tick)[..] else { panic!("one meter") };
    assert_eq!((count, total), (3, 1_200_000));
    assert!(least <= 100_000 && bucket_of(least) == bucket_of(100_000), "{least}");
    assert!(greatest >= 900_000 && bucket_of(greatest) == bucket_of(900_000), "{greatest}");
}

#[test]
fn nothing_is_read_where_no_family_keeps_meters() {
    let mut world = World::metered();
    world.meters = false;
    world.meter(1, meter::SLEPT, &[1_000]);
    assert_eq!(*told(&world.tick(1)), MetersTick::default());
    world.meters = true;
    world.meter(1, meter::SLEPT, &[1_000]);
    assert_eq!(all(&world.tick(2))[0].1, 2);
    world.meters = false;
    world.meter(1, meter::SLEPT, &[1_000]);
    assert_eq!(all(&world.tick(3))[0].1, 1, "read once more after it was turned off");
    world.meter(1, meter::SLEPT, &[1_000]);
    assert_eq!(all(&world.tick(4)), []);
}

#[test]
fn timers_and_the_window_are_told_with_what_is_now() {
    let mut world = World::metered();
    assert_eq!((told(&world.tick(1)).timers, told(&world.tick(2)).window), (None, None));
    let meters = &mut world.memory.meters[1];
    meters.timers[timer::DEADLINE] = 5;
    meters.timers[timer::SOFTWARE] = 4;
    meters.timers[timer::EXPIRED] = 3;
    meters.timer_now = timer_now::SOFTWARE;
    (meters.window, meters.grew, meters.shrank) = (10_001, 3, 1);
    world.memory.at(1).events += 1;
    let tick = world.tick(3);
    let counted = TimerTick { deadlines: 5, software: 4, expired: 3, ..TimerTick::default() };
    assert_eq!(told(&tick).timers, Some(TimerTick { is_hardware: Some(false), ..counted }));
    let window = |now_ns, grew, shrank| Some(WindowTick { now_ns, grew, shrank });
    assert_eq!(told(&tick).window, window(10_000, 3, 1));
    world.memory.meters[1].window = 1;
    world.memory.meters[1].shrank = 2;
    world.memory.at(1).events += 1;
    let tick = world.tick(4);
    assert_eq!((told(&tick).timers, told(&tick).window), (None, window(0, 0, 1)));
}

#[test]
fn an_open_interval_grows_without_an_event_and_is_closed_once() {
    let mut world = World::metered();
    world.memory.meters[1].loaded_ns = SECOND / 2;
    world.memory.meters[1].migrations = 2;
    world.memory.meters[1].crossings = 1;
    let tick = world.tick(1);
    assert_eq!((told(&tick).migrations, told(&tick).crossings), (2, 1));
    assert_eq!(told(&tick).loaded_open_ns, SECOND / 2);
    for second in 2..5 {
        let tick = world.tick(second);
        assert_eq!(told(&tick).loaded_open_ns, second * SECOND - SECOND / 2);
        assert_eq!((told(&tick).migrations, told(&tick).crossings), (0, 0));
    }
    world.memory.meters[1].loaded_ns = 0;
    world.meter(1, meter::LOADED, &[4 * SECOND]);
    let tick = world.tick(5);
    assert_eq!((all(&tick)[0].2, told(&tick).loaded_open_ns), (4 * SECOND, 0));
    world.tick(6);
    assert!(world.tick(7).vcpus.is_empty());
}

#[test]
fn a_retired_slot_has_nothing_open_and_is_used_again_from_zero() {
    let mut world = World::metered();
    world.memory.meters[1].loaded_ns = 7;
    world.meter(1, meter::LOADED, &[1_000]);
    world.memory.retire(1, SECOND / 2);
    let tick = world.tick(1);
    assert_eq!((all(&tick)[0].1, told(&tick).loaded_open_ns), (1, 0));
    world.memory.claim(1, 0, SECOND);
    world.meter(1, meter::LOADED, &[500]);
    assert_eq!(all(&world.tick(2)), [(MeterKind::Loaded, 1, 500, 500, 500)]);
}

#[test]
fn threads_of_one_vcpu_are_added_up() {
    let mut world = World::metered();
    world.memory.claim(2, 0, 0);
    world.meter(1, meter::SLEPT, &[1_000]);
    world.meter(2, meter::SLEPT, &[300, 1_000]);
    world.meter(2, meter::LOADED, &[9_000]);
    world.memory.meters[1].window = 101;
    world.memory.meters[1].grew = 1;
    world.memory.meters[2].window = 201;
    world.memory.meters[2].grew = 2;
    world.memory.retire(2, SECOND / 2);
    let tick = world.tick(1);
    let slept = (MeterKind::Slept, 3, 2_300, 300, 1_000);
    assert_eq!(all(&tick), [slept, (MeterKind::Loaded, 1, 9_000, 9_000, 9_000)]);
    assert_eq!(told(&tick).meters[0].hist.len(), 2);
    let window = WindowTick { now_ns: 100, grew: 3, shrank: 0 };
    assert_eq!(told(&tick).window, Some(window), "of the thread that lives");
}
