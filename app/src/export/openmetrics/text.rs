//! The text that Prometheus reads, in both its dialects. Pure.

use super::families::{Family, Kind};
use std::fmt::Write;

/// How metrics are written down. The samples are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which is older and read by everything.
    Prometheus,
}

impl Dialect {
    /// What HTTP calls it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Longest label value, in characters. A VM's name is what its VMM says, and need not be short.
const MAX_VALUE: usize = 128;

/// A label's value as it is kept: no longer than a bound.
pub fn bounded(value: &str) -> String {
    value.chars().take(MAX_VALUE).collect()
}

/// A label's value between its quotes.
pub fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// Nanoseconds as seconds, exactly.
pub fn seconds(ns: u64) -> String {
    let (whole, part) = (ns / 1_000_000_000, ns % 1_000_000_000);
    if part == 0 {
        return whole.to_string();
    }
    let mut text = format!("{whole}.{part:09}");
    text.truncate(text.trim_end_matches('0').len());
    text
}

/// Labels as they are printed, each value escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// These and one more.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut text = String::with_capacity(self.0.len() + name.len() + value.len() + 4);
        text.push_str(&self.0);
        put(name, value, &mut text);
        Self(text)
    }
}

fn put(name: &str, value: &str, out: &mut String) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    escape(value, out);
    out.push('"');
}

/// Text that is being made.
#[derive(Debug)]
pub struct Text {
    dialect: Dialect,
    out: String,
}

impl Text {
    /// Nothing yet, with room for so many bytes.
    pub fn new(dialect: Dialect, room: usize) -> Self {
        Self { dialect, out: String::with_capacity(room) }
    }

    /// Begins a metric. Its samples follow before another is begun.
    pub fn family(&mut self, family: &Family) {
        let Family { name, kind, help } = *family;
        let (name, kind) = match (self.dialect, kind) {
            (Dialect::OpenMetrics, Kind::Info) => (name.to_owned(), "info"),
            // It does not know `info`, and its metrics are called as their samples are.
            (Dialect::Prometheus, Kind::Info) => (format!("{name}_info"), "gauge"),
            (Dialect::OpenMetrics, Kind::Counter) => (name.to_owned(), "counter"),
            (Dialect::Prometheus, Kind::Counter) => (format!("{name}_total"), "counter"),
            (_, Kind::Gauge) => (name.to_owned(), "gauge"),
            (_, Kind::Histogram) => (name.to_owned(), "histogram"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "# TYPE {name} {kind}");
        if let (Dialect::OpenMetrics, Some(unit)) = (self.dialect, family.unit()) {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.out, "# HELP {name} {help}");
    }

    /// A sample with a last label beside the others.
    pub fn with(&mut self, family: &Family, labels: &Labels, last: (&str, &str), value: &str) {
        self.out.push_str(family.name);
        self.out.push_str(family.suffix());
        self.out.push('{');
        self.out.push_str(&labels.0);
        if !labels.0.is_empty() {
            self.out.push(',');
        }
        self.out.push_str(last.0);
        self.out.push_str("=\"");
        escape(last.1, &mut self.out);
        self.out.push_str("\"} ");
        self.end(value);
    }

    /// A sample.
    pub fn sample(&mut self, family: &Family, labels: &Labels, value: &str) {
        self.line(family.name, family.suffix(), labels, value);
    }

    /// A histogram: bounds in seconds and how many lie below or at each, ascending; how many in all, and their
    /// sum in seconds.
    pub fn histogram(
        &mut self,
        family: &Family,
        labels: &Labels,
        buckets: &[(&str, u64)],
        (count, sum): (u64, &str),
    ) {
        let mut below = 0u64;
        for (bound, n) in buckets {
            below = below.saturating_add(*n);
            self.bucket(family, labels, bound, below);
        }
        self.bucket(family, labels, "+Inf", count);
        self.line(family.name, "_sum", labels, sum);
        self.line(family.name, "_count", labels, &count.to_string());
    }

    fn bucket(&mut self, family: &Family, labels: &Labels, bound: &str, n: u64) {
        self.out.push_str(family.name);
        self.out.push_str("_bucket{");
        self.out.push_str(&labels.0);
        let comma = if labels.0.is_empty() { "" } else { "," };
        let _ = writeln!(self.out, "{comma}le=\"{bound}\"}} {n}");
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &Labels, value: &str) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        if labels.0.is_empty() {
            self.out.push(' ');
        } else {
            self.out.push('{');
            self.out.push_str(&labels.0);
            self.out.push_str("} ");
        }
        self.end(value);
    }

    fn end(&mut self, value: &str) {
        self.out.push_str(value);
        self.out.push('\n');
    }

    /// All of it.
    pub fn finish(mut self) -> String {
        if self.dialect == Dialect::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::super::families;
    use super::*;
    use proptest::prelude::*;

    /// Reads the labels of a sample as the specification of OpenMetrics says; `None` where they are none.
    fn labels_of(line: &str) -> Option<Vec<(String, String)>> {
        let mut rest = line.split_once('{')?.1;
        let mut labels = Vec::new();
        loop {
            let (name, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        _ => return None,
                    }),
                    (_, '\n') => return None,
                    (_, c) => value.push(c),
                }
            };
            labels.push((name.to_owned(), value));
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.starts_with("} ").then_some(labels),
            }
        }
    }

    fn sample(values: &[String]) -> String {
        let mut text = Text::new(Dialect::OpenMetrics, 0);
        let labels = values.iter().fold(Labels::none(), |labels, value| labels.with("l", value));
        text.with(&families::EXITS, &labels, ("last", &values[0]), "1");
        text.finish()
    }

    proptest! {
        #[test]
        fn any_label_is_read_as_it_was_written(values in prop::collection::vec(any::<String>(), 1..4)) {
            let text = sample(&values);
            let line = text.strip_suffix("# EOF\n").expect("the end");
            prop_assert_eq!(line.matches('\n').count(), 1, "one line: {:?}", line);
            let read = labels_of(line).expect("labels");
            let (last, first) = read.split_last().expect("one more");
            prop_assert_eq!(&last.1, &values[0]);
            let read: Vec<&String> = first.iter().map(|(_, value)| value).collect();
            prop_assert_eq!(read, values.iter().collect::<Vec<_>>());
        }

        #[test]
        fn seconds_are_exact(ns in any::<u64>()) {
            let text = seconds(ns);
            let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
            let part: u64 = format!("{part:0<9}").parse().expect("digits");
            prop_assert_eq!(whole.parse::<u64>().expect("digits") * 1_000_000_000 + part, ns);
        }
    }

    #[test]
    fn what_needs_it_is_escaped() {
        let text = sample(&["a\\b\"c\nd{}=,".to_owned()]);
        assert_eq!(
            text,
            "kvmscope_exits_total{l=\"a\\\\b\\\"c\\nd{}=,\",last=\"a\\\\b\\\"c\\nd{}=,\"} 1\n# EOF\n"
        );
        assert_eq!(bounded(&"ä".repeat(500)).chars().count(), MAX_VALUE);
    }

    #[test]
    fn the_dialects_differ_in_what_they_say_about_metrics() {
        let of = |dialect| {
            let mut text = Text::new(dialect, 0);
            for family in [families::BUILD, families::OWN_CPU, families::HANDLING] {
                text.family(&family);
            }
            text.sample(&families::OWN_CPU, &Labels::none(), &seconds(1_500_000_000));
            text.finish()
        };
        let open = of(Dialect::OpenMetrics);
        for line in [
            "# TYPE kvmscope_build info",
            "# TYPE kvmscope_own_cpu_seconds counter",
            "# UNIT kvmscope_own_cpu_seconds seconds",
            "kvmscope_own_cpu_seconds_total 1.5",
            "# EOF",
        ] {
            assert!(open.lines().any(|l| l == line), "{line}\n{open}");
        }
        let old = of(Dialect::Prometheus);
        assert!(!old.contains("# UNIT") && !old.contains("# EOF"));
        for line in [
            "# TYPE kvmscope_build_info gauge",
            "# TYPE kvmscope_own_cpu_seconds_total counter",
            "# TYPE kvmscope_exit_handling_seconds histogram",
            "kvmscope_own_cpu_seconds_total 1.5",
        ] {
            assert!(old.lines().any(|l| l == line), "{line}\n{old}");
        }
    }
}
