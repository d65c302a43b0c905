//! Pause-loop spinning: a vCPU waits for a lock by PAUSE, and the hardware ends that after a while.

use super::sums::vm_exits_for;
use super::{Found, Look, over, part, per_second};
use crate::findings::{Finding, Weight};
use crate::model::ids::{Isa, Reason};
use crate::model::tick::Phase;
use crate::state::value::{rate, share};

/// PAUSE_INSTRUCTION and SVM_EXIT_PAUSE.
const PAUSE: [Reason; 2] = [Reason::exit(Isa::Vmx, 40), Reason::exit(Isa::Svm, 0x77)];

/// The share of its time from which on a vCPU's wait for a CPU can be what the others spin for.
const HELD_UP: f64 = 0.02;

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    found(look).into_iter().collect()
}

fn found(look: &Look<'_>) -> Option<Found> {
    let (count, reason) = vm_exits_for(look, &PAUSE);
    let per_s = per_second(count, look.vm_wall_ns());
    let size = over(per_s, look.limits.pause_exits_per_second)?;
    let waits = look
        .vm
        .vcpus
        .iter()
        .map(|vcpu| (vcpu.key.vcpu, part(vcpu.time.get(Phase::Preempted), look.wall_ns(vcpu))));
    let held = waits.filter(|&(_, waited)| waited >= HELD_UP).max_by(|a, b| a.1.total_cmp(&b.1));
    let spins = format!("its vCPUs spin: {} exits a second for PAUSE", rate(per_s));
    let (weight, text, next) = match held {
        Some((vcpu, waited)) => (
            Weight::Medium,
            format!(
                "{spins}, while vCPU {vcpu} waited {} of the time for a CPU; who waits may hold the lock",
                share(waited)
            ),
            "Fewer vCPUs than CPUs, or no sharing of CPUs among them; paravirtual spinlocks in the \
             guest (kvm-pv-unhalt, hv-spinlocks). The tab Time (6) shows who waits.",
        ),
        None => (
            Weight::Low,
            format!(
                "{spins}, and none of them waits for a CPU: the lock is contended in the guest"
            ),
            "Enter on the reason shows the guest code that spins (RIP).",
        ),
    };
    let finding = look.about_vm("pause-loop", weight, text);
    let evidence = vec![format!("{count} exits for PAUSE")];
    Some(Found { size, finding: Finding { reason, evidence, next: next.to_owned(), ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::Weight;
    use crate::findings::testing::{MS, Vm, rules, texts, vmx};
    use crate::model::ids::{Isa, Reason};
    use crate::model::tick::Phase;

    fn spins(reason: Reason, count: u64, waits_ms: u64) -> Vm {
        Vm::new("web-7")
            .busy()
            .reason(reason, "PAUSE_INSTRUCTION", count, 0)
            .vcpu(&[(Phase::Guest, (1000 - waits_ms) * MS), (Phase::Preempted, waits_ms * MS)])
    }

    #[test]
    fn spinning_while_another_vcpu_waits_is_found() {
        for pause in [vmx(40), Reason::exit(Isa::Svm, 0x77)] {
            let found = rules(&spins(pause, 12_000, 90).facts(), "pause-loop");
            assert_eq!(
                found[0].text,
                "web-7: its vCPUs spin: 12.0k exits a second for PAUSE, while vCPU 1 waited 9.0% of the \
                 time for a CPU; who waits may hold the lock"
            );
            assert_eq!((found[0].weight, found[0].reason), (Weight::Medium, Some(pause)));
        }
    }

    #[test]
    fn without_anybody_waiting_it_matters_less() {
        let found = rules(&spins(vmx(40), 12_000, 19).facts(), "pause-loop");
        assert_eq!(found[0].weight, Weight::Low);
        assert!(found[0].text.contains("none of them waits"));
    }

    #[test]
    fn a_few_and_other_exits_are_not() {
        assert!(texts(&spins(vmx(40), 999, 90).facts(), "pause-loop").is_empty());
        assert!(texts(&spins(vmx(30), 12_000, 90).facts(), "pause-loop").is_empty());
    }
}
