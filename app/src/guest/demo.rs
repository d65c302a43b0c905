//! The guest that `kvmscope demo` watches: steady work of many kinds, light on the host.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::backend::Host;
use super::code::HypercallInsn;
use super::conduct::{Switches, conduct};
use super::error::Error;
use super::op::Counts;
use super::plan::Plan;
use super::vcpu::{Job, Worker};
use super::{set_name, sys, vm};

/// How the demo's guest runs.
#[derive(Clone, Debug, Default)]
pub struct DemoOptions {
    /// End by itself after so many seconds; otherwise when told.
    pub seconds: Option<u64>,
    /// The process's name.
    pub name: Option<String>,
}

/// What one vCPU of the demo is like.
struct Habit {
    each: Counts,
    period: Duration,
    spin: Duration,
    vmm_sleep: Duration,
}

const NOTHING: Counts = Counts {
    out: 0,
    input: 0,
    mmio_read: 0,
    mmio_write: 0,
    cpuid: 0,
    rdmsr: 0,
    wrmsr: 0,
    hypercall: 0,
    hlt: 0,
    touch: 0,
};

/// Two VMs: one with four vCPUs of different habits, and a quiet one with two.
fn habits() -> [Vec<Habit>; 2] {
    let noisy = Habit {
        each: Counts {
            out: 16,
            input: 8,
            mmio_read: 8,
            mmio_write: 8,
            cpuid: 16,
            rdmsr: 12,
            wrmsr: 8,
            hypercall: 6,
            hlt: 1,
            touch: 4,
        },
        period: Duration::from_millis(5),
        spin: Duration::ZERO,
        vmm_sleep: Duration::ZERO,
    };
    let moderate = Habit {
        each: Counts { out: 2, mmio_write: 1, cpuid: 1, rdmsr: 2, hlt: 2, ..NOTHING },
        period: Duration::from_millis(4),
        spin: Duration::from_micros(200),
        vmm_sleep: Duration::ZERO,
    };
    let mostly_halted = Habit {
        each: Counts { wrmsr: 1, ..NOTHING },
        period: Duration::from_millis(10),
        spin: Duration::ZERO,
        vmm_sleep: Duration::ZERO,
    };
    let slow_device = Habit {
        each: Counts { out: 1, mmio_read: 1, ..NOTHING },
        period: Duration::from_millis(20),
        spin: Duration::ZERO,
        vmm_sleep: Duration::from_millis(2),
    };
    let calm = |period| Habit {
        each: Counts { input: 1, rdmsr: 1, cpuid: 1, ..NOTHING },
        period: Duration::from_millis(period),
        spin: Duration::from_micros(50),
        vmm_sleep: Duration::ZERO,
    };
    [vec![noisy, moderate, mostly_halted, slow_device], vec![calm(20), calm(100)]]
}

/// Runs until standard input ends, the parent dies, SIGTERM or SIGINT comes, or the time is
/// over. Ends within a fraction of a second then.
///
/// # Errors
/// When this host cannot run guests, or a guest ends up in a state it should not be in.
pub fn run(options: &DemoOptions) -> Result<(), Error> {
    let prepared = |error: std::io::Error| {
        Error::Failed(format!("the demo's guest could not prepare its own end: {error}"))
    };
    sys::on_termination().map_err(prepared)?;
    let parent = getppid();
    // Only the death of the parent's *thread* that started this process is signalled; the
    // end of standard input covers the rest.
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| prepared(error.into()))?;
    set_name(options.name.as_deref())?;
    let input_ended = watch_input().map_err(prepared)?;

    let host = Host::detect();
    let switches = Switches::default();
    let workers = workers(&host, &switches)?;
    say_ready().map_err(prepared)?;
    let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let finale = conduct(workers, &switches, None, || {
        sys::was_terminated()
            || input_ended.load(Ordering::Relaxed)
            || getppid() != parent
            || end.is_some_and(|end| Instant::now() >= end)
    })?;
    match finale.ends.into_iter().find_map(|end| end.result.err()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn workers(host: &Host, switches: &Switches) -> Result<Vec<Worker>, Error> {
    let kvm = vm::open_kvm()?;
    let hypercall = host.backend.hypercall();
    let mut workers = Vec::new();
    for (index, habits) in (0..).zip(habits()) {
        let insn = hypercall.as_ref().copied().unwrap_or(HypercallInsn::Vmcall);
        let vcpus = vm::create(&kvm, index, habits.len() as u32, insn)?;
        for (vcpu, mut habit) in vcpus.into_iter().zip(habits) {
            if hypercall.is_err() {
                habit.each.hypercall = 0;
            }
            let job = Job {
                plan: Plan::Endless { each: habit.each, period: habit.period },
                spin: habit.spin,
                vmm_sleep: habit.vmm_sleep,
                die_after: None,
                at_most_half: true,
            };
            workers.push(Worker::new(vcpu, job, Arc::clone(&switches.stop))?);
        }
    }
    Ok(workers)
}

/// One line on standard output once the vCPUs exist: whoever started this waits for it.
fn say_ready() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(b"ready\n")?;
    out.flush()
}

/// A thread that reads standard input to its end.
fn watch_input() -> std::io::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&ended);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut ignored = [0; 256];
        let mut input = std::io::stdin().lock();
        loop {
            match input.read(&mut ignored) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        tell.store(true, Ordering::Relaxed);
    })?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::super::code::TOUCH_PAGES;
    use super::super::op::Op;
    use super::*;

    #[test]
    fn there_are_four_different_vcpus_in_the_first_vm() {
        let [first, second] = habits();
        assert_eq!((first.len(), second.len()), (4, 2));
        for (index, habit) in first.iter().enumerate() {
            for other in &first[index + 1..] {
                assert_ne!(habit.each, other.each);
            }
        }
    }

    #[test]
    fn every_kind_is_made_by_someone() {
        for op in Op::ALL {
            let made: u64 = habits().iter().flatten().map(|habit| habit.each.get(op)).sum();
            assert!(made > 0, "{}", op.name());
        }
    }

    #[test]
    fn no_round_needs_more_pages_than_there_are() {
        assert!(habits().iter().flatten().all(|habit| habit.each.touch <= TOUCH_PAGES));
    }
}
