//! The loop for a screen that nothing but the person moves: a comparison. What it does to the outside goes through
//! [`Outside`], as the other loop's does.

use super::{
    event_loop::{Options, Outside, Signal, failed, gone, until},
    outside::{Real, on_terminal, signals},
    recording::Recordings,
};
use crate::diff::screen::{Screen, Then};
use futures_util::{Stream, StreamExt as _};
use ratatui::{
    Terminal,
    backend::Backend,
    crossterm::event::{Event, EventStream},
};
use std::{io, time::Duration};

/// Shows it until the person quits, a signal comes or the terminal goes away; the terminal is restored on every
/// way out.
///
/// # Errors
/// A sentence: no terminal, a terminal that cannot be set up or written to, a thread that panicked.
pub fn show(screen: Screen, options: &Options) -> anyhow::Result<()> {
    on_terminal(options.mouse, async |guard, terminal| {
        // There is no source to ask for anything.
        let (requests, _) = std::sync::mpsc::channel();
        let directory = options.directory.clone();
        let outside = Real { guard, requests, directory, recordings: Recordings::default() };
        let still = Still {
            terminal,
            events: EventStream::new(),
            signals: signals()?,
            outside,
            screen,
            duration: options.duration,
        };
        still.run().await
    })
}

/// What the loop works with.
struct Still<'a, B: Backend, E, S, O> {
    terminal: &'a mut Terminal<B>,
    events: E,
    signals: S,
    outside: O,
    screen: Screen,
    duration: Option<Duration>,
}

impl<B, E, S, O> Still<'_, B, E, S, O>
where
    B: Backend,
    B::Error: Send + Sync + 'static,
    E: Stream<Item = io::Result<Event>> + Unpin,
    S: Stream<Item = Signal> + Unpin,
    O: Outside,
{
    async fn run(mut self) -> anyhow::Result<()> {
        match self.until_end().await {
            Ok(()) if !self.outside.taken() => {
                anyhow::bail!(
                    "a part of the program has failed; what it said about it is above, please report it"
                )
            }
            Ok(()) => Ok(()),
            Err(error) if gone(&error) => Ok(()),
            Err(error) => Err(anyhow::anyhow!("the terminal cannot be used any more: {error}")),
        }
    }

    async fn until_end(&mut self) -> io::Result<()> {
        let deadline = self.duration.map(|d| tokio::time::Instant::now() + d);
        let mut signalling = true;
        self.draw()?;
        loop {
            tokio::select! {
                biased;
                signal = self.signals.next(), if signalling => match signal {
                    Some(Signal::End) => return Ok(()),
                    Some(Signal::Continued) => {
                        self.outside.continued()?;
                        self.anew()?;
                    }
                    None => signalling = false,
                },
                event = self.events.next() => {
                    let Some(event) = event else { return Ok(()) };
                    if self.event(&event?)? {
                        return Ok(());
                    }
                }
                () = until(deadline) => return Ok(()),
            }
            if !self.outside.taken() {
                return Ok(());
            }
        }
    }

    /// Does what an event asks for; true to quit.
    fn event(&mut self, event: &Event) -> io::Result<bool> {
        match self.screen.event(event) {
            Then::Ignore => return Ok(false),
            Then::Quit => return Ok(true),
            Then::Draw => {}
            Then::Redraw => return self.anew().map(|()| false),
            Then::Suspend => {
                self.outside.suspend()?;
                return self.anew().map(|()| false);
            }
            Then::Copy(text) => {
                let said = self.outside.copy(&text);
                self.screen.say(said);
            }
            Then::Save(view) => {
                let said = self.outside.save(&view);
                self.screen.say(said);
            }
        }
        self.draw().map(|()| false)
    }

    /// Forgets what is on the screen, and draws.
    fn anew(&mut self) -> io::Result<()> {
        let size = self.terminal.size().map_err(failed)?;
        self.terminal.resize(size.into()).map_err(failed)?;
        self.draw()
    }

    fn draw(&mut self) -> io::Result<()> {
        let screen = &mut self.screen;
        self.terminal.draw(|frame| screen.draw(frame.buffer_mut())).map(|_| ()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::diff::testing::sample_diff;
    use crate::source::Request;
    use crate::state::SavedView;
    use futures_util::stream;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use std::sync::{Arc, Mutex};

    /// Writes down what is done to it.
    #[derive(Default)]
    struct Diary(Arc<Mutex<Vec<String>>>, Recordings);

    impl Diary {
        fn note(&self, what: &str) -> String {
            self.0.lock().expect("one thread").push(what.to_owned());
            what.to_owned()
        }
    }

    impl Outside for Diary {
        fn copy(&mut self, text: &str) -> String {
            self.note(&format!("copied {}", text.split("  ").next().unwrap_or_default()))
        }
        fn save(&mut self, view: &SavedView) -> String {
            self.note(&format!("saved {}", view.name))
        }
        fn suspend(&mut self) -> io::Result<()> {
            self.note("suspended");
            Ok(())
        }
        fn continued(&mut self) -> io::Result<()> {
            self.note("continued");
            Ok(())
        }
        fn request(&mut self, _: Request) {
            self.note("asked");
        }
        fn recordings(&mut self) -> &mut Recordings {
            &mut self.1
        }
        fn taken(&self) -> bool {
            true
        }
    }

    fn run(keys: &str, signals: Vec<Signal>, end: Option<io::Error>) -> (String, Vec<String>) {
        let config = Config { ascii: Some(false), ..Config::default() };
        let screen = Screen::new(sample_diff(), Options::new(&config, |_| None).view());
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
        let diary = Diary::default();
        let pressed = keys.chars().map(|c| {
            let code = if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) };
            let modifiers = if c == '\u{1a}' { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
            let code = if c == '\u{1a}' { KeyCode::Char('z') } else { code };
            Ok(Event::Key(KeyEvent::new(code, modifiers)))
        });
        let events: Vec<io::Result<Event>> = pressed.chain(end.map(Err)).collect();
        let still = Still {
            terminal: &mut terminal,
            events: stream::iter(events),
            signals: stream::iter(signals),
            outside: Diary(Arc::clone(&diary.0), Recordings::default()),
            screen,
            duration: None,
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a loop");
        runtime.block_on(still.run()).expect("ends well");
        let shown = format!("{}", terminal.backend());
        let notes = diary.0.lock().expect("one thread").clone();
        (shown, notes)
    }

    #[test]
    fn keys_are_followed_and_answers_shown() {
        let (shown, notes) = run("jyw", vec![], None);
        assert_eq!(notes, ["copied db-1", "saved diff-all-VMs"]);
        assert!(shown.contains("saved diff-all-VMs"), "{shown}");
        let (shown, _) = run("\n", vec![], None);
        assert!(shown.contains("web-7 "), "{shown}");
        assert!(shown.contains("vCPU 1"), "{shown}");
    }

    #[test]
    fn it_stops_and_goes_on_and_ends() {
        let (_, notes) = run("\u{1a}qy", vec![Signal::Continued], None);
        assert_eq!(notes, ["continued", "suspended"], "nothing is done after the end");
        let (_, notes) = run("y", vec![Signal::End], None);
        assert_eq!(notes, Vec::<String>::new());
    }

    #[test]
    fn a_terminal_that_goes_away_is_no_failure() {
        run("j", vec![], Some(io::Error::from(io::ErrorKind::BrokenPipe)));
    }
}
