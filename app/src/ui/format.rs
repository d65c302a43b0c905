//! Numbers and names as text: few columns, units always, nothing that could disturb a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Three significant digits at most: "1.2", "18", "121".
fn short(value: f64) -> String {
    // 9.95 would be printed as "10.0".
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// A duration (ns) in at most five columns: "64ns", "1.2µs", "18ms", "137s", "12m", "3.1h".
/// `micro` is the letter for micro, because "µ" is not ASCII.
pub fn duration(ns: u64, micro: char) -> String {
    let v = ns as f64;
    match v {
        _ if ns < 1_000 => format!("{ns}ns"),
        _ if v < 999_500.0 => format!("{}{micro}s", short(v / 1e3)),
        _ if v < 999_500_000.0 => format!("{}ms", short(v / 1e6)),
        _ if v < 599.5e9 => format!("{}s", short(v / 1e9)),
        _ if v < 5_970e9 => format!("{}m", short(v / 60e9)),
        _ => format!("{}h", short(v / 3600e9)),
    }
}

/// A count or a rate per second in at most five columns: "0", "0.4", "212", "9.9k", "1.2M".
pub fn number(value: f64) -> String {
    if !value.is_finite() || value <= 0.0 {
        return "0".to_owned();
    }
    for (limit, divisor, unit) in [
        (999.5, 1.0, ""),
        (999_500.0, 1e3, "k"),
        (999_500_000.0, 1e6, "M"),
        (999.5e9, 1e9, "G"),
        (f64::INFINITY, 1e12, "T"),
    ] {
        if value < limit {
            let scaled = value / divisor;
            return match unit {
                "" if value < 0.05 => "<0.1".to_owned(),
                "" if value.fract() == 0.0 || value >= 9.95 => format!("{value:.0}"),
                "" => format!("{value:.1}"),
                // Two digits after the unit change keep neighbours apart: 44.0k, 44.9k.
                _ if scaled < 99.95 => format!("{scaled:.1}{unit}"),
                _ => format!("{scaled:.0}{unit}"),
            };
        }
    }
    "inf".to_owned()
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

/// A share (0 to 1) in at most four columns: "0%", "<1%", "3.1%", "71%", "100%".
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    match p {
        _ if !p.is_finite() || p <= 0.0 => "0%".to_owned(),
        _ if p < 0.095 => "<.1%".to_owned(),
        _ if p < 9.95 => format!("{p:.1}%"),
        _ => format!("{p:.0}%"),
    }
}

/// A size in bytes: "512 B", "9.3 MiB".
pub fn size(bytes: u64) -> String {
    let v = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", v / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", v / 1_048_576.0),
        _ => format!("{:.1} GiB", v / 1_073_741_824.0),
    }
}

/// Time of day (UTC) of a moment in ns since the Unix epoch: "12:41:07".
pub fn time_of_day(unix_ns: u64) -> String {
    let s = unix_ns / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
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
    ("MISCONFIG", "MISCF"),
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
    fn durations() {
        let d = |ns| duration(ns, 'µ');
        let all = [
            0,
            64,
            999,
            1_000,
            1_234,
            9_949,
            9_951,
            18_000,
            999_499,
            999_500,
            2_100_000,
            41_000_000,
            999_500_000,
            2_300_000_000,
            137_000_000_000,
            720_000_000_000,
            90_000_000_000_000,
        ];
        let texts = all.map(d).join(" ");
        assert_eq!(
            texts,
            "0ns 64ns 999ns 1.0µs 1.2µs 9.9µs 10µs 18µs 999µs 1.0ms 2.1ms 41ms 1.0s 2.3s 137s 12m 25h"
        );
        assert_eq!(duration(1_200, 'u'), "1.2us");
    }

    #[test]
    fn numbers() {
        let texts = [0.0, 0.04, 0.4, 1.0, 9.9, 212.0, 999.7, 9_900.0, 44_040.0, 121_300.0, 1.2e6]
            .map(number)
            .join(" ");
        assert_eq!(texts, "0 <0.1 0.4 1 9.9 212 1.0k 9.9k 44.0k 121k 1.2M");
        assert_eq!(number(f64::NAN), "0");
    }

    #[test]
    fn shares_sizes_and_times() {
        assert_eq!([0.0, 0.0004, 0.031, 0.71, 1.0].map(percent).join(" "), "0% <.1% 3.1% 71% 100%");
        assert_eq!([17, 2048, 9_751_757].map(size).join(" "), "17 B 2.0 KiB 9.3 MiB");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_204_331), "1 204 331");
        assert_eq!(time_of_day(1_700_000_000_000_000_000), "22:13:20");
        assert_eq!(clock(7_000_000_000), "0:07");
        assert_eq!(clock(11_100_000_000_000), "3:05:00");
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
        assert_eq!(reason_short("EPT_MISCONFIG", 9, '…'), "EPT_MISCF");
        assert_eq!(reason_short("MSR_WRITE", 9, '…'), "MSR_WRITE");
        assert_eq!(reason_short("SOMETHING_VERY_NEW", 9, '…'), "SOMETHIN…");
    }

    proptest! {
        #[test]
        fn durations_and_numbers_fit_five_columns(v in any::<u64>(), shift in 0u32..64) {
            let v = v >> shift;
            // Up to 11 years, and up to a petahertz.
            prop_assert!(duration(v.min(1 << 58), 'µ').width() <= 6);
            prop_assert!(duration(v.min(35_000_000_000_000_000), 'µ').width() <= 5);
            prop_assert!(number((v.min(1 << 49)) as f64).width() <= 5);
        }

        #[test]
        fn truncated_text_fits(text in "\\PC{0,30}", width in 0usize..20) {
            prop_assert!(truncate(&name(&text, false), width, '…').width() <= width);
        }
    }
}
