//! Everything that can be wrong with arguments, rights, the host or what is watched: each with its
//! exit status and its sentence, and the host as it was afterwards. What is wrong is made wrong in
//! a mount namespace of its own.

use aya::programs::loaded_programs;
use kvmscope_tests::btf;
use kvmscope_tests::fault::{
    Needs, Public, Said, guest, kvmscope, private, programs_of, run, start, until, with,
};
use kvmscope_tests::format::Report;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::process::Stdio;

/// Ids of all eBPF programs in the kernel.
fn loaded() -> BTreeSet<u32> {
    loaded_programs().flatten().map(|program| program.id()).collect()
}

// ---- arguments ----

#[test]
fn wrong_arguments_are_named() {
    for (args, parts) in [
        (&["report", "--interval", "0"][..], &["--interval", "0.1 to 60"][..]),
        (&["report", "--interval", "61"], &["--interval", "0.1 to 60"]),
        (&["report", "--interval", "NaN"], &["--interval", "0.1 to 60"]),
        (&["report", "--probes", "foo"], &["foo", "exit, userspace, sched"]),
        (&["report", "--pid", "0"], &["--pid"]),
        (&["report", "--pid", "me"], &["--pid"]),
        (&["report", "--duration=-1"], &["--duration"]),
        (&["report", "--duration", "1", "--", "true"], &["--duration", "cannot be used with"]),
        (&["report", "--format", "xml"], &["xml", "text, json"]),
        (&["report", "true"], &["unexpected argument", "true"]),
        (&["watch", "--history", "0"], &["--history"]),
        (&["watch", "--theme", "mud"], &["mud"]),
        (&["watch", "--config", "/nonexistent/x.toml"], &["/nonexistent/x.toml"]),
        (&["--nonsense"], &["--nonsense"]),
        (&["frobnicate"], &["frobnicate"]),
        (&["guest", "--vcpus", "0"], &["--vcpus"]),
    ] {
        let said = run(&mut kvmscope(args));
        assert_eq!(said.out, "", "{args:?}");
        said.expect(2, parts);
    }
}

#[test]
fn too_many_pids_are_refused() {
    let pids: Vec<String> = (1..=17).map(|n| format!("--pid={n}")).collect();
    let args: Vec<&str> = ["report"].into_iter().chain(pids.iter().map(String::as_str)).collect();
    run(&mut kvmscope(&args)).expect(2, &["--pid can be given 16 times at most"]);
}

#[test]
fn a_pid_that_is_nobodys_is_said() {
    // Above the largest that the kernel can be told to give (4194304).
    let said = run(&mut kvmscope(&["report", "--pid", "4194305", "--duration", "0.1"]));
    said.expect(3, &["--pid 4194305: there is no process 4194305"]);
}

#[test]
fn help_that_nobody_reads_is_no_failure() {
    let mut help = kvmscope(&["--help"]);
    let mut child = help.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_screen_without_a_terminal_names_what_works_without() {
    for args in [&["watch"][..], &["demo"], &[]] {
        run(&mut kvmscope(args)).expect(3, &["terminal", "`kvmscope report`"]);
    }
}

// ---- rights ----

#[test]
fn without_rights_it_says_how_to_get_them() {
    let program = Public::new();
    for args in [&["report", "--duration", "0.1"][..], &["report", "--", "true"]] {
        let said = run(&mut program.as_nobody(args));
        said.expect(3, &["no right to load eBPF programs", "Run as root", "kvmscope doctor"]);
        assert_eq!(said.out, "");
    }
    let said = run(&mut program.as_nobody(&["doctor"]));
    said.expect(3, &[]);
    for part in ["blocker", "CAP_BPF", "CAP_PERFMON", "sudo setcap", "No probe can be attached"] {
        assert!(said.out.contains(part), "{part:?} is not in {said:#?}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&run(&mut program.as_nobody(&["doctor", "--format", "json"])).out)
            .expect("JSON where the findings are bad, too");
    assert_eq!(json["schema"], 1);
}

#[test]
fn the_right_to_make_maps_alone_attaches_nothing() {
    with(Needs::Probes, "the_right_to_make_maps_alone_attaches_nothing", || {
        let program = Public::new();
        let args = ["report", "--duration", "0.1"];
        let said = run(&mut program.with_capabilities(&["bpf"], "", &args));
        said.expect(3, &["none of the probes could be attached", "kvmscope doctor"]);
    });
}

#[test]
fn a_guest_without_kvm_says_so() {
    with(Needs::Root, "a_guest_without_kvm_says_so", || {
        let hidden = "mount -t tmpfs none /dev";
        let said = run(&mut private(hidden, &["guest", "--out", "1"]));
        said.expect(3, &["/dev/kvm"]);
    });
}

// ---- the host ----

/// Hides both places of tracefs.
const NO_TRACEFS: &str = "mount -t tmpfs none /sys/kernel/debug; \
                          mount -t tmpfs none /sys/kernel/tracing";

#[test]
fn without_tracefs_the_rest_is_shown() {
    with(Needs::Probes, "without_tracefs_the_rest_is_shown", || {
        let said = run(&mut private(NO_TRACEFS, &["report", "--duration", "0.1"]));
        said.expect(
            0,
            &[
                "kvm:kvm_exit is not attached: tracefs is not mounted",
                "sudo mount -t tracefs nodev /sys/kernel/tracing",
                "kernel exits are not shown",
            ],
        );
        assert!(said.out.contains("Not attached: kvm:kvm_exit"), "{said:#?}");
        let said = run(&mut private(NO_TRACEFS, &["doctor"]));
        said.expect(0, &[]);
        assert!(said.out.contains("tracefs is not mounted."), "{said:#?}");
    });
}

#[test]
fn a_tracefs_that_may_not_be_read_is_said() {
    with(Needs::Probes, "a_tracefs_that_may_not_be_read_is_said", || {
        let program = Public::new();
        let closed = "mount -t tmpfs none /sys/kernel/debug; \
                      mount -t tmpfs none /sys/kernel/tracing; \
                      mkdir -m 700 /sys/kernel/tracing/events";
        let args = ["report", "--duration", "0.1"];
        let said = run(&mut program.with_capabilities(&["bpf", "perfmon"], closed, &args));
        said.expect(
            0,
            &[
                "kvm:kvm_exit is not attached: /sys/kernel/tracing/events may not be read",
                "CAP_DAC_READ_SEARCH",
            ],
        );
    });
}

#[test]
fn a_missing_tracepoint_costs_its_view_alone() {
    with(Needs::Probes, "a_missing_tracepoint_costs_its_view_alone", || {
        let hidden = "mount -t tmpfs none /sys/kernel/debug; \
                      mount -t tmpfs none /sys/kernel/tracing/events/kvm/kvm_exit";
        let args = ["report", "--duration", "0.1", "--format", "json"];
        let said = run(&mut private(hidden, &args));
        said.expect(
            0,
            &[
                "kvm:kvm_exit is not attached: this kernel has no tracepoint kvm:kvm_exit",
                "kernel exits are not shown",
            ],
        );
        let report: Report = serde_json::from_str(&said.out).expect("a report");
        let off = |why: &Option<String>| why.as_deref().is_some_and(|w| w.starts_with("off; "));
        for probe in report.probes.into_iter().filter(|probe| !off(&probe.why)) {
            let missing = probe.name == "kvm:kvm_exit";
            assert_eq!((probe.attached, probe.why.is_some()), (!missing, missing), "{probe:?}");
        }
    });
}

#[test]
fn a_missing_field_is_named() {
    with(Needs::Probes, "a_missing_field_is_named", || {
        let without = "format=/sys/kernel/tracing/events/kvm/kvm_exit/format; \
                       changed=$(mktemp); grep -v ' isa;' $format > $changed; \
                       mount --bind $changed $format; rm $changed";
        let said = run(&mut private(without, &["report", "--duration", "0.1"]));
        said.expect(0, &["the record of kvm:kvm_exit has no field isa on this kernel"]);
    });
}

#[test]
fn a_garbled_format_is_named() {
    with(Needs::Probes, "a_garbled_format_is_named", || {
        let garbled = "mount --bind /etc/passwd /sys/kernel/tracing/events/kvm/kvm_exit/format";
        let said = run(&mut private(garbled, &["report", "--duration", "0.1"]));
        said.expect(0, &["kvm_exit/format does not describe a record"]);
    });
}

#[test]
fn a_verifiers_refusal_is_its_own_line() {
    with(Needs::Probes, "a_verifiers_refusal_is_its_own_line", || {
        let Ok(btf) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return eprintln!("this kernel has no BTF, so nothing is read by its offsets");
        };
        let folder = tempfile::tempdir().expect("a folder");
        let changed = folder.path().join("vmlinux");
        let moved = btf::move_member(btf, "task_struct", "pid", 1 << 20).expect("BTF of a kernel");
        std::fs::write(&changed, moved).expect("written");
        // Without the record's format there is no second way.
        let script = format!(
            "mount --bind {} /sys/kernel/btf/vmlinux; {NO_TRACEFS}",
            changed.to_string_lossy()
        );
        let said = run(&mut private(&script, &["report", "--duration", "0.1"]));
        said.expect(
            0,
            &[
                "the kernel's verifier refused the program for sched:sched_switch: ",
                "task_struct",
                "time off the CPU is counted as handling time",
            ],
        );
        let line = said.err.lines().find(|l| l.contains("verifier")).expect("said");
        assert!(line.len() < 400, "a line, not a log: {line}");
    });
}

#[test]
fn a_report_does_not_wait_for_kvm() {
    with(Needs::Probes, "a_report_does_not_wait_for_kvm", || {
        let hidden = "mount -t tmpfs none /sys/module";
        let said = run(&mut private(hidden, &["report", "--duration", "0.1"]));
        said.expect(3, &["there is no KVM on this host", "kvm_intel or kvm_amd"]);
        assert_eq!(said.err.lines().count(), 1, "{said:#?}");
        let said = run(&mut private(hidden, &["doctor"]));
        said.expect(3, &[]);
        assert!(said.out.contains("blocker"), "{said:#?}");
    });
}

// ---- commands, output, signals ----

#[test]
fn a_process_without_a_vm_is_refused() {
    with(Needs::Probes, "a_process_without_a_vm_is_refused", || {
        let this = std::process::id().to_string();
        let said = run(&mut kvmscope(&["report", "--pid", &this, "--duration", "0.1"]));
        said.expect(3, &[&format!("--pid {this}: process {this} ("), "holds no VM"]);
    });
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    with(Needs::Probes, "a_command_that_cannot_be_started_is_named", || {
        for (command, why) in [
            ("/nonexistent/program", "No such file"),
            ("kvmscope-nonexistent", "No such file"),
            ("/etc/passwd", "Permission denied"),
        ] {
            let said = run(&mut kvmscope(&["report", "--", command]));
            said.expect(2, &[command, "could not be started", why]);
            assert_eq!(said.out, "");
        }
    });
}

#[test]
fn a_command_that_fails_is_told_and_reported() {
    with(Needs::Probes, "a_command_that_fails_is_told_and_reported", || {
        for (script, how) in [("exit 7", "exit status: 7"), ("kill -9 $$", "signal: 9")] {
            let said = run(&mut kvmscope(&["report", "--", "sh", "-c", script]));
            said.expect(0, &["the command ended with", how]);
            assert!(said.out.contains("measured for"), "{said:#?}");
        }
    });
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    with(Needs::Probes, "output_that_cannot_be_written_is_a_failure", || {
        for (path, why) in [
            ("/nonexistent/report", "could not be made: No such file"),
            ("/", "could not be made"),
            ("/dev/full", "could not be written: No space"),
        ] {
            let said = run(&mut kvmscope(&["report", "-o", path, "--", "true"]));
            said.expect(1, &[path, why]);
        }
        let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let output = kvmscope(&["report", "--", "true"]).stdout(full).output().expect("it runs");
        Said::from(output).expect(1, &["standard output could not be written: No space"]);
    });
}

#[test]
fn readers_that_go_away_are_no_failure() {
    with(Needs::Probes, "readers_that_go_away_are_no_failure", || {
        for args in [&["report", "--", "true"][..], &["doctor"], &["guest", "--out", "9"]] {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let output = kvmscope(args).stdout(writer).output().expect("it runs");
            let said = Said::from(output);
            assert_eq!(said.expect(0, &[]).err, "", "{args:?}");
        }

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let args = ["report", "-v", "--vm", "nobody's", "--", "false"];
        let status = kvmscope(&args).stdout(Stdio::null()).stderr(writer).status();
        assert_eq!(status.expect("it runs").code(), Some(0), "although nobody was told");
    });
}

#[test]
fn signals_end_a_report_with_what_there_is() {
    with(Needs::Probes, "signals_end_a_report_with_what_there_is", || {
        for signal in [Signal::INT, Signal::TERM] {
            let mut report = start(&mut kvmscope(&["report", "--duration", "1000"]));
            report.wait_catching(Signal::INT).wait_catching(Signal::TERM).signal(signal);
            let said = report.end();
            said.expect(0, &[]);
            assert!(said.out.contains("measured for"), "{said:#?}");
        }
    });
}

#[test]
fn a_signal_ends_the_command_too() {
    with(Needs::Probes, "a_signal_ends_the_command_too", || {
        let args = ["report", "--", "sh", "-c", "echo $$; exec sleep 1000"];
        let mut report = start(&mut kvmscope(&args));
        let command = report.line();
        report.signal(Signal::TERM);
        let said = report.end();
        said.expect(0, &[]);
        assert!(said.out.contains("measured for"), "{said:#?}");
        let stat = format!("/proc/{command}/stat");
        until("the command's end", || {
            std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
        });
    });
}

#[test]
fn a_watched_guest_may_die() {
    with(Needs::Probes, "a_watched_guest_may_die", || {
        for signal in [Signal::TERM, Signal::KILL] {
            let mut guest = guest("mortal");
            let pid = guest.pid().to_string();
            let args = ["report", "--pid", &pid, "--interval", "0.1", "--format", "json"];
            let mut report = start(&mut kvmscope(&args));
            report.wait_catching(Signal::TERM);
            guest.signal(signal);
            guest.end();
            report.signal(Signal::TERM);
            let said = report.end();
            said.expect(0, &[]);
            let report: Report = serde_json::from_str(&said.out).expect("a report");
            let [vm] = &report.vms[..] else { panic!("one VM: {said:#?}") };
            assert!(vm.pid.to_string() == pid && vm.name.starts_with("mortal"), "{vm:?}");
            assert!(vm.ended_unix_ns.is_some(), "{signal:?}: {said:#?}");
        }
    });
}

#[test]
fn a_killed_report_leaves_nothing_in_the_kernel() {
    with(Needs::Probes, "a_killed_report_leaves_nothing_in_the_kernel", || {
        let mut report = start(&mut kvmscope(&["report", "--duration", "1000"]));
        report.wait_catching(Signal::TERM);
        let ours = programs_of(report.pid());
        assert!(ours.len() >= 4 && ours.is_subset(&loaded()), "{ours:?}");
        report.signal(Signal::KILL);
        assert_eq!(report.end().status, None);
        until("the end of its programs", || ours.is_disjoint(&loaded()));
    });
}
