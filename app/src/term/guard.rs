//! The terminal's modes: taken together, given back together, once.
//!
//! There is one terminal, so whether it is taken is one flag. Whoever clears it restores: the end
//! of the event loop, a panic on any thread, or a stop by the shell.

use ratatui::crossterm::{
    cursor::Show,
    event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use std::{
    io::{self, IsTerminal as _, Write as _},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

static TAKEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The taken terminal; dropping it restores.
#[derive(Debug)]
pub struct Guard {
    mouse: bool,
}

/// Whether keys can be read: from standard input, or from the controlling terminal where a pipe is there.
pub fn has_keys() -> bool {
    io::stdin().is_terminal()
        || std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok()
}

impl Guard {
    /// Takes the terminal: raw mode, alternate screen, mouse. An error is a sentence.
    pub fn take(mouse: bool) -> anyhow::Result<Self> {
        if !has_keys() || !io::stdout().is_terminal() {
            anyhow::bail!(
                "the screen needs a terminal for input and output, and here is none; \
                 `kvmscope report` works without one"
            );
        }
        HOOK.call_once(chain_panic_hook);
        let guard = Self { mouse };
        match guard.enter() {
            Ok(()) => Ok(guard),
            Err(error) => {
                Err(anyhow::anyhow!("the terminal cannot be set up for the screen: {error}"))
            }
        }
    }

    /// Takes the terminal again after [`Self::release`].
    pub fn enter(&self) -> io::Result<()> {
        // Set first, so that a failure half-way is undone as well.
        TAKEN.store(true, Ordering::SeqCst);
        let result = enable_raw_mode().and_then(|()| {
            let mut out = io::stdout();
            execute!(out, EnterAlternateScreen, EnableBracketedPaste)?;
            if self.mouse { execute!(out, EnableMouseCapture) } else { Ok(()) }
        });
        result.inspect_err(|_| restore())
    }

    /// Gives the terminal back for a while.
    pub fn release(&self) {
        restore();
    }

    /// Whether it is still taken; a panic on another thread gives it back.
    pub fn taken() -> bool {
        TAKEN.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal if it is taken. Errors are of no use here: there may be no terminal any
/// more, and nobody to tell.
fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    let _ = execute!(out, DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// A panic restores the terminal before the hook that was there says what happened.
fn chain_panic_hook() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        restore();
        before(info);
    }));
}
