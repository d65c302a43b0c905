//! The screen where something is wrong: KVM that comes and goes, a VM that dies under the cursor,
//! rights that are missing.

use kvmscope_tests::fault::{Needs, Public, guest, inside, programs_of, until, with};
use kvmscope_tests::program::debug;
use kvmscope_tests::pty::Terminal;
use rustix::process::Signal;

/// The screen of one process's VMs, after `script` in a mount namespace of its own.
fn watch(script: &str, pid: u32) -> Terminal {
    let script = format!("{script}\nexec \"$@\"");
    let (program, pid) = (debug().to_string_lossy().into_owned(), pid.to_string());
    let namespace = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &script, "sh"];
    let program = [&program, "watch", "--pid", &pid, "--interval", "0.1"];
    Terminal::start(&[&namespace[..], &program[..]].concat(), &[], 140, 40)
}

/// Waits until the program has attached its probes, or none.
fn until_attached(terminal: &Terminal, attached: bool) {
    let pid = terminal.pid();
    until("the probes' coming and going", || programs_of(pid).is_empty() != attached);
}

#[test]
fn kvm_is_waited_for_and_followed() {
    with(Needs::Probes, "kvm_is_waited_for_and_followed", || {
        let mut guest = guest("reloaded");
        let gone = "mount -t tmpfs none /sys/module";
        let mut terminal = watch(gone, guest.pid());
        terminal.wait_for("The kvm module is not loaded").wait_for("modprobe kvm_intel");
        until_attached(&terminal, false);

        inside(terminal.pid(), "umount /sys/module");
        until_attached(&terminal, true);
        terminal.wait_without("is not loaded").wait_for("reloaded");

        // Its vendor part goes: not before the last VM, which is what it waits for, too.
        inside(terminal.pid(), &format!("{gone}; mkdir /sys/module/kvm"));
        guest.signal(Signal::KILL);
        guest.end();
        until_attached(&terminal, false);
        terminal.wait_for("The kvm module is not loaded");

        inside(terminal.pid(), "umount /sys/module");
        until_attached(&terminal, true);
        terminal.wait_without("is not loaded").send("q");
        assert!(terminal.wait_exit().success());
        terminal.assert_restored();
    });
}

#[test]
fn a_vendor_part_that_comes_later_is_named() {
    with(Needs::Probes, "a_vendor_part_that_comes_later_is_named", || {
        let mut guest = guest("early");
        let without = "mount -t tmpfs none /sys/module; mkdir /sys/module/kvm";
        let mut terminal = watch(without, guest.pid());
        let unknown = |screen: &vt100::Screen| {
            let contents = screen.contents();
            contents.lines().next().is_some_and(|head| head.to_lowercase().contains("unknown"))
        };
        terminal.wait_until("unknown backend", unknown);
        until_attached(&terminal, true);
        inside(terminal.pid(), "umount /sys/module");
        terminal.wait_until("known backend", |screen| !unknown(screen)).send("q");
        assert!(terminal.wait_exit().success());
        terminal.assert_restored();
    });
}

#[test]
fn a_vm_that_dies_while_selected_stays_on_the_screen() {
    with(Needs::Probes, "a_vm_that_dies_while_selected_stays_on_the_screen", || {
        let mut guest = guest("mortal");
        let mut terminal = watch(":", guest.pid());
        terminal.wait_for("mortal").wait_for("VM by reason");
        terminal.send("\r").wait_for("vCPU by reason").send("\r").wait_for("vCPU 0");
        guest.signal(Signal::KILL);
        guest.end();
        terminal.send("\x1b").wait_for("vCPU by reason").wait_for("ended");
        terminal.send("\x1b").wait_for("VM by reason").wait_for("mortal").wait_for("ended");
        terminal.send("q");
        assert!(terminal.wait_exit().success());
        terminal.assert_restored();
    });
}

/// A command of a program as nobody, on a terminal.
fn as_nobody(program: &Public, args: &[&str]) -> Terminal {
    let path = program.path().to_string_lossy().into_owned();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    Terminal::start(&[&nobody[..], &[&path], args].concat(), &[], 140, 40)
}

#[test]
fn without_rights_the_demo_is_a_recording_and_says_what_is_real() {
    with(Needs::Root, "without_rights_the_demo_is_a_recording_and_says_what_is_real", || {
        let program = Public::new();
        let mut terminal = as_nobody(&program, &["demo"]);
        terminal.wait_for("SAMPLE, a recording of test guests on Linux 6.12.");
        terminal.wait_for("Live: sudo").wait_for("Not here, because").wait_for("VM by reason");
        // All that a recording has: who is in it, where one is, and keys to go elsewhere.
        terminal.wait_for("web-7").wait_for("PLAY 1x").wait_for("2 marks");
        terminal.send("n").wait_for("mark: backup begins").send("]").wait_for("PAUSED 1x");
        terminal.send(":80%\r").wait_without("mark: backup begins").send("q");
        assert!(terminal.wait_exit().success());
        terminal.assert_restored();
        let said = terminal.screen().contents();
        assert!(said.contains("this was a recording of test guests"), "{said}");
        assert!(said.contains("kvmscope doctor"), "{said}");
    });
}

#[test]
fn without_rights_the_screen_is_not_begun() {
    with(Needs::Root, "without_rights_the_screen_is_not_begun", || {
        let program = Public::new();
        let mut terminal = as_nobody(&program, &["watch"]);
        let status = terminal.wait_exit();
        assert_eq!(status.exit_code(), 3);
        let screen = terminal.screen().contents();
        assert!(screen.contains("no right to load eBPF programs"), "{screen}");
        assert!(!screen.contains("panicked"), "{screen}");
        terminal.assert_restored();
    });
}
