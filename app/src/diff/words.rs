//! Changes in words: few columns, always with a sign.

use super::{Both, Where};
use crate::state::value::{self, duration, factor};

/// A thousand hours, ns: no recording is as long, and a damaged number is no wider than others.
const MUCH_NS: u64 = 1_000 * 3_600 * 1_000_000_000;

/// A time in at most five columns, ns.
pub fn time(ns: u64) -> String {
    if ns < MUCH_NS { duration(ns) } else { ">999h".to_owned() }
}

/// A time per second, ns; nothing is 0.
pub fn per_second(ns: f64) -> String {
    match ns.round() as u64 {
        0 => "0".to_owned(),
        ns => time(ns),
    }
}

/// A share (0 to 1) in at most five columns.
pub fn part(share: f64) -> String {
    if share < 9.995 { value::share(share) } else { ">999%".to_owned() }
}

/// A change of a time per second, or of a time, ns: "+31ms", "-449µs", "0".
pub fn signed_ns(ns: f64) -> String {
    let size = ns.abs().round() as u64;
    match size {
        0 => "0".to_owned(),
        _ => format!("{}{}", sign(ns), time(size)),
    }
}

/// A change of a share (-1 to 1) in percentage points: "+19.1", "-0.4", "0.0".
pub fn points(share: f64) -> String {
    let tenths = (share * 1000.0).round();
    match tenths == 0.0 {
        true => "0.0".to_owned(),
        // No wider than a share is.
        false if tenths.abs() >= 999.5 => format!("{}100", sign(tenths)),
        false => format!("{}{:.1}", sign(tenths), tenths.abs() / 10.0),
    }
}

/// A share (0 to 1) with a tenth of a percent: "61.0%".
pub fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn sign(n: f64) -> char {
    if n < 0.0 { '-' } else { '+' }
}

/// How many times as often: "x0.25", "x1.0", "new", "gone", "-" where it was on neither side.
pub fn times(rates: &Both<f64>) -> String {
    match (rates.ratio(), rates.after > 0.0) {
        (Some(_), false) => Where::Before.word().to_owned(),
        (Some(ratio), true) => factor(ratio),
        (None, true) => Where::After.word().to_owned(),
        (None, false) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_sign() {
        let times = [0.3, 31_000_000.0, -449_000.4, -0.2].map(signed_ns).join(" ");
        assert_eq!(times, "0 +31ms -449µs 0");
        assert_eq!([0.191, -0.004, 0.00049, -0.00001].map(points).join(" "), "+19.1 -0.4 0.0 0.0");
    }

    #[test]
    fn nothing_is_wider_than_its_column() {
        for ns in [0, 999, 999_999, u64::MAX / 2, u64::MAX] {
            assert!(time(ns).chars().count() <= 5, "{ns}");
            assert!(signed_ns(-(ns as f64)).chars().count() <= 6, "{ns}");
        }
        for share in [0.0, 0.0001, 1.0, 9.99, 1e9, f64::INFINITY] {
            assert!(part(share).len() <= 5 && points(share).len() <= 5, "{share}");
        }
    }

    #[test]
    fn what_is_new_or_gone_has_no_factor() {
        let of = |before, after| times(&Both::new(before, after));
        let texts = [of(10.0, 5.0), of(0.0, 5.0), of(10.0, 0.0), of(0.0, 0.0), of(3.0, 3.0)];
        assert_eq!(texts.join(" "), "x0.50 new gone - x1.0");
    }
}
