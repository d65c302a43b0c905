//! The functions by which KVM's file descriptors are known from others, from the kernel's symbols.

use kvmscope_shared::ioctl::{Handlers, what};
use std::io::{BufRead, BufReader, Read};

/// Their names in virt/kvm/kvm_main.c, in the order of [`what`]. They have been the same from 5.4 to 7.3.
const NAMES: [&str; what::KNOWN] =
    ["kvm_dev_ioctl", "kvm_vm_ioctl", "kvm_vcpu_ioctl", "kvm_device_ioctl"];

/// Said where descriptors cannot be told apart.
pub const UNKNOWN: &str = "KVM's ioctls are told from others by their commands alone here: the kernel does not \
                           say where kvm_vcpu_ioctl and the files of a process are (/proc/kallsyms, BTF). What \
                           another driver or a wrong descriptor is asked with KVM's type byte is counted too, \
                           and VMs of one process are not told apart.";

/// Reads the running kernel's.
pub fn read() -> Handlers {
    std::fs::File::open("/proc/kallsyms").map(find).unwrap_or_default()
}

/// From lines "ADDRESS TYPE NAME [MODULE]". Without the right to see them all addresses are 0.
fn find(kallsyms: impl Read) -> Handlers {
    let mut found = Handlers::default();
    let mut lines = BufReader::with_capacity(1 << 16, kallsyms);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(1..) => {}
            _ => return found,
        }
        // Most lines are not looked at further.
        if !line.windows(6).any(|part| part == b"_ioctl") {
            continue;
        }
        let Ok(text) = std::str::from_utf8(&line) else { continue };
        let mut words = text.split_whitespace();
        let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if let Some(nth) = NAMES.iter().position(|known| *known == name)
            && let Ok(address) = u64::from_str_radix(address, 16)
        {
            found.at[nth] = address;
        }
    }
}

/// Whether those that every VM has are known.
pub fn are_known(handlers: &Handlers) -> bool {
    [what::SYSTEM, what::VM, what::VCPU].iter().all(|what| handlers.at[*what as usize] != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
ffffffff812011a5 t kvm_dev_ioctl.cold
ffffffffc0a7c8e0 t kvm_device_ioctl\t[kvm]
ffffffffc0a7ca20 t kvm_vcpu_ioctl\t[kvm]
ffffffffc0a825e0 t kvm_vm_ioctl\t[kvm]
ffffffffc0a84030 t kvm_dev_ioctl\t[kvm]
ffffffffc0a85cf0 T kvm_arch_vcpu_ioctl\t[kvm]
";

    #[test]
    fn each_has_its_place() {
        let found = find(LINES.as_bytes());
        let low = found.at.map(|address| address & 0xfffff);
        assert_eq!(low, [0x84030, 0x825e0, 0x7ca20, 0x7c8e0]);
        assert!(are_known(&found));
    }

    #[test]
    fn addresses_that_are_not_shown_are_not_known() {
        let hidden: String =
            LINES.lines().map(|line| format!("0000000000000000{}\n", &line[16..])).collect();
        assert_eq!(find(hidden.as_bytes()), Handlers::default());
        assert!(!are_known(&Handlers::default()));
        let cut = &LINES[..LINES.len() / 2];
        assert!(!are_known(&find(cut.as_bytes())));
    }
}
