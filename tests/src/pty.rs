//! A program on a terminal of its own, and what is on that terminal.

use portable_pty::{
    Child, CommandBuilder, ExitStatus, MasterPty, PtySize, SlavePty, native_pty_system,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{Read as _, Write},
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

/// Longest time to wait for anything. Nothing takes it unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal with a program on it.
pub struct Terminal {
    master: Option<Box<dyn MasterPty + Send>>,
    // Held, so that the terminal outlives the program and can be looked at.
    slave: Option<Box<dyn SlavePty + Send>>,
    writer: Option<Box<dyn Write + Send>>,
    child: Box<dyn Child + Send + Sync>,
    output: Receiver<Vec<u8>>,
    stop: Arc<AtomicBool>,
    parser: vt100::Parser,
    modes_before: String,
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

fn nonzero(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap_or(NonZeroU16::MIN)
}

impl Terminal {
    /// Starts a command on a new terminal. Of the environment it gets `PATH`, a UTF-8 locale, a
    /// home that is empty, and `env`.
    ///
    /// # Panics
    /// When there is no terminal to be had or the command cannot be started, as all here: these
    /// are the tools of tests.
    pub fn start(command: &[&str], env: &[(&str, &str)], columns: u16, rows: u16) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).expect("a pty");
        let modes_before = modes(&*pair.master);
        let mut builder = CommandBuilder::new(command[0]);
        builder.args(&command[1..]);
        builder.env_clear();
        builder.env("PATH", std::env::var("PATH").unwrap_or_default());
        builder.env("HOME", "/nonexistent");
        builder.cwd(std::env::current_dir().expect("a directory"));
        builder.env("LANG", "C.UTF-8");
        builder.env("TERM", "xterm-256color");
        for (name, value) in env {
            builder.env(name, value);
        }
        let child = pair.slave.spawn_command(builder).expect("the command starts");
        let mut reader = pair.master.try_clone_reader().expect("a reader");
        let writer = pair.master.take_writer().expect("a writer");
        let (sender, output) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                if stopped.load(Ordering::SeqCst) || sender.send(chunk[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            master: Some(pair.master),
            slave: Some(pair.slave),
            writer: Some(writer),
            child,
            output,
            stop,
            parser: vt100::Parser::new(nonzero(rows), nonzero(columns), 0),
            modes_before,
        }
    }

    /// The screen as it is now.
    pub fn screen(&self) -> &vt100::Screen {
        self.parser.screen()
    }

    /// Reads until the screen satisfies a condition.
    #[allow(clippy::panic, reason = "the test that uses it fails")]
    pub fn wait_until(&mut self, what: &str, done: impl Fn(&vt100::Screen) -> bool) -> &mut Self {
        let end = Instant::now() + PATIENCE;
        while !done(self.parser.screen()) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.parser.process(&bytes),
                Err(why) => {
                    let ended = matches!(why, RecvTimeoutError::Disconnected);
                    let screen = self.parser.screen().contents();
                    panic!("no {what} (ended: {ended}) on this screen:\n{screen}");
                }
            }
        }
        self
    }

    /// Reads until a text stands on the screen.
    pub fn wait_for(&mut self, text: &str) -> &mut Self {
        self.wait_until(text, |screen| screen.contents().contains(text))
    }

    /// Reads until a text does not stand on the screen any more.
    pub fn wait_without(&mut self, text: &str) -> &mut Self {
        let what = format!("screen without {text}");
        self.wait_until(&what, |screen| !screen.contents().contains(text))
    }

    /// Types.
    pub fn send(&mut self, bytes: &str) -> &mut Self {
        let writer = self.writer.as_mut().expect("a terminal that is not closed");
        writer.write_all(bytes.as_bytes()).and_then(|()| writer.flush()).expect("typed");
        self
    }

    /// Changes the size.
    pub fn resize(&mut self, columns: u16, rows: u16) -> &mut Self {
        let master = self.master.as_ref().expect("a terminal that is not closed");
        master.resize(size(columns, rows)).expect("resized");
        self.parser.screen_mut().set_size(nonzero(rows), nonzero(columns));
        self
    }

    /// The program's process.
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child.process_id().expect("a running program")
    }

    /// Sends a signal to the program.
    pub fn signal(&mut self, signal: Signal) -> &mut Self {
        let id = self.child.process_id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw).expect("a running program");
        kill_process(pid, signal).expect("sent");
        self
    }

    /// Closes the terminal's window, as far as a program can tell. The program must be one that
    /// writes now and then.
    pub fn close(&mut self) -> &mut Self {
        self.stop.store(true, Ordering::SeqCst);
        self.writer = None;
        self.master = None;
        self.slave = None;
        self
    }

    /// Waits for the program's end, and reads what it has written until then.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break status;
            }
            assert!(Instant::now() < end, "still running:\n{}", self.screen().contents());
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(10)) {
                self.parser.process(&bytes);
            }
        };
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.parser.process(&bytes);
        }
        status
    }

    /// Asserts that the terminal is as it was before the program: its modes, its screen, its
    /// cursor, its mouse.
    pub fn assert_restored(&self) {
        let screen = self.screen();
        let what = screen.contents();
        assert!(!screen.alternate_screen(), "still on the other screen:\n{what}");
        assert!(!screen.hide_cursor(), "the cursor is hidden:\n{what}");
        assert!(!screen.bracketed_paste(), "pastes are still bracketed:\n{what}");
        let mouse = screen.mouse_protocol_mode();
        assert_eq!(mouse, vt100::MouseProtocolMode::None, "the mouse is still taken");
        if let Some(master) = &self.master {
            assert_eq!(modes(&**master), self.modes_before, "the modes of the terminal");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing is left running when a test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The modes of a terminal, to be compared.
fn modes(master: &(dyn MasterPty + Send)) -> String {
    format!("{:?}", master.get_termios())
}
