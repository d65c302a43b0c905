//! The filter language: `exits>1000 & name~web | p99>=2ms`.
//!
//! A filter is comparisons joined by `&` (binds tighter) and `|`. A comparison is
//! `FIELD OP VALUE`, with the keys of [`super::fields`] and `>` `<` `>=` `<=` `=` `!=` for numbers
//! and words, `~` (contains) and `!~` for words. Numbers take `k M G`, `%`, or a unit of time. A
//! word alone means `name~WORD`; quotes keep spaces and signs together.

use super::fields::{FieldInfo, Row};
use super::value::Value;
use std::cmp::Ordering;

/// A filter; the empty one lets everything through.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Filter {
    text: String,
    any: Vec<Vec<Test>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Test {
    key: &'static str,
    op: Op,
    text: String,
    number: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Less,
    LessEqual,
    Equal,
    NotEqual,
    GreaterEqual,
    Greater,
    Contains,
    ContainsNot,
}

/// Longest first, so that `>=` is not read as `>`.
const OPS: [(&str, Op); 9] = [
    (">=", Op::GreaterEqual),
    ("<=", Op::LessEqual),
    ("!=", Op::NotEqual),
    ("!~", Op::ContainsNot),
    ("==", Op::Equal),
    (">", Op::Greater),
    ("<", Op::Less),
    ("=", Op::Equal),
    ("~", Op::Contains),
];

impl Filter {
    /// Reads a filter for rows with these fields. The error is a sentence.
    pub fn parse(text: &str, fields: &[FieldInfo]) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let any = split(text, '|')?
            .into_iter()
            .map(|part| {
                split(part, '&')?.into_iter().map(|test| parse_test(test, fields)).collect()
            })
            .collect::<Result<Vec<Vec<Test>>, String>>()?;
        Ok(Self { text: text.trim().to_owned(), any })
    }

    /// The text it was read from; empty when it lets everything through.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty()
    }

    /// Whether a row passes.
    pub fn passes<R: Row>(&self, row: &R) -> bool {
        self.any.is_empty() || self.any.iter().any(|all| all.iter().all(|test| test.passes(row)))
    }
}

impl Test {
    fn passes<R: Row>(&self, row: &R) -> bool {
        let value = row.value(self.key).unwrap_or(Value::None);
        match self.op {
            Op::Contains => contains(&value, &self.text),
            Op::ContainsNot => !contains(&value, &self.text),
            op => {
                let order = compare(&value, &self.text, self.number);
                match op {
                    Op::Less => order == Some(Ordering::Less),
                    Op::LessEqual => order.is_some_and(Ordering::is_le),
                    Op::Equal => order == Some(Ordering::Equal),
                    Op::GreaterEqual => order.is_some_and(Ordering::is_ge),
                    Op::Greater => order == Some(Ordering::Greater),
                    _ => order != Some(Ordering::Equal),
                }
            }
        }
    }
}

fn contains(value: &Value, text: &str) -> bool {
    let shown = match value {
        Value::Text(text) => text.to_lowercase(),
        other => other.to_string(),
    };
    shown.contains(&text.to_lowercase())
}

/// How a value compares to what was typed; `None` when it is missing or cannot be compared.
fn compare(value: &Value, text: &str, number: Option<f64>) -> Option<Ordering> {
    match value {
        Value::None => None,
        // Numbers shown as words (a PID, a vCPU's number) compare as numbers.
        Value::Text(words) => match (words.parse::<f64>(), number) {
            (Ok(mine), Some(theirs)) => mine.partial_cmp(&theirs),
            _ => Some(words.to_lowercase().cmp(&text.to_lowercase())),
        },
        other => other.number()?.partial_cmp(&number?),
    }
}

/// Splits at a sign outside quotes.
fn split(text: &str, sign: char) -> Result<Vec<&str>, String> {
    let (mut parts, mut from, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == '"' {
            quoted = !quoted;
        } else if c == sign && !quoted {
            parts.push(&text[from..at]);
            from = at + c.len_utf8();
        }
    }
    if quoted {
        return Err("A quote is not closed: add \" at the end of the words.".to_owned());
    }
    parts.push(&text[from..]);
    if parts.iter().any(|part| part.trim().is_empty()) {
        return Err(format!(
            "Something is missing beside {sign}: write a comparison on both sides."
        ));
    }
    Ok(parts)
}

fn parse_test(text: &str, fields: &[FieldInfo]) -> Result<Test, String> {
    let text = text.trim();
    let Some((at, sign, op)) = find_op(text) else {
        let word = unquote(text);
        let field = find_field("name", fields)?;
        return Ok(Test { key: field.key, op: Op::Contains, text: word.to_owned(), number: None });
    };
    let (name, value) = (text[..at].trim(), unquote(text[at + sign.len()..].trim()));
    if name.is_empty() {
        return Err(format!("No field before {sign}: write for example exits{sign}1000."));
    }
    if value.is_empty() {
        return Err(format!("No value after {name}{sign}: write for example {name}{sign}10."));
    }
    let field = find_field(name, fields)?;
    let number = parse_number(value);
    let by_size = !matches!(op, Op::Contains | Op::ContainsNot);
    if by_size && field.numeric && number.is_none() {
        return Err(format!(
            "{value} is not a number that {} could be compared to: write for example 1000, 1.5k, 10% or 2ms.",
            field.key
        ));
    }
    Ok(Test { key: field.key, op, text: value.to_owned(), number })
}

/// The first operator outside quotes.
fn find_op(text: &str) -> Option<(usize, &'static str, Op)> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        if c == '"' {
            quoted = !quoted;
        }
        if quoted {
            continue;
        }
        if let Some(&(sign, op)) = OPS.iter().find(|(sign, _)| text[at..].starts_with(sign)) {
            return Some((at, sign, op));
        }
    }
    None
}

fn find_field<'a>(name: &str, fields: &'a [FieldInfo]) -> Result<&'a FieldInfo, String> {
    let name = name.to_lowercase();
    fields.iter().find(|field| field.key == name).ok_or_else(|| {
        let keys: Vec<_> = fields.iter().map(|field| field.key).collect();
        if keys.is_empty() {
            "There are no rows here that could be filtered.".to_owned()
        } else {
            format!("There is no field {name} here: use one of {}.", keys.join(", "))
        }
    })
}

fn unquote(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// A number with an optional unit; times in ns, percent as a fraction.
fn parse_number(text: &str) -> Option<f64> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok()?;
    let factor = match text[at..].trim() {
        "" | "ns" => 1.0,
        "%" => 0.01,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::super::fields;
    use super::super::nav::Scope;
    use super::super::rows::{Load, VmRow};
    use super::*;
    use proptest::prelude::*;

    fn row(name: &str, rate: f64, p99_ns: Option<u64>) -> VmRow {
        let load = Load { rate, p99_ns, handling: 0.1, ..Load::default() };
        VmRow { name: name.to_owned(), pid: 4711, load, ..VmRow::default() }
    }

    fn passes(text: &str, row: &VmRow) -> bool {
        Filter::parse(text, &fields::of(Scope::Host)).expect(text).passes(row)
    }

    #[test]
    fn compares_numbers_words_and_times() {
        let web = row("web-7", 1500.0, Some(2_500_000));
        for text in [
            "",
            "exits>1000 & name~WEB",
            "exits >= 1.5k",
            "p99>2ms&p99<3ms",
            "share=10%",
            "web",
            "pid=4711",
            "pid>4000",
            "name=web-7",
            "name!=db",
            "name!~db",
            "db | web",
            "exits<1 & db | web & exits>1",
            "name~\"b-7\"",
        ] {
            assert!(passes(text, &web), "{text}");
        }
        for text in ["exits>2k", "name~db", "db & web", "p99>1s", "pid!=4711", "\"a & b\""] {
            assert!(!passes(text, &web), "{text}");
        }
    }

    #[test]
    fn what_is_missing_compares_to_nothing() {
        let idle = row("idle", 0.0, None);
        assert!(!passes("p99>0", &idle));
        assert!(!passes("p99<1s", &idle));
        assert!(passes("p99!=5", &idle));
    }

    #[test]
    fn errors_are_sentences() {
        let fields = fields::of(Scope::Host);
        let error = |text| Filter::parse(text, &fields).expect_err(text);
        assert!(error("exists>1").starts_with("There is no field exists here: use one of name, "));
        assert!(error("exits>many").contains("many is not a number"));
        assert!(error("exits>").contains("No value after exits>"));
        assert!(error(">5").contains("No field before >"));
        assert!(error("a &").contains("beside &"));
        assert!(error("| a").contains("beside |"));
        assert!(error("name~\"a").contains("quote"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Err(sentence) = Filter::parse(&text, &fields::of(Scope::Host)) {
                prop_assert!(sentence.ends_with('.'), "{sentence}");
            }
        }
    }
}
