//! `kvmscope report`: no screen, a table or JSON at the end.

use super::{Common, Failure, Format, say};
use crate::{
    config,
    export::{self, Content},
    findings::{facts_of, findings},
    model::{detail::KeyClass, session::Session, totals::Totals},
    source::{
        Feed, Msg, Request,
        live::{Live, plan::Family},
    },
    symbols::GuestSymbols,
};
use rustix::process::{Pid, kill_process};
use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
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
    let config = config::load(options.config.as_deref(), |name| std::env::var(name).ok())
        .map_err(|e| Failure::usage(format!("{e:#}")))?;
    let mut symbols = options.common.guest_symbols()?;
    let live = open(&options.common, &Family::REPORTED)?;
    let session = live.session().clone();
    refuse_without_kvm(&session)?;
    refuse_nothing_attached(&session)?;
    // The file is made first: an hour of measuring must not end with "no such directory".
    let output = options.output.as_ref().map(|path| create(path)).transpose()?;
    let measured = measure(live, session, options)?;
    let Measured { mut session, mut totals, duration_ns, command } = measured;
    session.notices.extend(learn(&mut symbols, &totals));
    // Before other VMs are dropped: one of them may be who took the CPU.
    let facts = facts_of(&totals, &session.names);
    let mut findings = findings(&facts, &config.findings);
    if let Some(name) = &options.common.vm {
        totals.vms.retain(|_, vm| vm.info.name == *name);
        totals.outliers.retain(|outlier| totals.vms.contains_key(&outlier.key.vm));
        totals.events.retain(|event| totals.vms.contains_key(&event.vm));
        totals.routes.retain(|vm| totals.vms.contains_key(&vm));
        findings.retain(|finding| totals.vms.contains_key(&finding.vm));
        if totals.vms.is_empty() {
            say(format_args!("no VM called {name:?} was seen"));
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

fn measure(live: Live, session: Session, options: &Options) -> Result<Measured, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::running(format!("the event loop cannot be started: {e}")))?;
    let mut feed = Feed::start(Box::new(live))
        .map_err(|e| Failure::running(format!("no thread could be started: {e}")))?;
    let result = runtime.block_on(collect(&mut feed, session, options));
    feed.finish();
    result
}

/// Applies ticks until the command, the time or a signal ends it; then the last one.
async fn collect(
    feed: &mut Feed,
    session: Session,
    options: &Options,
) -> Result<Measured, Failure> {
    let mut signals = Signals::new()?;
    let mut measured =
        Measured { session, totals: Totals::default(), duration_ns: 0, command: None };
    let mut child = start(&options.command)?;
    let began = measured.session.started_ns;
    let timer = tokio::time::sleep(options.duration.unwrap_or(Duration::MAX));
    tokio::pin!(timer);
    let mut stopping = false;
    loop {
        tokio::select! {
            message = feed.messages.recv() => match message {
                Some(Msg::Session(session)) => measured.session = *session,
                Some(Msg::Tick(tick)) => measured.totals.apply(&tick),
                // Only a replay says such things.
                Some(Msg::Replay(_)) => {}
                Some(Msg::End(None)) | None => break,
                Some(Msg::End(Some(why))) => {
                    say(format_args!("measuring ended early: {why}"));
                    break;
                }
            },
            status = ended(&mut child), if !stopping => {
                measured.command = status;
                stopping = true;
            }
            () = &mut timer, if !stopping && options.duration.is_some() => stopping = true,
            () = signals.any(), if !stopping => {
                end(child.as_ref());
                stopping = true;
            }
        }
        if stopping {
            // Sent again on each turn: only the first is read, and a source that has ended
            // is nobody to ask.
            let _ = feed.requests.send(Request::Stop);
        }
    }
    measured.duration_ns = measured.totals.end_ns.saturating_sub(began);
    Ok(measured)
}

fn start(command: &[String]) -> Result<Option<Child>, Failure> {
    let Some((program, args)) = command.split_first() else { return Ok(None) };
    Command::new(program)
        .args(args)
        .spawn()
        .map(Some)
        .map_err(|e| Failure::usage(format!("the command {program:?} could not be started: {e}")))
}

/// Waits for the command; for ever when there is none.
async fn ended(child: &mut Option<Child>) -> Option<ExitStatus> {
    match child {
        Some(child) => child.wait().await.ok(),
        None => std::future::pending().await,
    }
}

/// Asks the command to end: it was started for this report and does not outlive it unasked.
fn end(child: Option<&Child>) {
    let pid = child.and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // It may have ended meanwhile; until it is waited for, its pid is nobody else's.
        let _ = kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// SIGINT and SIGTERM: stop, and print what there is.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|e| Failure::running(format!("signals cannot be caught: {e}")))
        };
        Ok(Self(listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
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
