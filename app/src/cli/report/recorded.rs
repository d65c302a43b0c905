//! A report of a recording: what a live report of the same while says.

use super::Measured;
use crate::cli::Failure;
use crate::model::session::Session;
use crate::record::{Item, Range, ReadError, Recording, Stream, Sums};
use crate::ui::format::time_of_day;
use std::io::Read;
use std::path::Path;

/// Adds up a recording, or a range of it.
pub fn read(path: &Path, range: Range) -> Result<Measured, Failure> {
    let (name, sums) = match path == Path::new("-") {
        true => ("standard input".to_owned(), from_stream(std::io::stdin().lock(), range)),
        false => (path.display().to_string(), from_file(path, range)),
    };
    let sums = sums.map_err(|error| match error {
        Trouble::Read(error) => Failure::running(format!("{name}: {error}")),
        Trouble::Range(why) => Failure::usage(format!("--range: {why}")),
    })?;
    Ok(measured(sums))
}

enum Trouble {
    Read(ReadError),
    Range(String),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

fn from_file(path: &Path, range: Range) -> Result<Sums, Trouble> {
    let recording = Recording::open(path)?;
    let (from_ns, until_ns) = range.of(&recording);
    in_order(from_ns, until_ns)?;
    Ok(recording.sums(from_ns, until_ns)?)
}

fn in_order(from_ns: u64, until_ns: u64) -> Result<(), Trouble> {
    if from_ns > until_ns {
        return Err(Trouble::Range("its end is before its begin".to_owned()));
    }
    Ok(())
}

fn from_stream(from: impl Read, range: Range) -> Result<Sums, Trouble> {
    let mut stream = Stream::new(from)?;
    let mut waiting = Vec::new();
    let mut sums: Option<Sums> = None;
    loop {
        let item = stream.next()?;
        // Until the first key it is not known where it begins.
        if sums.is_none()
            && let Item::Key(key) = &item
        {
            let begun = begin(&waiting, range, key.at_ns)?;
            sums = Some(waiting.drain(..).fold(begun, add));
        }
        let is_end = matches!(item, Item::End(_));
        match &mut sums {
            Some(sums) => sums.add(item),
            None => waiting.push(item),
        }
        if is_end {
            return Ok(match sums {
                Some(sums) => sums,
                None => waiting.into_iter().fold(Sums::new(0, u64::MAX), add),
            });
        }
    }
}

fn add(mut sums: Sums, item: Item) -> Sums {
    sums.add(item);
    sums
}

/// The range in terms of the probes' clock, from what came before the first key.
fn begin(before: &[Item], range: Range, begin_ns: u64) -> Result<Sums, Trouble> {
    let none = Session::default();
    let session = before.iter().find_map(|item| match item {
        Item::Session(session) => Some(&**session),
        _ => None,
    });
    let session = session.unwrap_or(&none);
    let ns = |moment: Option<crate::record::Moment>, otherwise| {
        let ns = moment.map(|moment| moment.of_stream(session, begin_ns)).transpose();
        ns.map(|ns| ns.unwrap_or(otherwise)).map_err(|why| Trouble::Range(why.to_string()))
    };
    let (from_ns, until_ns) = (ns(range.from, begin_ns)?, ns(range.until, u64::MAX)?);
    in_order(from_ns, until_ns)?;
    Ok(Sums::new(from_ns, until_ns))
}

/// As live measuring leaves it, with notices of what is missing.
fn measured(sums: Sums) -> Measured {
    let mut session = sums.session_of_range();
    let time = |ns| time_of_day(session.unix_ns(ns));
    let gaps = sums.gaps.iter().map(|gap| match gap.from_ns == gap.until_ns {
        true => format!("In the recording at {} UTC: {}.", time(gap.from_ns), gap.why),
        false => format!(
            "No data from {} to {} UTC: {}.",
            time(gap.from_ns),
            time(gap.until_ns),
            gap.why
        ),
    });
    let marks = sums.marks.iter().map(|mark| match mark.text.is_empty() {
        true => format!("Marked at {} UTC.", time(mark.at_ns)),
        false => format!("Marked at {} UTC: {}", time(mark.at_ns), mark.text),
    });
    let why = sums.end.as_ref().and_then(|end| Some((end.clean, end.why.as_ref()?)));
    let end = why.map(|(clean, why)| match clean {
        true => format!("Recording ended early: {why}."),
        false => format!("The recording is not whole: {why}."),
    });
    let notices: Vec<String> = gaps.chain(marks).chain(end).collect();
    session.notices.extend(notices);
    let duration_ns = sums.duration_ns();
    Measured { session, totals: sums.totals, duration_ns, command: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::sample_tick;
    use crate::model::tick::Tick;
    use crate::record::{Mark, Options, Writer};

    const SECOND: u64 = 1_000_000_000;

    fn ticks() -> impl Iterator<Item = Tick> {
        (1..=10).map(|seq| Tick { seq, end_ns: (seq + 1) * SECOND, ..sample_tick() })
    }

    fn bytes() -> Vec<u8> {
        let started_unix_ns = 1_700_000_000 * SECOND;
        let session = Session { started_ns: SECOND, started_unix_ns, ..Session::default() };
        let mut writer = Writer::new(Vec::new(), &session, Options::default()).expect("made");
        for tick in ticks() {
            writer.tick(&tick).expect("written");
            if tick.seq == 4 {
                let mark = Mark { at_ns: tick.end_ns + 1, text: "now".into() };
                writer.mark(&mark).expect("written");
            }
        }
        writer.finish(None).expect("finished")
    }

    fn ranged(range: &str) -> Result<[Measured; 2], String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r");
        std::fs::write(&path, bytes()).expect("written");
        let range = Range::parse(range)?;
        let said = |trouble| match trouble {
            Trouble::Read(error) => error.to_string(),
            Trouble::Range(why) => why,
        };
        let file = from_file(&path, range).map_err(said)?;
        let stream = from_stream(&bytes()[..], range).map_err(said)?;
        Ok([measured(file), measured(stream)])
    }

    #[test]
    fn a_range_is_the_same_from_a_file_and_from_a_stream() {
        // 1700000000 is 22:13:20.
        for (range, first, count) in [
            ("..", 1, 10),
            ("+3..+5s", 4, 2),
            ("22:13:23..22:13:25", 4, 2),
            ("+9..", 10, 1),
            ("..@1700000002", 1, 2),
        ] {
            for measured in ranged(range).expect(range) {
                assert_eq!(measured.totals.ticks, count, "{range}");
                assert_eq!(measured.duration_ns, count * SECOND, "{range}");
                let begin = (first - 1) * SECOND + 1_700_000_000 * SECOND;
                assert_eq!(measured.session.started_unix_ns, begin, "{range}");
                let marked = first <= 5 && first + count > 5;
                let told =
                    measured.session.notices.iter().any(|n| n == "Marked at 22:13:24 UTC: now");
                assert_eq!(told, marked, "{range}: {:?}", measured.session.notices);
            }
        }
    }

    #[test]
    fn a_range_that_is_none_is_said() {
        let Err(why) = ranged("+5..+3") else { panic!("backwards") };
        assert!(why.contains("before its begin"), "{why}");
        let range = Range::parse("50%..").expect("a range");
        let Err(Trouble::Range(why)) = from_stream(&bytes()[..], range) else { panic!("no end") };
        assert!(why.contains("needs a file"), "{why}");
    }

    #[test]
    fn what_is_missing_is_a_notice() {
        let mut bytes = bytes();
        bytes.truncate(bytes.len() - 100);
        let Ok(sums) = from_stream(&bytes[..], Range::default()) else { panic!("readable") };
        let notices = measured(sums).session.notices;
        assert!(
            notices.iter().any(|n| n.starts_with("The recording is not whole: ")),
            "{notices:?}"
        );
    }
}
