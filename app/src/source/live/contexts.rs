//! How a CPU that serves an interrupt is told from one that runs a thread: by its `preempt_count`, which is
//! a per-CPU variable on x86. Where it is comes from the kernel's symbols, which list variables only with
//! CONFIG_KALLSYMS_ALL (Debian's have it).

use super::btf::Btf;
use kvmscope_shared::route::Contexts;
use std::io::{BufRead, BufReader, Read};

/// What is added to a per-CPU address, by CPU (mm/percpu.c).
const OFFSETS: &str = "__per_cpu_offset";
/// The count itself, up to 6.1 and from 6.15 on (arch/x86/kernel/cpu/common.c).
const COUNT: &str = "__preempt_count";
/// What it was in meanwhile, with its member's name.
const HOT: (&str, &str) = ("pcpu_hot", "preempt_count");

/// Reads the running kernel's; 0 where it is not told.
pub fn read() -> Contexts {
    let vmlinux = std::fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
    let within = || Btf::new(&vmlinux, &[])?.nested_offset(HOT.0, HOT.1);
    std::fs::File::open("/proc/kallsyms").map(|file| find(file, within)).unwrap_or_default()
}

/// From lines "ADDRESS TYPE NAME [MODULE]". Without the right to see them all addresses are 0.
fn find(kallsyms: impl Read, within: impl Fn() -> Option<u32>) -> Contexts {
    let mut found = Contexts::default();
    let mut hot = None;
    for line in BufReader::with_capacity(1 << 16, kallsyms).split(b'\n') {
        let Ok(line) = line else { break };
        // Most lines are not looked at further.
        let ours = [OFFSETS, COUNT, HOT.0].iter().position(|name| line.ends_with(name.as_bytes()));
        let Some(nth) = ours else { continue };
        let Ok(text) = std::str::from_utf8(&line) else { continue };
        let mut words = text.split_whitespace();
        let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(address) = u64::from_str_radix(address, 16) else { continue };
        match (nth, name) {
            (0, OFFSETS) => found.offsets = address,
            (1, COUNT) => found.count = address,
            (2, name) if name == HOT.0 => hot = Some(address),
            _ => {}
        }
    }
    // Addresses that are hidden are 0, and so must be what is made of them.
    if found.offsets != 0
        && found.count == 0
        && let Some((hot, within)) = hot.zip(within())
    {
        found.count = hot + u64::from(within);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP_TO_6_1: &str = "\
000000000001fb30 D __preempt_count
ffffffff81c00000 T my__preempt_count
ffffffff82a1c3a0 R __per_cpu_offset
ffffffffc0a7c8e0 t other__per_cpu_offset\t[kvm]
";
    const FROM_6_2: &str = "\
0000000000034f00 D pcpu_hot
ffffffff82a1c3a0 R __per_cpu_offset
";

    #[test]
    fn the_count_is_a_variable_or_a_member_of_one() {
        let within = || Some(8);
        let contexts = |count| Contexts { offsets: 0xffff_ffff_82a1_c3a0, count };
        assert_eq!(find(UP_TO_6_1.as_bytes(), within), contexts(0x1fb30));
        assert_eq!(find(FROM_6_2.as_bytes(), within), contexts(0x34f08));
        assert_eq!(find(FROM_6_2.as_bytes(), || None), contexts(0));
    }

    #[test]
    fn addresses_that_are_not_shown_are_not_known() {
        let hidden: String =
            FROM_6_2.lines().map(|line| format!("0000000000000000{}\n", &line[16..])).collect();
        assert_eq!(find(hidden.as_bytes(), || Some(8)), Contexts::default());
        assert_eq!(find(&[][..], || Some(8)), Contexts::default());
    }
}
