//! A VMM that is slow on one device: what an access costs there, and how much of the vCPU's time.

use super::sums::exits_for;
use super::{Found, Look, over, part, per_second};
use crate::findings::words::thing;
use crate::findings::{Finding, ReasonFacts, VcpuFacts, Weight};
use crate::model::detail::{KeyClass, KeyTick};
use crate::model::ids::{Isa, Reason};
use crate::state::value::{duration, rate, share};

/// Exits for devices: IO_INSTRUCTION, EPT_VIOLATION, EPT_MISCONFIG; SVM's IO and NPF.
const DEVICES: [Reason; 5] = [
    Reason::exit(Isa::Vmx, 30),
    Reason::exit(Isa::Vmx, 48),
    Reason::exit(Isa::Vmx, 49),
    Reason::exit(Isa::Svm, 0x7b),
    Reason::exit(Isa::Svm, 0x400),
];

pub(super) fn find(look: &Look<'_>) -> Vec<Found> {
    let vcpus = look.vm.vcpus.iter();
    vcpus.flat_map(|vcpu| of_keys(look, vcpu).chain(of_reasons(look, vcpu))).collect()
}

fn of_keys<'a>(look: &'a Look<'_>, vcpu: &'a VcpuFacts) -> impl Iterator<Item = Found> + 'a {
    let devices = vcpu.keys.iter().filter(|key| {
        use KeyClass::{MmioRead, MmioWrite, PortIn, PortOut};
        matches!(key.id.class, PortIn | PortOut | MmioRead | MmioWrite)
    });
    devices.filter_map(|key| {
        let what = thing(key.id.class, key.id.value?);
        found(look, vcpu, &what, key.id.reason, key)
    })
}

/// Where keys are not told, the reason is as near as it gets.
fn of_reasons<'a>(look: &'a Look<'_>, vcpu: &'a VcpuFacts) -> impl Iterator<Item = Found> + 'a {
    let reasons = vcpu.reasons.iter().filter(|reason| {
        DEVICES.contains(&reason.reason)
            && !vcpu.keys.iter().any(|k| k.id.reason == Some(reason.reason))
    });
    reasons
        .filter_map(|reason| found(look, vcpu, &reason.name, Some(reason.reason), &as_key(reason)))
}

fn as_key(reason: &ReasonFacts) -> KeyTick {
    let ReasonFacts { count, timed, total_ns, off_ns, vmm_ns, max_ns, .. } = *reason;
    KeyTick { count, timed, total_ns, off_ns, vmm_ns, max_ns, ..KeyTick::default() }
}

fn found(
    look: &Look<'_>,
    vcpu: &VcpuFacts,
    what: &str,
    reason: Option<Reason>,
    key: &KeyTick,
) -> Option<Found> {
    let mean_ns = key.vmm_ns.checked_div(key.timed)?;
    let of_time = part(key.vmm_ns, look.wall_ns(vcpu));
    let slow = over(mean_ns as f64 / 1e3, look.limits.device_mean_us)?;
    let size = over(of_time * 100.0, look.limits.device_percent)?;
    let text = format!(
        "spends {} of its time in the VMM for {what}: {} each time",
        share(of_time),
        duration(mean_ns)
    );
    let mut evidence = vec![format!(
        "{} exits/s, {} in the VMM in all, slowest {}",
        rate(per_second(key.timed, look.wall_ns(vcpu))),
        duration(key.vmm_ns),
        duration(key.max_ns)
    )];
    // Nothing where the backend's kvm_exit is silent.
    if key.total_ns > 0 {
        let each_ns = key.total_ns.checked_div(key.timed)?;
        evidence.push(format!("handling in KVM: {} each", duration(each_ns)));
    }
    if let Some(reason) = reason {
        let all = exits_for(vcpu, &[reason]);
        if all > key.count {
            evidence.push(format!("{} of the exits of that reason", share(part(key.count, all))));
        }
    }
    let next = "What the VMM's device does there: its thread's stack, its own log; a device with an \
                iothread or in the kernel (virtio, vhost) instead of an emulated one. Enter opens the \
                reason; its slowest exits are in the list of outliers."
        .to_owned();
    let finding = look.about(vcpu, "slow-device", Weight::Medium, &text);
    Some(Found { size: size.min(slow), finding: Finding { reason, evidence, next, ..finding } })
}

#[cfg(test)]
mod tests {
    use crate::findings::testing::{MS, Vm, rules, texts, vmx};
    use crate::model::detail::KeyClass;
    use crate::model::tick::Phase;

    fn device(count: u64, vmm_ms: u64) -> Vm {
        Vm::new("db-1")
            .vcpu(&[(Phase::Guest, (1000 - vmm_ms) * MS), (Phase::Vmm, vmm_ms * MS)])
            .reason(vmx(30), "IO_INSTRUCTION", count, MS)
            .with_reason(|reason| (reason.vmm_ns, reason.max_ns) = (vmm_ms * MS, 9 * MS))
    }

    fn keyed(count: u64, vmm_ms: u64) -> Vm {
        device(count, vmm_ms).key(KeyClass::PortOut, 0xabc1, count).with_key(|key| {
            (key.total_ns, key.vmm_ns, key.max_ns) = (MS, vmm_ms * MS, 9 * MS);
        })
    }

    #[test]
    fn a_slow_device_is_found_by_its_port() {
        let found = rules(&keyed(58, 290).facts(), "slow-device");
        assert_eq!(
            found[0].text,
            "db-1: vCPU 0 spends 29% of its time in the VMM for port 0xabc1, written: 5.0ms each time"
        );
        assert_eq!(found[0].evidence[0], "58 exits/s, 290ms in the VMM in all, slowest 9.0ms");
        assert_eq!((found.len(), found[0].reason), (1, Some(vmx(30))));
    }

    #[test]
    fn where_no_key_is_known_the_reason_is_named() {
        let texts = texts(&device(58, 290).facts(), "slow-device");
        assert_eq!(
            texts,
            ["db-1: vCPU 0 spends 29% of its time in the VMM for IO_INSTRUCTION: 5.0ms each time"]
        );
    }

    #[test]
    fn quick_or_seldom_is_not() {
        assert!(texts(&keyed(100, 99).facts(), "slow-device").is_empty());
        assert_eq!(texts(&keyed(99, 99).facts(), "slow-device").len(), 1);
        assert!(texts(&keyed(2, 49).facts(), "slow-device").is_empty());
        assert_eq!(texts(&keyed(2, 50).facts(), "slow-device").len(), 1);
    }

    #[test]
    fn time_in_the_vmm_for_a_signal_is_no_device() {
        let vm = device(58, 290).reason(vmx(1), "EXTERNAL_INTERRUPT", 58, MS);
        let facts = vm.with_reason(|reason| reason.vmm_ns = 290 * MS).facts();
        assert_eq!(texts(&facts, "slow-device").len(), 1);
    }
}
