//! What the guest and its VMM measure themselves while they run.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::code::Vars;

/// Times of one vCPU, in ns, from just before its first KVM_RUN to the end of its work (the last
/// return of KVM_RUN and what was done then).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// That whole time, by the VMM's clock.
    pub wall_ns: u64,
    /// Inside KVM_RUN, by the VMM's clock.
    pub run_ns: u64,
    /// Outside KVM_RUN: the rest of `wall_ns`.
    pub vmm_ns: u64,
    /// The part of `vmm_ns` that the VMM slept: as asked for, and between rounds.
    pub vmm_asleep_ns: u64,
    /// CPU time of its threads, and `None` where the kernel does not tell.
    pub cpu_ns: Option<u64>,
    /// Growth of `run_delay` of its threads (`/proc/thread-self/schedstat`): made ready, or
    /// preempted, and waiting for a CPU.
    pub waiting_ns: Option<u64>,
    /// By the guest's clock, from before each halt inside KVM to after it.
    pub halted_ns: u64,
    /// By the guest's clock, from the beginning to the end of its computing without exits.
    pub spun_ns: u64,
    /// The part of `spun_ns` that the guest ran: without the steps of its clock from 20 µs on.
    pub guest_ns: u64,
    /// By the guest's clock, how long it stayed on one instruction.
    pub looped_ns: u64,
}

/// A step of the guest's clock, while it does nothing but read it, after which it counts as not
/// having run.
pub const GAP: Duration = Duration::from_micros(20);

/// How many ticks of a clock of `khz` a time lasts, at most what the guest can count.
pub fn ticks(time: Duration, khz: u32) -> u32 {
    let ticks = time.as_micros() * u128::from(khz) / 1000;
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// How long so many ticks of a clock of `khz` last, in ns; 0 where the rate is not known.
fn ticks_ns(ticks: u64, khz: u32) -> u64 {
    let ns = u128::from(ticks) * 1_000_000;
    ns.checked_div(u128::from(khz)).map_or(0, |ns| u64::try_from(ns).unwrap_or(u64::MAX))
}

/// CPU time and run-queue wait of this thread so far, in ns, as of `schedstat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sched {
    cpu: u64,
    waiting: u64,
}

impl Sched {
    /// `None` where the kernel is built without CONFIG_SCHED_INFO.
    fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    /// "time on CPU, time waiting, number of times on a CPU" (Documentation/scheduler/
    /// sched-stats.rst).
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace().map(str::parse);
        Some(Self { cpu: fields.next()?.ok()?, waiting: fields.next()?.ok()? })
    }
}

/// The VMM's clock over one vCPU. Its methods are called by the thread that runs the vCPU.
#[derive(Debug, Default)]
pub struct Watch {
    first: Option<Instant>,
    last: Option<Instant>,
    entered: Option<Instant>,
    run: Duration,
    asleep: Duration,
    thread: Option<Sched>,
    grown: Sched,
    unknown: bool,
}

impl Watch {
    /// This thread is about to run the vCPU.
    pub fn on_thread(&mut self) {
        self.thread = Sched::now();
        self.unknown |= self.thread.is_none();
        self.first.get_or_insert_with(Instant::now);
    }

    /// This thread does not run it any more, or not for now.
    pub fn off_thread(&mut self) {
        self.last = Some(Instant::now());
        if let (Some(before), Some(now)) = (self.thread.take(), Sched::now()) {
            self.grown.cpu += now.cpu.saturating_sub(before.cpu);
            self.grown.waiting += now.waiting.saturating_sub(before.waiting);
        }
    }

    /// KVM_RUN is called now.
    pub fn enters(&mut self) {
        self.entered = Some(Instant::now());
    }

    /// KVM_RUN has come back now.
    pub fn left(&mut self) {
        if let Some(entered) = self.entered.take() {
            self.run += entered.elapsed();
        }
    }

    /// The VMM slept from `since` until now.
    pub fn slept(&mut self, since: Instant) {
        self.asleep += since.elapsed();
    }

    /// What it came to; `khz` is the rate of the guest's clock.
    pub fn measured(&self, vars: &Vars, khz: u32) -> Measured {
        let wall = match (self.first, self.last) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        };
        Measured {
            wall_ns: nanos(wall),
            run_ns: nanos(self.run),
            vmm_ns: nanos(wall.saturating_sub(self.run)),
            vmm_asleep_ns: nanos(self.asleep),
            cpu_ns: (!self.unknown).then_some(self.grown.cpu),
            waiting_ns: (!self.unknown).then_some(self.grown.waiting),
            halted_ns: ticks_ns(vars.halted, khz),
            spun_ns: ticks_ns(vars.spun, khz),
            guest_ns: ticks_ns(vars.guest, khz),
            looped_ns: ticks_ns(vars.looped, khz),
        }
    }
}

/// Nanoseconds, at most the largest number.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_time_times_rate() {
        assert_eq!(ticks(Duration::from_micros(250), 2_000_000), 500_000);
        assert_eq!(ticks(Duration::ZERO, 2_000_000), 0);
        assert_eq!(ticks(Duration::from_secs(3600), 4_000_000), u32::MAX);
        assert_eq!(ticks_ns(500_000, 2_000_000), 250_000);
        assert_eq!(ticks_ns(u64::MAX, 1), u64::MAX);
        assert_eq!(ticks_ns(500_000, 0), 0, "a clock of unknown rate");
    }

    #[test]
    fn schedstat_is_read() {
        let sched = Sched::parse("1200 34 5\n").expect("read");
        assert_eq!(sched, Sched { cpu: 1200, waiting: 34 });
        assert_eq!(Sched::parse("1200"), None);
    }

    #[test]
    fn what_is_not_inside_is_outside() {
        let begin = Instant::now();
        let watch = Watch {
            first: Some(begin),
            last: Some(begin + Duration::from_millis(10)),
            run: Duration::from_millis(4),
            asleep: Duration::from_millis(5),
            grown: Sched { cpu: 1, waiting: 2 },
            ..Watch::default()
        };
        let vars = Vars { halted: 3000, ..Vars::default() };
        let measured = watch.measured(&vars, 1_000_000);
        assert_eq!((measured.wall_ns, measured.run_ns), (10_000_000, 4_000_000));
        assert_eq!((measured.vmm_ns, measured.vmm_asleep_ns), (6_000_000, 5_000_000));
        assert_eq!((measured.cpu_ns, measured.waiting_ns), (Some(1), Some(2)));
        assert_eq!(measured.halted_ns, 3000);
        let unknown = Watch { unknown: true, ..watch }.measured(&vars, 1_000_000);
        assert_eq!((unknown.cpu_ns, unknown.waiting_ns), (None, None));
    }
}
