//! The command line: what can be asked for, and the exit status of what came of it.

mod collect;
mod demo;
mod diff;
mod doctor;
mod export;
mod failure;
mod invented;
mod record;
mod replay;
mod report;
mod watch;

use crate::{
    config::outlier::{self, Spec, parse_outlier},
    model::{detail::OutlierLimits, stack::StackOf},
    source::live::{self, plan::Family},
    symbols::{self, GuestSymbols},
    trace,
    ui::theme::ThemeName,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use failure::Failure;
use std::{fmt::Display, io::Write, path::PathBuf, process::ExitCode, time::Duration};

/// Live view of what every KVM vCPU exits for, how long, and where its time goes.
#[derive(Parser, Debug)]
#[command(
    name = "kvmscope",
    version,
    after_help = "Exit status: 0 done; 1 failed while running; 2 wrong arguments; 3 not allowed or not possible on this host."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    watch: watch::Options,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The screen, on this host (the default)
    Watch(watch::Options),
    /// Start a small built-in KVM guest and watch it; without KVM or the rights, show a recording and say so
    Demo(demo::Options),
    /// No screen: tables or JSON, for a while or while a command runs
    Report(report::Options),
    /// No screen: a file that `replay` and `report --from` read, here or elsewhere
    Record(record::Options),
    /// Two recordings, or two ranges of one, side by side: what changed most
    Diff(diff::Options),
    /// A recording in other formats (JSON lines, CSV, OpenMetrics, Perfetto), or live metrics over HTTP for Prometheus
    Export(Box<export::Options>),
    /// The same screen on a recording: play, stop, step, go to any moment
    Replay(replay::Options),
    /// The test guest by itself: makes an exact number of exits of each kind
    Guest(Box<crate::guest::Options>),
    /// What works on this host, what does not, why, and what to do
    Doctor(doctor::Options),
}

/// Options that `watch`, `demo` and `report` share.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Families of probes, separated by commas: exit, userspace, sched, halt-poll, detail, mmu, mmio,
    /// hypercall, culprits, dirty, roots, ioctl, irq, irqchip, timer, wakeup, vcpu-load; or all [default: the first
    /// eight; `export --listen` and the screen attach the first four, the screen others while it shows what they see]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = family)]
    probes: Vec<Asked>,
    /// List exits that last this long or longer: 1ms for every reason that is not idle, IO=5ms for one,
    /// HLT=off for none of one; repeatable. A few dozen a second are told of, the rest is counted
    #[arg(long = "outlier", value_name = "SPEC", value_parser = parse_outlier)]
    outliers: Vec<Spec>,
    /// With the family roots: the function whose callers are counted by kernel stack: load_mmu_pgd, kvm_mmu_load,
    /// kvm_mmu_reset_context, kvm_mmu_create, kvm_set_cr3, kvm_cr, vcpu_run
    #[arg(long, value_name = "FUNCTION", default_value = "load_mmu_pgd", value_parser = stack_of)]
    stacks: StackOf,
    /// Only the VMs of this process; repeatable
    #[arg(long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pids: Vec<u32>,
    /// Only the VM of this name
    #[arg(long, value_name = "NAME")]
    vm: Option<String>,
    /// Symbols of a VM's kernel: its System.map, a copy of its /proc/kallsyms, or its vmlinux. The
    /// offset of KASLR is found from exits unless it is given; repeatable
    #[arg(long, value_name = "VM=FILE[@OFFSET]", value_parser = symbols::parse_option)]
    guest_symbols: Vec<symbols::Asked>,
    /// Seconds between ticks, 0.1 to 60
    #[arg(long, value_name = "SEC", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Say more on standard error
    #[arg(short, long)]
    verbose: bool,
}

impl Common {
    /// From which time on exits are listed one by one.
    fn outliers(&self) -> Result<OutlierLimits, Failure> {
        outlier::limits(&self.outliers, &trace::names::built_in())
            .map_err(|why| Failure::usage(format!("--outlier: {why}")))
    }

    /// For the live source, with these families unless others are asked for.
    fn live(&self, families: &[Family]) -> Result<live::Options, Failure> {
        if self.pids.len() > kvmscope_shared::conf::MAX_FILTER {
            return Err(Failure::usage(format!(
                "--pid can be given {} times at most",
                kvmscope_shared::conf::MAX_FILTER
            )));
        }
        if !self.pids.is_empty() {
            refuse_what_is_no_vm(&self.pids)?;
        }
        Ok(live::Options {
            families: asked(&self.probes, families),
            pids: self.pids.clone(),
            interval: self.interval,
            outliers: self.outliers()?,
            stacks: self.stacks,
        })
    }
}

impl Common {
    /// Reads the guests' symbols that were asked for.
    fn guest_symbols(&self) -> Result<GuestSymbols, Failure> {
        symbols_of(&self.guest_symbols)
    }
}

/// Reads the guests' symbols that were asked for.
fn symbols_of(asked: &[symbols::Asked]) -> Result<GuestSymbols, Failure> {
    GuestSymbols::load(asked).map_err(|why| Failure::usage(format!("--guest-symbols: {why}")))
}

fn refuse_what_is_no_vm(pids: &[u32]) -> Result<(), Failure> {
    use live::vms::{kvm_vm_pids, read_facts, why_no_vm};
    let Ok(scan) = kvm_vm_pids() else { return Ok(()) };
    for &pid in pids {
        if let Some(why) = why_no_vm(pid, read_facts(pid).ok().as_ref(), &scan) {
            return Err(Failure::not_possible(format!("--pid {pid}: {why}")));
        }
    }
    Ok(())
}

/// An item of `--probes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    All,
    One(Family),
}

fn stack_of(text: &str) -> Result<StackOf, String> {
    StackOf::from_word(text).ok_or_else(|| {
        let known = StackOf::ALL.map(StackOf::word).join(", ");
        format!("callers of {text:?} cannot be counted; there are {known}")
    })
}

fn family(text: &str) -> Result<Asked, String> {
    if text == "all" {
        return Ok(Asked::All);
    }
    let found = Family::ASKABLE.into_iter().find(|family| family.name() == text);
    found.map(Asked::One).ok_or_else(|| {
        let known: Vec<&str> = Family::ASKABLE.iter().map(|family| family.name()).collect();
        let known = known.join(", ");
        format!("there is no family of probes called {text:?}; there are {known}, and all")
    })
}

/// The families that are asked for; where none is, these.
fn asked(list: &[Asked], default: &[Family]) -> Vec<Family> {
    if list.is_empty() {
        return default.to_vec();
    }
    let named =
        |family: &Family| list.iter().any(|item| [Asked::All, Asked::One(*family)].contains(item));
    Family::ASKABLE.into_iter().filter(named).collect()
}

fn theme(text: &str) -> Result<ThemeName, String> {
    ThemeName::parse(text).ok_or_else(|| {
        let known: Vec<&str> = ThemeName::ALL.iter().map(|(name, _)| *name).collect();
        format!("there is no theme called {text:?}; there are {}", known.join(", "))
    })
}

fn interval(text: &str) -> Result<Duration, String> {
    seconds(text, 0.1, 60.0)
}

/// A time span for `--duration`.
fn duration(text: &str) -> Result<Duration, String> {
    seconds(text, 0.1, 86_400.0 * 365.0)
}

fn seconds(text: &str, least: f64, most: f64) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(Duration::from_secs_f64(value)),
        _ => Err(format!("a number of seconds from {least} to {most} is expected")),
    }
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Options of the screen, for `watch` and `demo`.
#[derive(Args, Clone, Debug)]
struct Screen {
    /// Configuration file [default: ~/.config/kvmscope/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Colours: dark, light, mono or colour-blind; NO_COLOR in the environment means mono
    #[arg(long, value_name = "NAME", value_parser = theme)]
    theme: Option<ThemeName>,
    /// Draw with ASCII characters only
    #[arg(long)]
    ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    no_mouse: bool,
    /// Minutes of history to keep, within a bound of 64 MiB
    #[arg(long, value_name = "MIN", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1440))]
    history: u32,
    /// Quit by itself after so many seconds
    #[arg(long, value_name = "SEC", value_parser = duration)]
    duration: Option<Duration>,
}

/// Tells the person something. Where nobody reads standard error (`2>&1 | head`) there is nobody
/// to be told, and that is no reason to end.
fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "kvmscope: {text}");
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap; it knows which stream and status they have.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match cli.command {
        None => watch::run(&cli.watch),
        Some(Command::Watch(options)) => watch::run(&options),
        Some(Command::Demo(options)) => demo::run(&options),
        Some(Command::Report(options)) => report::run(&options),
        Some(Command::Record(options)) => record::run(&options),
        Some(Command::Diff(options)) => diff::run(&options),
        Some(Command::Export(options)) => export::run(&options),
        Some(Command::Replay(options)) => replay::run(&options),
        Some(Command::Guest(options)) => {
            crate::guest::run(&options, &mut std::io::stdout().lock()).map_err(Failure::from)
        }
        Some(Command::Doctor(options)) => doctor::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                say(&failure.text);
            }
            ExitCode::from(failure.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn families_are_named_or_refused_with_a_list() {
        assert_eq!(family("exit"), Ok(Asked::One(Family::Exit)));
        let error = family("exits").expect_err("no such family");
        assert!(error.contains("exit, userspace, sched, halt-poll, detail, culprits"), "{error}");
    }

    #[test]
    fn families_are_the_default_the_named_or_all() {
        assert_eq!(asked(&[], &Family::WATCHED), Family::WATCHED);
        let two = [Asked::One(Family::Detail), Asked::One(Family::Exit)];
        assert_eq!(asked(&two, &Family::WATCHED), [Family::Exit, Family::Detail]);
        assert_eq!(asked(&[Asked::All], &Family::WATCHED), Family::ASKABLE);
    }

    #[test]
    fn symbols_that_cannot_be_read_are_wrong_arguments() {
        let read = |value: &str| {
            let cli = Cli::try_parse_from(["kvmscope", "watch", "--guest-symbols", value])
                .map_err(|error| (error.exit_code(), error.to_string()))?;
            let Some(Command::Watch(options)) = cli.command else { panic!("watch") };
            let symbols = options.common.guest_symbols();
            symbols.map_err(|failure| (i32::from(failure.status), failure.text))
        };
        let (status, said) = read("web").expect_err("no file");
        assert_eq!(status, 2);
        assert!(said.contains("VM=FILE[@OFFSET] is expected"), "{said}");
        let (status, said) = read("web=/nonexistent/System.map").expect_err("not there");
        assert_eq!(status, 2);
        assert_eq!(said, "--guest-symbols: /nonexistent/System.map is not there");
    }

    #[test]
    fn intervals_are_bounded() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "0.05", "61", "nan", "inf", "-1", "x", ""] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
