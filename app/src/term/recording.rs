//! Recordings that are made while the screen is shown.

use crate::{
    model::{session::Session, tick::Tick, totals::Totals},
    record::{Mark, Options, Progress, Recorder, Target, WriteError},
    source::{
        Msg,
        live::host::{now_ns, unix_ns},
    },
    state::Past,
    ui::format,
};
use std::{
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Duration,
};

/// How a recording's name ends.
const EXTENSION: &str = "kvmscope";
/// Ticks that may wait to be written before a mark is handed over.
const ROOM: u64 = 16;
/// Between two looks how many wait.
const LOOK: Duration = Duration::from_millis(2);

/// Those that are being made.
#[derive(Debug, Default)]
pub struct Recordings {
    directory: PathBuf,
    running: Option<Recorder>,
    /// Of the past, each with what to say about it.
    past: Vec<JoinHandle<String>>,
}

impl Recordings {
    /// None yet; they are put into this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, ..Self::default() }
    }

    /// Begins one. Answers what to say.
    ///
    /// # Errors
    /// A sentence: the file cannot be made.
    pub fn start(&mut self, begin: Totals, session: &Session) -> Result<String, String> {
        let options = Options { begin, clock: Some(clock), ..Options::default() };
        let recorder = create(&self.directory, "", session, options)?;
        let text = format!("recording to {}", recorder.progress().path.display());
        self.running = Some(recorder);
        Ok(text)
    }

    /// Takes what the source says.
    pub fn heard(&mut self, message: &Msg) {
        let Some(recorder) = &mut self.running else { return };
        match message {
            Msg::Session(session) => recorder.session(session),
            Msg::Tick(tick) => recorder.tick(tick.clone()),
            Msg::Replay(_) | Msg::End(_) => {}
        }
    }

    /// Puts a mark into it. Answers whether there is one.
    pub fn mark(&mut self, mark: &Mark) -> bool {
        if let Some(recorder) = &mut self.running {
            recorder.mark(mark.clone());
        }
        self.running.is_some()
    }

    /// How far it is.
    pub fn progress(&self) -> Option<Progress> {
        self.running.as_ref().map(Recorder::progress)
    }

    /// Ends it. Answers what to say.
    pub fn stop(&mut self) -> Option<String> {
        self.running.take().map(|recorder| told(&recorder.finish(None)))
    }

    /// Writes what is kept of the past, on a thread of its own.
    pub fn keep(&mut self, past: Past) -> String {
        let directory = self.directory.clone();
        let thread = std::thread::Builder::new().name("kvmscope-keep".to_owned());
        match thread.spawn(move || keep(past, &directory)) {
            Ok(thread) => {
                self.past.push(thread);
                "saving what is kept".to_owned()
            }
            Err(error) => format!("not saved: no thread could be started: {error}"),
        }
    }

    /// What has been finished since this was asked last.
    pub fn news(&mut self) -> Option<String> {
        let at = self.past.iter().position(JoinHandle::is_finished)?;
        Some(joined(self.past.swap_remove(at)))
    }

    /// Ends everything. Answers what to say about it.
    pub fn finish(&mut self) -> Vec<String> {
        let stopped = self.stop();
        stopped.into_iter().chain(self.past.drain(..).map(joined)).collect()
    }
}

fn joined(thread: JoinHandle<String>) -> String {
    thread.join().unwrap_or_else(|_| "not saved: the program has failed".to_owned())
}

/// The probes' clock and wall time, ns.
fn clock() -> (u64, u64) {
    (now_ns(), unix_ns())
}

/// Makes a file under a name that nothing has yet.
fn create(
    directory: &Path,
    what: &str,
    session: &Session,
    options: Options,
) -> Result<Recorder, String> {
    let now_ns = unix_ns();
    let time = format::time_of_day(now_ns).replace(':', "");
    let name = format!("kvmscope-{}-{time}{what}", format::date(now_ns));
    let mut last = String::new();
    for n in 1..100 {
        let number = if n == 1 { String::new() } else { format!("-{n}") };
        let path = directory.join(format!("{name}{number}.{EXTENSION}"));
        let there = path.symlink_metadata().is_ok();
        let target = Target::File { path, force: false, max_size: None };
        match Recorder::start(&target, session, options.clone()) {
            Ok(recorder) => return Ok(recorder),
            Err(WriteError::Create { path, why }) if there => last = format!("{path}: {why}"),
            Err(error) => return Err(format!("not recording: {error}")),
        }
    }
    Err(format!("not recording: {last}"))
}

/// What to say about a recording that has ended.
fn told(progress: &Progress) -> String {
    let Progress { path, bytes, ticks, dropped_ticks, stopped, .. } = progress;
    let size = format::bytes(*bytes);
    let mut text = format!("recorded {ticks} ticks, {size}, in {}", path.display());
    if *dropped_ticks > 0 {
        text += &format!("; {dropped_ticks} ticks are missing in it");
    }
    if let Some(why) = stopped {
        text += &format!("; it stopped early: {why}");
    }
    text
}

fn keep(past: Past, directory: &Path) -> String {
    let Past { session, begin, history, marks } = past;
    let options = Options { begin, ..Options::default() };
    let mut recorder = match create(directory, "-past", &session, options) {
        Ok(recorder) => recorder,
        Err(why) => return why,
    };
    let mut marks = marks.into_iter().peekable();
    let mut handed = 0;
    for place in history.places() {
        // A tick that cannot be read is a gap.
        let Some(Ok(tick)) = history.get(place) else { continue };
        let tick: Box<Tick> = Box::new(tick);
        let end_ns = tick.end_ns;
        recorder.tick_or_wait(tick);
        handed += 1;
        while let Some(mark) = marks.next_if(|mark| mark.at_ns <= end_ns) {
            // Only a few may wait for a place in the queue.
            make_room(&recorder, handed);
            recorder.mark(mark);
        }
    }
    told(&recorder.finish(None))
}

/// Waits until there is room among so many ticks that were handed over; not for one that has stopped.
fn make_room(recorder: &Recorder, handed: u64) {
    loop {
        let progress = recorder.progress();
        if progress.stopped.is_some() || progress.ticks + ROOM >= handed {
            return;
        }
        std::thread::sleep(LOOK);
    }
}
