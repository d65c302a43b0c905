//! The host's own kernel: names for addresses of its code, from `/proc/kallsyms`. Pure.

use super::Table;
use std::collections::BTreeSet;

/// Symbols of the running kernel and its modules.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HostSymbols {
    table: Table,
}

impl HostSymbols {
    /// Reads the text of `/proc/kallsyms`. The error is a sentence: it has no addresses, say, for who may not
    /// see them.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Table::from_bytes(text.as_bytes()) {
            Ok(table) => Ok(Self { table }),
            Err(_) if hides(text) => {
                Err("the kernel hides its addresses (kernel.kptr_restrict, or no \
                 CAP_SYSLOG): its functions are shown by address; `sysctl kernel.kptr_restrict=0` \
                 shows them"
                    .to_owned())
            }
            Err(why) => Err(format!(
                "the kernel's functions are shown by address: /proc/kallsyms {}",
                why.split(';').next().unwrap_or_default()
            )),
        }
    }

    /// The function that an address is in, with the offset in it ("kvm_mmu_load+0x5c \[kvm\]"); empty
    /// where none is. `returns` is whether a call returns there: that belongs to the function that called,
    /// though a call may be its last instruction.
    pub fn name(&self, address: u64, returns: bool) -> String {
        let back = u64::from(returns);
        let Some((name, offset)) = self.table.name(address.wrapping_sub(back)) else {
            return String::new();
        };
        let offset = offset + back;
        match name.split_once(' ') {
            Some((name, module)) => format!("{name}+{offset:#x} {module}"),
            None => format!("{name}+{offset:#x}"),
        }
    }
}

/// Whether it has symbols, of which none has an address.
fn hides(text: &str) -> bool {
    let mut addresses = text.lines().filter_map(|line| line.split_once(' ')).take(1_000).peekable();
    addresses.peek().is_some() && addresses.all(|(at, _)| at.bytes().all(|digit| digit == b'0'))
}

/// Functions of a `/proc/kallsyms` that have this name, or that the compiler made from it
/// ("NAME.isra.0", "NAME.constprop.0", "NAME.part.0"); each with its module, in order.
pub fn named(text: &str, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        // The name stands after address and type; a module follows a tab.
        let Some(symbol) = line.splitn(3, ' ').nth(2) else { continue };
        let rest = symbol.strip_prefix(name);
        if rest.is_some_and(|rest| matches!(rest.bytes().next(), None | Some(b'.' | b'\t'))) {
            found.insert(symbol.replace('\t', " "));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
ffffffff81000000 T _stext
ffffffff81001000 T do_syscall_64
ffffffff81001200 T entry_SYSCALL_64_after_hwframe
ffffffff81a00000 D jiffies
ffffffffc0f01000 t kvm_mmu_load\t[kvm]
ffffffffc0f02000 t mark_page_dirty_in_slot.part.0\t[kvm]
ffffffffc0f03000 t mark_page_dirty_in_slots\t[kvm]
ffffffffc1002000 t svm_load_mmu_pgd\t[kvm_amd]
";

    #[test]
    fn an_address_is_in_a_function_of_a_module() {
        let symbols = HostSymbols::parse(TEXT).expect("symbols");
        assert_eq!(symbols.name(0xffff_ffff_c100_2001, false), "svm_load_mmu_pgd+0x1 [kvm_amd]");
        assert_eq!(symbols.name(0xffff_ffff_c0f0_105c, true), "kvm_mmu_load+0x5c [kvm]");
        assert_eq!(
            symbols.name(0xffff_ffff_8100_1200, true),
            "do_syscall_64+0x200",
            "its last call"
        );
        assert_eq!(
            symbols.name(0xffff_ffff_8100_1200, false),
            "entry_SYSCALL_64_after_hwframe+0x0"
        );
        assert_eq!(symbols.name(0x1000, true), "");
    }

    #[test]
    fn hidden_addresses_are_told_from_nonsense() {
        let hidden = TEXT.lines().map(|line| format!("{:016x}{}\n", 0, &line[16..]));
        let why = HostSymbols::parse(&hidden.collect::<String>()).expect_err("hidden");
        assert!(why.contains("kptr_restrict"), "{why}");
        let why = HostSymbols::parse("nothing of the kind").expect_err("no symbols");
        assert!(why.contains("/proc/kallsyms") && !why.contains("kptr"), "{why}");
        assert!(HostSymbols::parse("").is_err());
    }

    #[test]
    fn what_the_compiler_made_of_a_function_is_found() {
        let of = |name| named(TEXT, name).into_iter().collect::<Vec<_>>();
        assert_eq!(of("mark_page_dirty_in_slot"), ["mark_page_dirty_in_slot.part.0 [kvm]"]);
        assert_eq!(of("kvm_mmu_load"), ["kvm_mmu_load [kvm]"]);
        assert!(of("vmx_load_mmu_pgd").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_and_address_are_survived(
            lines in proptest::collection::vec("([0-9a-f]{0,17} )?[tTdw]? ?[a-z_.]{0,6}(\t\\[kvm\\])?", 0..20),
            address in any::<u64>(), returns in any::<bool>(),
        ) {
            let text = lines.join("\n");
            named(&text, "a");
            if let Ok(symbols) = HostSymbols::parse(&text) {
                symbols.name(address, returns);
            }
        }
    }
}
