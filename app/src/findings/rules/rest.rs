//! Time that is not the vCPUs': what no event accounts for, and what the VMM's other threads use.

use super::{Found, Look, over, part};
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::tick::Phase;
use crate::state::value::{duration, share};

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    let unaccounted = look.vm.vcpus.iter().filter_map(|vcpu| unaccounted(look, vcpu));
    unaccounted.chain(other_threads(look)).collect()
}

fn unaccounted(look: &Look<'_>, vcpu: &VcpuFacts) -> Option<Found> {
    let unknown_ns = vcpu.time.get(Phase::Unknown);
    let of_time = part(unknown_ns, vcpu.time.sum());
    let size = over(of_time * 100.0, look.limits.unaccounted_percent)?;
    let text = format!("has {} of its time without an event that accounts for it", share(of_time));
    let evidence = vec![format!("{} of {}", duration(unknown_ns), duration(vcpu.time.sum()))];
    let next = "A vCPU that was found in the middle of something is known from its next event on. \
                Where it stays so, the header and kvmscope doctor say what is not attached or was lost."
        .to_owned();
    let finding = look.about(vcpu, "unaccounted-time", Weight::Low, &text);
    Some(Found { size, finding: Finding { evidence, next, ..finding } })
}

fn other_threads(look: &Look<'_>) -> Option<Found> {
    let beside = look.vm.beside.as_ref()?;
    let others = part(beside.others_ns, beside.over_ns);
    let size = over(others * 100.0, look.limits.other_threads_cpu_percent)?;
    let time = look.time();
    let on_cpu = [Phase::Guest, Phase::Kvm, Phase::Vmm, Phase::Polling];
    let vcpus_ns = on_cpu.iter().fold(0u64, |sum, &phase| sum.saturating_add(time.get(phase)));
    let vcpus = part(vcpus_ns, look.vm_wall_ns());
    if others <= vcpus {
        return None;
    }
    let text = format!(
        "its VMM's other threads use {} of a CPU, its vCPUs {}",
        share(others),
        share(vcpus)
    );
    let threads = beside.threads.iter().take(3).map(|(tid, comm, ns)| {
        format!("{comm} {tid}: {} of a CPU", share(part(*ns, beside.over_ns)))
    });
    let all = format!("{} within {}", duration(beside.others_ns), duration(beside.over_ns));
    let evidence = std::iter::once(all).chain(threads).collect();
    let next =
        "By their names: iothreads and vhost carry the guest's disk and network, worker threads \
                migration, backup or display. The tab Time (6) shows them."
            .to_owned();
    let finding = look.about_vm("other-threads", Weight::Low, text);
    Some(Found { size, finding: Finding { evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{MS, Vm, rules, texts};
    use crate::model::tick::Phase;

    #[test]
    fn time_without_events_is_found_from_its_threshold_on() {
        let vm =
            |ms| Vm::new("a").vcpu(&[(Phase::Unknown, ms * MS), (Phase::Guest, (1000 - ms) * MS)]);
        assert_eq!(
            texts(&vm(10).facts(), "unaccounted-time"),
            ["a: vCPU 0 has 1.0% of its time without an event that accounts for it"]
        );
        assert!(texts(&vm(9).facts(), "unaccounted-time").is_empty());
    }

    #[test]
    fn threads_that_use_more_than_the_vcpus_are_found() {
        let vm = |vcpu_ms, others_ms| {
            let times = [(Phase::Guest, vcpu_ms * MS), (Phase::Blocked, (1000 - vcpu_ms) * MS)];
            Vm::new("a").vcpu(&times).beside(|beside| {
                beside.others_ns = others_ms * MS;
                beside.threads = vec![(7, "vhost-4711".to_owned(), others_ms * MS)];
            })
        };
        let facts = vm(150, 300).facts();
        assert_eq!(
            texts(&facts, "other-threads"),
            ["a: its VMM's other threads use 30% of a CPU, its vCPUs 15%"]
        );
        assert_eq!(
            rules(&facts, "other-threads")[0].evidence,
            ["300ms within 1.0s", "vhost-4711 7: 30% of a CPU"]
        );
        assert!(texts(&vm(300, 300).facts(), "other-threads").is_empty());
        assert!(texts(&vm(0, 199).facts(), "other-threads").is_empty());
        assert_eq!(texts(&vm(0, 200).facts(), "other-threads").len(), 1);
    }
}
