//! From which time on an exit is an outlier, as people write it: "1ms", "IO=5ms", "MSR_WRITE=off".
//! One reading for the command line and for the screen.

use super::suggest::suggestion;
use crate::model::{
    detail::OutlierLimits,
    ids::{Isa, Reason},
    session::ReasonNames,
};
use std::collections::BTreeMap;

pub use crate::source::live::outliers::LEAST_NS;
/// What is never slower than this is not watched, ns: an hour.
const MOST_NS: u64 = 3_600_000_000_000;

/// One threshold: the reason's name (`None`: all that have none of their own) and the time in ns
/// (`None`: off).
pub type Spec = (Option<String>, Option<u64>);

/// Reads one threshold. The error is a sentence.
pub fn parse_outlier(text: &str) -> Result<Spec, String> {
    let text = text.trim();
    let (name, time) = match text.split_once('=') {
        Some((name, time)) => (Some(name.trim()), time.trim()),
        None => (None, text),
    };
    if name.is_some_and(str::is_empty) {
        return Err(format!("\"{text}\" names no exit reason before \"=\"; write IO=5ms"));
    }
    Ok((name.map(str::to_owned), parse_time(time)?))
}

/// Reads several, separated by commas or spaces.
pub fn parse_outliers(text: &str) -> Result<Vec<Spec>, String> {
    let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
    parts.map(parse_outlier).collect()
}

fn parse_time(text: &str) -> Result<Option<u64>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ns" => Some(1.0),
        "us" | "µs" | "μs" => Some(1e3),
        "ms" => Some(1e6),
        "s" => Some(1e9),
        _ => None,
    };
    let number: f64 = match number.parse() {
        Ok(number) => number,
        Err(_) => {
            return Err(format!(
                "\"{text}\" is no time; write a threshold like 1ms, 500us or 2s, or off"
            ));
        }
    };
    if number == 0.0 {
        return Err("a threshold of 0 would list every exit; the least is 1us".to_owned());
    }
    let Some(factor) = factor else {
        return Err(format!("\"{text}\" has no unit of time; write us, ms or s after the number"));
    };
    let ns = number * factor;
    if ns < LEAST_NS as f64 {
        return Err(format!("{text} is too short, nearly every exit takes that; the least is 1us"));
    }
    if ns > MOST_NS as f64 {
        return Err(format!(
            "{text} is too long: no threshold may be over an hour; off turns it off"
        ));
    }
    Ok(Some(ns as u64))
}

/// The limits that thresholds mean, the later ones over the earlier. A name is one of these names
/// of kernel exits, or the begin of some ("EPT" is EPT_VIOLATION and EPT_MISCONFIG), in upper or
/// lower case. Reasons are those of both Intel and AMD that have the name: who uses the limits
/// takes those of the host.
pub fn limits(specs: &[Spec], names: &ReasonNames) -> Result<OutlierLimits, String> {
    let mut limits = OutlierLimits::default();
    let mut reasons: BTreeMap<Reason, Option<u64>> = BTreeMap::new();
    for (name, ns) in specs {
        match name {
            None => limits.all_ns = *ns,
            Some(name) => reasons.extend(find(name, names)?.into_iter().map(|r| (r, *ns))),
        }
    }
    limits.reasons = reasons.into_iter().collect();
    Ok(limits)
}

/// The thresholds that limits mean, as they are written: "1ms IO_INSTRUCTION=5ms", or "off".
pub fn text(limits: &OutlierLimits, names: &ReasonNames) -> String {
    let time = |ns: Option<u64>| ns.map_or("off".to_owned(), written);
    let mut parts = Vec::new();
    if limits.all_ns.is_some() || limits.reasons.is_empty() {
        parts.push(time(limits.all_ns));
    }
    for &(reason, ns) in &limits.reasons {
        let part = format!("{}={}", names.name(reason), time(ns));
        // A name that Intel and AMD share is there twice.
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(" ")
}

/// A time in whole units, so that it reads as it was written.
fn written(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let unit = units.into_iter().find(|(unit, _)| ns.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{ns}ns"), |(unit, name)| format!("{}{name}", ns / unit))
}

fn find(name: &str, names: &ReasonNames) -> Result<Vec<Reason>, String> {
    let wanted = name.to_ascii_uppercase();
    let mut found = Vec::new();
    for (isa, table) in [(Isa::Vmx, &names.vmx), (Isa::Svm, &names.svm)] {
        let exact = table.iter().any(|(_, known)| *known == wanted);
        let alike = table.iter().filter(|(_, known)| match exact {
            true => **known == wanted,
            false => known.starts_with(&wanted),
        });
        found.extend(alike.map(|(&code, _)| Reason::exit(isa, code)));
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let mut known: Vec<&str> =
        names.vmx.values().chain(names.svm.values()).map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let meant = if names.userspace.values().any(|known| *known == wanted) {
        ", only an exit to the VMM, whose time is in that of the kernel exit before it".to_owned()
    } else if let Some(meant) = suggestion(&wanted, &known) {
        format!("; did you mean {meant}?")
    } else {
        "; the Exits tab of a vCPU lists their names".to_owned()
    };
    Err(format!("there is no kernel exit named {name}{meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::names::built_in;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        parse_outlier(text).expect_err(text)
    }

    fn names() -> ReasonNames {
        let table = |list: &[(u32, &str)]| list.iter().map(|&(c, n)| (c, n.to_owned())).collect();
        ReasonNames {
            vmx: table(&[(30, "IO_INSTRUCTION"), (48, "EPT_VIOLATION"), (49, "EPT_MISCONFIG")]),
            svm: table(&[(0x7b, "IOIO"), (0x72, "CPUID")]),
            userspace: table(&[(6, "MMIO"), (2, "IO")]),
        }
    }

    #[test]
    fn thresholds_are_read() {
        assert_eq!(parse_outlier("1ms"), Ok((None, Some(1_000_000))));
        assert_eq!(parse_outlier(" IO = 1.5ms "), Ok((Some("IO".into()), Some(1_500_000))));
        assert_eq!(parse_outlier("250µs"), Ok((None, Some(250_000))));
        assert_eq!(parse_outlier("1us"), Ok((None, Some(LEAST_NS))));
        assert_eq!(parse_outlier("HLT=off"), Ok((Some("HLT".into()), None)));
        assert_eq!(
            parse_outliers("1ms, IO=5ms"),
            Ok(vec![(None, Some(1_000_000)), (Some("IO".into()), Some(5_000_000))])
        );
    }

    #[test]
    fn mistakes_are_sentences() {
        for zero in ["0", "0ms", "IO=0", "0.0us"] {
            assert!(error(zero).contains("a threshold of 0"), "{zero}");
        }
        assert!(error("999ns").contains("the least is 1us"));
        assert!(error("5").contains("no unit of time"));
        assert!(error("5 parsecs").contains("no unit of time"));
        assert!(error("").contains("is no time"));
        assert!(error("fast").contains("is no time"));
        assert!(error("1.2.3ms").contains("is no time"));
        assert!(error("=5ms").contains("names no exit reason"));
        assert!(error("90000s").contains("over an hour"));
    }

    #[test]
    fn names_are_found_whole_or_by_their_begin() {
        let reasons = |name: &str| {
            let limits = limits(&[(Some(name.to_owned()), Some(5_000))], &names());
            limits.map(|limits| limits.reasons.into_iter().map(|(r, _)| r.code).collect::<Vec<_>>())
        };
        assert_eq!(reasons("ept_misconfig"), Ok(vec![49]));
        assert_eq!(reasons("EPT"), Ok(vec![48, 49]));
        assert_eq!(reasons("IO"), Ok(vec![30, 0x7b]), "Intel's and AMD's");
        assert!(reasons("CPUDI").is_err_and(|e| e.contains("did you mean CPUID?")));
        assert!(reasons("MMIO").is_err_and(|e| e.contains("only an exit to the VMM")));
        assert!(reasons("NOTHING_LIKE_IT").is_err_and(|e| e.contains("no kernel exit named")));
    }

    #[test]
    fn later_ones_win_and_limits_read_as_they_are_written() {
        let specs = parse_outliers("1ms EPT=2ms EPT_MISCONFIG=off 1500us").expect("good");
        let limits = limits(&specs, &names()).expect("known");
        assert_eq!(limits.all_ns, Some(1_500_000));
        assert_eq!(text(&limits, &names()), "1500us EPT_VIOLATION=2ms EPT_MISCONFIG=off");
        assert_eq!(text(&OutlierLimits::default(), &names()), "off");
    }

    #[test]
    fn a_name_that_two_vendors_share_is_said_once() {
        let specs = [(Some("MSR_WRITE".to_owned()), Some(2_000_000))];
        let limits = limits(&specs, &built_in()).expect("known");
        assert_eq!(limits.reasons.len(), 2);
        assert_eq!(text(&limits, &built_in()), "MSR_WRITE=2ms");
    }

    proptest! {
        #[test]
        fn what_is_read_is_in_bounds_and_reads_back(text in "\\PC{0,12}", n in LEAST_NS..MOST_NS) {
            if let Ok((_, Some(ns))) = parse_outlier(&text) {
                prop_assert!((LEAST_NS..=MOST_NS).contains(&ns));
            }
            prop_assert_eq!(parse_outlier(&written(n)), Ok((None, Some(n))));
        }
    }
}
