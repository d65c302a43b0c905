//! `kvmscope export`: a recording in other formats, or what is measured now for Prometheus to fetch.

mod from;
mod listen;

use super::{Common, Failure, invented};
use crate::export::{
    csv::Csv,
    jsonl::{self, Jsonl},
    openmetrics::{Limits, MetricsSink, http, text::Dialect},
    perfetto::Perfetto,
    sink::Sink,
};
use crate::record::Range;
use clap::ValueEnum;
use from::Trouble;
use rustix::fs::{Stat, fstat, stat};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Options of `export`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Formats, metrics and the schema are described in docs/export.md. With --listen, options say what is \
                  measured as those of `report` do; of a recording there is only --vm."
)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    invented: invented::Options,
    /// The recording; - is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["listen", "schema"])]
    file: Option<PathBuf>,
    /// What to make of it
    #[arg(long, value_name = "FORMAT", value_enum, required_unless_present_any = ["listen", "schema"])]
    format: Option<Format>,
    /// Write to this file instead of standard output; it must not be there yet
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["listen", "schema"])]
    output: Option<PathBuf>,
    /// Write over the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// Only this part of it: 12:41:00..12:42:30 (UTC), +30s..+2m, 50%.., ..-10s
    #[arg(long, value_name = "A..B", allow_hyphen_values = true, value_parser = Range::parse, conflicts_with_all = ["listen", "schema"])]
    range: Option<Range>,
    /// Print the JSON Schema of a line of jsonl
    #[arg(long, conflicts_with_all = ["listen", "file", "format"])]
    schema: bool,
    /// Measure, and serve metrics over HTTP at /metrics until interrupted: an address, a port or both. Loopback
    /// unless another address is named [default where none is given: 127.0.0.1:19972]
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1",
        value_parser = http::address,
        conflicts_with_all = ["file", "format"]
    )]
    listen: Option<SocketAddr>,
}

/// What a recording can be made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object for each tick and each event (--schema describes them)
    Jsonl,
    /// A table: a row for each reason and each part of time of each vCPU in each tick
    Csv,
    /// What it comes to, as OpenMetrics
    Openmetrics,
    /// The same in Prometheus' older text format
    Prometheus,
    /// A trace for ui.perfetto.dev
    Perfetto,
}

/// Exports.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.schema {
        return super::report::print(jsonl::SCHEMA_TEXT);
    }
    refuse_guest_symbols(&options.common)?;
    if let Some(address) = options.listen {
        return listen::run(address, &options.common, &options.invented);
    }
    let (Some(file), Some(format)) = (&options.file, options.format) else {
        return Err(Failure::usage("a recording and --format, --listen or --schema is expected"));
    };
    refuse_what_is_measured_with(&options.common)?;
    let range = options.range.unwrap_or_default();
    let input = from::open(file).map_err(|trouble| said(file, trouble))?;
    let mut out = Out::open(options, file)?;
    let result = {
        let mut out = BufWriter::with_capacity(1 << 16, &mut out);
        let mut sink = sink(format, &mut out);
        let through = from::through(input, range, &mut *sink, options.common.vm.clone());
        drop(sink);
        // What the formats write last they have flushed; this is for one that ended early.
        through.and_then(|()| out.flush().map_err(Trouble::Write))
    };
    match result {
        // A reader that has gone away (`| head`) is no failure.
        Err(Trouble::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(Trouble::Write(error)) => {
            Err(Failure::running(format!("{} could not be written: {error}", out.name())))
        }
        Err(trouble) => Err(said(file, trouble)),
        Ok(()) => Ok(()),
    }
}

fn sink<'a>(format: Format, out: &'a mut dyn Write) -> Box<dyn Sink + 'a> {
    match format {
        Format::Jsonl => Box::new(Jsonl::new(out)),
        Format::Csv => Box::new(Csv::new(out)),
        Format::Perfetto => Box::new(Perfetto::new(out)),
        Format::Openmetrics => Box::new(MetricsSink::new(out, Dialect::OpenMetrics, Limits::FILE)),
        Format::Prometheus => Box::new(MetricsSink::new(out, Dialect::Prometheus, Limits::FILE)),
    }
}

fn said(file: &Path, trouble: Trouble) -> Failure {
    let name = match file == Path::new("-") {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    };
    match trouble {
        Trouble::Read(error) => Failure::running(format!("{name}: {error}")),
        Trouble::Range(why) => Failure::usage(format!("--range: {why}")),
        Trouble::Write(error) => {
            Failure::running(format!("the export could not be written: {error}"))
        }
    }
}

fn refuse_guest_symbols(common: &Common) -> Result<(), Failure> {
    if common.guest_symbols.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(
        "export has no --guest-symbols: it writes addresses; `report` and `watch` name them",
    ))
}

/// Nothing is measured where there is a recording.
fn refuse_what_is_measured_with(common: &Common) -> Result<(), Failure> {
    let given = [
        ("--probes", !common.probes.is_empty()),
        ("--pid", !common.pids.is_empty()),
        ("--outlier", !common.outliers.is_empty()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(Failure::usage(format!(
            "{name} says what is measured, and a recording has been: it goes with --listen"
        ))),
        None => Ok(()),
    }
}

/// Where it is written to.
enum Out {
    Standard(io::Stdout),
    File(File, PathBuf),
}

impl Out {
    fn open(options: &Options, input: &Path) -> Result<Self, Failure> {
        let Some(path) = &options.output else { return Ok(Self::Standard(io::stdout())) };
        if path == Path::new("-") {
            return Ok(Self::Standard(io::stdout()));
        }
        if is_same(path, input) {
            return Err(Failure::usage(format!(
                "{} is the recording itself, and would be lost: name another file",
                path.display()
            )));
        }
        let mut how = OpenOptions::new();
        how.write(true);
        match options.force {
            true => how.create(true).truncate(true),
            false => how.create_new(true),
        };
        match how.open(path) {
            Ok(file) => Ok(Self::File(file, path.clone())),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Failure::running(format!(
                    "{} is there already: name another file, or write over it with --force",
                    path.display()
                )))
            }
            Err(error) => {
                Err(Failure::running(format!("{} could not be made: {error}", path.display())))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Standard(_) => "standard output".to_owned(),
            Self::File(_, path) => path.display().to_string(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::File(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::File(file, _) => file.flush(),
        }
    }
}

/// Whether two paths are one file. That what is written to is standard input cannot be told by its name.
fn is_same(output: &Path, input: &Path) -> bool {
    let input: Option<Stat> = match input == Path::new("-") {
        true => fstat(io::stdin()).ok(),
        false => stat(input).ok(),
    };
    let output = stat(output).ok();
    match (input, output) {
        (Some(a), Some(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn parsed(args: &[&str]) -> Result<Options, String> {
        let all = ["kvmscope", "export"].into_iter().chain(args.iter().copied());
        let cli = Cli::try_parse_from(all).map_err(|error| error.to_string())?;
        match cli.command {
            Some(crate::cli::Command::Export(options)) => Ok(*options),
            _ => panic!("export"),
        }
    }

    #[test]
    fn one_thing_is_asked_for() {
        for good in [
            &["r", "--format", "jsonl"][..],
            &["-", "--format", "csv", "-o", "x", "--force"],
            &["r", "--format", "perfetto", "--range", "+1..+2"],
            &["--schema"],
            &["--listen"],
            &["--listen", "--probes", "exit"],
            &["--listen", "0.0.0.0:9100", "--vm", "a"],
        ] {
            assert!(parsed(good).is_ok(), "{good:?}: {:?}", parsed(good).err());
        }
        for bad in [
            &[][..],
            &["r"],
            &["--format", "csv"],
            &["r", "--format", "xml"],
            &["r", "--format", "csv", "--listen"],
            &["r", "--format", "csv", "--force"],
            &["--listen", "nowhere"],
            &["--listen", "--range", "+1..+2"],
            &["--schema", "--listen"],
            &["r", "--format", "csv", "--range", "12"],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
        let listen = parsed(&["--listen"]).expect("good").listen.expect("an address");
        assert_eq!(listen.to_string(), format!("127.0.0.1:{}", http::PORT));
    }

    #[test]
    fn what_makes_no_sense_of_a_recording_is_refused() {
        for args in [["--probes", "exit"], ["--pid", "1"], ["--outlier", "1ms"]] {
            let all = [&["r", "--format", "csv"][..], &args].concat();
            let failure = run(&parsed(&all).expect("parses")).expect_err("refused");
            assert_eq!(failure.status, 2);
            assert!(failure.text.starts_with(args[0]), "{}", failure.text);
        }
    }

    #[test]
    fn a_recording_is_never_written_over_by_its_export() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.kvs");
        std::fs::write(&path, b"precious").expect("written");
        let name = path.to_str().expect("a name");
        let options = parsed(&[name, "--format", "csv", "-o", name, "--force"]).expect("parses");
        let Err(failure) = Out::open(&options, &path) else { panic!("would be lost") };
        assert_eq!(failure.status, 2);
        let other = folder.path().join("out.csv");
        std::fs::write(&other, b"there").expect("written");
        let other = other.to_str().expect("a name");
        let options = parsed(&[name, "--format", "csv", "-o", other]).expect("parses");
        let Err(failure) = Out::open(&options, &path) else { panic!("is there") };
        assert!(failure.text.ends_with("with --force"), "{}", failure.text);
        assert_eq!(std::fs::read(&path).expect("is there"), b"precious");
    }
}
