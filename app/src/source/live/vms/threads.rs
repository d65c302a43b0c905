//! vCPU numbers from thread names: a guess, for where no `kvm_entry` tells the real one.

/// The vCPU that a thread's name speaks of: "CPU 3/KVM" (QEMU), "fc_vcpu 3" (Firecracker),
/// "vcpu3" (cloud-hypervisor), "crosvm_vcpu3", "kvm-vcpu-3" (kvmtool).
///
/// The kernel cuts names at 15 bytes, so a long one may lose digits: a guess, to be shown as one.
pub fn vcpu_from_thread_name(name: &str) -> Option<u32> {
    if let Some(rest) = name.strip_prefix("CPU ") {
        return number(rest.strip_suffix("/KVM")?);
    }
    let (before, after) = name.rsplit_once("vcpu")?;
    if before.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    number(after.trim_start_matches([' ', '-', '_', ':', '#']))
}

/// Digits and nothing else; KVM knows no vCPU id above 65535.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&n: &u32| digits && n <= 65_535)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vmm_has_its_own_way_to_say_it() {
        for (name, vcpu) in [
            ("CPU 3/KVM", 3),
            ("CPU 127/KVM", 127),
            ("vcpu3", 3),
            ("vcpu-0", 0),
            ("vcpu 12", 12),
            ("fc_vcpu 3", 3),
            ("crosvm_vcpu3", 3),
            ("kvm-vcpu-3", 3),
        ] {
            assert_eq!(vcpu_from_thread_name(name), Some(vcpu), "{name}");
        }
    }

    #[test]
    fn other_threads_have_none() {
        for name in [
            "qemu-system-x86",
            "CPU 3/TCG",
            "CPU /KVM",
            "CPU 0",
            "IO iothread1",
            "vcpu",
            "vcpu_mon",
            "vcpu3x",
            "myvcpu3",
            "vhost-1234",
            "vcpu99999999999",
            "vcpu-+1",
            "",
        ] {
            assert_eq!(vcpu_from_thread_name(name), None, "{name}");
        }
    }
}
