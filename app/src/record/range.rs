//! Moments as a person says them, and ranges of them.

use super::Recording;
use crate::model::session::Session;
use std::fmt;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// A moment of a recording, as a person says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// `+90s`: so many ns after the begin.
    AfterBegin(u64),
    /// `-90s`: so many ns before the end.
    BeforeEnd(u64),
    /// `50%`: a share of the whole, 0 to 1.
    Share(f64),
    /// `12:41:03`: the first such time of day (UTC) in it, ns since midnight.
    TimeOfDay(u64),
    /// `@1700000000`: wall time, ns since the Unix epoch.
    Unix(u64),
}

/// Two moments; `None` is the begin, or the end.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Range {
    /// After this one.
    pub from: Option<Moment>,
    /// Until this one, which is in it.
    pub until: Option<Moment>,
}

/// What a recording that is read forwards cannot tell before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsEnd;

impl fmt::Display for NeedsEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "its end is not known yet: a share of it, or a time before its end, needs a file",
        )
    }
}

impl Moment {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read = match text.split_at_checked(1) {
            Some(("+", span)) => parse_span(span).map(Self::AfterBegin),
            Some(("-", span)) => parse_span(span).map(Self::BeforeEnd),
            Some(("@", seconds)) => parse_seconds(seconds).map(Self::Unix),
            _ => match text.strip_suffix('%') {
                Some(percent) => percent
                    .parse::<f64>()
                    .ok()
                    .filter(|percent| (0.0..=100.0).contains(percent))
                    .map(|percent| Self::Share(percent / 100.0)),
                None => time_of_day(text).map(Self::TimeOfDay),
            },
        };
        read.ok_or_else(|| {
            format!(
                "{text:?} is no moment: a time of day (UTC) as 12:41:03, +90s or +5m after the begin, \
                 -30s before the end, 50% of it, or @SECONDS since 1970 is expected"
            )
        })
    }

    /// The moment of the probes' clock in a recording, ns; within it.
    pub fn of(self, recording: &Recording) -> u64 {
        let (begin, end) = (recording.start_ns(), recording.end_ns());
        let ns = match self {
            Self::AfterBegin(ns) => begin.saturating_add(ns),
            Self::BeforeEnd(ns) => end.saturating_sub(ns),
            Self::Share(share) => {
                begin.saturating_add((end.saturating_sub(begin) as f64 * share) as u64)
            }
            Self::TimeOfDay(of_day) => {
                recording.mono_ns(first_at(recording.unix_ns(begin), of_day))
            }
            Self::Unix(unix) => recording.mono_ns(unix),
        };
        ns.clamp(begin, end.max(begin))
    }

    /// The same of a recording that is read forwards, of which only the session is known.
    pub fn of_stream(self, session: &Session, begin_ns: u64) -> Result<u64, NeedsEnd> {
        let mono_ns = |unix: u64| {
            session.started_ns.saturating_add(unix).saturating_sub(session.started_unix_ns)
        };
        match self {
            Self::AfterBegin(ns) => Ok(begin_ns.saturating_add(ns)),
            Self::TimeOfDay(of_day) => Ok(mono_ns(first_at(session.unix_ns(begin_ns), of_day))),
            Self::Unix(unix) => Ok(mono_ns(unix)),
            Self::BeforeEnd(_) | Self::Share(_) => Err(NeedsEnd),
        }
    }
}

impl Range {
    /// Reads `A..B`, of which each may be missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((from, until)) = text.split_once("..") else {
            return Err(format!(
                "{text:?} is no range: A..B is expected, as in 12:41:00..12:42:30"
            ));
        };
        let moment = |text: &str| match text {
            "" => Ok(None),
            text => Moment::parse(text).map(Some),
        };
        Ok(Self { from: moment(from)?, until: moment(until)? })
    }

    /// Begin and end of it in a recording, ns of the probes' clock.
    pub fn of(self, recording: &Recording) -> (u64, u64) {
        let from = self.from.map_or(recording.start_ns(), |moment| moment.of(recording));
        let until = self.until.map_or(u64::MAX, |moment| moment.of(recording));
        (from, until)
    }
}

/// The first moment (ns since the Unix epoch) at or after another that has a time of day.
fn first_at(begin_unix: u64, of_day: u64) -> u64 {
    // A recording that begins at 12:41:03.2 has what 12:41:03 means.
    let begin = begin_unix / SECOND * SECOND;
    let at = begin / DAY * DAY + of_day;
    if at < begin { at.saturating_add(DAY) } else { at }
}

/// `90`, `90s`, `1.5m`, `2h`, in ns.
fn parse_span(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, text.bytes().last()?),
        None => (text, b's'),
    };
    let factor = match unit {
        b'h' => 3600.0,
        b'm' => 60.0,
        _ => 1.0,
    };
    to_ns(number.parse::<f64>().ok()? * factor)
}

fn parse_seconds(text: &str) -> Option<u64> {
    to_ns(text.parse().ok()?)
}

fn to_ns(seconds: f64) -> Option<u64> {
    // Ten thousand years, which is well below what fits.
    (0.0..1e10).contains(&seconds).then_some((seconds * 1e9) as u64)
}

/// `12:41` or `12:41:03` or `12:41:03.5`, in ns since midnight.
fn time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let hours = parts.next()?.parse::<u64>().ok().filter(|hours| *hours < 24)?;
    let minutes = parts.next()?.parse::<u64>().ok().filter(|minutes| *minutes < 60)?;
    let seconds = match parts.next() {
        Some(seconds) => seconds.parse::<f64>().ok().filter(|s| (0.0..60.0).contains(s))?,
        None => 0.0,
    };
    let whole = (hours * 3600 + minutes * 60) * SECOND;
    parts.next().is_none().then_some(whole + (seconds * 1e9) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_said_in_several_ways() {
        for (text, moment) in [
            ("+30s", Moment::AfterBegin(30 * SECOND)),
            ("+1.5m", Moment::AfterBegin(90 * SECOND)),
            ("+7", Moment::AfterBegin(7 * SECOND)),
            ("-2h", Moment::BeforeEnd(7200 * SECOND)),
            ("50%", Moment::Share(0.5)),
            ("12:41:03", Moment::TimeOfDay((12 * 3600 + 41 * 60 + 3) * SECOND)),
            ("00:00:01.5", Moment::TimeOfDay(1_500_000_000)),
            ("23:59", Moment::TimeOfDay((23 * 3600 + 59 * 60) * SECOND)),
            ("@1700000000", Moment::Unix(1_700_000_000 * SECOND)),
        ] {
            assert_eq!(Moment::parse(text), Ok(moment), "{text}");
        }
        for wrong in [
            "", "+", "+x", "-1d", "101%", "nan%", "24:00", "1:60", "1:2:60", "1:2:3:4", "@", "@-1",
            "noon", "é",
        ] {
            assert!(Moment::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_have_two_ends_that_may_be_open() {
        let range = Range::parse("+1..+2").expect("a range");
        assert_eq!(range.from, Some(Moment::AfterBegin(SECOND)));
        assert_eq!(range.until, Some(Moment::AfterBegin(2 * SECOND)));
        assert_eq!(Range::parse(".."), Ok(Range::default()));
        assert_eq!(Range::parse("..50%").map(|range| range.from), Ok(None));
        assert!(Range::parse("12:41:03").expect_err("one moment").contains("A..B"));
    }

    #[test]
    fn a_time_of_day_is_the_first_one() {
        let midnight = 19_000 * DAY;
        let at = |hours: u64| hours * 3600 * SECOND;
        assert_eq!(first_at(midnight + at(10), at(11)), midnight + at(11));
        assert_eq!(first_at(midnight + at(10), at(9)), midnight + DAY + at(9));
        assert_eq!(first_at(midnight + at(10) + 5, at(10)), midnight + at(10));
    }

    #[test]
    fn a_stream_knows_no_end() {
        let session =
            Session { started_ns: 50, started_unix_ns: 19_000 * DAY, ..Session::default() };
        assert_eq!(Moment::AfterBegin(7).of_stream(&session, 60), Ok(67));
        assert_eq!(Moment::Unix(19_000 * DAY + 9).of_stream(&session, 60), Ok(59));
        assert_eq!(Moment::TimeOfDay(9 * SECOND).of_stream(&session, 50), Ok(50 + 9 * SECOND));
        assert_eq!(Moment::Share(0.5).of_stream(&session, 50), Err(NeedsEnd));
    }
}
