//! The test guest: a small KVM guest that makes an exact number of exits of each kind.
//!
//! It is what everything else is tested against, so it says what it made by the guest's own
//! count, and which exits that must have been on this host's hardware. `docs/guest.md` tells
//! how the counts are kept exact.

mod asm;
mod backend;
mod chips;
mod code;
mod conduct;
pub mod demo;
mod error;
mod expect;
mod faults;
mod handlers;
mod helper;
mod ioctls;
mod irqs;
mod job;
mod keys;
mod load;
mod measure;
mod op;
mod options;
mod outcome;
mod paging;
mod plan;
mod program;
mod routes;
mod space;
mod stop;
mod sys;
mod tables;
#[cfg(test)]
mod tests;
mod vcpu;
mod vm;
mod window;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use backend::{Backend, Host};
pub use error::Error;
pub use expect::{Done, Expect, HypercallCount, expect};
pub use ioctls::{IoctlCount, IoctlCounts};
pub use keys::{KeyCount, Used};
pub use load::OtherThread;
pub use measure::Measured;
pub use op::{Counts, Op};
pub use options::{Format, Options};
pub use outcome::{Beside, Outcome, Skipped, VcpuOutcome, VmOutcome};
pub use routes::{InterruptCount, RouteCount, Timers};
pub use vcpu::DirtyLog;

use chips::Chips;
use code::HypercallInsn;
use conduct::{End, Finale, Switches, conduct};
use ioctls::Ioctls;
use job::Job;
use load::Neighbour;
use measure::nanos;
use plan::Plan;
use routes::routes;
use vcpu::{Ended, Worker};
use vm::{Kind, Machine};

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
    if let Some(cpu) = options.be_neighbour {
        return load::be_neighbour(cpu, out);
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
    options.check(&options.counts())?;
    for cpu in [options.pin, options.neighbour].into_iter().flatten() {
        load::check_cpu(cpu)?;
    }
    let machine = Machine::open()?;
    let split = options.irq.split_irqchip;
    let no_irqchip = || machine.no_irqchip(split);
    let (counts, mut skipped) =
        possible(options.counts(), &host, split, no_irqchip, || machine.no_doorbell());
    let mut job = job(options, counts);
    if let (Some(times), cpus) = (options.irq.move_cpus, load::cpus()?) {
        if cpus.len() > 1 {
            job.moves = (cpus, times);
        } else {
            let why = "this process has one CPU to use".to_owned();
            skipped.push(Skipped { kind: "move_cpus".to_owned(), why });
        }
    }

    let switches = Switches::default();
    let kind = Kind {
        // Where hypercalls are left out, the instruction is there and never reached.
        hypercall: host.backend.hypercall().unwrap_or(HypercallInsn::Vmcall),
        chips: job.chips,
        handlers: counts.any(Op::needs_handlers),
        read_only: counts.same_page > 0,
        dirty: counts.dirty > 0,
        doorbell: counts.doorbell > 0,
        paging: job.paging,
        exec: counts.exec > 0,
    };
    let mut workers = Vec::new();
    for index in 0..options.vms {
        for vcpu in vm::create(&machine, index, options.vcpus, kind)? {
            workers.push(Worker::new(vcpu, job.clone(), Arc::clone(&switches.stop))?);
        }
    }
    let neighbour = options.neighbour.map(Neighbour::start).transpose()?;
    let io_thread = options
        .io_thread_us
        .map(|micros| {
            let (start, stop) = (Arc::clone(&switches.start), Arc::clone(&switches.stop));
            load::io_thread(Duration::from_micros(micros), start, stop)
        })
        .transpose()?;
    let half = job.plan.rounds().unwrap_or(0) / 2;
    let move_after = options.move_thread.then_some(half);
    let mut others = Vec::new();
    let late = || Instant::now() >= deadline;
    let finale = conduct(workers, &switches, move_after, late, || {
        let Some(thread) = io_thread else { return };
        while !thread.is_finished() && !late() {
            std::thread::sleep(LOOK);
        }
        switches.stop.turn_on();
        others.extend(thread.join().ok());
    })?;
    let helpers = finale.ends.iter().filter_map(|end| end.worker.as_ref()?.helper());
    others.extend(helpers);
    let beside = Beside {
        other_threads_ns: others.iter().map(|thread| thread.cpu_ns).sum(),
        other_threads: others,
        neighbour_pid: neighbour.as_ref().map(Neighbour::pid),
    };
    outcome(&host, &machine, finale, skipped, beside, options.deadline)
}

/// How often is looked whether the I/O thread has done its work.
const LOOK: Duration = Duration::from_millis(2);

/// What is asked for, without what cannot be made here.
fn possible(
    mut counts: Counts,
    host: &Host,
    split: bool,
    no_irqchip: impl FnOnce() -> Option<String>,
    no_doorbell: impl FnOnce() -> Option<String>,
) -> (Counts, Vec<Skipped>) {
    let mut skipped = Vec::new();
    let mut leave_out = |counts: &mut Counts, which: &dyn Fn(Op) -> bool, why: String| {
        for op in Op::ALL {
            if !which(op) || counts.get(op) == 0 {
                continue;
            }
            counts.set(op, 0);
            skipped.push(Skipped { kind: op.name().to_owned(), why: why.clone() });
        }
    };
    if let Err(why) = host.backend.hypercall() {
        leave_out(&mut counts, &Op::is_hypercall, why);
    }
    if split {
        let why = "without the 8259 and the I/O APIC in the kernel there are no lines";
        leave_out(&mut counts, &Op::needs_lines, why.to_owned());
    }
    if split || counts.any(Op::needs_irqchip) {
        match no_irqchip() {
            Some(why) => leave_out(&mut counts, &Op::needs_irqchip, why),
            None => {
                let why = "with an interrupt controller in the kernel every HLT stays inside KVM";
                leave_out(&mut counts, &|op| op == Op::Hlt, why.to_owned());
            }
        }
    }
    if !(host.nested_paging && host.nx_huge_pages) {
        let why = "KVM does not map huge pages without leave to execute here (module kvm, parameter \
                   nx_huge_pages)";
        leave_out(&mut counts, &|op| op == Op::Exec, why.to_owned());
    }
    if host.backend == Backend::Pvm {
        let why = "the paravirtual backend shuts a guest with 32-bit page tables of its own down";
        leave_out(&mut counts, &|op| op == Op::Walk, why.to_owned());
    }
    if counts.doorbell > 0
        && let Some(why) = no_doorbell()
    {
        leave_out(&mut counts, &|op| op == Op::Doorbell, why);
    }
    (counts, skipped)
}

/// Every vCPU's job.
fn job(options: &Options, counts: Counts) -> Job {
    let rounds = match options.irq.move_cpus {
        Some(times) => times + 1,
        None => 1 + u64::from(options.move_thread),
    };
    Job {
        spin: Duration::from_micros(options.spin_us),
        vmm_sleep: options.vmm_sleep(),
        vmm_spin: Duration::from_micros(options.vmm_spin_us),
        stuck: options.stuck.unwrap_or_default(),
        stay: options.stay.unwrap_or_default(),
        halt: Duration::from_micros(options.halt_us),
        targets: options.targets(),
        spread: options.spread_ports,
        chips: chips(&counts, options.irq.split_irqchip),
        timer: Duration::from_micros(options.irq.timer_us),
        vcpus: options.vcpus,
        paging: counts.walk > 0,
        pages: options.pages(),
        pin: options.pin,
        die_after: options.die.then_some(counts.reaching_vmm().div_ceil(2)),
        ..Job::new(Plan::exact(counts, &options.pages(), options.rate, rounds))
    }
}

/// The interrupt controllers that `counts` need.
fn chips(counts: &Counts, split: bool) -> Chips {
    Chips {
        kernel: split || counts.any(Op::needs_irqchip),
        split,
        apic: counts.any(Op::needs_apic),
        lines: counts.any(|op| op.needs_lines() && op != Op::MmioKernel),
        irqfd: counts.irqfd > 0,
        irqfd_line: counts.irqfd_line > 0,
    }
}

/// The outcome of a run that ended well, or the sentence for one that did not.
fn outcome(
    host: &Host,
    machine: &Machine,
    mut finale: Finale,
    skipped: Vec<Skipped>,
    beside: Beside,
    deadline: u64,
) -> Result<Outcome, Error> {
    if finale.stopped || finale.stuck > 0 {
        return Err(unfinished(finale, deadline));
    }
    finale
        .ends
        .iter_mut()
        .filter_map(|end| end.worker.as_mut())
        .for_each(|worker| worker.end_helper());
    let mut vms: Vec<VmOutcome> = Vec::new();
    let mut ioctls = machine.ioctls.counts();
    let workers = || finale.ends.iter().filter_map(|end| Some((end.who.0, end.worker.as_ref()?)));
    workers().for_each(|(_, worker)| worker.count_runs());
    let mut of_vm: BTreeMap<u32, Arc<Ioctls>> = BTreeMap::new();
    of_vm.extend(workers().map(|(vm, worker)| (vm, worker.ioctls())));
    of_vm.values().for_each(|vm| vm.add_to(&mut ioctls));
    for end in finale.ends {
        let vm = end.who.0;
        let vcpu = vcpu_outcome(host, end)?;
        match vms.last_mut() {
            Some(last) if last.vm == vm => last.vcpus.push(vcpu),
            _ => {
                let ioctls = of_vm.get(&vm).map(|ioctls| ioctls.counts()).unwrap_or_default();
                let routes = Vec::new();
                vms.push(VmOutcome { vm, vcpus: vec![vcpu], ioctls, routes });
            }
        }
    }
    for vm in &mut vms {
        vm.routes = routes(&vm.vcpus);
    }
    let pid = std::process::id();
    Ok(Outcome { schema: 1, pid, backend: host.backend, vms, skipped, beside, ioctls })
}

fn vcpu_outcome(host: &Host, end: End) -> Result<VcpuOutcome, Error> {
    let ended = end.result?;
    let Some(worker) = end.worker else {
        return Err(Error::Failed(format!("vCPU {} was lost", end.who.1)));
    };
    let (done, used, tally) = (worker.done()?, worker.used()?, worker.tally());
    Ok(VcpuOutcome {
        vcpu: end.who.1,
        tid: end.tids.last().copied().unwrap_or(0),
        tids: end.tids,
        ended: if ended == Ended::Died { "died" } else { "done" }.to_owned(),
        made: done.made,
        control: done.control,
        own_pages: if done.paging { 3 } else { 2 },
        userspace: tally.by_reason(),
        runs: tally.runs,
        elapsed_ns: nanos(worker.took()),
        dirty_log: tally.dirty_log,
        rang: tally.rang,
        waits: done.waits,
        interrupts: done.interrupts(),
        moves: tally.moves,
        expect: expect(host, &done, &used),
        measured: worker.measured()?,
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
