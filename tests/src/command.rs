//! The program run to its end, without a terminal.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::fault;

/// Runs it, whatever its status.
///
/// # Errors
/// When it cannot be run.
pub fn kvmscope(args: &[&str]) -> Result<Output> {
    Ok(fault::kvmscope(args).output()?)
}

/// What it wrote to standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What it prints.
///
/// # Errors
/// When its status is not 0.
pub fn printed(args: &[&str]) -> Result<String> {
    let output = kvmscope(args)?;
    ensure!(output.status.success(), "{args:?}: {}: {}", output.status, said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

/// What it prints, as JSON.
///
/// # Errors
/// When its status is not 0, or that is no JSON.
pub fn json(args: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&printed(args)?)?)
}

/// A path as an argument.
///
/// # Errors
/// When it is not text.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}
