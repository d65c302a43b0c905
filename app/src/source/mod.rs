//! Sources: where messages come from. Nothing downstream can tell which one is running.

pub mod live;
pub mod replay;
pub mod synth;

use crate::model::{detail::OutlierLimits, session::Session, stack::StackOf, tick::Tick};
use live::plan::Family;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a source says. (What the person says is an `Action`, another type on purpose.)
#[derive(Clone, Debug)]
pub enum Msg {
    /// First, and again when something in it changed (a probe attached or detached, a notice).
    Session(Box<Session>),
    /// An interval is over.
    Tick(Box<Tick>),
    /// Only of a replay: another moment, or how the playing is going.
    Replay(Box<replay::Said>),
    /// The source has ended; the text says why when it was not asked to.
    End(Option<String>),
}

/// What can be asked of a running source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make a last tick of what there is and end.
    Stop,
    /// Change the interval between ticks.
    Interval(Duration),
    /// Attach a family of probes, or detach it. [`Msg::Session`] tells what came of it.
    Family(Family, bool),
    /// From which time on an exit is an outlier.
    Outliers(OutlierLimits),
    /// Count the callers of this function, while the family `roots` is attached.
    Stacks(StackOf),
    /// Play, stop, or show another moment of a recording.
    Replay(replay::Control),
}

/// Messages that may wait for the reader. A live source blocks rather than drop a tick; the
/// kernel's counters go on meanwhile, so a late tick is a longer one, not a wrong one.
pub const CHANNEL: usize = 64;

/// A running source, seen from the reader's side.
pub struct Feed {
    /// What it says.
    pub messages: mpsc::Receiver<Msg>,
    /// What is asked of it. Dropping the feed asks it to stop.
    pub requests: std::sync::mpsc::Sender<Request>,
    thread: std::thread::JoinHandle<()>,
}

/// Something that yields messages until it is asked to stop.
pub trait Source: Send + 'static {
    /// Runs to the end on a thread of its own. Sends [`Msg::Session`] first and [`Msg::End`] last.
    /// Returns when asked to stop, when there is nothing more, or when nobody listens.
    fn run(self: Box<Self>, out: mpsc::Sender<Msg>, requests: std::sync::mpsc::Receiver<Request>);
}

impl Feed {
    /// Starts a source on its own thread.
    pub fn start(source: Box<dyn Source>) -> std::io::Result<Self> {
        let (out, messages) = mpsc::channel(CHANNEL);
        let (requests, inbox) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("kvmscope-source".to_owned())
            .spawn(move || source.run(out, inbox))?;
        Ok(Self { messages, requests, thread })
    }

    /// Asks the source to stop and waits until it has detached everything. What it still says is
    /// dropped; read [`Self::messages`] to [`Msg::End`] first when it matters.
    pub fn finish(self) {
        let Self { mut messages, requests, thread } = self;
        // The source may have ended by itself: then there is nobody to ask.
        let _ = requests.send(Request::Stop);
        while messages.blocking_recv().is_some() {}
        drop(requests);
        let _ = thread.join();
    }
}
