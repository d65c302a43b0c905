//! The program under test.

use std::{path::PathBuf, process::Command, sync::OnceLock};

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
        // target/PROFILE/deps/TEST
        let test = std::env::current_exe().expect("a test has a path");
        let directory = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "kvmscope", "--bin", "kvmscope"]);
        if directory.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo can be run");
        assert!(status.success(), "kvmscope cannot be built");
        directory.join("kvmscope")
    })
}
