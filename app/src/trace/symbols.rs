//! The name tables inside a `print fmt`: `__print_symbolic(VALUE, { CODE, "NAME" }, …)`.

/// Most entries of one table.
const MAX_ENTRIES: usize = 4096;
/// Most tables of one `print fmt`.
const MAX_TABLES: usize = 16;
/// Longest name, characters.
const MAX_NAME: usize = 64;

/// One table and what stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// The text between the table before it (or the beginning) and this one.
    pub before: &'a str,
    /// (code, name as printed), in the kernel's order. Entries that cannot be read are left out.
    pub entries: Vec<(u32, String)>,
}

/// Every table of a `print fmt`, in order.
pub fn tables(print_fmt: &str) -> Vec<Table<'_>> {
    const CALL: &str = "__print_symbolic(";
    let (mut found, mut rest) = (Vec::new(), print_fmt);
    while let Some(at) = rest.find(CALL)
        && found.len() < MAX_TABLES
    {
        let (before, after) = (&rest[..at], &rest[at + CALL.len()..]);
        let (entries, used) = entries(after);
        found.push(Table { before, entries });
        rest = &after[used..];
    }
    found
}

/// Reads `VALUE, { … }, { … })` and answers how much of the text it was.
fn entries(text: &str) -> (Vec<(u32, String)>, usize) {
    let mut found = Vec::new();
    let (mut depth, mut opened, mut in_string) = (1usize, None, false);
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return (found, at + 1);
                }
            }
            b'{' => opened = Some(at + 1),
            b'}' => {
                let entry = opened.take().and_then(|from| entry(&text[from..at]));
                found.extend(entry.filter(|_| found.len() < MAX_ENTRIES));
            }
            _ => {}
        }
    }
    (found, text.len())
}

/// `CODE, "NA" "ME"`
fn entry(text: &str) -> Option<(u32, String)> {
    let (code, name) = text.split_once(',')?;
    Some((code_of(code)?, name_of(name)?))
}

/// A sum of C integer constants, as the 32 bits that a record's field has.
///
/// Linux 7.2 writes -1 as `-1ull`; what matters is the field that it is compared with.
fn code_of(text: &str) -> Option<u32> {
    let mut sum = 0i128;
    for (nth, term) in text.split('+').enumerate() {
        let term = term.trim();
        let (negative, digits) = match term.strip_prefix('-') {
            Some(digits) if nth == 0 => (true, digits.trim_start()),
            _ => (false, term),
        };
        let digits = digits.trim_end_matches(['u', 'U', 'l', 'L']);
        let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let value = i128::from(value.ok()?);
        sum += if negative { -value } else { value };
    }
    let bits = sum as u64;
    let fits = matches!(bits >> 32, 0) || bits >> 31 == (1 << 33) - 1;
    fits.then_some(bits as u32)
}

/// One or more string literals, put together as C does.
fn name_of(text: &str) -> Option<String> {
    let (mut name, mut in_string) = (String::new(), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => in_string = !in_string,
            '\\' if in_string => name.push(chars.next()?),
            _ if in_string => name.push(c),
            _ if c.is_whitespace() => {}
            // A macro or an expression: not a name that can be known here.
            _ => return None,
        }
    }
    let fine = !in_string && !name.is_empty() && name.chars().all(|c| !c.is_control());
    (fine && name.chars().count() <= MAX_NAME).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_are_c_constants() {
        let cases = [
            ("0", Some(0)),
            (" 48 ", Some(48)),
            ("0x07b", Some(0x7b)),
            ("0x040 + 14", Some(0x4e)),
            ("-1", Some(u32::MAX)),
            ("-1ull", Some(u32::MAX)),
            ("0x80000001ull", Some(0x8000_0001)),
            ("0xffffffffffffffff", Some(u32::MAX)),
            ("0x100000000", None),
            ("(1 << 0)", None),
            ("EXIT_REASON_HLT", None),
            ("", None),
        ];
        for (text, code) in cases {
            assert_eq!(code_of(text), code, "{text:?}");
        }
    }

    #[test]
    fn strings_are_put_together() {
        assert_eq!(name_of(r#" "KVM_EXIT_" "IO""#).as_deref(), Some("KVM_EXIT_IO"));
        assert_eq!(name_of(r#""a\"b""#).as_deref(), Some("a\"b"));
        for text in ["NAME", "\"open", "\"\"", "\"a\u{1b}[2J\""] {
            assert_eq!(name_of(text), None, "{text:?}");
        }
    }

    #[test]
    fn tables_are_told_apart_by_what_stands_before() {
        let text = r#""%s%s", (REC->isa == 1) ? __print_symbolic(REC->r & 0xffff, { 1, "A" }, { 2, ")" }) : __print_symbolic(f(REC->r), { 0x1, "b" })"#;
        let tables = tables(text);
        assert_eq!(tables.len(), 2);
        assert!(tables[0].before.contains("isa == 1"));
        assert_eq!(tables[0].entries, [(1, "A".to_owned()), (2, ")".to_owned())]);
        assert_eq!(tables[1].entries, [(1, "b".to_owned())]);
    }

    #[test]
    fn an_unreadable_entry_leaves_the_others() {
        let tables = tables(r#"__print_symbolic(x, { 1 << 3, "A" }, { 2 }, {}, { 3, "C" }"#);
        assert_eq!(tables[0].entries, [(3, "C".to_owned())]);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "(?s)(__print_symbolic\\(|[{}(),\"\\\\0-9x+a-z é-]){0,60}") {
            let _ = tables(&text);
        }
    }
}
