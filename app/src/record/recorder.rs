//! Recording on a thread of its own, so that nothing waits for a disk.

use super::output::{Output, Target};
use super::writer::without_events;
use super::{Mark, Options, WriteError, Writer};
use crate::model::{session::Session, tick::Tick};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What may wait to be written: a minute at one tick a second.
const QUEUE: usize = 64;
/// From so much on single events are left out.
const CROWDED: usize = QUEUE / 2;
/// Notes that may wait for a place in the queue.
const MARKS: usize = 16;

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// The file that is being written; empty for standard output.
    pub path: PathBuf,
    /// Files so far.
    pub files: u32,
    /// Bytes so far, of all files.
    pub bytes: u64,
    /// Ticks written.
    pub ticks: u64,
    /// Ticks that were not: writing took too long.
    pub dropped_ticks: u64,
    /// Single events that were not.
    pub dropped_events: u64,
    /// Why it stopped before it was asked to: a sentence.
    pub stopped: Option<String>,
    /// Whether that was because nobody reads standard output any more, which is no failure.
    pub reader_gone: bool,
}

/// A running recording. None of its methods but `start` and `finish` wait for a disk.
#[derive(Debug)]
pub struct Recorder {
    queue: SyncSender<Note>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    /// What found no place in the queue.
    dropped: Option<Dropped>,
    session: Option<Box<Session>>,
    marks: Vec<Mark>,
}

#[derive(Debug, Default)]
struct Shared {
    progress: Mutex<Progress>,
    waiting: AtomicUsize,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Numbers are as good after a panic as before.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug)]
struct Dropped {
    ticks: u64,
    from_ns: u64,
    until_ns: u64,
}

#[derive(Debug)]
enum Note {
    Session(Box<Session>),
    Tick(Box<Tick>),
    Mark(Mark),
    Dropped(Dropped),
    EventsDropped(u64),
    Finish(Option<String>),
}

impl Recorder {
    /// Makes the file and starts the thread.
    pub fn start(target: &Target, session: &Session, options: Options) -> Result<Self, WriteError> {
        survive_size_limit()?;
        let (output, path) = target.open(options.number)?;
        let writer = Writer::new(output, session, options)?;
        let shared = Arc::new(Shared::default());
        let max_size = match target {
            Target::File { max_size, .. } => *max_size,
            Target::Stdout => None,
        };
        let job = Job {
            writer: Some(writer),
            session: session.clone(),
            target: target.clone(),
            max_size,
            path,
            files: 1,
            before: (0, 0),
            synced: 0,
            shared: Arc::clone(&shared),
        };
        job.tell();
        let (queue, inbox) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("kvmscope-record".to_owned())
            .spawn(move || job.run(&inbox))?;
        Ok(Self { queue, shared, thread, dropped: None, session: None, marks: Vec::new() })
    }

    /// Something in the session changed.
    pub fn session(&mut self, session: &Session) {
        self.session = Some(Box::new(session.clone()));
        self.send_waiting();
    }

    /// An interval. Where the disk is slow, its events are left out first, then it.
    pub fn tick(&mut self, mut tick: Box<Tick>) {
        let crowded = self.shared.waiting.load(Ordering::Relaxed) >= CROWDED;
        if crowded && !tick.events.is_empty() {
            let events = tick.events.len() as u64;
            *tick = without_events(*tick);
            self.shared.progress().dropped_events += events;
            // Without a place in the queue the file does not know of these few; the tick does.
            let _ = self.send(Note::EventsDropped(events));
        }
        let interval = Dropped {
            ticks: 1,
            from_ns: tick.end_ns.saturating_sub(tick.dur_ns),
            until_ns: tick.end_ns,
        };
        let is_sent = self.send_waiting() && self.send(Note::Tick(tick)).is_ok();
        if !is_sent {
            let from_ns = self.dropped.map_or(interval.from_ns, |dropped| dropped.from_ns);
            let ticks = self.dropped.map_or(0, |dropped| dropped.ticks) + 1;
            self.dropped = Some(Dropped { ticks, from_ns, ..interval });
            self.shared.progress().dropped_ticks += 1;
        }
    }

    /// An interval that is not of now: waits for the disk where it must.
    pub fn tick_or_wait(&mut self, tick: Box<Tick>) {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        // Where the thread has ended it has said why.
        let _ = self.queue.send(Note::Tick(tick));
    }

    /// A note.
    pub fn mark(&mut self, mark: Mark) {
        if self.marks.len() < MARKS {
            self.marks.push(mark);
        }
        self.send_waiting();
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.shared.progress().clone()
    }

    /// Writes what waits, finishes the file and closes it. `why` is why the source ended by itself.
    pub fn finish(self, why: Option<String>) -> Progress {
        let Self { queue, shared, thread, dropped, session, marks } = self;
        let last = dropped.map(Note::Dropped).into_iter();
        let last = last.chain(session.map(Note::Session)).chain(marks.into_iter().map(Note::Mark));
        for note in last.chain([Note::Finish(why)]) {
            // Here it may wait. Where the thread has ended there is nothing to finish.
            shared.waiting.fetch_add(1, Ordering::Relaxed);
            if queue.send(note).is_err() {
                break;
            }
        }
        drop(queue);
        if thread.join().is_err() {
            let mut progress = shared.progress();
            progress.stopped.get_or_insert_with(|| "recording failed in itself".to_owned());
        }
        shared.progress().clone()
    }

    /// Sends what had no place before; false when there is none still.
    fn send_waiting(&mut self) -> bool {
        if let Some(dropped) = self.dropped {
            if self.send(Note::Dropped(dropped)).is_err() {
                return false;
            }
            self.dropped = None;
        }
        if let Some(session) = self.session.take()
            && let Err(Note::Session(session)) = self.send(Note::Session(session))
        {
            self.session = Some(session);
            return false;
        }
        while let Some(mark) = self.marks.first().cloned() {
            if self.send(Note::Mark(mark)).is_err() {
                return false;
            }
            self.marks.remove(0);
        }
        true
    }

    /// Gives the note back when there is no place for it. A thread that has ended takes everything: it has said
    /// why it did.
    fn send(&self, note: Note) -> Result<(), Note> {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        match self.queue.try_send(note) {
            Err(TrySendError::Full(note)) => {
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                Err(note)
            }
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

/// A file that may not grow any more is an error of a write, not the end of the program.
fn survive_size_limit() -> std::io::Result<()> {
    signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false))).map(|_| ())
}

/// What the thread works on.
struct Job {
    /// `None` after the end.
    writer: Option<Writer<Output>>,
    session: Session,
    target: Target,
    max_size: Option<u64>,
    path: PathBuf,
    files: u32,
    /// Bytes and ticks of the files before.
    before: (u64, u64),
    /// Keys of this file that are on the disk.
    synced: usize,
    shared: Arc<Shared>,
}

impl Job {
    fn run(mut self, inbox: &Receiver<Note>) {
        while let Ok(note) = inbox.recv() {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            if let Err(error) = self.take(note) {
                self.stop(&error);
                return;
            }
            if self.writer.is_none() {
                return;
            }
            self.tell();
        }
        // Whoever recorded has gone without a word: the file is finished all the same.
        if let Err(error) = self.finish(None) {
            self.stop(&error);
        }
    }

    fn take(&mut self, note: Note) -> Result<(), WriteError> {
        if matches!(note, Note::Tick(_)) {
            self.rotate()?;
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        match note {
            Note::Session(session) => {
                writer.session(&session)?;
                self.session = *session;
            }
            Note::Tick(tick) => writer.tick(&tick)?,
            Note::Mark(mark) => writer.mark(&mark)?,
            Note::Dropped(Dropped { ticks, from_ns, until_ns }) => {
                writer.dropped(ticks, from_ns, until_ns)?;
            }
            Note::EventsDropped(events) => writer.events_dropped(events),
            Note::Finish(why) => return self.finish(why.as_deref()),
        }
        self.sync()
    }

    /// Each key goes to the disk at once: what is before it outlasts a crash of the machine.
    fn sync(&mut self) -> Result<(), WriteError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if writer.keys() != self.synced {
            self.synced = writer.keys();
            writer.output().sync()?;
        }
        Ok(())
    }

    /// Begins another file where the next tick may be too much for this one.
    fn rotate(&mut self) -> Result<(), WriteError> {
        let Some(max_size) = self.max_size else { return Ok(()) };
        let full =
            |writer: &Writer<Output>| writer.ticks() > 0 && writer.bytes_after_next() > max_size;
        if !self.writer.as_ref().is_some_and(full) {
            return Ok(());
        }
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let options = writer.next_file();
        writer.end(None)?;
        self.count(&writer);
        writer.output().sync()?;
        drop(writer);
        let (output, path) = self.target.open(options.number)?;
        self.path = path;
        self.files += 1;
        self.synced = 0;
        self.writer = Some(Writer::new(output, &self.session, options)?);
        self.sync()
    }

    fn count(&mut self, writer: &Writer<Output>) {
        self.before.0 += writer.bytes();
        self.before.1 += writer.ticks();
    }

    fn finish(&mut self, why: Option<&str>) -> Result<(), WriteError> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let ended = writer.end(why);
        self.count(&writer);
        self.tell();
        ended?;
        writer.output().sync()?;
        Ok(())
    }

    /// Says how far it is.
    fn tell(&self) {
        let of = |writer: &Writer<Output>| (writer.bytes(), writer.ticks());
        let (bytes, ticks) = self.writer.as_ref().map_or((0, 0), of);
        let mut progress = self.shared.progress();
        progress.path.clone_from(&self.path);
        progress.files = self.files;
        (progress.bytes, progress.ticks) = (self.before.0 + bytes, self.before.1 + ticks);
    }

    /// Leaves a file that can be read, and says why there will be nothing more in it.
    fn stop(&mut self, error: &WriteError) {
        self.tell();
        if let Some(mut writer) = self.writer.take() {
            let whole = writer.bytes();
            writer.output().cut(whole);
        }
        let mut progress = self.shared.progress();
        progress.stopped = Some(sentence(error, &self.path));
        progress.reader_gone = matches!(
            error,
            WriteError::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe
        );
    }
}

/// Why it stopped, for a person.
fn sentence(error: &WriteError, path: &std::path::Path) -> String {
    use std::io::ErrorKind::{BrokenPipe, FileTooLarge, NotFound, QuotaExceeded, StorageFull};
    let WriteError::Io(error) = error else {
        return format!("recording stopped: {error}");
    };
    let why = match error.kind() {
        BrokenPipe => return "recording stopped: nobody reads standard output any more".to_owned(),
        StorageFull => "the disk is full".to_owned(),
        QuotaExceeded => "the disk quota is used up".to_owned(),
        FileTooLarge => "the file is as large as files may be here (ulimit -f)".to_owned(),
        NotFound => return format!("recording stopped: {} was removed", path.display()),
        _ => error.to_string(),
    };
    let name = match path.as_os_str().is_empty() {
        true => "standard output".to_owned(),
        false => path.display().to_string(),
    };
    format!("recording into {name} stopped: {why}; what it has until then can be read")
}

#[cfg(test)]
mod tests;
