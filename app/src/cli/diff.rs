//! `kvmscope diff`: two recordings, or two ranges of one, side by side.

use super::{Failure, Screen, report, report::recorded, watch};
use crate::{
    diff::{self, Diff, Side},
    record::{Range, Sums},
    term,
    ui::theme::ThemeName,
};
use std::{
    fs::File,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

/// Options of `diff`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Numbers are per second that was measured, so recordings of different lengths compare. VMs are paired by \
                  name. Sorted by the change of exit time (handling and VMM) per second."
)]
pub struct Options {
    /// The recording before; one of the two may be - for standard input
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The recording after; without it, two ranges of the first are compared
    #[arg(value_name = "AFTER")]
    after: Option<PathBuf>,
    /// Only this part: A..B, as 12:41:00..12:42:30, +5m.. or ..50%; the first is of BEFORE, the second of AFTER
    #[arg(long = "range", value_name = "RANGE", value_parser = Range::parse, allow_hyphen_values = true)]
    ranges: Vec<Range>,
    /// Compare this VM with that one, by name or as pid:PID; repeatable
    #[arg(long = "match", value_name = "BEFORE=AFTER")]
    matches: Vec<String>,
    /// Print text rather than show a screen; so it is too where there is no terminal
    #[arg(long, conflicts_with = "json")]
    text: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the text or JSON to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Configuration file [default: ~/.config/kvmscope/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Colours: dark, light, mono or colour-blind; NO_COLOR in the environment means mono
    #[arg(long, value_name = "NAME", value_parser = super::theme)]
    theme: Option<ThemeName>,
    /// Draw with ASCII characters only
    #[arg(long)]
    ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    no_mouse: bool,
}

/// Reads both, compares, shows or prints.
pub fn run(options: &Options) -> Result<(), Failure> {
    let [first, second] = parts(options)?;
    // Before anything is read: a wrong configuration should not cost the reading of a gigabyte.
    let pipe = [first, second].iter().any(|part| part.path == Path::new("-"));
    let on_screen = shows_screen(options, is_terminal(pipe));
    let prepare = || watch::prepare(&screen_options(options), pipe);
    let screen = on_screen.then(prepare).transpose()?;
    let read = |part: &Part<'_>| recorded::sums(part.path, part.range.unwrap_or_default());
    let (before, after) = (read(&first)?, read(&second)?);
    let found = compare([&first, &second], [&before, &after], &options.matches)?;
    match screen {
        Some(screen) => {
            let options = term::Options { duration: None, ..screen };
            Ok(term::show(diff::screen::Screen::new(found, options.view()), &options)?)
        }
        None => print(options, &found),
    }
}

/// One side as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part<'a> {
    path: &'a Path,
    range: Option<Range>,
    /// Whether only its range tells it from the other side.
    of_one_file: bool,
}

impl Part<'_> {
    /// What to call it. A range is told by the moments that it has turned out to have.
    fn label(&self, sums: &Sums) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy();
        if self.range.is_none() {
            return name.into_owned();
        }
        let time = |ns| crate::ui::format::time_of_day(sums.session.unix_ns(ns));
        let range = format!("{}..{}", time(sums.from_ns), time(sums.totals.end_ns));
        if self.of_one_file { range } else { format!("{name} {range}") }
    }
}

/// The two sides; one file needs two ranges, and two files have one each at most.
fn parts(options: &Options) -> Result<[Part<'_>; 2], Failure> {
    let range = |at: usize| options.ranges.get(at).copied();
    if options.ranges.len() > 2 {
        return Err(Failure::usage(
            "--range can be given twice at most: of the recording before, and of the one after",
        ));
    }
    let one = options.after.is_none();
    if one && options.ranges.len() < 2 {
        return Err(Failure::usage(
            "one recording has nothing to be compared with: give another, or two parts of it with \
             --range A..B --range C..D",
        ));
    }
    let part = |path, at| Part { path, range: range(at), of_one_file: one };
    let after = options.after.as_deref().unwrap_or(&options.before);
    if options.before == Path::new("-") && after == Path::new("-") {
        return Err(Failure::usage(
            "standard input (-) can be read once: give a file for the other side",
        ));
    }
    Ok([part(options.before.as_path(), 0), part(after, 1)])
}

/// Compares what was read.
fn compare(parts: [&Part<'_>; 2], sums: [&Sums; 2], wishes: &[String]) -> Result<Diff, Failure> {
    let side = |at: usize| {
        let (part, sums) = (parts[at], sums[at]);
        let gaps = sums.gaps.iter().map(|gap| (gap.from_ns, gap.until_ns)).collect();
        Side { gaps, ..Side::new(part.label(sums), &sums.session, &sums.totals) }
    };
    diff::diff(&side(0), &side(1), wishes).map_err(|why| Failure::usage(why.to_string()))
}

/// Where standard input is a recording, keys come from the controlling terminal.
fn is_terminal(pipe: bool) -> bool {
    let keys = std::io::stdin().is_terminal() || (pipe && term::has_keys());
    keys && std::io::stdout().is_terminal()
}

/// A screen is what one gets who asks for nothing else and has a terminal.
fn shows_screen(options: &Options, terminal: bool) -> bool {
    terminal && !options.text && !options.json && options.output.is_none()
}

fn screen_options(options: &Options) -> Screen {
    Screen {
        config: options.config.clone(),
        theme: options.theme,
        ascii: options.ascii,
        no_mouse: options.no_mouse,
        history: 15,
        duration: None,
    }
}

fn print(options: &Options, found: &Diff) -> Result<(), Failure> {
    let text = match options.json {
        true => diff::json::report(found).map_err(|e| Failure::running(e.to_string()))?,
        false => diff::text::report(found),
    };
    match &options.output {
        None => report::print(&text),
        Some(path) => {
            let written = File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(|e| {
                Failure::running(format!("{} could not be written: {e}", path.display()))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::record::{self, Writer};
    use crate::source::synth::{Generator, Synth, plan::Plan};
    use clap::Parser;
    use std::time::Duration;

    fn options(args: &[&str]) -> Options {
        let args = ["kvmscope", "diff"].iter().chain(args);
        match Cli::try_parse_from(args).expect("can be read").command {
            Some(Command::Diff(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_files_or_two_ranges_are_compared() {
        let two = options(&["a", "b", "--range", "+1m.."]);
        let parts_of = parts(&two).expect("two files");
        assert_eq!(
            parts_of.map(|part| part.path.to_owned()),
            [PathBuf::from("a"), PathBuf::from("b")]
        );
        assert_eq!(parts_of.map(|part| part.range.is_some()), [true, false]);
        let one = options(&["a", "--range", "..50%", "--range", "50%.."]);
        assert!(parts(&one).is_ok_and(|parts| parts.iter().all(|part| part.of_one_file)));
        for wrong in [
            &["a"][..],
            &["a", "--range", ".."],
            &["a", "b", "--range", "..", "--range", "..", "--range", ".."],
        ] {
            assert_eq!(parts(&options(wrong)).expect_err("refused").status, 2, "{wrong:?}");
        }
    }

    #[test]
    fn a_screen_needs_a_terminal_and_nothing_else_asked_for() {
        assert!(shows_screen(&options(&["a", "b"]), true));
        assert!(!shows_screen(&options(&["a", "b"]), false));
        for other in [&["a", "b", "--text"][..], &["a", "b", "--json"], &["a", "b", "-o", "x"]] {
            assert!(!shows_screen(&options(other), true), "{other:?}");
        }
    }

    /// A recording of so many invented ticks.
    fn recording(dir: &Path, name: &str, ticks: u64) -> PathBuf {
        let path = dir.join(name);
        let plan = Plan::noisy_host();
        let synth =
            Synth::new(plan.clone(), 1, (1_000_000_000, 1_700_000_000_000_000_000), "test", "none");
        let session = synth.session().clone();
        let mut made = Generator::new(plan, 1, &session);
        let file = File::create(&path).expect("a file");
        let mut writer = Writer::new(file, &session, record::Options::default()).expect("written");
        for _ in 0..ticks {
            writer.tick(&made.tick(Duration::from_secs(1))).expect("written");
        }
        writer.finish(None).expect("written");
        path
    }

    fn compared(options: &Options) -> Diff {
        let [first, second] = parts(options).expect("two parts");
        let read = |part: &Part<'_>| {
            recorded::sums(part.path, part.range.unwrap_or_default()).expect("a recording")
        };
        let (before, after) = (read(&first), read(&second));
        compare([&first, &second], [&before, &after], &options.matches).expect("compared")
    }

    #[test]
    fn recordings_and_their_ranges_are_compared() {
        let dir = tempfile::tempdir().expect("a directory");
        let (long, short) = (recording(dir.path(), "long", 30), recording(dir.path(), "short", 20));
        let path = |path: &PathBuf| path.display().to_string();
        let same = compared(&options(&[&path(&long), &path(&long)]));
        assert!(same.most().is_empty());
        assert_eq!(same.about.before.measured_ns, 30_000_000_000);
        // The same ticks, by their times and as a recording of their own.
        let part = compared(&options(&[&path(&long), &path(&short), "--range", "..+20s"]));
        assert!(part.most().is_empty(), "{:?}", part.most().first());
        assert_eq!(part.about.before.label, "long 22:13:20..22:13:40");
        let halves = compared(&options(&[&path(&long), "--range", "..50%", "--range", "50%.."]));
        assert_eq!(halves.about.before.label, "22:13:20..22:13:35");
        assert_eq!(
            halves.about.map(|about| about.measured_ns),
            diff::Both::new(15_000_000_000, 15_000_000_000)
        );
        assert!(!halves.most().is_empty());
    }

    #[test]
    fn what_cannot_be_compared_is_a_sentence() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        std::fs::write(&path, "no recording").expect("written");
        let path = path.display().to_string();
        let failure = run(&options(&[&path, &path, "--text"])).expect_err("no recording");
        assert_eq!(failure.status, 1);
        assert!(failure.text.starts_with(&format!("{path}: ")), "{}", failure.text);
        let good = recording(dir.path(), "good", 3).display().to_string();
        let wish = ["--match", "nobody=web-7"];
        let failure =
            run(&options(&[&good, &good, wish[0], wish[1], "--text"])).expect_err("no such VM");
        assert_eq!(failure.status, 2);
        assert!(failure.text.contains("no VM called \"nobody\" before"), "{}", failure.text);
        let failure = run(&options(&["-", "-", "--text"])).expect_err("read once");
        assert_eq!(failure.status, 2);
    }

    #[test]
    fn text_and_json_go_to_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let good = recording(dir.path(), "good", 6).display().to_string();
        let out = dir.path().join("out");
        let name = out.display().to_string();
        run(&options(&[&good, &good, "-o", &name])).expect("printed");
        assert!(std::fs::read_to_string(&out).expect("written").contains("Nothing changed."));
        run(&options(&[&good, &good, "-o", &name, "--json"])).expect("printed");
        assert!(std::fs::read_to_string(&out).expect("written").starts_with("{\"schema\":1,"));
    }
}
