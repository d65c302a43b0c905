//! The event loop: terminal events, messages of the source, signals, and a pace for drawing. What
//! it does to the outside goes through [`Outside`], so that tests drive it without a terminal.

use super::{pace::Pace, recording::Recordings};
use crate::{
    config::Sort,
    findings::Thresholds,
    record::Progress,
    source::{Msg, Request, replay::Said},
    state::{Action, Effect, SavedView, State},
    ui::{
        self, View,
        glyph::Glyphs,
        input::{Input, input},
        keymap::Keymap,
        paint::Look,
        theme::{Theme, ThemeName},
    },
};
use futures_util::{Stream, StreamExt as _};
use ratatui::{Terminal, backend::Backend, crossterm::event::Event};
use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// How the screen is to look and behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// Colours.
    pub theme: ThemeName,
    /// Characters.
    pub glyphs: Glyphs,
    /// Keys.
    pub keymap: Keymap,
    /// Whether to take the mouse.
    pub mouse: bool,
    /// What VMs are sorted by at first.
    pub sort: Option<Sort>,
    /// Columns to leave out, by name.
    pub hide: Vec<String>,
    /// From which sizes on something is a finding.
    pub findings: Thresholds,
    /// Where views and recordings are saved.
    pub directory: PathBuf,
    /// Quits by itself after this long.
    pub duration: Option<Duration>,
}

impl Options {
    /// From the configuration, and the environment where the configuration says nothing.
    pub fn new(config: &crate::config::Config, get: impl Fn(&str) -> Option<String>) -> Self {
        let glyphs = match config.ascii {
            Some(true) => ui::glyph::ASCII,
            Some(false) => ui::glyph::UNICODE,
            None => Glyphs::for_environment(&get),
        };
        Self {
            theme: config.theme.unwrap_or_else(|| ui::theme::for_environment(&get)),
            glyphs,
            keymap: config.keys.clone(),
            mouse: config.mouse.unwrap_or(true),
            sort: config.sort,
            hide: config.hide.clone(),
            findings: config.findings,
            directory: config.directory.clone().unwrap_or_else(|| PathBuf::from(".")),
            duration: None,
        }
    }

    /// The view that these options make.
    pub fn view(&self) -> View {
        let look = Look { theme: Theme::new(self.theme), glyphs: self.glyphs };
        let mut view = View::new(look, self.keymap.clone());
        view.hide = self.hide.clone();
        view
    }

    /// Sorts the VMs, and sizes findings, as these options say.
    pub fn prepare(&self, state: &mut State) {
        state.set_thresholds(self.findings);
        let Some(Sort { key, reversed }) = self.sort else { return };
        // Sorting by what is sorted by already would turn the order around.
        if state.level().sort.key != key {
            state.act(Action::SortBy(key.to_owned()));
        }
        if reversed {
            state.act(Action::SortReverse);
        }
    }
}

/// Why the screen ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The person quit, or the time was over.
    Quit,
    /// A signal asked for it.
    Signal,
    /// There is no terminal any more.
    TerminalGone,
    /// A thread panicked; its message is on the terminal.
    Panicked,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why the screen ended.
    pub end: End,
    /// Why the source had ended by itself before that, if it had and said so.
    pub source: Option<String>,
    /// What became of recordings that were being made.
    pub recorded: Vec<String>,
}

/// A signal, as far as the loop cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// End now (SIGTERM, SIGINT, SIGHUP, SIGQUIT).
    End,
    /// Running again after a stop (SIGCONT).
    Continued,
}

/// What the loop does to the outside.
pub trait Outside {
    /// Puts text on the clipboard; the answer is for the footer.
    fn copy(&mut self, text: &str) -> String;
    /// Saves a view; the answer is for the footer.
    fn save(&mut self, view: &SavedView) -> String;
    /// Gives the terminal back, stops, and takes the terminal again.
    fn suspend(&mut self) -> io::Result<()>;
    /// Takes the terminal again after a stop that was not asked for.
    fn continued(&mut self) -> io::Result<()>;
    /// Asks the source.
    fn request(&mut self, request: Request);
    /// What makes recordings.
    fn recordings(&mut self) -> &mut Recordings;
    /// Whether the terminal is still ours.
    fn taken(&self) -> bool;
}

/// What the loop works with.
pub struct Start<'a, B: Backend, E, S, O> {
    /// Where it draws.
    pub terminal: &'a mut Terminal<B>,
    /// What the person does.
    pub events: E,
    /// What the source says.
    pub messages: &'a mut mpsc::Receiver<Msg>,
    /// Signals.
    pub signals: S,
    /// The rest of the world.
    pub outside: O,
    /// The state.
    pub state: State,
    /// What the screen remembers.
    pub view: View,
    /// Quits by itself after this long.
    pub duration: Option<Duration>,
}

impl<B, E, S, O> Start<'_, B, E, S, O>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
    E: Stream<Item = io::Result<Event>> + Unpin,
    S: Stream<Item = Signal> + Unpin,
    O: Outside,
{
    /// Runs to the end.
    pub async fn run(mut self) -> anyhow::Result<Outcome> {
        let end = self.until_end().await;
        let source = self.state.header().ended.clone().flatten();
        let recorded = self.outside.recordings().finish();
        match end {
            Ok(end) => Ok(Outcome { end, source, recorded }),
            Err(error) if gone(&error) => Ok(Outcome { end: End::TerminalGone, source, recorded }),
            Err(error) => Err(anyhow::anyhow!("the terminal cannot be used any more: {error}")),
        }
    }

    async fn until_end(&mut self) -> io::Result<End> {
        let mut pace = Pace::default();
        let mut listening = true;
        let mut signalling = true;
        let deadline = self.duration.map(|d| tokio::time::Instant::now() + d);
        pace.asked();
        loop {
            let wait = pace.wait(Instant::now());
            if wait == Some(Duration::ZERO) {
                self.draw()?;
                pace.drawn(Instant::now());
                continue;
            }
            tokio::select! {
                biased;
                signal = self.signals.next(), if signalling => match signal {
                    Some(Signal::End) => return Ok(End::Signal),
                    Some(Signal::Continued) => {
                        self.outside.continued()?;
                        self.anew()?;
                        pace.asked();
                    }
                    None => signalling = false,
                },
                event = self.events.next() => {
                    let Some(event) = event else { return Ok(End::TerminalGone) };
                    if self.event(&event?, &mut pace)? {
                        return Ok(End::Quit);
                    }
                }
                message = self.messages.recv(), if listening => {
                    pace.changed();
                    // The person waits to see a moment that was asked for.
                    if message.as_ref().is_some_and(is_moment) {
                        pace.asked();
                    }
                    listening = self.message(message);
                }
                () = sleep(wait) => {}
                () = until(deadline) => return Ok(End::Quit),
            }
            if !self.outside.taken() {
                return Ok(End::Panicked);
            }
        }
    }

    /// Takes a message and all that wait behind it; false when there will be no more.
    fn message(&mut self, first: Option<Msg>) -> bool {
        let Some(first) = first else {
            if self.state.header().ended.is_none() {
                self.state.apply(Msg::End(Some("it stopped without a word".to_owned())));
            }
            return false;
        };
        self.take(first);
        // A burst is drawn once; what comes while it is taken waits for the next turn.
        for _ in 0..self.messages.len() {
            match self.messages.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => break,
            }
        }
        self.look_at_recordings();
        true
    }

    fn take(&mut self, message: Msg) {
        self.outside.recordings().heard(&message);
        self.state.apply(message);
    }

    /// How the recording goes, and what became of what was saved. When it has stopped by itself, watching
    /// goes on.
    fn look_at_recordings(&mut self) {
        let before = self.state.recording().map(|recorded| recorded.progress);
        let recordings = self.outside.recordings();
        let progress = recordings.progress();
        if let Some(news) = recordings.news() {
            self.view.message = Some(news);
        }
        if progress == before {
            return;
        }
        let stopped = |progress: &Option<Progress>| {
            progress.as_ref().and_then(|progress| progress.stopped.clone())
        };
        if let (None, Some(why)) = (stopped(&before), stopped(&progress)) {
            self.view.message = Some(format!("recording has stopped: {why}"));
        }
        self.state.recorded(progress);
    }

    /// Does what an event asks for; true to quit.
    fn event(&mut self, event: &Event, pace: &mut Pace) -> io::Result<bool> {
        match input(event, &self.state, &mut self.view) {
            Input::Ignore => return Ok(false),
            Input::Draw => {}
            Input::Redraw => self.anew()?,
            Input::Suspend => {
                self.outside.suspend()?;
                self.anew()?;
            }
            Input::Act(actions) => {
                for action in actions {
                    for effect in self.state.act(action) {
                        match effect {
                            Effect::Quit => return Ok(true),
                            Effect::Copy(text) => {
                                self.view.message = Some(self.outside.copy(&text));
                            }
                            Effect::SaveView(view) => {
                                self.view.message = Some(self.outside.save(&view));
                            }
                            Effect::SetInterval(interval) => {
                                self.outside.request(Request::Interval(interval));
                            }
                            Effect::Family(family, on) => {
                                self.outside.request(Request::Family(family, on));
                            }
                            Effect::Stacks(of) => {
                                self.outside.request(Request::Stacks(of));
                            }
                            Effect::Outliers(limits) => {
                                self.outside.request(Request::Outliers(limits));
                            }
                            Effect::Replay(control) => {
                                self.outside.request(Request::Replay(control));
                            }
                            effect => self.record(effect),
                        }
                    }
                }
            }
        }
        pace.asked();
        Ok(false)
    }

    /// Does what is about recordings.
    fn record(&mut self, effect: Effect) {
        let recordings = self.outside.recordings();
        self.view.message = match effect {
            Effect::Record(begin) => {
                let said = recordings.start(*begin, self.state.session());
                let progress = recordings.progress();
                self.state.recorded(progress);
                Some(said.unwrap_or_else(|why| why))
            }
            Effect::RecordStop => {
                let said = recordings.stop();
                self.state.recorded(None);
                said
            }
            Effect::Mark(mark) => Some(match recordings.mark(&mark) {
                true => "marked in the recording".to_owned(),
                false => "marked; R saves it with what is kept".to_owned(),
            }),
            Effect::Keep(past) => Some(recordings.keep(*past)),
            _ => None,
        };
    }

    /// Forgets what is on the screen. (`Terminal::clear` would ask the terminal where its cursor
    /// is, and wait for terminals that never answer.)
    fn anew(&mut self) -> io::Result<()> {
        let size = self.terminal.size().map_err(failed)?;
        self.terminal.resize(size.into()).map_err(failed)
    }

    fn draw(&mut self) -> io::Result<()> {
        let size = self.terminal.size().map_err(failed)?;
        let columns = ui::reason_columns(size.width, size.height, &self.state, &self.view);
        self.state.act(Action::Fit(columns));
        let (state, view) = (&self.state, &mut self.view);
        self.terminal
            .draw(|frame| ui::draw(frame.buffer_mut(), state, view))
            .map(|_| ())
            .map_err(failed)
    }
}

/// Whether a recording shows another moment with it.
fn is_moment(message: &Msg) -> bool {
    matches!(message, Msg::Replay(said) if matches!(**said, Said::Moment(_)))
}

/// A backend's error; an I/O error keeps its kind.
pub(super) fn failed(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    let error: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
    match error.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(other) => io::Error::other(other),
    }
}

/// Whether the terminal went away: its window was closed, or the connection broke.
pub(super) fn gone(error: &io::Error) -> bool {
    let kind = error.kind();
    let io = rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::IO);
    io || matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof)
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

pub(super) async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "event_loop_tests.rs"]
mod tests;
