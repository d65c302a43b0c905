//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `kvmscope`, built with the profile of the tests, once per test program.
///
/// Cargo tells a test where binaries are only for those of its own package, so this asks cargo to
/// build it (which is quick when it is there already) and looks beside the test.
///
/// # Panics
/// When it cannot be built: then there is nothing to test.
pub fn kvmscope() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let profile = profile_folder();
        build(profile.ends_with("release"));
        profile.join("kvmscope")
    })
}

/// The same, built as users run it whatever the tests are built as.
///
/// # Panics
/// When it cannot be built.
pub fn release() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        build(true);
        target_folder().join("release/kvmscope")
    })
}

/// The workspace's root folder.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The target folder that this test is in.
///
/// # Panics
/// When it is in none.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().expect("a profile's folder lies in target").to_owned()
}

/// This test is target/PROFILE/deps/TEST.
fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").to_owned()
}

fn build(release: bool) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // The whole workspace: with fewer packages cargo would build dependencies with other features.
    build.args(["build", "--quiet", "--workspace", "--bin", "kvmscope"]);
    if release {
        build.arg("--release");
    }
    let status = build.current_dir(workspace()).status().expect("cargo can be run");
    assert!(status.success(), "kvmscope cannot be built");
}
