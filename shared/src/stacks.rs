//! Kernel stacks at one function, counted (family `roots`).
//!
//! One [`Stacks`] for each CPU, which writes it alone. A stack has a set of [`WAYS`] places; where it is
//! full, a newcomer takes one point of the score of the one that has least, and a stack without points gives
//! its place, with its count added to [`Stacks::other`]. So places and other add up to all calls.
//!
//! Not a stack map of the kernel's: those cannot be mapped, and reading them by system calls makes the kernel
//! skip other programs on that CPU meanwhile.

use crate::zeroed;

/// Frames that are kept of a stack, innermost first.
pub const FRAMES: usize = 24;
/// Places of a set.
pub const WAYS: usize = 4;
/// Sets.
pub const SETS: usize = 16;
/// Places.
pub const PLACES: usize = WAYS * SETS;
/// Most points that a stack can have.
const SCORE_MAX: u32 = 1024;

/// One stack of one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stack {
    /// Counts up before and after the place is given to another stack: odd while it is written.
    pub turn: u32,
    /// What keeps it its place.
    pub score: u32,
    /// Hash of its frames and of whose it is; 0 of a place that was never used.
    pub hash: u64,
    /// Calls.
    pub count: u64,
    /// Thread group that called.
    pub tgid: u32,
    /// Slot of the vCPU's thread that called first, or 0.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// Frames that are known; more than [`FRAMES`] are cut off.
    pub depth: u32,
    /// Addresses, the function itself first; 0 after the last.
    pub frames: [u64; FRAMES],
}

/// The stacks of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Stacks {
    /// Sets of places.
    pub places: [Stack; PLACES],
    /// Calls of stacks that have no place, or whose place was given away.
    pub other: u64,
    /// Where the kernel writes a stack.
    pub scratch: [u64; FRAMES],
}

const NO_STACK: Stack = Stack {
    turn: 0,
    score: 0,
    hash: 0,
    count: 0,
    tgid: 0,
    slot: 0,
    generation: 0,
    depth: 0,
    frames: [0; FRAMES],
};

zeroed!(Stack, NO_STACK);
zeroed!(Stacks, Self { places: [NO_STACK; PLACES], other: 0, scratch: [0; FRAMES] });

const _: () = assert!(size_of::<Stack>() == 40 + 8 * FRAMES);
const _: () = assert!(SETS.is_power_of_two() && PLACES.is_power_of_two());

/// Fibonacci hashing's factor: the upper bits depend on all below.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A CPU's stacks, and the one that calls.
pub trait Table {
    /// A place, below [`PLACES`].
    fn place(&mut self, number: u64) -> &mut Stack;
    /// Sets [`Stack::turn`] of a place; no store before or after it changes sides.
    fn turn(&mut self, number: u64, turn: u32);
    /// [`Stacks::other`].
    fn other(&mut self) -> &mut u64;
    /// A frame of the stack that calls.
    fn frame(&self, number: usize) -> u64;
}

/// Whose stack it is: [`Stack::tgid`], [`Stack::slot`], [`Stack::generation`], [`Stack::depth`].
#[derive(Clone, Copy)]
pub struct Caller {
    /// Thread group.
    pub tgid: u32,
    /// Slot, or 0.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// Frames.
    pub depth: u32,
    /// What tells its VM from others.
    pub whose: u64,
}

/// Counts a call.
#[inline(always)]
pub fn note(table: &mut impl Table, caller: Caller) {
    let mut hash = caller.whose.wrapping_mul(FACTOR);
    for number in 0..FRAMES {
        hash = (hash ^ hash >> 29 ^ table.frame(number)).wrapping_mul(FACTOR);
    }
    let hash = hash | 1;
    const { assert!(SETS == 16, "four bits of the hash are taken") };
    let first = (hash >> 60) * WAYS as u64;
    let (mut weakest, mut least) = (first, u32::MAX);
    for way in 0..WAYS as u64 {
        let stack = table.place(first + way);
        if stack.hash == hash {
            stack.count += 1;
            if stack.score < SCORE_MAX {
                stack.score += 1;
            }
            return;
        }
        if stack.score < least {
            (weakest, least) = (first + way, stack.score);
        }
    }
    if least > 0 {
        table.place(weakest).score = least - 1;
        *table.other() += 1;
        return;
    }
    let Stack { turn, count, .. } = *table.place(weakest);
    *table.other() += count;
    table.turn(weakest, turn.wrapping_add(1));
    for number in 0..FRAMES {
        let frame = table.frame(number);
        table.place(weakest).frames[number] = frame;
    }
    let stack = table.place(weakest);
    stack.score = 1;
    stack.hash = hash;
    stack.count = 1;
    stack.tgid = caller.tgid;
    stack.slot = caller.slot;
    stack.generation = caller.generation;
    stack.depth = caller.depth;
    table.turn(weakest, turn.wrapping_add(2));
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;

    struct Plain {
        stacks: Box<Stacks>,
        calls: u64,
    }

    impl Table for Plain {
        fn place(&mut self, number: u64) -> &mut Stack {
            &mut self.stacks.places[number as usize]
        }
        fn turn(&mut self, number: u64, turn: u32) {
            self.place(number).turn = turn;
        }
        fn other(&mut self) -> &mut u64 {
            &mut self.stacks.other
        }
        fn frame(&self, number: usize) -> u64 {
            self.stacks.scratch[number]
        }
    }

    impl Plain {
        fn new() -> Self {
            Self { stacks: Box::default(), calls: 0 }
        }

        fn call(&mut self, from: u64, whose: u64) {
            self.stacks.scratch[0] = 0xffff_ffff_8100_0000;
            self.stacks.scratch[1] = from;
            self.calls += 1;
            let caller = Caller { tgid: whose as u32, slot: 1, generation: 2, depth: 2, whose };
            note(self, caller);
        }

        fn of(&self, from: u64) -> Option<&Stack> {
            self.stacks.places.iter().find(|stack| stack.hash != 0 && stack.frames[1] == from)
        }
    }

    #[test]
    fn few_stacks_are_exact_and_whole() {
        let mut table = Plain::new();
        for round in 0..50 {
            table.call(0x100, 7);
            table.call(0x200, 7);
            if round % 2 == 0 {
                table.call(0x100, 8);
            }
        }
        let seen: std::vec::Vec<_> =
            table.stacks.places.iter().filter(|stack| stack.hash != 0).collect();
        assert_eq!(seen.len(), 3, "another VM's stack is another");
        assert!(seen.iter().all(|stack| stack.turn == 2 && stack.depth == 2));
        let of = |tgid, from| {
            seen.iter().find(|s| s.tgid == tgid && s.frames[1] == from).map(|s| s.count)
        };
        assert_eq!((of(7, 0x100), of(7, 0x200), of(8, 0x100)), (Some(50), Some(50), Some(25)));
        assert_eq!(table.stacks.other, 0);
    }

    #[test]
    fn what_comes_often_keeps_its_place_in_a_flood() {
        let mut table = Plain::new();
        for from in 0..20_000 {
            table.call(0x1_0000 + from, 7);
            table.call(0x42, 7);
        }
        let hot = table.of(0x42).expect("has a place");
        assert_eq!(hot.count, 20_000);
    }

    proptest! {
        #[test]
        fn places_and_other_are_all_calls(calls in proptest::collection::vec((0u64..200, 0u64..3), 0..2_000)) {
            let mut table = Plain::new();
            for (from, whose) in calls {
                table.call(from, whose);
            }
            let kept: u64 = table.stacks.places.iter().map(|stack| stack.count).sum();
            prop_assert_eq!(kept + table.stacks.other, table.calls);
            prop_assert!(table.stacks.places.iter().all(|stack| stack.turn % 2 == 0));
        }
    }
}
