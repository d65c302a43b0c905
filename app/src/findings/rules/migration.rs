//! A vCPU that the scheduler moves from CPU to CPU: its caches are cold each time, and on another NUMA node its
//! memory is far.

use super::{Found, Look, over, part, per_second};
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::detail::KeyClass;
use crate::state::value::{count, duration, rate, share};

/// CPUs that are named.
const NAMED: usize = 3;

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    look.vm.vcpus.iter().filter_map(|vcpu| found(look, vcpu)).collect()
}

fn found(look: &Look<'_>, vcpu: &VcpuFacts) -> Option<Found> {
    let wall_ns = look.wall_ns(vcpu);
    let moves = per_second(vcpu.meters.migrations, wall_ns);
    let crossings = per_second(vcpu.meters.crossings, wall_ns);
    let crosses = over(crossings, look.limits.node_crossings_per_second);
    let weight = if crosses.is_some() { Weight::Medium } else { Weight::Low };
    let size = crosses.or_else(|| over(moves, look.limits.migrations_per_second))?;
    let text = match crosses {
        Some(_) => format!("moves to another NUMA node {} times a second", rate(crossings)),
        None => format!("moves to another CPU {} times a second", rate(moves)),
    };
    let mut evidence = vec![format!(
        "{} moves between CPUs, {} of them to another node",
        count(vcpu.meters.migrations),
        share(part(vcpu.meters.crossings, vcpu.meters.migrations))
    )];
    let mut cpus: Vec<(u64, u64)> = vcpu
        .keys
        .iter()
        .filter(|key| key.id.class == KeyClass::OnCpu)
        .filter_map(|key| Some((key.id.value?, key.total_ns)))
        .collect();
    cpus.sort_by_key(|&(cpu, ns)| (std::cmp::Reverse(ns), cpu));
    let named = cpus.iter().take(NAMED);
    evidence.extend(named.map(|(cpu, ns)| format!("on CPU {cpu} for {}", duration(*ns))));
    if cpus.len() > NAMED {
        evidence.push(format!("and on {} more CPUs", cpus.len() - NAMED));
    }
    let next = "Pin its thread (cpuset, taskset, vcpupin in libvirt), to the node that its memory is on; the tab \
                Scheduling (4) shows which vCPU was where."
        .to_owned();
    let finding = look.about(vcpu, "migrations", weight, &text);
    Some(Found { size, finding: Finding { evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{MS, Vm, rules, texts};
    use crate::findings::{MeterFacts, Weight};
    use crate::model::detail::KeyClass;

    fn moved(migrations: u64, crossings: u64) -> Vm {
        Vm::new("web-7").busy().meters(MeterFacts {
            migrations,
            crossings,
            ..MeterFacts::default()
        })
    }

    #[test]
    fn crossings_of_nodes_weigh_more_than_moves() {
        let facts =
            moved(40, 10).key(KeyClass::OnCpu, 3, 20).with_key(|key| key.total_ns = 600 * MS);
        let facts = facts.key(KeyClass::OnCpu, 40, 20).with_key(|key| key.total_ns = 400 * MS);
        let found = &rules(&facts.facts(), "migrations")[0];
        assert_eq!(found.text, "web-7: vCPU 0 moves to another NUMA node 10 times a second");
        assert_eq!(found.weight, Weight::Medium);
        assert_eq!(
            found.evidence,
            [
                "40 moves between CPUs, 25% of them to another node",
                "on CPU 3 for 600ms",
                "on CPU 40 for 400ms"
            ]
        );
        let found = &rules(&moved(500, 9).facts(), "migrations")[0];
        assert_eq!(found.text, "web-7: vCPU 0 moves to another CPU 500 times a second");
        assert_eq!(found.weight, Weight::Low);
    }

    #[test]
    fn a_few_moves_are_not_found() {
        assert!(texts(&moved(499, 9).facts(), "migrations").is_empty());
        assert!(texts(&moved(0, 0).facts(), "migrations").is_empty());
    }
}
