//! `kvmscope doctor`.

use super::{Failure, Format};
use crate::{
    doctor::{self, SilentBackend},
    source::{
        Feed, Msg, Request,
        live::{self, Live, loader::LoadError},
    },
};
use std::process::{Command, Stdio};

/// Options of `doctor`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// How the result is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

/// Exits of each kind that the guest makes to find out what the backend fires.
const TRIAL: &str = "100";

/// Looks at the host, tries every probe, prints. Status 3 when nothing would be shown.
pub fn run(options: &Options) -> Result<(), Failure> {
    let facts = doctor::gather();
    let mut failed = None;
    let (probes, silent) = match Live::open(live::Options::default()) {
        Ok(live) => {
            let probes = live.session().probes.clone();
            (probes, trial(live)?)
        }
        // The finding about rights says it better than the refusal.
        Err(LoadError::NotAllowed(_)) => (Vec::new(), None),
        Err(error) => {
            failed = Some(error);
            (Vec::new(), None)
        }
    };
    let findings = doctor::findings(&facts, &probes, silent);
    let text = match options.format {
        Format::Text => doctor::text(&facts, &findings),
        Format::Json => {
            doctor::json(&facts, &probes, &findings).map_err(|e| Failure::running(e.to_string()))?
        }
    };
    super::report::print(&text)?;
    match (failed, doctor::blocker(&findings)) {
        (Some(error), _) => Err(error.into()),
        (None, Some(_)) => Err(Failure::not_possible("")),
        (None, None) => Ok(()),
    }
}

/// Runs the test guest for a moment under the probes: whether `kvm_exit` fires on this backend.
/// `None` as well when there is no KVM to try it on.
fn trial(live: Live) -> Result<Option<SilentBackend>, Failure> {
    let backend = live.session().host.backend.clone();
    let attached = live.session().probes.iter().any(|p| p.attached && p.name == "kvm:kvm_exit");
    let program = std::env::current_exe().map_err(|e| Failure::running(e.to_string()))?;
    let mut feed = Feed::start(Box::new(live)).map_err(|e| Failure::running(e.to_string()))?;
    // What the guest says matters to nobody here; /dev/kvm has findings of its own.
    let _ = Command::new(program)
        .args(["guest", "--all", TRIAL, "--deadline", "5", "--name", "kvmscope-doctor"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let _ = feed.requests.send(Request::Stop);
    let mut counted = live::reader::Counted::default();
    while let Some(message) = feed.messages.blocking_recv() {
        match message {
            Msg::Tick(tick) => counted.add(&tick),
            Msg::Session(_) | Msg::Replay(_) => {}
            Msg::End(_) => break,
        }
    }
    feed.finish();
    let live::reader::Counted { exits, userspace, in_run_ns } = counted;
    Ok(attached.then(|| SilentBackend::detect(&backend, userspace, exits, in_run_ns)).flatten())
}
