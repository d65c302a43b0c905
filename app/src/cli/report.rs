//! `kvmscope report`: no screen, a table or JSON at the end.

pub mod recorded;

use super::collect::{Until, collect};
use super::{Common, Failure, Format, invented, say};
use crate::{
    config,
    export::{self, Content},
    findings::{facts_of, findings},
    model::{detail::KeyClass, session::Session, totals::Totals},
    record::Range,
    source::{
        Msg, Source,
        live::{Live, plan::Family},
    },
    symbols::GuestSymbols,
};
use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

/// Options of `report`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "With a command, its exits are all counted: the probes are attached before it starts. \
                  A command that fails is said on standard error; the exit status is still kvmscope's own."
)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    invented: invented::Options,
    /// Print what a recording has instead of measuring; - reads one from standard input
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["duration", "command", "probes", "outliers", "stacks", "interval", "synthetic"]
    )]
    from: Option<PathBuf>,
    /// Of a recording the part from A to B, of which each may be missing: times of day (UTC) as 12:41:03, +90s
    /// after the begin, -90s before the end, 50%
    #[arg(long, value_name = "A..B", allow_hyphen_values = true, value_parser = Range::parse)]
    range: Option<Range>,
    /// Measure for so many seconds; without this and without a command, until interrupted
    #[arg(long, value_name = "SEC", value_parser = super::duration, conflicts_with = "command")]
    duration: Option<Duration>,
    /// How the result is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
    /// Write the result to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Configuration file, for the thresholds of findings [default: ~/.config/kvmscope/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Measure while this command runs
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<(), Failure> {
    // The parser takes what contradicts --from, as --duration does, for a reason not to require it.
    if options.range.is_some() && options.from.is_none() {
        return Err(Failure::usage(
            "--range is a part of a recording: say which with --from FILE (see `kvmscope report --help`)",
        ));
    }
    let config = config::load(options.config.as_deref(), |name| std::env::var(name).ok())
        .map_err(|e| Failure::usage(format!("{e:#}")))?;
    let mut symbols = options.common.guest_symbols()?;
    // The file is made first: an hour of measuring must not end with "no such directory".
    let prepared = prepare(options)?;
    let output = options.output.as_ref().map(|path| create(path)).transpose()?;
    let measured = match prepared {
        Prepared::Recorded(measured) => *measured,
        Prepared::Source(source, session) => measure(source, *session, options)?,
    };
    let Measured { mut session, mut totals, duration_ns, command } = measured;
    session.notices.extend(learn(&mut symbols, &totals));
    // Before other VMs are dropped: one of them may be who took the CPU.
    let facts = facts_of(&totals, &session.names);
    let mut findings = findings(&facts, &config.findings);
    let pids = if options.from.is_some() { &options.common.pids[..] } else { &[] };
    if options.common.vm.is_some() || !pids.is_empty() {
        let name = options.common.vm.as_ref();
        totals.vms.retain(|_, vm| {
            name.is_none_or(|name| vm.info.name == *name)
                && (pids.is_empty() || pids.contains(&vm.info.pid))
        });
        totals.outliers.retain(|outlier| totals.vms.contains_key(&outlier.key.vm));
        totals.events.retain(|event| totals.vms.contains_key(&event.vm));
        totals.routes.retain(|vm| totals.vms.contains_key(&vm));
        findings.retain(|finding| totals.vms.contains_key(&finding.vm));
        match name {
            Some(name) if totals.vms.is_empty() => {
                say(format_args!("no VM called {name:?} was seen"));
            }
            None if totals.vms.is_empty() => say("no VM of these processes was seen"),
            _ => {}
        }
    }
    let code = |vm: &str, rip: u64| symbols.describe(vm, rip);
    let content = Content::new(&session, &totals, duration_ns);
    let content = Content { findings: &findings, code: &code, ..content };
    let text = match options.format {
        Format::Text => export::text::report(&content),
        Format::Json => {
            export::json::report(&content).map_err(|e| Failure::running(e.to_string()))?
        }
    };
    match output {
        Some((mut file, path)) => file.write_all(text.as_bytes()).map_err(|e| {
            Failure::running(format!("{} could not be written: {e}", path.display()))
        })?,
        None => print(&text)?,
    }
    if let Some(status) = command.filter(|status| !status.success()) {
        say(format_args!("the command ended with {status}"));
    }
    Ok(())
}

/// Opens the live source with these families unless others are asked for, saying what does not work.
pub fn open(common: &Common, families: &[Family]) -> Result<Live, Failure> {
    let started = std::time::Instant::now();
    let live = Live::open(common.live(families)?)?;
    if common.verbose {
        say(format_args!("probes loaded and attached in {} ms", started.elapsed().as_millis()));
    }
    tell(live.session(), common.verbose);
    Ok(live)
}

/// Says which probes are not attached, and with `verbose` which are.
pub fn tell(session: &Session, verbose: bool) {
    // Without KVM every probe has the same reason, and one sentence says it.
    for probe in session.probes.iter().filter(|_| session.host.backend != "none") {
        match &probe.why {
            Some(_) if probe.is_off() && !verbose => {}
            Some(why) => say(format_args!("{} is not attached: {why}", probe.name)),
            None if verbose => say(format_args!("{} attached ({})", probe.name, probe.how)),
            None => {}
        }
    }
}

/// Without KVM there is nothing to report, and a report does not wait for it.
fn refuse_without_kvm(session: &Session) -> Result<(), Failure> {
    if session.host.backend == "none" {
        return Err(Failure::not_possible(
            "there is no KVM on this host: load kvm_intel or kvm_amd (`kvmscope doctor` says more)",
        ));
    }
    Ok(())
}

/// Nothing attached is nothing to show, unless KVM is still to come.
pub fn refuse_nothing_attached(session: &Session) -> Result<(), Failure> {
    if session.host.backend == "none" {
        return Ok(());
    }
    if session.probes.iter().filter(|probe| probe.family != "base").all(|probe| !probe.attached) {
        return Err(Failure::not_possible(
            "none of the probes could be attached; `kvmscope doctor` says why and what to do",
        ));
    }
    Ok(())
}

/// Finds where the guests' kernels are from where they exited; answers with what is known of it.
fn learn(symbols: &mut GuestSymbols, totals: &Totals) -> Vec<String> {
    for vm in totals.vms.values() {
        let keys = vm.vcpus.values().flat_map(|vcpu| &vcpu.keys);
        let rips = keys.filter(|(id, _)| id.class == KeyClass::Rip);
        let exits: Vec<_> =
            rips.filter_map(|(id, sum)| Some((id.value?, id.reason?, sum.count))).collect();
        symbols.learn(&vm.info.name, &exits);
    }
    let seen = |name: &str| totals.vms.values().any(|vm| vm.info.name == name);
    let notes = symbols.vms().filter_map(|name| match seen(name) {
        true => symbols.note(name).map(|note| format!("{name}: {note}.")),
        false => Some(format!("Symbols are given for {name}, and no VM of that name was seen.")),
    });
    notes.collect()
}

fn create(path: &PathBuf) -> Result<(File, &PathBuf), Failure> {
    match File::create(path) {
        Ok(file) => Ok((file, path)),
        Err(e) => Err(Failure::running(format!("{} could not be made: {e}", path.display()))),
    }
}

/// Writes to standard output; a reader that has gone away (`| head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::running(format!("standard output could not be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// What measuring came to.
struct Measured {
    session: Session,
    totals: Totals,
    duration_ns: u64,
    command: Option<ExitStatus>,
}

/// Where the numbers come from.
enum Prepared {
    /// A recording, which is read already.
    Recorded(Box<Measured>),
    /// A source that is to be run.
    Source(Box<dyn Source>, Box<Session>),
}

fn prepare(options: &Options) -> Result<Prepared, Failure> {
    if let Some(path) = &options.from {
        let measured = recorded::read(path, options.range.unwrap_or_default())?;
        return Ok(Prepared::Recorded(Box::new(measured)));
    }
    if let Some(synth) = options.invented.source() {
        let session = Box::new(synth.session().clone());
        return Ok(Prepared::Source(Box::new(synth), session));
    }
    let live = open(&options.common, &Family::REPORTED)?;
    let session = live.session().clone();
    refuse_without_kvm(&session)?;
    refuse_nothing_attached(&session)?;
    Ok(Prepared::Source(Box::new(live), Box::new(session)))
}

/// Applies ticks until the command, the time or a signal ends it; then the last one.
fn measure(
    source: Box<dyn Source>,
    mut session: Session,
    options: &Options,
) -> Result<Measured, Failure> {
    let began = session.started_ns;
    let mut totals = Totals::default();
    let until = Until { duration: options.duration, command: &options.command };
    let ended = collect(source, until, |message| {
        match message {
            Msg::Session(told) => session = *told,
            Msg::Tick(tick) => totals.apply(&tick),
            Msg::Replay(_) | Msg::End(_) => {}
        }
        true
    })?;
    let duration_ns = totals.end_ns.saturating_sub(began);
    Ok(Measured { session, totals, duration_ns, command: ended.command })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::detail::{KeyId, KeyTick};
    use crate::model::ids::{Isa, Reason};
    use crate::model::testing::{sample_tick, vcpu};
    use crate::model::tick::Tick;
    use crate::symbols::Table;

    #[test]
    fn symbols_find_their_place_from_what_was_measured() {
        let map = "ffffffff81000000 T _stext\n\
                   ffffffff81c00000 T default_idle\n\
                   ffffffff81c00040 T something_else\n\
                   ffffffff81d00000 T native_write_msr\n\
                   ffffffff81d00040 T another\n\
                   ffffffff81d00080 T native_read_msr\n\
                   ffffffff81d000c0 T _etext\n";
        let table = || Table::from_bytes(map.as_bytes()).expect("symbols");
        let mut symbols = GuestSymbols::default();
        symbols.insert("web-7", table(), None);
        symbols.insert("nobody", table(), None);
        let slide = 0x2000_0000;
        let key = |code, rip: u64| KeyTick {
            id: KeyId {
                reason: Some(Reason::exit(Isa::Vmx, code)),
                class: KeyClass::Rip,
                value: Some(rip + slide),
            },
            count: 900,
            ..KeyTick::default()
        };
        let (idle, write) = (0xffff_ffff_81c0_0003, 0xffff_ffff_81d0_0009);
        let read = 0xffff_ffff_81d0_0085;
        let mut vcpu = vcpu(1, 0, 1_000, Vec::new());
        vcpu.keys = vec![key(12, idle), key(31, read), key(32, write)];
        let mut totals = Totals::default();
        totals.apply(&sample_tick());
        totals.apply(&Tick { seq: 8, vcpus: vec![vcpu], ..Tick::default() });
        let notes = learn(&mut symbols, &totals);
        assert_eq!(
            symbols.describe("web-7", write + slide).as_deref(),
            Some("native_write_msr+0x9")
        );
        assert!(notes.iter().any(|note| note.starts_with("web-7: symbols at offset 0x20000000")));
        assert!(notes.iter().any(|note| note.contains("no VM of that name")), "{notes:?}");
    }
}
