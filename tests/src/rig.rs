//! Running a script in a rig: a stock kernel under an emulator (`tests/rigs/run`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use crate::program::{target_folder, workspace};

/// Whose virtualisation the rig's processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// AMD, in QEMU.
    Svm,
    /// Intel, in Bochs.
    Vmx,
}

impl Vendor {
    /// The name in the command and in the program's output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Svm => "svm",
            Self::Vmx => "vmx",
        }
    }

    /// One rig of a kind at a time: two fill a small machine.
    fn turn(self) -> &'static Mutex<()> {
        static SVM: Mutex<()> = Mutex::new(());
        static VMX: Mutex<()> = Mutex::new(());
        match self {
            Self::Svm => &SVM,
            Self::Vmx => &VMX,
        }
    }
}

/// What a rig brought back.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
}

/// Boots `kernel`, runs `script` in it with `program` in its `/bin`, and keeps what it wrote
/// into `/out` in a folder under the target folder, named after the rig and `purpose`: tests of one rig
/// look at what they wrote after the next one has begun.
///
/// # Errors
/// Where the rig could not be fetched, booted or brought to its end, or the script failed.
pub fn run(
    vendor: Vendor,
    kernel: &str,
    purpose: &str,
    program: &Path,
    script: &str,
) -> Result<Output> {
    let name = format!("{}-{kernel}-{purpose}", vendor.name());
    let folder = target_folder()?.join("rig-output").join(&name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("cannot remove the last run's output")?;
    }
    std::fs::create_dir_all(&folder).context("cannot make a folder for the rig's output")?;
    let script_file = target_folder()?.join("rig-output").join(format!("{name}.sh"));
    std::fs::write(&script_file, script).context("cannot write the rig's script")?;

    let turn = vendor.turn().lock().unwrap_or_else(PoisonError::into_inner);
    let status = Command::new(workspace().join("tests/rigs/run"))
        .args([vendor.name(), kernel, "--timeout", "1800", "--bin"])
        .arg(program)
        .arg("--script")
        .arg(&script_file)
        .arg("--out")
        .arg(&folder)
        .status()
        .context("cannot run tests/rigs/run")?;
    drop(turn);
    let output = Output { folder };
    ensure!(
        status.success(),
        "the rig {} {kernel} failed ({status}); its console:\n{}",
        vendor.name(),
        output.text("console.log").unwrap_or_default()
    );
    Ok(output)
}

impl Output {
    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file's text.
    ///
    /// # Errors
    /// Where there is none.
    pub fn text(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        let bytes = std::fs::read(&path)
            .with_context(|| format!("the rig did not write {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file's JSON.
    ///
    /// # Errors
    /// Where there is none, or it is not of this form.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let text = self.text(name)?;
        serde_json::from_str(&text).with_context(|| format!("{name} is not as documented:\n{text}"))
    }
}
