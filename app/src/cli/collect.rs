//! Taking what a source says until the time, a command or a signal ends it, without a screen.

use super::{Failure, say};
use crate::source::{Feed, Msg, Request, Source};
use rustix::process::{Pid, kill_process};
use std::{process::ExitStatus, time::Duration};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
};

/// What ends it.
#[derive(Clone, Copy, Debug)]
pub struct Until<'a> {
    /// After so long; `None`: not by time.
    pub duration: Option<Duration>,
    /// At the end of this command, which is started; empty: of none.
    pub command: &'a [String],
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// The command's status, where it has ended.
    pub command: Option<ExitStatus>,
    /// Why the source ended without being asked to.
    pub why: Option<String>,
}

/// Runs a source to its end and hands out sessions and ticks. `take` answers whether to go on; when it does not, a
/// command is waited for all the same, as it is somebody's work.
pub fn collect(
    source: Box<dyn Source>,
    until: Until<'_>,
    take: impl FnMut(Msg) -> bool,
) -> Result<Ended, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::running(format!("the event loop cannot be started: {e}")))?;
    let mut feed = Feed::start(source)
        .map_err(|e| Failure::running(format!("no thread could be started: {e}")))?;
    let result = runtime.block_on(follow(&mut feed, until, take));
    feed.finish();
    result
}

async fn follow(
    feed: &mut Feed,
    until: Until<'_>,
    mut take: impl FnMut(Msg) -> bool,
) -> Result<Ended, Failure> {
    let mut signals = Signals::new()?;
    let mut ended = Ended::default();
    let mut child = start(until.command)?;
    let timer = tokio::time::sleep(until.duration.unwrap_or(Duration::MAX));
    tokio::pin!(timer);
    let (mut stopping, mut given_up) = (false, false);
    loop {
        tokio::select! {
            message = feed.messages.recv() => match message {
                Some(Msg::End(None)) | None => break,
                Some(Msg::End(Some(why))) => {
                    say(format_args!("measuring ended early: {why}"));
                    ended.why = Some(why);
                    break;
                }
                Some(message) => {
                    if !take(message) && !stopping {
                        (stopping, given_up) = (true, true);
                    }
                }
            },
            status = wait(&mut child), if !stopping => {
                ended.command = status;
                stopping = true;
            }
            () = &mut timer, if !stopping && until.duration.is_some() => stopping = true,
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
    if given_up && child.is_some() {
        tokio::select! {
            status = wait(&mut child) => ended.command = status,
            () = signals.any() => end(child.as_ref()),
        }
    }
    Ok(ended)
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
async fn wait(child: &mut Option<Child>) -> Option<ExitStatus> {
    match child {
        Some(child) => child.wait().await.ok(),
        None => std::future::pending().await,
    }
}

/// Asks the command to end: it was started for this and does not outlive it unasked.
fn end(child: Option<&Child>) {
    let pid = child.and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // It may have ended meanwhile; until it is waited for, its pid is nobody else's.
        let _ = kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// SIGINT and SIGTERM: stop, and give what there is.
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
