//! Faults on one page over and over: each is handled, the guest enters, and faults there again.

use super::{Found, Look, over, part, per_second};
use crate::findings::words;
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::detail::{KeyClass, KeyTick};
use crate::state::value::{rate, share};

/// The part of all faults from which on one page has "nearly all".
const NEARLY_ALL: f64 = 0.9;

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    look.vm.vcpus.iter().filter_map(|vcpu| found(look, vcpu)).collect()
}

/// The page of a storm and how far it is over the threshold.
pub(super) fn storm<'a>(look: &Look<'_>, vcpu: &'a VcpuFacts) -> Option<(&'a KeyTick, f64)> {
    let pages = || vcpu.keys.iter().filter(|key| key.id.class == KeyClass::Page);
    let all = pages().fold(0u64, |sum, key| sum.saturating_add(key.count));
    let page = pages().filter(|key| key.id.value.is_some()).max_by_key(|key| key.count)?;
    let size =
        over(per_second(page.count, look.wall_ns(vcpu)), look.limits.page_faults_per_second)?;
    let stuck = part(page.count, all) >= NEARLY_ALL && !is_device(vcpu, page);
    stuck.then_some((page, size))
}

/// Whether the page is a device's: an access there is a fault by intent (on AMD, and on Intel until
/// KVM knows the page), and is told as MMIO too.
fn is_device(vcpu: &VcpuFacts, page: &KeyTick) -> bool {
    use KeyClass::{MmioFast, MmioRead, MmioWrite};
    let number = page.id.value.map(|address| address >> 12);
    let accesses = vcpu.keys.iter().filter(|key| {
        matches!(key.id.class, MmioRead | MmioWrite | MmioFast)
            && key.id.value.map(|address| address >> 12) == number
    });
    accesses.fold(0u64, |sum, key| sum.saturating_add(key.count)) >= page.count / 2
}

fn found(look: &Look<'_>, vcpu: &VcpuFacts) -> Option<Found> {
    let (page, size) = storm(look, vcpu)?;
    let address = page.id.value?;
    let per_s = per_second(page.count, look.wall_ns(vcpu));
    let text = format!(
        "faults {} times a second on guest page {address:#x} and hardly on any other: no progress",
        rate(per_s)
    );
    let mut evidence = vec![format!("{} faults on that page", page.count)];
    let rips = || {
        vcpu.keys.iter().filter(|k| k.id.class == KeyClass::Rip && k.id.reason == page.id.reason)
    };
    let all = rips().fold(0u64, |sum, key| sum.saturating_add(key.count));
    if let Some(key) = rips().max_by_key(|key| key.count) {
        let at = key.id.value.map_or_else(|| "many places".to_owned(), words::rip);
        evidence.push(format!("{} of these exits at {at}", share(part(key.count, all))));
    }
    evidence.push(format!(
        "{} of its time handling them",
        share(part(page.total_ns, look.wall_ns(vcpu)))
    ));
    let next = "The usual cause is that the host invalidates the page as fast as KVM maps it \
                (mmu_notifier): NUMA balancing (kernel.numa_balancing=0), KSM, page migration or \
                compaction, or a VMM that drops the page. Enter opens the reason with the fault in words."
        .to_owned();
    let finding = look.about(vcpu, "page-fault-storm", Weight::High, &text);
    let reason = page.id.reason;
    Some(Found { size, finding: Finding { reason, evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::Weight;
    use crate::findings::testing::{Vm, rules, texts, vmx};
    use crate::model::detail::KeyClass;

    const RULE: &str = "page-fault-storm";

    fn faults(one: u64, others: u64) -> Vm {
        Vm::new("web-7")
            .busy()
            .reason(vmx(48), "EPT_VIOLATION", one + others, 0)
            .key(KeyClass::Page, 0x12_3000, one)
            .key(KeyClass::Page, None, others)
            .key(KeyClass::Rip, 0xffff_ffff_8100_1234, one)
    }

    #[test]
    fn one_page_over_and_over_is_found() {
        let found = rules(&faults(40_000, 400).facts(), RULE);
        assert_eq!(
            found[0].text,
            "web-7: vCPU 0 faults 40.0k times a second on guest page 0x123000 and hardly on any \
             other: no progress"
        );
        assert_eq!(
            found[0].evidence[..2],
            [
                "40000 faults on that page",
                "100% of these exits at RIP 0xffffffff81001234 (kernel half)"
            ]
        );
        assert_eq!((found[0].weight, found[0].reason), (Weight::High, Some(vmx(48))));
        assert!(found[0].next.contains("mmu_notifier"));
    }

    #[test]
    fn few_faults_or_many_pages_are_progress() {
        assert!(texts(&faults(999, 0).facts(), RULE).is_empty());
        assert_eq!(texts(&faults(1_000, 0).facts(), RULE).len(), 1);
        assert!(texts(&faults(8_999, 1_001).facts(), RULE).is_empty());
        assert_eq!(texts(&faults(9_000, 1_000).facts(), RULE).len(), 1);
    }

    #[test]
    fn a_device_is_no_storm() {
        let device = faults(40_000, 0).key(KeyClass::MmioRead, 0x12_30f0, 40_000);
        assert!(texts(&device.facts(), RULE).is_empty());
        let another = faults(40_000, 0).key(KeyClass::MmioRead, 0x99_90f0, 40_000);
        assert_eq!(texts(&another.facts(), RULE).len(), 1);
    }
}
