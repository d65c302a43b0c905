//! The numbers of one side: rates, shares, quantiles.

use super::{Side, Sums};
use crate::model::ids::{Kind, Reason};
use crate::model::stats::Sum;
use crate::model::tick::PhaseTimes;
use crate::model::totals::{VcpuTotals, VmTotals};
use crate::state::rows::Split;

/// What a reason, or all exits of one kind together, came to.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Numbers {
    /// Exits that began.
    pub count: u64,
    /// Exits that ended, which are those that were timed.
    pub timed: u64,
    /// Exits per second.
    pub rate: f64,
    /// Share (0 to 1) of the exits of its kind.
    pub of_exits: f64,
    /// Exit time, ns per second; see [`exit_time_ns`].
    pub time: f64,
    /// Exit time as a share (0 to 1) of wall time, of all vCPUs that it is about.
    pub of_time: f64,
    /// Median handling time, ns; `None` when nothing was timed.
    pub p50_ns: Option<u64>,
    /// 99th percentile of the handling time, ns.
    pub p99_ns: Option<u64>,
    /// Largest handling time, ns.
    pub max_ns: Option<u64>,
}

/// What a VM or a vCPU came to.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Load {
    /// Its kernel exits; where there are none on either side, its userspace exits. Quantiles leave out what
    /// is idle.
    pub numbers: Numbers,
    /// Userspace exits per second.
    pub user_rate: f64,
    /// vCPUs.
    pub vcpus: usize,
    /// Where wall time went.
    pub split: Split,
}

/// The time of exits in which a vCPU does not get on because of them, ns. Of a kernel exit it is its handling time
/// and its time in the VMM, of a userspace exit all its time outside KVM_RUN. What is idle has no more of it than
/// KVM's own handling, which is polling for the most part: the rest of a halt costs nobody anything.
pub fn exit_time_ns(reason: Reason, sum: &Sum) -> u64 {
    match (reason.kind, reason.is_idle()) {
        (Kind::Exit, false) => sum.total_ns.saturating_add(sum.vmm_ns),
        (Kind::Exit, true) | (Kind::Userspace, false) => sum.total_ns,
        (Kind::Userspace, true) => sum.total_ns.saturating_sub(sum.off_ns),
    }
}

/// Begin and end of a measurement, ns of the probes' clock.
pub fn span(side: &Side<'_>) -> (u64, u64) {
    let until = side.totals.end_ns;
    (until.saturating_sub(side.measured_ns.saturating_add(side.gaps_ns())), until)
}

/// When a VM was there.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    side: &'a Side<'a>,
    from_ns: u64,
    until_ns: u64,
    /// How much of that was measured, ns.
    pub ns: u64,
}

impl<'a> Present<'a> {
    /// From the start of its VMM to its end, as far as that was measured.
    pub fn of_vm(side: &'a Side<'a>, vm: &VmTotals) -> Self {
        let session = side.session;
        let (begin, end) = span(side);
        let started = match vm.info.started_unix_ns {
            0 => 0,
            unix => session.started_ns.saturating_add(unix).saturating_sub(session.started_unix_ns),
        };
        let from_ns = started.max(begin);
        let until_ns = vm.ended_ns.unwrap_or(end).min(end);
        Self { side, from_ns, until_ns, ns: measured(side, from_ns, until_ns) }
    }

    /// The same of one of its vCPUs, ns.
    pub fn of_vcpu(&self, vcpu: &VcpuTotals) -> u64 {
        let until = vcpu.ended_ns.unwrap_or(self.until_ns).min(self.until_ns);
        measured(self.side, self.from_ns, until)
    }
}

/// How much was measured of a stretch. Times of processes are rough (hundredths of a second): where they leave
/// nothing, all that was measured stands in.
fn measured(side: &Side<'_>, from_ns: u64, until_ns: u64) -> u64 {
    let gap = |&(from, until): &(u64, u64)| until.min(until_ns).saturating_sub(from.max(from_ns));
    let gaps = side.gaps.iter().map(gap).fold(0, u64::saturating_add);
    match until_ns.saturating_sub(from_ns).saturating_sub(gaps) {
        0 => side.measured_ns,
        ns => ns.min(side.measured_ns),
    }
}

/// One side of a VM or a vCPU.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its reasons.
    pub sums: Sums,
    present_ns: u64,
    wall_ns: u64,
    time: PhaseTimes,
    vcpus: usize,
}

impl Seen {
    /// These vCPUs together, which were there for so long.
    pub fn new(vcpus: &[&VcpuTotals], present_ns: u64) -> Self {
        let mut seen = Self { present_ns, vcpus: vcpus.len(), ..Self::default() };
        for vcpu in vcpus {
            seen.time.add(&vcpu.time);
            let known = vcpu.time.sum();
            let wall = if known == 0 { present_ns } else { known };
            seen.wall_ns = seen.wall_ns.saturating_add(wall);
            for (&reason, sum) in &vcpu.cells {
                seen.sums.entry(reason).or_default().merge(sum);
            }
        }
        seen
    }

    /// How long it was there, ns.
    pub fn present_ns(&self) -> u64 {
        self.present_ns
    }

    /// Whether there were exits of a kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.sums.iter().any(|(reason, sum)| reason.kind == kind && sum.count > 0)
    }

    /// Whether there were exits of a reason. One that only ended in it began before.
    pub fn met(&self, reason: Reason) -> bool {
        self.sums.get(&reason).is_some_and(|sum| sum.count > 0 || sum.timed() > 0)
    }

    fn per_second(&self, n: u64) -> f64 {
        if self.present_ns == 0 { 0.0 } else { n as f64 * 1e9 / self.present_ns as f64 }
    }

    fn of_wall(&self, ns: u64) -> f64 {
        if self.wall_ns == 0 { 0.0 } else { ns as f64 / self.wall_ns as f64 }
    }

    fn count(&self, kind: Kind) -> u64 {
        let alike = self.sums.iter().filter(|(reason, _)| reason.kind == kind);
        alike.map(|(_, sum)| sum.count).fold(0, u64::saturating_add)
    }

    /// The numbers of a reason; zeros where it was not met.
    pub fn numbers(&self, reason: Reason) -> Numbers {
        let Some(sum) = self.sums.get(&reason) else { return Numbers::default() };
        let all = self.count(reason.kind);
        let time_ns = exit_time_ns(reason, sum);
        Numbers {
            of_exits: if all == 0 { 0.0 } else { sum.count as f64 / all as f64 },
            ..self.of_sum(sum, time_ns)
        }
    }

    fn of_sum(&self, sum: &Sum, time_ns: u64) -> Numbers {
        Numbers {
            count: sum.count,
            timed: sum.timed(),
            rate: self.per_second(sum.count),
            of_exits: if sum.count == 0 { 0.0 } else { 1.0 },
            time: self.per_second(time_ns),
            of_time: self.of_wall(time_ns),
            p50_ns: sum.quantile(0.5),
            p99_ns: sum.quantile(0.99),
            max_ns: (sum.timed() > 0).then_some(sum.max_ns),
        }
    }

    /// All exits of a kind together, and where the time went.
    pub fn load(&self, kind: Kind) -> Load {
        let (mut work, mut all, mut time_ns) = (Sum::default(), Sum::default(), 0u64);
        for (&reason, sum) in self.sums.iter().filter(|(reason, _)| reason.kind == kind) {
            time_ns = time_ns.saturating_add(exit_time_ns(reason, sum));
            all.count = all.count.saturating_add(sum.count);
            if !reason.is_idle() {
                work.merge(sum);
            }
        }
        work.count = all.count;
        Load {
            numbers: self.of_sum(&work, time_ns),
            user_rate: self.per_second(self.count(Kind::Userspace)),
            vcpus: self.vcpus,
            split: Split(self.time),
        }
    }
}
