//! Culprits in a tick.

use super::*;
use kvmscope_shared::waits::Run;

impl World {
    /// A slot's thread waited `ns` while process `tgid` ran.
    fn waits(&mut self, index: u32, tgid: u32, ns: u64) {
        let waits = &mut self.memory.waits[index as usize];
        waits.count += 1;
        waits.total_ns += ns;
        let run = Run { start_ns: 1, tid: tgid, tgid, comm: *b"somebody\0\0\0\0\0\0\0\0" };
        let place = waits.place(tgid);
        let now = waits.total_ns;
        waits.other_ns += waits.culprits[place].charge(&run, ns, now);
        self.memory.at(index).events += 1;
    }
}

fn told(tick: &Tick, key: VcpuKey) -> Vec<(u32, Option<VmId>, u64)> {
    of(tick, key).culprits.iter().map(|c| (c.pid, c.vm, c.ns)).collect()
}

#[test]
fn culprits_come_with_their_vm_and_only_once() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.waits(1, 7, 400);
    world.waits(1, 90, 500);
    let tick = world.tick(1);
    assert_eq!(told(&tick, vcpu(0)), [(90, None, 500), (7, Some(VmId(1)), 400)]);
    world.waits(1, 7, 50);
    assert_eq!(told(&world.tick(2), vcpu(0)), [(7, Some(VmId(1)), 50)]);
}

#[test]
fn a_slot_that_is_used_again_begins_anew() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.waits(1, 90, 500);
    world.tick(1);
    world.waits(1, 90, 30);
    world.memory.retire(1, SECOND + 1);
    assert_eq!(told(&world.tick(2), vcpu(0)), [(90, None, 30)], "what came at the end");
    world.memory.claim(1, 1, 2 * SECOND);
    world.waits(1, 90, 20);
    assert_eq!(told(&world.tick(3), vcpu(1)), [(90, None, 20)]);
}

#[test]
fn threads_of_one_vcpu_are_added_up() {
    let mut world = World::new();
    world.memory.claim(1, 0, 0);
    world.memory.claim(2, 0, 0);
    world.waits(1, 90, 500);
    world.waits(2, 90, 30);
    assert_eq!(told(&world.tick(1), vcpu(0)), [(90, None, 530)]);
}
