//! The source around the player: its thread, its clock, and the pipe.

use super::{Control, FileTape, KeptTape, Player, Tape};
use crate::model::session::Session;
use crate::record::{End, Item, Recording, Stream};
use crate::source::{Msg, Request, Source};
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// Bytes of encoded ticks that are kept of a pipe: an hour of 160 vCPUs, about.
pub const KEPT_BYTES: usize = 256 << 20;
/// Items of a pipe that wait to be kept. The pipe waits then, and whoever writes to it.
const WAITING: usize = 64;
/// Between two looks at the pipe.
const LOOK: Duration = Duration::from_millis(40);

/// A recording as a source.
pub struct Replay {
    session: Session,
    what: What,
    window: usize,
    again: bool,
}

enum What {
    File(FileTape),
    Pipe(KeptTape, Receiver<Item>),
}

impl Replay {
    /// Of a file. The screen looks `window` ticks back.
    pub fn file(recording: Recording, window: usize) -> Self {
        let session = recording.session().clone();
        Self { session, what: What::File(FileTape::new(recording)), window, again: false }
    }

    /// Begins again whenever it has played to the end.
    pub fn again(self) -> Self {
        Self { again: true, ..self }
    }

    /// Of a pipe: reads until it has told its session.
    ///
    /// # Errors
    /// A sentence: what comes is no recording, or of another version.
    pub fn pipe(from: impl Read + Send + 'static, window: usize) -> Result<Self, String> {
        let mut stream = Stream::new(from).map_err(|error| error.to_string())?;
        let mut tape = KeptTape::new(KEPT_BYTES);
        while tape.session().is_none() {
            let item = stream.next().map_err(|error| error.to_string())?;
            if let Item::End(end) = &item {
                let why = end.why.clone().unwrap_or_else(|| "it is empty".to_owned());
                return Err(format!("there is nothing to replay: {why}"));
            }
            tape.push(item);
        }
        let session = tape.session().cloned().unwrap_or_default();
        let (out, items) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("kvmscope-pipe".to_owned())
            .spawn(move || read(stream, &out))
            .map_err(|error| format!("no thread could be started: {error}"))?;
        Ok(Self { session, what: What::Pipe(tape, items), window, again: false })
    }

    /// The session as it is known before anything is played.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// Reads a pipe to its end. It may wait for ever in a read; nothing waits for it.
fn read(mut stream: Stream<impl Read>, out: &SyncSender<Item>) {
    loop {
        let item = stream
            .next()
            .unwrap_or_else(|error| Item::End(End { clean: false, why: Some(error.to_string()) }));
        let last = matches!(item, Item::End(_));
        if out.send(item).is_err() || last {
            return;
        }
    }
}

impl Source for Replay {
    fn run(self: Box<Self>, out: Sender<Msg>, requests: Receiver<Request>) {
        let Self { session, what, window, again } = *self;
        if out.blocking_send(Msg::Session(Box::new(session))).is_err() {
            return;
        }
        match what {
            What::File(tape) => {
                let player = Player::new(tape, window);
                let player = if again { player.again() } else { player };
                play(player, &out, &requests, |_| false);
            }
            What::Pipe(tape, items) => {
                let mut open = true;
                play(Player::new(tape, window), &out, &requests, move |tape| {
                    // What has arrived, but not so much that requests have to wait.
                    for _ in 0..WAITING {
                        match items.try_recv() {
                            Ok(item) => tape.push(item),
                            Err(TryRecvError::Empty) => break,
                            Err(TryRecvError::Disconnected) => open = false,
                        }
                    }
                    open
                });
            }
        }
        // Nobody may be listening any more, which is as good an end as any.
        let _ = out.blocking_send(Msg::End(None));
    }
}

/// Plays until asked to stop. `arrive` adds what has arrived to the tape; false when there will be no more.
fn play<T: Tape>(
    mut player: Player<T>,
    out: &Sender<Msg>,
    requests: &Receiver<Request>,
    mut arrive: impl FnMut(&mut T) -> bool,
) {
    let begun = Instant::now();
    let mut open = arrive(player.tape_mut());
    let mut messages = player.open(begun.elapsed());
    loop {
        for message in messages.drain(..) {
            if out.blocking_send(message).is_err() {
                return;
            }
        }
        let wait = player.wait(begun.elapsed());
        let wait = if open { Some(wait.map_or(LOOK, |wait| wait.min(LOOK))) } else { wait };
        match next(requests, wait) {
            Next::Stop => return,
            Next::Controls(controls) => {
                for control in controls {
                    messages.extend(player.control(&control, begun.elapsed()));
                }
            }
            Next::Nothing => {}
        }
        if open {
            open = arrive(player.tape_mut());
        }
        messages.extend(player.advance(begun.elapsed()));
    }
}

enum Next {
    Stop,
    Controls(Vec<Control>),
    Nothing,
}

/// Waits for requests and takes all that are there.
fn next(requests: &Receiver<Request>, wait: Option<Duration>) -> Next {
    let first = match wait {
        Some(wait) => requests.recv_timeout(wait),
        None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
    };
    let mut controls = Vec::new();
    let mut request = match first {
        Ok(request) => request,
        Err(RecvTimeoutError::Timeout) => return Next::Nothing,
        Err(RecvTimeoutError::Disconnected) => return Next::Stop,
    };
    loop {
        match request {
            Request::Stop => return Next::Stop,
            Request::Replay(control) => controls.push(control),
            // What was recorded has no probes any more, and its interval is what it was.
            Request::Interval(_)
            | Request::Family(..)
            | Request::Outliers(_)
            | Request::Stacks(_) => {}
        }
        match requests.try_recv() {
            Ok(more) => request = more,
            Err(TryRecvError::Empty) => return Next::Controls(needed(controls)),
            Err(TryRecvError::Disconnected) => return Next::Stop,
        }
    }
}

/// Of several moments in a row only the last one is shown: a key is held down.
fn needed(controls: Vec<Control>) -> Vec<Control> {
    let jumps = |control: &Control| {
        matches!(control, Control::Seek(_) | Control::Start | Control::End)
            || matches!(control, Control::Step { by, .. } if *by < 0)
    };
    let mut out: Vec<Control> = Vec::new();
    for control in controls {
        if jumps(&control) && out.last().is_some_and(jumps) {
            out.pop();
        }
        out.push(control);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_jumps_in_a_row_the_last_counts() {
        let controls = vec![
            Control::Seek(1),
            Control::Step { from_ns: 5, by: -1 },
            Control::Pause,
            Control::Seek(2),
            Control::Start,
            Control::Step { from_ns: 5, by: 1 },
        ];
        let left = needed(controls.clone());
        assert_eq!(left, [&controls[1..3], &controls[4..]].concat());
    }
}
