//! Symbols of an ELF file. Only its headers, its symbols and their names are read: a `vmlinux` with
//! debugging information is large.

use super::table::{Builder, EXPECTED, Table, is_name};
use object::Endianness;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::read::{ReadCache, ReadRef};
use std::fs::File;

/// Most bytes of symbols or of names.
const MAX_SECTION: u64 = 256 << 20;
/// Bytes before the 32-bit and 64-bit headers differ.
const IDENT: usize = 16;

/// Whether it begins as an ELF file does.
pub(super) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(&elf::ELFMAG)
}

/// The symbols of an open file. Errors are the rest of a sentence that begins with the file.
pub(super) fn from_file(file: File) -> Result<Table, String> {
    from(&ReadCache::new(file))
}

/// The same of its content.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<Table, String> {
    from(bytes)
}

fn from<'data, R: ReadRef<'data>>(data: R) -> Result<Table, String> {
    let ident = data.read_bytes_at(0, IDENT as u64).unwrap_or_default();
    match ident.get(4) {
        Some(&elf::ELFCLASS32) => read::<FileHeader32<Endianness>, R>(data),
        Some(&elf::ELFCLASS64) => read::<FileHeader64<Endianness>, R>(data),
        _ => Err(garbled("its class is neither 32 nor 64 bits")),
    }
}

fn garbled(why: impl std::fmt::Display) -> String {
    format!("is a damaged ELF file ({why}); {EXPECTED}")
}

fn read<'data, Elf, R>(data: R) -> Result<Table, String>
where
    Elf: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let header = Elf::parse(data).map_err(garbled)?;
    let endian = header.endian().map_err(garbled)?;
    if header.e_type(endian) == elf::ET_REL {
        // A module: its addresses count from wherever it will be loaded.
        return Err(format!(
            "is an object that is not linked, whose code has no addresses; {EXPECTED}"
        ));
    }
    let sections = header.sections(endian, data).map_err(garbled)?;
    for section in sections.iter() {
        let what = section.sh_type(endian);
        let bytes: u64 = section.sh_size(endian).into();
        if matches!(what, elf::SHT_SYMTAB | elf::SHT_STRTAB) && bytes > MAX_SECTION {
            return Err(format!(
                "has more symbols than the {} MiB that are read",
                MAX_SECTION >> 20
            ));
        }
    }
    let symbols = sections.symbols(endian, data, elf::SHT_SYMTAB).map_err(garbled)?;
    if symbols.is_empty() {
        return Err(format!("is an ELF file without symbols (stripped); {EXPECTED}"));
    }
    // All names at once: one by one they would be a read of the file each.
    let names = sections
        .section(symbols.string_section())
        .and_then(|section| section.data(endian, data))
        .map_err(garbled)?;
    let mut builder = Builder::default();
    for (index, symbol) in symbols.enumerate() {
        // Labels of assembly have no type.
        if !matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_NOTYPE) {
            continue;
        }
        let is_code = symbols
            .symbol_section(endian, symbol, index)
            .ok()
            .flatten()
            .and_then(|index| sections.section(index).ok())
            .is_some_and(|section| {
                let flags: u64 = section.sh_flags(endian).into();
                flags & u64::from(elf::SHF_EXECINSTR) != 0
            });
        let address: u64 = symbol.st_value(endian).into();
        let name = names.get(symbol.st_name(endian) as usize..).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if is_code && address != 0 && is_name(name) {
            builder.add(address, symbol.st_bind() != elf::STB_LOCAL, name)?;
        }
    }
    if builder.is_empty() {
        return Err(format!("is an ELF file without symbols of code; {EXPECTED}"));
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// A file with a section of code, a table of symbols and their names, by hand.
    fn elf(kind: u16, symbols: &[(u64, u8, u16, &str)]) -> Vec<u8> {
        let mut names = vec![0u8];
        let mut table = vec![0u8; 24];
        for (address, info, section, name) in symbols {
            table.extend((names.len() as u32).to_le_bytes());
            table.extend([*info, 0]);
            table.extend(section.to_le_bytes());
            table.extend(address.to_le_bytes());
            table.extend(16u64.to_le_bytes());
            names.extend(name.bytes());
            names.push(0);
        }
        let (table_at, names_at) = (64u64, 64 + table.len() as u64);
        let sections_at = (names_at + names.len() as u64).next_multiple_of(8);
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend(kind.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend([0u8; 16]);
        file.extend(sections_at.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 0, 64, 4, 3] {
            file.extend(half.to_le_bytes());
        }
        file.extend(&table);
        file.extend(&names);
        file.resize(sections_at as usize, 0);
        let mut section = |what: u32, flags: u64, at: u64, size: u64, link: u32, each: u64| {
            file.extend(0u32.to_le_bytes());
            file.extend(what.to_le_bytes());
            for word in [flags, 0, at, size] {
                file.extend(word.to_le_bytes());
            }
            file.extend(link.to_le_bytes());
            file.extend(1u32.to_le_bytes());
            file.extend(8u64.to_le_bytes());
            file.extend(each.to_le_bytes());
        };
        section(0, 0, 0, 0, 0, 0);
        section(1, 0x6, 0, 0, 0, 0);
        section(2, 0, table_at, table.len() as u64, 3, 24);
        section(3, 0, names_at, names.len() as u64, 0, 0);
        file
    }

    const FUNCTION: u8 = 0x12;
    const DATA: u8 = 0x11;

    fn kernel() -> Vec<u8> {
        elf(
            2,
            &[
                (0xffff_ffff_8100_1000, FUNCTION, 1, "native_safe_halt"),
                (0xffff_ffff_8100_2000, 0x00, 1, "asm_label"),
                (0xffff_ffff_8100_3000, DATA, 1, "a_table"),
                (0xffff_ffff_8200_0000, FUNCTION, 0xfff1, "absolute"),
                (0xffff_ffff_8300_0000, FUNCTION, 0, "undefined"),
            ],
        )
    }

    #[test]
    fn the_functions_of_a_kernel_are_read() {
        let table = from_bytes(&kernel()).expect("symbols");
        assert_eq!(table.len(), 2);
        assert_eq!(table.name(0xffff_ffff_8100_1001), Some(("native_safe_halt", 1)));
        assert_eq!(table.name(0xffff_ffff_8100_3004), Some(("asm_label", 0x1004)));
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&kernel()).expect("written");
        assert_eq!(Table::load(file.path()).expect("the same"), table);
    }

    #[test]
    fn what_has_none_is_said() {
        let error = from_bytes(&elf(2, &[])).expect_err("stripped");
        assert!(error.contains("without symbols"), "{error}");
        let error = from_bytes(&elf(2, &[(0x1000, DATA, 1, "x")])).expect_err("data only");
        assert!(error.contains("without symbols of code"), "{error}");
        let error = from_bytes(&elf(1, &[(0x1000, FUNCTION, 1, "x")])).expect_err("a module");
        assert!(error.contains("not linked"), "{error}");
        for length in [4, 16, 63] {
            let error = from_bytes(&kernel()[..length]).expect_err("cut off");
            assert!(error.contains("damaged"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_read_or_refused(
            at in 0..700usize, byte in any::<u8>(), cut in 0..700usize,
        ) {
            let mut file = kernel();
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            let _ = from_bytes(&file);
            let _ = from_bytes(file.get(..cut).unwrap_or(&file));
        }
    }
}
