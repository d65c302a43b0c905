//! The loop on a real terminal, with real signals and a running source.

use super::{
    clipboard,
    event_loop::{End, Options, Outcome, Outside, Signal, Start},
    guard::Guard,
    recording::Recordings,
    save,
};
use crate::{
    source::{Feed, Request},
    state::{SavedView, State},
};
use anyhow::{Context as _, anyhow};
use futures_util::stream;
use ratatui::{Terminal, backend::CrosstermBackend, crossterm::event::EventStream};
use std::{
    io::{self, Write},
    path::PathBuf,
    sync::mpsc::Sender,
};
use tokio::signal::unix::{SignalKind, signal};

/// Shows the screen until the person quits, a signal comes or the terminal goes away, with the
/// terminal restored on every way out. Then the source is asked to stop and has detached
/// everything when this returns.
///
/// # Errors
/// A sentence: no terminal, a terminal that cannot be set up or written to, a thread that panicked.
pub fn run(mut state: State, mut feed: Feed, options: &Options) -> anyhow::Result<Outcome> {
    options.prepare(&mut state);
    let result = show(state, &mut feed, options);
    feed.finish();
    match result {
        Ok(Outcome { end: End::Panicked, .. }) => Err(anyhow!(
            "a thread of the program has failed; what it said about it is above, \
             please report it"
        )),
        other => other,
    }
}

fn show(state: State, feed: &mut Feed, options: &Options) -> anyhow::Result<Outcome> {
    on_terminal(options.mouse, async |guard, terminal| {
        let requests = feed.requests.clone();
        let directory = options.directory.clone();
        let recordings = Recordings::new(directory.clone());
        let outside = Real { guard, requests, directory, recordings };
        let start = Start {
            terminal,
            events: EventStream::new(),
            messages: &mut feed.messages,
            signals: signals()?,
            outside,
            state,
            view: options.view(),
            duration: options.duration,
        };
        start.run().await
    })
}

/// Runs a loop on the terminal, which is set up for it and restored on every way out.
pub(super) fn on_terminal<T>(
    mouse: bool,
    run: impl AsyncFnOnce(&Guard, &mut Terminal<CrosstermBackend<Whole>>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let guard = Guard::take(mouse)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the event loop cannot be started")?;
    runtime.block_on(async {
        let backend = CrosstermBackend::new(Whole::default());
        let mut terminal = Terminal::new(backend).context("the terminal tells no size")?;
        let result = run(&guard, &mut terminal).await;
        if terminal.show_cursor().is_err() {
            // There is no terminal any more, and dropping this would print about it.
            std::mem::forget(terminal);
        }
        result
    })
}

/// The signals that the loop cares about.
pub(super) fn signals() -> anyhow::Result<impl stream::Stream<Item = Signal> + Unpin> {
    let open = |kind| signal(kind).context("signals cannot be received");
    let terminate = open(SignalKind::terminate())?;
    let interrupt = open(SignalKind::interrupt())?;
    let hangup = open(SignalKind::hangup())?;
    let quit = open(SignalKind::quit())?;
    let continued = open(SignalKind::from_raw(libc::SIGCONT))?;
    let all = (terminate, interrupt, hangup, quit, continued);
    Ok(Box::pin(stream::unfold(all, |mut all| async move {
        let meaning = tokio::select! {
            _ = all.0.recv() => Signal::End,
            _ = all.1.recv() => Signal::End,
            _ = all.2.recv() => Signal::End,
            _ = all.3.recv() => Signal::End,
            _ = all.4.recv() => Signal::Continued,
        };
        Some((meaning, all))
    })))
}

/// The terminal, its clipboard, files and the source.
pub(super) struct Real<'a> {
    pub guard: &'a Guard,
    pub requests: Sender<Request>,
    pub directory: PathBuf,
    pub recordings: Recordings,
}

impl Outside for Real<'_> {
    fn copy(&mut self, text: &str) -> String {
        let Some(sequence) = clipboard::osc52(text) else {
            return "too long for the terminal's clipboard".to_owned();
        };
        let mut out = io::stdout();
        match out.write_all(sequence.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => "copied".to_owned(),
            Err(error) => format!("not copied: {error}"),
        }
    }

    fn save(&mut self, view: &SavedView) -> String {
        match save::save(view, &self.directory) {
            Ok(path) => format!("saved as {}", path.display()),
            Err(error) => format!("not saved in {}: {error}", self.directory.display()),
        }
    }

    fn suspend(&mut self) -> io::Result<()> {
        self.guard.release();
        // The whole group, as the terminal's driver does it for ctrl-z: a pipeline stops together.
        // The kernel ignores it where no shell could continue us.
        let stopped = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
        self.guard.enter()?;
        Ok(stopped?)
    }

    fn continued(&mut self) -> io::Result<()> {
        self.guard.enter()
    }

    fn request(&mut self, request: Request) {
        // A source that has ended needs no request.
        let _ = self.requests.send(request);
    }

    fn recordings(&mut self) -> &mut Recordings {
        &mut self.recordings
    }

    fn taken(&self) -> bool {
        Guard::taken()
    }
}

/// Standard output, written a whole frame at a time between the marks of a synchronised update,
/// so that no terminal shows half a frame. Terminals without them ignore the marks.
#[derive(Default)]
pub(super) struct Whole {
    frame: Vec<u8>,
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frame.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let frame = std::mem::take(&mut self.frame);
        let mut out = io::stdout().lock();
        out.write_all(b"\x1b[?2026h")?;
        out.write_all(&frame)?;
        out.write_all(b"\x1b[?2026l")?;
        out.flush()?;
        // Keep the room for the next frame.
        self.frame = frame;
        self.frame.clear();
        Ok(())
    }
}
