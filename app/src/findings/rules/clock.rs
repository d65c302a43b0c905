//! An idle guest that burns host CPU by a clock that it reads or programs over and over, because it
//! has none that works without exits.

use super::sums::Keys;
use super::{Found, Look, over, part, per_second};
use crate::findings::{Finding, Weight};
use crate::state::value::{rate, share};
use crate::trace::keys::{Role, role};

const CLOCKS: [(Role, &str, &str); 4] = [
    (
        Role::PmTimer,
        "its ACPI PM timer",
        "Windows: hv-time and hv-stimer with hv-synic (QEMU -cpu hv-time,hv-stimer,…). Linux: see that \
         its clocksource is kvm-clock or tsc, not acpi_pm.",
    ),
    (
        Role::Hpet,
        "its HPET",
        "Start the VMM without HPET (QEMU -machine hpet=off). Windows: hv-time and hv-stimer; Linux: \
         clocksource kvm-clock or tsc.",
    ),
    (
        Role::Rtc,
        "its RTC",
        "Windows ticks by the RTC where it has no better timer: give it hv-stimer with hv-synic (QEMU \
         -cpu hv-stimer,hv-synic,…).",
    ),
    (
        Role::Pit,
        "its PIT",
        "The guest has found no better timer than the PIT: see that it has an APIC timer (no noapic, \
         nolapic) and, for Windows, hv-stimer.",
    ),
];

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    let Some(guest) = look.idle_guest_share() else { return Vec::new() };
    CLOCKS.iter().filter_map(|clock| found(look, guest, clock)).collect()
}

fn found(look: &Look<'_>, guest: f64, &(clock, name, cure): &(Role, &str, &str)) -> Option<Found> {
    let wall_ns = look.vm_wall_ns();
    let mut sum = Keys::default();
    for key in look.vm.vcpus.iter().flat_map(|vcpu| &vcpu.keys) {
        if key.id.value.and_then(|value| role(key.id.class, value)) == Some(clock) {
            sum.add(*key);
        }
    }
    let per_s = per_second(sum.count, wall_ns);
    let size = over(per_s, look.limits.clock_accesses_per_second)?;
    let text = format!(
        "its guest runs only {} of the time, and accesses {name} {} times a second, {} of a CPU",
        share(guest),
        rate(per_s),
        share(part(sum.busy_ns, wall_ns))
    );
    let finding = look.about_vm("clock-source", Weight::Medium, text);
    let (evidence, reason) = (sum.evidence(wall_ns), sum.reason());
    Some(Found { size, finding: Finding { reason, evidence, next: cure.to_owned(), ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{MS, Vm, rules, texts, vmx};
    use crate::model::detail::KeyClass;
    use crate::model::tick::Phase;

    fn reads(guest_ms: u64, class: KeyClass, value: u64, count: u64) -> Vm {
        let times = [(Phase::Guest, guest_ms * MS), (Phase::Blocked, (1000 - guest_ms) * MS)];
        Vm::new("idle-win")
            .vcpu(&times)
            .reason(vmx(30), "IO_INSTRUCTION", count, 0)
            .key(class, value, count)
            .with_key(|key| (key.total_ns, key.vmm_ns) = (5 * MS, 35 * MS))
    }

    fn starved() -> Vm {
        let times = [(Phase::Guest, 30 * MS), (Phase::Preempted, 800 * MS), (Phase::Vmm, 170 * MS)];
        Vm::new("idle-win").vcpu(&times).key(KeyClass::PortIn, 0x608, 9_000)
    }

    #[test]
    fn an_idle_guest_that_reads_a_clock_is_found() {
        let facts = reads(30, KeyClass::PortIn, 0x608, 2_100).facts();
        assert_eq!(
            texts(&facts, "clock-source"),
            [
                "idle-win: its guest runs only 3.0% of the time, and accesses its ACPI PM timer 2.1k \
              times a second, 4.0% of a CPU"
            ]
        );
        let finding = &rules(&facts, "clock-source")[0];
        assert!(finding.evidence[0].contains("0x608") && finding.evidence[0].ends_with(": 2.1k/s"));
        assert_eq!(finding.reason, Some(vmx(30)));
        assert!(finding.next.contains("hv-time"));
    }

    #[test]
    fn each_clock_has_its_own_name_and_cure() {
        for (class, value, name) in [
            (KeyClass::MmioRead, 0xfed0_00f0, "HPET"),
            (KeyClass::PortOut, 0x70, "RTC"),
            (KeyClass::PortOut, 0x43, "PIT"),
        ] {
            let texts = texts(&reads(30, class, value, 500).facts(), "clock-source");
            assert!(texts[0].contains(name), "{texts:?}");
        }
    }

    #[test]
    fn few_accesses_a_busy_guest_and_other_ports_are_not() {
        let quiet = [
            reads(30, KeyClass::PortIn, 0x608, 499),
            reads(101, KeyClass::PortIn, 0x608, 9_000),
            reads(30, KeyClass::PortOut, 0x3f8, 9_000),
            // It is not idle who has no CPU to run on.
            starved(),
        ];
        for vm in quiet {
            assert!(texts(&vm.facts(), "clock-source").is_empty());
        }
    }

    #[test]
    fn the_vcpus_of_a_vm_add_up() {
        let one =
            |vm: Vm| {
                vm.vcpu(&[(Phase::Blocked, 1000 * MS)])
                    .reason(vmx(30), "IO_INSTRUCTION", 250, 0)
                    .key(KeyClass::PortIn, 0x608, 250)
            };
        let facts = one(one(Vm::new("idle-win"))).facts();
        assert_eq!(rules(&facts, "clock-source")[0].evidence.len(), 1);
    }
}
