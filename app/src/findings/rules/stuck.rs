//! A vCPU that has been at one thing for seconds: in the VMM, in one exit, without a CPU, in the
//! guest.

use super::{Found, Look, over};
use crate::findings::words::open_exit;
use crate::findings::{Finding, VcpuFacts, Weight};
use crate::model::ids::Reason;
use crate::model::tick::{OpenExit, Phase};
use crate::state::value::duration;
use crate::trace::qualification;

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    if let Some(paused) = paused(look) {
        return vec![paused];
    }
    look.vm.vcpus.iter().filter_map(|vcpu| found(look, vcpu)).collect()
}

fn size(look: &Look<'_>, for_ns: u64) -> Option<f64> {
    over(for_ns as f64 / 1e9, look.limits.stuck_seconds)
}

/// Whether it handles a halt. Without KVM's own interrupt controller that is slept in the VMM.
fn halts(vcpu: &VcpuFacts) -> bool {
    vcpu.open.is_some_and(|(open, _)| open.reason.is_idle())
}

/// All vCPUs asleep in the VMM at once: somebody paused the VM, or the VMM itself waits.
fn paused(look: &Look<'_>) -> Option<Found> {
    let asleep = |vcpu: &VcpuFacts| vcpu.doing.0 == Phase::VmmBlocked && !halts(vcpu);
    if look.vm.vcpus.len() < 2 || !look.vm.vcpus.iter().all(asleep) {
        return None;
    }
    let for_ns = look.vm.vcpus.iter().map(|vcpu| vcpu.doing.1).min()?;
    let size = size(look, for_ns)?;
    let text = format!("all its vCPUs have slept in the VMM for {}", duration(for_ns));
    let next =
        "Either the VM is paused (virsh domstate, QMP query-status), or the VMM's main thread \
                is held up: look at its stack."
            .to_owned();
    let evidence = vec![format!("{} vCPUs", look.vm.vcpus.len())];
    let finding = look.about_vm("vm-stopped", Weight::Low, text);
    Some(Found { size, finding: Finding { evidence, next, ..finding } })
}

fn found(look: &Look<'_>, vcpu: &VcpuFacts) -> Option<Found> {
    let (phase, for_ns) = vcpu.doing;
    let open = vcpu.open.filter(|_| !halts(vcpu));
    let name = |reason: Reason| {
        vcpu.reasons.iter().find(|known| known.reason == reason).map(|known| known.name.as_str())
    };
    let exit = |open: &OpenExit| open_exit(name(open.reason), open);
    let (rule, weight, for_ns, text, next) = match (phase, open) {
        (Phase::Vmm | Phase::VmmBlocked, _) if !halts(vcpu) => {
            let asleep = if phase == Phase::VmmBlocked { ", asleep" } else { "" };
            let long = duration(for_ns);
            (
                "stuck-in-vmm",
                Weight::High,
                for_ns,
                format!("has been in the VMM for {long}{asleep}, and its guest stands still"),
                "Look at what the VMM's thread does: its stack (/proc/PID/task/TID/stack, gdb), its \
                 log, storage that does not answer; or the VM is paused. Enter opens what it exited for.",
            )
        }
        (Phase::Preempted, _) => (
            "stuck-without-cpu",
            Weight::High,
            for_ns,
            format!("has waited for a CPU for {}, and its guest stands still", duration(for_ns)),
            "Something of higher priority has its CPU, or a quota stops it: the tab Time (6) with the \
             family culprits tells whom it waits for.",
        ),
        (Phase::Kvm | Phase::KvmBlocked | Phase::Polling, Some((open, age_ns))) => {
            let asleep = if phase == Phase::KvmBlocked { ", asleep" } else { "" };
            let (long, exit) = (duration(age_ns), exit(&open));
            (
                "stuck-in-kvm",
                Weight::High,
                age_ns,
                format!("has been handling one exit for {long}{asleep}: {exit}"),
                "Where in the kernel it is stands in its stack (/proc/PID/task/TID/stack as root); a \
                 fault on memory that must be read back (swap, userfaultfd) is the usual cause.",
            )
        }
        (Phase::Guest, _) => (
            "no-exit",
            Weight::Low,
            for_ns,
            format!("has been in the guest for {} without an exit", duration(for_ns)),
            "A guest without ticks on a CPU of its own does that (nohz_full), and so does one that \
             spins with interrupts off: ask the guest (its watchdog, NMI backtrace).",
        ),
        _ => return None,
    };
    let size = size(look, for_ns)?;
    let open = vcpu.open.map(|(open, _)| open);
    let mut evidence = vec![format!("for {:.1} s", for_ns as f64 / 1e9)];
    if let Some(open) = open {
        evidence.push(format!("since {}", exit(&open)));
        let words = qualification::words(open.reason, open.info1, open.info2);
        evidence.extend((!words.is_empty()).then(|| words.join(", ")));
    }
    let finding = look.about(vcpu, rule, weight, &text);
    let (reason, next) = (open.map(|open| open.reason), next.to_owned());
    Some(Found { size, finding: Finding { reason, evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{MS, SECOND, Vm, hlt, rules, texts, vmx};
    use crate::findings::{Thresholds, Weight, findings};
    use crate::model::ids::Reason;
    use crate::model::tick::{OpenExit, Phase};

    fn at(phase: Phase, for_ns: u64) -> Vm {
        Vm::new("web-7").busy().reason(vmx(30), "IO_INSTRUCTION", 1, 0).doing(phase, for_ns)
    }

    fn exit(reason: Reason) -> OpenExit {
        OpenExit { reason, rip: 0x40_1000, info1: 0x80 << 16, ..OpenExit::default() }
    }

    fn only(vm: Vm) -> Option<(&'static str, Weight, String)> {
        let found = findings(&vm.facts(), &Thresholds::default());
        assert!(found.len() <= 1, "{found:?}");
        found.into_iter().next().map(|f| (f.rule, f.weight, f.text))
    }

    #[test]
    fn each_place_to_be_stuck_in_is_told_from_its_threshold_on() {
        let cases = [
            (
                Phase::VmmBlocked,
                "stuck-in-vmm",
                Weight::High,
                "web-7: vCPU 0 has been in the VMM for 5.0s, asleep, and its guest stands still",
            ),
            (
                Phase::Preempted,
                "stuck-without-cpu",
                Weight::High,
                "web-7: vCPU 0 has waited for a CPU for 5.0s, and its guest stands still",
            ),
            (
                Phase::Guest,
                "no-exit",
                Weight::Low,
                "web-7: vCPU 0 has been in the guest for 5.0s without an exit",
            ),
        ];
        for (phase, rule, weight, text) in cases {
            assert_eq!(only(at(phase, 5 * SECOND)), Some((rule, weight, text.to_owned())));
            assert_eq!(only(at(phase, 5 * SECOND - MS)), None);
        }
    }

    #[test]
    fn one_exit_is_told_with_where_it_came_from() {
        let long = |ns| at(Phase::KvmBlocked, ns).open(exit(vmx(30)), ns);
        assert_eq!(
            texts(&long(7 * SECOND).facts(), "stuck-in-kvm"),
            ["web-7: vCPU 0 has been handling one exit for 7.0s, asleep: IO_INSTRUCTION at RIP \
              0x401000 (user half)"]
        );
        let finding = &rules(&long(7 * SECOND).facts(), "stuck-in-kvm")[0];
        assert_eq!(finding.reason, Some(vmx(30)));
        // The qualification of an OUT to port 0x80, one byte.
        assert!(finding.evidence[2].contains("0x80"), "{:?}", finding.evidence);
        assert_eq!(only(long(5 * SECOND - MS)), None);
        // Going in and out of sleep in one exit makes the exit no younger.
        let busy = at(Phase::Kvm, MS).open(exit(vmx(30)), 7 * SECOND);
        assert_eq!(only(busy).map(|f| f.0), Some("stuck-in-kvm"));
    }

    #[test]
    fn a_halt_is_not_stuck() {
        let halted = at(Phase::Blocked, 900 * SECOND).open(exit(hlt()), 900 * SECOND);
        assert_eq!(only(halted), None);
        let in_vmm = at(Phase::VmmBlocked, 900 * SECOND).open(exit(hlt()), 900 * SECOND);
        assert_eq!(only(in_vmm), None);
        let polling = at(Phase::Polling, MS).open(exit(hlt()), 900 * SECOND);
        assert_eq!(only(polling), None);
    }

    #[test]
    fn a_paused_vm_is_told_once() {
        let mut vm = Vm::new("web-7");
        for seconds in [9, 6, 7] {
            vm = vm.busy().doing(Phase::VmmBlocked, seconds * SECOND);
        }
        let told = only(vm).expect("a finding");
        let text = "web-7: all its vCPUs have slept in the VMM for 6.0s".to_owned();
        assert_eq!(told, ("vm-stopped", Weight::Low, text));
        // One that runs makes the other one's case its own.
        let one = at(Phase::VmmBlocked, 9 * SECOND).busy();
        assert_eq!(only(one).map(|f| f.0), Some("stuck-in-vmm"));
    }
}
