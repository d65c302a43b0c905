//! Recording and replaying on a real terminal: a file is made on the screen and looked at again.

use kvmscope_tests::{program::debug, pty::Terminal};
use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A recording of the invented host, made with `r`, a mark in it; and what `R` saved beside it.
fn record(directory: &Path) -> (PathBuf, PathBuf) {
    let script = format!(
        "cd {} && {} demo --synthetic --interval 0.1",
        directory.display(),
        debug().display()
    );
    let mut terminal = Terminal::start(&["sh", "-c", &script], &[], 120, 40);
    terminal.wait_for("web-7").send("r").wait_for("REC 0:02");
    terminal.send("m").wait_for("mark: ").send("backup\r").wait_for("marked in the recording");
    terminal.wait_for("REC 0:04").send("R").wait_for("recorded ");
    terminal.send("r").wait_without("● REC").send("q");
    assert!(terminal.wait_exit().success());
    terminal.assert_restored();
    let entries = std::fs::read_dir(directory).expect("read").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort_by_key(|path| path.to_string_lossy().contains("-past"));
    for file in &files {
        let mode = std::fs::metadata(file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let files: [PathBuf; 2] = files.try_into().expect("two files");
    files.into()
}

fn replay(file: &Path, columns: u16, rows: u16) -> Terminal {
    let (path, file) = (debug().to_string_lossy().into_owned(), file.to_string_lossy());
    Terminal::start(&[&path, "replay", &file], &[], columns, rows)
}

#[test]
fn what_was_recorded_on_the_screen_is_replayed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (recorded, past) = record(directory.path());
    let mut terminal = replay(&recorded, 120, 40);
    terminal.wait_for("web-7").wait_for("PLAY 1x").wait_for("1 mark");
    assert!(terminal.screen().contents().contains("SYNTHETIC"), "invented numbers stay invented");
    terminal.send(" ").wait_for("PAUSED 1x").send("++").wait_for("PAUSED 5x");
    terminal.send("n").wait_for("mark: backup");
    terminal.send(":50%\r").wait_without("mark: backup").wait_for("PAUSED 5x  ");
    terminal.send("[").send("[").send("]").wait_for("PAUSED");
    terminal.send("\r").wait_for("vCPU by reason").send("6").wait_for("[6 Time]");
    terminal.send("1\x1b").wait_for("VM by reason").send("\x1b[F").wait_for("END 5x");
    terminal.send(":nonsense").wait_for("expected: 12:41:03").send("\x1b");
    terminal.send("\x1b[H").wait_for("PAUSED 5x").send(" ").wait_for("END 5x").send("q");
    assert!(terminal.wait_exit().success());
    terminal.assert_restored();
    // What just happened is a recording as well.
    let mut terminal = replay(&past, 80, 24);
    terminal.wait_for("web-7").wait_for("PLAY 1x").wait_for("1 mark").send("q");
    assert!(terminal.wait_exit().success());
}

#[test]
fn a_pipe_is_replayed_and_keys_come_from_the_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let (recorded, _) = record(directory.path());
    let (program, file) = (debug().display(), recorded.display());
    let pid = directory.path().join("pid").display().to_string();
    // The pipe stays open after the recording's end, until the screen is left.
    let script = format!(
        "(sleep 600 & echo $! > {pid}; cat {file}; wait) |
         ({program} replay -; echo left with $?; kill $(cat {pid}))"
    );
    let mut terminal = Terminal::start(&["sh", "-c", &script], &[], 120, 40);
    terminal.wait_for("web-7").wait_for("END 1x");
    terminal.send("\x1b[H").wait_for("0:00 of").send(" ").wait_for("PLAY 1x").send("q");
    terminal.wait_for("left with 0");
    assert!(terminal.wait_exit().success());
}

#[test]
fn what_is_being_recorded_is_replayed_on_the_same_terminal() {
    let program = debug().display();
    let script = format!("{program} record --synthetic 70 -o - | {program} replay -");
    let mut terminal = Terminal::start(&["sh", "-c", &script], &[], 120, 40);
    terminal.wait_for("web-7").wait_for("END 1x").send("\x1b[H").wait_for("0:01 of 1:10");
    // Neither draws over the other.
    let screen = terminal.screen().contents();
    assert!(!screen.contains("nothing lost") && !screen.contains("kvmscope: "), "{screen}");
    terminal.send("q");
    assert!(terminal.wait_exit().success());
    terminal.assert_restored();
}

#[test]
fn a_recording_that_is_cut_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (recorded, _) = record(directory.path());
    let bytes = std::fs::read(&recorded).expect("read");
    let cut = directory.path().join("cut");
    std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).expect("written");
    let mut terminal = replay(&cut, 120, 40);
    terminal
        .wait_for("web-7")
        .wait_for("cut off")
        .send("\x1b[F")
        .wait_for("The recording is cut off here");
    terminal.send("q").wait_exit();
}

#[test]
fn a_full_disk_stops_the_recording_and_not_the_screen() {
    let directory = tempfile::tempdir().expect("a directory");
    // A limit of the file's size is refused as a full disk is.
    let script = format!(
        "cd {} && ulimit -f 400 && {} demo --synthetic --interval 0.1",
        directory.path().display(),
        debug().display()
    );
    let mut terminal = Terminal::start(&["sh", "-c", &script], &[], 120, 40);
    terminal.wait_for("web-7").send("r").wait_for("REC STOPPED");
    terminal.wait_for("Recording has stopped: ").wait_for("live, every 100ms");
    terminal.send("r").wait_without("REC STOPPED").send("q");
    assert!(terminal.wait_exit().success());
    let file = std::fs::read_dir(directory.path()).expect("read").flatten().next().expect("a file");
    let mut terminal = replay(&file.path(), 120, 40);
    terminal.wait_for("web-7").wait_for("cut off").send("q");
    assert!(terminal.wait_exit().success());
}

#[test]
fn what_cannot_be_replayed_is_refused_with_a_sentence() {
    let directory = tempfile::tempdir().expect("a directory");
    let foreign = directory.path().join("foreign");
    std::fs::write(&foreign, "not a recording").expect("written");
    for file in [foreign, directory.path().join("missing")] {
        let path = debug().to_string_lossy().into_owned();
        let mut terminal =
            Terminal::start(&[&path, "replay", &file.to_string_lossy()], &[], 120, 40);
        let status = terminal.wait_exit();
        assert_eq!(status.exit_code(), 2);
        let said = terminal.screen().contents();
        assert!(said.contains("kvmscope: ") && !said.contains("panicked"), "{said}");
    }
    let output =
        Command::new(debug()).args(["replay", "-"]).stdin(Stdio::null()).output().expect("it runs");
    assert!(matches!(output.status.code(), Some(2 | 3)), "{output:?}");
}
