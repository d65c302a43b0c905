//! Load beside the vCPUs: a busy neighbour in a process of its own, and an I/O thread of the VMM.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::stop::Switch;

/// A thread of the VMM that runs no vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherThread {
    /// Its name.
    pub comm: String,
    /// Its CPU time, by its own clock, in ns.
    pub cpu_ns: u64,
}

/// CPU time of this thread, in ns.
pub fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Whether this process may use that CPU; the sentence for one that it may not.
///
/// # Errors
/// [`Error::Usage`] when not.
pub fn check_cpu(cpu: usize) -> Result<(), Error> {
    let set = allowed()?;
    if cpu < CpuSet::MAX_CPU && set.is_set(cpu) {
        return Ok(());
    }
    let last = last_cpu().unwrap_or(0);
    Err(Error::Usage(format!(
        "CPU {cpu} cannot be used by this process; take one that can, such as {last}"
    )))
}

/// The highest CPU that this process may use.
///
/// # Errors
/// When the kernel does not say.
pub fn last_cpu() -> Result<usize, Error> {
    let set = allowed()?;
    Ok((0..CpuSet::MAX_CPU).rev().find(|&cpu| set.is_set(cpu)).unwrap_or(0))
}

/// All of them.
///
/// # Errors
/// When the kernel does not say.
pub fn cpus() -> Result<Vec<usize>, Error> {
    let set = allowed()?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

fn allowed() -> Result<CpuSet, Error> {
    sched_getaffinity(None)
        .map_err(|error| Error::Failed(format!("the usable CPUs are not known: {error}")))
}

/// Keeps this thread on `cpu`.
///
/// # Errors
/// When that is not possible.
pub fn pin(cpu: usize) -> Result<(), Error> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|error| Error::Failed(format!("a thread could not be kept on CPU {cpu}: {error}")))
}

/// A process called `neighbour` that computes on one CPU for as long as this lives.
#[derive(Debug)]
pub struct Neighbour {
    child: Child,
}

impl Neighbour {
    /// Starts it and waits until it computes.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(cpu: usize) -> Result<Self, Error> {
        let failed = |why: String| Error::Failed(format!("no neighbour could be started: {why}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(program)
            .args(["guest", "--be-neighbour", &cpu.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut ready = [0; 1];
        let out = child.stdout.take().map(|mut out| out.read_exact(&mut ready));
        let neighbour = Self { child };
        match out {
            Some(Ok(())) => Ok(neighbour),
            _ => Err(failed("it ended at once".to_owned())),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the neighbour: computes on `cpu` until the parent has gone.
///
/// # Errors
/// When that CPU cannot be used.
pub fn be_neighbour(cpu: usize, out: &mut impl std::io::Write) -> Result<(), Error> {
    let failed = |why: String| Error::Failed(format!("the neighbour could not begin: {why}"));
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| failed(e.to_string()))?;
    rustix::thread::set_name(c"neighbour").map_err(|error| failed(error.to_string()))?;
    pin(cpu)?;
    out.write_all(b"r").and_then(|()| out.flush()).map_err(|error| failed(error.to_string()))?;
    while getppid() == parent {
        burn(Duration::from_millis(10));
    }
    Ok(())
}

/// Computes for so long.
pub fn burn(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// How long the I/O thread computes before it rests as long.
const SLICE: Duration = Duration::from_micros(500);

/// Starts a thread `io-worker` that uses `cpu_time` of CPU in all from `start` on, half of the time;
/// it answers what it used. With `forever` it does so again and again.
///
/// # Errors
/// When there can be no more threads.
pub fn io_thread(
    cpu_time: Duration,
    start: Arc<Switch>,
    stop: Arc<Switch>,
) -> Result<JoinHandle<OtherThread>, Error> {
    thread::Builder::new()
        .name("io-worker".to_owned())
        .spawn(move || {
            start.wait();
            let begin = thread_cpu_ns();
            let used = || Duration::from_nanos(thread_cpu_ns().saturating_sub(begin));
            while used() < cpu_time {
                burn(SLICE.min(cpu_time.saturating_sub(used())));
                if stop.wait_until(Instant::now() + SLICE) {
                    break;
                }
            }
            OtherThread { comm: "io-worker".to_owned(), cpu_ns: thread_cpu_ns() }
        })
        .map_err(|error| Error::Failed(format!("no I/O thread could be started: {error}")))
}

/// Starts a thread `io-worker` that computes for `work` in every `period` until `stop`.
///
/// # Errors
/// When there can be no more threads.
pub fn steady_io_thread(work: Duration, period: Duration, stop: Arc<Switch>) -> Result<(), Error> {
    thread::Builder::new()
        .name("io-worker".to_owned())
        .spawn(move || {
            while !stop.wait_until(Instant::now() + period) {
                burn(work);
            }
        })
        .map(drop)
        .map_err(|error| Error::Failed(format!("no I/O thread could be started: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_is_not_there_is_refused_with_one_that_is() {
        let error = check_cpu(usize::MAX).expect_err("refused");
        assert_eq!(error.exit_status(), 2);
        let last = last_cpu().expect("there is one");
        assert!(error.to_string().ends_with(&format!("such as {last}")), "{error}");
        check_cpu(last).expect("usable");
    }

    #[test]
    fn the_io_thread_uses_what_it_is_given() {
        let (start, stop) = (Arc::<Switch>::default(), Arc::<Switch>::default());
        start.turn_on();
        let thread = io_thread(Duration::from_millis(2), start, stop).expect("started");
        let used = thread.join().expect("joined");
        assert_eq!(used.comm, "io-worker");
        assert!(used.cpu_ns >= 2_000_000, "{used:?}");
    }
}
