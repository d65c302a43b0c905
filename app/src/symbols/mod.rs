//! Which code of a guest an address is in, from symbols of its kernel (`--guest-symbols`).

mod elf;
pub mod kallsyms;
mod slide;
mod table;

pub use slide::{Offset, find_offset, still_holds};
pub use table::Table;

use crate::model::ids::Reason;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Which half of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Half {
    /// The upper: a kernel's, in 64-bit mode.
    Kernel,
    /// The lower: a process's, or firmware and a kernel that are not in 64-bit mode yet.
    User,
}

impl Half {
    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }
}

/// The half of the address space that a guest's instruction is in, by bit 63.
pub fn half(rip: u64) -> Half {
    if rip >> 63 == 1 { Half::Kernel } else { Half::User }
}

/// One `--guest-symbols VM=FILE[@OFFSET]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Name of the VM.
    pub vm: String,
    /// The file.
    pub path: PathBuf,
    /// The offset, where it was given.
    pub offset: Option<Offset>,
}

/// Reads `VM=FILE[@OFFSET]`. An `@` in the file's name is its own where no number follows.
pub fn parse_option(text: &str) -> Result<Asked, String> {
    const FORM: &str = "VM=FILE[@OFFSET] is expected, as in web1=/boot/System.map";
    let (vm, rest) = text.split_once('=').ok_or_else(|| FORM.to_owned())?;
    let (path, offset) = match rest.rsplit_once('@') {
        Some((path, number)) if looks_like_number(number) => {
            let offset = offset(number).ok_or_else(|| {
                format!("the offset {number:?} is not a number of 64 bits, as 0x1c800000 is")
            })?;
            (path, Some(offset))
        }
        _ => (rest, None),
    };
    if vm.is_empty() || path.is_empty() {
        return Err(FORM.to_owned());
    }
    Ok(Asked { vm: vm.to_owned(), path: path.into(), offset })
}

fn looks_like_number(text: &str) -> bool {
    text.strip_prefix('-').unwrap_or(text).starts_with(|first: char| first.is_ascii_digit())
}

fn offset(text: &str) -> Option<Offset> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let value = value.ok().filter(|value| *value >= 0)?;
    Some(Offset(if negative { -value } else { value }))
}

/// What is known of an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// The person said so.
    Given(Offset),
    /// From exits.
    Found(Offset),
    /// Not yet.
    No,
}

/// The symbols of one VM.
#[derive(Clone, Debug)]
struct Entry {
    table: Arc<Table>,
    offset: Known,
    /// Where it exited, for what, how often; [`EVIDENCE`] at most.
    evidence: BTreeMap<(u64, Reason), u64>,
}

/// Most places of exits that are kept for a VM while its offset is looked for.
const EVIDENCE: usize = 512;

/// Guests' symbols, by the VM's name. The default has none.
#[derive(Clone, Debug, Default)]
pub struct GuestSymbols {
    vms: BTreeMap<String, Entry>,
}

impl GuestSymbols {
    /// Reads every file that was asked for. The error is a sentence.
    pub fn load(asked: &[Asked]) -> Result<Self, String> {
        let mut symbols = Self::default();
        for Asked { vm, path, offset } in asked {
            if symbols.vms.contains_key(vm) {
                return Err(format!("symbols for the VM {vm:?} are given twice; give them once"));
            }
            symbols.insert(vm, Table::load(path)?, *offset);
        }
        Ok(symbols)
    }

    /// Symbols for the VM of this name, and their offset where it is known.
    pub fn insert(&mut self, vm: &str, table: Table, offset: Option<Offset>) {
        // What is linked to the lower half (firmware, a guest without paging) does not move.
        let fixed = table.first_from(1 << 63).is_none();
        let offset = match offset {
            Some(offset) => Known::Given(offset),
            None if fixed => Known::Given(Offset(0)),
            None => Known::No,
        };
        let entry = Entry { table: Arc::new(table), offset, evidence: BTreeMap::new() };
        self.vms.insert(vm.to_owned(), entry);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.vms.is_empty()
    }

    /// The VMs that symbols were given for.
    pub fn vms(&self) -> impl Iterator<Item = &str> {
        self.vms.keys().map(String::as_str)
    }

    /// "read_hpet+0x9"; `None` without symbols, without their offset, and outside of them.
    pub fn describe(&self, vm_name: &str, rip: u64) -> Option<String> {
        let entry = self.vms.get(vm_name)?;
        let (Known::Given(offset) | Known::Found(offset)) = entry.offset else { return None };
        if !offset.applies(rip) {
            return None;
        }
        let (name, behind) = entry.table.name(offset.undo(rip))?;
        // A module's place in the file is that of the boot in which the file was copied.
        if offset.0 != 0 && name.ends_with(']') {
            return None;
        }
        Some(if behind == 0 { name.to_owned() } else { format!("{name}+{behind:#x}") })
    }

    /// What is known of a VM's offset, in a sentence; `None` for a VM without symbols.
    pub fn note(&self, vm_name: &str) -> Option<String> {
        Some(match self.vms.get(vm_name)?.offset {
            Known::Given(offset) => format!("symbols at offset {offset}"),
            Known::Found(offset) => format!("symbols at offset {offset}, found from exits"),
            Known::No => "symbols wait for exits that tell where the kernel is, or are another \
                          kernel's; --guest-symbols VM=FILE@OFFSET gives the offset"
                .to_owned(),
        })
    }

    /// Takes exits in: (address, reason, how often) of an interval. Finds the offset when they tell
    /// enough, and again when a guest that has booted anew exits elsewhere.
    pub fn learn(&mut self, vm_name: &str, exits: &[(u64, Reason, u64)]) {
        let Some(entry) = self.vms.get_mut(vm_name) else { return };
        match entry.offset {
            Known::Given(_) => return,
            Known::Found(offset) if still_holds(&entry.table, exits, offset) => return,
            Known::Found(_) => {
                entry.offset = Known::No;
                entry.evidence.clear();
            }
            Known::No => {}
        }
        let before = entry.evidence.len();
        for &(rip, reason, count) in exits {
            let known = entry.evidence.len();
            match entry.evidence.entry((rip, reason)) {
                std::collections::btree_map::Entry::Occupied(mut seen) => {
                    *seen.get_mut() = seen.get().saturating_add(count);
                }
                std::collections::btree_map::Entry::Vacant(place) if known < EVIDENCE => {
                    place.insert(count);
                }
                std::collections::btree_map::Entry::Vacant(_) => {}
            }
        }
        if entry.evidence.len() == before {
            // Nothing new; the answer would be as before.
            return;
        }
        let all: Vec<_> =
            entry.evidence.iter().map(|(&(rip, reason), &count)| (rip, reason, count)).collect();
        if let Some(offset) = find_offset(&entry.table, &all) {
            entry.offset = Known::Found(offset);
            entry.evidence.clear();
        } else if entry.evidence.len() == EVIDENCE {
            // Full, and of no use: perhaps a guest that had not booted yet.
            entry.evidence.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::Isa;
    use proptest::prelude::*;
    use std::io::Write;

    const HALT: Reason = Reason::exit(Isa::Svm, 0x78);
    const WRITE: Reason = Reason::exit(Isa::Svm, 0x1_007c);
    const READ: Reason = Reason::exit(Isa::Svm, 0x7c);
    const MAP: &str = "\
ffffffff81000000 T _stext
ffffffff81c00000 T default_idle
ffffffff81c00040 T something_else
ffffffff81d00000 T native_write_msr
ffffffff81d00040 T another
ffffffff81d00080 T native_read_msr
ffffffff81d000c0 T the_last
";

    fn symbols(offset: Option<Offset>) -> GuestSymbols {
        let mut symbols = GuestSymbols::default();
        symbols.insert("web", Table::from_bytes(MAP.as_bytes()).expect("symbols"), offset);
        symbols
    }

    #[test]
    fn halves() {
        assert_eq!(half(0xffff_ffff_8100_0000), Half::Kernel);
        assert_eq!(half(0x7fff_ffff_f000), Half::User);
        assert_eq!(half(0xfff0), Half::User);
        assert_eq!(half(0).word(), "user");
    }

    #[test]
    fn the_option_is_read() {
        let asked = |text| parse_option(text).expect("read");
        assert_eq!(
            asked("web=/boot/System.map"),
            Asked { vm: "web".into(), path: "/boot/System.map".into(), offset: None }
        );
        assert_eq!(asked("web=map@0x1c800000").offset, Some(Offset(0x1c80_0000)));
        assert_eq!(asked("web=map@-0x200000").offset, Some(Offset(-0x20_0000)));
        assert_eq!(asked("web=map@0").offset, Some(Offset(0)));
        assert_eq!(asked("web=a@b/map").path, PathBuf::from("a@b/map"));
        assert_eq!(asked("web=a=b").path, PathBuf::from("a=b"));
        for wrong in ["", "web", "=map", "web=", "web=@0x10"] {
            assert!(parse_option(wrong).is_err_and(|e| e.contains("VM=FILE")), "{wrong}");
        }
        for wrong in ["web=map@0xzz", "web=map@1x", "web=map@0xffffffffffffffff"] {
            assert!(parse_option(wrong).is_err_and(|e| e.contains("offset")), "{wrong}");
        }
    }

    #[test]
    fn a_given_offset_is_used() {
        let symbols = symbols(Some(Offset(0x20_0000)));
        assert_eq!(
            symbols.describe("web", 0xffff_ffff_81e0_0009).as_deref(),
            Some("default_idle+0x9")
        );
        assert_eq!(symbols.describe("web", 0xffff_ffff_81e0_0000).as_deref(), Some("default_idle"));
        assert_eq!(symbols.describe("web", 0x40_0000), None);
        assert_eq!(symbols.describe("db", 0xffff_ffff_81e0_0009), None);
        assert_eq!(symbols.note("web").as_deref(), Some("symbols at offset 0x200000"));
        assert_eq!(symbols.note("db"), None);
    }

    #[test]
    fn modules_have_names_only_from_the_same_boot() {
        let map = format!("{MAP}ffffffffc0a00000 t vhost_poll\t[vhost]\n");
        let with = |offset| {
            let mut symbols = GuestSymbols::default();
            let table = Table::from_bytes(map.as_bytes()).expect("symbols");
            symbols.insert("web", table, Some(Offset(offset)));
            symbols
        };
        let same = with(0).describe("web", 0xffff_ffff_c0a0_0004);
        assert_eq!(same.as_deref(), Some("vhost_poll [vhost]+0x4"));
        assert_eq!(with(0x20_0000).describe("web", 0xffff_ffff_c0c0_0004), None);
        // A module's address from which the offset leads into the kernel's text.
        assert_eq!(with(0x3f00_0000).describe("web", 0xffff_ffff_c0c0_0009), None);
    }

    #[test]
    fn an_offset_is_learnt_over_several_intervals_and_again_after_a_boot() {
        let mut symbols = symbols(None);
        let (idle, write, read) =
            (0xffff_ffff_a1c0_0003, 0xffff_ffff_a1d0_0009, 0xffff_ffff_a1d0_0085u64);
        symbols.learn("web", &[(idle, HALT, 1_000)]);
        assert_eq!(symbols.describe("web", idle), None);
        assert!(symbols.note("web").is_some_and(|note| note.contains("wait")));
        symbols.learn("web", &[(idle, HALT, 1_000), (write, WRITE, 900)]);
        assert_eq!(symbols.describe("web", idle), None, "two may be by accident");
        symbols.learn("web", &[(idle, HALT, 1_000), (read, READ, 5)]);
        assert_eq!(symbols.describe("web", idle).as_deref(), Some("default_idle+0x3"));
        assert_eq!(symbols.describe("web", write).as_deref(), Some("native_write_msr+0x9"));
        symbols.learn("web", &[(0xffff_ffff_a100_0000, HALT, 1)]);
        assert!(symbols.describe("web", idle).is_some(), "one odd exit does not unsettle it");

        let boot = |rip: u64| rip + 0x60_0000;
        let again = [
            (boot(idle), HALT, 9),
            (boot(idle) + 1, HALT, 9),
            (boot(write), WRITE, 9),
            (boot(read), READ, 9),
        ];
        symbols.learn("web", &again);
        assert_eq!(symbols.describe("web", boot(write)).as_deref(), Some("native_write_msr+0x9"));
        assert_eq!(symbols.describe("web", idle), None);
    }

    #[test]
    fn code_of_the_lower_half_does_not_move() {
        let mut symbols = GuestSymbols::default();
        let table = Table::from_bytes(b"1000 T start\n1100 t loop\n").expect("symbols");
        symbols.insert("tiny", table, None);
        assert_eq!(symbols.describe("tiny", 0x1104).as_deref(), Some("loop+0x4"));
    }

    #[test]
    fn files_are_loaded_once_for_each_vm() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(MAP.as_bytes()).expect("written");
        let asked = |vm: &str| Asked { vm: vm.into(), path: file.path().into(), offset: None };
        let symbols = GuestSymbols::load(&[asked("a"), asked("b")]).expect("loaded");
        assert_eq!(symbols.vms().collect::<Vec<_>>(), ["a", "b"]);
        assert!(GuestSymbols::default().is_empty());
        let error = GuestSymbols::load(&[asked("a"), asked("a")]).expect_err("twice");
        assert!(error.contains("given twice"), "{error}");
    }

    proptest! {
        #[test]
        fn any_option_and_any_exits_are_taken(
            text in ".{0,60}",
            exits in proptest::collection::vec((any::<u64>(), 0..100u32, any::<u64>()), 0..50),
        ) {
            let _ = parse_option(&text);
            let mut symbols = symbols(None);
            let exits: Vec<_> = exits
                .into_iter()
                .map(|(rip, code, count)| (rip | 0xffff_ffff_8000_0000, Reason::exit(Isa::Vmx, code), count))
                .collect();
            symbols.learn("web", &exits);
            symbols.learn("web", &exits);
            if let Some((rip, ..)) = exits.first() {
                let _ = symbols.describe("web", *rip);
            }
        }
    }
}
