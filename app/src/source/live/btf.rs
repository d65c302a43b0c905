//! Member offsets and type numbers from the kernel's BTF.
//!
//! Only this: where a member of a named struct is, and which number a named struct or function has. The published crates build the whole type
//! graph first (a quarter of a second for vmlinux) or do not read a module's split BTF; a walk
//! over the records that keeps nothing takes a few milliseconds.
//! Layout: Documentation/bpf/btf.rst; include/uapi/linux/btf.h.

use std::collections::BTreeMap;

const MAGIC: u16 = 0xeb9f;
/// `BTF_KIND_STRUCT`.
pub const KIND_STRUCT: u32 = 4;
/// `BTF_KIND_UNION`.
const KIND_UNION: u32 = 5;
/// `BTF_KIND_ENUM`.
const KIND_ENUM: u32 = 6;
/// `BTF_KIND_FUNC`.
pub const KIND_FUNC: u32 = 12;
/// `BTF_KIND_FUNC_PROTO`.
const KIND_FUNC_PROTO: u32 = 13;

/// A BTF blob: `/sys/kernel/btf/vmlinux`, or a module's, which continues the strings of vmlinux.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// vmlinux's strings, which a module's continue; none for vmlinux itself.
    base_strings: &'a [u8],
}

/// A type's three words, and where what follows them begins.
struct Record {
    name: u32,
    kind: u32,
    vlen: usize,
    bit_sizes: bool,
    at: usize,
}

impl<'a> Btf<'a> {
    /// Reads the header. `None` when this is no BTF, or is cut off.
    pub fn new(bytes: &'a [u8], base_strings: &'a [u8]) -> Option<Self> {
        let word = |at| read_u32(bytes, at).map(|w| w as usize);
        if u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let body = word(4)?;
        let part = |off: usize, len: usize| {
            let start = body.checked_add(off)?;
            bytes.get(start..start.checked_add(len)?)
        };
        let types = part(word(8)?, word(12)?)?;
        let strings = part(word(16)?, word(20)?)?;
        Some(Self { types, strings, base_strings })
    }

    /// The string section: the base of a module's.
    pub fn strings(&self) -> &'a [u8] {
        self.strings
    }

    /// Offsets in bytes of the asked-for members (`("task_struct", "pid")`) that exist. Bit fields
    /// and members of anonymous members are not found.
    pub fn offsets(
        &self,
        wanted: &[(&'static str, &'static str)],
    ) -> BTreeMap<(&'static str, &'static str), u32> {
        let mut found = BTreeMap::new();
        for (_, record) in self.records() {
            if record.kind == KIND_STRUCT
                && let Some(name) = self.string(record.name)
                && wanted.iter().any(|(of, _)| of.as_bytes() == name)
            {
                self.members(record.at, record.vlen, record.bit_sizes, name, wanted, &mut found);
            }
        }
        found
    }

    /// Offset in bytes of a member of a struct, or of what is anonymous in it, in vmlinux. Walks all records
    /// once for each of these.
    pub fn nested_offset(&self, of: &str, member: &str) -> Option<u32> {
        let named = |record: &Record| self.string(record.name) == Some(of.as_bytes());
        let (_, record) = self.records().find(|(_, r)| r.kind == KIND_STRUCT && named(r))?;
        self.nested(&record, member, 4)
    }

    fn nested(&self, record: &Record, member: &str, depth: u32) -> Option<u32> {
        (0..record.vlen).find_map(|i| {
            let at = record.at + 12 * i;
            let name = self.string(read_u32(self.types, at)?)?;
            let bits = read_u32(self.types, at + 8)?;
            let bits = if record.bit_sizes { bits & 0xff_ffff } else { bits };
            if name == member.as_bytes() && bits.is_multiple_of(8) {
                return Some(bits / 8);
            }
            if !name.is_empty() || depth == 0 {
                return None;
            }
            let number = read_u32(self.types, at + 4)?;
            let (_, inner) = self.records().find(|(n, _)| *n == number)?;
            if !matches!(inner.kind, KIND_STRUCT | KIND_UNION) {
                return None;
            }
            Some(bits / 8 + self.nested(&inner, member, depth - 1)?)
        })
    }

    /// Numbers and names of an enumeration; none where there is no such one.
    pub fn enumerators(&self, name: &str) -> BTreeMap<u32, String> {
        let is = |record: &Record| {
            record.kind == KIND_ENUM && self.string(record.name) == Some(name.as_bytes())
        };
        let Some((_, record)) = self.records().find(|(_, record)| is(record)) else {
            return BTreeMap::new();
        };
        let one = |i: usize| {
            let at = record.at + 8 * i;
            let name = self.string(read_u32(self.types, at)?)?;
            Some((read_u32(self.types, at + 4)?, String::from_utf8_lossy(name).into_owned()))
        };
        (0..record.vlen).filter_map(one).collect()
    }

    /// Number of the first type of this kind and name, in vmlinux.
    pub fn number(&self, kind: u32, name: &str) -> Option<u32> {
        self.records()
            .find(|(_, record)| {
                record.kind == kind && self.string(record.name) == Some(name.as_bytes())
            })
            .map(|(number, _)| number)
    }

    /// Names of the parameters of these functions, in order, of those that are there; `base` is vmlinux's,
    /// whose numbers a module continues.
    pub fn parameters(
        &self,
        base: Option<&Btf<'_>>,
        functions: &[&'static str],
    ) -> BTreeMap<&'static str, Vec<String>> {
        let mut numbers = BTreeMap::new();
        for (_, record) in self.records().filter(|(_, record)| record.kind == KIND_FUNC) {
            let Some(name) = self.string(record.name) else { continue };
            let wish = functions.iter().find(|wish| wish.as_bytes() == name);
            // The last of a record's own words is the number of its prototype.
            let number = record.at.checked_sub(4).and_then(|at| read_u32(self.types, at));
            numbers.extend(wish.copied().zip(number));
        }
        if numbers.is_empty() {
            return BTreeMap::new();
        }
        let before = base.map_or(0, |base| base.records().count() as u32);
        let mut found = self.prototypes(&numbers, before);
        found.extend(base.map(|base| base.prototypes(&numbers, 0)).unwrap_or_default());
        found
    }

    /// Of functions whose prototypes have these numbers, where the first record has the number after `before`.
    fn prototypes(
        &self,
        numbers: &BTreeMap<&'static str, u32>,
        before: u32,
    ) -> BTreeMap<&'static str, Vec<String>> {
        let mut found = BTreeMap::new();
        for (number, record) in self.records().filter(|(_, r)| r.kind == KIND_FUNC_PROTO) {
            let number = number + before;
            let name = |at: usize| {
                let name = self.string(read_u32(self.types, record.at + 8 * at)?)?;
                Some(String::from_utf8_lossy(name).into_owned())
            };
            for (function, _) in numbers.iter().filter(|(_, wanted)| **wanted == number) {
                let names: Option<Vec<String>> = (0..record.vlen).map(name).collect();
                found.extend(names.map(|names| (*function, names)));
            }
        }
        found
    }

    /// Every record with its number, which counts from 1 (0 is void).
    fn records(&self) -> impl Iterator<Item = (u32, Record)> {
        let mut at = 0;
        (1..).map_while(move |number| {
            let (name, info) = (read_u32(self.types, at)?, read_u32(self.types, at + 4)?);
            let (kind, vlen) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let record = Record { name, kind, vlen, bit_sizes: info >> 31 != 0, at: at + 12 };
            at += 12 + trailing(kind, vlen)?;
            Some((number, record))
        })
    }

    fn members(
        &self,
        start: usize,
        count: usize,
        bit_sizes: bool,
        of: &[u8],
        wanted: &[(&'static str, &'static str)],
        found: &mut BTreeMap<(&'static str, &'static str), u32>,
    ) {
        for i in 0..count {
            let at = start + 12 * i;
            let (Some(name), Some(offset)) =
                (read_u32(self.types, at), read_u32(self.types, at + 8))
            else {
                return;
            };
            // With bit sizes the upper byte is the width, 0 for an ordinary member.
            let bits = if bit_sizes { offset & 0xff_ffff } else { offset };
            if bits % 8 != 0 || (bit_sizes && offset >> 24 != 0) {
                continue;
            }
            let Some(name) = self.string(name) else { continue };
            let wish = wanted.iter().find(|(s, m)| s.as_bytes() == of && m.as_bytes() == name);
            if let Some(wish) = wish {
                found.entry(*wish).or_insert(bits / 8);
            }
        }
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let offset = offset as usize;
        let rest = match offset.checked_sub(self.base_strings.len()) {
            Some(own) => self.strings.get(own..)?,
            None => self.base_strings.get(offset..)?,
        };
        rest.split(|&b| b == 0).next()
    }
}

/// Bytes after a type's three words, or `None` for a kind that is not known: from there on
/// nothing can be read.
fn trailing(kind: u32, vlen: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * vlen,
        6 | 13 => 8 * vlen,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A BTF with one integer and `struct s { int a; int b; }`.
    fn sample(base: u32) -> Vec<u8> {
        let strings = b"\0s\0a\0b\0int\0";
        let mut types = Vec::new();
        let mut put = |words: &[u32]| words.iter().for_each(|w| types.extend(w.to_le_bytes()));
        put(&[base + 7, 1 << 24, 4, 32]);
        put(&[base + 1, 4 << 24 | 2, 8, base + 3, 1, 0, base + 5, 1, 32]);
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(types);
        out.extend(strings);
        out
    }

    #[test]
    fn finds_members() {
        let bytes = sample(0);
        let btf = Btf::new(&bytes, &[]).expect("is BTF");
        let found = btf.offsets(&[("s", "b"), ("s", "gone"), ("t", "b")]);
        assert_eq!(found, BTreeMap::from([(("s", "b"), 4)]));
    }

    #[test]
    fn finds_numbers() {
        let bytes = sample(0);
        let btf = Btf::new(&bytes, &[]).expect("is BTF");
        assert_eq!(btf.number(KIND_STRUCT, "s"), Some(2));
        assert_eq!(btf.number(KIND_FUNC, "s"), None);
    }

    fn blob(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([1, 0]);
        let length = 4 * types.len() as u32;
        let head = [24, 0, length, length, strings.len() as u32];
        head.iter().chain(types).for_each(|word| out.extend(word.to_le_bytes()));
        out.extend(strings);
        out
    }

    #[test]
    fn finds_members_of_what_is_anonymous() {
        // 1: int; 2: struct { int a; int b; }; 3: union { 2; int c; }; 4: struct s { int a; 3; }.
        let types = [
            [0, 1 << 24, 4, 32].to_vec(),
            [0, 4 << 24 | 2, 8, 1, 1, 0, 3, 1, 32].to_vec(),
            [0, 5 << 24 | 2, 8, 0, 2, 0, 5, 1, 0].to_vec(),
            [7, 4 << 24 | 2, 16, 1, 1, 0, 0, 3, 64].to_vec(),
        ]
        .concat();
        let bytes = blob(&types, b"\0a\0b\0c\0s\0");
        let btf = Btf::new(&bytes, &[]).expect("is BTF");
        let at = |member| btf.nested_offset("s", member);
        assert_eq!(["a", "b", "c", "d"].map(at), [Some(0), Some(12), Some(8), None]);
        assert_eq!(btf.nested_offset("t", "a"), None);
    }

    #[test]
    fn finds_the_numbers_of_an_enumeration() {
        let bytes = blob(&[1, 6 << 24 | 2, 4, 3, 0, 5, 8], b"\0e\0x\0y\0");
        let btf = Btf::new(&bytes, &[]).expect("is BTF");
        let names = [(0, "x"), (8, "y")].map(|(number, name)| (number, name.to_owned()));
        assert_eq!(btf.enumerators("e"), BTreeMap::from(names));
        assert_eq!(btf.enumerators("f"), BTreeMap::new());
    }

    /// `void f(int a, int b)` and `void g(int b)`, of which the second's prototype is vmlinux's.
    fn functions() -> (Vec<u8>, Vec<u8>) {
        // 1: int; 2: void (int b).
        let base = blob(&[1, 1 << 24, 4, 32, 0, 13 << 24 | 1, 0, 5, 1], b"\0int\0b\0");
        // 3: void (int a, int b); 4: f; 5: g. The strings continue those of vmlinux, 7 bytes.
        let module = blob(
            &[0, 13 << 24 | 2, 0, 8, 1, 5, 1, 10, 12 << 24, 3, 12, 12 << 24, 2],
            b"\0a\0f\0g\0",
        );
        (base, module)
    }

    #[test]
    fn finds_parameters_of_a_modules_functions() {
        let (base, module) = functions();
        let base = Btf::new(&base, &[]).expect("is BTF");
        let btf = Btf::new(&module, base.strings()).expect("is BTF");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        // The second's prototype is vmlinux's.
        let both = BTreeMap::from([("f", names(&["a", "b"])), ("g", names(&["b"]))]);
        assert_eq!(btf.parameters(Some(&base), &["g", "f", "h"]), both);
        assert!(btf.parameters(Some(&base), &["h"]).is_empty());
    }

    #[test]
    fn a_modules_strings_continue_the_kernels() {
        let base = [vec![0; 900], b"\0\0b\0".to_vec(), vec![0; 96]].concat();
        let mut bytes = sample(1000);
        let btf = Btf::new(&bytes, &base).expect("is BTF");
        assert_eq!(btf.offsets(&[("s", "a")]).get(&("s", "a")), Some(&0));
        let alone = Btf::new(&bytes, &[]).expect("is BTF");
        assert!(alone.offsets(&[("s", "a")]).is_empty());
        // A name that the kernel has already is not in the module's strings again.
        // After the header, the integer, the structure's own words and its first member.
        let name = 24 + 16 + 12 + 12;
        bytes[name..name + 4].copy_from_slice(&902u32.to_le_bytes());
        let btf = Btf::new(&bytes, &base).expect("is BTF");
        assert_eq!(btf.offsets(&[("s", "b")]).get(&("s", "b")), Some(&4));
    }

    proptest! {
        #[test]
        fn garbage_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), whole in any::<bool>()) {
            if whole && bytes.len() >= 2 {
                bytes[..2].copy_from_slice(&MAGIC.to_le_bytes());
            }
            if let Some(btf) = Btf::new(&bytes, &[]) {
                btf.offsets(&[("a", "b")]);
                btf.parameters(Some(&btf), &[""]);
                btf.nested_offset("", "b");
                btf.enumerators("");
            }
        }
    }
}
