//! Running the program where something is wrong, and what it must say then.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::debug;
use crate::skip::{Machine, skipped};

/// Longest time to wait for anything. Nothing takes it unless something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Asserts the exit status and what standard error has in it, and that it is made of
    /// sentences.
    ///
    /// # Panics
    /// When it is not so, as all here: these are the tools of tests.
    #[track_caller]
    pub fn expect(&self, status: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in what it said: {self:#?}");
        }
        self.expect_sentences();
        self
    }

    /// Asserts that nothing it printed is for programmers alone: no panic, no backtrace, no value
    /// as Rust's `Debug` prints it.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn expect_sentences(&self) {
        for ugly in ["panicked", "RUST_BACKTRACE", "stack backtrace", "Error(", "Some(", "Os {"] {
            let found = self.err.contains(ugly) || self.out.contains(ugly);
            assert!(!found, "{ugly:?} is no sentence: {self:#?}");
        }
    }
}

/// The program under test with arguments, nothing on standard input, and an empty home.
pub fn kvmscope(args: &[&str]) -> Command {
    clean(debug(), args)
}

fn clean(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env("HOME", "/nonexistent").env_remove("NO_COLOR");
    command
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started or does not end.
pub fn run(command: &mut Command) -> Said {
    start(command).end()
}

/// Starts a command whose output is kept.
///
/// # Panics
/// When it cannot be started.
pub fn start(command: &mut Command) -> Running {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    Running(Some(child.expect("the command starts")))
}

/// A started command; ended when it is dropped.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("not ended")
    }

    /// Its process.
    pub fn pid(&mut self) -> u32 {
        self.child().id()
    }

    /// Waits until it has printed a line to standard output, and gives it.
    ///
    /// # Panics
    /// When it ends before.
    pub fn line(&mut self) -> String {
        let out = self.child().stdout.as_mut().expect("kept");
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            out.read_exact(&mut byte).expect("a line");
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim().to_owned()
    }

    /// Stops reading what it says on standard error, as `2>&1 | head` does.
    pub fn deafen(&mut self) {
        self.child().stderr = None;
    }

    /// Waits until it catches a signal: then that signal means to it what it should.
    ///
    /// # Panics
    /// When it never does.
    pub fn wait_catching(&mut self, signal: Signal) -> &mut Self {
        let pid = self.pid();
        let bit = 1u64 << (signal.as_raw() - 1);
        until("the signal is caught", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
            caught.is_some_and(|caught| caught & bit != 0)
        });
        self
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it has been waited for.
    pub fn signal(&mut self, signal: Signal) -> &mut Self {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), signal).expect("sent");
        self
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not come.
    pub fn end(mut self) -> Said {
        let mut child = self.0.take().expect("not ended");
        let pid = Pid::from_child(&child);
        let (sender, ended) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            let late =
                ended.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if late {
                // Not waited for yet, so the pid is still its own.
                let _ = kill_process(pid, Signal::KILL);
            }
            late
        });
        drop(child.stdin.take());
        let mut stderr = child.stderr.take();
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.as_mut().map(|stderr| stderr.read_to_end(&mut text));
            text
        });
        let mut out = Vec::new();
        child.stdout.take().map(|mut stdout| stdout.read_to_end(&mut out));
        let err = errors.join().expect("read");
        let status = child.wait().expect("waited");
        drop(sender);
        let said = Said::from(Output { status, stdout: out, stderr: err });
        assert!(!watch.join().expect("watched"), "it did not end: {said:#?}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Nothing is left running when a test fails.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A guest that runs until it is killed or dropped, once it runs. Its VM's name begins with `name`.
///
/// # Panics
/// When it does not run.
pub fn guest(name: &str) -> Running {
    let args = ["guest", "--demo", "--name", name];
    let mut guest = start(kvmscope(&args).stdin(Stdio::piped()));
    assert_eq!(guest.line(), "ready");
    guest
}

/// Waits until a condition holds.
///
/// # Panics
/// When it never does.
#[track_caller]
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A copy of the program where everybody may run it: the workspace may be in a home that only its
/// owner may enter.
#[derive(Debug)]
pub struct Public {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Public {
    /// Makes it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open()).expect("opened");
        let path = folder.path().join("kvmscope");
        fs::copy(debug(), &path).expect("copied");
        fs::set_permissions(&path, open()).expect("opened");
        Self { _folder: folder, path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program, run by somebody without any right. Who is not root already runs it so.
    pub fn as_nobody(&self, args: &[&str]) -> Command {
        let mut command = clean(&self.path, args);
        if Machine::detect().root {
            // Also drops the groups and, on execution, every capability.
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// The program, run by nobody with some capabilities, after `script` in a private namespace.
    pub fn with_capabilities(&self, capabilities: &[&str], script: &str, args: &[&str]) -> Command {
        let list: Vec<String> = capabilities.iter().map(|cap| format!("+{cap}")).collect();
        let list = list.join(",");
        let script = format!(
            "{script}\nexec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \
             --inh-caps={list} --ambient-caps={list} \"$@\""
        );
        in_private(&script, &self.path, args)
    }
}

impl Default for Public {
    fn default() -> Self {
        Self::new()
    }
}

/// The program after a shell script that changes mounts, in a mount namespace of its own: the
/// host does not see it. Needs root.
pub fn private(script: &str, args: &[&str]) -> Command {
    in_private(&format!("{script}\nexec \"$@\""), debug(), args)
}

fn in_private(script: &str, program: &Path, args: &[&str]) -> Command {
    let script = format!("set -e\n{script}");
    let shell = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let mut command = clean(Path::new("unshare"), &shell);
    command.arg(program).args(args);
    command
}

/// What a fault needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Root, to change mounts or users.
    Root,
    /// Root that may load probes, and `/dev/kvm`.
    Probes,
}

/// Runs a test, or says why not. In continuous integration a machine that has root and
/// `/dev/kvm` has no excuse.
///
/// # Panics
/// When a machine that should be able to is not.
pub fn with(needs: Needs, name: &str, test: fn()) {
    let machine = Machine::detect();
    let lacks = match needs {
        Needs::Root => (!machine.root).then_some("changing mounts and users needs root"),
        Needs::Probes => machine.lacks(),
    };
    if let Some(why) = lacks {
        return skipped(name, why);
    }
    // Root of a container may be without the rights of root.
    let tried = run(Command::new("unshare").args(["--mount", "true"]));
    let mut why = (tried.status != Some(0)).then_some(tried.err);
    if why.is_none() && needs == Needs::Probes {
        let tried = run(&mut kvmscope(&["report", "--", "true"]));
        why = (tried.status == Some(3)).then_some(tried.err);
    }
    match why {
        None => test(),
        Some(why) => {
            assert!(!machine.ci, "root with /dev/kvm, and yet: {why}");
            skipped(name, why.trim());
        }
    }
}

/// Runs a shell script in the mount namespace of a process that [`private`] began.
///
/// # Panics
/// When it fails.
pub fn inside(pid: u32, script: &str) {
    let args = ["--mount", "--target", &pid.to_string(), "sh", "-ec", script];
    let said = run(Command::new("nsenter").args(args));
    assert_eq!(said.status, Some(0), "{said:#?}");
}

/// Ids of the eBPF programs that a process holds.
pub fn programs_of(pid: u32) -> BTreeSet<u32> {
    let folder = format!("/proc/{pid}/fdinfo");
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read_to_string(file.path()).ok())
        .filter_map(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("prog_id:"))?;
            line.trim().parse().ok()
        })
        .collect()
}
