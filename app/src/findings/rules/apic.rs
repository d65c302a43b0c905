//! Storms at the local APIC: arming its timer, interrupts to other vCPUs, ends of interrupts. Each
//! is an exit only where the hardware does not do it by itself.

use super::sums::{Keys, exits, exits_for};
use super::{Found, Look, over, part, per_second};
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::detail::KeyClass;
use crate::model::ids::{Isa, Reason};
use crate::state::value::{rate, share};
use crate::trace::keys::{Role, role};

/// What a storm is about.
struct Storm {
    rule: &'static str,
    roles: &'static [Role],
    /// Exits that are about it whatever their key.
    reasons: &'static [Reason],
    /// Keys that tell of each of them where the registers are not watched (family `irq` without `detail`),
    /// and to whom where they are.
    told_by: Option<KeyClass>,
    limit: fn(&crate::findings::Thresholds) -> u64,
    verb: &'static str,
    why: &'static str,
    next: &'static str,
}

const STORMS: [Storm; 3] = [
    Storm {
        rule: "timer-storm",
        roles: &[Role::TscDeadline, Role::TimerInitialCount],
        reasons: &[],
        told_by: None,
        limit: |limits| limits.timer_writes_per_second,
        verb: "arms its APIC timer (TSC_DEADLINE)",
        why: "every write is an exit, and the timer's end one more",
        next: "Look in the guest for what sleeps so briefly or ticks so often (CONFIG_HZ, timers, \
               nohz=off); enter opens the reason with the guest code that writes.",
    },
    Storm {
        rule: "ipi-storm",
        roles: &[Role::Icr],
        // AVIC_INCOMPLETE_IPI.
        reasons: &[Reason::exit(Isa::Svm, 0x401)],
        told_by: Some(KeyClass::Ipi),
        limit: |limits| limits.ipi_exits_per_second,
        verb: "sends interrupts to other vCPUs (ICR)",
        why: "each is an exit here and, without posted interrupts, one more at the vCPU that gets it; \
              the hardware would deliver them by itself (Intel IPI virtualisation, AMD AVIC)",
        next: "See that APICv or AVIC is on (kvm_intel enable_apicv and enable_ipiv, kvm_amd avic) and \
               not inhibited; fewer wake-ups across vCPUs (pinning in the guest). Enter opens the \
               reason with the guest code that sends.",
    },
    Storm {
        rule: "eoi-storm",
        roles: &[Role::Eoi],
        // EOI_INDUCED.
        reasons: &[Reason::exit(Isa::Vmx, 45)],
        told_by: None,
        limit: |limits| limits.eoi_exits_per_second,
        verb: "leaves the guest for ends of interrupts (EOI)",
        why: "with APICv or AVIC only those of level-triggered interrupts are exits",
        next: "See that APICv or AVIC is on (kvm_intel enable_apicv, kvm_amd avic) and that devices use \
               MSI instead of level-triggered lines; enter opens the reason.",
    },
];

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    let storms =
        STORMS.iter().flat_map(|storm| look.vm.vcpus.iter().map(move |vcpu| (storm, vcpu)));
    storms.filter_map(|(storm, vcpu)| found(look, vcpu, storm)).collect()
}

fn found(look: &Look<'_>, vcpu: &VcpuFacts, storm: &Storm) -> Option<Found> {
    let keys = Keys::of(vcpu, |key, value| {
        matches!(key.id.class, KeyClass::MsrWrite | KeyClass::MmioWrite)
            && role(key.id.class, value).is_some_and(|role| storm.roles.contains(&role))
            // Counted with its reason already.
            && key.id.reason.is_none_or(|reason| !storm.reasons.contains(&reason))
    });
    let by_reason = exits_for(vcpu, storm.reasons);
    let told = Keys::of(vcpu, |key, _| Some(key.id.class) == storm.told_by);
    // The same things, seen twice.
    let count = keys.count.saturating_add(by_reason).max(told.count);
    let wall_ns = look.wall_ns(vcpu);
    let per_s = per_second(count, wall_ns);
    let size = over(per_s, (storm.limit)(look.limits))?;
    let text = format!(
        "{} {} times a second, {} of its exits",
        storm.verb,
        rate(per_s),
        share(part(count, exits(vcpu)))
    );
    let mut evidence = keys.evidence(wall_ns);
    evidence.extend(told.evidence(wall_ns));
    for reason in vcpu.reasons.iter().filter(|reason| storm.reasons.contains(&reason.reason)) {
        evidence.push(format!("{}: {}/s", reason.name, rate(per_second(reason.count, wall_ns))));
    }
    if keys.busy_ns > 0 {
        evidence
            .push(format!("{} of its time for the accesses", share(part(keys.busy_ns, wall_ns))));
    }
    evidence.push(storm.why.to_owned());
    let reason =
        if by_reason > keys.count { storm.reasons.first().copied() } else { keys.reason() };
    let reason = reason.or(told.reason());
    let finding = look.about(vcpu, storm.rule, Weight::Medium, &text);
    Some(Found {
        size,
        finding: Finding { reason, evidence, next: storm.next.to_owned(), ..finding },
    })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{MS, Vm, rules, texts, vmx};
    use crate::model::detail::KeyClass;
    use crate::model::ids::{Isa, Reason};

    /// A vCPU with 10 000 exits, so many of them for this MSR.
    fn writes(msr: u64, count: u64) -> Vm {
        Vm::new("web-7")
            .busy()
            .reason(vmx(48), "EPT_VIOLATION", 10_000 - count, 0)
            .reason(vmx(32), "MSR_WRITE", count, 0)
            .key(KeyClass::MsrWrite, msr, count)
            .with_key(|key| key.total_ns = 20 * MS)
    }

    #[test]
    fn each_storm_is_found_by_its_register() {
        let cases = [
            (0x6e0, "timer-storm", "arms its APIC timer (TSC_DEADLINE)"),
            (0x830, "ipi-storm", "sends interrupts to other vCPUs (ICR)"),
            (0x80b, "eoi-storm", "leaves the guest for ends of interrupts (EOI)"),
        ];
        for (msr, rule, verb) in cases {
            let facts = writes(msr, 6_100).facts();
            assert_eq!(
                texts(&facts, rule),
                [format!("web-7: vCPU 0 {verb} 6.1k times a second, 61% of its exits")]
            );
            let finding = &rules(&facts, rule)[0];
            assert!(finding.evidence[0].starts_with(&format!("MSR {msr:#x}")), "{finding:?}");
            assert!(finding.evidence[0].ends_with("written: 6.1k/s"), "{finding:?}");
            assert_eq!(finding.evidence[1], "2.0% of its time for the accesses");
            assert_eq!(finding.reason, Some(vmx(32)));
            assert!(texts(&writes(msr, 4_999).facts(), rule).is_empty());
            assert_eq!(texts(&writes(msr, 5_000).facts(), rule).len(), 1);
        }
    }

    #[test]
    fn another_register_and_reading_are_no_storm() {
        let facts = writes(0x48, 9_000).facts();
        let read = Vm::new("web-7").busy().key(KeyClass::MsrRead, 0x6e0, 9_000).facts();
        for rule in ["timer-storm", "ipi-storm", "eoi-storm"] {
            assert!(texts(&facts, rule).is_empty() && texts(&read, rule).is_empty());
        }
    }

    #[test]
    fn ipis_say_to_whom_and_count_without_their_registers() {
        let reschedule = 3 << 32 | 0x40fd;
        let told = |count| {
            let vm = Vm::new("web-7").busy().reason(vmx(49), "EPT_MISCONFIG", 10_000, 0);
            vm.key(KeyClass::Ipi, reschedule, count)
        };
        let found = &rules(&told(5_000).facts(), "ipi-storm")[0];
        assert!(found.text.ends_with("5.0k times a second, 50% of its exits"), "{found:?}");
        assert!(found.evidence[0].contains("APIC 3"), "{found:?}");
        assert_eq!(found.reason, Some(vmx(49)));
        assert!(texts(&told(4_999).facts(), "ipi-storm").is_empty());
        // Both tell of the same.
        let both = writes(0x830, 4_999).key(KeyClass::Ipi, reschedule, 4_999).facts();
        assert!(texts(&both, "ipi-storm").is_empty());
        let both = writes(0x830, 6_100).key(KeyClass::Ipi, reschedule, 6_100).facts();
        assert!(rules(&both, "ipi-storm")[0].text.contains(" 6.1k times"));
    }

    #[test]
    fn exits_of_their_own_count_too_and_only_once() {
        let avic = Reason::exit(Isa::Svm, 0x401);
        let vm = |count| Vm::new("web-7").busy().reason(avic, "AVIC_INCOMPLETE_IPI", count, 0);
        let found = rules(&vm(5_000).facts(), "ipi-storm");
        assert_eq!(found[0].reason, Some(avic));
        assert_eq!(found[0].evidence[0], "AVIC_INCOMPLETE_IPI: 5.0k/s");
        let keyed = vm(4_999).key(KeyClass::MsrWrite, 0x830, 4_999);
        assert!(texts(&keyed.facts(), "ipi-storm").is_empty());
    }
}
