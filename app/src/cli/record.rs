//! `kvmscope record`: no screen, a file to be looked at later, or somewhere else.

mod notes;

use super::collect::{Until, collect};
use super::{Common, Failure, invented, report, say};
use crate::model::session::Session;
use crate::model::tick::Tick;
use crate::record::{self, Progress, Recorder, Target, WriteError};
use crate::source::live::host::{now_ns, unix_ns};
use crate::source::live::plan::Family;
use crate::source::{Msg, Source};
use notes::Notes;
use std::io::{ErrorKind::BrokenPipe, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Options of `record`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "How far it is stands on standard error: time, size, ticks, losses; with `-o -` only what was lost, \
                  at the end, unless --verbose asks for all, as the reader may draw on the same terminal. `kvmscope replay FILE` shows \
                  the recording, `kvmscope report --from FILE` prints it; neither needs this host. Until it is \
                  finished, killed or cut off, what is in it can be read."
)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    invented: invented::Options,
    /// The file to write, which must not be there yet; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Write over the file if it is there
    #[arg(long)]
    force: bool,
    /// Begin another file (FILE.1, FILE.2 and so on) before one grows over this: 500M, 2G; at least 1M. Each
    /// can be read without the others
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Leave single events out: they are counted, and everything else is there
    #[arg(long)]
    no_events: bool,
    /// Each line that comes on standard input is a mark, at the moment when it comes, as in
    /// `(sleep 60; echo deployed) | kvmscope record -o FILE --marks`
    #[arg(long, conflicts_with = "command")]
    marks: bool,
    /// Record for so many seconds; without this and without a command, until interrupted
    #[arg(long, value_name = "SEC", value_parser = super::duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// Record while this command runs
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Bytes, with K, M or G for powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| *bytes >= 1 << 20)
        .ok_or_else(|| "a size of 1M or more is expected, as 500M or 2G".to_owned())
}

/// Records.
pub fn run(options: &Options) -> Result<(), Failure> {
    refuse_what_is_not_recorded(options)?;
    let target = target(options)?;
    let invented = options.invented.source();
    let is_live = invented.is_none();
    let (source, session): (Box<dyn Source>, Session) = match invented {
        Some(synth) => {
            let session = synth.session().clone();
            (Box::new(synth), session)
        }
        None => {
            let live = report::open(&options.common, &Family::REPORTED)?;
            let session = live.session().clone();
            report::refuse_nothing_attached(&session)?;
            (Box::new(live), session)
        }
    };
    let how = record::Options {
        no_events: options.no_events,
        clock: is_live.then_some(clock as fn() -> (u64, u64)),
        ..record::Options::default()
    };
    let mut recorder = match Recorder::start(&target, &session, how) {
        Ok(recorder) => recorder,
        // As it is no failure when the reader goes away later.
        Err(WriteError::Io(error)) if error.kind() == BrokenPipe && target == Target::Stdout => {
            say("nothing was recorded: nobody reads standard output any more");
            return Ok(());
        }
        Err(error) => return Err(Failure::running(error.to_string())),
    };
    // Whoever reads standard output may be drawing on the same terminal, as `replay -` does, even across ssh.
    let is_quiet = target == Target::Stdout && !options.common.verbose;
    let mut meter = Meter::new(is_quiet);
    let mut last_ns = session.started_ns;
    let mut notes = match options.marks {
        true => Notes::listen(is_live)?,
        false => Notes::default(),
    };
    let until = Until { duration: options.duration, command: &options.command };
    let ended = collect(source, until, |message| {
        match message {
            Msg::Session(session) => recorder.session(&session),
            Msg::Tick(tick) => {
                meter.count(&tick);
                last_ns = tick.end_ns;
                notes.until(last_ns).for_each(|mark| recorder.mark(mark));
                // What is invented can wait; what is measured would be late.
                match is_live {
                    true => recorder.tick(tick),
                    false => recorder.tick_or_wait(tick),
                }
                meter.show(&recorder.progress());
            }
            Msg::Replay(_) | Msg::End(_) => {}
        }
        recorder.progress().stopped.is_none()
    });
    let why = ended.as_ref().ok().and_then(|ended| ended.why.clone());
    notes.until(last_ns).for_each(|mark| recorder.mark(mark));
    let progress = recorder.finish(why);
    meter.end(&progress);
    let ended = ended?;
    if let Some(status) = ended.command.filter(|status| !status.success()) {
        say(format_args!("the command ended with {status}"));
    }
    match progress.stopped {
        Some(why) if !progress.reader_gone => Err(Failure::running(why)),
        _ => Ok(()),
    }
}

fn clock() -> (u64, u64) {
    (now_ns(), unix_ns())
}

/// A recording is of the whole host, or of some processes; the rest is for whoever looks at it.
fn refuse_what_is_not_recorded(options: &Options) -> Result<(), Failure> {
    if options.common.vm.is_some() {
        return Err(Failure::usage(
            "record has no --vm: --pid records the VMs of one process, and `report --from FILE --vm NAME` \
             picks one out of a recording",
        ));
    }
    if !options.common.guest_symbols.is_empty() {
        return Err(Failure::usage(
            "record has no --guest-symbols: give them to `report --from FILE` or `replay FILE`",
        ));
    }
    Ok(())
}

fn target(options: &Options) -> Result<Target, Failure> {
    if options.output != Path::new("-") {
        let Options { force, max_size, .. } = *options;
        return Ok(Target::File { path: options.output.clone(), force, max_size });
    }
    if options.max_size.is_some() {
        return Err(Failure::usage("--max-size needs a file: standard output is one stream"));
    }
    if std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "standard output is a terminal, and a recording is no text: -o FILE, or a pipe",
        ));
    }
    Ok(Target::Stdout)
}

/// Says how far it is on standard error: one line that changes on a terminal, else a line for each interval.
struct Meter {
    began: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
    is_quiet: bool,
    /// What the probes missed, and ticks that never came.
    lost: u64,
}

/// Lines follow one another no faster, however short intervals are.
const PAUSE: Duration = Duration::from_millis(900);

impl Meter {
    fn new(is_quiet: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { began: Instant::now(), shown: None, is_terminal, is_quiet, lost: 0 }
    }

    fn count(&mut self, tick: &Tick) {
        self.lost = self.lost.saturating_add(tick.lost.sum());
    }

    fn show(&mut self, progress: &Progress) {
        if self.is_quiet || self.shown.is_some_and(|shown| shown.elapsed() < PAUSE) {
            return;
        }
        self.shown = Some(Instant::now());
        let line = line(self.began.elapsed(), progress, self.lost);
        if self.is_terminal {
            // As in `say`: where nobody looks, nobody is told.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[Kkvmscope: {line}");
        } else {
            say(line);
        }
    }

    fn end(&self, progress: &Progress) {
        if self.is_terminal && self.shown.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
        let lost = [self.lost, progress.dropped_ticks, progress.dropped_events];
        if self.is_quiet && lost == [0; 3] {
            return;
        }
        let line = line(self.began.elapsed(), progress, self.lost);
        let name = match progress.path.as_os_str().is_empty() {
            true => "standard output".to_owned(),
            false => progress.path.display().to_string(),
        };
        match progress.files {
            0 | 1 => say(format_args!("recorded into {name}: {line}")),
            files => say(format_args!("recorded into {files} files, the last {name}: {line}")),
        }
    }
}

/// "00:01:30, 4.2 MB, 90 ticks, nothing lost".
fn line(after: Duration, progress: &Progress, missed: u64) -> String {
    let Progress { bytes, ticks, dropped_ticks, dropped_events, .. } = *progress;
    let s = after.as_secs();
    let time = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    let losses = [
        (missed, "not measured"),
        (dropped_ticks, "ticks not written"),
        (dropped_events, "events not written"),
    ];
    let lost: Vec<String> =
        losses.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let lost = if lost.is_empty() { "nothing lost".to_owned() } else { lost.join(", ") };
    let tick = if ticks == 1 { "tick" } else { "ticks" };
    format!("{time}, {}, {ticks} {tick}, {lost}", human(bytes))
}

fn human(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_with_a_letter() {
        assert_eq!(size("1M"), Ok(1 << 20));
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert_eq!(size("2048K"), Ok(2 << 20));
        for wrong in [
            "",
            "M",
            "1",
            "1023K",
            "-1M",
            "1.5M",
            "99999999999999999999",
            "9999999999999G",
            "1T",
            "1é",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_line_has_time_size_ticks_and_losses() {
        let mut progress = Progress { bytes: 4_210_000, ticks: 90, ..Progress::default() };
        let after = Duration::from_secs(3690);
        assert_eq!(line(after, &progress, 0), "01:01:30, 4.2 MB, 90 ticks, nothing lost");
        progress.dropped_ticks = 3;
        (progress.ticks, progress.bytes) = (1, 999);
        let expected = "01:01:30, 999 B, 1 tick, 12 not measured, 3 ticks not written";
        assert_eq!(line(after, &progress, 12), expected);
    }
}
