//! `kvmscope demo`: the built-in guest, watched; or a recording of such guests, saying so and why.

mod sample;

use super::{Common, Failure, Screen, say, watch};
use crate::source::{
    live::{
        Live,
        host::{now_ns, unix_ns},
        plan::Family,
    },
    synth,
};
use std::{
    io::Read,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Options of `demo`.
#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    screen: Screen,
    /// Show an invented busy host instead
    #[arg(long)]
    synthetic: bool,
    /// VMs of the invented host
    #[arg(long, hide = true, requires = "synthetic", default_value_t = 5)]
    vms: u16,
}

/// Starts the guest and watches it.
pub fn run(options: &Options) -> Result<(), Failure> {
    if !options.common.pids.is_empty() {
        return Err(Failure::usage(
            "demo watches the guest that it starts; `kvmscope watch --pid PID` watches another",
        ));
    }
    let screen = watch::prepare(&options.screen, false)?;
    let mut given = watch::Given {
        vm: options.common.vm.as_deref(),
        symbols: options.common.guest_symbols()?,
        outliers: options.common.outliers()?,
        sample: None,
    };
    let history = options.screen.history;
    if options.synthetic {
        let begin = (now_ns(), unix_ns());
        let plan = synth::plan::Plan::noisy_hosts(options.vms.into());
        let why = "--synthetic was asked for";
        let source = synth::Synth::new(plan, 1, begin, why, &real_command())
            .interval(options.common.interval);
        let session = source.session().clone();
        return watch::show(Box::new(source), session, &screen, history, given);
    }
    let why = match real(options) {
        Ok((live, guest)) => {
            let session = live.session().clone();
            if options.common.verbose {
                super::report::tell(&session, true);
            }
            let result = watch::show(Box::new(live), session, &screen, history, given);
            if let Some(said) = guest.end() {
                say(format_args!("the demo's guest had ended before: {said}"));
            }
            return result;
        }
        Err(why) => why,
    };
    let replay = sample::open().map_err(|error| {
        Failure::running(format!(
            "{why}. The sample recording cannot be shown instead: {error}. `kvmscope demo --synthetic` invents a host"
        ))
    })?;
    let session = replay.session().clone();
    let sample = sample::said(&session, why.clone(), real_command());
    let of = sample.of.clone();
    given.sample = Some(sample);
    watch::show(Box::new(replay), session, &screen, history, given)?;
    say(format_args!("this was a recording of {of}, and not this host: {why}"));
    say(format_args!(
        "to watch a guest here: {}; `kvmscope doctor` says what is missing",
        real_command()
    ));
    Ok(())
}

/// The probes on the guest, or why they cannot be.
fn real(options: &Options) -> Result<(Live, Guest), String> {
    // The guest starts first: without KVM there is nothing to load probes for.
    let guest = Guest::start()?;
    let mut live_options = options.common.live(&Family::WATCHED).map_err(|failure| failure.text)?;
    live_options.pids.push(guest.child.id());
    match Live::open(live_options) {
        Ok(live) if live.session().probes.iter().any(|p| p.attached && p.family != "base") => {
            Ok((live, guest))
        }
        Ok(live) => {
            let mut wanted = live.session().probes.iter().filter(|probe| !probe.is_off());
            let why = wanted.find_map(|probe| probe.why.clone());
            let _ = guest.end();
            Err(why.unwrap_or_else(|| "no probe could be attached".to_owned()))
        }
        Err(error) => {
            let _ = guest.end();
            Err(error.to_string())
        }
    }
}

/// What to type for the real thing.
fn real_command() -> String {
    let program = std::env::current_exe()
        .map_or_else(|_| "kvmscope".to_owned(), |path| path.display().to_string());
    let root = rustix::process::geteuid().is_root();
    format!("{}{program} demo", if root { "" } else { "sudo " })
}

/// The last words of a guest that has ended or is about to.
fn said(child: &mut Child) -> String {
    let mut said = String::new();
    if let Some(mut err) = child.stderr.take() {
        let _ = err.read_to_string(&mut said);
    }
    let said = said.trim().trim_start_matches("kvmscope: ");
    if said.is_empty() { "it did not say why".to_owned() } else { said.to_owned() }
}

/// The guest in its child process; it ends when its standard input does.
struct Guest {
    child: Child,
}

/// How long a guest that was told to end may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Guest {
    /// Starts it and waits until it says that its vCPUs run. Fails with what it said instead.
    fn start() -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut child = Command::new(program)
            .args(["guest", "--demo", "--name", "demo"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the guest could not be started: {e}"))?;
        let mut ready = [0u8; 1];
        let running = child.stdout.as_mut().is_some_and(|out| out.read_exact(&mut ready).is_ok());
        if running {
            return Ok(Self { child });
        }
        let said = said(&mut child);
        let _ = child.wait();
        Err(said)
    }

    /// Ends it and waits for it. What it said if it had ended by itself before.
    fn end(mut self) -> Option<String> {
        let early = self.child.try_wait().ok().flatten().is_some();
        drop(self.child.stdin.take());
        let until = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                _ => return early.then(|| said(&mut self.child)),
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}
