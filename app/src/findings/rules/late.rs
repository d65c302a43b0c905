//! Timers that reach the guest late: its clock events come when they are due no more.

use super::{Found, Look, over, part, per_second};
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::tick::Phase;
use crate::state::value::{count, rate, share};

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    look.vm.vcpus.iter().filter_map(|vcpu| found(look, vcpu)).collect()
}

fn found(look: &Look<'_>, vcpu: &VcpuFacts) -> Option<Found> {
    let wall_ns = look.wall_ns(vcpu);
    let per_s = per_second(vcpu.meters.late, wall_ns);
    over(per_s, look.limits.late_timers_per_second)?;
    let mean = part(vcpu.meters.late_ticks, vcpu.meters.late);
    let size = over(mean, look.limits.late_timer_ticks)?;
    let ticks = count(mean as u64);
    let text =
        format!("gets {} timers a second late, by {ticks} TSC ticks on average", rate(per_s));
    let waited = part(vcpu.time.get(Phase::Preempted), vcpu.time.sum());
    let evidence = vec![
        format!("{} late timers", count(vcpu.meters.late)),
        format!("waited {} of the time for a CPU", share(waited)),
    ];
    let next = "A vCPU that waits for its CPU gets its timers late: the tab Time (6) shows the wait and who had \
                the CPU. Else see that its host CPU is not in a deep idle state."
        .to_owned();
    let finding = look.about(vcpu, "late-timers", Weight::Medium, &text);
    Some(Found { size, finding: Finding { evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::MeterFacts;
    use crate::findings::testing::{MS, Vm, rules, texts};
    use crate::model::tick::Phase;

    fn late(late: u64, ticks: u64) -> Vm {
        let meters = MeterFacts { late, late_ticks: late * ticks, ..MeterFacts::default() };
        Vm::new("web-7")
            .vcpu(&[(Phase::Guest, 930 * MS), (Phase::Preempted, 70 * MS)])
            .meters(meters)
    }

    #[test]
    fn many_that_are_very_late_are_found() {
        let found = &rules(&late(10, 2_000_000).facts(), "late-timers")[0];
        assert_eq!(
            found.text,
            "web-7: vCPU 0 gets 10 timers a second late, by 2.0M TSC ticks on average"
        );
        assert_eq!(found.evidence, ["10 late timers", "waited 7.0% of the time for a CPU"]);
    }

    #[test]
    fn few_and_a_little_late_are_not() {
        assert!(texts(&late(9, 2_000_000).facts(), "late-timers").is_empty());
        assert!(texts(&late(1_000, 999_999).facts(), "late-timers").is_empty());
        assert!(texts(&late(0, 0).facts(), "late-timers").is_empty());
    }
}
