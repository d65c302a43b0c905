//! The guest's threads: one per vCPU, started together, stopped together, never left alone.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::Pid;

use super::error::Error;
use super::stop::Switch;
use super::sys;
use super::vcpu::{Ended, Worker};

/// How often the conductor looks at whether it should stop.
const LOOK: Duration = Duration::from_millis(20);
/// How often a thread that is to stop is interrupted: a signal that comes just before
/// KVM_RUN is lost, the next one is not.
const KICK_EVERY: Duration = Duration::from_millis(5);
/// How long threads that are to stop are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The switches all threads share.
#[derive(Clone, Debug, Default)]
pub struct Switches {
    /// Everyone has booted.
    pub start: Arc<Switch>,
    /// Everyone is to stop.
    pub stop: Arc<Switch>,
    /// Everyone has ended; threads may go. None goes earlier, because the end of a thread
    /// unmaps memory of the process, which can make KVM take a fault of another vCPU twice.
    leave: Arc<Switch>,
}

/// How one vCPU ended.
#[derive(Debug)]
pub struct End {
    /// (VM, vCPU).
    pub who: (u32, u32),
    /// The threads that ran it, first to last.
    pub tids: Vec<u32>,
    /// The vCPU; kept open until all have ended.
    pub worker: Option<Worker>,
    /// How its work ended.
    pub result: Result<Ended, Error>,
}

/// What all of them came to.
#[derive(Debug)]
pub struct Finale {
    /// One for each vCPU that ended, by VM and vCPU.
    pub ends: Vec<End>,
    /// vCPUs whose threads did not come back out of the kernel.
    pub stuck: usize,
    /// The watch said stop.
    pub stopped: bool,
}

enum Message {
    Runs(Pid),
    Booted,
    Ended(Box<End>),
}

/// Runs every worker on a thread of its own until all have ended or `should_stop` says so, and
/// `finish` has returned; until then their threads stay.
/// With `move_after`, each changes to another thread after so many rounds.
///
/// # Errors
/// When a thread cannot be started.
pub fn conduct(
    workers: Vec<Worker>,
    switches: &Switches,
    move_after: Option<u64>,
    mut should_stop: impl FnMut() -> bool,
    finish: impl FnOnce(),
) -> Result<Finale, Error> {
    sys::prepare_kicks()
        .map_err(|error| Error::Failed(format!("no handler for the stop signal: {error}")))?;
    let (sender, receiver) = channel();
    let expected = workers.len();
    let mut threads = Vec::with_capacity(expected);
    let mut failed = None;
    for worker in workers {
        let stage = Stage { switches: switches.clone(), sender: sender.clone() };
        match spawn(worker.id().1, move || stage.first(worker, move_after)) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let mut desk = Desk { receiver, switches, tids: Vec::new(), booted: 0, ends: Vec::new() };
    if failed.is_none() {
        desk.until(expected, |desk| {
            let wrong = desk.ends.iter().any(|end| end.result.is_err());
            wrong || should_stop()
        });
    }
    let stopped = desk.ends.len() < threads.len();
    if stopped {
        desk.stop(threads.len());
    }
    let stuck = threads.len() - desk.ends.len();
    finish();
    switches.leave.turn_on();
    if stuck == 0 {
        for thread in threads {
            // A panic has been printed by then; there is nothing to add.
            let _ = thread.join();
        }
    }
    let mut ends = desk.ends;
    ends.sort_by_key(|end| end.who);
    match failed {
        Some(error) => Err(error),
        None => Ok(Finale { ends, stuck, stopped }),
    }
}

fn spawn(vcpu: u32, main: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    thread::Builder::new()
        .name(format!("vcpu{vcpu}"))
        .spawn(main)
        .map_err(|error| Error::Failed(format!("no thread could be started for a vCPU: {error}")))
}

/// The conductor's side: what has been heard from the threads.
struct Desk<'a> {
    receiver: Receiver<Message>,
    switches: &'a Switches,
    tids: Vec<Pid>,
    booted: usize,
    ends: Vec<End>,
}

impl Desk<'_> {
    /// Listens until all `expected` have ended or `stop` says so.
    fn until(&mut self, expected: usize, mut stop: impl FnMut(&Self) -> bool) {
        while self.ends.len() < expected && !stop(self) {
            if !self.listen(LOOK) {
                return;
            }
            if self.booted == expected {
                self.switches.start.turn_on();
            }
        }
    }

    /// Makes everyone stop, as far as that is possible.
    fn stop(&mut self, expected: usize) {
        self.switches.stop.turn_on();
        self.switches.start.turn_on();
        let deadline = Instant::now() + PATIENCE;
        while self.ends.len() < expected && Instant::now() < deadline {
            for &tid in &self.tids {
                sys::kick(tid);
            }
            if !self.listen(KICK_EVERY) {
                return;
            }
        }
    }

    /// Takes one message if one comes in time; false when nobody is left to send any.
    fn listen(&mut self, at_most: Duration) -> bool {
        match self.receiver.recv_timeout(at_most) {
            Ok(Message::Runs(tid)) => self.tids.push(tid),
            Ok(Message::Booted) => self.booted += 1,
            Ok(Message::Ended(end)) => self.ends.push(*end),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        true
    }
}

/// A vCPU thread's side.
struct Stage {
    switches: Switches,
    sender: Sender<Message>,
}

impl Stage {
    /// The first (mostly the only) thread of a vCPU.
    fn first(self, mut worker: Worker, move_after: Option<u64>) {
        let tids = vec![self.runs()];
        match worker.settle().and_then(|()| worker.boot()) {
            Ok(Ended::Done) => {}
            other => return self.end(worker, tids, other),
        }
        self.tell(Message::Booted);
        let since = Instant::now();
        self.switches.start.wait();
        worker.waited(since);
        worker.begin();
        if move_after.is_some() {
            match worker.work(move_after) {
                Ok(Ended::Done) => return self.second(worker, tids),
                other => return self.end(worker, tids, other),
            }
        }
        let result = worker.work(None);
        self.end(worker, tids, result);
    }

    /// Hands the vCPU to another thread and waits for that one.
    fn second(self, mut worker: Worker, mut tids: Vec<u32>) {
        let who = worker.id();
        let sender = self.sender.clone();
        let first = tids.clone();
        let thread = spawn(who.1, move || {
            tids.push(self.runs());
            let result = worker.settle().and_then(|()| worker.work(None));
            self.end(worker, tids, result);
        });
        match thread {
            // A panic has been printed by then; there is nothing to add.
            Ok(thread) => drop(thread.join()),
            Err(error) => {
                let end = End { who, tids: first, worker: None, result: Err(error) };
                let _ = sender.send(Message::Ended(Box::new(end)));
            }
        }
    }

    /// Reports the end, and stays until everyone has ended, unless it is to die.
    fn end(&self, worker: Worker, tids: Vec<u32>, result: Result<Ended, Error>) {
        let dies = matches!(result, Ok(Ended::Died));
        let end = End { who: worker.id(), tids, worker: Some(worker), result };
        self.tell(Message::Ended(Box::new(end)));
        if !dies {
            self.switches.leave.wait();
        }
    }

    fn runs(&self) -> u32 {
        let tid = rustix::thread::gettid();
        self.tell(Message::Runs(tid));
        tid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The conductor listens until all have ended; one that gave up needs no message.
    fn tell(&self, message: Message) {
        let _ = self.sender.send(message);
    }
}
