//! Kernel stacks: what every CPU counted since it was told last, by VM and stack.

use super::seen::Seen;
use crate::{
    model::{
        ids::VmId,
        stack::{Frame, MAX_STACKS, StackOf, StackTick},
    },
    source::live::{identity::Identities, memory::Memory},
};
use kvmscope_shared::stacks::{FRAMES, PLACES, Stack, Stacks};
use std::{cmp::Reverse, collections::BTreeMap};

/// Whose a stack is.
pub trait Whose {
    /// The VM of a stack's thread.
    fn vm(&self, stack: &Stack) -> Option<VmId>;
}

/// What slots and identities know.
pub struct Known<'a> {
    /// By slot.
    pub seen: &'a [Option<Seen>],
    /// By process.
    pub who: &'a Identities,
}

impl Whose for Known<'_> {
    fn vm(&self, stack: &Stack) -> Option<VmId> {
        // Slot 0 is nobody's.
        let seen = self.seen.get(stack.slot as usize).and_then(Option::as_ref);
        seen.filter(|seen| seen.generation == stack.generation)
            .map(|seen| seen.key.vm)
            .or_else(|| self.who.only_vm_of_process(stack.tgid))
    }
}

/// The stacks of all CPUs as they were told last.
#[derive(Default)]
pub struct SeenStacks {
    cpus: Vec<SeenCpu>,
}

struct SeenCpu {
    /// Turn and count of each place, and whose it is once that was known.
    places: Box<[(u32, u64, Option<VmId>); PLACES]>,
    other: u64,
    /// What "other" has to tell yet; below zero is what was told by stack before.
    balance: i64,
}

impl Default for SeenCpu {
    fn default() -> Self {
        Self { places: Box::new([(0, 0, None); PLACES]), other: 0, balance: 0 }
    }
}

/// Calls by process, VM and stack.
type Calls = BTreeMap<(Option<VmId>, u32, Vec<u64>), u64>;

impl SeenStacks {
    /// What was called since the last time, most calls first, and calls that are left out of it.
    pub fn advance(
        &mut self,
        memory: &dyn Memory,
        of: StackOf,
        whose: &dyn Whose,
    ) -> (Vec<StackTick>, u64) {
        self.cpus.resize_with(memory.cpus() as usize, SeenCpu::default);
        let (mut calls, mut left_out) = (Calls::new(), 0u64);
        for (cpu, seen) in (0..).zip(&mut self.cpus) {
            // Twice, as a place may be given to another stack meanwhile.
            let (first, second) = (memory.stacks(cpu), memory.stacks(cpu));
            left_out = left_out.saturating_add(seen.advance(&first, &second, whose, &mut calls));
        }
        let tick = |((vm, pid, frames), count): ((_, _, Vec<u64>), _)| {
            let frame = |address| Frame { address, symbol: String::new() };
            StackTick { of, vm, pid, count, frames: frames.into_iter().map(frame).collect() }
        };
        let mut stacks: Vec<StackTick> = calls.into_iter().map(tick).collect();
        stacks.sort_by_key(|stack| Reverse(stack.count));
        for stack in stacks.drain(MAX_STACKS.min(stacks.len())..) {
            left_out = left_out.saturating_add(stack.count);
        }
        (stacks, left_out)
    }
}

impl SeenCpu {
    /// Adds what a CPU counted; answers with calls that have no stack.
    fn advance(
        &mut self,
        first: &Stacks,
        second: &Stacks,
        whose: &dyn Whose,
        calls: &mut Calls,
    ) -> u64 {
        for ((before, now), told) in first.places.iter().zip(&second.places).zip(&mut *self.places)
        {
            if told.0 != now.turn && told.0 != now.turn.wrapping_sub(now.turn % 2) {
                // Its "other" has these in it, now or in a moment.
                self.balance = self.balance.saturating_sub_unsigned(told.1);
                *told = (now.turn, 0, None);
            }
            if before.turn != now.turn || now.turn % 2 != 0 || now.hash == 0 {
                continue;
            }
            told.0 = now.turn;
            let count = now.count.saturating_sub(std::mem::replace(&mut told.1, now.count));
            if count == 0 {
                continue;
            }
            told.2 = told.2.or_else(|| whose.vm(now));
            let frames: Vec<u64> = now.frames.iter().copied().take_while(|at| *at != 0).collect();
            let depth = frames.len().min(now.depth as usize).min(FRAMES);
            let stack = frames.get(..depth).unwrap_or_default().to_vec();
            let sum = calls.entry((told.2, now.tgid, stack)).or_default();
            *sum = sum.saturating_add(count);
        }
        // Read before the places: who lost one after that is owed for until the next look.
        let grown = first.other.saturating_sub(std::mem::replace(&mut self.other, first.other));
        self.balance = self.balance.saturating_add_unsigned(grown);
        let tell = self.balance.max(0);
        self.balance -= tell;
        tell.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvmscope_shared::stacks::{Caller, Table, note};
    use proptest::prelude::*;

    /// One CPU, and what the probe does on it.
    struct Plain(Box<Stacks>);

    impl Table for Plain {
        fn place(&mut self, number: u64) -> &mut Stack {
            &mut self.0.places[number as usize]
        }
        fn turn(&mut self, number: u64, turn: u32) {
            self.place(number).turn = turn;
        }
        fn other(&mut self) -> &mut u64 {
            &mut self.0.other
        }
        fn frame(&self, number: usize) -> u64 {
            self.0.scratch[number]
        }
    }

    impl Plain {
        fn call(&mut self, from: u64, tgid: u32) {
            self.0.scratch[..2].copy_from_slice(&[0x1000, from]);
            let whose = u64::from(tgid);
            note(self, Caller { tgid, slot: 0, generation: 0, depth: 2, whose });
        }
    }

    struct Even;

    impl Whose for Even {
        fn vm(&self, stack: &Stack) -> Option<VmId> {
            stack.tgid.is_multiple_of(2).then_some(VmId(stack.tgid))
        }
    }

    fn look(seen: &mut SeenCpu, now: &Stacks) -> (Calls, u64) {
        let mut calls = Calls::new();
        let other = seen.advance(now, now, &Even, &mut calls);
        (calls, other)
    }

    #[test]
    fn each_look_has_what_came_since_the_last() {
        let (mut cpu, mut seen) = (Plain(Box::default()), SeenCpu::default());
        cpu.call(0x20, 4);
        cpu.call(0x20, 4);
        cpu.call(0x30, 5);
        let (calls, other) = look(&mut seen, &cpu.0);
        let of = |vm, pid, from| (vm, pid, vec![0x1000, from]);
        let all = Calls::from([(of(Some(VmId(4)), 4, 0x20), 2), (of(None, 5, 0x30), 1)]);
        assert_eq!((calls, other), (all, 0));
        assert_eq!(look(&mut seen, &cpu.0), (Calls::new(), 0));
        cpu.call(0x20, 4);
        assert_eq!(look(&mut seen, &cpu.0).0, Calls::from([(of(Some(VmId(4)), 4, 0x20), 1)]));
    }

    #[test]
    fn a_place_that_is_being_written_waits() {
        let (mut cpu, mut seen) = (Plain(Box::default()), SeenCpu::default());
        cpu.call(0x20, 4);
        let mut writing = cpu.0.clone();
        let place = writing.places.iter_mut().find(|place| place.hash != 0).expect("taken");
        place.turn -= 1;
        assert_eq!(look(&mut seen, &writing), (Calls::new(), 0));
        assert_eq!(look(&mut seen, &cpu.0).0.values().sum::<u64>(), 1);
    }

    proptest! {
        #[test]
        fn looks_add_up_to_all_calls(
            rounds in proptest::collection::vec(
                proptest::collection::vec((0u64..120, 0u32..3), 0..300), 1..8),
        ) {
            let (mut cpu, mut seen) = (Plain(Box::default()), SeenCpu::default());
            let (mut made, mut told) = (0, 0);
            for round in rounds {
                for (from, tgid) in round {
                    cpu.call(from + 1, tgid);
                    made += 1;
                }
                let (calls, other) = look(&mut seen, &cpu.0);
                told += calls.values().sum::<u64>() + other;
            }
            prop_assert_eq!(told as i64 + seen.balance, made);
        }
    }
}
