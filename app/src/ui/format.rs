//! Numbers and names as text: few columns, units always, nothing that could disturb a terminal.

use crate::state::value::{self, Value};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A duration (ns) as everywhere in the program; `micro` is the letter for micro, because "µ" is
/// not ASCII.
pub fn duration(ns: u64, micro: char) -> String {
    value::duration(ns).replace('µ', micro.encode_utf8(&mut [0; 4]))
}

/// A value of a field; `none` stands where there is none.
pub fn value(value: &Value, micro: char, none: char) -> String {
    match value {
        Value::None => none.to_string(),
        Value::Ns(ns) => duration(*ns, micro),
        other => other.to_string(),
    }
}

/// A whole number with its thousands apart: "1 204 331".
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// As [`grouped`], and shortened with a unit where that is wider than `width` columns.
pub fn grouped_in(n: u64, width: usize) -> String {
    let whole = grouped(n);
    if whole.len() <= width { whole } else { value::count(n) }
}

/// Text broken at spaces into lines of at most `width` columns; a longer word is cut.
pub fn wrap(text: &str, width: usize, ellipsis: char) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let word = truncate(word, width, ellipsis);
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Time of day (UTC) of a moment in ns since the Unix epoch: "12:41:07".
pub fn time_of_day(unix_ns: u64) -> String {
    let s = unix_ns / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// The day (UTC) of a moment in ns since the Unix epoch: "2026-11-21".
pub fn date(unix_ns: u64) -> String {
    // Days since the first of March of the year 0, in eras of 400 years: a year then ends with its leap day.
    let days = unix_ns / 86_400_000_000_000 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{of_month:02}", year + era * 400 + next)
}

/// A size: "0 B", "9.3 MB", "1.2 GB".
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (n as f64, 0);
    // What would be rounded up to a thousand is one of the next.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 9.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// An age (ns): "0:07", "12:41", "3:05:00".
pub fn clock(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    match s {
        0..3600 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
    }
}

/// Text that others chose (names of VMs, of hosts) with everything that a terminal could take as
/// a command, or that would move what follows, replaced by "?".
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { '?' }).collect()
}

/// Neither a control character nor one without a width (which would stick to its neighbour, or
/// turn the direction of the text around).
fn is_harmless(c: char) -> bool {
    c.width().is_some_and(|w| w > 0)
}

/// As [`plain`], and non-ASCII replaced too when `ascii`.
pub fn name(text: &str, ascii: bool) -> String {
    let plain = plain(text);
    if ascii { plain.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect() } else { plain }
}

/// The text in exactly or at most `width` columns, its end replaced by `ellipsis` when it is longer.
pub fn truncate(text: &str, width: usize, ellipsis: char) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(ellipsis.width().unwrap_or(1));
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > room {
            break;
        }
        used += w;
        out.push(c);
    }
    if width > 0 {
        out.push(ellipsis);
    }
    out
}

/// An exit reason's name in at most `width` columns: usual abbreviations before an ellipsis.
pub fn reason_short(name: &str, width: usize, ellipsis: char) -> String {
    if name.width() <= width {
        return name.to_owned();
    }
    let mut short = name.to_owned();
    for (long, abbreviation) in ABBREVIATIONS {
        if short.width() <= width {
            return short;
        }
        short = short.replace(long, abbreviation);
    }
    truncate(&short, width, ellipsis)
}

/// Longest first where one contains another.
const ABBREVIATIONS: &[(&str, &str)] = &[
    ("EXTERNAL_INTERRUPT", "EXT_INT"),
    ("PREEMPTION_TIMER", "PREEMPT"),
    ("PENDING_INTERRUPT", "INT_WIN"),
    ("INTERRUPT_WINDOW", "INT_WIN"),
    ("_INSTRUCTION", ""),
    ("TPR_BELOW_THRESHOLD", "TPR_LOW"),
    ("EXCEPTION", "EXC"),
    ("VIOLATION", "VIOL"),
    ("MISCONFIG", "MISC"),
    ("INCOMPLETE_IPI", "INC_IPI"),
    ("UNACCELERATED_ACCESS", "UNACC"),
    ("INTERRUPT", "INT"),
    ("INTERNAL_ERROR", "INT_ERR"),
    ("SHUTDOWN", "SHUTDN"),
    ("SYSTEM_EVENT", "SYS_EVT"),
    ("HYPERCALL", "HCALL"),
    ("INDUCED", "IND"),
    ("ACCESS", "ACC"),
    ("WRITE", "WR"),
    ("READ", "RD"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_without_a_micro_sign() {
        assert_eq!(value(&Value::Ns(1_200), 'u', '-'), "1.2us");
        assert_eq!(value(&Value::None, 'u', '-'), "-");
        assert_eq!(value(&Value::Share(0.61), 'u', '-'), "61%");
    }

    #[test]
    fn groups_and_times() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_204_331), "1 204 331");
        assert_eq!(grouped_in(999_999_999, 11), "999 999 999");
        assert_eq!(grouped_in(1_204_331_000, 11), "1.2G");
        assert_eq!(time_of_day(1_700_000_000_000_000_000), "22:13:20");
        assert_eq!(clock(7_000_000_000), "0:07");
        assert_eq!(clock(11_100_000_000_000), "3:05:00");
    }

    #[test]
    fn text_breaks_at_spaces() {
        assert_eq!(wrap("one two  three", 8, '…'), ["one two", "three"]);
        assert_eq!(wrap("interminable", 5, '…'), ["inte…"]);
        assert_eq!(wrap("", 5, '…'), [""; 0]);
    }

    #[test]
    fn names_cannot_speak_to_the_terminal() {
        assert_eq!(plain("web\x1b[2J\n\u{9b}1m\u{202e}x"), "web?[2J??1m?x");
        assert_eq!(name("büro-\u{65e5}", true), "b?ro-?");
        assert_eq!(name("büro-\u{65e5}", false), "büro-\u{65e5}");
    }

    #[test]
    fn reasons_get_shorter_by_known_words_first() {
        assert_eq!(reason_short("EXTERNAL_INTERRUPT", 9, '…'), "EXT_INT");
        assert_eq!(reason_short("EPT_MISCONFIG", 9, '…'), "EPT_MISC");
        assert_eq!(reason_short("MSR_WRITE", 9, '…'), "MSR_WRITE");
        assert_eq!(reason_short("SOMETHING_VERY_NEW", 9, '…'), "SOMETHIN…");
    }

    proptest! {
        #[test]
        fn durations_and_rates_fit_five_columns(v in any::<u64>(), shift in 0u32..64) {
            // Up to 99 hours, and up to a petahertz.
            prop_assert!(duration((v >> shift).min(356_000_000_000_000), 'µ').width() <= 5);
            prop_assert!(value::rate((v >> shift).min(1 << 49) as f64).width() <= 5);
        }

        #[test]
        fn truncated_text_fits(text in "\\PC{0,30}", width in 0usize..20) {
            prop_assert!(truncate(&name(&text, false), width, '…').width() <= width);
        }
    }
}
