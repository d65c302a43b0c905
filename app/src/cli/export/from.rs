//! Goes through a recording, or a range of it, and hands it to a sink.

use crate::export::sink::{Sink, Through};
use crate::model::session::Session;
use crate::record::{End, Item, Key, Moment, Range, ReadError, Recording, Stream};
use std::fs::File;
use std::io::{self, Read, Stdin};
use std::path::Path;

/// Why it ends early.
#[derive(Debug)]
pub enum Trouble {
    /// The recording cannot be read.
    Read(ReadError),
    /// The range is none.
    Range(String),
    /// The export cannot be written.
    Write(io::Error),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// A recording that was found to be one.
pub enum Input {
    /// In a file that can be read anywhere.
    File(Box<Recording>),
    /// Forwards only: standard input, or a named pipe.
    Stream(Box<Stream<Box<dyn Read>>>),
}

/// Opens it.
pub fn open(path: &Path) -> Result<Input, Trouble> {
    let stream = |from: Box<dyn Read>| Ok(Input::Stream(Box::new(Stream::new(from)?)));
    if path == Path::new("-") {
        let stdin: Stdin = io::stdin();
        return stream(Box::new(stdin.lock()));
    }
    let is_file = std::fs::metadata(path).is_ok_and(|about| about.is_file());
    if !is_file && let Ok(file) = File::open(path) {
        return stream(Box::new(file));
    }
    Ok(Input::File(Box::new(Recording::open(path)?)))
}

/// Hands everything in the range to the sink.
pub fn through(
    input: Input,
    range: Range,
    sink: &mut dyn Sink,
    only: Option<String>,
) -> Result<(), Trouble> {
    let mut through = Through::new(sink, only);
    match input {
        Input::File(recording) => {
            let (from_ns, until_ns) = range.of(&recording);
            in_order(from_ns, until_ns)?;
            for item in recording.items(from_ns, until_ns) {
                through.item(item?).map_err(Trouble::Write)?;
            }
            Ok(())
        }
        Input::Stream(mut stream) => {
            let mut part = Part::new(range);
            while part.item(stream.next()?, &mut through)? {}
            Ok(())
        }
    }
}

fn in_order(from_ns: u64, until_ns: u64) -> Result<(), Trouble> {
    if from_ns > until_ns {
        return Err(Trouble::Range("its end is before its begin".to_owned()));
    }
    Ok(())
}

/// A range of what can only be read forwards.
struct Part {
    range: Range,
    session: Session,
    /// Begin and end, ns of the probes' clock; not known before the first key.
    bounds: Option<(u64, u64)>,
    /// Who is there, while the range has not begun.
    before: Option<Box<Key>>,
}

impl Part {
    fn new(range: Range) -> Self {
        Self { range, session: Session::default(), bounds: None, before: None }
    }

    /// Hands on what is in the range; false at its end.
    fn item(&mut self, item: Item, through: &mut Through<'_>) -> Result<bool, Trouble> {
        match &item {
            Item::Session(session) => self.session = (**session).clone(),
            Item::Key(key) if self.bounds.is_none() => self.begin(key.at_ns)?,
            Item::Tick(tick) if self.bounds.is_none() => {
                self.begin(tick.end_ns.saturating_sub(tick.dur_ns))?;
            }
            _ => {}
        }
        let (from_ns, until_ns) = self.bounds.unwrap_or((0, u64::MAX));
        let is_end = matches!(item, Item::End(_));
        let at_ns = match &item {
            Item::Tick(tick) => Some(tick.end_ns),
            Item::Key(key) => Some(key.at_ns),
            _ => None,
        };
        match item {
            item @ Item::Session(_) => hand(item, through)?,
            Item::Key(key) if key.at_ns <= from_ns => self.before = Some(key),
            Item::Tick(tick) if tick.end_ns <= from_ns => {
                if let Some(before) = &mut self.before {
                    before.at_ns = tick.end_ns;
                    before.totals.apply(&tick);
                }
            }
            _ if at_ns.is_some_and(|at_ns| at_ns > until_ns) => {
                self.begun(through)?;
                hand(Item::End(End { clean: true, why: None }), through)?;
                return Ok(false);
            }
            Item::Mark(mark) if mark.at_ns <= from_ns || mark.at_ns > until_ns => {}
            Item::Gap(gap) if gap.until_ns <= from_ns || gap.from_ns > until_ns => {}
            item => {
                self.begun(through)?;
                hand(item, through)?;
            }
        }
        Ok(!is_end)
    }

    /// Who is there when the range begins is told before anything in it.
    fn begun(&mut self, through: &mut Through<'_>) -> Result<(), Trouble> {
        match self.before.take() {
            Some(key) => hand(Item::Key(key), through),
            None => Ok(()),
        }
    }

    fn begin(&mut self, begin_ns: u64) -> Result<(), Trouble> {
        let ns = |moment: Option<Moment>, otherwise| match moment {
            Some(moment) => moment
                .of_stream(&self.session, begin_ns)
                .map_err(|why| Trouble::Range(why.to_string())),
            None => Ok(otherwise),
        };
        let (from_ns, until_ns) = (ns(self.range.from, begin_ns)?, ns(self.range.until, u64::MAX)?);
        in_order(from_ns, until_ns)?;
        self.bounds = Some((from_ns, until_ns));
        Ok(())
    }
}

fn hand(item: Item, through: &mut Through<'_>) -> Result<(), Trouble> {
    through.item(item).map_err(Trouble::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::jsonl::Jsonl;
    use crate::model::ids::{VcpuKey, VmId};
    use crate::model::tick::{Life, Tick, VcpuInfo, VmInfo};
    use crate::record::{Options, Writer};

    const SECOND: u64 = 1_000_000_000;

    /// Ten seconds in which a VM comes with each.
    fn bytes() -> Vec<u8> {
        let started_unix_ns = 1_700_000_000 * SECOND;
        let session = Session { started_ns: SECOND, started_unix_ns, ..Session::default() };
        let mut writer = Writer::new(Vec::new(), &session, Options::default()).expect("made");
        for seq in 1..=10u32 {
            let id = VmId(seq);
            let key = VcpuKey { vm: id, vcpu: 0 };
            let info = VmInfo { id, name: format!("vm{seq}"), ..VmInfo::default() };
            let life = vec![Life::Vm(info), Life::Vcpu(VcpuInfo { key, ..VcpuInfo::default() })];
            let end_ns = (u64::from(seq) + 1) * SECOND;
            let tick = Tick { seq: seq.into(), end_ns, dur_ns: SECOND, life, ..Tick::default() };
            writer.tick(&tick).expect("written");
        }
        writer.finish(None).expect("finished")
    }

    fn lines(input: Input, range: &str) -> String {
        let mut out = Vec::new();
        let range = Range::parse(range).expect("a range");
        through(input, range, &mut Jsonl::new(&mut out), None).expect("exports");
        String::from_utf8(out).expect("UTF-8")
    }

    fn stream() -> Input {
        let from: Box<dyn Read> = Box::new(std::io::Cursor::new(bytes()));
        Input::Stream(Box::new(Stream::new(from).expect("a recording")))
    }

    #[test]
    fn a_pipe_says_what_a_file_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r");
        std::fs::write(&path, bytes()).expect("written");
        for (range, ticks, vms) in
            [("..", 10, 10), ("+3..+5", 2, 5), ("+9..", 1, 10), ("..+4", 4, 4)]
        {
            let file = lines(open(&path).expect("opens"), range);
            assert_eq!(lines(stream(), range), file, "{range}");
            let count = |kind: &str| file.matches(&format!("{{\"type\":\"{kind}\"")).count();
            assert_eq!((count("tick"), count("vm"), count("end")), (ticks, vms, 1), "{range}");
        }
    }

    #[test]
    fn a_range_that_is_none_is_said() {
        let of = |range: &str| {
            let range = Range::parse(range).expect("a range");
            match through(stream(), range, &mut Jsonl::new(Vec::new()), None) {
                Err(Trouble::Range(why)) => why,
                other => panic!("{other:?}"),
            }
        };
        assert!(of("+5..+3").contains("before its begin"));
        assert!(of("50%..").contains("needs a file"));
    }
}
