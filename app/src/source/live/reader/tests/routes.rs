//! Who sends interrupts, in a tick.

use super::*;
use crate::model::{
    event::EventKind,
    meters::{Chip, RouteTick, Sender},
};
use kvmscope_shared::{
    event::{Event, kind},
    route::{Route, RouteTally, accepted, chip, sender},
};

/// The `struct kvm` of the memory's VM.
const KVM: u64 = 0xa000;

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn route(sender: u32, tgid: u32, comm: &str, chip: u32, a: u64) -> Route {
    let (chip, sender) = (chip as u16 + 1, sender as u16);
    Route { tgid, sender, comm: name(comm), chip, a, ..Route::default() }
}

/// A line that a thread of the VMM sets.
fn line(tgid: u32, gsi: u64) -> Route {
    route(sender::THREAD, tgid, "main", chip::LINE, gsi)
}

impl World {
    /// A row's owner sends, and some of it is coalesced.
    fn sends(&mut self, row: usize, whose: Route, count: u64, coalesced: u64) {
        let (owner, tally) = &mut self.memory.routes[row];
        *owner = whose;
        tally.count += count;
        tally.coalesced += coalesced;
    }
}

/// (VM, sender, pid, name, chip, a, how many, coalesced)
type Row = (Option<u32>, Sender, u32, String, Chip, u64, u64, u64);

fn told(tick: &Tick) -> Vec<Row> {
    let row = |r: &RouteTick| {
        let vm = r.vm.map(|vm| vm.0);
        (vm, r.sender, r.pid, r.comm.clone(), r.chip, r.a, r.count, r.coalesced)
    };
    tick.routes.iter().map(row).collect()
}

fn rows(freed: &[Freed]) -> Vec<u32> {
    let row = |freed: &Freed| if let Freed::RouteRow(row) = freed { Some(*row) } else { None };
    freed.iter().filter_map(row).collect()
}

#[test]
fn what_is_sent_is_told_once_most_first() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.sends(1, line(7, 4), 2, 0);
    world.sends(2, line(7, 5), 9, 1);
    let row = |gsi, count, coalesced| {
        (Some(1), Sender::Thread, 7, "main".to_owned(), Chip::Line, gsi, count, coalesced)
    };
    assert_eq!(told(&world.tick(1)), [row(5, 9, 1), row(4, 2, 0)]);
    assert_eq!(told(&world.tick(2)), []);
    world.sends(1, line(7, 4), 1, 1);
    assert_eq!(told(&world.tick(3)), [row(4, 1, 1)]);
}

#[test]
fn the_vm_is_the_senders() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    let vcpu = route(sender::VCPU, 7, "vcpu0", chip::MSI, 1);
    world.sends(1, Route { kvm: KVM, ..vcpu }, 1, 0);
    world.sends(2, route(sender::KERNEL, 90, "vhost-7", chip::LAPIC, 2), 2, 0);
    world.sends(3, route(sender::KERNEL, 0, "kworker", chip::MSI, 3), 3, 0);
    world.sends(4, route(sender::INTERRUPT, 0, "", chip::LAPIC, 4), 4, 0);
    world.sends(5, route(sender::KERNEL, 91, "vhost-x", chip::LAPIC, 5), 5, 0);
    let vms: Vec<_> = told(&world.tick(1)).into_iter().map(|row| (row.5, row.0)).collect();
    assert_eq!(vms, [(5, None), (4, None), (3, None), (2, Some(1)), (1, Some(1))]);
}

#[test]
fn of_a_process_with_several_vms_only_vcpus_tell_which() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.claim(2, 0, 0);
    world.memory.at(2).kvm = 0xb000;
    let vcpu = route(sender::VCPU, 7, "vcpu0", chip::LINE, 1);
    world.sends(1, Route { kvm: 0xb000, ..vcpu }, 2, 0);
    world.sends(2, line(7, 2), 1, 0);
    let vms: Vec<_> = told(&world.tick(1)).into_iter().map(|row| row.0).collect();
    assert_eq!(vms, [Some(2), None]);
}

#[test]
fn what_comes_before_the_first_vcpu_runs_waits_for_it_but_not_for_ever() {
    let mut world = World::new();
    world.sends(1, line(7, 4), 3, 0);
    world.sends(2, line(8, 4), 1, 0);
    assert_eq!(told(&world.tick(1)), []);
    world.memory.claim(1, 0, SECOND);
    let of = |tick: &Tick| told(tick).into_iter().map(|r| (r.0, r.2, r.6)).collect::<Vec<_>>();
    assert_eq!(of(&world.tick(2)), [(Some(1), 7, 3)]);
    assert_eq!(of(&world.tick(3)), [(None, 8, 1)], "another process may serve a VM");
}

#[test]
fn nothing_is_held_back_at_the_end() {
    let mut world = World::new();
    world.sends(1, line(8, 4), 1, 0);
    assert_eq!(told(&world.read(SECOND, true).0).len(), 1);
}

#[test]
fn two_rows_of_the_same_are_one() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.sends(1, line(7, 4), 3, 1);
    world.sends(2, line(7, 4), 2, 0);
    let told = told(&world.tick(1));
    assert_eq!(told.iter().map(|r| (r.6, r.7)).collect::<Vec<_>>(), [(5, 1)]);
}

#[test]
fn with_pid_what_nobody_owns_is_left_out_and_said() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.control.filters = 1;
    world.sends(1, route(sender::KERNEL, 0, "kworker", chip::MSI, 1), 3, 0);
    world.sends(2, line(7, 4), 2, 0);
    world.sends(3, route(sender::KERNEL, 90, "vhost-7", chip::LAPIC, 2), 1, 0);
    assert!(!world.reader.left_routes_out());
    assert_eq!(told(&world.tick(1)).iter().map(|r| r.6).collect::<Vec<_>>(), [2, 1]);
    assert!(world.reader.left_routes_out());
}

#[test]
fn rows_of_a_dead_process_are_given_back_when_they_were_read_to_the_end() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.sends(1, line(7, 4), 1, 0);
    world.tick(1);
    world.memory.retire(1, SECOND + 1);
    world.names.dead.insert(7);
    world.sends(1, line(7, 4), 2, 0);
    let (tick, freed) = world.read(2 * SECOND, false);
    assert_eq!((told(&tick)[0].6, rows(&freed)), (2, vec![]));
    let (_, freed) = world.read(3 * SECOND, false);
    assert!(freed.contains(&Freed::Route(line(7, 4))), "{freed:?}");
    // A probe was in the middle of it.
    world.sends(1, line(7, 4), 1, 0);
    let (tick, freed) = world.read(4 * SECOND, false);
    assert_eq!((told(&tick)[0].6, rows(&freed)), (1, vec![1]));
    // Another has the row.
    world.memory.routes[1] = Default::default();
    world.memory.claim(2, 0, 4 * SECOND);
    world.names.dead.clear();
    world.sends(1, line(7, 9), 1, 0);
    assert_eq!(told(&world.tick(5)).iter().map(|r| (r.5, r.6)).collect::<Vec<_>>(), [(9, 1)]);
}

#[test]
fn idle_rows_are_given_back_where_few_are_left() {
    let of = |used: usize| {
        let mut world = World::new();
        world.memory.claim(1, 0, 0);
        for row in 1..=used {
            world.sends(row, line(7, row as u64), 1, 0);
        }
        let mut given = 0;
        for second in 1..30 {
            for row in rows(&world.read(second * SECOND, false).1) {
                world.memory.routes[row as usize] = Default::default();
                given += 1;
            }
        }
        given
    };
    assert_eq!((of(3), of(7)), (0, 7));
}

#[test]
fn what_finds_no_row_is_counted() {
    let mut world = World::new();
    world.memory.routes[0].1 = RouteTally { count: 3, coalesced: 0 };
    assert_eq!(world.tick(1).routes_left_out, 3);
    assert_eq!(world.tick(2).routes_left_out, 0);
}

#[test]
fn a_chip_or_sender_that_is_none_is_not_told() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.sends(1, route(sender::THREAD, 7, "main", 77, 1), 1, 0);
    world.sends(2, route(9, 7, "main", chip::PIC, 1), 1, 0);
    assert_eq!(told(&world.tick(1)), []);
}

#[test]
fn single_ones_are_their_vms_or_of_one_that_is_not_known() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    let posted = accepted(2, 0x31, 0, false, true);
    let sent = |tgid, of| Event {
        at_ns: 5,
        kind: kind::ROUTE,
        tgid,
        args: [u64::from(chip::LAPIC), posted, 0, 0, u64::from(of), 0],
        ..Event::default()
    };
    world.sends(1, route(sender::KERNEL, 90, "vhost-7", chip::LAPIC, posted), 1, 0);
    world.tick(1);
    let all = [
        sent(7, sender::THREAD),
        sent(90, sender::KERNEL),
        sent(91, sender::KERNEL),
        sent(7, sender::INTERRUPT),
    ];
    let of = |world: &mut World| {
        world.reader.take_events(all.to_vec());
        let tick = world.tick(2);
        let events = tick.events.iter().filter(|event| event.kind == EventKind::Route);
        let left: u64 = tick.events_left_out.iter().map(|left| left.count).sum();
        (events.map(|event| event.vm.0).collect::<Vec<_>>(), left)
    };
    assert_eq!(of(&mut world), (vec![1, 1, 0, 0], 0));
    world.memory.control.filters = 1;
    assert_eq!(of(&mut world), (vec![1, 1], 2));
}

#[test]
fn why_a_vm_has_no_apicv_is_told_when_it_was_read() {
    let mut world = World::new();
    world.detail = true;
    world.memory.claim(1, 0, 0);
    let inhibits =
        |tick: &Tick| tick.vms.iter().map(|vm| (vm.id.0, vm.apicv_inhibits)).collect::<Vec<_>>();
    assert_eq!(inhibits(&world.tick(1)), []);
    let epoch = world.memory.control.epoch;
    let detail = &mut world.memory.details[1];
    (detail.inhibits, detail.inhibits_epoch) = (0x104, epoch);
    world.memory.exits(1, CPUID, &[1]);
    assert_eq!(inhibits(&world.tick(2)), [(1, Some(0x104))]);
    world.memory.exits(1, CPUID, &[1]);
    assert_eq!(inhibits(&world.tick(3)), [], "not read since");
}
