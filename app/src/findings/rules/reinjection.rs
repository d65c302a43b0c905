//! Interrupts and exceptions that have to be put into the guest again: it was left before it took them, as a
//! rule because delivering them needed a page that was not there (its stack, its IDT).

use super::sums::Keys;
use super::{Found, Look, over, part, per_second};
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::detail::KeyClass;
use crate::state::value::{rate, share};
use kvmscope_shared::detail::REINJECTED;

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    look.vm.vcpus.iter().filter_map(|vcpu| found(look, vcpu)).collect()
}

fn found(look: &Look<'_>, vcpu: &VcpuFacts) -> Option<Found> {
    let is_put = |class| matches!(class, KeyClass::Injected | KeyClass::Exception);
    let all = Keys::of(vcpu, |key, _| is_put(key.id.class));
    let again = Keys::of(vcpu, |key, value| is_put(key.id.class) && value & REINJECTED != 0);
    let wall_ns = look.wall_ns(vcpu);
    let per_s = per_second(again.count, wall_ns);
    let size = over(per_s, look.limits.reinjections_per_second)?;
    let text = format!(
        "is given {} interrupts and exceptions a second again, {} of all that it is given",
        rate(per_s),
        share(part(again.count, all.count))
    );
    let mut evidence = again.evidence(wall_ns);
    evidence.push("the guest was left before it took them".to_owned());
    let next =
        "Look at the page faults of the same vCPU (2): what interrupts need (stack, IDT, TSS) is \
                missing or not writable each time."
            .to_owned();
    let finding = look.about(vcpu, "reinjections", Weight::Medium, &text);
    Some(Found { size, finding: Finding { reason: again.reason(), evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{Vm, rules, texts};
    use crate::model::detail::KeyClass;
    use kvmscope_shared::detail::REINJECTED;

    fn put(again: u64) -> Vm {
        Vm::new("web-7")
            .busy()
            .key(KeyClass::Injected, 0x41, 3_000)
            .key(KeyClass::Injected, 0x41 | REINJECTED, again)
            .key(KeyClass::Exception, 14 | REINJECTED, 200)
    }

    #[test]
    fn many_are_found_and_few_are_not() {
        let found = &rules(&put(800).facts(), "reinjections")[0];
        assert_eq!(
            found.text,
            "web-7: vCPU 0 is given 1.0k interrupts and exceptions a second again, 25% of all that it is given"
        );
        assert_eq!(found.evidence.len(), 3);
        assert!(found.evidence[0].contains("0x41") && found.evidence[0].ends_with("800/s"));
        assert!(texts(&put(799).facts(), "reinjections").is_empty());
        let once = Vm::new("web-7").busy().key(KeyClass::Injected, 0x41, 90_000);
        assert!(texts(&once.facts(), "reinjections").is_empty());
    }
}
