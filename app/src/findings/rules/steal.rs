//! A vCPU that could run and waits for a CPU: because others have it, or because a quota stops it.

use super::{Found, Look, over, part};
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::detail::CulpritTick;
use crate::model::tick::Phase;
use crate::state::value::{duration, share};

/// The part of its vCPUs' waiting from which on a quota explains it.
const EXPLAINED: f64 = 0.5;

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    let waiting = look.vm.vcpus.iter().filter_map(|vcpu| {
        let waited = part(vcpu.time.get(Phase::Preempted), vcpu.time.sum());
        over(waited * 100.0, look.limits.waiting_percent).map(|size| (size, waited, vcpu))
    });
    let waiting: Vec<_> = waiting.collect();
    let Some(stopped) = throttled(look) else {
        return waiting
            .into_iter()
            .map(|(size, waited, vcpu)| stolen(look, size, waited, vcpu))
            .collect();
    };
    // A quota belongs to the whole VM: one finding, about the vCPU that it hits most.
    let worst = waiting.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    worst
        .map(|(size, waited, vcpu)| by_quota(look, size, waited, vcpu, stopped))
        .into_iter()
        .collect()
}

fn weight(waited: f64) -> Weight {
    if waited > 0.5 { Weight::High } else { Weight::Medium }
}

fn stolen(look: &Look<'_>, size: f64, waited: f64, vcpu: &VcpuFacts) -> Found {
    let waiting_ns = vcpu.time.get(Phase::Preempted);
    let mut culprits: Vec<&CulpritTick> = vcpu.culprits.iter().filter(|c| !is_other(c)).collect();
    culprits.sort_by_key(|culprit| std::cmp::Reverse(culprit.ns));
    let behind = match culprits.first() {
        // More than half of all the wait.
        Some(first) if first.ns > waiting_ns / 2 => format!(", mostly behind {}", who(look, first)),
        Some(first) => format!(", behind {} among others", who(look, first)),
        None => String::new(),
    };
    let text = format!("waited {} of the time for a CPU{behind}", share(waited));
    let mut evidence = vec![format!("waited {} in all", duration(waiting_ns))];
    evidence.extend(culprits.iter().take(3).map(|culprit| {
        let cgroup = match culprit.cgroup.as_str() {
            "" => String::new(),
            cgroup => format!(", cgroup {cgroup}"),
        };
        format!(
            "behind {} for {} ({} of the wait{cgroup})",
            who(look, culprit),
            duration(culprit.ns),
            share(part(culprit.ns, waiting_ns))
        )
    }));
    if let Some(ns) = look.vm.beside.as_ref().and_then(|beside| beside.throttled_ns) {
        evidence.push(format!("its CPU quota stopped the VM for {} only", duration(ns)));
    }
    let next = if vcpu.culprits.is_empty() {
        "Who took the CPU is told by the family culprits: c in the tab Time (6) switches it on, or \
         --probes all."
    } else {
        "The tab Time (6) on this vCPU lists everyone it waited for; pin or move one of them."
    };
    let finding = look.about(vcpu, "steal", weight(waited), &text);
    Found { size, finding: Finding { evidence, next: next.to_owned(), ..finding } }
}

fn by_quota(look: &Look<'_>, size: f64, waited: f64, vcpu: &VcpuFacts, stopped_ns: u64) -> Found {
    let over_ns = look.vm.beside.as_ref().map_or(0, |beside| beside.over_ns);
    let text = format!(
        "a CPU quota stopped it: vCPU {} waited {} of the time for a CPU",
        vcpu.key.vcpu,
        share(waited)
    );
    let evidence = vec![
        format!("throttled for {} within {} (cpu.stat)", duration(stopped_ns), duration(over_ns)),
        format!("vCPU {} waited {}", vcpu.key.vcpu, duration(vcpu.time.get(Phase::Preempted))),
    ];
    let next =
        "Raise cpu.max of its cgroup (CPUQuota= of its unit, cputune in libvirt) or give it \
                fewer vCPUs; the tab Time (6) shows every vCPU's wait."
            .to_owned();
    let finding = look.about_vm("cpu-quota", weight(waited), text);
    Found { size, finding: Finding { evidence, next, ..finding } }
}

/// For how long a quota stopped the VM, where that explains its vCPUs' waiting.
fn throttled(look: &Look<'_>) -> Option<u64> {
    let beside = look.vm.beside.as_ref()?;
    let stopped_ns = beside.throttled_ns?;
    let waited_ns = look.time().get(Phase::Preempted);
    // Rates, because VMs are not looked at in every tick.
    let stopped = part(stopped_ns, beside.over_ns);
    let waited = part(waited_ns, look.vm_wall_ns());
    (stopped > 0.0 && stopped >= EXPLAINED * waited).then_some(stopped_ns)
}

/// What found no place in the kernel's table has no name.
fn is_other(culprit: &CulpritTick) -> bool {
    culprit.pid == 0 && culprit.comm.is_empty()
}

fn who(look: &Look<'_>, culprit: &CulpritTick) -> String {
    match culprit.vm.and_then(|vm| look.name_of(vm)) {
        Some(vm) if culprit.vm == Some(look.vm.id) => {
            format!("{vm} itself ({} {})", culprit.comm, culprit.tid)
        }
        Some(vm) => format!("VM {vm} ({} {})", culprit.comm, culprit.tid),
        None => format!("{} {}", culprit.comm, culprit.pid),
    }
}

#[cfg(test)]
mod tests {
    use crate::findings::Weight;
    use crate::findings::testing::{MS, Vm, both, culprit, rules, texts};
    use crate::model::tick::Phase;

    fn waits(ms: u64) -> Vm {
        Vm::new("web-7").vcpu(&[(Phase::Guest, (1000 - ms) * MS), (Phase::Preempted, ms * MS)])
    }

    #[test]
    fn a_wait_is_found_from_its_threshold_on() {
        assert_eq!(
            texts(&waits(100).facts(), "steal"),
            ["web-7: vCPU 0 waited 10% of the time for a CPU"]
        );
        assert!(texts(&waits(99).facts(), "steal").is_empty());
        assert!(rules(&waits(180).facts(), "steal")[0].next.contains("--probes"));
    }

    #[test]
    fn who_took_the_cpu_is_named_by_its_vm() {
        let db = Vm::new("db-1").id(2).vcpu(&[(Phase::Guest, 1000 * MS)]);
        let web = waits(180)
            .culprit(culprit("CPU 1/KVM", 4800, Some(2), 120 * MS))
            .culprit(culprit("backup", 900, None, 40 * MS))
            .culprit(culprit("", 0, None, 20 * MS));
        let facts = both(web, db);
        assert_eq!(
            texts(&facts, "steal"),
            [
                "web-7: vCPU 0 waited 18% of the time for a CPU, mostly behind VM db-1 (CPU 1/KVM 4800)"
            ]
        );
        assert_eq!(
            rules(&facts, "steal")[0].evidence,
            [
                "waited 180ms in all",
                "behind VM db-1 (CPU 1/KVM 4800) for 120ms (67% of the wait)",
                "behind backup 900 for 40ms (22% of the wait)"
            ]
        );
    }

    #[test]
    fn a_quota_is_told_apart() {
        let facts = waits(600).beside(|vm| vm.throttled_ns = Some(300 * MS)).facts();
        assert!(texts(&facts, "steal").is_empty());
        let found = rules(&facts, "cpu-quota");
        assert_eq!(
            found[0].text,
            "web-7: a CPU quota stopped it: vCPU 0 waited 60% of the time for a CPU"
        );
        assert_eq!((found.len(), found[0].weight), (1, Weight::High));
        // A quota that stopped it for a little while explains little.
        let facts = waits(600).beside(|vm| vm.throttled_ns = Some(299 * MS)).facts();
        assert!(texts(&facts, "cpu-quota").is_empty());
        assert!(rules(&facts, "steal")[0].evidence[1].contains("299ms only"));
        // And one that is at work without anybody waiting is nothing to tell.
        let facts = waits(20).beside(|vm| vm.throttled_ns = Some(20 * MS)).facts();
        assert!(texts(&facts, "cpu-quota").is_empty());
    }
}
