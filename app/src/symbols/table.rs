//! A kernel's symbols, by address.

use super::elf;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest file that is read, bytes. A `vmlinux` with debugging information has some 900 MB.
const MAX_FILE: u64 = 1 << 30;
/// Largest file of text, bytes. A kernel's kallsyms has some 15 MB.
const MAX_TEXT: u64 = 256 << 20;
/// Most symbols that are kept. A kernel with all its modules has some 300 000 of code.
pub(super) const MAX_SYMBOLS: usize = 4 << 20;
/// Longest name, bytes: the kernel's own bound (`KSYM_NAME_LEN`), and a module's.
pub(super) const MAX_NAME: usize = 512 + 64;
/// How far behind the last symbol before it an address still belongs to it, bytes.
const MAX_EXTENT: u64 = 256 << 10;

/// Symbols of code, sorted by address, one for each address.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    addresses: Vec<u64>,
    /// Where each name ends in `names`; it begins where the one before ends.
    ends: Vec<u32>,
    names: String,
}

impl Table {
    /// Reads a `System.map`, a copy of `/proc/kallsyms`, or an ELF file with symbols. The error is
    /// a sentence with what to do.
    pub fn load(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("{shown} is not there"),
            _ => format!("{shown} could not be opened: {error}"),
        })?;
        let about = file.metadata().map_err(|error| format!("{shown}: {error}"))?;
        if !about.is_file() {
            return Err(format!("{shown} is not a file; {EXPECTED}"));
        }
        if about.len() > MAX_FILE {
            return Err(format!(
                "{shown} has {} MiB, more than the {} MiB that are read; a System.map says the \
                 same in a few",
                about.len() >> 20,
                MAX_FILE >> 20
            ));
        }
        // Files of /proc have no length: what they turn out to have is bounded too.
        let read = |file: &File, most: u64| {
            let mut bytes = Vec::new();
            let read = file.take(most + 1).read_to_end(&mut bytes);
            read.map(|_| bytes).map_err(|error| format!("{shown} could not be read: {error}"))
        };
        let mut bytes = read(&file, HEAD as u64 - 1)?;
        if elf::is_elf(&bytes) {
            return elf::from_file(file).map_err(|why| format!("{shown} {why}"));
        }
        if !is_image(&bytes) && about.len() <= MAX_TEXT {
            bytes.append(&mut read(&file, MAX_TEXT)?);
        }
        if about.len().max(bytes.len() as u64) > MAX_TEXT && !is_image(&bytes) {
            return Err(format!(
                "{shown} has more than the {} MiB of text that are read; {EXPECTED}",
                MAX_TEXT >> 20
            ));
        }
        Self::from_bytes(&bytes).map_err(|why| format!("{shown} {why}"))
    }

    /// The same of a file's content. The error is the rest of a sentence that begins with the file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if elf::is_elf(bytes) {
            return elf::from_bytes(bytes);
        }
        if is_image(bytes) {
            return Err(format!("is a compressed kernel image, which has no symbols; {EXPECTED}"));
        }
        Self::from_text(&String::from_utf8_lossy(bytes))
    }

    /// Lines of `ADDRESS TYPE NAME [MODULE]`. Only code is kept.
    fn from_text(text: &str) -> Result<Self, String> {
        let (mut builder, mut good, mut bad, mut zero) = (Builder::default(), 0u64, 0u64, 0u64);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let Some((address, kind, name)) = symbol(line) else {
                bad += 1;
                continue;
            };
            good += 1;
            zero += u64::from(address == 0);
            if matches!(kind, 'T' | 't' | 'W' | 'w') && address != 0 {
                builder.add(address, kind.is_ascii_uppercase(), name)?;
            }
        }
        if bad >= good {
            return Err(format!("is not a file of symbols; {EXPECTED}"));
        }
        if zero * 2 > good {
            return Err(
                "has no addresses: kernel.kptr_restrict hid them from who read it; in the guest, \
                 `sudo cat /proc/kallsyms` shows them"
                    .into(),
            );
        }
        if builder.symbols.is_empty() {
            return Err(format!("has no symbols of code; {EXPECTED}"));
        }
        Ok(builder.finish())
    }

    /// The symbol that an address is in, and how far behind its beginning, bytes. `None` where no
    /// symbol begins close before.
    pub fn name(&self, address: u64) -> Option<(&str, u64)> {
        let at = self.addresses.partition_point(|begin| *begin <= address).checked_sub(1)?;
        let offset = address - self.addresses.get(at)?;
        let begin = at.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        let name = self.names.get(begin as usize..*self.ends.get(at)? as usize)?;
        (offset < MAX_EXTENT && !is_border(name)).then_some((name, offset))
    }

    /// Address of the first symbol at or behind `from`.
    pub fn first_from(&self, from: u64) -> Option<u64> {
        self.addresses.get(self.addresses.partition_point(|begin| *begin < from)).copied()
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

/// What may be given.
pub(super) const EXPECTED: &str =
    "give the guest kernel's System.map, a copy of its /proc/kallsyms, or its vmlinux";
/// Bytes that tell what a file is.
const HEAD: usize = 0x206;

/// Whether it is a bzImage: the setup header's signature (Documentation/arch/x86/boot.rst).
fn is_image(bytes: &[u8]) -> bool {
    bytes.get(0x202..HEAD) == Some(b"HdrS")
}

/// Symbols that mark where something ends: what is behind them is not theirs.
fn is_border(name: &str) -> bool {
    matches!(name, "_etext" | "_einittext" | "__init_end" | "_end" | "__end_rodata")
}

/// One line of text.
fn symbol(line: &str) -> Option<(u64, char, &str)> {
    let (address, rest) = line.split_once(' ')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let (kind, name) = rest.split_once(' ')?;
    let mut kinds = kind.chars();
    let kind = kinds.next().filter(char::is_ascii_alphabetic)?;
    let name = name.trim_end();
    (kinds.next().is_none() && is_name(name)).then_some((address, kind, name))
}

/// Whether it is what a symbol may be called, with a module's name behind a tab. Names go to a
/// terminal: nothing else may.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b'\t' || byte == b' ')
}

/// Collects symbols.
#[derive(Default)]
pub(super) struct Builder {
    symbols: Vec<(u64, bool, String)>,
}

impl Builder {
    /// One more, if there is room.
    pub(super) fn add(&mut self, address: u64, global: bool, name: &str) -> Result<(), String> {
        if self.symbols.len() >= MAX_SYMBOLS {
            return Err(format!("has more than the {MAX_SYMBOLS} symbols that are kept"));
        }
        let name = match name.split_once('\t') {
            Some((name, module)) => format!("{} {}", name.trim_end(), module.trim()),
            None => name.to_owned(),
        };
        self.symbols.push((address, global, name));
        Ok(())
    }

    /// Whether there is none yet.
    pub(super) fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Sorted, the plainest name of each address.
    pub(super) fn finish(mut self) -> Table {
        // Of several names for an address, people know the one without underscores before it, and
        // rather one that other files may use. The end mark of one section is the first of another.
        fn plainness(name: &str) -> (bool, usize, usize) {
            let underscores = name.len() - name.trim_start_matches('_').len();
            (is_border(name) || matches!(name, "_text" | "_stext"), underscores, name.len())
        }
        self.symbols.sort_by(|(at, global, name), (other_at, other_global, other)| {
            at.cmp(other_at)
                .then_with(|| plainness(name).0.cmp(&plainness(other).0))
                .then_with(|| other_global.cmp(global))
                .then_with(|| plainness(name).cmp(&plainness(other)))
                .then_with(|| name.cmp(other))
        });
        self.symbols.dedup_by_key(|(at, ..)| *at);
        let mut table = Table::default();
        for (address, _, name) in self.symbols {
            let Ok(end) = u32::try_from(table.names.len() + name.len()) else { break };
            table.names.push_str(&name);
            table.addresses.push(address);
            table.ends.push(end);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const MAP: &str = "\
0000000000000000 D __per_cpu_start
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000040 t secondary_startup_64
ffffffff81c01230 T __pi_memcpy
ffffffff81c01230 T memcpy
ffffffff81c02000 T read_hpet
ffffffff81c02010 d some_data
ffffffff81c02040 t acpi_pm_read
ffffffff81c03000 T _etext
ffffffffc0a00000 t vhost_poll_start\t[vhost]
";

    fn table(text: &str) -> Table {
        Table::from_bytes(text.as_bytes()).expect("symbols")
    }

    #[test]
    fn an_address_is_in_the_symbol_before_it() {
        let table = table(MAP);
        assert_eq!(table.name(0xffff_ffff_81c0_2009), Some(("read_hpet", 9)));
        assert_eq!(table.name(0xffff_ffff_81c0_2010), Some(("read_hpet", 0x10)));
        assert_eq!(table.name(0xffff_ffff_81c0_2040), Some(("acpi_pm_read", 0)));
        assert_eq!(table.name(0xffff_ffff_c0a0_0004), Some(("vhost_poll_start [vhost]", 4)));
        assert_eq!(table.first_from(0xffff_ffff_8000_0000), Some(0xffff_ffff_8100_0000));
    }

    #[test]
    fn what_is_nobody_s_has_no_name() {
        let table = table(MAP);
        assert_eq!(table.name(0xffff_ffff_81c0_3010), None, "behind the end of the text");
        assert_eq!(table.name(0xffff_ffff_8100_0040 + MAX_EXTENT), None, "too far");
        assert_eq!(table.name(0x7f00_0000_1000), None);
        assert_eq!(table.name(u64::MAX), None);
        assert_eq!(Table::default().name(0), None);
    }

    #[test]
    fn of_several_names_the_plain_one_is_taken() {
        let table = table(MAP);
        assert_eq!(table.name(0xffff_ffff_81c0_1230), Some(("memcpy", 0)));
        let ordered = "10 t __x\n10 T y\n20 t _text\n20 t a_function\n30 T _etext\n30 T next\n";
        let table = self::table(ordered);
        assert_eq!(table.name(0x10), Some(("y", 0)));
        assert_eq!(table.name(0x20), Some(("a_function", 0)));
        assert_eq!(table.name(0x30), Some(("next", 0)));
    }

    #[test]
    fn what_is_no_file_of_symbols_is_said() {
        for (text, said) in [
            ("", "not a file of symbols"),
            ("hello\nworld\n", "not a file of symbols"),
            ("0000000000000000 T _text\n0000000000000000 t x\n", "kptr_restrict"),
            ("ffffffff81000000 D data\n", "no symbols of code"),
            ("ffffffff81000000 T \u{1b}[31mred\n", "not a file of symbols"),
        ] {
            let error = Table::from_bytes(text.as_bytes()).expect_err(text);
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let mut image = vec![0u8; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        let error = Table::from_bytes(&image).expect_err("compressed");
        assert!(error.contains("compressed kernel image"), "{error}");
    }

    #[test]
    fn files_that_cannot_be_read_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = Table::load(&dir.path().join("none")).expect_err("not there");
        assert!(error.contains("is not there"), "{error}");
        let error = Table::load(dir.path()).expect_err("a directory");
        assert!(error.contains("is not a file"), "{error}");
        // A hole: two gigabytes that take no room.
        let path = dir.path().join("huge");
        let file = File::create(&path).expect("made");
        file.set_len(2 << 30).expect("set");
        let error = Table::load(&path).expect_err("too large");
        assert!(error.contains("2048 MiB, more than the 1024 MiB"), "{error}");
        file.set_len(MAX_TEXT + 1).expect("set");
        let error = Table::load(&path).expect_err("too much text");
        assert!(error.contains("256 MiB of text"), "{error}");
    }

    #[test]
    fn a_file_is_read() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        // Longer than the head that is looked at first.
        let text = MAP.repeat(3);
        file.write_all(text.as_bytes()).expect("written");
        let table = Table::load(file.path()).expect("read");
        assert_eq!(table, self::table(&text));
        assert_eq!(table.len(), 7);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = Table::from_bytes(&bytes);
        }

        #[test]
        fn any_text_gives_names_that_a_terminal_can_take(text in "([0-9a-f]{1,18} [TtWwDA] .{0,12}\n){0,40}") {
            if let Ok(table) = Table::from_bytes(text.as_bytes()) {
                for address in &table.addresses {
                    if let Some((name, offset)) = table.name(*address) {
                        prop_assert_eq!(offset, 0);
                        prop_assert!(is_name(name), "{:?}", name);
                        prop_assert!(!name.contains('\t'), "{:?}", name);
                    }
                }
                prop_assert!(table.addresses.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
