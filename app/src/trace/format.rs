//! The parser of a tracepoint's `format` file: which field of a record is where.
//!
//! Records differ between kernels and stable trees move fields, so offsets are read, never
//! assumed. The text comes from the kernel, but possibly through a container's or a sandbox's
//! idea of tracefs, so it is treated as input: whatever is in it, the answer is a [`Format`] or a
//! sentence.

use thiserror::Error;

/// Longest text that is looked at, bytes. The kernel's own longest are some tens of KiB.
pub const MAX_TEXT: usize = 1 << 20;
/// Most fields of one record.
pub const MAX_FIELDS: usize = 256;
/// Largest record, bytes (the kernel's `PERF_MAX_TRACE_SIZE` is 8 KiB; a page is the ring's limit).
pub const MAX_RECORD: u32 = 1 << 16;

/// A tracepoint's record, as its `format` file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Name of the event, without its system.
    pub name: String,
    /// Number of the event on this boot, as `perf_event_open` takes it.
    pub id: u32,
    /// Fields in the order of the record, the four `common_` ones first.
    pub fields: Vec<Field>,
    /// The `print fmt` text: a format string and its arguments, in a subset of C. May be empty.
    pub print_fmt: String,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its C type without the array's brackets ("unsigned int", "__u8", "__data_loc char[]").
    pub type_text: String,
    /// Offset from the start of the record, bytes.
    pub offset: u32,
    /// Size, bytes; of the whole array when it is one.
    pub size: u32,
    /// Whether the type is signed.
    pub signed: bool,
    /// Number of elements when the field is an array of fixed length.
    pub array: Option<u32>,
}

impl Field {
    /// Whether the field holds only an offset and a length, and the data lies at the record's end.
    pub fn is_dynamic(&self) -> bool {
        self.type_text.starts_with("__data_loc") || self.type_text.starts_with("__rel_loc")
    }
}

impl Format {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Reads the text of a `format` file.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if text.len() > MAX_TEXT {
            return Err(FormatError::TooLong(text.len()));
        }
        // "print fmt:" ends the description of the record; what follows is C, not lines.
        let (head, print_fmt) = match text.split_once("print fmt:") {
            Some((head, rest)) => (head, rest.trim()),
            None => (text, ""),
        };
        let (mut name, mut id, mut fields) = (None, None, Vec::new());
        for line in head.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("name:") {
                name = Some(rest.trim().to_owned());
            } else if let Some(rest) = line.strip_prefix("ID:") {
                let number = rest.trim();
                id = Some(number.parse().map_err(|_| FormatError::Id(excerpt(number)))?);
            } else if line.starts_with("field:") {
                let field = parse_field(line)?;
                if fields.len() == MAX_FIELDS {
                    return Err(FormatError::TooManyFields);
                }
                if fields.iter().any(|seen: &Field| seen.name == field.name) {
                    return Err(FormatError::Twice(excerpt(&field.name)));
                }
                fields.push(field);
            }
        }
        let name = name.filter(|name| !name.is_empty()).ok_or(FormatError::NoName)?;
        let id = id.ok_or(FormatError::NoId)?;
        if fields.is_empty() {
            return Err(FormatError::NoFields);
        }
        Ok(Self { name, id, fields, print_fmt: print_fmt.to_owned() })
    }
}

/// Why a text is not a tracepoint's `format`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Longer than [`MAX_TEXT`].
    #[error("it is {0} bytes long, more than any format of a kernel")]
    TooLong(usize),
    /// No `name:` line.
    #[error("it has no \"name:\" line")]
    NoName,
    /// No `ID:` line.
    #[error("it has no \"ID:\" line")]
    NoId,
    /// The number of the event is none.
    #[error("its \"ID:\" is not a number but \"{0}\"")]
    Id(String),
    /// No `field:` line.
    #[error("it describes no field")]
    NoFields,
    /// More than [`MAX_FIELDS`].
    #[error("it has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// A field's line could not be read.
    #[error("a field's line reads \"{0}\"")]
    Field(String),
    /// Two fields of one name.
    #[error("it has two fields named \"{0}\"")]
    Twice(String),
    /// A field that ends behind [`MAX_RECORD`].
    #[error("its field \"{0}\" lies outside any record")]
    Outside(String),
}

/// `field:TYPE NAME;\toffset:N;\tsize:N;\tsigned:N;`
fn parse_field(line: &str) -> Result<Field, FormatError> {
    let bad = || FormatError::Field(excerpt(line));
    let mut parts = line.split(';').map(str::trim);
    let declaration = parts.next().and_then(|part| part.strip_prefix("field:")).ok_or_else(bad)?;
    let (mut offset, mut size, mut signed) = (None, None, None);
    for part in parts {
        let Some((key, value)) = part.split_once(':') else { continue };
        match key {
            "offset" => offset = value.parse::<u32>().ok(),
            "size" => size = value.parse::<u32>().ok(),
            "signed" => signed = value.parse::<u8>().ok(),
            // A later kernel may say more about a field; that does not change where it is.
            _ => {}
        }
    }
    let (offset, size) = (offset.ok_or_else(bad)?, size.ok_or_else(bad)?);
    // Kernels before 2.6.32 did not say; unsigned is what a missing sign means there.
    let signed = signed.unwrap_or(0) != 0;
    let (type_text, name, array) = split_declaration(declaration).ok_or_else(bad)?;
    if offset.checked_add(size).is_none_or(|end| end > MAX_RECORD) {
        return Err(FormatError::Outside(excerpt(name)));
    }
    Ok(Field { name: name.to_owned(), type_text, offset, size, signed, array })
}

/// Splits a C declaration into type, name and number of elements.
fn split_declaration(declaration: &str) -> Option<(String, &str, Option<u32>)> {
    let (body, array) = match declaration.strip_suffix(']') {
        Some(open) => {
            let (body, count) = open.rsplit_once('[')?;
            // The count may be an expression of constants; then only the size is known.
            (body.trim_end(), count.trim().parse().ok())
        }
        None => (declaration, None),
    };
    let start = body
        .char_indices()
        .rev()
        .take_while(|(_, c)| c.is_ascii_alphanumeric() || *c == '_')
        .last()?
        .0;
    let (type_text, name) = (body[..start].trim(), &body[start..]);
    if type_text.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((type_text.to_owned(), name, array))
}

/// The beginning of a text, fit for a sentence.
fn excerpt(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::fixtures;
    use proptest::prelude::*;

    #[test]
    fn fields_of_kvm_exit_are_where_each_kernel_puts_them() {
        for kernel in fixtures::KERNELS {
            let format = fixtures::format(kernel, "kvm_exit");
            assert_eq!(format.name, "kvm_exit");
            assert!(format.id > 0);
            let place = |name| format.field(name).map(|field| (field.offset, field.size));
            assert_eq!(place("exit_reason"), Some((8, 4)), "{kernel}");
            assert_eq!(place("guest_rip"), Some((16, 8)), "{kernel}");
            assert_eq!(place("isa"), Some((24, 4)), "{kernel}");
            assert_eq!(place("vcpu_id"), Some((56, 4)), "{kernel}");
            assert_eq!(place("common_pid"), Some((4, 4)), "{kernel}");
            assert!(format.print_fmt.starts_with("\"vcpu %u reason"), "{kernel}");
        }
        let requests = |kernel| fixtures::format(kernel, "kvm_exit").field("requests").cloned();
        assert_eq!(requests(fixtures::LINUX_6_12), None);
        assert_eq!(requests(fixtures::LINUX_6_18).map(|field| field.offset), Some(64));
    }

    #[test]
    fn a_field_says_its_type_and_sign() {
        let format = fixtures::format(fixtures::LINUX_6_1, "kvm_userspace_exit");
        let errno = format.field("errno").expect("errno is there");
        assert_eq!((errno.type_text.as_str(), errno.signed), ("int", true));
        let reason = format.field("reason").expect("reason is there");
        assert_eq!((reason.type_text.as_str(), reason.signed), ("__u32", false));
    }

    #[test]
    fn arrays_are_of_fixed_or_of_dynamic_length() {
        let format = fixtures::format(fixtures::LINUX_5_10, "kvm_emulate_insn");
        let insn = format.field("insn").expect("insn is there");
        assert_eq!((insn.type_text.as_str(), insn.array, insn.size), ("__u8", Some(15), 15));
        assert!(!insn.is_dynamic());

        let text = "name: x\nID: 1\nformat:\n\tfield:__data_loc char[] msg;\toffset:8;\tsize:4;\tsigned:0;\n";
        let format = Format::parse(text).expect("parses");
        let msg = format.field("msg").expect("msg is there");
        assert!(msg.is_dynamic());
        assert_eq!(msg.array, None);
    }

    #[test]
    fn a_pointer_keeps_its_star() {
        let text = "name: x\nID: 1\n\tfield:const char *path;\toffset:8;\tsize:8;\tsigned:0;";
        let format = Format::parse(text).expect("parses");
        assert_eq!(format.field("path").expect("path").type_text, "const char *");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let field = "\tfield:int a;\toffset:0;\tsize:4;\tsigned:1;\n";
        let cases = [
            ("", "no \"name:\" line"),
            ("name: x\n", "no \"ID:\" line"),
            ("name: x\nID: 1\n", "describes no field"),
            ("name: x\nID: many\n", "not a number but \"many\""),
            ("name: x\nID: 1\n\tfield:int a;\toffset:0;", "a field's line reads"),
            ("name: x\nID: 1\n\tfield:;\toffset:0;\tsize:4;", "a field's line reads"),
            ("name: x\nID: 1\n\tfield:int a;\toffset:4294967295;\tsize:4;", "outside any record"),
        ];
        for (text, expected) in cases {
            let error = Format::parse(text).expect_err("is garbled").to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let twice = format!("name: x\nID: 1\n{field}{field}");
        assert_eq!(Format::parse(&twice), Err(FormatError::Twice("a".to_owned())));
        let long = "x".repeat(MAX_TEXT + 1);
        assert_eq!(Format::parse(&long), Err(FormatError::TooLong(MAX_TEXT + 1)));
    }

    #[test]
    fn too_many_fields_are_refused() {
        let mut text = String::from("name: x\nID: 1\n");
        for i in 0..=MAX_FIELDS {
            text += &format!("\tfield:int f{i};\toffset:{i};\tsize:4;\tsigned:1;\n");
        }
        assert_eq!(Format::parse(&text), Err(FormatError::TooManyFields));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "(?s).{0,400}") {
            let _ = Format::parse(&text);
        }

        #[test]
        fn a_damaged_format_is_answered(cut in 0usize..6000, put in "(?s).{0,8}", len in 0usize..64) {
            let mut text = fixtures::text(fixtures::LINUX_6_18, "kvm_exit");
            let start = text.floor_char_boundary(cut.min(text.len()));
            let end = text.floor_char_boundary((start + len).min(text.len()));
            text.replace_range(start..end, &put);
            if let Ok(format) = Format::parse(&text) {
                prop_assert!(format.fields.len() <= MAX_FIELDS);
                prop_assert!(format.fields.iter().all(|f| f.offset + f.size <= MAX_RECORD));
            }
        }
    }
}
