//! Where the program under test is. Tests of another package get no path from cargo.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// Which build of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// What `cargo build` makes.
    Debug,
    /// What `cargo build --release` makes, and users run.
    Release,
}

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Builds the program, if it is not up to date, and says where it is.
///
/// # Errors
/// Where cargo cannot be run or does not build it.
pub fn kvmscope(profile: Profile) -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace: with fewer packages cargo would build dependencies with other features.
    cargo.args(["build", "--quiet", "--locked", "--workspace", "--bin", "kvmscope"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(workspace()).status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo does not build the program ({status})");
    let folder = match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
    };
    Ok(target_folder()?.join(folder).join("kvmscope"))
}

/// The debug build, made once per test program.
///
/// # Panics
/// When it cannot be built: then there is nothing to test.
pub fn debug() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| kvmscope(Profile::Debug).expect("the program under test can be built"))
}

/// The target folder that this test is in: it runs from `TARGET/PROFILE/deps`.
///
/// # Errors
/// When it is in none.
pub fn target_folder() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this test is")?;
    let target = this.ancestors().nth(3).context("this test is not in a target folder")?;
    Ok(target.to_owned())
}
