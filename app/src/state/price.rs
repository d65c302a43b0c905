//! What families of probes cost while they are attached, as docs/cost.md has it.

use crate::source::live::plan::Family;

/// What one of something costs more with a family: instructions, `None` where that was not measured.
type Cost = (Option<u32>, &'static str);

/// What was measured, on Linux 6.12 (docs/cost.json); a test compares. What a family takes more is told for
/// each thing at which its programs run.
const COSTS: [(Family, &[Cost]); 18] = [
    (Family::Exit, &[(Some(590), "kernel exit")]),
    (Family::Userspace, &[(Some(720), "exit to the VMM")]),
    (Family::Sched, &[(Some(145), "context switch of the host")]),
    (Family::HaltPoll, &[(None, "wake-up from a halt")]),
    // Beside the exit family, without which it makes little sense.
    (Family::Detail, &[(Some(580), "kernel exit")]),
    (Family::Culprits, &[(Some(190), "context switch of the host")]),
    (Family::Mmu, &[(Some(670), "page fault of a guest")]),
    (Family::Mmio, &[(Some(430), "MMIO access and each doorbell")]),
    (Family::Hypercall, &[(Some(610), "hypercall")]),
    (Family::Dirty, &[(Some(960), "page that KVM marks as dirty")]),
    (Family::Roots, &[(Some(510), "exit to the VMM, and each MMU root that is loaded")]),
    (
        Family::Ioctl,
        &[(Some(224), "system call of the whole host"), (Some(995), "exit to the VMM")],
    ),
    (Family::Irq, &[(Some(500), "interrupt that is sent, delivered, put in or ended")]),
    (Family::Irqchip, &[(Some(1100), "line or message, and each chip behind it")]),
    (Family::Timer, &[(Some(920), "timer that is set or taken back")]),
    (Family::Wakeup, &[(None, "wake-up from a halt")]),
    (
        Family::VcpuLoad,
        &[(Some(710), "exit to the VMM"), (Some(140), "context switch of the host")],
    ),
    (Family::Base, &[(None, "thread that ends")]),
];

fn costs(family: Family) -> &'static [Cost] {
    COSTS.iter().find(|(of, _)| *of == family).map_or(&[], |(_, costs)| costs)
}

/// Whether what a family costs was measured.
pub fn is_measured(family: Family) -> bool {
    costs(family).iter().any(|(instructions, _)| instructions.is_some())
}

/// What a family costs while it is attached, in a few words: "224 instructions for each system call".
pub fn price(family: Family) -> String {
    let words = |(instructions, of): &Cost| match instructions {
        Some(n) => format!("{n} instructions for each {of}"),
        None => format!("a little for each {of}"),
    };
    let all: Vec<String> = costs(family).iter().map(words).collect();
    all.join(", ")
}

/// The same with whether it was measured: "measured: 224 instructions for each system call".
pub fn told(family: Family) -> String {
    let how = if is_measured(family) { "measured" } else { "not measured" };
    format!("{how}: {}", price(family))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What docs/cost.json has for a subject on 6.12.
    fn measured(subject: &str, kind: &str) -> f64 {
        let text = include_str!("../../../docs/cost.json");
        let all: Value = serde_json::from_str(text).expect("as the bench writes it");
        let kernels = all.as_array().expect("kernels");
        let of = |kernel: &&Value| kernel["kernel"].as_str().is_some_and(|k| k.starts_with("6.12"));
        let subjects = kernels.iter().find(of).expect("6.12")["subjects"].as_array();
        let found = subjects.expect("subjects").iter().find(|one| one["name"] == subject);
        found.unwrap_or_else(|| panic!("{subject}"))["instructions"][kind]
            .as_f64()
            .expect("a number")
    }

    #[test]
    fn prices_are_what_was_measured() {
        for (family, nth, found) in [
            (Family::Exit, 0, measured("family-exit", "cpuid")),
            (Family::Userspace, 0, measured("family-userspace", "out")),
            (Family::Sched, 0, measured("family-sched", "switch")),
            (Family::Detail, 0, measured("report", "cpuid") - measured("defaults", "cpuid")),
            (Family::Culprits, 0, measured("family-culprits", "switch")),
            // An exception is one event; a line that is raised twice and lowered is three, each with a chip.
            (Family::Irq, 0, measured("family-irq", "gp")),
            (Family::Irqchip, 0, measured("family-irqchip", "line_masked") / 6.0),
            (Family::Timer, 0, measured("family-timer", "timer_disarm") / 2.0),
            (
                Family::VcpuLoad,
                0,
                measured("family-vcpu-load", "out") - measured("family-userspace", "out"),
            ),
            (Family::VcpuLoad, 1, measured("family-vcpu-load", "switch")),
        ] {
            let said = f64::from(costs(family)[nth].0.expect("measured"));
            assert!((said - found).abs() < found * 0.05, "{family:?}: {said}, measured {found}");
        }
    }

    #[test]
    fn every_family_has_a_price() {
        for family in Family::ASKABLE.into_iter().chain([Family::Base]) {
            assert!(price(family).contains(" for each "), "{family:?}");
        }
        assert!(told(Family::Exit).starts_with("measured: "));
        assert!(told(Family::HaltPoll).starts_with("not measured: "));
    }
}
