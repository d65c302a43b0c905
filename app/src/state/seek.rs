//! Where to go in a recording, as a person types it.

use crate::model::session::Session;
use crate::source::replay::Outline;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// What is expected, for the prompt.
pub const HINT: &str = "12:41:03 (UTC), +30s or -30s from here, 50%";

/// The moment (ns of the recording's clock) that is meant, seen from `at_ns`.
pub(super) fn parse(
    text: &str,
    at_ns: u64,
    outline: &Outline,
    session: &Session,
) -> Result<u64, String> {
    // Who has the prompt open already may type the key that opens it once more.
    let text = text.trim().trim_start_matches(':').trim_start();
    let (start_ns, end_ns) = (outline.start_ns, outline.end_ns);
    let length_ns = end_ns.saturating_sub(start_ns);
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.trim().parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => {
                Ok(start_ns + (length_ns as f64 * percent / 100.0) as u64)
            }
            _ => Err("a share from 0% to 100% is expected".to_owned()),
        };
    }
    if let Some(by) = text.strip_prefix('+') {
        let by_ns = span(by).ok_or_else(no_span)?;
        return Ok(at_ns.saturating_add(by_ns).min(end_ns));
    }
    if let Some(by) = text.strip_prefix('-') {
        let by_ns = span(by).ok_or_else(no_span)?;
        return Ok(at_ns.saturating_sub(by_ns).max(start_ns));
    }
    let Some(of_day_ns) = time_of_day(text) else { return Err(format!("expected: {HINT}")) };
    on_a_day(of_day_ns, session.unix_ns(start_ns), session.unix_ns(end_ns))
        .map(|from_start_ns| start_ns.saturating_add(from_start_ns).min(end_ns))
        .ok_or_else(|| {
            let clock = |ns| clock(session.unix_ns(ns));
            format!("the recording has {} to {} UTC", clock(start_ns), clock(end_ns))
        })
}

fn no_span() -> String {
    "a time span is expected, like 30s, 5m or 1h".to_owned()
}

/// A time span (ns): "30" (seconds), "30s", "1.5s", "200ms", "5m", "1h30m", "1:30".
fn span(text: &str) -> Option<u64> {
    if text.contains(':') {
        let parts: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
        let seconds = match parts?.as_slice() {
            [minutes, seconds] => minutes.checked_mul(60)?.checked_add(*seconds)?,
            [hours, minutes, seconds] => hours
                .checked_mul(60)?
                .checked_add(*minutes)?
                .checked_mul(60)?
                .checked_add(*seconds)?,
            _ => return None,
        };
        return seconds.checked_mul(SECOND);
    }
    let (mut left, mut sum_ns) = (text.trim(), 0.0);
    if left.is_empty() {
        return None;
    }
    while !left.is_empty() {
        let digits = left.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(left.len());
        let (number, rest) = left.split_at(digits);
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(letters);
        let unit_ns = match unit {
            "ms" => 1e6,
            "" | "s" => 1e9,
            "m" | "min" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
        sum_ns += number.parse::<f64>().ok()? * unit_ns;
        left = rest;
    }
    // What is too large for the type is beyond any recording.
    Some(sum_ns as u64)
}

/// A time of day (ns): "12:41", "12:41:03", "12:41:03.5".
fn time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let (hours, minutes) = (parts.next()?, parts.next()?);
    let seconds = parts.next().unwrap_or("0");
    let whole = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
    let (hours, minutes): (u64, u64) = (whole(hours)?, whole(minutes)?);
    let seconds: f64 = seconds.parse().ok()?;
    let good =
        parts.next().is_none() && hours < 24 && minutes < 60 && (0.0..60.0).contains(&seconds);
    good.then(|| (hours * 60 + minutes) * 60 * SECOND + (seconds * SECOND as f64).round() as u64)
}

/// How long (ns) after the start a time of day is there first; `None` where it never is. The second in which
/// the recording begins is the start.
fn on_a_day(of_day_ns: u64, start_unix_ns: u64, end_unix_ns: u64) -> Option<u64> {
    let begun_ns = start_unix_ns - start_unix_ns % SECOND;
    let mut there_ns = start_unix_ns / DAY * DAY + of_day_ns;
    if there_ns < begun_ns {
        there_ns += DAY;
    }
    (there_ns <= end_unix_ns).then(|| there_ns.saturating_sub(start_unix_ns))
}

/// Time of day of a moment, ns since the Unix epoch.
fn clock(unix_ns: u64) -> String {
    let s = unix_ns / SECOND % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 23:30:00.5 to 00:30:00.5, which is 100 s to 3,700 s of its clock.
    fn at(text: &str) -> Result<u64, String> {
        let session = Session {
            started_ns: 90 * SECOND,
            started_unix_ns: 20_000 * DAY + (23 * 3600 + 30 * 60 - 10) * SECOND + SECOND / 2,
            ..Session::default()
        };
        let outline =
            Outline { start_ns: 100 * SECOND, end_ns: 3_700 * SECOND, ..Outline::default() };
        parse(text, 1_000 * SECOND, &outline, &session)
    }

    #[test]
    fn a_time_of_day_is_looked_for_on_the_days_of_the_recording() {
        assert_eq!(at("23:30:00"), Ok(100 * SECOND), "the second in which it begins");
        assert_eq!(at(":23:31:00"), at("23:31"));
        assert_eq!(at("23:31"), Ok(159 * SECOND + SECOND / 2));
        assert_eq!(at("23:30:01.5"), Ok(101 * SECOND));
        assert_eq!(at("00:00:00"), Ok(1_899 * SECOND + SECOND / 2), "on the next day");
        assert_eq!(at("0:30:00"), Ok(3_699 * SECOND + SECOND / 2));
        for outside in ["00:31", "12:00:00", "23:29:59"] {
            assert_eq!(at(outside), Err("the recording has 23:30:00 to 00:30:00 UTC".to_owned()));
        }
    }

    #[test]
    fn from_here_and_by_share() {
        assert_eq!(at("+30s"), Ok(1_030 * SECOND));
        assert_eq!(at("-30"), Ok(970 * SECOND));
        assert_eq!(at("+1m30s"), Ok(1_090 * SECOND));
        assert_eq!(at("+1:30"), Ok(1_090 * SECOND));
        assert_eq!(at("-1h"), Ok(100 * SECOND), "not before the begin");
        assert_eq!(at("+9999999999999999999h"), Ok(3_700 * SECOND));
        assert_eq!(at(" 50 % "), Ok(1_900 * SECOND));
        assert_eq!(at("+250ms"), Ok(1_000 * SECOND + SECOND / 4));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for wrong in ["", "x", "12", "12:60", "24:00", "1:2:3:4", "12:-1", "12:00:nan", "é:1"] {
            assert!(at(wrong).is_err_and(|why| why.starts_with("expected: ")), "{wrong:?}");
        }
        for wrong in ["+", "-x", "+5d", "+..", "+1:2:3:4", "+99999999999999999999:00"] {
            assert!(at(wrong).is_err_and(|why| why.contains("time span")), "{wrong:?}");
        }
        for wrong in ["101%", "-1%", "%", "nan%"] {
            assert!(at(wrong).is_err(), "{wrong:?}");
        }
    }
}
