//! A field's value and how it reads: one way for tables, details, copied text and reports.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// There is none: nothing happened, or it is not known. Shown as "-", sorted last.
    None,
    /// Words.
    Text(Cow<'static, str>),
    /// A number of things.
    Count(u64),
    /// Per second.
    Rate(f64),
    /// A duration, ns.
    Ns(u64),
    /// A share, 0 to 1.
    Share(f64),
    /// How many times as much as before; infinite for what was not there before.
    Factor(f64),
}

impl Value {
    /// A duration that may be missing.
    pub fn ns(ns: Option<u64>) -> Self {
        ns.map_or(Self::None, Self::Ns)
    }

    /// As a number: counts, per second, ns, shares as fractions.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::None | Self::Text(_) => None,
            Self::Count(n) | Self::Ns(n) => Some(n as f64),
            Self::Rate(n) | Self::Share(n) | Self::Factor(n) => Some(n),
        }
    }

    /// Order for sorting: numbers by size, words without regard to case. What is missing counts
    /// as smaller than everything.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::None, Self::None) => Ordering::Equal,
            (Self::None, _) => Ordering::Less,
            (_, Self::None) => Ordering::Greater,
            (Self::Text(a), Self::Text(b)) => {
                let lower = |s: &str| s.to_lowercase();
                lower(a).cmp(&lower(b)).then_with(|| a.cmp(b))
            }
            (a, b) => match (a.number(), b.number()) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            },
        }
    }

    /// For machines: plain numbers (ns, fractions, per second), words as they are, missing empty.
    pub fn plain(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Text(text) => text.to_string(),
            Self::Count(n) | Self::Ns(n) => n.to_string(),
            Self::Rate(n) => format!("{n:.3}"),
            Self::Share(n) | Self::Factor(n) => format!("{n:.6}"),
        }
    }
}

/// For people: `1.2k`, `18µs`, `0.7%`, `-`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("-"),
            Self::Text(text) => f.pad(text),
            Self::Count(n) => f.pad(&count(*n)),
            Self::Rate(n) => f.pad(&rate(*n)),
            Self::Ns(n) => f.pad(&duration(*n)),
            Self::Share(n) => f.pad(&share(*n)),
            Self::Factor(n) => f.pad(&factor(*n)),
        }
    }
}

/// A number of things in at most five characters: `999`, `1.2k`, `12.3k`, `123k`, `1.2M`.
pub fn count(n: u64) -> String {
    if n < 1000 { n.to_string() } else { scaled(n as f64) }
}

/// A rate per second in at most five characters; below 10 with a decimal.
pub fn rate(n: f64) -> String {
    if n <= 0.0 {
        "0".to_owned()
    } else if n < 0.05 {
        "<0.1".to_owned()
    } else if n < 9.95 {
        format!("{n:.1}")
    } else if n < 999.5 {
        format!("{n:.0}")
    } else {
        scaled(n)
    }
}

/// From a thousand on, with a unit.
fn scaled(n: f64) -> String {
    let mut n = n / 1000.0;
    let mut units = ["k", "M", "G", "T", "P", "E"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for bigger in units {
        if n < 999.5 {
            break;
        }
        n /= 1000.0;
        unit = bigger;
    }
    if n < 99.95 { format!("{n:.1}{unit}") } else { format!("{n:.0}{unit}") }
}

/// A duration in at most six characters: `85ns`, `1.2µs`, `18µs`, `2.1ms`, `1.5s`, `12m`, `3.4h`.
pub fn duration(ns: u64) -> String {
    if ns < 1000 {
        return format!("{ns}ns");
    }
    let mut n = ns as f64 / 1000.0;
    for (unit, next) in [("µs", 1000.0), ("ms", 1000.0), ("s", 60.0), ("m", 60.0)] {
        let limit = if next > 60.0 { 999.5 } else { 99.5 };
        if n < limit {
            return with_unit(n, unit);
        }
        n /= next;
    }
    with_unit(n, "h")
}

fn with_unit(n: f64, unit: &str) -> String {
    if n < 9.95 { format!("{n:.1}{unit}") } else { format!("{n:.0}{unit}") }
}

/// Time of day (UTC) of a moment in ns since the Unix epoch, to the millisecond: "12:41:07.250".
pub fn moment(unix_ns: u64) -> String {
    let (s, ms) = (unix_ns / 1_000_000_000 % 86_400, unix_ns / 1_000_000 % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
}

/// A share in at most five characters: `0%`, `<0.1%`, `0.7%`, `61%`.
pub fn share(n: f64) -> String {
    let percent = n * 100.0;
    if percent <= 0.0 {
        "0%".to_owned()
    } else if percent < 0.05 {
        "<0.1%".to_owned()
    } else if percent < 9.95 {
        format!("{percent:.1}%")
    } else {
        format!("{percent:.0}%")
    }
}

/// A factor in at most five characters: `x0.25`, `x1.0`, `x12`, `>x999`; `gone` for nothing left, `new` for
/// something out of nothing.
pub fn factor(n: f64) -> String {
    match n {
        n if n <= 0.0 => "gone".to_owned(),
        n if n < 0.995 => format!("x{n:.2}"),
        n if n < 9.95 => format!("x{n:.1}"),
        n if n < 999.5 => format!("x{n:.0}"),
        n if n.is_infinite() => "new".to_owned(),
        _ => ">x999".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_rates_stay_short() {
        let cases = [(0, "0"), (999, "999"), (1000, "1.0k"), (99_900, "99.9k"), (182_400, "182k")];
        for (n, text) in cases {
            assert_eq!(count(n), text);
        }
        assert_eq!(count(999_999), "1.0M");
        assert_eq!(count(u64::MAX), "18.4E");
        let cases = [(0.0, "0"), (0.01, "<0.1"), (4.21, "4.2"), (9.96, "10"), (999.9, "1.0k")];
        for (n, text) in cases {
            assert_eq!(rate(n), text);
        }
    }

    #[test]
    fn durations_have_units() {
        let cases = [
            (0, "0ns"),
            (999, "999ns"),
            (1_200, "1.2µs"),
            (18_400, "18µs"),
            (999_700, "1.0ms"),
            (2_100_000, "2.1ms"),
            (1_500_000_000, "1.5s"),
            (99_000_000_000, "99s"),
            (720_000_000_000, "12m"),
            (12_240_000_000_000, "3.4h"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text, "{ns}");
        }
    }

    #[test]
    fn moments_have_milliseconds() {
        assert_eq!(moment(1_700_000_000_250_000_000), "22:13:20.250");
    }

    #[test]
    fn shares_never_hide_that_there_is_something() {
        let cases = [(0.0, "0%"), (0.0001, "<0.1%"), (0.007, "0.7%"), (0.61, "61%"), (1.0, "100%")];
        for (n, text) in cases {
            assert_eq!(share(n), text);
        }
    }

    #[test]
    fn factors_fit_five_columns() {
        let texts = [0.0, 0.001, 0.25, 0.999, 1.0, 9.96, 12.3, 1e6, f64::INFINITY].map(factor);
        assert_eq!(texts.join(" "), "gone x0.00 x0.25 x1.0 x1.0 x10 x12 >x999 new");
    }

    #[test]
    fn what_is_missing_is_smallest() {
        assert_eq!(Value::None.order(&Value::Ns(0)), Ordering::Less);
        assert_eq!(Value::Rate(2.0).order(&Value::Rate(1.0)), Ordering::Greater);
        assert_eq!(Value::Text("a".into()).order(&Value::Text("B".into())), Ordering::Less);
    }
}
