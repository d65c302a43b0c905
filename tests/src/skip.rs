//! Leaving a test out, never silently.

use std::io::Write;
use std::path::Path;

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
