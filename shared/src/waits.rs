//! Who ran while a vCPU's thread waited for a CPU (family `culprits`).
//!
//! Each CPU keeps a short [`History`] of what ran on it. When a vCPU's thread gets its CPU, the wait
//! that ends there is laid over that history, newest run first ([`Walk`]), and each run's part is
//! charged to its thread group ([`Waits::place`], [`Culprit::charge`]). Whatever the history holds,
//! culprits and [`Waits::other_ns`] always add up to [`Waits::total_ns`].
//!
//! All times of one CPU are of its run queue's clock (`rq.clock`), the one that `run_delay` of
//! `/proc/TID/schedstat` is counted with.

use crate::zeroed;

/// Culprits kept for a slot; the first place is the idle task's.
pub const CULPRITS: usize = 16;

/// Runs that a CPU remembers.
pub const RUNS: usize = 64;

/// Place of the idle task among [`Waits::culprits`].
pub const IDLE: usize = 0;

/// How much longer a culprit keeps its place for the time that it ran, so that many small ones do not
/// push out a large one…
const KEEPS: u64 = 64;
/// … and for how long at most, ns, so that one that is gone does go.
const KEPT_NS: u64 = 4_000_000_000;

/// Someone who ran on the CPU that a vCPU waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Culprit {
    /// Its thread group; 0 with `tid` 0 is the idle task.
    pub tgid: u32,
    /// The thread that was seen last.
    pub tid: u32,
    /// Name of that thread.
    pub comm: [u8; 16],
    /// Time it ran while the vCPU waited, ns, since it got its place.
    pub ns: u64,
    /// Waits that it had a part in since then.
    pub count: u64,
    /// When it was charged last, ns of that CPU's run queue; 0 for an unused place.
    pub last_ns: u64,
    /// Until when it keeps its place if another can be had, ns as above.
    pub keep_ns: u64,
}

/// Who a slot's thread waited for. Written by `sched_switch` as the thread gets a CPU, so ordered with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Waits {
    /// The thread's `run_delay` as it was when it got a CPU last, ns, plus one; 0 when that was not
    /// seen yet. What is above it when it gets the next one was waited on other CPUs.
    pub mark_ns: u64,
    /// Waits that ended.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// Part of it that is nobody's below: run before the history that is kept, on another CPU, or
    /// by someone who lost its place.
    pub other_ns: u64,
    /// By thread group; the first place is the idle task's.
    pub culprits: [Culprit; CULPRITS],
}

/// One run of a thread on a CPU. It ends where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Run {
    /// When it began, ns of the run queue's clock; 0 for none.
    pub start_ns: u64,
    /// The thread.
    pub tid: u32,
    /// Its thread group.
    pub tgid: u32,
    /// Its name.
    pub comm: [u8; 16],
}

/// What ran on a CPU lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct History {
    /// Runs that were noted; the next goes to this number modulo [`RUNS`].
    pub noted: u64,
    /// The probe's scratch.
    pub scratch: u64,
    /// The runs.
    pub runs: [Run; RUNS],
}

const NO_CULPRIT: Culprit =
    Culprit { tgid: 0, tid: 0, comm: [0; 16], ns: 0, count: 0, last_ns: 0, keep_ns: 0 };
const NO_RUN: Run = Run { start_ns: 0, tid: 0, tgid: 0, comm: [0; 16] };
zeroed!(Culprit, NO_CULPRIT);
zeroed!(
    Waits,
    Self { mark_ns: 0, count: 0, total_ns: 0, other_ns: 0, culprits: [NO_CULPRIT; CULPRITS] }
);
zeroed!(Run, NO_RUN);
zeroed!(History, Self { noted: 0, scratch: 0, runs: [NO_RUN; RUNS] });

/// A wait that is laid over a history, from its end back to its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    since_ns: u64,
    end_ns: u64,
}

impl Walk {
    /// Over a wait from `since_ns` to `now_ns`; one that would end before it began is empty.
    #[inline(always)]
    pub fn new(since_ns: u64, now_ns: u64) -> Self {
        Self { since_ns, end_ns: if now_ns > since_ns { now_ns } else { since_ns } }
    }

    /// What is left of it, ns: at first all, and at the end what no run covers.
    #[inline(always)]
    pub fn left_ns(&self) -> u64 {
        self.end_ns - self.since_ns
    }

    /// The part of it in which a run had the CPU that began at `start_ns` and ended where the one
    /// before began, or at the wait's end; ns. Takes that part off.
    #[inline(always)]
    pub fn back_to(&mut self, start_ns: u64) -> u64 {
        let start_ns = if start_ns < self.since_ns { self.since_ns } else { start_ns };
        if start_ns >= self.end_ns {
            return 0;
        }
        let ns = self.end_ns - start_ns;
        self.end_ns = start_ns;
        ns
    }
}

impl Waits {
    /// The place of a thread group: its own, or that of the one that keeps its place the shortest.
    /// Below [`CULPRITS`].
    #[inline(always)]
    pub fn place(&self, tgid: u32) -> usize {
        if tgid == 0 {
            return IDLE;
        }
        // Time and place in one number, and its own before all others: the verifier follows one
        // unknown value then, and not each place as a case of its own.
        let mut first = u64::MAX;
        for (i, culprit) in self.culprits.iter().enumerate().skip(1) {
            let mut until = culprit.keep_ns.wrapping_add(1).wrapping_mul(CULPRITS as u64);
            if culprit.tgid == tgid {
                until = 0;
            }
            let until = until | i as u64;
            if until < first {
                first = until;
            }
        }
        first as usize % CULPRITS
    }
}

impl Culprit {
    /// Charges a part of the wait that ends at `now_ns` to the place that [`Waits::place`] named.
    /// Answers with what its owner of before had, if it has to go: that is nobody's now.
    #[inline(always)]
    pub fn charge(&mut self, run: &Run, ns: u64, now_ns: u64) -> u64 {
        let mut evicted = 0;
        if self.tgid != run.tgid {
            evicted = self.ns;
            *self = NO_CULPRIT;
            self.tgid = run.tgid;
        }
        if self.last_ns != now_ns {
            self.last_ns = now_ns;
            self.count += 1;
        }
        self.tid = run.tid;
        self.comm = run.comm;
        self.ns += ns;
        let longer = self.ns.wrapping_mul(KEEPS);
        self.keep_ns = now_ns + if longer > KEPT_NS { KEPT_NS } else { longer };
        evicted
    }
}

const _: () = assert!(size_of::<Culprit>() == 56);
const _: () = assert!(size_of::<Waits>() == 32 + 56 * CULPRITS);
const _: () = assert!(size_of::<Run>() == 32);
const _: () = assert!(size_of::<History>() == 16 + 32 * RUNS);
const _: () = assert!(RUNS.is_power_of_two() && CULPRITS.is_power_of_two());

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn run(start_ns: u64, tgid: u32) -> Run {
        Run { start_ns, tid: tgid + 1, tgid, comm: [tgid as u8; 16] }
    }

    /// What the probe does at the end of a wait, over runs from the newest back.
    fn charge(waits: &mut Waits, runs: &[Run], since: u64, now: u64, elsewhere: u64) {
        let mut walk = Walk::new(since, now);
        waits.count += 1;
        waits.total_ns += walk.left_ns() + elsewhere;
        waits.other_ns += elsewhere;
        for run in runs {
            let ns = walk.back_to(run.start_ns);
            if ns != 0 {
                let place = waits.place(run.tgid);
                waits.other_ns += waits.culprits[place].charge(run, ns, now);
            }
        }
        waits.other_ns += walk.left_ns();
    }

    fn by(waits: &Waits, tgid: u32) -> Option<(u64, u64)> {
        let of = |c: &&Culprit| c.tgid == tgid && c.last_ns != 0;
        waits.culprits.iter().find(of).map(|c| (c.ns, c.count))
    }

    #[test]
    fn each_run_is_charged_its_part_of_the_wait() {
        let mut waits = Waits::default();
        // 100 to 250, 250 to 400, idle to 410, and 400 again: waited from 200 to 500.
        let runs = [run(410, 7), run(400, 0), run(250, 8), run(100, 7), run(50, 9)];
        charge(&mut waits, &runs, 200, 500, 0);
        assert_eq!(by(&waits, 7), Some((90 + 50, 1)), "two runs, one wait");
        assert_eq!(by(&waits, 8), Some((150, 1)));
        assert_eq!((waits.culprits[IDLE].ns, waits.culprits[IDLE].count), (10, 1));
        assert_eq!(by(&waits, 9), None, "ran before");
        assert_eq!((waits.total_ns, waits.other_ns, waits.count), (300, 0, 1));
        charge(&mut waits, &runs, 480, 501, 5);
        assert_eq!(by(&waits, 7), Some((140 + 21, 2)));
        assert_eq!((waits.total_ns, waits.other_ns), (326, 5));
    }

    #[test]
    fn what_history_does_not_reach_is_nobodys() {
        let mut waits = Waits::default();
        charge(&mut waits, &[run(400, 7)], 100, 500, 0);
        assert_eq!((by(&waits, 7), waits.other_ns), (Some((100, 1)), 300));
        charge(&mut waits, &[], 600, 700, 0);
        assert_eq!((waits.other_ns, waits.total_ns), (400, 500));
    }

    #[test]
    fn who_ran_least_and_longest_ago_loses_its_place() {
        let mut waits = Waits::default();
        let now = |tgid: u32| 1_000 * u64::from(tgid);
        for tgid in 1..CULPRITS as u32 {
            charge(&mut waits, &[run(0, tgid)], now(tgid) - 10, now(tgid), 0);
        }
        // The first comes again, so that the second is the oldest now.
        charge(&mut waits, &[run(0, 1)], now(20) - 10, now(20), 0);
        charge(&mut waits, &[run(0, 77)], now(21) - 3, now(21), 0);
        assert_eq!(by(&waits, 1), Some((20, 2)));
        assert_eq!(by(&waits, 2), None);
        assert_eq!(by(&waits, 77), Some((3, 1)));
        assert_eq!(waits.other_ns, 10, "what the second had");
    }

    #[test]
    fn many_small_ones_do_not_push_out_a_large_one_but_time_does() {
        let mut waits = Waits::default();
        charge(&mut waits, &[run(0, 7)], 0, 10_000_000, 0);
        for tgid in 100..200 {
            let now = 10_000_000 + 1_000 * u64::from(tgid);
            charge(&mut waits, &[run(0, tgid)], now - 10, now, 0);
        }
        assert_eq!(by(&waits, 7), Some((10_000_000, 1)));
        for tgid in 300..316 {
            let now = 2 * KEPT_NS + u64::from(tgid);
            charge(&mut waits, &[run(0, tgid)], now - 10, now, 0);
        }
        assert_eq!(by(&waits, 7), None);
    }

    proptest! {
        #[test]
        fn a_walk_gives_every_nanosecond_once(
            since in any::<u64>(),
            now in any::<u64>(),
            starts in proptest::collection::vec(any::<u64>(), 0..40),
        ) {
            let mut walk = Walk::new(since, now);
            let whole = walk.left_ns();
            prop_assert_eq!(whole, now.saturating_sub(since));
            let charged: u64 = starts.iter().map(|start| walk.back_to(*start)).sum();
            prop_assert_eq!(charged + walk.left_ns(), whole);
        }

        #[test]
        fn culprits_and_others_add_up_to_the_total(
            waited in proptest::collection::vec(
                (0u64..50, proptest::collection::vec((0u64..80, 0u32..40), 0..8), 0u64..3),
                1..60,
            ),
        ) {
            let mut waits = Waits::default();
            for (i, (length, runs, elsewhere)) in waited.iter().enumerate() {
                let now = 1_000 + 100 * i as u64;
                let runs: Vec<Run> =
                    runs.iter().map(|(ago, tgid)| run(now - ago, *tgid)).collect();
                charge(&mut waits, &runs, now - length, now, *elsewhere);
                let charged: u64 = waits.culprits.iter().map(|c| c.ns).sum();
                prop_assert_eq!(charged + waits.other_ns, waits.total_ns);
            }
            let names: Vec<u32> =
                waits.culprits[1..].iter().filter(|c| c.last_ns != 0).map(|c| c.tgid).collect();
            let mut once = names.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(names.len(), once.len(), "each has one place");
        }
    }
}
