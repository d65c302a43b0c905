//! KVM's ioctls in a tick.

use super::*;
use crate::{model::detail::VmTick, source::live::reader::ioctls::merge};
use kvmscope_shared::ioctl::{Call, KVM_RUN, Tally};

const CREATE_VM: u32 = 0xae01;
const CREATE_VCPU: u32 = 0xae41;
/// The `struct kvm` of the memory's VM.
const KVM: u64 = 0xa000;

fn call(tgid: u32, command: u32, kvm: u64) -> Call {
    Call { tgid, command, kvm }
}

impl World {
    /// A row's owner calls once and takes `ns`.
    fn calls(&mut self, row: usize, whose: Call, ns: u64, failed: bool) {
        let (owner, tally) = &mut self.memory.ioctls[row];
        *owner = whose;
        tally.count += 1;
        tally.failed += u64::from(failed);
        tally.total_ns += ns;
        tally.max_ns = tally.max_ns.max(ns);
    }
}

/// (VM, command, calls, in vain, ns, longest)
fn told(tick: &Tick) -> Vec<(u32, u32, u64, u64, u64, u64)> {
    let of = |vm: &VmTick| {
        let id = vm.id.0;
        let row = move |i: &crate::model::detail::IoctlTick| {
            (id, i.command, i.count, i.failed, i.total_ns, i.max_ns)
        };
        vm.ioctls.iter().map(row).collect::<Vec<_>>()
    };
    tick.vms.iter().flat_map(of).collect()
}

#[test]
fn calls_are_told_once_and_wait_for_their_vm() {
    let mut world = World::new();
    world.calls(1, call(7, CREATE_VM, 0), 500, false);
    world.calls(2, call(7, CREATE_VCPU, KVM), 300, false);
    assert_eq!(told(&world.tick(1)), [], "no VM is known of yet");
    world.memory.claim(1, 0, SECOND);
    world.calls(2, call(7, CREATE_VCPU, KVM), 400, true);
    let both = [(1, CREATE_VM, 1, 0, 500, 500), (1, CREATE_VCPU, 2, 1, 700, 400)];
    assert_eq!(told(&world.tick(2)), both);
    assert_eq!(told(&world.tick(3)), []);
    world.calls(2, call(7, CREATE_VCPU, KVM), 10, false);
    assert_eq!(told(&world.tick(4)), [(1, CREATE_VCPU, 1, 0, 10, 400)]);
}

#[test]
fn a_command_of_several_rows_of_a_vm_is_one() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    // Where the process has one VM that does not tell which it is, all are its.
    world.memory.at(1).kvm = 0;
    world.calls(1, call(7, KVM_RUN, 0xa), 500, false);
    world.calls(2, call(7, KVM_RUN, 0xb), 700, false);
    let (tick, _) = world.read(3 * SECOND, true);
    assert_eq!(told(&tick), [(1, KVM_RUN, 2, 0, 1200, 700)]);
}

#[test]
fn a_vm_that_never_runs_is_its_processs_at_the_end() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.calls(1, call(7, CREATE_VCPU, 0xdead), 5, false);
    world.calls(2, call(90, CREATE_VM, 0), 5, false);
    assert_eq!(told(&world.tick(1)), []);
    let (tick, _) = world.read(2 * SECOND, true);
    assert_eq!(told(&tick), [(1, CREATE_VCPU, 1, 0, 5, 5)], "process 90 has no VM");
}

#[test]
fn rows_of_a_dead_process_are_given_back_when_they_were_read() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.calls(1, call(7, CREATE_VM, 0), 5, false);
    world.tick(1);
    world.memory.retire(1, SECOND + 1);
    world.names.dead.insert(7);
    world.calls(1, call(7, CREATE_VM, 0), 6, false);
    let gives_back =
        |freed: &[Freed]| freed.iter().filter(|freed| matches!(freed, Freed::Ioctl(..))).count();
    // Its VM is found to be gone, then its process to be dead, then a whole tick passes.
    let (tick, freed) = world.read(2 * SECOND, false);
    assert_eq!(told(&tick), [(1, CREATE_VM, 1, 0, 6, 6)]);
    assert_eq!(gives_back(&freed), 0);
    assert_eq!(gives_back(&world.read(3 * SECOND, false).1), 0);
    let (tick, freed) = world.read(4 * SECOND, false);
    assert!(freed.contains(&Freed::Ioctl(1, call(7, CREATE_VM, 0))), "{freed:?}");
    assert_eq!(told(&tick), []);
    // Another one has the row.
    world.memory.ioctls[1] = Default::default();
    world.memory.claim(2, 0, 4 * SECOND);
    world.names.dead.clear();
    world.calls(1, call(7, CREATE_VCPU, KVM), 1, false);
    assert_eq!(told(&world.tick(5)), [(1, CREATE_VCPU, 1, 0, 1, 1)]);
}

#[test]
fn rows_of_a_vm_that_is_gone_are_given_back_while_its_process_lives() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.calls(1, call(7, CREATE_VM, 0), 5, false);
    world.calls(2, call(7, CREATE_VCPU, KVM), 5, false);
    world.tick(1);
    world.memory.retire(1, SECOND + 1);
    let freed: Vec<Freed> =
        (2..6).flat_map(|second| world.read(second * SECOND, false).1).collect();
    let rows: BTreeSet<u32> = freed
        .iter()
        .filter_map(|f| if let Freed::Ioctl(row, _) = f { Some(*row) } else { None })
        .collect();
    assert_eq!(rows, BTreeSet::from([2]), "/dev/kvm is the process's");
}

#[test]
fn calls_without_a_row_are_counted() {
    let mut world = World::new();
    world.memory.ioctls[0].1 = Tally { count: 3, ..Tally::default() };
    world.tick(1);
    assert_eq!(world.reader.ioctls_unplaced(), 3);
    world.reader.restart(SLOTS);
    assert_eq!(world.reader.ioctls_unplaced(), 0);
}

#[test]
fn what_is_known_of_a_vm_otherwise_stays() {
    let beside = VmTick { id: VmId(2), over_ns: 9, ..VmTick::default() };
    let ioctls =
        |id| VmTick { id: VmId(id), ioctls: vec![Default::default()], ..VmTick::default() };
    let mut vms = vec![beside.clone()];
    merge(&mut vms, vec![ioctls(1), ioctls(2)]);
    assert_eq!(vms, [ioctls(1), VmTick { ioctls: ioctls(2).ioctls, ..beside }]);
}
