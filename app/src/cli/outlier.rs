//! `--outlier`: from which time on an exit is listed by itself.

use crate::{
    model::{
        detail::OutlierLimits,
        ids::{Isa, Reason},
    },
    source::live::outliers::LEAST_NS,
    trace,
};

/// One `--outlier`: every reason that is not idle, or one by its name on whichever processors have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// Every reason, ns.
    All(Option<u64>),
    /// Some reasons, ns.
    Some(Vec<Reason>, Option<u64>),
}

/// Reads `1ms`, `IO=5ms` or `HLT=off`.
pub fn spec(text: &str) -> Result<Spec, String> {
    let Some((name, time)) = text.split_once('=') else { return Ok(Spec::All(limit(text)?)) };
    let names = trace::names::built_in();
    let wanted = name.trim().to_ascii_uppercase();
    let of = |isa, table: &std::collections::BTreeMap<u32, String>| -> Vec<Reason> {
        // IO is IO_INSTRUCTION on Intel, and PAUSE is PAUSE_INSTRUCTION.
        let same = table.iter().filter(|(_, name)| {
            name.strip_suffix("_INSTRUCTION").unwrap_or(name) == wanted || **name == wanted
        });
        same.map(|(code, _)| Reason::exit(isa, *code)).collect()
    };
    let found = [of(Isa::Vmx, &names.vmx), of(Isa::Svm, &names.svm)].concat();
    if found.is_empty() {
        let alike: Vec<&str> = names
            .vmx
            .values()
            .chain(names.svm.values())
            .filter(|known| !wanted.is_empty() && known.contains(&wanted))
            .map(String::as_str)
            .collect();
        let alike = match alike.as_slice() {
            [] => "names are those in the tables, such as IO_INSTRUCTION, CPUID or NPF".to_owned(),
            alike => format!("there are {}", alike.join(", ")),
        };
        return Err(format!("no processor has an exit reason called {name:?}; {alike}"));
    }
    Ok(Spec::Some(found, limit(time)?))
}

/// What they come to; of two for the same reasons, the last.
pub fn limits(specs: &[Spec]) -> OutlierLimits {
    let mut limits = OutlierLimits::default();
    for spec in specs {
        match spec {
            Spec::All(ns) => limits.all_ns = *ns,
            Spec::Some(reasons, ns) => {
                limits.reasons.retain(|(reason, _)| !reasons.contains(reason));
                limits.reasons.extend(reasons.iter().map(|reason| (*reason, *ns)));
            }
        }
    }
    limits
}

/// A time in ns, or `off`.
fn limit(text: &str) -> Result<Option<u64>, String> {
    let text = text.trim();
    if text == "off" {
        return Ok(None);
    }
    let digits =
        text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => {
            return Err(format!(
                "{text:?} is no time: a number with ns, us, ms or s is expected, or off"
            ));
        }
    };
    let ns =
        number.parse::<f64>().map_err(|_| format!("{text:?} does not begin with a number"))? * unit;
    if ns < LEAST_NS as f64 {
        return Err("below 1us every exit would be listed; 1ms shows those that a guest may feel"
            .to_owned());
    }
    Ok(Some(ns as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_alone_is_for_every_reason() {
        for (text, ns) in
            [("1ms", 1_000_000), ("1us", 1_000), ("2500ns", 2_500), ("1.5s", 1_500_000_000)]
        {
            assert_eq!(spec(text), Ok(Spec::All(Some(ns))), "{text}");
        }
        assert_eq!(spec("off"), Ok(Spec::All(None)));
    }

    #[test]
    fn a_name_is_a_reason_of_each_processor_that_has_it() {
        let both = vec![Reason::exit(Isa::Vmx, 10), Reason::exit(Isa::Svm, 0x72)];
        assert_eq!(spec("cpuid=5ms"), Ok(Spec::Some(both, Some(5_000_000))));
        let both = vec![Reason::exit(Isa::Vmx, 30), Reason::exit(Isa::Svm, 0x7b)];
        assert_eq!(spec("IO=1s"), Ok(Spec::Some(both, Some(1_000_000_000))));
        let Ok(Spec::Some(halts, None)) = spec("HLT=off") else { panic!("is a name") };
        assert!(halts.iter().all(|reason| reason.is_idle()) && halts.len() == 2);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("0", "ns, us, ms or s"),
            ("0ms", "every exit would be listed"),
            ("999ns", "every exit would be listed"),
            ("ms", "begin with a number"),
            ("1.2.3ms", "begin with a number"),
            ("-1ms", "ns, us, ms or s"),
            ("QQQ=1ms", "no processor"),
            ("=1ms", "no processor"),
            ("CPUI=1ms", "there are CPUID"),
        ] {
            let error = spec(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn of_two_the_last_counts() {
        let specs: Vec<Spec> =
            ["1ms", "CPUID=5ms", "CPUID=off", "2ms"].iter().flat_map(|text| spec(text)).collect();
        let limits = limits(&specs);
        assert_eq!(limits.all_ns, Some(2_000_000));
        assert_eq!(limits.reasons.len(), 2);
        assert!(limits.reasons.iter().all(|(_, ns)| ns.is_none()));
    }
}
