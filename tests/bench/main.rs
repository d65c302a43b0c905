//! What watching costs, from the output of `tests/bench/run`'s rigs: tables, JSON, and the guard that CI runs.
//!
//! `bench FOLDER... [--json FILE] [--markdown FILE] [--guard FILE]`: one folder for each kernel. Ends with 1 when
//! counts were not exact, a budget is broken, or (`--guard`) a figure grew over the one in that file.

mod budget;
mod figures;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use budget::{Budgets, Problems};
use figures::Measured;

/// What is asked for on the command line.
#[derive(Default)]
struct Asked {
    folders: Vec<PathBuf>,
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
    guard: Option<PathBuf>,
}

fn main() -> ExitCode {
    match asked().and_then(|asked| run(&asked)) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in problems {
                eprintln!("bench: {problem}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn asked() -> Result<Asked> {
    let mut asked = Asked::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut file =
            || args.next().map(PathBuf::from).with_context(|| format!("{arg} needs a file"));
        match arg.as_str() {
            "--json" => asked.json = Some(file()?),
            "--markdown" => asked.markdown = Some(file()?),
            "--guard" => asked.guard = Some(file()?),
            unknown if unknown.starts_with('-') => bail!("unknown option {unknown}"),
            _ => asked.folders.push(arg.into()),
        }
    }
    if asked.folders.is_empty() {
        bail!("no folder with a rig's output is named");
    }
    Ok(asked)
}

fn run(asked: &Asked) -> Result<Problems> {
    let mut problems = Problems::new();
    let mut measured = Vec::new();
    for folder in &asked.folders {
        let (one, wrong) = figures::read(folder).with_context(|| folder.display().to_string())?;
        problems.extend(wrong);
        measured.push(one);
    }
    let text = table::markdown(&measured);
    print!("{text}");
    problems.extend(budget::broken(&measured, &Budgets::default()));
    problems.extend(budget::slowed(&measured));
    if let Some(path) = &asked.guard {
        let committed: Vec<Measured> =
            serde_json::from_str(&read(path)?).context("not as documented")?;
        problems.extend(budget::grown(&measured, &committed));
    }
    if let Some(path) = &asked.json {
        write(path, &(serde_json::to_string_pretty(&measured)? + "\n"))?;
    }
    if let Some(path) = &asked.markdown {
        let document = table::replaced(&read(path)?, &text)
            .with_context(|| format!("{} has no place for the table", path.display()))?;
        write(path, &document)?;
    }
    Ok(problems)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
