//! The guest that `kvmscope demo` watches: steady work of many kinds, light on the host.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::backend::Host;
use super::chips::Chips;
use super::code::{self, HypercallInsn, Targets};
use super::conduct::{Switches, conduct};
use super::error::Error;
use super::job::Job;
use super::op::{Counts, Op};
use super::plan::Plan;
use super::vcpu::Worker;
use super::vm::{Kind, Machine};
use super::{load, set_name, sys, vm};

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
    /// The port of IN.
    in_port: u16,
    /// Shares one CPU with the others that do.
    crowded: bool,
}

/// How a VM of the demo is.
struct Home {
    /// Its vCPUs.
    habits: Vec<Habit>,
    /// It has interrupt controllers in the kernel, so that its vCPUs halt inside KVM and are interrupted.
    irqchip: bool,
}

/// No instruction at all.
pub(super) const NOTHING: Counts = Counts {
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
    same_page: 0,
    halt: 0,
    pause: 0,
    dirty: 0,
    doorbell: 0,
    mmio_kernel: 0,
    walk: 0,
    slots: 0,
    exec: 0,
    kick_cpu: 0,
    send_ipi: 0,
    sched_yield: 0,
    clock_pairing: 0,
    timer_one_shot: 0,
    timer_periodic: 0,
    timer_deadline: 0,
    timer_disarm: 0,
    ipi: 0,
    msi: 0,
    irqfd: 0,
    irqfd_line: 0,
    pic_line: 0,
    ioapic_edge: 0,
    ioapic_level: 0,
    line_masked: 0,
    gp: 0,
    ud: 0,
};

const CALM: Habit = Habit {
    each: NOTHING,
    period: Duration::from_millis(10),
    spin: Duration::ZERO,
    vmm_sleep: Duration::ZERO,
    in_port: code::PORT_IN,
    crowded: false,
};

/// The ACPI PM timer of QEMU's chipsets, a slow clock that guests read often.
const PM_TIMER: u16 = 0x608;
/// How long a halt inside KVM is.
const HALT: Duration = Duration::from_millis(3);
/// How long a timer of its local APIC runs.
const TIMER: Duration = Duration::from_millis(1);
/// What the I/O thread computes, and how often.
const IO_WORK: (Duration, Duration) = (Duration::from_micros(300), Duration::from_millis(10));

/// Two VMs: one whose four vCPUs trouble their VMM, each in another way, and one with a vCPU that
/// halts inside KVM and is interrupted in every way, and two that share a CPU.
fn homes() -> [Home; 2] {
    let noisy = Habit {
        each: Counts {
            out: 8,
            input: 32,
            mmio_read: 8,
            mmio_write: 8,
            cpuid: 16,
            rdmsr: 12,
            wrmsr: 8,
            hypercall: 6,
            kick_cpu: 2,
            send_ipi: 1,
            sched_yield: 3,
            clock_pairing: 1,
            doorbell: 4,
            hlt: 1,
            touch: 4,
            dirty: 3,
            ..NOTHING
        },
        period: Duration::from_millis(5),
        in_port: PM_TIMER,
        ..CALM
    };
    let moderate = Habit {
        each: Counts { out: 2, mmio_write: 1, cpuid: 1, rdmsr: 2, hlt: 2, pause: 16, ..NOTHING },
        period: Duration::from_millis(4),
        spin: Duration::from_micros(200),
        ..CALM
    };
    let mostly_idle = Habit { each: Counts { wrmsr: 1, same_page: 1, ..NOTHING }, ..CALM };
    let slow_device = Habit {
        each: Counts { out: 1, mmio_read: 1, ..NOTHING },
        period: Duration::from_millis(20),
        vmm_sleep: Duration::from_millis(2),
        ..CALM
    };
    let halting = Habit {
        each: Counts {
            rdmsr: 1,
            halt: 2,
            timer_one_shot: 1,
            timer_deadline: 2,
            timer_disarm: 1,
            ipi: 2,
            msi: 1,
            irqfd: 2,
            irqfd_line: 1,
            pic_line: 1,
            ioapic_edge: 1,
            ioapic_level: 1,
            line_masked: 1,
            gp: 1,
            ..NOTHING
        },
        period: Duration::from_millis(40),
        ..CALM
    };
    let crowded = |cpuid| Habit {
        each: Counts { cpuid, timer_periodic: 1, ipi: 1, ud: 1, ..NOTHING },
        period: Duration::from_millis(20),
        spin: Duration::from_micros(1500),
        crowded: true,
        ..CALM
    };
    [
        Home { habits: vec![noisy, moderate, mostly_idle, slow_device], irqchip: false },
        Home { habits: vec![halting, crowded(1), crowded(2)], irqchip: true },
    ]
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
    load::steady_io_thread(IO_WORK.0, IO_WORK.1, Arc::clone(&switches.stop))?;
    say_ready().map_err(prepared)?;
    let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let finale = conduct(
        workers,
        &switches,
        None,
        || {
            sys::was_terminated()
                || input_ended.load(Ordering::Relaxed)
                || getppid() != parent
                || end.is_some_and(|end| Instant::now() >= end)
        },
        || (),
    )?;
    match finale.ends.into_iter().find_map(|end| end.result.err()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn workers(host: &Host, switches: &Switches) -> Result<Vec<Worker>, Error> {
    let machine = Machine::open()?;
    let hypercall = host.backend.hypercall();
    let can_halt = machine.no_irqchip(false).is_none();
    let can_ring = machine.no_doorbell().is_none();
    let crowd = load::last_cpu()?;
    let mut workers = Vec::new();
    for (index, home) in (0..).zip(homes()) {
        let chips = home.irqchip && can_halt;
        let kind = Kind {
            hypercall: hypercall.as_ref().copied().unwrap_or(HypercallInsn::Vmcall),
            chips: Chips {
                kernel: chips,
                split: false,
                apic: chips,
                lines: chips,
                irqfd: chips,
                irqfd_line: chips,
            },
            handlers: home.irqchip,
            read_only: home.habits.iter().any(|habit| habit.each.same_page > 0),
            dirty: home.habits.iter().any(|habit| habit.each.dirty > 0),
            doorbell: can_ring && home.habits.iter().any(|habit| habit.each.doorbell > 0),
            paging: false,
            exec: false,
        };
        let vcpus = home.habits.len() as u32;
        for (vcpu, mut habit) in
            vm::create(&machine, index, vcpus, kind)?.into_iter().zip(home.habits)
        {
            let impossible = |op: Op| match op {
                op if op.needs_irqchip() => !can_halt,
                Op::Doorbell => !can_ring,
                _ => op.is_hypercall() && hypercall.is_err(),
            };
            Op::ALL.into_iter().filter(|&op| impossible(op)).for_each(|op| habit.each.set(op, 0));
            let job = Job {
                spin: habit.spin,
                vmm_sleep: habit.vmm_sleep,
                halt: HALT,
                targets: Targets { in_port: habit.in_port, ..Targets::default() },
                chips: kind.chips,
                timer: TIMER,
                vcpus,
                pin: habit.crowded.then_some(crowd),
                at_most_half: habit.each.halt == 0,
                ..Job::new(Plan::Endless { each: habit.each, period: habit.period })
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
    use super::super::code::{DIRTY_USUALLY, TOUCH_PAGES};
    use super::*;

    fn all() -> Vec<Habit> {
        homes().into_iter().flat_map(|home| home.habits).collect()
    }

    #[test]
    fn there_are_four_different_vcpus_in_the_first_vm() {
        let [first, second] = homes().map(|home| home.habits);
        assert_eq!((first.len(), second.len()), (4, 3));
        for (index, habit) in first.iter().enumerate() {
            for other in &first[index + 1..] {
                assert_ne!(habit.each, other.each);
            }
        }
    }

    #[test]
    fn every_kind_is_made_by_someone() {
        // What needs a VM of its own, and what changes it under the others.
        let apart = [Op::MmioKernel, Op::Walk, Op::Slots, Op::Exec];
        for op in Op::ALL.into_iter().filter(|op| !apart.contains(op)) {
            let made: u64 = all().iter().map(|habit| habit.each.get(op)).sum();
            assert!(made > 0, "{}", op.name());
        }
    }

    #[test]
    fn no_round_needs_more_pages_than_there_are() {
        let fits = |each: Counts| each.touch <= TOUCH_PAGES && each.dirty <= DIRTY_USUALLY;
        assert!(all().iter().all(|habit| fits(habit.each)));
    }

    #[test]
    fn halts_are_made_the_way_their_vm_can() {
        for home in homes() {
            let wrong = if home.irqchip { Op::Hlt } else { Op::Halt };
            assert!(home.habits.iter().all(|habit| habit.each.get(wrong) == 0), "{wrong:?}");
        }
    }

    #[test]
    fn little_is_computed() {
        let computing = |habit: &Habit| habit.spin.as_secs_f64() / habit.period.as_secs_f64();
        assert!(all().iter().map(computing).sum::<f64>() < 0.25);
        assert!(all().iter().filter(|habit| habit.crowded).count() >= 2);
    }
}
