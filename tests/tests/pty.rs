//! The screen on a real terminal: what it shows, and that the terminal is given back on every way
//! out.

use kvmscope_tests::{program::debug, pty::Terminal};
use rustix::process::Signal;
use std::process::{Command, Stdio};

/// The invented host, which needs neither KVM nor rights.
fn demo(env: &[(&str, &str)], columns: u16, rows: u16) -> Terminal {
    let path = debug().to_string_lossy().into_owned();
    Terminal::start(&[&path, "demo", "--synthetic"], env, columns, rows)
}

/// Until the table of VMs is there.
fn ready(terminal: &mut Terminal) -> &mut Terminal {
    terminal.wait_for("web-7").wait_for("VM by reason")
}

#[test]
fn q_quits_and_gives_the_terminal_back() {
    let mut terminal = demo(&[], 120, 40);
    ready(&mut terminal);
    assert!(terminal.screen().alternate_screen());
    let screen = terminal.screen().contents();
    assert!(screen.contains("SYNTHETIC"), "{screen}");
    assert!(terminal.send("q").wait_exit().success());
    terminal.assert_restored();
}

#[test]
fn signals_give_the_terminal_back() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut terminal = demo(&[], 80, 24);
        ready(&mut terminal).signal(signal);
        assert!(terminal.wait_exit().success(), "{signal:?}");
        terminal.assert_restored();
    }
}

#[test]
fn it_ends_when_the_terminal_is_closed() {
    let mut terminal = demo(&[], 80, 24);
    ready(&mut terminal).close();
    let status = terminal.wait_exit();
    assert!(status.success(), "quietly: {status:?}");
}

#[test]
fn one_drills_down_to_a_reason_and_back() {
    let mut terminal = demo(&[], 120, 40);
    ready(&mut terminal).send("\r").wait_for("vCPU by reason").wait_for("host ▸ web-7");
    terminal.send("\x1b[B\r").wait_for("handling time over time").wait_for("vCPU 0 ▸ ");
    terminal.send("\x1b").wait_for("vCPU by reason");
    terminal.send("\t\r").wait_for("offCPU");
    terminal.send("\x1b").wait_without("offCPU").send("\x1b").wait_for("VM by reason");
    terminal.send("?").wait_for("keys that work here").send("q");
    assert!(terminal.wait_exit().success(), "q quits from the help as well");
    terminal.assert_restored();
}

#[test]
fn a_small_terminal_says_what_it_needs_and_a_larger_one_goes_on() {
    let mut terminal = demo(&[], 20, 5);
    terminal.wait_for("kvmscope needs 60").resize(120, 40);
    ready(&mut terminal).resize(1, 1).resize(80, 24);
    ready(&mut terminal).send("q");
    assert!(terminal.wait_exit().success());
    terminal.assert_restored();
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_again() {
    let script = format!(
        "set -m; {} demo --synthetic; echo the shell has it; read line; fg >/dev/null; echo over",
        debug().display()
    );
    let mut terminal = Terminal::start(&["sh", "-c", &script], &[], 100, 30);
    ready(&mut terminal).send("\x1a").wait_for("the shell has it");
    assert!(!terminal.screen().alternate_screen());
    assert!(!terminal.screen().hide_cursor());
    terminal.send("\n");
    ready(&mut terminal);
    assert!(terminal.screen().alternate_screen());
    terminal.send("q").wait_for("over");
    terminal.wait_exit();
    terminal.assert_restored();
}

#[test]
fn no_color_means_none() {
    let colours = |terminal: &Terminal| {
        let screen = terminal.screen();
        let cells = (0..24).flat_map(|y| (0..80).filter_map(move |x| screen.cell(y, x)));
        cells.filter(|cell| cell.fgcolor() != vt100::Color::Default).count()
    };
    let mut plain = demo(&[("NO_COLOR", "1")], 80, 24);
    ready(&mut plain);
    assert_eq!(colours(&plain), 0);
    let mut coloured = demo(&[], 80, 24);
    ready(&mut coloured);
    assert!(colours(&coloured) > 50);
}

#[test]
fn a_locale_without_utf8_gets_ascii() {
    let mut terminal = demo(&[("LANG", "C")], 80, 24);
    ready(&mut terminal);
    let screen = terminal.screen().contents();
    assert!(screen.is_ascii(), "{screen}");
}

#[test]
fn the_view_is_saved_and_the_row_copied() {
    let directory = tempfile::tempdir().expect("a directory");
    let script =
        format!("cd {} && {} demo --synthetic", directory.path().display(), debug().display());
    let mut terminal = Terminal::start(&["sh", "-c", &script], &[], 120, 40);
    ready(&mut terminal).send("w").wait_for("saved as").send("y").wait_for("copied").send("q");
    terminal.wait_exit();
    let files: Vec<_> = std::fs::read_dir(directory.path()).expect("read").flatten().collect();
    assert_eq!(files.len(), 1);
    let text = std::fs::read_to_string(files[0].path()).expect("read");
    assert!(text.contains("web-7"), "{text}");
}

#[test]
fn without_a_terminal_there_is_a_sentence() {
    let output = Command::new(debug())
        .args(["demo", "--synthetic"])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("terminal"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
