//! A vCPU whose exits all come from one instruction: it polls something, or it is stuck there.

use super::fault_storm::storm;
use super::{Found, Look, over, part, per_second};
use crate::findings::words::{self, thing};
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::detail::{KeyClass, KeyTick};
use crate::model::ids::Reason;
use crate::state::value::{rate, share};

/// The part of all exits from which on one instruction has "nearly all".
const NEARLY_ALL: f64 = 0.99;

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    look.vm.vcpus.iter().filter_map(|vcpu| found(look, vcpu)).collect()
}

fn found(look: &Look<'_>, vcpu: &VcpuFacts) -> Option<Found> {
    // Halting at one place is what idle guests do, and a fault storm tells of its place itself.
    let idle = |key: &KeyTick| key.id.reason.is_some_and(Reason::is_idle);
    let rips = || vcpu.keys.iter().filter(|key| key.id.class == KeyClass::Rip && !idle(key));
    let all = rips().fold(0u64, |sum, key| sum.saturating_add(key.count));
    let most = rips().filter(|key| key.id.value.is_some()).max_by_key(|key| key.count)?;
    let size = over(
        per_second(most.count, look.wall_ns(vcpu)),
        look.limits.same_instruction_exits_per_second,
    )?;
    let same = part(most.count, all);
    // A vCPU that halts in between goes on with something.
    let halts = vcpu.halts.polled.saturating_add(vcpu.halts.waited);
    if same < NEARLY_ALL
        || part(halts, most.count) > 1.0 - NEARLY_ALL
        || storm(look, vcpu).is_some()
    {
        return None;
    }
    let rip = words::rip(most.id.value?);
    let reason = most.id.reason;
    let name = vcpu.reasons.iter().find(|r| Some(r.reason) == reason).map(|r| r.name.as_str());
    // The kind of a page fault says less than its page, and is met as often.
    let is_what = |class| !matches!(class, KeyClass::Rip | KeyClass::Fault);
    let what = vcpu.keys.iter().filter(|k| k.id.reason == reason && is_what(k.id.class));
    let what = what.max_by_key(|key| key.count).and_then(|k| Some(thing(k.id.class, k.id.value?)));
    let text = format!(
        "exits {} times a second at one instruction and does nothing else: it polls, or it is stuck",
        rate(per_second(most.count, look.wall_ns(vcpu)))
    );
    let mut evidence = vec![format!("{} of its exits at {rip}", share(same))];
    if let Some(reason) = reason {
        let about = what.map(|what| format!(", about {what}")).unwrap_or_default();
        evidence.push(format!("{}{about}", words::reason(name, reason)));
    }
    let next =
        "Give --guest-symbols for the name of the code; the guest's own stack of that CPU tells \
                what it waits for. Enter opens the reason."
            .to_owned();
    let finding = look.about(vcpu, "same-instruction", Weight::Medium, &text);
    Some(Found { size, finding: Finding { reason, evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{Vm, hlt, rules, texts, vmx};
    use crate::model::detail::KeyClass;

    const RULE: &str = "same-instruction";

    fn exits(same: u64, others: u64) -> Vm {
        Vm::new("web-7")
            .busy()
            .reason(vmx(30), "IO_INSTRUCTION", same + others, 0)
            .key(KeyClass::Rip, 0x40_1000, same)
            .key(KeyClass::Rip, None, others)
            .key(KeyClass::PortIn, 0xabc1, same)
    }

    #[test]
    fn one_instruction_over_and_over_is_found() {
        let found = rules(&exits(99_500, 500).facts(), RULE);
        assert_eq!(
            found[0].text,
            "web-7: vCPU 0 exits 99.5k times a second at one instruction and does nothing else: it \
             polls, or it is stuck"
        );
        assert!(found[0].evidence[1].starts_with("IO_INSTRUCTION, about port 0xabc1"));
        assert_eq!(found[0].reason, Some(vmx(30)));
        let with_kind = exits(99_500, 500).key(KeyClass::Fault, 1, 99_600);
        let found = rules(&with_kind.facts(), RULE);
        assert!(found[0].evidence[1].ends_with("port 0xabc1, read"), "{:?}", found[0].evidence);
    }

    #[test]
    fn few_exits_and_other_places_are_progress() {
        assert!(texts(&exits(999, 0).facts(), RULE).is_empty());
        assert_eq!(texts(&exits(1_000, 0).facts(), RULE).len(), 1);
        assert!(texts(&exits(9_890, 110).facts(), RULE).is_empty());
        assert!(texts(&exits(10_000, 0).halts(0, 200).facts(), RULE).is_empty());
    }

    #[test]
    fn an_idle_loop_is_not_stuck() {
        let vm = Vm::new("web-7").busy().reason(hlt(), "HLT", 9_000, 0);
        assert!(texts(&vm.key(KeyClass::Rip, 0x40_1000, 9_000).facts(), RULE).is_empty());
    }

    #[test]
    fn a_fault_storm_is_told_once() {
        let vm = Vm::new("web-7").busy().reason(vmx(48), "EPT_VIOLATION", 9_000, 0);
        let vm = vm.key(KeyClass::Rip, 0x40_1000, 9_000).key(KeyClass::Page, 0x5000, 9_000);
        let facts = vm.facts();
        assert!(texts(&facts, RULE).is_empty());
        assert_eq!(texts(&facts, "page-fault-storm").len(), 1);
    }
}
