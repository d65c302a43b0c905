//! An idle guest that burns host CPU by halt polling: KVM spins for a while before it lets a halted
//! vCPU sleep, and handles a HLT and a wake-up each time.

use super::{Found, Look, over, part, per_second};
use crate::findings::{Finding, Weight};
use crate::model::detail::Halts;
use crate::model::ids::Kind;
use crate::model::tick::Phase;
use crate::state::value::{duration, rate, share};

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    found(look).into_iter().collect()
}

fn found(look: &Look<'_>) -> Option<Found> {
    let guest = look.idle_guest_share()?;
    let wall_ns = look.vm_wall_ns();
    let polling_ns = look.time().get(Phase::Polling);
    let halts = look.vm.vcpus.iter().flat_map(|vcpu| &vcpu.reasons);
    // A HLT that the VMM answers is no polling: its time is that of the VMM.
    let halts = halts.filter(|of| of.reason.is_idle() && of.reason.kind == Kind::Exit);
    let (mut exits, mut handling_ns, mut reason) = (0u64, 0u64, None);
    for halt in halts {
        exits = exits.saturating_add(halt.count);
        handling_ns = handling_ns.saturating_add(halt.total_ns);
        reason = reason.or(Some(halt.reason));
    }
    // The handling time of a HLT on the CPU has its polling in it.
    let burnt_ns = polling_ns.max(handling_ns);
    let cpu = part(burnt_ns, wall_ns);
    let size = over(cpu * 100.0, look.limits.idle_polling_cpu_percent)?;
    let mut woken = Halts::default();
    look.vm.vcpus.iter().for_each(|vcpu| woken.add(&vcpu.halts));
    let wakes = woken.polled.saturating_add(woken.waited);
    let text = format!(
        "its guest runs only {} of the time, and halting it takes {} of a CPU, {} of it polling",
        share(guest),
        share(cpu),
        share(part(polling_ns, burnt_ns)),
    );
    let polled_ns = part(polling_ns, wall_ns) * 1e9;
    let evidence = vec![
        format!("{} halts/s", rate(per_second(exits.max(wakes), wall_ns))),
        format!(
            "woken while polling {}/s, asleep {}/s",
            rate(per_second(woken.polled, wall_ns)),
            rate(per_second(woken.waited, wall_ns))
        ),
        format!("polling {} each second", duration(polled_ns as u64)),
    ];
    let next =
        "Lower kvm's halt_poll_ns on the host, or let the guest poll itself (cpuidle-haltpoll); \
                what wakes it so often stands under its timer and interrupt exits (1)."
            .to_owned();
    let finding = look.about_vm("halt-polling", Weight::Medium, text);
    Some(Found { size, finding: Finding { reason, evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{MS, Vm, hlt, rules, texts};
    use crate::model::ids::Reason;
    use crate::model::tick::Phase;

    /// One second of a vCPU that polls for so long and is in the guest for so long.
    fn idle(guest_ms: u64, polling_ms: u64) -> Vm {
        let rest = 1000 - guest_ms - polling_ms;
        Vm::new("idle-win")
            .vcpu(&[
                (Phase::Guest, guest_ms * MS),
                (Phase::Polling, polling_ms * MS),
                (Phase::Blocked, rest * MS),
            ])
            .reason(hlt(), "HLT", 4_000, polling_ms * MS)
            .halts(3_000, 1_000)
    }

    #[test]
    fn an_idle_guest_that_polls_is_found() {
        let facts = idle(20, 100).facts();
        assert_eq!(
            texts(&facts, "halt-polling"),
            [
                "idle-win: its guest runs only 2.0% of the time, and halting it takes 10% of a CPU, 100% of it polling"
            ]
        );
        let finding = &rules(&facts, "halt-polling")[0];
        assert_eq!(
            finding.evidence,
            [
                "4.0k halts/s",
                "woken while polling 3.0k/s, asleep 1.0k/s",
                "polling 100ms each second"
            ]
        );
        assert_eq!(finding.reason, Some(hlt()));
    }

    #[test]
    fn halts_that_the_vmm_answers_are_not() {
        let facts = Vm::new("idle-win")
            .vcpu(&[(Phase::Guest, 20 * MS), (Phase::Blocked, 980 * MS)])
            .reason(hlt(), "HLT", 1, 0)
            .reason(Reason::userspace(5), "HLT", 4_000, 980 * MS);
        assert!(texts(&facts.facts(), "halt-polling").is_empty());
    }

    #[test]
    fn a_little_polling_and_a_busy_guest_are_not() {
        assert!(texts(&idle(20, 99).facts(), "halt-polling").is_empty());
        assert!(texts(&idle(101, 500).facts(), "halt-polling").is_empty());
        assert_eq!(texts(&idle(100, 500).facts(), "halt-polling").len(), 1);
    }
}
