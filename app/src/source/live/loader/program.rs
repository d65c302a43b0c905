//! One program: loading, attaching, detaching it, and why it could not be had.

use super::super::{
    missed::program_stats,
    plan::{How, Probe},
};
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, KProbe, Program, ProgramError, RawTracePoint, TracePoint},
};
use std::io;

/// A probe and what became of it.
pub(super) struct Attached {
    pub(super) probe: Probe,
    /// The way that is loaded: `ways[loaded]`, none when `why` says why not.
    pub(super) loaded: usize,
    /// The program in use, when one is attached.
    pub(super) program: Option<(&'static str, How)>,
    pub(super) why: Option<String>,
}

impl Attached {
    /// Loads the first program that the kernel takes, from `ways[loaded]` on.
    pub(super) fn load(&mut self, ebpf: &mut Ebpf) {
        while let Some(&(name, how)) = self.probe.ways.get(self.loaded) {
            match with_program(ebpf, name, &self.probe, |program| load(program, how, &self.probe)) {
                Ok(()) => {
                    self.why = None;
                    return;
                }
                Err(why) => self.why = Some(why),
            }
            self.loaded += 1;
        }
    }

    /// Attaches what is loaded; when that fails, the next way is tried.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf) {
        while self.why.is_none()
            && let Some(&(name, how)) = self.probe.ways.get(self.loaded)
        {
            match with_program(ebpf, name, &self.probe, |program| attach(program, how, &self.probe))
            {
                Ok(()) => {
                    self.program = Some((name, how));
                    return;
                }
                Err(why) => {
                    self.loaded += 1;
                    self.load(ebpf);
                    if self.loaded == self.probe.ways.len() {
                        self.why = self.why.take().or(Some(why));
                    }
                }
            }
        }
    }

    /// Detaches it. Answers with what the kernel had counted as missed.
    pub(super) fn detach(&mut self, ebpf: &mut Ebpf) -> u64 {
        self.why = None;
        let Some((name, _)) = self.program.take() else { return 0 };
        let Some(program) = ebpf.program_mut(name) else { return 0 };
        let missed = program.fd().ok().and_then(program_stats).map_or(0, |stats| stats.missed);
        // Unloading takes the links with it.
        let _ = unload(program);
        missed
    }
}

fn with_program(
    ebpf: &mut Ebpf,
    name: &str,
    probe: &Probe,
    act: impl FnOnce(&mut Program) -> Result<(), ProgramError>,
) -> Result<(), String> {
    let program =
        ebpf.program_mut(name).ok_or_else(|| format!("the object has no program {name}"))?;
    act(program).map_err(|error| {
        // A refused program must not stay half loaded: the next try starts afresh.
        let _ = unload(program);
        explain_attach(&error, probe)
    })
}

fn load(program: &mut Program, how: How, probe: &Probe) -> Result<(), ProgramError> {
    match how {
        How::Tracepoint => <&mut TracePoint>::try_from(program)?.load(),
        How::Raw => <&mut RawTracePoint>::try_from(program)?.load(),
        How::Btf => {
            <&mut BtfTracePoint>::try_from(program)?.load(probe.event, &Btf::from_sys_fs()?)
        }
        How::Kprobe(_) => <&mut KProbe>::try_from(program)?.load(),
    }
}

fn attach(program: &mut Program, how: How, probe: &Probe) -> Result<(), ProgramError> {
    match how {
        How::Tracepoint => {
            let (system, event) = probe.tracepoint();
            <&mut TracePoint>::try_from(program)?.attach(system, event)?;
        }
        How::Raw => {
            <&mut RawTracePoint>::try_from(program)?.attach(probe.event)?;
        }
        How::Btf => {
            <&mut BtfTracePoint>::try_from(program)?.attach()?;
        }
        How::Kprobe(function) => {
            <&mut KProbe>::try_from(program)?.attach(function, 0)?;
        }
    }
    Ok(())
}

fn unload(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::TracePoint(program) => program.unload(),
        Program::RawTracePoint(program) => program.unload(),
        Program::BtfTracePoint(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        _ => Ok(()),
    }
}

/// How the reason begins that is looked into further: see [`functions::why_absent`].
pub(super) const NO_FUNCTION: &str = "this kernel has no function";

/// Why a probe could not be had, in a sentence.
fn explain_attach(error: &ProgramError, probe: &Probe) -> String {
    let hook = probe.hook();
    match error {
        ProgramError::LoadError { verifier_log, io_error } => {
            let log = verifier_log.to_string();
            match verdict(&log) {
                Some(line) => {
                    format!("the kernel's verifier refused the program for {hook}: {}", line)
                }
                None => format!("the kernel refused the program for {hook}: {io_error}"),
            }
        }
        error => match answer(error).map(io::Error::kind) {
            Some(io::ErrorKind::NotFound) if !probe.functions().is_empty() => {
                format!("{NO_FUNCTION} {}", probe.functions().join(", "))
            }
            Some(io::ErrorKind::NotFound) => {
                let (system, event) = probe.tracepoint();
                format!("this kernel has no tracepoint {system}:{event}")
            }
            Some(io::ErrorKind::PermissionDenied) => {
                format!("no right to attach to {hook}: {}", chain(error))
            }
            _ => format!("{hook}: {}", chain(error)),
        },
    }
}

/// The line of a verifier's log that says why: the last one that is no statistic.
fn verdict(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 4] =
        ["processed ", "stack depth ", "verification time ", "max_states"];
    let is_statistic = |line: &str| STATISTICS.iter().any(|start| line.starts_with(start));
    log.lines().rev().map(str::trim).find(|line| !line.is_empty() && !is_statistic(line))
}

/// The first I/O error in a chain of causes: what the kernel answered.
pub(super) fn answer<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// An error and its causes in one line, without repeating what a cause already says.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::Family;
    use super::*;
    use aya::sys::SyscallError;
    use aya_obj::VerifierLog;

    /// The end of what Linux 6.18 says when a member's offset is beyond its struct.
    const REFUSAL: &str = "\
func#0 @0
0: R1=ctx() R10=fp0
; let next: *const u8 = ctx.arg(2); @ sched.rs:20
0: (79) r6 = *(u64 *)(r1 +16)
func 'sched_switch' arg2 has btf_id 124 type STRUCT 'task_struct'
1: R1=ctx() R6_w=trusted_ptr_task_struct()
7: (61) r7 = *(u32 *)(r6 +1048576)
access beyond struct task_struct at off 1048576 size 4
verification time 97 usec
stack depth 0
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0

";

    fn probe() -> Probe {
        Probe {
            system: "kvm",
            event: "kvm_exit",
            family: Family::Exit,
            ways: Vec::new(),
            hopeless: None,
        }
    }

    fn load_error(log: &str, kind: io::ErrorKind) -> ProgramError {
        let verifier_log = VerifierLog::new(log.to_owned());
        ProgramError::LoadError { io_error: kind.into(), verifier_log }
    }

    #[test]
    fn a_verifiers_verdict_is_the_line_before_its_statistics() {
        let line = Some("access beyond struct task_struct at off 1048576 size 4");
        assert_eq!(verdict(REFUSAL), line);
        for none in ["", "\n\n", "processed 7 insns (limit 1000000)\n"] {
            assert_eq!(verdict(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_refusal_is_a_sentence_with_the_verdict() {
        let error = load_error(REFUSAL, io::ErrorKind::PermissionDenied);
        let said = explain_attach(&error, &probe());
        let sentence = "the kernel's verifier refused the program for kvm:kvm_exit: \
                        access beyond struct task_struct at off 1048576 size 4";
        assert_eq!(said, sentence);
    }

    #[test]
    fn a_refusal_without_a_log_is_what_the_kernel_answered() {
        let error = load_error("", io::ErrorKind::PermissionDenied);
        let said = explain_attach(&error, &probe());
        assert_eq!(said, "the kernel refused the program for kvm:kvm_exit: permission denied");
    }

    #[test]
    fn what_the_kernel_answers_to_an_attachment_is_told() {
        let answered = |kind: io::ErrorKind| {
            let error = SyscallError { call: "bpf_link_create", io_error: kind.into() };
            explain_attach(&error.into(), &probe())
        };
        assert_eq!(answered(io::ErrorKind::NotFound), "this kernel has no tracepoint kvm:kvm_exit");
        let no_right = "no right to attach to kvm:kvm_exit: `bpf_link_create` failed: ";
        assert!(answered(io::ErrorKind::PermissionDenied).starts_with(no_right));
        let other = answered(io::ErrorKind::OutOfMemory);
        assert_eq!(other, "kvm:kvm_exit: `bpf_link_create` failed: out of memory");
    }
}
