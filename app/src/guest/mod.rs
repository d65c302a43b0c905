//! The test guest: a small KVM guest that makes an exact number of exits of each kind.
//!
//! It is what everything else is tested against, so it says what it made by the guest's own
//! count, and which exits that must have been on this host's hardware. `docs/guest.md` tells
//! how the counts are kept exact.

mod asm;
mod backend;
mod code;
mod conduct;
pub mod demo;
mod error;
mod expect;
mod op;
mod options;
mod outcome;
mod plan;
mod stop;
mod sys;
#[cfg(test)]
mod tests;
mod vcpu;
mod vm;

use std::ffi::CString;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use backend::{Backend, Host};
pub use error::Error;
pub use expect::{Done, Expect, expect};
pub use op::{Counts, Op};
pub use options::{Format, Options};
pub use outcome::{Outcome, Skipped, VcpuOutcome, VmOutcome};

use code::{HypercallInsn, OWN_PAGES};
use conduct::{End, Finale, Switches, conduct};
use plan::Plan;
use vcpu::{Ended, Job, Worker};

/// `kvmscope guest`: runs what `options` ask for and writes the outcome to `out`. With the
/// hidden `--demo` it is the demo's guest and writes nothing.
///
/// # Errors
/// With [`Error::exit_status`] saying what kind: wrong options, not possible on this host,
/// or gone wrong (the deadline has passed, the guest is in a state it should not be in).
pub fn run(options: &Options, out: &mut impl Write) -> Result<(), Error> {
    if options.demo {
        let name = options.name.clone();
        return demo::run(&demo::DemoOptions { seconds: None, name });
    }
    let outcome = make(options)?;
    let written = match options.format {
        Format::Text => write!(out, "{outcome}"),
        Format::Json => serde_json::to_writer(&mut *out, &outcome)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out)),
    };
    match written.and_then(|()| out.flush()) {
        // A reader that has gone away (`| head`) is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Failed(format!("the outcome could not be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Runs what `options` ask for.
///
/// # Errors
/// As [`run`].
pub fn make(options: &Options) -> Result<Outcome, Error> {
    let deadline = Instant::now() + Duration::from_secs(options.deadline);
    set_name(options.name.as_deref())?;
    let host = Host::detect();
    let (counts, skipped) = possible(options.counts(), host.backend);
    let job = job(options, counts)?;

    let kvm = vm::open_kvm()?;
    let switches = Switches::default();
    // Where hypercalls are left out, the instruction is there and never reached.
    let insn = host.backend.hypercall().unwrap_or(HypercallInsn::Vmcall);
    let mut workers = Vec::new();
    for index in 0..options.vms {
        for vcpu in vm::create(&kvm, index, options.vcpus, insn)? {
            workers.push(Worker::new(vcpu, job.clone(), Arc::clone(&switches.stop))?);
        }
    }
    let half = job.plan.rounds().unwrap_or(0) / 2;
    let move_after = options.move_thread.then_some(half);
    let finale = conduct(workers, &switches, move_after, || Instant::now() >= deadline)?;
    outcome(&host, finale, skipped, options.deadline)
}

/// What is asked for, without what cannot be made here.
fn possible(mut counts: Counts, backend: Backend) -> (Counts, Vec<Skipped>) {
    let mut skipped = Vec::new();
    if let (true, Err(why)) = (counts.hypercall > 0, backend.hypercall()) {
        counts.hypercall = 0;
        skipped.push(Skipped { kind: Op::Hypercall.name().to_owned(), why });
    }
    (counts, skipped)
}

/// Every vCPU's job.
fn job(options: &Options, counts: Counts) -> Result<Job, Error> {
    if options.die && counts.reaching_vmm() == 0 {
        return Err(Error::Usage(
            "--die ends a vCPU in the middle of a userspace exit, but none is asked for; add \
             one of --out, --in, --mmio-read, --mmio-write and --hlt"
                .to_owned(),
        ));
    }
    let rounds = if options.move_thread { 2 } else { 1 };
    Ok(Job {
        plan: Plan::exact(counts, options.rate, rounds),
        spin: Duration::from_micros(options.spin_us),
        vmm_sleep: options.vmm_sleep(),
        die_after: options.die.then_some(counts.reaching_vmm().div_ceil(2)),
        at_most_half: false,
    })
}

/// The outcome of a run that ended well, or the sentence for one that did not.
fn outcome(
    host: &Host,
    finale: Finale,
    skipped: Vec<Skipped>,
    deadline: u64,
) -> Result<Outcome, Error> {
    if finale.stopped || finale.stuck > 0 {
        return Err(unfinished(finale, deadline));
    }
    let mut vms: Vec<VmOutcome> = Vec::new();
    for end in finale.ends {
        let vm = end.who.0;
        let vcpu = vcpu_outcome(host, end)?;
        match vms.last_mut() {
            Some(last) if last.vm == vm => last.vcpus.push(vcpu),
            _ => vms.push(VmOutcome { vm, vcpus: vec![vcpu] }),
        }
    }
    let pid = std::process::id();
    Ok(Outcome { schema: 1, pid, backend: host.backend, vms, skipped })
}

fn vcpu_outcome(host: &Host, end: End) -> Result<VcpuOutcome, Error> {
    let ended = end.result?;
    let Some(worker) = end.worker else {
        return Err(Error::Failed(format!("vCPU {} was lost", end.who.1)));
    };
    let (done, tally) = (worker.done()?, worker.tally());
    Ok(VcpuOutcome {
        vcpu: end.who.1,
        tid: end.tids.last().copied().unwrap_or(0),
        tids: end.tids,
        ended: if ended == Ended::Died { "died" } else { "done" }.to_owned(),
        made: done.made,
        control: done.control,
        own_pages: OWN_PAGES,
        userspace: tally.by_reason(),
        runs: tally.runs,
        elapsed_ns: u64::try_from(worker.took().as_nanos()).unwrap_or(u64::MAX),
        expect: expect(host, &done),
    })
}

/// The sentence for a run that was stopped: the first real error, else how far it came.
fn unfinished(finale: Finale, deadline: u64) -> Error {
    let mut places = Vec::new();
    for end in finale.ends {
        match (end.result, end.worker) {
            (Err(error), _) => return error,
            (Ok(Ended::Stopped), Some(worker)) => {
                let (vm, vcpu) = end.who;
                places.push(format!("vCPU {vcpu} of VM {vm} was stopped {}", worker.place()));
            }
            _ => {}
        }
    }
    if finale.stuck > 0 {
        places.push(format!("{} vCPUs did not come back from KVM_RUN", finale.stuck));
    }
    Error::Failed(format!("the guest was not done after {deadline} s: {}", places.join("; ")))
}

/// Names this process (its first thread), so that it is told apart in lists.
fn set_name(name: Option<&str>) -> Result<(), Error> {
    let Some(name) = name else { return Ok(()) };
    let text = CString::new(name)
        .map_err(|_| Error::Usage("the guest's name holds a zero byte".to_owned()))?;
    rustix::thread::set_name(&text)
        .map_err(|error| Error::Failed(format!("the guest could not be named: {error}")))
}
