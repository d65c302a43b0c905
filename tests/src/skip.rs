//! Leaving a test out, never silently.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::program::debug;

/// What the program ends with where probes may not be loaded.
const NOT_POSSIBLE: i32 = 3;

/// What a live test needs of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// This process is root.
    pub root: bool,
    /// `/dev/kvm` exists.
    pub kvm: bool,
    /// Continuous integration (`CI=true`): what could run must run.
    pub ci: bool,
}

impl Machine {
    /// This one.
    pub fn detect() -> Self {
        Self {
            root: rustix::process::geteuid().is_root(),
            kvm: Path::new("/dev/kvm").exists(),
            ci: std::env::var("CI").is_ok_and(|value| value == "true"),
        }
    }

    /// Why live tests cannot run here.
    pub fn lacks(&self) -> Option<&'static str> {
        match (self.kvm, self.root) {
            (false, _) => Some("there is no /dev/kvm"),
            (true, false) => Some("loading probes needs root"),
            (true, true) => None,
        }
    }
}

/// Why the program cannot watch this machine's KVM; `None` where it can. In continuous integration a machine that
/// has root and `/dev/kvm` has no excuse.
///
/// # Panics
/// Where there is no excuse, and where the program does not run.
pub fn why_not_live() -> Option<String> {
    let machine = Machine::detect();
    if let Some(why) = machine.lacks() {
        return Some(why.to_owned());
    }
    let tried = Command::new(debug()).args(["report", "--", "true"]).output();
    let output = tried.expect("the program runs");
    if output.status.code() != Some(NOT_POSSIBLE) {
        return None;
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    assert!(!machine.ci, "root with /dev/kvm, and yet: {said}");
    Some(said)
}

/// Says that a test is left out and why. Tests' own prints are captured, this line is not.
pub fn skipped(test: &str, why: &str) {
    let line = format!("skipped: {test}: {why}\n");
    // Nothing can be done about a closed standard error.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let machine = |root, kvm| Machine { root, kvm, ci: false };
        assert_eq!(machine(true, true).lacks(), None);
        assert_eq!(machine(false, true).lacks(), Some("loading probes needs root"));
        assert_eq!(machine(true, false).lacks(), Some("there is no /dev/kvm"));
    }
}
