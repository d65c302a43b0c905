//! The loop with a screen in memory, scripted keys and a scripted source.

use super::*;
use crate::{config::Config, model::session::Session, state::Limits};
use futures_util::stream;
use ratatui::{
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use std::{cell::RefCell, rc::Rc};

/// Writes down what was asked of it.
#[derive(Default)]
struct Log {
    lines: Rc<RefCell<Vec<String>>>,
    recordings: Recordings,
}

impl Clone for Log {
    fn clone(&self) -> Self {
        Self { lines: Rc::clone(&self.lines), recordings: Recordings::default() }
    }
}

impl Log {
    fn push(&self, text: impl Into<String>) {
        self.lines.borrow_mut().push(text.into());
    }
}

impl Outside for Log {
    fn copy(&mut self, text: &str) -> String {
        self.push(format!("copy {text}"));
        "copied".to_owned()
    }

    fn save(&mut self, view: &SavedView) -> String {
        self.push(format!("save {}", view.name));
        "saved".to_owned()
    }

    fn suspend(&mut self) -> io::Result<()> {
        self.push("suspend");
        Ok(())
    }

    fn continued(&mut self) -> io::Result<()> {
        self.push("continued");
        // As when the kernel hangs up: it continues the program to tell it.
        if self.lines.borrow().iter().any(|line| line == "hung up") {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn request(&mut self, request: Request) {
        self.push(format!("{request:?}"));
    }

    fn recordings(&mut self) -> &mut Recordings {
        &mut self.recordings
    }

    fn taken(&self) -> bool {
        !self.lines.borrow().iter().any(|line| line == "panic")
    }
}

fn key(code: KeyCode) -> io::Result<Event> {
    Ok(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn control(c: char) -> io::Result<Event> {
    Ok(Event::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL)))
}

struct Ran {
    outcome: anyhow::Result<Outcome>,
    log: Vec<String>,
    screen: String,
}

/// Runs the loop over these events (after which the terminal stays silent), messages and signals.
fn run(events: Vec<io::Result<Event>>, messages: Vec<Msg>, signals: Vec<Signal>) -> Ran {
    run_with(events, messages, signals, &Log::default())
}

fn run_with(
    events: Vec<io::Result<Event>>,
    messages: Vec<Msg>,
    signals: Vec<Signal>,
    log: &Log,
) -> Ran {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
    let (sender, mut receiver) = mpsc::channel(64);
    for message in messages {
        sender.try_send(message).expect("room");
    }
    drop(sender);
    let options = Options::new(&Config::default(), |_| None);
    let start = Start {
        terminal: &mut terminal,
        events: stream::iter(events).chain(stream::pending()),
        messages: &mut receiver,
        signals: stream::iter(signals).chain(stream::pending()),
        outside: log.clone(),
        state: State::new(Session::default(), Limits::default()),
        view: options.view(),
        duration: None,
    };
    let outcome = runtime.block_on(async {
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, start.run()).await.expect("the loop ends")
    });
    let screen = terminal.backend().to_string();
    Ran { outcome, log: log.lines.take(), screen }
}

#[test]
fn q_quits() {
    let ran = run(vec![key(KeyCode::Char('q'))], vec![], vec![]);
    assert_eq!(ran.outcome.expect("fine").end, End::Quit);
    assert!(ran.screen.contains("Waiting for the first numbers"), "{}", ran.screen);
}

#[test]
fn a_signal_ends_it() {
    let ran = run(vec![], vec![], vec![Signal::End]);
    assert_eq!(ran.outcome.expect("fine").end, End::Signal);
}

#[test]
fn a_terminal_that_goes_away_ends_it_quietly() {
    let error = io::Error::from_raw_os_error(5);
    let ran = run(vec![Err(error)], vec![], vec![]);
    assert_eq!(ran.outcome.expect("quiet").end, End::TerminalGone);
    let other = io::Error::from_raw_os_error(28);
    let ran = run(vec![Err(other)], vec![], vec![]);
    assert!(ran.outcome.is_err());
}

#[test]
fn a_hang_up_that_continues_first_ends_it_quietly() {
    let log = Log::default();
    log.push("hung up");
    let ran = run_with(vec![], vec![], vec![Signal::Continued], &log);
    assert_eq!(ran.outcome.expect("quiet").end, End::TerminalGone);
}

#[test]
fn a_panic_elsewhere_ends_it() {
    let log = Log::default();
    log.push("panic");
    let ran = run_with(vec![key(KeyCode::Char('?'))], vec![], vec![], &log);
    assert_eq!(ran.outcome.expect("fine").end, End::Panicked);
}

#[test]
fn the_source_may_end_and_the_screen_stays() {
    let why = "the recording is over".to_owned();
    let messages = vec![Msg::End(Some(why.clone()))];
    let ran = run(vec![control('l'), key(KeyCode::Char('q'))], messages, vec![]);
    let outcome = ran.outcome.expect("fine");
    assert_eq!(outcome.end, End::Quit);
}

#[test]
fn suspending_and_continuing_take_the_terminal_again() {
    let events = vec![control('z'), key(KeyCode::Char('q'))];
    let ran = run(events, vec![], vec![Signal::Continued]);
    assert_eq!(ran.log, ["continued", "suspend"]);
}

#[test]
fn a_filter_is_typed_and_q_is_a_letter_in_it() {
    let events = vec![
        key(KeyCode::Char('/')),
        key(KeyCode::Char('q')),
        key(KeyCode::Char('x')),
        key(KeyCode::Esc),
        key(KeyCode::Char('q')),
    ];
    assert_eq!(run(events, vec![], vec![]).outcome.expect("fine").end, End::Quit);
}
